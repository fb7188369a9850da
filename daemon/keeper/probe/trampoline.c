/*
 * How a probe's programs are entered: an event runs a trampoline of ours that tail-calls the
 * program through a slot, a table of one place, so that a later program takes its place between two
 * events. Each program has a slot of its own: programs of different events share none. A trampoline
 * is named after the event of its program, and so is recognised when it is found pinned. Owns
 * nothing. Called by attach.c and adopt.c.
 */
#include "daemon/keeper/probe/trampoline.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* --- names ------------------------------------------------------------------------------------ */

struct trampoline_name {
	char text[BPF_OBJ_NAME_LEN];
};

/* Made of the section, and of the program's place among those of the same section. */
static struct trampoline_name name_of(const struct load *l, const struct bpf_program *prog)
{
	const char *section = bpf_program__section_name(prog);
	struct trampoline_name name;
	struct bpf_program *other;
	uint64_t nr = 0;

	bpf_object__for_each_program(other, l->obj) {
		if (other == prog)
			break;
		nr += !strcmp(bpf_program__section_name(other), section);
	}
	snprintf(name.text, sizeof(name.text), "s%014llx",
		 XXH3_64bits_withSeed(section, strlen(section), nr) & 0xffffffffffffffull);
	return name;
}

static bool is_called(int prog_fd, const struct trampoline_name *name)
{
	struct bpf_prog_info info = { 0 };
	uint32_t bytes = sizeof(info);

	return !bpf_obj_get_info_by_fd(prog_fd, &info, &bytes) && !strcmp(info.name, name->text);
}

/* --- making ----------------------------------------------------------------------------------- */

/* bpf_get_func_ip works in a program that the event itself calls, and not behind a tail call. */
static bool asks_where_it_is(const struct bpf_program *prog)
{
	const struct bpf_insn *insn = bpf_program__insns(prog);

	for (size_t i = 0; i < bpf_program__insn_cnt(prog); i++)
		if (insn[i].code == (BPF_JMP | BPF_CALL) && !insn[i].src_reg &&
		    insn[i].imm == BPF_FUNC_get_func_ip)
			return true;
	return false;
}

/*
 * What a program of type TRACING is attached to, by the number that the kernel has for it: a type of
 * the kernel itself, or of a module whose types the caller closes (ret->attach_btf_obj_fd). Opening
 * those takes CAP_SYS_ADMIN.
 */
static int target_get(const struct load *l, const struct bpf_program *prog,
		      struct bpf_prog_load_opts *ret)
{
	const char *slash = strchr(bpf_program__section_name(prog), '/');
	const char *target = l->target ? l->target : slash ? slash + 1 : NULL;
	struct bpf_prog_info info = { 0 };
	uint32_t bytes = sizeof(info);
	int id, module;

	if (bpf_program__type(prog) != BPF_PROG_TYPE_TRACING)
		return 0;
	if (!target || bpf_obj_get_info_by_fd(bpf_program__fd(prog), &info, &bytes))
		return -ENOTSUP;
	ret->attach_btf_id = info.attach_btf_id;
	id = libbpf_find_vmlinux_btf_id(target, bpf_program__expected_attach_type(prog));
	if (id > 0 && (uint32_t)id == info.attach_btf_id)
		return 0;
	module = bpf_btf_get_fd_by_id(info.attach_btf_obj_id);
	if (module < 0)
		return -ENOTSUP;
	ret->attach_btf_obj_fd = (uint32_t)module;
	return 0;
}

static int trampoline_load(const struct load *l, const struct bpf_program *prog,
			   const struct trampoline_name *name, int slot_fd)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = BPF_REG_2,
		  .src_reg = BPF_PSEUDO_MAP_FD, .imm = slot_fd },
		{ 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = 0 },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_tail_call },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts,
		    .expected_attach_type = bpf_program__expected_attach_type(prog),
		    .prog_flags = bpf_program__flags(prog));
	int err = target_get(l, prog, &opts), fd;

	if (err)
		return err;
	fd = bpf_prog_load(bpf_program__type(prog), name->text, "GPL", insns,
			   sizeof(insns) / sizeof(insns[0]), &opts);
	err = fd < 0 ? -errno : fd;
	if (opts.attach_btf_obj_fd)
		close((int)opts.attach_btf_obj_fd);
	return err;
}

static int slot_set(int slot_fd, int prog_fd)
{
	uint32_t key = 0;

	return bpf_map_update_elem(slot_fd, &key, &prog_fd, BPF_ANY);
}

int trampoline_make(const struct load *l, const struct bpf_program *prog, int *ret_fd,
	      int *ret_slot_fd)
{
	struct trampoline_name name = name_of(l, prog);
	uint32_t key = 0;
	int slot, fd, err;

	if (asks_where_it_is(prog))
		return -ENOTSUP;
	slot = bpf_map_create(BPF_MAP_TYPE_PROG_ARRAY, "talea_slot", sizeof(uint32_t),
			      sizeof(uint32_t), 1, NULL);
	if (slot < 0)
		return slot;
	fd = trampoline_load(l, prog, &name, slot);
	err = fd < 0 ? fd : slot_set(slot, bpf_program__fd(prog));
	/* It fits; trampolines_begin lets events reach it. */
	if (!err)
		err = bpf_map_delete_elem(slot, &key);
	if (err) {
		if (fd >= 0)
			close(fd);
		close(slot);
		return err;
	}
	*ret_fd = fd;
	*ret_slot_fd = slot;
	return 0;
}

/* --- beginning, replacing --------------------------------------------------------------------- */

int trampolines_begin(const struct load *l)
{
	struct bpf_program *prog;
	uint32_t i = 0;
	int err = 0;

	bpf_object__for_each_program(prog, l->obj) {
		if (!err && l->live->slot_fds[i] >= 0)
			err = slot_set(l->live->slot_fds[i], bpf_program__fd(prog));
		i++;
	}
	return err;
}

/* The place of this program's trampoline among the pinned ones, or -ENOENT. */
static int place_of(const struct load *l, const struct bpf_program *prog)
{
	struct trampoline_name name = name_of(l, prog);

	for (uint32_t i = 0; i < l->live->progs_nr; i++)
		if (l->live->slot_fds[i] >= 0 && is_called(l->live->prog_fds[i], &name))
			return (int)i;
	return -ENOENT;
}

int trampolines_replace(const struct load *l)
{
	int place[PROBE_PROGRAMS_MAX], err = 0;
	struct bpf_program *prog;
	uint32_t nr = 0;

	bpf_object__for_each_program(prog, l->obj) {
		if (nr == PROBE_PROGRAMS_MAX)
			return -E2BIG;
		place[nr] = place_of(l, prog);
		if (place[nr++] < 0)
			return -ENOENT;
	}
	if (nr != l->live->progs_nr)
		return -ENOENT;
	nr = 0;
	bpf_object__for_each_program(prog, l->obj) {
		if (!err)
			err = slot_set(l->live->slot_fds[place[nr]], bpf_program__fd(prog));
		nr++;
	}
	return err;
}
