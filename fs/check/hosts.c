/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The same contention between hosts. Checks that were told of as many hosts find each other by
 * their member records, agree on the group (all say READY with the same group number, made of the
 * numbers of its members), the first of them prepares the shared counters and says RUNNING, all
 * count up, each publishes how often it succeeded (DONE), and each verifies the sum.
 */
#include "check/check_impl.h"

#include "base/siphash.h"

#define LOOK_NS (50 * MS_NS)
#define RUN_SHARE_PERCENT 25u
#define END_SLACK_NS (10 * S_NS)

struct seen { /* a record, and since when its beat stands still */
	struct member m;
	uint64_t changed_ns;
	bool moved; /* it beat while we looked */
};

struct party {
	struct check *c;
	struct seen seen[MEMBERS];
	unsigned member[CHECK_HOSTS_MAX]; /* cells, ascending */
	unsigned n;			  /* that look for as many as we do */
	uint64_t group;
};

/* ---- who is there ---------------------------------------------------------------------------- */

static int look(struct party *p)
{
	struct check *c = p->c;
	struct member now[MEMBERS];
	int rc = members_read(c, now);

	for (unsigned i = 0; i < MEMBERS && !rc; i++) {
		struct seen *s = &p->seen[i];

		if (now[i].nonce != s->m.nonce) {
			*s = (struct seen){.changed_ns = check_now(c)};
		} else if (now[i].beat != s->m.beat) {
			s->changed_ns = check_now(c);
			s->moved = true;
		}
		s->m = now[i];
	}
	return rc;
}

static bool alive(const struct party *p, unsigned i)
{
	const struct seen *s = &p->seen[i];

	if (i == p->c->cell)
		return true;
	return s->m.nonce && s->moved && check_now(p->c) - s->changed_ns < MEMBER_STALE_NS;
}

static bool looks_for_us(const struct party *p, unsigned i)
{
	const struct member *m = &p->seen[i].m;

	return alive(p, i) && m->hosts == p->c->cfg.hosts &&
	       (m->state == MEMBER_JOINING || m->state == MEMBER_READY);
}

/* The first so many that look for a group of our size. Are they enough, and are we among them? */
static bool gather(struct party *p)
{
	bool among = false;

	p->n = 0;
	for (unsigned i = 0; i < MEMBERS && p->n < p->c->cfg.hosts; i++) {
		if (!looks_for_us(p, i))
			continue;
		p->member[p->n++] = i;
		among = among || i == p->c->cell;
	}
	return p->n == p->c->cfg.hosts && among;
}

static uint64_t group_number(const struct party *p)
{
	static const uint8_t key[16] = "lunfs check host";
	uint64_t nonce[CHECK_HOSTS_MAX] = {0}, x;

	for (unsigned i = 0; i < p->n; i++)
		nonce[i] = p->seen[p->member[i]].m.nonce;
	x = siphash24(key, nonce, sizeof(nonce));
	return x ? x : 1;
}

/* ---- agreeing -------------------------------------------------------------------------------- */

static int say(struct party *p, enum member_state state, uint64_t group)
{
	struct check *c = p->c;
	bool same;

	mtx_lock(&c->mtx);
	same = c->me.state == state && c->me.group == group;
	c->me.state = state;
	c->me.group = group;
	c->me.hosts = c->cfg.hosts;
	mtx_unlock(&c->mtx);
	return same ? 0 : member_publish(c);
}

static bool all_in(const struct party *p, enum member_state least, enum member_state most)
{
	for (unsigned i = 0; i < p->n; i++) {
		const struct member *m = &p->seen[p->member[i]].m;

		if (m->group != p->group || m->state < least || m->state > most)
			return false;
	}
	return true;
}

static bool leader(const struct party *p)
{
	return p->member[0] == p->c->cell;
}

static bool gone(const struct party *p, unsigned *who)
{
	for (unsigned i = 0; i < p->n; i++) {
		*who = p->member[i];
		if (!alive(p, *who) || p->seen[*who].m.group != p->group)
			return true;
	}
	return false;
}

/* One step towards a group. 1: it runs. 0: not yet. Negative: an error. */
static int agree_step(struct party *p, uint64_t off[COUNTERS])
{
	struct check *c = p->c;
	int rc;

	if (p->group) { /* we said READY: the first may have said RUNNING already */
		if (all_in(p, MEMBER_READY, MEMBER_RUNNING)) {
			if (!leader(p))
				return p->seen[p->member[0]].m.state == MEMBER_RUNNING;
			rc = arena_prepare(c, p->group, off, COUNTERS);
			if (!rc)
				rc = io_flush(c, 0);
			if (!rc)
				rc = say(p, MEMBER_RUNNING, p->group);
			return rc ? rc : 1;
		}
		if (p->seen[p->member[0]].m.state == MEMBER_RUNNING &&
		    p->seen[p->member[0]].m.group == p->group)
			return 1;
	}
	if (!gather(p)) {
		p->group = 0;
		return say(p, MEMBER_JOINING, 0);
	}
	p->group = group_number(p);
	return say(p, MEMBER_READY, p->group);
}

static int agree(struct party *p, uint64_t off[COUNTERS])
{
	struct check *c = p->c;
	uint64_t until = check_now(c) + c->cfg.wait_ms * MS_NS;
	int rc = say(p, MEMBER_JOINING, 0);

	while (!rc && check_now(c) < until && !check_over(c) && !check_is_disturbed(c)) {
		rc = look(p);
		if (!rc)
			rc = agree_step(p, off);
		if (!rc)
			check_nap(c, LOOK_NS);
	}
	return rc;
}

/* ---- running and the sum --------------------------------------------------------------------- */

/* Until all have said DONE. */
static bool all_done(struct party *p, uint64_t until, unsigned *missing)
{
	struct check *c = p->c;

	*missing = p->member[0];
	while (check_now(c) < until && !check_over(c)) {
		if (look(p) == 0) {
			if (all_in(p, MEMBER_DONE, MEMBER_SEEN))
				return true;
			if (gone(p, missing))
				return false;
		}
		check_nap(c, LOOK_NS);
	}
	for (unsigned i = 0; i < p->n; i++)
		if (p->seen[p->member[i]].m.state < MEMBER_DONE)
			*missing = p->member[i];
	return false;
}

/* The others may still have to read what we published. */
static void wait_seen(struct party *p)
{
	struct check *c = p->c;
	uint64_t until = check_now(c) + END_SLACK_NS;
	unsigned who;

	while (check_now(c) < until && !check_over(c) && look(p) == 0 && !gone(p, &who) &&
	       !all_in(p, MEMBER_SEEN, MEMBER_SEEN))
		check_nap(c, LOOK_NS);
}

static void publish_counts(struct party *p, const struct arena_sum *sum)
{
	struct check *c = p->c;

	mtx_lock(&c->mtx);
	memcpy(c->me.success, sum->success_at, sizeof(c->me.success));
	memcpy(c->me.unknown, sum->unknown_at, sizeof(c->me.unknown));
	mtx_unlock(&c->mtx);
	say(p, MEMBER_DONE, p->group);
}

static void add_others(const struct party *p, struct arena_sum *sum)
{
	for (unsigned i = 0; i < p->n; i++) {
		const struct member *m = &p->seen[p->member[i]].m;

		for (unsigned k = 0; k < COUNTERS && p->member[i] != p->c->cell; k++) {
			sum->success_at[k] += m->success[k];
			sum->unknown_at[k] += m->unknown[k];
			sum->success += m->success[k];
			sum->unknown += m->unknown[k];
		}
	}
}

static bool one_machine(const struct party *p)
{
	for (unsigned i = 1; i < p->n; i++)
		if (p->seen[p->member[i]].m.boot != p->seen[p->member[0]].m.boot)
			return false;
	return true;
}

static void name_all(const struct party *p, char *out, size_t len)
{
	size_t at = (size_t)snprintf(out, len, "%u %s", p->n,
				     one_machine(p) ? "checks on this machine" : "hosts");

	for (unsigned i = 0; i < p->n; i++)
		at += (size_t)snprintf(out + (at < len ? at : len), at < len ? len - at : 0,
				       "%s%.20s", i ? ", " : " (", p->seen[p->member[i]].m.host);
	snprintf(out + (at < len ? at : len), at < len ? len - at : 0, ")");
}

static void say_not_formed(struct party *p, struct check_result *r)
{
	struct check *c = p->c;
	unsigned others = 0;

	for (unsigned i = 0; i < MEMBERS; i++)
		others += i != c->cell && alive(p, i);
	result_say(r, CHECK_UNKNOWN,
		   "Only %u of %u hosts were seen within %u s (%u other checks run on this device, "
		   "with whatever --hosts).",
		   p->n, c->cfg.hosts, c->cfg.wait_ms / 1000, others);
	result_advise(r,
		      "Start 'lunfs check-device --hosts %u' on all of them at the same time; on "
		      "the same LUN. If they do run, what one host writes does not reach the "
		      "other: these are not the same device, or a cache stands between.",
		      c->cfg.hosts);
}

static void run_group(struct party *p, const uint64_t off[COUNTERS], struct check_result *r)
{
	struct check *c = p->c;
	uint64_t until = check_now(c) + check_share_ns(c, RUN_SHARE_PERCENT);
	struct arena_sum sum;
	char what[200];
	unsigned missing;

	check_progress(c, "COMPARE AND WRITE against other hosts", 60);
	name_all(p, what, sizeof(what));
	arena_run(c, p->group, off, COUNTERS, until, &sum, r);
	publish_counts(p, &sum);
	result_value(r, "hosts", p->n);
	result_value(r, "one_machine", one_machine(p));
	result_value(r, "own_commands", sum.tries);
	result_value(r, "own_succeeded", sum.success);
	if (!all_done(p, check_now(c) + c->cfg.deadline_ms * MS_NS + END_SLACK_NS, &missing)) {
		if (!sum.failed && !result_excused(c, r)) {
			result_say(r, CHECK_UNKNOWN, "Host %.32s went away in the middle.",
				   p->seen[missing].m.host);
			result_advise(r, "Run the check again on all hosts.");
		}
		return;
	}
	say(p, MEMBER_SEEN, p->group);
	add_others(p, &sum);
	result_value(r, "succeeded", sum.success);
	if (!sum.failed && !result_excused(c, r) &&
	    arena_verify(c, p->group, off, COUNTERS, &sum, what, r))
		arena_judge(&sum, what, r);
	wait_seen(p);
}

void test_hosts(struct check *c)
{
	struct party p = {.c = c};
	uint64_t off[COUNTERS];
	struct check_result r;
	int rc;

	result_init(&r, "hosts");
	if (c->no_caw) {
		result_say(&r, CHECK_SKIPPED, "There is no COMPARE AND WRITE to be contended for.");
		result_add(c, &r);
		return;
	}
	if (c->cfg.hosts < 2) {
		result_say(&r, CHECK_NOTE, "Only this host was tried.");
		result_advise(&r,
			      "To prove it between hosts, run 'lunfs check-device --hosts N' on "
			      "N of them at the same time.");
		result_add(c, &r);
		return;
	}
	check_progress(c, "waiting for the other hosts", 55);
	for (unsigned i = 0; i < COUNTERS; i++)
		off[i] = shared_off(i);
	rc = agree(&p, off);
	if (rc > 0)
		run_group(&p, off, &r);
	else if (rc < 0)
		result_say(&r, CHECK_UNKNOWN, "The scratch area cannot be used: %s.", io_error(rc));
	else if (!result_excused(c, &r))
		say_not_formed(&p, &r);
	if (r.grade == CHECK_BAD)
		c->no_caw = true;
	result_add(c, &r);
}
