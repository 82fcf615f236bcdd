/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The real clock: CLOCK_BOOTTIME for "now", POSIX threads, getrandom(2). Condition variables can
 * only wait by CLOCK_MONOTONIC, which stands still while the machine is suspended; so a long wait
 * is cut into slices after each of which CLOCK_BOOTTIME decides.
 */
#include "base/log.h"

#include <errno.h>
#include <lunfs/dev.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define NS_PER_S 1000000000ull
#define WAIT_SLICE_NS NS_PER_S
#define TASK_STACK_BYTES (1ul << 20)

struct task {
	pthread_t thread;
	char name[16];
	void (*fn)(void *);
	void *arg;
};

static uint64_t clock_read(clockid_t id)
{
	struct timespec ts;

	lunfs_assert(clock_gettime(id, &ts) == 0);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static struct timespec to_timespec(uint64_t ns)
{
	return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S),
				 .tv_nsec = (long)(ns % NS_PER_S)};
}

static uint64_t real_now_ns(struct clock *c)
{
	(void)c;
	return clock_read(CLOCK_BOOTTIME);
}

static void real_realtime(struct clock *c, struct timespec *out)
{
	(void)c;
	lunfs_assert(clock_gettime(CLOCK_REALTIME, out) == 0);
}

static void real_random(struct clock *c, void *buf, size_t len)
{
	uint8_t *p = buf;

	(void)c;
	while (len > 0) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0) {
			lunfs_assert(errno == EINTR);
			continue;
		}
		p += n;
		len -= (size_t)n;
	}
}

static void *task_main(void *p)
{
	struct task *t = p;

	pthread_setname_np(pthread_self(), t->name);
	t->fn(t->arg);
	return NULL;
}

/* Signals belong to the main thread; those that a fault raises stay deliverable. */
static void block_signals(sigset_t *old)
{
	sigset_t all;

	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGABRT);
	sigdelset(&all, SIGTRAP);
	pthread_sigmask(SIG_SETMASK, &all, old);
}

static int real_task_start(struct clock *c, const char *name, void (*fn)(void *), void *arg,
			   struct task **out)
{
	struct task *t = calloc(1, sizeof(*t));
	pthread_attr_t attr;
	sigset_t old;
	int err;

	(void)c;
	if (!t)
		return -ENOMEM;
	t->fn = fn;
	t->arg = arg;
	snprintf(t->name, sizeof(t->name), "%s", name);
	if (pthread_attr_init(&attr) != 0) {
		free(t);
		return -ENOMEM;
	}
	pthread_attr_setstacksize(&attr, TASK_STACK_BYTES);
	block_signals(&old);
	*out = t; /* the task may look at it as soon as it runs */
	err = pthread_create(&t->thread, &attr, task_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (err) {
		*out = NULL;
		free(t);
	}
	return -err;
}

static void real_task_join(struct clock *c, struct task *t)
{
	(void)c;
	lunfs_assert(pthread_join(t->thread, NULL) == 0);
	free(t);
}

static void real_mtx_init(struct mtx *m)
{
	lunfs_assert(pthread_mutex_init(&m->pt, NULL) == 0);
}

static void real_mtx_destroy(struct mtx *m)
{
	lunfs_assert(pthread_mutex_destroy(&m->pt) == 0);
}

static void real_mtx_lock(struct mtx *m)
{
	lunfs_assert(pthread_mutex_lock(&m->pt) == 0);
}

static void real_mtx_unlock(struct mtx *m)
{
	lunfs_assert(pthread_mutex_unlock(&m->pt) == 0);
}

static void real_cond_init(struct cond *cv)
{
	pthread_condattr_t attr;

	lunfs_assert(pthread_condattr_init(&attr) == 0);
	lunfs_assert(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
	lunfs_assert(pthread_cond_init(&cv->pt, &attr) == 0);
	pthread_condattr_destroy(&attr);
}

static void real_cond_destroy(struct cond *cv)
{
	lunfs_assert(pthread_cond_destroy(&cv->pt) == 0);
}

static _Thread_local void (*on_sleep)(void);

void clock_real_on_sleep(void (*fn)(void))
{
	on_sleep = fn;
}

static void will_sleep(void)
{
	if (on_sleep)
		on_sleep();
}

static int real_cond_wait(struct cond *cv, struct mtx *m, uint64_t until_ns)
{
	will_sleep();
	if (until_ns == CLOCK_FOREVER) {
		lunfs_assert(pthread_cond_wait(&cv->pt, &m->pt) == 0);
		return 0;
	}
	for (;;) {
		uint64_t now = clock_read(CLOCK_BOOTTIME), left;
		struct timespec ts;
		int err;

		if (now >= until_ns)
			return -ETIMEDOUT;
		left = until_ns - now < WAIT_SLICE_NS ? until_ns - now : WAIT_SLICE_NS;
		ts = to_timespec(clock_read(CLOCK_MONOTONIC) + left);
		err = pthread_cond_timedwait(&cv->pt, &m->pt, &ts);
		if (err == 0)
			return 0;
		lunfs_assert(err == ETIMEDOUT);
	}
}

static void real_cond_signal(struct cond *cv)
{
	lunfs_assert(pthread_cond_signal(&cv->pt) == 0);
}

static void real_cond_broadcast(struct cond *cv)
{
	lunfs_assert(pthread_cond_broadcast(&cv->pt) == 0);
}

static void real_sleep_until(struct clock *c, uint64_t until_ns)
{
	struct timespec ts = to_timespec(until_ns);

	(void)c;
	will_sleep();
	while (clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static void real_destroy(struct clock *c)
{
	free(c);
}

static const struct clock_ops real_ops = {
    .now_ns = real_now_ns,
    .realtime = real_realtime,
    .random = real_random,
    .task_start = real_task_start,
    .task_join = real_task_join,
    .mtx_init = real_mtx_init,
    .mtx_destroy = real_mtx_destroy,
    .mtx_lock = real_mtx_lock,
    .mtx_unlock = real_mtx_unlock,
    .cond_init = real_cond_init,
    .cond_destroy = real_cond_destroy,
    .cond_wait = real_cond_wait,
    .cond_signal = real_cond_signal,
    .cond_broadcast = real_cond_broadcast,
    .sleep_until = real_sleep_until,
    .destroy = real_destroy,
};

int clock_real_new(struct clock **out)
{
	struct clock *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->ops = &real_ops;
	*out = c;
	return 0;
}
