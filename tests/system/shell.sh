#!/bin/bash
# tests/lib/shell.bash itself, by scripts that use it: they report a failure, they do not wait for ever, and
# nothing that they started outlives them. TAP.
# shellcheck source=tests/lib/shell.bash
. "$(dirname "$0")/../lib/shell.bash"

script() { # script EXIT: runs the script on stdin, which has the library; true when it ends with EXIT
	{
		echo ". '$PWD/tests/lib/shell.bash'"
		cat
	} >"$folder/script"
	ends "$1" bash "$folder/script"
}
results() { [ "$(grep -v '^#' "$folder/out")" = "$1" ]; } # results TAP: the script printed it, beside comments

script 1 <<<'true; ok good; run 2 --flod; false; ok bad; skip none "no need"; finish' && results 'ok 1 - good
not ok 2 - bad
ok 3 - none # SKIP no need
1..3' && has_line '# exit: 2' && prints '# err: '
ok a_failed_test_is_reported_with_the_last_command_and_the_script_ends_with_1
script 0 <<<'plan 1; true; ok good; finish' && results '1..1
ok 1 - good'
ok a_plan_is_printed_once
script 0 <<<'skip_all "no such machine"; ok never' && results '1..0 # SKIP no such machine'
ok a_script_that_skips_everything_ends_there
script 1 <<<'run 0 version && run 2 version; ok wrong; run 2 --flod && ! silent && out ""; ok right; finish' &&
	prints 'not ok 1 - wrong' && prints 'ok 2 - right'
ok a_command_with_another_exit_code_fails_its_test
script 1 <<<'patience=1; soon false; ok wait; ends 0 sleep 1000; ok command; finish' && results 'not ok 1 - wait
not ok 2 - command
1..2'
ok neither_a_wait_nor_a_command_lasts_longer_than_patience

is_left() { # a process or the folder that the script printed is still there
	local what
	while read -r what; do
		if [[ $what = /* ]]; then [ ! -e "$what" ]; else is_gone "$what"; fi || return 0
	done <"$folder/out"
	return 1
}
leaves='configure "probes = none" "pin = no"; start || exit 9; sleep 1000 & started+=($!)
	echo "$folder"; echo "${started[0]}"; members'
script 3 <<<"$leaves; exit 3" && [ "$(wc -l <"$folder/out")" = 5 ] && ! is_left
ok a_script_that_ends_early_leaves_no_daemon_no_program_and_no_folder
script 1 <<<"$leaves; kill -TERM \$\$" && [ "$(wc -l <"$folder/out")" = 5 ] && ! is_left
ok a_script_that_is_terminated_leaves_none_of_them
script 0 <<<'sleep 1000 >/dev/null 2>&1 & echo $!' && is_left
ok control_a_program_that_the_library_does_not_know_is_seen
kill "$(cat "$folder/out")"
script 1 <<<'configure "flod = 1ms"; start; ok up; finish' && prints 'not ok 1 - up' && prints 'unknown key flod'
ok a_daemon_that_cannot_start_fails_its_test_with_its_log
if command -v tmux >/dev/null; then
	script 1 <<<'terminal_open 80 10; type_line "echo on\$((1))e; sleep 1"; shows "^on1e"; ok shown
		prompts && type_line "echo two" && shows "^two" && hides on1e; ok cleared
		patience=1; shows three; ok missing; finish' && results 'ok 1 - shown
ok 2 - cleared
not ok 3 - missing
1..3'
	ok a_line_is_typed_when_the_last_command_has_ended
else
	skip a_line_is_typed_when_the_last_command_has_ended 'tmux is missing'
fi
finish
