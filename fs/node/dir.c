/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Directories: a tree of names under keyed hashes (format.h, struct lunfs_dirent). Up to 128 names
 * may share the 56 bits of a hash that count; they stand next to each other, so a lookup is one
 * walk down and a short scan.
 */
#include "base/siphash.h"
#include "node/node_impl.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#define COLLISIONS 128u

static struct bt dir_tree(const struct node_env *ne, struct inode *dir)
{
	return (struct bt){.ne = ne, .i = dir, .fork = FORK_DATA};
}

static uint64_t name_key(const struct node_env *ne, const char *name, size_t len)
{
	uint64_t h = siphash24(ne->env->geo->hash_key, name, len) >> 8;

	return (h ? h : 1) * COLLISIONS;
}

static int name_len(const char *name, size_t *len)
{
	*len = strnlen(name, LUNFS_NAME_MAX + 1);
	if (*len > LUNFS_NAME_MAX)
		return -ENAMETOOLONG;
	return *len ? 0 : -ENOENT;
}

static bool type_ok(uint8_t type)
{
	return type == DT_REG || type == DT_DIR || type == DT_LNK || type == DT_CHR ||
	       type == DT_BLK || type == DT_FIFO || type == DT_SOCK;
}

static bool name_ok(const uint8_t *name, size_t len)
{
	if (len == 0 || memchr(name, '/', len) || memchr(name, 0, len))
		return false;
	return name[0] != '.' || !(len == 1 || (len == 2 && name[1] == '.'));
}

static int damaged(const struct inode *dir, uint64_t key)
{
	log_err("dirent-damaged",
		"directory %llu: the entry at position %llu is not a valid one; run fsck.lunfs",
		ULL(dir->ino), ULL(key));
	return -EUCLEAN;
}

/* The entry at the path; its name is not terminated. */
static int entry_at(const struct bt *bt, struct bt_path *p, const struct lunfs_dirent **out)
{
	const struct geo *g = bt->ne->env->geo;
	size_t len;
	const struct lunfs_dirent *de = (const void *)bt_body(p, &len);
	uint64_t ino;

	if (len < sizeof(*de) || len != sizeof(*de) + de->name_len || bt_key(p) < DIR_COOKIE_MIN ||
	    bt_key(p) > INT64_MAX)
		return damaged(bt->i, bt_key(p));
	ino = le64_get(de->ino);
	if (!name_ok(de->name, de->name_len) || !type_ok(de->type) ||
	    le64_get(de->generation) == 0 || ino < g->group0_blk || !cell_addr_ok(g, ino))
		return damaged(bt->i, bt_key(p));
	*out = de;
	return 0;
}

static void fill(const struct lunfs_dirent *de, uint64_t key, struct dir_entry *out)
{
	out->ino = le64_get(de->ino);
	out->generation = le64_get(de->generation);
	out->type = de->type;
	out->name_len = de->name_len;
	memcpy(out->name, de->name, de->name_len);
	out->name[de->name_len] = 0;
	out->cookie = key;
}

/*
 * Path to the entry of @name. -ENOENT: nothing is held, and *free_key (may be NULL) is the key that
 * a new entry gets, 0 if there is none left.
 */
static int find(const struct bt *bt, const char *name, size_t len, struct bt_path *p,
		uint64_t *free_key)
{
	uint64_t base = name_key(bt->ne, name, len), next = base;
	const struct lunfs_dirent *de;
	int rc = bt_seek(bt, base, p);

	for (; !rc; bt_leaf(p)->idx++) {
		rc = bt_settle(bt, p);
		if (rc || bt_key(p) >= base + COLLISIONS)
			break;
		next += bt_key(p) == next;
		rc = entry_at(bt, p, &de);
		if (rc)
			break;
		if (de->name_len == len && memcmp(de->name, name, len) == 0)
			return 0;
	}
	bt_put(bt, p);
	if (free_key)
		*free_key = next < base + COLLISIONS ? next : 0;
	return rc ? rc : -ENOENT;
}

static int find_name(const struct bt *bt, const char *name, struct bt_path *p)
{
	size_t len;
	int rc = name_len(name, &len);

	return rc ? rc : find(bt, name, len, p, NULL);
}

int dir_lookup(const struct node_env *ne, struct inode *dir, const char *name,
	       struct dir_entry *out)
{
	struct bt bt = dir_tree(ne, dir);
	const struct lunfs_dirent *de;
	struct bt_path p;
	int rc = find_name(&bt, name, &p);

	if (rc)
		return rc;
	rc = entry_at(&bt, &p, &de);
	if (!rc)
		fill(de, bt_key(&p), out);
	bt_put(&bt, &p);
	return rc;
}

int dir_list(const struct node_env *ne, struct inode *dir, uint64_t from, struct dir_entry *out,
	     size_t max, size_t *n)
{
	struct bt bt = dir_tree(ne, dir);
	const struct lunfs_dirent *de;
	struct bt_path p;
	size_t have = 0;
	int rc;

	bt.ahead = max > 1;
	rc = bt_seek(&bt, from, &p);

	while (!rc && have < max) {
		rc = bt_settle(&bt, &p);
		if (!rc)
			rc = entry_at(&bt, &p, &de);
		if (rc)
			break;
		fill(de, bt_key(&p), &out[have++]);
		bt_leaf(&p)->idx++;
	}
	bt_put(&bt, &p);
	if (rc && rc != -ENOENT)
		return rc;
	*n = have;
	return 0;
}

int dir_next(const struct node_env *ne, struct inode *dir, uint64_t from, struct dir_entry *out)
{
	size_t n;
	int rc = dir_list(ne, dir, from, out, 1, &n);

	if (rc)
		return rc;
	return n ? 0 : -ENOENT;
}

static size_t make_entry(uint8_t *buf, const char *name, size_t len, uint64_t ino,
			 uint64_t generation, uint8_t type)
{
	struct lunfs_dirent *de = (struct lunfs_dirent *)buf;

	de->ino = le64_make(ino);
	de->generation = le64_make(generation);
	de->type = type;
	de->name_len = (uint8_t)len;
	memcpy(de->name, name, len);
	return sizeof(*de) + len;
}

int dir_insert(const struct node_env *ne, const struct node_txn *nt, struct inode *dir,
	       const char *name, uint64_t ino, uint64_t generation, uint8_t type)
{
	struct bt bt = dir_tree(ne, dir);
	uint8_t buf[sizeof(struct lunfs_dirent) + LUNFS_NAME_MAX];
	struct bt_path p;
	uint64_t key;
	size_t len, n;
	int rc = name_len(name, &len);

	if (!rc)
		rc = find(&bt, name, len, &p, &key);
	if (!rc) {
		bt_put(&bt, &p);
		return -EEXIST;
	}
	if (rc != -ENOENT)
		return rc;
	if (!key)
		return -ENOSPC;
	rc = bt_seek(&bt, key, &p);
	if (rc)
		return rc;
	n = make_entry(buf, name, len, ino, generation, type);
	rc = bt_insert(&bt, nt, &p, key, buf, n, BT_SPLIT_EVEN);
	bt_put(&bt, &p);
	if (rc)
		return rc;
	dir->size++;
	return 0;
}

int dir_replace(const struct node_env *ne, const struct node_txn *nt, struct inode *dir,
		const char *name, uint64_t ino, uint64_t generation, uint8_t type)
{
	struct bt bt = dir_tree(ne, dir);
	uint8_t buf[sizeof(struct lunfs_dirent) + LUNFS_NAME_MAX];
	struct bt_path p;
	size_t n;
	int rc = find_name(&bt, name, &p);

	if (rc)
		return rc;
	n = make_entry(buf, name, strlen(name), ino, generation, type);
	bt_dirty_leaf(&bt, nt, &p);
	leaf_set_body(bt_leaf(&p)->area, bt_leaf(&p)->idx, buf, n);
	bt_put(&bt, &p);
	return 0;
}

int dir_remove_prepare(const struct node_env *ne, struct inode *dir, const char *name,
		       struct free_res *frees)
{
	struct bt bt = dir_tree(ne, dir);
	struct bt_path p;
	int rc = find_name(&bt, name, &p);

	if (rc)
		return rc;
	rc = bt_remove_prepare(&bt, &p, 1, frees);
	bt_put(&bt, &p);
	return rc;
}

int dir_remove(const struct node_env *ne, const struct node_txn *nt, struct inode *dir,
	       const char *name)
{
	struct bt bt = dir_tree(ne, dir);
	struct bt_path p;
	int rc = find_name(&bt, name, &p);

	if (rc)
		return rc;
	bt_remove(&bt, nt, &p);
	bt_put(&bt, &p);
	if (dir->size)
		dir->size--;
	return 0;
}
