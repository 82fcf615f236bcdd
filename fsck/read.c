/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading of cells, and what is checked of every lock record. */
#include "fsck/fsck.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int read_cell(struct fsck *f, uint64_t addr, void *sector, void *payload)
{
	uint8_t *buf = dev_buf_alloc(geo_cell_bytes(&f->geo));
	int rc = dev_read(f->dev, geo_blk_off(addr), geo_cell_bytes(&f->geo), buf);

	if (rc)
		problem(&f->problems, PROBLEM_READ, addr, "cell %llu: %s", (unsigned long long)addr,
			strerror(-rc));
	else {
		memcpy(sector, buf, sizeof(struct lunfs_lock_rec));
		memcpy(payload, buf + f->geo.payload_off, LUNFS_PAYLOAD_BYTES);
	}
	free(buf);
	return rc;
}

static bool owner_possible(struct fsck *f, uint64_t owner)
{
	unsigned slot = LUNFS_OWNER_SLOT(owner);

	if (owner == 0)
		return true;
	if (slot >= geo_all_slots(&f->geo))
		return false;
	return !f->slot_ok[slot] || LUNFS_OWNER_GEN(owner) <= f->slot[slot].generation;
}

void check_lock(struct fsck *f, uint64_t addr, const void *sector, uint64_t payload_version)
{
	uint8_t *full = dev_buf_alloc(f->geo.sector_bytes);
	struct lunfs_lock_rec rec;
	int rc;

	memcpy(full, sector, sizeof(rec));
	rc = lock_rec_decode(&f->geo, full, addr, &rec);
	free(full);
	if (rc) {
		problem(&f->problems, PROBLEM_LOCK_RECORD, addr, "lock of cell %llu",
			(unsigned long long)addr);
		return;
	}
	if (!owner_possible(f, le64_get(rec.owner)) || !owner_possible(f, le64_get(rec.ex_pending)))
		problem(&f->problems, PROBLEM_LOCK_OWNER, addr,
			"lock of cell %llu is held by slot %u, generation %llu",
			(unsigned long long)addr, LUNFS_OWNER_SLOT(le64_get(rec.owner)),
			(unsigned long long)LUNFS_OWNER_GEN(le64_get(rec.owner)));
	if (payload_version && payload_version < le64_get(rec.payload_version))
		problem(&f->problems, PROBLEM_LOST_WRITE, addr,
			"cell %llu holds version %llu, its lock was released at version %llu",
			(unsigned long long)addr, (unsigned long long)payload_version,
			(unsigned long long)le64_get(rec.payload_version));
}

void progress(struct fsck *f, const char *pass, uint64_t done, uint64_t total)
{
	if (!f->progress)
		return;
	if (done >= total)
		fprintf(stderr, "\r%-10s done                    \n", pass);
	else if (done % 64 == 0)
		fprintf(stderr, "\r%-10s %3llu%%", pass,
			(unsigned long long)(total ? done * 100 / total : 100));
}
