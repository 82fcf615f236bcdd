/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mkfs.lunfs on a simulated device: what it writes, and whom it will not disturb. */
#include "mkfs_bed.h"

#include "base/crc.h"
#include "cluster/host.h"
#include "vol/maint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void a_fresh_volume_decodes_at_every_size(void **state)
{
	static const uint64_t size[] = {64ull << 20, 1ull << 30, 40ull << 30, 64ull << 40};
	struct bed b;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		for (uint32_t sector = 512; sector <= 4096; sector *= 8) {
			bed_init(&b, size[i], sector);
			assert_int_equal(bed_make(&b), 0);
			bed_check_volume(&b);
			assert_true(atomic_load(&b.d->stats.write_bytes) < 64u << 20);
			assert_true(atomic_load(&b.d->stats.writes) < 150);
			bed_end(&b);
		}
	}
}

static void a_second_mkfs_leaves_nothing_of_the_first(void **state)
{
	struct bed b;

	(void)state;
	bed_init(&b, 64ull << 20, 512);
	assert_int_equal(bed_make(&b), 0);
	memset(b.g.vol_id, 0x55, 16);
	assert_int_equal(bed_make(&b), 0);
	bed_check_volume(&b);
	bed_end(&b);
}

/* ---- hosts that use it ----------------------------------------------------------------------- */

static void slot_set(struct bed *b, unsigned slot, uint16_t slot_state, uint64_t seq)
{
	struct lunfs_slot_rec *rec = dev_buf_alloc(4096);

	slot_format(&b->g, rec, slot, 77);
	rec->state = le16_make(slot_state);
	rec->generation = le64_make(4);
	rec->nonce = le64_make(99);
	rec->beat_seq = le64_make(seq);
	rec->beat_ms = le32_make(150);
	rec->deadline_ms = le32_make(400);
	rec->lease_ms = le32_make(800);
	strcpy((char *)rec->hostname, "node7");
	crc_seal(rec, 512, offsetof(struct lunfs_ats_hdr, crc));
	simdev_poke(b->m, geo_slot_off(slot), 512, rec);
	free(rec);
}

static void run_make(void *arg)
{
	struct bed *b = arg;

	b->err = bed_make(b);
}

static void beat(void *arg)
{
	struct bed *b = arg;

	for (uint64_t seq = 2; seq < 20; seq++) {
		clock_sleep_ns(b->clk, 150 * MS);
		slot_set(b, 3, LUNFS_SLOT_LIVE, seq);
	}
}

static void make_beside_a_beat(void *arg)
{
	struct bed *b = arg;
	struct task *t;

	b->clk->ops->task_start(b->clk, "beat", beat, b, &t);
	b->err = bed_make(b);
	b->clk->ops->task_join(b->clk, t);
}

static void a_beating_host_is_refused_and_named_and_nothing_is_written(void **state)
{
	struct bed b;
	uint64_t writes;

	(void)state;
	for (uint64_t seed = 1; seed < 6; seed++) {
		bed_init(&b, 64ull << 20, 512);
		assert_int_equal(bed_make(&b), 0);
		writes = atomic_load(&b.d->stats.writes);
		slot_set(&b, 3, LUNFS_SLOT_LIVE, 1);
		simclock_run(b.clk, make_beside_a_beat, &b, seed);
		assert_int_equal(b.err, -EBUSY);
		assert_non_null(strstr(b.why, "node7"));
		assert_int_equal(atomic_load(&b.d->stats.writes), writes);
		bed_end(&b);
	}
}

static void a_dead_host_costs_its_lease_and_no_more(void **state)
{
	struct bed b;
	uint64_t before;

	(void)state;
	bed_init(&b, 64ull << 20, 512);
	assert_int_equal(bed_make(&b), 0);
	slot_set(&b, 3, LUNFS_SLOT_RECOVERING,
		 1); /* without a recoverer: it does not even decode */
	slot_set(&b, 5, LUNFS_SLOT_LIVE, 1);
	before = clock_now_ns(b.clk);
	simclock_run(b.clk, run_make, &b, 1);
	assert_int_equal(b.err, 0);
	assert_in_range(clock_now_ns(b.clk) - before, 800 * MS, 1200 * MS);
	bed_check_volume(&b);
	bed_end(&b);
}

static void a_live_host_is_found_when_the_superblock_is_gone(void **state)
{
	uint8_t zero[4096] = {0};
	struct bed b;

	(void)state;
	bed_init(&b, 64ull << 20, 512);
	assert_int_equal(bed_make(&b), 0);
	simdev_poke(b.m, LUNFS_SB_OFF, 4096, zero);
	simdev_poke(b.m, sb_tail_off(64ull << 20), 4096, zero);
	slot_set(&b, 3, LUNFS_SLOT_LIVE, 1);
	simclock_run(b.clk, make_beside_a_beat, &b, 3);
	assert_int_equal(b.err, -EBUSY);
	bed_end(&b);
}

/* A host claims its slot after the watch, just as the old superblocks have gone. */
static void claim_late(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
		       struct simdev_fault *out)
{
	struct bed *b = ctx;

	(void)out;
	if (d == b->d && cmd->op == SIMDEV_FLUSH) {
		simdev_set_hook(b->m, NULL, NULL);
		slot_set(b, 0, LUNFS_SLOT_LIVE, 1);
	}
}

static void a_host_that_mounts_in_the_last_moment_keeps_its_volume(void **state)
{
	uint8_t sb[4096];
	struct bed b;
	struct geo g;

	(void)state;
	bed_init(&b, 64ull << 20, 512);
	assert_int_equal(bed_make(&b), 0);
	memset(b.g.vol_id, 0x33, 16);
	simdev_set_hook(b.m, claim_late, &b);
	assert_int_equal(bed_make(&b), -EBUSY);
	assert_non_null(strstr(b.why, "node7"));
	simdev_peek(b.m, LUNFS_SB_OFF, 4096, sb);
	assert_int_equal(sb_decode(sb, &g, NULL), 0);
	simdev_peek(b.m, sb_tail_off(64ull << 20), 4096, sb);
	assert_int_equal(sb_decode(sb, &g, NULL), 0);
	assert_int_equal(simdev_unflushed(b.m), 0);
	bed_end(&b);
}

struct repair {
	struct bed *b;
	int refused, then;
	char why[MKFS_WHY_BYTES];
};

static void make_beside_a_repair(void *arg)
{
	struct repair *r = arg;
	struct bed *b = r->b;
	struct maint_config cfg = {.host.name = "node9"};
	struct maint *m;
	int rc = maint_begin(b->other, b->clk, &b->g, &cfg, &m, r->why, sizeof(r->why));

	r->refused = r->then = rc ? rc : 1;
	if (rc)
		return;
	r->refused = bed_make(b);
	memcpy(r->why, b->why, sizeof(r->why));
	clock_sleep_ns(b->clk, 2000 * MS);
	rc = maint_end(m);
	r->then = rc ? rc : bed_make(b);
}

static void a_repair_at_work_is_refused_and_named(void **state)
{
	for (uint64_t seed = 1; seed < 6; seed++) {
		struct bed b;
		struct repair r = {.b = &b};

		(void)state;
		bed_init(&b, 64ull << 20, 512);
		assert_int_equal(bed_make(&b), 0);
		simclock_run(b.clk, make_beside_a_repair, &r, seed);
		assert_int_equal(r.refused, -EBUSY);
		assert_non_null(strstr(r.why, "node9"));
		assert_int_equal(r.then, 0);
		bed_check_volume(&b);
		bed_end(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_fresh_volume_decodes_at_every_size),
	    cmocka_unit_test(a_second_mkfs_leaves_nothing_of_the_first),
	    cmocka_unit_test(a_beating_host_is_refused_and_named_and_nothing_is_written),
	    cmocka_unit_test(a_dead_host_costs_its_lease_and_no_more),
	    cmocka_unit_test(a_live_host_is_found_when_the_superblock_is_gone),
	    cmocka_unit_test(a_repair_at_work_is_refused_and_named),
	    cmocka_unit_test(a_host_that_mounts_in_the_last_moment_keeps_its_volume),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
