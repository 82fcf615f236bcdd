/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which fault hits which command: first what was armed, then chance. Outages of the transport,
 * sectors that cannot be read, contents that are old; and how many faults there were of each kind.
 */
#include "simdev_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct kind {
	const char *name;
	unsigned ops; /* that it can hit */
};

#define NOT_READ (SIMDEV_ANY & ~SIMDEV_READ)

static const struct kind kinds[SIMDEV_FAULT_KINDS] = {
    [SIMDEV_OK] = {"all", SIMDEV_ANY},
    [SIMDEV_FAIL] = {"fail", SIMDEV_ANY},
    [SIMDEV_DELAY] = {"delay", SIMDEV_ANY},
    [SIMDEV_LOST_REPLY] = {"lost-reply", SIMDEV_ANY},
    [SIMDEV_LOST_COMMAND] = {"lost-command", SIMDEV_ANY},
    [SIMDEV_LATE] = {"late", SIMDEV_ANY},
    [SIMDEV_LIE_DONE] = {"lie-done", SIMDEV_WRITE | SIMDEV_CAW | SIMDEV_FLUSH},
    [SIMDEV_LIE_MISCOMPARE] = {"lie-miscompare", SIMDEV_CAW},
    [SIMDEV_RESENT] = {"resent", SIMDEV_CAW},
    [SIMDEV_BUSY] = {"busy", SIMDEV_ANY},
    [SIMDEV_TASK_SET_FULL] = {"task-set-full", SIMDEV_ANY},
    [SIMDEV_UNIT_ATTENTION] = {"unit-attention", SIMDEV_ANY},
    [SIMDEV_LIE_BLIND] = {"lie-blind", SIMDEV_CAW},
    [SIMDEV_LIE_SPLIT] = {"lie-split", SIMDEV_CAW},
    [SIMDEV_CORRUPT] = {"corrupt", SIMDEV_READ},
    [SIMDEV_STALE] = {"stale", SIMDEV_READ},
    [SIMDEV_ROT] = {"rot", SIMDEV_READ | SIMDEV_WRITE},
    [SIMDEV_OUTAGE] = {"outage", SIMDEV_ANY},
    [SIMDEV_TRUNCATE] = {"truncate", SIMDEV_WRITE},
};

const char *simdev_fault_name(enum simdev_fault_kind kind)
{
	return kinds[kind].name;
}

/* ---- what was armed -------------------------------------------------------------------------- */

static bool fault_matches(const struct simdev_fault *f, const struct cmd *c)
{
	if (!(f->ops & c->op))
		return false;
	if (f->len_bytes == 0)
		return true;
	return c->off_bytes < f->off_bytes + f->len_bytes &&
	       f->off_bytes < c->off_bytes + c->len_bytes;
}

static bool armed(struct simdev *s, struct cmd *c)
{
	for (unsigned i = 0; i < s->n_faults; i++) {
		struct simdev_fault *f = &s->fault[i];

		if (!fault_matches(f, c))
			continue;
		if (f->nth > 1) {
			f->nth--;
			continue;
		}
		c->fault = *f;
		if (f->count != UINT64_MAX && f->count-- <= 1) {
			s->n_faults--;
			memmove(f, f + 1, (s->n_faults - i) * sizeof(*f));
		}
		return true;
	}
	return false;
}

static void old_mark(struct simdev_medium *m)
{
	simdev_old_free(m);
	m->old = calloc(1, sizeof(*m->old));
	lunfs_assert(m->old != NULL);
	simpages_copy(&m->pages, &m->old->pages);
}

void simdev_old_free(struct simdev_medium *m)
{
	if (!m->old)
		return;
	simpages_clear(&m->old->pages);
	free(m->old);
	m->old = NULL;
}

void simdev_mark_old(struct simdev_medium *m)
{
	medium_lock(m);
	simdev_land_due(m);
	old_mark(m);
	medium_unlock(m);
}

void simdev_inject(struct dev *d, const struct simdev_fault *f)
{
	struct simdev *s = simdev_of(d);

	medium_lock(s->m);
	lunfs_assert(s->n_faults < SIMDEV_MAX_FAULTS && f->ops != 0);
	if (f->kind == SIMDEV_STALE && !s->m->old)
		old_mark(s->m);
	s->fault[s->n_faults++] = *f;
	medium_unlock(s->m);
}

void simdev_inject_clear(struct dev *d)
{
	medium_lock(simdev_of(d)->m);
	simdev_of(d)->n_faults = 0;
	medium_unlock(simdev_of(d)->m);
}

/* ---- by chance ------------------------------------------------------------------------------- */

static void set_chaos(struct simdev_chaos **at, const struct simdev_chaos *c)
{
	free(*at);
	*at = NULL;
	if (!c)
		return;
	*at = malloc(sizeof(*c));
	lunfs_assert(*at != NULL);
	memcpy(*at, c, sizeof(*c));
}

static void mark_for_chaos(struct simdev_medium *m, const struct simdev_chaos *c)
{
	if (c && c->rate[SIMDEV_STALE].one_in && !m->old)
		old_mark(m);
}

void simdev_chaos(struct simdev_medium *m, const struct simdev_chaos *c)
{
	medium_lock(m);
	mark_for_chaos(m, c);
	set_chaos(&m->chaos, c);
	medium_unlock(m);
}

void simdev_chaos_handle(struct dev *d, const struct simdev_chaos *c)
{
	struct simdev *s = simdev_of(d);

	medium_lock(s->m);
	mark_for_chaos(s->m, c);
	set_chaos(&s->chaos, c);
	medium_unlock(s->m);
}

static void by_chance(struct simdev *s, struct cmd *c)
{
	const struct simdev_chaos *chaos = s->chaos ? s->chaos : s->m->chaos;
	uint64_t *rng = &s->m->rng;

	if (!chaos)
		return;
	for (unsigned k = SIMDEV_OK + 1; k < SIMDEV_FAULT_KINDS; k++) {
		const struct simdev_rate *r = &chaos->rate[k];
		unsigned ops = r->ops ? r->ops & kinds[k].ops : kinds[k].ops;

		if (r->one_in == 0 || !(ops & c->op) || !sim_chance(rng, r->one_in))
			continue;
		c->fault = (struct simdev_fault){.kind = (enum simdev_fault_kind)k};
		c->fault.delay_ns = r->min_ns;
		if (r->max_ns > r->min_ns)
			c->fault.delay_ns += sim_rand_below(rng, r->max_ns - r->min_ns + 1);
		if (k == SIMDEV_OUTAGE && sim_chance(rng, 2))
			c->fault.error = -EIO;
		return;
	}
}

void simdev_fault_choose(struct simdev *s, struct cmd *c)
{
	if (!armed(s, c))
		by_chance(s, c);
}

/* A fault that makes no sense for this command is none. */
void simdev_fault_count(struct simdev_medium *m, struct cmd *c)
{
	if (c->fault.kind == SIMDEV_OK)
		return;
	if (!(kinds[c->fault.kind].ops & c->op) || (c->fault.kind == SIMDEV_STALE && !m->old)) {
		c->fault.kind = SIMDEV_OK;
		return;
	}
	m->counts.faults++;
	m->fault_counts[SIMDEV_OK]++;
	m->fault_counts[c->fault.kind]++;
}

void simdev_fault_counts(struct simdev_medium *m, uint64_t out[SIMDEV_FAULT_KINDS])
{
	medium_lock(m);
	memcpy(out, m->fault_counts, sizeof(m->fault_counts));
	medium_unlock(m);
}

/* ---- outages --------------------------------------------------------------------------------- */

uint64_t simdev_deadline_ns(const struct simdev *s)
{
	return (s->dev.deadline_ms ? s->dev.deadline_ms : 30000) * 1000000ull;
}

const struct outage *simdev_outage_of(const struct simdev *s, uint64_t now_ns)
{
	const struct outage *own = &s->outage, *all = &s->m->outage;

	if (all->until_ns > now_ns && all->until_ns >= own->until_ns)
		return all;
	return own->until_ns > now_ns ? own : NULL;
}

static const char *const how_text[] = {
    [SIMDEV_OUTAGE_SILENT] = "transport lost, silently",
    [SIMDEV_OUTAGE_ERROR] = "transport lost, with errors",
    [SIMDEV_OUTAGE_QUEUED] = "transport lost, plain commands wait",
};

static void lose_transport(struct simdev *s, enum simdev_outage_how how)
{
	s->m->counts.outages++;
	simdev_note(s->m, s, how_text[how]);
	if (how == SIMDEV_OUTAGE_QUEUED)
		return;
	s->outages++;
	simdev_scatter(s->m, s, -ETIMEDOUT, "transport lost");
}

void simdev_outage_begin(struct simdev *s, uint64_t until_ns, enum simdev_outage_how how)
{
	s->outage = (struct outage){until_ns, how};
	lose_transport(s, how);
}

void simdev_outage(struct dev *d, uint64_t until_ns, enum simdev_outage_how how)
{
	struct simdev *s = simdev_of(d);

	medium_lock(s->m);
	simdev_land_due(s->m);
	simdev_outage_begin(s, until_ns, how);
	medium_unlock(s->m);
}

void simdev_outage_all(struct simdev_medium *m, uint64_t until_ns, enum simdev_outage_how how)
{
	medium_lock(m);
	simdev_land_due(m);
	m->outage = (struct outage){until_ns, how};
	for (struct simdev *s = m->handles; s; s = s->next)
		if (!s->closed && !s->killed)
			lose_transport(s, how);
	medium_unlock(m);
}

bool simdev_was_away(struct dev *d, uint64_t since_ns)
{
	struct simdev *s = simdev_of(d);
	bool yes;

	medium_lock(s->m);
	yes = simdev_outage_of(s, since_ns);
	medium_unlock(s->m);
	return yes;
}

/* ---- contents that are bad or old ------------------------------------------------------------ */

bool simdev_rotten(const struct simdev_medium *m, uint64_t off_bytes, uint64_t len_bytes)
{
	for (size_t i = 0; i < m->rot.n; i++)
		if (m->rot.off_bytes[i] >= off_bytes && m->rot.off_bytes[i] < off_bytes + len_bytes)
			return true;
	return false;
}

void simdev_rot_heal(struct simdev_medium *m, uint64_t off_bytes, uint64_t len_bytes)
{
	for (size_t i = 0; i < m->rot.n;) {
		uint64_t at = m->rot.off_bytes[i];

		if (at >= off_bytes && at < off_bytes + len_bytes)
			m->rot.off_bytes[i] = m->rot.off_bytes[--m->rot.n];
		else
			i++;
	}
}

void simdev_rot_add(struct simdev_medium *m, uint64_t off_bytes, uint64_t len_bytes)
{
	struct rot *r = &m->rot;

	simdev_rot_heal(m, off_bytes, len_bytes); /* each stands there once */
	for (uint64_t done = 0; done < len_bytes; done += m->sector_bytes) {
		if (r->n == r->cap) {
			r->cap = r->cap ? 2 * r->cap : 16;
			r->off_bytes = realloc(r->off_bytes, r->cap * sizeof(*r->off_bytes));
			lunfs_assert(r->off_bytes != NULL);
		}
		r->off_bytes[r->n++] = off_bytes + done;
	}
}

void simdev_rot(struct simdev_medium *m, uint64_t off_bytes, uint64_t len_bytes)
{
	medium_lock(m);
	lunfs_assert(off_bytes % m->sector_bytes == 0 && len_bytes % m->sector_bytes == 0);
	simdev_land_due(m);
	simdev_rot_add(m, off_bytes, len_bytes);
	medium_unlock(m);
}

void simdev_set_stale(struct dev *d, const struct simdev_snapshot *snap, uint64_t off_bytes,
		      uint64_t len_bytes)
{
	struct simdev *s = simdev_of(d);

	medium_lock(s->m);
	s->stale = snap;
	s->stale_off_bytes = off_bytes;
	s->stale_len_bytes = len_bytes;
	medium_unlock(s->m);
}
