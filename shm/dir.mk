# What client, daemon, tools and tests share. shm_src is linked into libtalea as a whole, base_src is a library
# (base.a) of which each program takes what it names; both need libc alone.
shm_src := $(wildcard shm/*.c)
base_src := $(wildcard shm/base/*.c)
base_lib := $(BUILD)/base.a

$(base_lib): $(patsubst %.c,$(BUILD)/%.o,$(base_src))
	$(call say,AR)rm -f $@ && $(AR) rcsD $@ $^
