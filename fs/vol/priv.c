/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a file may not keep when its contents or its owner change: set-id bits, where the caller has
 * no right to leave them (the front end is told), and its capabilities, whoever the caller is. It
 * is the file system that drops them, for the kernel does not know what other hosts have set.
 *
 * They are dropped first, in a transaction of their own, under the lock that the change is made
 * under: no host finds new contents with old privileges. (After a crash that may be, as on other
 * file systems, of a write in place which nobody had synced.) That there are none, which is so
 * nearly always, is known in memory for as long as the lock is held.
 */
#include "vol/vol_impl.h"

static uint32_t suidgid_of(const struct inode *i)
{
	uint32_t bits = i->mode & S_IXGRP ? S_ISUID | S_ISGID : S_ISUID;

	return i->mode & bits;
}

static bool bits_none(const struct inode *i, bool suidgid)
{
	return !suidgid || suidgid_of(i) == 0;
}

bool priv_none(const struct inode *i, bool suidgid)
{
	return S_ISDIR(i->mode) || (bits_none(i, suidgid) && xattr_no_caps(i));
}

int priv_look(struct op *o, struct inode *i, bool suidgid, bool *some)
{
	bool has;
	int rc = xattr_has_caps(&o->v->ne, i, &has);

	if (rc == 0)
		*some = has || !bits_none(i, suidgid);
	return rc;
}

static int prepare(struct change *ch, struct inode *i, bool caps)
{
	const struct node_env *ne = &ch->o->v->ne;
	int rc;

	change_credits(ch, 1);
	if (!caps)
		return 0;
	rc = change_need_xattr(ch, i, XATTR_CAPS_NAME, XATTR_KEEP_NOTHING);
	/* If the lock to give an emptied tree node up is not to be had, the node stays. */
	if (rc == 0 &&
	    xattr_free_prepare(ne, i, XATTR_CAPS_NAME, XATTR_KEEP_NOTHING, &ch->frees) == -EIO)
		rc = -EIO;
	return rc;
}

static int apply(struct change *ch, struct inode *i, bool suidgid, bool caps)
{
	int rc = caps ? xattr_remove(&ch->o->v->ne, &ch->nt, i, XATTR_CAPS_NAME) : 0;

	if (rc)
		return change_broken(ch, rc, "the capabilities of a file");
	if (suidgid)
		i->mode &= ~suidgid_of(i);
	inode_touch(ch->o->v, i);
	inode_update(ch->nt.h, i);
	return 0;
}

int priv_drop(struct op *o, struct inode *i, bool suidgid)
{
	struct change ch;
	bool caps = false;
	int rc;

	if (priv_none(i, suidgid))
		return 0;
	rc = xattr_has_caps(&o->v->ne, i, &caps);
	if (rc || (!caps && bits_none(i, suidgid)))
		return rc;
	change_init(&ch, o);
	rc = prepare(&ch, i, caps);
	if (rc == 0)
		rc = change_begin(&ch, i->ino, ALLOC_RESERVE_OK);
	if (rc == 0)
		rc = apply(&ch, i, suidgid, caps);
	change_end(&ch);
	return rc;
}
