#!/bin/bash
# How talead reads valid and invalid configurations: --check-config and --print-config. TAP.
# shellcheck source=tests/lib/shell.bash
. "$(dirname "$0")/../lib/shell.bash"
export XDG_RUNTIME_DIR=$folder HOME=$folder

# check EXIT: talead checks the configuration on stdin.
check() {
	cat >"$folder/t.conf"
	ends "$1" "$talead" -c "$folder/t.conf" --check-config
}
# refused NAME LINE TEXT: talead refuses the configuration on stdin; its message has the line and the text.
refused() {
	check 1 && grep -F -- "t.conf:$2: " "$folder/err" | grep -qF -- "$3"
	ok "$1"
}
print() { ends 0 "$talead" "$@" --print-config; }

# --- invalid ones: the message has file, line and what was expected

refused unknown_key_is_refused_with_the_nearest 2 'unknown key flod in [daemon] (did you mean fold?)' \
	<<<$'[daemon]\nflod = 10ms'
refused unknown_section_is_refused_with_the_nearest 1 \
	'unknown section [deamon] (did you mean daemon?); expected [daemon], [namespace NAME]' <<<'[deamon]'
refused empty_section_of_an_unknown_kind_is_refused 2 'unknown section [http]' <<<$'[daemon]\n[http]'
refused key_before_any_section_is_refused 1 'fold stands before the first section' <<<'fold = 10ms'
refused line_without_a_value_is_refused 2 'expected KEY = VALUE or [SECTION]' <<<$'[daemon]\nfold'
refused section_that_is_not_closed_is_refused 1 'expected ]' <<<'[daemon'
refused time_without_unit_is_refused 2 'a time needs its unit' <<<$'[daemon]\nfold = 10'
refused time_out_of_range_is_refused 2 'expected a time from 1ms to 10s' <<<$'[daemon]\nfold = 11s'
refused huge_number_is_refused 2 'expected a time' <<<$'[daemon]\nfold = 99999999999999999999s'
refused percent_out_of_range_is_refused 2 'expected a share of one core' <<<$'[daemon]\nfold-cpu = 101%'
refused unknown_user_is_refused 2 'there is no user no-such-user' <<<$'[daemon]\nuser = no-such-user'
refused unknown_group_is_refused 2 'there is no group no-such-group' \
	<<<$'[namespace web]\ngroups = root, no-such-group'
refused unknown_probe_is_refused_with_the_nearest 2 'did you mean context_switches?' \
	<<<$'[daemon]\nprobes = context_swiches'
refused unknown_admin_is_refused 2 'there is no user no-such-user' <<<$'[daemon]\nadmins = root, no-such-user'
refused heat_other_than_auto_yes_and_no_is_refused 2 'expected auto, yes or no' <<<$'[counter *]\nhot = on'
refused ttl_without_unit_is_refused 2 'a time needs its unit' <<<$'[counter *]\nttl = 10'
refused ttl_with_a_fraction_of_a_second_is_refused 2 'expected whole seconds' <<<$'[counter *]\nttl = 1500ms'
refused ttl_beyond_ten_years_is_refused 2 'expected whole seconds' <<<$'[counter *]\nttl = 99999d'
refused key_of_another_section_is_refused 2 'unknown key hot in [daemon]' <<<$'[daemon]\nhot = yes'
refused relative_path_is_refused 2 'expected an absolute path' <<<$'[daemon]\nstate = here'
refused rows_above_the_lane_are_refused 2 'expected a number from 0 to 131584' \
	<<<$'[namespace default]\nrows-max = 131585'
refused nameless_namespace_is_refused 1 'expected [namespace NAME]' <<<'[namespace]'
refused namespace_with_a_slash_is_refused 1 'expected [namespace NAME]' <<<'[namespace a/b]'
refused globless_counter_is_refused 1 'expected [counter GLOB]' <<<'[counter]'
refused key_set_twice_is_refused 3 'fold is set twice in this file, first in line 2' \
	<<<$'[daemon]\nfold = 10ms\nfold = 20ms'
refused comment_behind_a_value_is_refused_with_a_fix 2 'a comment stands on a line of its own' \
	<<<$'[daemon]\nfold = 10ms ; often'
refused more_users_than_fit_are_refused 2 'more than 16 users' \
	<<<$'[namespace web]\nusers = '"$(seq -s ' ' 17)"
refused overlong_line_is_refused_and_not_split 2 'the line is longer than 4096 bytes' \
	< <(printf '[daemon]\nstate = /%05000d\nfold = 10ms\n' 0)
refused socket_path_longer_than_the_kernel_takes_is_refused 2 'the path has 111 bytes, at most 107 fit' \
	< <(printf '[daemon]\nsocket = /%0110d\n' 0)

# --- [probe NAME]

refused nameless_probe_is_refused 1 'expected [probe NAME]' <<<'[probe]'
refused probe_called_like_one_of_the_table_is_refused 1 "forks is a probe of talead's own" \
	<<<$'[probe forks]\nattach = raw_tp:sched_process_fork'
refused unknown_event_is_refused_with_the_nearest 2 'there is no event rawtp (did you mean raw_tp?)' \
	<<<$'[probe p]\nattach = rawtp:sys_enter'
refused unknown_key_of_a_probe_is_refused_with_the_nearest 2 'there is no field com (did you mean comm?)' \
	<<<$'[probe p]\nattach = raw_tp:sys_enter by com'
refused probe_that_attaches_nothing_is_refused_in_the_line_where_it_begins 3 '[probe q]: expected attach = EVENT or object' \
	<<<$'[probe p]\nattach = raw_tp:sys_enter\n[probe q]'
refused probe_of_two_kinds_is_refused 1 'expected attach or object, not both' \
	<<<$'[probe p]\nattach = raw_tp:sys_enter\nobject = /x.bpf.o'
refused keys_that_an_object_sets_itself_are_refused_beside_it 1 'do not go with object' \
	<<<$'[probe p]\nobject = /x.bpf.o\nhelp = Things.'
refused object_by_a_relative_path_is_refused 2 'expected an absolute path to a BPF object' \
	<<<$'[probe p]\nobject = x.bpf.o'
refused maximum_of_keys_without_keys_is_refused 1 'keys-max without keys' \
	<<<$'[probe p]\nattach = raw_tp:sys_enter\nkeys-max = 9'
refused more_keys_than_the_kernel_should_hold_are_refused 3 'expected a number from 1 to 1048576' \
	<<<$'[probe p]\nattach = raw_tp:sys_enter by tgid\nkeys-max = 1048577'
refused name_of_a_counter_follows_the_rules 3 "a counter's name ends in _total: calls_total" \
	<<<$'[probe p]\nattach = raw_tp:sys_enter\ncounter = calls'
refused two_probes_with_one_counter_are_refused 3 'its counter probe_sys_enter_total is that of [probe p]' \
	<<<$'[probe p]\nattach = raw_tp:sys_enter\n[probe q]\nattach = raw_tp:sys_enter by comm'
refused pin_other_than_auto_and_no_is_refused 2 'expected auto or no' <<<$'[daemon]\npin = yes'

ends 1 "$talead" --socket "/$(printf '%0110d' 0)" --check-config && says 'at most 107 fit'
ok overlong_socket_on_the_command_line_is_refused

check 1 <<<$'[daemon]\nfold = x\nbpf = y\nflod = z' && [ "$(wc -l <"$folder/err")" = 3 ]
ok every_mistake_in_a_file_is_printed

check 1 < <(head -c 600 /dev/urandom)
ok noise_is_refused
check 1 < <(printf '[daemon]\nfold = 10ms\0\n') && says 'NUL byte'
ok file_with_a_nul_byte_is_refused

ends 1 "$talead" -c "$folder/none.conf" --check-config && says 'cannot be opened'
ok file_on_the_command_line_must_exist
ends 1 "$talead" -c "$folder" --check-config && says 'not a file'
ok folder_is_no_configuration_file

check 0 <<<'[daemon]' && chmod o+w "$folder/t.conf" &&
	ends 1 "$talead" -c "$folder/t.conf" --check-config && says 'fix: chmod go-w'
ok file_that_others_may_write_is_refused
rm -f "$folder/t.conf"
if [ "$(id -u)" = 0 ]; then
	check 0 <<<'[daemon]' && chown 4242 "$folder/t.conf" &&
		ends 1 "$talead" -c "$folder/t.conf" --check-config && says 'owned by uid 4242'
	ok file_of_another_user_is_refused
	rm -f "$folder/t.conf"
else
	skip file_of_another_user_is_refused 'needs root'
fi

ends 2 "$talead" --flod
ok unknown_option_is_a_usage_error
ends 2 "$talead" --stop --check-config
ok two_actions_are_a_usage_error

# --- valid ones

me=$(id -un)
long=$(printf 'n%.0s' {1..47})
cat >"$folder/all.conf" <<END
; a comment
# another
[daemon]
  socket = $folder/with blank ; and more
state=$folder/state
user = $me
admins = root, 4243
fold = 1500us
fold-cpu = 2.5%
bpf = auto
probes = syscalls, context_switches
[namespace $long]
users =
read-users = root, 4242
counters-max = 7
rows-max = 0
[namespace empty]
[counter likes_total{post="[1-9]*"}]
labels-max = 12
[counter busy_*]
hot = yes
ttl = 90s
[counter quiet_*]
ttl = 0
[probe execs_by_command]
attach = raw_tp:sched_process_exec by comm if uid != 0 max 100
[probe allocated]
attach = uprobe:libc.so.6:malloc by tgid add arg0
counter = malloc_bytes_total
help = What malloc was asked for; all of it.
keys-max = 99
[probe mine]
object = $folder/mine.bpf.o
END
print -c "$folder/all.conf" && prints "socket = $folder/with blank ; and more" && prints 'fold = 1500us' &&
	prints 'fold-cpu = 2.5%' && prints 'probes = context_switches, syscalls'
ok values_are_printed_as_they_were_read
prints "[namespace $long]" && prints '[counter likes_total{post="[1-9]*"}]' && prints '[namespace empty]'
ok long_section_names_are_not_cut_and_empty_sections_count
prints 'read-users = root, 4242' && has_line 'users ='
ok users_are_printed_by_name_and_an_empty_list_is_not_the_default
prints 'counters-max-per-uid = 7'
ok quota_of_a_user_is_the_namespace_s_when_unset
prints "# $folder/all.conf:7" && prints '# default'
ok each_value_is_printed_with_its_file_and_line

prints 'admins = root, 4243' && prints 'hot = yes' && prints 'ttl = 90s' && prints 'ttl = 0'
ok admins_heat_and_times_to_live_are_printed_as_they_were_read
prints '# hot: as the other sections say' && prints '# ttl: as the other sections say' &&
	prints '# labels-max: as the other sections say'
ok keys_that_a_rule_does_not_set_are_printed_as_such

prints 'attach = raw_tp:sched_process_exec by comm if uid != 0 max 100' && prints 'keys-max = 100' &&
	prints 'counter = probe_sched_process_exec_total' && prints 'help = Hits of tracepoint sched_process_exec, filtered.'
ok probes_are_printed_with_their_defaults
prints 'counter = malloc_bytes_total' && prints 'help = What malloc was asked for; all of it.' &&
	prints 'keys-max = 99' && prints "object = $folder/mine.bpf.o" && prints 'pin = auto'
ok probes_are_printed_as_they_were_read

cp "$folder/out" "$folder/again.conf"
print -c "$folder/again.conf" && diff <(grep -v '^#' "$folder/again.conf") <(grep -v '^#' "$folder/out")
ok a_printed_configuration_can_be_read_again_with_the_same_meaning

print -c "$folder/all.conf" --socket "$folder/s" --state rel && prints '# command line' &&
	prints "socket = $folder/s" && prints "state = $PWD/rel"
ok command_line_wins_and_its_paths_become_absolute
check 0 < <(printf '\xef\xbb\xbf[daemon]\r\nfold = 10ms\r\n')
ok byte_order_mark_and_dos_lines_are_read
check 0 <<<$'[daemon]\nbpf = off\nprobes = syscalls\n[probe p]\nattach = raw_tp:sys_enter' &&
	print -c "$folder/t.conf" && prints 'probes = none' && ! prints '[probe p]'
ok without_bpf_there_are_no_probes

check 0 <<<$'[daemon]\nprobes = default, syscalls, block_*' && print -c "$folder/t.conf" &&
	prints 'forks, execs, ' && prints ', syscalls, block_issued, block_completed, tcp_states, '
ok default_and_patterns_stand_for_several_probes
check 0 <<<$'[daemon]\nprobes = *' && print -c "$folder/t.conf" && prints 'lock_contention' &&
	prints 'probes = context_switches, task_migrations, ' && prints ', io_uring'
ok a_star_is_every_probe
refused a_pattern_that_no_probe_has_is_refused 2 'there is no probe disk_*' \
	<<<$'[daemon]\nprobes = disk_*'

# --- the default file and its folder, in a mount namespace with an /etc of its own

etc() { # etc COMMAND...
	# shellcheck disable=SC2016 # for the inner shell
	ends 0 unshare -m bash -c 'mount --bind "$1/etc" /etc && shift && "$@"' - "$folder" "$@"
}
mkdir "$folder/etc" && cp /etc/passwd /etc/group "$folder/etc"
if [ "$(id -u)" = 0 ] && etc true; then
	etc "$talead" --print-config && prints 'fold = 10ms'
	ok default_file_may_be_missing
	mkdir -p "$folder/etc/talea/conf.d"
	printf '[daemon]\nfold = 20ms\nfold-cpu = 7%%\n' >"$folder/etc/talea/talea.conf"
	printf '[daemon]\nfold = 40ms\n' >"$folder/etc/talea/conf.d/20-b.conf"
	printf '[daemon]\nfold = 30ms\n' >"$folder/etc/talea/conf.d/10-a.conf"
	echo nonsense >"$folder/etc/talea/conf.d/README"
	etc "$talead" --print-config && prints 'fold = 40ms' && prints '# /etc/talea/conf.d/20-b.conf:2' &&
		prints 'fold-cpu = 7%'
	ok later_files_of_the_folder_win
	etc "$talead" -c "$folder/all.conf" --print-config && prints 'fold-cpu = 2.5%' && prints 'fold = 1500us'
	ok file_on_the_command_line_is_the_only_one
else
	for name in default_file_may_be_missing later_files_of_the_folder_win \
		file_on_the_command_line_is_the_only_one; do
		skip $name 'needs a mount namespace'
	done
fi
finish
