#!/bin/bash
# The control of SAN=thread: a race planted into the daemon (tests/rcu/lib/annotate.c) between two of its
# threads fails the test that the daemon was started by, although that test itself finds nothing. TAP.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${TALEA_BUILD:-.build/thread}
export TALEA_BUILD=$build
out=$(mktemp)
trap 'rm -f "$out"' EXIT

echo 1..1
# A runner of its own, with its own folder for reports.
unset TSAN_OPTIONS
TALEA_TSAN_PLANT=1 tests/run "$build/tests/rcu/threads" >"$out" 2>&1
if [ $? = 1 ] && grep -q 'FAILED  ThreadSanitizer reported a process$' "$out" &&
	grep -q 'data race tests/rcu/lib/annotate.c' "$out"; then
	echo "ok 1 - race_planted_between_threads_of_the_daemon_fails_its_test"
else
	sed 's/^/# /' "$out"
	echo "not ok 1 - race_planted_between_threads_of_the_daemon_fails_its_test"
	exit 1
fi
