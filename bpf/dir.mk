# Each bpf/pack/X.bpf.c (a probe of ours) and bpf/declared/X.bpf.c (what a line of text becomes) is made into
# .build/<variant>/bpf/pack/X.skel.h, included as "bpf/pack/X.skel.h".
bpf_src := $(wildcard bpf/pack/*.bpf.c bpf/declared/*.bpf.c)
skeletons := $(patsubst %.bpf.c,$(BUILD)/%.skel.h,$(bpf_src))
