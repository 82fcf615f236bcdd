/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of mkfs.lunfs share. Each function that can fail says why in one sentence. */
#ifndef MKFS_H
#define MKFS_H

#include "base/geo.h"
#include <lunfs/dev.h>
#include <stdbool.h>

#define MKFS_WHY_BYTES 512

struct mkfs_options {
	const char *device;
	const char *label; /* "" = none */
	uint8_t uuid[16];
	bool uuid_given, quiet, dry_run, force, force_file;
	unsigned hosts;		/* 0 = by size */
	uint64_t journal_bytes; /* 0 = by size */
	uint32_t sector_bytes;	/* 0 = the device's */
	uint32_t beat_ms, deadline_ms, lease_ms;
};

/* What stood on the device before. */
struct mkfs_found {
	char names[256];    /* "ext4 (label \"home\"), dos partition table"; "" = nothing */
	bool lunfs;	    /* an old lunfs superblock is among it */
	struct mkfs_patch { /* sectors to be zeroed or cleared so that nobody finds it again */
		uint64_t off_bytes;
		uint8_t *buf; /* one sector, as it is to be */
	} * patch;
	size_t patches;
};

/* options.c. 0: go on; 1: all is said and done, exit 0; -1: said why, exit 1. */
int options_parse(struct mkfs_options *o, int argc, char **argv);
/* Of "64K", "1M", "2G", "1T" or bytes. -EINVAL, -ERANGE. */
int size_parse(const char *text, uint64_t *bytes);

/*
 * layout.c: pure arithmetic. Fills all of @g but the random and personal parts. -ENOSPC: too small
 * for what is asked; -EINVAL: a size that cannot be used.
 */
int layout_make(const struct mkfs_options *o, uint64_t size_bytes, uint32_t sector_bytes,
		uint32_t phys_bytes, struct geo *g, char *why, size_t why_len);
/* Cells that mkfs fills: group 0's chunk header, then root, then the orphan directories. */
uint64_t layout_chunk_header(const struct geo *g);
unsigned layout_chunk_first_cell(const struct geo *g); /* its index in window 0 */

/* probe.c. Look at both ends of the device for signatures of others and for old lunfs. */
int probe_signatures(struct dev *d, struct mkfs_found *f, char *why, size_t why_len);
void found_free(struct mkfs_found *f);

/*
 * live.c. Refuse (-EBUSY) a device whose host table has a slot that beats: watches every slot that
 * is not free for its own lease. Knows old volumes by their slots alone, superblock or not.
 */
struct live_table;
int live_watch(struct dev *d, struct clock *clk, bool quiet, struct live_table **out, char *why,
	       size_t why_len);
/* Has any slot changed since live_watch()? -EBUSY. */
int live_recheck(struct dev *d, struct live_table *t, char *why, size_t why_len);
void live_free(struct live_table *t);

/* write.c. Everything, in an order that leaves no half-made volume; the main superblock last. */
int volume_write(struct dev *d, struct clock *clk, const struct geo *g, const struct mkfs_found *f,
		 struct live_table *old, char *why, size_t why_len);

#endif
