/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Worker threads. A request may wait for another host, so there is always one worker more than
 * requests in hand, up to a large bound; idle ones above a few go away. Each reads into a buffer
 * laid out so that the payload of a WRITE starts on a page boundary and goes to the device as it
 * is.
 *
 * Signals are blocked in every thread but taken by one that waits for them; it then tells the
 * session to end and wakes the readers with SIGUSR1 until the last of them has seen it.
 */
#include "fuse/front.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WORKERS_MAX 512u
#define WORKERS_IDLE 64u
#define BUF_BYTES ((1u << 20) + (2u << 12))
#define WRITE_HEADER_BYTES 80u /* fuse_in_header + fuse_write_in */

static _Thread_local uint8_t *answer_mem;

struct worker {
	struct worker *next;
	struct loop *loop;
	pthread_t thread;
	bool ended;
};

struct loop {
	struct front *f;
	pthread_mutex_t mtx;
	pthread_cond_t changed;
	struct worker *workers;
	unsigned total, idle;
	int error;
	bool signalled;
};

static void on_wake(int sig)
{
	(void)sig; /* only to make a blocking read return */
}

void front_block_signals(void)
{
	struct sigaction sa = {.sa_handler = on_wake};
	sigset_t set;

	sigaction(SIGUSR1, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void *worker_run(void *arg);

void *front_answer_buf(size_t len_bytes)
{
	return len_bytes <= BUF_BYTES - LUNFS_BLOCK_BYTES ? answer_mem : NULL;
}

static void worker_add(struct loop *l) /* l->mtx held */
{
	struct worker *w = calloc(1, sizeof(*w));

	lunfs_assert(w);
	w->loop = l;
	if (pthread_create(&w->thread, NULL, worker_run, w) != 0) {
		free(w); /* the others go on; the next request tries again */
		return;
	}
	w->next = l->workers;
	l->workers = w;
	l->total++;
	l->idle++;
}

/* One request. False: this worker ends. */
static bool serve_one(struct loop *l, struct fuse_buf *fb)
{
	struct front *f = l->f;
	int n = fuse_session_receive_buf(f->se, fb);
	bool go_on;

	if (n == -EINTR || n == -EAGAIN)
		return !fuse_session_exited(f->se);
	pthread_mutex_lock(&l->mtx);
	if (n <= 0) {
		if (n < 0 && n != -ENODEV)
			l->error = n;
		pthread_mutex_unlock(&l->mtx);
		fuse_session_exit(f->se);
		return false;
	}
	l->idle--;
	if (l->idle == 0 && l->total < WORKERS_MAX && atomic_load(&f->initialised))
		worker_add(l);
	pthread_mutex_unlock(&l->mtx);
	fuse_session_process_buf(f->se, fb);
	pthread_mutex_lock(&l->mtx);
	go_on = l->idle < WORKERS_IDLE && !fuse_session_exited(f->se);
	if (go_on)
		l->idle++; /* one that goes away must not make others believe that it will read */
	pthread_mutex_unlock(&l->mtx);
	return go_on;
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;
	struct loop *l = w->loop;
	/* Fresh pages come when they are first used; page-aligned. */
	char *mem = mmap(NULL, BUF_BYTES + LUNFS_BLOCK_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct fuse_buf fb = {.mem = mem + LUNFS_BLOCK_BYTES - WRITE_HEADER_BYTES};

	lunfs_assert(mem != MAP_FAILED);
	answer_mem = (uint8_t *)mem + LUNFS_BLOCK_BYTES;
	while (!fuse_session_exited(l->f->se) && serve_one(l, &fb))
		;
	munmap(mem, BUF_BYTES + LUNFS_BLOCK_BYTES);
	pthread_mutex_lock(&l->mtx);
	w->ended = true;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->mtx);
	return NULL;
}

/* Join the workers that have ended. l->mtx held; let go meanwhile. */
static void reap(struct loop *l)
{
	struct worker **pw = &l->workers;

	while (*pw) {
		struct worker *w = *pw;

		if (!w->ended) {
			pw = &w->next;
			continue;
		}
		*pw = w->next;
		l->total--;
		pthread_mutex_unlock(&l->mtx);
		pthread_join(w->thread, NULL);
		free(w);
		pthread_mutex_lock(&l->mtx);
		pw = &l->workers;
	}
}

static void wake_readers(struct loop *l) /* l->mtx held */
{
	for (struct worker *w = l->workers; w; w = w->next)
		if (!w->ended)
			pthread_kill(w->thread, SIGUSR1);
}

static void wait_changed(struct loop *l, long ms) /* l->mtx held */
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_nsec += ms * 1000000L;
	ts.tv_sec += ts.tv_nsec / 1000000000L;
	ts.tv_nsec %= 1000000000L;
	pthread_cond_timedwait(&l->changed, &l->mtx, &ts);
}

static void *signal_run(void *arg)
{
	struct loop *l = arg;
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	while (sigwait(&set, &sig) != 0)
		;
	pthread_mutex_lock(&l->mtx);
	if (!l->signalled)
		log_info("unmounting", "Signal %d (%s): unmounting.", sig, strsignal(sig));
	l->signalled = true;
	fuse_session_exit(l->f->se);
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->mtx);
	return NULL;
}

int front_loop(struct front *f)
{
	struct loop l = {
	    .f = f, .mtx = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	pthread_t sig_thread;

	if (pthread_create(&sig_thread, NULL, signal_run, &l) != 0)
		return -EAGAIN;
	pthread_mutex_lock(&l.mtx);
	worker_add(&l);
	if (!l.workers)
		l.error = -EAGAIN;
	while (l.workers) {
		wait_changed(&l, fuse_session_exited(f->se) ? 20 : 10000);
		if (fuse_session_exited(f->se)) {
			calls_interrupt_all(f);
			wake_readers(&l);
		}
		reap(&l);
	}
	l.signalled = true;
	pthread_mutex_unlock(&l.mtx);
	pthread_kill(sig_thread, SIGTERM);
	pthread_join(sig_thread, NULL);
	return l.error;
}
