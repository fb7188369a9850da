#!/bin/bash
# The command line with a private daemon: stdout, exit codes, JSON, pipes, and the live view in a terminal of
# tmux. TAP.
# shellcheck source=tests/lib/shell.bash
. "$(dirname "$0")/../lib/shell.bash"

configure 'probes = none' 'pin = no' '[namespace default]' "users = $(id -u)" 'read-users = 65532' \
	'[namespace other]' "users = $(id -u)"

# --- without a daemon -----------------------------------------------------------------------------

for verb in status list get watch probes drift; do
	run 3 $verb && says 'no daemon answers' && out ''
	ok "${verb}_without_a_daemon_ends_with_3_and_says_what_to_do"
done
run 3 add x_total && says talead; ok add_without_a_daemon_ends_with_3
run 3 && says 'talea help'; ok talea_alone_without_a_daemon_ends_with_3
run 3 attach raw_tp:sched_process_exec && says 'no daemon answers'; ok attach_without_a_daemon_ends_with_3
run 3 detach sched_process_exec && says 'no daemon answers'; ok detach_without_a_daemon_ends_with_3
run 0 version && silent; ok version_needs_no_daemon
run 2 statsu && says 'did you mean status?' && out ''; ok an_unknown_verb_gets_the_nearest
run 2 get --exlcude x && says 'did you mean --exclude?'; ok an_unknown_option_gets_the_nearest
run 2 version --sum && says 'does not take --sum'; ok an_option_of_another_verb_is_refused
run 2 add && says 'an argument is missing'; ok a_missing_argument_is_usage
run 2 get --max-age soon && says 'not a time'; ok a_bad_time_is_usage
run 2 get --watch=1us && says '10ms at least'; ok an_interval_too_short_is_usage
run 2 probes --cost=1h && says '10s at most'; ok a_measurement_that_takes_too_long_is_usage
run 2 attach && says 'an argument is missing'; ok attach_wants_what_to_attach
run 2 attach raw_tp:sched_process_exec by comm && says "try: talea attach 'raw_tp:sched_process_exec by comm'"
ok a_spec_without_quotes_is_usage_and_the_message_has_it_quoted
run 2 get --json=1 && says 'takes no value'; ok a_value_for_a_flag_is_usage
run 2 get --socket && says 'needs PATH'; ok an_option_without_its_value_is_usage
run 2 completion fish && says bash; ok a_shell_without_completion_is_usage
run 2 add 'x{' && says 'not a name'; ok a_name_that_does_not_parse_is_usage
for verb in version help completion; do
	run 0 $verb --json && json '.schema == 1'; ok "${verb}_prints_json_of_schema_1"
done

# --- adding and reading ---------------------------------------------------------------------------

start
run 0 add builds_total && out '' && silent; ok add_is_silent_in_a_pipe
run 0 get builds_total && out 1 && silent; ok one_counter_piped_is_the_bare_integer
run 0 add builds_total 41 --describe 'Not used.' && run 0 get builds_total && out 42
ok add_finds_a_counter_by_its_name
run 0 list --json builds_total && json '.counters[0].help == "Added from the shell."'
ok add_keeps_the_help_of_a_name_that_exists
run 0 add jobs -3 --describe 'Jobs that wait.' && run 0 get jobs && out -3; ok levels_go_below_zero
run 0 list --json jobs && json '.counters[0] | .type == "level" and .help == "Jobs that wait."'
ok a_new_name_takes_the_description
run 2 add builds_total -1 && says 'only goes up' && run 0 get builds_total && out 42
ok a_counter_refuses_to_go_down
run 2 add builds_total 1.5 && says 'whole number'; ok a_fraction_is_usage
run 2 add talea_overflow_total && says 'counted by talea itself' &&
	run 0 get talea_overflow_total && out 0; ok add_refuses_what_talea_counts
run 1 add 'Bad-Name_total' && ! silent; ok a_name_against_the_rules_is_refused_with_a_message
run 0 add 'calls_total{path="/a",code="200"}' 5 && run 0 add 'calls_total{code=500,path=/a}' 2 &&
	run 0 get calls_total && out 'calls_total{code="200",path="/a"} 5
calls_total{code="500",path="/a"} 2'
ok several_counters_are_lines_of_name_and_value
run 0 add 'door_total{via="door"}' --describe 'Rung once.' && run 0 add door_total &&
	run 0 get door_total && has_line 'door_total 1'
ok add_takes_the_help_of_another_label_set
run 0 get 'calls_total{code="5*"}' && out 2; ok labels_may_be_globs
run 0 get 'calls_total{code=500}' && out 2; ok quotes_that_the_shell_took_are_put_back
run 0 get '*_total' --exclude 'door_*' --exclude 'talea_*' --exclude 'calls_total{code=200}' &&
	out 'builds_total 42
calls_total{code="500",path="/a"} 2'
ok exclude_leaves_label_sets_out
run 0 get --sum builds_total && out 42; ok the_sum_is_the_same
run 0 list calls_total jobs && out 'jobs
calls_total{code="200",path="/a"}
calls_total{code="500",path="/a"}'
ok list_prints_names_in_order_of_registration
run 0 add big_total 9223372036854775807 && run 0 get big_total && out 9223372036854775807
ok values_are_exact_to_64_bits
run 4 get build_total && says 'did you mean builds_total?' && out ''; ok no_match_ends_with_4_and_the_nearest
run 4 get 'calls_total{code=404}' && says 'other labels'; ok no_match_of_labels_says_so
run 0 get builds_total --max-age 1h && out 42; ok a_total_that_is_young_enough_ends_with_0
run 5 get builds_total --max-age 1ns && says 'old' && out 42; ok a_stale_total_is_printed_and_ends_with_5
run 0 -n other get && run 0 add hidden_total -n other && run 4 get hidden_total
ok namespaces_are_separate
run 0 -n other get hidden_total && out 1; ok options_may_stand_before_the_verb
run 1 get -n nowhere && ! silent; ok an_unknown_namespace_is_refused_with_a_message

run 0 get talea_overflow_total && out 0; ok an_own_counter_that_is_zero_is_there_by_name
"$build/try/writer" "$folder/sock" likes &
writer=$!
soon run 0 get 'demo_likes_total{post=3}'
kill $writer && wait $writer
run 0 add 'demo_likes_total{post=3}' 0 && before=$("$talea" get 'demo_likes_total{post=3}') &&
	run 0 add 'demo_likes_total{post=3}' 5 && run 0 get 'demo_likes_total{post=3}' && out $((before + 5))
ok add_finds_a_member_of_a_family
run 0 add 'demo_likes_total{post=900}' 7 && run 0 get 'demo_likes_total{post="900"}' && out 7
ok add_makes_a_new_member_of_a_family
run 0 list --json demo_likes_total && json 'all(.counters[]; .help == "Likes of a post.")'
ok a_help_text_of_whole_words_ends_where_it_should
run 1 add 'demo_likes_total{post=x}' && says post; ok a_key_of_the_wrong_kind_is_refused_with_a_message

# --- JSON -----------------------------------------------------------------------------------------

for verb in get list; do
	run 0 $verb --json '*' && json '.schema == 1 and .namespace == "default" and (.epoch > 0) and
		(.as_of | test("^[0-9-]+T[0-9:.]+Z$")) and (.age_ns >= 0) and
		all(.counters[]; (keys - ["help"]) == ["hot", "how", "labels", "name", "origin", "rate",
		"state", "type", "value"])'
	ok "${verb}_json_has_the_documented_keys"
done
run 0 get --json 'calls_total{code=200}' &&
	json '.counters | length == 1 and .[0].labels == {"code": "200", "path": "/a"} and .[0].value == 5
		and .[0].how == "compacted" and .[0].state == "ok" and .[0].origin == "user"'
ok labels_are_an_object
run 0 add 'odd_total{text="a\"b\\c\nd"}' && run 0 get --json odd_total &&
	json '.counters[0].labels.text == "a\"b\\c\nd"'
ok label_values_are_unescaped_in_json
run 0 get --json big_total && prints '"value":9223372036854775807,'
ok json_values_are_exact_to_64_bits
run 4 get --json nothing_here && json '.counters == []'; ok no_match_is_still_a_document
run 0 get --sum --json builds_total && json '.counters[0].how == "sum"'; ok json_says_how_it_was_read
run 0 status --json && json '.schema == 1 and .durable == false and .daemon.keeper_pid > 0 and
	.daemon.worker_pid > 0 and .daemon.spare_pid > 0 and .region.counters > 0 and .fold.interval_ns > 0'
ok status_json_has_the_processes_and_the_fold
run 0 probes --json && json '.schema == 1 and (.probes | type) == "array"'; ok probes_print_json
run 0 add jobs 4 --json && json '.added == 4 and .declared == false and .counter.value == 1'
ok add_json_has_the_total_after_the_add
run 0 --json && json '.schema == 1'; ok talea_alone_prints_json
timeout $patience "$talea" watch --json --watch=20ms jobs 2>"$folder/err" | head -n 3 >"$folder/out"
[ "$(jq -c .counters[0].value "$folder/out" | tr '\n' ' ')" = '1 1 1 ' ] && silent
ok watch_json_is_one_document_a_line

# --- probes ---------------------------------------------------------------------------------------

run 0 probes --json && json '(.probes | length) > 20 and all(.probes[]; .state == "off" and .events == null
	and .origin == "table" and (.counters | length) > 0 and .counter == .counters[0] and
	(has("reason") or has("fix") or has("cost") | not)) and
	([.probes[].name] | unique | length) == (.probes | length)'
ok probes_json_has_every_probe_once_and_leaves_out_what_is_empty
run 0 attach --dry-run 'raw_tp:sched_process_exec by comm' && out probe_sched_process_exec_total &&
	says 'nothing was attached' && run 0 probes && ! prints process_exec_total
ok a_dry_run_of_attach_says_the_counter_and_attaches_nothing
run 0 attach --dry-run --json 'mine_total=raw_tp:sched_process_exec by comm,uid max 10' &&
	json '.schema == 1 and .applied == false and .probe.counters == ["mine_total"] and
		.probe.keys_max == 10 and .probe.origin == "command"'
ok a_dry_run_of_attach_prints_json
run 2 attach 'raw_tp:sched_process_exec by com' && says 'did you mean comm?' && out ''
ok a_spec_that_does_not_parse_is_usage_with_the_nearest
run 2 attach nonsense && ! silent && out ''; ok a_spec_of_no_event_is_usage
run 4 detach nothing_here && says 'no probe nothing_here'; ok detach_of_no_probe_ends_with_4
run 4 attach --replace nothing_here && ! silent; ok replace_of_no_probe_ends_with_4
run 4 attach --replace --dry-run nothing_here && says 'no probe'; ok a_dry_run_of_replace_of_no_probe_ends_with_4

attach_tests() {
	local bad
	as_user 65532
	for args in 'attach raw_tp:sched_process_exec' 'attach --dry-run raw_tp:sched_process_exec' \
		'probes --cost=50ms'; do
		# shellcheck disable=SC2086 # several arguments
		run 7 $args && out '' && says admins || bad=$args
	done
	[ -z "${bad-}" ]; ok a_reader_who_attaches_gets_7_and_the_line_to_add
	run 0 probes; ok a_reader_may_list_probes
	as_user
	if ! run 0 attach --json 'raw_tp:sched_process_exec by comm'; then
		skip attach_counts_by_key "$(tr '\n' ' ' <"$folder/err")"
		return
	fi
	json '.applied and .probe.state == "attached" and .probe.origin == "command" and .probe.pinned == false
		and .probe.unpinned_why != null and .probe.keys_max == 4096'
	ok attach_prints_the_probe
	name=$(value .probe.name)
	run 0 attach 'raw_tp:sched_process_exec by comm' && out probe_sched_process_exec_total &&
		says "talea detach $name"
	ok a_second_attach_changes_nothing
	for _ in 1 2 3 4 5 6 7; do
		env -i "$build/try/writer" --help >/dev/null 2>&1
	done
	"$talea" add builds_total 0 && run 0 get --json 'probe_sched_process_exec_total{comm="writer"}' &&
		json '.counters[0] | .value >= 7 and .origin == "kernel"'
	ok what_is_attached_counts_by_key
	run 0 explain 'probe_sched_process_exec_total{comm="writer"}' && shown "^counted .*by probe $name \(raw_tp:" &&
		run 0 explain --json 'probe_sched_process_exec_total{comm="writer"}' &&
		json ".counters[0].probes == [\"$name\"]"
	ok explain_names_the_probe_that_counts_it
	run 0 probes && shown "^$name attached [1-9][0-9]* 0 0 [1-9][0-9]*/4096 no raw_tp:"
	ok probes_says_keys_and_the_room_for_them
	# The name of an executed file becomes the name of the command: it may have any bytes but / and 0.
	hostile_file=$folder/$'\033[31m"x\n\\\377'
	cp "$build/try/writer" "$hostile_file" && "$hostile_file" --help >/dev/null 2>&1
	"$talea" add builds_total 0 && run 0 get 'probe_sched_process_exec_total' &&
		prints '{comm="\\x1b[31m\"x\\x0a\\x5c\\xff"} 1' &&
		! LC_ALL=C grep -q '[^ -~]' "$folder/out" && run 0 get --json 'probe_sched_process_exec_total' &&
		json 'any(.counters[]; .labels.comm == "\\x1b[31m\"x\\x0a\\x5c\\xff")'
	ok a_command_s_name_cannot_drive_the_terminal_and_two_never_look_the_same
	run 0 probes --cost=200ms --json && json "[.probes[] | select(.name == \"$name\")][0].cost | .ms >= 100 and
		.runs >= 0"
	ok cost_is_measured_when_asked_for
	run 0 probes --cost=100ms && shown "^$name [0-9.]+ ([0-9]+|-) [0-9.]+$"
	ok cost_is_a_line_a_probe
	run 0 export 'talea_probe_*' && has_line '# TYPE talea_probe_overflow counter' &&
		has_line "talea_probe_overflow_total{probe=\"$name\"} 0" &&
		has_line "talea_probe_pinned{probe=\"$name\"} 0" &&
		has_line "talea_probe_up{probe=\"$name\"} 1"
	ok export_says_what_a_probe_lost_and_whether_it_is_pinned
	run 1 attach raw_tp:no_such_tracepoint_here || run 4 attach raw_tp:no_such_tracepoint_here
	[ $code = 1 ] || [ $code = 4 ] && ! silent && out ''
	ok a_missing_event_is_refused_with_a_message
	run 4 detach "${name}x" && says "did you mean $name?"; ok detach_offers_the_nearest
	run 0 detach "$name" && out "$name" && run 0 probes && ! shown "^$name attached"
	ok detach_ends_it
	run 0 get 'probe_sched_process_exec_total{comm="writer"}' && shown '^[1-9][0-9]*$' &&
		says 'nothing counts it now' && run 0 get --json 'probe_sched_process_exec_total{comm="writer"}' &&
		json '.counters[0] | .value >= 7 and .state == "ended"' &&
		run 0 export --format csv 'probe_sched_process_exec_total{comm="writer"}' &&
		shown ',[1-9][0-9]*,,ended,'
	ok after_detach_get_prints_the_last_total_and_that_no_probe_counts_it
	run 0 explain 'probe_sched_process_exec_total{comm="writer"}' && prints 'by nothing now'
	ok explain_says_that_no_probe_counts_it
	run 0 forget --apply 'probe_sched_process_exec_total{comm="writer"}' &&
		run 0 get 'probe_sched_process_exec_total{talea="removed"}' && shown '^[1-9][0-9]*$'
	ok forget_moves_what_an_ended_probe_counted_into_removed
	run 2 attach '' && says 'nothing to attach'; ok attach_of_nothing_ends_with_2
}
if [ "$(id -u)" = 0 ]; then
	attach_tests
else
	skip attach_counts_by_key 'needs root to attach probes'
fi

# --- short outputs -------------------------------------------------------------------------------

run 0 status && silent && prints 'not durable'; ok status_says_not_durable
run 0 && [ "$(wc -l <"$folder/out")" = 5 ] && prints 'talea watch'
ok talea_alone_says_five_lines
run 0 probes && has_line 'context_switches off - - - - - tp_btf:sched_switch' && silent
ok probes_that_are_off_are_listed
has_no_client() { run 0 status --json && json '.daemon.clients == 0'; } # the worker sees the end of a client a moment later
soon has_no_client; ok status_does_not_count_itself
kill -STOP "$(worker)"
run 3 get builds_total && says 'one listens there'; ok a_stopped_daemon_is_distinguished_from_a_missing_one
kill -CONT "$(worker)"

# --- pipes ----------------------------------------------------------------------------------------

timeout $patience "$talea" get --watch=10ms jobs 2>"$folder/err" | head -n 2 >"$folder/out"
code=${PIPESTATUS[0]}
[ "$code" = 141 ] && silent && out '1
1'
ok a_closed_pipe_ends_it_quietly
(trap '' PIPE; timeout $patience "$talea" get --watch=10ms jobs 2>"$folder/err"; echo $? >"$folder/rc") |
	head -n 2 >"$folder/out"
[ "$(cat "$folder/rc")" = 141 ] && silent; ok a_closed_pipe_with_SIGPIPE_ignored_ends_it_quietly
timeout $patience "$talea" get jobs >/dev/full 2>"$folder/err"
code=$?
[ $code = 1 ] && says 'No space left'; ok a_full_disk_is_a_failure_with_a_message
timeout $patience "$talea" watch --watch=50ms jobs 2>"$folder/err" | head -n 8 >"$folder/out"
[ "$(grep -c '^talea default' "$folder/out")" -ge 2 ] && ! prints $'\033'
ok watch_without_a_terminal_prints_frames

if [ "$(id -u)" = 0 ]; then
	as_user 65533
	run 7 get && ! silent && out ''; ok a_user_without_access_gets_7_and_a_message
	as_user
else
	skip a_user_without_access_gets_7_and_a_message 'needs root to be another user'
fi

# --- in a terminal --------------------------------------------------------------------------------

# A program may put these into a label: an escape, the same in one character, another direction of text.
hostile=$'escape_total{l="\033[31mred\302\2331m\342\200\256rtl"}'
terminal_tests() {
	terminal_open 90 16 || return
	type_line "$talea get builds_total"
	shows '^builds_total +42 .* [0-9.]+ (us|ms|s)' && shows '^COUNTER +TOTAL +RATE/s +AGE +LAST MINUTE'
	ok get_on_a_terminal_is_a_table
	type_line "NO_COLOR=1 $talea get builds_total"
	shows '^builds_total +42' && prompts && ! on_screen $'\033\\[[0-9;]*m.*builds_total' -e
	ok NO_COLOR_is_honoured
	run 0 add "$hostile"
	hostile_bad=''
	for args in 'get escape_total' 'list escape_total' 'explain escape_total' 'lanes escape_total' \
		'pin --dry-run escape_total' 'pin escape_total' 'unpin escape_total' 'history' 'get nope_total'; do
		timeout $patience script -qec "NO_COLOR=1 $talea $args" /dev/null </dev/null >"$folder/out" 2>"$folder/err"
		LC_ALL=C grep -qF -e $'\033[31' -e $'\302\233' -e $'\342\200\256' "$folder/out" && hostile_bad+=" $args"
	done
	echo "$hostile_bad" >"$folder/err"
	[ -z "$hostile_bad" ]; ok a_label_cannot_drive_the_terminal
	type_line "$talea probes"
	shows 'why: not asked for' && shows 'probes = default'; ok probes_on_a_terminal_say_what_is_off_and_how_to_ask
	type_line "$talea watch '*_total' jobs --exclude 'talea_*' --watch=200ms"
	shows 'talea default  ● live' && shows '^builds_total +42' && alternate 1
	ok watch_takes_the_alternate_screen
	"$talea" add builds_total 100
	shows '^builds_total +142'; ok watch_redraws_in_place
	tm resize-window -t t -x 50 -y 6
	shows 'more, less busy' && [ "$(grep -c . "$folder/out")" -le 6 ]; ok watch_follows_a_resize
	tm resize-window -t t -x 90 -y 16
	shows '^builds_total +142'; ok watch_follows_a_resize_back
	tm send-keys -t t q
	prompts && hides 'live' && alternate 0; ok q_ends_and_restores_the_screen
	type_line "$talea watch builds_total; echo ended \$?"
	shows '● live'
	tm send-keys -t t C-c
	shows 'ended 0' && alternate 0; ok ctrl_c_ends_with_0_and_restores_the_screen
	type_line "stty -a | grep -o -- '[-]*icanon'; stty -a | grep -o -- '[-]*echo '"
	shows '^icanon' && shows '^echo'; ok the_terminal_settings_are_restored
	type_line "$talea watch builds_total --watch=200ms"
	shows '● live'
	tm send-keys -t t C-z
	shows 'Stopped' && alternate 0; ok ctrl_z_stops_with_the_screen_restored
	type_line fg
	shows '● live' && alternate 1; ok fg_takes_the_screen_again
	kill -STOP "$(worker)"
	shows 'stands still since|no daemon since'; ok watch_says_since_when_the_daemon_stands_still
	kill -CONT "$(worker)"
	shows '● live'; ok watch_resumes_when_the_daemon_does
	stop
	shows 'no daemon since [0-9:]+ .*ago' && shows '^builds_total +142'
	ok watch_keeps_the_last_totals_when_the_daemon_is_gone
	shows $'\033\\[90mCOUNTER' -e; ok the_last_totals_are_grey
	start
	shows 'live'; ok watch_attaches_to_the_next_daemon
	tm send-keys -t t q
}
if command -v tmux >/dev/null; then
	terminal_tests
else
	skip the_live_view_in_a_terminal 'tmux is missing'
fi
finish
