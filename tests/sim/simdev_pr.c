/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Persistent reservations of the simulated LUN (SPC-5 5.14): registrations by nexus and one
 * reservation, of type 7 only. What a registrant may do is asked when a command takes effect.
 */
#include "simdev_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the registrations; the medium is locked ------------------------------------------------- */

static struct pr_reg *reg_find(struct simdev_pr *pr, unsigned nexus)
{
	for (size_t i = 0; i < pr->n; i++)
		if (pr->reg[i].nexus == nexus)
			return &pr->reg[i];
	return NULL;
}

static uint64_t key_of(struct simdev_pr *pr, unsigned nexus)
{
	const struct pr_reg *r = reg_find(pr, nexus);

	return r ? r->key : 0;
}

/* With the last registrant an all-registrants reservation goes too (SPC-5 5.14.11.2.3). */
static void reg_drop(struct simdev_pr *pr, struct pr_reg *r)
{
	size_t i = (size_t)(r - pr->reg);

	pr->n--;
	memmove(r, r + 1, (pr->n - i) * sizeof(*r));
	if (pr->n == 0)
		pr->reserved = false;
}

bool simdev_pr_conflict(struct simdev_medium *m, unsigned nexus)
{
	return m->pr.reserved && key_of(&m->pr, nexus) == 0;
}

void simdev_pr_power(struct simdev_medium *m)
{
	m->pr.generation = 0;
	if (m->pr.aptpl)
		return;
	m->pr.n = 0;
	m->pr.reserved = false;
}

static int pr_register(struct simdev_pr *pr, unsigned nexus, uint64_t old_key, uint64_t new_key)
{
	struct pr_reg *r = reg_find(pr, nexus);

	if ((r ? r->key : 0) != old_key)
		return -EBADE;
	if (r && new_key == 0) {
		reg_drop(pr, r);
	} else if (r) {
		r->key = new_key;
	} else if (new_key != 0) {
		if (pr->n == DEV_PR_KEYS_MAX)
			return -EIO; /* INSUFFICIENT REGISTRATION RESOURCES */
		pr->reg[pr->n++] = (struct pr_reg){nexus, new_key};
	}
	pr->generation++;
	return 0;
}

static int pr_reserve(struct simdev_pr *pr, unsigned nexus, uint64_t key)
{
	if (key == 0 || key_of(pr, nexus) != key)
		return -EBADE;
	pr->reserved = true;
	return 0;
}

static int pr_preempt(struct simdev_medium *m, unsigned nexus, uint64_t own, uint64_t victim)
{
	struct simdev_pr *pr = &m->pr;
	unsigned gone = 0;

	if (own == 0 || victim == 0 || key_of(pr, nexus) != own)
		return -EBADE;
	for (size_t i = 0; i < pr->n;) {
		unsigned from = pr->reg[i].nexus;

		if (pr->reg[i].key != victim) {
			i++;
			continue;
		}
		reg_drop(pr, &pr->reg[i]);
		simdev_abort_nexus(m, from, from != nexus);
		gone++;
	}
	if (gone == 0)
		return -EBADE;
	pr->generation++;
	return 0;
}

static void pr_read(const struct simdev_pr *pr, struct dev_pr_state *out)
{
	out->generation = pr->generation;
	out->nkeys = pr->n;
	for (size_t i = 0; i < pr->n; i++)
		out->keys[i] = pr->reg[i].key;
	out->reserved = pr->reserved;
	out->type = pr->reserved ? DEV_PR_TYPE_WE_AR : 0;
}

int simdev_pr_effect(struct simdev_medium *m, const struct cmd *c)
{
	if (!m->pr.supported)
		return -EOPNOTSUPP;
	switch (c->pr.action) {
	case PR_PROBE:
		return m->pr.aptpl ? 0 : -EOPNOTSUPP;
	case PR_REGISTER:
		return pr_register(&m->pr, c->s->nexus, c->pr.own, c->pr.other);
	case PR_ANYWAY:
		return pr_register(&m->pr, c->s->nexus, key_of(&m->pr, c->s->nexus), c->pr.own);
	case PR_RESERVE:
		return pr_reserve(&m->pr, c->s->nexus, c->pr.own);
	case PR_PREEMPT:
		return pr_preempt(m, c->s->nexus, c->pr.own, c->pr.other);
	case PR_READ:
		if (c->pr.state)
			pr_read(&m->pr, c->pr.state);
		return 0;
	}
	return -EINVAL;
}

void simdev_pr_text(const struct cmd *c, char *buf, size_t len)
{
	unsigned long long own = c->pr.own, other = c->pr.other;

	switch (c->pr.action) {
	case PR_PROBE:
		snprintf(buf, len, "REPORT CAPABILITIES");
		return;
	case PR_REGISTER:
		snprintf(buf, len, "REGISTER %llx > %llx", own, other);
		return;
	case PR_ANYWAY:
		snprintf(buf, len, "REGISTER AND IGNORE EXISTING KEY %llx", own);
		return;
	case PR_RESERVE:
		snprintf(buf, len, "RESERVE key %llx", own);
		return;
	case PR_PREEMPT:
		snprintf(buf, len, "PREEMPT AND ABORT %llx by %llx", other, own);
		return;
	case PR_READ:
		snprintf(buf, len, "READ KEYS, READ RESERVATION");
		return;
	}
}

/* ---- the device's functions ------------------------------------------------------------------ */

static int call(struct dev *d, struct pr_cmd pr)
{
	struct cmd c = {.op = SIMDEV_PR, .pr = pr};

	return simdev_command(simdev_of(d), &c);
}

static int sd_pr_probe(struct dev *d, char *why, size_t why_len)
{
	int err = call(d, (struct pr_cmd){.action = PR_PROBE});

	if (err == -EOPNOTSUPP)
		snprintf(why, why_len,
			 "%s has no persistent reservations that survive a power "
			 "loss",
			 d->id.name);
	else if (err)
		snprintf(why, why_len, "%s: REPORT CAPABILITIES: %s", d->id.name, strerror(-err));
	return err;
}

static int sd_pr_register(struct dev *d, uint64_t old_key, uint64_t new_key)
{
	return call(d, (struct pr_cmd){.action = PR_REGISTER, .own = old_key, .other = new_key});
}

static int sd_pr_register_anyway(struct dev *d, uint64_t key)
{
	return call(d, (struct pr_cmd){.action = PR_ANYWAY, .own = key});
}

static int sd_pr_reserve(struct dev *d, uint64_t key)
{
	return call(d, (struct pr_cmd){.action = PR_RESERVE, .own = key});
}

static int sd_pr_preempt(struct dev *d, uint64_t own_key, uint64_t victim_key)
{
	return call(d, (struct pr_cmd){.action = PR_PREEMPT, .own = own_key, .other = victim_key});
}

/* Filled in by the medium on the way, given to the caller only with a good answer. */
static int sd_pr_read(struct dev *d, struct dev_pr_state *out)
{
	uint64_t *keys = calloc(DEV_PR_KEYS_MAX, sizeof(*keys));
	struct dev_pr_state got = {.keys = keys};
	int err;

	lunfs_assert(keys != NULL);
	err = call(d, (struct pr_cmd){.action = PR_READ, .state = &got});
	if (err == 0) {
		memcpy(out->keys, keys, got.nkeys * sizeof(*keys));
		got.keys = out->keys;
		*out = got;
	}
	free(keys);
	return err;
}

const struct dev_pr_ops simdev_pr_ops = {
    .probe = sd_pr_probe,
    .register_key = sd_pr_register,
    .register_anyway = sd_pr_register_anyway,
    .reserve = sd_pr_reserve,
    .preempt_abort = sd_pr_preempt,
    .read_state = sd_pr_read,
};

/* ---- for tests ------------------------------------------------------------------------------- */

void simdev_set_pr(struct simdev_medium *m, bool supported, bool aptpl)
{
	medium_lock(m);
	m->pr.supported = supported;
	m->pr.aptpl = aptpl;
	medium_unlock(m);
}

void simdev_pr_forget(struct simdev_medium *m, unsigned nexus)
{
	struct pr_reg *r;

	medium_lock(m);
	simdev_land_due(m);
	r = reg_find(&m->pr, nexus);
	if (r)
		reg_drop(&m->pr, r);
	medium_unlock(m);
}

void simdev_pr_reset(struct simdev_medium *m)
{
	medium_lock(m);
	simdev_land_due(m);
	simdev_note(m, NULL, "target reset: all registrations are gone");
	m->pr.n = 0;
	m->pr.reserved = false;
	m->pr.generation = 0;
	for (struct simdev *s = m->handles; s; s = s->next)
		s->attention = true;
	medium_unlock(m);
}

uint64_t simdev_pr_key(struct simdev_medium *m, unsigned nexus)
{
	uint64_t key;

	medium_lock(m);
	key = key_of(&m->pr, nexus);
	medium_unlock(m);
	return key;
}

bool simdev_pr_reserved(struct simdev_medium *m)
{
	bool yes;

	medium_lock(m);
	yes = m->pr.reserved;
	medium_unlock(m);
	return yes;
}

bool simdev_may_write(struct dev *d)
{
	struct simdev *s = simdev_of(d);
	bool yes;

	medium_lock(s->m);
	yes = !simdev_pr_conflict(s->m, s->nexus);
	medium_unlock(s->m);
	return yes;
}
