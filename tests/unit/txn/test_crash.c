/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Crash points: every write and every flush of a workload is a possible end of the world. The array
 * loses power there (unflushed sectors may be old, new or torn), the host dies, another one
 * replays; sometimes that one dies too and a third one starts again. What stands in place must then
 * be the state after some transaction, the last acknowledged one or a later one, as a whole.
 *
 * The workload: cells that are free, inodes (their own guard) or tree nodes under one of the
 * inodes; they are created, changed, given up and reused, and guards go to another host that
 * changes what is under them and come back. The log is so small that it wraps all the time.
 */
#include "world.h"

#include <errno.h>

#define CELLS 10
#define STEPS 40
#define JOURNAL_BLKS 17
#define CHANGES_MAX 5

enum use { FREE_NEVER, FREE_NODE, FREE_INODE, USE_INODE, USE_NODE };

struct cell_state {
	enum use use;
	unsigned guard; /* index of the inode */
	uint32_t value;
};

struct state {
	struct cell_state cell[CELLS];
};

struct crash {
	struct world *w;
	struct node n;
	uint64_t seed, rng;
	uint64_t crash_at, seen; /* commands of the victim; 0 = never */
	struct dev *victim;
	bool dead;
	struct state snap[STEPS + 1]; /* after transaction 0 .. last */
	unsigned acked, last;
	uint64_t version[CELLS]; /* a new role goes above it */
};

static uint64_t rnd(struct crash *c, uint64_t n)
{
	c->rng ^= c->rng << 13;
	c->rng ^= c->rng >> 7;
	c->rng ^= c->rng << 17;
	return c->rng % n;
}

static void on_command(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
		       struct simdev_fault *out)
{
	struct crash *c = ctx;

	(void)out;
	if (d != c->victim || !(cmd->op & (SIMDEV_WRITE | SIMDEV_FLUSH)) || c->dead)
		return;
	if (++c->seen != c->crash_at)
		return;
	c->dead = true;
	simdev_kill(d);
	simdev_power_cut(c->w->medium, c->seed ^ c->crash_at);
}

/* ---- the workload -----------------------------------------------------------------------------
 */

static uint16_t type_of(const struct cell_state *s)
{
	return s->use == USE_INODE ? LUNFS_BLK_INODE : LUNFS_BLK_BTREE;
}

static bool in_use(const struct cell_state *s)
{
	return s->use >= USE_INODE;
}

static bool has_nodes(const struct state *s, unsigned ino)
{
	for (unsigned i = 0; i < CELLS; i++)
		if (s->cell[i].use == USE_NODE && s->cell[i].guard == ino)
			return true;
	return false;
}

static int any_inode(struct crash *c, const struct state *s)
{
	for (unsigned tries = 0; tries < 20; tries++) {
		unsigned i = (unsigned)rnd(c, CELLS);

		if (s->cell[i].use == USE_INODE)
			return (int)i;
	}
	return -1;
}

static bool get(struct crash *c, const struct state *s, unsigned i, struct mblk **m)
{
	int r = mblk_get(c->n.t, &c->n.lock[s->cell[i].guard], world_cell(c->w, i),
			 type_of(&s->cell[i]), m);

	assert_true(r == 0 || c->dead);
	return r == 0;
}

static void do_new(struct crash *c, struct txn_handle *h, struct state *s, unsigned i,
		   uint32_t value)
{
	struct cell_state *cs = &s->cell[i];
	int ino = any_inode(c, s);
	struct mblk *m;

	*cs = (struct cell_state){.use = ino < 0 || rnd(c, 3) == 0 ? USE_INODE : USE_NODE};
	cs->guard = cs->use == USE_INODE ? i : (unsigned)ino;
	cs->value = value;
	m = mblk_new(h, &c->n.lock[cs->guard], world_cell(c->w, i), type_of(cs), c->version[i], 0);
	payload_set(m->data, value);
	mblk_put(c->n.t, m);
}

static void do_forget(struct crash *c, struct txn_handle *h, struct state *s, unsigned i)
{
	struct cell_state *cs = &s->cell[i];
	struct mblk *m;

	if ((cs->use == USE_INODE && has_nodes(s, i)) || !get(c, s, i, &m))
		return;
	c->version[i] = mblk_forget(h, m);
	cs->use = cs->use == USE_INODE ? FREE_INODE : FREE_NODE;
}

static void do_set(struct crash *c, struct txn_handle *h, struct state *s, unsigned i,
		   uint32_t value)
{
	struct mblk *m;

	if (!get(c, s, i, &m))
		return;
	mblk_dirty(h, m);
	payload_set(m->data, value);
	mblk_put(c->n.t, m);
	s->cell[i].value = value;
}

static bool step_txn(struct crash *c)
{
	struct state *s = &c->snap[c->last + 1];
	unsigned changes = 1 + (unsigned)rnd(c, CHANGES_MAX);
	struct txn_handle *h;
	uint64_t tid;

	*s = c->snap[c->last];
	if (txn_begin(c->n.t, changes, &h))
		return false;
	for (unsigned k = 0; k < changes; k++) {
		unsigned i = (unsigned)rnd(c, CELLS);
		uint32_t value = (c->last + 1) * 16 + k;

		if (!in_use(&s->cell[i]))
			do_new(c, h, s, i, value);
		else if (rnd(c, 3) == 0)
			do_forget(c, h, s, i);
		else
			do_set(c, h, s, i, value);
	}
	tid = txn_end(h);
	c->last++;
	if (rnd(c, 3) == 0) {
		if (txn_wait_durable(c->n.t, tid))
			return false;
		c->acked = c->last;
	}
	return true;
}

/* A guard goes to another host, which changes what is under it, and comes back. */
static bool step_give(struct crash *c)
{
	struct state *s = &c->snap[c->last + 1];
	int ino = any_inode(c, &c->snap[c->last]);
	struct lock *l;

	if (ino < 0)
		return true;
	l = &c->n.lock[ino];
	if (txn_commit_all(c->n.t))
		return false;
	c->acked = c->last;
	if (txn_flush_guard(c->n.t, l->addr, LOCK_NONE))
		return false;
	node_give(&c->n, l);
	*s = c->snap[c->last];
	for (unsigned i = 0; i < CELLS; i++) {
		uint64_t addr = world_cell(c->w, i);

		if (!in_use(&s->cell[i]) || s->cell[i].guard != (unsigned)ino)
			continue;
		s->cell[i].value += 1000;
		world_plant(c->w, addr, l->addr, type_of(&s->cell[i]),
			    world_version(c->w, addr) + 1, s->cell[i].value);
	}
	node_lock(&c->n, (unsigned)ino, l->addr);
	c->acked = ++c->last;
	return true;
}

static void workload(struct crash *c)
{
	for (unsigned i = 0; i < STEPS; i++) {
		if (rnd(c, 8) == 0)
			clock_sleep_ns(c->w->clk, rnd(c, 8000000000ull));
		if (!(rnd(c, 10) == 0 ? step_give(c) : step_txn(c)))
			break;
	}
}

/* ---- what must stand there --------------------------------------------------------------------
 */

static bool cell_matches(struct crash *c, unsigned i, const struct cell_state *cs)
{
	const struct lunfs_blk_hdr *h = (void *)c->w->buf;
	bool valid;

	if (cs->use == FREE_NEVER || cs->use == FREE_NODE)
		return true;
	valid = world_place(c->w, world_cell(c->w, i), c->w->buf);
	if (cs->use == FREE_INODE)
		return valid && le16_get(h->type) == LUNFS_BLK_FREE;
	return valid && le16_get(h->type) == type_of(cs) &&
	       le64_get(h->guard) == world_cell(c->w, cs->guard) &&
	       payload_get(c->w->buf) == cs->value;
}

static bool state_matches(struct crash *c, const struct state *s)
{
	for (unsigned i = 0; i < CELLS; i++)
		if (!cell_matches(c, i, &s->cell[i]))
			return false;
	return true;
}

static void check(struct crash *c)
{
	for (unsigned k = c->acked; k <= c->last; k++)
		if (state_matches(c, &c->snap[k]))
			return;
	for (unsigned i = 0; i < CELLS; i++)
		print_message("cell %u: use %d value %u%s\n", i, c->snap[c->acked].cell[i].use,
			      c->snap[c->acked].cell[i].value,
			      cell_matches(c, i, &c->snap[c->acked].cell[i]) ? "" : " MISMATCH");
	fail_msg("seed %llu, crash at command %llu: no state of %u..%u stands on disk",
		 (unsigned long long)c->seed, (unsigned long long)c->crash_at, c->acked, c->last);
}

static uint32_t cells_crc(struct world *w)
{
	size_t len = (size_t)CELLS * geo_cell_bytes(&w->geo);
	uint8_t *b = malloc(len);
	uint32_t crc;

	simdev_peek(w->medium, geo_blk_off(world_cell(w, 0)), len, b);
	crc = crc32c(b, len);
	free(b);
	return crc;
}

static void recover(struct crash *c)
{
	struct node r;
	uint32_t crc;
	int rc;

	node_attach(c->w, &r, 1);
	if (rnd(c, 2)) { /* the recoverer dies as well */
		c->dead = false;
		c->seen = 0;
		c->crash_at = 1 + rnd(c, 8);
		c->victim = r.env.dev;
	}
	rc = node_replay(&r, &c->n);
	assert_true(rc == 0 || c->dead);
	node_crash(&r);
	c->victim = NULL;
	node_attach(c->w, &r, 2);
	assert_int_equal(node_replay(&r, &c->n), 0);
	simdev_power_cut(c->w->medium, c->seed); /* what it wrote was flushed */
	check(c);
	crc = cells_crc(c->w);
	assert_int_equal(node_replay(&r, &c->n), 0);
	assert_int_equal(cells_crc(c->w), crc);
	node_crash(&r);
}

static uint64_t now_seed, now_crash_at, now_seen;

static void crash_body(struct world *w)
{
	struct crash *c = calloc(1, sizeof(*c));

	c->w = w;
	c->seed = now_seed;
	c->rng = now_seed * 0x9e3779b97f4a7c15ull | 1;
	c->crash_at = now_crash_at;
	node_up(w, &c->n, 0);
	c->victim = c->n.env.dev;
	for (unsigned i = 0; i < CELLS; i++)
		node_lock(&c->n, i, world_cell(w, i));
	simdev_set_hook(w->medium, on_command, c);
	workload(c);
	now_seen = c->dead ? 0 : c->seen;
	node_crash(&c->n);
	if (!c->dead)
		simdev_power_cut(w->medium, c->seed);
	recover(c);
	simdev_set_hook(w->medium, NULL, NULL);
	free(c);
}

/* Crash nowhere first, which counts the commands; then at each of them. */
static void crash_everywhere(uint64_t seed)
{
	uint64_t commands;

	now_seed = seed;
	now_crash_at = 0;
	world_run(crash_body, seed, JOURNAL_BLKS);
	commands = now_seen;
	assert_true(commands > 50);
	for (now_crash_at = 1; now_crash_at <= commands; now_crash_at++)
		world_run(crash_body, seed, JOURNAL_BLKS);
	print_message("seed %llu: %llu crash points\n", (unsigned long long)seed,
		      (unsigned long long)commands);
}

static void
a_crash_at_any_command_leaves_the_state_of_one_transaction_not_before_the_last_acknowledged(
    void **state)
{
	const char *one = getenv("TEST_SEED");
	const char *seeds = getenv("TEST_SEEDS");
	uint64_t max = seeds ? strtoull(seeds, NULL, 10) : 16;

	(void)state;
	if (one) {
		crash_everywhere(strtoull(one, NULL, 10));
		return;
	}
	for (uint64_t seed = 1; seed <= max; seed++)
		crash_everywhere(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    UNIT(
		a_crash_at_any_command_leaves_the_state_of_one_transaction_not_before_the_last_acknowledged),
	};

	log_open("test", getenv("TEST_VERBOSE") ? LOG_LVL_INFO : (enum log_level)0, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
