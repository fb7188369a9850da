#!/bin/bash
# Hot and cold for an operator: rows by rate, by pin and by rule, members that are removed, totals that fell,
# attached programs, the history, the metrics; with a private daemon. TAP.
# shellcheck source=tests/lib/shell.bash
. "$(dirname "$0")/../lib/shell.bash"

admin=65532 user=65533 me=$(id -un)
configure 'probes = none' "admins = $admin" '[namespace default]' "users = $user" '[counter always_*]' 'hot = yes' \
	'[counter never_*]' 'hot = no' '[counter demo_likes_total{post="2*"}]' 'ttl = 2s'
write() { # write WHAT: a program that adds, in the background
	"$build/try/writer" "$folder/sock" "$1" 2>/dev/null &
	started+=($!)
}
stop_writers() {
	kill "${started[@]}" && wait "${started[@]}" 2>/dev/null
	started=()
}

# --- without a daemon, and against the usage ------------------------------------------------------

for verb in 'lanes x' 'explain x' clients export accept history 'pin x' 'unpin x' 'forget x'; do
	# shellcheck disable=SC2086 # verb and argument
	run 3 $verb && says 'no daemon answers' && out ''
	ok "${verb% x}_without_a_daemon_ends_with_3_and_says_what_to_do"
done
run 2 pin && says 'an argument is missing'; ok pin_without_a_name_is_usage
run 2 forget && says 'an argument is missing'; ok forget_without_a_glob_is_usage
run 2 lanes a b && says 'too many arguments'; ok lanes_of_two_counters_is_usage
run 2 unpin x --cold && says 'does not take --cold'; ok unpin_has_no_cold
run 2 export --format xml && says 'openmetrics, csv and ndjson'; ok a_format_that_is_none_is_usage
run 2 export --json --format csv && says 'ndjson'; ok json_of_another_format_is_usage

# --- hot by rate ----------------------------------------------------------------------------------

start
for verb in lanes explain pin unpin forget accept history export; do
	run 4 $verb quests_total && ! silent && ! shown .
	ok "${verb}_of_a_name_that_is_none_ends_with_4"
done
write requests
write likes
is_hot() { run 0 list --json "$1" && json '.counters[0].hot == true'; }
soon is_hot demo_requests_total; ok a_counter_that_moves_fast_gets_a_row_by_itself
run 4 explain demo_request_total && says 'did you mean demo_requests_total?'; ok the_message_has_the_nearest_name
rate_known() {
	run 0 explain demo_requests_total &&
		shown '^demo_requests_total: hot since [0-9]{2}:[0-9]{2}:[0-9]{2}: .*adds/s on [0-9]+ CPUs?; row [0-9]+$'
}
soon rate_known && silent && shown '^why +it moved faster than 100 k adds/s' &&
	shown '^change +.* just before, .* in the second after' && shown '^imbalance +[0-9.]+:' &&
	shown '^next +cold when it stays under 10 k adds/s for 10 s'
ok explain_has_since_when_why_and_what_would_change_it
run 0 explain --json demo_requests_total && json '.schema == 1 and (.counters[0] | .heat == "hot" and
	.why == "rate" and .pin == "auto" and .rule == "auto" and .rate_before > .thresholds.up and
	.rate > .thresholds.down and .rate_after > .thresholds.down and .imbalance >= 1 and .row >= 0 and
	.lanes >= 1 and .can_have_row and
	(.suspect | not) and .thresholds == {"up": 100000.0, "down": 10000.0, "quiet_s": 10} and
	(.since | test("^[0-9-]+T[0-9:.]+Z$")) and .ttl_s == null)'
ok explain_json_has_the_documented_keys
run 0 explain demo_requests_total talea_overflow_total && shown '^talea_overflow_total: cold since it was registered'
ok explain_takes_several_names

# Each of them samples for a while, so they run at once.
"$talea" lanes demo_requests_total --json >"$folder/lanes.json" 2>&1 & samples=($!)
"$talea" lanes demo_requests_total --heat >"$folder/heat" 2>&1 & samples+=($!)
"$talea" lanes demo_requests_total --heat --json >"$folder/heat.json" 2>&1 & samples+=($!)
LC_ALL=C "$talea" lanes demo_requests_total --heat >"$folder/ascii" 2>&1 & samples+=($!)
is_fast() { run 0 lanes demo_requests_total && silent && shown '^0 [0-9]+$' && [ "$(sum)" -gt 100000 ]; }
soon is_fast
ok lanes_piped_is_a_line_a_cpu
wait "${samples[@]}"
cp "$folder/lanes.json" "$folder/out" && json '.schema == 1 and .row >= 0 and .imbalance >= 1 and
	(.rate / ([.lanes[].rate] | add) | . > 0.9 and . < 1.1) and ([.lanes[].cpu] | . == (sort | unique))'
ok lanes_json_adds_up_to_the_rate
cp "$folder/heat" "$folder/out" && shown 'the last [1-9][0-9]*\.[0-9] s' && shown '^ +[0-9]+  .*[░▒▓█]'; ok lanes_heat_is_a_map
cp "$folder/heat.json" "$folder/out" &&
	json '(.heat | length) == 24 and all(.heat[]; .seconds > 0.04 and (.rates | length) > 0)'
ok lanes_heat_json_has_every_sample
cp "$folder/ascii" "$folder/out" && ! grep -qP '[^\x00-\x7f]' "$folder/out" && shown '^ +[0-9]+  .*[.:=#]'
ok a_map_without_utf8_is_ascii
run 0 add quiet_total 3 && run 0 lanes quiet_total && says 'quiet_total is cold' && out ''
ok a_cold_counter_has_no_lanes_and_the_message_says_so
run 2 lanes demo_likes_total && says 'counters match'; ok lanes_of_a_whole_family_asks_for_one

run 0 clients && silent && shown " $me write [0-9]+ [0-9TZ:.-]+ demo$" && ! shown ' talea$'
ok clients_lists_programs_without_this_command
run 0 clients --json && json '.schema == 1 and ([.clients[] | select(.app == "demo")] | length) == 2 and
	all(.clients[]; .access == "write" and .uid == '"$UID"' and .pid > 0) and
	([.clients[].names_asked_for] | max) >= 2'
ok clients_json_has_the_documented_keys

run 0 status --json && json '.rows.hot > 0 and .rows.max == 131584 and .rows.changes.hot >= .rows.hot and
	.region.suspects == 0 and .region.strays == 0 and .daemon.sandbox != ""'
ok status_counts_rows
run 0 status && shown '^rows +[0-9]+ hot of at most 131,584' && shown '^suspect +none' && shown '^sandbox +[a-z]'
ok status_says_rows_suspects_and_sandbox

# --- pins and rules -------------------------------------------------------------------------------

run 0 pin quiet_total --dry-run && out quiet_total && says 'would be pinned hot' && ! is_hot quiet_total
ok pin_dry_run_changes_nothing
run 0 pin quiet_total && out quiet_total && silent && soon is_hot quiet_total &&
	run 0 explain quiet_total && shown '^next +pinned hot'
ok pin_gives_a_row_at_once
run 0 add quiet_total 4 && run 0 get quiet_total && out 7 && run 0 get --sum quiet_total && out 7
ok the_total_continues_in_a_row
is_cold() { run 0 explain --json "$1" && json '.counters[0] | .heat == "cold" and .row == null'; }
run 0 pin demo_requests_total --cold && soon is_cold demo_requests_total &&
	json '.counters[0] | .pin == "cold" and .why == "pin"'
ok pin_cold_takes_the_row_of_a_busy_one
run 0 unpin demo_requests_total --json &&
	json '.applied and .counters == [{"name": "demo_requests_total", "labels": {}, "value":
		.counters[0].value, "result": "done"}]' && soon is_hot demo_requests_total
ok after_unpin_the_rate_decides_again
run 0 unpin quiet_total && run 0 add always_total && soon is_hot always_total &&
	run 0 explain --json always_total && json '.counters[0] | .rule == "hot" and .why == "config"'
ok a_rule_gives_a_row_from_registration_on
run 0 add never_total && run 0 explain never_total && shown '^next +the configuration keeps it cold'
ok a_rule_keeps_a_counter_cold
run 0 pin 'quiet_*' 'never_*' --cold && out 'quiet_total
never_total'
ok pin_takes_globs
run 0 history quiet_total && silent && shown ' pinned-hot quiet_total '"by $me\$" && shown ' hot quiet_total row' &&
	shown ' unpinned quiet_total ' && shown ' pinned-cold quiet_total '
ok history_has_each_change_and_its_user
run 0 history --json 'demo_requests*' && json '.schema == 1 and .next > 0 and
	(.changes[0] | .change == "hot" and .why == "rate" and .rate > 100000 and .uid == null and .row >= 0) and
	([.changes[].change] | index("retiring") and index("cold")) and
	([.changes[].number] | . == sort)'
ok history_json_has_the_documented_keys
timeout $patience "$talea" history --watch=50ms --json 2>"$folder/err" | head -n 2 >"$folder/out"
[ "$(jq -c '.changes | length > 0' "$folder/out" | head -n 1)" = true ] && silent; ok history_watch_prints_until_it_is_stopped

# --- members that go ------------------------------------------------------------------------------

has_likes() { run 0 get demo_likes_total && [ "$(sum)" -gt 1000 ] && run 0 get 'demo_likes_total{post=2}' &&
	[ "$(sum)" -gt 0 ]; }
soon has_likes
stop_writers
run 0 add 'demo_likes_total{post=400}' 5 && run 0 get demo_likes_total && whole=$(sum) && [ "$whole" -gt 1000 ]
ok a_family_has_a_sum
run 0 get 'demo_likes_total{post="1*"}' && ones=$(sum)
run 0 forget 'demo_likes_total{post="1*"}' && [ "$(sum)" = "$ones" ] && shown '^demo_likes_total\{post="1"\} [0-9]+$' &&
	says 'would move to demo_likes_total{talea="removed"}' && says 'nothing was changed; add --apply'
ok forget_lists_what_would_go_and_the_sum_that_moves
run 0 get 'demo_likes_total{post="1*"}' && [ "$(sum)" = "$ones" ]; ok forget_without_apply_changes_nothing
run 0 forget 'demo_likes_total{post="1*"}' --json && json '(.applied | not) and .families[0].name == "demo_likes_total"
	and .families[0].members == (.members | length) and .families[0].sum == ([.members[].value] | add)
	and all(.members[]; .result == "planned" and .labels.post != null)'
ok forget_json_has_the_documented_keys
run 0 forget 'demo_likes_total{post="1*"}' --exclude 'demo_likes_total{post=1}' --apply && says ' moved to ' &&
	run 0 get 'demo_likes_total{post="1*"}' && [ "$(wc -l <"$folder/out")" = 1 ]
ok forget_removes_all_but_what_is_excluded
run 0 get demo_likes_total && [ "$(sum)" = "$whole" ]; ok the_sum_of_the_family_stays_exact
soon run 0 get 'demo_likes_total{talea=removed}' && [ "$(cat "$folder/out")" -gt 0 ]; ok the_sum_is_in_removed
run 4 get 'demo_likes_total{post=12}'; ok a_removed_member_has_no_total
run 4 forget 'demo_likes_total{talea=removed}' --apply && says 'none of them is a member'
ok removed_members_are_not_removed_again
run 4 forget quiet_total --apply && says 'none of them is a member' && run 0 get quiet_total && out 7
ok a_counter_is_never_forgotten
run 0 history 'demo_likes_total{post=12}' && shown ' removed demo_likes_total\{post="12"\} .*forgotten; '"by $me\$"
ok history_remembers_who_forgot
run 0 add 'demo_likes_total{post=12}' 9 && run 0 get 'demo_likes_total{post=12}' && out 9
ok a_removed_member_can_come_back
are_gone() { run 4 get 'demo_likes_total{post="2*"}'; }
soon are_gone && run 0 history 'demo_likes_total{post=2}' && shown ' removed .*idle for its time to live$'
ok idle_members_go_after_their_time_to_live
run 0 get demo_likes_total && [ "$(sum)" = $((whole + 9)) ]; ok the_sum_stays_when_members_expire
run 0 status --json && json '.region.members_removed > 2 and .region.late_adds == 0'; ok status_counts_removals

# --- totals that fell -----------------------------------------------------------------------------

run 0 accept && out '' && says 'nothing is suspect'; ok nothing_is_suspect_at_first
run 0 add fallen_total 100 --describe 'Of a test.' && "$build/tests/helper/adder" fallen_total -30 &&
	soon run 0 get fallen_total && out 100
ok a_counter_that_falls_stays_at_its_last_good_total
is_suspect() { run 0 list --json fallen_total && json '.counters[0].state == "suspect"'; }
soon is_suspect; ok a_counter_that_fell_is_suspect
run 0 get fallen_total && out 100 && says 'suspect'; ok get_prints_a_warning_beside_the_total
run 0 explain fallen_total && shown '^suspect +it fell.* shows 100.* say 70$' && shown "talea accept 'fallen_total' --apply"
ok explain_has_the_total_of_the_cells
run 0 status && shown '^suspect +1 counter fell'; ok status_shows_suspects
run 0 && shown '^wrong: ' && [ "$(wc -l <"$folder/out")" = 5 ]; ok talea_alone_names_what_is_wrong
run 0 accept && out 'fallen_total 100 70' && says 'add --apply' && is_suspect; ok accept_lists_and_changes_nothing
run 0 accept quiet_total --apply && says 'nothing is suspect' && is_suspect; ok accept_changes_only_what_its_glob_matches
run 0 accept fallen_total --apply && run 0 get fallen_total && out 70 && silent; ok after_accept_the_total_is_that_of_the_cells
run 0 add fallen_total 5 && run 0 get fallen_total && out 75; ok an_accepted_counter_counts_on
run 0 history fallen_total && shown ' suspect fallen_total fell from 100 to 70$' &&
	shown ' accepted fallen_total shows 70, showed 100; '"by $me\$"
ok history_remembers_who_accepted
"$build/tests/helper/scribble" fallen_total 1 11
has_strays() { run 0 status --json && json '.region.strays > 0'; }
soon has_strays && run 0 status && shown '^strays +1 change of cells that no counter owns'
ok a_change_of_a_cell_without_an_owner_is_detected
run 0 accept --json && json '.strays == 1 and (.applied | not) and .counters == []'; ok accept_json_has_the_strays
run 0 accept --apply && run 0 status --json && json '.region.strays == 0'; ok accept_clears_strays
run 0 history --json && json '[.changes[] | select(.change == "stray")] | .[0].value == 11'
ok history_has_the_size_of_a_stray
run 0 get fallen_total && out 75; ok other_counters_stay_exact

# --- who may --------------------------------------------------------------------------------------

if [ "$(id -u)" = 0 ]; then
	as_user $user
	run 7 pin quiet_total && says "name $user in \`admins =\`" && out ''
	ok a_user_who_is_no_admin_may_not_pin_and_the_message_has_the_line_to_add
	run 7 forget demo_likes_total --apply && run 0 get 'demo_likes_total{post=12}' && out 9
	ok a_user_who_is_no_admin_may_not_forget
	run 0 forget demo_likes_total && run 0 pin quiet_total --dry-run; ok every_user_may_do_a_dry_run
	as_user $admin
	run 0 unpin quiet_total; ok an_admin_may_unpin
	as_user
	run 0 history quiet_total && shown "by $admin\$"; ok history_names_the_admin
else
	skip admins_alone_may_change 'needs root to be other users'
fi

# --- a new worker ---------------------------------------------------------------------------------

run 0 pin quiet_total && soon is_hot quiet_total && kill -KILL "$(worker)" && run 0 pin never_total && soon is_hot never_total
ok a_pin_during_the_replacement_of_the_worker_is_applied
run 0 explain --json quiet_total && json '.counters[0] | .pin == "hot" and .heat == "hot" and .value == 7'
ok pins_and_totals_outlive_the_worker
run 0 history quiet_total --json && json '[.changes[].change] | index("pinned-hot") != null'
ok history_outlives_the_worker

# --- export ---------------------------------------------------------------------------------------

run 0 add 'odd_total{text="a\"b\\c\nd"}' && run 0 add jobs 5 && run 0 add jobs_total 2 && run 0 add sent_bytes_total 9
write requests
soon is_hot demo_requests_total && soon rate_known
run 0 export && silent && [ "$(tail -n 1 "$folder/out")" = '# EOF' ] && shown '^odd_total\{text="a\\"b\\\\c\\nd"\} 1$' &&
	shown '^# UNIT sent_bytes bytes$' && shown '^# TYPE jobs counter$' && shown '^# TYPE jobs_level gauge$' &&
	shown '^jobs_level 5$' && shown '^jobs_total 2$' && shown '^fallen_total 75$'
ok openmetrics_has_counters_and_levels
missing=
for metric in talea_fold_lag_seconds talea_fold_duration_seconds 'talea_writes_per_second{counter="demo_requests_total"}' \
	'talea_lane_imbalance{counter="demo_requests_total"}' 'talea_read_seconds{how="sum"}' \
	'talea_read_seconds{how="cached"}' 'talea_rows{state="hot"}' 'talea_row_changes_total{to="cold"}' \
	talea_rows_waiting 'talea_refusals_total{reason="registration"}' talea_grace_blocked_cpus \
	talea_late_adds_total talea_suspects talea_strays; do
	grep -qF -- "$metric " "$folder/out" || missing+="$metric "
done
[ -z "$missing" ]; ok "openmetrics_has_talea_s_own_metrics${missing:+: $missing is missing}"
documented=$(sed -n '/^# METRICS/,/^# EXIT/p' tools/man/talea.1.scd | grep -oE '\*talea_[a-z_]+\*' | tr -d '*' | sort -u)
[ -z "$(grep -oE '^talea_[a-z_]+' "$folder/out" | grep -v overflow | sort -u | comm -23 - <(echo "$documented"))" ]
ok every_own_metric_is_documented
python=
for p in python3 /usr/bin/python3; do
	"$p" -c 'import prometheus_client' 2>/dev/null && python=$p && break
done
# The strict parser. Its control gets a document without its end, which the parser must refuse.
parse() {
	"$python" -c 'import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
families = {f.name: f for f in parse(sys.stdin.read())}
assert families["jobs"].type == "counter" and families["talea_rows"].type == "gauge"
assert families["odd"].samples[0].labels == {"text": "a\"b\\c\nd"}' 2>"$folder/err"
}
if [ -n "$python" ]; then
	parse <"$folder/out"; ok openmetrics_passes_the_strict_parser
	! head -n -1 "$folder/out" | parse; ok the_strict_parser_refuses_what_is_cut_off
else
	skip openmetrics_passes_the_strict_parser 'python3-prometheus-client is missing'
fi
run 0 export 'talea_rows*' jobs && shown '^talea_rows\{state="free"\}' && shown '^jobs 5$' && ! shown fold_lag
ok export_takes_globs_of_both_kinds
run 0 export --format csv && [ "$(head -n 1 "$folder/out")" = name,labels,type,origin,value,rate,state,hot,epoch,as_of ] &&
	shown '^demo_likes_total,"\{post=""12""\}",counter,user,9,'
ok csv_has_a_counter_a_line
run 0 export --format ndjson && [ "$(jq -c 'select(.schema == 1 and .epoch > 0)' "$folder/out" | wc -l)" = "$(wc -l <"$folder/out")" ] &&
	[ "$(jq -r 'select(.name == "fallen_total") | .value' "$folder/out")" = 75 ] && run 0 export --json fallen_total
ok ndjson_has_a_document_a_line

# --- on a terminal --------------------------------------------------------------------------------

terminal_tests() {
	terminal_open 80 40 || return
	type_line "$talea lanes demo_requests_total"
	shows '^ +[0-9]+ .* % +[█▏▎▍▌▋▊▉]' && shows '^ +CPU +RATE/s +SHARE'; ok lanes_on_a_terminal_is_a_table_with_bars
	type_line "$talea explain demo_requests_total"
	shows '^next ' && shows $'\033\\[1mdemo_requests_total' -e
	ok explain_on_a_terminal_has_colour
	type_line "NO_COLOR=1 $talea explain demo_requests_total"
	shows '^next ' && prompts && ! on_screen $'\033\\[1mdemo_requests' -e; ok explain_honours_NO_COLOR
	type_line "$talea clients"
	shows 'PID +USER +ACCESS' && shows " $me +write .* demo\$"; ok clients_on_a_terminal_is_a_table
	type_line "$talea history fallen_total"
	shows 'accepted +fallen_total  shows 70'; ok history_on_a_terminal_has_a_line_a_change
	type_line "$talea forget 'demo_likes_total{post=12}'"
	shows 'would move to' && shows 'demo_likes_total\{post="12"\} +9$'; ok forget_on_a_terminal_is_a_table
}
if command -v tmux >/dev/null; then
	terminal_tests
else
	skip operating_on_a_terminal 'tmux is missing'
fi
grep -qE "uid $UID: "'forget demo_likes_total\{post="[0-9]+"\} and [0-9]+ more$' "$folder/log"
ok the_log_has_the_user_of_a_change
! grep -vE 'ready on|fell from|nobody owns|killed by signal 9|uid [0-9]+: ' "$folder/log" >"$folder/out"
ok the_log_has_these_events_and_nothing_else
finish
