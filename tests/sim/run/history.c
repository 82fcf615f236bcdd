/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writing the history of a run, and the wrapper round op_run() that adds the hints. */
#include "history.h"
#include "run.h"

#include "txn/txn_impl.h"
#include "vol/piece.h"

#include <stdio.h>
#include <stdlib.h>

struct history {
	struct sim_run *r;
	uint64_t event;
	size_t n, max;
	struct hop *hop;
};

static const char *const names[HOP_KINDS_N] = {
#define X(name, text) text,
    HOP_KINDS(X)
#undef X
};

const char *hop_name(enum hop_kind k)
{
	return names[k];
}

struct history *history_new(struct sim_run *r, size_t max)
{
	struct history *h = calloc(1, sizeof(*h));

	lunfs_assert(h != NULL);
	h->r = r;
	h->max = max;
	h->hop = calloc(max, sizeof(*h->hop));
	lunfs_assert(h->hop != NULL);
	return h;
}

void history_free(struct history *h)
{
	for (size_t i = 0; i < h->n; i++)
		free(h->hop[i].data);
	free(h->hop);
	free(h);
}

size_t history_len(const struct history *h)
{
	return h->n;
}

struct hop *history_at(const struct history *h, size_t i)
{
	return &h->hop[i];
}

uint64_t history_now(const struct history *h)
{
	return h->event;
}

uint64_t history_tick(struct history *h)
{
	return ++h->event;
}

struct hop *hop_begin(struct sim_run *r, unsigned host, unsigned task, enum hop_kind kind)
{
	struct history *hs = r->hist;
	struct hop *h;

	if (hs->n == hs->max)
		return NULL;
	h = &hs->hop[hs->n];
	h->index = (uint32_t)hs->n++;
	h->kind = kind;
	h->host = host;
	h->inc = (unsigned)(r->host[host].inc - r->inc);
	h->task = task;
	h->ctx.umask = 022;
	h->ret = HOP_NEVER;
	return h;
}

void hop_call(struct sim_run *r, struct hop *h)
{
	h->call_ns = simclock_true_ns(r->t->clk);
	h->call = history_tick(r->hist);
	if (h->kind == HOP_RELEASE)
		h->point = h->call;
}

#define PATIENCE_NS (30 * SC_S)

/* Once the faults have stopped, every operation ends. */
static void check_patience(struct sim_run *r, const struct hop *h)
{
	uint64_t from = h->call_ns > r->stopped_ns ? h->call_ns : r->stopped_ns;
	char text[400];

	if (r->stopping && h->ret_ns > from + PATIENCE_NS && h->call_ns < h->ret_ns)
		sc_fail(r->t, __FILE__, __LINE__, "it took %.1f s although no fault is left: %s",
			(double)(h->ret_ns - from) / 1e9, hop_text(h, text, sizeof(text)));
}

static void trace_hop(struct sim_run *r, const struct hop *h)
{
	char text[300];

	if (r->trace)
		trace_host(h->host, "%s", hop_text(h, text, sizeof(text)));
}

static void note_in_place(struct sim_run *r, struct hop *h)
{
	const struct volume *v = r->inc[h->inc].v ? r->inc[h->inc].v : r->t->v[h->host];

	h->in_place = h->kind == HOP_WRITE && h->rc == 0 && h->done && !h->changes && v;
	if (h->in_place)
		h->txn_lo = h->txn_hi = v->txns->running->id;
}

void hop_end(struct sim_run *r, struct hop *h, int rc, const struct vattr *va)
{
	h->rc = rc;
	h->ret = history_tick(r->hist);
	h->ret_ns = simclock_true_ns(r->t->clk);
	if (rc == 0 && va) {
		h->out = va->id;
		h->mode = va->st.st_mode;
		h->nlink = (uint32_t)va->st.st_nlink;
		h->size = (uint64_t)va->st.st_size;
	}
	if (h->early)
		h->point = h->early;
	if (h->point == 0)
		h->point = h->ret;
	note_in_place(r, h);
	check_patience(r, h);
	trace_hop(r, h);
}

static const char *answer(const struct hop *h, char *buf, size_t len)
{
	if (h->ret == HOP_NEVER)
		snprintf(buf, len, "no answer");
	else if (h->rc)
		snprintf(buf, len, "%s", strerror(-h->rc));
	else if (h->out.ino)
		snprintf(buf, len, "inode %llu.%llx mode %o nlink %u size %llu",
			 (unsigned long long)h->out.ino, (unsigned long long)h->out.generation,
			 h->mode, h->nlink, (unsigned long long)h->size);
	else if (h->kind == HOP_WRITE)
		snprintf(buf, len, "%llu bytes at %llu", (unsigned long long)h->done,
			 (unsigned long long)h->at);
	else
		snprintf(buf, len, "ok, %llu", (unsigned long long)h->done);
	return buf;
}

const char *hop_text(const struct hop *h, char *buf, size_t len)
{
	char a[160];

	snprintf(buf, len,
		 "#%u host%u.%u task %u %s(%llu.%llx '%s' %llu '%s' off %llu len %llu flags %#x) "
		 "= %s [events %llu..%lld, point %llu, txn %llu..%llu, %u bodies, %u changes, from "
		 "%.6f s]",
		 h->index, h->host, h->inc, h->task, hop_name(h->kind),
		 (unsigned long long)h->id.ino, (unsigned long long)h->id.generation, h->name,
		 (unsigned long long)h->dir.ino, h->name2, (unsigned long long)h->off,
		 (unsigned long long)h->len, h->flags, answer(h, a, sizeof(a)),
		 (unsigned long long)h->call, (long long)h->ret, (unsigned long long)h->point,
		 (unsigned long long)h->txn_lo, (unsigned long long)h->txn_hi, h->bodies,
		 h->changes, (double)h->call_ns / 1e9);
	return buf;
}

/* ---- the wrapper ----------------------------------------------------------------------------- */

/* A wrapper that does not fit what it wraps must not compile. */
#define WRAPS(fn)                                                                                  \
	extern __typeof__(fn) __real_##fn, __wrap_##fn;                                            \
	extern __typeof__(fn) fn

WRAPS(op_run);
WRAPS(change_begin);
WRAPS(trunc_finish);
WRAPS(trunc_set_size);
WRAPS(trunc_remove_unwritten);
WRAPS(piece_commit);

struct wrapped {
	int (*body)(struct op *o, void *arg);
	int (*first)(struct op *o, void *arg);
	void *arg;
	struct hop *hop;
};

static int wrapped_first(struct op *o, void *arg)
{
	struct wrapped *w = arg;
	int rc = w->first(o, w->arg);

	if (rc && w->hop->runs == 1)
		w->hop->point = history_tick(the_run->hist);
	return rc;
}

static int wrapped_body(struct op *o, void *arg)
{
	struct wrapped *w = arg;
	struct hop *h = w->hop;
	int rc = w->body(o, w->arg);

	h->bodies++;
	if (h->runs == 1) {
		h->point = history_tick(the_run->hist);
		h->body_rc = rc;
	}
	return rc;
}

static struct hop *hop_of(const struct op *o)
{
	const struct history *h = the_run ? the_run->hist : NULL;
	struct hop *hop = (struct hop *)(uintptr_t)o->c;

	return h && hop >= h->hop && hop < h->hop + h->n ? hop : NULL;
}

int __wrap_op_run(struct op *o, int (*body)(struct op *o, void *arg), void *arg)
{
	struct wrapped w = {.body = body, .arg = arg, .hop = hop_of(o)};

	if (!w.hop)
		return __real_op_run(o, body, arg);
	w.hop->runs++;
	w.first = o->first;
	if (o->first)
		o->first = wrapped_first;
	return __real_op_run(o, wrapped_body, &w);
}

int __wrap_change_begin(struct change *ch, uint64_t goal, unsigned flags)
{
	int rc = __real_change_begin(ch, goal, flags);
	struct hop *h = hop_of(ch->o);

	if (rc || !h || h->finishing)
		return rc;
	h->txn_hi = ch->nt.h->txn->id;
	if (h->changes++ == 0) {
		h->txn_lo = h->txn_hi;
		h->joined = history_tick(the_run->hist);
	}
	return 0;
}

/* Somebody's truncation was cut short; what is left of it changes nothing that can be seen. */
int __wrap_trunc_finish(struct op *o, struct inode *i)
{
	struct hop *h = hop_of(o);
	int rc;

	if (h)
		h->finishing = true;
	rc = __real_trunc_finish(o, i);
	if (h)
		h->finishing = false;
	return rc;
}

/* A large truncation goes in steps: all see the new size from the first on. */
int __wrap_trunc_set_size(struct op *o, struct inode *i, uint64_t size, bool *begun)
{
	bool was = *begun;
	int rc = __real_trunc_set_size(o, i, size, begun);
	struct hop *h = hop_of(o);

	if (h && !was && *begun)
		h->early = history_tick(the_run->hist);
	return rc;
}

/* A punch has zeroed its range when it begins to give the blocks up. */
int __wrap_trunc_remove_unwritten(struct op *o, struct inode *i, uint64_t from, uint64_t to)
{
	struct hop *h = hop_of(o);

	if (h && !h->early)
		h->early = history_tick(the_run->hist);
	return __real_trunc_remove_unwritten(o, i, from, to);
}

/* Of a first write, maybe by another one, who lets others see it before its body ends. */
int __wrap_piece_commit(struct op *o, struct inode *i, struct piece *p)
{
	int rc = __real_piece_commit(o, i, p);
	struct hop *h = hop_of(o);

	if (h && rc == 0)
		h->early = history_tick(the_run->hist);
	return rc;
}

/* ---- contents -------------------------------------------------------------------------------- */

static uint64_t word_at(uint32_t tag, uint64_t word)
{
	uint64_t z = tag * 0x9e3779b97f4a7c15ull + word * 0xc2b2ae3d27d4eb4full;

	z = (z ^ z >> 29) * 0xbf58476d1ce4e5b9ull;
	return z ^ z >> 32;
}

void pattern_fill(uint8_t *buf, uint32_t tag, uint64_t off, size_t len)
{
	if (tag == 0) {
		memset(buf, 0, len);
		return;
	}
	while (len > 0) {
		uint64_t w = word_at(tag, off / 8);
		size_t in = off % 8, n = 8 - in < len ? 8 - in : len;

		memcpy(buf, (uint8_t *)&w + in, n);
		buf += n;
		off += n;
		len -= n;
	}
}

bool pattern_is(const uint8_t *buf, uint32_t tag, uint64_t off, size_t len)
{
	uint8_t want[512];

	while (len > 0) {
		size_t n = len < sizeof(want) ? len : sizeof(want);

		pattern_fill(want, tag, off, n);
		if (memcmp(buf, want, n) != 0)
			return false;
		buf += n;
		off += n;
		len -= n;
	}
	return true;
}
