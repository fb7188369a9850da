# talead. liburcu and libbpf stay here.
daemon_src := $(wildcard daemon/*.c daemon/keeper/*.c daemon/worker/*.c)
daemon_libs := -lurcu-memb -lurcu-cds -lurcu-common -lbpf -lelf -lz -linih -lcap-ng -lseccomp \
	-ljansson -lm
daemon_obj := $(patsubst %.c,$(BUILD)/%.o,$(daemon_src))
programs += $(if $(wildcard daemon/main.c),$(BUILD)/talead)

$(daemon_obj): | $(skeletons)

$(BUILD)/talead: $(daemon_obj) $(patsubst %.c,$(BUILD)/%.o,$(shm_src))
	$(call say,LD)
	$(call link,$(daemon_libs))
