/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Replay of a dead host's journal: what it writes, what it must not, and hostile journals. */
#include "world.h"

#include <errno.h>

#define INODE LUNFS_BLK_INODE
#define BTREE LUNFS_BLK_BTREE

/* ---- a journal in memory, to look at and to change --------------------------------------------
 */

struct jrn {
	struct world *w;
	uint64_t off_bytes;
	size_t len_bytes;
	uint8_t *b;
};

struct jtxn {
	uint8_t *log;
	struct lunfs_jdesc *desc;
	struct lunfs_jcommit *commit;
	uint32_t blks, n_desc, n_entries;
};

static void jrn_load(struct world *w, struct jrn *j, unsigned slot)
{
	j->w = w;
	j->off_bytes = geo_blk_off(w->geo.journal_blk[slot]);
	j->len_bytes = (size_t)w->geo.journal_blks * LUNFS_BLOCK_BYTES;
	j->b = malloc(j->len_bytes);
	simdev_peek(w->medium, j->off_bytes, j->len_bytes, j->b);
}

static void jrn_store(struct jrn *j)
{
	simdev_poke(j->w->medium, j->off_bytes, j->len_bytes, j->b);
}

/* Transaction number @n (from 0) of a log that starts at block 1 and does not wrap. */
static struct jtxn jrn_txn(struct jrn *j, unsigned n)
{
	struct jtxn x = {.log = j->b + LUNFS_BLOCK_BYTES};

	for (unsigned i = 0;; i++) {
		x.desc = (void *)x.log;
		x.blks = le32_get(x.desc->n_blks);
		x.n_desc = le16_get(x.desc->n_desc);
		x.n_entries = le32_get(x.desc->n_entries);
		x.commit = (void *)(x.log + (size_t)(x.blks - 1) * LUNFS_BLOCK_BYTES);
		if (i == n)
			return x;
		x.log += (size_t)x.blks * LUNFS_BLOCK_BYTES;
	}
}

static uint8_t *jtxn_place(struct jtxn *x, unsigned image)
{
	return x->log + (size_t)x->n_desc * LUNFS_BLOCK_BYTES + (size_t)image * LUNFS_PAYLOAD_BYTES;
}

static void jtxn_seal(struct jtxn *x)
{
	for (unsigned i = 0; i < x->n_desc; i++)
		crc_seal(x->log + (size_t)i * LUNFS_BLOCK_BYTES, LUNFS_BLOCK_BYTES,
			 offsetof(struct lunfs_jdesc, crc));
	x->commit->body_crc = le32_make(crc32c(x->log, (size_t)(x->blks - 1) * LUNFS_BLOCK_BYTES));
	crc_seal(x->commit, LUNFS_BLOCK_BYTES, offsetof(struct lunfs_jcommit, crc));
}

/* A host that committed @n changes of the inode in cell 0 (values 1 .. n) and died. */
static void die_with(struct world *w, struct node *n, unsigned changes)
{
	uint64_t a = world_cell(w, 0);
	struct lock *l;

	world_plant(w, a, a, INODE, 10, 0);
	node_up(w, n, 0);
	l = node_lock(n, 0, a);
	for (unsigned i = 1; i <= changes; i++)
		assert_int_equal(txn_wait_durable(n->t, node_set(n, l, a, INODE, i)), 0);
	assert_int_equal(world_value(w, a), 0);
	node_crash(n);
}

static int replay_by(struct world *w, const struct node *dead, unsigned slot)
{
	struct node r;
	int rc;

	node_attach(w, &r, slot);
	rc = node_replay(&r, dead);
	node_crash(&r);
	return rc;
}

/* ---- what is replayed -------------------------------------------------------------------------
 */

TEST(what_was_committed_is_in_place_after_replay_and_flushed)
{
	struct node n;

	die_with(w, &n, 3);
	assert_int_equal(replay_by(w, &n, 1), 0);
	assert_int_equal(world_value(w, world_cell(w, 0)), 3);
	assert_int_equal(world_version(w, world_cell(w, 0)), 13);
	assert_int_equal(simdev_unflushed(w->medium), 0);
}

TEST(a_second_replay_writes_nothing)
{
	struct node n;
	struct simdev_counts c1, c2;

	die_with(w, &n, 3);
	assert_int_equal(replay_by(w, &n, 1), 0);
	simdev_counts(w->medium, &c1);
	assert_int_equal(replay_by(w, &n, 2), 0);
	simdev_counts(w->medium, &c2);
	assert_int_equal(c1.writes, c2.writes);
}

TEST(images_of_a_guard_that_moved_on_are_not_written)
{
	struct node n;

	die_with(w, &n, 2);
	node_give(&n, &n.lock[0]);
	world_plant(w, world_cell(w, 0), world_cell(w, 0), INODE, 11, 99);
	assert_int_equal(replay_by(w, &n, 1), 0);
	assert_int_equal(world_value(w, world_cell(w, 0)), 99);
}

TEST(images_of_an_earlier_possession_of_the_same_host_are_not_written)
{
	struct node n;
	struct lock *l;
	uint64_t a = world_cell(w, 0);

	world_plant(w, a, a, INODE, 10, 0);
	node_up(w, &n, 0);
	l = node_lock(&n, 0, a);
	node_set(&n, l, a, INODE, 1);
	assert_int_equal(txn_flush_guard(n.t, a, LOCK_NONE), 0);
	node_give(&n, l);
	world_plant(w, a, a, INODE, 11, 99); /* others wrote it; versions need not tell */
	l = node_lock(&n, 0, a);
	node_crash(&n);
	simdev_peek(w->medium, geo_payload_off(&w->geo, a), 512, w->buf);
	w->buf[70] ^= 1; /* damaged in place, to show that nothing is written over it */
	simdev_poke(w->medium, geo_payload_off(&w->geo, a), 512, w->buf);
	assert_int_equal(replay_by(w, &n, 1), 0);
	assert_false(world_place(w, a, w->buf));
}

TEST(a_newer_version_in_place_is_never_overwritten)
{
	struct node n;

	die_with(w, &n, 2);
	world_plant(w, world_cell(w, 0), world_cell(w, 0), INODE, 13, 99);
	assert_int_equal(replay_by(w, &n, 1), 0);
	assert_int_equal(world_value(w, world_cell(w, 0)), 99);
}

TEST(an_image_older_than_its_guards_recorded_version_is_not_written)
{
	struct node n;

	die_with(w, &n, 2);
	w->locks.rec[0].recorded = 20;
	assert_int_equal(replay_by(w, &n, 1), 0);
	assert_int_equal(world_value(w, world_cell(w, 0)), 0);
	w->locks.rec[0].recorded = 0;
}

TEST(a_revoke_ends_all_earlier_mentions)
{
	struct node n;
	struct lock *l;
	struct txn_handle *h;
	struct mblk *m;
	uint64_t a = world_cell(w, 0), b = world_cell(w, 1);

	world_plant(w, a, a, INODE, 10, 0);
	world_plant(w, b, a, BTREE, 10, 7);
	node_up(w, &n, 0);
	l = node_lock(&n, 0, a);
	txn_wait_durable(n.t, node_set(&n, l, b, BTREE, 8));
	assert_int_equal(mblk_get(n.t, l, b, BTREE, &m), 0);
	assert_int_equal(txn_begin(n.t, 1, &h), 0);
	mblk_forget(h, m);
	txn_wait_durable(n.t, txn_end(h));
	node_crash(&n);
	assert_int_equal(replay_by(w, &n, 1), 0);
	assert_int_equal(world_value(w, b), 7);
}

TEST(a_cell_deleted_and_reused_is_replayed_in_its_last_role)
{
	struct node n;
	struct lock *la, *lb;
	struct txn_handle *h;
	struct mblk *m;
	uint64_t a = world_cell(w, 0), b = world_cell(w, 1), c = world_cell(w, 2), v;

	world_plant(w, c, a, BTREE, 10, 7);
	node_up(w, &n, 0);
	la = node_lock(&n, 0, a);
	lb = node_lock(&n, 1, b);
	txn_wait_durable(n.t, node_set(&n, la, c, BTREE, 8));
	assert_int_equal(mblk_get(n.t, la, c, BTREE, &m), 0);
	assert_int_equal(txn_begin(n.t, 1, &h), 0);
	v = mblk_forget(h, m);
	m = mblk_new(h, lb, c, BTREE, v, 0);
	payload_set(m->data, 9);
	mblk_put(n.t, m);
	txn_wait_durable(n.t, txn_end(h));
	node_crash(&n);
	assert_int_equal(replay_by(w, &n, 1), 0);
	assert_int_equal(world_value(w, c), 9);
}

/* ---- where the log ends -----------------------------------------------------------------------
 */

TEST(a_torn_transaction_ends_the_log_before_it)
{
	struct node n;

	for (unsigned blk = 0; blk < 3; blk++) {
		struct jrn j;
		struct jtxn x;

		w->locks.n = 0;
		die_with(w, &n, 3);
		jrn_load(w, &j, 0);
		x = jrn_txn(&j, 2);
		assert_int_equal(x.blks, 3);
		memset(x.log + (size_t)blk * LUNFS_BLOCK_BYTES + 512, 0xee, 512);
		jrn_store(&j);
		free(j.b);
		assert_int_equal(replay_by(w, &n, 1), 0);
		assert_int_equal(world_value(w, world_cell(w, 0)), 2);
	}
}

TEST(a_transaction_out_of_sequence_or_of_another_incarnation_ends_the_log)
{
	for (int kind = 0; kind < 2; kind++) {
		struct node n;
		struct jrn j;
		struct jtxn x;

		w->locks.n = 0;
		die_with(w, &n, 3);
		jrn_load(w, &j, 0);
		x = jrn_txn(&j, 1);
		if (kind == 0)
			x.desc->seq = x.commit->seq = le64_make(7);
		else
			x.desc->nonce = x.commit->nonce = le64_make(7);
		jtxn_seal(&x);
		jrn_store(&j);
		free(j.b);
		assert_int_equal(replay_by(w, &n, 1), 0);
		assert_int_equal(world_value(w, world_cell(w, 0)), 1);
	}
}

TEST(a_header_of_another_incarnation_means_nothing_to_replay)
{
	struct node n, other;

	die_with(w, &n, 2);
	other = n;
	other.host.nonce++;
	assert_int_equal(replay_by(w, &other, 1), 0);
	other = n;
	other.host.owner += 1 << 8;
	assert_int_equal(replay_by(w, &other, 1), 0);
	assert_int_equal(world_value(w, world_cell(w, 0)), 0);
	assert_int_equal(replay_by(w, &n, 1), 0);
	assert_int_equal(world_value(w, world_cell(w, 0)), 2);
}

TEST(a_damaged_header_is_an_error_and_nothing_is_written)
{
	struct node n;
	struct jrn j;

	die_with(w, &n, 2);
	jrn_load(w, &j, 0);
	j.b[0x30] ^= 1;
	jrn_store(&j);
	free(j.b);
	assert_int_equal(replay_by(w, &n, 1), -EUCLEAN);
	assert_int_equal(world_value(w, world_cell(w, 0)), 0);
}

TEST(a_journal_that_cannot_be_read_is_an_error_not_the_end_of_the_log)
{
	struct node n, r;

	die_with(w, &n, 2);
	node_attach(w, &r, 1);
	simdev_inject(r.env.dev,
		      &(struct simdev_fault){.kind = SIMDEV_FAIL,
					     .ops = SIMDEV_READ,
					     .off_bytes = geo_blk_off(w->geo.journal_blk[0] + 4),
					     .len_bytes = LUNFS_BLOCK_BYTES});
	assert_int_equal(node_replay(&r, &n), -EIO);
	assert_int_equal(world_value(w, world_cell(w, 0)), 0);
	assert_int_equal(node_replay(&r, &n), 0);
	assert_int_equal(world_value(w, world_cell(w, 0)), 2);
	node_crash(&r);
}

TEST(a_slot_without_journal_has_nothing_to_replay)
{
	struct node n = {.w = w, .host = {.slot = WORLD_SLOTS + 1, .owner = 5, .nonce = 5}};

	assert_int_equal(replay_by(w, &n, 1), 0);
	n.host.slot = 100000;
	assert_int_equal(replay_by(w, &n, 1), 0);
}

/* ---- ranges -----------------------------------------------------------------------------------
 */

/* Make the image of transaction @n a range of @len bytes at @off, filled with @fill. */
static void make_range(struct jrn *j, unsigned n, unsigned off, unsigned len, uint8_t fill)
{
	struct jtxn x = jrn_txn(j, n);
	uint8_t *place = jtxn_place(&x, 0);

	memset(place, 0, LUNFS_PAYLOAD_BYTES);
	memset(place + off, fill, len);
	x.desc->entry[0].off_bytes = le16_make((uint16_t)off);
	x.desc->entry[0].len_bytes = le16_make((uint16_t)len);
	jtxn_seal(&x);
}

TEST(ranges_apply_in_order_on_the_whole_image_before_them)
{
	struct node n;
	struct jrn j;
	uint64_t a = world_cell(w, 0);

	die_with(w, &n, 3);
	jrn_load(w, &j, 0);
	make_range(&j, 1, 100, 10, 0xaa);
	make_range(&j, 2, 105, 10, 0xbb);
	jrn_store(&j);
	free(j.b);
	assert_int_equal(replay_by(w, &n, 1), 0);
	assert_int_equal(world_version(w, a), 13);
	assert_true(world_place(w, a, w->buf));
	assert_int_equal(w->buf[99], 1); /* of the first image */
	assert_int_equal(w->buf[104], 0xaa);
	assert_int_equal(w->buf[105], 0xbb);
	assert_int_equal(w->buf[114], 0xbb);
	assert_int_equal(w->buf[115], 1);
}

TEST(a_range_without_a_whole_image_of_its_possession_replays_nothing)
{
	for (int kind = 0; kind < 2; kind++) {
		struct node n;
		struct jrn j;

		w->locks.n = 0;
		die_with(w, &n, 3);
		jrn_load(w, &j, 0);
		make_range(&j, kind ? 2 : 0, 100, 10, 0xaa);
		if (kind) {
			struct jtxn x = jrn_txn(&j, 2);

			x.desc->entry[0].possession_seq = le64_make(9);
			jtxn_seal(&x);
		}
		jrn_store(&j);
		free(j.b);
		assert_int_equal(replay_by(w, &n, 1), -EUCLEAN);
		assert_int_equal(world_value(w, world_cell(w, 0)), 0);
	}
}

TEST(sealed_nonsense_ends_the_log_before_it)
{
	for (int kind = 0; kind < 9; kind++) {
		struct node n;
		struct jrn j;
		struct jtxn x;
		struct lunfs_jentry *e;

		w->locks.n = 0;
		die_with(w, &n, 3);
		jrn_load(w, &j, 0);
		x = jrn_txn(&j, 1);
		e = &x.desc->entry[0];
		switch (kind) {
		case 0:
			e->addr = le64_make(world_cell(w, 1));
			break; /* not what the image says */
		case 1:
			e->addr = le64_make(16);
			break; /* the superblock */
		case 2:
			e->guard = le64_make(UINT64_MAX);
			break;
		case 3:
			e->kind = le16_make(3);
			break;
		case 4:
			e->off_bytes = le16_make(3000);
			e->len_bytes = le16_make(1000);
			break;
		case 5:
			e->version = le64_make(999);
			break;
		case 6:
			e->reserved = le16_make(1);
			break;
		case 7:
			e->kind = le16_make(LUNFS_JENT_REVOKE);
			break; /* and the size is wrong */
		case 8:
			x.desc->entry[5].addr = le64_make(1);
			break; /* beyond n_entries */
		}
		jtxn_seal(&x);
		jrn_store(&j);
		free(j.b);
		assert_int_equal(replay_by(w, &n, 1), 0);
		assert_int_equal(world_value(w, world_cell(w, 0)), 1);
	}
}

/* ---- FREE images ------------------------------------------------------------------------------
 */

static void die_with_freed_inode(struct world *w, struct node *n)
{
	uint64_t a = world_cell(w, 0);
	struct txn_handle *h;
	struct mblk *m;

	world_plant(w, a, a, INODE, 10, 4);
	node_up(w, n, 0);
	node_lock(n, 0, a);
	assert_int_equal(mblk_get(n->t, &n->lock[0], a, INODE, &m), 0);
	assert_int_equal(txn_begin(n->t, 1, &h), 0);
	mblk_forget(h, m);
	assert_int_equal(txn_wait_durable(n->t, txn_end(h)), 0);
	node_crash(n);
}

TEST(a_freed_inode_is_free_in_place_after_replay)
{
	struct node n;
	uint64_t a = world_cell(w, 0);

	die_with_freed_inode(w, &n);
	assert_int_equal(world_value(w, a), 4);
	assert_int_equal(replay_by(w, &n, 1), 0);
	assert_true(world_place(w, a, w->buf));
	assert_int_equal(le16_get(((struct lunfs_blk_hdr *)w->buf)->type), LUNFS_BLK_FREE);
}

TEST(a_freed_inodes_cell_that_another_host_uses_as_something_else_is_left_alone)
{
	struct node n;
	uint64_t a = world_cell(w, 0), other = world_cell(w, 5);

	die_with_freed_inode(w, &n);
	world_plant(w, a, other, BTREE, 12, 55); /* above the FREE image, as the rule wants */
	assert_int_equal(replay_by(w, &n, 1), 0);
	assert_int_equal(world_value(w, a), 55);
}

static void tear(struct world *w, uint64_t addr)
{
	uint8_t garbage[512];

	memset(garbage, 0x77, sizeof(garbage));
	simdev_poke(w->medium, geo_payload_off(&w->geo, addr) + 512, 512, garbage);
}

struct rewriter {
	struct world *w;
	uint64_t addr, other;
	struct task *task;
};

static void rewriter_main(void *arg)
{
	struct rewriter *rw = arg;

	clock_sleep_ns(rw->w->clk, 100000000ull);
	world_plant(rw->w, rw->addr, rw->other, BTREE, 12, 55);
}

TEST(a_torn_place_under_a_free_image_waits_for_a_live_host_that_may_be_writing_it)
{
	struct node n, r;
	struct rewriter rw = {.w = w, .addr = world_cell(w, 0), .other = world_cell(w, 5)};

	die_with_freed_inode(w, &n);
	tear(w, rw.addr);
	node_attach(w, &r, 1);
	r.host.others_live = true;
	assert_int_equal(w->clk->ops->task_start(w->clk, "rewriter", rewriter_main, &rw, &rw.task),
			 0);
	assert_int_equal(node_replay(&r, &n), 0);
	assert_int_equal(r.t->stats.replayed_blocks, 0);
	w->clk->ops->task_join(w->clk, rw.task);
	assert_int_equal(world_value(w, rw.addr), 55);
	/* Nobody rewrites it any more: it was the dead host that tore it. */
	tear(w, rw.addr);
	assert_int_equal(node_replay(&r, &n), 0);
	assert_true(world_place(w, rw.addr, w->buf));
	assert_int_equal(le16_get(((struct lunfs_blk_hdr *)w->buf)->type), LUNFS_BLK_FREE);
	node_crash(&r);
}

TEST(a_torn_place_under_a_free_image_waits_for_this_host_that_may_be_writing_it_itself)
{
	struct node n, r;
	struct rewriter rw = {.w = w, .addr = world_cell(w, 0), .other = world_cell(w, 5)};

	die_with_freed_inode(w, &n);
	tear(w, rw.addr);
	node_up(w, &r, 1);
	assert_int_equal(w->clk->ops->task_start(w->clk, "rewriter", rewriter_main, &rw, &rw.task),
			 0);
	assert_int_equal(node_replay(&r, &n), 0);
	assert_int_equal(r.t->stats.replayed_blocks, 0);
	w->clk->ops->task_join(w->clk, rw.task);
	assert_int_equal(world_value(w, rw.addr), 55);
	node_down(&r);
}

static void leaver_main(void *arg)
{
	node_down(arg);
}

/* Its threads have ended, what it has committed is not in place yet. */
TEST(a_torn_place_under_a_free_image_waits_for_this_host_that_unmounts)
{
	struct node n, r;
	struct rewriter rw = {.w = w, .addr = world_cell(w, 0), .other = world_cell(w, 5)};
	struct simdev_fault slow = {.kind = SIMDEV_DELAY, .ops = SIMDEV_WRITE};
	struct task *leaver;

	die_with_freed_inode(w, &n);
	tear(w, rw.addr);
	world_plant(w, rw.other, rw.other, INODE, 10, 0);
	node_up(w, &r, 1);
	node_set(&r, node_lock(&r, 0, rw.other), rw.other, INODE, 1);
	slow.delay_ns = 300000000ull;
	slow.off_bytes = geo_payload_off(&w->geo, rw.other);
	slow.len_bytes = 512;
	simdev_inject(r.env.dev, &slow);
	assert_int_equal(w->clk->ops->task_start(w->clk, "leaver", leaver_main, &r, &leaver), 0);
	clock_sleep_ns(w->clk, 50000000ull);
	assert_int_equal(w->clk->ops->task_start(w->clk, "rewriter", rewriter_main, &rw, &rw.task),
			 0);
	assert_int_equal(node_replay(&r, &n), 0);
	assert_int_equal(r.t->stats.replayed_blocks, 0);
	w->clk->ops->task_join(w->clk, rw.task);
	assert_int_equal(world_value(w, rw.addr), 55);
	w->clk->ops->task_join(w->clk, leaver);
}

/* ---- hostile journals -------------------------------------------------------------------------
 */

static uint32_t outside_crc(struct world *w)
{
	size_t len = geo_blk_off(w->geo.journal_blk[0]);
	uint8_t *b = malloc(len);
	uint32_t crc;

	simdev_peek(w->medium, 0, len, b);
	crc = crc32c(b, len);
	free(b);
	return crc;
}

static void mutate(struct world *w, struct jrn *j)
{
	struct jtxn x = jrn_txn(j, (unsigned)(simclock_random(w->clk) % 4));
	unsigned flips = 1 + (unsigned)(simclock_random(w->clk) % 8);
	uint64_t how = simclock_random(w->clk) % 4;
	size_t span = how == 0 ? (size_t)x.blks * LUNFS_BLOCK_BYTES : how == 1 ? 0x60 : 0x60 + 400;

	while (flips--) {
		size_t at = simclock_random(w->clk) % span;

		x.log[at] = how == 3 ? (uint8_t)(simclock_random(w->clk) % 4)
				     : (uint8_t)simclock_random(w->clk);
	}
	if (simclock_random(w->clk) % 8 == 0)
		for (unsigned i = 0; i < 3; i++)
			blk_seal(jtxn_place(&x, i));
	if (how)
		jtxn_seal(&x);
}

TEST(random_damage_of_a_journal_never_crashes_and_never_writes_outside_cells)
{
	struct node n;
	struct lock *l;
	struct jrn j;
	uint8_t *clean;
	uint64_t a = world_cell(w, 0);
	uint32_t before;

	world_plant(w, a, a, INODE, 10, 0);
	node_up(w, &n, 0);
	l = node_lock(&n, 0, a);
	for (unsigned i = 0; i < 4; i++) {
		struct txn_handle *h;

		assert_int_equal(txn_begin(n.t, 6, &h), 0);
		for (unsigned k = 1; k < 7; k++)
			mblk_put(n.t, mblk_new(h, l, world_cell(w, k + i * 6), BTREE, 1, 0));
		assert_int_equal(txn_wait_durable(n.t, txn_end(h)), 0);
	}
	node_crash(&n);
	before = outside_crc(w);
	jrn_load(w, &j, 0);
	clean = malloc(j.len_bytes);
	memcpy(clean, j.b, j.len_bytes);
	for (unsigned i = 0; i < 400; i++) {
		int rc;

		memcpy(j.b, clean, j.len_bytes);
		mutate(w, &j);
		jrn_store(&j);
		rc = replay_by(w, &n, 1);
		assert_true(rc == 0 || rc == -EUCLEAN);
	}
	assert_int_equal(outside_crc(w), before);
	free(clean);
	free(j.b);
}

static void quiet(void)
{
	if (!getenv("TEST_VERBOSE"))
		log_open("test", LOG_LVL_ERR, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    UNIT(what_was_committed_is_in_place_after_replay_and_flushed),
	    UNIT(a_second_replay_writes_nothing),
	    UNIT(images_of_a_guard_that_moved_on_are_not_written),
	    UNIT(images_of_an_earlier_possession_of_the_same_host_are_not_written),
	    UNIT(a_newer_version_in_place_is_never_overwritten),
	    UNIT(an_image_older_than_its_guards_recorded_version_is_not_written),
	    UNIT(a_revoke_ends_all_earlier_mentions),
	    UNIT(a_cell_deleted_and_reused_is_replayed_in_its_last_role),
	    UNIT(a_torn_transaction_ends_the_log_before_it),
	    UNIT(a_transaction_out_of_sequence_or_of_another_incarnation_ends_the_log),
	    UNIT(a_header_of_another_incarnation_means_nothing_to_replay),
	    UNIT(a_damaged_header_is_an_error_and_nothing_is_written),
	    UNIT(a_journal_that_cannot_be_read_is_an_error_not_the_end_of_the_log),
	    UNIT(a_slot_without_journal_has_nothing_to_replay),
	    UNIT(ranges_apply_in_order_on_the_whole_image_before_them),
	    UNIT(a_range_without_a_whole_image_of_its_possession_replays_nothing),
	    UNIT(sealed_nonsense_ends_the_log_before_it),
	    UNIT(a_freed_inode_is_free_in_place_after_replay),
	    UNIT(a_freed_inodes_cell_that_another_host_uses_as_something_else_is_left_alone),
	    UNIT(a_torn_place_under_a_free_image_waits_for_a_live_host_that_may_be_writing_it),
	    UNIT(a_torn_place_under_a_free_image_waits_for_this_host_that_may_be_writing_it_itself),
	    UNIT(a_torn_place_under_a_free_image_waits_for_this_host_that_unmounts),
	    UNIT(random_damage_of_a_journal_never_crashes_and_never_writes_outside_cells),
	};

	quiet();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
