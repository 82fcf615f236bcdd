/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of the device check share.
 *
 * The scratch area, in cells of 4096 bytes: 0 is left to dev_caw_probe(), which every mount calls;
 * then the member records (member.c), one for each check that is running; then the counters that
 * members contend for together; then each member's own cells. Whatever is written carries the
 * number of its run, so what another check wrote is never taken for a fault of the device.
 */
#ifndef CHECK_CHECK_IMPL_H
#define CHECK_CHECK_IMPL_H

#include "check/check.h"

#include "base/log.h"
#include "cluster/pr.h"

#include <errno.h>
#include <lunfs/format.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS_NS 1000000ull
#define S_NS 1000000000ull

#define CELL_BYTES 4096u
#define MEMBER_CELL 1u
#define MEMBERS CHECK_HOSTS_MAX
#define SHARED_CELL (MEMBER_CELL + MEMBERS)
#define COUNTERS 4u
#define OWN_CELL (SHARED_CELL + COUNTERS)
/*
 * Each test has cells of its own, so that a write of unknown fate that lands late harms none of the
 * others.
 */
enum own_cell { OWN_TRIO = 0, OWN_READS = 3, OWN_LATENCY = 5, OWN_COUNTERS = 7, OWN_CELLS = 9 };
#define OWN_COUNTERS_N 2u
static_assert((OWN_CELL + MEMBERS * OWN_CELLS) * CELL_BYTES <= LUNFS_SCRATCH_BYTES, "scratch");

#define WHY_BYTES 400u
#define TRIES 5u

/* ---- sectors (image.c) ------------------------------------------------------------------------
 */

struct image {
	uint64_t run;	 /* number of the check, or of the group of hosts, that set it */
	uint64_t setter; /* who in that run; with .seq unique */
	uint64_t seq;
	uint64_t value;
};

enum image_is {
	IMAGE_OURS,    /* of the run that was asked for */
	IMAGE_FOREIGN, /* whole, but another run's */
	IMAGE_MOVED,   /* whole, but made for another sector */
	IMAGE_BROKEN,  /* torn, or no image at all */
};

void image_make(void *sector, uint32_t len_bytes, uint64_t off_bytes, const struct image *img);
/* @out is filled for IMAGE_OURS and IMAGE_FOREIGN. */
enum image_is image_read(const void *sector, uint32_t len_bytes, uint64_t off_bytes, uint64_t run,
			 struct image *out);

/* ---- latencies (hist.c) ---------------------------------------------------------------------- */

enum lat_op { LAT_READ, LAT_WRITE, LAT_FLUSH, LAT_CAW, LAT_CAW_BUSY, LAT_OPS };
#define HIST_BUCKETS 288u

struct hist { /* eight buckets for each doubling of microseconds; counted without a lock */
	atomic_ullong bucket[HIST_BUCKETS];
	atomic_ullong n, max_ns;
};

void hist_add(struct hist *h, uint64_t ns);
uint64_t hist_percentile_us(const struct hist *h, unsigned percent); /* upper bound; 0: empty */
uint64_t hist_max_us(const struct hist *h);

/* ---- the check ------------------------------------------------------------------------------- */

enum key_state { KEY_NONE, KEY_BEING_MADE, KEY_MADE, KEY_FAILED };

struct session {
	struct dev *dev;
	struct pr_temporary pr; /* changed by who set .key to KEY_BEING_MADE */
	enum key_state key;	/* c->mtx */
};

enum member_state {
	MEMBER_ALONE = 1,   /* looks for nobody */
	MEMBER_JOINING = 2, /* looks for others */
	MEMBER_READY = 3,   /* sees them: .group is agreed on */
	MEMBER_RUNNING = 4, /* the first of the group says go */
	MEMBER_DONE = 5,    /* .success and .unknown are final */
	MEMBER_SEEN = 6,    /* has read those of all others */
};

struct member { /* a record in core */
	uint64_t nonce, beat, group, boot;
	enum member_state state;
	unsigned hosts;
	uint64_t success[COUNTERS], unknown[COUNTERS];
	char host[64];
};

struct check {
	struct check_config cfg;
	struct check_facts facts;
	struct clock *clk;
	atomic_bool stopped;
	uint64_t run; /* this check's number: random */
	uint32_t sector;
	unsigned sessions, tasks;
	struct session s[CHECK_SESSIONS_MAX];
	struct hist lat[LAT_OPS];
	atomic_ullong timeouts, answered_ns; /* when the last answer came */
	atomic_bool silent;		     /* none comes any more */
	bool no_caw;	/* the device rejects COMPARE AND WRITE, or it cannot be relied on at all */
	bool caw_tried; /* at least one was answered as it should be */
	unsigned cell;	/* of our member record, of MEMBERS */
	bool joined;

	struct mtx mtx; /* for all below; never held across I/O */
	struct cond cv;
	struct check_result result[CHECK_RESULTS_MAX];
	unsigned results;
	char disturbed[WHY_BYTES]; /* why results cannot be trusted; "" */
	struct member me;
	bool member_writing, beat_end;
	struct task *beat;
	uint64_t start_ns;
	unsigned percent;
};

/* check.c */
void result_init(struct check_result *r, const char *name);
void result_say(struct check_result *r, enum check_grade g, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void result_advise(struct check_result *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void result_value(struct check_result *r, const char *key, uint64_t value);
void result_add(struct check *c, const struct check_result *r);
/* Another program wrote where only this check should. The first such sentence stays. */
void check_disturbed(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool check_is_disturbed(struct check *c);
/* Fill @r in the place of a verdict that cannot be given (disturbed, stopped); false: it can. */
bool result_excused(struct check *c, struct check_result *r);
void check_progress(struct check *c, const char *what, unsigned percent);
bool check_over(const struct check *c); /* told to stop, or the device is silent */
uint64_t check_now(const struct check *c);
void check_nap(const struct check *c, uint64_t ns);
uint64_t check_random(const struct check *c);
/* A share of the whole time. */
uint64_t check_share_ns(const struct check *c, unsigned percent);

/*
 * io.c: commands through session @s. What had no effect is sent again for a while; a reservation
 * conflict makes a temporary key, then it is sent again. -ETIMEDOUT: fate unknown.
 */
int io_read(struct check *c, unsigned s, uint64_t off_bytes, size_t len_bytes, void *buf);
int io_write(struct check *c, unsigned s, uint64_t off_bytes, size_t len_bytes, const void *buf);
int io_flush(struct check *c, unsigned s);
int io_caw(struct check *c, unsigned s, uint64_t off_bytes, const void *test, const void *set);
/* The same, its latency counted as @op's; 0 as well as what it returns otherwise. */
int io_caw_as(struct check *c, unsigned s, uint64_t off_bytes, const void *test, const void *set,
	      enum lat_op op);
const char *io_error(int err); /* in plain words */
int sessions_open(struct check *c);
/* Keys for all sessions, where they may be needed. */
int sessions_register(struct check *c, char *why, size_t why_len);
void sessions_close(struct check *c);

/* member.c */
static inline uint64_t cell_off(unsigned cell)
{
	return LUNFS_SCRATCH_OFF + (uint64_t)cell * CELL_BYTES;
}
static inline uint64_t own_off(const struct check *c, unsigned i)
{
	return cell_off(OWN_CELL + c->cell * OWN_CELLS + i);
}
static inline uint64_t shared_off(unsigned counter)
{
	return cell_off(SHARED_CELL + counter);
}
/* Take a free record and begin to beat in it. 0, or the result says why not. */
int member_join(struct check *c, struct check_result *r);
void member_leave(struct check *c);
/* Write our record with what is in c->me now, +1 beat. */
int member_publish(struct check *c);
/* All records as they stand; those that cannot be decoded have nonce 0. */
int members_read(struct check *c, struct member out[MEMBERS]);
#define MEMBER_BEAT_NS (250 * MS_NS)
#define MEMBER_STALE_NS (8 * S_NS)

/* The tests; each adds its results. */
void test_facts(struct check *c);	 /* facts.c */
void test_claim(struct check *c);	 /* facts.c: the claim against what was seen */
void test_caw(struct check *c);		 /* caw.c */
void test_reads(struct check *c);	 /* reads.c */
void test_latency(struct check *c);	 /* latency.c: nobody else on the device, from here */
void test_timing(struct check *c);	 /* latency.c: what was measured against the timing */
void test_atomic(struct check *c);	 /* atomic.c */
void test_atomic_again(struct check *c); /* atomic.c: after one was refused */
void test_hosts(struct check *c);	 /* hosts.c */
void test_reservations(struct check *c); /* reserve.c */
void test_discard(struct check *c);	 /* discard.c */

/* ---- contention (atomic.c), for test_atomic() and test_hosts() ------------------------------- */

struct arena_sum { /* of all tasks */
	uint64_t tries, success, miscompare, busy, unknown, false_miscompare, sent_twice, torn;
	uint64_t success_at[COUNTERS], unknown_at[COUNTERS];
	bool failed; /* a fault that nothing excuses: @r of arena_run() says which */
	uint64_t sessions, tasks;
	bool one_machine;
};
/* Write fresh counters (value 0) of @run at @off. 0 or -errno. */
int arena_prepare(struct check *c, uint64_t run, const uint64_t *off, unsigned n);
/* All sessions and tasks count up until @until_ns. On a fault @r is filled. */
void arena_run(struct check *c, uint64_t run, const uint64_t *off, unsigned n, uint64_t until_ns,
	       struct arena_sum *sum, struct check_result *r);
/*
 * Read by every session: do the counters show @success, give or take @unknown? @what names the
 * contenders ("4 sessions"). Fills @r on a fault and returns false.
 */
bool arena_verify(struct check *c, uint64_t run, const uint64_t *off, unsigned n,
		  const struct arena_sum *sum, const char *what, struct check_result *r);
void arena_judge(const struct arena_sum *sum, const char *what, struct check_result *r);

#endif
