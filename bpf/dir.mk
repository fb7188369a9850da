# Each bpf/X.bpf.c becomes .build/<variant>/bpf/X.skel.h, included as "bpf/X.skel.h".
bpf_src := $(wildcard bpf/*.bpf.c)
skeletons := $(patsubst bpf/%.bpf.c,$(BUILD)/bpf/%.skel.h,$(bpf_src))
