/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asking for many inodes side by side: tasks that each take the lock of one after the other, from
 * whatever host has it. That host finds up to ASKERS wishes in one
 * read of its row, commits once for all of them, and gives the locks up side by side.
 */
#include "vol/vol_impl.h"
#include <stdlib.h>

#define ASKERS LUNFS_WISHES /* as many as a sector of the request board shows at once */

struct askers {
	struct volume *v;
	struct mtx mtx;
	struct cond work, done;
	struct lock_intr intr;
	struct task *task[ASKERS]; /* started when they are needed first */
	unsigned n;
	const struct nodeid *id; /* what is asked for now */
	enum lock_mode mode;
	size_t total, next, ended, got;
	bool stop;
};

struct one {
	struct nodeid id;
	enum lock_mode mode;
};

static int ask_body(struct op *o, void *arg)
{
	const struct one *x = arg;
	struct inode *i;

	return op_get(o, x->id, x->mode, LOCAL_SHARED, &i);
}

/* One that is gone meanwhile is not to be kept from who has its cell next. */
static bool ask_one(struct askers *k, struct nodeid id, enum lock_mode mode)
{
	struct op_ctx c = {.intr = &k->intr};
	struct one x = {id, mode};
	struct op o;
	int rc;

	op_init(&o, k->v, &c);
	o.reading = true;
	o.pin_flags = LOCK_AHEAD;
	rc = op_run(&o, ask_body, &x);
	if (rc == -ESTALE)
		lock_drop(k->v->locks, id.ino);
	return rc == 0;
}

static void asker(void *arg)
{
	struct askers *k = arg;

	mtx_lock(&k->mtx);
	while (!k->stop) {
		enum lock_mode mode;
		struct nodeid id;
		bool got;

		if (k->next == k->total) {
			cond_wait(&k->work, &k->mtx, CLOCK_FOREVER);
			continue;
		}
		id = k->id[k->next++];
		mode = k->mode;
		mtx_unlock(&k->mtx);
		got = ask_one(k, id, mode);
		mtx_lock(&k->mtx);
		k->got += got;
		if (++k->ended == k->total || k->stop)
			cond_signal(&k->done);
	}
	mtx_unlock(&k->mtx);
}

static void start_tasks(struct askers *k, size_t want)
{
	struct clock *clk = k->v->env.clk;

	while (k->n < ASKERS && k->n < want &&
	       clk->ops->task_start(clk, "vol-asker", asker, k, &k->task[k->n]) == 0)
		k->n++;
}

/* What is under way ends soon, and nothing more begins; with the mutex held, let go meanwhile. */
static void give_up(struct askers *k)
{
	k->total = k->next;
	mtx_unlock(&k->mtx);
	vol_interrupt(k->v, &k->intr);
	mtx_lock(&k->mtx);
	while (k->ended < k->total)
		cond_wait(&k->done, &k->mtx, CLOCK_FOREVER);
	if (!k->stop)
		atomic_store(&k->intr.interrupted, false);
}

size_t askers_get(struct askers *k, const struct nodeid *id, size_t n, enum lock_mode mode,
		  uint64_t within_ns)
{
	uint64_t until = clock_now_ns(k->v->env.clk) + within_ns;
	size_t got;

	mtx_lock(&k->mtx);
	if (!k->stop)
		start_tasks(k, n);
	k->id = id;
	k->mode = mode;
	k->next = k->ended = k->got = 0;
	k->total = k->n && !k->stop ? n : 0;
	cond_broadcast(&k->work);
	while (k->ended < k->total && !k->stop)
		if (cond_wait(&k->done, &k->mtx, until) == -ETIMEDOUT)
			break;
	if (k->ended < k->total)
		give_up(k);
	got = k->got;
	k->total = k->next = 0;
	mtx_unlock(&k->mtx);
	return got;
}

struct askers *askers_new(struct volume *v)
{
	struct askers *k = calloc(1, sizeof(*k));

	lunfs_assert(k);
	k->v = v;
	mtx_init(&k->mtx, v->env.clk);
	cond_init(&k->work, v->env.clk);
	cond_init(&k->done, v->env.clk);
	return k;
}

void askers_stop(struct askers *k)
{
	struct clock *clk = k->v->env.clk;

	mtx_lock(&k->mtx);
	k->stop = true;
	cond_broadcast(&k->work);
	cond_signal(&k->done);
	mtx_unlock(&k->mtx);
	vol_interrupt(k->v, &k->intr);
	for (unsigned i = 0; i < k->n; i++)
		clk->ops->task_join(clk, k->task[i]);
}

void askers_free(struct askers *k)
{
	cond_destroy(&k->done);
	cond_destroy(&k->work);
	mtx_destroy(&k->mtx);
	free(k);
}
