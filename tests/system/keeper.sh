#!/bin/bash
# The processes of talead: locks, a second talead, rights, deaths, reload, and an end that leaves nothing.
# TAP. Every talead here is the leader of a session of its own; what is left of that is what it left.
# shellcheck disable=SC2317 # `next` and `within` call what they are given
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${TALEA_BUILD:-$PWD/.build/dev}
talead=$build/talead
folder=$(mktemp -d "${TMPDIR:-/tmp}/talea-keeper.XXXXXX") || exit 1
nr=0 failed=0 old='' leader='' readies=0
export TALEA_SOCKET=$folder/sock LC_ALL=C.UTF-8
unset TALEA_NAMESPACE
: >"$folder/out"

members() { # processes of the session that are not zombies
	[ -z "$leader" ] || ps -s "$leader" -o pid=,stat= | awk '$2 !~ /^Z/ { print $1 }'
}
cleanup() {
	local pid
	for pid in $(members); do kill -KILL "$pid"; done 2>/dev/null
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
		sleep 0.02
	done
}
logged() { grep -qF -- "$1" "$folder/log"; }
says() { grep -qF -- "$1" "$folder/out"; }
kill_all() { kill -KILL -- "-$leader" && within 5 all_gone; } # the group: no standby has its moment
is_gone() { [ ! -e "/proc/$1" ] || grep -q '^State:.*[ZX]' "/proc/$1/status" 2>/dev/null; }
all_gone() { [ -z "$(members)" ]; }
holder() { cat "$folder/state/keeper.lock"; }
# The processes that the last `ready` line names, and the standby: the other child of the keeper.
keeper() { sed -n 's/.*ready on .*(pid \([0-9]*\), .*/\1/p' "$folder/log" | tail -n 1; }
worker() { sed -n 's/.*ready on .*, worker \([0-9]*\)).*/\1/p' "$folder/log" | tail -n 1; }
standby() { ps --ppid "$(keeper)" -o pid=,stat= | awk -v w="$(worker)" '$2 !~ /^Z/ && $1 != w { print $1 }'; }
is_ready() { [ "$(grep -c 'ready on' "$folder/log")" -gt "$readies" ]; }
# next COMMAND...: does it, then waits until one more worker is ready, beside a standby
next() {
	readies=$(grep -c 'ready on' "$folder/log")
	"$@"
	within 30 is_ready && within 5 has_standby
}
has_standby() { [ -n "$(standby)" ]; }
answers() { "$build/talea" get demo_requests_total >"$folder/out" 2>&1 && [ "$(cat "$folder/out")" = "$1" ]; }

configure() { printf '%s\n' '[daemon]' 'probes = none' "$@" >"$folder/talea.conf"; }
launch() {
	setsid "$talead" -c "$folder/talea.conf" --socket "$folder/sock" --state "$folder/state" \
		>>"$folder/log" 2>&1 </dev/null &
	leader=$!
}
start() { # the leader of the session is this shell's child, so that its exit code is seen
	: >"$folder/log"
	next launch
}
other() { timeout 20 "$talead" -c "$folder/talea.conf" "$@" >"$folder/out" 2>&1; }
stop() { other --state "$folder/state" --stop; }

chmod 755 "$folder"
configure
start
result talead_says_when_it_is_ready_and_who_serves

behead() { # kills keeper and standby, and no process between sees it
	local standby
	old=$(worker) standby=$(standby)
	kill -STOP "$(keeper)" && kill -KILL "$standby" "$(keeper)"
}

# --- what each process has

[ "$(holder)" = "$leader" ] && [ "$(keeper)" = "$leader" ]
result lock_names_the_started_process
[ "$(stat -c %a "$folder/sock")" = 666 ]
result everyone_may_connect_because_the_worker_checks_who
status() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"; }
none() { [ "$((16#$(status "$(worker)" "$1")))" = 0 ]; }
none CapPrm && none CapEff && none CapInh && none CapAmb && [ "$(status "$(worker)" NoNewPrivs)" = 1 ]
result worker_has_no_capability_and_gets_none
if [ "$(id -u)" = 0 ]; then
	none CapBnd && [ -z "$(status "$(worker)" Groups | tr -d ' \t')" ] &&
		[ "$(status "$(worker)" Uid | cut -f 1-4 | tr '\t' '\n' | sort -u)" != 0 ]
	result worker_of_root_has_another_uid_no_group_and_an_empty_bounding_set
else
	skip worker_of_root_has_another_uid_no_group_and_an_empty_bounding_set 'needs root'
fi
cloexec() { # every fd of PID but 0, 1 and 2
	local fd flags
	for fd in /proc/"$1"/fdinfo/*; do
		[ "${fd##*/}" -gt 2 ] || continue
		flags=$(sed -n 's/^flags:[[:space:]]*//p' "$fd" 2>/dev/null) || continue
		[ -z "$flags" ] || [ $((8#$flags & 8#2000000)) != 0 ] || return 1
	done
}
cloexec "$(keeper)" && cloexec "$(standby)" && cloexec "$(worker)"
result every_descriptor_is_close_on_exec
has() { find "/proc/$1/fd" -lname "$2" 2>/dev/null | grep -q .; }
inode=$(awk -v path="$folder/sock" '$NF == path && $4 == "00010000" { print $7 }' /proc/net/unix)
listener="socket:\[$inode\]"
has "$(keeper)" "$listener" && has "$(standby)" "$listener" && has "$(keeper)" '*keeper.lock' &&
	! has "$(worker)" "$listener" && ! has "$(worker)" '*keeper.lock' && ! has "$(standby)" '*keeper.lock'
result worker_holds_neither_listener_nor_lock_and_the_standby_no_lock

# --- a second one

! other --state "$folder/state" --socket "$folder/sock2" && says "is in use by talead pid $(keeper)" &&
	says 'fix: talead --stop'
result second_talead_on_a_folder_names_the_holder
! other --state "$folder/state2" --socket "$folder/sock" && says "is in use by process $(keeper)" &&
	[ -S "$folder/sock" ]
result socket_of_a_living_talead_is_not_taken
"$build/talea" add demo_requests_total 5 >"$folder/out" 2>&1 && within 5 answers 5
result first_talead_is_undisturbed

# --- deaths

old=$(worker)
next kill -KILL "$(worker)" && [ "$(worker)" != "$old" ] &&
	logged "the worker $old was killed by signal 9" && within 5 answers 5
result killed_worker_is_replaced_and_keeps_the_totals
old=$(keeper) heir=$(standby)
next kill -KILL "$(keeper)" && [ "$(keeper)" = "$heir" ] && within 5 test "$(holder)" = "$heir" &&
	logged "the keeper $old is gone; its standby $heir took over" && within 5 answers 5
result standby_takes_over_from_a_killed_keeper
old=$(standby)
kill -KILL "$old" && within 5 logged "the standby $old was killed" && within 5 has_standby &&
	next kill -KILL "$(keeper)" && within 5 answers 5
result killed_standby_is_replaced_by_one_that_can_take_over
# One that fails by itself is given time. (One killed from outside is not: see above.)
for _ in 1 2 3; do
	within 10 is_ready && worker=$(worker) && readies=$((readies + 1)) && kill -SEGV "$worker" &&
		within 5 logged "the worker $worker was killed by signal 11"
done
logged 'three deaths in 10 s: starting another in 1 s' && next true && within 5 answers 5
result worker_that_keeps_failing_is_given_time

# --- reload

configure 'flod = 1ms'
kill -HUP "$(keeper)" && within 5 logged "talea.conf:3: unknown key flod" &&
	within 5 logged 'the configuration stays as it was' && within 5 answers 5
result bad_file_at_sighup_keeps_the_old_configuration_and_says_so
configure 'user = root' '[namespace late]' "users = $(id -u)"
kill -HUP "$(keeper)" && within 5 logged 'the configuration was read again' &&
	"$build/talea" -n late add late_requests_total 3 >"$folder/out" 2>&1
result namespace_that_sighup_brings_serves_at_once
[ "$(id -u)" != 0 ] || logged 'user stays uid'
result setting_that_needs_a_restart_is_named
late() { [ "$("$build/talea" -n late get late_requests_total 2>"$folder/out")" = 3 ]; }
next kill -KILL "$(keeper)" && within 5 late
result new_namespace_outlives_the_keeper_that_made_it
configure

# --- the end

kill -INT -- "-$leader" && within 15 all_gone && [ ! -e "$folder/sock" ]
result ctrl_c_ends_a_keeper_that_was_a_standby_and_leaves_nothing
start && stop && all_gone && [ ! -e "$folder/sock" ] && wait "$leader"
result stop_ends_everything_with_0_and_removes_the_socket
stop
[ $? = 3 ] && says 'no talead runs'
result stop_without_a_talead_is_3
start && kill -STOP "$(worker)" && kill -TERM "$(keeper)" && wait "$leader" && all_gone &&
	logged 'does not end: it is killed'
result worker_that_does_not_end_is_killed_in_time

start && kill_all && [ -S "$folder/sock" ] && start && within 5 "$build/talea" status >"$folder/out" 2>&1
result what_a_killed_talead_left_is_replaced
behead && ! is_gone "$old" && within 8 is_gone "$old"
result worker_without_keeper_and_standby_ends
start && behead && start && logged 'waiting for the worker of a former talead' && is_gone "$old"
result new_talead_waits_for_the_worker_of_the_old
stop
result "and_ends"

# --- what is refused

unsafe() { ! other --socket "$folder/sock" --state "$folder/$1" && says "$2"; }
mkdir -m 777 "$folder/open" "$folder/above" && ln -s state "$folder/link" && echo >"$folder/file"
unsafe open 'others may write it' && unsafe above/state 'everyone may replace' &&
	unsafe link 'it is not a folder' && unsafe file 'it is not a folder'
result unsafe_state_folder_is_refused_with_words
mkdir -m 755 "$folder/linked" && echo kept >"$folder/file" && ln -s ../file "$folder/linked/keeper.lock" &&
	! other --socket "$folder/sock" --state "$folder/linked" && says keeper.lock &&
	[ "$(cat "$folder/file")" = kept ]
result lock_file_that_is_a_link_is_not_followed
! other --socket "$folder/file" --state "$folder/state" && says 'is not a socket' && [ -f "$folder/file" ]
result file_in_the_place_of_the_socket_is_kept

# --- a full table of descriptors

if command -v python3 >/dev/null; then
	# Connects COUNT times, tells how many were refused, and stays a second.
	connect='import socket, sys, time
clients, refused = [], 0
for i in range(int(sys.argv[2])):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(0.2)
    s.connect(sys.argv[1])
    clients.append(s)
for s in clients:
    try:
        refused += b"fix:" in s.recv(1000)
    except (TimeoutError, OSError):
        pass
print("refused", refused)
time.sleep(1)'
	ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }
	start && prlimit --pid "$(keeper)" --nofile=30: && before=$(ticks "$(keeper)") &&
		python3 -c "$connect" "$folder/sock" 60 >"$folder/out" 2>&1 &&
		! says 'refused 0' && [ $(($(ticks "$(keeper)") - before)) -lt 20 ]
	result full_fd_table_refuses_with_words_and_does_not_spin
	prlimit --pid "$(keeper)" --nofile=6: && before=$(ticks "$(keeper)") &&
		python3 -c "$connect" "$folder/sock" 3 >"$folder/out" 2>&1 &&
		[ $(($(ticks "$(keeper)") - before)) -lt 20 ]
	result fd_table_without_a_reserve_does_not_spin
	prlimit --pid "$(keeper)" --nofile=1024: && within 5 "$build/talea" status >"$folder/out" 2>&1
	result clients_are_accepted_again_when_there_is_room
	stop
else
	for name in full_fd_table_refuses_with_words_and_does_not_spin \
		fd_table_without_a_reserve_does_not_spin clients_are_accepted_again_when_there_is_room; do
		skip $name 'needs python3'
	done
fi
start && all=$(members) && [ "$(wc -w <<<"$all")" = 3 ] && stop && all_gone
result nothing_is_left_at_the_end
echo "1..$nr"
exit $failed
