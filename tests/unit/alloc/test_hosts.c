// SPDX-License-Identifier: GPL-2.0-or-later
/* Several hosts, several threads each, and hosts that die: nothing is handed out twice or lost. */
#include "fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct fix_shape small = {512, 4096, 6, 11};
static const struct fix_shape small_4k = {4096, 4096, 6, 12};
static const struct fix_shape one_group = {512, 4096, 1, 13};
static const struct fix_shape tight = {512, 1024, 3, 14};

static void hosts_take_groups_of_their_own(struct fix *f)
{
	uint64_t blk[3];
	uint32_t len;

	for (unsigned i = 0; i < 3; i++) {
		fix_up(f, i);
		assert_int_equal(
		    fix_blk_alloc(&f->box[i], 10, f->geo.group0_blk + 100, 0, &blk[i], &len), 0);
	}
	assert_int_not_equal(geo_group_of(&f->geo, blk[0]), geo_group_of(&f->geo, blk[1]));
	assert_int_not_equal(geo_group_of(&f->geo, blk[0]), geo_group_of(&f->geo, blk[2]));
	assert_int_not_equal(geo_group_of(&f->geo, blk[1]), geo_group_of(&f->geo, blk[2]));
}

static void the_only_group_goes_round(struct fix *f)
{
	struct blk_res res;
	uint64_t blk;
	uint32_t len;

	fix_up(f, 0);
	fix_up(f, 1);
	assert_int_equal(fix_blk_alloc(&f->box[0], 10, 0, 0, &blk, &len), 0);
	assert_int_equal(blk_reserve(f->box[1].a, 10, 0, 0, &res), -EAGAIN);
	assert_int_equal(res.want, geo_group_header(&f->geo, 0));
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(fix_blk_alloc(&f->box[i % 2], 10, 0, 0, &blk, &len), 0);
}

static void what_the_other_host_has_left_is_found_before_enospc(struct fix *f)
{
	uint64_t blk, used = 0;
	struct space s;
	uint32_t len;
	int rc;

	fix_up(f, 0);
	fix_up(f, 1);
	fix_up(f, 2);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(fix_blk_alloc(&f->box[i], 10, 0, 0, &blk, &len), 0);
	while ((rc = fix_blk_alloc(&f->box[0], 200, 0, 0, &blk, &len)) == 0)
		used += len;
	assert_int_equal(rc, -ENOSPC);
	assert_int_equal(alloc_statfs(f->box[0].a, &s), 0);
	assert_in_range(s.free_blks, 0, f->geo.groups * reserve_blks(&f->geo));
	rc = fix_blk_alloc(&f->box[1], 1, 0, 0, &blk, &len);
	assert_int_equal(rc, -ENOSPC);
}

static void a_cell_of_another_hosts_fresh_chunk_can_be_freed(struct fix *f)
{
	struct cell c[20];

	fix_up(f, 0);
	fix_up(f, 1);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(fix_cell_alloc(&f->box[0], ALLOC_NEED_LOCK, &c[i]), 0);
	/* Nothing of it need be on disk in place by now. */
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(fix_cell_free(&f->box[1], c[i].addr), 0);
}

/* One host creates, another deletes: chunks wander, but new ones do not come without end. */
static void creating_here_and_deleting_there_does_not_eat_the_volume(struct fix *f)
{
	struct group_info gi;
	unsigned chunks = 0;
	struct cell c;

	fix_up(f, 0);
	fix_up(f, 1);
	for (unsigned i = 0; i < 60; i++) {
		assert_int_equal(fix_cell_alloc(&f->box[0], ALLOC_NEED_LOCK, &c), 0);
		assert_int_equal(fix_cell_free(&f->box[1], c.addr), 0);
	}
	fix_down(f, 0);
	fix_down(f, 1);
	for (uint64_t g = 0; g < fix_watermark(f); g++) {
		fix_group(f, g, &gi);
		chunks += gi.chunks;
	}
	assert_in_range(chunks, 1, 8);
}

/* Pin @addr of host @n exclusively, waiting for it. */
static struct lock *pin(struct fix *f, unsigned n, uint64_t addr)
{
	struct lock *l;

	assert_int_equal(lock_pin(f->box[n].ls, addr, LOCK_EX, LOCAL_EXCL, 0, NULL, &l), 0);
	return l;
}

static void make_block(struct fix *f, unsigned n, struct lock *guard, uint16_t type, struct cell c)
{
	struct txn_handle *h;

	assert_int_equal(txn_begin(f->box[n].txns, 1, &h), 0);
	mblk_put(f->box[n].txns, mblk_new(h, guard, c.addr, type, c.version, 1));
	txn_end(h);
}

/* Host 0 frees an inode but keeps the cell's own lock; host 1 makes the cell a node of a tree. */
static void a_cell_reused_by_another_host_is_read_anew(struct fix *f)
{
	struct cell dir, c, node = {0, 0, false};
	struct txn_handle *h;
	struct mblk *m;
	struct lock *l;

	fix_up(f, 0);
	fix_up(f, 1);
	assert_int_equal(fix_cell_alloc(&f->box[0], ALLOC_NEED_LOCK, &dir), 0);
	assert_int_equal(fix_cell_alloc(&f->box[0], ALLOC_NEED_LOCK, &c), 0);
	l = pin(f, 0, c.addr);
	make_block(f, 0, l, LUNFS_BLK_INODE, c);
	assert_int_equal(mblk_get(f->box[0].txns, l, c.addr, LUNFS_BLK_INODE, &m), 0);
	assert_int_equal(txn_begin(f->box[0].txns, 1, &h), 0);
	mblk_forget(h, m);
	txn_end(h);
	lock_unpin(f->box[0].ls, l, LOCAL_EXCL);
	assert_int_equal(fix_cell_free(&f->box[0], c.addr), 0);
	fix_commit(&f->box[0]);
	/* Host 1 gets the chunk by freeing something in it, and takes cells until it has that one.
	 */
	assert_int_equal(fix_cell_free(&f->box[1], dir.addr), 0);
	fix_commit(&f->box[1]);
	for (unsigned i = 0; i < 600 && node.addr != c.addr; i++)
		assert_int_equal(fix_cell_alloc(&f->box[1], ALLOC_RESERVE_OK, &node), 0);
	assert_int_equal(node.addr, c.addr);
	l = pin(f, 1, geo_anchor_cell(LUNFS_ANCHOR_RENAME));
	make_block(f, 1, l, LUNFS_BLK_BTREE, node);
	lock_unpin(f->box[1].ls, l, LOCAL_EXCL);
	l = pin(f, 0, geo_anchor_cell(LUNFS_ANCHOR_RENAME));
	assert_int_equal(mblk_get(f->box[0].txns, l, c.addr, LUNFS_BLK_BTREE, &m), 0);
	mblk_put(f->box[0].txns, m);
	lock_unpin(f->box[0].ls, l, LOCAL_EXCL);
}

/* ---- load
 * ----------------------------------------------------------------------------------------- */

struct load {
	struct fix *f;
	unsigned host, ops;
	uint64_t rng;
};

#define KEEP 40u

struct held {
	uint64_t addr;
	uint32_t len; /* 0: a cell */
};

static bool gone(struct load *l)
{
	return !l->f->box[l->host].up;
}

static void free_one(struct load *l, struct held *h)
{
	struct box *b = &l->f->box[l->host];
	int rc = h->len ? fix_blk_free(b, h->addr, h->len) : fix_cell_free(b, h->addr);

	assert_int_equal(rc, 0);
}

static void alloc_one(struct load *l, struct held *h)
{
	struct box *b = &l->f->box[l->host];
	struct cell c;
	int rc;

	if (fix_random(l->f, 3) == 0) {
		rc = fix_blk_alloc(b, 1 + (uint32_t)fix_random(l->f, 60), 0, 0, &h->addr, &h->len);
	} else {
		rc = fix_cell_alloc(b, fix_random(l->f, 2) ? ALLOC_NEED_LOCK : 0, &c);
		h->addr = c.addr;
		h->len = 0;
	}
	if (rc == -ENOSPC)
		h->addr = 0;
	else
		assert_int_equal(rc, 0);
}

static void worker(void *arg)
{
	struct load *l = arg;
	struct held held[KEEP] = {{0, 0}};

	for (unsigned i = 0; i < l->ops && !gone(l); i++) {
		struct held *h = &held[fix_random(l->f, KEEP)];

		if (h->addr) {
			free_one(l, h);
			h->addr = 0;
		} else {
			alloc_one(l, h);
		}
		if (fix_random(l->f, 20) == 0)
			fix_commit(&l->f->box[l->host]);
	}
}

static void run_load(struct fix *f, unsigned hosts, unsigned threads, unsigned ops)
{
	struct load l[FIX_HOSTS * 4];
	struct task *t[FIX_HOSTS * 4];
	unsigned n = 0;

	for (unsigned h = 0; h < hosts; h++)
		for (unsigned i = 0; i < threads; i++, n++) {
			l[n] = (struct load){f, h, ops, 0};
			t[n] = fix_task(f, h, worker, &l[n]);
		}
	for (unsigned i = 0; i < n; i++)
		fix_join(f, t[i]);
}

static void threads_and_hosts_never_share_a_block(struct fix *f)
{
	for (unsigned h = 0; h < 3; h++)
		fix_up(f, h);
	run_load(f, 3, 3, 150);
}

static void threads_of_one_host_never_share_a_block(struct fix *f)
{
	fix_up(f, 0);
	run_load(f, 1, 4, 600);
}

/* ---- deaths
 * ------------------------------------------------------------------------------------------ */

struct killer {
	struct fix *f;
	uint64_t after; /* writes of the victim */
};

static void kill_at(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
		    struct simdev_fault *out)
{
	struct killer *k = ctx;

	(void)out;
	if (d != k->f->box[0].dev || cmd->op == SIMDEV_READ || !k->f->box[0].up)
		return;
	if (cmd->off_bytes < geo_blk_off(k->f->geo.journal_blk[0]))
		return; /* beats */
	if (k->after-- == 0)
		simdev_kill(d);
}

static void victim(void *arg)
{
	struct load *l = arg;
	struct box *b = &l->f->box[0];
	struct cell_res res;
	struct blk_res blks;

	for (unsigned i = 0; i < l->ops; i++) {
		struct txn_handle *h;

		if (cell_reserve(b->a, 1, 0, ALLOC_NEED_LOCK, &res) < 0)
			break;
		if (txn_begin(b->txns, CELL_TAKE_CREDITS, &h) < 0)
			break;
		cell_take(h, b->a, &res);
		txn_end(h);
		if (blk_reserve(b->a, 700, 0, 0, &blks) < 0)
			break;
		if (txn_begin(b->txns, BLK_TAKE_CREDITS, &h) < 0)
			break;
		blk_take(h, b->a, &blks, blks.len);
		txn_end(h);
		if (txn_commit_all(b->txns) < 0)
			break;
	}
	clock_sleep_ns(l->f->clk, 3600ull * 1000000000); /* till the end of the run */
}

static uint64_t death_after;

/* Groups and chunks must make sense whatever the write after which the host died. */
static void assert_consistent(struct fix *f)
{
	uint8_t buf[LUNFS_PAYLOAD_BYTES];
	struct group_info gi;
	struct chunk_info ci;

	for (uint64_t g = 0; g < fix_watermark(f); g++) {
		fix_group(f, g, &gi);
		for (unsigned w = 0; w < LUNFS_GROUP_WINDOWS; w++) {
			uint64_t addr = gi.first_blk + (uint64_t)w * window_blks(&f->geo) +
					(gi.chunk[w] - 1ull) * f->geo.cell_blks;

			if (!gi.chunk[w])
				continue;
			simdev_peek(f->medium, geo_payload_off(&f->geo, addr), sizeof(buf), buf);
			assert_int_equal(chunk_decode(&f->geo, buf, addr, &ci), 0);
			simdev_peek(f->medium,
				    geo_payload_off(&f->geo, geo_group_bitmap(&f->geo, g, 0)),
				    sizeof(buf), buf);
			for (unsigned i = 0; i < LUNFS_CHUNK_CELLS; i++)
				if (ci.valid[i / 8] & 1u << i % 8)
					assert_true(
					    ((struct lunfs_bitmap_pl *)buf)
						->bits[(ci.first_blk + i - gi.first_blk) / 8] &
					    1u << (ci.first_blk + i - gi.first_blk) % 8);
		}
	}
}

static void death_at_any_write_leaves_space_in_order(struct fix *f)
{
	struct killer k = {f, death_after};
	struct load l = {f, 0, 8, 0};
	struct cell c;

	f->check = false;
	fix_up(f, 0);
	fix_up(f, 1);
	simdev_set_hook(f->medium, kill_at, &k);
	fix_task(f, 0, victim, &l);
	clock_sleep_ns(f->clk, 2000000000);
	fix_kill(f, 0);
	simdev_set_hook(f->medium, NULL, NULL);
	/* The survivor takes its groups over, allocates in them, and all is as it should be. */
	for (unsigned i = 0; i < 30; i++)
		assert_int_equal(fix_cell_alloc(&f->box[1], ALLOC_NEED_LOCK, &c), 0);
	fix_wait_for(&f->box[1], geo_group_header(&f->geo, 0));
	fix_down(f, 1);
	assert_consistent(f);
}

static void test_death_at_any_write(void **state)
{
	(void)state;
	for (death_after = 0; death_after < 80; death_after++) {
		struct fix_shape s = {death_after % 2 ? 512 : 4096, 2048, 6, 100 + death_after};

		fix_run(death_at_any_write_leaves_space_in_order, &s);
	}
}

static void test_many_seeds_never_share_a_block(void **state)
{
	(void)state;
	const char *more = getenv("LUNFS_SEEDS");
	unsigned seeds = more ? (unsigned)atoi(more) : 12;

	for (unsigned i = 0; i < seeds; i++) {
		struct fix_shape s = {i % 3 ? 512 : 4096, i % 2 ? 1024 : 4096, 3 + i % 4, 1000 + i};

		fix_run(threads_and_hosts_never_share_a_block, &s);
	}
}

/* What a killed host had allocated is lost: no report of leaks in this program. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

#define RUN(name, shape)                                                                           \
	static void test_##name##_on_##shape(void **state)                                         \
	{                                                                                          \
		(void)state;                                                                       \
		fix_run(name, &shape);                                                             \
	}
RUN(hosts_take_groups_of_their_own, small)
RUN(the_only_group_goes_round, one_group)
RUN(what_the_other_host_has_left_is_found_before_enospc, tight)
RUN(what_the_other_host_has_left_is_found_before_enospc, small_4k)
RUN(a_cell_of_another_hosts_fresh_chunk_can_be_freed, small)
RUN(creating_here_and_deleting_there_does_not_eat_the_volume, small)
RUN(a_cell_reused_by_another_host_is_read_anew, small)
RUN(threads_of_one_host_never_share_a_block, small)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_hosts_take_groups_of_their_own_on_small),
	    cmocka_unit_test(test_the_only_group_goes_round_on_one_group),
	    cmocka_unit_test(test_what_the_other_host_has_left_is_found_before_enospc_on_tight),
	    cmocka_unit_test(test_what_the_other_host_has_left_is_found_before_enospc_on_small_4k),
	    cmocka_unit_test(test_a_cell_of_another_hosts_fresh_chunk_can_be_freed_on_small),
	    cmocka_unit_test(
		test_creating_here_and_deleting_there_does_not_eat_the_volume_on_small),
	    cmocka_unit_test(test_a_cell_reused_by_another_host_is_read_anew_on_small),
	    cmocka_unit_test(test_threads_of_one_host_never_share_a_block_on_small),
	    cmocka_unit_test(test_many_seeds_never_share_a_block),
	    cmocka_unit_test(test_death_at_any_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
