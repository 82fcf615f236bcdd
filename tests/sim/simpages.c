/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The simulated medium's sparse memory with its volatile write cache. */
#include "simpages.h"

#include "base/log.h"
#include "simrand.h"

#include <stdlib.h>
#include <string.h>

#define UNIT 512u
#define UNITS (SIMPAGE_BYTES / UNIT)
#define FIRST_BITS 9u

/* ---- pages ----------------------------------------------------------------------------------- */

static struct simpage **bucket_of(const struct simpages *sp, uint64_t index)
{
	return &sp->bucket[(index * 0x9e3779b97f4a7c15ull) >> (64 - sp->bits)];
}

static struct simpage *page_find(struct simpages *sp, uint64_t index)
{
	struct simpage *p = sp->last;

	if (p && p->index == index)
		return p;
	if (sp->bits == 0)
		return NULL;
	p = *bucket_of(sp, index);
	while (p && p->index != index)
		p = p->next;
	if (p)
		sp->last = p;
	return p;
}

bool simpages_present(struct simpages *sp, uint64_t off_bytes)
{
	return page_find(sp, off_bytes / SIMPAGE_BYTES) != NULL;
}

static void buckets_make(struct simpages *sp, unsigned bits)
{
	sp->bits = bits;
	sp->bucket = calloc((size_t)1 << bits, sizeof(*sp->bucket));
	lunfs_assert(sp->bucket != NULL);
}

static void buckets_grow(struct simpages *sp)
{
	struct simpage **old = sp->bucket;
	size_t n = sp->bits ? (size_t)1 << sp->bits : 0;

	buckets_make(sp, n ? sp->bits + 2 : FIRST_BITS);
	for (size_t b = 0; b < n; b++) {
		while (old[b]) {
			struct simpage *p = old[b], **to = bucket_of(sp, p->index);

			old[b] = p->next;
			p->next = *to;
			*to = p;
		}
	}
	free(old);
}

static struct simpage *page_add(struct simpages *sp, uint64_t index, struct simpage_data *data)
{
	struct simpage *p = calloc(1, sizeof(*p)), **b;

	lunfs_assert(p != NULL);
	if (sp->bits == 0 || sp->n_pages >> sp->bits)
		buckets_grow(sp);
	p->index = index;
	p->data = data;
	b = bucket_of(sp, index);
	p->next = *b;
	*b = p;
	sp->n_pages++;
	sp->last = p;
	return p;
}

static struct simpage_data *data_new(void)
{
	struct simpage_data *d = malloc(sizeof(*d));

	lunfs_assert(d != NULL);
	atomic_init(&d->refs, 1);
	d->dirty = 0;
	return d;
}

static void data_put(struct simpage_data *d)
{
	if (atomic_fetch_sub(&d->refs, 1) == 1)
		free(d);
}

/* The page as one that may be written: its data are nobody else's. */
static struct simpage *page_get(struct simpages *sp, uint64_t index)
{
	struct simpage *p = page_find(sp, index);
	struct simpage_data *d;

	if (p && atomic_load(&p->data->refs) == 1)
		return p;
	d = data_new();
	if (!p) {
		memset(d->stable, 0, sizeof(d->stable));
		return page_add(sp, index, d);
	}
	d->dirty = p->data->dirty;
	memcpy(d->stable, p->data->stable, sizeof(d->stable));
	if (d->dirty)
		memcpy(d->cache, p->data->cache, sizeof(d->cache));
	data_put(p->data);
	p->data = d;
	return p;
}

/* ---- the write cache ------------------------------------------------------------------------- */

static void destage(struct simpage_data *d, unsigned unit)
{
	if (d->dirty >> unit & 1)
		memcpy(d->stable + unit * UNIT, d->cache + unit * UNIT, UNIT);
	d->dirty = (uint8_t)(d->dirty & ~(1u << unit));
}

static void list_dirty(struct simpages *sp, struct simpage *p)
{
	if (p->listed)
		return;
	p->listed = true;
	p->next_dirty = sp->maybe_dirty;
	sp->maybe_dirty = p;
}

/* The next page with something in the cache, no longer listed, to be written to. */
static struct simpage *pop_dirty(struct simpages *sp)
{
	struct simpage *p;

	while ((p = sp->maybe_dirty)) {
		sp->maybe_dirty = p->next_dirty;
		p->listed = false;
		if (p->data->dirty)
			return page_get(sp, p->index);
	}
	return NULL;
}

static void read_page(const struct simpage_data *d, unsigned in, size_t n, uint8_t *buf)
{
	if (!d->dirty) {
		memcpy(buf, d->stable + in, n);
		return;
	}
	while (n > 0) {
		unsigned unit = in / UNIT;
		size_t k = UNIT - in % UNIT;

		if (k > n)
			k = n;
		memcpy(buf, (d->dirty >> unit & 1 ? d->cache : d->stable) + in, k);
		in += (unsigned)k;
		buf += k;
		n -= k;
	}
}

void simpages_read(struct simpages *sp, uint64_t off_bytes, size_t len_bytes, uint8_t *buf)
{
	while (len_bytes > 0) {
		unsigned in = (unsigned)(off_bytes % SIMPAGE_BYTES);
		size_t n = SIMPAGE_BYTES - in;
		struct simpage *p = page_find(sp, off_bytes / SIMPAGE_BYTES);

		if (n > len_bytes)
			n = len_bytes;
		if (p)
			read_page(p->data, in, n, buf);
		else
			memset(buf, 0, n);
		off_bytes += n;
		buf += n;
		len_bytes -= n;
	}
}

/* A cache may destage when it likes, so older versions can reach the medium, sector by sector. */
static void destage_some(const struct simpages *sp, struct simpage_data *d, unsigned first,
			 unsigned last, uint64_t *rng)
{
	unsigned sector = sp->unit_bytes / UNIT;

	for (unsigned u = first; u < last; u += sector)
		if (d->dirty >> u & 1 && sim_chance(rng, 4))
			for (unsigned i = u; i < u + sector; i++)
				destage(d, i);
}

static void write_page(struct simpages *sp, struct simpage *p, unsigned in, size_t n,
		       const uint8_t *buf, bool durable, uint64_t *rng)
{
	struct simpage_data *d = p->data;
	unsigned first = in / UNIT, last = first + (unsigned)(n / UNIT);
	unsigned mask = (1u << last) - (1u << first);

	if (rng && d->dirty & mask)
		destage_some(sp, d, first, last, rng);
	memcpy((durable ? d->stable : d->cache) + in, buf, n);
	if (durable)
		d->dirty = (uint8_t)(d->dirty & ~mask);
	else
		d->dirty = (uint8_t)(d->dirty | mask);
	if (d->dirty)
		list_dirty(sp, p);
}

void simpages_write(struct simpages *sp, uint64_t off_bytes, size_t len_bytes, const uint8_t *buf,
		    bool durable, uint64_t *rng)
{
	lunfs_assert(off_bytes % UNIT == 0 && len_bytes % UNIT == 0);
	while (len_bytes > 0) {
		unsigned in = (unsigned)(off_bytes % SIMPAGE_BYTES);
		size_t n = SIMPAGE_BYTES - in;

		if (n > len_bytes)
			n = len_bytes;
		write_page(sp, page_get(sp, off_bytes / SIMPAGE_BYTES), in, n, buf, durable, rng);
		off_bytes += n;
		buf += n;
		len_bytes -= n;
	}
}

void simpages_flush(struct simpages *sp)
{
	struct simpage *p;

	while ((p = pop_dirty(sp)))
		for (unsigned u = 0; p->data->dirty; u++)
			destage(p->data, u);
}

void simpages_flush_range(struct simpages *sp, uint64_t off_bytes, size_t len_bytes)
{
	struct simpage *p = page_get(sp, off_bytes / SIMPAGE_BYTES);
	unsigned first = (unsigned)(off_bytes % SIMPAGE_BYTES / UNIT);

	for (unsigned u = first; u < first + len_bytes / UNIT; u++)
		destage(p->data, u);
}

uint64_t simpages_lose(struct simpages *sp, uint64_t *rng)
{
	unsigned sector = sp->unit_bytes / UNIT;
	struct simpage *p;
	uint64_t lost = 0;

	while ((p = pop_dirty(sp))) {
		for (unsigned u = 0; u < UNITS; u += sector) {
			if (!(p->data->dirty >> u & 1))
				continue;
			if (!sim_chance(rng, 2))
				lost++;
			else
				for (unsigned i = u; i < u + sector; i++)
					destage(p->data, i);
		}
		p->data->dirty = 0;
	}
	return lost;
}

uint64_t simpages_lose_one(struct simpages *sp, uint64_t off_bytes)
{
	struct simpage *p = page_get(sp, off_bytes / SIMPAGE_BYTES);
	unsigned unit = (unsigned)(off_bytes % SIMPAGE_BYTES / UNIT);
	unsigned mask = ((1u << sp->unit_bytes / UNIT) - 1) << unit;
	bool lost = p->data->dirty & mask;

	p->data->dirty = (uint8_t)(p->data->dirty & ~mask);
	return lost;
}

uint64_t simpages_dirty(struct simpages *sp)
{
	uint64_t n = 0;

	for (struct simpage *p = sp->maybe_dirty; p; p = p->next_dirty)
		n += (uint64_t)__builtin_popcount(p->data->dirty);
	return n / (sp->unit_bytes / UNIT);
}

/* ---- as a whole ------------------------------------------------------------------------------ */

void simpages_copy(const struct simpages *from, struct simpages *to)
{
	size_t n = from->bits ? (size_t)1 << from->bits : 0;

	lunfs_assert(to->n_pages == 0 && to->bits == 0);
	to->unit_bytes = from->unit_bytes;
	if (n)
		buckets_make(to, from->bits);
	for (size_t b = 0; b < n; b++) {
		for (struct simpage *p = from->bucket[b]; p; p = p->next) {
			struct simpage *q = page_add(to, p->index, p->data);

			atomic_fetch_add(&p->data->refs, 1);
			if (p->data->dirty)
				list_dirty(to, q);
		}
	}
}

static struct simpage *in_chain(struct simpage *p, uint64_t index)
{
	while (p && p->index != index)
		p = p->next;
	return p;
}

static void drop_all_but(struct simpages *sp, const struct simpages *keep)
{
	for (size_t b = 0; b < (size_t)1 << sp->bits; b++) {
		struct simpage **at = &sp->bucket[b];

		while (*at) {
			struct simpage *p = *at;

			if (in_chain(keep->bucket[b], p->index)) {
				at = &p->next;
				continue;
			}
			*at = p->next;
			data_put(p->data);
			free(p);
			sp->n_pages--;
		}
	}
}

/* False: @to lacks a page. */
static bool share_all(const struct simpages *from, struct simpages *to)
{
	to->maybe_dirty = to->last = NULL;
	for (size_t b = 0; b < (size_t)1 << from->bits; b++) {
		for (const struct simpage *p = from->bucket[b]; p; p = p->next) {
			struct simpage *q = in_chain(to->bucket[b], p->index);

			if (!q)
				return false;
			if (q->data != p->data) {
				atomic_fetch_add(&p->data->refs, 1);
				data_put(q->data);
				q->data = p->data;
			}
			q->listed = false;
			if (q->data->dirty)
				list_dirty(to, q);
		}
	}
	return true;
}

void simpages_return(const struct simpages *from, struct simpages *to)
{
	if (to->bits && to->bits == from->bits && share_all(from, to)) {
		if (to->n_pages != from->n_pages)
			drop_all_but(to, from);
		return;
	}
	simpages_clear(to);
	simpages_copy(from, to);
}

void simpages_clear(struct simpages *sp)
{
	size_t n = sp->bits ? (size_t)1 << sp->bits : 0;
	uint32_t unit_bytes = sp->unit_bytes;

	for (size_t b = 0; b < n; b++) {
		while (sp->bucket[b]) {
			struct simpage *p = sp->bucket[b];

			sp->bucket[b] = p->next;
			data_put(p->data);
			free(p);
		}
	}
	free(sp->bucket);
	memset(sp, 0, sizeof(*sp));
	sp->unit_bytes = unit_bytes;
}
