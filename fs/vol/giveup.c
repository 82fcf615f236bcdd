/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Giving up an inode without names. What nobody has open and is small goes in the transaction that
 * takes its last name; all else moves into this host's orphan directory in that transaction, and
 * the orphan worker gives it up later, step by step.
 */
#include "vol/vol_impl.h"

#define AT_ONCE_CREDITS 32u /* two groups of blocks; more is left to the worker */

int giveup_step(struct op *o, struct inode *i, struct node_shrink *step)
{
	const struct node_env *ne = &o->v->ne;
	struct change ch;
	int rc;

	change_init(&ch, o);
	rc = change_want(&ch, node_shrink_prepare(ne, i, step, &ch.frees));
	if (rc == 0 && !step->done) {
		change_credits(&ch, step->credits + 1);
		ch.counted = true;
		rc = change_begin(&ch, i->ino, ALLOC_RESERVE_OK);
		if (rc == 0)
			rc = node_shrink_commit(ne, &ch.nt, i, step);
		if (rc && ch.nt.h)
			change_broken(&ch, rc, "an inode that is given up");
	}
	change_end(&ch);
	return rc;
}

/* cell_free_prepare() was called. @i is nobody's any more. */
static void free_cell(struct change *ch, struct inode *i)
{
	struct volume *v = ch->o->v;
	uint64_t ino = i->ino, version = mblk_forget(ch->nt.h, i->m);

	i->m = NULL;
	op_forget(ch->o, i);
	cell_free(ch->nt.h, v->alloc, &ch->frees, ino);
	cell_free_version(v->alloc, &ch->frees, ino, version);
}

int giveup_inode(struct op *o, struct inode *i)
{
	struct inode *odir;
	struct change ch;
	int rc;

	change_init(&ch, o);
	change_credits(&ch, 2 + CELL_FREE_CREDITS);
	rc = orphan_leave_prepare(o, &ch, i, &odir);
	if (rc == 0)
		rc = change_want(&ch, cell_free_prepare(o->v->alloc, &ch.frees, i->ino));
	if (rc == 0)
		rc = change_begin(&ch, i->ino, ALLOC_RESERVE_OK);
	if (rc == 0) {
		rc = orphan_leave(&ch, i, odir);
		if (rc)
			change_broken(&ch, rc, "an orphan directory");
		else
			free_cell(&ch, i);
	}
	change_end(&ch);
	return rc;
}

/* ---- with the last name ---------------------------------------------------------------------- */

/* Opens are counted under the inode's lock, which is held exclusively. */
static bool is_unused(struct op *o, struct inode *i)
{
	return onodes_count(o->v->onodes, i->ino) == 0 &&
	       !lock_open_elsewhere(o->v->locks, op_lock_of(o, i));
}

/* Any difficulty is the worker's. */
static bool prepare_at_once(struct change *ch, struct inode *i, struct parting *p)
{
	struct op *o = ch->o;

	if ((i->flags & LUNFS_INODE_ORPHAN) || !is_unused(o, i))
		return false;
	if (node_shrink_prepare(&o->v->ne, i, &p->step, &ch->frees) != 0)
		return false;
	if (!p->step.done && (!p->step.last || p->step.credits > AT_ONCE_CREDITS))
		return false;
	return cell_free_prepare(o->v->alloc, &ch->frees, i->ino) == 0;
}

/* Nothing else has put into ch->frees yet. */
int parting_prepare(struct change *ch, struct inode *i, struct parting *p)
{
	p->odir = NULL;
	p->at_once = prepare_at_once(ch, i, p);
	if (!p->at_once) {
		/* The orphan directory may have to be waited for, and nobody waits with groups
		 * pinned. */
		free_res_end(ch->o->v->alloc, &ch->frees);
		free_res_init(&ch->frees);
		return orphan_prepare(ch->o, ch, i, &p->odir);
	}
	change_credits(ch, (p->step.done ? 0 : p->step.credits) + CELL_FREE_CREDITS);
	return 0;
}

int parting_commit(struct change *ch, struct inode *i, struct parting *p, struct nodeid *gone)
{
	int rc;

	if (!p->at_once) {
		*gone = (struct nodeid){i->ino, i->generation};
		i->nlink = 0;
		inode_touch(ch->o->v, i);
		rc = orphan_insert(ch, i, p->odir);
		inode_update(ch->nt.h, i);
		return rc;
	}
	rc = node_shrink_commit(&ch->o->v->ne, &ch->nt, i, &p->step);
	if (rc == 0)
		free_cell(ch, i);
	return rc;
}
