# libtalea: static (one object, only public names global) and shared.
client_src := $(wildcard client/*.c)
public_headers := talea.h talea_add.h talea_rseq.h talea.hpp
bpf_headers := talea.bpf.h

# Position-independent, but calls inside the library stay direct.
pic_src := $(lib_shm_src) $(client_src)
pic_flags := -fPIC -fno-semantic-interposition

lib_obj := $(patsubst %.c,$(BUILD)/%.o,$(lib_shm_src) $(client_src))
lib_so := $(BUILD)/libtalea.so.$(VERSION)
libs += $(BUILD)/libtalea.a $(lib_so)

$(BUILD)/libtalea.names: client/libtalea.map client/include/talea.h client/include/talea_add.h \
		tests/lint/map
	$(call say,MAP)mkdir -p $(@D)
	$(Q)tests/lint/map $(VERSION) >$@

$(BUILD)/libtalea.a: $(lib_obj) $(BUILD)/libtalea.names
	$(call say,AR)$(LD) -r -o $(@:.a=.o) $(lib_obj)
	$(Q)$(OBJCOPY) --keep-global-symbols=$(BUILD)/libtalea.names $(@:.a=.o)
	$(Q)rm -f $@ && $(AR) rcsD $@ $(@:.a=.o)

$(lib_so): $(lib_obj) $(BUILD)/libtalea.names
	$(call say,SO)$(CC) -shared $(cflags) $(ldflags) $(if $(SAN),,-Wl$(comma)-z$(comma)defs) \
		-Wl,-z,nodelete -Wl,-soname,libtalea.so.$(SOVERSION),--version-script=client/libtalea.map \
		-o $@ $(lib_obj)
	$(Q)ln -sf $(@F) $(BUILD)/libtalea.so.$(SOVERSION)
	$(Q)ln -sf $(@F) $(BUILD)/libtalea.so

$(BUILD)/libtalea.so: $(lib_so) ;
