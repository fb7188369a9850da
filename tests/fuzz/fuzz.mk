# The fuzz targets: tests/fuzz/X.c, a libFuzzer program each, with AddressSanitizer and
# UndefinedBehaviorSanitizer in everything that it calls. clang alone has libFuzzer, so these objects have a
# folder of their own. Included from the Makefile; tests/fuzz/run runs them.
FUZZ_CC ?= $(firstword $(shell command -v clang-14 clang) clang-14)
fuzz_src := $(wildcard tests/fuzz/*.c)
fuzz_programs := $(patsubst %.c,$(BUILD)/%,$(fuzz_src))
# Everything but the programs' own main; a target takes from it what it names.
fuzz_inside := $(patsubst %.c,$(BUILD)/fuzz/%.o,$(shm_src) $(base_src) $(client_src) \
	$(filter-out daemon/main.c,$(daemon_src)))
fuzz_flags := -std=gnu11 -fwrapv -pthread -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all \
	-fsanitize=address,undefined,fuzzer-no-link $(warnings)

$(fuzz_inside): | $(skeletons)

$(BUILD)/fuzz/%.o: %.c $(BUILD)/flags
	$(call say,FUZZCC)mkdir -p $(@D)
	$(Q)$(FUZZ_CC) $(cppflags) $(fuzz_flags) $(cflags_$*) -MMD -MP -c -o $@ $<

$(BUILD)/fuzz/inside.a: $(fuzz_inside)
	$(call say,AR)rm -f $@ && $(AR) rcsD --thin $@ $^

# A clock that the target turns, and dice that always fall the same.
fuzz_link_messages := -Wl,--wrap=clock_gettime,--wrap=getrandom

$(fuzz_programs): $(BUILD)/tests/fuzz/%: $(BUILD)/fuzz/tests/fuzz/%.o $(BUILD)/fuzz/inside.a
	$(call say,LD)mkdir -p $(@D)
	$(Q)$(FUZZ_CC) -pthread -fsanitize=address,undefined,fuzzer $(fuzz_link_$*) -o $@ $^ $(daemon_libs) -ldl

# Part of `make check` where there is libFuzzer; without, tests/fuzz/run says that it was skipped.
ifeq ($(SAN),)
tests: $(if $(wildcard $(shell $(FUZZ_CC) -print-runtime-dir 2>/dev/null)/libclang_rt.fuzzer*.a), \
	$(fuzz_programs))
endif

.PHONY: fuzz
fuzz: $(fuzz_programs) ## run the fuzz targets; FUZZ_SECONDS= each
	@TALEA_BUILD=$(abspath $(BUILD)) tests/fuzz/run

-include $(patsubst %.c,$(BUILD)/fuzz/%.d,$(shm_src) $(base_src) $(client_src) $(daemon_src) $(fuzz_src))
