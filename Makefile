# The rules. What is built from which files stands in each folder's dir.mk; packages in
# tools/deps/packages. Output goes to .build/<variant>/: `dev` by default, one more for each SAN=.
# V=1 shows the commands. Variables: CC, CFLAGS, SAN, BUILD, WERROR, PREFIX, LIBDIR, DESTDIR, STRICT.

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.SECONDARY:
SHELL := /bin/bash
.SHELLFLAGS := -ec
comma := ,

SAN ?=
BUILD ?= .build/$(if $(SAN),$(subst $(comma),-,$(SAN)),dev)
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
SBINDIR ?= $(PREFIX)/sbin
INCLUDEDIR ?= $(PREFIX)/include
LIBDIR ?= $(PREFIX)/lib
MANDIR ?= $(PREFIX)/share/man
DESTDIR ?=

ifeq ($(origin CC),default)
CC := gcc
endif
CROSS ?=
LD := $(CROSS)ld
AR := $(CROSS)ar
OBJCOPY := $(CROSS)objcopy
CLANG_BPF ?= $(firstword $(shell command -v clang-14 clang) clang-14)
BPFTOOL ?= $(firstword $(shell PATH="$$PATH:/usr/sbin:/sbin" command -v bpftool) bpftool)
MULTIARCH := $(shell $(CC) -print-multiarch 2>/dev/null)
# libbpf's word for the CPU that the BPF programs will run on.
bpf_arch = $(patsubst aarch64,arm64,$(patsubst x86_64,x86,$(firstword \
	$(subst -, ,$(shell $(CC) -dumpmachine)))))
CFLAGS ?= -O2 -g
WERROR ?= -Werror
LDFLAGS ?=

# The one place of the version is talea.h; the map must agree (tests/lint/map).
VERSION := $(shell sed -n 's/^.define TALEA_VERSION "\(.*\)"$$/\1/p' client/include/talea.h)
SOVERSION := $(firstword $(subst ., ,$(VERSION)))

san_flags := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all \
	$(if $(findstring thread,$(SAN)),-Wno-tsan))
cppflags := -I. -Ishm -Iclient/include -I$(BUILD)
warnings := -Wall -Wextra $(WERROR) -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
# Counts wrap: what a client scribbles into its cells must not be undefined in the daemon.
cflags := -std=gnu11 -fwrapv -pthread $(CFLAGS) $(warnings) $(san_flags)
ldflags := -pthread $(san_flags) -Wl,-z,relro,-z,now,--as-needed $(LDFLAGS)

ifneq ($(V),1)
Q := @
say = @printf '  %-7s %s\n' '$1' '$(patsubst $(BUILD)/%,%,$@)';
else
say =
endif

# Under sudo only apt and the tests are root: the tree's owner builds.
as_owner := $(shell tools/deps/as-owner --needed && echo tools/deps/as-owner)

libs :=
programs :=
test_programs :=
include shm/dir.mk client/dir.mk bpf/dir.mk daemon/dir.mk tools/dir.mk tests/dir.mk \
	tests/model/model.mk tests/fuzz/fuzz.mk

src := $(shm_src) $(base_src) $(client_src) $(daemon_src) $(tools_src) $(try_src) $(harness_src) $(test_src) \
	$(helper_src) $(plugin_src) $(bench_src) $(bench_lib_src)
obj = $(patsubst %.c,$(BUILD)/%.o,$1)
products := $(libs) $(programs) $(man_pages)

.PHONY: all build tests deps try check bench bench-build lint install uninstall clean help fresh
.DEFAULT_GOAL := all

# --- targets ------------------------------------------------------------------------------------

ifeq ($(as_owner),)
all: build ## everything but the tests (default)
else
all:
	+@$(as_owner) $(MAKE) --no-print-directory build
endif

build: $(products)
tests: build $(test_programs) $(helpers) $(plugins)
bench-build: build $(bench_programs)

deps: ## install the packages that building needs (as root), or say how
	@tools/deps/install.sh $(or $(GROUP),try)

try: ## build, start a private daemon, two writers and kernel probes, and watch them
	@tools/deps/install.sh try
	+@$(as_owner) $(MAKE) --no-print-directory build
	@TALEA_BUILD=$(abspath $(BUILD)) tools/try/run

check: ## run every test; SAN=address,undefined or SAN=thread builds and tests that variant
	@tools/deps/install.sh check
	+@$(as_owner) $(MAKE) --no-print-directory tests
	@TALEA_BUILD=$(abspath $(BUILD)) SAN=$(SAN) STRICT=$(STRICT) tests/run \
		$(or $(TESTS),$(test_programs) $(test_scripts))

bench: ## measure; JSON lines on stdout, everything else on stderr
	@tools/deps/install.sh bench >&2
	+@$(as_owner) $(MAKE) --no-print-directory bench-build >&2
	@TALEA_BUILD=$(abspath $(BUILD)) tests/bench/run

lint: ## check the rules of CONTRIBUTING.md
	@tools/deps/install.sh check
	@tests/lint/run

install: all ## install below DESTDIR and PREFIX
	$(Q)install -d $(addprefix $(DESTDIR),$(BINDIR) $(SBINDIR) $(INCLUDEDIR) $(LIBDIR)/pkgconfig)
	$(Q)install -m 755 $(BUILD)/talea $(DESTDIR)$(BINDIR)/talea
	$(Q)install -m 755 $(BUILD)/talead $(DESTDIR)$(SBINDIR)/talead
	$(Q)install -m 644 $(addprefix client/include/,$(public_headers)) \
		$(addprefix bpf/,$(bpf_headers)) $(DESTDIR)$(INCLUDEDIR)
	$(Q)install -m 644 $(BUILD)/libtalea.a $(DESTDIR)$(LIBDIR)
	$(Q)install -m 644 $(BUILD)/libtalea.so.$(VERSION) $(DESTDIR)$(LIBDIR)
	$(Q)ln -sf libtalea.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libtalea.so.$(SOVERSION)
	$(Q)ln -sf libtalea.so.$(SOVERSION) $(DESTDIR)$(LIBDIR)/libtalea.so
	$(Q)sed -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' -e 's|@LIBDIR@|$(LIBDIR)|' \
		-e 's|@VERSION@|$(VERSION)|' client/talea.pc.in \
		>$(DESTDIR)$(LIBDIR)/pkgconfig/talea.pc
	$(Q)$(foreach p,$(man_pages),install -D -m 644 $p $(DESTDIR)$(call man_path,$p);)

uninstall: ## remove what install put there
	$(Q)rm -f $(DESTDIR)$(BINDIR)/talea $(DESTDIR)$(SBINDIR)/talead \
		$(addprefix $(DESTDIR)$(INCLUDEDIR)/,$(public_headers) $(bpf_headers)) \
		$(DESTDIR)$(LIBDIR)/libtalea.{a,so,so.$(SOVERSION),so.$(VERSION)} \
		$(DESTDIR)$(LIBDIR)/pkgconfig/talea.pc \
		$(foreach p,$(man_pages),$(DESTDIR)$(call man_path,$p))

fresh: ## try and check in a bare Debian 12 made with mmdebstrap (root; needs a mirror)
	@tests/fresh/run

clean: ## remove all that was built
	$(Q)rm -rf .build

help: ## this list
	@echo "Variables: V=1 SAN=address,undefined|thread STRICT=1 TESTS= CC= CFLAGS= DESTDIR= PREFIX= LIBDIR="
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile tests/model/model.mk tests/fuzz/fuzz.mk | expand -t 18

# --- rules --------------------------------------------------------------------------------------

# Objects are built anew when the compiler or its flags change.
$(BUILD)/flags: force
	@mkdir -p $(@D); f='$(subst ','\'',$(CC) $(cppflags) $(cflags) $(ldflags))'; \
		[ "$$(cat $@ 2>/dev/null)" = "$$f" ] || echo "$$f" >$@

.PHONY: force
force:

$(BUILD)/%.o: %.c $(BUILD)/flags
	$(call say,CC)mkdir -p $(@D)
	$(Q)$(CC) $(cppflags) $(cflags) $(cflags_$*) $(if $(filter $<,$(pic_src)),$(pic_flags)) \
		-MMD -MP -c -o $@ $<

# A program is its own object, what it names in objs_<program>, and libs_<program>.
link = $(Q)mkdir -p $(@D); $(CC) $(cflags) $(ldflags) -o $@ $(filter %.o %.a,$^) $1

$(BUILD)/%.bpf.o: %.bpf.c
	$(call say,BPF)mkdir -p $(@D)
	$(Q)$(CLANG_BPF) -target bpf -O2 -g -Wall -Wextra $(WERROR) -I. -Ibpf \
		-D__TARGET_ARCH_$(bpf_arch) $(if $(MULTIARCH),-I/usr/include/$(MULTIARCH)) \
		-MMD -MP -MT $@ -MF $(@:.o=.d) -c -o $@.dwarf $<
	$(Q)$(BPFTOOL) gen object $@ $@.dwarf && rm $@.dwarf

$(BUILD)/%.skel.h: $(BUILD)/%.bpf.o
	$(call say,SKEL)$(BPFTOOL) gen skeleton $< name $(notdir $*) >$@

$(BUILD)/man/%: tools/man/%.scd
	$(call say,MAN)mkdir -p $(@D)
	$(Q)scdoc <$< >$@

include $(wildcard $(patsubst %.c,$(BUILD)/%.d,$(src) $(bpf_src)))
