/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dropping the kernel's pages of an inode, on threads that serve no request and hold no lock.
 *
 * The kernel waits for every folio that is locked for a request. One that is being served ends by
 * itself. One that waits for the lock which is about to be given up ends only under the next
 * possession; so its range is left out: the folio of a READ holds nothing yet, and gets its bytes
 * then. The pages of a WRITE may also be there, unlocked, from before: its range is dropped last,
 * in the background if that has to wait, but for write-back: such a page is dirty, and not locked.
 * A request that came too late to be left out and is in the way makes for another round around it,
 * while the first goes on in the background: nothing behind it is left standing, above all no dirty
 * page, which would be written back when others have changed the file. Where there are so many of
 * these that they take their time, or somebody waits in the kernel for a request that waits for the
 * lock, the lock is not given up for now: who waits for it here is served, and it is tried again.
 * The same where the kernel writes back from copies, and some are left when the pages have gone
 * (backlog.c).
 */
#include "fuse/front.h"
#include <errno.h>
#include <stdlib.h>
#include <utlist.h>

#define INVAL_THREADS_MAX 32u
#define INVAL_SPANS_MAX 64u
#define INVAL_LOOK_NS (3ull * 1000000)	 /* so long before looking who is in the way */
#define INVAL_LAST_NS (5ull * 1000000)	 /* for the range of each WRITE that waits */
#define INVAL_MAX_NS (2000ull * 1000000) /* in any case; then the lock stays for now */
/* Names in a directory that others want: none are given out for so long. */
#define NAMES_QUIET_NS (2000ull * 1000000)

struct job {
	struct job *prev, *next;
	uint64_t ino;
	struct span span[INVAL_SPANS_MAX * 2 + 1]; /* to drop, one after the other */
	size_t n, n_holes, pos;			   /* all, those that must end, those that did */
	bool abandoned;				   /* its thread frees it */
	void (*fn)(void *arg);			   /* something else is to be done */
	void *arg;
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
	if (j->fn) {
		mtx_unlock(&v->mtx);
		j->fn(j->arg);
		mtx_lock(&v->mtx);
	}
	while (j->pos < j->n) {
		const struct span *s = &j->span[j->pos];

		mtx_unlock(&v->mtx);
		fuse_lowlevel_notify_inval_inode(v->f->se, j->ino, (off_t)s->off,
						 s->end == UINT64_MAX ? 0
								      : (off_t)(s->end - s->off));
		mtx_lock(&v->mtx);
		j->pos++;
		cond_broadcast(&v->done);
	}
	if (j->abandoned)
		free(j);
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

	struct job *q;
	unsigned queued;

	DL_APPEND(v->queue, j);
	DL_COUNT(v->queue, q, queued);
	if (queued <= v->idle)
		cond_signal(&v->work);
	else if (v->threads < INVAL_THREADS_MAX &&
		 clk->ops->task_start(clk, "inval", thread_main, v, &v->task[v->threads]) == 0)
		v->threads++;
}

/* Everything but where somebody waits, then where a WRITE waits. */
static struct job *job_around(uint64_t ino, const struct span *wait, size_t n)
{
	struct job *j = calloc(1, sizeof(*j));
	uint64_t pos = 0;

	lunfs_assert(j);
	j->ino = ino;
	for (size_t i = 0; i < n; i++) {
		if (wait[i].off > pos)
			j->span[j->n++] = (struct span){.off = pos, .end = wait[i].off};
		if (wait[i].end > pos)
			pos = wait[i].end;
	}
	j->span[j->n++] = (struct span){.off = pos, .end = UINT64_MAX};
	j->n_holes = j->n;
	for (size_t i = 0; i < n; i++)
		if (!wait[i].fill)
			j->span[j->n++] = wait[i];
	return j;
}

/* Does somebody wait who did not when the round began? */
static bool someone_came(struct nodes *nodes, uint64_t ino, const struct span *wait, size_t n)
{
	struct span now[INVAL_SPANS_MAX];
	size_t k = nodes_waiting(nodes, ino, now, INVAL_SPANS_MAX), old = 0;

	for (size_t i = 0; i < k; i++) {
		while (old < n && wait[old].off < now[i].off)
			old++;
		if (old == n || wait[old].off != now[i].off || wait[old].end < now[i].end)
			return true;
	}
	return false;
}

enum round { ROUND_DONE, ROUND_AGAIN, ROUND_LATE };

struct last { /* the ranges of WRITEs that wait: for how long? */
	size_t pos;
	uint64_t begun; /* write-back of the inode */
	uint64_t until_ns;
};

/* One page is written back after the other, each by a request of its own. */
static void look_at_last(struct inval *v, const struct job *j, struct last *l)
{
	uint64_t begun;
	bool goes_on = nodes_writes_back(v->f->nodes, j->ino, &begun) || begun != l->begun;

	if (j->pos < j->n_holes || (j->pos < l->pos && !goes_on))
		return;
	l->pos = j->pos + 1;
	l->begun = begun;
	l->until_ns = clock_now_ns(v->f->clk) + INVAL_LAST_NS;
}

/* One round around who waits now. v->mtx held. */
static enum round drop_round(struct inval *v, uint64_t ino, uint64_t until)
{
	struct span wait[INVAL_SPANS_MAX];
	size_t n = nodes_waiting(v->f->nodes, ino, wait, INVAL_SPANS_MAX);
	struct job *j = job_around(ino, wait, n);
	struct last last = {.until_ns = CLOCK_FOREVER};
	uint64_t now, look = clock_now_ns(v->f->clk) + INVAL_LOOK_NS;
	enum round end = ROUND_DONE;
	bool again = false;

	post(v, j);
	while (j->pos < j->n && !again) {
		look_at_last(v, j, &last);
		now = clock_now_ns(v->f->clk);
		if (now >= until) {
			end = ROUND_LATE;
			break;
		}
		if (now >= last.until_ns)
			break;
		if (now >= look) {
			look = now + INVAL_LOOK_NS;
			again = j->pos < j->n_holes && someone_came(v->f->nodes, ino, wait, n);
		} else {
			cond_wait(&v->done, &v->mtx, look);
		}
	}
	if (again)
		end = ROUND_AGAIN;
	if (j->pos == j->n)
		free(j);
	else
		j->abandoned = true;
	return end;
}

static bool drop_pages(struct inval *v, uint64_t ino, uint64_t until)
{
	enum round end;

	mtx_lock(&v->mtx);
	do
		end = drop_round(v, ino, until);
	while (end == ROUND_AGAIN);
	mtx_unlock(&v->mtx);
	return end == ROUND_DONE;
}

bool inval_pages(struct inval *v, uint64_t ino)
{
	return drop_pages(v, ino, clock_now_ns(v->f->clk) + INVAL_MAX_NS);
}

void inval_later(struct inval *v, uint64_t ino)
{
	struct job *j = job_around(ino, NULL, 0);

	j->abandoned = true;
	mtx_lock(&v->mtx);
	post(v, j);
	mtx_unlock(&v->mtx);
}

void inval_run(struct inval *v, void (*fn)(void *arg), void *arg)
{
	struct job *j = calloc(1, sizeof(*j));

	lunfs_assert(j);
	j->abandoned = true;
	j->fn = fn;
	j->arg = arg;
	mtx_lock(&v->mtx);
	post(v, j);
	mtx_unlock(&v->mtx);
}

/* ---- upcalls --------------------------------------------------------------------------------- */

void front_prepare(void *ctx, uint64_t ino)
{
	struct front *f = ctx;

	if (f->inval && !atomic_load(&f->unmounted))
		sizes_settle(f->sizes, ino);
}

/* What was stored to mappings is on its way no more: neither in pages nor in copies of them. */
static bool pages_are_home(struct front *f, uint64_t ino)
{
	uint64_t until = clock_now_ns(f->clk) + INVAL_MAX_NS;

	if (!drop_pages(f->inval, ino, until))
		return false;
	return f->epochs || !nodes_maybe_dirtied(f->nodes, ino) || backlog_wait(f->backlog, until);
}

int front_downgrade(void *ctx, uint64_t ino)
{
	struct front *f = ctx;

	/*
	 * Requests that mark pages do so before they take the lock and with the folio locked in the
	 * kernel, so a page that is still on its way in is waited for by the notification.
	 */
	if (!f->inval || atomic_load(&f->unmounted))
		return 0;
	if (!nodes_take_pages(f->nodes, ino) || pages_are_home(f, ino))
		return 0;
	nodes_leave_pages(f->nodes, ino);
	log_info("pages-kept",
		 "%s: the kernel takes its time to write back and drop what it caches of inode "
		 "%llu, which another host wants: it goes on, and that host waits.",
		 f->mountpoint, (unsigned long long)ino);
	return -EAGAIN;
}

int front_invalidate(void *ctx, uint64_t ino)
{
	struct front *f = ctx;
	unsigned what;

	if (!f->inval || atomic_load(&f->unmounted))
		return 0;
	/* First this, then the marks: keep.c does it the other way round. */
	atomic_fetch_add(&f->revokes, 1);
	what = nodes_revoke(f->nodes, ino, atomic_load(&f->epoch),
			    clock_now_ns(f->clk) + NAMES_QUIET_NS);
	if (what & NODE_NAMES)
		keep_no_names(f);
	if (what & NODE_ATTRS)
		keep_no_attrs(f, ino);
	return front_downgrade(f, ino);
}

static void drop_attrs(struct front *f)
{
	uint64_t *ino;
	size_t n = nodes_with_attrs(f->nodes, &ino);

	for (size_t i = 0; i < n; i++)
		if (fuse_lowlevel_notify_inval_inode(f->se, front_nodeid(f, ino[i]), -1, 0) ==
		    -ENODEV)
			break; /* the mount is gone */
	free(ino);
}

void front_drop_all(struct front *f)
{
	uint64_t *ino;
	size_t n;

	if (!f->inval || atomic_load(&f->unmounted))
		return;
	atomic_fetch_add(&f->revokes, 1);
	n = nodes_with_pages(f->nodes, &ino);
	for (size_t i = 0; i < n; i++)
		inval_later(f->inval, ino[i]);
	free(ino);
	drop_attrs(f);
	keep_no_names(f);
}

void front_end(struct front *f)
{
	if (!f->inval)
		return;
	drop_attrs(f);
	keep_end_epoch(f);
	atomic_store(&f->unmounted, true);
}
