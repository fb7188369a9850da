#!/bin/bash
# Who has which rights over probes. An ordinary user with CAP_BPF and CAP_PERFMON alone runs talead, and it
# counts, keys too; the worker has no right at all and no descriptor that changes anything in the kernel,
# whoever runs talead and whichever process was killed; only admins attach; objects are root's. TAP. Root
# alone can become those users; what it mounts is in a namespace of its own.
# shellcheck disable=SC2317 # `within` and `next` call what they are given
set -u
cd "$(dirname "$0")/../.." || exit 1
if [ "$(id -u)" != 0 ]; then
	echo '1..0 # SKIP needs root to be other users'
	exit 0
elif [ "${TALEA_TEST_MOUNTS:-}" != "$PPID" ] && unshare --mount true 2>/dev/null; then
	exec unshare --mount --propagation private env TALEA_TEST_MOUNTS="$PPID" "$0"
elif [ "${TALEA_TEST_MOUNTS:-}" != "$PPID" ]; then
	echo '1..0 # SKIP no namespaces of mounts here'
	exit 0
fi
build=${TALEA_BUILD:-$PWD/.build/dev}
[[ $build = /* ]] || build=$PWD/$build
talea=$build/talea
folder=$(mktemp -d "${TMPDIR:-/tmp}/talea-privilege.XXXXXX") || exit 1
nr=0 failed=0 leader='' readies=0 state='' who=() user=65534 stranger=65533
export LC_ALL=C.UTF-8
unset TALEA_NAMESPACE TALEA_SOCKET
chmod 755 "$folder"
: >"$folder/out"
: >"$folder/log"

members() { # processes of the session that are not zombies
	[ -z "$leader" ] || ps -s "$leader" -o pid=,stat= | awk '$2 !~ /^Z/ { print $1 }'
}
cleanup() {
	local pid
	for pid in $(members); do kill -KILL "$pid"; done 2>/dev/null
	umount "$folder"/*/state/bpf 2>/dev/null
	rm -rf "$folder"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

result() { # result NAME: of the last command
	local rc=$?
	nr=$((nr + 1))
	[ $rc = 0 ] && { echo "ok $nr - $1"; return; }
	echo "not ok $nr - $1"
	tail -n 20 "$folder/log" | sed 's/^/# log: /'
	sed 's/^/# out: /' "$folder/out" | head -n 20
	failed=1
}
skip() { nr=$((nr + 1)); echo "ok $nr - $1 # SKIP $2"; }
within() { # within SECONDS COMMAND...: until it is true
	local end=$((SECONDS + $1 + 1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}
logged() { grep -qF -- "$1" "$folder/log"; }
says() { grep -qF -- "$1" "$folder/out"; }
# run EXIT ARGUMENT...: talea, as `as` says; true when it ends with EXIT.
as=()
run() {
	local want=$1 rc
	shift
	timeout 20 "${as[@]}" "$talea" "$@" >"$folder/out" 2>&1
	rc=$?
	[ $rc = "$want" ] || { echo "# ended with $rc" >>"$folder/out"; return 1; }
}
is_ready() { [ "$(grep -c 'ready on' "$folder/log")" -gt "$readies" ]; }
has_standby() { [ -n "$(standby)" ]; }
next() { # does it, then waits until one more worker is ready, beside a standby
	readies=$(grep -c 'ready on' "$folder/log")
	"$@"
	within 30 is_ready && within 5 has_standby
}
keeper() { sed -n 's/.*ready on .*(pid \([0-9]*\), .*/\1/p' "$folder/log" | tail -n 1; }
worker() { sed -n 's/.*ready on .*, worker \([0-9]*\)).*/\1/p' "$folder/log" | tail -n 1; }
standby() { ps --ppid "$(keeper)" -o pid=,stat= | awk -v w="$(worker)" '$2 !~ /^Z/ && $1 != w { print $1 }'; }
launch() {
	setsid "${who[@]}" "$build/talead" -c "$folder/talea.conf" >>"$folder/log" 2>&1 </dev/null &
	leader=$!
}
# start NAME LINE...: a talead whose files are in NAME, with these lines at the end of the configuration
start() {
	state=$folder/$1/state
	export TALEA_SOCKET=$folder/$1/sock
	printf '%s\n' '[daemon]' "socket = $TALEA_SOCKET" "state = $state" "${@:2}" >"$folder/talea.conf"
	: >"$folder/log"
	next launch
}
is_over() { [ -z "$(members)" ]; }
stop() { # after a takeover who was started is gone already
	local first=$leader last
	last=$(keeper)
	kill -TERM "$last" && within 10 is_over || return 1
	wait "$first" 2>/dev/null || [ "$first" != "$last" ]
}
get() { run 0 get "$1" && awk '{ sum += $NF } END { print sum + 0 }' "$folder/out"; }

# Programs of a name that nobody else has, so that what a probe counts of them is exact.
command=talea-p-$$
cp "$(type -P true)" "$folder/$command" && chmod 755 "$folder/$command" || exit 1
execs() { local i; for ((i = 0; i < $1; i++)); do "$folder/$command"; done; }
event="raw_tp:sched_process_exec by tgid if comm == \"$command\""

# --- what a process holds -------------------------------------------------------------------------

holds() { # holds PID KIND: how many descriptors of it
	find "/proc/$1/fd" -lname "anon_inode:$2" 2>/dev/null | wc -l
}
# maps_of PID: a line for each descriptor of a map: what it may do, and the map's number.
maps_of() {
	local fd
	find "/proc/$1/fd" -lname 'anon_inode:bpf-map' -printf '%f\n' 2>/dev/null | while read -r fd; do
		awk '$1 == "flags:" { mode = substr($2, length($2)) % 4 }
			$1 == "frozen:" { frozen = $2 }
			$1 == "map_id:" { id = $2 }
			END { print (mode == 0 ? "reads" : frozen ? "frozen" : "writes"), id }' \
			"/proc/$1/fdinfo/$fd" 2>/dev/null
	done
}
maps_that() { maps_of "$1" | grep -c "^$2"; } # maps_that PID reads|frozen|writes
# The worker has maps, and can change nothing by them; the keeper shows that this test sees more where
# there is more.
worker_only_reads() {
	[ "$(holds "$(worker)" bpf-prog)" = 0 ] && [ "$(holds "$(worker)" bpf_link)" = 0 ] &&
		[ "$(maps_that "$(worker)" writes)" = 0 ] && [ "$(maps_of "$(worker)" | wc -l)" -ge "$1" ] &&
		[ "$(holds "$(keeper)" bpf-prog)" -gt 0 ] && [ "$(holds "$(keeper)" bpf_link)" -gt 0 ]
}
keeper_writes() { [ "$(maps_that "$(keeper)" writes)" -gt 0 ]; }
rights() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"; }
worker_has_none() {
	local set
	for set in CapInh CapPrm CapEff CapAmb; do
		[ "$((16#$(rights "$(worker)" $set)))" = 0 ] || return 1
	done
	[ "$(rights "$(worker)" NoNewPrivs)" = 1 ]
}

# --- an ordinary user with two capabilities -------------------------------------------------------

two='-all,+bpf,+perfmon'
who=(setpriv "--reuid=$user" "--regid=$user" --clear-groups "--inh-caps=$two" "--ambient-caps=$two"
	"--bounding-set=$two")
if ! "${who[@]}" true 2>"$folder/out"; then
	echo "1..0 # SKIP setpriv gives no capabilities here: $(head -n 1 "$folder/out")"
	exit 0
fi
install -d -o $user -g $user "$folder/own"
admins=('[namespace default]' "users = $stranger")
start own "${admins[@]}"
result an_ordinary_user_with_cap_bpf_and_cap_perfmon_runs_talead
if grep ' not loaded: ' "$folder/log" | grep -qE 'CAP_|forbids bpf|has no bpf|type information'; then
	skip probes_count_there "$(sed -n 's/.* not loaded: //p' "$folder/log" | head -n 1)"
	echo "1..$nr"
	exit $failed
fi
[ "$((16#$(rights "$(keeper)" CapEff)))" = $(((1 << 38) | (1 << 39))) ] &&
	[ "$(rights "$(keeper)" Uid | cut -f 1)" = $user ]
result it_has_these_two_and_no_other

run 0 probes --json && ! grep -q 'not loaded' "$folder/log" &&
	jq -e '[.probes[] | select(.state == "attached")] | length >= 10' "$folder/out" >/dev/null
result default_probes_are_all_attached
before=$(get kernel_execs_total) && execs 50
more() { [ "$(get kernel_execs_total)" -ge $((before + 50)) ]; }
within 5 more
result they_count

as=("${who[@]}")
run 0 attach "short_total=$event" && says 'not pinned: counting ends with talead: may not mount. fix, as root: '
result who_runs_talead_may_attach_and_is_told_that_nothing_is_pinned_and_why
mount_line=$(sed -n 's/^not pinned: .*fix, as root: //p' "$folder/out")
[ -z "$(ls -A "$state/bpf" 2>/dev/null)" ]
result nothing_is_pinned
run 0 probes --json && jq -e '.probes[] | select(.name == "short") | (.pinned | not) and
	(.unpinned_why | contains("may not mount"))' "$folder/out" >/dev/null
result probes_says_why_too
execs 40
is_counted() { # is_counted COUNTER EVENTS: and says what each part of it has
	run 0 get "$1_total*" || return 1
	awk -v want="$2" '{ sum += $NF } END { exit !(sum == want) }' "$folder/out"
}
within 5 is_counted short 40
result a_keyed_probe_counts_exactly_there
sleep 2.5
is_counted short 40 && [ "$(grep -c 'short_total{tgid=' "$folder/out")" = 40 ] &&
	logged 'probe short: keys whose owner is gone stay: '
result its_keys_stay_and_the_log_says_why
worker_only_reads 1 && [ "$(maps_that "$(worker)" frozen)" -ge 1 ]
result the_worker_has_no_program_no_link_and_the_map_of_keys_frozen
worker_has_none
result the_worker_has_no_capability_there_either

run 7 attach 'calls_total=uprobe:libc.so.6:getpgid' && says 'CAP_SYS_ADMIN' && says 'fix: '
rc=$?
if [ $rc != 0 ] && run 0 attach 'calls_total=uprobe:libc.so.6:getpgid'; then
	skip an_uprobe_says_which_capability_it_takes 'this kernel lets CAP_PERFMON attach uprobes'
else
	[ $rc = 0 ]
	result an_uprobe_says_which_capability_it_takes
fi
run 1 probes --cost=200ms || run 7 probes --cost=200ms
says 'CAP_SYS_ADMIN' && says 'fix: '
result the_cost_of_probes_says_which_capability_it_takes
as=(setpriv "--reuid=$stranger" "--regid=$stranger" --clear-groups)
run 7 attach "other_total=$event" && says "admins =" && says $stranger
result who_is_no_admin_is_told_the_line_to_add
as=()
run 0 probes --json && ! jq -e '.probes[] | select(.name == "other")' "$folder/out" >/dev/null
result and_nothing_is_attached_for_him

# --- the same with the mount that he was told of --------------------------------------------------

eval "$mount_line" 2>"$folder/out" && grep -q " $state/bpf .* - bpf " /proc/self/mountinfo
rc=$?
(exit $rc)
result the_line_that_is_to_be_typed_mounts_a_bpffs_for_him
if [ $rc = 0 ]; then
	as=("${who[@]}")
	run 0 attach "kept_total=$event" && ! says 'not pinned' && [ -d "$state/bpf/kept" ]
	result what_is_attached_then_is_pinned
	as=()
	execs 30
	is_freed() { is_counted kept 30 && [ "$(get 'kept_total{talea=removed}')" = 30 ]; }
	within 8 is_freed
	result and_its_keys_are_freed
	worker_only_reads 3 && [ "$(maps_that "$(worker)" reads)" -ge 2 ] && keeper_writes
	result the_worker_reads_them_by_descriptors_that_cannot_write
	next kill -KILL "$(worker)" && worker_only_reads 3 && worker_has_none
	result so_does_one_that_is_started_later
	stop
	execs 12
	start own "${admins[@]}"
	within 5 is_counted kept 42
	result they_count_on_exactly_while_he_runs_no_talead
fi
stop
result it_ends_in_order

# --- root -----------------------------------------------------------------------------------------

who=()
mkdir "$folder/root"
objects=$folder/objects
install -d -m 755 "$objects"
head -c 3000 /dev/urandom >"$objects/theirs.bpf.o" && chown $user "$objects/theirs.bpf.o"
start root "${admins[@]}" '[probe theirs]' "object = $objects/theirs.bpf.o" '[probe keyed]' \
	"attach = keyed_total=$event"
grep 'theirs not loaded: ' "$folder/log" | grep -F "belongs to uid $user, not to root" |
	grep -qF "fix: chown root $objects/theirs.bpf.o"
result an_object_that_is_not_roots_is_refused
run 0 attach "more_total=raw_tp:sched_process_exec by comm if comm == \"$command\"" && execs 25 &&
	within 5 is_counted more 25 && within 5 is_counted keyed 25
result root_attaches_and_it_counts
roots_worker() { worker_only_reads 4 && [ "$(maps_that "$(worker)" reads)" -ge 4 ] && worker_has_none; }
roots_worker
result its_worker_has_no_program_no_link_no_writable_map_and_no_capability
keeper_writes
result the_keeper_has_maps_that_it_can_write_which_this_test_sees
next kill -KILL "$(worker)" && roots_worker
result nor_has_a_worker_that_was_born_with_them
next kill -KILL "$(keeper)" && roots_worker
result nor_has_a_worker_of_the_standby_that_took_over
run 0 detach more && execs 5 && within 5 is_counted keyed 30
result the_new_keeper_has_the_probes_and_they_count
run 1 detach keyed && grep -qxF 'talead: uid 0: detach more' "$folder/log" &&
	grep -qE '^talead: uid 0: detach keyed: not done: probe keyed is asked for by' "$folder/log" &&
	grep -qE '^talead: uid 0: attach .*raw_tp:sched_process_exec by comm' "$folder/log"
result what_was_asked_for_is_logged_with_who_asked_and_how_it_ended
as=(setpriv "--reuid=$stranger" "--regid=$stranger" --clear-groups)
for verb in attach detach replace; do
	case $verb in
	attach) order=(attach 'no_total=raw_tp:sched_process_exec') ;;
	detach) order=(detach keyed) ;;
	replace) order=(attach --replace keyed) ;;
	esac
	run 7 "${order[@]}" && says "admins =" && says $stranger
	result "who_is_no_admin_may_not_$verb"
done
as=()
stop
result talead_ends_in_order
timeout 20 "$build/talead" -c "$folder/talea.conf" --unpin >"$folder/out" 2>&1 && [ -z "$(ls -A "$state/bpf" 2>/dev/null)" ]
result unpin_ends_what_it_left
echo "1..$nr"
exit $failed
