/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What files hold, as segments: which operation wrote these bytes. Where a host died before it had
 * committed, several answers are possible, sector by sector.
 */
#include "model_impl.h"

#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512u
#define BLOCK 4096u

static const struct mval zeroes = {0, 0};

/* ---- segments -------------------------------------------------------------------------------- */

static void seg_insert(struct mnode *n, uint32_t at, const struct mseg *s)
{
	if (n->n_seg == n->cap_seg) {
		n->cap_seg = n->cap_seg ? 2 * n->cap_seg : 8;
		n->seg = realloc(n->seg, n->cap_seg * sizeof(*n->seg));
		lunfs_assert(n->seg);
	}
	memmove(&n->seg[at + 1], &n->seg[at], (n->n_seg - at) * sizeof(*n->seg));
	n->seg[at] = *s;
	n->n_seg++;
}

/* Index of the segment that begins at @off, which is made to be one. */
static uint32_t split(struct mnode *n, uint64_t off)
{
	uint32_t k = 0;
	struct mseg s;

	while (k < n->n_seg && n->seg[k].off + n->seg[k].len <= off)
		k++;
	if (k == n->n_seg || n->seg[k].off == off)
		return k;
	s = n->seg[k];
	s.len -= off - s.off;
	s.off = off;
	n->seg[k].len = off - n->seg[k].off;
	seg_insert(n, k + 1, &s);
	return k + 1;
}

static void set_size(struct mnode *n, uint64_t size)
{
	struct mseg s = {.off = n->size, .len = size - n->size, .n = 1, .alt = {zeroes}};

	if (size > n->size)
		seg_insert(n, n->n_seg, &s);
	else if (size < n->size)
		n->n_seg = split(n, size);
	n->size = size;
}

/* [from, to) within the file is now @v. */
static void cover(struct mnode *n, uint64_t from, uint64_t to, struct mval v)
{
	uint32_t a, b;

	if (from >= to)
		return;
	split(n, from);
	b = split(n, to);
	a = split(n, from);
	n->seg[a] = (struct mseg){.off = from, .len = to - from, .n = 1, .alt = {v}};
	memmove(&n->seg[a + 1], &n->seg[b], (n->n_seg - b) * sizeof(*n->seg));
	n->n_seg -= b - a - 1;
}

/* Sectors in [from, to) may be @v as well. */
static void maybe(struct mnode *n, uint64_t from, uint64_t to, struct mval v)
{
	if (to > n->size)
		to = n->size;
	if (from >= to)
		return;
	split(n, from);
	split(n, to);
	for (uint32_t k = split(n, from); k < n->n_seg && n->seg[k].off < to; k++) {
		struct mseg *s = &n->seg[k];
		bool known = s->n > ALTS_MAX;

		for (unsigned i = 0; i < s->n && i < ALTS_MAX; i++)
			known |= s->alt[i].tag == v.tag && s->alt[i].base == v.base;
		if (known)
			continue;
		if (s->n < ALTS_MAX)
			s->alt[s->n] = v;
		s->n++; /* beyond ALTS_MAX: anything goes */
	}
}

/* ---- operations ------------------------------------------------------------------------------ */

static struct mval val_of(const struct hop *h)
{
	bool append = h->flags & VWRITE_APPEND;

	return (struct mval){.tag = h->index + 1, .base = append ? h->at : 0};
}

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

bool model_write(struct model *m, const struct hop *h, struct mnode *n)
{
	bool append = h->flags & VWRITE_APPEND;
	uint64_t at = append ? n->size : h->off;
	struct mval v = {h->index + 1, append ? at : 0};
	uint64_t len = h->len;

	if (m->how == MODEL_ANSWERED) {
		if (h->done != h->len && !(m->full && h->done && h->done < h->len))
			return model_no(m, "should have written %llu bytes",
					(unsigned long long)h->len);
		if (h->at != at)
			return model_no(m, "should have written at %llu", (unsigned long long)at);
	}
	if (m->how == MODEL_ANSWERED)
		len = h->done;
	if (at + len > n->size)
		set_size(n, at + len);
	cover(n, at, at + len, v);
	maybe(n, at + len, at + h->len, v);
	for (unsigned k = 0; m->peers && k < m->peers->n; k++) { /* side by side: either's bytes */
		const struct hop *p = m->peers->hop[k];

		if (p->kind == HOP_WRITE && p->point && p->point < h->point)
			maybe(n, max(at, p->off), min(at + len, p->off + p->len), val_of(p));
	}
	return true;
}

static bool alt_is(const struct mval *v, const uint8_t *buf, uint64_t off, uint64_t len)
{
	return pattern_is(buf, v->tag, off - v->base, (size_t)len);
}

static bool peer_writes(const struct model *m, uint64_t off, uint64_t len)
{
	for (unsigned k = 0; m->peers && k < m->peers->n; k++) {
		const struct hop *p = m->peers->hop[k];

		if (p->kind == HOP_WRITE && p->off < off + len && off < p->off + p->len)
			return true;
	}
	return false;
}

/* A sector, or a part of one, of which several contents are possible: now it is known. */
static bool settle(struct mnode *n, const uint8_t *buf, uint64_t off, uint64_t len)
{
	uint32_t k = split(n, off); /* which may move n->seg */
	const struct mseg *s = &n->seg[k];

	for (unsigned i = 0; i < s->n && i < ALTS_MAX; i++)
		if (alt_is(&s->alt[i], buf, off, len)) {
			cover(n, off, off + len, s->alt[i]);
			return true;
		}
	return s->n > ALTS_MAX;
}

static uint64_t first_wrong(const struct mval *v, const uint8_t *buf, uint64_t off, uint64_t len)
{
	for (uint64_t k = 0; k < len; k++)
		if (!alt_is(v, buf + k, off + k, 1))
			return off + k;
	return off;
}

static bool read_fits(struct model *m, const struct hop *h, struct mnode *n)
{
	const uint8_t *buf = h->data;
	uint64_t pos = h->off, end = h->off + h->done;

	while (pos < end) {
		uint32_t k = 0;
		uint64_t len;

		while (n->seg[k].off + n->seg[k].len <= pos)
			k++;
		len = min(n->seg[k].off + n->seg[k].len, end) - pos;
		if (n->seg[k].n > 1)
			len = min(len, SECTOR - pos % SECTOR);
		/* what is being written beside it may be something else in a moment */
		if (!peer_writes(m, pos, len) &&
		    !(n->seg[k].n == 1 ? alt_is(&n->seg[k].alt[0], buf, pos, len)
				       : settle(n, buf, pos, len))) {
			struct mval v = n->seg[k].alt[0];
			uint64_t at = first_wrong(&v, buf, pos, len);

			return model_no(m, "byte %llu should be of operation %d%s, but reads %02x",
					(unsigned long long)at, (int)v.tag - 1,
					v.tag ? "" : " (zero)", buf[at - pos]);
		}
		buf += len;
		pos += len;
	}
	return true;
}

bool model_read(struct model *m, const struct hop *h, struct mnode *n)
{
	uint64_t want = h->off < n->size ? min(h->len, n->size - h->off) : 0;

	if (m->how != MODEL_ANSWERED)
		return true;
	if (h->done != want)
		return model_no(m, "should have read %llu bytes", (unsigned long long)want);
	return read_fits(m, h, n);
}

bool model_truncate(struct model *m, const struct hop *h, struct mnode *n)
{
	(void)m;
	set_size(n, h->len);
	return true;
}

bool model_fallocate(struct model *m, const struct hop *h, struct mnode *n)
{
	uint64_t end = h->off + h->len;

	if (!(h->flags & FALLOC_FL_KEEP_SIZE) && end > n->size)
		set_size(n, end);
	if (!(h->flags & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)))
		return true;
	/* Extents first, then the parts of blocks at both ends: who got no answer has some of it.
	 */
	if (m->how == MODEL_ANSWERED)
		cover(n, h->off, min(end, n->size), zeroes);
	else
		maybe(n, h->off, end, zeroes);
	return true;
}

/* ---- what a lost operation may leave --------------------------------------------------------- */

/* Parts of blocks are zeroed in place, whole blocks by the extents alone. */
static void lost_zeroes(struct mnode *n, uint64_t from, uint64_t to)
{
	uint64_t up = (from + BLOCK - 1) / BLOCK * BLOCK, down = to / BLOCK * BLOCK;

	if (up > down) {
		maybe(n, from, to, zeroes);
	} else {
		maybe(n, from, up, zeroes);
		maybe(n, down, to, zeroes);
	}
}

/*
 * A write to a part of a block that its host took for zeroed fills the whole of it, in place and
 * ahead of its transaction: where the zeroing is lost as well, its zeroes are there all the same.
 */
static void lost_both(struct mnode *n, const struct mlost *z, const struct mlost *w)
{
	uint64_t up = (z->from + BLOCK - 1) / BLOCK * BLOCK, down = z->to / BLOCK * BLOCK;
	uint64_t first = w->from / BLOCK * BLOCK, end = (w->to + BLOCK - 1) / BLOCK * BLOCK;

	maybe(n, max(up, first), min(down, min(first + BLOCK, end)), zeroes);
	maybe(n, max(up, end - BLOCK), min(down, end), zeroes);
}

/* In whichever order: what had no answer at its host's death has none. */
static void note_lost(struct mnode *n, struct mlost l)
{
	uint32_t known = n->n_lost < LOST_MAX ? n->n_lost : LOST_MAX;

	for (uint32_t k = 0; k < known && l.from < l.to; k++) {
		const struct mlost *o = &n->lost[k];

		if (o->host == l.host && o->zeroes != l.zeroes)
			lost_both(n, l.zeroes ? &l : o, l.zeroes ? o : &l);
	}
	n->lost[n->n_lost++ % LOST_MAX] = l;
}

void model_bytes_host_gone(struct mnode *n, unsigned host)
{
	uint32_t known = n->n_lost < LOST_MAX ? n->n_lost : LOST_MAX;

	n->n_lost = 0;
	for (uint32_t k = 0; k < known; k++)
		if (n->lost[k].host != host)
			n->lost[n->n_lost++] = n->lost[k];
}

/*
 * Bytes are written in place before their transaction commits; growing a file zeroes the rest of
 * its last block in place (h->size: the size before, as the host saw it).
 */
void model_bytes_lost(struct model *m, const struct hop *h, struct mnode *n)
{
	(void)m;
	if (h->kind == HOP_WRITE) {
		uint64_t at = h->flags & VWRITE_APPEND ? h->lost_size : h->off;

		maybe(n, at, at + h->len,
		      (struct mval){h->index + 1, h->flags & VWRITE_APPEND ? at : 0});
		note_lost(n, (struct mlost){at, at + h->len, h->host, false});
	}
	if (h->kind == HOP_FALLOCATE &&
	    (h->flags & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))) {
		lost_zeroes(n, h->off, h->off + h->len);
		note_lost(n, (struct mlost){h->off, h->off + h->len, h->host, true});
	}
	if (h->kind == HOP_WRITE || h->kind == HOP_FALLOCATE || h->kind == HOP_TRUNCATE)
		maybe(n, h->lost_size, (h->lost_size + BLOCK - 1) / BLOCK * BLOCK, zeroes);
}
