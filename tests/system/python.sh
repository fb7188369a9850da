#!/bin/bash
# The Python example counts through the shared library, and its errors say what to do. TAP.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${TALEA_BUILD:-.build/dev}
dir=$(mktemp -d)
daemon=
python=/usr/bin/python3

# shellcheck disable=SC2317 # called by the trap
finish() {
	[ -z "$daemon" ] || { kill -TERM "$daemon" 2>/dev/null; wait "$daemon" 2>/dev/null; }
	rm -rf "$dir"
}
trap finish EXIT

check() { # NUMBER NAME WANTED GOT
	if [ "$3" = "$4" ]; then
		echo "ok $1 - $2"
	else
		printf '# wanted %s\n# got    %s\n' "$3" "$4"
		echo "not ok $1 - $2"
	fi
}

if nm -D "$build/libtalea.so.0" | grep -qE '__[at]san_init'; then
	echo "1..0 # SKIP a sanitized library cannot be loaded into an ordinary Python"
	exit 0
fi
echo 1..3
export TALEA_SOCKET=$dir/sock TALEA_LIBRARY=$build/libtalea.so.0
check 1 without_a_daemon_the_error_says_what_to_start "no talead answers on $dir/sock" \
	"$("$python" client/examples/talea.py python_demo_total 2>&1 | grep -o 'no talead answers on [^;]*')"
printf '[daemon]\nbpf = off\n' >"$dir/c"
chmod 755 "$dir" && chmod 644 "$dir/c"
"$build/talead" -c "$dir/c" --socket "$dir/sock" --state "$dir/state" </dev/null >"$dir/log" 2>&1 &
daemon=$!
for _ in {1..100}; do
	[ ! -S "$dir/sock" ] || break
	sleep 0.1
done
check 2 python_counts 5 "$("$python" client/examples/talea.py python_demo_total 5 2>&1)"
check 3 python_counts_on 6 "$("$python" client/examples/talea.py python_demo_total 2>&1)"
