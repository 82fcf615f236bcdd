/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What atomic operations cost and how they ended: counters, histograms, and the log's sentences. */
#include "cluster/ats_impl.h"

#include "base/log.h"

#define TELL_EVERY_NS 5000000000ull /* at most one sentence of a kind in this time */

const char *ats_outcome_name(enum ats_outcome o)
{
	static const char *const names[ATS_OUTCOMES] = {
	    [ATS_DONE] = "done",	   [ATS_DONE_LATE] = "done-late",
	    [ATS_LOST_RACE] = "lost-race", [ATS_UNEXPLAINED] = "unexplained",
	    [ATS_WENT_BACK] = "went-back", [ATS_DAMAGED] = "damaged",
	    [ATS_UNKNOWN] = "unknown",	   [ATS_FENCED] = "fenced",
	    [ATS_ERROR] = "error",
	};

	return (unsigned)o < ATS_OUTCOMES ? names[o] : "invalid";
}

static void hist_add(atomic_ullong *hist, uint64_t us)
{
	unsigned i = 0;

	while (i < ATS_HIST_BUCKETS - 1 && us >= 1ull << i)
		i++;
	atomic_fetch_add(&hist[i], 1);
}

void ats_count_command(struct ats_try *t, uint64_t ready_ns, uint64_t sent_ns, uint64_t done_ns)
{
	struct ats_stats *st = &t->a->stats;
	uint64_t device_us = (done_ns - sent_ns) / 1000;
	unsigned long long max = atomic_load(&st->max_device_us);

	atomic_fetch_add(&st->commands, 1);
	if (t->commands++)
		atomic_fetch_add(&st->retries, 1);
	hist_add(st->hist_queue, (sent_ns - ready_ns) / 1000);
	hist_add(st->hist_device, device_us);
	while (device_us > max &&
	       !atomic_compare_exchange_weak(&st->max_device_us, &max, device_us))
		;
}

static const char *cause(enum ats_outcome o)
{
	switch (o) {
	case ATS_DONE_LATE:
		return "an earlier command had no answer or a wrong one, yet it had landed; taken "
		       "as "
		       "done";
	case ATS_UNEXPLAINED:
		return "the device reports a miscompare although the sector holds exactly what was "
		       "expected; given up after several attempts";
	case ATS_WENT_BACK:
		return "the sector shows an older state that was replaced long ago: a lost write, "
		       "a "
		       "stale cache or a roll-back of the array; do not write to this device "
		       "before that is explained";
	case ATS_DAMAGED:
		return "the record fails its checks and does not change; run fsck.lunfs";
	case ATS_UNKNOWN:
		return "the command had no answer within the deadline and may still land; it will "
		       "be settled before anything relies on it";
	case ATS_FENCED:
		return "reservation conflict: this host was fenced by another";
	default:
		return "the device failed the command";
	}
}

static void tell(struct ats_try *t, enum ats_outcome o, uint64_t untold)
{
	static const char *const events[ATS_OUTCOMES] = {
	    [ATS_DONE_LATE] = "ats-done-late", [ATS_UNEXPLAINED] = "ats-unexplained",
	    [ATS_WENT_BACK] = "ats-went-back", [ATS_DAMAGED] = "ats-damaged",
	    [ATS_UNKNOWN] = "ats-unknown",     [ATS_FENCED] = "ats-fenced",
	    [ATS_ERROR] = "ats-error",
	};
	const struct lunfs_ats_hdr *hdr = t->now ? t->now : t->test;
	uint64_t owner = le64_get(hdr->setter_owner);
	enum log_level lvl = o == ATS_DONE_LATE ? LOG_LVL_INFO : LOG_LVL_WARN;

	log_msg(lvl, events[o],
		"Atomic update of the sector at byte %llu of %s (%s %llu, last set by slot %u "
		"generation %llu): %s (error %d, %u commands sent, %llu more like this since the "
		"last report).",
		(unsigned long long)t->s->off_bytes, t->a->env.dev->id.name,
		t->s->kind ? t->s->kind : "sector", (unsigned long long)t->s->addr,
		LUNFS_OWNER_SLOT(owner), (unsigned long long)LUNFS_OWNER_GEN(owner), cause(o),
		t->error, t->commands, (unsigned long long)untold);
}

void ats_count_outcome(struct ats_try *t, enum ats_outcome o)
{
	struct ats *a = t->a;
	uint64_t now = clock_now_ns(a->env.clk), untold = 0;
	bool say;

	atomic_fetch_add(&a->stats.outcome[o], 1);
	if (o == ATS_DONE || o == ATS_LOST_RACE)
		return;
	mtx_lock(&a->mtx);
	say = !a->told_ns[o] || now - a->told_ns[o] >= TELL_EVERY_NS;
	if (say) {
		a->told_ns[o] = now ? now : 1;
		untold = a->untold[o];
		a->untold[o] = 0;
	} else {
		a->untold[o]++;
	}
	mtx_unlock(&a->mtx);
	if (say)
		tell(t, o, untold);
}
