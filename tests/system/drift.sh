#!/bin/bash
# `talea drift` beside the real kernel: what agrees is ok, what is made to differ drifts, what is not
# attached is unknown. The controls put another file over one of /proc, in a mount namespace of their
# own, so that the book that talea reads is not the kernel's. Root only. TAP.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${TALEA_BUILD:-$PWD/.build/dev}
talea=$build/talea
nr=0 keeper=''
[ "$(id -u)" = 0 ] || { echo '1..0 # SKIP needs root to attach probes'; exit 0; }
folder=$(mktemp -d "${TMPDIR:-/tmp}/talea-drift.XXXXXX") || exit 1
chmod 755 "$folder"
export TALEA_SOCKET=$folder/sock LC_ALL=C.UTF-8
unset TALEA_NAMESPACE COLUMNS LINES

# shellcheck disable=SC2317 # the trap calls it
cleanup() {
	if [ -n "$keeper" ]; then
		"$build/talead" -c "$folder/talea.conf" --stop >/dev/null 2>&1 || kill "$keeper" 2>/dev/null
		wait "$keeper" 2>/dev/null
	fi
	rm -rf "$folder"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

ok() { # ok NAME: of the last command
	local rc=$?
	nr=$((nr + 1))
	[ $rc = 0 ] && { echo "ok $nr - $1"; return; }
	echo "not ok $nr - $1"
	sed 's/^/# out: /' "$folder/out" | head -n 40
	sed 's/^/# err: /' "$folder/err" | head -n 20
	echo "# exit: ${rc_seen-}"
}
run() { # run EXIT ARGUMENT...
	local want=$1
	shift
	timeout 20 "$talea" "$@" >"$folder/out" 2>"$folder/err"
	rc_seen=$?
	[ $rc_seen = "$want" ]
}
# The same where the book FILE is STAND-IN.
run_beside() { # run_beside EXIT FILE STAND-IN ARGUMENT...
	local want=$1 file=$2 stand_in=$3
	shift 3
	timeout 20 unshare -m --propagation private bash -c \
		'mount --bind "$1" "$2" && shift 2 && exec "$@"' _ "$stand_in" "$file" "$talea" "$@" \
		>"$folder/out" 2>"$folder/err"
	rc_seen=$?
	[ $rc_seen = "$want" ]
}
says() { grep -qF -- "$1" "$folder/err"; }
json() { jq -e "$1" "$folder/out" >/dev/null; }

# Switches, forks and softirqs, from before a command until it has ended: how many depends on the machine.
load() {
	until [ -e "$folder/enough" ]; do
		/bin/true
	done
}
under_load() {
	local pid rc
	rm -f "$folder/enough"
	load &
	pid=$!
	"$@"
	rc=$?
	touch "$folder/enough"
	wait "$pid"
	return $rc
}
# Some kernels now and then run a whole batch of softirqs, and the switches beside it, past their own
# tracepoints: any two programs there lack the same ones. So one interval of a few has to agree.
at_last() {
	"$@" || "$@" || "$@" || "$@" || "$@"
}

cat >"$folder/talea.conf" <<-END
	[daemon]
	socket = $folder/sock
	state = $folder/state
	probes = context_switches, forks, softirqs
	pin = no
	[namespace default]
	users = 0
	read-users = 65533
END
run 3 drift && says 'no daemon answers'; ok drift_without_a_daemon_ends_with_3
"$build/talead" -c "$folder/talea.conf" >"$folder/log" 2>&1 </dev/null &
keeper=$!
for _ in {1..100}; do
	"$talea" status >/dev/null 2>&1 && break
	sleep 0.1
done
if ! "$talea" probes --json | jq -e '[.probes[] | select(.state == "attached")] | length == 3' \
	>/dev/null; then
	echo "1..0 # SKIP $("$talea" probes --json | jq -r '[.probes[].reason // empty][0]')"
	exit 0
fi

# --- what agrees ----------------------------------------------------------------------------------

forks() { under_load run 0 drift --json --interval=700ms kernel_forks_total && json '.counters | length == 1 and
	(.[0] | .state == "ok" and .drift == 0 and .ours > 0 and .source == "/proc/stat processes")'; }
at_last forks; ok forks_agree_with_the_kernel_s_own_book
switches() { under_load run 0 drift --json --interval=700ms kernel_context_switches_total &&
	json '.counters[0] | .state == "ok" and .ours > 0 and .source_low <= .source_high'; }
at_last switches; ok context_switches_agree_with_the_kernel_s_own_book
softirqs() { under_load run 0 drift --json --interval=700ms kernel_softirqs_total &&
	json '(.counters | length) >= 8 and all(.counters[]; .state == "ok") and
		([.counters[].ours] | add) > 0'; }
at_last softirqs; ok softirqs_agree_vector_by_vector
[ "$(jq -r '.counters[].labels.vector' "$folder/out" | sort)" = \
	"$(sed -n '2,$s/^ *\([A-Z_]*\):.*/\1/p' /proc/softirqs | sort)" ]
ok every_vector_of_the_book_is_compared

# --- what does not: another book in its place -----------------------------------------------------

cp /proc/stat "$folder/still"
run_beside 6 /proc/stat "$folder/still" drift --json --interval=500ms kernel_context_switches_total &&
	json '.counters[0] | .state == "drift" and .drift > 0 and .source_high == 0 and .ours > 0' &&
	says "from the kernel's own count"
ok a_book_that_stands_still_is_drift_and_ends_with_6
run_beside 6 /proc/stat "$folder/still" drift --interval=500ms kernel_context_switches_total &&
	grep -qE '^kernel_context_switches_total [0-9]+ 0 0 [1-9][0-9]* drift$' "$folder/out"
ok piped_it_is_a_line_of_numbers_and_a_verdict

# The book of a kernel that makes twice as many: what a counter that loses half of them looks like.
# Always as long, and never empty: it is read while it is written.
double() {
	awk '/^processes/ { printf "processes %020d\n", $2 * 2 }' /proc/stat 1<>"$folder/double"
}
doubling() {
	local rc
	double
	(while sleep 0.01; do double; done) &
	local writer=$!
	under_load run_beside 6 /proc/stat "$folder/double" drift --json --interval=1s kernel_forks_total
	rc=$?
	kill "$writer"
	wait "$writer" 2>/dev/null
	return $rc
}
# The book is as old as the machine lets its writer be: half of what is lost is enough.
doubling && json '.counters[0] | .state == "drift" and .drift < 0 and .ours > 0 and -.drift >= .ours / 2'
ok a_counter_that_loses_half_is_drift

# --- what is not known ----------------------------------------------------------------------------

run 1 drift --json --interval=10ms kernel_oom_kills_total && says 'nothing was compared' &&
	json '.counters[0] | .state == "unknown" and (.why | test("oom_kills is not attached")) and
		(has("ours") | not)'
ok what_is_not_attached_is_unknown_and_never_zero
run 0 drift --json --interval=10ms kernel_oom_kills_total 'kernel_softirqs_total{vector="BLOCK"}' &&
	json '.counters | length == 2 and ([.[].state] | sort) == ["ok", "unknown"]'
ok one_that_is_unknown_leaves_the_others
run 4 drift --interval=10ms kernel_execs_total && says 'no reference counter'
ok a_counter_without_a_second_source_ends_with_4
run 2 drift --interval=soon && says 'not a time'; ok a_bad_interval_is_usage
run 0 drift --json --interval=10ms kernel_forks_total && json '.schema == 1 and .interval_ns == 10000000 and
	.under_way > 0'
ok json_says_how_long_it_looked
as() { # as UID EXIT ARGUMENT...
	local uid=$1 want=$2
	shift 2
	timeout 20 setpriv --reuid="$uid" --regid="$uid" --clear-groups "$talea" "$@" >"$folder/out" \
		2>"$folder/err"
	rc_seen=$?
	[ $rc_seen = "$want" ]
}
as 65533 0 drift --interval=10ms kernel_forks_total; ok it_needs_no_right_but_to_read
as 65532 7 drift --interval=10ms && [ -s "$folder/err" ]; ok a_user_who_may_not_read_gets_7
echo "1..$nr"
