/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading of cells, and what is checked of every lock record. */
#include "base/crc.h"
#include "fsck/fsck.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int peek_cell(struct fsck *f, uint64_t addr, void *sector, void *payload)
{
	const uint8_t *cell = window_cell(f, addr);
	uint8_t *buf = NULL;
	int rc = 0;

	if (!cell) {
		cell = buf = dev_buf_alloc(geo_cell_bytes(&f->geo));
		rc = store_read(&f->store, geo_blk_off(addr), geo_cell_bytes(&f->geo), buf);
	}
	if (rc == 0) {
		memcpy(sector, cell, f->geo.sector_bytes);
		memcpy(payload, cell + f->geo.payload_off, LUNFS_PAYLOAD_BYTES);
		store_patch(&f->store, geo_blk_off(addr), f->geo.sector_bytes, sector);
		store_patch(&f->store, geo_payload_off(&f->geo, addr), LUNFS_PAYLOAD_BYTES,
			    payload);
	}
	free(buf);
	return rc;
}

int read_cell(struct fsck *f, uint64_t addr, void *sector, void *payload)
{
	int rc = peek_cell(f, addr, sector, payload);

	if (rc && problem(&f->problems, PROBLEM_READ, addr, "cell %llu: %s",
			  (unsigned long long)addr, strerror(-rc)))
		lose_cell(f, addr);
	return rc;
}

/* ---- lock records ---------------------------------------------------------------------------- */

static bool owner_possible(struct fsck *f, uint64_t owner)
{
	unsigned slot = LUNFS_OWNER_SLOT(owner);

	if (owner == 0)
		return true;
	if (slot >= geo_all_slots(&f->geo) || LUNFS_OWNER_GEN(owner) >= LUNFS_GEN_LIMIT - 1)
		return false;
	return !f->slot_ok[slot] || LUNFS_OWNER_GEN(owner) <= f->slot[slot].generation;
}

/* 0: there is none, or it is damaged. */
static uint64_t version_of(const struct fsck *f, uint64_t addr, const void *payload)
{
	const struct lunfs_blk_hdr *h = payload;

	if (!h || blk_check(&f->geo, h, le16_get(h->type), addr))
		return 0;
	return le64_get(h->version);
}

static bool record_bad(struct fsck *f, uint64_t addr, const void *sector,
		       struct lunfs_lock_rec *rec)
{
	return lock_rec_decode(&f->geo, sector, addr, rec) &&
	       problem(&f->problems, PROBLEM_LOCK_RECORD, addr, "lock of cell %llu",
		       (unsigned long long)addr);
}

static bool owner_bad(struct fsck *f, uint64_t addr, const struct lunfs_lock_rec *rec)
{
	uint64_t owner = le64_get(rec->owner);

	if (owner_possible(f, owner) && owner_possible(f, le64_get(rec->ex_pending)))
		return false;
	return problem(&f->problems, PROBLEM_LOCK_OWNER, addr,
		       "lock of cell %llu is held by slot %u, generation %llu",
		       (unsigned long long)addr, LUNFS_OWNER_SLOT(owner),
		       (unsigned long long)LUNFS_OWNER_GEN(owner));
}

static bool version_bad(struct fsck *f, uint64_t addr, const struct lunfs_lock_rec *rec,
			uint64_t version)
{
	if (!version || version >= le64_get(rec->payload_version))
		return false;
	return problem(&f->problems, PROBLEM_LOST_WRITE, addr,
		       "cell %llu holds version %llu, its lock was released at version %llu",
		       (unsigned long long)addr, (unsigned long long)version,
		       (unsigned long long)le64_get(rec->payload_version));
}

int check_lock(struct fsck *f, uint64_t addr, const void *sector, const void *payload)
{
	uint64_t version = version_of(f, addr, payload);
	struct lunfs_lock_rec rec;

	memset(&rec, 0, sizeof(rec));
	if (record_bad(f, addr, sector, &rec))
		return write_lock(f, addr, version);
	if (owner_bad(f, addr, &rec))
		return write_lock(f, addr, version);
	note_generation(f, LUNFS_OWNER_GEN(le64_get(rec.owner)));
	return version_bad(f, addr, &rec, version) ? write_lock(f, addr, version) : 0;
}

bool lock_fine(struct fsck *f, const struct cell_fact *x, bool own)
{
	if (!x->lock_ok || !owner_possible(f, x->owner) || !owner_possible(f, x->ex_pending) ||
	    (own && x->sealed && x->version && x->version < x->payload_version))
		return false;
	note_generation(f, LUNFS_OWNER_GEN(x->owner));
	return true;
}

/* ---- changing -------------------------------------------------------------------------------- */

/* The highest version that the payload or the lock record of a cell mentions, damaged or not. */
static uint64_t version_seen(struct fsck *f, uint64_t addr)
{
	uint8_t *buf = dev_buf_alloc(geo_cell_bytes(&f->geo));
	uint64_t version = 0, recorded = 0;
	struct lunfs_lock_rec rec;

	if (store_read(&f->store, geo_blk_off(addr), geo_cell_bytes(&f->geo), buf) == 0) {
		const struct lunfs_blk_hdr *h = (const void *)(buf + f->geo.payload_off);

		if (blk_check(&f->geo, h, le16_get(h->type), addr) == 0)
			version = le64_get(h->version);
		if (lock_rec_decode(&f->geo, buf, addr, &rec) == 0)
			recorded = le64_get(rec.payload_version);
	}
	free(buf);
	return version > recorded ? version : recorded;
}

int write_lock(struct fsck *f, uint64_t addr, uint64_t payload_version)
{
	uint8_t *sector = dev_buf_alloc(f->geo.sector_bytes);
	struct lunfs_lock_rec *rec = (void *)sector;
	int rc;

	lock_format(&f->geo, addr, f->nonce, sector);
	rec->payload_version = le64_make(payload_version);
	crc_seal(rec, sizeof(*rec), offsetof(struct lunfs_ats_hdr, crc));
	rc = store_write(&f->store, geo_blk_off(addr), f->geo.sector_bytes, sector);
	free(sector);
	return rc;
}

int write_cell(struct fsck *f, uint64_t addr, void *payload, bool lock)
{
	struct lunfs_blk_hdr *h = payload;
	uint64_t version = version_seen(f, addr) + 1;
	int rc;

	h->version = le64_make(version);
	blk_seal(payload);
	rc = store_write(&f->store, geo_payload_off(&f->geo, addr), LUNFS_PAYLOAD_BYTES, payload);
	return rc == 0 && lock ? write_lock(f, addr, version) : rc;
}

int lose_cell(struct fsck *f, uint64_t addr)
{
	uint8_t *cell = dev_buf_alloc(geo_cell_bytes(&f->geo));
	uint8_t payload[LUNFS_PAYLOAD_BYTES] = {0};
	int rc = store_write(&f->store, geo_blk_off(addr), geo_cell_bytes(&f->geo), cell);

	free(cell);
	blk_init(&f->geo, payload, LUNFS_BLK_FREE, addr, 0, addr, 0);
	return rc ? rc : write_cell(f, addr, payload, true);
}

/* ---- progress -------------------------------------------------------------------------------- */

void progress(struct fsck *f, const char *pass, uint64_t done, uint64_t total)
{
	unsigned percent = total ? (unsigned)(done * 100 / total) : 100;

	if (!f->progress || (percent == f->percent && f->progress_of == pass))
		return;
	f->percent = percent;
	f->progress_of = pass;
	if (f->progress_fd)
		dprintf(f->progress_fd, "%s %llu %llu\n", pass, (unsigned long long)done,
			(unsigned long long)total);
	else if (percent < 100)
		fprintf(stderr, "\r\033[K%-10s %3u%%", pass, percent);
	else
		fprintf(stderr, "\r\033[K");
}
