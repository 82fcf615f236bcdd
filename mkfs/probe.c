/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What stands on the device already: by libblkid for the rest of the world, by its own superblock
 * for lunfs, which libblkid does not know.
 *
 * libblkid wants a file descriptor and iscsi:// has none, so it gets a sparse memory file of the
 * device's size with both ends copied in. It wipes there; sectors that it changed become patches.
 */
#include "mkfs.h"

#include "base/log.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <uuid/uuid.h>

#define END_BYTES (4ull << 20) /* every known signature lies this near to an end */
#define IO_BYTES (1u << 20)
#define MAX_SIGNATURES 1024 /* a ZFS pool alone has up to 512, and counts while four are left */

struct ends { /* the parts that are looked at: [0, front) and [back, size) */
	uint64_t size, front, back;
};

static struct ends ends_of(const struct dev *d)
{
	struct ends e = {.size = d->id.size_bytes};

	e.front = e.size < 2 * END_BYTES ? e.size : END_BYTES;
	e.back = e.size < 2 * END_BYTES ? e.size : (e.size - END_BYTES) / 4096 * 4096;
	return e;
}

typedef int (*piece_fn)(struct dev *d, int fd, uint64_t off, size_t len, void *buf, void *ctx);

/* Both ends of the device, piece by piece, read into a buffer. */
static int each_piece(struct dev *d, int fd, piece_fn fn, void *ctx)
{
	struct ends e = ends_of(d);
	uint64_t off = 0;
	void *buf = dev_buf_alloc(IO_BYTES);
	int err = 0;

	while (off < e.size && !err) {
		uint64_t end = off < e.front ? e.front : e.size;
		size_t len = end - off < IO_BYTES ? (size_t)(end - off) : IO_BYTES;

		err = dev_read(d, off, len, buf);
		if (!err)
			err = fn(d, fd, off, len, buf, ctx);
		off += len;
		if (off >= e.front && off < e.back)
			off = e.back;
	}
	free(buf);
	return err;
}

static int copy_piece(struct dev *d, int fd, uint64_t off, size_t len, void *buf, void *ctx)
{
	(void)d;
	(void)ctx;
	return pwrite(fd, buf, len, (off_t)off) == (ssize_t)len ? 0 : -EIO;
}

static void patch_add(struct mkfs_found *f, uint64_t off, const uint8_t *sector, size_t len)
{
	struct mkfs_patch *p = reallocarray(f->patch, f->patches + 1, sizeof(*p));

	lunfs_assert(p != NULL);
	f->patch = p;
	p += f->patches++;
	p->off_bytes = off;
	p->buf = dev_buf_alloc(len);
	memcpy(p->buf, sector, len);
}

static int compare_piece(struct dev *d, int fd, uint64_t off, size_t len, void *buf, void *ctx)
{
	uint32_t sector = d->id.sector_bytes;
	uint8_t *now = malloc(len);
	int err = now ? 0 : -ENOMEM;

	if (!err && pread(fd, now, len, (off_t)off) != (ssize_t)len)
		err = -EIO;
	for (size_t at = 0; !err && at < len; at += sector)
		if (memcmp(now + at, (uint8_t *)buf + at, sector) != 0)
			patch_add(ctx, off + at, now + at, sector);
	free(now);
	return err;
}

static void name_add(struct mkfs_found *f, const char *name)
{
	size_t have = strlen(f->names);

	if (!have || !strstr(f->names, name))
		snprintf(f->names + have, sizeof(f->names) - have, "%s%s", have ? ", " : "", name);
}

/* What people read must not upset their terminal. */
static void printable(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
}

static void signature_name(struct mkfs_found *f, blkid_probe pr)
{
	const char *type, *label = NULL;
	char name[160];

	if (blkid_probe_lookup_value(pr, "TYPE", &type, NULL) == 0) {
		blkid_probe_lookup_value(pr, "LABEL", &label, NULL);
		if (label)
			snprintf(name, sizeof(name), "%s (label \"%s\")", type, label);
		else
			snprintf(name, sizeof(name), "%s", type);
	} else if (blkid_probe_lookup_value(pr, "PTTYPE", &type, NULL) == 0) {
		snprintf(name, sizeof(name), "%s partition table", type);
	} else {
		return;
	}
	printable(name);
	name_add(f, name);
}

static int wipe_all(struct mkfs_found *f, blkid_probe pr)
{
	blkid_probe_enable_superblocks(pr, 1);
	blkid_probe_set_superblocks_flags(pr, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL |
						  BLKID_SUBLKS_MAGIC | BLKID_SUBLKS_BADCSUM);
	blkid_probe_enable_partitions(pr, 1);
	blkid_probe_set_partitions_flags(pr, BLKID_PARTS_FORCE_GPT | BLKID_PARTS_MAGIC);
	for (int i = 0; i < MAX_SIGNATURES; i++) {
		int rc = blkid_do_probe(pr);

		if (rc == 1) /* nothing more */
			return 0;
		if (rc < 0)
			return -EIO;
		f->others = true;
		signature_name(f, pr);
		if (blkid_do_wipe(pr, 0) < 0)
			return -EIO;
	}
	return -E2BIG;
}

static int blkid_look(struct dev *d, int fd, struct mkfs_found *f)
{
	blkid_probe pr = blkid_new_probe();
	int err = pr ? 0 : -ENOMEM;

	if (!err && blkid_probe_set_device(pr, fd, 0, (blkid_loff_t)d->id.size_bytes) != 0)
		err = -EIO;
	if (!err) {
		blkid_probe_set_sectorsize(pr, d->id.sector_bytes);
		err = wipe_all(f, pr);
	}
	if (pr)
		blkid_free_probe(pr);
	return err;
}

/* An old superblock or its copy; a damaged one counts too. */
static int lunfs_look(struct dev *d, uint64_t off, struct mkfs_found *f)
{
	void *sb = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	char name[160] = "damaged lunfs volume", uuid[37];
	struct geo g;
	bool room = d->id.size_bytes >= off + LUNFS_BLOCK_BYTES;
	int err = room ? dev_read(d, off, LUNFS_BLOCK_BYTES, sb) : 0, rc;

	if (room && !err && memcmp(sb, LUNFS_SB_MAGIC, 8) == 0) {
		rc = sb_decode(sb, &g, NULL);
		if (rc == 0) {
			uuid_unparse(g.uuid, uuid);
			snprintf(name, sizeof(name), "lunfs volume%s%s%s, UUID %s",
				 g.label[0] ? " \"" : "", g.label, g.label[0] ? "\"" : "", uuid);
			printable(name);
		} else if (rc == -EPROTONOSUPPORT) {
			strcpy(name, "lunfs volume of a newer version");
		}
		if (!f->lunfs)
			name_add(f, name);
		f->lunfs = true;
	}
	free(sb);
	return err;
}

int probe_signatures(struct dev *d, struct mkfs_found *f, char *why, size_t why_len)
{
	int fd, err;

	memset(f, 0, sizeof(*f));
	err = lunfs_look(d, LUNFS_SB_OFF, f);
	if (!err)
		err = lunfs_look(d, sb_tail_off(d->id.size_bytes), f);
	fd = memfd_create("mkfs.lunfs", MFD_CLOEXEC);
	if (!err && (fd < 0 || ftruncate(fd, (off_t)d->id.size_bytes) != 0))
		err = -errno;
	if (!err)
		err = each_piece(d, fd, copy_piece, NULL);
	if (!err)
		err = blkid_look(d, fd, f);
	if (!err)
		err = each_piece(d, fd, compare_piece, f);
	if (fd >= 0)
		close(fd);
	if (err == -E2BIG)
		snprintf(why, why_len,
			 "More than %d signatures of others stand on it: take them away with "
			 "wipefs(8) first.",
			 MAX_SIGNATURES);
	else if (err)
		snprintf(why, why_len, "Reading what stands on it already failed: %s.",
			 strerror(-err));
	if (err)
		found_free(f);
	return err;
}

void found_free(struct mkfs_found *f)
{
	for (size_t i = 0; i < f->patches; i++)
		free(f->patch[i].buf);
	free(f->patch);
	f->patch = NULL;
	f->patches = 0;
}
