# talead: one folder a process (keeper, worker), and what both share (link, config, spec).
daemon_src := $(wildcard daemon/*.c daemon/*/*.c daemon/*/*/*.c daemon/*/*/*/*.c)
daemon_libs := -lurcu-memb -lurcu-cds -lurcu-common -lbpf -lelf -lz -linih -lcap-ng -lseccomp \
	-ljansson -lm
daemon_obj := $(patsubst %.c,$(BUILD)/%.o,$(daemon_src))
programs += $(if $(wildcard daemon/main.c),$(BUILD)/talead)

# The version without the header that it stands in: the daemon includes nothing of the library's.
versioned := daemon/main daemon/worker/control/query
$(foreach f,$(versioned),$(eval cflags_$f := -DTALEA_VERSION='"$$(VERSION)"'))
$(versioned:%=$(BUILD)/%.o): client/include/talea.h

$(daemon_obj): | $(skeletons)

$(BUILD)/talead: $(daemon_obj) $(patsubst %.c,$(BUILD)/%.o,$(shm_src)) $(base_lib)
	$(call say,LD)
	$(call link,$(daemon_libs))
