/*
 * Makes keys and families count in the region of their attachment: first looks the name up in D,
 * then asks the daemon for what is new, in batches. Owns nothing. The caller holds the conn lock;
 * these functions take the table lock for the moment of a change.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static uint64_t *cold_cell(const struct region *r, uint32_t slot)
{
	return (uint64_t *)(r->view.s + shards_cold(slot));
}

/* The record of a key in the attachment's region; NULL: it has none there. */
static const struct bind *bind_here(const struct key *k)
{
	/* ORDER(bind) */
	const struct bind *b = shm_take_ptr((struct bind **)&k->target.bind);

	return b && b->region == k->attach->region ? b : NULL;
}

static bool bind_is_removed(const struct bind *b)
{
	/* ORDER(generation) */
	return b->is_own_member && slot_generation(shm_take(b->word)) != b->generation;
}

bool key_is_bound(const struct key *k)
{
	const struct bind *b = bind_here(k);

	return b && !bind_is_removed(b);
}

static bool family_is_bound(const struct talea_family_ *f)
{
	/* ORDER(family) */
	const struct family_bind *b = shm_take_ptr((struct family_bind **)&f->bind);

	return b && b->region == f->attach->region;
}

static bool is_level(uint8_t type)
{
	return type == SHM_LEVEL || type == SHM_LEVEL_FAMILY || type == SHM_LEVEL_MEMBER;
}

static const char *type_word(uint8_t type)
{
	switch (type) {
	case SHM_COUNTER:
		return "counter";
	case SHM_LEVEL:
		return "level";
	case SHM_FAMILY:
		return "family of counters";
	case SHM_LEVEL_FAMILY:
		return "family of levels";
	default:
		return "other kind";
	}
}

/* Refuses a name that exists with another type or help, before the worker is asked; claim.c refuses
 * those that it is asked for. */
static int compare_found(const struct dir_shm *d, uint32_t slot, uint8_t type, const char *name,
			 const char *help, char *text)
{
	uint64_t word = shm_count_read(&dir_slot(d, slot)->name);
	const struct name_shm *n = dir_name(d, word);
	const char *old = (const char *)d + SHM_D_NAMES;
	uint32_t len = n ? name_length(n->help) : 0;

	if (!n || name_offset(n->help) + len > SHM_NAMES_BYTES)
		return -EBADMSG;
	if (n->origin != SHM_ORIGIN_USER) {
		snprintf(text, TEXT_MAX, "%s is counted by talea itself: read it by its name, and "
			 "declare another", name);
		return -EINVAL;
	}
	old += name_offset(n->help);
	if (name_type(word) == type && len == strlen(help) && memcmp(old, help, len) == 0)
		return 0;
	snprintf(text, TEXT_MAX,
		 "%s is registered as a %s with help \"%.*s\", this program declares a %s with help "
		 "\"%s\"; use one type and one help text, or another name",
		 name, type_word(name_type(word)), (int)len, old, type_word(type), help);
	return -EEXIST;
}

/* --- keys --------------------------------------------------------------------------------------- */

struct batch {
	struct attach *a;
	struct region *region;
	uint64_t deadline_ns;
	char *text;
	int err; /* the first */
	struct wire_register *msg;
	struct wire_registered *reply;
	struct key **asked; /* the keys of the entries in msg, in order */
	struct key **done;
	struct bind **binds;
	size_t done_nr;
};

/* Notes that key counts at slot from now on. err: why the slot is not the key's own. */
static int batch_done(struct batch *w, struct key *k, uint32_t slot, uint32_t generation, int err)
{
	struct region *r = w->region;
	const struct family_bind *fb = k->family ? k->family->bind : NULL;
	struct bind *b;
	int no_cell;

	if (slot == SHM_SLOT_NONE || slot >= SHM_SLOTS_MAX)
		return -EPROTO;
	lock_table();
	b = bind_alloc();
	no_cell = r->writable ? 0 : key_cell(k);
	unlock_table();
	if (!b || no_cell)
		return -ENOMEM;
	b->is_own_member = k->family && !err && k->type != SHM_OTHER;
	b->kind = b->is_own_member ? BIND_MEMBER : BIND_PLAIN;
	b->overflow = err != 0;
	b->slot = slot;
	b->generation = generation;
	b->region = r;
	b->word = &dir_slot(r->view.d, slot)->route;
	b->fallback = &((struct shards_shm *)r->view.s)->fallback_used;
	b->removed = fb ? fb->removed : NULL;
	b->cold = cold_cell(r, slot);
	if (!r->writable) { /* reads there, counts here */
		b->kind = BIND_PRIVATE;
		b->cold = k->cell;
	}
	k->err = err;
	w->done[w->done_nr] = k;
	w->binds[w->done_nr++] = b;
	return 0;
}

static uint32_t generation_at(const struct region *r, uint32_t slot)
{
	return slot_generation(shm_take(&dir_slot(r->view.d, slot)->route));
}

static void batch_failed(struct batch *w, int err, const char *text)
{
	if (!w->err && err) {
		w->err = err;
		if (text != w->text)
			snprintf(w->text, TEXT_MAX, "%s", text);
	}
}

static void count_refused(struct attach *a)
{
	lock_table();
	a->refused++;
	unlock_table();
}

/* Sends the entries collected so far and takes the results. */
static int batch_flush(struct batch *w)
{
	const char *texts = (const char *)(w->reply->results + w->msg->nr);
	int err;

	if (!w->msg->nr)
		return 0;
	err = conn_register(w->a, w->msg, w->reply, w->deadline_ns, w->text);
	for (uint32_t i = 0; i < w->msg->nr && !err; i++) {
		const struct wire_result *r = &w->reply->results[i];

		err = batch_done(w, w->asked[i], r->slot, r->generation, r->err);
		if (r->err) {
			count_refused(w->a);
			batch_failed(w, r->err, r->text_at < w->reply->text_bytes ?
						      texts + r->text_at : "refused");
		}
	}
	w->msg->nr = 0;
	w->msg->head.length = sizeof(*w->msg);
	return err;
}

static int batch_ask(struct batch *w, struct key *k)
{
	struct wire_entry e = { .type = k->type, .name_bytes = (uint16_t)k->len };
	int err;

	if (k->family) {
		e.family = k->family->bind->slot;
		e.family_generation = generation_at(w->region, e.family);
		e.key_kind = k->family->key_kind;
	} else {
		e.help_bytes = (uint16_t)strlen(k->help);
	}
	if (w->msg->nr == WIRE_ENTRIES_MAX) {
		err = batch_flush(w);
		if (err)
			return err;
	}
	err = wire_entry_put(w->msg, &e, k->name, k->help, NULL);
	if (err == -EMSGSIZE) {
		err = batch_flush(w);
		if (!err)
			err = wire_entry_put(w->msg, &e, k->name, k->help, NULL);
	}
	if (!err)
		w->asked[w->msg->nr - 1] = k;
	return err;
}

/* Binds by D alone if the name is there; otherwise asks the daemon. */
static int batch_key(struct batch *w, struct key *k)
{
	const struct dir_shm *d = w->region->view.d;
	uint32_t generation, slot, owner = k->family ? k->family->bind->slot : 0;
	int err;

	if (k == w->a->refuge || k == w->a->refuge_level) {
		slot = is_level(k->type) ? SHM_SLOT_OVERFLOW_LEVEL : SHM_SLOT_OVERFLOW;
		return batch_done(w, k, slot, generation_at(w->region, slot), -EINVAL);
	}
	if (k->family && (owner == SHM_SLOT_NONE || k->type == SHM_OTHER)) {
		slot = (uint32_t)(k->family->bind->other - cold_cell(w->region, 0));
		return batch_done(w, k, slot, generation_at(w->region, slot), k->family->err);
	}
	slot = dir_find(d, owner, k->name, k->len, &generation);
	if (slot == SHM_SLOT_NONE)
		return w->region->writable ? batch_ask(w, k) : 0;
	err = owner ? 0 : compare_found(d, slot, k->type, k->name, k->help, w->text);
	if (!err)
		return batch_done(w, k, slot, generation, 0);
	count_refused(w->a);
	batch_failed(w, err, w->text);
	slot = is_level(k->type) ? SHM_SLOT_OVERFLOW_LEVEL : SHM_SLOT_OVERFLOW;
	return batch_done(w, k, slot, generation_at(w->region, slot), err);
}

int bind_keys(struct attach *a, struct key **keys, size_t nr, uint64_t deadline_ns, char *text)
{
	struct batch w = { .a = a, .region = a->region, .deadline_ns = deadline_ns, .text = text };
	int err = -ENOMEM;

	w.msg = malloc(WIRE_MAX);
	w.reply = malloc(WIRE_MAX);
	w.asked = malloc(WIRE_ENTRIES_MAX * sizeof(*w.asked));
	w.done = malloc(nr * sizeof(*w.done));
	w.binds = malloc(nr * sizeof(*w.binds));
	if (!w.msg || !w.reply || !w.asked || !w.done || !w.binds)
		goto out_memory;
	*w.msg = (struct wire_register){
		.head = { WIRE_MAGIC, WIRE_VERSION, WIRE_REGISTER, 0, sizeof(*w.msg) }
	};
	err = 0;
	for (size_t i = 0; i < nr && !err; i++) {
		struct key *k = keys[i];

		/* A caller may name a key twice; and the family may be one that is full now. */
		if (k->taken || key_is_bound(k) || (k->family && !family_is_bound(k->family)))
			continue;
		k->taken = true;
		err = batch_key(&w, k);
	}
	for (size_t i = 0; i < nr; i++)
		keys[i]->taken = false;
	if (!err)
		err = batch_flush(&w);
	lock_table();
	for (size_t i = 0; i < w.done_nr; i++)
		a->unbound -= !bind_here(w.done[i]);
	a->out_of_line += target_rebind(w.done, w.binds, w.done_nr);
	unlock_table();
	if (!err)
		err = w.err;

out_memory:
	free(w.binds);
	free(w.done);
	free(w.asked);
	free(w.reply);
	free(w.msg);
	return err;
}

/* Makes members that D does not have yet. Afterwards D says which of them exist. */
int bind_values(struct talea_family_ *f, const struct talea_key *const *keys, size_t nr,
		uint64_t deadline_ns, char *text)
{
	struct wire_register *msg = malloc(WIRE_MAX);
	struct wire_registered *reply = malloc(WIRE_MAX);
	int err = msg && reply ? 0 : -ENOMEM, refused = 0;
	size_t at = 0;

	while (at < nr && !err) {
		*msg = (struct wire_register){
			.head = { WIRE_MAGIC, WIRE_VERSION, WIRE_REGISTER, 0, sizeof(*msg) }
		};
		for (; at < nr && msg->nr < WIRE_ENTRIES_MAX; at++) {
			struct wire_entry e = {
				.type = f->type == SHM_FAMILY ? SHM_MEMBER : SHM_LEVEL_MEMBER,
				.key_kind = f->key_kind,
				.name_bytes = (uint16_t)keys[at]->len,
				.family = f->bind->slot,
				.family_generation = generation_at(f->bind->region, f->bind->slot),
			};

			if (wire_entry_put(msg, &e, keys[at]->value, NULL, NULL))
				break;
		}
		err = msg->nr ? conn_register(f->attach, msg, reply, deadline_ns, text) : -EMSGSIZE;
		for (uint32_t i = 0; i < msg->nr && !err && !refused; i++) {
			refused = reply->results[i].err;
			if (refused)
				snprintf(text, TEXT_MAX, "%s",
					 (const char *)(reply->results + msg->nr) +
						 reply->results[i].text_at);
		}
	}
	free(reply);
	free(msg);
	return err ? err : refused;
}

/* --- families ------------------------------------------------------------------------------------ */

static int family_bind_to(struct attach *a, struct talea_family_ *f, uint32_t slot, int err)
{
	struct region *r = a->region;
	struct family_bind *b = malloc(sizeof(*b));
	const struct name_shm *n;

	if (!b)
		return -ENOMEM;
	*b = (struct family_bind){ .region = r };
	n = err ? NULL : dir_name(r->view.d, shm_count_read(&dir_slot(r->view.d, slot)->name));
	if (n && n->other < SHM_SLOTS_MAX && n->removed < SHM_SLOTS_MAX) {
		b->slot = slot;
		b->other = cold_cell(r, n->other);
		b->removed = cold_cell(r, n->removed);
	} else {
		slot = is_level(f->type) ? SHM_SLOT_OVERFLOW_LEVEL : SHM_SLOT_OVERFLOW;
		b->other = b->removed = cold_cell(r, slot);
	}
	f->err = err;
	lock_table();
	a->refused += err && f->name[0];
	if (!family_is_bound(f))
		a->unbound--;
	/* ORDER(family): complete before an add can take it. */
	shm_publish_ptr(&f->bind, b);
	unlock_table();
	return err;
}

static int family_ask(struct attach *a, struct talea_family_ *f, uint64_t deadline_ns, char *text)
{
	struct wire_entry e = { .type = f->type, .key_kind = f->key_kind,
				.name_bytes = (uint16_t)strlen(f->name),
				.help_bytes = (uint16_t)strlen(f->help),
				.label_bytes = (uint16_t)strlen(f->label) };
	struct wire_register *msg = malloc(WIRE_MAX);
	struct wire_registered *reply = malloc(WIRE_MAX);
	int err = msg && reply ? 0 : -ENOMEM;

	if (!err) {
		*msg = (struct wire_register){
			.head = { WIRE_MAGIC, WIRE_VERSION, WIRE_REGISTER, 0, sizeof(*msg) }
		};
		err = wire_entry_put(msg, &e, f->name, f->help, f->label);
	}
	if (!err)
		err = conn_register(a, msg, reply, deadline_ns, text);
	if (!err) {
		if (reply->results[0].err)
			snprintf(text, TEXT_MAX, "%s",
				 (const char *)(reply->results + 1) + reply->results[0].text_at);
		err = family_bind_to(a, f, reply->results[0].slot, reply->results[0].err);
	}
	free(reply);
	free(msg);
	return err;
}

int bind_family(struct attach *a, struct talea_family_ *f, uint64_t deadline_ns, char *text)
{
	const struct dir_shm *d = a->region->view.d;
	const struct name_shm *n;
	uint32_t generation, slot = dir_find(d, 0, f->name, strlen(f->name), &generation);
	int err;

	if (family_is_bound(f))
		return f->err;
	if (!f->name[0]) { /* the refuge: its keys count in the overflow counter */
		family_bind_to(a, f, SHM_SLOT_NONE, -EINVAL);
		return 0;
	}
	if (slot == SHM_SLOT_NONE)
		return a->region->writable ? family_ask(a, f, deadline_ns, text) : 0;
	err = compare_found(d, slot, f->type, f->name, f->help, text);
	n = dir_name(d, shm_count_read(&dir_slot(d, slot)->name));
	if (!err && (n->key_kind != f->key_kind || n->label_len != strlen(f->label) ||
		     memcmp(n->text + n->base_len, f->label, n->label_len) != 0)) {
		snprintf(text, TEXT_MAX,
			 "%s is registered with label \"%.*s\"%s, this program declares "
			 "\"%s\"%s", f->name, (int)n->label_len, n->text + n->base_len,
			 n->key_kind == SHM_KEY_U64 ? ":u64" : "", f->label,
			 f->key_kind == SHM_KEY_U64 ? ":u64" : "");
		err = -EEXIST;
	}
	return family_bind_to(a, f, slot, err);
}

/* --- everything ---------------------------------------------------------------------------------- */

#define LOOK_FREE_NS NS_PER_MS /* shorter scans of all holders are not worth spacing */

/*
 * Is there a reason to scan the holders of members: members were removed since the last scan, or a
 * program used one that is gone? Both words are read before any generation, so a later change is a
 * reason for the next scan.
 */
static bool has_moved(struct attach *a)
{
	struct region *r = a->region;
	uint64_t moves;
	bool late;

	if (a->moved_after_ns && mono_ns() < a->moved_after_ns)
		return false;
	/* ORDER(moves): a removal has made its generation even before it moves what the member
	 * held. */
	moves = shm_take(&r->view.d->moves);
	/* ORDER(late): the claim sees every mark that was made before the word it takes. */
	late = shm_count_read(&r->has_gone) && shm_claim(&r->has_gone, 1, 0);
	if (moves == a->moves && !late)
		return false;
	a->moves = moves;
	return true;
}

/*
 * Is this key to be bound? The holder of a removed member is, when D has the name again or when the
 * holder added since. A holder that no longer adds does not bring back a name that an operator
 * removed.
 */
static bool key_is_due(const struct key *k)
{
	const struct bind *b = bind_here(k);
	uint32_t generation;

	if (!b)
		return true;
	if (!bind_is_removed(b))
		return false;
	return shm_read32(&b->is_late) || dir_find(b->region->view.d, k->family->bind->slot, k->name,
						   k->len, &generation) != SHM_SLOT_NONE;
}

/* The keys to be bound, in an array that the caller frees; NULL: no memory. */
static struct key **keys_due(struct attach *a, size_t *ret_nr)
{
	struct key **keys;
	size_t nr = 0;

	lock_table();
	for (struct key *k = a->keys; k; k = k->next)
		nr++;
	keys = malloc((nr + 1) * sizeof(*keys));
	nr = 0;
	for (struct key *k = a->keys; k && keys; k = k->next)
		if (key_is_due(k))
			keys[nr++] = k;
	unlock_table();
	*ret_nr = nr;
	return keys;
}

/* Counts anew the keys and families that are not bound. Returns how many, late holders included. */
static size_t recount(struct attach *a)
{
	size_t unbound = 0, late = 0;

	lock_table();
	for (struct key *k = a->keys; k; k = k->next) {
		const struct bind *b = bind_here(k);

		unbound += !b;
		late += b && shm_read32(&b->is_late) && bind_is_removed(b);
	}
	for (struct talea_family_ *f = a->families; f; f = f->next)
		unbound += !family_is_bound(f);
	a->unbound = unbound;
	unlock_table();
	if (late) /* ORDER(late): they could not be bound, and are scanned again */
		shm_publish(&a->region->has_gone, 1);
	return unbound + late;
}

int bind_all(struct attach *a, uint64_t deadline_ns, char *text)
{
	bool moved = has_moved(a);
	uint64_t begun, took;
	struct key **keys;
	size_t nr;
	int err = 0;

	if (!a->unbound && !moved)
		return 0;
	for (struct talea_family_ *f = a->families; f; f = f->next)
		if (!family_is_bound(f)) {
			err = bind_family(a, f, deadline_ns, text);
			if (!family_is_bound(f) && a->region->writable)
				goto out_recount;
		}
	begun = mono_ns();
	keys = keys_due(a, &nr);
	if (!keys) {
		a->moves = UINT64_MAX; /* scan again */
		err = -ENOMEM;
		goto out_recount;
	}
	took = mono_ns() - begun;
	/* When the scan of all handles takes long, it takes a twentieth of the time at most. */
	a->moved_after_ns = took > LOOK_FREE_NS ? begun + 20 * took : 0;
	if (nr)
		err = bind_keys(a, keys, nr, deadline_ns, text);
	free(keys);
	if (!nr && !a->unbound)
		return 0;

out_recount:
	/* A refused key is bound to the overflow counter: its declaration returned that error. */
	return recount(a) ? err : 0;
}
