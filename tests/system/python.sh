#!/bin/bash
# The Python example counts through the shared library, and its errors say what to do. TAP.
# shellcheck source=tests/lib/shell.bash
. "$(dirname "$0")/../lib/shell.bash"
python=/usr/bin/python3

if nm -D "$build/libtalea.so.0" | grep -qE '__[at]san_init'; then
	skip_all 'a sanitized library cannot be loaded into an ordinary Python'
fi
plan 3
export TALEA_LIBRARY=$build/libtalea.so.0
demo() { timeout $patience "$python" client/examples/talea.py python_demo_total "$@" >"$folder/out" 2>&1; }
! demo && prints "no talead answers on $TALEA_SOCKET."; ok without_a_daemon_the_error_says_what_to_start
configure 'bpf = off'
start
demo 5 && out 5; ok python_counts
demo && out 6; ok python_counts_on
finish
