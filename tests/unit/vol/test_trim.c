/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Trims beside work: what is discarded was free, whatever else happens. */
#include "unit.h"

#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>

#define LEN (96u << 10)
#define FILES 4u
#define ROUNDS 30u

static int trim(struct simcluster *t, unsigned host, uint64_t min_bytes, uint64_t *done)
{
	return vol_trim(t->v[host], &sc_root, 0, UINT64_MAX, min_bytes, done);
}

static void removed_body(struct simcluster *t)
{
	uint8_t *buf = dev_buf_alloc(LEN);
	uint64_t all, rest;
	struct nodeid id;

	sc_up(t, 0);
	id = sc_mkfile(t, 0, sc_root_id(t, 0), "f");
	memset(buf, 'x', LEN);
	assert_int_equal(trim(t, 0, 0, &all), 0);
	sc_write(t, 0, id, 0, buf, LEN);
	assert_int_equal(trim(t, 0, 0, &rest), 0);
	assert_int_equal(rest, all - LEN);
	assert_int_equal(sc_read(t, 0, id, 0, buf, LEN), LEN);
	assert_int_equal(buf[0], 'x');
	assert_int_equal(buf[LEN - 1], 'x');
	sc_truncate(t, 0, id, LEN / 2);
	assert_int_equal(trim(t, 0, 0, &rest), 0);
	assert_int_equal(rest, all - LEN / 2);
	assert_int_equal(vol_unlink(t->v[0], &sc_root, sc_root_id(t, 0), "f"), 0);
	assert_int_equal(trim(t, 0, 0, &rest), 0);
	assert_int_equal(rest, all);
	assert_int_equal(trim(t, 0, UINT64_MAX, &rest), 0);
	assert_int_equal(rest, 0);
	assert_int_equal(vol_trim(t->v[0], &sc_root, 1ull << 50, 4096, 0, &rest), -EINVAL);
	t->dev[0]->id.has_discard = false;
	assert_int_equal(trim(t, 0, 0, &rest), -EOPNOTSUPP);
	free(buf);
}

static void trim_gives_back_what_was_removed_before_it(void **state)
{
	(void)state;
	sc_run(removed_body, &(struct sc_shape){.hosts = 1});
}

static void pieces_body(struct simcluster *t)
{
	uint64_t all, most = 16 * LUNFS_BLOCK_BYTES, before;
	struct dev *d;

	sc_up(t, 0);
	d = t->dev[0];
	d->id.discard_max_bytes = most + 512;
	before = atomic_load(&d->stats.discards);
	assert_int_equal(trim(t, 0, 0, &all), 0);
	assert_true(all > 4 * most);
	assert_true(atomic_load(&d->stats.discards) - before >= all / most);
}

/* Between two commands this host may have lost its right to write. */
static void discard_is_sent_in_pieces_of_one_command(void **state)
{
	(void)state;
	sc_run(pieces_body, &(struct sc_shape){.hosts = 1});
}

static void range_body(struct simcluster *t)
{
	uint64_t done, first, len = LUNFS_BLOCK_BYTES;

	sc_up(t, 0);
	first = geo_blk_off(geo_group_blk(&t->geo, 0) + geo_group_len(&t->geo, 0) - 64);
	assert_int_equal(vol_trim(t->v[0], &sc_root, first, 2 * len, 0, &done), 0);
	assert_int_equal(done, 2 * len);
	assert_int_equal(vol_trim(t->v[0], &sc_root, first + 100, 2 * len, 0, &done), 0);
	assert_int_equal(done, len);
	assert_int_equal(vol_trim(t->v[0], &sc_root, first + 100, len, 0, &done), 0);
	assert_int_equal(done, 0);
}

static void range_is_rounded_inwards(void **state)
{
	(void)state;
	sc_run(range_body, &(struct sc_shape){.hosts = 1});
}

/* ---- a discard without an answer ------------------------------------------------------------- */

static void late_body(struct simcluster *t)
{
	struct simdev_fault late = {
	    .kind = SIMDEV_LATE, .ops = SIMDEV_DISCARD, .delay_ns = 100000000};
	bool drains = t->ctx != NULL;
	uint64_t done;

	simdev_set_drain(t->medium, drains);
	sc_up(t, 0);
	simdev_inject(t->dev[0], &late);
	assert_true(trim(t, 0, 0, &done) != 0);
	assert_int_equal(atomic_load(&t->v[0]->lost), !drains);
	if (drains)
		assert_int_equal(trim(t, 0, 0, &done), 0);
	else
		sc_kill(t, 0);
	if (!drains)
		sc_up(t, 0); /* after its recovery fsck has nothing to say */
}

static void unanswered_discard_that_is_known_to_be_gone_does_no_harm(void **state)
{
	(void)state;
	sc_run(late_body, &(struct sc_shape){.hosts = 1, .ctx = state});
}

static void unanswered_discard_that_may_still_land_stops_the_volume(void **state)
{
	(void)state;
	sc_run(late_body, &(struct sc_shape){.hosts = 1});
}

/* ---- everybody at once ----------------------------------------------------------------------- */

struct actor {
	struct simcluster *t;
	unsigned host;
	uint64_t rng, trimmed;
	int rc;
};

static uint64_t rnd(struct actor *a, uint64_t below)
{
	a->rng = a->rng * 6364136223846793005ull + 1442695040888963407ull;
	return (a->rng >> 33) % below;
}

/* All that it wrote is there, and none of it zero. */
static int check(struct actor *a, struct nodeid id, uint8_t *buf, uint8_t fill, size_t *size)
{
	int rc = vol_read(a->t->v[a->host], &sc_root, id, 0, LEN, buf, size);

	for (size_t k = 0; rc == 0 && k < *size; k++)
		if (buf[k] != fill)
			fail_msg("host %u: byte %zu of a file is %02x, not %02x", a->host, k,
				 buf[k], fill);
	return rc;
}

static int one_round(struct actor *a, struct nodeid *id, uint8_t *fill, uint8_t *buf)
{
	struct volume *v = a->t->v[a->host];
	unsigned k = (unsigned)rnd(a, FILES);
	struct stat st = {0};
	struct vattr va;
	size_t done = 0;
	int rc = check(a, id[k], buf, fill[k], &done);

	st.st_size = (off_t)rnd(a, done + 1);
	if (rc == 0)
		rc = vol_setattr(v, &sc_root, id[k], &st, VSET_SIZE, &va);
	if (rc == 0 && rnd(a, 2)) {
		fill[k] = (uint8_t)(1 + rnd(a, 255));
		memset(buf, fill[k], LEN);
		rc = vol_write(v, &sc_root, id[k], 0, LEN, buf, 0, &done, NULL);
	}
	if (rc == 0 && rnd(a, 4) == 0)
		rc = vol_fsync(v, &sc_root, id[k], false);
	return rc;
}

static void write_on(void *arg)
{
	struct actor *a = arg;
	uint8_t *buf = dev_buf_alloc(LEN), fill[FILES] = {0};
	struct nodeid id[FILES];
	char name[16];
	struct vattr va;
	struct nodeid root;

	a->rc = vol_root(a->t->v[a->host], &root);
	for (unsigned k = 0; k < FILES && a->rc == 0; k++) {
		snprintf(name, sizeof(name), "%u-%u", a->host, k);
		a->rc = vol_create(a->t->v[a->host], &sc_root, root, name, S_IFREG | 0644, &va);
		id[k] = va.id;
	}
	for (unsigned k = 0; k < ROUNDS && a->rc == 0; k++)
		a->rc = one_round(a, id, fill, buf);
	free(buf);
}

static void trim_on(void *arg)
{
	struct actor *a = arg;

	for (unsigned k = 0; k < 4 && a->rc == 0; k++) {
		uint64_t done = 0;

		a->rc = trim(a->t, a->host, rnd(a, 2) ? 0 : 8192, &done);
		a->trimmed += done;
	}
}

static void chaos_body(struct simcluster *t)
{
	struct actor a[2 * SC_HOSTS];
	struct task *task[2 * SC_HOSTS];
	bool dies = sc_random(t, 2);

	simdev_set_latency(t->medium, 100000, 2000000);
	for (unsigned n = 0; n < SC_HOSTS; n++)
		sc_up(t, n);
	for (unsigned n = 0; n < 2 * SC_HOSTS; n++) {
		a[n] = (struct actor){.t = t, .host = n / 2, .rng = sc_random(t, 1u << 30)};
		task[n] = sc_task(t, n / 2, n % 2 ? trim_on : write_on, &a[n]);
	}
	if (dies) {
		clock_sleep_ns(t->clk, sc_random(t, 300) * 1000000);
		simdev_kill(t->dev[2]);
	}
	for (unsigned n = 0; n < 2 * SC_HOSTS; n++)
		sc_join(t, task[n]);
	for (unsigned n = 0; n < 4; n++)
		assert_int_equal(a[n].rc, 0);
	assert_true(a[1].trimmed && a[3].trimmed);
	if (dies) {
		sc_kill(t, 2);
		clock_sleep_ns(t->clk, 3 * SC_S); /* it looks alive for so long */
		sc_up(t, 2);			  /* after its recovery fsck has nothing to say */
	}
}

static void files_keep_their_bytes_while_all_hosts_trim_and_one_may_die(void **state)
{
	(void)state;
	sc_run_seeds(chaos_body, 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(trim_gives_back_what_was_removed_before_it),
	    cmocka_unit_test(discard_is_sent_in_pieces_of_one_command),
	    cmocka_unit_test(range_is_rounded_inwards),
	    cmocka_unit_test(unanswered_discard_that_is_known_to_be_gone_does_no_harm),
	    cmocka_unit_test(unanswered_discard_that_may_still_land_stops_the_volume),
	    cmocka_unit_test(files_keep_their_bytes_while_all_hosts_trim_and_one_may_die),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
