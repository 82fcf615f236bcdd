/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The simulated LUN's commands: what each does to the medium, and when. The medium's mutex is a
 * plain one of the process, because it is never held across anything that sleeps or yields.
 *
 * A command takes effect in one or several pieces, each at a moment of its own between submission
 * and answer (or after it: a late one). About half of them fly: they were copied, and land when
 * their time has come even if their task is paused or dead. The others are carried by their task,
 * which sleeps until then: what a paused host still had in its own queue lands when it goes on.
 * Flights land before anything else that comes after their time, so nobody can tell that they did
 * not land at that very moment.
 */
#include "simdev_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- effects --------------------------------------------------------------------------------- */

static void tell_monitor(struct simdev_medium *m, const struct cmd *c, const struct piece *p,
			 uint64_t at_ns)
{
	const uint8_t *data = c->out;
	struct simdev_landing l = {.d = c->s->closed ? NULL : &c->s->dev,
				   .label = c->s->label,
				   .nexus = c->s->nexus,
				   .number = c->number,
				   .op = c->op,
				   .off_bytes = c->off_bytes + p->from_bytes,
				   .len_bytes = p->len_bytes,
				   .data = data ? data + p->from_bytes : NULL,
				   .test = c->test,
				   .fault = c->fault.kind,
				   .at_ns = at_ns,
				   .submitted_ns = c->submitted_ns,
				   .late = c->late,
				   .dead = c->s->killed || c->s->closed};

	if (!m->monitor)
		return;
	m->telling = true;
	m->monitor(m->monitor_ctx, &l);
	m->telling = false;
}

static void zero_sectors(struct simdev_medium *m, uint64_t off_bytes, uint64_t len_bytes)
{
	static const uint8_t zero[SIMPAGE_BYTES];

	while (len_bytes > 0) {
		uint64_t n = SIMPAGE_BYTES - off_bytes % SIMPAGE_BYTES;

		if (n > len_bytes)
			n = len_bytes;
		if (simpages_present(&m->pages, off_bytes))
			simpages_write(&m->pages, off_bytes, n, zero, false, &m->rng);
		off_bytes += n;
		len_bytes -= n;
	}
}

static int effect_write(struct simdev_medium *m, const struct cmd *c, const struct piece *p,
			uint64_t at_ns)
{
	uint64_t off = c->off_bytes + p->from_bytes;

	if (c->fault.kind == SIMDEV_LIE_DONE)
		return 0;
	tell_monitor(m, c, p, at_ns);
	simdev_rot_heal(m, off, p->len_bytes);
	if (c->out)
		simpages_write(&m->pages, off, p->len_bytes,
			       (const uint8_t *)c->out + p->from_bytes, false, &m->rng);
	else
		zero_sectors(m, off, p->len_bytes);
	return 0;
}

static bool caw_equal(struct simdev_medium *m, const struct cmd *c)
{
	uint8_t now[SIMPAGE_BYTES];

	simpages_read(&m->pages, c->off_bytes, m->sector_bytes, now);
	return memcmp(now, c->test, m->sector_bytes) == 0;
}

static void caw_lasts(struct simdev_medium *m, uint64_t off_bytes)
{
	simpages_flush_range(&m->pages, off_bytes, m->sector_bytes);
	for (unsigned k = m->n_caw; k-- > 0;)
		if (m->caw[k].off_bytes == off_bytes)
			m->caw[k] = m->caw[--m->n_caw];
}

/* More than there is room for last at once. */
static void caw_is_cached(struct simdev_medium *m, const struct cmd *c)
{
	for (unsigned k = m->n_caw; k-- > 0;)
		if (m->caw[k].off_bytes == c->off_bytes)
			m->caw[k] = m->caw[--m->n_caw];
	if (m->n_caw == SIMDEV_CACHED_CAWS)
		caw_lasts(m, m->caw[0].off_bytes);
	m->caw[m->n_caw++] = (struct cached_caw){c->off_bytes, c->s};
}

static int caw_put(struct simdev_medium *m, const struct cmd *c, uint64_t at_ns)
{
	tell_monitor(m, c, &c->piece[0], at_ns);
	simpages_write(&m->pages, c->off_bytes, m->sector_bytes, c->out, !c->lasts_later,
		       c->lasts_later ? &m->rng : NULL);
	if (c->lasts_later)
		caw_is_cached(m, c);
	return DEV_CAW_GOOD;
}

static int effect_caw(struct simdev_medium *m, struct cmd *c, uint64_t at_ns)
{
	bool equal;

	if (c->lasts_later && c->landed == 1) {
		caw_lasts(m, c->off_bytes);
		return c->result;
	}
	if (simdev_rotten(m, c->off_bytes, c->len_bytes))
		return -EIO;
	equal = caw_equal(m, c);
	switch (c->fault.kind) {
	case SIMDEV_LIE_DONE:
		return DEV_CAW_GOOD;
	case SIMDEV_LIE_MISCOMPARE:
		equal = false;
		break;
	case SIMDEV_LIE_BLIND:
		equal = true;
		break;
	case SIMDEV_LIE_SPLIT:
		if (c->landed == 0) {
			c->equal = equal;
			return equal ? DEV_CAW_GOOD : DEV_CAW_MISCOMPARE;
		}
		equal = c->equal;
		break;
	default:
		break;
	}
	if (equal) {
		caw_put(m, c, at_ns);
		if (c->fault.kind == SIMDEV_RESENT)
			equal = caw_equal(m, c);
	}
	return equal ? DEV_CAW_GOOD : DEV_CAW_MISCOMPARE;
}

static int effect_read(struct simdev_medium *m, const struct cmd *c, const struct piece *p)
{
	const struct simdev *s = c->s;
	uint64_t off = c->off_bytes + p->from_bytes;
	uint8_t *to = (uint8_t *)c->in + p->from_bytes;
	const struct simdev_snapshot *from = NULL;

	if (simdev_rotten(m, off, p->len_bytes))
		return -EIO;
	if (s->stale && off < s->stale_off_bytes + s->stale_len_bytes &&
	    s->stale_off_bytes < off + p->len_bytes)
		from = s->stale;
	if (c->fault.kind == SIMDEV_STALE)
		from = m->old;
	simpages_read(from ? (struct simpages *)&from->pages : &m->pages, off, p->len_bytes, to);
	if (c->fault.kind == SIMDEV_CORRUPT && c->landed == 0) {
		uint64_t bit = sim_rand_below(&m->rng, p->len_bytes * 8);

		to[bit / 8] = (uint8_t)(to[bit / 8] ^ 1u << bit % 8);
	}
	return 0;
}

static void count(struct simdev_medium *m, const struct cmd *c)
{
	switch (c->op) {
	case SIMDEV_READ:
		m->counts.reads++;
		break;
	case SIMDEV_WRITE:
		m->counts.writes++;
		m->counts.torn += c->n_pieces > 1;
		break;
	case SIMDEV_FLUSH:
		m->counts.flushes++;
		break;
	case SIMDEV_CAW:
		m->counts.caws++;
		break;
	case SIMDEV_DISCARD:
		m->counts.discards++;
		break;
	case SIMDEV_PR:
		m->counts.prs++;
		break;
	case SIMDEV_ANY:
		break;
	}
	m->counts.late += c->late;
}

static int effect(struct simdev_medium *m, struct cmd *c, uint64_t at_ns)
{
	const struct piece *p = &c->piece[c->landed];
	bool lasts = c->lasts_later && c->landed == 1; /* as a flush, which passes */

	if (c->op & SIMDEV_CHANGES && !lasts && simdev_pr_conflict(m, c->s->nexus)) {
		m->counts.conflicts++;
		return -EBADE;
	}
	if (c->landed == 0)
		count(m, c);
	switch (c->op) {
	case SIMDEV_READ:
		return c->in ? effect_read(m, c, p) : 0;
	case SIMDEV_WRITE:
	case SIMDEV_DISCARD:
		return effect_write(m, c, p, at_ns);
	case SIMDEV_FLUSH:
		if (c->fault.kind == SIMDEV_LIE_DONE)
			return 0;
		simpages_flush(&m->pages);
		m->n_caw = 0;
		return 0;
	case SIMDEV_CAW:
		return effect_caw(m, c, at_ns);
	case SIMDEV_PR:
		return simdev_pr_effect(m, c);
	case SIMDEV_ANY:
		break;
	}
	return -EINVAL;
}

void simdev_land(struct simdev_medium *m, struct cmd *c, uint64_t at_ns)
{
	int result = effect(m, c, at_ns);

	c->landed++;
	if (result)
		c->landed = c->n_pieces; /* what failed is not gone on with */
	c->result = result;
	if (c->landed == c->n_pieces) {
		m->counts.miscompares += c->op == SIMDEV_CAW && result == DEV_CAW_MISCOMPARE;
		if (c->fault.kind == SIMDEV_ROT && result == 0 && c->op == SIMDEV_WRITE)
			simdev_rot_add(m,
				       c->off_bytes +
					   sim_rand_below(&m->rng, c->len_bytes / m->sector_bytes) *
					       m->sector_bytes,
				       m->sector_bytes);
	}
	simdev_tell(m, SIMDEV_EFFECT, c, at_ns, c->n_pieces > 1 ? "a part" : NULL);
}

/* ---- flights --------------------------------------------------------------------------------- */

void simdev_flight_free(struct flight *f)
{
	free(f->set);
	free(f->test);
	free(f);
}

static void fly_in_order(struct simdev_medium *m, struct flight *f)
{
	struct flight **at = &m->flying;

	f->due_ns = f->c.piece[f->c.landed].due_ns;
	while (*at && (*at)->due_ns <= f->due_ns)
		at = &(*at)->next;
	f->next = *at;
	*at = f;
}

static uint8_t *copy_of(const void *p, size_t n)
{
	uint8_t *q;

	if (!p || n == 0)
		return NULL;
	q = malloc(n);
	lunfs_assert(q != NULL);
	return memcpy(q, p, n);
}

struct flight *simdev_fly(struct simdev_medium *m, const struct cmd *c, bool wanted)
{
	struct flight *f = calloc(1, sizeof(*f));

	lunfs_assert(f != NULL && c->n_pieces > 0);
	f->c = *c;
	f->set = copy_of(c->out, c->len_bytes);
	f->test = copy_of(c->test, c->len_bytes);
	f->c.out = f->set;
	f->c.test = f->test;
	f->c.in = NULL;
	f->c.pr.state = NULL;
	f->c.late = !wanted;
	f->wanted = wanted;
	fly_in_order(m, f);
	return f;
}

static void flight_over(struct simdev_medium *m, struct flight *f)
{
	f->over = true;
	if (!f->wanted) {
		simdev_flight_free(f);
		return;
	}
	f->next = m->over;
	m->over = f;
}

void simdev_land_due(struct simdev_medium *m)
{
	uint64_t now = m->flying ? medium_now(m) : 0;

	if (m->telling)
		return;
	while (m->flying && m->flying->due_ns <= now) {
		struct flight *f = m->flying;

		m->flying = f->next;
		simdev_land(m, &f->c, f->due_ns);
		if (f->c.landed < f->c.n_pieces)
			fly_in_order(m, f);
		else
			flight_over(m, f);
	}
}

int simdev_collect(struct simdev_medium *m, struct flight *f)
{
	struct flight **at = &m->over;
	int result;

	simdev_land_due(m);
	lunfs_assert(f->over);
	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	result = f->c.result;
	simdev_flight_free(f);
	return result;
}

void simdev_drop(struct simdev_medium *m, struct flight *f, int result, const char *why)
{
	f->c.result = result;
	simdev_tell(m, SIMDEV_DROPPED, &f->c, medium_now(m), why);
	flight_over(m, f);
}

void simdev_drop_all(struct simdev_medium *m, const char *why)
{
	while (m->flying) {
		struct flight *f = m->flying;

		m->flying = f->next;
		simdev_drop(m, f, -ETIMEDOUT, why);
	}
}

/* Nothing, all, or all but a piece or two of a write still land, at once or within linger_ns. */
static bool scatter_one(struct simdev_medium *m, struct cmd *c)
{
	uint64_t now = medium_now(m);

	if (sim_chance(&m->rng, 2))
		return false;
	if (c->n_pieces > c->landed + 1 && sim_chance(&m->rng, 2))
		c->n_pieces--;
	for (unsigned i = c->landed; i < c->n_pieces; i++)
		if (m->linger_ns && sim_chance(&m->rng, 2))
			c->piece[i].due_ns = now + sim_rand_below(&m->rng, m->linger_ns);
	for (unsigned i = c->landed + 1; i < c->n_pieces; i++)
		if (c->piece[i].due_ns < c->piece[i - 1].due_ns)
			c->piece[i].due_ns = c->piece[i - 1].due_ns;
	return true;
}

static struct flight *orphan(struct flight *f, struct simdev_medium *m, int result)
{
	struct flight *o = calloc(1, sizeof(*o));

	lunfs_assert(o != NULL);
	*o = *f;
	o->wanted = false;
	o->c.late = true;
	f->set = NULL;
	f->test = NULL;
	f->c.result = result;
	flight_over(m, f);
	return o;
}

void simdev_scatter(struct simdev_medium *m, const struct simdev *s, int result, const char *why)
{
	struct flight *mine = NULL, **at = &m->flying;

	while (*at) {
		struct flight *f = *at;

		if (f->c.s != s || !f->wanted) {
			at = &f->next;
			continue;
		}
		*at = f->next;
		f->next = mine;
		mine = f;
	}
	while (mine) {
		struct flight *f = mine;

		mine = f->next;
		if (scatter_one(m, &f->c))
			fly_in_order(m, orphan(f, m, result));
		else
			simdev_drop(m, f, result, why);
	}
}

void simdev_abort_nexus(struct simdev_medium *m, unsigned nexus, bool told)
{
	for (struct flight **at = &m->flying; *at;) {
		struct flight *f = *at;

		if (f->c.s->nexus != nexus) {
			at = &f->next;
			continue;
		}
		*at = f->next;
		m->counts.aborted++;
		simdev_drop(m, f, -ETIMEDOUT, "aborted");
	}
	for (struct simdev *s = m->handles; s; s = s->next) {
		if (s->nexus != nexus)
			continue;
		s->aborts++;
		s->attention = told;
	}
}
