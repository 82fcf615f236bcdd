/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A task that does random file operations on its host, in directories that all hosts share and in
 * one of its own, with few names, and writes each down. It works until its time is over, its host
 * is asked to leave, or the volume says EIO.
 */
#include "run.h"

#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/xattr.h>

#define NAMES 6u
#define WIDE_NAMES 24u	/* of so many ... */
#define WIDE_BYTES 220u /* ... bytes: an inode has not room for all of them */
#define IO_BYTES 20480u
#define FILE_BYTES 40000u
#define LIST_MAX 32u

static uint64_t rnd(struct actor *a, uint64_t below)
{
	return sim_rand_below(&a->rng, below);
}

static struct volume *vol(const struct actor *a)
{
	return a->inc->v;
}

static struct hop *begin(struct actor *a, enum hop_kind kind)
{
	return hop_begin(a->r, a->host, a->number, kind);
}

static struct nodeid some_dir(struct actor *a)
{
	if (a->r->plan.wide && rnd(a, 4)) /* so that they fill */
		return a->dir[rnd(a, 2)];
	return a->dir[rnd(a, a->n_dirs)];
}

static void some_name(struct actor *a, char name[12])
{
	snprintf(name, 12, "%c", (char)('a' + rnd(a, a->r->plan.wide ? WIDE_NAMES : NAMES)));
}

/* Long names are long on the volume only: history and model know them by their first letter. */
static const char *real_name(const struct actor *a, const char *name, char buf[WIDE_BYTES + 1])
{
	if (!a->r->plan.wide || !name[0] || name[1] || name[0] == '.')
		return name;
	memset(buf, name[0], WIDE_BYTES);
	buf[WIDE_BYTES] = 0;
	return buf;
}

static void short_name(const char *name, char out[12])
{
	size_t len = strlen(name);

	if (len == WIDE_BYTES && strspn(name, (char[]){name[0], 0}) == len)
		len = 1;
	snprintf(out, 12, "%.*s", (int)len, name);
}

/* Of a crowd most work on the same file. */
static void go_where_all_are(struct actor *a, struct nodeid *dir, char name[12])
{
	if (!a->r->plan.crowd || rnd(a, 4) == 0)
		return;
	*dir = a->dir[0];
	name[0] = 'a';
}

/* The first ones stay: the shared directories and our own. */
static void learn_dir(struct actor *a, struct nodeid id)
{
	const unsigned fixed = a->r->n_shared + 1, room = sizeof(a->dir) / sizeof(a->dir[0]);

	if (a->n_dirs < room)
		a->dir[a->n_dirs++] = id;
	else
		a->dir[fixed + a->next_dir++ % (room - fixed)] = id;
}

static int lookup(struct actor *a, struct nodeid dir, const char *name, struct vattr *va)
{
	struct hop *h = begin(a, HOP_LOOKUP);
	char full[WIDE_BYTES + 1];
	int rc;

	if (!h)
		return -ECANCELED;
	h->id = dir;
	memcpy(h->name, name, sizeof(h->name));
	hop_call(a->r, h);
	rc = vol_lookup(vol(a), &h->ctx, dir, real_name(a, h->name, full), va);
	hop_end(a->r, h, rc, va);
	if (rc == 0 && S_ISDIR(va->st.st_mode) && rnd(a, 2))
		learn_dir(a, va->id);
	return rc;
}

static int open_file(struct actor *a, struct nodeid id)
{
	struct hop *h = begin(a, HOP_OPEN);
	int rc;

	if (!h)
		return -ECANCELED;
	h->id = id;
	hop_call(a->r, h);
	rc = vol_open(vol(a), &h->ctx, id);
	hop_end(a->r, h, rc, NULL);
	return rc;
}

static void release_file(struct actor *a, struct nodeid id)
{
	struct hop *h = begin(a, HOP_RELEASE);

	if (h) {
		h->id = id;
		hop_call(a->r, h);
	}
	vol_release(vol(a), id);
	if (h)
		hop_end(a->r, h, 0, NULL);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void some_range(struct actor *a, struct hop *h)
{
	if (a->r->plan.crowd && rnd(a, 4)) {
		h->off = rnd(a, 8) * 4096;
		h->len = (1 + rnd(a, 2)) * 4096;
		return;
	}
	switch (rnd(a, 4)) {
	case 0:
		h->off = rnd(a, 6) * 4096;
		h->len = (1 + rnd(a, 3)) * 4096;
		break;
	case 1:
		h->off = rnd(a, 3000);
		h->len = 1 + rnd(a, 300);
		break;
	case 2:
		h->off = rnd(a, FILE_BYTES - IO_BYTES);
		h->len = 1 + rnd(a, IO_BYTES - 1);
		break;
	default:
		h->off = rnd(a, 8) * 512;
		h->len = 1 + rnd(a, 6000);
		break;
	}
}

static int do_write(struct actor *a, struct hop *h)
{
	size_t done = 0;
	int rc;

	some_range(a, h);
	h->flags = rnd(a, a->r->plan.crowd ? 16 : 4) ? 0 : VWRITE_APPEND;
	if (h->flags)
		h->len = 1 + rnd(a, 5000);
	/* where an append goes is not known yet: what it writes counts from 0 */
	pattern_fill(a->buf, h->index + 1, h->flags ? 0 : h->off, (size_t)h->len);
	hop_call(a->r, h);
	rc = vol_write(vol(a), &h->ctx, h->id, h->off, (size_t)h->len, a->buf, h->flags, &done,
		       &h->at);
	h->done = done;
	hop_end(a->r, h, rc, NULL);
	return rc;
}

static int do_read(struct actor *a, struct hop *h, uint64_t off, uint64_t len)
{
	size_t done = 0;
	int rc;

	h->off = off;
	h->len = len;
	hop_call(a->r, h);
	rc = vol_read(vol(a), &h->ctx, h->id, off, (size_t)len, a->buf, &done);
	h->done = done;
	if (rc == 0 && done) {
		h->data = malloc(done);
		lunfs_assert(h->data);
		memcpy(h->data, a->buf, done);
	}
	hop_end(a->r, h, rc, NULL);
	return rc;
}

static int do_truncate(struct actor *a, struct hop *h)
{
	struct stat st = {0};
	struct vattr va;
	int rc;

	h->len = a->r->plan.crowd && rnd(a, 4) ? FILE_BYTES
		 : rnd(a, 3)		       ? rnd(a, FILE_BYTES)
					       : rnd(a, 4) * 4096;
	st.st_size = (off_t)h->len;
	hop_call(a->r, h);
	rc = vol_setattr(vol(a), &h->ctx, h->id, &st, VSET_SIZE, &va);
	hop_end(a->r, h, rc, &va);
	return rc;
}

static int do_fallocate(struct actor *a, struct hop *h)
{
	static const unsigned modes[] = {0,
					 FALLOC_FL_KEEP_SIZE,
					 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					 FALLOC_FL_ZERO_RANGE,
					 FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
	int rc;

	some_range(a, h);
	if (a->r->plan.crowd && rnd(a, 2)) { /* all of it is to be written again */
		h->off = 0;
		h->len = FILE_BYTES;
	}
	h->flags = modes[rnd(a, sizeof(modes) / sizeof(modes[0]))];
	hop_call(a->r, h);
	rc = vol_fallocate(vol(a), &h->ctx, h->id, (int)h->flags, h->off, h->len);
	hop_end(a->r, h, rc, NULL);
	return rc;
}

static const char *xattr_name(struct actor *a, struct hop *h)
{
	snprintf(h->name, sizeof(h->name), "user.%c", (char)('x' + rnd(a, 2)));
	return h->name;
}

static int do_setxattr(struct actor *a, struct hop *h)
{
	int rc;

	xattr_name(a, h);
	h->len = rnd(a, 4) ? rnd(a, 100) : rnd(a, 2500);
	h->flags = rnd(a, 3) ? 0 : rnd(a, 2) ? XATTR_CREATE : XATTR_REPLACE;
	pattern_fill(a->buf, h->index + 1, 0, (size_t)h->len);
	hop_call(a->r, h);
	rc = vol_setxattr(vol(a), &h->ctx, h->id, h->name, a->buf, (size_t)h->len, (int)h->flags);
	hop_end(a->r, h, rc, NULL);
	return rc;
}

static int do_getxattr(struct actor *a, struct hop *h)
{
	size_t len = 0;
	int rc;

	xattr_name(a, h);
	hop_call(a->r, h);
	rc = vol_getxattr(vol(a), &h->ctx, h->id, h->name, a->buf, IO_BYTES, &len);
	h->done = len;
	if (rc == 0 && len) {
		h->data = malloc(len);
		lunfs_assert(h->data);
		memcpy(h->data, a->buf, len);
	}
	hop_end(a->r, h, rc, NULL);
	return rc;
}

static int do_plain(struct actor *a, struct hop *h)
{
	struct vattr va = {0};
	int rc;

	if (h->kind == HOP_RMXATTR)
		xattr_name(a, h);
	if (h->kind == HOP_FSYNC)
		h->flags = (unsigned)rnd(a, 2);
	hop_call(a->r, h);
	if (h->kind == HOP_RMXATTR)
		rc = vol_removexattr(vol(a), &h->ctx, h->id, h->name);
	else if (h->kind == HOP_FSYNC)
		rc = vol_fsync(vol(a), &h->ctx, h->id, h->flags);
	else
		rc = vol_getattr(vol(a), &h->ctx, h->id, &va);
	hop_end(a->r, h, rc, h->kind == HOP_GETATTR ? &va : NULL);
	return rc;
}

static enum hop_kind crowd_kind(struct actor *a)
{
	static const uint8_t kinds[] = {HOP_WRITE,    HOP_WRITE,     HOP_WRITE, HOP_WRITE,
					HOP_WRITE,    HOP_WRITE,     HOP_WRITE, HOP_READ,
					HOP_TRUNCATE, HOP_FALLOCATE, HOP_FSYNC};

	return (enum hop_kind)kinds[rnd(a, sizeof(kinds))];
}

static enum hop_kind file_kind(struct actor *a)
{
	static const uint8_t kinds[] = {HOP_WRITE,     HOP_WRITE,    HOP_WRITE,	   HOP_WRITE,
					HOP_READ,      HOP_READ,     HOP_READ,	   HOP_TRUNCATE,
					HOP_FALLOCATE, HOP_SETXATTR, HOP_GETXATTR, HOP_GETXATTR,
					HOP_RMXATTR,   HOP_FSYNC,    HOP_GETATTR};

	return (enum hop_kind)kinds[rnd(a, sizeof(kinds))];
}

static int file_op(struct actor *a, struct nodeid id)
{
	struct hop *h = begin(a, a->r->plan.crowd ? crowd_kind(a) : file_kind(a));

	if (!h)
		return -ECANCELED;
	h->id = id;
	switch (h->kind) {
	case HOP_WRITE:
		return do_write(a, h);
	case HOP_READ:
		some_range(a, h);
		return do_read(a, h, h->off, h->len);
	case HOP_TRUNCATE:
		return do_truncate(a, h);
	case HOP_FALLOCATE:
		return do_fallocate(a, h);
	case HOP_SETXATTR:
		return do_setxattr(a, h);
	case HOP_GETXATTR:
		return do_getxattr(a, h);
	default:
		return do_plain(a, h);
	}
}

static int in_file(struct actor *a, struct nodeid id, bool open)
{
	int rc = open ? open_file(a, id) : 0;

	if (rc)
		return rc;
	for (uint64_t n = 1 + rnd(a, 4); n > 0 && rc == 0; n--)
		rc = file_op(a, id);
	if (!open)
		return rc;
	for (unsigned k = 0; k < sizeof(a->open) / sizeof(a->open[0]) && rnd(a, 3) == 0; k++)
		if (!a->open[k].ino) { /* keep it open for a while */
			a->open[k] = id;
			return rc;
		}
	release_file(a, id);
	return rc;
}

static int some_file(struct actor *a)
{
	struct nodeid dir;
	struct vattr va;
	char name[12] = "";
	int rc;

	if (rnd(a, 4) == 0) {
		struct nodeid *o = &a->open[rnd(a, sizeof(a->open) / sizeof(a->open[0]))];

		if (o->ino) {
			struct nodeid id = *o;

			if (rnd(a, 3) == 0) {
				*o = (struct nodeid){0};
				release_file(a, id);
				return 0;
			}
			return in_file(a, id, false);
		}
	}
	if (rnd(a, 8) == 0 && a->seen.ino)
		return in_file(a, a->seen, rnd(a, 2));
	some_name(a, name);
	dir = some_dir(a);
	go_where_all_are(a, &dir, name);
	rc = lookup(a, dir, name, &va);
	if (rc || !S_ISREG(va.st.st_mode))
		return rc;
	a->seen = va.id;
	return in_file(a, va.id, rnd(a, 3) != 0);
}

/* ---- names ----------------------------------------------------------------------------------- */

static int make(struct actor *a, enum hop_kind kind)
{
	struct hop *h = begin(a, kind);
	char full[WIDE_BYTES + 1];
	const char *name;
	struct vattr va;
	int rc;

	if (!h)
		return -ECANCELED;
	h->id = some_dir(a);
	some_name(a, h->name);
	if (kind == HOP_CREATE)
		go_where_all_are(a, &h->id, h->name);
	if (kind == HOP_SYMLINK)
		snprintf(h->name2, sizeof(h->name2), "t%u", h->index);
	name = real_name(a, h->name, full);
	hop_call(a->r, h);
	if (kind == HOP_MKDIR)
		rc = vol_mkdir(vol(a), &h->ctx, h->id, name, 0755, &va);
	else if (kind == HOP_SYMLINK)
		rc = vol_symlink(vol(a), &h->ctx, h->id, name, h->name2, &va);
	else if (kind == HOP_MKNOD)
		rc = vol_mknod(vol(a), &h->ctx, h->id, name, S_IFREG | 0644, 0, &va);
	else
		rc = vol_create(vol(a), &h->ctx, h->id, name, 0644, &va);
	hop_end(a->r, h, rc, &va);
	if (rc)
		return rc;
	if (kind == HOP_MKDIR)
		learn_dir(a, va.id);
	if (kind != HOP_CREATE)
		return 0;
	a->seen = va.id;
	rc = in_file(a, va.id, false);
	release_file(a, va.id);
	return rc;
}

static int remove_name(struct actor *a, enum hop_kind kind)
{
	struct hop *h = begin(a, kind);
	char full[WIDE_BYTES + 1];
	const char *name;
	int rc;

	if (!h)
		return -ECANCELED;
	h->id = some_dir(a);
	some_name(a, h->name);
	name = real_name(a, h->name, full);
	hop_call(a->r, h);
	rc = kind == HOP_UNLINK ? vol_unlink(vol(a), &h->ctx, h->id, name)
				: vol_rmdir(vol(a), &h->ctx, h->id, name);
	hop_end(a->r, h, rc, NULL);
	return rc;
}

static int do_rename(struct actor *a)
{
	struct hop *h = begin(a, HOP_RENAME);
	char from[WIDE_BYTES + 1], to[WIDE_BYTES + 1];
	int rc;

	if (!h)
		return -ECANCELED;
	h->id = some_dir(a);
	h->dir = rnd(a, 2) ? h->id : some_dir(a);
	some_name(a, h->name);
	some_name(a, h->name2);
	h->flags = rnd(a, 3) ? 0 : rnd(a, 2) ? RENAME_EXCHANGE : RENAME_NOREPLACE;
	hop_call(a->r, h);
	rc = vol_rename(vol(a), &h->ctx, h->id, real_name(a, h->name, from), h->dir,
			real_name(a, h->name2, to), h->flags);
	hop_end(a->r, h, rc, NULL);
	return rc;
}

static int do_link(struct actor *a)
{
	struct vattr va;
	struct hop *h;
	char name[12] = "", full[WIDE_BYTES + 1];
	int rc;

	some_name(a, name);
	rc = lookup(a, some_dir(a), name, &va);
	if (rc)
		return rc;
	h = begin(a, HOP_LINK);
	if (!h)
		return -ECANCELED;
	h->id = va.id;
	h->dir = some_dir(a);
	some_name(a, h->name);
	hop_call(a->r, h);
	rc = vol_link(vol(a), &h->ctx, h->id, h->dir, real_name(a, h->name, full), &va);
	hop_end(a->r, h, rc, &va);
	return rc;
}

static int list(struct actor *a, struct nodeid dir, struct hop **out)
{
	struct vdirent *vd = calloc(LIST_MAX, sizeof(*vd));
	struct hop *h = begin(a, HOP_READDIR);
	struct hop_entry *e;
	size_t n = 0;
	int rc;

	lunfs_assert(vd);
	if (out)
		*out = h;
	if (!h) {
		free(vd);
		return -ECANCELED;
	}
	h->id = dir;
	hop_call(a->r, h);
	rc = vol_readdir(vol(a), &h->ctx, dir, 0, (enum vol_attrs)rnd(a, 3), vd, LIST_MAX, &n);
	h->done = n;
	h->data = e = calloc(n + 1, sizeof(*e));
	lunfs_assert(e);
	for (size_t k = 0; k < n; k++) {
		short_name(vd[k].de.name, e[k].name);
		e[k].ino = vd[k].de.ino;
		e[k].generation = vd[k].de.generation;
		e[k].type = vd[k].de.type;
	}
	hop_end(a->r, h, rc, NULL);
	free(vd);
	return rc;
}

static bool is_dot(const struct hop_entry *e)
{
	return strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0;
}

static int touch(struct actor *a, struct nodeid id)
{
	struct hop *h = begin(a, HOP_TOUCH);
	struct stat st = {0};
	struct vattr va;
	int rc;

	if (!h)
		return -ECANCELED;
	h->id = id;
	hop_call(a->r, h);
	rc = vol_setattr(vol(a), &h->ctx, id, &st, VSET_MTIME_NOW, &va);
	hop_end(a->r, h, rc, &va);
	return rc;
}

/* As ls -l and find do, or touch *. */
static int look_through(struct actor *a, struct nodeid dir)
{
	bool change = rnd(a, 3) == 0;
	struct vattr va;
	struct hop *h;
	int rc = list(a, dir, &h), last = rc;

	for (uint64_t k = 0; rc == 0 && k < h->done && last != -EIO && last != -ECANCELED; k++) {
		const struct hop_entry *e = (const struct hop_entry *)h->data + k;

		if (!is_dot(e))
			last = lookup(a, dir, e->name, &va);
		if (!is_dot(e) && last == 0 && change)
			last = touch(a, va.id);
	}
	return last;
}

static int read_link(struct actor *a, struct nodeid id)
{
	struct hop *h = begin(a, HOP_READLINK);
	char buf[64] = "";
	int rc;

	if (!h)
		return -ECANCELED;
	h->id = id;
	hop_call(a->r, h);
	rc = vol_readlink(vol(a), &h->ctx, id, buf, sizeof(buf));
	snprintf(h->name, sizeof(h->name), "%.11s", buf);
	hop_end(a->r, h, rc, NULL);
	return rc;
}

static int look(struct actor *a)
{
	struct vattr va;
	char name[12] = "";
	int rc;

	some_name(a, name);
	rc = lookup(a, some_dir(a), name, &va);
	if (rc == 0 && S_ISLNK(va.st.st_mode))
		rc = read_link(a, va.id);
	return rc;
}

static int whole_volume(struct actor *a)
{
	struct hop *h = begin(a, rnd(a, 2) ? HOP_SYNCFS : HOP_STATFS);
	struct statvfs sv;
	int rc;

	if (!h)
		return -ECANCELED;
	hop_call(a->r, h);
	if (h->kind == HOP_SYNCFS) {
		rc = vol_syncfs(vol(a));
	} else {
		rc = vol_statfs(vol(a), &sv);
		if (rc == 0)
			SC_CHECK(a->r->t, sv.f_bfree <= sv.f_blocks,
				 "host %u: statfs says %llu of %llu blocks are free", a->host,
				 (unsigned long long)sv.f_bfree, (unsigned long long)sv.f_blocks);
	}
	hop_end(a->r, h, rc, NULL);
	return rc;
}

static int some_op(struct actor *a)
{
	switch (rnd(a, 24)) {
	case 0:
	case 1:
	case 2:
		return make(a, HOP_CREATE);
	case 3:
		return make(a, HOP_MKNOD);
	case 4:
	case 5:
		return make(a, HOP_MKDIR);
	case 6:
		return make(a, HOP_SYMLINK);
	case 7:
		return do_link(a);
	case 8:
	case 9:
		return remove_name(a, HOP_UNLINK);
	case 10:
		return remove_name(a, HOP_RMDIR);
	case 11:
	case 12:
	case 13:
	case 14:
		return do_rename(a);
	case 15:
		return look(a);
	case 16:
		if (rnd(a, 2))
			return look_through(a, some_dir(a));
		return list(a, some_dir(a), NULL);
	case 17:
		return whole_volume(a);
	default:
		return some_file(a);
	}
}

static bool go_on(const struct actor *a)
{
	const struct sim_run *r = a->r;

	return clock_now_ns(r->t->clk) < r->stop_ns && !r->host[a->host].leave &&
	       history_len(r->hist) < r->plan.ops_max;
}

void actor_main(void *arg)
{
	struct actor *a = arg;
	int rc = 0;

	while (rc != -EIO && rc != -ECANCELED && go_on(a)) {
		rc = some_op(a);
		if (a->r->plan.think_ns)
			clock_sleep_ns(a->r->t->clk, rnd(a, a->r->plan.think_ns));
	}
	for (unsigned k = 0; k < sizeof(a->open) / sizeof(a->open[0]); k++)
		if (a->open[k].ino)
			release_file(a, a->open[k]);
	a->ended = true;
}

/* ---- the whole tree -------------------------------------------------------------------------- */

static void read_file(struct actor *a, struct nodeid id, uint64_t size)
{
	struct hop *h;

	if (size > 1u << 20)
		size = IO_BYTES; /* the one that fills the volume */
	for (uint64_t off = 0; off < size; off += IO_BYTES) {
		h = begin(a, HOP_READ);
		h->id = id;
		do_read(a, h, off, IO_BYTES);
	}
	for (unsigned k = 0; k < 4; k++) {
		h = begin(a, HOP_GETXATTR);
		h->id = id;
		do_getxattr(a, h);
	}
}

static void read_dir(struct actor *a, struct nodeid dir, unsigned depth)
{
	struct hop *h;
	struct vattr va;

	SC_CHECK(a->r->t, depth < 64, "host %u: the tree is too deep: a cycle?", a->host);
	if (list(a, dir, &h) != 0)
		return;
	for (uint64_t k = 0; k < h->done; k++) {
		const struct hop_entry *e = (const struct hop_entry *)h->data + k;

		if (is_dot(e) || lookup(a, dir, e->name, &va) != 0)
			continue;
		touch(a, va.id); /* its lock is to be had exclusively */
		if (S_ISDIR(va.st.st_mode))
			read_dir(a, va.id, depth + 1);
		else if (S_ISREG(va.st.st_mode))
			read_file(a, va.id, (uint64_t)va.st.st_size);
		else
			read_link(a, va.id);
	}
}

void actor_read_tree(struct sim_run *r, struct sim_host *h)
{
	struct actor *a = &h->actor[0];

	if (!a->buf)
		a->buf = dev_buf_alloc(32768);
	a->r = r;
	a->host = h->number;
	a->inc = h->inc;
	read_dir(a, r->root, 0);
}
