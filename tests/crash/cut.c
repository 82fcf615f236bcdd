/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Images of a medium whose power was cut: see cut.h. */
#include "cut.h"

#include "base/log.h"
#include "simrand.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { /* choices */
       CUT_LOST = 0,
       CUT_KEPT = 1,
       CUT_MASK = 1, /* + a set of the commands, where they are few */
       CUT_TORN = 16,
       CUT_TORN_END = 21,
};
#define FEW_CMDS 3u

/* ---- hashes ---------------------------------------------------------------------------------- */

static uint64_t sector_hash(uint64_t off, const uint8_t *data, uint32_t len)
{
	uint64_t h = off * 0x9e3779b97f4a7c15ull;

	for (uint32_t k = 0; k < len; k += 8) {
		uint64_t w = 0;

		if (data)
			memcpy(&w, data + k, 8);
		h = (h ^ w) * 0xff51afd7ed558ccdull;
		h ^= h >> 32;
	}
	return h;
}

/* What @data at @off changes in the hash of the whole. */
static uint64_t change_hash(struct cutter *c, uint64_t off, const uint8_t *data)
{
	uint8_t old[4096];

	simdev_peek(c->m, off, c->sector_bytes, old);
	return sector_hash(off, old, c->sector_bytes) ^ sector_hash(off, data, c->sector_bytes);
}

/* ---- what is durable ------------------------------------------------------------------------- */

static void put(struct simdev_medium *m, uint64_t off, const uint8_t *data, uint32_t len)
{
	static const uint8_t zeroes[4096];

	simdev_poke(m, off, len, data ? data : zeroes);
}

static void make_durable(struct cutter *c, const struct cut_unit *u)
{
	c->hash ^= change_hash(c, u->off_bytes, u->data);
	put(c->m, u->off_bytes, u->data, c->sector_bytes);
}

static void add_units(struct cutter *c, size_t cmd)
{
	const struct rec_cmd *r = &c->rec->cmd[cmd];

	for (uint64_t off = 0; off < r->len_bytes; off += c->sector_bytes) {
		if (c->n_units == c->cap_units) {
			c->cap_units = c->cap_units ? 2 * c->cap_units : 256;
			c->unit = realloc(c->unit, c->cap_units * sizeof(*c->unit));
			c->keep = realloc(c->keep, c->cap_units * sizeof(*c->keep));
			lunfs_assert(c->unit && c->keep);
		}
		c->unit[c->n_units++] = (struct cut_unit){.cmd = cmd,
							  .off_bytes = r->off_bytes + off,
							  .data = r->data ? r->data + off : NULL};
	}
}

/* @durable says of each unit whether it is so now; those leave. */
static void settle(struct cutter *c,
		   bool (*durable)(const struct cutter *c, const struct cut_unit *u, size_t event),
		   size_t event)
{
	size_t k = 0;

	for (size_t i = 0; i < c->n_units; i++) {
		if (durable(c, &c->unit[i], event))
			make_durable(c, &c->unit[i]);
		else
			c->unit[k++] = c->unit[i];
	}
	c->n_units = k;
}

/* Answered before the flush of the answer @event was sent. */
static bool flushed(const struct cutter *c, const struct cut_unit *u, size_t event)
{
	const struct rec_cmd *r = &c->rec->cmd[u->cmd];
	const struct rec_cmd *f = &c->rec->cmd[c->rec->event[event].cmd];

	return r->op != REC_CAW && r->answer < f->sent;
}

static bool is_of(const struct cutter *c, const struct cut_unit *u, size_t event)
{
	return u->cmd == c->rec->event[event].cmd;
}

/* A compare-and-write that was answered: it and nothing older stands there, or it does not. */
static void caw_answered(struct cutter *c, size_t event)
{
	size_t cmd = c->rec->event[event].cmd, k = 0;
	const struct rec_cmd *r = &c->rec->cmd[cmd];

	for (size_t i = 0; i < c->n_units; i++) {
		const struct cut_unit *u = &c->unit[i];
		bool over =
		    r->result == DEV_CAW_GOOD && u->cmd < cmd && u->off_bytes == r->off_bytes;

		if (!over && (u->cmd != cmd || r->result == DEV_CAW_GOOD))
			c->unit[k++] = *u;
	}
	c->n_units = k;
	settle(c, is_of, event);
}

/* ---- going along the recording --------------------------------------------------------------- */

void cutter_init(struct cutter *c, struct simdev_medium *m, uint32_t sector_bytes,
		 const struct rec *rec)
{
	*c = (struct cutter){.rec = rec, .m = simdev_medium_clone(m), .sector_bytes = sector_bytes};
}

void cutter_free(struct cutter *c)
{
	simdev_medium_put(c->m);
	free(c->unit);
	free(c->keep);
}

bool cutter_step(struct cutter *c)
{
	size_t at = c->at++;
	const struct rec_event *e = &c->rec->event[at];
	const struct rec_cmd *r;

	if (e->what == REC_MARK)
		return true;
	r = &c->rec->cmd[e->cmd];
	if (e->what == REC_SENT && r->op != REC_FLUSH)
		add_units(c, e->cmd);
	if (e->what == REC_SENT)
		return r->op != REC_FLUSH;
	if (r->op == REC_FLUSH && r->result == 0)
		settle(c, flushed, at);
	if (r->op == REC_CAW)
		caw_answered(c, at);
	return r->op == REC_FLUSH || r->op == REC_CAW;
}

/* ---- choices --------------------------------------------------------------------------------- */

static unsigned pending_cmds(const struct cutter *c)
{
	unsigned n = 0;

	for (size_t i = 0; i < c->n_units; i++)
		n += i == 0 || c->unit[i].cmd != c->unit[i - 1].cmd;
	return n;
}

unsigned cutter_choices(const struct cutter *c, unsigned out[CHOICES_MAX])
{
	unsigned n = 0, cmds = pending_cmds(c);

	out[n++] = CUT_LOST;
	if (cmds && cmds <= FEW_CMDS)
		for (unsigned mask = 1; mask < 1u << cmds; mask++)
			out[n++] = CUT_MASK + mask;
	else if (cmds)
		out[n++] = CUT_KEPT;
	if (c->n_units > 1)
		for (unsigned v = CUT_TORN; v < CUT_TORN_END; v++)
			out[n++] = v;
	return n;
}

/* The newest command: its begin, its end, or any of its sectors; the others are there. */
static void tear_newest(struct cutter *c, uint64_t *rng)
{
	size_t first = c->n_units, n, how = sim_rand_below(rng, 3), k;

	while (first > 0 && c->unit[first - 1].cmd == c->unit[c->n_units - 1].cmd)
		first--;
	n = c->n_units - first;
	k = n > 1 ? 1 + sim_rand_below(rng, n - 1) : sim_rand_below(rng, 2);
	for (size_t i = 0; i < c->n_units; i++)
		c->keep[i] = i < first	? true
			     : how == 0 ? i - first < k
			     : how == 1 ? i - first >= k
					: sim_rand_below(rng, 2);
}

/* Whole commands: each by chance; all but one; one alone. */
static void mix_commands(struct cutter *c, unsigned how, uint64_t *rng)
{
	uint64_t one = sim_rand_below(rng, pending_cmds(c)), k = 0;
	bool keep = false;

	for (size_t i = 0; i < c->n_units; i++) {
		if (i == 0 || c->unit[i].cmd != c->unit[i - 1].cmd) {
			keep = how == 0 ? sim_rand_below(rng, 2) : (k == one) == (how == 1);
			k++;
		}
		c->keep[i] = keep;
	}
}

static void choose_masked(struct cutter *c, unsigned mask)
{
	unsigned k = 0;

	for (size_t i = 0; i < c->n_units; i++) {
		k += i && c->unit[i].cmd != c->unit[i - 1].cmd;
		c->keep[i] = mask >> k & 1;
	}
}

static void choose(struct cutter *c, unsigned v)
{
	uint64_t rng = c->at * 0xc2b2ae3d27d4eb4full + v;

	if (c->n_units == 0)
		return;
	if (v == CUT_TORN) {
		tear_newest(c, &rng);
	} else if (v == CUT_TORN + 1) {
		for (size_t i = 0; i < c->n_units; i++)
			c->keep[i] = sim_rand_below(&rng, 2);
	} else if (v > CUT_TORN + 1) {
		mix_commands(c, v - CUT_TORN - 2, &rng);
	} else if (v == CUT_LOST || pending_cmds(c) > FEW_CMDS) {
		for (size_t i = 0; i < c->n_units; i++)
			c->keep[i] = v == CUT_KEPT;
	} else {
		choose_masked(c, v - CUT_MASK);
	}
}

/* Of several writes of a sector that are there the newest is seen. */
static bool is_covered(const struct cutter *c, size_t i)
{
	for (size_t k = i + 1; k < c->n_units; k++)
		if (c->keep[k] && c->unit[k].off_bytes == c->unit[i].off_bytes)
			return true;
	return false;
}

uint64_t cutter_hash(struct cutter *c, unsigned v)
{
	uint64_t hash = c->hash;

	choose(c, v);
	for (size_t i = 0; i < c->n_units; i++) {
		if (!c->keep[i])
			continue;
		if (is_covered(c, i))
			c->keep[i] = false;
		else
			hash ^= change_hash(c, c->unit[i].off_bytes, c->unit[i].data);
	}
	return hash;
}

struct simdev_medium *cutter_image(struct cutter *c)
{
	struct simdev_medium *m = simdev_medium_clone(c->m);

	for (size_t i = 0; i < c->n_units; i++)
		if (c->keep[i])
			put(m, c->unit[i].off_bytes, c->unit[i].data, c->sector_bytes);
	return m;
}

/* ---- for a person ---------------------------------------------------------------------------- */

static void say_cmd(const struct cutter *c, size_t first, size_t end)
{
	const struct rec_cmd *r = &c->rec->cmd[c->unit[first].cmd];
	size_t kept = 0;

	for (size_t i = first; i < end; i++)
		kept += c->keep[i];
	printf("    command %zu, %s of host%u at byte %llu, %llu bytes: %s", c->unit[first].cmd,
	       rec_op_name(r->op), r->host, (unsigned long long)r->off_bytes,
	       (unsigned long long)r->len_bytes,
	       kept == 0	     ? "lost"
	       : kept == end - first ? "kept"
				     : "torn, sectors ");
	if (kept && kept < end - first)
		for (size_t i = first; i < end; i++)
			putchar(c->keep[i] ? '+' : '-');
	putchar('\n');
}

void cutter_say(struct cutter *c, unsigned v)
{
	choose(c, v);
	printf("  unflushed when the power went (%u commands):\n", pending_cmds(c));
	for (size_t i = 0; i < c->n_units;) {
		size_t end = i;

		while (end < c->n_units && c->unit[end].cmd == c->unit[i].cmd)
			end++;
		say_cmd(c, i, end);
		i = end;
	}
}
