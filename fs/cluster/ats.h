/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ATS: one atomic test and set of a sector whose every outcome is explained (DESIGN section 4).
 * This is the only code that calls dev_caw/dev_caw_batch. Works on any sector that begins with
 * struct lunfs_ats_hdr: (setter_nonce, image_seq) makes each image unique, so "equals an image we
 * tried to set" proves that our command landed.
 */
#ifndef CLUSTER_ATS_H
#define CLUSTER_ATS_H

#include "base/env.h"
#include "cluster/health.h"

enum ats_outcome {
	ATS_DONE,	 /* the device said GOOD */
	ATS_DONE_LATE,	 /* re-read shows an unresolved set image of ours: success */
	ATS_LOST_RACE,	 /* another owner's valid record stands there; it is in found[] */
	ATS_UNEXPLAINED, /* miscompare although the sector holds exactly test, even after retries */
	ATS_WENT_BACK,	 /* an older, resolved image of our own: the device lost or hid a write */
	ATS_DAMAGED,	 /* the record fails its checks in several reads and does not change */
	ATS_UNKNOWN,	 /* the command's fate cannot be told (yet); resolve with ats_resolve() */
	ATS_FENCED,	 /* reservation conflict */
	ATS_ERROR,	 /* the device failed or rejects the command; errno in *error */
	ATS_OUTCOMES,
};
const char *ats_outcome_name(enum ats_outcome o); /* stable words: "done", "done-late", ... */

static inline bool ats_ok(enum ats_outcome o)
{
	return o == ATS_DONE || o == ATS_DONE_LATE;
}

struct ats_stats {
	atomic_ullong outcome[ATS_OUTCOMES];
	atomic_ullong commands; /* COMPARE AND WRITE commands sent, retries included */
	atomic_ullong retries;
	atomic_ullong miscompares;	 /* answers; why, the re-read tells */
	atomic_ullong false_miscompares; /* of these: the sector held what was expected */
	atomic_ullong cause[DEV_CAUSES]; /* commands not carried out or of unknown fate */
};

/* What was said, and how much of its kind was not, so that a storm is one line now and then. */
#define ATS_TELLS ((unsigned)ATS_OUTCOMES + (unsigned)DEV_CAUSES)

struct ats { /* one per mounted volume */
	struct env env;
	struct ats_stats stats;
	uint64_t nonce; /* of this incarnation; set by ats_set_owner() */
	uint64_t owner; /* owner id, 0 before the claim */
	struct mtx mtx;
	uint64_t unexplained_in_a_row;
	bool unreliable;	     /* ATS failed unexplained too often, or went back */
	uint64_t told_ns[ATS_TELLS]; /* last sentence about such an outcome; errors: by cause */
	uint64_t untold[ATS_TELLS];  /* outcomes since, not logged */
	struct health health;
	/* For sentences: the host with this owner id, without I/O. NULL: only numbers are known. */
	const char *(*name_of)(void *ctx, uint64_t owner, char *buf, size_t len);
	void *name_ctx;
};

/*
 * The memory of one sector: images we tried to set whose fate is unknown. Kept by whoever owns the
 * sector (a lock, the slot) for as long as `unresolved` is not 0. Zero-initialised is valid.
 */
#define ATS_UNRESOLVED_MAX 4
struct ats_sector {
	uint64_t off_bytes;
	const char *kind;			     /* "lock", "slot", ... for messages */
	uint64_t addr;				     /* what it belongs to, for messages */
	unsigned unresolved;			     /* how many of the below */
	uint64_t unresolved_seq[ATS_UNRESOLVED_MAX]; /* image_seq, all with our nonce */
	uint64_t resolved_seq; /* highest image of ours known to have landed */
	uint64_t tried_seq;    /* highest image of ours that was ever sent */
};

/*
 * Without a struct ats, for mkfs and other offline code: check a sector as ats_check() does, and
 * stamp and seal the first image (image_seq 1, owner 0) round the record that @sector holds
 * already.
 */
int ats_hdr_check(const struct geo *g, const void *sector, enum lunfs_ats_type type,
		  uint64_t off_bytes);
void ats_hdr_format(const struct geo *g, void *sector, enum lunfs_ats_type type, uint64_t off_bytes,
		    uint64_t nonce);

void ats_init(struct ats *a, const struct env *env);
void ats_destroy(struct ats *a);
void ats_set_owner(struct ats *a, uint64_t nonce, uint64_t owner);
/* @name_of must not sleep long; it is called with no mutex held. NULL takes it back. */
void ats_set_names(struct ats *a,
		   const char *(*name_of)(void *ctx, uint64_t owner, char *buf, size_t len),
		   void *ctx);

/* Fill @hdr of a new image that follows @prev (NULL: sector never written). */
void ats_stamp(struct ats *a, struct lunfs_ats_hdr *hdr, const struct lunfs_ats_hdr *prev,
	       enum lunfs_ats_type type, uint64_t off_bytes);

/*
 * Check a sector read from disk: magic, type, vol_id, own offset, CRC, zero tail. 0 or -EUCLEAN.
 */
int ats_check(const struct ats *a, const void *sector, enum lunfs_ats_type type,
	      uint64_t off_bytes);

/*
 * Test and set @s. @test and @set are whole sectors (sector_bytes, 4096-aligned, first 512 bytes
 * the record); @set's header was filled by ats_stamp() and is sealed in here; its image_seq is
 * raised above those of unresolved images, so use @set (not a copy made before) as the next @test.
 * On DONE and DONE_LATE @set is exactly what stands on disk: where an older unresolved image of
 * ours had landed, it was replaced by @set; but not that of a lock which says something else than
 * @test: it may have given the lock away, and is a LOST_RACE. Except on UNKNOWN, FENCED and ERROR,
 * @found (a sector, may be NULL) holds what stands on disk. s->unresolved is 0 after DONE,
 * DONE_LATE, DAMAGED, UNEXPLAINED, and after LOST_RACE unless @test was itself an unresolved image.
 * Logs one sentence for each outcome that is not DONE or LOST_RACE, at most every few seconds a
 * kind. Sends again itself what had no effect for now (busy, task set full, unit attention, not
 * ready), what miscompared unexplained and what had no answer, each after a pause of its own
 * (ats_retry.c), bounded by the device deadline; a command without an answer is sent once more
 * after that. What the device rejects for good is never sent again. *@error is not 0 with UNKNOWN,
 * FENCED and ERROR; and with LOST_RACE if a command had no answer: @set may have stood there before
 * what does. Sleeps.
 */
enum ats_outcome ats(struct ats *a, struct ats_sector *s, const void *test, void *set, void *found,
		     int *error);

/*
 * Settle an UNKNOWN: read the sector and ATS from the present content to a fresh image (DESIGN 4:
 * a read never settles). @make builds the fresh image in @set from what stands there now (it may
 * keep everything but the header: return 0), or refuses (-errno) and the sector stays unknown.
 * On ats_ok() @found holds the image now on disk and s->unresolved is 0. *@error -EIO: the device
 * answers, and fails the read or the command; -ENODEV: it is gone. Waiting alone will not settle
 * it.
 */
enum ats_outcome ats_resolve(struct ats *a, struct ats_sector *s,
			     int (*make)(void *ctx, const void *now, void *set), void *ctx,
			     void *found, int *error);

struct ats_op { /* one element of a batch; same meanings */
	struct ats_sector *s;
	const void *test;
	void *set;
	void *found;
	enum ats_outcome outcome;
	int error;
};
void ats_batch(struct ats *a, struct ats_op *ops, size_t n);

#endif
