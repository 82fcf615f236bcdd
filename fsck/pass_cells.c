/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Metadata chunks and every cell in them: lock records, payloads of used cells. Fills cell_used[]
 * and the table of inodes.
 */
#include "base/bitmap.h"
#include "fsck/fsck.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int note_inode(struct fsck *f, uint64_t addr, const void *payload)
{
	struct fsck_inode *fi;
	struct inode in;

	if (inode_decode(&f->geo, payload, addr, &in)) {
		problem(&f->problems, PROBLEM_INODE, addr, "inode %llu", (unsigned long long)addr);
		return 0;
	}
	fi = inode_add(f, addr);
	if (!fi)
		return -ENOMEM;
	fi->generation = in.generation;
	fi->parent = in.parent;
	fi->size = in.size;
	fi->blks = in.blks;
	fi->mode = in.mode;
	fi->nlink = in.nlink;
	fi->flags = in.flags;
	fi->orphan_slot = in.orphan_slot;
	return 0;
}

static int check_used(struct fsck *f, uint64_t addr, uint64_t header, const void *payload)
{
	const struct lunfs_blk_hdr *h = payload;
	uint16_t type = le16_get(h->type);

	if (type != LUNFS_BLK_INODE && type != LUNFS_BLK_BTREE && type != LUNFS_BLK_CHUNK)
		type = LUNFS_BLK_INODE; /* blk_check says no */
	if (blk_check(&f->geo, payload, type, addr) ||
	    (type == LUNFS_BLK_CHUNK && addr != header)) {
		problem(&f->problems, PROBLEM_CELL, addr, "cell %llu", (unsigned long long)addr);
		return 0;
	}
	return type == LUNFS_BLK_INODE ? note_inode(f, addr, payload) : 0;
}

static int check_cell(struct fsck *f, struct fsck_group *fg, uint64_t addr, uint64_t header,
		      bool used, const uint8_t *cell)
{
	const uint8_t *payload = cell + f->geo.payload_off;
	const struct lunfs_blk_hdr *h = (const void *)payload;
	uint32_t bit;

	map_refer(f, addr, f->geo.cell_blks, header);
	/* A cell that is not in use may hold any past of itself: its version need not be current.
	 */
	check_lock(f, addr, cell, used && le64_get(h->guard) == addr ? le64_get(h->version) : 0);
	if (!used) {
		f->cells_free++;
		return 0;
	}
	f->cells_used++;
	if (map_find(f, addr, &bit) == fg) {
		bit_set(fg->cell_used, bit);
		if (addr == header)
			bit_set(fg->cell_claimed, bit);
	}
	return check_used(f, addr, header, payload);
}

static int check_cells(struct fsck *f, struct fsck_group *fg, const struct chunk_info *ci,
		       uint64_t header)
{
	uint32_t cell_bytes = geo_cell_bytes(&f->geo);
	uint8_t *buf = dev_buf_alloc(cell_bytes);
	unsigned used = 0;
	int rc = 0;

	for (unsigned n = 0; n < LUNFS_CHUNK_CELLS && !rc; n++) {
		uint64_t addr = ci->first_blk + (uint64_t)n * f->geo.cell_blks;

		if (!bit_get(ci->valid, n))
			continue;
		if (store_read(&f->store, geo_blk_off(addr), cell_bytes, buf)) {
			problem(&f->problems, PROBLEM_READ, addr, "cell %llu",
				(unsigned long long)addr);
			continue;
		}
		used += bit_get(ci->used, n);
		rc = check_cell(f, fg, addr, header, bit_get(ci->used, n), buf);
	}
	free(buf);
	if (ci->cells - ci->free_cells != used)
		problem(&f->problems, PROBLEM_CHUNK_COUNT, header,
			"chunk %llu says %u of %u cells are free, its map says %u are used",
			(unsigned long long)header, ci->free_cells, ci->cells, used);
	return rc;
}

static int check_chunk(struct fsck *f, uint64_t g, unsigned window)
{
	struct fsck_group *fg = &f->group[g];
	uint32_t cb = f->geo.cell_blks;
	uint64_t first = geo_group_blk(&f->geo, g) + (uint64_t)window * LUNFS_CHUNK_CELLS * cb;
	uint64_t header = first + (uint64_t)(fg->chunk[window] - 1u) * cb;
	uint8_t sector[512], payload[LUNFS_PAYLOAD_BYTES];
	struct chunk_info ci;

	if (read_cell(f, header, sector, payload))
		return 0;
	if (blk_check(&f->geo, payload, LUNFS_BLK_CHUNK, header) ||
	    chunk_decode(&f->geo, payload, header, &ci) || ci.first_blk != first) {
		problem(&f->problems, PROBLEM_CHUNK, header, "chunk %llu of group %llu",
			(unsigned long long)header, (unsigned long long)g);
		return 0;
	}
	return check_cells(f, fg, &ci, header);
}

int pass_cells(struct fsck *f)
{
	for (uint64_t g = 0; g < f->watermark; g++) {
		for (unsigned w = 0; w < LUNFS_GROUP_WINDOWS; w++) {
			int rc = f->group[g].chunk[w] ? check_chunk(f, g, w) : 0;

			if (rc)
				return rc;
		}
		progress(f, "cells", g, f->watermark);
	}
	progress(f, "cells", 1, 1);
	return 0;
}
