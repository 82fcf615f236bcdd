/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading a dead host's journal: from the tail, transaction by transaction. Each is checked as a
 * whole before any of it counts, and the first that is not valid ends the log. The last mention of
 * a block wins. What is read is hostile: every loop is bounded by the journal's size, nothing is
 * written.
 */
#include "txn/replay_impl.h"

#include "base/crc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct rtxn { /* one transaction being checked */
	uint8_t *log;
	uint32_t n_desc, n_entries, n_blks, n_images;
};

/* ---- header ----------------------------------------------------------------------------- */

static int read_blks(struct replay *rp, uint64_t blk, size_t len_bytes, void *buf)
{
	struct dev_io io = {
	    .op = DEV_READ, .off_bytes = geo_blk_off(blk), .len_bytes = len_bytes, .buf = buf};

	return txn_read(rp->t, &io, 1);
}

static bool header_ok(const struct replay *rp, const struct lunfs_jhdr *h)
{
	uint32_t tail = le32_get(h->tail_blk);

	return le32_get(h->magic) == LUNFS_JHDR_MAGIC &&
	       crc_ok(h, sizeof(*h), offsetof(struct lunfs_jhdr, crc)) &&
	       memcmp(h->vol_id, rp->g->vol_id, sizeof(h->vol_id)) == 0 &&
	       le16_get(h->slot) == rp->slot && le16_get(h->reserved0) == 0 && tail >= 1 &&
	       tail <= rp->log_blks && le64_get(h->tail_seq) >= 1 &&
	       mem_is_zero(h->reserved1, sizeof(h->reserved1));
}

/* 0: replay from rp->pos; -ENOENT: that incarnation never wrote a header; -EUCLEAN; -EIO. */
static int read_header(struct replay *rp)
{
	uint8_t *sector = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	const struct lunfs_jhdr *h = (void *)sector;
	int r = read_blks(rp, rp->region_blk, rp->g->sector_bytes, sector);

	if (!r && !header_ok(rp, h)) {
		log_err("journal-damaged",
			"the journal header of dead host slot %u (block %llu) is damaged, so what "
			"that host committed last cannot be replayed; run fsck.lunfs",
			rp->slot, (unsigned long long)rp->region_blk);
		r = -EUCLEAN;
	} else if (!r && (le64_get(h->generation) != LUNFS_OWNER_GEN(rp->owner) ||
			  le64_get(h->nonce) != rp->nonce)) {
		r = -ENOENT;
	} else if (!r) {
		rp->pos = le32_get(h->tail_blk) - 1;
		rp->seq = le64_get(h->tail_seq);
	}
	free(sector);
	return r;
}

/* ---- one transaction -------------------------------------------------------------------- */

static bool desc_ok(const struct replay *rp, const struct lunfs_jdesc *d, unsigned index)
{
	return le32_get(d->magic) == LUNFS_JDESC_MAGIC &&
	       memcmp(d->vol_id, rp->g->vol_id, sizeof(d->vol_id)) == 0 &&
	       le64_get(d->nonce) == rp->nonce && le64_get(d->seq) == rp->seq &&
	       le16_get(d->index) == index &&
	       crc_ok(d, sizeof(*d), offsetof(struct lunfs_jdesc, crc)) &&
	       mem_is_zero(d->reserved, sizeof(d->reserved));
}

static int read_ring(struct replay *rp, uint32_t pos, uint32_t len, uint8_t *buf)
{
	uint32_t first = len < rp->log_blks - pos ? len : rp->log_blks - pos;
	int r = read_blks(rp, rp->region_blk + 1 + pos, (size_t)first * LUNFS_BLOCK_BYTES, buf);

	if (!r && first < len)
		r = read_blks(rp, rp->region_blk + 1, (size_t)(len - first) * LUNFS_BLOCK_BYTES,
			      buf + (size_t)first * LUNFS_BLOCK_BYTES);
	return r;
}

/* 1: the descriptor gives a size worth reading; 0: the log ends here. */
static int read_first_desc(struct replay *rp, struct rtxn *x)
{
	struct lunfs_jdesc *d = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	int r = read_ring(rp, rp->pos, 1, (uint8_t *)d);

	if (!r && desc_ok(rp, d, 0)) {
		x->n_desc = le16_get(d->n_desc);
		x->n_entries = le32_get(d->n_entries);
		x->n_blks = le32_get(d->n_blks);
		r = x->n_blks <= rp->log_blks - rp->scanned && x->n_desc >= 1 &&
		    x->n_desc < x->n_blks && x->n_entries >= 1 &&
		    x->n_entries <= (uint64_t)x->n_desc * LUNFS_JDESC_ENTRIES &&
		    x->n_entries > (uint64_t)(x->n_desc - 1) * LUNFS_JDESC_ENTRIES;
	}
	free(d);
	return r;
}

static const struct lunfs_jdesc *desc_at(const struct rtxn *x, unsigned i)
{
	return (const void *)(x->log + (size_t)i * LUNFS_BLOCK_BYTES);
}

static const struct lunfs_jentry *entry_at(const struct rtxn *x, unsigned i)
{
	return &desc_at(x, i / LUNFS_JDESC_ENTRIES)->entry[i % LUNFS_JDESC_ENTRIES];
}

static const uint8_t *place_at(const struct rtxn *x, unsigned image)
{
	return x->log + (size_t)x->n_desc * LUNFS_BLOCK_BYTES + (size_t)image * LUNFS_PAYLOAD_BYTES;
}

static bool descs_ok(const struct replay *rp, const struct rtxn *x)
{
	static const struct lunfs_jentry none;

	for (unsigned i = 0; i < x->n_desc; i++) {
		const struct lunfs_jdesc *d = desc_at(x, i);

		if (!desc_ok(rp, d, i) || le16_get(d->n_desc) != x->n_desc ||
		    le32_get(d->n_entries) != x->n_entries || le32_get(d->n_blks) != x->n_blks)
			return false;
	}
	for (unsigned i = x->n_entries; i < x->n_desc * LUNFS_JDESC_ENTRIES; i++)
		if (memcmp(entry_at(x, i), &none, sizeof(none)) != 0)
			return false;
	return true;
}

static bool commit_ok(const struct replay *rp, const struct rtxn *x)
{
	size_t body = (size_t)(x->n_blks - 1) * LUNFS_BLOCK_BYTES;
	const struct lunfs_jcommit *c = (const void *)(x->log + body);

	return le32_get(c->magic) == LUNFS_JCOMMIT_MAGIC &&
	       crc_ok(c, sizeof(*c), offsetof(struct lunfs_jcommit, crc)) &&
	       memcmp(c->vol_id, rp->g->vol_id, sizeof(c->vol_id)) == 0 &&
	       le64_get(c->nonce) == rp->nonce && le64_get(c->seq) == rp->seq &&
	       le32_get(c->reserved0) == 0 && mem_is_zero(c->reserved1, sizeof(c->reserved1)) &&
	       le32_get(c->body_crc) == crc32c(x->log, body);
}

static bool entry_is_whole(const struct lunfs_jentry *e)
{
	return le16_get(e->off_bytes) == 0 && le16_get(e->len_bytes) == LUNFS_PAYLOAD_BYTES;
}

/* A payload that says of itself what @e says of it. */
static bool image_ok(const struct replay *rp, const struct lunfs_jentry *e, const uint8_t *img)
{
	const struct lunfs_blk_hdr *h = (const void *)img;
	uint16_t type = le16_get(h->type);

	return type >= LUNFS_BLK_FREE && type <= LUNFS_BLK_BTREE &&
	       blk_check(rp->g, img, type, le64_get(e->addr)) == 0 &&
	       le64_get(h->version) == le64_get(e->version) &&
	       le64_get(h->guard) == le64_get(e->guard);
}

static bool entry_ok(const struct replay *rp, const struct lunfs_jentry *e)
{
	unsigned off = le16_get(e->off_bytes), len = le16_get(e->len_bytes);

	if (!cell_addr_ok(rp->g, le64_get(e->addr)) || !cell_addr_ok(rp->g, le64_get(e->guard)) ||
	    le16_get(e->reserved) != 0)
		return false;
	switch (le16_get(e->kind)) {
	case LUNFS_JENT_REVOKE:
		return off == 0 && len == 0;
	case LUNFS_JENT_IMAGE:
		return len >= 1 && off + len <= LUNFS_PAYLOAD_BYTES;
	default:
		return false;
	}
}

/* All entries, and that the images they announce are there and are what they should be. */
static bool entries_ok(const struct replay *rp, struct rtxn *x)
{
	for (unsigned i = 0; i < x->n_entries; i++) {
		if (!entry_ok(rp, entry_at(x, i)))
			return false;
		x->n_images += le16_get(entry_at(x, i)->kind) == LUNFS_JENT_IMAGE;
	}
	if (log_blks_of(x->n_entries, x->n_images) != x->n_blks)
		return false;
	for (unsigned i = 0, k = 0; i < x->n_entries; i++) {
		const struct lunfs_jentry *e = entry_at(x, i);

		if (le16_get(e->kind) != LUNFS_JENT_IMAGE)
			continue;
		if (entry_is_whole(e) && !image_ok(rp, e, place_at(x, k)))
			return false;
		k++;
	}
	return true;
}

/* ---- what it says ----------------------------------------------------------------------- */

static struct mention *mention_get(struct replay *rp, uint64_t addr)
{
	struct mention *m;

	HASH_FIND(hh, rp->mentions, &addr, sizeof(addr), m);
	if (m)
		return m;
	m = txn_zalloc(sizeof(*m));
	m->addr = addr;
	HASH_ADD(hh, rp->mentions, addr, sizeof(m->addr), m);
	return m;
}

/* A range on top of the block's last image, which must be of the same possession. */
static bool apply_range(const struct replay *rp, struct mention *m, const struct lunfs_jentry *e,
			const uint8_t *place)
{
	unsigned off = le16_get(e->off_bytes);

	if (!m->img || m->guard != le64_get(e->guard) ||
	    m->possession != le64_get(e->possession_seq))
		return false;
	memcpy(m->img + off, place + off, le16_get(e->len_bytes));
	((struct lunfs_blk_hdr *)m->img)->version = e->version;
	blk_seal(m->img);
	m->version = le64_get(e->version);
	return image_ok(rp, e, m->img);
}

static bool apply_entry(struct replay *rp, const struct lunfs_jentry *e, const uint8_t *place)
{
	struct mention *m = mention_get(rp, le64_get(e->addr));

	if (le16_get(e->kind) == LUNFS_JENT_IMAGE && !entry_is_whole(e))
		return apply_range(rp, m, e, place);
	m->guard = le64_get(e->guard);
	m->possession = le64_get(e->possession_seq);
	m->version = le64_get(e->version);
	if (le16_get(e->kind) == LUNFS_JENT_REVOKE) {
		free(m->img);
		m->img = NULL;
		return true;
	}
	if (!m->img)
		m->img = txn_zalloc(LUNFS_PAYLOAD_BYTES);
	memcpy(m->img, place, LUNFS_PAYLOAD_BYTES);
	return true;
}

static int apply_txn(struct replay *rp, const struct rtxn *x)
{
	for (unsigned i = 0, k = 0; i < x->n_entries; i++) {
		const struct lunfs_jentry *e = entry_at(x, i);
		bool image = le16_get(e->kind) == LUNFS_JENT_IMAGE;

		if (!apply_entry(rp, e, image ? place_at(x, k) : NULL)) {
			log_err("journal-damaged",
				"the journal of dead host slot %u changes part of block %llu "
				"without having logged it whole; nothing of it is replayed, run "
				"fsck.lunfs",
				rp->slot, (unsigned long long)le64_get(e->addr));
			return -EUCLEAN;
		}
		k += image;
	}
	return 0;
}

static bool txn_ok(const struct replay *rp, struct rtxn *x)
{
	if (!descs_ok(rp, x) || !commit_ok(rp, x))
		return false;
	if (entries_ok(rp, x))
		return true;
	log_warn("journal-entry",
		 "transaction %llu in the journal of dead host slot %u is sealed but makes no "
		 "sense; the replay ends before it, run fsck.lunfs",
		 (unsigned long long)rp->seq, rp->slot);
	return false;
}

/* 1: one more transaction was taken; 0: the log ends; -errno. */
static int scan_txn(struct replay *rp)
{
	struct rtxn x = {0};
	int r = read_first_desc(rp, &x);

	if (r <= 0)
		return r;
	x.log = dev_buf_alloc((size_t)x.n_blks * LUNFS_BLOCK_BYTES);
	r = read_ring(rp, rp->pos, x.n_blks, x.log);
	if (r)
		goto out;
	if (!txn_ok(rp, &x))
		goto out;
	r = apply_txn(rp, &x);
	if (r)
		goto out;
	rp->pos = (rp->pos + x.n_blks) % rp->log_blks;
	rp->scanned += x.n_blks;
	rp->seq++;
	rp->txns++;
	r = 1;
out:
	free(x.log);
	return r;
}

int journal_scan(struct replay *rp)
{
	int r = read_header(rp);

	if (r)
		return r;
	r = 1;
	while (r > 0 && rp->scanned < rp->log_blks)
		r = scan_txn(rp);
	return r < 0 ? r : 0;
}

void mentions_free(struct replay *rp)
{
	struct mention *m, *next;

	HASH_ITER (hh, rp->mentions, m, next) {
		HASH_DEL(rp->mentions, m);
		free(m->img);
		free(m);
	}
}
