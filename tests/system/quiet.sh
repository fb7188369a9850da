#!/bin/bash
# An add makes no system call: strace shows no call between the two that a program makes before and after its
# adds (TALEA_LONG=1: a billion). TAP.
# shellcheck source=tests/lib/shell.bash
. "$(dirname "$0")/../lib/shell.bash"
adds=10000000
[ -z "${TALEA_LONG:-}" ] || adds=1000000000

plan 2
configure 'bpf = off' '[namespace default]' 'rows-max = 1'
start

# A sanitizer's own leak check cannot run under ptrace.
ASAN_OPTIONS=detect_leaks=0 strace -f -o "$folder/trace" "$build/tests/helper/quiet" "$adds" 2>"$folder/err"
code=$?
sed -n '/getsid(/,/getsid(/p' "$folder/trace" >"$folder/out"
# The number of lines between the two calls. A signal or a resumed call would be a line too.
[ $code = 0 ] && [ "$(awk '/getsid\(/ { frame++; next } frame == 1 { n++ } END { print n + 0, frame + 0 }' \
	"$folder/trace")" = "0 2" ]
ok adds_make_no_system_call
run 0 get --sum 'quiet_*'
[ "$(sort "$folder/out")" = "quiet_cold_total $((adds / 10))
quiet_hot_total $adds
quiet_keys_total{key=\"7\"} $((adds / 10 + 1))" ]
ok adds_under_strace_are_counted
finish
