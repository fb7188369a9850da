#!/bin/bash
# An add makes no system call: strace of a program shows nothing between the two calls that frame its
# adds (TALEA_LONG=1: a billion). TAP.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${TALEA_BUILD:-.build/dev}
adds=10000000
[ -z "${TALEA_LONG:-}" ] || adds=1000000000
dir=$(mktemp -d)
daemon=

# shellcheck disable=SC2317 # called by the trap
finish() {
	[ -z "$daemon" ] || { kill -TERM "$daemon" 2>/dev/null; wait "$daemon" 2>/dev/null; }
	rm -rf "$dir"
}
trap finish EXIT

echo 1..2
printf '[daemon]\nbpf = off\n[namespace default]\nrows-max = 1\n' >"$dir/c"
chmod 755 "$dir" && chmod 644 "$dir/c"
"$build/talead" -c "$dir/c" --socket "$dir/sock" --state "$dir/state" </dev/null >"$dir/log" 2>&1 &
daemon=$!
for _ in {1..100}; do
	[ ! -S "$dir/sock" ] || break
	sleep 0.1
done
export TALEA_SOCKET=$dir/sock

# A sanitizer's own leak check cannot run under ptrace.
ASAN_OPTIONS=detect_leaks=0 strace -f -o "$dir/trace" "$build/tests/helper/quiet" "$adds"
code=$?
# Lines between the frames; a signal or a resumed call would be one too.
between=$(awk '/getsid\(/ { frame++; next } frame == 1 { n++ } END { print n + 0, frame + 0 }' "$dir/trace")
if [ "$code" = 0 ] && [ "$between" = "0 2" ]; then
	echo "ok 1 - adds_make_no_system_call"
else
	echo "# exit $code; lines between the frames, frames: $between"
	sed -n '/getsid(/,/getsid(/p' "$dir/trace" | head -20 | sed 's/^/# /'
	echo "not ok 1 - adds_make_no_system_call"
fi
sum=$("$build/talea" get --sum 'quiet_*' 2>&1)
want="quiet_cold_total $((adds / 10))
quiet_hot_total $adds
quiet_keys_total{key=\"7\"} $((adds / 10 + 1))"
if [ "$(sort <<<"$sum")" = "$want" ]; then
	echo "ok 2 - adds_under_strace_are_counted"
else
	printf '%s\n' "$sum" "wanted:" "$want" | sed 's/^/# /'
	echo "not ok 2 - adds_under_strace_are_counted"
fi
