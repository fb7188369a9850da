#!/bin/bash
# `talea doctor`: its findings with all rights and with fewer, on a whole kernel and on one that lacks something;
# lines and JSON agree, the daemon reports the same reasons, and the doctor leaves nothing. TAP.
# shellcheck source=tests/lib/shell.bash
. "$(dirname "$0")/../lib/shell.bash"
[ "$(id -u)" != 0 ] || in_namespaces --mount
nobody=65534
# Another user can reach this folder. talea finds the talead beside it.
mkdir "$folder/bin"
cp "$talea" "$talead" "$folder/bin/" || exit 1
talea=$folder/bin/talea talead=$folder/bin/talead

# doctor EXIT ARGUMENT...: the doctor of talead; true when it ends with EXIT.
doctor() { ends "$1" "$talead" -c "$folder/talea.conf" --state "$state" --doctor "${@:2}"; }
line() { shown "^$1 +$2(: |\$)"; } # line STATE WHAT
none() { ! shown "^$1 "; }          # none STATE
summary() { # the numbers in the last line are those of the lines above it
	[ "$(tail -n 1 "$folder/out")" = "$(grep -c '^ok ' "$folder/out") ok, $(grep -c '^skip ' "$folder/out") skipped, $(
		grep -c '^fail ' "$folder/out") failed" ]
}
each_fail_has_a_fix() { ! grep '^fail ' "$folder/out" | grep -qvF '. fix: '; }
reason_of() { sed -nE "s/^fail +$1: //p" "$folder/out"; }    # reason_of WHAT: reason and fix

# --- another user ---------------------------------------------------------------------------------

configure
if [ "$(id -u)" = 0 ]; then
	install -d -o $nobody "$folder/home"
	state=$folder/home/state
	as_user $nobody
	doctor 1 && silent && line fail CAP_BPF && line fail CAP_PERFMON && each_fail_has_a_fix && summary
	ok without_rights_the_doctor_fails_and_each_failure_has_a_fix
	[ "$(reason_of CAP_BPF)" = "CAP_BPF and CAP_PERFMON are missing (not root). fix: run talead as root, or: sudo setcap cap_bpf,cap_perfmon+ep $folder/bin/talead" ]
	ok the_message_names_the_missing_rights_and_what_to_type
	line skip raw_tp && prints 'not tried without CAP_BPF and CAP_PERFMON' && ! line ok tp_btf
	ok a_check_that_cannot_be_tried_is_skipped_and_is_no_failure
	[ "$(reason_of 'probes context_switches, [^:]*')" = "$(reason_of CAP_BPF)" ]
	ok the_probes_fail_for_the_same_reason_and_fix
	as_user $nobody bpf
	doctor 1 && line ok CAP_BPF && prints 'fail  CAP_PERFMON: CAP_PERFMON is missing (have: CAP_BPF). fix: ' && summary
	ok with_cap_bpf_alone_the_other_is_named
	as_user $nobody bpf perfmon
	doctor 0 && line ok CAP_BPF && line ok CAP_PERFMON && line ok raw_tp && line ok 'keys read without capabilities' &&
		line skip CAP_SYS_ADMIN && line skip statistics && line skip pins && prints 'mount -t bpf' && summary
	ok two_capabilities_are_enough_and_the_lines_name_what_is_lost
	[ ! -e "$state" ]; ok the_state_folder_is_not_made
	install -d -o $nobody -m 700 "$state" "$state/bpf"
	mount -t bpf -o mode=700 bpf "$state/bpf" && chown $nobody "$state/bpf" && doctor 0 && line ok pins &&
		line ok 'keys of processes' && prints "$state/bpf is mounted, 0 probes are pinned in it"
	ok a_bpffs_mounted_for_it_brings_pins_and_freed_keys
	umount "$state/bpf"
	state=/proc/nothing
	doctor 1 && line fail 'state folder' && each_fail_has_a_fix; ok a_state_folder_that_cannot_exist_is_a_failure
	state=$folder/state as=()
	if ! why=$(unshare -U -r true 2>&1); then # as in a chroot
		skip in_a_user_namespace_the_reason_names_it "${why##*: }"
	else
		as=(unshare -U -r)
		doctor 1 && line 'fail' 'bpf\(\)' && line skip raw_tp &&
			prints 'talead runs in a user namespace, where its capabilities do not count. fix: '
		ok in_a_user_namespace_the_reason_names_it
	fi
	as=(unshare -p --fork --mount-proc)
	doctor 0 && line skip 'pid namespace' && line skip 'keys of processes'
	ok in_a_pid_namespace_the_keys_of_processes_are_skipped_with_a_reason
	as=()
else
	doctor 1 && line fail CAP_BPF && each_fail_has_a_fix && summary
	ok without_rights_the_doctor_fails_and_each_failure_has_a_fix
	skip the_rest 'only root may try what rights allow'
	finish
fi

# --- all that this kernel allows ------------------------------------------------------------------

mounts() { sort /proc/self/mountinfo; }
mounted=$(mounts)
if doctor 0 && silent; then
	none fail && summary && line ok CAP_BPF && line ok CAP_PERFMON && line ok CAP_SYS_ADMIN && line ok 'bpf\(\)' &&
		line ok raw_tp && line ok 'counts mapped and frozen' && line ok 'keys freed with what they held' &&
		line ok 'tail call' && line ok bpffs && line ok pins && line ok 'state folder' && line ok 'probes context_switches.*'
	ok root_has_everything_that_the_default_needs
else
	skip root_has_everything_that_the_default_needs "not on this kernel: $(grep '^fail' "$folder/out" | head -n 1)"
fi
! grep -vE '^(ok  |skip|fail)  [^ ].*$|^[a-z ]+$|^[0-9]+ ok, ' "$folder/out"; ok each_line_is_a_finding_a_group_or_the_summary
[ "$(mounts)" = "$mounted" ] && [ ! -e "$folder/state" ]; ok no_mount_and_no_folder_remains
cp "$folder/out" "$folder/lines"
doctor "$(grep -q ^fail "$folder/lines"; echo $((1 - $?)))" --json && json '.schema == 1 and
	.failed == ([.checks[] | select(.state == "fail")] | length) and
	all(.checks[]; (keys == ["fix", "group", "state", "what", "why"]) and (.fix == "" or .state != "ok"))'
ok json_has_the_documented_keys
jq -r '.checks[] | (.state + "    ")[:4] + "  " + .what + (if .why != "" then ": " + .why else "" end) +
	(if .fix != "" then ". fix: " + .fix else "" end)' "$folder/out" >"$folder/json_lines"
diff <(grep -E '^(ok|skip|fail) ' "$folder/lines") "$folder/json_lines" >"$folder/err"; ok json_and_lines_have_the_same_findings

# The test counts the programs of a user that no other process has: programs of others come and go.
programs() { "$bpftool" -j prog show 2>/dev/null | jq "[.[] | select(.uid == $single)] | length"; }
are_programs() { [ "$(programs)" -gt 0 ]; }
are_none() { [ "$(programs)" = 0 ]; }
bpftool=$(PATH=$PATH:/usr/sbin:/sbin command -v bpftool)
if [ -n "$bpftool" ]; then
	single=64321
	as_user $single bpf perfmon sys_admin
	daemon_as=("${as[@]}") state=$folder/single/state
	install -d -o $single "$folder/single"
	export TALEA_SOCKET=$folder/single/sock
	configure
	start
	soon are_programs; ok a_daemon_has_programs_that_this_test_can_see
	stop
	"$talead" -c "$folder/talea.conf" --unpin >/dev/null 2>&1
	umount -l "$state/bpf" 2>/dev/null
	soon are_none && doctor 0 && line ok bpffs && soon are_none
	ok of_the_doctor_s_programs_none_remains
	export TALEA_SOCKET=$folder/sock
	as=() daemon_as=() state=$folder/state
else
	skip of_the_doctor_s_programs_none_remains 'bpftool is missing'
fi

# --- what is missing ------------------------------------------------------------------------------

configure
ends 1 unshare -m --propagation private bash -c "mount -t tmpfs none /sys/kernel/btf &&
	exec '$talead' -c '$folder/talea.conf' --doctor" && line fail 'type information' && line fail tp_btf && each_fail_has_a_fix &&
	[ "$(reason_of tp_btf)" = 'this kernel has no type information (/sys/kernel/btf/vmlinux: No such file or directory). fix: boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as Debian'"'"'s is' ]
ok without_type_information_tp_btf_fails_and_says_why
line ok raw_tp && line ok 'probes forks, .*' && line skip fentry; ok checks_without_type_information_still_pass
configure 'bpf = off'
doctor 0 && none fail && summary && prints 'probes: bpf = off' && line skip raw_tp && line skip 'tail call' &&
	line skip pins && line skip 'bpf\(\)' && ! line ok '(raw_tp|tp_btf|uprobe.*|statistics|bpffs|pins|keys.*)'
ok with_bpf_off_no_check_of_bpf_is_tried
configure 'probes = none'
doctor 0 && none fail && line skip probes && line ok raw_tp; ok with_probes_none_every_check_is_tried_and_none_fails
configure 'pin = no'
doctor 0 && line skip pins && prints 'pins: pin = no'; ok with_pin_no_pins_are_skipped_with_that_reason
chmod o+w "$folder/bin"
state=$folder/bin doctor 1 && line fail 'state folder' && prints '. fix: chmod go-w '; ok a_state_folder_that_others_may_write_is_a_failure
chmod o-w "$folder/bin"

# --- reasons of the daemon ------------------------------------------------------------------------

configure 'probes = none' '[probe typo]' 'attach = tp_btf:sched_swich' '[probe gone]' 'attach = uprobe:libc.so.6:no_such' \
	'[probe works]' 'attach = raw_tp:sched_process_exec by comm'
doctor 1 && line fail 'probe typo' && line fail 'probe gone' && line ok 'probe works' && each_fail_has_a_fix && summary
ok a_probe_of_the_configuration_that_fails_is_a_failure
prints 'did you mean sched_switch'; ok the_message_has_a_similar_name
cp "$folder/out" "$folder/lines"
start
probes() { run 0 probes --json; }
probes
cp "$folder/out" "$folder/daemon"
same=0
for name in typo gone; do
	reason=$(jq -r ".probes[] | select(.name == \"$name\") | .reason + \". fix: \" + .fix" "$folder/daemon")
	cp "$folder/lines" "$folder/out"
	[ -n "$reason" ] && [ "$reason" = "$(reason_of "probe $name")" ] && same=$((same + 1))
done
[ $same = 2 ]; ok the_daemon_reports_the_same_reason_and_fix
before=$(mounts)
doctor 1 && [ "$(mounts)" = "$before" ] && line ok pins && prints "$folder/state/bpf is mounted, 1 probe is pinned in it"
ok the_doctor_sees_the_pins_of_a_running_daemon
probes && json '[.probes[] | select(.state == "attached") | .name] == ["works"]'; ok the_doctor_leaves_the_pins_of_a_running_daemon_as_they_are

# --- the command ----------------------------------------------------------------------------------

run 1 doctor && silent && line ok CAP_BPF && line ok daemon && line fail 'probe typo'
ok talea_doctor_adds_the_findings_of_the_daemon
run 1 doctor --json
json '.schema == 1 and (.checks | length) > 20 and (.daemon | length) > 1'; ok json_of_talea_doctor_is_one_object_with_both
run 0 attach 'starts_total=raw_tp:sched_process_exec by pid max 1'
for _ in 1 2 3 4 5; do "$talea" --version >/dev/null 2>&1; done
is_warned() {
	run 1 doctor
	line warn 'probe starts' && prints "fix: talea detach starts, then talea attach 'starts_total=raw_tp:sched_process_exec by pid max 2'"
}
soon is_warned; ok a_probe_without_room_for_its_keys_is_a_warning_with_what_to_type
run 0 detach starts
stop
umount -l "$folder/state/bpf" 2>/dev/null
run 1 doctor
line skip daemon && line ok raw_tp; ok without_a_daemon_talea_doctor_tries_every_check
finish
