// SPDX-License-Identifier: GPL-2.0-or-later
/* The cluster of fixture.h. */
#include "fixture.h"

#include "base/bitmap.h"
#include "base/log.h"
#include "simrand.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the medium -------------------------------------------------------------------------------
 */

static void make_geo(struct geo *g, const struct fix_shape *s)
{
	memset(g, 0, sizeof(*g));
	memset(g->vol_id, 0xab, sizeof(g->vol_id));
	g->sector_bytes = s->sector_bytes;
	g->cell_blks = s->sector_bytes == 512 ? 1 : 2;
	g->payload_off = s->sector_bytes == 512 ? 512 : 4096;
	g->payload_io_bytes = s->sector_bytes == 512 ? LUNFS_PAYLOAD_BYTES : 4096;
	g->slots = 8;
	g->journals = FIX_HOSTS;
	g->board_row_bytes = 10ull * 4096;
	g->journal_blks = 512;
	g->group_blks = s->group_blks;
	g->group0_blk = 8192;
	g->groups = s->groups;
	g->end_blk = g->group0_blk + s->groups * s->group_blks;
	g->dev_blks = g->end_blk + 16;
	g->bitmap_cells = (s->group_blks + LUNFS_BITMAP_BITS - 1) / LUNFS_BITMAP_BITS;
	g->beat_ms = FIX_BEAT_MS;
	g->deadline_ms = FIX_DEADLINE_MS;
	g->lease_ms = FIX_LEASE_MS;
	for (unsigned i = 0; i < g->journals; i++)
		g->journal_blk[i] = 2048 + 512 * i;
}

static void poke_cell(struct fix *f, uint64_t addr, const void *payload)
{
	uint8_t *buf = dev_buf_alloc(geo_cell_bytes(&f->geo));

	lock_format(&f->geo, addr, 77, buf);
	memcpy(buf + f->geo.payload_off, payload, LUNFS_PAYLOAD_BYTES);
	simdev_poke(f->medium, geo_blk_off(addr), geo_cell_bytes(&f->geo), buf);
	free(buf);
}

static void format_anchors(struct fix *f, uint8_t *buf)
{
	for (unsigned i = 0; i < LUNFS_ANCHORS; i++) {
		uint64_t addr = geo_anchor_cell((enum lunfs_anchor)i);
		struct lunfs_anchor_pl *p = (struct lunfs_anchor_pl *)buf;

		memset(buf, 0, LUNFS_PAYLOAD_BYTES);
		blk_init(&f->geo, p, LUNFS_BLK_ANCHOR, addr, 1, addr, 0);
		p->value = le64_make(i == LUNFS_ANCHOR_WATERMARK ? 1 : 0);
		blk_seal(p);
		poke_cell(f, addr, p);
	}
}

static void format(struct fix *f)
{
	struct geo *g = &f->geo;
	uint8_t *buf = dev_buf_alloc((size_t)(1 + g->bitmap_cells) * LUNFS_PAYLOAD_BYTES + 8192);

	for (unsigned i = 0; i < geo_all_slots(g); i++) {
		memset(buf, 0, 8192);
		slot_format(g, buf, i, 77);
		simdev_poke(f->medium, geo_slot_off(i), g->sector_bytes, buf);
	}
	memset(buf, 0, 8192);
	maint_format(g, buf, 77);
	simdev_poke(f->medium, LUNFS_MAINT_OFF, g->sector_bytes, buf);
	for (unsigned i = 0; i < g->journals; i++) {
		memset(buf, 0, 8192);
		journal_format(g, i, buf);
		simdev_poke(f->medium, geo_blk_off(g->journal_blk[i]), 4096, buf);
	}
	format_anchors(f, buf);
	group_format(g, 0, buf, buf + LUNFS_PAYLOAD_BYTES);
	poke_cell(f, geo_group_header(g, 0), buf);
	for (unsigned i = 0; i < g->bitmap_cells; i++)
		poke_cell(f, geo_group_bitmap(g, 0, i), buf + (1u + i) * LUNFS_PAYLOAD_BYTES);
	free(buf);
}

/* ---- hosts -------------------------------------------------------------------------------------
 */

static void cb_loaded(void *ctx, struct lock *l, const void *payload)
{
	struct box *b = ctx;

	txn_loaded(b->txns, l, payload);
}

static int cb_invalidate(void *ctx, uint64_t addr, enum lock_mode keep)
{
	(void)ctx;
	(void)addr;
	(void)keep;
	return 0;
}

static int cb_flush(void *ctx, struct lock *l, enum lock_mode keep)
{
	struct box *b = ctx;
	int rc = txn_flush_guard(b->txns, lock_addr(l), keep);

	if (rc == 0 && keep == LOCK_NONE)
		alloc_lock_gone(b->a, lock_addr(l));
	return rc;
}

static uint64_t cb_version(void *ctx, uint64_t addr)
{
	struct box *b = ctx;

	return txn_guard_version(b->txns, addr);
}

static bool cb_is_open(void *ctx, uint64_t addr)
{
	(void)ctx;
	(void)addr;
	return false;
}

static int cb_replay(void *ctx, unsigned slot, uint64_t owner, uint64_t nonce)
{
	struct box *b = ctx;

	return txn_replay(b->txns, slot, owner, nonce);
}

static void cb_recovered(void *ctx, unsigned slot, uint64_t owner)
{
	struct box *b = ctx;

	(void)owner;
	if (b->up)
		locks_owner_over(b->ls, slot);
}

void fix_up(struct fix *f, unsigned n)
{
	struct box *b = &f->box[n];
	struct host_config cfg = {.claim_wait_ms = 20000};
	struct host_cb hcb = {.ctx = b, .replay = cb_replay, .recovered = cb_recovered};
	struct lock_cb lcb = {.ctx = b,
			      .loaded = cb_loaded,
			      .invalidate = cb_invalidate,
			      .flush = cb_flush,
			      .version = cb_version,
			      .is_open = cb_is_open};
	char why[256] = "";

	memset(b, 0, sizeof(*b));
	simclock_set_group(f->clk, n + 1);
	b->f = f;
	b->n = n;
	b->dev = simdev_attach(f->medium);
	dev_set_deadline(b->dev, FIX_DEADLINE_MS);
	b->env = (struct env){.dev = b->dev, .clk = f->clk, .geo = &f->geo};
	snprintf(cfg.name, sizeof(cfg.name), "host%u", n);
	ats_init(&b->ats, &b->env);
	assert_int_equal(host_new(&b->env, &b->ats, &cfg, &hcb, &b->host), 0);
	assert_int_equal(locks_new(&b->env, &b->ats, b->host, &lcb, &b->ls), 0);
	assert_int_equal(txns_new(&b->env, b->host, b->ls, &b->txns), 0);
	assert_int_equal(alloc_new(&b->env, b->host, b->ls, b->txns, &b->a), 0);
	if (host_claim(b->host, why, sizeof(why)))
		fail_msg("claim: %s", why);
	assert_int_equal(txns_start(b->txns), 0);
	assert_int_equal(locks_start(b->ls), 0);
	assert_int_equal(alloc_start(b->a), 0);
	b->up = true;
	simclock_set_group(f->clk, 0);
}

void fix_down(struct fix *f, unsigned n)
{
	struct box *b = &f->box[n];

	(void)f;
	locks_stop(b->ls);
	assert_int_equal(txns_stop(b->txns), 0);
	alloc_stop(b->a);
	b->up = false;
	assert_int_equal(host_release(b->host), 0);
	alloc_free(b->a);
	txns_free(b->txns);
	locks_free(b->ls);
	host_free(b->host);
	ats_destroy(&b->ats);
	dev_close(b->dev);
}

void fix_kill(struct fix *f, unsigned n)
{
	simdev_kill(f->box[n].dev);
	simclock_kill(f->clk, n + 1);
	f->box[n].up = false;
}

struct task *fix_task(struct fix *f, unsigned host, void (*fn)(void *), void *arg)
{
	struct task *t;

	simclock_set_group(f->clk, host + 1);
	assert_int_equal(f->clk->ops->task_start(f->clk, "test", fn, arg, &t), 0);
	simclock_set_group(f->clk, 0);
	return t;
}

void fix_join(struct fix *f, struct task *t)
{
	f->clk->ops->task_join(f->clk, t);
}

uint64_t fix_random(struct fix *f, uint64_t below)
{
	return sim_rand_below(&f->rng, below);
}

/* ---- operations
 * ---------------------------------------------------------------------------------- */

void fix_wait_for(struct box *b, uint64_t want)
{
	struct lock *l;

	assert_int_not_equal(want, 0);
	assert_int_equal(lock_pin(b->ls, want, LOCK_EX, LOCAL_SHARED, 0, NULL, &l), 0);
	lock_unpin(b->ls, l, LOCAL_SHARED);
}

static void own(struct fix *f, uint64_t blk, uint64_t n, bool take)
{
	for (uint64_t i = blk - f->geo.group0_blk; n > 0; i++, n--) {
		if (bit_get(f->owned, i) == take)
			fail_msg("block %llu was %s twice",
				 (unsigned long long)(i + f->geo.group0_blk),
				 take ? "handed out" : "given back");
		if (take)
			bit_set(f->owned, i);
		else
			bit_clear(f->owned, i);
	}
}

int fix_blk_alloc(struct box *b, uint32_t max, uint64_t goal, unsigned flags, uint64_t *blk,
		  uint32_t *len)
{
	struct txn_handle *h;
	struct blk_res res;
	int rc;

	while ((rc = blk_reserve(b->a, max, goal, flags, &res)) == -EAGAIN)
		fix_wait_for(b, res.want);
	if (rc < 0)
		return rc;
	assert_in_range(res.len, 1, max);
	assert_true(blk_range_ok(&b->f->geo, res.blk, res.len));
	own(b->f, res.blk, res.len, true);
	assert_int_equal(txn_begin(b->txns, BLK_TAKE_CREDITS, &h), 0);
	blk_take(h, b->a, &res, res.len);
	txn_end(h);
	*blk = res.blk;
	*len = res.len;
	return 0;
}

struct freed {
	struct fix *f;
	uint64_t blk, n;
};

/* Durable: from now on it may be handed out again. */
static void freed_durable(void *arg, bool ok)
{
	struct freed *p = arg;

	if (ok)
		own(p->f, p->blk, p->n, false);
	free(p);
}

static void note_freed(struct box *b, struct txn_handle *h, uint64_t blk, uint64_t n)
{
	struct freed *p = malloc(sizeof(*p));

	*p = (struct freed){b->f, blk, n};
	txn_on_commit(h, freed_durable, p); /* before the allocator's own: it runs first */
}

int fix_blk_free(struct box *b, uint64_t blk, uint32_t len)
{
	struct txn_handle *h;
	struct free_res r;
	int rc;

	for (;;) {
		free_res_init(&r);
		rc = blk_free_prepare(b->a, &r, blk, len);
		if (rc != -EAGAIN)
			break;
		free_res_end(b->a, &r);
		fix_wait_for(b, r.want);
	}
	if (rc == 0) {
		assert_int_equal(txn_begin(b->txns, BLK_FREE_CREDITS, &h), 0);
		note_freed(b, h, blk, len);
		blk_free(h, b->a, &r, blk, len);
		txn_end(h);
	}
	free_res_end(b->a, &r);
	return rc;
}

int fix_cell_alloc(struct box *b, unsigned flags, struct cell *out)
{
	struct cell_res res;
	struct txn_handle *h;
	int rc;

	while ((rc = cell_reserve(b->a, 1, 0, flags, &res)) == -EAGAIN)
		fix_wait_for(b, res.want);
	if (rc < 0)
		return rc;
	own(b->f, res.cell[0].addr, b->f->geo.cell_blks, true);
	assert_int_equal(txn_begin(b->txns, CELL_TAKE_CREDITS, &h), 0);
	*out = cell_take(h, b->a, &res);
	txn_end(h);
	cell_unreserve(b->a, &res);
	return 0;
}

int fix_cell_free(struct box *b, uint64_t cell)
{
	struct txn_handle *h;
	struct free_res r;
	int rc;

	for (;;) {
		free_res_init(&r);
		rc = cell_free_prepare(b->a, &r, cell);
		if (rc != -EAGAIN)
			break;
		free_res_end(b->a, &r);
		fix_wait_for(b, r.want);
	}
	if (rc == 0) {
		assert_int_equal(txn_begin(b->txns, CELL_FREE_CREDITS, &h), 0);
		note_freed(b, h, cell, b->f->geo.cell_blks);
		cell_free(h, b->a, &r, cell);
		txn_end(h);
	}
	free_res_end(b->a, &r);
	return rc;
}

void fix_commit(struct box *b)
{
	assert_int_equal(txn_commit_all(b->txns), 0);
}

/* ---- looking at the medium
 * ------------------------------------------------------------------------- */

static void peek(struct fix *f, uint64_t addr, void *payload)
{
	simdev_peek(f->medium, geo_payload_off(&f->geo, addr), LUNFS_PAYLOAD_BYTES, payload);
}

void fix_group(struct fix *f, uint64_t group, struct group_info *out)
{
	uint8_t buf[LUNFS_PAYLOAD_BYTES];

	peek(f, geo_group_header(&f->geo, group), buf);
	assert_int_equal(group_decode(&f->geo, buf, group, out), 0);
}

uint64_t fix_watermark(struct fix *f)
{
	uint8_t buf[LUNFS_PAYLOAD_BYTES];
	uint64_t addr = geo_anchor_cell(LUNFS_ANCHOR_WATERMARK);

	peek(f, addr, buf);
	assert_int_equal(blk_check(&f->geo, buf, LUNFS_BLK_ANCHOR, addr), 0);
	return le64_get(((struct lunfs_anchor_pl *)buf)->value);
}

uint64_t fix_ats(struct box *b)
{
	return atomic_load(&b->ats.stats.commands);
}

/* A chunk's cells: those used (but for the header) must be owned, the others not. */
static void check_chunk(struct fix *f, uint64_t addr, uint8_t *chunk_map)
{
	uint8_t buf[LUNFS_PAYLOAD_BYTES];
	struct chunk_info ci;

	peek(f, addr, buf);
	assert_int_equal(chunk_decode(&f->geo, buf, addr, &ci), 0);
	for (unsigned i = 0; i < LUNFS_CHUNK_CELLS; i++) {
		uint64_t cell = ci.first_blk + (uint64_t)i * f->geo.cell_blks;

		if (!bit_get(ci.valid, i))
			continue;
		for (unsigned k = 0; k < f->geo.cell_blks; k++)
			bit_set(chunk_map, cell + k - geo_group_blk(&f->geo, ci.group));
		if (cell != addr)
			assert_int_equal(bit_get(f->owned, cell - f->geo.group0_blk),
					 bit_get(ci.used, i));
	}
}

static void check_group(struct fix *f, uint64_t group)
{
	uint8_t *chunk_map = calloc(1, f->geo.group_blks / 8 + 1);
	uint8_t buf[LUNFS_PAYLOAD_BYTES];
	struct group_info gi;
	uint32_t zeros = 0;

	fix_group(f, group, &gi);
	for (unsigned w = 0; w < LUNFS_GROUP_WINDOWS; w++)
		if (gi.chunk[w])
			check_chunk(f,
				    gi.first_blk + (uint64_t)w * window_blks(&f->geo) +
					(gi.chunk[w] - 1ull) * f->geo.cell_blks,
				    chunk_map);
	for (uint32_t n = 0; n < gi.nblks; n++) {
		bool used;

		if (n % LUNFS_BITMAP_BITS == 0) {
			peek(f, geo_group_bitmap(&f->geo, group, n / LUNFS_BITMAP_BITS), buf);
			assert_int_equal(
			    blk_check(&f->geo, buf, LUNFS_BLK_BITMAP,
				      geo_group_bitmap(&f->geo, group, n / LUNFS_BITMAP_BITS)),
			    0);
		}
		used = bit_get(((struct lunfs_bitmap_pl *)buf)->bits, n % LUNFS_BITMAP_BITS);
		zeros += !used;
		if (n < geo_group_meta_blks(&f->geo) || bit_get(chunk_map, n))
			assert_true(used);
		else
			assert_int_equal(used,
					 bit_get(f->owned, gi.first_blk + n - f->geo.group0_blk));
	}
	assert_int_equal(zeros, gi.free_blks);
	free(chunk_map);
}

static void check_medium(struct fix *f)
{
	uint64_t marked = fix_watermark(f);

	assert_in_range(marked, 1, f->geo.groups);
	for (uint64_t g = 0; g < marked; g++)
		check_group(f, g);
}

/* ---- the run
 * ---------------------------------------------------------------------------------------- */

struct run {
	struct fix *f;
	void (*body)(struct fix *f);
};

static void first_task(void *arg)
{
	struct run *r = arg;

	r->body(r->f);
	for (unsigned i = 0; i < FIX_HOSTS; i++)
		if (r->f->box[i].up)
			fix_down(r->f, i);
	if (r->f->check)
		check_medium(r->f);
}

void fix_run(void (*body)(struct fix *f), const struct fix_shape *shape)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct run r = {f, body};
	uint64_t nblks;

	make_geo(&f->geo, shape);
	nblks = f->geo.end_blk - f->geo.group0_blk;
	f->owned = calloc(1, nblks < (1u << 24) ? nblks / 8 + 1 : 1u << 21);
	f->check = true;
	f->clk = simclock_new();
	simclock_set_limits(f->clk, 200000000, 1200ull * 1000000000);
	f->first =
	    simdev_new(f->clk, f->geo.dev_blks * 4096, shape->sector_bytes, shape->sector_bytes);
	f->medium = simdev_medium_of(f->first);
	simdev_seed(f->medium, shape->seed);
	simdev_set_latency(f->medium, 20000, 200000);
	f->rng = shape->seed;
	format(f);
	log_open("test", LOG_LVL_ERR, 0);
	simclock_run(f->clk, first_task, &r, shape->seed);
	dev_close(f->first);
	f->clk->ops->destroy(f->clk);
	free(f->owned);
	free(f);
}
