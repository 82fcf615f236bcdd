/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a name to a place on the device. Names are KIND or KIND:ARGUMENTS; each kind has one
 * function below. What leads to a place (a chunk's index, a directory) is read from the device and
 * may be damaged: then the name is not found, nothing worse.
 */
#include "inspect/inspect.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct find {
	const struct insp *in;
	const char *arg; /* behind "KIND:", "" if there is nothing */
	struct insp_place *p;
	char *why;
	size_t why_len;
};

__attribute__((format(printf, 3, 4))) static int fail(const struct find *f, int rc, const char *fmt,
						      ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->why, f->why_len, fmt, ap);
	va_end(ap);
	return rc;
}

static void add_part(struct insp_place *p, const char *name, const struct insp_struct *st,
		     uint32_t off, uint32_t tail_len)
{
	p->part[p->parts++] = (struct insp_part){
	    .name = name, .st = st, .off = off, .count = 1, .tail_len = tail_len};
}

/* @what[@count] from @off on, cut to what fits before @end. */
static void add_array(struct insp_place *p, const char *name, const struct insp_struct *st,
		      uint32_t off, uint32_t count, uint32_t end)
{
	uint32_t room = off < end ? (end - off) / st->size : 0;

	p->part[p->parts++] = (struct insp_part){.name = name,
						 .st = st,
						 .off = off,
						 .count = count < room ? count : room,
						 .array = true};
}

static void set_place(struct insp_place *p, uint64_t off, uint32_t len, enum insp_seal seal,
		      const struct insp_struct *st)
{
	p->off_bytes = off;
	p->len_bytes = p->focus_len = len;
	p->seal = seal;
	p->addr = INSP_NO_ADDR;
	if (st)
		add_part(p, "", st, 0, 0);
}

/* ---- arguments ------------------------------------------------------------------------------- */

/* One number up to @sep (or the end with 0); *rest behind it. */
static int number(const char *text, char sep, uint64_t *out, const char **rest)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 0);
	if (end == text || errno || *text == '-' || *end != sep)
		return -EINVAL;
	if (rest)
		*rest = sep ? end + 1 : end;
	return 0;
}

static int one_number(const struct find *f, uint64_t limit, const char *what, uint64_t *out)
{
	if (number(f->arg, '\0', out, NULL))
		return fail(f, -EINVAL, "'%s' is no number: the name of a %s is KIND:NUMBER",
			    f->arg, what);
	if (*out >= limit)
		return fail(f, -ENOENT, "there is no %s %llu: the volume has 0 to %llu", what,
			    (unsigned long long)*out, (unsigned long long)limit - 1);
	return 0;
}

static int two_numbers(const struct find *f, uint64_t *a, uint64_t *b)
{
	const char *rest;

	if (number(f->arg, ',', a, &rest) || number(rest, '\0', b, NULL))
		return fail(f, -EINVAL, "'%s' must be two numbers with a comma between", f->arg);
	return 0;
}

/* ---- fixed places ---------------------------------------------------------------------------- */

/* Copy 0: the main one, 1: at the end, 2 ...: in groups. */
static int copy_off(const struct geo *g, uint64_t n, uint64_t *off)
{
	*off = n == 0 ? LUNFS_SB_OFF : sb_tail_off(g->dev_blks * LUNFS_BLOCK_BYTES);
	if (n < 2)
		return 0;
	for (uint64_t group = 1; group < g->groups; group++) {
		if (!sb_group_has_copy(group) || n-- > 2)
			continue;
		*off = geo_blk_off(geo_group_blk(g, group));
		return 0;
	}
	return -ENOENT;
}

static int find_superblock(struct find *f)
{
	uint64_t n = 0, off;

	if (*f->arg && number(f->arg, '\0', &n, NULL))
		return fail(f, -EINVAL, "superblock:%s: the copies have numbers, 0 is the main one",
			    f->arg);
	if (copy_off(f->in->geo, n, &off))
		return fail(f, -ENOENT, "the volume has no copy %llu of its superblock",
			    (unsigned long long)n);
	set_place(f->p, off, sizeof(struct lunfs_sb), INSP_SEAL_SB, &insp_sb);
	f->p->index = n;
	snprintf(f->p->name, sizeof(f->p->name), n ? "superblock:%llu" : "superblock",
		 (unsigned long long)n);
	return 0;
}

static int find_maint(struct find *f)
{
	set_place(f->p, LUNFS_MAINT_OFF, sizeof(struct lunfs_maint_rec), INSP_SEAL_ATS,
		  &insp_maint_rec);
	f->p->type = LUNFS_ATS_MAINT;
	return 0;
}

static int find_slot(struct find *f)
{
	uint64_t n;
	int rc = one_number(f, geo_all_slots(f->in->geo), "slot", &n);

	if (rc)
		return rc;
	set_place(f->p, geo_slot_off((unsigned)n), sizeof(struct lunfs_slot_rec), INSP_SEAL_ATS,
		  &insp_slot_rec);
	f->p->type = LUNFS_ATS_SLOT;
	f->p->index = n;
	return 0;
}

static int find_board(struct find *f)
{
	uint64_t row, column, all = geo_all_slots(f->in->geo);
	int rc = two_numbers(f, &row, &column);

	if (rc)
		return rc;
	if (row >= all || column >= all)
		return fail(f, -ENOENT, "the request board has rows and columns 0 to %llu",
			    (unsigned long long)all - 1);
	set_place(f->p, geo_board_off(f->in->geo, (unsigned)row, (unsigned)column),
		  sizeof(struct lunfs_board_sec), INSP_SEAL_BOARD, &insp_board_sec);
	f->p->index = row << 32 | column;
	return 0;
}

/* ---- journal:SLOT[:TXN[:desc[:I] | :commit | :image:K]] -------------------------------------- */

static int in_txn(struct find *f, unsigned slot, const struct insp_txn *t, uint64_t blk,
		  uint32_t skip, uint32_t len, enum insp_seal seal, const struct insp_struct *st)
{
	const struct geo *g = f->in->geo;
	uint32_t pos = (uint32_t)((t->pos + blk) % (g->journal_blks - 1));
	uint64_t room = (uint64_t)(g->journal_blks - 1 - pos) * LUNFS_BLOCK_BYTES - skip;

	if (len > room)
		return fail(f, -ENOENT, "'%s' runs round the end of the journal's ring", f->arg);
	set_place(f->p, geo_blk_off(g->journal_blk[slot] + 1 + pos) + skip, len, seal, st);
	f->p->journal.slot = slot;
	f->p->journal.pos = t->pos;
	f->p->journal.blks = t->blks;
	return 0;
}

const struct insp_struct *insp_payload_struct(unsigned type)
{
	static const struct insp_struct *const of[] = {
	    [LUNFS_BLK_FREE] = &insp_free_pl,	[LUNFS_BLK_ANCHOR] = &insp_anchor_pl,
	    [LUNFS_BLK_GROUP] = &insp_group_pl, [LUNFS_BLK_BITMAP] = &insp_bitmap_pl,
	    [LUNFS_BLK_CHUNK] = &insp_chunk_pl, [LUNFS_BLK_INODE] = &insp_inode_pl,
	    [LUNFS_BLK_BTREE] = &insp_bt_pl,
	};

	return type < sizeof(of) / sizeof(of[0]) && of[type] ? of[type] : &insp_free_pl;
}

static int find_image(struct find *f, unsigned slot, const struct insp_txn *t, uint64_t k)
{
	uint64_t byte = k * LUNFS_PAYLOAD_BYTES;
	struct lunfs_blk_hdr h;
	int rc;

	if (!t->blks || k >= (uint64_t)t->blks * LUNFS_BLOCK_BYTES / LUNFS_PAYLOAD_BYTES)
		return fail(f, -ENOENT, "journal:%s: the transaction has no such image", f->arg);
	rc = in_txn(f, slot, t, t->n_desc + byte / LUNFS_BLOCK_BYTES,
		    (uint32_t)(byte % LUNFS_BLOCK_BYTES), LUNFS_PAYLOAD_BYTES, INSP_SEAL_BLK, NULL);
	if (rc == 0)
		rc = insp_read(f->in, f->p->off_bytes, sizeof(h), &h);
	if (rc == 0)
		add_part(f->p, "", insp_payload_struct(le16_get(h.type)), 0, 0);
	return rc;
}

static int find_in_txn(struct find *f, unsigned slot, const struct insp_txn *t, const char *what)
{
	uint64_t n = 0;

	if (strcmp(what, "commit") == 0 && t->blks)
		return in_txn(f, slot, t, t->blks - 1, 0, sizeof(struct lunfs_jcommit),
			      INSP_SEAL_JCOMMIT, &insp_jcommit);
	if (strncmp(what, "image:", 6) == 0 && number(what + 6, '\0', &n, NULL) == 0)
		return find_image(f, slot, t, n);
	if (*what == '\0' || strcmp(what, "desc") == 0 ||
	    (strncmp(what, "desc:", 5) == 0 && number(what + 5, '\0', &n, NULL) == 0 &&
	     n < t->n_desc))
		return in_txn(f, slot, t, n, 0, sizeof(struct lunfs_jdesc), INSP_SEAL_JDESC,
			      &insp_jdesc);
	return fail(f, -EINVAL, "journal:%s: a transaction has desc:I, commit and image:K", f->arg);
}

static int find_journal(struct find *f)
{
	const struct geo *g = f->in->geo;
	const char *rest = strchr(f->arg, ':');
	struct insp_txn t;
	uint64_t slot, n;
	bool by_pos;
	int rc;

	if (number(f->arg, rest ? ':' : '\0', &slot, NULL))
		return fail(f, -EINVAL, "journal:%s: journals are named by their slot", f->arg);
	if (slot >= g->slots || !g->journal_blk[slot])
		return fail(f, -ENOENT, "slot %llu has no journal", (unsigned long long)slot);
	if (!rest) {
		set_place(f->p, geo_blk_off(g->journal_blk[slot]), sizeof(struct lunfs_jhdr),
			  INSP_SEAL_JHDR, &insp_jhdr);
		f->p->index = slot;
		return 0;
	}
	by_pos = *++rest == '@'; /* a block of the region instead of a number from the tail */
	rest += by_pos;
	if (number(rest, strchr(rest, ':') ? ':' : '\0', &n, &rest) || n > g->journal_blks)
		return fail(f, -EINVAL, "journal:%s: transactions have numbers, 0 is at the tail",
			    f->arg);
	rc = by_pos ? insp_journal_at(f->in, (unsigned)slot, (uint32_t)n - 1, &t)
		    : insp_journal_txn(f->in, (unsigned)slot, (unsigned)n, &t);
	if (rc)
		return fail(f, rc, "journal:%s: the log ends before that", f->arg);
	return find_in_txn(f, (unsigned)slot, &t, rest);
}

/* redo[:I]: the descriptors of the redo log that the maintenance sector names. */
static int find_redo(struct find *f)
{
	struct lunfs_maint_rec m;
	uint64_t want = 0, at = 0, blk;
	struct lunfs_redo_desc *d;
	int rc = insp_read(f->in, LUNFS_MAINT_OFF, sizeof(m), &m);

	if (rc || (*f->arg && number(f->arg, '\0', &want, NULL)))
		return fail(f, rc ? rc : -EINVAL, "redo:%s: descriptors have numbers", f->arg);
	if (!(le32_get(m.flags) & LUNFS_MAINT_REDO))
		return fail(f, -ENOENT, "the maintenance sector names no redo log");
	blk = le64_get(m.redo_blk);
	d = dev_buf_alloc(sizeof(*d));
	for (uint64_t i = 0; rc == 0 && i < want; i++) {
		rc = insp_read(f->in, geo_blk_off(blk + at), sizeof(*d), d);
		at += 1 + (uint64_t)le32_get(d->entries);
		if (at >= le32_get(m.redo_blks))
			rc = -ENOENT;
	}
	free(d);
	if (rc)
		return fail(f, rc, "the redo log has no descriptor %llu", (unsigned long long)want);
	set_place(f->p, geo_blk_off(blk + at), sizeof(*d), INSP_SEAL_REDO, &insp_redo_desc);
	return 0;
}

/* ---- cells ----------------------------------------------------------------------------------- */

static int need_cell(const struct find *f, uint64_t addr)
{
	const struct insp *in = f->in;

	if (addr > in->dev->id.size_bytes / LUNFS_BLOCK_BYTES || !cell_addr_ok(in->geo, addr))
		return fail(f, -ENOENT, "block %llu cannot be a cell", (unsigned long long)addr);
	return 0;
}

static int set_cell(struct find *f, uint64_t addr, uint16_t type, const struct insp_struct *st)
{
	int rc = need_cell(f, addr);

	if (rc)
		return rc;
	set_place(f->p, geo_payload_off(f->in->geo, addr), LUNFS_PAYLOAD_BYTES, INSP_SEAL_BLK, st);
	f->p->addr = addr;
	f->p->type = type;
	return 0;
}

/* The head and the slots of a tree node at @off in the payload. */
static int add_node(struct find *f, uint32_t off, uint32_t size)
{
	struct lunfs_bt_head h;
	bool leaf;
	int rc = insp_read(f->in, f->p->off_bytes + off, sizeof(h), &h);

	if (rc)
		return fail(f, rc, "cell %llu cannot be read", (unsigned long long)f->p->addr);
	leaf = le16_get(h.level) == 0;
	add_part(f->p, "head", &insp_bt_head, off, 0);
	add_array(f->p, "slot", leaf ? &insp_bt_leaf_slot : &insp_bt_inner_slot,
		  off + (uint32_t)sizeof(h), le16_get(h.items), off + size);
	return 0;
}

static int set_node(struct find *f, uint64_t addr)
{
	int rc = set_cell(f, addr, LUNFS_BLK_BTREE, &insp_bt_pl);

	if (rc == 0)
		rc = add_node(f, offsetof(struct lunfs_bt_pl, area),
			      sizeof(((struct lunfs_bt_pl *)0)->area));
	return rc;
}

static int find_node(struct find *f)
{
	uint64_t addr;

	if (number(f->arg, '\0', &addr, NULL))
		return fail(f, -EINVAL, "node:%s: nodes are named by their cell's block", f->arg);
	return set_node(f, addr);
}

static int find_cell(struct find *f)
{
	struct lunfs_blk_hdr h;
	uint64_t addr;
	int rc;

	if (number(f->arg, '\0', &addr, NULL))
		return fail(f, -EINVAL, "cell:%s: cells are named by their first block", f->arg);
	rc = need_cell(f, addr);
	if (rc)
		return rc;
	rc = insp_read(f->in, geo_payload_off(f->in->geo, addr), sizeof(h), &h);
	if (rc)
		return fail(f, rc, "cell %llu cannot be read", (unsigned long long)addr);
	if (le16_get(h.type) == LUNFS_BLK_BTREE)
		return set_node(f, addr);
	return set_cell(f, addr, 0, insp_payload_struct(le16_get(h.type)));
}

static int find_anchor(struct find *f)
{
	static const char *const names[LUNFS_ANCHORS] = {"volume", "rename", "watermark"};

	for (int a = 0; a < LUNFS_ANCHORS; a++) {
		if (strcmp(f->arg, names[a]) != 0)
			continue;
		f->p->index = (uint64_t)a;
		return set_cell(f, geo_anchor_cell((enum lunfs_anchor)a), LUNFS_BLK_ANCHOR,
				&insp_anchor_pl);
	}
	return fail(f, -EINVAL, "anchor:%s: the anchors are volume, rename and watermark", f->arg);
}

static int find_group(struct find *f)
{
	uint64_t n;
	int rc = one_number(f, f->in->geo->groups, "group", &n);

	f->p->index = n;
	return rc ? rc
		  : set_cell(f, geo_group_header(f->in->geo, n), LUNFS_BLK_GROUP, &insp_group_pl);
}

static int find_bitmap(struct find *f)
{
	uint64_t n, i;
	int rc = two_numbers(f, &n, &i);

	if (rc)
		return rc;
	if (n >= f->in->geo->groups || i >= f->in->geo->bitmap_cells)
		return fail(f, -ENOENT,
			    "bitmap:%s: there are %llu groups with %u bitmap cells each", f->arg,
			    (unsigned long long)f->in->geo->groups, f->in->geo->bitmap_cells);
	f->p->index = i << 48 | n;
	return set_cell(f, geo_group_bitmap(f->in->geo, n, (unsigned)i), LUNFS_BLK_BITMAP,
			&insp_bitmap_pl);
}

static int find_chunk(struct find *f)
{
	const struct geo *g = f->in->geo;
	uint64_t n, w;
	le16 at;
	int rc = two_numbers(f, &n, &w);

	if (rc)
		return rc;
	if (n >= g->groups || w >= LUNFS_GROUP_WINDOWS)
		return fail(f, -ENOENT, "chunk:%s: no such group or window", f->arg);
	rc = insp_read(f->in,
		       geo_payload_off(g, geo_group_header(g, n)) +
			   offsetof(struct lunfs_group_pl, chunk) + w * sizeof(at),
		       sizeof(at), &at);
	if (rc)
		return fail(f, rc, "the header of group %llu cannot be read",
			    (unsigned long long)n);
	if (le16_get(at) == 0 || le16_get(at) > LUNFS_CHUNK_CELLS)
		return fail(f, -ENOENT, "group %llu has no chunk in window %llu",
			    (unsigned long long)n, (unsigned long long)w);
	f->p->index = n;
	return set_cell(
	    f, geo_group_blk(g, n) + (w * LUNFS_CHUNK_CELLS + le16_get(at) - 1) * g->cell_blks,
	    LUNFS_BLK_CHUNK, &insp_chunk_pl);
}

static int find_inode(struct find *f)
{
	uint64_t ino;
	int rc = insp_path(f->in, f->arg, &ino, f->why, f->why_len);

	return rc ? rc : set_cell(f, ino, LUNFS_BLK_INODE, &insp_inode_pl);
}

static int find_fork(struct find *f, uint32_t off, uint32_t size)
{
	int rc = find_inode(f);

	if (rc)
		return rc;
	f->p->focus_off = off;
	f->p->focus_len = size;
	f->p->parts = 0;
	rc = add_node(f, off, size);
	if (rc == 0)
		add_part(f->p, "inode", &insp_inode_pl, 0, 0);
	return rc;
}

static int find_tree(struct find *f)
{
	return find_fork(f, offsetof(struct lunfs_inode_pl, data_fork), LUNFS_DATA_FORK_BYTES);
}

static int find_xattrs(struct find *f)
{
	return find_fork(f, offsetof(struct lunfs_inode_pl, xattr_fork), LUNFS_XATTR_FORK_BYTES);
}

/* ---- items of trees -------------------------------------------------------------------------- */

static int set_item(struct find *f, const struct insp_hit *h, uint64_t ino,
		    const struct insp_struct *st)
{
	int rc = set_cell(f, h->cell, h->cell == ino ? LUNFS_BLK_INODE : LUNFS_BLK_BTREE, NULL);

	if (rc)
		return rc;
	if (h->len < st->size)
		return fail(f, -EUCLEAN, "'%s': its item is damaged", f->arg);
	f->p->addr = INSP_NO_ADDR;
	f->p->focus_off = h->off;
	f->p->focus_len = h->len;
	add_part(f->p, "", st, h->off, st->tail ? h->len - st->size : 0);
	add_part(f->p, "slot", &insp_bt_leaf_slot, h->slot_off, 0);
	return 0;
}

static int find_dirent(struct find *f)
{
	const char *slash = strrchr(f->arg, '/');
	char dir[INSP_NAME_BYTES];
	struct insp_hit hit;
	uint64_t ino;
	int rc;

	if (!slash || (size_t)(slash - f->arg) >= sizeof(dir))
		return fail(f, -EINVAL, "dirent:%s: entries are named by directory and name",
			    f->arg);
	snprintf(dir, sizeof(dir), "%.*s", (int)(slash - f->arg), f->arg);
	rc = insp_path(f->in, dir, &ino, f->why, f->why_len);
	if (rc)
		return rc;
	rc = insp_dirent_find(f->in, ino, slash + 1, &hit);
	if (rc)
		return fail(f, rc, "'%s': %s", f->arg,
			    rc == -ENOENT ? "there is no such name" : strerror(-rc));
	return set_item(f, &hit, ino, &insp_dirent);
}

struct nth { /* the item number .left, or the one with .key, or an attribute by name */
	uint64_t left;
	uint8_t ns;
	const char *name;
	size_t name_len;
	uint64_t part;
	struct insp_hit hit;
};

static int hit_item(struct nth *s, const struct insp_item *it)
{
	s->hit = (struct insp_hit){true, it->cell, it->key, it->slot_off, it->off, it->len};
	return 1;
}

static int count_item(void *ctx, const struct insp_item *it)
{
	struct nth *s = ctx;

	return s->left-- ? 0 : hit_item(s, it);
}

/* The path before the last comma, and what stands behind it. */
static int path_and_rest(struct find *f, uint64_t *ino, const char **rest)
{
	const char *comma = strrchr(f->arg, ',');
	char path[INSP_NAME_BYTES];

	if (!comma || (size_t)(comma - f->arg) >= sizeof(path))
		return fail(f, -EINVAL, "'%s': what follows the path begins with a comma", f->arg);
	snprintf(path, sizeof(path), "%.*s", (int)(comma - f->arg), f->arg);
	*rest = comma + 1;
	return insp_path(f->in, path, ino, f->why, f->why_len);
}

/* item K of the data fork; with '@' the one with that key or the first one behind it. */
static int find_nth(struct find *f, const struct insp_struct *st)
{
	struct nth s = {0};
	struct insp_walk w = {.ctx = &s, .item = count_item, .hi = UINT64_MAX};
	const char *rest;
	uint64_t ino;
	int rc = path_and_rest(f, &ino, &rest);

	if (rc)
		return rc;
	if (number(rest + (*rest == '@'), '\0', *rest == '@' ? &w.lo : &s.left, NULL))
		return fail(f, -EINVAL, "'%s': items are named by a number, or by @ and their key",
			    f->arg);
	rc = insp_walk(f->in, ino, INSP_DATA, &w);
	if (rc < 0 || !s.hit.found)
		return fail(f, rc < 0 ? rc : -ENOENT, "'%s': there is no such item", f->arg);
	return set_item(f, &s.hit, ino, st);
}

static int find_extent(struct find *f)
{
	return find_nth(f, &insp_extent);
}

static int find_piece(struct find *f)
{
	static const struct insp_struct piece = {
	    .name = "piece", .tail = "target", .tail_kind = INSP_TEXT};

	return find_nth(f, &piece);
}

static int match_xattr(void *ctx, const struct insp_item *it)
{
	struct nth *s = ctx;
	const struct lunfs_xattr *x = (const void *)it->body;

	if (s->hit.found) /* part 0 was met: now the parts that follow it */
		return it->key == s->hit.key + s->part ? hit_item(s, it) : 0;
	if (it->len < sizeof(*x) || it->len - sizeof(*x) < s->name_len || x->ns != s->ns ||
	    x->name_len != s->name_len || memcmp(x->data, s->name, s->name_len) != 0)
		return 0;
	return hit_item(s, it) && s->part == 0;
}

/* xattr:PATH,user.NAME[,PART] */
static int find_xattr(struct find *f)
{
	static const char *const prefix[] = {NULL, "user.", "trusted.", "security.", "system."};
	struct nth s = {0};
	struct insp_walk w = {.ctx = &s, .item = match_xattr, .hi = UINT64_MAX};
	char name[INSP_NAME_BYTES], *at;
	const char *rest;
	uint64_t ino, key;
	int rc;

	snprintf(name, sizeof(name), "%s", f->arg);
	at = strrchr(name, ',');
	if (at && number(at + 1, '\0', &s.part, NULL) == 0)
		*at = '\0';
	f->arg = name;
	rc = path_and_rest(f, &ino, &rest);
	if (rc)
		return rc;
	for (uint8_t ns = LUNFS_XATTR_USER; ns <= LUNFS_XATTR_SYSTEM; ns++)
		if (strncmp(rest, prefix[ns], strlen(prefix[ns])) == 0) {
			s.ns = ns;
			s.name = rest + strlen(prefix[ns]);
			s.name_len = strlen(s.name);
		}
	if (!s.ns)
		return fail(f, -EINVAL,
			    "'%s': the name begins with user., trusted., security. or "
			    "system.",
			    rest);
	rc = insp_walk(f->in, ino, INSP_XATTRS, &w);
	key = s.hit.key & ~0xffffull;
	if (rc < 0 || !s.hit.found || (s.part && s.hit.key == key))
		return fail(f, rc < 0 ? rc : -ENOENT, "'%s': there is no such attribute or part",
			    f->arg);
	return set_item(f, &s.hit, ino, &insp_xattr);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static int find_block(struct find *f)
{
	uint64_t n;
	int rc = one_number(f, f->in->dev->id.size_bytes / LUNFS_BLOCK_BYTES, "block", &n);

	if (rc)
		return rc;
	set_place(f->p, geo_blk_off(n), LUNFS_BLOCK_BYTES, INSP_SEAL_NONE, &insp_raw);
	f->p->addr = n;
	return 0;
}

/* lock:NAME: the lock record of the cell that NAME stands in. */
static int find_lock(struct find *f)
{
	uint64_t addr;
	int rc = insp_find(f->in, f->arg, f->p, f->why, f->why_len);

	if (rc)
		return rc;
	if (f->p->seal != INSP_SEAL_BLK || f->p->journal.blks)
		return fail(f, -EINVAL, "lock:%s: that is no cell, so it has no lock record",
			    f->arg);
	addr = (f->p->off_bytes - f->in->geo->payload_off) / LUNFS_BLOCK_BYTES;
	*f->p = (struct insp_place){0};
	set_place(f->p, geo_blk_off(addr), sizeof(struct lunfs_lock_rec), INSP_SEAL_ATS,
		  &insp_lock_rec);
	f->p->type = LUNFS_ATS_LOCK;
	f->p->addr = f->p->index = addr;
	return 0;
}

/* ---- all ------------------------------------------------------------------------------------- */

static const struct kind {
	const char *name;
	int (*find)(struct find *f);
} kinds[] = {
    {"superblock", find_superblock},
    {"maint", find_maint},
    {"slot", find_slot},
    {"board", find_board},
    {"anchor", find_anchor},
    {"journal", find_journal},
    {"redo", find_redo},
    {"group", find_group},
    {"bitmap", find_bitmap},
    {"chunk", find_chunk},
    {"inode", find_inode},
    {"lock", find_lock},
    {"node", find_node},
    {"cell", find_cell},
    {"tree", find_tree},
    {"xattrs", find_xattrs},
    {"dirent", find_dirent},
    {"extent", find_extent},
    {"xattr", find_xattr},
    {"piece", find_piece},
    {"block", find_block},
};

int insp_find(const struct insp *in, const char *what, struct insp_place *out, char *why,
	      size_t why_len)
{
	size_t n = strcspn(what, ":");
	struct insp_place p = {0};
	struct find f = {
	    .in = in, .arg = what[n] ? what + n + 1 : "", .p = &p, .why = why, .why_len = why_len};
	int rc;

	if (strlen(what) >= sizeof(p.name))
		return fail(&f, -EINVAL, "the name of the structure is too long");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strlen(kinds[i].name) != n || strncmp(kinds[i].name, what, n) != 0)
			continue;
		rc = kinds[i].find(&f);
		if (rc)
			return rc;
		snprintf(p.name, sizeof(p.name), "%s", what);
		*out = p;
		return 0;
	}
	return fail(&f, -EINVAL, "'%s' is not the name of a structure", what);
}

int insp_cell(const struct insp *in, uint64_t addr, struct insp_place *out, char *why,
	      size_t why_len)
{
	char name[32];

	snprintf(name, sizeof(name), "cell:%llu", (unsigned long long)addr);
	return insp_find(in, name, out, why, why_len);
}
