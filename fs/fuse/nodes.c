/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Node ids: the inodes that the kernel holds references to, each with the generation it was told
 * last, and what the kernel may keep of it: pages, attributes, names in it. The node id is the
 * inode's address. When an address is used again with another generation, the kernel turns its old
 * inode bad by itself and goes on with the new one under the same id, so one generation an id is
 * enough.
 */
#include "fuse/front.h"
#include <stdlib.h>
#include <uthash.h>
#include <utlist.h>

struct node {
	uint64_t ino;
	uint64_t generation;
	uint64_t lookups;
	bool pages;
	bool attrs;	       /* given out to be kept */
	uint64_t names;	       /* epoch in which names in it were given out to be kept; 0: none */
	uint64_t quiet_ns;     /* until then, none are */
	unsigned fresh;	       /* answers to CREATE of which no trace has been seen since */
	struct data_req *reqs; /* on its data, in hand */
	unsigned handles;
	bool size_known; /* the kernel has @size, but for what follows in this file */
	uint64_t size;
	uint64_t write_backs; /* requests begun so far */
	unsigned mappable; /* of these, open to read and to write */
	bool dirtied;	   /* there was such a one since it last had no handle */
	UT_hash_handle hh;
};

struct nodes {
	struct mtx mtx;
	struct cond ended;     /* a WRITE through pages */
	unsigned writing_back; /* requests in hand, of all nodes */
	uint64_t write_backs;  /* begun so far */
	struct node *table;
};

struct nodes *nodes_new(struct clock *clk)
{
	struct nodes *n = calloc(1, sizeof(*n));

	lunfs_assert(n);
	mtx_init(&n->mtx, clk);
	cond_init(&n->ended, clk);
	return n;
}

void nodes_free(struct nodes *n)
{
	struct node *e, *tmp;

	HASH_ITER (hh, n->table, e, tmp) {
		HASH_DEL(n->table, e);
		free(e);
	}
	cond_destroy(&n->ended);
	mtx_destroy(&n->mtx);
	free(n);
}

static struct node *find(struct nodes *n, uint64_t ino)
{
	struct node *e;

	HASH_FIND(hh, n->table, &ino, sizeof(ino), e);
	return e;
}

static struct node *remember(struct nodes *n, struct nodeid id)
{
	struct node *e = find(n, id.ino);

	if (!e) {
		e = calloc(1, sizeof(*e));
		lunfs_assert(e);
		e->ino = id.ino;
		HASH_ADD(hh, n->table, ino, sizeof(e->ino), e);
	}
	e->generation = id.generation;
	e->lookups++;
	return e;
}

void nodes_remember(struct nodes *n, struct nodeid id)
{
	mtx_lock(&n->mtx);
	remember(n, id);
	mtx_unlock(&n->mtx);
}

/* ---- looking at them ------------------------------------------------------------------------- */

/* As it is now; all zero: there is none. */
static struct node look(struct nodes *n, uint64_t ino)
{
	struct node copy = {.ino = 0};
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	if (e)
		copy = *e;
	mtx_unlock(&n->mtx);
	return copy;
}

bool nodes_is_fresh(struct nodes *n, uint64_t ino)
{
	return look(n, ino).fresh != 0;
}

bool nodes_known(struct nodes *n, uint64_t ino)
{
	return look(n, ino).lookups != 0;
}

bool nodes_is_open(struct nodes *n, uint64_t ino)
{
	return look(n, ino).handles != 0;
}

bool nodes_maybe_dirtied(struct nodes *n, uint64_t ino)
{
	return look(n, ino).dirtied;
}

bool nodes_size_known(struct nodes *n, uint64_t ino, uint64_t *size)
{
	struct node e = look(n, ino);

	*size = e.size;
	return e.size_known;
}

uint64_t nodes_generation(struct nodes *n, uint64_t ino)
{
	return look(n, ino).generation;
}

/* All that are so; the caller frees *out. */
static size_t all_with(struct nodes *n, bool (*so)(const struct node *e), uint64_t **out)
{
	struct node *e, *tmp;
	size_t k = 0;

	mtx_lock(&n->mtx);
	*out = calloc(HASH_COUNT(n->table) + 1, sizeof(**out));
	lunfs_assert(*out);
	HASH_ITER (hh, n->table, e, tmp)
		if (so(e))
			(*out)[k++] = e->ino;
	mtx_unlock(&n->mtx);
	return k;
}

static bool with_attrs(const struct node *e)
{
	return e->attrs;
}

size_t nodes_with_attrs(struct nodes *n, uint64_t **out)
{
	return all_with(n, with_attrs, out);
}

static bool with_pages(const struct node *e)
{
	return e->pages;
}

size_t nodes_with_pages(struct nodes *n, uint64_t **out)
{
	return all_with(n, with_pages, out);
}

/* ---- what the kernel may keep ---------------------------------------------------------------- */

/* n->mtx held. The kernel is told, or finds out, that it is as large as that. */
static void size_seen(struct node *e, uint64_t size)
{
	if (size != e->size)
		e->size_known = false;
}

void nodes_size_seen(struct nodes *n, uint64_t ino, uint64_t size)
{
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	if (e)
		size_seen(e, size);
	mtx_unlock(&n->mtx);
}

void nodes_size_is(struct nodes *n, uint64_t ino, uint64_t size)
{
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	if (e) {
		e->size = size;
		e->size_known = e->handles != 0; /* else it may be forgotten, and made anew */
	}
	mtx_unlock(&n->mtx);
}

/* n->mtx held. False: names in @dir are not to be kept for now. */
static bool mark_names(struct nodes *n, uint64_t dir, uint64_t epoch, uint64_t now, bool always)
{
	struct node *e = find(n, dir);

	if (!e || (now < e->quiet_ns && !always))
		return false;
	if (epoch > e->names)
		e->names = epoch;
	return now >= e->quiet_ns;
}

bool nodes_keep_names(struct nodes *n, uint64_t dir, uint64_t epoch, uint64_t now)
{
	bool ok;

	mtx_lock(&n->mtx);
	ok = mark_names(n, dir, epoch, now, false);
	mtx_unlock(&n->mtx);
	return ok;
}

bool nodes_keep_entry(struct nodes *n, const struct vattr *va, const struct entry_keep *k)
{
	struct node *e;
	bool ok = false;

	mtx_lock(&n->mtx);
	e = remember(n, va->id);
	e->attrs = true;
	size_seen(e, (uint64_t)va->st.st_size);
	e->fresh += k->created;
	if (k->epoch)
		ok = mark_names(n, k->dir, k->epoch, k->now_ns, S_ISDIR(va->st.st_mode));
	mtx_unlock(&n->mtx);
	return ok;
}

void nodes_keep_attrs(struct nodes *n, uint64_t ino)
{
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	if (e)
		e->attrs = true;
	mtx_unlock(&n->mtx);
}

void nodes_settled(struct nodes *n, uint64_t ino)
{
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	if (e && e->fresh)
		e->fresh--;
	mtx_unlock(&n->mtx);
}

unsigned nodes_revoke(struct nodes *n, uint64_t ino, uint64_t epoch, uint64_t quiet_ns)
{
	unsigned what = 0;
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	if (e) {
		what |= e->attrs ? NODE_ATTRS : 0;
		if (e->names && e->names >= epoch)
			what |= NODE_NAMES;
		if (e->names)
			e->quiet_ns = quiet_ns;
		e->attrs = false;
		e->names = 0;
	}
	mtx_unlock(&n->mtx);
	return what;
}

/* ---- references ------------------------------------------------------------------------------ */

/* A request may still be linked though the kernel has its answer and forgot the inode. */
static void end_if_unused(struct nodes *n, struct node *e)
{
	if (e->lookups || e->reqs)
		return;
	HASH_DEL(n->table, e);
	free(e);
}

void nodes_forget(struct nodes *n, uint64_t ino, uint64_t count)
{
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	if (e) {
		e->lookups -= count < e->lookups ? count : e->lookups;
		end_if_unused(n, e);
	}
	mtx_unlock(&n->mtx);
}

/* It makes the file larger than the kernel knew, or shows it that it is smaller. n->mtx held. */
static void size_of_request(struct node *e, const struct data_req *r)
{
	if (r->write_end > e->size || (r->got < r->len && r->fill && r->off + r->got < e->size))
		e->size_known = false;
}

/* Its bytes stood in the kernel's pages, for everybody to see, before it was sent. */
static bool is_store(const struct data_req *r)
{
	return r->pages && !r->fill && !r->back;
}

static bool is_fill(const struct data_req *r)
{
	return r->pages && r->fill;
}

static bool overlap(const struct data_req *a, const struct data_req *b)
{
	return a->off < b->off + b->len && b->off < a->off + a->len;
}

/* n->mtx held. */
static bool behind_write(struct nodes *n, uint64_t ino, const struct data_req *r)
{
	struct node *e = r->linked && is_fill(r) ? find(n, ino) : NULL;

	for (const struct data_req *q = e ? e->reqs : NULL; q && q != r; q = q->next)
		if (is_store(q) && overlap(q, r))
			return true;
	return false;
}

/* n->mtx held. @r has not begun. */
static bool overtaken(const struct node *e, const struct data_req *r)
{
	for (const struct data_req *q = is_store(r) ? e->reqs : NULL; q; q = q->next)
		if (is_fill(q) && overlap(q, r))
			return true;
	return false;
}

bool nodes_behind_write(struct nodes *n, uint64_t ino, const struct data_req *r)
{
	bool yes;

	mtx_lock(&n->mtx);
	yes = behind_write(n, ino, r);
	mtx_unlock(&n->mtx);
	return yes;
}

void nodes_let_writes_end(struct nodes *n, uint64_t ino, const struct data_req *r)
{
	mtx_lock(&n->mtx);
	while (behind_write(n, ino, r))
		cond_wait(&n->ended, &n->mtx, CLOCK_FOREVER);
	mtx_unlock(&n->mtx);
}

/* n->mtx held. */
static void data_begin(struct nodes *n, struct node *e, struct data_req *r)
{
	e->pages |= r->pages;
	if (r->write_end > e->size)
		e->size_known = false;
	r->overtaken = overtaken(e, r);
	DL_APPEND(e->reqs, r);
	r->linked = true;
	e->write_backs += r->back;
	n->writing_back += r->back;
	n->write_backs += r->back;
}

bool nodes_data_begin(struct nodes *n, uint64_t ino, struct data_req *r)
{
	bool mappable;
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	mappable = e && e->mappable;
	if (e && !r->linked)
		data_begin(n, e, r);
	mtx_unlock(&n->mtx);
	return mappable;
}

void nodes_data_move(struct nodes *n, uint64_t ino, struct data_req *from, struct data_req *to)
{
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	*to = *from;
	if (e && from->linked)
		DL_REPLACE_ELEM(e->reqs, from, to);
	from->linked = false;
	mtx_unlock(&n->mtx);
}

void nodes_data_end(struct nodes *n, uint64_t ino, struct data_req *r)
{
	struct node *e;

	if (!r->linked)
		return;
	mtx_lock(&n->mtx);
	e = find(n, ino);
	if (e) {
		DL_DELETE(e->reqs, r);
		n->writing_back -= r->back;
		if (is_store(r))
			cond_broadcast(&n->ended);
		size_of_request(e, r);
		end_if_unused(n, e);
	}
	r->linked = false;
	mtx_unlock(&n->mtx);
}

bool nodes_writes_back(struct nodes *n, uint64_t ino, uint64_t *begun)
{
	const struct data_req *r;
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	*begun = e ? e->write_backs : 0;
	r = e ? e->reqs : NULL;
	while (r && !r->back)
		r = r->next;
	mtx_unlock(&n->mtx);
	return r != NULL;
}

bool nodes_write_back(struct nodes *n, uint64_t *begun)
{
	bool some;

	mtx_lock(&n->mtx);
	some = n->writing_back != 0;
	*begun = n->write_backs;
	mtx_unlock(&n->mtx);
	return some;
}

static int by_offset(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

size_t nodes_waiting(struct nodes *n, uint64_t ino, struct span *out, size_t max)
{
	const uint64_t page = 4096;
	struct data_req *r;
	struct node *e;
	size_t k = 0;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	for (r = e ? e->reqs : NULL; r; r = r->next)
		if (k < max && r->pages && !r->back && r->len && !atomic_load(&r->admitted))
			out[k++] =
			    (struct span){r->off / page * page,
					  (r->off + r->len + page - 1) / page * page, r->fill};
	mtx_unlock(&n->mtx);
	qsort(out, k, sizeof(*out), by_offset);
	return k;
}

static void count(unsigned *n, int delta)
{
	if (delta > 0 || *n)
		*n += (unsigned)delta;
}

void nodes_handle(struct nodes *n, uint64_t ino, int delta, bool mappable)
{
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	if (e)
		count(&e->handles, delta);
	if (e && mappable) {
		count(&e->mappable, delta);
		e->dirtied = true;
	}
	if (e && !e->handles) {
		e->size_known = false;
		e->dirtied = false;
	}
	mtx_unlock(&n->mtx);
}

/* Requests in hand that make pages when they are answered. */
static bool through_pages(const struct node *e)
{
	for (const struct data_req *r = e->reqs; r; r = r->next)
		if (r->pages)
			return true;
	return false;
}

void nodes_leave_pages(struct nodes *n, uint64_t ino)
{
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	if (e)
		e->pages = true;
	mtx_unlock(&n->mtx);
}

bool nodes_take_pages(struct nodes *n, uint64_t ino)
{
	bool pages;
	struct node *e;

	mtx_lock(&n->mtx);
	e = find(n, ino);
	pages = e && e->pages;
	if (e)
		e->pages = through_pages(e);
	mtx_unlock(&n->mtx);
	return pages;
}
