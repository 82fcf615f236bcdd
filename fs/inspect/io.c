/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading and writing at any alignment, and checksums. */
#include "base/crc.h"
#include "inspect/inspect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct span { /* whole sectors round a range */
	uint64_t off;
	size_t len, skip;
	uint8_t *buf;
};

static int span_read(const struct insp *in, uint64_t off, size_t len, struct span *s)
{
	uint32_t unit = in->dev->id.sector_bytes;
	uint64_t size = in->dev->id.size_bytes;
	int rc;

	if (len == 0 || off > size || len > size - off)
		return -ENXIO;
	s->off = off / unit * unit;
	s->skip = (size_t)(off - s->off);
	s->len = (s->skip + len + unit - 1) / unit * unit;
	if (s->len > size - s->off)
		return -ENXIO;
	s->buf = dev_buf_alloc(s->len);
	rc = dev_read(in->dev, s->off, s->len, s->buf);
	if (rc)
		free(s->buf);
	return rc;
}

int insp_read(const struct insp *in, uint64_t off_bytes, size_t len_bytes, void *buf)
{
	struct span s;
	int rc = span_read(in, off_bytes, len_bytes, &s);

	if (rc)
		return rc;
	memcpy(buf, s.buf + s.skip, len_bytes);
	free(s.buf);
	return 0;
}

int insp_write(const struct insp *in, uint64_t off_bytes, size_t len_bytes, const void *buf)
{
	struct span s;
	int rc = span_read(in, off_bytes, len_bytes, &s);

	if (rc)
		return rc;
	memcpy(s.buf + s.skip, buf, len_bytes);
	rc = dev_write(in->dev, s.off, s.len, s.buf);
	free(s.buf);
	return rc;
}

/* ---- checksums ------------------------------------------------------------------------------- */

static const struct seal {
	uint16_t len, crc_off;
} seals[] = {
    [INSP_SEAL_SB] = {sizeof(struct lunfs_sb), offsetof(struct lunfs_sb, crc)},
    [INSP_SEAL_ATS] = {sizeof(struct lunfs_lock_rec), offsetof(struct lunfs_ats_hdr, crc)},
    [INSP_SEAL_BLK] = {LUNFS_PAYLOAD_BYTES, offsetof(struct lunfs_blk_hdr, crc)},
    [INSP_SEAL_BOARD] = {sizeof(struct lunfs_board_sec), offsetof(struct lunfs_board_sec, crc)},
    [INSP_SEAL_JHDR] = {sizeof(struct lunfs_jhdr), offsetof(struct lunfs_jhdr, crc)},
    [INSP_SEAL_JDESC] = {sizeof(struct lunfs_jdesc), offsetof(struct lunfs_jdesc, crc)},
    [INSP_SEAL_JCOMMIT] = {sizeof(struct lunfs_jcommit), offsetof(struct lunfs_jcommit, crc)},
    [INSP_SEAL_JBODY] = {0, 0},
    [INSP_SEAL_REDO] = {sizeof(struct lunfs_redo_desc), offsetof(struct lunfs_redo_desc, crc)},
};

bool insp_seal(const struct insp_place *p, void *buf)
{
	const struct seal *s = &seals[p->seal];

	if (s->len)
		crc_seal(buf, s->len, s->crc_off);
	return s->len != 0;
}

bool insp_seal_ok(const struct insp_place *p, const void *buf)
{
	const struct seal *s = &seals[p->seal];

	return s->len == 0 || crc_ok(buf, s->len, s->crc_off);
}
