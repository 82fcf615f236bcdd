/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log as bytes: how many blocks a transaction takes, what they hold, and the header. No I/O.
 *
 * Every image entry has a place of 3584 bytes in the image area, in the order of the entries; a
 * revoke has none.
 */
#include "txn/txn_impl.h"

#include "base/crc.h"

#include <string.h>

uint32_t log_blks_of(unsigned entries, unsigned images)
{
	uint64_t desc = (entries + LUNFS_JDESC_ENTRIES - 1) / LUNFS_JDESC_ENTRIES;
	uint64_t body =
	    ((uint64_t)images * LUNFS_PAYLOAD_BYTES + LUNFS_BLOCK_BYTES - 1) / LUNFS_BLOCK_BYTES;

	return entries ? (uint32_t)(desc + body + 1) : 0;
}

uint32_t log_need(unsigned entries)
{
	return log_blks_of(entries, entries);
}

void journal_header(const struct geo *g, unsigned slot, uint64_t generation, uint64_t nonce,
		    uint32_t tail_blk, uint64_t tail_seq, void *sector)
{
	struct lunfs_jhdr *h = sector;

	memset(sector, 0, g->sector_bytes);
	h->magic = le32_make(LUNFS_JHDR_MAGIC);
	memcpy(h->vol_id, g->vol_id, sizeof(h->vol_id));
	h->slot = le16_make((uint16_t)slot);
	h->tail_blk = le32_make(tail_blk);
	h->generation = le64_make(generation);
	h->nonce = le64_make(nonce);
	h->tail_seq = le64_make(tail_seq);
	crc_seal(h, sizeof(*h), offsetof(struct lunfs_jhdr, crc));
}

void journal_format(const struct geo *g, unsigned slot, void *blk)
{
	memset(blk, 0, LUNFS_BLOCK_BYTES);
	journal_header(g, slot, 0, 0, 1, 1, blk);
}

static void fill_entry(struct lunfs_jentry *e, const struct image *im)
{
	e->addr = le64_make(im->addr);
	e->guard = le64_make(im->guard);
	e->possession_seq = le64_make(im->possession);
	e->version = le64_make(im->version);
	e->kind = le16_make(im->buf ? LUNFS_JENT_IMAGE : LUNFS_JENT_REVOKE);
	e->len_bytes = le16_make(im->buf ? LUNFS_PAYLOAD_BYTES : 0);
}

static void fill_desc_heads(const struct txns *t, const struct txn *x, unsigned entries,
			    uint32_t blks, uint8_t *log)
{
	unsigned n_desc = (entries + LUNFS_JDESC_ENTRIES - 1) / LUNFS_JDESC_ENTRIES;

	for (unsigned i = 0; i < n_desc; i++) {
		struct lunfs_jdesc *d = (void *)(log + (size_t)i * LUNFS_BLOCK_BYTES);

		d->magic = le32_make(LUNFS_JDESC_MAGIC);
		memcpy(d->vol_id, t->env.geo->vol_id, sizeof(d->vol_id));
		d->nonce = le64_make(host_nonce(t->host));
		d->seq = le64_make(x->seq);
		d->index = le16_make((uint16_t)i);
		d->n_desc = le16_make((uint16_t)n_desc);
		d->n_entries = le32_make(entries);
		d->n_blks = le32_make(blks);
		crc_seal(d, sizeof(*d), offsetof(struct lunfs_jdesc, crc));
	}
}

static void fill_commit(const struct txns *t, const struct txn *x, uint32_t blks, uint8_t *log)
{
	size_t body = (size_t)(blks - 1) * LUNFS_BLOCK_BYTES;
	struct lunfs_jcommit *c = (void *)(log + body);

	c->magic = le32_make(LUNFS_JCOMMIT_MAGIC);
	memcpy(c->vol_id, t->env.geo->vol_id, sizeof(c->vol_id));
	c->nonce = le64_make(host_nonce(t->host));
	c->seq = le64_make(x->seq);
	c->body_crc = le32_make(crc32c(log, body));
	crc_seal(c, sizeof(*c), offsetof(struct lunfs_jcommit, crc));
}

void journal_encode(const struct txns *t, const struct txn *x, unsigned entries, uint8_t *log)
{
	unsigned n_desc = (entries + LUNFS_JDESC_ENTRIES - 1) / LUNFS_JDESC_ENTRIES;
	uint8_t *body = log + (size_t)n_desc * LUNFS_BLOCK_BYTES;
	uint8_t *end = log + (size_t)x->log_blks * LUNFS_BLOCK_BYTES;
	const struct image *im;
	unsigned i = 0;

	memset(log, 0, (size_t)n_desc * LUNFS_BLOCK_BYTES);
	TAILQ_FOREACH(im, &x->images, of_txn)
	{
		struct lunfs_jdesc *d =
		    (void *)(log + (size_t)(i / LUNFS_JDESC_ENTRIES) * LUNFS_BLOCK_BYTES);

		fill_entry(&d->entry[i % LUNFS_JDESC_ENTRIES], im);
		if (im->buf) {
			memcpy(body, im->buf, LUNFS_PAYLOAD_BYTES);
			body += LUNFS_PAYLOAD_BYTES;
		}
		i++;
	}
	lunfs_assert(i == entries && body <= end - LUNFS_BLOCK_BYTES);
	memset(body, 0, (size_t)(end - body));
	fill_desc_heads(t, x, entries, x->log_blks, log);
	fill_commit(t, x, x->log_blks, log);
}
