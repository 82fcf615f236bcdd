/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What fsync and fdatasync cost, and what they promise. */
#include "unit.h"

#include <linux/falloc.h>
#include <stdlib.h>

#define PAGE 4096u
#define FILE_BYTES (16 * PAGE)

struct cost { /* of host 0 */
	struct simcluster *t;
	unsigned journal, writes, flushes;
};

static bool in_journal(const struct simcluster *t, uint64_t off_bytes)
{
	uint64_t first = t->geo.journal_blk[host_slot(t->v[0]->host)];
	uint64_t blk = off_bytes / LUNFS_BLOCK_BYTES;

	return blk >= first && blk < first + t->geo.journal_blks;
}

static void count(void *ctx, struct dev *d, const struct simdev_cmd *cmd, struct simdev_fault *out)
{
	struct cost *c = ctx;

	(void)out;
	if (d != c->t->dev[0])
		return;
	if (cmd->op == SIMDEV_FLUSH)
		c->flushes++;
	else if (cmd->op == SIMDEV_WRITE && in_journal(c->t, cmd->off_bytes))
		c->journal++;
	else if (cmd->op == SIMDEV_WRITE)
		c->writes++;
}

static void cost_begin(struct simcluster *t, struct cost *c)
{
	*c = (struct cost){.t = t};
	simdev_set_hook(t->medium, count, c);
}

static void cost_end(struct simcluster *t)
{
	simdev_set_hook(t->medium, NULL, NULL);
}

static struct nodeid full_file(struct simcluster *t, uint8_t *buf)
{
	struct nodeid id = sc_mkfile(t, 0, sc_root_id(t, 0), "f");

	memset(buf, 'o', FILE_BYTES);
	sc_write(t, 0, id, 0, buf, FILE_BYTES);
	SC_OK(t, vol_syncfs(t->v[0]));
	clock_sleep_ns(t->clk, 12 * SC_S); /* committed, in place, and all is quiet */
	return id;
}

static void fdatasync_on(struct simcluster *t, unsigned host, struct nodeid id)
{
	SC_OK(t, vol_fsync(t->v[host], &sc_root, id, true));
}

/* ---- cost ------------------------------------------------------------------------------------ */

static void overwrite_body(struct simcluster *t)
{
	uint8_t *buf = dev_buf_alloc(FILE_BYTES);
	struct nodeid id;
	struct cost c;

	sc_up(t, 0);
	id = full_file(t, buf);
	cost_begin(t, &c);
	for (unsigned k = 0; k < 16; k++) {
		sc_write(t, 0, id, k * PAGE, buf, PAGE);
		fdatasync_on(t, 0, id);
	}
	assert_int_equal(c.journal, 0);
	assert_int_equal(c.writes, 16);
	assert_int_equal(c.flushes, 16);
	cost_end(t);
	free(buf);
}

static void overwrite_and_fdatasync_take_one_write_and_one_flush(void **s)
{
	(void)s;
	sc_run(overwrite_body, NULL);
}

static void write_flags(struct simcluster *t, struct nodeid id, uint64_t off, size_t len,
			unsigned flags)
{
	uint8_t *buf = dev_buf_alloc(FILE_BYTES);
	size_t done;

	memset(buf, 'n', FILE_BYTES);
	SC_OK(t, vol_write(t->v[0], &sc_root, id, off, len, buf, flags, &done, NULL));
	assert_int_equal(done, len);
	free(buf);
}

static void set(struct simcluster *t, struct nodeid id, const struct stat *st, unsigned what)
{
	struct vattr va;

	SC_OK(t, vol_setattr(t->v[0], &sc_root, id, st, what, &va));
}

static void allocate(struct simcluster *t, struct nodeid id, int mode, uint64_t off, uint64_t len)
{
	SC_OK(t, vol_fallocate(t->v[0], &sc_root, id, mode, off, len));
}

/* Is the journal written by fdatasync (or fsync) now? */
static bool commits(struct simcluster *t, struct nodeid id, bool data_only)
{
	struct cost c;

	cost_begin(t, &c);
	SC_OK(t, vol_fsync(t->v[0], &sc_root, id, data_only));
	cost_end(t);
	assert_true(c.flushes >= 1);
	return c.journal > 0;
}

static void data_changes_body(struct simcluster *t)
{
	uint8_t *buf = dev_buf_alloc(FILE_BYTES);
	struct stat st = {.st_mode = 06755};
	struct nodeid id;

	sc_up(t, 0);
	id = full_file(t, buf);
	write_flags(t, id, FILE_BYTES, PAGE, 0);
	assert_true(commits(t, id, true)); /* longer */
	assert_false(commits(t, id, true));
	write_flags(t, id, 0, 10, VWRITE_APPEND);
	assert_true(commits(t, id, true)); /* by a part of a block */
	st.st_size = PAGE;
	set(t, id, &st, VSET_SIZE);
	assert_true(commits(t, id, true)); /* shorter */
	st.st_size = FILE_BYTES;
	set(t, id, &st, VSET_SIZE);
	assert_true(commits(t, id, true)); /* longer by a hole */
	write_flags(t, id, 4 * PAGE, PAGE, 0);
	assert_true(commits(t, id, true)); /* in the hole */
	allocate(t, id, FALLOC_FL_KEEP_SIZE, 8 * PAGE, 2 * PAGE);
	assert_true(commits(t, id, true));
	write_flags(t, id, 8 * PAGE, PAGE, 0);
	assert_true(commits(t, id, true)); /* space that was not written before */
	write_flags(t, id, 8 * PAGE, PAGE, 0);
	assert_false(commits(t, id, true)); /* now it is */
	allocate(t, id, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8 * PAGE, PAGE);
	assert_true(commits(t, id, true));
	set(t, id, &st, VSET_MODE);
	assert_true(commits(t, id, true));
	write_flags(t, id, 0, PAGE, VWRITE_KILL_SUIDGID);
	assert_true(commits(t, id, true)); /* privileges taken away */
	assert_int_equal(sc_stat(t, 0, id).st_mode & 06000, 0);
	free(buf);
}

static void fdatasync_commits_all_that_leads_to_the_data(void **s)
{
	(void)s;
	sc_run(data_changes_body, NULL);
}

static void times_body(struct simcluster *t)
{
	uint8_t *buf = dev_buf_alloc(FILE_BYTES);
	struct stat st = {.st_mtim.tv_sec = 1000};
	struct nodeid id;

	sc_up(t, 0);
	id = full_file(t, buf);
	set(t, id, &st, VSET_MTIME);
	assert_false(commits(t, id, true));
	assert_true(commits(t, id, false)); /* fsync does */
	clock_sleep_ns(t->clk, SC_S);
	write_flags(t, id, 100, 50, 0); /* a part of a block that is there */
	assert_false(commits(t, id, true));
	assert_true(commits(t, id, false));
	clock_sleep_ns(t->clk, SC_S);
	write_flags(t, id, 0, PAGE, 0);
	sc_mkfile(t, 0, sc_root_id(t, 0), "another"); /* is no business of this one */
	assert_false(commits(t, id, true));
	assert_true(commits(t, sc_root_id(t, 0), true));
	free(buf);
}

static void only_fsync_commits_time_stamps(void **s)
{
	(void)s;
	sc_run(times_body, NULL);
}

/* ---- promises -------------------------------------------------------------------------------- */

static void power_cut(struct simcluster *t)
{
	for (unsigned h = 0; h < t->hosts; h++)
		if (t->v[h])
			sc_kill(t, h);
	simdev_power_cut(t->medium, t->seed);
}

static void expect_bytes(struct simcluster *t, unsigned host, struct nodeid id, uint64_t off,
			 uint8_t byte)
{
	uint8_t *buf = dev_buf_alloc(PAGE);

	SC_CHECK(t, sc_read(t, host, id, off, buf, PAGE) == PAGE, "it is too short");
	for (unsigned k = 0; k < PAGE; k++)
		SC_CHECK(t, buf[k] == byte, "byte %llu is %02x, not %02x",
			 (unsigned long long)off + k, buf[k], byte);
	free(buf);
}

static void cut_body(struct simcluster *t)
{
	uint64_t at = sc_random(t, 16) * PAGE, end = FILE_BYTES;
	uint8_t *buf = dev_buf_alloc(FILE_BYTES);
	struct stat st = {.st_mtim.tv_sec = 1000};
	struct nodeid id;

	sc_up(t, 0);
	id = full_file(t, buf);
	memset(buf, 'n', FILE_BYTES);
	if (sc_random(t, 2)) {
		sc_write(t, 0, id, FILE_BYTES, buf, PAGE); /* what leads to the data is still */
		at = FILE_BYTES;			   /* to be committed */
		end += PAGE;
		memset(buf, 'm', PAGE);
	}
	sc_write(t, 0, id, at, buf, PAGE);
	fdatasync_on(t, 0, id);
	if (sc_random(t, 2)) /* and its time stamps changed since */
		set(t, id, &st, VSET_MTIME);
	power_cut(t);
	sc_up(t, 1);
	assert_int_equal(sc_stat(t, 1, id).st_size, end);
	expect_bytes(t, 1, id, at, buf[0]);
	free(buf);
}

static void size_and_data_survive_a_power_cut_after_fdatasync(void **s)
{
	(void)s;
	sc_run_seeds(cut_body, 25);
}

static void utimes_body(struct simcluster *t)
{
	uint8_t *buf = dev_buf_alloc(FILE_BYTES);
	struct stat st = {.st_mtim.tv_sec = 1000};
	struct nodeid id;

	sc_up(t, 0);
	id = full_file(t, buf);
	set(t, id, &st, VSET_MTIME);
	SC_OK(t, vol_fsync(t->v[0], &sc_root, id, false));
	power_cut(t);
	sc_up(t, 1);
	assert_int_equal(sc_stat(t, 1, id).st_mtim.tv_sec, 1000);
	free(buf);
}

static void time_stamps_survive_a_power_cut_after_fsync(void **s)
{
	(void)s;
	sc_run_seeds(utimes_body, 5);
}

/* The one writes, the other syncs; or the one syncs and the other takes the file from it. */
static void handover_body(struct simcluster *t)
{
	unsigned syncer = (unsigned)sc_random(t, 2);
	uint8_t *buf = dev_buf_alloc(FILE_BYTES);
	struct nodeid id;

	sc_up(t, 0);
	sc_up(t, 1);
	id = full_file(t, buf);
	memset(buf, 'n', FILE_BYTES);
	sc_write(t, 0, id, FILE_BYTES, buf, PAGE);
	if (sc_random(t, 2)) {
		fdatasync_on(t, 0, id);
		assert_int_equal(sc_stat(t, 1, id).st_size, FILE_BYTES + PAGE);
	}
	sc_write(t, 0, id, 3 * PAGE, buf, PAGE);
	fdatasync_on(t, syncer, id);
	power_cut(t);
	sc_up(t, 2);
	assert_int_equal(sc_stat(t, 2, id).st_size, FILE_BYTES + PAGE);
	expect_bytes(t, 2, id, 3 * PAGE, 'n');
	expect_bytes(t, 2, id, FILE_BYTES, 'n');
	free(buf);
}

static void what_one_host_wrote_is_durable_when_any_host_has_synced_it(void **s)
{
	(void)s;
	sc_run_seeds(handover_body, 25);
}

struct appender {
	struct simcluster *t;
	struct nodeid id;
	unsigned begun;
};

/* Changes the same file's metadata, and never syncs. */
static void append_task(void *arg)
{
	struct appender *a = arg;
	uint8_t *buf = dev_buf_alloc(PAGE);
	uint64_t off;
	size_t done;

	memset(buf, 'a', PAGE);
	for (unsigned k = 0; k < 20; k++) {
		a->begun++;
		if (vol_write(a->t->v[0], &sc_root, a->id, 0, PAGE, buf, VWRITE_APPEND, &done,
			      &off))
			break;
		if (k % 4 == 3)
			sc_truncate(a->t, 0, a->id, FILE_BYTES);
	}
	free(buf);
}

static void others_body(struct simcluster *t)
{
	uint8_t *buf = dev_buf_alloc(FILE_BYTES);
	struct appender a = {.t = t};
	unsigned page = 0;

	sc_up(t, 0);
	a.id = full_file(t, buf);
	memset(buf, 'n', FILE_BYTES);
	sc_task(t, 0, append_task, &a);
	while (a.begun < 1 + sc_random(t, 18) && page < 16) {
		sc_write(t, 0, a.id, page++ * PAGE, buf, PAGE);
		fdatasync_on(t, 0, a.id);
	}
	power_cut(t);
	sc_up(t, 1);
	assert_true(sc_stat(t, 1, a.id).st_size >= FILE_BYTES);
	while (page--)
		expect_bytes(t, 1, a.id, page * PAGE, 'n');
	free(buf);
}

static void what_others_do_to_the_file_meanwhile_takes_nothing_back(void **s)
{
	(void)s;
	sc_run_seeds(others_body, 25);
}

/* ---- zeroing --------------------------------------------------------------------------------- */

static void zeroing_body(struct simcluster *t)
{
	uint8_t *buf = dev_buf_alloc(FILE_BYTES);
	uint64_t size = 64 * FILE_BYTES;
	struct nodeid id;
	struct cost c;

	sc_up(t, 0);
	id = full_file(t, buf);
	for (unsigned k = 1; k < 64; k++)
		sc_write(t, 0, id, k * FILE_BYTES, buf, FILE_BYTES);
	SC_OK(t, vol_syncfs(t->v[0]));
	cost_begin(t, &c);
	SC_OK(t, vol_fallocate(t->v[0], &sc_root, id, FALLOC_FL_ZERO_RANGE, 100, size - 200));
	cost_end(t);
	assert_in_range(c.writes, 1, 2); /* its ends */
	assert_int_equal(sc_read(t, 0, id, 40 * FILE_BYTES, buf, FILE_BYTES), FILE_BYTES);
	for (unsigned k = 0; k < FILE_BYTES; k++)
		assert_int_equal(buf[k], 0);
	assert_int_equal(sc_read(t, 0, id, 0, buf, PAGE), PAGE);
	assert_int_equal(buf[99], 'o');
	assert_int_equal(buf[100], 0);
	free(buf);
}

static void zeroing_a_long_range_writes_its_ends_only(void **state)
{
	(void)state;
	sc_run(zeroing_body, &(struct sc_shape){.hosts = 1});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(overwrite_and_fdatasync_take_one_write_and_one_flush),
	    cmocka_unit_test(fdatasync_commits_all_that_leads_to_the_data),
	    cmocka_unit_test(only_fsync_commits_time_stamps),
	    cmocka_unit_test(size_and_data_survive_a_power_cut_after_fdatasync),
	    cmocka_unit_test(time_stamps_survive_a_power_cut_after_fsync),
	    cmocka_unit_test(what_one_host_wrote_is_durable_when_any_host_has_synced_it),
	    cmocka_unit_test(what_others_do_to_the_file_meanwhile_takes_nothing_back),
	    cmocka_unit_test(zeroing_a_long_range_writes_its_ends_only),
	};

	return cmocka_run_group_tests_name("vol-sync", tests, NULL, NULL);
}
