#!/bin/bash
# `talea doctor`: what it says where everything is there and where something lacks, in the words of the
# daemon, as lines and as JSON; and that it leaves nothing. TAP. Ends what it starts, by pid.
set -u
if [ "$(id -u)" = 0 ] && [ -z "${TALEA_DOCTOR_INSIDE-}" ]; then
	TALEA_DOCTOR_INSIDE=1 exec unshare -m --propagation private "$0" "$@"
fi
cd "$(dirname "$0")/../.." || exit 1
build=${TALEA_BUILD:-$PWD/.build/dev}
nr=0 keeper='' as=() nobody=65534
folder=$(mktemp -d "${TMPDIR:-/tmp}/talea-doctor.XXXXXX") || exit 1
chmod 755 "$folder"
mkdir "$folder/bin"
# A folder that another user can reach; talea finds the talead beside it.
cp "$build/talea" "$build/talead" "$folder/bin/" || exit 1
export LC_ALL=C.UTF-8
unset TALEA_NAMESPACE TALEA_SOCKET

# shellcheck disable=SC2317 # the trap calls it
cleanup() {
	stop
	umount -l "$folder/state/bpf" "$folder/single/state/bpf" "$folder/home/state/bpf" 2>/dev/null
	rm -rf "$folder"
}
stop() {
	[ -z "$keeper" ] || { kill "$keeper"; wait "$keeper"; } 2>/dev/null
	keeper=''
}
trap cleanup EXIT
trap 'exit 1' INT TERM

ok() { # ok NAME: of the last command
	local rc=$?
	nr=$((nr + 1))
	[ $rc = 0 ] && { echo "ok $nr - $1"; return; }
	echo "not ok $nr - $1"
	sed 's/^/# out: /' "$folder/out" | head -n 60
	sed 's/^/# err: /' "$folder/err" | head -n 20
	echo "# exit: $rc_seen"
}
skip() { nr=$((nr + 1)); echo "ok $nr - $1 # SKIP $2"; }

# configure LINE...: what the next doctor, and the next daemon, are asked for.
configure() { printf '%s\n' '[daemon]' "$@" >"$folder/conf"; }
# doctor EXIT ARGUMENT...: talead's, with its lines kept; true when it ends with EXIT.
doctor() {
	local want=$1
	shift
	timeout 20 "${as[@]}" "$folder/bin/talead" -c "$folder/conf" --state "${state:-$folder/state}" \
		--socket "$folder/sock" --doctor "$@" >"$folder/out" 2>"$folder/err"
	rc_seen=$?
	[ $rc_seen = "$want" ]
}
silent() { [ ! -s "$folder/err" ]; }
says() { grep -qF -- "$1" "$folder/out"; }		    # says TEXT: in any line
line() { grep -qE -- "^$1 +$2(: |\$)" "$folder/out"; }	    # line STATE WHAT
none() { ! grep -qE "^$1 " "$folder/out"; }		    # none STATE
json() { jq -e "$1" "$folder/out" >/dev/null; }
summary() { # the last line has the numbers of the lines above it
	[ "$(tail -n 1 "$folder/out")" = "$(grep -c '^ok ' "$folder/out") ok, $(grep -c '^skip ' "$folder/out") skipped, $(
		grep -c '^fail ' "$folder/out") failed" ]
}
each_fail_has_a_fix() { ! grep '^fail ' "$folder/out" | grep -qvF '. fix: '; }
words_of() { sed -nE "s/^fail +$1: //p" "$folder/out"; }    # words_of WHAT: reason and fix

# --- another user ---------------------------------------------------------------------------------

configure
if [ "$(id -u)" = 0 ]; then
	caps() { # caps CAPABILITY,...: all that the next doctor has
		as=(setpriv "--reuid=$nobody" "--regid=$nobody" --clear-groups "--inh-caps=-all$1" "--ambient-caps=-all$1")
	}
	install -d -o $nobody "$folder/home"
	state=$folder/home/state
	caps ''
	doctor 1 && silent && line fail CAP_BPF && line fail CAP_PERFMON && each_fail_has_a_fix && summary
	ok without_rights_it_fails_and_each_failure_has_a_fix
	[ "$(words_of CAP_BPF)" = "CAP_BPF and CAP_PERFMON are missing (not root). fix: run talead as root, or: sudo setcap cap_bpf,cap_perfmon+ep $folder/bin/talead" ]
	ok the_missing_rights_are_told_with_what_to_type
	line skip raw_tp && says 'not tried without CAP_BPF and CAP_PERFMON' && ! line ok tp_btf
	ok what_cannot_be_tried_is_no_failure_of_its_own
	[ "$(words_of 'probes context_switches, [^:]*')" = "$(words_of CAP_BPF)" ]
	ok the_probes_fail_in_the_same_words
	caps ,+bpf
	doctor 1 && line ok CAP_BPF && says 'fail  CAP_PERFMON: CAP_PERFMON is missing (have: CAP_BPF). fix: ' && summary
	ok with_cap_bpf_alone_the_other_is_named
	caps ,+bpf,+perfmon
	doctor 0 && line ok CAP_BPF && line ok CAP_PERFMON && line ok raw_tp && line ok 'keys read without capabilities' &&
		line skip CAP_SYS_ADMIN && line skip statistics && line skip pins && says 'mount -t bpf' && summary
	ok two_capabilities_are_enough_and_what_is_lost_is_told
	[ ! -e "$state" ]; ok the_state_folder_is_not_made
	install -d -o $nobody -m 700 "$state" "$state/bpf"
	mount -t bpf -o mode=700 bpf "$state/bpf" && chown $nobody "$state/bpf" && doctor 0 && line ok pins &&
		line ok 'keys of processes' && says "$state/bpf is mounted, 0 probes are pinned in it"
	ok a_bpffs_mounted_for_it_brings_pins_and_freed_keys
	umount "$state/bpf"
	state=/proc/nothing
	doctor 1 && line fail 'state folder' && each_fail_has_a_fix; ok a_state_folder_that_cannot_be_is_a_failure
	state='' as=()
	if ! why=$(unshare -U -r true 2>&1); then # as in a chroot
		skip in_a_user_namespace_that_is_what_it_says "${why##*: }"
	else
		as=(unshare -U -r)
		doctor 1 && line 'fail' 'bpf\(\)' && line skip raw_tp &&
			says 'talead runs in a user namespace, where its capabilities do not count. fix: '
		ok in_a_user_namespace_that_is_what_it_says
	fi
	as=(unshare -p --fork --mount-proc)
	doctor 0 && line skip 'pid namespace' && line skip 'keys of processes'
	ok in_a_pid_namespace_it_tells_what_that_does_to_keys
	as=()
else
	doctor 1 && line fail CAP_BPF && each_fail_has_a_fix && summary
	ok without_rights_it_fails_and_each_failure_has_a_fix
	skip the_rest 'only root may try what rights allow'
	echo "1..$nr"
	exit
fi

# --- all that this kernel allows ------------------------------------------------------------------

mounts() { sort /proc/self/mountinfo; }
mounted=$(mounts)
if doctor 0 && silent; then
	none fail && summary && line ok CAP_BPF && line ok CAP_PERFMON && line ok CAP_SYS_ADMIN && line ok 'bpf\(\)' &&
		line ok raw_tp && line ok 'counts mapped and frozen' && line ok 'keys freed with what they held' &&
		line ok 'tail call' && line ok bpffs && line ok pins && line ok 'state folder' && line ok 'probes context_switches.*'
	ok root_has_all_that_the_default_asks_for
else
	skip root_has_all_that_the_default_asks_for "not on this kernel: $(grep '^fail' "$folder/out" | head -n 1)"
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
diff <(grep -E '^(ok|skip|fail) ' "$folder/lines") "$folder/json_lines" >"$folder/err"; ok json_and_lines_say_the_same

# By a user whom nobody else is: others' programs come and go.
programs() { "$bpftool" -j prog show 2>/dev/null | jq "[.[] | select(.uid == $single)] | length"; }
are_programs() { [ "$(programs)" -gt 0 ]; }
are_none() { [ "$(programs)" = 0 ]; }
soon() {
	local until=$((SECONDS + 10))
	until "$@"; do
		[ $SECONDS -lt $until ] || return 1
		sleep 0.1
	done
}
bpftool=$(PATH=$PATH:/usr/sbin:/sbin command -v bpftool)
if [ -n "$bpftool" ]; then
	single=64321
	caps='-all,+bpf,+perfmon,+sys_admin'
	as=(setpriv --reuid="$single" --regid="$single" --clear-groups --inh-caps="$caps" --ambient-caps="$caps")
	install -d -o $single "$folder/single"
	"${as[@]}" "$folder/bin/talead" -c "$folder/conf" --state "$folder/single/state" --socket "$folder/single/sock" \
		>"$folder/log" 2>&1 </dev/null &
	keeper=$!
	cp "$folder/log" "$folder/err"
	soon are_programs; ok a_daemon_has_programs_that_this_test_can_see
	stop
	"$folder/bin/talead" -c "$folder/conf" --state "$folder/single/state" --unpin >/dev/null 2>&1
	umount -l "$folder/single/state/bpf" 2>/dev/null
	soon are_none && state=$folder/single/state doctor 0 && line ok bpffs && soon are_none
	ok of_the_doctor_s_programs_none_remains
	as=()
else
	skip of_the_doctor_s_programs_none_remains 'bpftool is missing'
fi

# --- what lacks -----------------------------------------------------------------------------------

unshare -m --propagation private bash -c "mount -t tmpfs none /sys/kernel/btf && exec timeout 20 '$folder/bin/talead' \
	-c '$folder/conf' --state '$folder/state' --socket '$folder/sock' --doctor" >"$folder/out" 2>"$folder/err"
rc_seen=$?
[ $rc_seen = 1 ] && line fail 'type information' && line fail tp_btf && each_fail_has_a_fix &&
	[ "$(words_of tp_btf)" = 'this kernel has no type information (/sys/kernel/btf/vmlinux: No such file or directory). fix: boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as Debian'"'"'s is' ]
ok without_type_information_tp_btf_fails_and_says_why
line ok raw_tp && line ok 'probes forks, .*' && line skip fentry; ok what_needs_none_works_on
configure 'bpf = off'
doctor 0 && none fail && summary && says 'probes: bpf = off' && line skip raw_tp && line skip 'tail call' &&
	line skip pins && line skip 'bpf\(\)' && ! line ok '(raw_tp|tp_btf|uprobe.*|statistics|bpffs|pins|keys.*)'
ok with_bpf_off_nothing_of_it_is_tried
configure 'probes = none'
doctor 0 && none fail && line skip probes && line ok raw_tp; ok with_no_probe_asked_for_all_is_tried_and_none_fails
configure 'pin = no'
doctor 0 && line skip pins && says 'pins: pin = no'; ok pin_no_is_told
chmod o+w "$folder/bin"
state=$folder/bin doctor 1 && line fail 'state folder' && says '. fix: chmod go-w '; ok a_state_folder_that_others_may_write_is_a_failure
chmod o-w "$folder/bin"

# --- the words of the daemon ----------------------------------------------------------------------

configure 'probes = none' '[probe typo]' 'attach = tp_btf:sched_swich' '[probe gone]' 'attach = uprobe:libc.so.6:no_such' \
	'[probe works]' 'attach = raw_tp:sched_process_exec by comm'
doctor 1 && line fail 'probe typo' && line fail 'probe gone' && line ok 'probe works' && each_fail_has_a_fix && summary
ok a_probe_of_the_configuration_that_fails_is_a_failure
says 'did you mean sched_switch'; ok a_name_alike_is_offered
cp "$folder/out" "$folder/lines"
"$folder/bin/talead" -c "$folder/conf" --state "$folder/state" --socket "$folder/sock" >"$folder/log" 2>&1 </dev/null &
keeper=$!
export TALEA_SOCKET=$folder/sock
probes() { timeout 10 "$folder/bin/talea" probes --json >"$folder/out" 2>"$folder/err"; }
until probes || [ $SECONDS -gt 60 ]; do sleep 0.1; done
cp "$folder/out" "$folder/daemon"
same=0
for name in typo gone; do
	words=$(jq -r ".probes[] | select(.name == \"$name\") | .reason + \". fix: \" + .fix" "$folder/daemon")
	cp "$folder/lines" "$folder/out"
	[ -n "$words" ] && [ "$words" = "$(words_of "probe $name")" ] && same=$((same + 1))
done
[ $same = 2 ]; ok the_daemon_says_the_same_of_it
before=$(mounts)
doctor 1 && [ "$(mounts)" = "$before" ] && line ok pins && says "$folder/state/bpf is mounted, 1 probe is pinned in it"
ok beside_a_running_daemon_its_pins_are_seen
probes && json '[.probes[] | select(.state == "attached") | .name] == ["works"]'; ok and_left_as_they_are

# --- the command ----------------------------------------------------------------------------------

timeout 20 "$folder/bin/talea" doctor >"$folder/out" 2>"$folder/err"
rc_seen=$?
[ $rc_seen = 1 ] && silent && line ok CAP_BPF && line ok daemon && line fail 'probe typo'
ok talea_doctor_adds_what_the_daemon_says
timeout 20 "$folder/bin/talea" doctor --json >"$folder/out" 2>"$folder/err"
json '.schema == 1 and (.checks | length) > 20 and (.daemon | length) > 1'; ok its_json_is_one_object_with_both
"$folder/bin/talea" attach 'starts_total=raw_tp:sched_process_exec by pid max 1' >"$folder/out" 2>"$folder/err"
for _ in 1 2 3 4 5; do "$folder/bin/talea" --version >/dev/null 2>&1; done
is_told() {
	timeout 20 "$folder/bin/talea" doctor >"$folder/out" 2>"$folder/err"
	line warn 'probe starts' && says "fix: talea detach starts, then talea attach 'starts_total=raw_tp:sched_process_exec by pid max 2'"
}
soon is_told; ok a_probe_without_room_for_its_keys_is_a_warning_with_what_to_type
"$folder/bin/talea" detach starts >/dev/null 2>&1
stop
umount "$folder/state/bpf" 2>/dev/null
"$folder/bin/talea" doctor >"$folder/out" 2>"$folder/err"
line skip daemon && line ok raw_tp; ok without_a_daemon_all_is_tried_the_same
echo "1..$nr"
