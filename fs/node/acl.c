/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * POSIX ACLs in the form of linux/posix_acl_xattr.h, version 2, and their meeting with the mode.
 * Rules as in Linux fs/posix_acl.c: posix_acl_valid, posix_acl_equiv_mode, posix_acl_chmod_masq and
 * posix_acl_create_masq.
 */
#include "node/node.h"

#include <errno.h>
#include <string.h>

#define ACL_VERSION 2u
#define ACL_RWX 7u

enum acl_tag {
	TAG_USER_OBJ = 0x01,
	TAG_USER = 0x02,
	TAG_GROUP_OBJ = 0x04,
	TAG_GROUP = 0x08,
	TAG_MASK = 0x10,
	TAG_OTHER = 0x20,
};

struct acl_head {
	le32 version;
};

struct acl_entry {
	le16 tag;
	le16 perm;
	le32 id;
};

static struct acl_entry *entries(void *acl)
{
	return (struct acl_entry *)((uint8_t *)acl + sizeof(struct acl_head));
}

static const struct acl_entry *centries(const void *acl)
{
	return (const struct acl_entry *)((const uint8_t *)acl + sizeof(struct acl_head));
}

static size_t count(size_t len_bytes)
{
	return (len_bytes - sizeof(struct acl_head)) / sizeof(struct acl_entry);
}

struct order {		/* what the entries seen so far allow */
	unsigned state; /* the tag that may come next at the latest; 0: complete */
	bool needs_mask;
};

static bool named_ok(struct order *o, unsigned tag, const struct acl_entry *e)
{
	o->needs_mask = true;
	return o->state == tag && le32_get(e->id) != UINT32_MAX;
}

static bool entry_ok(struct order *o, const struct acl_entry *e)
{
	unsigned was = o->state;

	if (le16_get(e->perm) & ~ACL_RWX)
		return false;
	switch (le16_get(e->tag)) {
	case TAG_USER_OBJ:
		o->state = TAG_USER;
		return was == TAG_USER_OBJ;
	case TAG_USER:
		return named_ok(o, TAG_USER, e);
	case TAG_GROUP_OBJ:
		o->state = TAG_GROUP;
		return was == TAG_USER;
	case TAG_GROUP:
		return named_ok(o, TAG_GROUP, e);
	case TAG_MASK:
		o->state = TAG_OTHER;
		return was == TAG_GROUP;
	case TAG_OTHER:
		o->state = 0;
		return was == TAG_OTHER || (was == TAG_GROUP && !o->needs_mask);
	default:
		return false;
	}
}

int acl_check(const void *acl, size_t len_bytes)
{
	const struct acl_head *h = acl;
	struct order o = {.state = TAG_USER_OBJ};

	if (len_bytes < sizeof(*h) || (len_bytes - sizeof(*h)) % sizeof(struct acl_entry))
		return -EINVAL;
	if (le32_get(h->version) != ACL_VERSION)
		return -EINVAL;
	for (size_t k = 0; k < count(len_bytes); k++)
		if (!entry_ok(&o, &centries(acl)[k]))
			return -EINVAL;
	return o.state == 0 ? 0 : -EINVAL;
}

int acl_to_mode(const void *acl, size_t len_bytes, uint32_t *mode, bool *minimal)
{
	uint32_t bits = 0;
	bool more = false;

	if (acl_check(acl, len_bytes))
		return -EINVAL;
	for (size_t k = 0; k < count(len_bytes); k++) {
		const struct acl_entry *e = &centries(acl)[k];
		uint32_t perm = le16_get(e->perm);

		switch (le16_get(e->tag)) {
		case TAG_USER_OBJ:
			bits |= perm << 6;
			break;
		case TAG_GROUP_OBJ:
			bits |= perm << 3;
			break;
		case TAG_OTHER:
			bits |= perm;
			break;
		case TAG_MASK:
			bits = (bits & ~(uint32_t)S_IRWXG) | perm << 3;
			more = true;
			break;
		default:
			more = true;
		}
	}
	*mode = (*mode & ~(uint32_t)0777) | bits;
	*minimal = !more;
	return 0;
}

struct classes { /* the entries that stand for the mode's three classes */
	struct acl_entry *owner, *group, *other;
	bool more; /* there are named entries or a mask */
};

static struct classes find_classes(void *acl, size_t len_bytes)
{
	struct classes c = {0};

	for (size_t k = 0; k < count(len_bytes); k++) {
		struct acl_entry *e = &entries(acl)[k];

		switch (le16_get(e->tag)) {
		case TAG_USER_OBJ:
			c.owner = e;
			break;
		case TAG_GROUP_OBJ:
			c.group = e;
			break;
		case TAG_MASK: /* behind GROUP_OBJ; takes its place */
			c.group = e;
			c.more = true;
			break;
		case TAG_OTHER:
			c.other = e;
			break;
		default:
			c.more = true;
		}
	}
	return c;
}

int acl_chmod(void *acl, size_t len_bytes, uint32_t mode)
{
	struct classes c;

	if (acl_check(acl, len_bytes))
		return -EINVAL;
	c = find_classes(acl, len_bytes);
	c.owner->perm = le16_make((mode >> 6) & ACL_RWX);
	c.group->perm = le16_make((mode >> 3) & ACL_RWX);
	c.other->perm = le16_make(mode & ACL_RWX);
	return 0;
}

static uint32_t cut_down(struct acl_entry *e, uint32_t mode, unsigned shift)
{
	uint32_t perm = le16_get(e->perm) & (mode >> shift) & ACL_RWX;

	e->perm = le16_make((uint16_t)perm);
	return (mode & ~(ACL_RWX << shift)) | perm << shift;
}

int acl_inherit(const void *def, size_t len_bytes, uint32_t *mode, void *access, bool *minimal)
{
	struct classes c;

	if (acl_check(def, len_bytes))
		return -EINVAL;
	memcpy(access, def, len_bytes);
	c = find_classes(access, len_bytes);
	*mode = cut_down(c.owner, *mode, 6);
	*mode = cut_down(c.group, *mode, 3);
	*mode = cut_down(c.other, *mode, 0);
	*minimal = !c.more;
	return 0;
}
