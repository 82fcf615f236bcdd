/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dropping the kernel's pages of an inode, on threads that serve no request and hold no lock.
 *
 * The kernel waits for every folio that a READ or WRITE has locked. Requests that the lock still
 * allows go on being served, so that wait ends. A request that needs more than is held (a WRITE
 * under a lock that is shared and now given up) can only be served after the lock has come back; so
 * the wait for the notification has a bound while such requests are in hand, and the notification
 * then ends in the background, as soon as they are answered: a folio that is filled or written by
 * them gets its bytes under the next possession, and is dropped after it.
 */
#include "fuse/front.h"
#include <stdlib.h>
#include <utlist.h>

#define INVAL_THREADS_MAX 32u
#define INVAL_BUSY_NS (20ull * 1000000)	 /* with requests of this inode in hand */
#define INVAL_MAX_NS (2000ull * 1000000) /* in any case */
#define INVAL_LOOK_NS (5ull * 1000000)

struct job {
	struct job *prev, *next;
	uint64_t ino;
	bool taken, done, abandoned; /* abandoned: its thread frees it */
};

struct inval {
	struct front *f;
	struct mtx mtx;
	struct cond work, done;
	struct job *queue;
	struct task *task[INVAL_THREADS_MAX];
	unsigned threads, idle;
	bool stop;
};

static void run_job(struct inval *v, struct job *j)
{
	DL_DELETE(v->queue, j);
	j->taken = true;
	mtx_unlock(&v->mtx);
	fuse_lowlevel_notify_inval_inode(v->f->se, j->ino, 0, 0);
	mtx_lock(&v->mtx);
	j->done = true;
	if (j->abandoned)
		free(j);
	else
		cond_broadcast(&v->done);
}

static void thread_main(void *arg)
{
	struct inval *v = arg;

	mtx_lock(&v->mtx);
	while (!v->stop || v->queue) {
		if (v->queue) {
			run_job(v, v->queue);
			continue;
		}
		v->idle++;
		cond_wait(&v->work, &v->mtx, CLOCK_FOREVER);
		v->idle--;
	}
	mtx_unlock(&v->mtx);
}

struct inval *inval_new(struct front *f)
{
	struct inval *v = calloc(1, sizeof(*v));

	lunfs_assert(v);
	v->f = f;
	mtx_init(&v->mtx, f->clk);
	cond_init(&v->work, f->clk);
	cond_init(&v->done, f->clk);
	return v;
}

/* The session's mount is gone: every notification ends at once. */
void inval_free(struct inval *v)
{
	mtx_lock(&v->mtx);
	v->stop = true;
	cond_broadcast(&v->work);
	mtx_unlock(&v->mtx);
	for (unsigned i = 0; i < v->threads; i++)
		v->f->clk->ops->task_join(v->f->clk, v->task[i]);
	cond_destroy(&v->done);
	cond_destroy(&v->work);
	mtx_destroy(&v->mtx);
	free(v);
}

static void post(struct inval *v, struct job *j)
{
	struct clock *clk = v->f->clk;

	DL_APPEND(v->queue, j);
	if (v->idle)
		cond_signal(&v->work);
	else if (v->threads < INVAL_THREADS_MAX &&
		 clk->ops->task_start(clk, "inval", thread_main, v, &v->task[v->threads]) == 0)
		v->threads++;
}

static bool waited_enough(struct inval *v, uint64_t ino, uint64_t since_ns)
{
	uint64_t waited = clock_now_ns(v->f->clk) - since_ns;

	if (waited >= INVAL_MAX_NS)
		return true;
	return waited >= INVAL_BUSY_NS && nodes_busy(v->f->nodes, ino);
}

void inval_pages(struct inval *v, uint64_t ino)
{
	uint64_t since = clock_now_ns(v->f->clk);
	struct job *j = calloc(1, sizeof(*j));

	lunfs_assert(j);
	j->ino = ino;
	mtx_lock(&v->mtx);
	post(v, j);
	while (!j->done && !waited_enough(v, ino, since))
		cond_wait(&v->done, &v->mtx, clock_now_ns(v->f->clk) + INVAL_LOOK_NS);
	if (j->done)
		free(j);
	else
		j->abandoned = true;
	mtx_unlock(&v->mtx);
}
