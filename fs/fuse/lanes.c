/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/lanes.h"

#include "base/log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct lanes {
	struct dev *dev;
	pthread_mutex_t mtx; /* a leaf */
	pthread_cond_t to_mind;
	pthread_t minder;
	struct lane *left, *idle;
	unsigned stranded; /* of those that were left: so many more than readers will come */
	bool closed, end;
	atomic_bool some;    /* there ever was one */
	atomic_uint no_more; /* the kernel granted none; so often nobody asked since */
};

#define ASK_AGAIN 1024u /* times that one is missed */

static struct lane *pop(struct lane **list)
{
	struct lane *n = *list;

	if (n)
		*list = n->next;
	return n;
}

static void push(struct lane **list, struct lane *n)
{
	n->next = *list;
	*list = n;
}

/* One that no reader will come for. l->mtx held. */
static struct lane *to_mind(struct lanes *l)
{
	if (!l->stranded && !l->closed)
		return NULL;
	l->stranded -= l->stranded > 0;
	return pop(&l->left);
}

static void *mind(void *arg)
{
	struct lanes *l = arg;

	pthread_mutex_lock(&l->mtx);
	while (!l->end) {
		struct lane *n = to_mind(l);

		if (n) {
			pthread_mutex_unlock(&l->mtx);
			lanes_end(l, n);
			pthread_mutex_lock(&l->mtx);
		} else if (!l->stranded) {
			pthread_cond_wait(&l->to_mind, &l->mtx);
		}
	}
	pthread_mutex_unlock(&l->mtx);
	return NULL;
}

struct lanes *lanes_new(struct dev *d)
{
	struct lanes *l = calloc(1, sizeof(*l));

	lunfs_assert(l);
	l->dev = d;
	pthread_mutex_init(&l->mtx, NULL);
	pthread_cond_init(&l->to_mind, NULL);
	if (pthread_create(&l->minder, NULL, mind, l) == 0)
		return l;
	pthread_cond_destroy(&l->to_mind);
	pthread_mutex_destroy(&l->mtx);
	free(l);
	return NULL;
}

void lanes_free(struct lanes *l)
{
	struct lane *n;

	pthread_mutex_lock(&l->mtx);
	l->end = true;
	pthread_cond_signal(&l->to_mind);
	pthread_mutex_unlock(&l->mtx);
	pthread_join(l->minder, NULL);
	lunfs_assert(!l->left);
	while ((n = pop(&l->idle)) != NULL) {
		dev_lane_free(n->dev);
		free(n);
	}
	pthread_cond_destroy(&l->to_mind);
	pthread_mutex_destroy(&l->mtx);
	free(l);
}

static struct lane *one_more(struct lanes *l)
{
	struct dev_lane *d = dev_lane_new(l->dev);
	struct lane *n = d ? calloc(1, sizeof(*n)) : NULL;

	if (!n) {
		dev_lane_free(d);
		atomic_store(&l->no_more, 1);
		return NULL;
	}
	n->dev = d;
	atomic_store(&l->no_more, 0);
	atomic_store(&l->some, true);
	return n;
}

static bool may_ask(struct lanes *l)
{
	return atomic_load(&l->no_more) == 0 || atomic_fetch_add(&l->no_more, 1) % ASK_AGAIN == 0;
}

struct lane *lanes_take(struct lanes *l, bool beside, bool *left)
{
	struct lane *n = NULL;

	*left = false;
	if (atomic_load(&l->some)) {
		pthread_mutex_lock(&l->mtx);
		if (beside) {
			n = pop(&l->left);
			*left = n;
			n = n ? n : pop(&l->idle);
		} else if (l->left) {
			l->stranded++;
			pthread_cond_signal(&l->to_mind);
		}
		pthread_mutex_unlock(&l->mtx);
	}
	return n || !beside || !may_ask(l) ? n : one_more(l);
}

void lanes_leave(struct lanes *l, struct lane *n)
{
	pthread_mutex_lock(&l->mtx);
	push(&l->left, n);
	if (l->closed)
		pthread_cond_signal(&l->to_mind);
	pthread_mutex_unlock(&l->mtx);
}

void lanes_strand(struct lanes *l)
{
	pthread_mutex_lock(&l->mtx);
	l->stranded++;
	pthread_cond_signal(&l->to_mind);
	pthread_mutex_unlock(&l->mtx);
}

void lanes_give(struct lanes *l, struct lane *n)
{
	lunfs_assert(!n->dev->on_way);
	pthread_mutex_lock(&l->mtx);
	push(&l->idle, n);
	pthread_mutex_unlock(&l->mtx);
}

void lanes_end(struct lanes *l, struct lane *n)
{
	while (n->dev->on_way)
		dev_lane_wait(n->dev, -1);
	lanes_give(l, n);
}

void lanes_close(struct lanes *l)
{
	pthread_mutex_lock(&l->mtx);
	l->closed = true;
	pthread_cond_signal(&l->to_mind);
	pthread_mutex_unlock(&l->mtx);
}
