/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests on open files. A handle is the inode's name as it was opened, so a handle never slips
 * over to another inode that reuses the address.
 */
#include "fuse/front.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>

struct handle {
	struct nodeid id;
	bool append;   /* the kernel would put appended bytes where it believes the end to be */
	bool direct;   /* the kernel makes no pages but those of mappings through this handle */
	bool mappable; /* cached, open to read and to write: a store through a mapping can dirty
			  pages */
	atomic_bool fresh; /* by CREATE, and nothing was heard of it since: nodes_settled() */
};

static struct handle *fi_handle(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

static void handle_new(struct front *f, struct nodeid id, struct fuse_file_info *fi)
{
	struct handle *h = calloc(1, sizeof(*h));

	lunfs_assert(h);
	h->id = id;
	h->append = fi->flags & O_APPEND;
	h->direct = h->append || (fi->flags & O_DIRECT && wire_direct_mmap(f));
	h->mappable = (!h->direct || wire_direct_mmap(f)) && (fi->flags & O_ACCMODE) == O_RDWR;
	nodes_handle(f->nodes, id.ino, 1, h->mappable);
	fi->direct_io = h->direct;
	fi->fh = (uintptr_t)h;
}

/* A request that the kernel makes after it took the answer to CREATE. */
static void handle_seen(struct front *f, struct handle *h)
{
	if (atomic_load(&h->fresh) && atomic_exchange(&h->fresh, false))
		nodes_settled(f->nodes, h->id.ino);
}

static void handle_free(struct front *f, struct handle *h)
{
	handle_seen(f, h);
	nodes_handle(f->nodes, h->id.ino, -1, h->mappable);
	vol_release(f->vol, h->id);
	free(h);
}

void req_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct call c;
	struct nodeid id;
	int rc;

	call_begin(&c, req);
	id = front_node(c.f, ino);
	rc = vol_open(c.f->vol, &c.op, id);
	call_end(&c, req);
	if (rc) {
		reply_rc(req, rc);
		return;
	}
	handle_new(c.f, id, fi);
	if (reply_open(req, fi, fi_handle(fi)->direct && !fi_handle(fi)->append) != 0)
		handle_free(c.f, fi_handle(fi));
}

void req_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		struct fuse_file_info *fi)
{
	struct call c;
	struct vattr va;
	struct fuse_entry_param e;
	struct nodeid dir;
	uint64_t begun;
	int rc;

	call_begin(&c, req);
	dir = front_node(c.f, parent);
	begun = keep_begin(c.f);
	rc = vol_create(c.f->vol, &c.op, dir, name, mode, &va);
	call_end(&c, req);
	/*
	 * Another host made it since the kernel looked it up, which no lock of the directory here
	 * prevents: then open(2) looks once more, and opens what it finds.
	 */
	if (rc == -EEXIST && !(fi->flags & O_EXCL))
		rc = -ESTALE;
	if (rc) {
		reply_rc(req, rc);
		return;
	}
	keep_entry(c.f, dir.ino, &va, begun, KEEP_CREATED, &e);
	handle_new(c.f, va.id, fi);
	atomic_store(&fi_handle(fi)->fresh, true);
	if (reply_create(req, &e, fi, fi_handle(fi)->direct && !fi_handle(fi)->append) != 0) {
		handle_free(c.f, fi_handle(fi));
		nodes_forget(c.f->nodes, va.id.ino, 1);
	}
}

void req_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	handle_free(req_front(req), fi_handle(fi));
	reply_rc(req, 0);
}

/* Nothing is done at a close; so the kernel does not ask again. */
void req_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	reply_rc(req, -ENOSYS);
}

/*
 * Does the request go through the kernel's pages? A handle does not tell: a mapping makes pages
 * through a handle with O_DIRECT, too. Only a request made straight from a system call's buffer
 * bears the owner of that call.
 */
static bool through_pages(const struct fuse_file_info *fi)
{
	return fi->writepage || fi->lock_owner == 0;
}

void req_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct handle *h = fi_handle(fi);
	struct data_req r = {
	    .off = (uint64_t)off, .len = size, .pages = through_pages(fi), .fill = true};
	struct call c;
	size_t done = 0;
	void *own = front_answer_buf(size), *buf = own ? own : dev_buf_alloc(size);
	struct vol_io x = {.id = h->id, .off_bytes = (uint64_t)off, .len_bytes = size, .buf = buf};
	int rc;

	if (own && data_call_start(req, ino, &x, &r))
		return;
	call_begin(&c, req);
	c.op.admitted = &r.admitted;
	c.op.read_excl = nodes_data_begin(c.f->nodes, ino, &r) && r.pages;
	if (nodes_behind_write(c.f->nodes, ino, &r)) {
		front_waits();
		nodes_let_writes_end(c.f->nodes, ino, &r);
	}
	rc = vol_read(c.f->vol, &c.op, h->id, (uint64_t)off, size, buf, &done);
	call_end(&c, req);
	if (rc)
		reply_rc(req, rc);
	else
		fuse_reply_buf(req, buf, done);
	r.got = done;
	nodes_data_end(c.f->nodes, ino, &r);
	if (!own)
		free(buf);
}

/*
 * May the caller not leave set-id bits on what it writes? The kernel says so; an old one does not,
 * and drops them itself where it writes through pages.
 */
static bool write_kills_suidgid(fuse_req_t req, const struct handle *h)
{
	if (req_front(req)->tells_suidgid)
		return wire_kills_suidgid();
	return h->direct && fuse_req_ctx(req)->uid != 0;
}

static unsigned write_flags(fuse_req_t req, const struct handle *h, const struct fuse_file_info *fi)
{
	if (fi->writepage)
		return 0;
	/* As it is now: fcntl(F_SETFL) may have changed it since the open. */
	return (fi->flags & O_APPEND ? VWRITE_APPEND : 0) |
	       (write_kills_suidgid(req, h) ? VWRITE_KILL_SUIDGID : 0);
}

void req_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	       struct fuse_file_info *fi)
{
	struct handle *h = fi_handle(fi);
	unsigned flags = write_flags(req, h, fi);
	struct data_req r = {
	    .off = (uint64_t)off, .len = size, .pages = through_pages(fi), .back = fi->writepage,
	    .write_end = flags & VWRITE_APPEND ? UINT64_MAX : (uint64_t)off + size};
	struct call c;
	uint64_t at = (uint64_t)off;
	size_t done = 0;
	struct vol_io x = {.write = true,
			   .flags = flags,
			   .id = h->id,
			   .off_bytes = (uint64_t)off,
			   .len_bytes = size,
			   .buf = (void *)(uintptr_t)buf};
	int rc;

	handle_seen(req_front(req), h);
	if (!(flags & VWRITE_APPEND) && !(fi->flags & (O_SYNC | O_DSYNC)) &&
	    data_call_start(req, ino, &x, &r))
		return;
	call_begin(&c, req);
	c.op.admitted = &r.admitted;
	c.op.late = r.back;
	nodes_data_begin(c.f->nodes, ino, &r);
	rc = vol_write(c.f->vol, &c.op, h->id, (uint64_t)off, size, buf, flags, &done, &at);
	if (!rc && (fi->flags & O_SYNC) == O_SYNC)
		rc = vol_fsync(c.f->vol, &c.op, h->id, false);
	else if (!rc && (fi->flags & O_DSYNC))
		rc = vol_fsync(c.f->vol, &c.op, h->id, true);
	call_end(&c, req);
	if (rc)
		reply_rc(req, rc);
	else
		fuse_reply_write(req, done);
	nodes_data_end(c.f->nodes, ino, &r);
	if (r.overtaken)
		inval_later(c.f->inval, ino);
	/* Appended through a cached handle, and not where the kernel believed the end to be. */
	if (!rc && at != (uint64_t)off && !h->direct)
		inval_pages(c.f->inval, ino);
}

void req_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct call c;
	int rc;

	(void)fi;
	call_begin(&c, req);
	rc = vol_fsync(c.f->vol, &c.op, front_node(c.f, ino), datasync);
	call_end(&c, req);
	reply_rc(req, rc);
}

/* The kernel leaves this to us and does not say what the caller may. */
static bool keeps_suidgid(const struct fuse_ctx *ctx)
{
	return ctx->uid == 0 || thread_has_cap(ctx->pid, CAP_FSETID);
}

void req_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		   struct fuse_file_info *fi)
{
	struct handle *h = fi_handle(fi);
	struct call c;
	int rc;

	if (!keeps_suidgid(fuse_req_ctx(req)))
		mode |= VFALLOC_KILL_SUIDGID;
	call_begin(&c, req);
	nodes_size_seen(c.f->nodes, ino, UINT64_MAX);
	rc = vol_fallocate(c.f->vol, &c.op, h->id, mode, (uint64_t)off, (uint64_t)len);
	nodes_size_seen(c.f->nodes, ino, UINT64_MAX);
	call_end(&c, req);
	reply_rc(req, rc);
}

void req_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct handle *h = fi_handle(fi);
	struct call c;
	uint64_t out = 0;
	int rc;

	(void)ino;
	call_begin(&c, req);
	rc = vol_lseek(c.f->vol, &c.op, h->id, (uint64_t)off, whence, &out);
	call_end(&c, req);
	if (rc)
		reply_rc(req, rc);
	else
		fuse_reply_lseek(req, (off_t)out);
}
