/*
 * The entries of an object's programs: what is attached is a stub of ours that goes on to the program
 * through a jump table of one place, so that a later object's program takes its place between two
 * events. Each has a table of its own: programs of different events share none. A stub is called by
 * the event of its program, and so is known again by who finds it pinned. Owns nothing. Called by
 * attach.c and adopt.c.
 */
#include "daemon/keeper/probe/stub.h"

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

struct stub_name {
	char text[BPF_OBJ_NAME_LEN];
};

/* Of the section, and of its place among the programs of the same section. */
static struct stub_name name_of(const struct load *l, const struct bpf_program *prog)
{
	const char *section = bpf_program__section_name(prog);
	struct stub_name name;
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

static bool is_called(int prog_fd, const struct stub_name *name)
{
	struct bpf_prog_info info = { 0 };
	uint32_t bytes = sizeof(info);

	return !bpf_obj_get_info_by_fd(prog_fd, &info, &bytes) && !strcmp(info.name, name->text);
}

/* --- making ----------------------------------------------------------------------------------- */

/* That helper works in what the event calls itself only. */
static bool asks_where_it_is(const struct bpf_program *prog)
{
	const struct bpf_insn *insn = bpf_program__insns(prog);

	for (size_t i = 0; i < bpf_program__insn_cnt(prog); i++)
		if (insn[i].code == (BPF_JMP | BPF_CALL) && !insn[i].src_reg &&
		    insn[i].imm == BPF_FUNC_get_func_ip)
			return true;
	return false;
}

/* A function of a module is found by its descriptor alone, which takes more rights: not done. */
static int target_get(const struct bpf_program *prog, uint32_t *ret)
{
	const char *target = strchr(bpf_program__section_name(prog), '/');
	struct bpf_prog_info info = { 0 };
	uint32_t bytes = sizeof(info);
	int id;

	*ret = 0;
	if (bpf_program__type(prog) != BPF_PROG_TYPE_TRACING)
		return 0;
	if (!target || bpf_obj_get_info_by_fd(bpf_program__fd(prog), &info, &bytes))
		return -ENOTSUP;
	id = libbpf_find_vmlinux_btf_id(target + 1, bpf_program__expected_attach_type(prog));
	if (id <= 0 || (uint32_t)id != info.attach_btf_id)
		return -ENOTSUP;
	*ret = info.attach_btf_id;
	return 0;
}

static int stub_load(const struct bpf_program *prog, const struct stub_name *name, int jump_fd)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = BPF_REG_2,
		  .src_reg = BPF_PSEUDO_MAP_FD, .imm = jump_fd },
		{ 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = 0 },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_tail_call },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts,
		    .expected_attach_type = bpf_program__expected_attach_type(prog),
		    .prog_flags = bpf_program__flags(prog));
	int err = target_get(prog, &opts.attach_btf_id), fd;

	if (err)
		return err;
	fd = bpf_prog_load(bpf_program__type(prog), name->text, "GPL", insns,
			   sizeof(insns) / sizeof(insns[0]), &opts);
	return fd < 0 ? -errno : fd;
}

static int jump_set(int jump_fd, int prog_fd)
{
	uint32_t key = 0;

	return bpf_map_update_elem(jump_fd, &key, &prog_fd, BPF_ANY);
}

int stub_make(const struct load *l, const struct bpf_program *prog, int *ret_stub_fd,
	      int *ret_jump_fd)
{
	struct stub_name name = name_of(l, prog);
	uint32_t key = 0;
	int jump, stub, err;

	if (asks_where_it_is(prog))
		return -ENOTSUP;
	jump = bpf_map_create(BPF_MAP_TYPE_PROG_ARRAY, "talea_jump", sizeof(uint32_t),
			      sizeof(uint32_t), 1, NULL);
	if (jump < 0)
		return jump;
	stub = stub_load(prog, &name, jump);
	err = stub < 0 ? stub : jump_set(jump, bpf_program__fd(prog));
	/* That it fits is known now; it is entered when stubs_set says so. */
	if (!err)
		err = bpf_map_delete_elem(jump, &key);
	if (err) {
		if (stub >= 0)
			close(stub);
		close(jump);
		return err;
	}
	*ret_stub_fd = stub;
	*ret_jump_fd = jump;
	return 0;
}

/* --- going on --------------------------------------------------------------------------------- */

int stubs_set(const struct load *l)
{
	struct bpf_program *prog;
	uint32_t i = 0;
	int err = 0;

	bpf_object__for_each_program(prog, l->obj) {
		if (!err && l->live->jump_fds[i] >= 0)
			err = jump_set(l->live->jump_fds[i], bpf_program__fd(prog));
		i++;
	}
	return err;
}

/* Place of the stub of this program among the pinned ones, or -ENOENT. */
static int place_of(const struct load *l, const struct bpf_program *prog)
{
	struct stub_name name = name_of(l, prog);

	for (uint32_t i = 0; i < l->live->progs_nr; i++)
		if (l->live->jump_fds[i] >= 0 && is_called(l->live->prog_fds[i], &name))
			return (int)i;
	return -ENOENT;
}

int stubs_swap(const struct load *l)
{
	int place[PROBE_PARTS_MAX], err = 0;
	struct bpf_program *prog;
	uint32_t nr = 0;

	bpf_object__for_each_program(prog, l->obj) {
		if (nr == PROBE_PARTS_MAX)
			return -E2BIG;
		place[nr] = place_of(l, prog);
		if (place[nr++] < 0)
			return -ENOENT;
	}
	if (nr != l->live->progs_nr || nr != l->live->links_nr)
		return -ENOENT;
	nr = 0;
	bpf_object__for_each_program(prog, l->obj) {
		if (!err)
			err = jump_set(l->live->jump_fds[place[nr]], bpf_program__fd(prog));
		nr++;
	}
	return err;
}
