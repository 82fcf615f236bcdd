/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names against inodes: the directories that must be there, orphans and their lists, what has no
 * name or too many, circles; then, once all names stand as they should, link counts and parents.
 *
 * If trees were built anew in this round, names are counted again in the next one before anything
 * is judged by them.
 */
#include "base/bitmap.h"
#include "base/log.h"
#include "fsck/trees.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { MARK_NONE, MARK_WALKING, MARK_REACHED };

static void claim_inodes(struct fsck *f)
{
	for (size_t i = 0; i < f->inodes; i++) {
		uint32_t bit;
		struct fsck_group *fg = map_find(f, f->inode[i].ino, &bit);

		if (fg && !f->inode[i].gone)
			bit_set(fg->cell_claimed, bit);
	}
}

/* ---- the root and the lists of orphans ------------------------------------------------------- */

static bool has_dir(struct fsck *f, uint64_t ino)
{
	const struct fsck_inode *fi = inode_find(f, ino);

	return fi && !fi->gone && S_ISDIR(fi->mode);
}

/* In its place, which no tree uses. */
static int make_top(struct fsck *f, uint64_t ino, uint64_t parent, uint32_t mode, uint32_t flags)
{
	uint8_t sector[LUNFS_BLOCK_BYTES], payload[LUNFS_PAYLOAD_BYTES];
	uint32_t bit;
	struct fsck_group *fg = map_find(f, ino, &bit);

	if (!fg || !bit_get(fg->cell_valid, bit) ||
	    (peek_cell(f, ino, sector, payload) && lose_cell(f, ino))) {
		log_err(
		    "fsck-no-place",
		    "The directory in cell %llu cannot be made anew: it is no cell, or unreadable. "
		    "Save an image of the volume (lunfs image) and report this.",
		    ULL(ino));
		stuck_add(f, ino);
		f->no_place++;
		return 0;
	}
	bit_set(fg->cell_used, bit);
	bit_set(fg->cell_claimed, bit);
	rewrite_chunk(f, ino);
	f->trees->rebuilt = true;
	return make_dir(f, ino, new_generation(f, ino), parent, mode, flags);
}

static int check_tops(struct fsck *f)
{
	uint64_t root = f->geo.root_ino;
	int rc = 0;

	f->problems.hold = is_stuck(f, root);
	if (!has_dir(f, root) &&
	    problem(&f->problems, PROBLEM_ROOT, root, "inode %llu is no directory", ULL(root)))
		rc = make_top(f, root, root, 0755, 0);
	for (unsigned i = 0; i < f->geo.slots && rc == 0; i++) {
		uint64_t ino = f->geo.orphan_ino[i];

		f->problems.hold = is_stuck(f, ino);
		if (ino && !has_dir(f, ino) &&
		    problem(&f->problems, PROBLEM_ORPHAN_DIR, ino,
			    "inode %llu, the list of slot %u, is no directory", ULL(ino), i))
			rc = make_top(f, ino, 0, 0700, LUNFS_INODE_ORPHAN_DIR);
	}
	f->problems.hold = false;
	return rc;
}

/* ---- orphans --------------------------------------------------------------------------------- */

static uint16_t slot_of_list(const struct fsck *f, uint64_t ino)
{
	for (unsigned i = 0; i < f->geo.slots; i++)
		if (f->geo.orphan_ino[i] && f->geo.orphan_ino[i] == ino)
			return (uint16_t)i;
	return LUNFS_MAX_SLOTS;
}

/* The list in which it says it stands; if there is none, that of the first slot. */
static uint16_t own_slot(const struct fsck *f, const struct fsck_inode *fi)
{
	unsigned i = 0;

	if (fi->orphan_slot < f->geo.slots && f->geo.orphan_ino[fi->orphan_slot])
		return fi->orphan_slot;
	while (i < f->geo.slots && !f->geo.orphan_ino[i])
		i++;
	return (uint16_t)(i < f->geo.slots ? i : 0);
}

static int keep_used(struct fsck *f, struct fsck_inode *fi)
{
	int rc;

	if (!problem(&f->problems, PROBLEM_ORPHAN_USED, fi->ino,
		     "inode %llu is marked deleted, but has %u names and %llu entries",
		     ULL(fi->ino), fi->links, S_ISDIR(fi->mode) ? ULL(fi->names) : 0))
		return 0;
	if (fi->orphan_refs)
		edit_drop(f, fi->listed_in, fi->ino, false);
	rc = set_nlink(f, fi, S_ISDIR(fi->mode) ? 2 + fi->subdirs : fi->links);
	return rc ? rc : set_flags(f, fi, 0, 0);
}

static int put_on_list(struct fsck *f, struct fsck_inode *fi)
{
	uint16_t slot = own_slot(f, fi);
	char name[17];

	f->problems.hold |= !can_edit(f, f->geo.orphan_ino[slot]);
	if (!problem(&f->problems, PROBLEM_ORPHAN, fi->ino,
		     "inode %llu says it is an orphan; no list names it", ULL(fi->ino)))
		return 0;
	snprintf(name, sizeof(name), "%016llx", ULL(fi->ino));
	edit_add(f, f->geo.orphan_ino[slot], fi, name);
	return slot == fi->orphan_slot ? 0 : set_flags(f, fi, fi->flags, slot);
}

static int take_from_list(struct fsck *f, struct fsck_inode *fi)
{
	uint16_t slot = slot_of_list(f, fi->listed_in);

	if (fi->nlink == 0 && fi->links == 0) {
		if (problem(&f->problems, PROBLEM_ORPHAN, fi->ino,
			    "inode %llu stands in list %llu but does not say so", ULL(fi->ino),
			    ULL(fi->listed_in)))
			return set_flags(f, fi, fi->flags | LUNFS_INODE_ORPHAN, slot);
		return 0;
	}
	f->problems.hold |= !can_edit(f, fi->listed_in);
	if (problem_item(&f->problems, PROBLEM_ORPHAN_ENTRY, fi->listed_in, fi->ino,
			 "list %llu names inode %llu, which is in use", ULL(fi->listed_in),
			 ULL(fi->ino)))
		edit_drop(f, fi->listed_in, fi->ino, false);
	return 0;
}

/* Only a regular file may be an orphan and have names: then a truncation is not over. */
static bool still_used(const struct fsck_inode *fi)
{
	if (!(fi->flags & LUNFS_INODE_ORPHAN) || (S_ISREG(fi->mode) && fi->nlink))
		return false;
	return fi->links || (S_ISDIR(fi->mode) && fi->names);
}

static int check_orphan(struct fsck *f, struct fsck_inode *fi)
{
	bool orphan = fi->flags & LUNFS_INODE_ORPHAN;

	f->orphans += orphan;
	if (still_used(fi))
		return keep_used(f, fi);
	if (orphan && fi->orphan_refs == 0)
		return put_on_list(f, fi);
	if (orphan && slot_of_list(f, fi->listed_in) != fi->orphan_slot) {
		if (problem(&f->problems, PROBLEM_ORPHAN, fi->ino,
			    "inode %llu says it stands in the list of slot %u, but stands in %llu",
			    ULL(fi->ino), fi->orphan_slot, ULL(fi->listed_in)))
			return set_flags(f, fi, fi->flags, slot_of_list(f, fi->listed_in));
		return 0;
	}
	return !orphan && fi->orphan_refs ? take_from_list(f, fi) : 0;
}

/* ---- names too many or too few --------------------------------------------------------------- */

static void check_extra(struct fsck *f, const struct extra_name *x)
{
	const struct fsck_inode *fi = inode_find(f, x->target);
	bool list = is_orphan_list(f, x->dir);
	bool fix;

	f->problems.hold = !can_edit(f, x->dir);
	if (list)
		fix = problem_item(&f->problems, PROBLEM_ORPHAN_ENTRY, x->dir, x->target,
				   "inode %llu stands in list %llu and in %llu too", ULL(fi->ino),
				   ULL(fi->listed_in), ULL(x->dir));
	else
		fix = problem_item(&f->problems, PROBLEM_DIR_LINKS, x->target, x->dir,
				   "directory %llu stands in %llu and in %llu too", ULL(fi->ino),
				   ULL(fi->named_in), ULL(x->dir));
	if (fix)
		edit_drop(f, x->dir, x->target, x->dir == (list ? fi->listed_in : fi->named_in));
	f->problems.hold = false;
}

static void check_nameless(struct fsck *f, struct fsck_inode *fi)
{
	if (fi->links || is_top(f, fi) || fsck_dying(fi))
		return;
	f->problems.hold = !can_edit(f, f->geo.root_ino) || is_stuck(f, fi->ino);
	if (S_ISDIR(fi->mode)
		? problem(&f->problems, PROBLEM_LOST_DIR, fi->ino, "inode %llu, %llu entries",
			  ULL(fi->ino), ULL(fi->names))
		: problem(&f->problems, PROBLEM_LOST_INODE, fi->ino,
			  "inode %llu, mode %o, %llu bytes", ULL(fi->ino), fi->mode, ULL(fi->size)))
		lost_add(f, fi->ino);
	f->problems.hold = false;
}

/* @d stands in itself. The one with the least number leaves the circle. */
static void break_cycle(struct fsck *f, struct fsck_inode *d)
{
	struct fsck_inode *least = d;

	for (struct fsck_inode *i = inode_find(f, d->named_in); i != d;
	     i = inode_find(f, i->named_in))
		if (i->ino < least->ino)
			least = i;
	f->problems.hold = !can_edit(f, f->geo.root_ino) || !can_edit(f, least->named_in) ||
			   is_stuck(f, least->ino);
	if (problem(&f->problems, PROBLEM_DIR_CYCLE, least->ino, "directory %llu in directory %llu",
		    ULL(least->ino), ULL(least->named_in))) {
		edit_drop(f, least->named_in, least->ino, false);
		lost_add(f, least->ino);
	}
	f->problems.hold = false;
}

/* Up to what is no circle; everything on the way is done with. */
static void check_reach(struct fsck *f, struct fsck_inode *start)
{
	struct fsck_inode *d = start;

	while (d && !d->gone && d->mark == MARK_NONE) {
		d->mark = MARK_WALKING;
		d = is_top(f, d) || d->links == 0 || fsck_dying(d) ? NULL
								   : inode_find(f, d->named_in);
	}
	if (d && d->mark == MARK_WALKING)
		break_cycle(f, d);
	for (d = start; d && d->mark == MARK_WALKING; d = inode_find(f, d->named_in))
		d->mark = MARK_REACHED;
}

static int check_names(struct fsck *f)
{
	bool root = has_dir(f, f->geo.root_ino);
	int rc = 0;

	for (size_t i = 0; i < f->trees->extras; i++)
		check_extra(f, &f->trees->extra[i]);
	for (size_t i = 0; i < f->inodes && rc == 0; i++) {
		struct fsck_inode *fi = &f->inode[i];

		if (fi->gone)
			continue;
		f->problems.hold = is_stuck(f, fi->ino);
		rc = check_orphan(f, fi);
		f->problems.hold = false;
		if (root)
			check_nameless(f, fi);
		if (S_ISDIR(fi->mode))
			check_reach(f, fi);
	}
	return rc;
}

/* ---- counts ---------------------------------------------------------------------------------- */

static int check_nlink(struct fsck *f, struct fsck_inode *fi)
{
	uint32_t want = S_ISDIR(fi->mode) ? fi->subdirs + 2 : fi->links;

	if (fsck_dying(fi) || want == 0 || fi->nlink == want ||
	    !problem(&f->problems, PROBLEM_NLINK, fi->ino,
		     "inode %llu says %u links, its names make %u", ULL(fi->ino), fi->nlink, want))
		return 0;
	return set_nlink(f, fi, want);
}

static int check_parent(struct fsck *f, struct fsck_inode *fi)
{
	uint64_t want = fi->named_in;

	if (!S_ISDIR(fi->mode) || (!is_top(f, fi) && fi->links == 0))
		return 0;
	if (is_top(f, fi))
		want = fi->ino == f->geo.root_ino ? fi->ino : 0;
	if (fi->parent == want ||
	    !problem(&f->problems, PROBLEM_DIR_PARENT, fi->ino,
		     "directory %llu says its parent is %llu, it should say %llu", ULL(fi->ino),
		     ULL(fi->parent), ULL(want)))
		return 0;
	return set_parent(f, fi, want);
}

static int check_counts(struct fsck *f)
{
	int rc = 0;

	for (size_t i = 0; i < f->inodes && rc == 0; i++) {
		if (f->inode[i].gone)
			continue;
		rc = check_nlink(f, &f->inode[i]);
		if (rc == 0)
			rc = check_parent(f, &f->inode[i]);
	}
	return rc;
}

int pass_links(struct fsck *f)
{
	int rc = 0;

	if (!f->trees->rebuilt)
		rc = check_tops(f);
	claim_inodes(f);
	if (rc || f->trees->rebuilt)
		return rc;
	rc = check_names(f);
	if (rc || f->problems.stopped)
		return rc;
	if (f->trees->edits == 0 && f->trees->losts == 0)
		return check_counts(f);
	rc = lost_run(f);
	return rc ? rc : edits_run(f);
}
