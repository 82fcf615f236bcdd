/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is there an order of all operations, each between its call and its return, in which the reference
 * model gives the answers that were given?
 *
 * What a host's death may take away: its transactions are a sequence, of which a prefix survives.
 * An operation belongs to those that ran while its body did. Nobody else can have seen what is
 * lost, because a lock that leaves a host takes with it, durably, everything done under it; so the
 * history must hold twice: up to the death with everything in it, for what this host itself was
 * told; and from then on as if the lost operations had never been, for everybody else, from the
 * beginning. Which transaction is the last to survive: the last that the host knew to be durable,
 * or the one after it whose commit was under way; never less than fsync or syncfs acknowledged.
 * Operations across that border, and those without an answer, are there as a whole or not at all.
 * File data is written in place before its transaction: a lost write may show, sector by sector.
 *
 * The order tried first is that of the hints (history.h). Every place where there is a choice is a
 * point to come back to; and where no choice helps, operations that ran at the same time change
 * places (Wing and Gong's search, with a bound).
 */
#include "lin.h"
#include "cover.h"
#include "model.h"
#include "run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define PLAYS_MAX 2000u
#define UNSURE_MAX 6u
#define DEATHS_MAX INCS_MAX
#define WHY_BYTES 256u

struct item { /* an operation taking effect, or a death */
	uint64_t at;
	struct hop *hop;
	struct inc *inc;
};

struct death {
	size_t item;
	struct inc *inc;
	uint64_t alt, alts; /* which of how many */
	uint64_t cut;	    /* the last transaction that survives */
	unsigned n_unsure;
	struct hop *unsure[UNSURE_MAX]; /* bit k of the choice: it is kept */
};

enum fate { FATE_NONE, FATE_LOST, FATE_KEPT };

struct lin {
	struct sim_run *r;
	struct model *m;
	size_t n_hops, n_items;
	struct item *item;
	struct model_peers *peers;
	uint8_t *fate; /* of each hop of a dead incarnation */
	bool *late;    /* what became of it counts at the death; before that its bytes may show */
	struct death death[DEATHS_MAX];
	unsigned n_deaths; /* with a choice made */
	unsigned dead_now; /* met in this play */
	uint32_t objects, root;
	size_t reached; /* the item of the farthest failure */
	size_t far;	/* the same, in this order of the items */
	unsigned plays;
	struct hop *wrong, *worst_hop;
	char why[WHY_BYTES], worst[WHY_BYTES];
};

/* ---- objects --------------------------------------------------------------------------------- */

struct names {
	size_t cap;
	struct nodeid *key;
	uint32_t *value;
};

static uint32_t intern(struct lin *l, struct names *t, struct nodeid id)
{
	size_t at = (id.ino * 0x9e3779b97f4a7c15ull ^ id.generation * 0xc2b2ae3d27d4eb4full) >> 20;

	if (!id.ino)
		return 0;
	for (;; at++) {
		at %= t->cap;
		if (t->value[at] && t->key[at].ino == id.ino &&
		    t->key[at].generation == id.generation)
			return t->value[at];
		if (!t->value[at])
			break;
	}
	t->key[at] = id;
	t->value[at] = ++l->objects;
	return l->objects;
}

static void name_objects(struct lin *l)
{
	struct names t = {.cap = 8 * l->n_hops + 64};

	t.key = calloc(t.cap, sizeof(*t.key));
	t.value = calloc(t.cap, sizeof(*t.value));
	lunfs_assert(t.key && t.value);
	l->root = intern(l, &t, l->r->root);
	for (size_t i = 0; i < l->n_hops; i++) {
		struct hop *h = history_at(l->r->hist, i);

		h->o_id = intern(l, &t, h->id);
		h->o_dir = intern(l, &t, h->dir);
		h->o_out = intern(l, &t, h->out);
	}
	free(t.key);
	free(t.value);
}

/* ---- peers: on one host, at the same time, to the same file ---------------------------------- */

static bool side_by_side(const struct hop *h)
{
	return h->kind == HOP_WRITE && h->off % 4096 == 0 && h->len % 4096 == 0 && !h->flags;
}

static void find_peers(struct lin *l, struct hop *h, struct model_peers *p)
{
	const struct hop **list = NULL;

	if (h->kind != HOP_READ && !side_by_side(h))
		return;
	for (size_t i = 0; i < l->n_hops; i++) {
		struct hop *o = history_at(l->r->hist, i);

		if (o == h || o->inc != h->inc || o->o_id != h->o_id || !side_by_side(o) ||
		    o->call > h->ret || h->call > o->ret)
			continue;
		list = realloc(list, (p->n + 1) * sizeof(*list));
		lunfs_assert(list);
		list[p->n++] = o;
	}
	p->hop = list;
}

/* ---- items ----------------------------------------------------------------------------------- */

static bool is_dead(const struct inc *i)
{
	return i->end == INC_KILLED || i->end == INC_LOST;
}

static struct inc *inc_of(const struct lin *l, const struct hop *h)
{
	return &l->r->inc[h->inc];
}

static bool answered(const struct hop *h)
{
	return h->ret != HOP_NEVER && h->rc != -EIO && h->rc != -EUCLEAN;
}

/* Without an answer, yet it was part of a transaction. */
static bool took_effect(const struct hop *h)
{
	return !answered(h) && h->changes;
}

/* One transaction, and no bytes in place before it. */
static bool in_one_step(const struct hop *h)
{
	return h->kind != HOP_WRITE && h->kind != HOP_TRUNCATE && h->kind != HOP_FALLOCATE;
}

static uint64_t effect_of(const struct hop *h)
{
	return h->early ? h->early : h->joined;
}

static int by_moment(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	return x->at < y->at ? -1 : x->at > y->at;
}

/* Moments of items leave room between two events. */
static uint64_t moment(uint64_t event)
{
	return event == HOP_NEVER ? HOP_NEVER : event << 20;
}

static void add_item(struct lin *l, uint64_t event, struct hop *h, struct inc *i)
{
	l->item[l->n_items++] = (struct item){moment(event), h, i};
}

static void add_hop(struct lin *l, struct hop *h)
{
	const struct inc *i = inc_of(l, h);
	char text[400];

	if (!is_dead(i) && !answered(h) && !i->hard_errors)
		run_wrong(l->r, "an operation of a host that was never in trouble: %s",
			  hop_text(h, text, sizeof(text)));
	if (is_dead(i) && h->runs && answered(h) && h->point > i->end_ev && !i->clock_stood)
		run_wrong(l->r,
			  "host %u answered after its slot had been taken over (event %llu): %s",
			  h->host, (unsigned long long)i->end_ev, hop_text(h, text, sizeof(text)));
	if (!is_dead(i))
		add_item(l, took_effect(h) ? effect_of(h) : h->point, h, NULL);
	else if (answered(h) && h->point < i->end_ev)
		add_item(l, h->point, h, NULL);
	else if (took_effect(h) && effect_of(h) < i->end_ev)
		add_item(l, effect_of(h), h, NULL);
	else if (h->call && !in_one_step(h)) { /* it may have written bytes */
		l->late[h->index] = true;
		if (h->point && h->point < i->end_ev) /* and others may have read them */
			add_item(l, h->point, h, NULL);
	}
}

static void make_items(struct lin *l)
{
	l->item = calloc(l->n_hops + l->r->n_incs + 1, sizeof(*l->item));
	lunfs_assert(l->item);
	for (size_t i = 0; i < l->n_hops; i++)
		add_hop(l, history_at(l->r->hist, i));
	for (unsigned k = 0; k < l->r->n_incs; k++)
		if (is_dead(&l->r->inc[k]))
			add_item(l, l->r->inc[k].end_ev, NULL, &l->r->inc[k]);
	qsort(l->item, l->n_items, sizeof(*l->item), by_moment);
}

/* ---- what fsync promised --------------------------------------------------------------------- */

/* fdatasync: what was done to this very file, but for time stamps alone. */
static bool is_data_of(const struct hop *h, const struct hop *f)
{
	return h->kind != HOP_TOUCH && (h->o_id == f->o_id || h->o_out == f->o_id);
}

static void note_synced(struct lin *l, const struct hop *f)
{
	bool data_only = f->kind == HOP_FSYNC && f->flags;

	for (size_t i = 0; i < l->n_hops; i++) {
		struct hop *h = history_at(l->r->hist, i);
		struct inc *inc = inc_of(l, h);

		if (h->ret > f->call || h->rc || !(h->changes || h->in_place))
			continue;
		/* everything of its own host; of others that live what concerns this file */
		if (h->inc != f->inc && (f->kind == HOP_SYNCFS || h->o_id != f->o_id ||
					 (is_dead(inc) && inc->end_ev < f->ret)))
			continue;
		if (data_only && !is_data_of(h, f))
			continue;
		h->flushed = true;
		/* an overwrite is safe without the transaction that holds its time stamps */
		if (!data_only && h->changes && h->txn_hi > inc->synced_txn)
			inc->synced_txn = h->txn_hi;
	}
}

static void note_all_synced(struct lin *l)
{
	for (size_t i = 0; i < l->n_hops; i++) {
		const struct hop *h = history_at(l->r->hist, i);

		if ((h->kind == HOP_FSYNC || h->kind == HOP_SYNCFS) && h->ret != HOP_NEVER &&
		    h->rc == 0)
			note_synced(l, h);
	}
	for (unsigned k = 0; k < l->r->n_incs; k++) {
		const struct inc *i = &l->r->inc[k];

		if (is_dead(i) && i->synced_txn > i->durable_hi)
			run_wrong(
			    l->r,
			    "host %u acknowledged an fsync of transaction %llu, but only %llu can "
			    "have survived it",
			    i->host, (unsigned long long)i->synced_txn,
			    (unsigned long long)i->durable_hi);
	}
}

/* ---- fates ----------------------------------------------------------------------------------- */

/* What becomes of @h when @cut is the last transaction that survives; FATE_NONE: unsure. */
static enum fate fate_of(const struct hop *h, uint64_t cut)
{
	if (h->flushed)
		return FATE_KEPT;
	if (h->in_place)
		return h->txn_hi <= cut ? FATE_KEPT : FATE_LOST;
	if (!h->changes || h->txn_lo > cut)
		return FATE_LOST;
	if (h->txn_hi <= cut && (answered(h) || in_one_step(h)))
		return FATE_KEPT;
	return FATE_NONE;
}

static bool has_fate(const struct lin *l, const struct hop *h, const struct inc *i)
{
	if (inc_of(l, h) != i || !hop_changes(h))
		return false;
	return l->late[h->index] || h->changes || h->in_place;
}

static void collect_unsure(struct lin *l, struct death *d)
{
	d->n_unsure = 0;
	for (size_t i = 0; i < l->n_hops; i++) {
		struct hop *h = history_at(l->r->hist, i);

		if (has_fate(l, h, d->inc) && fate_of(h, d->cut) == FATE_NONE &&
		    d->n_unsure < UNSURE_MAX)
			d->unsure[d->n_unsure++] = h;
	}
}

static uint64_t first_cut(const struct inc *i)
{
	return i->synced_txn > i->durable_lo ? i->synced_txn : i->durable_lo;
}

/* Later ones differ in nothing: many an incarnation ends before it has changed anything. */
static uint64_t last_cut(const struct lin *l, const struct inc *i)
{
	uint64_t last = first_cut(i);

	for (size_t k = 0; k < l->n_hops; k++) {
		const struct hop *h = history_at(l->r->hist, k);

		if (has_fate(l, h, i) && h->changes && h->txn_hi > last)
			last = h->txn_hi;
	}
	return last < i->durable_hi ? last : i->durable_hi;
}

/* Choice @d->alt: the low bits say which of the unsure ones are kept, the rest is the cut. */
static void choose(struct lin *l, struct death *d)
{
	uint64_t kept = d->alt % (1u << UNSURE_MAX);

	d->cut = first_cut(d->inc) + d->alt / (1u << UNSURE_MAX);
	collect_unsure(l, d);
	for (size_t i = 0; i < l->n_hops; i++) {
		struct hop *h = history_at(l->r->hist, i);
		enum fate f;

		if (!has_fate(l, h, d->inc))
			continue;
		f = fate_of(h, d->cut);
		l->fate[h->index] = (uint8_t)(f == FATE_NONE ? FATE_LOST : f);
	}
	for (unsigned k = 0; k < d->n_unsure; k++)
		if (kept >> k & 1)
			l->fate[d->unsure[k]->index] = FATE_KEPT;
}

/* The next choice at this death; skips those that differ in nothing. False: no more. */
static bool next_choice(struct lin *l, struct death *d)
{
	uint64_t cut = d->alt / (1u << UNSURE_MAX), kept = d->alt % (1u << UNSURE_MAX);

	(void)l;
	if (++kept >= 1u << d->n_unsure) {
		kept = 0;
		cut++;
	}
	d->alt = cut * (1u << UNSURE_MAX) + kept;
	return d->alt < d->alts;
}

/* ---- playing --------------------------------------------------------------------------------- */

static bool apply(struct lin *l, struct hop *h, enum model_how how)
{
	if (model_apply(l->m, h, how, &l->peers[h->index], l->why, sizeof(l->why)))
		return true;
	l->wrong = h;
	return false;
}

static bool play_late(struct lin *l, const struct inc *i)
{
	for (size_t k = 0; k < l->n_hops; k++) {
		struct hop *h = history_at(l->r->hist, k);

		if (inc_of(l, h) != i || !l->late[h->index])
			continue;
		if (l->fate[h->index] == FATE_KEPT ? !apply(l, h, MODEL_DONE)
						   : !apply(l, h, MODEL_LOST))
			return false;
	}
	return true;
}

/* Without an answer, or with EIO: done as a whole, or in part, or not at all. */
static enum model_how without_answer(const struct hop *h)
{
	if (h->ret == HOP_NEVER || (h->changes && h->body_rc == 0))
		return MODEL_DONE;
	return h->changes ? MODEL_IN_PART : MODEL_LOST;
}

/* Operations of an incarnation that is dead by now: what it was told was checked already. */
static bool play_dead(struct lin *l, struct hop *h)
{
	if (h->kind == HOP_RELEASE)
		return apply(l, h, MODEL_ANSWERED);
	if (l->fate[h->index] == FATE_LOST)
		return apply(l, h, MODEL_LOST);
	if (l->fate[h->index] == FATE_KEPT)
		return apply(l, h, answered(h) ? MODEL_ANSWERED : without_answer(h));
	return true;
}

static bool counts_as_dead(const struct lin *l, const struct inc *i)
{
	for (unsigned k = 0; k < l->dead_now; k++)
		if (l->death[k].inc == i)
			return true;
	return false;
}

static bool play_hop(struct lin *l, struct hop *h)
{
	if (l->late[h->index])
		return apply(l, h, MODEL_LOST);
	if (counts_as_dead(l, inc_of(l, h)))
		return play_dead(l, h);
	h->lost_size = model_size(l->m, h);
	return apply(l, h, answered(h) ? MODEL_ANSWERED : without_answer(h));
}

/* Everything before item @end once more, without what the deaths so far have taken away. */
static bool rebuild(struct lin *l, size_t end)
{
	model_reset(l->m, l->root, l->r->root.ino);
	for (size_t k = 0; k < end; k++) {
		const struct item *it = &l->item[k];

		if (it->hop && !play_hop(l, it->hop))
			return false;
		if (it->inc) {
			if (!play_late(l, it->inc))
				return false;
			model_host_gone(l->m, it->inc->host);
		}
	}
	return true;
}

static void late_sizes(struct lin *l, const struct inc *i)
{
	for (size_t k = 0; k < l->n_hops; k++) {
		struct hop *h = history_at(l->r->hist, k);

		if (inc_of(l, h) == i && l->late[h->index])
			h->lost_size = model_size(l->m, h);
	}
}

static bool play_death(struct lin *l, size_t item)
{
	struct death *d = &l->death[l->dead_now];

	late_sizes(l, l->item[item].inc);
	if (l->dead_now++ == l->n_deaths) {
		const struct inc *i = l->item[item].inc;

		*d = (struct death){.item = item, .inc = l->item[item].inc};
		d->alts = (last_cut(l, i) - first_cut(i) + 1) * (1u << UNSURE_MAX);
		l->n_deaths++;
	}
	choose(l, d);
	if (!rebuild(l, item))
		return false;
	if (!play_late(l, d->inc))
		return false;
	model_host_gone(l->m, d->inc->host);
	return true;
}

static bool play(struct lin *l)
{
	l->dead_now = 0;
	memset(l->fate, 0, l->n_hops);
	model_reset(l->m, l->root, l->r->root.ino);
	for (size_t k = 0; k < l->n_items; k++) {
		bool fits = l->item[k].hop ? play_hop(l, l->item[k].hop) : play_death(l, k);

		if (!fits) {
			l->far = k > l->far ? k : l->far;
			if (k >= l->reached || !l->worst[0]) {
				l->reached = k;
				l->worst_hop = l->wrong;
				snprintf(l->worst, sizeof(l->worst), "%s", l->why);
			}
			return false;
		}
	}
	return true;
}

/* The deepest choice that is left; deeper ones start anew. */
static bool backtrack(struct lin *l)
{
	while (l->n_deaths > 0) {
		if (next_choice(l, &l->death[l->n_deaths - 1]))
			return true;
		l->n_deaths--;
	}
	return false;
}

/* All choices with the items in this order. */
static bool search(struct lin *l)
{
	l->n_deaths = 0;
	l->far = 0;
	do {
		if (play(l))
			return true;
	} while (++l->plays < PLAYS_MAX && backtrack(l));
	return false;
}

/* ---- another order --------------------------------------------------------------------------- */

static bool related(const struct hop *a, const struct hop *b)
{
	return (b->o_id && (a->o_id == b->o_id || a->o_dir == b->o_id || a->o_out == b->o_id)) ||
	       (b->o_dir && (a->o_id == b->o_dir || a->o_dir == b->o_dir)) ||
	       (b->o_out && (a->o_id == b->o_out || a->o_out == b->o_out));
}

struct repair { /* @hop takes effect at @at instead */
	struct hop *hop;
	uint64_t at;
};

static size_t item_of(const struct lin *l, const struct hop *h)
{
	size_t k = 0;

	while (l->item[k].hop != h)
		k++;
	return k;
}

/*
 * The operation at item @k was answered something that it cannot have been. Operations at the same
 * time that come later in this order may have come before it; or it after them.
 */
static unsigned repairs(const struct lin *l, size_t k, struct repair *out, unsigned max)
{
	struct hop *x = l->item[k].hop;
	uint64_t at = l->item[k].at;
	unsigned n = 0;

	for (size_t i = k + 1; x && i < l->n_items && n + 2 <= max; i++) {
		struct hop *y = l->item[i].hop;

		if (!y || !related(y, x))
			continue;
		if (moment(y->call) < at - 1)
			out[n++] = (struct repair){y, at - 1};
		if (hop_changes(y) && l->item[i].at + 1 < moment(x->ret))
			out[n++] = (struct repair){x, l->item[i].at + 1};
	}
	for (size_t i = 0; x && i < k && n < max; i++) { /* what let its locks go half-way */
		struct hop *y = l->item[i].hop;

		if (y && y->bodies > 1 && y->changes && related(y, x) &&
		    l->item[i].at != moment(y->joined))
			out[n++] = (struct repair){y, moment(y->joined)};
	}
	for (size_t i = k; x && i-- > 0 && n < max;) {
		struct hop *y = l->item[i].hop;

		if (l->item[i].at - 1 <= moment(x->call))
			break;
		if (y && (hop_changes(y) || y->kind == HOP_RELEASE) && related(y, x))
			out[n++] = (struct repair){x, l->item[i].at - 1};
	}
	return n;
}

/* Returns where it was. */
static uint64_t move_item(struct lin *l, struct repair r)
{
	size_t k = item_of(l, r.hop);
	uint64_t was = l->item[k].at;

	l->item[k].at = r.at;
	qsort(l->item, l->n_items, sizeof(*l->item), by_moment);
	return was;
}

#define REPAIRS_MAX 32u
#define DEPTH_MAX 12u

/* @before: how far it went before the latest repair, which must have helped. */
static bool explain_by(struct lin *l, unsigned depth, size_t before)
{
	struct repair r[REPAIRS_MAX];
	size_t far;
	unsigned n;

	if (search(l))
		return true;
	far = l->far;
	if (depth == 0 || far <= before)
		return false;
	n = repairs(l, far, r, REPAIRS_MAX);
	for (unsigned k = 0; k < n && l->plays < PLAYS_MAX; k++) {
		uint64_t was = move_item(l, r[k]);

		if (explain_by(l, depth - 1, far))
			return true;
		move_item(l, (struct repair){r[k].hop, was});
	}
	return false;
}

/* ---- the verdict ----------------------------------------------------------------------------- */

static void explain(struct lin *l, struct hop *wrong)
{
	char text[400];
	size_t shown = 0;

	fprintf(stderr, "at the same time:\n");
	for (size_t k = l->reached + 1; k < l->n_items; k++) {
		const struct hop *h = l->item[k].hop;

		if (h && h->call < wrong->ret && related(h, wrong) && hop_changes(h))
			fprintf(stderr, "  %s\n", hop_text(h, text, sizeof(text)));
	}
	fprintf(stderr, "what was done to these before, latest first:\n");
	for (size_t k = l->reached; k-- > 0 && shown < 25;) {
		const struct hop *h = l->item[k].hop;

		if (!h || !related(h, wrong))
			continue;
		fprintf(stderr, "  %s%s\n", hop_text(h, text, sizeof(text)),
			l->fate[h->index] == FATE_LOST ? " LOST" : "");
		shown++;
	}
	for (unsigned k = 0; k < l->n_deaths; k++)
		fprintf(stderr, "death of host%u.%u at event %llu, transactions up to %llu kept\n",
			l->death[k].inc->host, (unsigned)(l->death[k].inc - l->r->inc),
			(unsigned long long)l->death[k].inc->end_ev,
			(unsigned long long)l->death[k].cut);
}

static void verdict(struct lin *l, bool good)
{
	char text[400];

	if (good) {
		for (size_t k = 0; k < l->n_hops; k++)
			if (l->fate[k])
				cover_hit(l->r, l->fate[k] == FATE_LOST ? COVER_OPS_LOST
									: COVER_OPS_KEPT);
		return;
	}
	if (!l->r->said || l->r->plan.profile != PROF_LIAR)
		explain(l, l->worst_hop);
	run_wrong(l->r, "no order explains host %u's %s: %s", l->worst_hop->host,
		  hop_text(l->worst_hop, text, sizeof(text)), l->worst);
}

void lin_check(struct sim_run *r)
{
	struct lin l = {.r = r, .n_hops = history_len(r->hist)};

	name_objects(&l);
	l.m = model_new(l.objects, r->plan.full);
	l.peers = calloc(l.n_hops + 1, sizeof(*l.peers));
	l.fate = calloc(l.n_hops + 1, 1);
	l.late = calloc(l.n_hops + 1, sizeof(*l.late));
	lunfs_assert(l.peers && l.fate && l.late);
	for (size_t i = 0; i < l.n_hops; i++)
		find_peers(&l, history_at(r->hist, i), &l.peers[i]);
	note_all_synced(&l);
	make_items(&l);
	if (!r->wrong)
		verdict(&l, explain_by(&l, DEPTH_MAX, 0));
	for (size_t i = 0; i < l.n_hops; i++)
		free((void *)(uintptr_t)l.peers[i].hop);
	free(l.peers);
	free(l.fate);
	free(l.late);
	free(l.item);
	model_free(l.m);
}
