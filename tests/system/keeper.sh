#!/bin/bash
# The processes of talead: locks, a second talead, rights, deaths, reload, and an end that leaves nothing.
# TAP.
# shellcheck source=tests/lib/shell.bash
. "$(dirname "$0")/../lib/shell.bash"

answers() { run 0 get demo_requests_total && out "$1"; }
holder() { cat "$state/keeper.lock"; }
settings() { configure 'probes = none' "$@"; }
other() { ends "$1" "$talead" -c "$folder/talea.conf" "${@:2}"; } # other EXIT ARGUMENT...: runs a second talead
order_stop() { other 0 --stop; }

settings
start
ok talead_logs_when_it_is_ready_and_which_process_serves

behead() { # kills keeper and standby, so that neither sees the other end
	local standby
	old=$(worker) standby=$(standby)
	kill -STOP "$(keeper)" && kill -KILL "$standby" "$(keeper)"
}

# --- what each process has

[ "$(holder)" = "$leader" ] && [ "$(keeper)" = "$leader" ]
ok lock_names_the_started_process
[ "$(stat -c %a "$folder/sock")" = 666 ]
ok every_user_may_connect_because_the_worker_checks_the_user
status() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"; }
none() { [ "$((16#$(status "$(worker)" "$1")))" = 0 ]; }
none CapPrm && none CapEff && none CapInh && none CapAmb && [ "$(status "$(worker)" NoNewPrivs)" = 1 ]
ok worker_has_no_capability_and_gets_none
if [ "$(id -u)" = 0 ]; then
	none CapBnd && [ -z "$(status "$(worker)" Groups | tr -d ' \t')" ] &&
		[ "$(status "$(worker)" Uid | cut -f 1-4 | tr '\t' '\n' | sort -u)" != 0 ]
	ok worker_of_root_has_another_uid_no_group_and_an_empty_bounding_set
else
	skip worker_of_root_has_another_uid_no_group_and_an_empty_bounding_set 'needs root'
fi
cloexec() { # cloexec PID: every descriptor but 0, 1 and 2 is close-on-exec
	local fd flags
	for fd in /proc/"$1"/fdinfo/*; do
		[ "${fd##*/}" -gt 2 ] || continue
		flags=$(sed -n 's/^flags:[[:space:]]*//p' "$fd" 2>/dev/null) || continue
		[ -z "$flags" ] || [ $((8#$flags & 8#2000000)) != 0 ] || return 1
	done
}
cloexec "$(keeper)" && cloexec "$(standby)" && cloexec "$(worker)"
ok every_descriptor_is_close_on_exec
has() { find "/proc/$1/fd" -lname "$2" 2>/dev/null | grep -q .; }
inode=$(awk -v path="$folder/sock" '$NF == path && $4 == "00010000" { print $7 }' /proc/net/unix)
listener="socket:\[$inode\]"
has "$(keeper)" "$listener" && has "$(standby)" "$listener" && has "$(keeper)" '*keeper.lock' &&
	! has "$(worker)" "$listener" && ! has "$(worker)" '*keeper.lock' && ! has "$(standby)" '*keeper.lock'
ok worker_holds_neither_listener_nor_lock_and_the_standby_no_lock

# --- a second one

other 1 --socket "$folder/sock2" && says "is in use by talead pid $(keeper)" &&
	says 'fix: talead --stop'
ok second_talead_on_a_folder_names_the_holder
other 1 --state "$folder/state2" && says "is in use by process $(keeper)" &&
	[ -S "$folder/sock" ]
ok socket_of_a_living_talead_is_not_taken
run 0 add demo_requests_total 5 && soon answers 5
ok first_talead_is_undisturbed

# --- deaths

old=$(worker)
next kill -KILL "$(worker)" && [ "$(worker)" != "$old" ] &&
	logged "the worker $old was killed by signal 9" && soon answers 5
ok killed_worker_is_replaced_and_keeps_the_totals
old=$(keeper) heir=$(standby)
next kill -KILL "$(keeper)" && [ "$(keeper)" = "$heir" ] && soon test "$(holder)" = "$heir" &&
	logged "the keeper $old is gone; its standby $heir took over" && soon answers 5
ok standby_takes_over_from_a_killed_keeper
old=$(standby)
kill -KILL "$old" && soon logged "the standby $old was killed" && soon has_standby &&
	next kill -KILL "$(keeper)" && soon answers 5
ok killed_standby_is_replaced_by_one_that_can_take_over
# The keeper waits before it restarts a worker that fails by itself. It does not wait when something else killed
# the worker: see above.
ready_nr=0
fails_thrice() {
	soon is_ready && old=$(worker) && ready_nr=$((ready_nr + 1)) && kill -SEGV "$old" &&
		soon logged "the worker $old was killed by signal 11" &&
		logged 'three deaths in 10 s: the keeper starts another in 1 s'
}
soon fails_thrice && next true && soon answers 5
ok worker_that_keeps_failing_is_restarted_after_a_pause

# --- reload

settings 'flod = 1ms'
kill -HUP "$(keeper)" && soon logged "talea.conf:5: unknown key flod" &&
	soon logged 'the configuration stays as it was' && soon answers 5
ok bad_file_at_sighup_keeps_the_old_configuration_and_is_logged
restarts=() # settings that need a restart
[ "$(id -u)" != 0 ] || restarts=('user = root')
settings "${restarts[@]}" '[namespace late]' "users = $(id -u)"
kill -HUP "$(keeper)" && soon logged 'the configuration was read again' &&
	run 0 -n late add late_requests_total 3
ok namespace_that_sighup_brings_serves_at_once
[ "$(id -u)" != 0 ] || logged 'user stays uid'
ok setting_that_needs_a_restart_is_named
late() { run 0 -n late get late_requests_total && out 3; }
next kill -KILL "$(keeper)" && soon late
ok new_namespace_outlives_the_keeper_that_made_it
settings

# --- the end

kill -INT -- "-$leader" && soon is_over && [ ! -e "$folder/sock" ]
ok ctrl_c_ends_a_keeper_that_was_a_standby_and_leaves_nothing
start && order_stop && is_over && [ ! -e "$folder/sock" ] && wait "$leader"
ok stop_ends_everything_with_0_and_removes_the_socket
other 3 --stop && says 'no talead runs'
ok stop_without_a_talead_is_3
start && kill -STOP "$(worker)" && kill -TERM "$(keeper)" && wait "$leader" && is_over &&
	logged 'does not end: the keeper kills it'
ok worker_that_does_not_end_is_killed_in_time

start && kill_all && [ -S "$folder/sock" ] && start && soon run 0 status
ok socket_that_a_killed_talead_left_is_replaced
behead && ! is_gone "$old" && soon is_gone "$old"
ok worker_without_keeper_and_standby_ends
start && behead && start && logged 'waits for the worker of a former talead' && is_gone "$old"
ok new_talead_waits_for_the_worker_of_the_old
order_stop
ok new_talead_ends_in_order

# --- what is refused

unsafe() { other 1 --state "$folder/$1" && says "$2"; }
mkdir -m 777 "$folder/open" "$folder/above" && ln -s state "$folder/link" && echo >"$folder/file"
unsafe open 'others may write it' && unsafe above/state 'everyone may replace' &&
	unsafe link 'it is not a folder' && unsafe file 'it is not a folder'
ok unsafe_state_folder_is_refused_with_a_reason
mkdir -m 755 "$folder/linked" && echo kept >"$folder/file" && ln -s ../file "$folder/linked/keeper.lock" &&
	other 1 --state "$folder/linked" && says keeper.lock &&
	[ "$(cat "$folder/file")" = kept ]
ok lock_file_that_is_a_link_is_not_followed
other 1 --socket "$folder/file" && says 'is not a socket' && [ -f "$folder/file" ]
ok file_in_the_place_of_the_socket_is_kept

# --- a full table of descriptors

if command -v python3 >/dev/null; then
	# Connects COUNT times and prints how many clients were refused. Then it computes for a second of its own
	# CPU time: a keeper that spins gets as much of it, whatever else the machine does.
	connect='import os, socket, sys, time
path, count, keeper = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def spent():
    with open("/proc/" + keeper + "/stat") as f:
        return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")
before, clients, refused = spent(), [], 0
for i in range(count):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(0.2)
    s.connect(path)
    clients.append(s)
for s in clients:
    try:
        refused += b"fix:" in s.recv(1000)
    except (TimeoutError, OSError):
        pass
print("refused", refused)
while time.process_time() < 1:
    pass
share = (spent() - before) / time.process_time()
print("share", share, "spins" if share > 0.3 else "rests")'
	crowd() { ends 0 python3 -c "$connect" "$TALEA_SOCKET" "$1" "$(keeper)" && prints rests; }
	start && prlimit --pid "$(keeper)" --nofile=30: && crowd 60 && ! prints 'refused 0'
	ok full_fd_table_refuses_clients_with_a_message_and_does_not_spin
	prlimit --pid "$(keeper)" --nofile=6: && crowd 3
	ok fd_table_without_a_reserve_does_not_spin
	prlimit --pid "$(keeper)" --nofile=1024: && soon run 0 status
	ok clients_are_accepted_again_when_there_is_room
	order_stop
else
	for name in full_fd_table_refuses_clients_with_a_message_and_does_not_spin \
		fd_table_without_a_reserve_does_not_spin clients_are_accepted_again_when_there_is_room; do
		skip $name 'needs python3'
	done
fi
start && all=$(members) && [ "$(wc -w <<<"$all")" = 3 ] && order_stop && is_over
ok nothing_is_left_at_the_end
finish
