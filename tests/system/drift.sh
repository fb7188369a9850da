#!/bin/bash
# `talea drift` with the real kernel: a counter that agrees with its reference counter is ok, one that the test
# makes differ drifts, one whose probe is not attached is unknown. The controls put another file over one of
# /proc, in a mount namespace of their own, so that talea reads a false reference counter. Root only. TAP.
# shellcheck source=tests/lib/shell.bash
. "$(dirname "$0")/../lib/shell.bash"
[ "$(id -u)" = 0 ] || skip_all 'needs root to attach probes'
configure 'probes = context_switches, forks, softirqs' 'pin = no' '[namespace default]' 'users = 0' 'read-users = 65533'

run_beside() { # run_beside EXIT FILE STAND-IN ARGUMENT...: talea reads STAND-IN where it opens FILE
	# shellcheck disable=SC2016 # for the inner shell
	ends "$1" unshare -m --propagation private bash -c \
		'mount --bind "$1" "$2" && shift 2 && exec "$@"' _ "$3" "$2" "$talea" "${@:4}"
}

# Something forks, and so switches and interrupts, for as long as the command takes.
under_load() { # under_load COMMAND...
	local rc
	while :; do /bin/true; done &
	started=($!)
	"$@"
	rc=$?
	kill "${started[@]}"
	wait "${started[@]}" 2>/dev/null
	started=()
	return $rc
}
# An interval is long enough when it has 200 events. Some kernels now and then run a whole batch of softirqs,
# and the switches beside it, past their own tracepoints: every program that counts there misses the same ones.
# So one of several intervals has to agree.
at_last() { # at_last COMMAND...: repeats it until it is true, with $ms twice as long each time
	for ms in 700 1400 2800 5600 11200; do
		"$@" && return
	done
	return 1
}

run 3 drift && says 'no daemon answers'; ok drift_without_a_daemon_ends_with_3
start
if ! run 0 probes --json || ! json '[.probes[] | select(.state == "attached")] | length == 3'; then
	skip the_rest "$(value '[.probes[].reason // empty][0]')"
	finish
fi

# --- what agrees ----------------------------------------------------------------------------------

forks() { under_load run 0 drift --json --interval=${ms}ms kernel_forks_total && json '.counters | length == 1 and
	(.[0] | .state == "ok" and .drift == 0 and .ours >= 200 and .source == "/proc/stat processes")'; }
at_last forks; ok forks_agree_with_their_reference_counter
switches() { under_load run 0 drift --json --interval=${ms}ms kernel_context_switches_total &&
	json '.counters[0] | .state == "ok" and .ours >= 200 and .source_low <= .source_high'; }
at_last switches; ok context_switches_agree_with_their_reference_counter
softirqs() { under_load run 0 drift --json --interval=${ms}ms kernel_softirqs_total &&
	json '(.counters | length) >= 8 and all(.counters[]; .state == "ok") and
		([.counters[].ours] | add) > 0'; }
at_last softirqs; ok softirqs_agree_vector_by_vector
[ "$(jq -r '.counters[].labels.vector' "$folder/out" | sort)" = \
	"$(sed -n '2,$s/^ *\([A-Z_]*\):.*/\1/p' /proc/softirqs | sort)" ]
ok every_vector_of_the_reference_counter_is_compared

# --- what does not agree: a false reference counter -----------------------------------------------

cp /proc/stat "$folder/still"
run_beside 6 /proc/stat "$folder/still" drift --json --interval=500ms kernel_context_switches_total &&
	json '.counters[0] | .state == "drift" and .drift > 0 and .source_high == 0 and .ours > 0' &&
	says "from the kernel's own count"
ok a_reference_counter_that_stands_still_is_drift_and_ends_with_6
run_beside 6 /proc/stat "$folder/still" drift --interval=500ms kernel_context_switches_total &&
	shown '^kernel_context_switches_total [0-9]+ 0 0 [1-9][0-9]* drift$'
ok drift_piped_is_a_line_of_numbers_and_a_verdict

# The reference counter of a kernel that forks twice as often: beside it ours is one that loses half. talea
# reads the file while the test writes it: so its length never changes.
double() {
	awk '/^processes/ { printf "processes %020d\n", $2 * 2 }' /proc/stat 1<>"$folder/double"
}
loses_half() {
	under_load run_beside 6 /proc/stat "$folder/double" drift --json --interval=${ms}ms kernel_forks_total &&
		json '.counters[0] | .state == "drift" and .ours >= 200 and -.drift > .ours / 2'
}
double
(while sleep 0.01; do double; done) &
doubling=$!
at_last loses_half
ok a_counter_that_loses_half_is_drift
kill "$doubling"
wait "$doubling" 2>/dev/null

# --- what is not known ----------------------------------------------------------------------------

run 1 drift --json --interval=10ms kernel_oom_kills_total && says 'nothing was compared' &&
	json '.counters[0] | .state == "unknown" and (.why | test("oom_kills is not attached")) and
		(has("ours") | not)'
ok what_is_not_attached_is_unknown_and_never_zero
others() { run 0 drift --json --interval=10ms kernel_oom_kills_total 'kernel_softirqs_total{vector="BLOCK"}' &&
	json '.counters | length == 2 and ([.[].state] | sort) == ["ok", "unknown"]'; }
at_last others; ok an_unknown_counter_leaves_the_others
run 4 drift --interval=10ms kernel_execs_total && says 'no reference counter'
ok a_counter_without_a_second_source_ends_with_4
run 2 drift --interval=soon && says 'not a time'; ok a_bad_interval_is_usage
run 0 drift --json --interval=10ms kernel_forks_total && json '.schema == 1 and .interval_ns == 10000000 and
	.under_way > 0'
ok json_has_the_interval
as_user 65533
run 0 drift --interval=10ms kernel_forks_total; ok a_reader_may_use_drift
as_user 65532
run 7 drift --interval=10ms && ! silent; ok a_user_without_access_gets_7
finish
