/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whose wait ends with EINTR. */
#include "fuse/front.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static struct {
	struct front f;
	struct fuse_ctx who;
	fuse_interrupt_func_t on_interrupt;
	void *arg;
	unsigned interrupted;
} w;

/* ---- what stands around call.c --------------------------------------------------------------- */

void front_waits(void)
{
}

uint64_t nodes_generation(struct nodes *n, uint64_t ino)
{
	(void)n;
	return ino;
}

void vol_interrupt(struct volume *v, struct lock_intr *intr)
{
	(void)v;
	(void)intr;
	w.interrupted++;
}

const struct fuse_ctx *fuse_req_ctx(fuse_req_t req)
{
	(void)req;
	return &w.who;
}

void *fuse_req_userdata(fuse_req_t req)
{
	(void)req;
	return &w.f;
}

void fuse_req_interrupt_func(fuse_req_t req, fuse_interrupt_func_t func, void *data)
{
	(void)req;
	w.on_interrupt = func;
	w.arg = data;
}

/* ---- tests ----------------------------------------------------------------------------------- */

/* Does a request of thread @tid end when a signal comes for that thread? */
static bool ends(pid_t tid)
{
	struct call c;

	w.interrupted = 0;
	w.who.pid = tid;
	call_begin(&c, NULL);
	w.on_interrupt(NULL, w.arg);
	call_end(&c, NULL);
	return w.interrupted != 0;
}

static void *say_tid(void *tid)
{
	*(pid_t *)tid = gettid();
	return NULL;
}

static void who_lives_goes_on_and_who_is_gone_does_not(void **state)
{
	pthread_t t;
	pid_t gone;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, say_tid, &gone), 0);
	pthread_join(t, NULL);
	assert_true(ends(gone));
	assert_false(ends(gettid()));
}

static void who_lives_goes_on_where_no_file_can_be_opened(void **state)
{
	struct rlimit was, none;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	none = was;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(open("/proc/self/status", O_RDONLY), -1);
	assert_false(ends(gettid()));
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
}

static int set_up(void **state)
{
	(void)state;
	if (clock_real_new(&w.f.clk))
		return -1;
	mtx_init(&w.f.calls_mtx, w.f.clk);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(who_lives_goes_on_and_who_is_gone_does_not),
	    cmocka_unit_test(who_lives_goes_on_where_no_file_can_be_opened),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
