/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who looks after a lane next: the one who reads, or where nobody does, a thread kept for that. */
#include <lunfs/dev.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fuse/lanes.h"

struct fake { /* a lane of the device */
	struct dev_lane lane; /* first */
	int fd;		      /* can be read: nothing hangs */
	bool seen;	      /* somebody looks after it */
	unsigned freed;
};

static struct {
	struct dev dev;
	struct fake fake[4];
	unsigned made, most;
	pthread_mutex_t mtx;
	pthread_cond_t back;
} k;

static void see(struct dev_lane *l)
{
	pthread_mutex_lock(&k.mtx);
	((struct fake *)l)->seen = true;
	pthread_cond_signal(&k.back);
	pthread_mutex_unlock(&k.mtx);
}

static void fake_turn(struct dev_lane *l)
{
	see(l);
}

static int fake_fd(const struct dev_lane *l)
{
	return ((const struct fake *)l)->fd;
}

static void fake_wait(struct dev_lane *l, int fd)
{
	struct pollfd p = {.fd = fake_fd(l), .events = POLLIN};

	assert_int_equal(fd, -1);
	see(l);
	assert_int_equal(poll(&p, 1, -1), 1);
	pthread_mutex_lock(&k.mtx);
	l->on_way--;
	pthread_cond_signal(&k.back);
	pthread_mutex_unlock(&k.mtx);
}

static void fake_free(struct dev_lane *l)
{
	close(fake_fd(l));
	((struct fake *)l)->freed++;
}

static const struct dev_lane_ops fake_ops = {
    .turn = fake_turn, .wait = fake_wait, .fd = fake_fd, .free = fake_free};

static struct dev_lane *fake_new(struct dev *d)
{
	struct fake *f = &k.fake[k.made];

	if (k.made == k.most)
		return NULL;
	k.made++;
	*f = (struct fake){.lane = {.dev = d, .ops = &fake_ops}, .fd = eventfd(1, EFD_CLOEXEC)};
	assert_true(f->fd >= 0);
	return &f->lane;
}

static const struct dev_ops dev_ops = {.lane_new = fake_new};

static int set_up(void **state)
{
	memset(&k, 0, sizeof(k));
	k.dev.ops = &dev_ops;
	k.most = 4;
	pthread_mutex_init(&k.mtx, NULL);
	pthread_cond_init(&k.back, NULL);
	*state = lanes_new(&k.dev);
	assert_non_null(*state);
	return 0;
}

static int tear_down(void **state)
{
	lanes_free(*state);
	for (unsigned i = 0; i < k.made; i++)
		assert_int_equal(k.fake[i].freed, 1);
	return 0;
}

static void wait_more(void) /* k.mtx held */
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	if (pthread_cond_timedwait(&k.back, &k.mtx, &until)) {
		print_error("nobody looks after it\n");
		abort(); /* nothing can be torn down */
	}
}

/* Somebody else looks after it until all is back. */
static void wait_back(const struct lane *n)
{
	pthread_mutex_lock(&k.mtx);
	while (n->dev->on_way)
		wait_more();
	pthread_mutex_unlock(&k.mtx);
}

static void wait_seen(const struct lane *n)
{
	const struct fake *f = (const struct fake *)n->dev;

	pthread_mutex_lock(&k.mtx);
	while (!f->seen)
		wait_more();
	pthread_mutex_unlock(&k.mtx);
}

static struct lane *busy_lane(struct lanes *l)
{
	bool left;
	struct lane *n = lanes_take(l, true, &left);

	assert_non_null(n);
	assert_false(left);
	n->dev->on_way = 3;
	return n;
}

static void what_is_left_comes_before_what_is_idle(void **state)
{
	struct lanes *l = *state;
	struct lane *busy = busy_lane(l), *idle, *n;
	bool left;

	idle = lanes_take(l, true, &left);
	assert_ptr_not_equal(idle, busy);
	lanes_leave(l, busy);
	lanes_give(l, idle);
	n = lanes_take(l, true, &left);
	assert_ptr_equal(n, busy);
	assert_true(left);
	assert_int_equal(n->dev->on_way, 3);
	assert_ptr_equal(lanes_take(l, true, &left), idle);
	assert_false(left);
	assert_int_equal(k.made, 2);
	lanes_give(l, idle);
	lanes_end(l, busy);
}

static void who_cannot_read_beside_one_takes_none(void **state)
{
	struct lanes *l = *state;
	struct lane *busy = busy_lane(l);
	bool left;

	assert_null(lanes_take(l, false, &left));
	lanes_leave(l, busy);
	assert_null(lanes_take(l, false, &left));
	assert_false(left);
	wait_back(busy); /* somebody else looks after what was left */
	assert_null(lanes_take(l, false, &left));
	assert_int_equal(k.made, 1);
}

static void one_for_which_no_reader_comes_is_looked_after(void **state)
{
	struct lanes *l = *state;
	struct lane *n = busy_lane(l);

	lanes_leave(l, n);
	lanes_strand(l);
	wait_back(n);
}

static void one_that_hangs_keeps_no_other_waiting(void **state)
{
	struct lanes *l = *state;
	struct lane *hangs = busy_lane(l), *other = busy_lane(l);
	eventfd_t count;

	assert_int_equal(eventfd_read(dev_lane_fd(hangs->dev), &count), 0);
	lanes_leave(l, hangs);
	lanes_strand(l);
	wait_seen(hangs);
	lanes_leave(l, other);
	lanes_strand(l);
	wait_back(other);
	assert_int_equal(hangs->dev->on_way, 3);
	assert_int_equal(eventfd_write(dev_lane_fd(hangs->dev), 1), 0);
	wait_back(hangs);
}

static void one_that_a_reader_has_taken_after_all_is_his(void **state)
{
	struct lanes *l = *state;
	struct lane *n = busy_lane(l);
	bool left;

	lanes_leave(l, n);
	assert_ptr_equal(lanes_take(l, true, &left), n);
	lanes_strand(l);
	lanes_end(l, n);
}

static void what_is_left_when_nobody_reads_any_more_is_looked_after(void **state)
{
	struct lanes *l = *state;
	struct lane *before = busy_lane(l), *after = busy_lane(l);

	lanes_leave(l, before);
	lanes_close(l);
	wait_back(before);
	lanes_leave(l, after);
	wait_back(after);
}

static void without_one_it_goes_on(void **state)
{
	struct lanes *l = *state;
	struct lane *n;
	bool left;

	k.most = 1;
	n = lanes_take(l, true, &left);
	assert_non_null(n);
	assert_null(lanes_take(l, true, &left));
	lanes_give(l, n);
	assert_ptr_equal(lanes_take(l, true, &left), n);
	lanes_give(l, n);
}

static void when_there_are_more_again_it_gets_one(void **state)
{
	struct lanes *l = *state;
	struct lane *n, *more = NULL;
	bool left;

	k.most = 1;
	n = lanes_take(l, true, &left);
	assert_null(lanes_take(l, true, &left));
	k.most = 2;
	for (unsigned tries = 0; !more && tries < 2000; tries++)
		more = lanes_take(l, true, &left);
	assert_non_null(more);
	lanes_give(l, n);
	lanes_give(l, more);
}

#define ON_LANES(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    ON_LANES(what_is_left_comes_before_what_is_idle),
	    ON_LANES(who_cannot_read_beside_one_takes_none),
	    ON_LANES(one_for_which_no_reader_comes_is_looked_after),
	    ON_LANES(one_that_hangs_keeps_no_other_waiting),
	    ON_LANES(one_that_a_reader_has_taken_after_all_is_his),
	    ON_LANES(what_is_left_when_nobody_reads_any_more_is_looked_after),
	    ON_LANES(without_one_it_goes_on),
	    ON_LANES(when_there_are_more_again_it_gets_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
