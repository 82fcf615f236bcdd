/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/lanes.h"

#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct lanes {
	struct dev *dev;
	pthread_mutex_t mtx; /* a leaf */
	int news;	     /* an eventfd: for the minder */
	pthread_t minder;
	struct lane *left, *idle;
	struct lane *minded; /* the minder's alone, as what follows */
	struct pollfd *polled;
	unsigned nminded;
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

static void tell(struct lanes *l)
{
	lunfs_assert(eventfd_write(l->news, 1) == 0);
}

static void keep_minding(struct lanes *l, struct lane *n)
{
	if (!n->dev->on_way) {
		lanes_give(l, n);
		return;
	}
	push(&l->minded, n);
	l->nminded++;
}

/* Take what no reader will come for, and send what waits there. False: that was all, for ever. */
static bool take_over(struct lanes *l)
{
	struct lane *n, *came = NULL;
	bool end;

	pthread_mutex_lock(&l->mtx);
	while (l->left && (l->stranded || l->closed)) {
		l->stranded -= l->stranded > 0;
		push(&came, pop(&l->left));
	}
	l->stranded = 0; /* the others were taken by readers after all */
	end = l->end;
	pthread_mutex_unlock(&l->mtx);
	while ((n = pop(&came)) != NULL) {
		dev_lane_turn(n->dev);
		keep_minding(l, n);
	}
	return l->minded || !end;
}

/* Sleep until there is news, or something has ended on one of them. */
static void poll_all(struct lanes *l)
{
	struct pollfd *p = realloc(l->polled, (l->nminded + 1) * sizeof(*p));
	eventfd_t count;

	lunfs_assert(p);
	l->polled = p;
	*p++ = (struct pollfd){.fd = l->news, .events = POLLIN};
	for (const struct lane *n = l->minded; n; n = n->next)
		*p++ = (struct pollfd){.fd = dev_lane_fd(n->dev), .events = POLLIN};
	while (poll(l->polled, l->nminded + 1, -1) < 0)
		lunfs_assert(errno == EINTR);
	if (l->polled[0].revents)
		lunfs_assert(eventfd_read(l->news, &count) == 0);
}

/* What has ended on one does not wait for what has not on another. */
static void bring_back(struct lanes *l)
{
	const struct pollfd *p = l->polled + 1;
	struct lane *n, *rest = l->minded;

	l->minded = NULL;
	l->nminded = 0;
	for (; (n = pop(&rest)) != NULL; p++) {
		if (p->revents)
			dev_lane_wait(n->dev, -1);
		keep_minding(l, n);
	}
}

static void *mind(void *arg)
{
	struct lanes *l = arg;

	while (take_over(l)) {
		poll_all(l);
		bring_back(l);
	}
	return NULL;
}

struct lanes *lanes_new(struct dev *d)
{
	struct lanes *l = calloc(1, sizeof(*l));

	lunfs_assert(l);
	l->dev = d;
	pthread_mutex_init(&l->mtx, NULL);
	l->news = eventfd(0, EFD_CLOEXEC);
	if (l->news >= 0 && pthread_create(&l->minder, NULL, mind, l) == 0)
		return l;
	if (l->news >= 0)
		close(l->news);
	pthread_mutex_destroy(&l->mtx);
	free(l);
	return NULL;
}

void lanes_free(struct lanes *l)
{
	struct lane *n;

	pthread_mutex_lock(&l->mtx);
	l->end = true;
	pthread_mutex_unlock(&l->mtx);
	tell(l);
	pthread_join(l->minder, NULL);
	lunfs_assert(!l->left);
	while ((n = pop(&l->idle)) != NULL) {
		dev_lane_free(n->dev);
		free(n);
	}
	close(l->news);
	pthread_mutex_destroy(&l->mtx);
	free(l->polled);
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
			tell(l);
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
		tell(l);
	pthread_mutex_unlock(&l->mtx);
}

void lanes_strand(struct lanes *l)
{
	pthread_mutex_lock(&l->mtx);
	l->stranded++;
	tell(l);
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
	tell(l);
	pthread_mutex_unlock(&l->mtx);
}
