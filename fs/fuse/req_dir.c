/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests on open directories. Offsets are the volume's cookies: positions in hash order. */
#include "fuse/front.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define READDIR_BATCH 64u

void req_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct call c;
	struct nodeid *id = malloc(sizeof(*id));
	int rc;

	lunfs_assert(id);
	if (sizes_asks(req_front(req)->sizes, fuse_req_ctx(req)->pid)) {
		free(id);
		fi->fh = 0;
		fuse_reply_open(req, fi);
		return;
	}
	call_begin(&c, req);
	*id = front_node(c.f, ino);
	rc = vol_open(c.f->vol, &c.op, *id);
	call_end(&c, req);
	if (rc) {
		free(id);
		reply_rc(req, rc);
		return;
	}
	fi->fh = (uintptr_t)id;
	if (fuse_reply_open(req, fi) != 0) {
		vol_release(c.f->vol, *id);
		free(id);
	}
}

void req_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct nodeid *id = (struct nodeid *)(uintptr_t)fi->fh;

	(void)ino;
	if (id)
		vol_release(req_front(req)->vol, *id);
	free(id);
	reply_rc(req, 0);
}

struct listing { /* a reply being filled */
	fuse_req_t req;
	struct front *f;
	bool plus;
	char *buf;
	size_t size, used;
};

static bool is_dot(const struct dir_entry *de)
{
	return strcmp(de->name, ".") == 0 || strcmp(de->name, "..") == 0;
}

static size_t add_plus(struct listing *l, const struct vdirent *vd)
{
	struct fuse_entry_param e = {0};
	bool known = vd->has_attr && !is_dot(&vd->de);
	size_t len;

	if (known) {
		e.ino = vd->attr.id.ino;
		e.generation = vd->attr.id.generation;
		e.attr = vd->attr.st;
	} else { /* node id 0: the kernel takes the name and type only */
		e.attr.st_ino = vd->de.ino;
		e.attr.st_mode = (mode_t)vd->de.type << 12;
	}
	len = fuse_add_direntry_plus(l->req, l->buf + l->used, l->size - l->used, vd->de.name, &e,
				     (off_t)vd->next);
	if (known && len <= l->size - l->used) {
		nodes_remember(l->f->nodes, vd->attr.id);
		nodes_size_seen(l->f->nodes, vd->attr.id.ino, (uint64_t)vd->attr.st.st_size);
	}
	return len;
}

static size_t add_plain(struct listing *l, const struct vdirent *vd)
{
	struct stat st = {.st_ino = vd->de.ino, .st_mode = (mode_t)vd->de.type << 12};

	return fuse_add_direntry(l->req, l->buf + l->used, l->size - l->used, vd->de.name, &st,
				 (off_t)vd->next);
}

/* False: the buffer is full. */
static bool add_entry(struct listing *l, const struct vdirent *vd)
{
	size_t len = l->plus ? add_plus(l, vd) : add_plain(l, vd);

	if (len > l->size - l->used)
		return false;
	l->used += len;
	return true;
}

/* Who goes on with attributes has used those of the beginning, or else asked for names alone. */
static int fill(struct listing *l, struct call *c, struct nodeid dir, uint64_t cookie,
		struct vdirent *vd)
{
	enum vol_attrs attrs = !l->plus ? VATTRS_NONE : cookie ? VATTRS_FREE : VATTRS_CACHED;

	for (;;) {
		size_t n = 0;
		int rc = vol_readdir(l->f->vol, &c->op, dir, cookie, attrs, vd, READDIR_BATCH, &n);

		if (rc || n == 0)
			return rc;
		for (size_t i = 0; i < n; i++) {
			if (!add_entry(l, &vd[i]))
				return 0;
			cookie = vd[i].next;
		}
	}
}

static void list(fuse_req_t req, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
	struct nodeid *id = (struct nodeid *)(uintptr_t)fi->fh;
	struct listing l = {.req = req, .f = req_front(req), .plus = plus, .size = size};
	struct vdirent *vd = calloc(READDIR_BATCH, sizeof(*vd));
	struct call c;
	int rc;

	l.buf = malloc(size ? size : 1);
	lunfs_assert(vd && l.buf);
	call_begin(&c, req);
	rc = fill(&l, &c, *id, (uint64_t)off, vd);
	call_end(&c, req);
	if (rc && l.used == 0)
		reply_rc(req, rc);
	else
		fuse_reply_buf(req, l.buf, l.used);
	free(l.buf);
	free(vd);
}

void req_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)ino;
	list(req, size, off, fi, false);
}

void req_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	(void)ino;
	list(req, size, off, fi, true);
}
