/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Renewal of a dead host's guards before its journal is replayed (DESIGN section 7): a fresh image
 * of the same possession shuts out whatever the dead host may still have on its way. Needs no
 * started lock layer: a host that is just claiming its slot recovers, too. Only holder and
 * possession decide, so a guard renewed before, by us or another recoverer, is renewed once more.
 */
#include "cluster/lock_impl.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 64u
#define ROUNDS 64u
#define PAGE_BYTES 4096u
#define NAP_NS 1000000ull

struct renewal { /* one guard of a batch */
	struct guard_renew *g;
	struct ats_sector sec;
	struct lunfs_lock_rec rec;
	uint8_t *test, *set, *found;
	bool done;
};

static bool still_held(const struct lunfs_lock_rec *r, uint64_t owner, uint64_t possession)
{
	return le16_get(r->mode) == LUNFS_LOCK_EXCL && le64_get(r->owner) == owner &&
	       le64_get(r->possession_seq) == possession;
}

/* @sector stands on disk: is there anything to renew? */
static int look_at(struct locks *ls, struct renewal *v, const void *sector, uint64_t dead)
{
	int rc = lock_rec_decode(ls->env.geo, sector, v->g->addr, &v->rec);

	if (rc)
		return rc;
	v->g->recorded_version = le64_get(v->rec.payload_version);
	v->g->live = still_held(&v->rec, dead, v->g->possession);
	v->done = !v->g->live;
	return 0;
}

static int keep_content(void *ctx, const void *now, void *set)
{
	(void)ctx;
	memcpy(set, now, REC_BYTES);
	return 0;
}

static int settle(struct locks *ls, struct renewal *v, uint64_t dead)
{
	int error = 0, rc;
	enum ats_outcome o = ats_resolve(ls->ats, &v->sec, keep_content, v, v->found, &error);

	if (!ats_ok(o))
		return o == ATS_DAMAGED ? -EUCLEAN : -EIO;
	rc = look_at(ls, v, v->found, dead);
	v->done = true; /* what stands there is a fresh image of ours */
	return rc;
}

static int after(struct locks *ls, struct renewal *v, const struct ats_op *op, uint64_t dead)
{
	switch (op->outcome) {
	case ATS_DONE:
	case ATS_DONE_LATE:
		v->done = true;
		return 0;
	case ATS_LOST_RACE:
		return look_at(ls, v, v->found, dead);
	case ATS_UNKNOWN:
		return settle(ls, v, dead);
	case ATS_DAMAGED:
		return -EUCLEAN;
	default:
		return -EIO;
	}
}

static int renew_round(struct locks *ls, struct renewal *v, size_t n, uint64_t dead)
{
	struct renewal *which[BATCH];
	struct ats_op op[BATCH];
	size_t k = 0;
	int rc = 0;

	for (size_t i = 0; i < n; i++) {
		if (v[i].done)
			continue;
		memset(v[i].test, 0, PAGE_BYTES);
		memset(v[i].set, 0, PAGE_BYTES);
		memcpy(v[i].test, &v[i].rec, REC_BYTES);
		memcpy(v[i].set, &v[i].rec, REC_BYTES);
		ats_stamp(ls->ats, (void *)v[i].set, &v[i].rec.hdr, LUNFS_ATS_LOCK,
			  v[i].sec.off_bytes);
		which[k] = &v[i];
		op[k++] = (struct ats_op){
		    .s = &v[i].sec, .test = v[i].test, .set = v[i].set, .found = v[i].found};
	}
	if (!k)
		return 0;
	ats_batch(ls->ats, op, k);
	for (size_t i = 0; i < k; i++) {
		int one = after(ls, which[i], &op[i], dead);

		rc = rc ? rc : one;
	}
	return rc ? rc : 1;
}

static int read_guards(struct locks *ls, struct renewal *v, size_t n, uint64_t dead)
{
	struct dev_io io[BATCH];
	int rc = 0;

	for (size_t i = 0; i < n; i++)
		io[i] = (struct dev_io){.op = DEV_READ,
					.off_bytes = v[i].sec.off_bytes,
					.len_bytes = ls->env.geo->sector_bytes,
					.buf = v[i].found};
	dev_batch(ls->env.dev, io, n);
	for (size_t i = 0; i < n && !rc; i++) {
		rc = io[i].result ? io[i].result : look_at(ls, &v[i], v[i].found, dead);
		if (rc)
			log_err(
			    "guard-unreadable",
			    "The lock record at block %llu cannot be read (%s); the journal that "
			    "refers to it is not replayed until it can.",
			    (unsigned long long)v[i].g->addr, strerror(-rc));
	}
	return rc;
}

static int renew_batch(struct locks *ls, uint64_t dead, struct guard_renew *g, size_t n)
{
	uint8_t *mem = dev_buf_alloc(n * 3 * PAGE_BYTES);
	struct renewal *v = calloc(n, sizeof(*v));
	int rc;

	lunfs_assert(v);
	for (size_t i = 0; i < n; i++) {
		v[i].g = &g[i];
		v[i].sec = (struct ats_sector){
		    .off_bytes = lock_off(g[i].addr), .kind = "lock", .addr = g[i].addr};
		v[i].test = mem + i * 3 * PAGE_BYTES;
		v[i].set = v[i].test + PAGE_BYTES;
		v[i].found = v[i].set + PAGE_BYTES;
	}
	rc = read_guards(ls, v, n, dead);
	if (!rc)
		rc = 1;
	for (unsigned i = 0; i < ROUNDS && rc == 1; i++) {
		if (i)
			clock_sleep_ns(ls->env.clk, NAP_NS);
		rc = renew_round(ls, v, n, dead);
	}
	free(v);
	free(mem);
	return rc == 1 ? -EIO : rc;
}

int locks_renew_guards(struct locks *ls, uint64_t dead_owner, struct guard_renew *g, size_t n)
{
	int rc = 0;

	for (size_t i = 0; i < n; i++) {
		g[i].live = false;
		g[i].recorded_version = 0;
		if (!cell_addr_ok(ls->env.geo, g[i].addr))
			return -EUCLEAN;
	}
	for (size_t i = 0; i < n && !rc; i += BATCH)
		rc = renew_batch(ls, dead_owner, g + i, n - i < BATCH ? n - i : BATCH);
	return rc;
}
