/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * First writes to preallocated space and holes, by many side by side: that they do not wait for
 * each other's device, where their blocks lie, and what others see of them meanwhile.
 */
#include "unit.h"

#include "vol/first.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define PAGE 4096u
#define CROWD 16u
#define SLOW (5 * SC_S / 1000) /* a command of the device */

struct writer {
	struct simcluster *t;
	struct nodeid id;
	uint64_t lblk;
	unsigned blks;
	uint8_t fill;
	int rc;
	size_t done;
	struct task *task;
};

static void write_task(void *arg)
{
	struct writer *w = arg;
	uint8_t *buf = dev_buf_alloc(w->blks * PAGE);

	memset(buf, w->fill, w->blks * PAGE);
	w->rc = vol_write(w->t->v[0], &sc_root, w->id, w->lblk * PAGE, w->blks * PAGE, buf, 0,
			  &w->done, NULL);
	free(buf);
}

static void start(struct simcluster *t, struct writer *w, struct nodeid id, uint64_t lblk,
		  unsigned blks, uint8_t fill)
{
	*w = (struct writer){.t = t, .id = id, .lblk = lblk, .blks = blks, .fill = fill};
	w->task = sc_task(t, 0, write_task, w);
}

static void join(struct writer *w, unsigned n)
{
	for (unsigned k = 0; k < n; k++) {
		sc_join(w[k].t, w[k].task);
		assert_int_equal(w[k].rc, 0);
		assert_int_equal(w[k].done, w[k].blks * PAGE);
	}
}

/* Whole blocks from the first byte on, so that the file has a tree; holes behind it. */
static struct nodeid sparse_file(struct simcluster *t, const char *name, uint64_t blks)
{
	struct nodeid id = sc_mkfile(t, 0, sc_root_id(t, 0), name);
	uint8_t *buf = dev_buf_alloc(PAGE);

	memset(buf, 1, PAGE);
	sc_write(t, 0, id, 0, buf, PAGE);
	assert_int_equal(sc_truncate(t, 0, id, blks * PAGE), 0);
	free(buf);
	return id;
}

static uint8_t filled_with(struct simcluster *t, unsigned host, struct nodeid id, uint64_t lblk)
{
	uint8_t buf[PAGE];

	assert_int_equal(sc_read(t, host, id, lblk * PAGE, buf, PAGE), PAGE);
	for (unsigned k = 1; k < PAGE; k++)
		assert_int_equal(buf[k], buf[0]);
	return buf[0];
}

/* ---- side by side ---------------------------------------------------------------------------- */

static void together(struct simcluster *t, bool allocated)
{
	struct nodeid id = sparse_file(t, allocated ? "a" : "s", 4 * CROWD);
	struct first_counts was = firsts_counts(t->v[0]->firsts), now;
	struct writer w[CROWD];
	uint64_t began;

	if (allocated)
		SC_OK(t, vol_fallocate(t->v[0], &sc_root, id, 0, 0, 4 * CROWD * PAGE));
	start(t, &w[0], id, 1, 1, 1); /* what is read first has been */
	join(w, 1);
	simdev_set_latency(t->medium, SLOW, SLOW);
	began = clock_now_ns(t->clk);
	for (unsigned k = 0; k < CROWD; k++)
		start(t, &w[k], id, 2 + 2 * k, 2, (uint8_t)(10 + k));
	join(w, CROWD);
	assert_in_range(clock_now_ns(t->clk) - began, SLOW, 3 * SLOW);
	simdev_set_latency(t->medium, 20000, 300000);
	now = firsts_counts(t->v[0]->firsts);
	assert_int_equal(now.pieces - was.pieces, CROWD + 1);
	assert_in_range(now.commits - was.commits, 2, CROWD / 2);
	for (unsigned k = 0; k < CROWD; k++)
		for (unsigned b = 0; b < 2; b++)
			assert_int_equal(filled_with(t, 1, id, 2 + 2 * k + b), 10 + k);
	assert_int_equal(filled_with(t, 1, id, 2 + 2 * CROWD), 0);
}

static void together_body(struct simcluster *t)
{
	sc_up(t, 0);
	sc_up(t, 1);
	together(t, true);
	together(t, false);
}

static void first_writes_do_not_wait_for_each_others_device(void **s)
{
	(void)s;
	sc_run(together_body, NULL);
}

#define MIXED 256u

/* One after the other in the file, but each comes up to some places too early or too late. */
static void order_body(struct simcluster *t)
{
	struct nodeid id;
	struct writer w[CROWD];

	sc_up(t, 0);
	id = sparse_file(t, "f", MIXED);
	for (unsigned from = 1; from + CROWD <= MIXED; from += CROWD) {
		uint8_t order[CROWD];

		for (unsigned k = 0; k < CROWD; k++) {
			unsigned other = (unsigned)sc_random(t, k + 1);

			order[k] = order[other];
			order[other] = (uint8_t)k;
		}
		for (unsigned k = 0; k < CROWD; k++)
			start(t, &w[k], id, from + order[k], 1, (uint8_t)(order[k] + 1));
		join(w, CROWD);
	}
	assert_in_range(pieces_of(t, id, 1 + (MIXED - 1) / CROWD * CROWD), 1, 3);
	for (unsigned k = 1; k <= (MIXED - 1) / CROWD * CROWD; k++)
		assert_int_equal(filled_with(t, 0, id, k), (k - 1) % CROWD + 1);
}

static void blocks_lie_in_the_order_of_the_file_in_whatever_order_they_come(void **s)
{
	(void)s;
	sc_run_seeds(order_body, 20);
}

/* ---- in each other's way --------------------------------------------------------------------- */

static void overlap_body(struct simcluster *t)
{
	struct nodeid id;
	struct writer w[CROWD];

	sc_up(t, 0);
	sc_up(t, 1);
	id = sparse_file(t, "f", 64);
	if (sc_random(t, 2))
		SC_OK(t, vol_fallocate(t->v[0], &sc_root, id, 0, 0, 64 * PAGE));
	for (unsigned k = 0; k < CROWD; k++)
		start(t, &w[k], id, 1 + sc_random(t, 6), 2, (uint8_t)(10 + k));
	join(w, CROWD);
	assert_true(firsts_counts(t->v[0]->firsts).in_the_way > 0);
	for (unsigned b = 1; b < 8; b++) {
		uint8_t is = filled_with(t, sc_random(t, 2) != 0, id, b);
		bool wrote = false, any = false;

		for (unsigned k = 0; k < CROWD; k++)
			if (w[k].lblk <= b && b < w[k].lblk + 2) {
				any = true;
				wrote |= w[k].fill == is;
			}
		assert_true(any ? wrote : is == 0);
	}
}

static void of_those_that_write_the_same_blocks_one_is_the_last(void **s)
{
	(void)s;
	sc_run_seeds(overlap_body, 30);
}

struct reader {
	struct simcluster *t;
	struct nodeid id;
	uint8_t first, second;
	bool read;
};

static void read_task(void *arg)
{
	struct reader *r = arg;
	uint8_t buf[2 * PAGE];

	assert_int_equal(sc_read(r->t, 1, r->id, 4 * PAGE, buf, sizeof(buf)), sizeof(buf));
	r->first = buf[0];
	r->second = buf[PAGE];
	r->read = true;
}

/* Half of it is written space, half of it not. */
static void whole_body(struct simcluster *t)
{
	struct reader r = {.t = t};
	struct writer w[CROWD];
	struct task *task;

	sc_up(t, 0);
	sc_up(t, 1);
	r.id = sparse_file(t, "f", 64);
	SC_OK(t, vol_fallocate(t->v[0], &sc_root, r.id, 0, 0, 64 * PAGE));
	start(t, &w[0], r.id, 4, 1, 'o');
	join(w, 1);
	start(t, &w[0], r.id, 4, 2, 'n');
	start(t, &w[1], r.id, 5, 1, 'x');
	clock_sleep_ns(t->clk, sc_random(t, 400000));
	task = sc_task(t, 1, read_task, &r);
	join(w, 2);
	sc_join(t, task);
	if (r.first == 'n')
		assert_true(r.second == 'n' || r.second == 'x');
	else
		assert_true(r.second == 0 || r.second == 'x');
}

static void other_hosts_see_a_write_whole_or_not_at_all(void **s)
{
	(void)s;
	sc_run_seeds(whole_body, 60);
}

/* ---- a full volume --------------------------------------------------------------------------- */

static void fill_up(struct simcluster *t)
{
	struct nodeid id = sc_mkfile(t, 0, sc_root_id(t, 0), "all");
	uint8_t *buf = dev_buf_alloc(1 << 20);
	uint64_t off = 0;
	size_t len = 1 << 20, done;

	memset(buf, 'f', len);
	while (len >= PAGE) {
		int rc = vol_write(t->v[0], &sc_root, id, off, len, buf, 0, &done, NULL);

		off += rc == 0 ? done : 0;
		if (rc || done < len)
			len /= 2;
	}
	free(buf);
}

static void full_body(struct simcluster *t)
{
	struct nodeid holes, space;
	struct writer w[2 * CROWD];

	sc_up(t, 0);
	holes = sparse_file(t, "holes", 1024);
	space = sparse_file(t, "space", 64);
	SC_OK(t, vol_fallocate(t->v[0], &sc_root, space, 0, 0, 64 * PAGE));
	fill_up(t);
	for (unsigned k = 0; k < CROWD; k++) {
		start(t, &w[2 * k], holes, 1 + 3 * k, 2, (uint8_t)(1 + k));
		start(t, &w[2 * k + 1], space, 1 + 2 * k, 1, (uint8_t)(1 + k));
	}
	for (unsigned k = 0; k < 2 * CROWD; k++) {
		sc_join(t, w[k].task);
		if (k % 2 == 0 && w[k].rc == 0)
			assert_in_range(w[k].done, PAGE, 2 * PAGE);
		else if (k % 2 == 0)
			assert_int_equal(w[k].rc, -ENOSPC);
		else /* what was allocated can be written */
			assert_int_equal(w[k].rc, 0);
		for (unsigned b = 0; b < w[k].blks; b++)
			assert_int_equal(filled_with(t, 0, w[k].id, w[k].lblk + b),
					 w[k].rc == 0 && w[k].done > b * PAGE ? w[k].fill : 0);
	}
}

#define ALLOCATED 2048u

/* Without a cell more than what is kept to delete with. */
static void use_up_cells(struct simcluster *t)
{
	struct nodeid root = sc_root_id(t, 0);
	struct vattr va;
	char name[32];
	int rc = 0;

	for (unsigned k = 0; rc == 0; k++) {
		snprintf(name, sizeof(name), "empty%u", k);
		rc = vol_mknod(t->v[0], &sc_root, root, name, S_IFREG | 0644, 0, &va);
	}
	assert_int_equal(rc, -ENOSPC);
}

static void allocated_body(struct simcluster *t)
{
	uint8_t buf[2 * PAGE];
	struct nodeid space;

	sc_up(t, 0);
	space = sparse_file(t, "space", ALLOCATED);
	SC_OK(t, vol_fallocate(t->v[0], &sc_root, space, 0, 0, ALLOCATED * PAGE));
	fill_up(t);
	use_up_cells(t);
	memset(buf, 'n', sizeof(buf));
	sc_write(t, 0, space, 500 * PAGE, buf, PAGE);
	sc_write(t, 0, space, 600 * PAGE + 1, buf, 1);
	for (unsigned k = 1; k + 2 <= ALLOCATED; k += 2)
		sc_write(t, 0, space, k * PAGE, buf, 2 * PAGE);
	assert_int_equal(filled_with(t, 0, space, ALLOCATED - 2), 'n');
}

static void what_was_allocated_is_written_on_a_volume_without_free_inodes(void **s)
{
	(void)s;
	sc_run(allocated_body, NULL);
}

static void a_full_volume_refuses_what_has_no_room_and_takes_what_has(void **s)
{
	(void)s;
	sc_run(full_body, NULL);
}

/* ---- without a thread that waits --------------------------------------------------------------
 */

#define HELD 4u

struct held { /* a queue of the device that the test itself completes */
	struct simcluster *t;
	struct dev_lane lane;
	struct dev_async *on_way[HELD];
	unsigned n;
	struct vol_io x[HELD];
	unsigned ended[HELD];
	struct nodeid id;
	uint8_t *buf[HELD];
};

static struct held *held; /* a lane has no context of its own */

static int hold(struct dev_lane *l, struct dev_async *a)
{
	(void)l;
	assert_true(held->n < HELD);
	held->on_way[held->n++] = a;
	return 0;
}

static const struct dev_lane_ops lane_ops = {.start = hold};

static void has_ended(struct vol_io *x)
{
	held->ended[x - held->x]++;
}

static void answer(struct held *h, unsigned k, int result)
{
	struct dev_async *a = h->on_way[k];

	if (result == 0)
		result = a->dev->ops->write(a->dev, a->io.off_bytes, a->io.len_bytes, a->io.buf);
	a->io.result = result;
	dev_started_done(a);
}

static void hold_up(struct simcluster *t, struct held *h, bool allocated)
{
	*h = (struct held){.t = t};
	held = h;
	sc_up(t, 0);
	sc_up(t, 1);
	h->id = sparse_file(t, "f", 64);
	if (allocated)
		SC_OK(t, vol_fallocate(t->v[0], &sc_root, h->id, 0, 0, 64 * PAGE));
	h->lane = (struct dev_lane){.dev = t->dev[0], .ops = &lane_ops};
	dev_lane_use(&h->lane);
	for (unsigned k = 0; k < HELD; k++) {
		h->buf[k] = dev_buf_alloc(2 * PAGE);
		memset(h->buf[k], 'a' + (int)k, 2 * PAGE);
	}
}

static void hold_down(struct held *h)
{
	for (unsigned k = 0; k < HELD; k++)
		free(h->buf[k]);
	sc_down(h->t, 0);
	held = NULL;
}

static bool start_io(struct held *h, unsigned k, uint64_t lblk)
{
	h->x[k] = (struct vol_io){.write = true,
				  .c = &sc_root,
				  .id = h->id,
				  .off_bytes = lblk * PAGE,
				  .len_bytes = 2 * PAGE,
				  .buf = h->buf[k],
				  .ended = has_ended};
	return vol_io_start(h->t->v[0], &h->x[k]);
}

static void told(struct simcluster *t, bool allocated)
{
	size_t done = 0;
	struct held h;

	hold_up(t, &h, allocated);
	for (unsigned k = 0; k < 3; k++)
		assert_true(start_io(&h, k, 2 + 2 * k));
	assert_false(start_io(&h, 3, 3)); /* it would be in the way of two of them */
	answer(&h, 1, 0);
	assert_int_equal(vol_io_end(&h.x[1], false, &done), VOL_IO_WAITS); /* to commit for all */
	answer(&h, 0, 0);
	assert_int_equal(vol_io_end(&h.x[0], false, &done), VOL_IO_LATER);
	answer(&h, 2, -EIO);
	assert_int_equal(vol_io_end(&h.x[2], false, &done), -EIO);
	assert_int_equal(h.ended[0], 1);
	assert_int_equal(vol_io_end(&h.x[1], true, &done), 0);
	assert_int_equal(done, 2 * PAGE);
	assert_int_equal(h.ended[0], 2); /* by the one that led */
	done = 0;
	assert_int_equal(vol_io_end(&h.x[0], false, &done), 0);
	assert_int_equal(done, 2 * PAGE);
	for (unsigned b = 0; b < 6; b++)
		assert_int_equal(filled_with(t, b % 2, h.id, 2 + b), b < 2 ? 'a' : b < 4 ? 'b' : 0);
	hold_down(&h);
}

static void told_allocated(struct simcluster *t)
{
	told(t, true);
}

static void told_holes(struct simcluster *t)
{
	told(t, false);
}

static void one_of_those_that_were_started_commits_for_all_and_tells_them(void **s)
{
	(void)s;
	sc_run(told_allocated, NULL);
	sc_run(told_holes, NULL);
}

static void parked_body(struct simcluster *t)
{
	struct reader r = {.t = t};
	struct writer w;
	struct task *task;
	struct held h;
	size_t done;

	hold_up(t, &h, true);
	r.id = h.id;
	assert_true(start_io(&h, 0, 4));
	answer(&h, 0, 0);
	assert_int_equal(vol_io_end(&h.x[0], false, &done), VOL_IO_WAITS);
	task = sc_task(t, 1, read_task, &r);
	start(t, &w, h.id, 4, 1, 'x');
	clock_sleep_ns(t->clk, 5 * SC_S);
	assert_false(r.read); /* the lock stays until it is committed */
	SC_OK(t, vol_io_end(&h.x[0], true, &done));
	join(&w, 1);
	sc_join(t, task);
	assert_true(r.first == 'a' || r.first == 'x');
	assert_int_equal(r.second, 'a');
	hold_down(&h);
}

static void nobody_comes_between_the_data_and_the_commit(void **s)
{
	(void)s;
	sc_run(parked_body, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(first_writes_do_not_wait_for_each_others_device),
	    cmocka_unit_test(blocks_lie_in_the_order_of_the_file_in_whatever_order_they_come),
	    cmocka_unit_test(of_those_that_write_the_same_blocks_one_is_the_last),
	    cmocka_unit_test(other_hosts_see_a_write_whole_or_not_at_all),
	    cmocka_unit_test(a_full_volume_refuses_what_has_no_room_and_takes_what_has),
	    cmocka_unit_test(what_was_allocated_is_written_on_a_volume_without_free_inodes),
	    cmocka_unit_test(one_of_those_that_were_started_commits_for_all_and_tells_them),
	    cmocka_unit_test(nobody_comes_between_the_data_and_the_commit),
	};

	return cmocka_run_group_tests_name("vol-first", tests, NULL, NULL);
}
