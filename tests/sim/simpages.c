/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The simulated medium's sparse memory with its volatile write cache. */
#include "simpages.h"

#include "base/log.h"
#include "simrand.h"

#include <stdlib.h>
#include <string.h>

#define UNIT 512u

static struct simpage **bucket_of(struct simpages *sp, uint64_t index)
{
	return &sp->bucket[(index * 0x9e3779b97f4a7c15ull) >> 48];
}

static struct simpage *page_find(struct simpages *sp, uint64_t index)
{
	struct simpage *p = *bucket_of(sp, index);

	while (p && p->index != index)
		p = p->next;
	return p;
}

bool simpages_present(struct simpages *sp, uint64_t off_bytes)
{
	return page_find(sp, off_bytes / SIMPAGE_BYTES) != NULL;
}

static struct simpage *page_get(struct simpages *sp, uint64_t index)
{
	struct simpage *p = page_find(sp, index);
	struct simpage **b;

	if (p)
		return p;
	p = calloc(1, sizeof(*p));
	lunfs_assert(p != NULL);
	p->index = index;
	b = bucket_of(sp, index);
	p->next = *b;
	*b = p;
	return p;
}

static void destage(struct simpage *p, unsigned unit)
{
	if (p->dirty >> unit & 1)
		memcpy(p->stable + unit * UNIT, p->cache + unit * UNIT, UNIT);
	p->dirty = (uint8_t)(p->dirty & ~(1u << unit));
}

void simpages_read(struct simpages *sp, uint64_t off_bytes, size_t len_bytes, uint8_t *buf)
{
	while (len_bytes > 0) {
		unsigned in = (unsigned)(off_bytes % SIMPAGE_BYTES), unit = in / UNIT;
		size_t n = UNIT - in % UNIT;
		struct simpage *p = page_find(sp, off_bytes / SIMPAGE_BYTES);

		if (n > len_bytes)
			n = len_bytes;
		if (!p)
			memset(buf, 0, n);
		else
			memcpy(buf, (p->dirty >> unit & 1 ? p->cache : p->stable) + in, n);
		off_bytes += n;
		buf += n;
		len_bytes -= n;
	}
}

static void write_unit(struct simpages *sp, uint64_t off_bytes, const uint8_t *buf, bool durable)
{
	struct simpage *p = page_get(sp, off_bytes / SIMPAGE_BYTES);
	unsigned unit = (unsigned)(off_bytes % SIMPAGE_BYTES) / UNIT;

	memcpy((durable ? p->stable : p->cache) + unit * UNIT, buf, UNIT);
	if (durable)
		p->dirty = (uint8_t)(p->dirty & ~(1u << unit));
	else
		p->dirty = (uint8_t)(p->dirty | 1u << unit);
	if (p->dirty && !p->listed) {
		p->listed = true;
		p->next_dirty = sp->maybe_dirty;
		sp->maybe_dirty = p;
	}
}

static struct simpage *pop_dirty(struct simpages *sp)
{
	struct simpage *p = sp->maybe_dirty;

	if (p) {
		sp->maybe_dirty = p->next_dirty;
		p->listed = false;
	}
	return p;
}

/* Multiples of 512 bytes. A cache may destage when it likes, so older versions can reach the
 * medium. */
void simpages_write(struct simpages *sp, uint64_t off_bytes, size_t len_bytes, const uint8_t *buf,
		    bool durable, uint64_t *rng)
{
	lunfs_assert(off_bytes % UNIT == 0 && len_bytes % UNIT == 0);
	for (size_t done = 0; done < len_bytes; done += UNIT) {
		uint64_t off = off_bytes + done;

		if (rng && off % sp->unit_bytes == 0 && sim_chance(rng, 4)) {
			struct simpage *p = page_get(sp, off / SIMPAGE_BYTES);
			unsigned first = (unsigned)(off % SIMPAGE_BYTES) / UNIT;

			for (unsigned u = 0; u < sp->unit_bytes / UNIT; u++)
				destage(p, first + u);
		}
		write_unit(sp, off, buf + done, durable);
	}
}

void simpages_flush(struct simpages *sp)
{
	struct simpage *p;

	while ((p = pop_dirty(sp)))
		for (unsigned u = 0; p->dirty; u++)
			destage(p, u);
}

void simpages_lose(struct simpages *sp, uint64_t *rng)
{
	unsigned units = sp->unit_bytes / UNIT;
	struct simpage *p;

	while ((p = pop_dirty(sp))) {
		for (unsigned u = 0; p->dirty && u < SIMPAGE_BYTES / UNIT; u += units) {
			bool keep = sim_chance(rng, 2);

			for (unsigned i = u; keep && i < u + units; i++)
				destage(p, i);
		}
		p->dirty = 0;
	}
}

uint64_t simpages_dirty(struct simpages *sp)
{
	uint64_t n = 0;

	for (struct simpage *p = sp->maybe_dirty; p; p = p->next_dirty)
		n += (uint64_t)__builtin_popcount(p->dirty);
	return n / (sp->unit_bytes / UNIT);
}

void simpages_copy(const struct simpages *from, struct simpages *to)
{
	to->unit_bytes = from->unit_bytes;
	for (unsigned b = 0; b < SIMPAGES_BUCKETS; b++) {
		for (struct simpage *p = from->bucket[b]; p; p = p->next) {
			struct simpage *q = page_get(to, p->index);

			memcpy(q->stable, p->stable, sizeof(q->stable));
			memcpy(q->cache, p->cache, sizeof(q->cache));
			q->dirty = p->dirty;
			q->listed = true;
			q->next_dirty = to->maybe_dirty;
			to->maybe_dirty = q;
		}
	}
}

void simpages_clear(struct simpages *sp)
{
	for (unsigned b = 0; b < SIMPAGES_BUCKETS; b++) {
		while (sp->bucket[b]) {
			struct simpage *p = sp->bucket[b];

			sp->bucket[b] = p->next;
			free(p);
		}
	}
	sp->maybe_dirty = NULL;
}
