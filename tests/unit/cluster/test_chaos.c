/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Four hosts that mount, write, die and come back at random, on a device that loses commands and
 * answers, delays and fails. At every write the device is asked to carry out: has anybody begun to
 * replay the journal of the host that sends it? Then lease and recovery have failed (invariant 3).
 */
#include "world.h"

#include <errno.h>

#define MS 1000000ull
#define HOSTS 4u
#define RUN_MS 60000u
#define DATA_OFF (16ull << 20)

struct chaos;

struct member {
	struct chaos *c;
	unsigned index;
	struct dev *dev; /* NULL: not there */
	struct ats ats;
	struct host *h;
	uint64_t owner; /* of the claimed incarnation; 0 before */
	unsigned mounts, writes, replays, lost;
};

struct chaos {
	struct world *w;
	struct member m[HOSTS];
	uint64_t begun[WORLD_SLOTS + LUNFS_SPARE_SLOTS];     /* generation whose replay began */
	uint64_t recoverer[WORLD_SLOTS + LUNFS_SPARE_SLOTS]; /* owner id that replays or did */
	bool end;
};

static uint64_t chance(struct chaos *c, uint64_t n)
{
	return simclock_random(c->w->clk) % n;
}

static void rest(struct chaos *c, uint64_t ms)
{
	clock_sleep_ns(c->w->clk, ms * MS);
}

/* ---- watching the device ----------------------------------------------------------------------
 */

static void begin_over(struct chaos *c, uint64_t owner)
{
	unsigned slot = LUNFS_OWNER_SLOT(owner);

	if (c->begun[slot] < LUNFS_OWNER_GEN(owner))
		c->begun[slot] = LUNFS_OWNER_GEN(owner);
}

static void on_command(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
		       struct simdev_fault *out)
{
	struct chaos *c = ctx;

	(void)out;
	if (cmd->op != SIMDEV_WRITE)
		return;
	for (unsigned i = 0; i < HOSTS; i++) {
		uint64_t owner = c->m[i].dev == d ? host_owner(c->m[i].h) : 0;

		if (owner)
			assert_true(c->begun[LUNFS_OWNER_SLOT(owner)] < LUNFS_OWNER_GEN(owner));
	}
}

static void write_once(struct member *m)
{
	struct chaos *c = m->c;
	uint8_t *buf = dev_buf_alloc(4096);

	if (!host_write_gate(m->h)) {
		dev_write(m->dev, DATA_OFF + m->index * 4096, 4096, buf);
		m->writes++;
	}
	free(buf);
	rest(c, chance(c, 20));
}

static int on_replay(void *ctx, unsigned slot, uint64_t owner, uint64_t nonce)
{
	struct member *m = ctx;
	struct chaos *c = m->c;

	assert_true(nonce != 0);
	m->replays++;
	begin_over(c, owner);
	if (c->recoverer[slot] && c->recoverer[slot] != host_owner(m->h))
		begin_over(c, c->recoverer[slot]);
	c->recoverer[slot] = host_owner(m->h);
	for (unsigned i = 0; i < 5; i++)
		write_once(m);
	if (host_state(m->h) != HOST_ACTIVE || !chance(c, 5))
		return -EIO;
	c->recoverer[slot] = 0;
	return 0;
}

static void on_lost(void *ctx, const char *why)
{
	(void)why;
	((struct member *)ctx)->lost++;
}

/* ---- the life of a host -------------------------------------------------------------------------
 */

static void make(struct member *m)
{
	struct host_cb cb = {.ctx = m, .replay = on_replay, .lost = on_lost};
	struct env env = {.clk = m->c->w->clk, .geo = &m->c->w->geo};
	struct host_config cfg = {.name = {(char)('a' + m->index)}};
	struct dev *d = simdev_attach(m->c->w->medium);

	env.dev = d;
	ats_init(&m->ats, &env);
	assert_int_equal(host_new(&env, &m->ats, &cfg, &cb, &m->h), 0);
	m->dev = d;
}

static void unmake(struct member *m)
{
	struct dev *d = m->dev;

	m->dev = NULL;
	host_free(m->h);
	ats_destroy(&m->ats);
	dev_close(d);
}

static void die(struct member *m)
{
	simdev_kill(m->dev);
	host_abandon(m->h);
}

static void live(void *arg)
{
	struct member *m = arg;
	struct chaos *c = m->c;
	char why[512];

	while (!c->end) {
		make(m);
		if (host_claim(m->h, why, sizeof(why))) {
			die(m);
		} else {
			uint64_t until = clock_now_ns(c->w->clk) + (500 + chance(c, 8000)) * MS;

			m->mounts++;
			while (clock_now_ns(c->w->clk) < until && host_state(m->h) != HOST_LOST)
				write_once(m);
			if (chance(c, 2))
				host_release(m->h);
			else
				die(m);
		}
		unmake(m);
		rest(c, chance(c, 500));
	}
}

/* ---- trouble
 * -------------------------------------------------------------------------------------- */

static void trouble(struct chaos *c)
{
	static const enum simdev_fault_kind caw_kinds[] = {
	    SIMDEV_LOST_REPLY, SIMDEV_LOST_COMMAND,   SIMDEV_LATE,
	    SIMDEV_RESENT,     SIMDEV_LIE_MISCOMPARE,
	};
	struct member *m = &c->m[chance(c, HOSTS)];
	struct simdev_fault f = {.nth = 1 + chance(c, 3), .count = 1 + chance(c, 6)};

	if (!m->dev)
		return;
	if (chance(c, 2)) {
		f.kind = caw_kinds[chance(c, 5)];
		f.ops = SIMDEV_CAW;
		f.delay_ns = chance(c, 3000) * MS;
	} else if (chance(c, 2)) { /* slow, yet inside the deadline of 400 ms */
		f.kind = SIMDEV_DELAY;
		f.ops = SIMDEV_WRITE | SIMDEV_CAW;
		f.count = 1u << 20;
		f.delay_ns = (100 + chance(c, 250)) * MS;
	} else {
		f.kind = SIMDEV_FAIL;
		f.ops = SIMDEV_ANY;
		f.count = 1u << 20;
		f.error = chance(c, 2) ? -EIO : -EAGAIN;
	}
	simdev_inject(m->dev, &f);
}

static void calm(struct chaos *c)
{
	struct member *m = &c->m[chance(c, HOSTS)];

	if (m->dev)
		simdev_inject_clear(m->dev);
}

static void all_calm(struct chaos *c)
{
	for (unsigned i = 0; i < HOSTS; i++) {
		if (c->m[i].dev)
			simdev_inject_clear(c->m[i].dev);
	}
}

/* All that is left can be recovered by one host. */
static void check_end(struct chaos *c)
{
	struct world *w = c->w;
	uint64_t limit = clock_now_ns(w->clk) + 60000 * MS;
	struct member *m = &c->m[0];
	unsigned busy = 1;
	char why[512];

	make(m);
	assert_int_equal(host_claim(m->h, why, sizeof(why)), 0);
	while (busy && clock_now_ns(w->clk) < limit) {
		busy = 0;
		rest(c, 20);
		for (unsigned i = 0; i < geo_all_slots(&w->geo); i++) {
			struct host_info hi;

			simdev_peek(w->medium, geo_slot_off(i), w->geo.sector_bytes, w->buf);
			assert_int_equal(slot_decode(&w->geo, w->buf, i, &hi), 0);
			busy += i != host_slot(m->h) && hi.state != LUNFS_SLOT_FREE;
		}
	}
	assert_int_equal(busy, 0);
	assert_int_equal(host_release(m->h), 0);
	unmake(m);
}

TEST(no_write_of_a_host_lands_after_its_recovery_began)
{
	struct chaos c = {.w = w};
	struct task *t[HOSTS];
	uint64_t until = clock_now_ns(w->clk) + RUN_MS * MS;
	unsigned mounts = 0, writes = 0;

	simdev_set_latency(w->medium, 100000, 20 * MS);
	simdev_set_hook(w->medium, on_command, &c);
	for (unsigned i = 0; i < HOSTS; i++) {
		c.m[i].c = &c;
		c.m[i].index = i;
		assert_int_equal(w->clk->ops->task_start(w->clk, "host", live, &c.m[i], &t[i]), 0);
	}
	while (clock_now_ns(w->clk) < until) {
		rest(&c, chance(&c, 400));
		if (chance(&c, 2))
			trouble(&c);
		else
			calm(&c);
	}
	c.end = true;
	for (unsigned i = 0; i < 100; i++) {
		all_calm(&c);
		rest(&c, 100);
	}
	for (unsigned i = 0; i < HOSTS; i++) {
		w->clk->ops->task_join(w->clk, t[i]);
		mounts += c.m[i].mounts;
		writes += c.m[i].writes;
	}
	assert_true(mounts > HOSTS && writes > 100);
	check_end(&c);
	simdev_set_hook(w->medium, NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    UNIT(no_write_of_a_host_lands_after_its_recovery_began),
	};

	log_open("chaos", LOG_LVL_ERR, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
