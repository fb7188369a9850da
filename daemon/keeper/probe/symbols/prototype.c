/* Prototypes of tracepoints and kernel functions; see prototype.h. Called by declared.c. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/keeper/probe/symbols/prototype.h"
#include "daemon/keeper/probe/symbols/types.h"

static struct prototype_value prototype_value_of(const struct btf *btf, uint32_t id)
{
	const struct btf_type *t = btf__type_by_id(btf, id);
	struct prototype_value v = { 0 };

	while (t && (btf_is_mod(t) || btf_is_typedef(t)))
		t = btf__type_by_id(btf, t->type);
	if (!t)
		return v;
	if (btf_is_ptr(t)) {
		v = (struct prototype_value){ .bytes = 8, .is_pointer = 1 };
	} else if (btf_is_int(t) && t->size <= 8) {
		v.bytes = (uint8_t)t->size;
		v.is_signed = btf_int_encoding(t) & BTF_INT_SIGNED ? 1 : 0;
	} else if (btf_is_any_enum(t)) {
		v.bytes = (uint8_t)t->size;
		v.is_signed = btf_kflag(t);
	}
	return v;
}

/* The type of the prototype; NULL when this BTF has no such name. */
static const struct btf_type *prototype_type(const struct btf *btf, const char *name,
					     bool is_function)
{
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

static int prototype_read(const struct btf *btf, const char *name, bool is_function,
			  struct prototype *ret)
{
	const struct btf_type *proto = prototype_type(btf, name, is_function);
	const struct btf_param *params;
	uint32_t nr, first;

	if (!proto)
		return -ENOENT;
	/* A tracepoint's first parameter is the data of its listener; programs do not get it. */
	params = btf_params(proto);
	first = is_function ? 0 : 1;
	nr = btf_vlen(proto) > first ? btf_vlen(proto) - first : 0;
	memset(ret, 0, sizeof(*ret));
	ret->params_nr = nr < PROTOTYPE_PARAMS_MAX ? nr : PROTOTYPE_PARAMS_MAX;
	for (uint32_t i = 0; i < ret->params_nr; i++)
		ret->params[i] = prototype_value_of(btf, params[first + i].type);
	if (is_function && proto->type)
		ret->result = prototype_value_of(btf, proto->type);
	return 0;
}

struct prototype_query {
	const char *name;
	bool is_function;
	struct prototype *ret;
};

/* Returns 1 when this BTF has it. */
static int prototype_visit(const struct btf *btf, uint32_t first, void *arg)
{
	const struct prototype_query *q = arg;

	(void)first;
	return prototype_read(btf, q->name, q->is_function, q->ret) == 0;
}

int prototype_find(const char *name, bool is_function, struct prototype *ret)
{
	struct prototype_query q = { name, is_function, ret };
	int got = types_each(prototype_visit, &q);

	return got == 1 ? 0 : got ? got : -ENOENT;
}
