# talea, the command line: tools/*.c, a verb or a few in each file of tools/verbs, what people see in
# tools/show, what programs read in tools/expo. tools/try/X.c is a program of `make try`, tools/man/X.scd the
# manual page X.
expo_src := $(wildcard tools/expo/*.c)
expo_obj := $(patsubst %.c,$(BUILD)/%.o,$(expo_src))
tools_src := $(wildcard tools/*.c tools/show/*.c tools/verbs/*.c) $(expo_src)
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
