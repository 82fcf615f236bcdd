/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which of its checks a structure passes: the simple ones of FORMAT.md one by one, then what the
 * decoders of the layers say of the whole.
 */
#include "alloc/alloc.h"
#include "base/crc.h"
#include "cluster/host.h"
#include "cluster/lock_impl.h"
#include "inspect/inspect.h"
#include "node/btree.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ctx {
	const struct insp *in;
	const struct insp_place *p;
	const uint8_t *buf;
	const struct insp_checks *to;
	unsigned failed;
};

__attribute__((format(printf, 4, 5))) static bool say(struct ctx *c, const char *name, bool ok,
						      const char *fmt, ...)
{
	char text[256] = "";
	va_list ap;

	va_start(ap, fmt);
	if (!ok)
		vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	c->failed += !ok;
	c->to->check(c->to->ctx, name, ok, text);
	return ok;
}

static bool check_seal(struct ctx *c)
{
	return say(c, "checksum", insp_seal_ok(c->p, c->buf), "the checksum is wrong");
}

static void check_id(struct ctx *c, const uint8_t vol_id[16])
{
	say(c, "volume-id", memcmp(vol_id, c->in->geo->vol_id, 16) == 0,
	    "it belongs to another volume");
}

static void check_magic(struct ctx *c, le32 is, uint32_t want)
{
	say(c, "magic", le32_get(is) == want, "the magic number is %#x instead of %#x",
	    le32_get(is), want);
}

static const char *reserved_used(const struct insp_struct *st, const uint8_t *at)
{
	const char *bad = NULL;

	for (unsigned i = 0; i < st->n && !bad; i++) {
		const struct insp_field *f = &st->field[i];

		if (f->kind == INSP_ZERO && !mem_is_zero(at + f->off, f->width))
			bad = f->name;
		else if (f->kind == INSP_STRUCT && !f->array)
			bad = reserved_used(f->sub, at + f->off);
	}
	return bad;
}

static void check_reserved(struct ctx *c, const struct insp_struct *st)
{
	const char *bad = reserved_used(st, c->buf);

	say(c, "reserved", !bad, "reserved bytes (%s) are not zero", bad ? bad : "");
}

/* ---- superblock ------------------------------------------------------------------------------ */

static void check_super(struct ctx *c)
{
	const struct lunfs_sb *sb = (const void *)c->buf;
	uint64_t unknown = 0;
	struct geo g;
	int rc;

	say(c, "magic", memcmp(sb->magic, LUNFS_SB_MAGIC, sizeof(sb->magic)) == 0,
	    "the magic bytes are not LUNFSVOL");
	check_seal(c);
	check_reserved(c, &insp_sb);
	rc = sb_decode(c->buf, &g, &unknown);
	say(c, "contents", rc == 0,
	    rc == -EPROTONOSUPPORT ? "a newer lunfs is needed (format %u, incompat %#llx)"
				   : "it is damaged (format %u, incompat %#llx)",
	    le32_get(sb->format_version), (unsigned long long)le64_get(sb->incompat));
	if (rc == 0)
		say(c, "newest", g.sb_seq >= c->in->geo->sb_seq,
		    "an older copy: sb_seq is %llu, that of the volume %llu",
		    (unsigned long long)g.sb_seq, (unsigned long long)c->in->geo->sb_seq);
}

/* ---- sectors --------------------------------------------------------------------------------- */

static void check_ats(struct ctx *c)
{
	const struct lunfs_ats_hdr *h = (const void *)c->buf;
	uint8_t *sector = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	struct lunfs_lock_rec lock;
	struct maint_info mi;
	struct host_info hi;
	int rc = -EUCLEAN;

	check_magic(c, h->magic, LUNFS_ATS_MAGIC);
	say(c, "type", le16_get(h->type) == c->p->type, "the type is %u instead of %u",
	    le16_get(h->type), c->p->type);
	check_id(c, h->vol_id);
	say(c, "place", le64_get(h->sector_off) == c->p->off_bytes,
	    "it says that it stands at byte %#llx", (unsigned long long)le64_get(h->sector_off));
	check_seal(c);
	check_reserved(c, c->p->part[0].st);
	if (insp_read(c->in, c->p->off_bytes, c->in->geo->sector_bytes, sector) == 0) {
		memcpy(sector, c->buf, c->p->len_bytes);
		if (c->p->type == LUNFS_ATS_SLOT)
			rc = slot_decode(c->in->geo, sector, (unsigned)c->p->index, &hi);
		else if (c->p->type == LUNFS_ATS_MAINT)
			rc = maint_decode(c->in->geo, sector, &mi);
		else
			rc = lock_rec_decode(c->in->geo, sector, c->p->index, &lock);
	}
	say(c, "contents", rc == 0, "a host takes it for damaged");
	free(sector);
}

static void check_board(struct ctx *c)
{
	const struct lunfs_board_sec *b = (const void *)c->buf;
	struct lunfs_board_sec out;

	if (mem_is_zero(c->buf, c->p->len_bytes)) {
		say(c, "empty", true, "%s", "");
		return;
	}
	check_magic(c, b->magic, LUNFS_BOARD_MAGIC);
	check_id(c, b->vol_id);
	check_seal(c);
	check_reserved(c, &insp_board_sec);
	say(c, "contents",
	    board_decode(c->in->geo, c->buf, (unsigned)(c->p->index >> 32),
			 (unsigned)(c->p->index & 0xffffffffu), &out) == 0,
	    "hosts ignore it");
}

/* ---- journal --------------------------------------------------------------------------------- */

static void check_jhdr(struct ctx *c)
{
	const struct lunfs_jhdr *h = (const void *)c->buf;

	check_magic(c, h->magic, LUNFS_JHDR_MAGIC);
	check_id(c, h->vol_id);
	check_seal(c);
	check_reserved(c, &insp_jhdr);
	say(c, "slot", le16_get(h->slot) == c->p->index, "it says that it belongs to slot %u",
	    le16_get(h->slot));
	say(c, "tail",
	    le32_get(h->tail_blk) >= 1 && le32_get(h->tail_blk) < c->in->geo->journal_blks &&
		le64_get(h->tail_seq) >= 1,
	    "its tail is outside the log");
}

static void check_txn(struct ctx *c)
{
	struct insp_txn t;
	int rc = insp_journal_at(c->in, c->p->journal.slot, c->p->journal.pos, &t);

	say(c, "transaction", rc == 0 && t.valid, "%s", rc ? strerror(-rc) : t.why ? t.why : "");
}

static void check_jdesc(struct ctx *c)
{
	const struct lunfs_jdesc *d = (const void *)c->buf;

	check_magic(c, d->magic, LUNFS_JDESC_MAGIC);
	check_id(c, d->vol_id);
	check_seal(c);
	check_reserved(c, &insp_jdesc);
	check_txn(c);
}

static void check_jcommit(struct ctx *c)
{
	const struct lunfs_jcommit *d = (const void *)c->buf;

	check_magic(c, d->magic, LUNFS_JCOMMIT_MAGIC);
	check_id(c, d->vol_id);
	check_seal(c);
	check_reserved(c, &insp_jcommit);
	check_txn(c);
}

static void check_redo(struct ctx *c)
{
	const struct lunfs_redo_desc *d = (const void *)c->buf;

	check_magic(c, d->magic, LUNFS_REDO_MAGIC);
	check_id(c, d->vol_id);
	check_seal(c);
	check_reserved(c, &insp_redo_desc);
	say(c, "entries", le32_get(d->entries) >= 1 && le32_get(d->entries) <= LUNFS_REDO_ENTRIES,
	    "it says that it has %u entries", le32_get(d->entries));
}

/* ---- payloads -------------------------------------------------------------------------------- */

static uint64_t cell_of(const struct ctx *c)
{
	return (c->p->off_bytes - c->in->geo->payload_off) / LUNFS_BLOCK_BYTES;
}

static void check_node(struct ctx *c, const char *name, uint32_t off, uint32_t size)
{
	struct bt_range all = {.lo = 0, .hi = UINT64_MAX};

	say(c, name, node_check(c->in->geo, c->buf + off, size, -1, all) == 0,
	    "the tree node in it makes no sense");
}

static void check_inode(struct ctx *c, uint64_t cell)
{
	const struct lunfs_inode_pl *pl = (const void *)c->buf;
	struct inode i;

	say(c, "contents", inode_decode(c->in->geo, c->buf, cell, &i) == 0,
	    "a host takes it for damaged");
	if (pl->data_format == LUNFS_FORK_TREE)
		check_node(c, "data-fork", offsetof(struct lunfs_inode_pl, data_fork),
			   LUNFS_DATA_FORK_BYTES);
	if (pl->xattr_format == LUNFS_FORK_TREE)
		check_node(c, "xattr-fork", offsetof(struct lunfs_inode_pl, xattr_fork),
			   LUNFS_XATTR_FORK_BYTES);
}

static void check_bitmap(struct ctx *c, uint64_t cell)
{
	const struct lunfs_blk_hdr *h = (const void *)c->buf;
	const struct geo *g = c->in->geo;
	uint64_t group = geo_group_of(g, cell);

	say(c, "guard", le64_get(h->guard) == geo_group_header(g, group) && !le64_get(h->guard_gen),
	    "its guard is not the header of group %llu", (unsigned long long)group);
}

static void check_contents(struct ctx *c, uint64_t cell)
{
	const struct lunfs_blk_hdr *h = (const void *)c->buf;
	const struct geo *g = c->in->geo;
	struct group_info *gi = NULL;
	struct chunk_info ci;

	switch (le16_get(h->type)) {
	case LUNFS_BLK_GROUP:
		gi = malloc(sizeof(*gi));
		say(c, "contents", gi && group_decode(g, c->buf, geo_group_of(g, cell), gi) == 0,
		    "a host takes it for damaged");
		free(gi);
		break;
	case LUNFS_BLK_CHUNK:
		say(c, "contents", chunk_decode(g, c->buf, cell, &ci) == 0,
		    "a host takes it for damaged");
		break;
	case LUNFS_BLK_BITMAP:
		check_bitmap(c, cell);
		break;
	case LUNFS_BLK_INODE:
		check_inode(c, cell);
		break;
	case LUNFS_BLK_BTREE:
		check_node(c, "node", offsetof(struct lunfs_bt_pl, area),
			   sizeof(((struct lunfs_bt_pl *)0)->area));
		break;
	default:
		break;
	}
}

/* Not older than the lock record says: else a write was lost. */
static void check_version(struct ctx *c, uint64_t cell)
{
	const struct lunfs_blk_hdr *h = (const void *)c->buf;
	struct lunfs_lock_rec rec;
	uint64_t is = le64_get(h->version), want;

	if (insp_read(c->in, geo_blk_off(cell), sizeof(rec), &rec))
		return;
	want = le64_get(rec.payload_version);
	say(c, "version", is >= want, "version %llu is older than the %llu of its lock record",
	    (unsigned long long)is, (unsigned long long)want);
}

static void check_payload(struct ctx *c)
{
	const struct lunfs_blk_hdr *h = (const void *)c->buf;
	bool in_log = c->p->journal.blks != 0;
	uint64_t cell = in_log ? le64_get(h->addr) : cell_of(c);
	unsigned type = le16_get(h->type);

	check_magic(c, h->magic, LUNFS_BLK_MAGIC);
	say(c, "type",
	    c->p->type ? type == c->p->type : type >= LUNFS_BLK_FREE && type <= LUNFS_BLK_BTREE,
	    "the type is %u instead of %u", type, c->p->type);
	check_id(c, h->vol_id);
	say(c, "place", le64_get(h->addr) == cell && cell_addr_ok(c->in->geo, cell),
	    "it says that it stands in cell %llu", (unsigned long long)le64_get(h->addr));
	check_seal(c);
	check_reserved(c, insp_payload_struct(type));
	if (!cell_addr_ok(c->in->geo, cell))
		return;
	check_contents(c, cell);
	if (!in_log)
		check_version(c, cell);
}

unsigned insp_check(const struct insp *in, const struct insp_place *p, const void *buf,
		    const struct insp_checks *to)
{
	struct ctx c = {.in = in, .p = p, .buf = buf, .to = to};

	switch (p->seal) {
	case INSP_SEAL_SB:
		check_super(&c);
		break;
	case INSP_SEAL_ATS:
		check_ats(&c);
		break;
	case INSP_SEAL_BLK:
		check_payload(&c);
		break;
	case INSP_SEAL_BOARD:
		check_board(&c);
		break;
	case INSP_SEAL_JHDR:
		check_jhdr(&c);
		break;
	case INSP_SEAL_JDESC:
		check_jdesc(&c);
		break;
	case INSP_SEAL_JCOMMIT:
		check_jcommit(&c);
		break;
	case INSP_SEAL_REDO:
		check_redo(&c);
		break;
	case INSP_SEAL_NONE:
	case INSP_SEAL_JBODY:
		break;
	}
	return c.failed;
}
