/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transactions on the real host and lock layers: several hosts on one simulated LUN add to counters
 * under exclusive locks, hand the locks to each other, die and are recovered.
 */
#include "world.h"

#include <errno.h>

#define HOSTS 3u
#define COUNTERS 6u
#define SLOTS 4u
#define DEV_BYTES (64ull << 20)
#define BEAT_MS 150
#define DEADLINE_MS 400
#define LEASE_MS 900

struct cluster;

struct box { /* one host */
	struct cluster *c;
	unsigned n;
	struct env env;
	struct ats ats;
	struct host *host;
	struct locks *ls;
	struct txns *t;
	bool up;
};

struct cluster {
	struct clock *clk;
	struct simdev_medium *medium;
	struct dev *first;
	struct geo geo;
	struct box box[HOSTS];
	void (*body)(struct cluster *c);
	uint32_t acked[COUNTERS], begun[COUNTERS]; /* additions */
};

static bool killed; /* what a killed host had allocated is lost */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return killed;
}

/* ---- the medium -------------------------------------------------------------------------------
 */

static uint64_t counter_addr(const struct cluster *c, unsigned i)
{
	return c->geo.group0_blk + (uint64_t)(64 + i) * c->geo.cell_blks;
}

static void make_geo(struct geo *g, uint32_t sector)
{
	memset(g->vol_id, 0xab, sizeof(g->vol_id));
	g->dev_blks = DEV_BYTES / LUNFS_BLOCK_BYTES;
	g->sector_bytes = sector;
	g->cell_blks = sector == 512 ? 1 : 2;
	g->payload_off = sector;
	g->payload_io_bytes = sector == 512 ? LUNFS_PAYLOAD_BYTES : 4096;
	g->slots = g->journals = SLOTS;
	g->board_row_bytes = 10 * 4096;
	g->journal_blks = 33;
	g->group_blks = 4096;
	g->group0_blk = 4096;
	g->groups = 2;
	g->end_blk = 3 * 4096;
	g->bitmap_cells = 1;
	g->beat_ms = BEAT_MS;
	g->deadline_ms = DEADLINE_MS;
	g->lease_ms = LEASE_MS;
	for (unsigned i = 0; i < SLOTS; i++)
		g->journal_blk[i] = 2048 + 64 * i;
}

static void plant_counter(struct cluster *c, unsigned i, uint8_t *buf)
{
	uint64_t addr = counter_addr(c, i);

	memset(buf, 0, 4096);
	lock_format(&c->geo, addr, 77, buf);
	simdev_poke(c->medium, geo_blk_off(addr), c->geo.sector_bytes, buf);
	memset(buf, 0, 4096);
	blk_init(&c->geo, buf, LUNFS_BLK_INODE, addr, 1, addr, 0);
	payload_set(buf, 0);
	blk_seal(buf);
	simdev_poke(c->medium, geo_payload_off(&c->geo, addr), c->geo.payload_io_bytes, buf);
}

static void format(struct cluster *c)
{
	struct geo *g = &c->geo;
	uint8_t *buf = dev_buf_alloc(4096);

	for (unsigned i = 0; i < geo_all_slots(g); i++) {
		memset(buf, 0, 4096);
		slot_format(g, buf, i, 77);
		simdev_poke(c->medium, geo_slot_off(i), g->sector_bytes, buf);
	}
	memset(buf, 0, 4096);
	maint_format(g, buf, 77);
	simdev_poke(c->medium, LUNFS_MAINT_OFF, g->sector_bytes, buf);
	for (unsigned i = 0; i < SLOTS; i++) {
		journal_format(g, i, buf);
		simdev_poke(c->medium, geo_blk_off(g->journal_blk[i]), 4096, buf);
	}
	for (unsigned i = 0; i < COUNTERS; i++)
		plant_counter(c, i, buf);
	free(buf);
}

/* ---- hosts ------------------------------------------------------------------------------------
 */

static void on_loaded(void *ctx, struct lock *l, const void *payload)
{
	txn_loaded(((struct box *)ctx)->t, l, payload);
}

static int on_invalidate(void *ctx, uint64_t addr, enum lock_mode keep)
{
	(void)ctx;
	(void)addr;
	(void)keep;
	return 0;
}

static int on_flush(void *ctx, struct lock *l, enum lock_mode keep)
{
	return txn_flush_guard(((struct box *)ctx)->t, lock_addr(l), keep);
}

static uint64_t on_version(void *ctx, uint64_t addr)
{
	return txn_guard_version(((struct box *)ctx)->t, addr);
}

static bool on_is_open(void *ctx, uint64_t addr)
{
	(void)ctx;
	(void)addr;
	return false;
}

static int on_replay(void *ctx, unsigned slot, uint64_t owner, uint64_t nonce)
{
	return txn_replay(((struct box *)ctx)->t, slot, owner, nonce);
}

static void on_recovered(void *ctx, unsigned slot, uint64_t owner)
{
	struct box *b = ctx;

	(void)owner;
	if (b->up)
		locks_owner_over(b->ls, slot);
}

static bool on_alive(void *ctx)
{
	return txns_alive(((struct box *)ctx)->t);
}

static void up(struct cluster *c, unsigned n)
{
	struct box *b = &c->box[n];
	struct host_config cfg = {.claim_wait_ms = 5000};
	struct host_cb hcb = {
	    .ctx = b, .replay = on_replay, .recovered = on_recovered, .alive = on_alive};
	struct lock_cb lcb = {.ctx = b,
			      .loaded = on_loaded,
			      .invalidate = on_invalidate,
			      .flush = on_flush,
			      .version = on_version,
			      .is_open = on_is_open};
	char why[256] = "";

	memset(b, 0, sizeof(*b));
	simclock_set_group(c->clk, n + 1);
	b->c = c;
	b->n = n;
	b->env = (struct env){.dev = simdev_attach(c->medium), .clk = c->clk, .geo = &c->geo};
	dev_set_deadline(b->env.dev, DEADLINE_MS);
	snprintf(cfg.name, sizeof(cfg.name), "host%u", n);
	ats_init(&b->ats, &b->env);
	assert_int_equal(host_new(&b->env, &b->ats, &cfg, &hcb, &b->host), 0);
	assert_int_equal(locks_new(&b->env, &b->ats, b->host, &lcb, &b->ls), 0);
	assert_int_equal(txns_new(&b->env, b->host, b->ls, &b->t), 0);
	if (host_claim(b->host, why, sizeof(why)))
		fail_msg("claim: %s", why);
	assert_int_equal(locks_start(b->ls), 0);
	assert_int_equal(txns_start(b->t), 0);
	b->up = true;
	simclock_set_group(c->clk, 0);
}

static void down(struct cluster *c, unsigned n)
{
	struct box *b = &c->box[n];

	locks_stop(b->ls);
	b->up = false;
	assert_int_equal(txns_stop(b->t), 0);
	assert_int_equal(host_release(b->host), 0);
	txns_free(b->t);
	locks_free(b->ls);
	host_free(b->host);
	ats_destroy(&b->ats);
	dev_close(b->env.dev);
}

static void kill_host(struct cluster *c, unsigned n)
{
	killed = true;
	simdev_kill(c->box[n].env.dev);
	simclock_kill(c->clk, n + 1);
	c->box[n].up = false;
}

static void body_of(void *arg)
{
	struct cluster *c = arg;

	c->body(c);
}

static void cluster_run(void (*body)(struct cluster *c), uint64_t seed)
{
	struct cluster *c = calloc(1, sizeof(*c));
	uint32_t sector = seed % 2 ? 512 : 4096;

	make_geo(&c->geo, sector);
	c->clk = simclock_new();
	c->first = simdev_new(c->clk, DEV_BYTES, sector, sector);
	c->medium = simdev_medium_of(c->first);
	c->body = body;
	simdev_seed(c->medium, seed);
	simdev_set_latency(c->medium, 50000, 500000);
	format(c);
	simclock_run(c->clk, body_of, c, seed);
	dev_close(c->first);
	c->clk->ops->destroy(c->clk);
	free(c);
}

static void cluster_seeds(void (*body)(struct cluster *c), const char *name)
{
	const char *one = getenv("TEST_SEED");
	const char *many = getenv("TEST_SEEDS");
	uint64_t max = many ? strtoull(many, NULL, 10) : 6;

	for (uint64_t seed = one ? strtoull(one, NULL, 10) : 1; seed <= max || one; seed++) {
		print_message("%s: seed %llu\n", name, (unsigned long long)seed);
		cluster_run(body, seed);
		if (one)
			break;
	}
}

#define CLUSTER_TEST(name)                                                                         \
	static void body_##name(struct cluster *c);                                                \
	static void name(void **state)                                                             \
	{                                                                                          \
		(void)state;                                                                       \
		cluster_seeds(body_##name, #name);                                                 \
	}                                                                                          \
	static void body_##name(struct cluster *c)

/* ---- work -------------------------------------------------------------------------------------
 */

/* One more on counters @i and @j (may be equal), in one transaction; -EIO when the host is dying.
 */
static int add(struct box *b, unsigned i, unsigned j, bool wait)
{
	unsigned idx[2] = {i < j ? i : j, i < j ? j : i};
	unsigned n = i == j ? 1 : 2;
	struct lock *l[2];
	struct mblk *m[2];
	struct txn_handle *h;
	uint64_t tid;

	for (unsigned k = 0; k < n; k++)
		assert_int_equal(lock_pin(b->ls, counter_addr(b->c, idx[k]), LOCK_EX, LOCAL_EXCL, 0,
					  NULL, &l[k]),
				 0);
	for (unsigned k = 0; k < n; k++)
		assert_int_equal(mblk_get(b->t, l[k], lock_addr(l[k]), LUNFS_BLK_INODE, &m[k]), 0);
	assert_int_equal(txn_begin(b->t, n, &h), 0);
	for (unsigned k = 0; k < n; k++) {
		mblk_dirty(h, m[k]);
		b->c->begun[idx[k]]++;
		payload_set(m[k]->data, payload_get(m[k]->data) + 1);
	}
	tid = txn_end(h);
	for (unsigned k = n; k-- > 0;) {
		mblk_put(b->t, m[k]);
		lock_unpin(b->ls, l[k], LOCAL_EXCL);
	}
	if (!wait)
		return 0;
	assert_int_equal(txn_wait_durable(b->t, tid), 0);
	return 0;
}

static uint32_t look(struct box *b, unsigned i)
{
	struct lock *l;
	struct mblk *m;
	uint32_t v;

	assert_int_equal(lock_pin(b->ls, counter_addr(b->c, i), LOCK_SH, LOCAL_SHARED, 0, NULL, &l),
			 0);
	assert_int_equal(mblk_get(b->t, l, lock_addr(l), LUNFS_BLK_INODE, &m), 0);
	v = payload_get(m->data);
	mblk_put(b->t, m);
	lock_unpin(b->ls, l, LOCAL_SHARED);
	return v;
}

CLUSTER_TEST(what_one_host_changed_the_next_holder_of_the_lock_sees)
{
	up(c, 0);
	up(c, 1);
	for (unsigned round = 1; round <= 5; round++) {
		add(&c->box[0], 0, 1, false);
		assert_int_equal(look(&c->box[1], 0), 2 * round - 1);
		add(&c->box[1], 0, 1, false);
		assert_int_equal(look(&c->box[0], 1), 2 * round);
	}
	down(c, 0);
	assert_int_equal(look(&c->box[1], 0), 10);
	down(c, 1);
}

CLUSTER_TEST(what_a_dead_host_had_waited_for_is_there_after_its_recovery)
{
	up(c, 0);
	up(c, 1);
	add(&c->box[1], 2, 2, true); /* handed over later: others' images must not be undone */
	for (unsigned i = 0; i < 4; i++)
		add(&c->box[0], i % 3, 3, true);
	add(&c->box[1], 3, 3, true);
	kill_host(c, 0);
	assert_int_equal(look(&c->box[1], 0), 2);
	assert_int_equal(look(&c->box[1], 1), 1);
	assert_int_equal(look(&c->box[1], 2), 2);
	assert_int_equal(look(&c->box[1], 3), 5);
	assert_int_equal(atomic_load(&c->box[1].t->stats.replays), 1);
	down(c, 1);
}

CLUSTER_TEST(what_was_waited_for_survives_a_power_cut_of_everything)
{
	for (unsigned n = 0; n < HOSTS; n++)
		up(c, n);
	for (unsigned i = 0; i < 30; i++)
		add(&c->box[i % HOSTS], i % COUNTERS, (i * 7) % COUNTERS, i >= 24);
	for (unsigned i = 0; i < COUNTERS; i++)
		c->acked[i] = c->begun[i];
	add(&c->box[0], 0, 5, false); /* not waited for: all or nothing */
	for (unsigned n = 0; n < HOSTS; n++)
		assert_int_equal(txn_commit_all(c->box[n].t), 0);
	add(&c->box[1], 1, 4, false);
	for (unsigned n = 0; n < HOSTS; n++)
		kill_host(c, n);
	simdev_power_cut(c->medium, 5);
	up(c, 0);
	assert_int_equal(look(&c->box[0], 2), c->begun[2]);
	assert_int_equal(look(&c->box[0], 3), c->begun[3]);
	assert_int_equal(look(&c->box[0], 0), c->begun[0]);
	assert_int_equal(c->begun[1] - look(&c->box[0], 1), c->begun[4] - look(&c->box[0], 4));
	down(c, 0);
}

struct worker {
	struct box *b;
	uint64_t rng;
	struct cluster *c;
	unsigned done;
	bool ended;
};

static unsigned below(struct worker *wk, unsigned n)
{
	wk->rng = wk->rng * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(wk->rng >> 33) % n;
}

static void work(void *arg)
{
	struct worker *wk = arg;

	simclock_set_group(wk->c->clk, wk->b->n + 1);
	for (unsigned k = 0; k < 25; k++) {
		unsigned i = below(wk, COUNTERS), j = below(wk, COUNTERS);
		bool wait = below(wk, 2);

		add(wk->b, i, j, wait);
		if (wait) {
			wk->c->acked[i]++;
			if (i != j)
				wk->c->acked[j]++;
		}
		wk->done++;
	}
	wk->ended = true;
}

CLUSTER_TEST(hosts_at_work_on_the_same_locks_lose_nothing_acknowledged_when_one_dies)
{
	struct worker wk[HOSTS];
	struct task *task[HOSTS];

	for (unsigned n = 0; n < HOSTS; n++) {
		up(c, n);
		wk[n] = (struct worker){.b = &c->box[n], .c = c, .rng = simclock_random(c->clk)};
	}
	for (unsigned n = 0; n < HOSTS; n++)
		assert_int_equal(c->clk->ops->task_start(c->clk, "work", work, &wk[n], &task[n]),
				 0);
	while (wk[0].done < 10)
		clock_sleep_ns(c->clk, 1000000);
	kill_host(c, 0);
	for (unsigned n = 1; n < HOSTS; n++)
		c->clk->ops->task_join(c->clk, task[n]);
	for (unsigned i = 0; i < COUNTERS; i++) {
		uint32_t v = look(&c->box[1], i);

		assert_int_equal(look(&c->box[2], i), v);
		assert_true(v >= c->acked[i] && v <= c->begun[i]);
	}
	assert_int_equal(
	    atomic_load(&c->box[1].t->stats.replays) + atomic_load(&c->box[2].t->stats.replays), 1);
	down(c, 1);
	down(c, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    UNIT(what_one_host_changed_the_next_holder_of_the_lock_sees),
	    UNIT(what_a_dead_host_had_waited_for_is_there_after_its_recovery),
	    UNIT(what_was_waited_for_survives_a_power_cut_of_everything),
	    UNIT(hosts_at_work_on_the_same_locks_lose_nothing_acknowledged_when_one_dies),
	};

	log_open("test", getenv("TEST_VERBOSE") ? LOG_LVL_DEBUG : LOG_LVL_ERR, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
