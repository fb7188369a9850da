#!/bin/bash
# `talea probes --available`: each event that it lists exists and can be attached as it is printed; for a
# misspelt name the message has similar ones. TAP.
# shellcheck source=tests/lib/shell.bash
. "$(dirname "$0")/../lib/shell.bash"

list() { run 0 probes --available "$1"; }

run 0 probes --available 'uprobe:libc.so.6:mallo[ct]' && out uprobe:libc.so.6:malloc
ok 'a_function_of_a_library_is_found_by_glob'
run 4 probes --available 'uprobe:libc.so.6:no_such_function_*' && out ''
ok 'a_search_without_a_result_prints_nothing_and_ends_with_4'
run 1 probes --available 'uprobe:libnosuch.so.9:x*' && says 'libnosuch.so.9'
ok 'the_message_names_a_missing_library'
run 2 probes --available 'uprobe:malloc' && says "uprobe needs a file" && run 2 probes --available 'usdt:*' &&
	says "'usdt:libc.so.6:*'"
ok 'a_uprobe_without_a_file_is_usage_and_the_message_shows_how_to_name_one'
run 4 probes --available 'uprobe:libc.so.6:*mallloc*' && says 'alike: malloc' && says "'uprobe:libc.so.6:*'"
ok 'for_a_misspelt_function_the_message_has_similar_ones_and_how_to_list_all'
run 4 probes --available "usdt:$build/libtalea.so:*" && says 'this one has no USDT'
ok 'the_message_names_a_file_without_usdt_probes'
run 0 probes --available 'uprobe:libc.so.6:mallo[ct]' --json &&
	json '.schema == 1 and .available[0].attach == "uprobe:libc.so.6:malloc"'
ok 'json_lists_the_same'

# The new names are as long as the old ones, so that the file stays valid: an escape, invalid UTF-8, a colon.
LC_ALL=C sed 's/talea_strerror/talea_\x1b[31mrrr/g; s/talea_sync/talea_\xff\xfe"\n/g; s/talea_close/talea:close/g' \
	"$build/libtalea.so" >"$folder/evil.so"
run 0 probes --available "uprobe:$folder/evil.so:*" && ! LC_ALL=C grep -qP '[^\x20-\x7e\t]' "$folder/out" &&
	grep -qx "uprobe:$folder/evil.so:talea_open" "$folder/out" && ! grep -q 'evil.so:talea_$\|talea:close' "$folder/out"
ok 'names_that_no_spec_can_contain_are_left_out'
lines=$(wc -l <"$folder/out")
run 0 probes --available "uprobe:$folder/evil.so:*" --json && json ".available | length == $lines"
ok 'json_leaves_out_the_same_names'
head -c 3000 "$build/libtalea.so" >"$folder/cut.so"
run 4 probes --available "uprobe:$folder/cut.so:*"
[ $code = 4 ] || [ $code = 1 ] && out '' && says "$folder/cut.so"
ok 'the_message_names_a_truncated_file'

if [ ! -r /sys/kernel/btf/vmlinux ]; then
	skip 'tracepoints' 'this kernel has no type information'
	finish
fi
list 'tp_btf:sched_switch' &&
	shown $'^tp_btf:sched_switch\targ0: bool preempt, arg1: struct task_struct [*]prev'
ok 'a_tracepoint_is_listed_with_its_arguments'
list sched_process_exec && [ "$(cut -f1 "$folder/out" | tr '\n' ' ')" = 'raw_tp:sched_process_exec tp_btf:sched_process_exec ' ]
ok 'a_word_without_a_kind_matches_anywhere_in_a_name'
list 'tp_btf:*' && [ "$(wc -l <"$folder/out")" = "$(sort -u "$folder/out" | wc -l)" ] &&
	[ "$(wc -l <"$folder/out")" -gt 300 ] && ! grep -qv '^tp_btf:' "$folder/out"
ok 'a_glob_lists_each_once_and_nothing_else'
run 4 probes --available 'tp_btf:sched_swich' && says 'alike: sched_switch' &&
	run 4 probes --available 'tp_btf:*sched_swich*' && says 'alike: sched_switch' &&
	run 4 probes --available sched_swich && says 'alike: sched_switch'
ok 'for_a_misspelt_name_the_message_has_a_similar_one'

if [ "$(id -u)" != 0 ]; then
	skip 'what_is_listed_can_be_attached_as_it_is_printed' 'only root may attach'
	finish
fi
configure 'probes = none'
start

# The test attaches every twentieth event: rare and busy ones, with and without arguments. The key is the last
# argument, so that the kernel checks the number of arguments too.
refused=0 tried=0
while IFS=$'\t' read -r spec args; do
	by=$(grep -oE 'arg[0-5]:' <<<"$args" | tail -n 1)
	tried=$((tried + 1))
	run 0 attach "t${tried}_total=$spec${by:+ by ${by%:} max 16}" && run 0 detach "t$tried" && continue
	refused=$((refused + 1))
	echo "# $spec: $(cat "$folder/err")"
done < <("$talea" probes --available 'raw_tp:*' | awk 'NR % 20 == 1'
	"$talea" probes --available 'tp_btf:*' | awk 'NR % 20 == 2')
[ $refused = 0 ] && [ $tried -gt 20 ]
ok 'what_is_listed_can_be_attached_as_it_is_printed'
finish
