/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading ahead in directories. Who looks at the files of a directory one after the other (ls -l,
 * find, rsync, rm -r) would pay for each with a read of its cell and a test and set, and mostly in
 * the order in which they were listed. So once three were looked at whose locks were not here, or
 * one after the directory was listed, a task takes the locks of those that follow, and their
 * inodes, many at once: 16 first, then twice as many each time, the next ones when half of them
 * were seen.
 *
 * It is a guess. At first it waits for nobody and takes nothing from another host; and where it is
 * of no use (files in another order, or held by others) the directory is left alone for ever more
 * lookups. Only for who listed a directory, and then looked at several files in that order, others
 * are asked for what they hold, 16 at a time (askers.c).
 */
#include "vol/vol_impl.h"
#include <stdlib.h>

#define SCANS 16u
#define LIST_BATCH 64u
#define LIST_MAX 512u /* entries that are looked at for one window */
#define WINDOW_FIRST 16u
#define WINDOW_MIN 4u
#define WINDOW_MAX LOCK_AHEAD_MAX
#define IDLE_NS 2000000000ull /* lookups further apart than that do not belong together */
#define TRIAL 96u	      /* so many are got before it counts whether they were of use */
#define REST_FIRST 32u	      /* lookups in vain that are let pass then, doubling up to */
#define REST_MAX 4096u
#define IN_A_ROW 4u /* so many in the order of the listing: others are asked, too */
#define ASK_MAX 64u
#define SLOW_NS 10000000ull  /* a window that takes longer may be too much at once */
#define ASK_NS 1000000000ull /* so long others are waited for */
#define COLD_MIN 3u	     /* lookups without the lock before a window, if it was not listed */
#define NEVER UINT64_MAX

struct scan {		   /* a directory that may be looked through */
	struct nodeid dir; /* ino 0: none */
	uint64_t seen_ns;
	bool listed;
	bool asked;	    /* for a window, which the task has not got yet */
	bool patient;	    /* it was let go on until others may be asked */
	uint64_t last;	    /* cookie of the last lookup */
	unsigned row;	    /* so many lookups in a row, each further on than the one before */
	unsigned cold;	    /* lookups of files whose lock was not here */
	unsigned window;    /* the last one asked for */
	uint64_t from;	    /* where it begins; cookies */
	uint64_t mark, end; /* a lookup from the one up to before the other asks for the next one */
	unsigned got, used; /* of late: locks, and those of them that were of use */
	unsigned rest, penalty;
	uint64_t each_ns; /* what a lock of the last window took, of so many */
	size_t n;
	struct nodeid id[WINDOW_MAX]; /* them */
};

struct aheads {
	struct volume *v;
	struct mtx mtx;
	struct cond wake;
	struct task *task;
	struct askers *askers;
	struct lock_intr intr;
	struct scan scan[SCANS];
	unsigned turn;
	atomic_ullong got_from_others;
	atomic_ullong ino[SCANS]; /* of their directories, for a look without the mutex */
	bool stop;
};

/* ---- who looks through what; with the mutex held --------------------------------------------- */

static unsigned slot_of(uint64_t ino)
{
	return (unsigned)((ino * 0x9e3779b97f4a7c15ull >> 32) % SCANS);
}

/* NULL: its place is taken by one that the task is working for. */
static struct scan *scan_of(struct aheads *w, struct nodeid dir, uint64_t now)
{
	struct scan *s = &w->scan[slot_of(dir.ino)];
	bool same = s->dir.ino == dir.ino && s->dir.generation == dir.generation;

	if (same && now < s->seen_ns + IDLE_NS)
		return s;
	if (s->asked)
		return NULL;
	if (same)
		*s = (struct scan){
		    .rest = s->rest, .penalty = s->penalty, .got = s->got, .used = s->used};
	else
		*s = (struct scan){.penalty = REST_FIRST};
	s->dir = dir;
	s->mark = NEVER;
	atomic_store(&w->ino[slot_of(dir.ino)], dir.ino);
	return s;
}

static void take_a_rest(struct scan *s)
{
	s->rest = s->penalty;
	s->penalty = 2 * s->penalty < REST_MAX ? 2 * s->penalty : REST_MAX;
	s->window = s->got = s->used = 0;
	s->mark = NEVER;
}

/* It brought little. Who goes through a listing gets his chance to show it. */
static void of_no_use(struct scan *s, bool others_asked)
{
	if (s->listed && !others_asked && !s->patient) {
		s->patient = true;
		s->rest = IN_A_ROW;
		s->mark = NEVER;
	} else {
		take_a_rest(s);
	}
}

static bool is_of_use(struct scan *s)
{
	if (s->got < TRIAL)
		return true;
	if (s->used < s->got / 4) {
		take_a_rest(s);
		return false;
	}
	s->penalty = REST_FIRST;
	s->got /= 2;
	s->used /= 2;
	return true;
}

/* @unused: its lock was got ahead, and this is the first use of it. */
static bool wants_more(struct scan *s, uint64_t cookie, bool cold, bool unused)
{
	if (cookie == s->last) /* the same one again */
		return false;
	s->row = cookie > s->last ? s->row + 1 : 0;
	s->last = cookie;
	s->used += unused;
	if (!cold) {
		return !s->asked && cookie >= s->mark && cookie < s->end && is_of_use(s);
	}
	s->cold++;
	if (s->asked)
		return false;
	if (s->rest) {
		s->rest--;
		return false;
	}
	return (s->listed || s->cold >= COLD_MIN) && is_of_use(s);
}

static void ask(struct aheads *w, struct scan *s, uint64_t from)
{
	s->window = s->window ? 2 * s->window : WINDOW_FIRST;
	s->window = s->window < WINDOW_MAX ? s->window : WINDOW_MAX;
	s->from = from;
	s->asked = true;
	cond_signal(&w->wake);
}

void ahead_listed(struct aheads *w, struct nodeid dir)
{
	uint64_t now = clock_now_ns(w->v->env.clk);
	struct scan *s;

	mtx_lock(&w->mtx);
	s = scan_of(w, dir, now);
	if (s) {
		s->listed = true;
		s->seen_ns = now;
	}
	mtx_unlock(&w->mtx);
}

void ahead_looked(struct aheads *w, struct nodeid dir, const struct dir_entry *de)
{
	bool cold = lock_held(w->v->locks, de->ino) == LOCK_NONE, unused;
	struct scan *s;
	uint64_t now;

	if (!cold && atomic_load(&w->ino[slot_of(dir.ino)]) != dir.ino)
		return;
	unused = !cold && lock_ahead(w->v->locks, de->ino) == AHEAD_UNUSED;
	now = clock_now_ns(w->v->env.clk);
	mtx_lock(&w->mtx);
	s = scan_of(w, dir, now);
	if (s) {
		s->seen_ns = now;
		if (wants_more(s, de->cookie, cold, unused))
			ask(w, s, cold ? de->cookie + 1 : s->end);
	}
	mtx_unlock(&w->mtx);
}

/* ---- a window -------------------------------------------------------------------------------- */

struct window {
	struct nodeid dir;
	uint64_t from;
	unsigned want;
	bool ask;
	uint64_t took_ns;
	enum lock_mode mode;
	uint64_t mark, end;
	size_t n, got;
	struct nodeid id[WINDOW_MAX];
};

static void add(struct volume *v, struct window *x, const struct dir_entry *de)
{
	x->end = de->cookie + 1;
	if (lock_held(v->locks, de->ino) != LOCK_NONE)
		return;
	x->id[x->n++] = (struct nodeid){de->ino, de->generation};
	if (x->n == x->want / 2)
		x->mark = de->cookie;
}

/* From @from up to before @to, or until it is full; true: there are no more. */
static bool list_part(struct volume *v, struct window *x, struct inode *dir, uint64_t from,
		      uint64_t to)
{
	struct dir_entry *de = calloc(LIST_BATCH, sizeof(*de));
	size_t seen = 0, got = 1;

	lunfs_assert(de);
	while (got && x->n < x->want && seen < LIST_MAX) {
		if (dir_list(&v->ne, dir, from, de, LIST_BATCH, &got) != 0)
			got = 0;
		for (size_t k = 0; k < got && x->n < x->want; k++) {
			if (de[k].cookie >= to)
				got = 0;
			else
				add(v, x, &de[k]);
		}
		from = x->end;
		seen += got;
	}
	free(de);
	return got == 0;
}

/*
 * What follows, and at the end of the directory what is left of its beginning; but nobody is asked
 * for that.
 */
static void list_window(struct volume *v, struct window *x, struct inode *dir)
{
	x->mark = NEVER;
	x->end = x->from;
	if (list_part(v, x, dir, x->from, NEVER)) {
		x->mark = NEVER;
		if (!x->ask)
			list_part(v, x, dir, DIR_COOKIE_MIN, x->from);
	}
}

size_t ahead_take(struct volume *v, const uint64_t *ino, size_t n, enum lock_mode mode)
{
	size_t got = 0;

	for (size_t k = 0; k < n; k += LOCK_AHEAD_MAX)
		got += lock_get_ahead(v->locks, ino + k,
				      n - k < LOCK_AHEAD_MAX ? n - k : LOCK_AHEAD_MAX, mode);
	return got;
}

static void take_window(struct volume *v, struct window *x)
{
	uint64_t began = clock_now_ns(v->env.clk), ino[WINDOW_MAX];

	for (size_t k = 0; k < x->n; k++)
		ino[k] = x->id[k].ino;
	x->got = ahead_take(v, ino, x->n, x->mode);
	x->took_ns = clock_now_ns(v->env.clk) - began;
}

/* The directory stays pinned, so that none of them is freed meanwhile. */
static int fetch_body(struct op *o, void *arg)
{
	struct window *x = arg;
	struct inode *dir;
	int rc = op_get(o, x->dir, LOCK_SH, LOCAL_SHARED, &dir);

	x->n = x->got = 0;
	if (rc == 0 && S_ISDIR(dir->mode) && dir->nlink != 0) {
		list_window(o->v, x, dir);
		take_window(o->v, x);
	}
	return rc;
}

/* If the directory is here. It may be pinned by who changes it. */
static void fetch(struct aheads *w, struct window *x)
{
	struct op_ctx c = {.intr = &w->intr};
	struct op o;

	if (lock_held(w->v->locks, x->dir.ino) == LOCK_NONE || !host_lease_ok(w->v->host))
		return;
	op_init(&o, w->v, &c);
	o.reading = true;
	op_run(&o, fetch_body, x);
}

/* What others hold of it. */
static void ask_others(struct aheads *w, struct window *x)
{
	struct nodeid id[WINDOW_MAX];
	size_t n = 0;

	for (size_t k = 0; k < x->n; k++)
		if (lock_held(w->v->locks, x->id[k].ino) == LOCK_NONE)
			id[n++] = x->id[k];
	if (n)
		n = askers_get(w->askers, id, n, x->mode, ASK_NS);
	atomic_fetch_add(&w->got_from_others, n);
	x->got += n;
}

unsigned long long aheads_got_from_others(const struct aheads *w)
{
	return atomic_load(&w->got_from_others);
}

/* ---- the task -------------------------------------------------------------------------------- */

/*
 * Who removes all, or changes all, has more use for them exclusively: half of those that were seen,
 * and about half of the last window was.
 */
static enum lock_mode mode_of(struct aheads *w, const struct scan *s)
{
	size_t ex = 0;

	for (size_t k = 0; k < s->n; k++)
		ex += lock_ahead(w->v->locks, s->id[k].ino) == AHEAD_USED_EX;
	return ex > s->n / 4 && s->n >= WINDOW_FIRST ? LOCK_EX : LOCK_SH;
}

/* Where more at once take as long each as fewer did, the device has enough to do. */
static bool is_too_much(const struct scan *s, const struct window *x)
{
	return x->took_ns > SLOW_NS && x->n > s->n && s->each_ns &&
	       x->took_ns / x->n > s->each_ns / 4 * 3;
}

static void note_window(struct scan *s, const struct window *x)
{
	s->asked = false;
	s->mark = x->mark;
	s->end = x->end;
	s->got += (unsigned)x->got;
	if (is_too_much(s, x))
		s->window = s->window / 4 > WINDOW_MIN ? s->window / 4 : WINDOW_MIN;
	s->n = x->n;
	s->each_ns = x->n ? x->took_ns / x->n : 0;
	memcpy(s->id, x->id, x->n * sizeof(*x->id));
	if (x->got < x->n / 4)
		of_no_use(s, x->ask);
}

static void work_for(struct aheads *w, struct scan *s)
{
	struct window x = {.dir = s->dir, .from = s->from, .want = s->window};

	x.mode = mode_of(w, s);
	x.ask = s->listed && s->row >= IN_A_ROW;
	if (x.ask && x.want > ASK_MAX)
		x.want = ASK_MAX;
	mtx_unlock(&w->mtx);
	fetch(w, &x);
	if (x.ask)
		ask_others(w, &x);
	mtx_lock(&w->mtx);
	note_window(s, &x);
}

/* By turns. */
static struct scan *next_asked(struct aheads *w)
{
	for (unsigned k = 0; k < SCANS; k++) {
		w->turn = (w->turn + 1) % SCANS;
		if (w->scan[w->turn].asked)
			return &w->scan[w->turn];
	}
	return NULL;
}

static void worker(void *arg)
{
	struct aheads *w = arg;

	mtx_lock(&w->mtx);
	while (!w->stop) {
		struct scan *s = next_asked(w);

		if (s)
			work_for(w, s);
		else
			cond_wait(&w->wake, &w->mtx, CLOCK_FOREVER);
	}
	mtx_unlock(&w->mtx);
}

struct aheads *aheads_new(struct volume *v)
{
	struct aheads *w = calloc(1, sizeof(*w));

	lunfs_assert(w);
	w->v = v;
	w->askers = askers_new(v);
	mtx_init(&w->mtx, v->env.clk);
	cond_init(&w->wake, v->env.clk);
	return w;
}

int aheads_start(struct aheads *w)
{
	struct clock *clk = w->v->env.clk;

	return clk->ops->task_start(clk, "vol-ahead", worker, w, &w->task);
}

void aheads_stop(struct aheads *w)
{
	struct clock *clk = w->v->env.clk;

	if (!w->task)
		return;
	mtx_lock(&w->mtx);
	w->stop = true;
	cond_signal(&w->wake);
	mtx_unlock(&w->mtx);
	vol_interrupt(w->v, &w->intr);
	askers_stop(w->askers);
	clk->ops->task_join(clk, w->task);
	w->task = NULL;
}

void aheads_free(struct aheads *w)
{
	askers_free(w->askers);
	cond_destroy(&w->wake);
	mtx_destroy(&w->mtx);
	free(w);
}
