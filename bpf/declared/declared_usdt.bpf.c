/*
 * Declared probes of statically defined tracepoints in programs and libraries. Each site keeps the
 * arguments where its compiler had them; the cookie of the link says which site it is. See declared.h.
 */
#include "declared.h"

static __always_inline __u64 register_at(void *ctx, __u16 offset)
{
	__u64 v = 0;

	bpf_probe_read_kernel(&v, sizeof(v), ctx + offset);
	return v;
}

static __always_inline __u64 fetch(void *ctx, __u32 nr)
{
	__u64 site = bpf_get_attach_cookie(ctx), v;
	const volatile struct declared_place *place;
	__u32 bytes;

	if (site >= DECLARED_SITES_MAX || nr >= DECLARED_ARGS_MAX)
		return 0;
	place = &declared.places[site][nr];
	v = place->value;
	bytes = place->bytes & 7 ?: sizeof(v);
	if (place->kind == DECLARED_REGISTER) {
		v = register_at(ctx, place->reg);
	} else if (place->kind == DECLARED_MEMORY) {
		__u64 at = v + register_at(ctx, place->reg);

		if (place->index != DECLARED_NO_INDEX)
			at += register_at(ctx, place->index) << (place->scale & 3);
		v = 0;
		bpf_probe_read_user(&v, bytes, (void *)at);
	}
	return narrow(v, bytes, place->is_signed);
}

DECLARED_PROGRAM("uprobe");
