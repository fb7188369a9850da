/*
 * Which arguments a tracepoint or a kernel function has, and how wide they are, from the kernel's type
 * information and that of its modules. Owns nothing. Called by declared.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/keeper/probe/declared.h"
#include "daemon/keeper/probe/symbols/types.h"

static struct declared_value value_of(const struct btf *btf, uint32_t id)
{
	const struct btf_type *t = btf__type_by_id(btf, id);
	struct declared_value v = { 0 };

	while (t && (btf_is_mod(t) || btf_is_typedef(t)))
		t = btf__type_by_id(btf, t->type);
	if (!t)
		return v;
	if (btf_is_ptr(t)) {
		v = (struct declared_value){ .bytes = 8, .is_pointer = 1 };
	} else if (btf_is_int(t) && t->size <= 8) {
		v.bytes = (uint8_t)t->size;
		v.is_signed = btf_int_encoding(t) & BTF_INT_SIGNED ? 1 : 0;
	} else if (btf_is_any_enum(t)) {
		v.bytes = (uint8_t)t->size;
		v.is_signed = btf_kflag(t);
	}
	return v;
}

/* The prototype that the event's name leads to; NULL when this BTF has no such name. */
static const struct btf_type *prototype_find(const struct btf *btf, uint32_t event, const char *name)
{
	bool is_function = event == SPEC_FENTRY || event == SPEC_FEXIT;
	const struct btf_type *t;
	char full[160];
	int id;

	snprintf(full, sizeof(full), "%s%s", is_function ? "" : TYPES_TRACEPOINT, name);
	id = btf__find_by_name_kind(btf, full, is_function ? BTF_KIND_FUNC : BTF_KIND_TYPEDEF);
	t = id > 0 ? btf__type_by_id(btf, (uint32_t)id) : NULL;
	t = t ? btf__type_by_id(btf, t->type) : NULL;
	if (t && !is_function) /* a typedef of a pointer to it */
		t = btf_is_ptr(t) ? btf__type_by_id(btf, t->type) : NULL;
	return t && btf_is_func_proto(t) ? t : NULL;
}

static int prototype_read(const struct btf *btf, uint32_t event, const char *name,
			  struct declared_prototype *ret)
{
	const struct btf_type *proto = prototype_find(btf, event, name);
	bool is_function = event == SPEC_FENTRY || event == SPEC_FEXIT;
	const struct btf_param *params;
	uint32_t nr, first;

	if (!proto)
		return -ENOENT;
	/* The first parameter of a tracepoint's is whoever listens, which programs are not given. */
	params = btf_params(proto);
	first = is_function ? 0 : 1;
	nr = btf_vlen(proto) > first ? btf_vlen(proto) - first : 0;
	memset(ret, 0, sizeof(*ret));
	ret->params_nr = nr < DECLARED_PARAMS_MAX ? nr : DECLARED_PARAMS_MAX;
	for (uint32_t i = 0; i < ret->params_nr; i++)
		ret->params[i] = value_of(btf, params[first + i].type);
	if (is_function && proto->type)
		ret->result = value_of(btf, proto->type);
	return 0;
}

struct wanted {
	uint32_t event;
	const char *name;
	struct declared_prototype *ret;
};

/* 1: here it is. */
static int prototype_visit(const struct btf *btf, uint32_t first, void *arg)
{
	const struct wanted *w = arg;

	(void)first;
	return prototype_read(btf, w->event, w->name, w->ret) == 0;
}

int declared_prototype(uint32_t event, const char *name, struct declared_prototype *ret)
{
	struct wanted w = { event, name, ret };
	int got = types_each(prototype_visit, &w);

	return got == 1 ? 0 : got ? got : -ENOENT;
}
