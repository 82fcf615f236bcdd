/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The cluster of fixture.h. */
#include "fixture.h"

#include "base/crc.h"
#include "base/log.h"
#include "simrand.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEV_BYTES (64ull << 20)
/* What a killed host had allocated is lost; leaks say something only where none was killed. */
static bool killed;
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return killed;
}

#define CELL0 64u /* first cell of group 0 that the tests use */

/* ---- the medium ----------------------------------------------------------------------------- */

static void make_geo(struct geo *g, uint32_t sector)
{
	memset(g, 0, sizeof(*g));
	memset(g->vol_id, 0xab, sizeof(g->vol_id));
	g->dev_blks = DEV_BYTES / LUNFS_BLOCK_BYTES;
	g->sector_bytes = sector;
	g->cell_blks = sector == 512 ? 1 : 2;
	g->payload_off = sector == 512 ? 512 : 4096;
	g->payload_io_bytes = sector == 512 ? LUNFS_PAYLOAD_BYTES : 4096;
	g->slots = 8;
	g->journals = 8;
	g->board_row_bytes = 10 * 4096;
	g->journal_blks = 256;
	g->group_blks = 4096;
	g->group0_blk = 4096;
	g->groups = 2;
	g->end_blk = 3 * 4096;
	g->bitmap_cells = 1;
	g->beat_ms = FIX_BEAT_MS;
	g->deadline_ms = FIX_DEADLINE_MS;
	g->lease_ms = FIX_LEASE_MS;
	for (unsigned i = 0; i < g->slots; i++)
		g->journal_blk[i] = 2048 + 256 * i;
}

uint64_t fix_addr(const struct fix *f, unsigned cell)
{
	return f->geo.group0_blk + (uint64_t)(CELL0 + cell) * f->geo.cell_blks;
}

unsigned fix_cell(const struct fix *f, uint64_t addr)
{
	return (unsigned)((addr - fix_addr(f, 0)) / f->geo.cell_blks);
}

static void write_value(struct fix *f, uint64_t addr, uint64_t value, uint64_t version, void *buf)
{
	memset(buf, 0, f->geo.payload_io_bytes);
	blk_init(&f->geo, buf, LUNFS_BLK_FREE, addr, version, addr, 0);
	memcpy((uint8_t *)buf + 64, &value, sizeof(value));
	blk_seal(buf);
}

static void format(struct fix *f)
{
	struct geo *g = &f->geo;
	uint8_t *buf = dev_buf_alloc(8192);

	for (unsigned i = 0; i < geo_all_slots(g); i++) {
		memset(buf, 0, 8192);
		slot_format(g, buf, i, 77);
		simdev_poke(f->medium, geo_slot_off(i), g->sector_bytes, buf);
	}
	memset(buf, 0, 8192);
	maint_format(g, buf, 77);
	simdev_poke(f->medium, LUNFS_MAINT_OFF, g->sector_bytes, buf);
	for (unsigned i = 0; i < FIX_CELLS; i++) {
		struct lunfs_lock_rec r;
		uint64_t addr = fix_addr(f, i);

		memset(buf, 0, 8192);
		lock_format(g, addr, 77, buf);
		memcpy(&r, buf, sizeof(r));
		r.payload_version = le64_make(1);
		fix_poke_record(f, i, &r);
		write_value(f, addr, 0, 1, buf);
		simdev_poke(f->medium, geo_payload_off(g, addr), g->payload_io_bytes, buf);
	}
	free(buf);
}

void fix_poke_record(struct fix *f, unsigned cell, struct lunfs_lock_rec *r)
{
	uint8_t *buf = dev_buf_alloc(4096);

	memcpy(buf, r, sizeof(*r));
	crc_seal(buf, REC_BYTES, offsetof(struct lunfs_ats_hdr, crc));
	simdev_poke(f->medium, geo_blk_off(fix_addr(f, cell)), f->geo.sector_bytes, buf);
	free(buf);
}

void fix_record(struct fix *f, unsigned cell, struct lunfs_lock_rec *out)
{
	uint8_t *buf = dev_buf_alloc(4096);

	simdev_peek(f->medium, geo_blk_off(fix_addr(f, cell)), f->geo.sector_bytes, buf);
	assert_int_equal(lock_rec_decode(&f->geo, buf, fix_addr(f, cell), out), 0);
	free(buf);
}

unsigned fix_wishes(struct fix *f, unsigned row, unsigned column)
{
	uint8_t *buf = dev_buf_alloc(4096);
	struct lunfs_board_sec b;
	unsigned n = 0;

	simdev_peek(f->medium, geo_board_off(&f->geo, row, column), f->geo.sector_bytes, buf);
	if (!board_decode(&f->geo, buf, row, column, &b))
		n = le16_get(b.wishes);
	free(buf);
	return n;
}

static void hook(void *ctx, struct dev *d, const struct simdev_cmd *cmd, struct simdev_fault *out)
{
	struct fix *f = ctx;
	bool cell = cmd->off_bytes >= geo_blk_off(fix_addr(f, 0));
	bool board =
	    cmd->off_bytes >= LUNFS_BOARD_OFF &&
	    cmd->off_bytes < LUNFS_BOARD_OFF + geo_all_slots(&f->geo) * f->geo.board_row_bytes;

	(void)d;
	if (board && cmd->op == SIMDEV_WRITE)
		f->io.board_writes++;
	if (!cell)
		return;
	if (cmd->op == SIMDEV_READ)
		f->io.cell_reads++;
	if (cmd->op == SIMDEV_WRITE)
		f->io.cell_writes++;
	if (cmd->op == SIMDEV_CAW)
		f->io.cell_caws++;
	if (cmd->op == SIMDEV_CAW && f->one_in && sim_chance(&f->rng, f->one_in)) {
		static const enum simdev_fault_kind kind[] = {
		    SIMDEV_LOST_REPLY, SIMDEV_LOST_COMMAND, SIMDEV_LATE,
		    SIMDEV_RESENT,     SIMDEV_DELAY,	    SIMDEV_LIE_MISCOMPARE,
		};

		out->kind = kind[sim_rand_below(&f->rng, 6)];
		out->delay_ns = sim_rand_below(&f->rng, 50000000);
	}
}

void fix_io_reset(struct fix *f)
{
	memset(&f->io, 0, sizeof(f->io));
}

/* ---- the layer above the locks -------------------------------------------------------------- */

static void read_payload(struct box *b, uint64_t addr, const void *payload)
{
	struct val *v = &b->val[fix_cell(b->f, addr)];
	const struct lunfs_blk_hdr *h = payload;

	assert_int_equal(blk_check(&b->f->geo, payload, LUNFS_BLK_FREE, addr), 0);
	v->version = le64_get(h->version);
	memcpy(&v->value, (const uint8_t *)payload + 64, sizeof(v->value));
	v->valid = true;
	v->dirty = false;
}

static void cb_loaded(void *ctx, struct lock *l, const void *payload)
{
	struct box *b = ctx;

	b->loaded++;
	if (!b->val[fix_cell(b->f, lock_addr(l))].valid &&
	    !blk_check(&b->f->geo, payload, LUNFS_BLK_FREE, lock_addr(l)))
		read_payload(b, lock_addr(l), payload);
}

static void cb_prepare(void *ctx, uint64_t addr)
{
	struct box *b = ctx;

	b->prepared++;
	if (b->on_prepare)
		b->on_prepare(b, addr);
}

static int cb_invalidate(void *ctx, uint64_t addr, enum lock_mode keep)
{
	struct box *b = ctx;

	(void)keep;
	b->invalidated++;
	if (b->on_invalidate)
		b->on_invalidate(b, addr);
	return b->in_vain && b->in_vain-- ? -EAGAIN : 0;
}

static int cb_flush(void *ctx, struct lock *l, enum lock_mode keep)
{
	struct box *b = ctx;
	uint64_t addr = lock_addr(l);
	struct val *v = &b->val[fix_cell(b->f, addr)];
	uint8_t *buf;
	int rc = 0;

	if (b->fail_flush) {
		b->fail_flush--;
		return -EIO;
	}
	b->flushed++;
	if (v->valid && v->dirty) {
		buf = dev_buf_alloc(4096);
		v->version++;
		write_value(b->f, addr, v->value, v->version, buf);
		rc = dev_write(b->dev, geo_payload_off(&b->f->geo, addr),
			       b->f->geo.payload_io_bytes, buf);
		if (!rc)
			rc = dev_flush(b->dev);
		free(buf);
		if (rc)
			return rc;
		v->dirty = false;
	}
	if (keep == LOCK_NONE)
		v->valid = false;
	return 0;
}

static uint64_t cb_version(void *ctx, uint64_t addr)
{
	struct box *b = ctx;

	return b->val[fix_cell(b->f, addr)].version;
}

static bool cb_is_open(void *ctx, uint64_t addr)
{
	struct box *b = ctx;

	return b->open[fix_cell(b->f, addr)];
}

static const struct lock_cb upcalls = {
    .loaded = cb_loaded,
    .prepare = cb_prepare,
    .invalidate = cb_invalidate,
    .flush = cb_flush,
    .version = cb_version,
    .is_open = cb_is_open,
};

uint64_t fix_get(struct box *b, struct lock *l)
{
	uint64_t addr = lock_addr(l);
	struct val *v = &b->val[fix_cell(b->f, addr)];
	uint8_t *buf;

	if (!v->valid) {
		buf = dev_buf_alloc(4096);
		assert_int_equal(dev_read(b->dev, geo_payload_off(&b->f->geo, addr),
					  b->f->geo.payload_io_bytes, buf),
				 0);
		if (!v->valid)
			read_payload(b, addr, buf);
		free(buf);
	}
	assert_true(v->version >= lock_recorded_version(l));
	return v->value;
}

void fix_add(struct box *b, struct lock *l)
{
	uint64_t was = fix_get(b, l);
	struct val *v = &b->val[fix_cell(b->f, lock_addr(l))];

	assert_true(lock_is_ex(l));
	v->dirty = true;
	v->value = was + 1;
}

static int cb_replay(void *ctx, unsigned slot, uint64_t owner, uint64_t nonce)
{
	struct box *b = ctx;

	(void)slot;
	(void)owner;
	(void)nonce;
	b->replayed++;
	return b->replay_rc;
}

static void cb_recovered(void *ctx, unsigned slot, uint64_t owner)
{
	struct box *b = ctx;

	(void)owner;
	if (b->up)
		locks_owner_over(b->ls, slot);
}

/* ---- hosts ---------------------------------------------------------------------------------- */

void fix_up(struct fix *f, unsigned n)
{
	struct box *b = &f->box[n];
	struct host_config cfg = {.claim_wait_ms = 5000};
	struct host_cb hcb = {.ctx = b, .replay = cb_replay, .recovered = cb_recovered};
	struct lock_cb lcb = upcalls;
	char why[256] = "";

	memset(b, 0, sizeof(*b));
	simclock_set_group(f->clk, n + 1);
	b->f = f;
	b->n = n;
	b->dev = simdev_attach(f->medium);
	dev_set_deadline(b->dev, FIX_DEADLINE_MS);
	b->env = (struct env){.dev = b->dev, .clk = f->clk, .geo = &f->geo};
	lcb.ctx = b;
	snprintf(cfg.name, sizeof(cfg.name), "host%u", n);
	ats_init(&b->ats, &b->env);
	assert_int_equal(host_new(&b->env, &b->ats, &cfg, &hcb, &b->host), 0);
	assert_int_equal(locks_new(&b->env, &b->ats, b->host, &lcb, &b->ls), 0);
	if (host_claim(b->host, why, sizeof(why)))
		fail_msg("claim: %s", why);
	assert_int_equal(locks_start(b->ls), 0);
	b->up = true;
	simclock_set_group(f->clk, 0);
}

void fix_down(struct fix *f, unsigned n)
{
	struct box *b = &f->box[n];

	locks_stop(b->ls);
	b->up = false;
	for (unsigned i = 0; i < FIX_CELLS; i++) { /* what a clean unmount checkpoints */
		uint64_t addr = fix_addr(f, i);
		struct val *v = &b->val[i];
		uint8_t *buf;

		if (!v->valid || !v->dirty)
			continue;
		buf = dev_buf_alloc(4096);
		write_value(f, addr, v->value, ++v->version, buf);
		assert_int_equal(
		    dev_write(b->dev, geo_payload_off(&f->geo, addr), f->geo.payload_io_bytes, buf),
		    0);
		free(buf);
	}
	assert_int_equal(host_release(b->host), 0);
	locks_free(b->ls);
	host_free(b->host);
	ats_destroy(&b->ats);
	dev_close(b->dev);
	b->dev = NULL;
}

void fix_kill(struct fix *f, unsigned n)
{
	killed = true;
	simdev_kill(f->box[n].dev);
	simclock_kill(f->clk, n + 1);
	f->box[n].up = false;
	f->box[n].dead = true;
	for (unsigned i = 0; i < FIX_CELLS; i++) {
		if (f->oracle[i].ex_host == (int)n) {
			f->oracle[i].ex_host = -1;
			f->oracle[i].ex_pins = 0;
		}
		f->oracle[i].sh_pins[n] = 0;
	}
}

/* ---- pins with an oracle -------------------------------------------------------------------- */

int fix_pin(struct box *b, unsigned cell, enum lock_mode mode, enum lock_local local,
	    unsigned flags, struct lock_intr *intr, struct lock **out)
{
	struct fix *f = b->f;
	int rc = lock_pin(b->ls, fix_addr(f, cell), mode, local, flags, intr, out);

	if (rc)
		return rc;
	for (unsigned i = 0; i < FIX_HOSTS; i++) {
		if (i != b->n && mode == LOCK_EX)
			assert_int_equal(f->oracle[cell].sh_pins[i], 0);
	}
	if (f->oracle[cell].ex_pins)
		assert_int_equal(f->oracle[cell].ex_host, b->n);
	if (mode == LOCK_EX) {
		f->oracle[cell].ex_host = (int)b->n;
		f->oracle[cell].ex_pins++;
	} else {
		f->oracle[cell].sh_pins[b->n]++;
	}
	return 0;
}

void fix_unpin(struct box *b, struct lock *l, enum lock_mode mode, enum lock_local local)
{
	unsigned cell = fix_cell(b->f, lock_addr(l));

	if (mode == LOCK_EX)
		b->f->oracle[cell].ex_pins--;
	else
		b->f->oracle[cell].sh_pins[b->n]--;
	lock_unpin(b->ls, l, local);
}

void fix_touch(struct box *b, unsigned cell, enum lock_mode mode)
{
	enum lock_local local = mode == LOCK_EX ? LOCAL_EXCL : LOCAL_SHARED;
	struct lock *l;

	assert_int_equal(fix_pin(b, cell, mode, local, 0, NULL, &l), 0);
	if (mode == LOCK_EX)
		fix_add(b, l);
	else
		fix_get(b, l);
	fix_unpin(b, l, mode, local);
}

void fix_warm(struct fix *f, unsigned host)
{
	board_heat(f->box[host].ls);
	fix_sleep_ms(f, 5);
}

void fix_pinner(void *arg)
{
	struct fix_job *j = arg;
	struct lock *l;

	j->rc = fix_pin(j->b, j->cell, j->mode, LOCAL_SHARED, 0, &j->intr, &l);
	if (!j->rc)
		fix_unpin(j->b, l, j->mode, LOCAL_SHARED);
	j->done = true;
}

/* ---- the run -------------------------------------------------------------------------------- */

void fix_sleep_ms(struct fix *f, uint64_t ms)
{
	clock_sleep_ns(f->clk, ms * 1000000);
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

struct run {
	struct fix *f;
	void (*body)(struct fix *f);
};

static void first_task(void *arg)
{
	struct run *r = arg;

	r->body(r->f);
	for (unsigned i = 0; i < FIX_HOSTS; i++) {
		if (r->f->box[i].up)
			fix_down(r->f, i);
	}
}

void fix_run(void (*body)(struct fix *f), uint32_t sector, uint64_t seed)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct run r = {f, body};

	f->clk = simclock_new();
	simclock_set_limits(f->clk, 50000000, 600ull * 1000000000);
	f->first = simdev_new(f->clk, DEV_BYTES, sector, sector);
	f->medium = simdev_medium_of(f->first);
	simdev_seed(f->medium, seed);
	simdev_set_latency(f->medium, 50000, 400000);
	f->rng = seed;
	make_geo(&f->geo, sector);
	for (unsigned i = 0; i < FIX_CELLS; i++)
		f->oracle[i].ex_host = -1;
	format(f);
	simdev_set_hook(f->medium, hook, f);
	log_open("test", LOG_LVL_ERR, 0);
	simclock_run(f->clk, first_task, &r, seed);
	dev_close(f->first);
	f->clk->ops->destroy(f->clk);
	free(f);
}
