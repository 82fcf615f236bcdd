/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of mkfs.lunfs share. Each function that can fail says why in one sentence. */
#ifndef MKFS_H
#define MKFS_H

#include "base/geo.h"
#include <lunfs/dev.h>
#include <stdbool.h>
#include <stdio.h>

#define MKFS_WHY_BYTES 512

struct mkfs_options {
	const char *device;
	char shown[sizeof(((struct dev_identity *)0)->name)]; /* the same without a password */
	const char *label; /* "" = none */
	uint8_t uuid[16];
	bool uuid_given, quiet, dry_run, force, force_file, keep, json;
	unsigned hosts;		/* 0 = by size */
	uint64_t journal_bytes; /* 0 = by size */
	uint32_t sector_bytes;	/* 0 = the device's */
	uint32_t beat_ms, deadline_ms, lease_ms;
	uint64_t align_bytes; /* journals and groups begin at its multiples; 0 = 1 MiB */
};

/* What stood on the device before. */
struct mkfs_found {
	char names[256];    /* "ext4 (label \"home\"), dos partition table"; "" = nothing */
	bool lunfs;	    /* an old lunfs superblock is among it */
	bool others;	    /* what is not lunfs is among it */
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

/* topology.c. What libblkid knows of a block device's I/O; all 0 for anything else. */
struct mkfs_topology {
	uint32_t logical_bytes, physical_bytes;
	uint32_t min_io_bytes, opt_io_bytes; /* a RAID's chunk and stripe */
	uint32_t misaligned_bytes; /* from its first byte to the first whole physical block */
};
void topology_read(const char *path, struct mkfs_topology *t);
/*
 * layout.c: pure arithmetic. Fills all of @g but the random and personal parts. -ENOSPC: too small
 * for what is asked; -EINVAL: a size that cannot be used.
 */
int layout_make(const struct mkfs_options *o, uint64_t size_bytes, uint32_t sector_bytes,
		uint32_t phys_bytes, struct geo *g, char *why, size_t why_len);
/* Where I/O of these sizes (0: not known) suits the device best: a multiple of 1 MiB. */
uint64_t layout_align(uint64_t size_bytes, uint32_t min_io_bytes, uint32_t opt_io_bytes);
/*
 * Can a volume keep a lock and what it guards in separate physical blocks? -EINVAL if not, as with
 * a partition that begins in the middle of one.
 */
int topology_check(const struct mkfs_topology *t, char *why, size_t why_len);
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

/*
 * write.c. The volume @g on @d, in an order that leaves no half-made one; the main superblock last.
 * -EBUSY: somebody uses what stands there, it was left as it is.
 */
struct mkfs_work {
	struct dev *d;
	struct clock *clk;
	const struct geo *g;
	const struct mkfs_found *found;
	struct live_table *old;
	bool discard;
	/* May be NULL. Told before each piece of work; false: end it, with -EINTR. */
	bool (*step)(void *ctx, const char *what, uint64_t done, uint64_t total);
	void *step_ctx;
	uint64_t discarded_bytes; /* out */
	char discard_note[128];	  /* out: why that was not all, or "" */
};
int volume_make(struct mkfs_work *w, char *why, size_t why_len);
/* The same without discarding and without telling. */
int volume_write(struct dev *d, struct clock *clk, const struct geo *g, const struct mkfs_found *f,
		 struct live_table *old, char *why, size_t why_len);
/* The next group that keeps a superblock copy: 1 after 0, then the powers of 3, 5 and 7. */
uint64_t copy_group_after(uint64_t group);

/*
 * report.c. The layout for a person; and the one JSON object, of what there is of @r: NULL geo or
 * found are left out.
 */
struct mkfs_report {
	const struct mkfs_options *o;
	const struct dev *d;
	const struct mkfs_topology *topology;
	const struct geo *g;
	const struct mkfs_found *found;
	const struct mkfs_work *work; /* NULL: it did not come to writing */
	const char *error;	      /* NULL: all is well */
};
void report_layout(const struct mkfs_report *r);
void report_json(const struct mkfs_report *r);

/*
 * progress.c. Long work on a terminal: one line for each kind of work, with per cents, as mke2fs
 * has it; where nobody looks (@out is no terminal) just "done" for each. NULL @out: nothing.
 */
struct progress {
	FILE *out;
	bool terminal, open; /* open: a line without its end */
	char what[64];
	unsigned percent;
};
void progress_begin(struct progress *p, FILE *out);
void progress_show(struct progress *p, const char *what, uint64_t done, uint64_t total);
void progress_end(struct progress *p, bool good);

#endif
