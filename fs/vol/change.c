/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frame of a change: needs are summed up, cells reserved, the transaction joined, and all of it
 * given back at the end on every path. Nothing that can fail happens while joined; if it does
 * nevertheless, the volume stops rather than commit half an operation.
 */
#include "vol/vol_impl.h"

void change_init(struct change *ch, struct op *o)
{
	ch->o = o;
	ch->cells.n = ch->cells.taken = 0;
	ch->cells.want = 0;
	free_res_init(&ch->frees);
	ch->nt.h = NULL;
	ch->nt.cells = &ch->cells;
	ch->nt.frees = &ch->frees;
	ch->want_cells = ch->credits = ch->freed = 0;
	ch->reserved = ch->counted = false;
}

static int add_need(struct change *ch, int rc, const struct node_need *need)
{
	if (rc)
		return rc;
	ch->want_cells += need->cells;
	ch->credits += need->credits;
	return 0;
}

int change_need(struct change *ch, struct inode *i, enum node_fork fork, unsigned changes)
{
	struct node_need need = {0, 0};

	if (changes == 0)
		return 0;
	return add_need(ch, fork_need(&ch->o->v->ne, i, fork, changes, &need), &need);
}

int change_need_ext(struct change *ch, struct inode *i, uint64_t lblk, uint64_t len,
		    unsigned changes)
{
	struct node_need need = {0, 0};

	if (changes == 0)
		return 0;
	return add_need(ch, ext_need(&ch->o->v->ne, i, lblk, len, changes, &need), &need);
}

int change_need_xattr(struct change *ch, struct inode *i, const char *name, size_t keep_bytes)
{
	struct node_need need = {0, 0};

	return add_need(ch, xattr_need(&ch->o->v->ne, i, name, keep_bytes, &need), &need);
}

int change_need_removal(struct change *ch, struct inode *i)
{
	unsigned cells = ch->want_cells;
	int rc = change_need(ch, i, FORK_DATA, 1);

	ch->want_cells = cells;
	return rc;
}

void change_credits(struct change *ch, unsigned n)
{
	ch->credits += n;
}

int change_want(struct change *ch, int rc)
{
	if (rc == -EAGAIN)
		ch->o->want = ch->frees.want;
	return rc;
}

int change_reserve(struct change *ch, uint64_t goal, unsigned flags)
{
	int rc;

	lunfs_assert(!ch->reserved && !ch->nt.h);
	if (ch->want_cells == 0)
		return 0;
	rc = cell_reserve(ch->o->v->alloc, ch->want_cells, goal, flags, &ch->cells);
	if (rc == -EAGAIN)
		ch->o->want = ch->cells.want;
	ch->reserved = rc == 0;
	return rc;
}

int change_begin(struct change *ch, uint64_t goal, unsigned flags)
{
	unsigned credits;
	int rc;

	if (!ch->reserved) {
		rc = change_reserve(ch, goal, flags);
		if (rc)
			return rc;
	}
	ch->freed = ch->frees.n;
	credits = ch->credits + ch->want_cells * CELL_TAKE_CREDITS;
	if (!ch->counted)
		credits += free_res_credits(&ch->frees);
	rc = txn_begin(ch->o->v->txns, credits, &ch->nt.h);
	if (rc)
		ch->nt.h = NULL;
	return rc;
}

void change_end(struct change *ch)
{
	struct volume *v = ch->o->v;

	if (ch->nt.h) {
		if (ch->freed)
			atomic_fetch_add(&v->freed, 1);
		txn_end(ch->nt.h);
	}
	ch->nt.h = NULL;
	if (ch->reserved)
		cell_unreserve(v->alloc, &ch->cells);
	ch->reserved = false;
	free_res_end(v->alloc, &ch->frees);
}

int change_broken(struct change *ch, int rc, const char *what)
{
	log_err("change-broken",
		"Changing %s failed half-way (%s); the volume stops here and nothing of it is "
		"committed. Unmount and run fsck.lunfs.",
		what, strerror(-rc));
	txn_abort_volume(ch->nt.h, what);
	return rc;
}
