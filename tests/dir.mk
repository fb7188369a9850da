# A test is a program or an executable script that prints TAP; tests/run runs them.
#   tests/unit/X.c, tests/system/X.c, tests/torture/X.c   a cmocka program each
#   tests/{compile,system}/X.sh, tests/lint/selftest      scripts; TALEA_BUILD names the build folder
#   tests/rcu/X.c, X.sh      what liburcu is there for; lib/annotate.c is in every program of SAN=thread
#   tests/lib/X.c      the harness: linked where a test uses it
#   tests/helper/X.c   a program that tests start; tests/plugin/X.c a shared object they dlopen
#   tests/bench/X.c    a program of tests/bench/run; tests/bench/lib is linked to all of them;
#                      tests/bench/bpf/X.bpf.c is a peer of ours in the kernel
# Tests see libtalea's and the daemon's objects, internals included; libs_<program> adds libraries.
test_src := $(wildcard tests/unit/*.c tests/system/*.c tests/torture/*.c tests/rcu/*.c)
harness_src := $(wildcard tests/lib/*.c)
helper_src := $(wildcard tests/helper/*.c)
plugin_src := $(wildcard tests/plugin/*.c)
bench_program_src := $(wildcard tests/bench/*.c)
bench_lib_src := $(wildcard tests/bench/lib/*.c)
bench_bpf_src := $(wildcard tests/bench/bpf/*.bpf.c)
bench_src := $(bench_program_src) $(bench_lib_src)
test_scripts := $(wildcard tests/lint/selftest tests/compile/*.sh tests/system/*.sh tests/rcu/*.sh \
	tests/model/run tests/fuzz/run)

# The compile tests judge a plain build, and two in tests/rcu bring their own. With ThreadSanitizer the
# recovery test, which steps one thread an instruction at a time, takes too long, and probes know nothing
# of it; tests/rcu/tsan.sh is its control.
ifneq ($(SAN),)
test_scripts := $(filter-out tests/lint/% tests/compile/% tests/model/% tests/fuzz/%,$(test_scripts))
endif
ifneq ($(findstring thread,$(SAN)),)
test_src := $(filter-out tests/system/probes_% tests/unit/recovery% tests/rcu/lag.c \
	tests/rcu/removal.c,$(test_src))
else
test_scripts := $(filter-out tests/rcu/tsan.sh,$(test_scripts))
endif

test_programs := $(patsubst %.c,$(BUILD)/%,$(test_src))
helpers := $(patsubst %.c,$(BUILD)/%,$(helper_src))
bench_programs := $(patsubst %.c,$(BUILD)/%,$(bench_program_src))
plugins := $(patsubst %.c,$(BUILD)/%.so,$(plugin_src))

inside_obj := $(patsubst %.c,$(BUILD)/%.o,$(shm_src) $(base_src) $(client_src) \
	$(filter-out daemon/main.c,$(daemon_src)))
harness_obj := $(patsubst %.c,$(BUILD)/%.o,$(harness_src))

# ThreadSanitizer does not see into liburcu: it is told what these calls promise.
ifneq ($(findstring thread,$(SAN)),)
annotate := $(BUILD)/tests/rcu/lib/annotate.o
annotated := cds_wfcq_enqueue __cds_wfcq_dequeue_blocking cds_lfht_add cds_lfht_lookup \
	cds_lfht_first cds_lfht_next rcu_dereference_sym rcu_xchg_pointer_sym urcu_memb_read_unlock \
	urcu_memb_synchronize_rcu urcu_memb_call_rcu urcu_memb_barrier
daemon_libs += $(annotated:%=-Wl,--wrap=%)
$(BUILD)/talead $(test_programs): $(annotate)
include $(wildcard $(annotate:.o=.d))
endif

# What CI runs with SAN=thread: `make SAN=thread check TESTS='$(tsan_tests)'`. All of the daemon's threads
# and the library's; what is left out takes longest and adds no other thread.
tsan_tests = $(filter-out $(addprefix $(BUILD)/tests/,system/adding system/fold system/kills \
	system/sandbox torture/adds),$(test_programs)) tests/rcu/tsan.sh tests/system/config.sh

$(BUILD)/inside.a: $(inside_obj)
	$(call say,AR)rm -f $@ && $(AR) rcsD --thin $@ $^

$(BUILD)/harness.a: $(harness_obj)
	$(call say,AR)rm -f $@ && $(AR) rcsD --thin $@ $^

$(test_programs): %: %.o $(BUILD)/harness.a $(BUILD)/inside.a
	$(call say,LD)
	$(call link,$(libs_$(patsubst $(BUILD)/%,%,$@)) $(daemon_libs) -lcmocka -ldl)

# The writers of tools/expo, without the command line.
$(BUILD)/tests/unit/expo: $(expo_obj)
libs_tests/unit/expo = $(BUILD)/inside.a -ljansson -lm

# Helpers and plugins are what a user would write: they see libtalea as it is installed.
$(helpers): %: %.o $(BUILD)/libtalea.a
	$(call say,LD)
	$(call link,$(libs_$(patsubst $(BUILD)/%,%,$@)) -lm -ldl)

$(plugins): $(BUILD)/%.so: %.c $(lib_so)
	$(call say,SO)mkdir -p $(@D)
	$(Q)$(CC) $(cppflags) $(cflags) $(ldflags) -fPIC -shared -MMD -MP -MF $(@:.so=.d) -MT $@ \
		-o $@ $< -L$(BUILD) -ltalea

# Whatever the rest is built with, this one judges memory (and registry.c, which it includes).
cflags_tests/rcu/removal := -fsanitize=address -fno-omit-frame-pointer
libs_tests/rcu/removal := -fsanitize=address

# The test is the fold thread.
libs_tests/unit/probe_request := -Wl,--wrap=keeper_request_ask,--wrap=fold_probe_statistics

libs_tests/bench/add := -lpcp_mmv -lpcp
# Loops inside the daemon and the library, on a simulated region; the others see libtalea as it is
# installed.
bench_inside := $(BUILD)/tests/bench/lanes $(BUILD)/tests/bench/kernel
$(BUILD)/tests/bench/lanes: $(BUILD)/daemon/worker/space/lanes.o $(lib_obj)
# And the probes themselves.
$(BUILD)/tests/bench/kernel: $(BUILD)/inside.a
$(BUILD)/tests/bench/kernel.o: $(bench_bpf_src:%.bpf.c=$(BUILD)/%.skel.h) $(BUILD)/bpf/pack/syscalls.skel.h
libs_tests/bench/kernel := $(daemon_libs)
include $(wildcard $(bench_bpf_src:%.c=$(BUILD)/%.d))
$(filter-out $(bench_inside),$(bench_programs)): $(BUILD)/libtalea.a

$(bench_programs): %: %.o $(patsubst %.c,$(BUILD)/%.o,$(bench_lib_src) $(shm_src))
	$(call say,LD)
	$(call link,$(libs_$(patsubst $(BUILD)/%,%,$@)) -lm -ldl)
