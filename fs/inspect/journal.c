/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transactions in a journal's ring, as they stand there: whoever wrote them, live or not. Bounded
 * by the size of the journal.
 */
#include "base/crc.h"
#include "inspect/inspect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t ring(const struct insp *in)
{
	return in->geo->journal_blks - 1;
}

static int ring_read(const struct insp *in, unsigned slot, uint32_t pos, uint32_t blks,
		     uint8_t *buf)
{
	uint64_t first = in->geo->journal_blk[slot] + 1;
	uint32_t head = blks < ring(in) - pos ? blks : ring(in) - pos;
	int rc = insp_read(in, geo_blk_off(first + pos), (size_t)head * LUNFS_BLOCK_BYTES, buf);

	if (rc == 0 && head < blks)
		rc = insp_read(in, geo_blk_off(first), (size_t)(blks - head) * LUNFS_BLOCK_BYTES,
			       buf + (size_t)head * LUNFS_BLOCK_BYTES);
	return rc;
}

static const char *judge(const struct insp *in, const struct insp_txn *t, const uint8_t *log)
{
	size_t body = (size_t)(t->blks - 1) * LUNFS_BLOCK_BYTES;
	const struct lunfs_jcommit *c = (const void *)(log + body);

	for (uint32_t i = 0; i < t->n_desc; i++) {
		const struct lunfs_jdesc *d = (const void *)(log + (size_t)i * LUNFS_BLOCK_BYTES);

		if (le32_get(d->magic) != LUNFS_JDESC_MAGIC || le16_get(d->index) != i ||
		    le64_get(d->seq) != t->seq || le64_get(d->nonce) != t->nonce ||
		    memcmp(d->vol_id, in->geo->vol_id, sizeof(d->vol_id)) != 0)
			return "a descriptor block is missing";
		if (!crc_ok(d, sizeof(*d), offsetof(struct lunfs_jdesc, crc)))
			return "the checksum of a descriptor block is wrong";
	}
	if (le32_get(c->magic) != LUNFS_JCOMMIT_MAGIC || le64_get(c->seq) != t->seq ||
	    le64_get(c->nonce) != t->nonce)
		return "the commit block is missing";
	if (!crc_ok(c, sizeof(*c), offsetof(struct lunfs_jcommit, crc)))
		return "the checksum of the commit block is wrong";
	if (le32_get(c->body_crc) != crc32c(log, body))
		return "the commit block has another checksum for the transaction";
	return NULL;
}

int insp_journal_at(const struct insp *in, unsigned slot, uint32_t pos, struct insp_txn *out)
{
	struct insp_txn t = {.pos = pos};
	struct lunfs_jdesc *d;
	uint8_t *log;
	int rc;

	if (slot >= LUNFS_MAX_SLOTS || !in->geo->journal_blk[slot] || pos >= ring(in))
		return -ENOENT;
	d = dev_buf_alloc(sizeof(*d));
	rc = ring_read(in, slot, pos, 1, (uint8_t *)d);
	t.seq = le64_get(d->seq);
	t.nonce = le64_get(d->nonce);
	t.n_desc = le16_get(d->n_desc);
	t.n_entries = le32_get(d->n_entries);
	t.blks = le32_get(d->n_blks);
	if (rc == 0 && (le32_get(d->magic) != LUNFS_JDESC_MAGIC || le16_get(d->index) != 0))
		rc = -ENOENT;
	free(d);
	if (rc)
		return rc;
	if (t.n_desc < 1 || t.n_desc >= t.blks || t.blks > ring(in) ||
	    t.n_entries > t.n_desc * LUNFS_JDESC_ENTRIES) {
		t.blks = 0;
		t.why = "the sizes in its descriptor make no sense";
		*out = t;
		return 0;
	}
	log = dev_buf_alloc((size_t)t.blks * LUNFS_BLOCK_BYTES);
	rc = ring_read(in, slot, pos, t.blks, log);
	if (rc == 0) {
		t.why = judge(in, &t, log);
		t.valid = !t.why;
		*out = t;
	}
	free(log);
	return rc;
}

int insp_journal_first(const struct insp *in, unsigned slot, struct insp_txn *out)
{
	struct lunfs_jhdr h;
	struct insp_txn t;
	int rc;

	if (slot >= LUNFS_MAX_SLOTS || !in->geo->journal_blk[slot])
		return -ENOENT;
	rc = insp_read(in, geo_blk_off(in->geo->journal_blk[slot]), sizeof(h), &h);
	if (rc == 0)
		rc = insp_journal_at(in, slot, le32_get(h.tail_blk) - 1, &t);
	if (rc == 0 && t.seq != le64_get(h.tail_seq))
		rc = -ENOENT;
	if (rc)
		return rc;
	t.used = t.blks;
	*out = t;
	return 0;
}

int insp_journal_next(const struct insp *in, unsigned slot, struct insp_txn *t)
{
	struct insp_txn next;
	int rc;

	if (!t->blks || t->used >= ring(in))
		return -ENOENT;
	rc = insp_journal_at(in, slot, (t->pos + t->blks) % ring(in), &next);
	if (rc == 0 && (next.seq != t->seq + 1 || next.blks > ring(in) - t->used))
		rc = -ENOENT;
	if (rc)
		return rc;
	next.used = t->used + next.blks;
	*t = next;
	return 0;
}

int insp_journal_txn(const struct insp *in, unsigned slot, unsigned n, struct insp_txn *out)
{
	int rc = insp_journal_first(in, slot, out);

	while (rc == 0 && n--)
		rc = insp_journal_next(in, slot, out);
	return rc;
}

int insp_journal_reseal(const struct insp *in, unsigned slot, uint32_t pos, uint32_t blks)
{
	size_t body = (size_t)(blks - 1) * LUNFS_BLOCK_BYTES;
	uint8_t *log = dev_buf_alloc((size_t)blks * LUNFS_BLOCK_BYTES);
	struct lunfs_jcommit *c = (void *)(log + body);
	int rc = ring_read(in, slot, pos, blks, log);

	if (rc == 0) {
		c->body_crc = le32_make(crc32c(log, body));
		crc_seal(c, sizeof(*c), offsetof(struct lunfs_jcommit, crc));
		rc = insp_write(
		    in, geo_blk_off(in->geo->journal_blk[slot] + 1 + (pos + blks - 1) % ring(in)),
		    sizeof(*c), c);
	}
	free(log);
	return rc;
}
