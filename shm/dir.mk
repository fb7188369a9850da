# What client, daemon, tools and tests share. lib_shm_src is linked into libtalea as a whole; libtalea has no
# use for the rest of shm_src. base_src is a library (base.a) of which each program takes what it names. All
# need libc alone.
shm_src := $(wildcard shm/*.c)
lib_shm_src := $(filter-out shm/wire_admin.c,$(shm_src))
base_src := $(wildcard shm/base/*.c)
base_lib := $(BUILD)/base.a

$(base_lib): $(patsubst %.c,$(BUILD)/%.o,$(base_src))
	$(call say,AR)rm -f $@ && $(AR) rcsD $@ $^
