/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hosts for the cluster tests: what test_host.c and test_pr.c share. */
#ifndef UNIT_CLUSTER_MEMBER_H
#define UNIT_CLUSTER_MEMBER_H

#include "world.h"

#include "cluster/host.h"

#include <errno.h>

#define MS 1000000ull
#define BEAT 150u
#define LEASE 800u
#define LONG (20000 * MS) /* more than anything here may take */

struct member { /* one host */
	struct world *w;
	struct dev *dev;
	struct ats ats;
	struct host *h;
	struct host_config cfg;
	unsigned nexus; /* to use, 0: one of its own */
	unsigned replays, recovered, suspended, resumed, lost;
	unsigned replayed_slot[8];
	uint64_t replay_ns, replay_nonce;
	unsigned replay_fails; /* so many times */
	bool replay_blocks, idle;
	char why[512], lost_why[512];
	int (*at_replay)(struct member *m); /* runs in the replay */
};

/* ---- upcalls ----------------------------------------------------------------------------------
 */

static inline int on_replay(void *ctx, unsigned slot, uint64_t owner, uint64_t nonce)
{
	struct member *m = ctx;

	assert_true(LUNFS_OWNER_SLOT(owner) == slot);
	m->replay_ns = clock_now_ns(m->w->clk);
	m->replay_nonce = nonce;
	if (m->replays < 8)
		m->replayed_slot[m->replays] = slot;
	m->replays++;
	if (m->at_replay && m->at_replay(m))
		return -EIO;
	while (m->replay_blocks && host_state(m->h) != HOST_LOST)
		clock_sleep_ns(m->w->clk, 5 * MS);
	if (host_write_gate(m->h))
		return -EIO;
	if (m->replay_fails) {
		m->replay_fails--;
		return -EIO;
	}
	return 0;
}

static inline void on_recovered(void *ctx, unsigned slot, uint64_t owner)
{
	(void)slot;
	(void)owner;
	((struct member *)ctx)->recovered++;
}

static inline void on_suspended(void *ctx)
{
	((struct member *)ctx)->suspended++;
}

static inline void on_resumed(void *ctx)
{
	((struct member *)ctx)->resumed++;
}

static inline void on_lost(void *ctx, const char *why)
{
	struct member *m = ctx;

	assert_true(why[0] != '\0');
	snprintf(m->lost_why, sizeof(m->lost_why), "%s", why);
	m->lost++;
}

static inline bool on_alive(void *ctx)
{
	return !((struct member *)ctx)->idle;
}

/* ---- members ----------------------------------------------------------------------------------
 */

static inline void make(struct member *m, struct world *w, const char *name)
{
	struct host_cb cb = {.ctx = m,
			     .replay = on_replay,
			     .recovered = on_recovered,
			     .suspended = on_suspended,
			     .resumed = on_resumed,
			     .lost = on_lost,
			     .alive = on_alive};
	struct env env = {.clk = w->clk, .geo = &w->geo};
	struct host_config cfg = m->cfg;
	unsigned nexus = m->nexus;

	memset(m, 0, sizeof(*m));
	m->w = w;
	m->nexus = nexus;
	m->dev = env.dev =
	    m->nexus ? simdev_attach_nexus(w->medium, m->nexus) : simdev_attach(w->medium);
	m->nexus = simdev_nexus(m->dev);
	snprintf(cfg.name, sizeof(cfg.name), "%s", name);
	m->cfg = cfg;
	ats_init(&m->ats, &env);
	assert_int_equal(host_new(&env, &m->ats, &cfg, &cb, &m->h), 0);
}

static inline int claim(struct member *m)
{
	return host_claim(m->h, m->why, sizeof(m->why));
}

static inline void mount_host(struct member *m, struct world *w, const char *name)
{
	int r;

	make(m, w, name);
	r = claim(m);
	if (r)
		print_error("%s\n", m->why);
	assert_int_equal(r, 0);
}

static inline void unmake(struct member *m)
{
	host_free(m->h);
	ats_destroy(&m->ats);
	dev_close(m->dev);
}

static inline void umount_host(struct member *m)
{
	assert_int_equal(host_release(m->h), 0);
	unmake(m);
}

/* The host dies: nothing of it reaches the device any more. */
static inline void die(struct member *m)
{
	simdev_kill(m->dev);
	host_abandon(m->h);
}

static inline void look(struct world *w, unsigned slot, struct host_info *hi)
{
	simdev_peek(w->medium, geo_slot_off(slot), w->geo.sector_bytes, w->buf);
	assert_int_equal(slot_decode(&w->geo, w->buf, slot, hi), 0);
}

static inline enum lunfs_slot_state state_of(struct world *w, unsigned slot)
{
	struct host_info hi;

	look(w, slot, &hi);
	return hi.state;
}

static inline void rest(struct world *w, uint64_t ms)
{
	clock_sleep_ns(w->clk, ms * MS);
}

#define UNTIL(w, cond)                                                                             \
	do {                                                                                       \
		uint64_t end_ = clock_now_ns((w)->clk) + LONG;                                     \
		while (!(cond) && clock_now_ns((w)->clk) < end_)                                   \
			rest(w, 5);                                                                \
		assert_true(cond);                                                                 \
	} while (0)

static inline void fail_all(struct member *m, int error)
{
	struct simdev_fault f = {
	    .kind = SIMDEV_FAIL, .ops = SIMDEV_ANY, .count = 1u << 30, .error = error};

	simdev_inject(m->dev, &f);
}

static inline enum owner_state owner_state(struct member *m, uint64_t owner)
{
	enum owner_state st = OWNER_ALIVE;

	assert_int_equal(host_owner_state(m->h, owner, true, &st), 0);
	return st;
}

#endif
