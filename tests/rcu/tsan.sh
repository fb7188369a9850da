#!/bin/bash
# The control of SAN=thread: a race planted into the daemon (tests/rcu/lib/annotate.c) between two of its
# threads fails the test that started the daemon, although that test itself finds nothing. TAP.
export TALEA_BUILD=${TALEA_BUILD:-.build/thread}
# shellcheck source=tests/lib/shell.bash
. "$(dirname "$0")/../lib/shell.bash"

plan 1
# A runner of its own, with its own folder for reports.
unset TSAN_OPTIONS
TALEA_BUILD=$build TALEA_TSAN_PLANT=1 tests/run "$build/tests/rcu/threads" >"$folder/out" 2>&1
code=$?
[ $code = 1 ] && shown 'FAILED  ThreadSanitizer reported a process$' && prints 'data race tests/rcu/lib/annotate.c'
ok race_planted_between_threads_of_the_daemon_fails_its_test
finish
