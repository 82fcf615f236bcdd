/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rename, replace and exchange; a whiteout may stay in the place of what moved. When a directory
 * moves to another parent, the volume-wide rename lock is held, and the ancestors of its new place
 * are walked with nothing else pinned: nobody else moves directories meanwhile, so what the walk
 * saw stays true until the names are changed.
 */
#include "vol/vol_impl.h"
#include <linux/fs.h>

#define WALKS_MAX 8u	 /* up the same tree, while directories go */
#define DEPTH_MAX 65536u /* directories above one another; more is a loop on a damaged volume */

struct renaming {
	struct nodeid dir, newdir;
	const char *name, *newname;
	bool noreplace, exchange, whiteout;
	uint64_t walked_src, walked_tgt; /* the ancestors were walked for these ... */
	bool cycle;			 /* ... and they are among them */
	struct nodeid gone;		 /* out: an orphan by this */
};

struct rn {					/* what one round found */
	struct inode *dir, *newdir, *src, *tgt; /* tgt NULL: the new name is free */
	struct dir_entry src_de, tgt_de;
	struct parting tgt_parts;
	bool tgt_last;
	struct newcell wh_cell;
	struct inode wh; /* made in the transaction */
};

/* ---- ancestors ------------------------------------------------------------------------------- */

/* -ESTALE: it is no directory, or one that was removed. */
static int parent_of(struct op *o, struct nodeid id, uint64_t *parent)
{
	struct volume *v = o->v;
	struct inode i;
	struct lock *l;
	int rc;

	if (!cell_addr_ok(&v->geo, id.ino) || !blk_range_ok(&v->geo, id.ino, v->geo.cell_blks))
		return -EUCLEAN;
	rc = lock_pin(v->locks, id.ino, LOCK_SH, LOCAL_SHARED, 0, o->c ? o->c->intr : NULL, &l);
	if (rc)
		return rc;
	rc = inode_get(&v->ne, l, id.generation, &i);
	if (rc == 0) {
		if (!S_ISDIR(i.mode) || i.nlink == 0)
			rc = -ESTALE;
		*parent = i.parent;
		inode_put(&v->ne, &i);
	}
	lock_unpin(v->locks, l, LOCAL_SHARED);
	return rc;
}

/* Upwards from @dir: -EINVAL: @src was met; -ESTALE: at step @depth. */
static int walk_up(struct op *o, struct nodeid dir, uint64_t src, unsigned *depth)
{
	for (*depth = 0; dir.ino != src; ++*depth) {
		uint64_t up = 0;
		int rc;

		if (dir.ino == o->v->geo.root_ino)
			return 0;
		if (*depth > DEPTH_MAX)
			return -ELOOP;
		rc = parent_of(o, dir, &up);
		if (rc)
			return rc;
		dir = (struct nodeid){up, 0};
	}
	return -EINVAL;
}

/*
 * -EINVAL: @dir is @src or stands below it. Only the volume and rename locks are pinned, so @dir
 * may have been removed since it was looked at, and then what was above it, and all that may serve
 * as something else by now; the body finds that @dir is gone.
 */
static int check_ancestors(struct op *o, struct nodeid dir, uint64_t src)
{
	for (unsigned k = 0; k < WALKS_MAX; k++) {
		unsigned depth;
		int rc = walk_up(o, dir, src, &depth);

		if (rc != -ESTALE)
			return rc;
		if (depth == 0)
			return 0;
	}
	return -EUCLEAN;
}

/*
 * Walk for what the last round found, before this round pins anything. A cycle counts only if the
 * names still lead to what was walked for: check_walked() tells.
 */
static int walk_body(struct op *o, void *arg)
{
	struct renaming *a = arg;
	int rc = 0;

	if (a->walked_src)
		rc = check_ancestors(o, a->newdir, a->walked_src);
	if (rc == 0 && a->walked_tgt)
		rc = check_ancestors(o, a->dir, a->walked_tgt);
	a->cycle = rc == -EINVAL;
	return a->cycle ? 0 : rc;
}

/* ---- checks ---------------------------------------------------------------------------------- */

static int find_names(struct op *o, struct renaming *a, struct rn *r)
{
	const struct node_env *ne = &o->v->ne;
	int rc;

	rc = op_get(o, a->dir, LOCK_EX, LOCAL_EXCL, &r->dir);
	if (rc == 0)
		rc = op_get(o, a->newdir, LOCK_EX, LOCAL_EXCL, &r->newdir);
	if (rc)
		return rc;
	if (!S_ISDIR(r->dir->mode) || !S_ISDIR(r->newdir->mode))
		return -ENOTDIR;
	rc = dir_lookup(ne, r->dir, a->name, &r->src_de);
	if (rc)
		return rc;
	if (r->newdir->nlink == 0)
		return -ENOENT;
	rc = dir_lookup(ne, r->newdir, a->newname, &r->tgt_de);
	if (rc == -ENOENT) {
		r->tgt_de.ino = 0;
		return a->exchange ? -ENOENT : 0;
	}
	return rc == 0 && a->noreplace ? -EEXIST : rc;
}

/* What moves to another parent and is a directory must have been walked for. */
static int check_walked(struct op *o, struct renaming *a, const struct rn *r)
{
	uint64_t src = 0, tgt = 0;

	if (r->dir == r->newdir)
		return 0;
	if (r->src_de.type == mode_to_dtype(S_IFDIR))
		src = r->src_de.ino;
	if (a->exchange && r->tgt_de.type == mode_to_dtype(S_IFDIR))
		tgt = r->tgt_de.ino;
	if (!src && !tgt)
		return 0;
	if (o->rlock && src == a->walked_src && tgt == a->walked_tgt)
		return a->cycle ? -EINVAL : 0;
	a->walked_src = src;
	a->walked_tgt = tgt;
	o->rename = true;
	return OP_RESTART;
}

static int get_inodes(struct op *o, struct rn *r)
{
	int rc = op_get_entry(o, &r->src_de, LOCK_EX, LOCAL_EXCL, &r->src);

	if (rc == 0 && r->tgt_de.ino)
		rc = op_get_entry(o, &r->tgt_de, LOCK_EX, LOCAL_EXCL, &r->tgt);
	return rc;
}

static int check_kinds(const struct renaming *a, const struct rn *r)
{
	bool src_dir = S_ISDIR(r->src->mode), tgt_dir = r->tgt && S_ISDIR(r->tgt->mode);

	if (r->dir != r->newdir && src_dir && !tgt_dir && r->newdir->nlink >= VOL_LINK_MAX)
		return -EMLINK;
	if (r->dir != r->newdir && a->exchange && tgt_dir && !src_dir &&
	    r->dir->nlink >= VOL_LINK_MAX)
		return -EMLINK;
	if (a->exchange || !r->tgt)
		return 0;
	if (src_dir && !tgt_dir)
		return -ENOTDIR;
	if (!src_dir && tgt_dir)
		return -EISDIR;
	return tgt_dir && r->tgt->size ? -ENOTEMPTY : 0;
}

/* ---- changes --------------------------------------------------------------------------------- */

static int rename_needs(struct op *o, struct change *ch, const struct renaming *a, struct rn *r)
{
	int rc;

	change_credits(ch, 2);
	rc = a->exchange || a->whiteout ? change_need(ch, r->dir, FORK_DATA, 1)
					: change_need_removal(ch, r->dir);
	if (rc == 0)
		rc = change_need(ch, r->newdir, FORK_DATA, 1);
	if (rc || a->exchange)
		return rc;
	r->tgt_last = r->tgt && (S_ISDIR(r->tgt->mode) || r->tgt->nlink <= 1);
	if (r->tgt_last)
		rc = parting_prepare(ch, r->tgt, &r->tgt_parts);
	if (rc)
		return rc;
	if (a->whiteout) {
		change_credits(ch, 1 + CELL_TAKE_CREDITS);
		return newcell_get(o, r->dir->ino, &r->wh_cell);
	}
	return dir_remove_prepare(&o->v->ne, r->dir, a->name, &ch->frees) == -EIO ? -EIO : 0;
}

static void move_parent(struct inode *moved, struct inode *from, struct inode *to)
{
	if (!S_ISDIR(moved->mode) || from == to)
		return;
	moved->parent = to->ino;
	from->nlink--;
	to->nlink++;
}

static int write_names(struct change *ch, const struct renaming *a, struct rn *r)
{
	const struct node_env *ne = &ch->o->v->ne;
	uint8_t src_type = mode_to_dtype(r->src->mode);
	int rc;

	if (a->exchange) {
		rc = dir_replace(ne, &ch->nt, r->dir, a->name, r->tgt->ino, r->tgt->generation,
				 mode_to_dtype(r->tgt->mode));
		if (rc == 0)
			rc = dir_replace(ne, &ch->nt, r->newdir, a->newname, r->src->ino,
					 r->src->generation, src_type);
		return rc;
	}
	if (a->whiteout) {
		whiteout_create(ch, &r->wh_cell, r->dir, &r->wh);
		rc = dir_replace(ne, &ch->nt, r->dir, a->name, r->wh.ino, r->wh.generation,
				 mode_to_dtype(r->wh.mode));
	} else {
		rc = dir_remove(ne, &ch->nt, r->dir, a->name);
	}
	if (rc == 0 && r->tgt)
		rc = dir_replace(ne, &ch->nt, r->newdir, a->newname, r->src->ino,
				 r->src->generation, src_type);
	else if (rc == 0)
		rc = dir_insert(ne, &ch->nt, r->newdir, a->newname, r->src->ino, r->src->generation,
				src_type);
	return rc;
}

static void touch(struct change *ch, struct inode *i)
{
	inode_touch(ch->o->v, i);
	inode_update(ch->nt.h, i);
}

/* The inode that was replaced loses this name. */
static int drop_target(struct change *ch, struct renaming *a, struct rn *r)
{
	struct inode *t = r->tgt;

	if (S_ISDIR(t->mode))
		r->newdir->nlink--;
	if (r->tgt_last)
		return parting_commit(ch, t, &r->tgt_parts, &a->gone);
	t->nlink--;
	touch(ch, t);
	return 0;
}

static int write_rename(struct change *ch, struct renaming *a, struct rn *r)
{
	struct volume *v = ch->o->v;
	int rc = write_names(ch, a, r);

	if (rc == 0 && r->tgt && !a->exchange)
		rc = drop_target(ch, a, r);
	if (rc)
		return change_broken(ch, rc, "directories for a rename");
	move_parent(r->src, r->dir, r->newdir);
	touch(ch, r->src);
	if (a->exchange) {
		move_parent(r->tgt, r->newdir, r->dir);
		touch(ch, r->tgt);
	}
	inode_touch_data(v, r->dir);
	if (r->newdir != r->dir) {
		inode_touch_data(v, r->newdir);
		inode_update(ch->nt.h, r->newdir);
	}
	inode_update(ch->nt.h, r->dir);
	return 0;
}

static int rename_body(struct op *o, void *arg)
{
	struct renaming *a = arg;
	struct rn r = {0};
	struct change ch;
	int rc;

	rc = find_names(o, a, &r);
	if (rc == 0)
		rc = check_walked(o, a, &r);
	if (rc || r.src_de.ino == r.tgt_de.ino)
		return rc; /* two names of one inode: nothing to do, says POSIX */
	rc = get_inodes(o, &r);
	if (rc == 0)
		rc = check_kinds(a, &r);
	if (rc)
		return rc;
	change_init(&ch, o);
	rc = rename_needs(o, &ch, a, &r);
	if (rc == 0)
		rc = change_begin(&ch, r.newdir->ino, r.tgt ? ALLOC_RESERVE_OK : 0);
	if (rc == 0)
		rc = write_rename(&ch, a, &r);
	if (r.wh.ino)
		inode_put(&o->v->ne, &r.wh);
	change_end(&ch);
	if (r.wh_cell.l)
		newcell_put(o, &r.wh_cell);
	return rc;
}

static int check_names(const struct renaming *a)
{
	int rc = vol_check_name(a->name);

	if (rc == 0)
		rc = vol_check_name(a->newname);
	if (rc == 0 && (strcmp(a->name, ".") == 0 || strcmp(a->name, "..") == 0))
		rc = -EBUSY;
	if (rc == 0 && (strcmp(a->newname, ".") == 0 || strcmp(a->newname, "..") == 0))
		rc = a->noreplace ? -EEXIST : -EBUSY;
	return rc;
}

int vol_rename(struct volume *v, const struct op_ctx *c, struct nodeid dir, const char *name,
	       struct nodeid newdir, const char *newname, unsigned flags)
{
	struct renaming a = {.dir = dir,
			     .newdir = newdir,
			     .name = name,
			     .newname = newname,
			     .noreplace = flags & RENAME_NOREPLACE,
			     .exchange = flags & RENAME_EXCHANGE,
			     .whiteout = flags & RENAME_WHITEOUT};
	struct op o;
	int rc = check_names(&a);

	if (rc)
		return rc;
	if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) ||
	    (a.exchange && (a.noreplace || a.whiteout)))
		return -EINVAL;
	op_init(&o, v, c);
	o.first = walk_body;
	op_plan(&o, dir.ino, LOCK_EX, LOCAL_EXCL);
	op_plan(&o, newdir.ino, LOCK_EX, LOCAL_EXCL);
	rc = op_run(&o, rename_body, &a);
	if (rc == 0 && a.gone.ino)
		orphans_add(v->orphans, a.gone);
	return rc;
}
