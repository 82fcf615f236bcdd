/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The threads of pool.h. They start with the first batch, and the caller works too, so a batch ends
 * even when no thread could be started.
 */
#include "dev/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

#define POOL_THREADS 8u

struct job {
	void (*fn)(void *arg, size_t i);
	void *arg;
	size_t n, next, left; /* handed out so far; not ended yet */
	struct job *link;
};

struct pool {
	pthread_mutex_t mtx;
	pthread_cond_t work, ended;
	struct job *first; /* those with something left to hand out */
	pthread_t thread[POOL_THREADS];
	unsigned threads;
	bool started, stop;
};

struct pool *pool_new(void)
{
	struct pool *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	pthread_mutex_init(&p->mtx, NULL);
	pthread_cond_init(&p->work, NULL);
	pthread_cond_init(&p->ended, NULL);
	return p;
}

/* One element of @j, which has one left to hand out. Mutex held on entry and return. */
static void do_one(struct pool *p, struct job *j)
{
	size_t i = j->next++;

	if (j->next == j->n) {
		struct job **at = &p->first;

		while (*at != j)
			at = &(*at)->link;
		*at = j->link;
	}
	pthread_mutex_unlock(&p->mtx);
	j->fn(j->arg, i);
	pthread_mutex_lock(&p->mtx);
	if (!--j->left)
		pthread_cond_broadcast(&p->ended);
}

static void *worker(void *arg)
{
	struct pool *p = arg;

	pthread_mutex_lock(&p->mtx);
	while (!p->stop) {
		if (p->first)
			do_one(p, p->first);
		else
			pthread_cond_wait(&p->work, &p->mtx);
	}
	pthread_mutex_unlock(&p->mtx);
	return NULL;
}

/* Signals are the daemon's business, not these threads'. Mutex held. */
static void start(struct pool *p)
{
	sigset_t all, old;

	if (p->started)
		return;
	p->started = true;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (p->threads < POOL_THREADS &&
	       !pthread_create(&p->thread[p->threads], NULL, worker, p))
		p->threads++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void pool_run(struct pool *p, size_t n, void (*fn)(void *arg, size_t i), void *arg)
{
	struct job j = {.fn = fn, .arg = arg, .n = n, .left = n};
	struct job **at = &p->first;

	if (!n)
		return;
	pthread_mutex_lock(&p->mtx);
	start(p);
	while (*at)
		at = &(*at)->link;
	*at = &j;
	pthread_cond_broadcast(&p->work);
	while (j.next < j.n)
		do_one(p, &j);
	while (j.left)
		pthread_cond_wait(&p->ended, &p->mtx);
	pthread_mutex_unlock(&p->mtx);
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->mtx);
	p->stop = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->mtx);
	for (unsigned i = 0; i < p->threads; i++)
		pthread_join(p->thread[i], NULL);
	pthread_cond_destroy(&p->work);
	pthread_cond_destroy(&p->ended);
	pthread_mutex_destroy(&p->mtx);
	free(p);
}
