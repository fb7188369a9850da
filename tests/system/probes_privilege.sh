#!/bin/bash
# Rights over probes. A talead of an ordinary user with CAP_BPF and CAP_PERFMON counts, with keys too. The worker
# has no capability and no descriptor that changes anything in the kernel, whichever user runs talead and
# whichever process was killed. Only admins attach. Objects belong to root. Only root can run this test. TAP.
# shellcheck source=tests/lib/shell.bash
. "$(dirname "$0")/../lib/shell.bash"
in_namespaces --mount
user=65534 stranger=65533
# begin NAME LINE...: starts a talead whose files are in NAME, with these lines in its configuration
begin() {
	state=$folder/$1/state
	export TALEA_SOCKET=$folder/$1/sock
	configure "${@:2}"
	start
}
get() { run 0 get "$1" && sum; }

# No other program has this name, so a probe counts its starts exactly.
command=talea-p-$$
cp "$(type -P true)" "$folder/$command" && chmod 755 "$folder/$command" || exit 1
execs() { local i; for ((i = 0; i < $1; i++)); do "$folder/$command"; done; }
event="raw_tp:sched_process_exec by tgid if comm == \"$command\""

# --- what a process holds -------------------------------------------------------------------------

holds() { # holds PID KIND: how many descriptors of that kind the process has
	find "/proc/$1/fd" -lname "anon_inode:$2" 2>/dev/null | wc -l
}
# maps_of PID: a line for each descriptor of a map: its rights and the number of the map.
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
# The worker has maps and cannot write them. The keeper is the control: it has programs, links and maps that it
# can write, and the test sees them.
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

as_user $user bpf perfmon
operator=("${as[@]}" "--bounding-set=-all,+bpf,+perfmon") as=()
ends 0 "${operator[@]}" true || skip_all "setpriv gives no capabilities here: $(head -n 1 "$folder/err")"
daemon_as=("${operator[@]}")
install -d -o $user -g $user "$folder/own"
admins=('[namespace default]' "users = $stranger")
begin own "${admins[@]}"
ok an_ordinary_user_with_cap_bpf_and_cap_perfmon_runs_talead
if grep ' not loaded: ' "$folder/log" | grep -qE 'CAP_|forbids bpf|has no bpf|type information'; then
	skip probes_count_there "$(sed -n 's/.* not loaded: //p' "$folder/log" | head -n 1)"
	finish
fi
[ "$((16#$(rights "$(keeper)" CapEff)))" = $(((1 << 38) | (1 << 39))) ] &&
	[ "$(rights "$(keeper)" Uid | cut -f 1)" = $user ]
ok the_keeper_has_these_two_capabilities_and_no_other

run 0 probes --json && ! grep -q 'not loaded' "$folder/log" &&
	json '[.probes[] | select(.state == "attached")] | length >= 10'
ok default_probes_are_all_attached
before=$(get kernel_execs_total) && execs 50
more() { [ "$(get kernel_execs_total)" -ge $((before + 50)) ]; }
soon more
ok default_probes_count

as=("${operator[@]}")
run 0 attach "short_total=$event" && says 'not pinned: counting ends with talead: may not mount. fix, as root: '
ok the_user_of_talead_may_attach_and_the_message_says_why_no_probe_is_pinned
mount_line=$(sed -n 's/^not pinned: .*fix, as root: //p' "$folder/err")
[ -z "$(ls -A "$state/bpf" 2>/dev/null)" ]
ok no_probe_is_pinned
run 0 probes --json && json '.probes[] | select(.name == "short") | (.pinned | not) and
	(.unpinned_why | contains("may not mount"))'
ok probes_has_that_reason_too
execs 40
is_counted() { # is_counted COUNTER EVENTS: leaves the lines of the counter in out
	run 0 get "$1_total*" && [ "$(sum)" = "$2" ]
}
soon is_counted short 40
ok a_keyed_probe_counts_exactly_there
sleep 2.5 # keys that are not freed now are not freed
soon logged 'probe short: keys whose owner is gone stay: ' && is_counted short 40 &&
	[ "$(grep -c 'short_total{tgid=' "$folder/out")" = 40 ]
ok keys_of_ended_processes_stay_and_the_log_has_the_reason
worker_only_reads 1 && [ "$(maps_that "$(worker)" frozen)" -ge 1 ]
ok the_worker_has_no_program_no_link_and_the_map_of_keys_frozen
worker_has_none
ok the_worker_has_no_capability_there_either

run 7 attach 'calls_total=uprobe:libc.so.6:getpgid' && says 'CAP_SYS_ADMIN' && says 'fix: '
rc=$?
if [ $rc != 0 ] && run 0 attach 'calls_total=uprobe:libc.so.6:getpgid'; then
	skip the_refusal_of_a_uprobe_names_the_missing_capability 'this kernel lets CAP_PERFMON attach uprobes'
else
	[ $rc = 0 ]
	ok the_refusal_of_a_uprobe_names_the_missing_capability
fi
run 1 probes --cost=200ms || run 7 probes --cost=200ms
says 'CAP_SYS_ADMIN' && says 'fix: '
ok the_refusal_to_measure_names_the_missing_capability
as_user $stranger
run 7 attach "other_total=$event" && says "admins =" && says $stranger
ok a_user_who_is_no_admin_gets_the_line_to_add
as=()
run 0 probes --json && ! json '.probes[] | select(.name == "other")'
ok nothing_is_attached_for_a_user_who_is_no_admin

# --- the same with the mount of the fix -----------------------------------------------------------

eval "$mount_line" 2>"$folder/out" && grep -q " $state/bpf .* - bpf " /proc/self/mountinfo
rc=$?
(exit $rc)
ok the_fix_mounts_a_bpffs_for_the_user_of_talead
if [ $rc = 0 ]; then
	as=("${operator[@]}")
	run 0 attach "kept_total=$event" && ! says 'not pinned' && [ -d "$state/bpf/kept" ]
	ok a_probe_that_is_attached_then_is_pinned
	as=()
	execs 30
	is_freed() { is_counted kept 30 && [ "$(get 'kept_total{talea=removed}')" = 30 ]; }
	soon is_freed
	ok keys_of_ended_processes_are_freed
	worker_only_reads 3 && [ "$(maps_that "$(worker)" reads)" -ge 2 ] && keeper_writes
	ok the_worker_reads_pinned_maps_by_descriptors_that_cannot_write
	next kill -KILL "$(worker)" && worker_only_reads 3 && worker_has_none
	ok a_worker_that_starts_later_cannot_write_them_either
	stop
	execs 12
	begin own "${admins[@]}"
	soon is_counted kept 42
	ok pinned_probes_count_on_exactly_while_no_talead_runs
fi
stop
ok talead_of_an_ordinary_user_ends_in_order

# --- root -----------------------------------------------------------------------------------------

daemon_as=()
mkdir "$folder/root"
objects=$folder/objects
install -d -m 755 "$objects"
head -c 3000 /dev/urandom >"$objects/theirs.bpf.o" && chown $user "$objects/theirs.bpf.o"
begin root "${admins[@]}" '[probe theirs]' "object = $objects/theirs.bpf.o" '[probe keyed]' \
	"attach = keyed_total=$event"
grep 'theirs not loaded: ' "$folder/log" | grep -F "belongs to uid $user, not to root" |
	grep -qF "fix: chown root $objects/theirs.bpf.o"
ok an_object_that_is_not_roots_is_refused
run 0 attach "more_total=raw_tp:sched_process_exec by comm if comm == \"$command\"" && execs 25 &&
	soon is_counted more 25 && soon is_counted keyed 25
ok root_attaches_and_it_counts
roots_worker() { worker_only_reads 4 && [ "$(maps_that "$(worker)" reads)" -ge 4 ] && worker_has_none; }
roots_worker
ok its_worker_has_no_program_no_link_no_writable_map_and_no_capability
keeper_writes
ok the_keeper_has_maps_that_it_can_write_which_this_test_sees
next kill -KILL "$(worker)" && roots_worker
ok a_new_worker_has_none_of_them_either
next kill -KILL "$(keeper)" && roots_worker
ok a_worker_of_the_standby_that_took_over_has_none_of_them_either
run 0 detach more && execs 5 && soon is_counted keyed 30
ok the_new_keeper_has_the_probes_and_they_count
run 1 detach keyed && grep -qxF 'talead: uid 0: detach more' "$folder/log" &&
	grep -qE '^talead: uid 0: detach keyed: not done: probe keyed is asked for by' "$folder/log" &&
	grep -qE '^talead: uid 0: attach .*raw_tp:sched_process_exec by comm' "$folder/log"
ok each_probe_request_is_logged_with_its_user_and_result
as_user $stranger
for verb in attach detach replace; do
	case $verb in
	attach) request=(attach 'no_total=raw_tp:sched_process_exec') ;;
	detach) request=(detach keyed) ;;
	replace) request=(attach --replace keyed) ;;
	esac
	run 7 "${request[@]}" && says "admins =" && says $stranger
	ok "a_user_who_is_no_admin_may_not_$verb"
done
as=()
stop
ok talead_ends_in_order
ends 0 "$talead" -c "$folder/talea.conf" --unpin && [ -z "$(ls -A "$state/bpf" 2>/dev/null)" ]
ok unpin_ends_the_pinned_probes
finish
