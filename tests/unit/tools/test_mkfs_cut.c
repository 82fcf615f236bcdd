/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mkfs.lunfs over an older volume, ended at every single command: killed, killed with the array's
 * power, interrupted, refused by the device. Whoever looks afterwards, as a mount does, finds the
 * old volume with all that belongs to it, or nothing, or the whole new one.
 */
#include "mkfs_bed.h"

#include "base/crc.h"
#include "base/log.h"
#include "vol/volume.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SIZE (128 * MIB)
#define OLD_ID 0x33
#define NEW_ID 0x55
#define SIGNATURE_OFF (41 * MIB + 512) /* of somebody else, in the middle of nowhere */
#define THIRD_ID 0x66
#define SEEDS 24u /* of each cut */
#define KILLS 4u  /* of these the process alone dies, the array's power stays on */

static const struct mkfs_options old_opts = {
    .label = "", .hosts = 2, .beat_ms = 150, .deadline_ms = 400, .lease_ms = 800};
static const struct mkfs_options new_opts = {
    .label = "", .hosts = 5, .beat_ms = 150, .deadline_ms = 400, .lease_ms = 800};

static const struct mkfs_options third_opts = {
    .label = "", .hosts = 4, .beat_ms = 150, .deadline_ms = 400, .lease_ms = 800};

enum found { OLD, NOTHING, NEW };

struct site { /* an old volume, and a mkfs.lunfs that is to replace it */
	struct bed b;
	struct geo old;
	uint8_t *old_head; /* the device up to the end of the old group 0's first chunk */
	size_t old_bytes;
	struct simdev_medium *was; /* all of it */
	struct mkfs_found found;
	struct mkfs_patch patch;
	unsigned steps, stop_at, touched;
	bool discard;
	struct mkfs_work work;
};

static void layout(const struct mkfs_options *o, uint8_t id, struct geo *g)
{
	char why[MKFS_WHY_BYTES];

	assert_int_equal(layout_make(o, SIZE, 512, 512, g, why, sizeof(why)), 0);
	memset(g->vol_id, id, 16);
	memset(g->hash_key, 0x44, 16);
}

static bool step(void *ctx, const char *what, uint64_t done, uint64_t total)
{
	struct site *s = ctx;

	assert_true(what[0] && done <= total);
	return ++s->steps != s->stop_at;
}

static void site_init(struct site *s)
{
	uint8_t mark[512];

	memset(s, 0, sizeof(*s));
	bed_init(&s->b, SIZE, 512);
	layout(&old_opts, OLD_ID, &s->b.g);
	assert_int_equal(bed_make(&s->b), 0);
	s->old = s->b.g;
	memset(mark, 0x99, sizeof(mark));
	simdev_poke(s->b.m, SIGNATURE_OFF, sizeof(mark), mark);
	s->old_bytes = geo_blk_off(layout_chunk_header(&s->old)) + 64 * 4096;
	s->old_head = malloc(s->old_bytes);
	simdev_peek(s->b.m, 0, s->old_bytes, s->old_head);
	s->was = simdev_medium_clone(s->b.m);
	s->patch = (struct mkfs_patch){.off_bytes = SIGNATURE_OFF, .buf = dev_buf_alloc(512)};
	s->found = (struct mkfs_found){.lunfs = true, .patch = &s->patch, .patches = 1};
}

/* The device as it was before mkfs, on a new medium. */
static void site_again(struct site *s)
{
	dev_close(s->b.d);
	dev_close(s->b.other);
	s->b.m = simdev_medium_clone(s->was);
	s->b.d = simdev_attach(s->b.m);
	s->b.other = simdev_attach(s->b.m);
	simdev_medium_put(s->b.m);
	s->steps = s->stop_at = 0;
	s->discard = true;
	layout(&new_opts, NEW_ID, &s->b.g);
}

static void site_end(struct site *s)
{
	bed_end(&s->b);
	simdev_medium_put(s->was);
	free(s->patch.buf);
	free(s->old_head);
}

static int make(struct site *s)
{
	struct bed *b = &s->b;
	struct live_table *old;
	int err = live_watch(b->d, b->clk, true, &old, b->why, sizeof(b->why));

	if (err)
		return err;
	s->work = (struct mkfs_work){.d = b->d,
				     .clk = b->clk,
				     .g = &b->g,
				     .found = &s->found,
				     .old = old,
				     .discard = s->discard,
				     .step = step,
				     .step_ctx = s};
	err = volume_make(&s->work, b->why, sizeof(b->why));
	live_free(old);
	return err;
}

/* ---- what is found afterwards ---------------------------------------------------------------- */

static void check_old(struct site *s)
{
	uint8_t *now = malloc(s->old_bytes);

	simdev_peek(s->b.m, 0, s->old_bytes, now);
	/* the superblock itself may be the one that is just being wiped: a copy is used then */
	memcpy(now + LUNFS_SB_OFF, s->old_head + LUNFS_SB_OFF, LUNFS_BLOCK_BYTES);
	assert_memory_equal(now, s->old_head, s->old_bytes);
	free(now);
}

static void check_signature_gone(struct site *s)
{
	uint8_t sector[512];

	simdev_peek(s->b.m, SIGNATURE_OFF, sizeof(sector), sector);
	assert_true(mem_is_zero(sector, sizeof(sector)));
}

static enum found look(struct site *s)
{
	char why[512];
	struct geo g;

	if (vol_read_super(s->b.other, &g, NULL, why, sizeof(why)) != 0)
		return NOTHING;
	if (g.vol_id[0] == OLD_ID) {
		check_old(s);
		return OLD;
	}
	assert_memory_equal(g.vol_id, s->b.g.vol_id, 16);
	assert_int_equal(g.root_ino, s->b.g.root_ino);
	bed_check_body(&s->b);
	check_signature_gone(s);
	return NEW;
}

static void check_not_other(struct site *s, uint64_t off)
{
	uint8_t sb[4096];
	struct geo g;

	simdev_peek(s->b.m, off, sizeof(sb), sb);
	if (sb_decode(sb, &g, NULL) == 0)
		assert_memory_equal(g.vol_id, s->b.g.vol_id, 16);
}

/* No block that a mount or a repair would take for a superblock of another volume. */
static void check_no_other_copy(struct site *s)
{
	check_not_other(s, LUNFS_SB_OFF);
	check_not_other(s, sb_tail_off(SIZE));
	for (uint64_t off = MIB; off < SIZE; off += MIB) /* where groups may begin */
		check_not_other(s, off);
}

static void check_that_a_second_try_succeeds(struct site *s)
{
	dev_close(s->b.d);
	s->b.d = simdev_attach(s->b.m);
	s->steps = s->stop_at = 0;
	s->discard = false;
	layout(&third_opts, THIRD_ID, &s->b.g);
	assert_int_equal(make(s), 0);
	bed_check_volume(&s->b);
	check_no_other_copy(s);
	check_signature_gone(s);
}

/* ---- tests ----------------------------------------------------------------------------------- */

struct cut {
	struct dev *d;
	uint64_t after, n;
};

static void cut(void *ctx, struct dev *d, const struct simdev_cmd *cmd, struct simdev_fault *out)
{
	struct cut *c = ctx;

	(void)out;
	if (d == c->d && cmd->op != SIMDEV_READ && ++c->n == c->after)
		simdev_kill(d);
}

/* Every command that changes something is the last one once; true: it was not reached any more. */
static bool cut_at(struct site *s, uint64_t n, unsigned seed, unsigned *tally)
{
	struct cut c = {.after = n};
	enum found f;

	site_again(s);
	s->discard = seed % 4 == 3; /* the last one too: its runs are the longest */
	simdev_seed(s->b.m, seed);
	c.d = s->b.d;
	simdev_set_hook(s->b.m, cut, &c);
	s->b.err = make(s);
	simdev_set_hook(s->b.m, NULL, NULL);
	if (seed >= KILLS)
		simdev_power_cut(s->b.m, seed);
	f = look(s);
	tally[f]++;
	assert_true(s->b.err || f == NEW);
	assert_true(c.n < n || s->b.err);
	if (s->b.err)
		check_that_a_second_try_succeeds(s);
	return c.n < n;
}

static void cut_at_any_write_the_old_volume_or_none_or_the_new_one_is_found(void **state)
{
	unsigned tally[3] = {0}, cuts = 0;
	struct site s;
	bool over = false;

	(void)state;
	site_init(&s);
	for (uint64_t n = 1; !over; n++)
		for (unsigned seed = 0; seed < SEEDS; seed++, cuts++)
			over = cut_at(&s, n, seed, tally);
	print_message("%u cuts: old volume %u, nothing %u, new volume %u\n", cuts, tally[OLD],
		      tally[NOTHING], tally[NEW]);
	assert_true(tally[OLD] && tally[NEW] && tally[NOTHING]);
	site_end(&s);
}

static void count_unflushed(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
			    struct simdev_fault *out)
{
	struct site *s = ctx;

	(void)out;
	if (d == s->b.d && cmd->op == SIMDEV_WRITE && cmd->off_bytes == LUNFS_SB_OFF) {
		assert_int_equal(simdev_unflushed(s->b.m), 0);
		s->touched++;
	}
}

static void all_before_a_change_of_the_main_superblock_is_flushed(void **state)
{
	struct site s;

	(void)state;
	site_init(&s);
	site_again(&s);
	simdev_set_hook(s.b.m, count_unflushed, &s);
	assert_int_equal(make(&s), 0);
	simdev_set_hook(s.b.m, NULL, NULL);
	assert_int_equal(s.touched, 2); /* the old one goes, the new one comes */
	site_end(&s);
}

static void interrupted_at_any_step_it_says_what_is_left(void **state)
{
	struct site s;
	unsigned n = 0;

	(void)state;
	site_init(&s);
	do {
		site_again(&s);
		s.stop_at = ++n;
		s.b.err = make(&s);
		if (!s.b.err)
			break;
		assert_int_equal(s.b.err, -EINTR);
		assert_non_null(strstr(s.b.why, "Interrupted"));
		assert_int_equal(look(&s), strstr(s.b.why, "no lunfs volume") ? NOTHING : OLD);
	} while (n < 1000);
	assert_in_range(n, 10, 200);
	site_end(&s);
}

static void check_truth(struct site *s)
{
	enum found f = look(s);
	bool same = strstr(s->b.why, "left as it was");

	if (strstr(s->b.why, "no lunfs volume now"))
		assert_int_equal(f, NOTHING);
	else if (same)
		assert_int_equal(f, OLD);
	else
		assert_non_null(strstr(s->b.why, "not known"));
}

static void a_write_that_fails_is_reported_with_what_is_left(void **state)
{
	static const int error[] = {-EIO, -ENOSPC, -EBADE};
	struct site s;
	unsigned n = 0;

	(void)state;
	site_init(&s);
	for (unsigned e = 0; e < 3; e++) {
		for (n = 1; n < 200; n++) {
			site_again(&s);
			simdev_inject(s.b.d,
				      &(struct simdev_fault){.kind = SIMDEV_FAIL,
							     .ops = SIMDEV_WRITE | SIMDEV_FLUSH,
							     .nth = n,
							     .error = error[e]});
			s.b.err = make(&s);
			if (!s.b.err)
				break;
			assert_int_equal(s.b.err, error[e]);
			check_truth(&s);
		}
		assert_in_range(n, 20, 100);
	}
	site_end(&s);
}

static void try_discard(struct site *s, int error, bool drain, int want)
{
	site_again(s);
	simdev_set_drain(s->b.m, drain);
	simdev_inject(
	    s->b.d, &(struct simdev_fault){.kind = error == -ETIMEDOUT ? SIMDEV_LATE : SIMDEV_FAIL,
					   .ops = SIMDEV_DISCARD,
					   .nth = 2,
					   .delay_ns = 50 * MS,
					   .error = error});
	assert_int_equal(make(s), want);
	clock_sleep_ns(s->b.clk, 100 * MS);
	if (want)
		assert_int_equal(look(s), NOTHING);
	else
		bed_check_volume(&s->b);
}

static void try_discards(void *arg)
{
	struct site *s = arg;

	site_again(s);
	assert_int_equal(make(s), 0);
	assert_true(!s->work.discard_note[0]);
	assert_in_range(s->work.discarded_bytes, SIZE - 4 * MIB, SIZE);
	try_discard(s, -EOPNOTSUPP, true, 0);
	assert_non_null(strstr(s->work.discard_note, "no discards"));
	try_discard(s, -EIO, true, 0);
	assert_non_null(strstr(s->work.discard_note, "failed a discard"));
	try_discard(s, -EBADE, true, -EBADE);
	try_discard(s, -ETIMEDOUT, true, 0);
	try_discard(s, -ETIMEDOUT, false, -ETIMEDOUT);
	assert_non_null(strstr(s->b.why, "wait"));
}

static void a_device_that_cannot_discard_is_formatted_and_a_late_discard_destroys_nothing(void **st)
{
	struct site s;

	(void)st;
	site_init(&s);
	simclock_run(s.b.clk, try_discards, &s, 1);
	site_end(&s);
}

/* The old geometry is lost with both superblocks; its copies are looked for. */
static void copies_of_a_damaged_volume_are_found_and_wiped(void **state)
{
	uint8_t bad[512];
	struct site s;

	(void)state;
	memset(bad, 0xee, sizeof(bad));
	site_init(&s);
	site_again(&s);
	simdev_poke(s.b.m, LUNFS_SB_OFF + 1024, sizeof(bad), bad);
	simdev_poke(s.b.m, sb_tail_off(SIZE) + 1024, sizeof(bad), bad);
	s.discard = false;
	assert_int_equal(make(&s), 0);
	check_no_other_copy(&s);
	site_end(&s);
}

struct rival {
	struct site *s;
	unsigned done;
};

/* Another mkfs.lunfs passes just before the superblock is written. */
static bool rival_step(void *ctx, const char *what, uint64_t done, uint64_t total)
{
	struct rival *r = ctx;
	struct lunfs_maint_rec rec;

	(void)what;
	if (done + 1 == total) {
		simdev_peek(r->s->b.m, LUNFS_MAINT_OFF, sizeof(rec), &rec);
		memset(rec.hdr.vol_id, 0x77, 16);
		simdev_poke(r->s->b.m, LUNFS_MAINT_OFF, sizeof(rec), &rec);
		r->done++;
	}
	return true;
}

static void two_mkfs_at_once_do_not_both_succeed(void **state)
{
	struct site s;
	struct rival r = {.s = &s};
	struct live_table *old;

	(void)state;
	site_init(&s);
	site_again(&s);
	assert_int_equal(live_watch(s.b.d, s.b.clk, true, &old, s.b.why, sizeof(s.b.why)), 0);
	s.work = (struct mkfs_work){.d = s.b.d,
				    .clk = s.b.clk,
				    .g = &s.b.g,
				    .found = &s.found,
				    .old = old,
				    .step = rival_step,
				    .step_ctx = &r};
	assert_int_equal(volume_make(&s.work, s.b.why, sizeof(s.b.why)), -EBUSY);
	assert_int_equal(r.done, 1);
	assert_non_null(strstr(s.b.why, "at the same time"));
	live_free(old);
	site_end(&s);
}

static void copies_stand_in_the_groups_that_the_format_says(void **state)
{
	uint64_t next = copy_group_after(0);

	(void)state;
	for (uint64_t i = 1; i < 100000; i++) {
		assert_int_equal(sb_group_has_copy(i), i == next);
		if (i == next)
			next = copy_group_after(i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(cut_at_any_write_the_old_volume_or_none_or_the_new_one_is_found),
	    cmocka_unit_test(all_before_a_change_of_the_main_superblock_is_flushed),
	    cmocka_unit_test(interrupted_at_any_step_it_says_what_is_left),
	    cmocka_unit_test(a_write_that_fails_is_reported_with_what_is_left),
	    cmocka_unit_test(
		a_device_that_cannot_discard_is_formatted_and_a_late_discard_destroys_nothing),
	    cmocka_unit_test(copies_of_a_damaged_volume_are_found_and_wiped),
	    cmocka_unit_test(two_mkfs_at_once_do_not_both_succeed),
	    cmocka_unit_test(copies_stand_in_the_groups_that_the_format_says),
	};

	log_open("test", LOG_LVL_ERR, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
