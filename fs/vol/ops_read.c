/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading file data, and finding data and holes. */
#include "vol/vol_impl.h"
#include <stdlib.h>
#include <unistd.h>

#define BOUNCE_BYTES (1u << 20)

struct reading {
	struct nodeid id;
	uint64_t off;
	size_t len;
	uint8_t *buf;
	size_t done;
	int whence;
	uint64_t *out;
};

static void read_inline(const struct inode *i, struct reading *a, size_t len)
{
	size_t have = 0;

	if (a->off < LUNFS_DATA_FORK_BYTES) {
		have = LUNFS_DATA_FORK_BYTES - (size_t)a->off;
		have = have < len ? have : len;
		memcpy(a->buf, inline_data(i) + a->off, have);
	}
	memset(a->buf + have, 0, len - have);
}

/* By a buffer of whole blocks, a piece at a time. */
static int read_bounced(struct volume *v, struct inode *i, uint64_t off, size_t len, uint8_t *buf)
{
	size_t cap = len + 2 * BLK < BOUNCE_BYTES ? len + 2 * BLK : BOUNCE_BYTES;
	uint8_t *tmp;
	int rc = 0;

	cap = cap / BLK * BLK;
	tmp = dev_buf_alloc(cap);
	while (len && rc == 0) {
		size_t skip = (size_t)(off % BLK), n = cap - skip < len ? cap - skip : len;

		rc = data_read_blks(v, i, off / BLK, (skip + n + BLK - 1) / BLK, tmp);
		if (rc == 0)
			memcpy(buf, tmp + skip, n);
		off += n;
		buf += n;
		len -= n;
	}
	free(tmp);
	return rc;
}

static int read_extents(struct volume *v, struct inode *i, struct reading *a, size_t len)
{
	size_t whole = len / BLK * BLK;
	int rc = 0;

	if (a->off % BLK || (uintptr_t)a->buf % BLK)
		return read_bounced(v, i, a->off, len, a->buf);
	if (whole)
		rc = data_read_blks(v, i, a->off / BLK, whole / BLK, a->buf);
	if (rc == 0 && len > whole)
		rc = read_bounced(v, i, a->off + whole, len - whole, a->buf + whole);
	return rc;
}

static int read_body(struct op *o, void *arg)
{
	struct reading *a = arg;
	struct inode *i;
	size_t len;
	int rc;

	rc = op_get(o, a->id, o->c && o->c->read_excl && !o->v->read_only ? LOCK_EX : LOCK_SH,
		    LOCAL_SHARED, &i);
	if (rc)
		return rc;
	if (!S_ISREG(i->mode))
		return S_ISDIR(i->mode) ? -EISDIR : -EINVAL;
	a->done = 0;
	if (a->off >= i->size)
		return 0;
	len = i->size - a->off < a->len ? (size_t)(i->size - a->off) : a->len;
	if (i->data_format == LUNFS_FORK_INLINE)
		read_inline(i, a, len);
	else
		rc = read_extents(o->v, i, a, len);
	if (rc == 0)
		a->done = len;
	return rc;
}

int vol_read(struct volume *v, const struct op_ctx *c, struct nodeid id, uint64_t off_bytes,
	     size_t len_bytes, void *buf, size_t *done)
{
	struct reading a = {.id = id, .off = off_bytes, .len = len_bytes, .buf = buf};
	struct op o;
	int rc;

	op_init(&o, v, c);
	o.reading = true;
	o.pin_flags = LOCK_DRAIN;
	rc = op_run(&o, read_body, &a);
	*done = rc ? 0 : a.done;
	return rc;
}

/* ---- SEEK_DATA, SEEK_HOLE -------------------------------------------------------------------- */

static int seek_extents(struct volume *v, struct inode *i, struct reading *a)
{
	uint64_t lblk = a->off / BLK, pos;

	for (;;) {
		struct ext e;
		bool data;
		int rc = ext_map(&v->ne, i, lblk, &e);

		if (rc)
			return rc;
		data = e.blk && !(e.flags & LUNFS_EXT_UNWRITTEN);
		pos = lblk * BLK < a->off ? a->off : lblk * BLK;
		if (data == (a->whence == SEEK_DATA)) {
			*a->out = pos;
			return 0;
		}
		if (e.len >= (i->size + BLK - 1) / BLK - lblk)
			break; /* the same up to the end of file, where there is a hole */
		lblk += e.len;
	}
	if (a->whence == SEEK_DATA)
		return -ENXIO;
	*a->out = i->size;
	return 0;
}

static int seek_body(struct op *o, void *arg)
{
	struct reading *a = arg;
	struct inode *i;
	int rc;

	rc = op_get(o, a->id, LOCK_SH, LOCAL_SHARED, &i);
	if (rc)
		return rc;
	if (!S_ISREG(i->mode))
		return -EINVAL;
	if (a->off >= i->size)
		return -ENXIO;
	if (i->data_format == LUNFS_FORK_INLINE) {
		*a->out = a->whence == SEEK_DATA ? a->off : i->size;
		return 0;
	}
	return seek_extents(o->v, i, a);
}

int vol_lseek(struct volume *v, const struct op_ctx *c, struct nodeid id, uint64_t off_bytes,
	      int whence, uint64_t *out)
{
	struct reading a = {.id = id, .off = off_bytes, .whence = whence, .out = out};
	struct op o;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	op_init(&o, v, c);
	o.reading = true;
	return op_run(&o, seek_body, &a);
}
