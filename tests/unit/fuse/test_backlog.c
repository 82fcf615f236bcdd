/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A lock waits for the copies of pages that the kernel has yet to write back. */
#include "fuse/front.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../cluster/said.h"

#define INO 4711u
#define MSEC 1000000ull
#define SEC (1000 * MSEC)

static struct {
	struct front f;
	char proc[64];
	int gate; /* of processors that add up when they are let; -1: at once */
	pthread_t thread[4096], waiter;
	unsigned threads;
	atomic_ullong until;
	atomic_bool clear, returned;
} w;

/* ---- the kernel's files ---------------------------------------------------------------------- */

static const char *in_proc(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", w.proc, name);
	return path;
}

/* By another name first: whoever reads sees the old ones or the new ones. */
static void write_file(const char *name, const char *text)
{
	char tmp[128];
	FILE *fp;

	snprintf(tmp, sizeof(tmp), "%s", in_proc("new"));
	fp = fopen(tmp, "w");
	assert_non_null(fp);
	fputs(text, fp);
	fclose(fp);
	assert_int_equal(rename(tmp, in_proc(name)), 0);
}

static void copies_are(unsigned n)
{
	char text[128];

	snprintf(text, sizeof(text),
		 "nr_dirty 7\nnr_writeback_temp_x 7\nnr_writeback_temp %u\nx 7\n", n);
	write_file("vmstat", text);
}

static void processors_wait(void)
{
	assert_int_equal(unlink(in_proc("sys/vm/stat_refresh")), 0);
	assert_int_equal(mkfifo(in_proc("sys/vm/stat_refresh"), 0600), 0);
	w.gate = open(in_proc("sys/vm/stat_refresh"), O_RDWR | O_NONBLOCK);
	assert_true(w.gate >= 0);
}

static void let_add_up(unsigned times)
{
	while (times--)
		assert_int_equal(write(w.gate, "+", 1), 1);
}

/* ---- what stands around backlog.c ------------------------------------------------------------ */

struct job {
	void (*fn)(void *arg);
	void *arg;
};

static void *job_main(void *arg)
{
	struct job j = *(struct job *)arg;

	free(arg);
	j.fn(j.arg);
	return NULL;
}

void inval_run(struct inval *v, void (*fn)(void *arg), void *arg)
{
	struct job *j = malloc(sizeof(*j));

	(void)v;
	assert_non_null(j);
	assert_true(w.threads < sizeof(w.thread) / sizeof(w.thread[0]));
	*j = (struct job){fn, arg};
	assert_int_equal(pthread_create(&w.thread[w.threads++], NULL, job_main, j), 0);
}

static int set_up(void **state)
{
	(void)state;
	memset(&w, 0, sizeof(w));
	w.gate = -1;
	said_forget();
	snprintf(w.proc, sizeof(w.proc), "/tmp/lunfs-backlog.XXXXXX");
	assert_non_null(mkdtemp(w.proc));
	assert_int_equal(mkdir(in_proc("sys"), 0700), 0);
	assert_int_equal(mkdir(in_proc("sys/vm"), 0700), 0);
	write_file("sys/vm/stat_refresh", "");
	copies_are(0);
	assert_int_equal(clock_real_new(&w.f.clk), 0);
	w.f.mountpoint = "/mnt";
	w.f.nodes = nodes_new(w.f.clk);
	w.f.backlog = backlog_new(&w.f, w.proc);
	nodes_remember(w.f.nodes, (struct nodeid){INO, 7});
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	if (w.gate >= 0)
		let_add_up(100);
	assert_true(backlog_stop(w.f.backlog));
	for (unsigned i = 0; i < w.threads; i++)
		pthread_join(w.thread[i], NULL);
	if (w.gate >= 0)
		close(w.gate);
	backlog_free(w.f.backlog);
	nodes_free(w.f.nodes);
	w.f.clk->ops->destroy(w.f.clk);
	unlink(in_proc("sys/vm/stat_refresh"));
	unlink(in_proc("vmstat"));
	rmdir(in_proc("sys/vm"));
	rmdir(in_proc("sys"));
	rmdir(w.proc);
	return 0;
}

static bool wait_for(uint64_t ns)
{
	return backlog_wait(w.f.backlog, clock_now_ns(w.f.clk) + ns);
}

static void *waiter_main(void *arg)
{
	atomic_store(&w.clear, backlog_wait(w.f.backlog, w.until));
	atomic_store(&w.returned, true);
	return arg;
}

/* Somebody waits, and a look has begun, or waits for its processors. */
static void waiter_comes(uint64_t ns)
{
	w.until = clock_now_ns(w.f.clk) + ns;
	assert_int_equal(pthread_create(&w.waiter, NULL, waiter_main, NULL), 0);
	clock_sleep_ns(w.f.clk, 50 * MSEC);
}

static bool waiter_is_let_go(void)
{
	pthread_join(w.waiter, NULL);
	return atomic_load(&w.clear);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void where_there_are_no_copies_nobody_waits(void **state)
{
	(void)state;
	assert_true(wait_for(30 * SEC));
	assert_int_equal(w.threads, 1);
	assert_true(wait_for(30 * SEC));
	assert_int_equal(w.threads, 2);
	assert_int_equal(said_n, 0);
}

static void a_lock_goes_when_the_last_copy_is_written(void **state)
{
	(void)state;
	copies_are(2);
	waiter_comes(30 * SEC);
	copies_are(1);
	clock_sleep_ns(w.f.clk, 20 * MSEC);
	assert_false(atomic_load(&w.returned));
	copies_are(0);
	assert_true(waiter_is_let_go());
}

static void a_lock_stays_if_copies_are_left_in_the_end(void **state)
{
	uint64_t begun = clock_now_ns(w.f.clk), took;

	(void)state;
	copies_are(1);
	assert_false(wait_for(100 * MSEC));
	took = clock_now_ns(w.f.clk) - begun;
	assert_true(took >= 100 * MSEC && took < 30 * SEC);
	assert_true(w.threads > 2 && w.threads <= 101); /* at every millisecond */
	assert_int_equal(said_n, 0);
}

static void the_sum_is_read_once_all_processors_have_added_up(void **state)
{
	(void)state;
	processors_wait();
	copies_are(5);
	waiter_comes(30 * SEC);
	copies_are(0);
	let_add_up(2);
	assert_true(waiter_is_let_go());
	assert_int_equal(w.threads, 1);
}

static void a_sum_that_is_zero_only_once_counts_for_nothing(void **state)
{
	(void)state;
	processors_wait();
	waiter_comes(SEC);
	let_add_up(1);
	clock_sleep_ns(w.f.clk, 50 * MSEC);
	copies_are(3);
	let_add_up(1);
	assert_false(waiter_is_let_go());
}

static void a_processor_that_does_not_add_up_holds_nobody_for_longer(void **state)
{
	(void)state;
	processors_wait();
	assert_false(wait_for(100 * MSEC));
	assert_int_equal(w.threads, 1);
}

/* It may have been before the pages of who comes later were dropped. */
static void a_look_that_is_under_way_counts_only_for_who_waited_before(void **state)
{
	(void)state;
	processors_wait();
	waiter_comes(30 * SEC);
	let_add_up(1);
	clock_sleep_ns(w.f.clk, 20 * MSEC);
	assert_false(wait_for(20 * MSEC));
	let_add_up(1);
	assert_true(waiter_is_let_go());
	let_add_up(2);
	assert_true(wait_for(30 * SEC));
	assert_int_equal(w.threads, 2);
}

static void two_who_wait_share_a_look(void **state)
{
	uint64_t begun = clock_now_ns(w.f.clk);
	pthread_t other;

	(void)state;
	processors_wait();
	assert_false(wait_for(20 * MSEC)); /* a look is under way: both need the next one */
	waiter_comes(30 * SEC);
	other = w.waiter;
	waiter_comes(30 * SEC);
	let_add_up(4);
	assert_true(waiter_is_let_go());
	pthread_join(other, NULL);
	assert_true(atomic_load(&w.clear));
	assert_true(clock_now_ns(w.f.clk) < begun + 15 * SEC); /* both are told */
	assert_int_equal(w.threads, 2);
}

static void no_sum_counts_while_the_daemon_writes_back(void **state)
{
	struct data_req back = {.len = 4096, .pages = true, .back = true};

	(void)state;
	nodes_data_begin(w.f.nodes, INO, &back);
	assert_false(wait_for(50 * MSEC));
	nodes_data_end(w.f.nodes, INO, &back);
	assert_true(wait_for(30 * SEC));
}

static void no_processor_is_disturbed_while_the_daemon_writes_back(void **state)
{
	struct data_req back = {.len = 4096, .pages = true, .back = true};

	(void)state;
	assert_true(wait_for(30 * SEC));
	processors_wait(); /* a look that needs them would not come back */
	nodes_data_begin(w.f.nodes, INO, &back);
	assert_false(wait_for(50 * MSEC));
	assert_true(w.threads > 2);
	nodes_data_end(w.f.nodes, INO, &back);
}

static void no_sum_counts_if_the_daemon_wrote_back_meanwhile(void **state)
{
	struct data_req back = {.len = 4096, .pages = true, .back = true};

	(void)state;
	processors_wait();
	waiter_comes(SEC);
	nodes_data_begin(w.f.nodes, INO, &back);
	nodes_data_end(w.f.nodes, INO, &back);
	let_add_up(2);
	assert_false(waiter_is_let_go());
}

static void what_cannot_be_seen_is_not_waited_for_and_said_once(void **state)
{
	struct data_req back = {.len = 4096, .pages = true, .back = true};

	(void)state;
	nodes_data_begin(w.f.nodes, INO, &back);
	unlink(in_proc("vmstat"));
	assert_true(wait_for(30 * SEC));
	assert_true(wait_for(30 * SEC));
	SAYS("backlog-unknown", "/mnt: ");
	SAYS("backlog-unknown", "vmstat");
	SAYS("backlog-unknown", strerror(ENOENT));
	unlink(in_proc("sys/vm/stat_refresh"));
	assert_true(wait_for(30 * SEC));
	assert_int_equal(said_n, 1);
	write_file("sys/vm/stat_refresh", "");
	copies_are(1);
	assert_false(wait_for(20 * MSEC)); /* it can be seen again */
	nodes_data_end(w.f.nodes, INO, &back);
}

static void a_refresh_that_is_not_allowed_is_said(void **state)
{
	(void)state;
	copies_are(1);
	unlink(in_proc("sys/vm/stat_refresh"));
	assert_true(wait_for(30 * SEC));
	SAYS("backlog-unknown", "stat_refresh");
}

static void a_kernel_without_the_counter_is_told_of(void **state)
{
	(void)state;
	write_file("vmstat", "nr_dirty 7\nnr_writeback_temp_x 7\n");
	assert_true(wait_for(30 * SEC));
	SAYS("backlog-unknown", "nr_writeback_temp");
	SAYS("backlog-unknown", strerror(ENODATA));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(where_there_are_no_copies_nobody_waits),
	    T(a_lock_goes_when_the_last_copy_is_written),
	    T(a_lock_stays_if_copies_are_left_in_the_end),
	    T(the_sum_is_read_once_all_processors_have_added_up),
	    T(a_sum_that_is_zero_only_once_counts_for_nothing),
	    T(a_processor_that_does_not_add_up_holds_nobody_for_longer),
	    T(a_look_that_is_under_way_counts_only_for_who_waited_before),
	    T(two_who_wait_share_a_look),
	    T(no_sum_counts_while_the_daemon_writes_back),
	    T(no_processor_is_disturbed_while_the_daemon_writes_back),
	    T(no_sum_counts_if_the_daemon_wrote_back_meanwhile),
	    T(what_cannot_be_seen_is_not_waited_for_and_said_once),
	    T(a_refresh_that_is_not_allowed_is_said),
	    T(a_kernel_without_the_counter_is_told_of),
	};

	return cmocka_run_group_tests_name("fuse-backlog", tests, NULL, NULL);
}
