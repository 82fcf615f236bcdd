/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Setting a file's size and giving up ranges of it.
 *
 * A truncation whose extents fit in one transaction is one transaction. A larger one sets the size
 * first and, in the same transaction, puts the inode into this host's orphan directory although it
 * still has names; then it gives the blocks up step by step, and leaves the orphan directory. After
 * a crash the orphan worker goes on. Until that is over, blocks with old data lie beyond the end of
 * file, so whoever wants to grow an inode that has the ORPHAN flag calls trunc_finish() first.
 *
 * A file without names always has that flag. Of it trunc_finish() leaves the blocks that read as
 * zeroes: they may have been preallocated.
 */
#include "vol/vol_impl.h"

#define STEP_EXTS 6u /* two tree changes each: cells for them fit in one reservation */

struct step { /* extents that one transaction gives up */
	unsigned n;
	bool more;
	struct ext e[STEP_EXTS];
};

enum which { WHICH_ALL, WHICH_WRITTEN, WHICH_UNWRITTEN };

static bool is_of(const struct ext *e, enum which which)
{
	bool unwritten = e->flags & LUNFS_EXT_UNWRITTEN;

	return e->blk && (which == WHICH_ALL || unwritten == (which == WHICH_UNWRITTEN));
}

/* The extents in [from, to). */
static int collect(struct op *o, struct inode *i, uint64_t from, uint64_t to, enum which which,
		   struct step *s)
{
	s->n = 0;
	s->more = false;
	while (from < to) {
		struct ext e;
		int rc = ext_map(&o->v->ne, i, from, &e);

		if (rc)
			return rc;
		if (e.len > to - from)
			e.len = to - from;
		from += e.len;
		if (!is_of(&e, which))
			continue;
		if (s->n == STEP_EXTS) {
			s->more = true;
			return 0;
		}
		s->e[s->n++] = e;
	}
	return 0;
}

/* Fewer if the allocator's locks are in the way of the rest; none: -EAGAIN. */
static int prepare(struct change *ch, struct inode *i, struct step *s)
{
	struct volume *v = ch->o->v;

	for (unsigned k = 0; k < s->n; k++) {
		const struct ext *e = &s->e[k];
		int rc = blk_free_prepare(v->alloc, &ch->frees, e->blk, (uint32_t)e->len);

		if (rc == -EAGAIN && k > 0) {
			s->n = k;
			s->more = true;
			break;
		}
		if (rc)
			return change_want(ch, rc);
		rc = ext_remove_prepare(&v->ne, i, e->lblk, e->len, &ch->frees);
		if (rc)
			return rc;
	}
	return change_need(ch, i, FORK_DATA, 2 * s->n);
}

static int apply(struct change *ch, struct inode *i, const struct step *s)
{
	struct volume *v = ch->o->v;
	int rc = 0;

	for (unsigned k = 0; k < s->n && rc == 0; k++) {
		const struct ext *e = &s->e[k];

		rc = ext_remove(&v->ne, &ch->nt, i, e->lblk, e->len);
		if (rc == 0)
			blk_free(ch->nt.h, v->alloc, &ch->frees, e->blk, (uint32_t)e->len);
	}
	return rc ? change_broken(ch, rc, "extents that are given up") : 0;
}

static int remove_all(struct op *o, struct inode *i, uint64_t from, uint64_t to, enum which which)
{
	struct step s = {.more = true};

	if (i->data_format != LUNFS_FORK_TREE)
		return 0;
	while (s.more) {
		struct change ch;
		int rc = collect(o, i, from, to, which, &s);

		if (rc || s.n == 0)
			return rc;
		change_init(&ch, o);
		rc = prepare(&ch, i, &s);
		change_credits(&ch, 1);
		if (rc == 0)
			rc = change_begin(&ch, i->ino, ALLOC_RESERVE_OK);
		if (rc == 0) {
			rc = apply(&ch, i, &s);
			inode_update(ch.nt.h, i);
		}
		change_end(&ch);
		if (rc)
			return rc;
	}
	return 0;
}

int trunc_remove_unwritten(struct op *o, struct inode *i, uint64_t from, uint64_t to)
{
	return remove_all(o, i, from, to, WHICH_UNWRITTEN);
}

static uint64_t end_lblk(uint64_t size)
{
	return (size + BLK - 1) / BLK;
}

/* ---- the orphan mark ------------------------------------------------------------------------- */

static int leave_orphans(struct op *o, struct inode *i)
{
	struct inode *odir;
	struct change ch;
	int rc;

	change_init(&ch, o);
	change_credits(&ch, 1);
	rc = orphan_leave_prepare(o, &ch, i, &odir);
	if (rc == 0)
		rc = change_begin(&ch, i->ino, ALLOC_RESERVE_OK);
	if (rc == 0) {
		rc = orphan_leave(&ch, i, odir);
		if (rc)
			change_broken(&ch, rc, "an orphan directory");
		inode_update(ch.nt.h, i);
	}
	change_end(&ch);
	return rc;
}

static int finish(struct op *o, struct inode *i, enum which which)
{
	int rc = remove_all(o, i, end_lblk(i->size), UINT64_MAX, which);

	if (rc == 0 && i->nlink)
		rc = leave_orphans(o, i);
	return rc;
}

int trunc_finish(struct op *o, struct inode *i)
{
	if (!(i->flags & LUNFS_INODE_ORPHAN))
		return 0;
	return finish(o, i, i->nlink ? WHICH_ALL : WHICH_WRITTEN);
}

/* ---- sizes ----------------------------------------------------------------------------------- */

static void write_size(struct change *ch, struct inode *i, uint64_t size)
{
	uint8_t bytes[LUNFS_DATA_FORK_BYTES];

	if (i->data_format == LUNFS_FORK_INLINE && size == 0) {
		fork_clear(ch->nt.h, i);
	} else if (i->data_format == LUNFS_FORK_INLINE && size < i->size) {
		memcpy(bytes, inline_data(i), (size_t)size);
		inline_set(ch->nt.h, i, bytes, (size_t)size);
	}
	i->size = size;
	inode_touch_data(ch->o->v, i);
	inode_update(ch->nt.h, i);
}

/* No extent changes hands. */
static int size_only(struct op *o, struct inode *i, uint64_t size)
{
	struct change ch;
	int rc;

	change_init(&ch, o);
	change_credits(&ch, 2);
	rc = change_begin(&ch, i->ino, 0);
	if (rc == 0)
		write_size(&ch, i, size);
	change_end(&ch);
	return rc;
}

static int grow(struct op *o, struct inode *i, uint64_t size)
{
	int rc = 0;

	if (i->data_format == LUNFS_FORK_INLINE && size > LUNFS_DATA_FORK_BYTES)
		rc = data_leave_inline(o, i);
	if (rc == 0)
		rc = data_zero_tail(o, i, size);
	return rc ? rc : size_only(o, i, size);
}

/* All in one transaction; -EFBIG: it does not fit, or not now. */
static int shrink_at_once(struct op *o, struct inode *i, uint64_t size, struct step *s)
{
	struct change ch;
	int rc;

	change_init(&ch, o);
	change_credits(&ch, 1);
	rc = prepare(&ch, i, s);
	if (rc == -EAGAIN || (rc == 0 && s->more))
		rc = -EFBIG;
	if (rc == 0)
		rc = change_begin(&ch, i->ino, ALLOC_RESERVE_OK);
	if (rc == 0) {
		rc = apply(&ch, i, s);
		write_size(&ch, i, size);
	}
	change_end(&ch);
	return rc;
}

static int shrink_begin(struct op *o, struct inode *i, uint64_t size)
{
	struct inode *odir = NULL;
	struct change ch;
	int rc = 0;

	change_init(&ch, o);
	change_credits(&ch, 1);
	if (i->nlink)
		rc = orphan_prepare(o, &ch, i, &odir);
	if (rc == 0)
		rc = change_begin(&ch, i->ino, ALLOC_RESERVE_OK);
	if (rc == 0) {
		if (i->nlink && orphan_insert(&ch, i, odir) != 0)
			rc = change_broken(&ch, -EIO, "an orphan directory");
		write_size(&ch, i, size);
	}
	change_end(&ch);
	return rc;
}

static int shrink(struct op *o, struct inode *i, uint64_t size, bool *begun)
{
	struct step s;
	int rc;

	if (i->data_format != LUNFS_FORK_TREE)
		return size_only(o, i, size);
	rc = collect(o, i, end_lblk(size), UINT64_MAX, WHICH_ALL, &s);
	if (rc)
		return rc;
	if (!s.more && s.n == 0)
		return size_only(o, i, size);
	if (!s.more) {
		rc = shrink_at_once(o, i, size, &s);
		if (rc != -EFBIG)
			return rc;
	}
	o->want = 0;
	rc = shrink_begin(o, i, size);
	if (rc)
		return rc;
	*begun = true;
	return finish(o, i, WHICH_ALL);
}

int trunc_set_size(struct op *o, struct inode *i, uint64_t size, bool *begun)
{
	return size > i->size ? grow(o, i, size) : shrink(o, i, size, begun);
}
