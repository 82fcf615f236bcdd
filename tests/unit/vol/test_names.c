/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names and attributes on one host. */
#include "unit.h"

#include <dirent.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/xattr.h>

#define SCATTERED_FIRST 9000u /* files, before all blocks are taken */
#define SCATTERED_MAX 16384u
#define SCATTERED_BLKS 150u /* from one free cell to the next */

static struct nodeid root_of(struct simcluster *t)
{
	sc_up(t, 0);
	return sc_root_id(t, 0);
}

/* ---- create, look up, remove ----------------------------------------------------------------- */

static void created_is_found_body(struct simcluster *t)
{
	const struct op_ctx user = {.uid = 7, .gid = 8, .umask = 027};
	struct nodeid root = root_of(t), id;
	struct stat before = sc_stat(t, 0, root), st;
	struct vattr va;

	assert_int_equal(vol_mknod(t->v[0], &user, root, "f", S_IFREG | 0666, 0, &va), 0);
	assert_int_equal(sc_lookup(t, 0, root, "f", &id), 0);
	assert_true(id.ino == va.id.ino && id.generation == va.id.generation);
	st = sc_stat(t, 0, id);
	assert_int_equal(st.st_mode, S_IFREG | 0640);
	assert_true(st.st_uid == 7 && st.st_gid == 8 && st.st_nlink == 1 && st.st_size == 0);
	st = sc_stat(t, 0, root);
	assert_true(memcmp(&st.st_mtim, &before.st_mtim, sizeof(st.st_mtim)) != 0);
	assert_int_equal(vol_mknod(t->v[0], &user, root, "f", S_IFREG | 0666, 0, &va), -EEXIST);
	assert_int_equal(vol_mkdir(t->v[0], &user, root, "f", 0777, &va), -EEXIST);
	assert_int_equal(sc_lookup(t, 0, root, "g", &id), -ENOENT);
}

static void created_file_is_found_with_its_attributes(void **s)
{
	(void)s;
	sc_run(created_is_found_body, NULL);
}

static void errors_body(struct simcluster *t)
{
	struct nodeid root = root_of(t), f = sc_mkfile(t, 0, root, "f"), d, id;
	struct volume *v = t->v[0];
	char longest[LUNFS_NAME_MAX + 2];
	struct vattr va;

	d = sc_mkdir(t, 0, root, "d");
	sc_mkfile(t, 0, d, "x");
	memset(longest, 'n', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(vol_mknod(v, &sc_root, root, longest, S_IFREG, 0, &va), -ENAMETOOLONG);
	assert_int_equal(sc_lookup(t, 0, root, longest, &id), -ENAMETOOLONG);
	longest[LUNFS_NAME_MAX] = '\0';
	sc_mkfile(t, 0, root, longest);
	assert_int_equal(vol_unlink(v, &sc_root, root, longest), 0);
	assert_int_equal(vol_unlink(v, &sc_root, root, "d"), -EISDIR);
	assert_int_equal(vol_rmdir(v, &sc_root, root, "f"), -ENOTDIR);
	assert_int_equal(vol_rmdir(v, &sc_root, root, "d"), -ENOTEMPTY);
	assert_int_equal(vol_rmdir(v, &sc_root, d, "."), -EINVAL);
	assert_int_equal(vol_rmdir(v, &sc_root, d, ".."), -ENOTEMPTY);
	assert_int_equal(vol_unlink(v, &sc_root, root, "none"), -ENOENT);
	assert_int_equal(vol_link(v, &sc_root, d, root, "hard", &va), -EPERM);
	assert_int_equal(sc_lookup(t, 0, f, "x", &id), -ENOTDIR);
	assert_int_equal(sc_lookup(t, 0, d, "..", &id), 0);
	assert_int_equal(id.ino, root.ino);
	assert_int_equal(vol_unlink(v, &sc_root, d, "x"), 0);
	assert_int_equal(vol_rmdir(v, &sc_root, root, "d"), 0);
	assert_int_equal(vol_mknod(v, &sc_root, d, "y", S_IFREG, 0, &va) == 0, 0);
}

static void wrong_calls_get_the_errors_of_posix(void **s)
{
	(void)s;
	sc_run(errors_body, NULL);
}

static void links_body(struct simcluster *t)
{
	struct nodeid root = root_of(t), d = sc_mkdir(t, 0, root, "d"), f, s;
	struct volume *v = t->v[0];
	char buf[64], target[4096];
	struct vattr va;

	assert_int_equal(sc_stat(t, 0, root).st_nlink, 3);
	sc_mkdir(t, 0, d, "dd");
	assert_int_equal(sc_stat(t, 0, d).st_nlink, 3);
	f = sc_mkfile(t, 0, d, "f");
	assert_int_equal(vol_link(v, &sc_root, f, root, "g", &va), 0);
	assert_int_equal(sc_stat(t, 0, f).st_nlink, 2);
	assert_int_equal(vol_unlink(v, &sc_root, d, "f"), 0);
	assert_int_equal(sc_stat(t, 0, f).st_nlink, 1);
	assert_int_equal(vol_symlink(v, &sc_root, root, "s", "to/there", &va), 0);
	s = va.id;
	assert_int_equal(vol_readlink(v, &sc_root, s, buf, sizeof(buf)), 0);
	assert_string_equal(buf, "to/there");
	memset(target, 'x', 4095);
	target[4095] = '\0';
	assert_int_equal(vol_symlink(v, &sc_root, root, "long", target, &va), 0);
	target[0] = '\0';
	assert_int_equal(vol_readlink(v, &sc_root, va.id, target, sizeof(target)), 0);
	assert_int_equal(strlen(target), 4095);
	assert_int_equal(vol_rmdir(v, &sc_root, d, "dd"), 0);
	assert_int_equal(sc_stat(t, 0, d).st_nlink, 2);
}

static void link_counts_follow_names_and_subdirectories(void **s)
{
	(void)s;
	sc_run(links_body, NULL);
}

/* ---- rename ---------------------------------------------------------------------------------- */

static int mv(struct simcluster *t, struct nodeid from, const char *name, struct nodeid to,
	      const char *newname, unsigned flags)
{
	return vol_rename(t->v[0], &sc_root, from, name, to, newname, flags);
}

static void rename_body(struct simcluster *t)
{
	struct nodeid root = root_of(t), a = sc_mkdir(t, 0, root, "a"), b, f, g, id;

	b = sc_mkdir(t, 0, root, "b");
	f = sc_mkfile(t, 0, a, "f");
	g = sc_mkfile(t, 0, b, "g");
	assert_int_equal(mv(t, a, "f", b, "g", RENAME_NOREPLACE), -EEXIST);
	assert_int_equal(mv(t, a, "f", b, "none", RENAME_EXCHANGE), -ENOENT);
	assert_int_equal(mv(t, a, "f", root, "b", 0), -EISDIR);
	assert_int_equal(mv(t, root, "a", b, "g", 0), -ENOTDIR);
	assert_int_equal(mv(t, root, "a", root, "b", 0), -ENOTEMPTY);
	assert_int_equal(mv(t, a, "f", b, "g", RENAME_EXCHANGE), 0);
	assert_int_equal(sc_lookup(t, 0, a, "f", &id), 0);
	assert_int_equal(id.ino, g.ino);
	assert_int_equal(sc_lookup(t, 0, b, "g", &id), 0);
	assert_int_equal(id.ino, f.ino);
	assert_int_equal(mv(t, a, "f", b, "g", 0), 0);
	assert_int_equal(sc_lookup(t, 0, a, "f", &id), -ENOENT);
	assert_int_equal(sc_lookup(t, 0, b, "g", &id), 0);
	assert_int_equal(id.ino, g.ino);
	assert_int_equal(mv(t, b, "g", b, "h", 0), 0);
	assert_int_equal(sc_lookup(t, 0, b, "h", &id), 0);
	sc_settle(t, 0);
	assert_int_equal(vol_open(t->v[0], &sc_root, f), -ESTALE);
}

static void rename_replaces_exchanges_and_refuses(void **s)
{
	(void)s;
	sc_run(rename_body, NULL);
}

static void descend_body(struct simcluster *t)
{
	struct nodeid root = root_of(t), a = sc_mkdir(t, 0, root, "a"), b, c, id;

	b = sc_mkdir(t, 0, a, "b");
	c = sc_mkdir(t, 0, b, "c");
	assert_int_equal(mv(t, root, "a", c, "x", 0), -EINVAL);
	assert_int_equal(mv(t, root, "a", a, "x", 0), -EINVAL);
	sc_mkdir(t, 0, c, "e");
	assert_int_equal(mv(t, c, "e", root, "a", RENAME_EXCHANGE), -EINVAL);
	assert_int_equal(mv(t, b, "c", root, "c", 0), 0);
	assert_int_equal(sc_lookup(t, 0, c, "..", &id), 0);
	assert_int_equal(id.ino, root.ino);
	assert_int_equal(sc_stat(t, 0, b).st_nlink, 2);
	assert_int_equal(sc_stat(t, 0, root).st_nlink, 4);
	assert_int_equal(mv(t, root, "a", c, "x", 0), 0);
	assert_int_equal(sc_stat(t, 0, c).st_nlink, 4);
}

static void directory_never_moves_below_itself(void **s)
{
	(void)s;
	sc_run(descend_body, NULL);
}

/* ---- directories ----------------------------------------------------------------------------- */

#define MANY 700u

static void listing_body(struct simcluster *t)
{
	struct nodeid root = root_of(t), d = sc_mkdir(t, 0, root, "d");
	struct vdirent *vd = calloc(50, sizeof(*vd));
	bool seen[MANY] = {false};
	unsigned dots = 0;
	uint64_t cookie = 0;
	char name[32];
	size_t n;

	for (unsigned k = 0; k < MANY; k++) {
		snprintf(name, sizeof(name), "file%u", k);
		sc_mkfile(t, 0, d, name);
	}
	do {
		assert_int_equal(
		    vol_readdir(t->v[0], &sc_root, d, cookie, VATTRS_CACHED, vd, 50, &n), 0);
		for (size_t k = 0; k < n; k++) {
			unsigned no;

			cookie = vd[k].next;
			if (vd[k].de.name[0] == '.') {
				dots++;
				continue;
			}
			no = (unsigned)atoi(vd[k].de.name + 4);
			assert_true(no < MANY && !seen[no] && vd[k].has_attr);
			assert_true(vd[k].attr.id.ino == vd[k].de.ino);
			seen[no] = true;
		}
		if (n) { /* take away one that was listed: the rest must still come, once */
			assert_int_equal(vol_unlink(t->v[0], &sc_root, d, vd[n - 1].de.name), 0);
		}
	} while (n);
	assert_int_equal(dots, 2);
	for (unsigned k = 0; k < MANY; k++)
		assert_true(seen[k]);
	free(vd);
}

static void listing_is_complete_while_names_go(void **s)
{
	(void)s;
	sc_run(listing_body, NULL);
}

/* ---- orphans --------------------------------------------------------------------------------- */

static void open_unlinked_body(struct simcluster *t)
{
	struct nodeid root = root_of(t), id;
	uint8_t *buf = dev_buf_alloc(1 << 16);
	uint64_t free0, free1;
	struct vattr va;

	free0 = sc_free_blks(t, 0);
	assert_int_equal(vol_create(t->v[0], &sc_root, root, "f", 0644, &va), 0);
	id = va.id;
	memset(buf, 'q', 1 << 16);
	sc_write(t, 0, id, 0, buf, 1 << 16);
	assert_int_equal(vol_unlink(t->v[0], &sc_root, root, "f"), 0);
	sc_settle(t, 0);
	memset(buf, 0, 1 << 16);
	assert_int_equal(sc_read(t, 0, id, 0, buf, 1 << 16), 1 << 16);
	assert_true(buf[0] == 'q' && buf[65535] == 'q');
	assert_int_equal(sc_stat(t, 0, id).st_nlink, 0);
	assert_int_equal(vol_link(t->v[0], &sc_root, id, root, "again", &va), -ENOENT);
	vol_release(t->v[0], id);
	sc_settle(t, 0);
	assert_int_equal(vol_getattr(t->v[0], &sc_root, id, &va), -ESTALE);
	assert_int_equal(vol_syncfs(t->v[0]), 0);
	free1 = sc_free_blks(t, 0);
	assert_int_equal(free0, free1);
	free(buf);
}

static void open_allocated_body(struct simcluster *t)
{
	struct nodeid root = root_of(t);
	int64_t blocks;
	struct vattr va;

	assert_int_equal(vol_create(t->v[0], &sc_root, root, "f", 0644, &va), 0);
	assert_int_equal(vol_unlink(t->v[0], &sc_root, root, "f"), 0);
	SC_OK(t, vol_fallocate(t->v[0], &sc_root, va.id, FALLOC_FL_KEEP_SIZE, 0, 1 << 20));
	blocks = sc_stat(t, 0, va.id).st_blocks;
	assert_true(blocks >= (1 << 20) / 512);
	sc_write(t, 0, va.id, 0, "x", 1);
	assert_int_equal(sc_stat(t, 0, va.id).st_blocks, blocks);
	SC_OK(t, sc_truncate(t, 0, va.id, 1));
	assert_true(sc_stat(t, 0, va.id).st_blocks < blocks);
	vol_release(t->v[0], va.id);
}

static void unlinked_file_keeps_what_was_allocated_for_it(void **s)
{
	(void)s;
	sc_run(open_allocated_body, NULL);
}

static void unlinked_file_lives_until_its_last_close(void **s)
{
	(void)s;
	sc_run(open_unlinked_body, NULL);
}

static uint64_t freed_by_worker(struct simcluster *t)
{
	uint64_t waiting, freed;

	sc_settle(t, 0);
	orphans_count(t->v[0]->orphans, &waiting, &freed);
	assert_int_equal(waiting, 0);
	return freed;
}

/* A directory, files without data, with inline data, with blocks: unlinked, removed, replaced. */
static void unused_body(struct simcluster *t)
{
	struct nodeid root = root_of(t), gone[5], left;
	uint8_t *buf = dev_buf_alloc(1 << 16);
	struct volume *v = t->v[0];
	uint64_t free0, freed;
	struct vattr va;

	memset(buf, 'u', 1 << 16);
	left = sc_mkfile(t, 0, root, "left");
	free0 = sc_free_blks(t, 0);
	freed = freed_by_worker(t);
	gone[0] = sc_mkfile(t, 0, root, "empty");
	gone[1] = sc_mkfile(t, 0, root, "inline");
	sc_write(t, 0, gone[1], 0, buf, 100);
	gone[2] = sc_mkfile(t, 0, root, "blocks");
	sc_write(t, 0, gone[2], 0, buf, 1 << 16);
	gone[3] = sc_mkfile(t, 0, root, "replaced");
	sc_write(t, 0, gone[3], 0, buf, 1 << 16);
	assert_int_equal(vol_mkdir(v, &sc_root, root, "dir", 0755, &va), 0);
	gone[4] = va.id;
	assert_int_equal(vol_unlink(v, &sc_root, root, "empty"), 0);
	assert_int_equal(vol_unlink(v, &sc_root, root, "inline"), 0);
	assert_int_equal(vol_unlink(v, &sc_root, root, "blocks"), 0);
	assert_int_equal(vol_rmdir(v, &sc_root, root, "dir"), 0);
	assert_int_equal(vol_rename(v, &sc_root, root, "left", root, "replaced", 0), 0);
	for (unsigned k = 0; k < 5; k++)
		assert_int_equal(vol_getattr(v, &sc_root, gone[k], &va), -ESTALE);
	assert_int_equal(vol_lookup(v, &sc_root, root, "replaced", &va), 0);
	assert_int_equal(va.id.ino, left.ino);
	assert_int_equal(freed_by_worker(t), freed);
	assert_int_equal(vol_syncfs(v), 0);
	assert_int_equal(sc_free_blks(t, 0), free0);
	free(buf);
}

static void unused_inode_is_given_up_with_its_last_name(void **s)
{
	(void)s;
	sc_run(unused_body, NULL);
}

/* More extents than go in one transaction. */
static void many_pieces_body(struct simcluster *t)
{
	struct nodeid root = root_of(t), id = sc_mkfile(t, 0, root, "pieces");
	uint8_t *buf = dev_buf_alloc(4096);
	uint64_t freed = freed_by_worker(t);
	struct vattr va;

	memset(buf, 'p', 4096);
	for (uint64_t k = 0; k < 200; k++)
		sc_write(t, 0, id, k * 8192, buf, 4096);
	assert_int_equal(vol_unlink(t->v[0], &sc_root, root, "pieces"), 0);
	assert_int_equal(freed_by_worker(t), freed + 1);
	assert_int_equal(vol_getattr(t->v[0], &sc_root, id, &va), -ESTALE);
	free(buf);
}

static void inode_of_many_pieces_is_left_to_the_orphan_worker(void **s)
{
	(void)s;
	sc_run(many_pieces_body, NULL);
}

/* What stands there is a whiteout. */
static void assert_whiteout(struct simcluster *t, struct nodeid dir, const char *name)
{
	struct nodeid id;
	struct stat st;

	SC_OK(t, sc_lookup(t, 1, dir, name, &id));
	st = sc_stat(t, 1, id);
	assert_true(st.st_mode == S_IFCHR && st.st_rdev == 0 && st.st_nlink == 1);
}

static void whiteout_body(struct simcluster *t)
{
	struct nodeid root = root_of(t), a, b, d, f, g, id;

	sc_up(t, 1);
	a = sc_mkdir(t, 0, root, "a");
	b = sc_mkdir(t, 0, root, "b");
	f = sc_mkfile(t, 0, a, "f");
	g = sc_mkfile(t, 0, b, "g");
	d = sc_mkdir(t, 0, a, "d");
	assert_int_equal(mv(t, a, "f", b, "g", RENAME_WHITEOUT | RENAME_EXCHANGE), -EINVAL);
	assert_int_equal(mv(t, a, "f", b, "g", RENAME_WHITEOUT | RENAME_NOREPLACE), -EEXIST);
	assert_int_equal(mv(t, a, "f", b, "g", RENAME_WHITEOUT), 0);
	assert_whiteout(t, a, "f");
	SC_OK(t, sc_lookup(t, 1, b, "g", &id));
	assert_true(id.ino == f.ino && id.ino != g.ino);
	assert_int_equal(mv(t, a, "d", b, "d", RENAME_WHITEOUT | RENAME_NOREPLACE), 0);
	assert_whiteout(t, a, "d");
	SC_OK(t, sc_lookup(t, 1, b, "d", &id));
	assert_int_equal(id.ino, d.ino);
	assert_true(sc_stat(t, 1, a).st_nlink == 2 && sc_stat(t, 1, b).st_nlink == 3);
	assert_int_equal(mv(t, b, "g", b, "h", RENAME_WHITEOUT), 0);
	assert_whiteout(t, b, "g");
	assert_int_equal(mv(t, b, "h", b, "g", 0), 0); /* over it */
	SC_OK(t, vol_unlink(t->v[0], &sc_root, a, "f"));
	SC_OK(t, vol_unlink(t->v[0], &sc_root, a, "d"));
	SC_OK(t, vol_rmdir(t->v[0], &sc_root, root, "a"));
}

static void a_whiteout_stays_where_a_name_moved_away(void **s)
{
	(void)s;
	sc_run(whiteout_body, NULL);
}

/* ---- attributes, xattrs, ACLs ---------------------------------------------------------------- */

static void attrs_body(struct simcluster *t)
{
	struct nodeid root = root_of(t), f = sc_mkfile(t, 0, root, "f");
	struct stat st = {.st_mode = 06711, .st_uid = 3, .st_gid = 4}, before;
	struct volume *v = t->v[0];
	struct vattr va;

	before = sc_stat(t, 0, f);
	assert_int_equal(vol_setattr(v, &sc_root, f, &st, VSET_MODE | VSET_UID | VSET_GID, &va), 0);
	assert_int_equal(va.st.st_mode, S_IFREG | 06711);
	assert_true(va.st.st_uid == 3 && va.st.st_gid == 4);
	assert_true(memcmp(&va.st.st_ctim, &before.st_ctim, sizeof(before.st_ctim)) != 0);
	assert_true(memcmp(&va.st.st_mtim, &before.st_mtim, sizeof(before.st_mtim)) == 0);
	assert_int_equal(vol_setattr(v, &sc_root, f, &st, VSET_KILL_SUIDGID, &va), 0);
	assert_int_equal(va.st.st_mode, S_IFREG | 0711);
	st.st_mtim = (struct timespec){-5, 123456789};
	assert_int_equal(vol_setattr(v, &sc_root, f, &st, VSET_MTIME, &va), 0);
	assert_true(va.st.st_mtim.tv_sec == -5 && va.st.st_mtim.tv_nsec == 123456789);
	st.st_size = 1;
	assert_int_equal(vol_setattr(v, &sc_root, root, &st, VSET_SIZE, &va), -EISDIR);
}

static void attributes_are_set_as_asked(void **s)
{
	(void)s;
	sc_run(attrs_body, NULL);
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static void nothing_set_body(struct simcluster *t)
{
	struct nodeid f = sc_mkfile(t, 0, root_of(t), "f");
	struct stat st = {0}, before = sc_stat(t, 0, f);
	struct vattr va;

	SC_OK(t, vol_setattr(t->v[0], &sc_root, f, &st, 0, &va));
	assert_false(same_time(va.st.st_ctim, before.st_ctim));
	assert_true(same_time(va.st.st_mtim, before.st_mtim));
	assert_true(va.st.st_mode == before.st_mode && va.st.st_uid == before.st_uid);
}

static void a_chown_to_nobody_else_sets_ctime(void **s)
{
	(void)s;
	sc_run(nothing_set_body, NULL);
}

static void xattr_body(struct simcluster *t)
{
	struct nodeid root = root_of(t), f = sc_mkfile(t, 0, root, "f");
	char *big = malloc(60000), *back = malloc(60000);
	struct volume *v = t->v[0];
	size_t len;

	for (unsigned k = 0; k < 60000; k++)
		big[k] = (char)(k * 7 + k / 251);
	assert_int_equal(vol_setxattr(v, &sc_root, f, "user.a", "1", 1, XATTR_REPLACE), -ENODATA);
	assert_int_equal(vol_setxattr(v, &sc_root, f, "user.a", "1", 1, XATTR_CREATE), 0);
	assert_int_equal(vol_setxattr(v, &sc_root, f, "user.a", "2", 1, XATTR_CREATE), -EEXIST);
	assert_int_equal(vol_setxattr(v, &sc_root, f, "user.big", big, 60000, 0), 0);
	assert_int_equal(vol_getxattr(v, &sc_root, f, "user.big", back, 60000, &len), 0);
	assert_true(len == 60000 && memcmp(big, back, 60000) == 0);
	assert_int_equal(vol_getxattr(v, &sc_root, f, "user.big", back, 10, &len), -ERANGE);
	assert_int_equal(vol_listxattr(v, &sc_root, f, back, 60000, &len), 0);
	assert_int_equal(len, sizeof("user.a") + sizeof("user.big"));
	assert_int_equal(vol_setxattr(v, &sc_root, f, "user.big", "s", 1, 0), 0);
	assert_int_equal(vol_removexattr(v, &sc_root, f, "user.a"), 0);
	assert_int_equal(vol_removexattr(v, &sc_root, f, "user.a"), -ENODATA);
	assert_int_equal(vol_getxattr(v, &sc_root, f, "user.big", back, 60000, &len), 0);
	assert_int_equal(len, 1);
	free(big);
	free(back);
}

/* The journal of a small volume takes what removing and rewriting the largest ones changes. */
static void large_xattr_body(struct simcluster *t)
{
	struct nodeid root = root_of(t), f = sc_mkfile(t, 0, root, "f");
	size_t size = 65536, len;
	char *big = calloc(1, size);
	struct volume *v = t->v[0];
	char name[16];

	for (unsigned k = 0; k < 4; k++) {
		snprintf(name, sizeof(name), "user.%u", k);
		SC_OK(t, vol_setxattr(v, &sc_root, f, name, big, size, 0));
	}
	memset(big, 'x', size);
	SC_OK(t, vol_setxattr(v, &sc_root, f, "user.1", big, size, 0));
	SC_OK(t, vol_setxattr(v, &sc_root, f, "user.2", big, 1, 0));
	SC_OK(t, vol_removexattr(v, &sc_root, f, "user.0"));
	SC_OK(t, vol_getxattr(v, &sc_root, f, "user.1", big, size, &len));
	assert_true(len == size && big[0] == 'x' && big[size - 1] == 'x');
	for (unsigned k = 1; k < 4; k++) {
		snprintf(name, sizeof(name), "user.%u", k);
		SC_OK(t, vol_removexattr(v, &sc_root, f, name));
	}
	free(big);
}

static void large_xattrs_can_be_removed_and_rewritten(void **s)
{
	(void)s;
	sc_run(large_xattr_body, NULL);
}

static int by_number(const void *a, const void *b)
{
	const struct vattr *x = a, *y = b;

	return (x->id.ino > y->id.ino) - (x->id.ino < y->id.ino);
}

/* The only cells that are free lie one here, one there. */
static void scatter_free_cells(struct simcluster *t, struct nodeid dir)
{
	struct vattr *f = calloc(SCATTERED_MAX, sizeof(*f));
	struct nodeid fill = sc_mkfile(t, 0, dir, "fill");
	struct volume *v = t->v[0];
	uint64_t last = 0, at = 0;
	char name[24];
	unsigned n = 0;
	int rc = 0;

	while (rc == 0 && n < SCATTERED_MAX) {
		if (n == SCATTERED_FIRST)
			for (uint64_t step = 1 << 20; step >= LUNFS_BLOCK_BYTES; step /= 2)
				while (vol_fallocate(v, &sc_root, fill, 0, at, step) == 0)
					at += step;
		snprintf(name, sizeof(name), "%u", n);
		rc = vol_mknod(v, &sc_root, dir, name, S_IFREG, 0, &f[n]);
		f[n].st.st_uid = n; /* its name */
		n += rc == 0;
	}
	assert_int_equal(rc, -ENOSPC);
	qsort(f, n, sizeof(*f), by_number);
	for (unsigned k = 0; k < n; k++)
		if (f[k].id.ino - last >= SCATTERED_BLKS) {
			last = f[k].id.ino;
			snprintf(name, sizeof(name), "%u", f[k].st.st_uid);
			SC_OK(t, vol_unlink(v, &sc_root, dir, name));
		}
	SC_OK(t, vol_syncfs(v));
	free(f);
}

/* As above where each cell of the tree lies in another chunk. */
static void scattered_xattr_body(struct simcluster *t)
{
	struct nodeid root = root_of(t), f = sc_mkfile(t, 0, root, "f");
	size_t size = 65536;
	char *big = calloc(1, size);
	struct volume *v = t->v[0];

	scatter_free_cells(t, sc_mkdir(t, 0, root, "d"));
	SC_OK(t, vol_setxattr(v, &sc_root, f, "user.a", big, size, 0));
	SC_OK(t, vol_setxattr(v, &sc_root, f, "user.b", big, size, 0));
	SC_OK(t, vol_removexattr(v, &sc_root, f, "user.a"));
	SC_OK(t, vol_setxattr(v, &sc_root, f, "user.b", big, 1, 0));
	SC_OK(t, vol_removexattr(v, &sc_root, f, "user.b"));
	free(big);
}

static void a_large_xattr_in_as_many_chunks_as_cells_can_be_removed(void **s)
{
	(void)s;
	sc_run(scattered_xattr_body, &(struct sc_shape){.journal_bytes = 1 << 20});
}

static void trusted_body(struct simcluster *t)
{
	struct nodeid root = root_of(t), f = sc_mkfile(t, 0, root, "f");
	const struct op_ctx user = {.uid = 5, .gid = 5};
	struct volume *v = t->v[0];
	char list[64];
	size_t len;

	SC_OK(t, vol_setxattr(v, &sc_root, f, "user.a", "1", 1, 0));
	SC_OK(t, vol_setxattr(v, &sc_root, f, "trusted.a", "1", 1, 0));
	SC_OK(t, vol_listxattr(v, &sc_root, f, list, sizeof(list), &len));
	assert_int_equal(len, sizeof("user.a") + sizeof("trusted.a"));
	SC_OK(t, vol_listxattr(v, &user, f, list, sizeof(list), &len));
	assert_int_equal(len, sizeof("user.a"));
	assert_string_equal(list, "user.a");
}

static void trusted_names_are_shown_to_root(void **s)
{
	(void)s;
	sc_run(trusted_body, NULL);
}

static void xattrs_of_all_sizes_come_back(void **s)
{
	(void)s;
	sc_run(xattr_body, NULL);
}

/* user::rwx user:5:rwx group::r-x mask::rwx other::--- */
static const uint8_t acl[] = {2, 0, 0,	 0,   1,   0,	7,    0, 255, 255, 255, 255, 2,	  0,	7,
			      0, 5, 0,	 0,   0,   4,	0,    5, 0,   255, 255, 255, 255, 0x10, 0,
			      7, 0, 255, 255, 255, 255, 0x20, 0, 0,   0,   255, 255, 255, 255};

/* Its owner sets an ACL: with the file's group among his, or without. */
static mode_t sgid_after_acl(struct simcluster *t, struct nodeid f, gid_t gid, unsigned n_groups)
{
	const uint32_t groups[] = {3, 7};
	const struct op_ctx owner = {.uid = 5, .gid = gid, .groups = groups, .n_groups = n_groups};
	struct stat st = {.st_mode = 02755, .st_uid = 5, .st_gid = 7};
	struct vattr va;

	SC_OK(t, vol_setattr(t->v[0], &sc_root, f, &st, VSET_MODE | VSET_UID | VSET_GID, &va));
	assert_true(va.st.st_mode & S_ISGID);
	SC_OK(t, vol_setxattr(t->v[0], &owner, f, ACL_ACCESS_NAME, acl, sizeof(acl), 0));
	return sc_stat(t, 0, f).st_mode & S_ISGID;
}

static void acl_sgid_body(struct simcluster *t)
{
	struct nodeid f = sc_mkfile(t, 0, root_of(t), "f");

	assert_int_equal(sgid_after_acl(t, f, 7, 0), S_ISGID);
	assert_int_equal(sgid_after_acl(t, f, 5, 2), S_ISGID);
	assert_int_equal(sgid_after_acl(t, f, 5, 1), 0);
}

static void an_acl_of_another_group_takes_the_set_group_id_bit(void **s)
{
	(void)s;
	sc_run(acl_sgid_body, NULL);
}

static void acl_body(struct simcluster *t)
{
	struct nodeid root = root_of(t), d = sc_mkdir(t, 0, root, "d"), f, dd;
	struct volume *v = t->v[0];
	struct stat st = {.st_mode = 0700};
	uint8_t back[64];
	struct vattr va;
	size_t len;

	assert_int_equal(vol_setxattr(v, &sc_root, d, ACL_DEFAULT_NAME, acl, sizeof(acl), 0), 0);
	f = sc_mkfile(t, 0, d, "f"); /* mode 0644, no umask: mask becomes r-- */
	assert_int_equal(sc_stat(t, 0, f).st_mode, S_IFREG | 0640);
	assert_int_equal(vol_getxattr(v, &sc_root, f, ACL_ACCESS_NAME, back, 64, &len), 0);
	assert_true(len == sizeof(acl) && back[4 + 3 * 8 + 2] == 4);
	dd = sc_mkdir(t, 0, d, "dd");
	assert_int_equal(vol_getxattr(v, &sc_root, dd, ACL_DEFAULT_NAME, back, 64, &len), 0);
	assert_true(len == sizeof(acl) && memcmp(back, acl, len) == 0);
	assert_int_equal(vol_setattr(v, &sc_root, f, &st, VSET_MODE, &va), 0);
	assert_int_equal(vol_getxattr(v, &sc_root, f, ACL_ACCESS_NAME, back, 64, &len), 0);
	assert_int_equal(back[4 + 3 * 8 + 2], 0);
	assert_int_equal(vol_setxattr(v, &sc_root, f, ACL_ACCESS_NAME, acl, sizeof(acl), 0), 0);
	assert_int_equal(sc_stat(t, 0, f).st_mode, S_IFREG | 0770);
	assert_int_equal(vol_setxattr(v, &sc_root, f, ACL_DEFAULT_NAME, acl, sizeof(acl), 0),
			 -EACCES);
	assert_int_equal(vol_setxattr(v, &sc_root, f, ACL_ACCESS_NAME, acl, 9, 0), -EINVAL);
}

static void acls_are_inherited_and_follow_the_mode(void **s)
{
	(void)s;
	sc_run(acl_body, NULL);
}

static void same_acl_body(struct simcluster *t)
{
	/* The mode 0644, and no more. */
	static const uint8_t plain[] = {2,    0,   0, 0, 1,   0,   6,	0,   255, 255,
					255,  255, 4, 0, 4,   0,   255, 255, 255, 255,
					0x20, 0,   4, 0, 255, 255, 255, 255};
	struct nodeid f = sc_mkfile(t, 0, root_of(t), "f");
	struct stat before = sc_stat(t, 0, f);
	struct volume *v = t->v[0];

	assert_int_equal(before.st_mode & 0777, 0644);
	SC_OK(t, vol_setxattr(v, &sc_root, f, ACL_ACCESS_NAME, plain, sizeof(plain), 0));
	SC_OK(t, vol_removexattr(v, &sc_root, f, ACL_ACCESS_NAME));
	assert_true(same_time(sc_stat(t, 0, f).st_ctim, before.st_ctim));
	SC_OK(t, vol_setxattr(v, &sc_root, f, ACL_ACCESS_NAME, acl, sizeof(acl), 0));
	before = sc_stat(t, 0, f);
	SC_OK(t, vol_setxattr(v, &sc_root, f, ACL_ACCESS_NAME, plain, sizeof(plain), 0));
	assert_false(same_time(sc_stat(t, 0, f).st_ctim, before.st_ctim));
	assert_int_equal(sc_stat(t, 0, f).st_mode & 0777, 0644);
}

static void an_acl_that_says_what_the_mode_says_changes_nothing(void **s)
{
	(void)s;
	sc_run(same_acl_body, NULL);
}

/* ---- read-only
 * --------------------------------------------------------------------------------------------- */

static void read_only_body(struct simcluster *t)
{
	struct nodeid root = root_of(t), f = sc_mkfile(t, 0, root, "f");
	char why[256] = "", buf[8];
	struct stat st = {0};
	struct vattr va;
	size_t done;

	sc_write(t, 0, f, 0, "hello", 5);
	sc_down(t, 0);
	assert_int_equal(sc_mount(t, 1, true, why, sizeof(why)), 0);
	assert_int_equal(sc_read(t, 1, f, 0, buf, 8), 5);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(vol_write(t->v[1], &sc_root, f, 0, 1, "x", 0, &done, NULL), -EROFS);
	assert_int_equal(vol_unlink(t->v[1], &sc_root, root, "f"), -EROFS);
	assert_int_equal(vol_setattr(t->v[1], &sc_root, f, &st, VSET_MODE, &va), -EROFS);
	assert_int_equal(vol_fsync(t->v[1], &sc_root, f, false), 0);
}

static void read_only_mount_changes_nothing(void **s)
{
	(void)s;
	sc_run(read_only_body, NULL);
}

/* ---- names that change while the allocator is waited for ------------------------------------- */

#define REPLACED 12u

struct chase {
	struct nodeid dir, file[REPLACED];
	unsigned n;
};

/* Each round finds another inode under the name, and no room for what it has to do. */
static int chase_body(struct op *o, void *arg)
{
	struct chase *a = arg;
	struct inode *i;
	int rc;

	rc = op_get(o, a->dir, LOCK_EX, LOCAL_EXCL, &i);
	if (rc == 0)
		rc = op_get(o, a->file[a->n], LOCK_EX, LOCAL_EXCL, &i);
	if (rc || ++a->n == REPLACED)
		return rc;
	if (a->n == 1) /* op_run() makes room once */
		return -ENOSPC;
	o->want = geo_group_header(&o->v->geo, 0);
	return -EAGAIN;
}

static void chase_names_body(struct simcluster *t)
{
	struct chase a = {.dir = root_of(t)};
	char name[32];
	struct op o;

	for (unsigned k = 0; k < REPLACED; k++) {
		snprintf(name, sizeof(name), "f%u", k);
		a.file[k] = sc_mkfile(t, 0, a.dir, name);
	}
	op_init(&o, t->v[0], &sc_root);
	o.part_fits = true;
	op_plan(&o, a.dir.ino, LOCK_EX, LOCAL_EXCL);
	assert_int_equal(op_run(&o, chase_body, &a), 0);
	assert_int_equal(a.n, REPLACED);
}

static void what_a_name_led_to_before_is_let_go(void **s)
{
	(void)s;
	sc_run(chase_names_body, NULL);
}

/* ---- no lock I/O on one's own ---------------------------------------------------------------- */

static void own_work_body(struct simcluster *t)
{
	struct nodeid root = root_of(t), d = sc_mkdir(t, 0, root, "d");
	uint64_t before = atomic_load(&t->v[0]->ats.stats.commands);
	uint64_t from_ns = clock_now_ns(t->clk), beats;
	char name[32];

	for (unsigned k = 0; k < 2000; k++) {
		snprintf(name, sizeof(name), "f%u", k);
		sc_mkfile(t, 0, d, name);
	}
	beats = (clock_now_ns(t->clk) - from_ns) / (150 * 1000000ull) + 2;
	assert_true(atomic_load(&t->v[0]->ats.stats.commands) - before < 40 + beats);
}

static void files_in_an_own_directory_cost_no_lock_io(void **s)
{
	(void)s;
	sc_run(own_work_body, &(struct sc_shape){.size_bytes = 256ull << 20});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(created_file_is_found_with_its_attributes),
	    cmocka_unit_test(wrong_calls_get_the_errors_of_posix),
	    cmocka_unit_test(link_counts_follow_names_and_subdirectories),
	    cmocka_unit_test(rename_replaces_exchanges_and_refuses),
	    cmocka_unit_test(directory_never_moves_below_itself),
	    cmocka_unit_test(listing_is_complete_while_names_go),
	    cmocka_unit_test(unlinked_file_lives_until_its_last_close),
	    cmocka_unit_test(unlinked_file_keeps_what_was_allocated_for_it),
	    cmocka_unit_test(unused_inode_is_given_up_with_its_last_name),
	    cmocka_unit_test(inode_of_many_pieces_is_left_to_the_orphan_worker),
	    cmocka_unit_test(a_whiteout_stays_where_a_name_moved_away),
	    cmocka_unit_test(attributes_are_set_as_asked),
	    cmocka_unit_test(a_chown_to_nobody_else_sets_ctime),
	    cmocka_unit_test(xattrs_of_all_sizes_come_back),
	    cmocka_unit_test(large_xattrs_can_be_removed_and_rewritten),
	    cmocka_unit_test(a_large_xattr_in_as_many_chunks_as_cells_can_be_removed),
	    cmocka_unit_test(trusted_names_are_shown_to_root),
	    cmocka_unit_test(an_acl_of_another_group_takes_the_set_group_id_bit),
	    cmocka_unit_test(acls_are_inherited_and_follow_the_mode),
	    cmocka_unit_test(an_acl_that_says_what_the_mode_says_changes_nothing),
	    cmocka_unit_test(read_only_mount_changes_nothing),
	    cmocka_unit_test(what_a_name_led_to_before_is_let_go),
	    cmocka_unit_test(files_in_an_own_directory_cost_no_lock_io),
	};

	return cmocka_run_group_tests_name("vol-names", tests, NULL, NULL);
}
