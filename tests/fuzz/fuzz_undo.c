/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fsck.lunfs --put-back of an undo file that somebody changed. The file is that of a real repair;
 * an input is a list of changes to it, after which its checksums are made right again. What is
 * refused was not begun; nothing outside of the volume is written; whatever was put back, the
 * volume is marked, and a repair of it ends and leaves nothing.
 */
#include "fuzz.h"

#include "base/crc.h"
#include "edit.h"
#include "fsck/fsck.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REC_BYTES (16u + LUNFS_BLOCK_BYTES)
#define RECS_MAX 64u
#define HEAD_CRC (LUNFS_BLOCK_BYTES - 4u)

enum change_op {
	SET_BLK,    /* record @rec is of block @value */
	NEAR_BLK,   /* of one that is @value away */
	XOR_DATA,   /* at @off of its block */
	XOR_HEAD,   /* at @off of the file */
	CUT,	    /* the file ends @off bytes behind the start of record @rec */
	SWAP,	    /* with record @value */
	COPY,	    /* becomes as record @value */
	APPEND,	    /* one more, a copy of @rec */
	BREAK_SEAL, /* its checksum stays wrong */
	CHANGE_OPS,
};

struct file_change {
	uint8_t op, rec;
	le16 off;
	le32 value;
};
static_assert(sizeof(struct file_change) == 8, "file_change");

struct file {
	uint8_t *bytes;
	size_t len;
	unsigned recs, broken;
};

static struct file made; /* by a real repair */
static char path[64];
static int fd = -1;

static uint8_t *rec_at(const struct file *f, unsigned i)
{
	return f->bytes + LUNFS_BLOCK_BYTES + (size_t)i * REC_BYTES;
}

/* ---- a real one ------------------------------------------------------------------------------ */

static int claim(struct bed *b, struct dev *dev, struct clock *clk, struct maint **m)
{
	struct maint_config cfg = {.host.name = "fsck", .host.claim_wait_ms = 4 * b->geo.lease_ms};
	char why[512];

	return maint_begin(dev, clk, &b->geo, &cfg, m, why, sizeof(why));
}

static void read_made(void)
{
	off_t len = lseek(fd, 0, SEEK_END);

	made.len = (size_t)len;
	made.bytes = malloc(made.len);
	FUZZ_CHECK(pread(fd, made.bytes, made.len, 0) == len, "the undo file cannot be read");
	made.recs = (unsigned)((made.len - LUNFS_BLOCK_BYTES) / REC_BYTES);
	FUZZ_CHECK(made.recs && made.recs <= RECS_MAX, "the undo file has %u records", made.recs);
}

static void make_file(struct bed *b, struct clock *clk)
{
	static const char *const edits[] = {"inode:/d1.nlink=9", "inode:/small.blks=77",
					    "zero inode:/many", "group:0.free_blks=1",
					    "superblock:1.label=\"x\""};
	struct fuzz_fsck r;
	char why[512];

	for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++)
		edit_apply(&b->in, edits[i], why, sizeof(why));
	snprintf(path, sizeof(path), "/dev/shm/lunfs-fuzz-undo.%d", (int)getpid());
	unlink(path);
	fuzz_repair_undo(b, clk, path, &r);
	FUZZ_CHECK(r.rc == 0, "the repair that makes the undo file ends with %d", r.rc);
	fd = open(path, O_RDWR | O_CLOEXEC);
	unlink(path);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_made();
}

/* ---- changing it ----------------------------------------------------------------------------- */

static void change_rec(struct file *f, const struct file_change *c, unsigned i)
{
	uint8_t *rec = rec_at(f, i), *other = rec_at(f, le32_get(c->value) % f->recs);
	uint8_t keep[REC_BYTES];
	uint64_t blk;

	memcpy(&blk, rec, sizeof(blk));
	switch (c->op % CHANGE_OPS) {
	case SET_BLK:
		blk = le32_get(c->value) | (uint64_t)le16_get(c->off) << 48;
		memcpy(rec, &blk, sizeof(blk));
		break;
	case NEAR_BLK:
		blk += (uint64_t)(int8_t)le32_get(c->value);
		memcpy(rec, &blk, sizeof(blk));
		break;
	case XOR_DATA:
		rec[16 + le16_get(c->off) % LUNFS_BLOCK_BYTES] ^= (uint8_t)le32_get(c->value);
		break;
	case SWAP:
		memcpy(keep, rec, REC_BYTES);
		memmove(rec, other, REC_BYTES);
		memcpy(other, keep, REC_BYTES);
		break;
	case COPY:
		memmove(rec, other, REC_BYTES);
		break;
	case APPEND:
		if (f->recs < RECS_MAX)
			memcpy(rec_at(f, f->recs++), rec, REC_BYTES);
		break;
	default:
		f->broken = 1 + i;
	}
}

static size_t change_file(struct file *f, const uint8_t *data, size_t size)
{
	size_t cut = SIZE_MAX, len;

	for (; size >= sizeof(struct file_change); data += sizeof(struct file_change)) {
		struct file_change c;

		memcpy(&c, data, sizeof(c));
		size -= sizeof(c);
		if (c.op % CHANGE_OPS == XOR_HEAD)
			f->bytes[le16_get(c.off) % LUNFS_BLOCK_BYTES] ^= (uint8_t)le32_get(c.value);
		else if (c.op % CHANGE_OPS == CUT)
			cut = (size_t)(rec_at(f, c.rec % f->recs) - f->bytes) +
			      le16_get(c.off) % REC_BYTES;
		else
			change_rec(f, &c, c.rec % f->recs);
	}
	crc_seal(f->bytes, LUNFS_BLOCK_BYTES, HEAD_CRC);
	for (unsigned i = 0; i < f->recs; i++) {
		uint8_t *rec = rec_at(f, i);
		le32 crc = le32_make(crc32c(rec + 16, LUNFS_BLOCK_BYTES));

		memcpy(rec + 8, &crc, sizeof(crc));
		crc = le32_make(crc32c(rec, 12) + (f->broken == 1 + i));
		memcpy(rec + 12, &crc, sizeof(crc));
	}
	len = (size_t)(rec_at(f, f->recs) - f->bytes);
	return len < cut ? len : cut;
}

static void write_file(const uint8_t *data, size_t size)
{
	struct file f = {.recs = made.recs};
	size_t len;

	f.bytes = calloc(1, LUNFS_BLOCK_BYTES + RECS_MAX * REC_BYTES);
	memcpy(f.bytes, made.bytes, made.len);
	len = change_file(&f, data, size);
	FUZZ_CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, f.bytes, len, 0) == (ssize_t)len,
		   "the undo file cannot be written");
	free(f.bytes);
}

/* ---- putting it back ------------------------------------------------------------------------- */

static int put_back(struct bed *b, struct dev *dev, struct maint *m)
{
	struct fsck f = {0};
	char why[512] = "";
	int rc;

	fsck_init(&f, dev, &b->geo, MODE_YES, m);
	rc = undo_put_back(&f.store, path, false, why, sizeof(why));
	FUZZ_CHECK(rc <= 0 && (rc == 0 || why[0]), "putting back answers %d and says nothing", rc);
	fsck_free(&f);
	return rc;
}

static void run(struct bed *b, struct clock *clk)
{
	struct dev *dev = simdev_attach(b->medium);
	struct maint *m;
	uint64_t wrote;
	int rc;

	if (!made.bytes) {
		make_file(b, clk);
		simdev_set_monitor(b->medium, NULL, NULL);
		simdev_roll_back(b->medium, b->made);
	}
	write_file(b->input, b->input_bytes);
	bed_allow_writes(b, true, b->geo.dev_blks * LUNFS_BLOCK_BYTES);
	FUZZ_CHECK(claim(b, dev, clk, &m) == 0, "the claim of a sound volume fails");
	wrote = atomic_load(&dev->stats.writes);
	rc = put_back(b, dev, m);
	if (rc && rc != -EIO)
		FUZZ_CHECK(wrote == atomic_load(&dev->stats.writes), "a file is refused (%d) late",
			   rc);
	maint_end(m);
	dev_close(dev);
	if (rc == 0 || rc == -EIO)
		fuzz_mend(b, clk);
}

const struct fuzz_target fuzz_target = {
    .bases = 1u << BASE_TREE | 1u << BASE_4K, .raw = true, .run = run};
