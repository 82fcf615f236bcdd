/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Undo files: what stood in each block before a repair overwrote it for the first time. A header,
 * then records, each with its own checksum, appended and synced before the device is written; then
 * the header says how many they are. So the file of a repair that was killed holds everything that
 * was overwritten, and one that was cut short afterwards is told from it.
 *
 * The header also holds the generations of the host table: a host that has mounted the volume since
 * has raised one, and what it wrote would be torn by putting old blocks back. The repair itself
 * raises those of slots that it makes anew: such a record is known by the nonce of who set it.
 */
#include "base/bitmap.h"
#include "base/crc.h"
#include "base/log.h"
#include "fsck/store.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#define BLK LUNFS_BLOCK_BYTES
#define MAGIC "LUNFSUND"
#define GEN_DAMAGED UINT64_MAX

struct undo_head {
	uint8_t magic[8];
	uint8_t vol_id[16];
	le64 dev_bytes;
	le64 records;			  /* at least so many */
	le64 generation[LUNFS_MAX_SLOTS]; /* of the slots; GEN_DAMAGED: there was no record */
	le64 nonce[2]; /* of this repair, and of one whose log it finished; 0: none */
	uint8_t reserved[4036 - 8 * LUNFS_MAX_SLOTS];
	le32 crc; /* of all before */
};
static_assert(sizeof(struct undo_head) == BLK, "undo_head");

struct undo_rec { /* and a block of data */
	le64 blk;
	le32 data_crc;
	le32 crc; /* of the two above */
};
#define REC_BYTES (sizeof(struct undo_rec) + BLK)

struct saved {
	uint64_t blk;
	UT_hash_handle hh;
};

struct undo {
	int fd;
	struct dev *dev;
	struct undo_head head;
	uint64_t records;
	struct saved *saved;
	uint8_t *buf;
	char path[256];
};

static int write_all(int fd, const void *buf, size_t len)
{
	const char *p = buf;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* The name of the new file must survive too. */
static int sync_dir_of(const char *path)
{
	char dir[4096];
	char *slash;
	int fd, rc;

	snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (slash)
		slash[1] = '\0';
	fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = fsync(fd) ? -errno : 0;
	close(fd);
	return rc;
}

struct mark {		     /* what a slot says of who used it last */
	uint64_t generation; /* GEN_DAMAGED: there is no record */
	uint64_t nonce;	     /* of who set the record; 0: nobody */
};

static struct mark mark_of(const struct store *s, unsigned slot)
{
	uint8_t *sector = dev_buf_alloc(s->geo->sector_bytes);
	const struct lunfs_slot_rec *rec = (const void *)sector;
	struct mark m = {.generation = GEN_DAMAGED};
	struct host_info hi;

	if (dev_read(s->dev, geo_slot_off(slot), s->geo->sector_bytes, sector) == 0 &&
	    slot_decode(s->geo, sector, slot, &hi) == 0)
		m = (struct mark){hi.generation, le64_get(rec->hdr.setter_nonce)};
	free(sector);
	return m;
}

static int write_head(struct undo *u)
{
	ssize_t n;

	u->head.records = le64_make(u->records);
	crc_seal(&u->head, sizeof(u->head), offsetof(struct undo_head, crc));
	n = pwrite(u->fd, &u->head, sizeof(u->head), 0);
	if (n == (ssize_t)sizeof(u->head))
		return 0;
	return n < 0 ? -errno : -EIO;
}

static int begin(struct undo *u, const char *path, const struct store *s)
{
	const struct geo *geo = s->geo;
	int rc;

	memcpy(u->head.magic, MAGIC, sizeof(u->head.magic));
	memcpy(u->head.vol_id, geo->vol_id, sizeof(u->head.vol_id));
	u->head.dev_bytes = le64_make(u->dev->id.size_bytes);
	for (unsigned i = 0; i < geo->slots; i++)
		u->head.generation[i] = le64_make(mark_of(s, i).generation);
	u->head.nonce[0] = le64_make(maint_nonce(s->maint));
	u->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (u->fd < 0 || lseek(u->fd, sizeof(u->head), SEEK_SET) < 0)
		return -errno;
	rc = write_head(u);
	return rc ? rc : sync_dir_of(path);
}

int undo_open(struct store *s, const char *path, char *why, size_t why_len)
{
	struct undo *u = calloc(1, sizeof(*u));
	int rc;

	lunfs_assert(u);
	u->dev = s->dev;
	u->buf = dev_buf_alloc(BLK);
	snprintf(u->path, sizeof(u->path), "%s", path);
	rc = begin(u, path, s);
	if (rc == 0) {
		s->undo = u;
		return 0;
	}
	snprintf(why, why_len, "The undo file %s cannot be made: %s.", path, strerror(-rc));
	undo_close(u);
	return rc;
}

static int save_blk(struct undo *u, uint64_t blk)
{
	struct undo_rec r = {.blk = le64_make(blk)};
	struct saved *s;
	int rc;

	HASH_FIND(hh, u->saved, &blk, sizeof(blk), s);
	if (s)
		return 0;
	rc = dev_read(u->dev, blk * BLK, BLK, u->buf);
	if (rc == -EIO) /* nothing readable stands there that could be put back */
		return 0;
	if (rc)
		return rc;
	r.data_crc = le32_make(crc32c(u->buf, BLK));
	r.crc = le32_make(crc32c(&r, offsetof(struct undo_rec, crc)));
	rc = write_all(u->fd, &r, sizeof(r));
	if (rc == 0)
		rc = write_all(u->fd, u->buf, BLK);
	if (rc) {
		fprintf(stderr,
			"The undo file %s cannot be written: %s; nothing more is changed.\n",
			u->path, strerror(-rc));
		return rc;
	}
	u->records++;
	s = calloc(1, sizeof(*s));
	lunfs_assert(s);
	s->blk = blk;
	HASH_ADD(hh, u->saved, blk, sizeof(s->blk), s);
	return 0;
}

int undo_save(struct undo *u, uint64_t off_bytes, size_t len_bytes)
{
	int rc = 0;

	for (uint64_t b = off_bytes / BLK; b * BLK < off_bytes + len_bytes && rc == 0; b++)
		rc = save_blk(u, b);
	return rc;
}

void undo_finishes(struct undo *u, uint64_t nonce)
{
	u->head.nonce[1] = le64_make(nonce);
}

int undo_sync(struct undo *u)
{
	int rc = fsync(u->fd) ? -errno : 0;

	if (rc == 0)
		rc = write_head(u);
	return rc || fsync(u->fd) == 0 ? rc : -errno;
}

void undo_close(struct undo *u)
{
	struct saved *s, *next;

	HASH_ITER (hh, u->saved, s, next) {
		HASH_DEL(u->saved, s);
		free(s);
	}
	if (u->fd >= 0)
		close(u->fd);
	free(u->buf);
	free(u);
}

/* ---- putting back ---------------------------------------------------------------------------- */

static int read_all(int fd, void *buf, size_t len)
{
	char *p = buf;

	while (len) {
		ssize_t n = read(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENODATA;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* A record that the repair itself set hides nothing: no host had mounted the volume before. */
static bool mounted_in(const struct store *s, const struct undo_head *h, unsigned slot)
{
	struct mark m = mark_of(s, slot);

	if (slot == maint_slot(s->maint)) /* our own claim came on top */
		m.generation--;
	if (m.generation == le64_get(h->generation[slot]))
		return false;
	return !m.nonce || (m.nonce != le64_get(h->nonce[0]) && m.nonce != le64_get(h->nonce[1]));
}

/*
 * The first slot in which a host may have mounted the volume since; the number of slots: none has.
 * Only who mounts takes a slot with a journal; the others are for claims like ours.
 */
static unsigned mounted_since(const struct store *s, const struct undo_head *h)
{
	unsigned i = 0;

	while (i < s->geo->slots && !(s->geo->journal_blk[i] && mounted_in(s, h, i)))
		i++;
	return i;
}

static int read_head(int fd, const struct store *s, struct undo_head *h, char *why, size_t len)
{
	if (read_all(fd, h, sizeof(*h)) || memcmp(h->magic, MAGIC, sizeof(h->magic)) ||
	    !crc_ok(h, sizeof(*h), offsetof(struct undo_head, crc))) {
		snprintf(why, len, "It is no undo file of fsck.lunfs.");
		return -EUCLEAN;
	}
	if (memcmp(h->vol_id, s->geo->vol_id, sizeof(h->vol_id)) ||
	    le64_get(h->dev_bytes) != s->dev->id.size_bytes) {
		snprintf(why, len, "It was made for another volume than the one on %s.",
			 s->dev->id.name);
		return -ENOTUNIQ;
	}
	return 0;
}

/* One record. -ENODATA at the end of the file; one that was cut short was not used yet. */
static int read_rec(int fd, const struct store *s, uint64_t *blk, uint8_t *data)
{
	struct undo_rec r;
	int rc = read_all(fd, &r, sizeof(r));

	if (rc == 0)
		rc = read_all(fd, data, BLK);
	if (rc)
		return rc;
	*blk = le64_get(r.blk);
	if (le32_get(r.crc) != crc32c(&r, offsetof(struct undo_rec, crc)) ||
	    le32_get(r.data_crc) != crc32c(data, BLK))
		return -EUCLEAN;
	/* A repair writes nothing outside of the volume. */
	return *blk >= LUNFS_SB_OFF / BLK && *blk < s->geo->dev_blks ? 0 : -EUCLEAN;
}

/*
 * Slots come last. One may be that of a dead host again, and what its journal holds is replayed by
 * the next run, whether the rest is back or not.
 */
enum part { NOTHING, ALL_BUT_SLOTS, SLOTS };

static bool is_of(const struct store *s, enum part part, uint64_t blk)
{
	return part != NOTHING && store_is_slot(s, blk) == (part == SLOTS) &&
	       !store_is_claim(s, blk);
}

/* Read all, and write what is of @part. */
static int walk(struct store *s, int fd, enum part part, uint64_t *n)
{
	uint8_t *data = dev_buf_alloc(BLK);
	int rc;

	if (lseek(fd, sizeof(struct undo_head), SEEK_SET) < 0)
		rc = -errno;
	else
		for (rc = 0, *n = 0; rc == 0;) {
			struct dev_io io = {.op = DEV_WRITE, .len_bytes = BLK, .buf = data};
			uint64_t blk;

			rc = read_rec(fd, s, &blk, data);
			io.off_bytes = blk * BLK;
			if (rc == 0 && is_of(s, part, blk))
				rc = maint_write(s->maint, &io, 1);
			*n += rc == 0;
		}
	free(data);
	rc = rc == -ENODATA ? 0 : rc;
	return rc || part == NOTHING ? rc : maint_flush(s->maint);
}

/* All of it, before anything is written. */
static int check_file(struct store *s, int fd, bool force, char *why, size_t why_len)
{
	struct undo_head h;
	uint64_t n = 0;
	unsigned slot;
	int rc = read_head(fd, s, &h, why, why_len);

	if (rc)
		return rc;
	slot = mounted_since(s, &h);
	if (slot < s->geo->slots && !force) {
		snprintf(why, why_len,
			 "A host has mounted the volume since, or another repair has made its slot "
			 "anew (slot %u): what was written since would be damaged; nothing was "
			 "changed. With -f it is put back all the same.",
			 slot);
		return -ESTALE;
	}
	rc = walk(s, fd, NOTHING, &n);
	if (rc == 0 && n < le64_get(h.records)) {
		snprintf(why, why_len,
			 "It was cut short: %llu of %llu blocks are left; nothing was written.",
			 (unsigned long long)n, (unsigned long long)le64_get(h.records));
		return -EUCLEAN;
	}
	if (rc)
		snprintf(why, why_len, "It is damaged (record %llu): nothing was written.",
			 (unsigned long long)n);
	return rc;
}

int undo_put_back(struct store *s, const char *path, bool force, char *why, size_t why_len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc;
	struct maint_info mi;
	uint64_t n;

	if (fd < 0) {
		rc = -errno;
		snprintf(why, why_len, "%s.", strerror(errno));
		return rc;
	}
	rc = check_file(s, fd, force, why, why_len);
	mi = maint_get(s->maint);
	mi.flags |= LUNFS_MAINT_MUST_FSCK;
	if (rc == 0)
		rc = maint_set(s->maint, &mi);
	if (rc == 0) {
		rc = walk(s, fd, ALL_BUT_SLOTS, &n);
		if (rc == 0)
			rc = walk(s, fd, SLOTS, &n);
		if (rc)
			snprintf(why, why_len, "Writing to %s failed: %s.", s->dev->id.name,
				 strerror(-rc));
	}
	close(fd);
	return rc;
}
