# talea, the command line: tools/*.c, and a verb or a few a file in tools/verbs. tools/try/X.c is a program
# of `make try` of its own, tools/man/X.scd the manual page X.
tools_src := $(wildcard tools/*.c tools/verbs/*.c)
try_src := $(wildcard tools/try/*.c)
tools_obj := $(patsubst %.c,$(BUILD)/%.o,$(tools_src))
try_programs := $(patsubst tools/try/%.c,$(BUILD)/try/%,$(try_src))
programs += $(if $(wildcard tools/talea.c),$(BUILD)/talea) $(try_programs)
man_pages := $(patsubst tools/man/%.scd,$(BUILD)/man/%,$(wildcard tools/man/*.scd))
man_path = $(MANDIR)/man$(patsubst .%,%,$(suffix $1))/$(notdir $1)

# The shared sources are linked once more: those inside libtalea.a are local to it.
$(BUILD)/talea: $(tools_obj) $(patsubst %.c,$(BUILD)/%.o,$(shm_src)) $(BUILD)/libtalea.a $(base_lib)
	$(call say,LD)
	$(call link,-ljansson -lm)

$(try_programs): $(BUILD)/try/%: $(BUILD)/tools/try/%.o $(BUILD)/libtalea.a
	$(call say,LD)
	$(call link,-lm)
