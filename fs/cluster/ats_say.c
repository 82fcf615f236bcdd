/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sentences about atomic operations that did not simply succeed. Each says which resource in
 * which sector, what the record there says of its owner, what the device did, what lunfs did about
 * it, and what to look at.
 */
#include "base/log.h"
#include "cluster/ats_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES 160u
#define PART_BYTES 320u

static const char *name_of(const struct ats *a, uint64_t owner, char buf[NAME_BYTES])
{
	const char *name = a->name_of ? a->name_of(a->name_ctx, owner, buf, NAME_BYTES) : NULL;

	if (!owner)
		return "nobody";
	if (name)
		return name;
	snprintf(buf, NAME_BYTES, "slot %u, generation %" PRIu64, LUNFS_OWNER_SLOT(owner),
		 LUNFS_OWNER_GEN(owner));
	return buf;
}

/* ---- which resource ------------------------------------------------------------------------ */

static void lock_text(const struct geo *g, uint64_t addr, char *buf, size_t len)
{
	static const char *const anchor[LUNFS_ANCHORS] = {"volume lock", "rename lock",
							  "lock of the group watermark"};
	uint64_t group;

	for (unsigned i = 0; i < LUNFS_ANCHORS; i++) {
		if (addr == geo_anchor_cell((enum lunfs_anchor)i)) {
			snprintf(buf, len, "The update of the %s", anchor[i]);
			return;
		}
	}
	group = g->group_blks && addr >= g->group0_blk ? geo_group_of(g, addr) : UINT64_MAX;
	if (group != UINT64_MAX && addr == geo_group_header(g, group))
		snprintf(buf, len, "The update of the lock of group %" PRIu64, group);
	else
		snprintf(buf, len, "The update of the lock of inode (or chunk) %" PRIu64, addr);
}

static void resource_text(const struct ats_try *t, char *buf, size_t len)
{
	const struct lunfs_ats_hdr *set = t->set;
	uint64_t addr = t->s->addr;

	switch (le16_get(set->type)) {
	case LUNFS_ATS_LOCK:
		lock_text(t->a->env.geo, addr, buf, len);
		break;
	case LUNFS_ATS_SLOT:
		snprintf(buf, len,
			 t->op == HEALTH_BEAT ? "The beat of this host in slot %" PRIu64
					      : "The update of slot %" PRIu64 " of the host table",
			 addr);
		break;
	default:
		snprintf(buf, len, "The update of the %s %" PRIu64,
			 t->s->kind ? t->s->kind : "sector", addr);
	}
}

/* ---- whose record -------------------------------------------------------------------------- */

static void lock_owner_text(const struct ats_try *t, const struct lunfs_lock_rec *r, char *buf,
			    size_t len)
{
	uint64_t setter = le64_get(r->hdr.setter_owner), owner = le64_get(r->owner);
	const struct ats *a = t->a;
	char name[NAME_BYTES];

	switch (le16_get(r->mode)) {
	case LUNFS_LOCK_EXCL:
		snprintf(buf, len, "held by %s", name_of(a, owner, name));
		break;
	case LUNFS_LOCK_FREE:
		snprintf(buf, len, "free, last set by %s", name_of(a, setter, name));
		break;
	default:
		snprintf(buf, len, "shared, last set by %s", name_of(a, setter, name));
	}
}

static void slot_owner_text(const struct ats_try *t, const struct lunfs_slot_rec *r, char *buf,
			    size_t len)
{
	uint64_t gen = le64_get(r->generation), recoverer = le64_get(r->recoverer);
	char host[LUNFS_HOSTNAME_BYTES + 1] = "", name[NAME_BYTES];
	unsigned state = le16_get(r->state);

	for (unsigned i = 0; i < LUNFS_HOSTNAME_BYTES && r->hostname[i]; i++) {
		uint8_t c = r->hostname[i];

		host[i] = c > 0x20 && c < 0x7f ? (char)c : '?';
		host[i + 1] = '\0';
	}
	if (state == LUNFS_SLOT_RECOVERING)
		snprintf(buf, len, "of host %s, generation %" PRIu64 ", being recovered by %s",
			 host, gen, name_of(t->a, recoverer, name));
	else
		snprintf(buf, len, "%s host %s, generation %" PRIu64,
			 state == LUNFS_SLOT_LIVE ? "of" : "free, last of", host, gen);
}

/* What the record says that stands there or, where that is not known, the one that was expected. */
static void owner_text(const struct ats_try *t, enum ats_outcome o, char *buf, size_t len)
{
	bool now = t->now_valid && o != ATS_DAMAGED;
	const struct lunfs_ats_hdr *rec = now ? t->now : t->test;
	const char *when = now ? "now" : "as last seen,";
	char text[PART_BYTES - 16], name[NAME_BYTES];

	switch (le16_get(rec->type)) {
	case LUNFS_ATS_LOCK:
		lock_owner_text(t, (const void *)rec, text, sizeof(text));
		break;
	case LUNFS_ATS_SLOT:
		slot_owner_text(t, (const void *)rec, text, sizeof(text));
		break;
	default:
		snprintf(text, sizeof(text), "last set by %s",
			 name_of(t->a, le64_get(rec->setter_owner), name));
	}
	snprintf(buf, len, "%s %s", when, text);
}

/* ---- what happened, what was done, what to look at ----------------------------------------- */

struct words {
	const char *what; /* NULL: it depends, what_text() */
	const char *did, *look;
};

static const struct words of_outcome[ATS_OUTCOMES] = {
    [ATS_DONE_LATE] = {NULL, "a re-read shows this host's own image, so it counts as done",
		       "if this goes on, look for answers that get lost below: messages of the "
		       "kernel about the disk and its paths"},
    [ATS_UNEXPLAINED] =
	{"was answered with a miscompare each time although the sector holds "
	 "exactly what was expected",
	 "it was given up and counts as not done; when that happens several times "
	 "in a row the device is called unreliable",
	 "look at the array's firmware and its support of COMPARE AND WRITE, and run "
	 "lunfs check-device"},
    [ATS_WENT_BACK] = {"found an older image of this host that had been replaced: a lost write, a "
		       "stale cache, or a snapshot that was rolled back",
		       "this host stops using the volume before it does harm",
		       "look at what the array did to this LUN, and run fsck.lunfs when all hosts "
		       "have unmounted"},
    [ATS_DAMAGED] = {"found a record that fails its checks and does not change",
		     "nothing was written, and what it protects is not used",
		     "run fsck.lunfs when all hosts have unmounted"},
    [ATS_UNKNOWN] = {NULL,
		     "it counts as neither done nor not done until a later update of the sector "
		     "settles that",
		     "look at the paths and the queue depth of the disk, and at the array"},
    [ATS_FENCED] = {"was refused with a reservation conflict: this host's key is not registered "
		    "with the device any more",
		    "no write starts here until the beat has found out whether another host fenced "
		    "this one",
		    "look at what this host says next, and at lunfs hosts"},
};

static const struct words of_error[DEV_CAUSES] = {
    [DEV_CAUSE_BUSY] = {"was refused as busy until its time was up",
			"it had no effect and is tried again later",
			"look at the load of the array and the queue depth of the disk on all "
			"hosts"},
    [DEV_CAUSE_TASK_SET_FULL] = {"was refused with TASK SET FULL until its time was up",
				 "it had no effect and is tried again later",
				 "the hosts together send more than the array queues: lower the "
				 "queue depth of the disk"},
    [DEV_CAUSE_UNIT_ATTENTION] =
	{"was answered with unit attentions until its time was up",
	 "it had no effect and is tried again later",
	 "look for resets of the LUN in the messages of all hosts and of the "
	 "array"},
    [DEV_CAUSE_NOT_READY] = {"was refused as not ready until its time was up",
			     "it had no effect and is tried again later",
			     "look for a fail-over of the array that does not end, and at the "
			     "path states"},
    [DEV_CAUSE_NOT_SENT] = {"could not be sent until its time was up: there was no session, or the "
			    "device did not even answer a harmless command",
			    "it had no effect and is tried again later",
			    "look at this machine's memory and its connection to the array"},
    [DEV_CAUSE_OPCODE] =
	{"was rejected as an unknown command: the device does not carry out "
	 "COMPARE AND WRITE",
	 "it is not sent again",
	 "look whether COMPARE AND WRITE (ATS, VAAI) was switched off for this LUN, "
	 "and run lunfs check-device"},
    [DEV_CAUSE_TRANSFER] =
	{"was rejected for its length or a field: the device takes not even one "
	 "sector of COMPARE AND WRITE",
	 "it is not sent again",
	 "look at the array's limit for COMPARE AND WRITE (VPD page B0), and run "
	 "lunfs check-device"},
    [DEV_CAUSE_PROTECTED] = {"was refused: the device is write-protected", "it is not sent again",
			     "look who made the LUN read-only: a replication, a snapshot or an "
			     "admin of the array"},
    [DEV_CAUSE_GONE] = {"failed: the device is gone", "it is not sent again",
			"look whether the LUN is still mapped to this host, and at its paths"},
    [DEV_CAUSE_NO_SPACE] = {"failed: there is no room beneath a thin LUN", "it is not sent again",
			    "look at the free space of the array's pool"},
    [DEV_CAUSE_FAILED] = {"was failed for good by the device", "it is not sent again",
			  "look at the messages of the kernel and of the array about this sector"},
};

/* What happened to the command that left room for doubt. */
static void doubt_text(const struct ats_try *t, enum ats_outcome o, char *buf, size_t len)
{
	switch (t->blame) {
	case DEV_CAUSE_ABORTED:
		snprintf(buf, len, "was aborted by the device or by somebody's reset");
		break;
	case DEV_CAUSE_TRANSPORT:
		snprintf(buf, len, "was cut off when the path to the device went away");
		break;
	case DEV_CAUSE_NOT_DURABLE:
		snprintf(buf, len, "was carried out but not flushed to the medium");
		break;
	case DEV_CAUSE_UNCLEAR:
		snprintf(buf, len, "was failed by the device, maybe behind its write");
		break;
	case DEV_CAUSE_NO_ANSWER:
		snprintf(buf, len, "had no answer within the I/O deadline of %" PRIu64 " ms",
			 ats_deadline_ns(t->a) / 1000000);
		break;
	default:
		snprintf(buf, len, "was answered with a miscompare%s",
			 o == ATS_UNKNOWN ? " and the sector could not be judged by reading it"
					  : "");
	}
}

static void what_text(const struct ats_try *t, enum ats_outcome o, const struct words *w, char *buf,
		      size_t len)
{
	char doubt[128];

	doubt_text(t, o, doubt, sizeof(doubt));
	if (o == ATS_DONE_LATE && t->late)
		snprintf(
		    buf, len,
		    "took effect after an earlier one of this host whose fate had been unknown "
		    "and which had landed");
	else if (o == ATS_DONE_LATE)
		snprintf(buf, len, "took effect although a command of it %s", doubt);
	else if (o == ATS_UNKNOWN)
		snprintf(buf, len, "%s, so that nobody can tell whether it takes effect", doubt);
	else
		snprintf(buf, len, "%s", w->what);
}

static const char *did_text(const struct ats_try *t, enum ats_outcome o, const struct words *w)
{
	bool again = o == ATS_UNEXPLAINED || o == ATS_UNKNOWN || o == ATS_ERROR;

	return t->op == HEALTH_BEAT && again
		   ? "this beat does not count and the lease runs on from the one before; the "
		     "next is tried soon"
		   : w->did;
}

/* "(2 commands in 40 ms, 3 more like this since the last report)" */
static void count_text(const struct ats_try *t, uint64_t untold, char *buf, size_t len)
{
	uint64_t ms = (clock_now_ns(t->a->env.clk) - t->entered_ns) / 1000000;
	int n = snprintf(buf, len, "(%u command%s in %" PRIu64 " ms", t->commands,
			 t->commands == 1 ? "" : "s", ms);

	if (untold)
		snprintf(buf + n, len - (size_t)n,
			 ", %" PRIu64 " more like this since the last report)", untold);
	else
		snprintf(buf + n, len - (size_t)n, ")");
}

static const char *event_word(const struct ats_try *t, enum ats_outcome o, char buf[64])
{
	snprintf(buf, 64, "ats-%s",
		 o == ATS_ERROR ? dev_cause_name(t->blame) : ats_outcome_name(o));
	return buf;
}

static enum log_level level_of(enum ats_outcome o)
{
	if (o == ATS_DONE_LATE)
		return LOG_LVL_INFO;
	return o == ATS_WENT_BACK ? LOG_LVL_ERR : LOG_LVL_WARN;
}

void ats_say(struct ats_try *t, enum ats_outcome o, uint64_t untold)
{
	static const struct words other = {"failed", "it is not sent again", "look at the device"};
	const struct words *w = o == ATS_ERROR ? &of_error[t->blame] : &of_outcome[o];
	char resource[96], owner[PART_BYTES], what[PART_BYTES], facts[192], count[96], event[64];
	const struct ats *a = t->a;

	if (!w->did)
		w = &other;
	resource_text(t, resource, sizeof(resource));
	owner_text(t, o, owner, sizeof(owner));
	what_text(t, o, w, what, sizeof(what));
	count_text(t, untold, count, sizeof(count));
	dev_facts(a->env.dev, facts, sizeof(facts));
	log_msg(level_of(o), event_word(t, o, event),
		"%s (byte %" PRIu64 ", sector %" PRIu64 " of %.128s; %s) %s; %s; %s%s%s%s %s.",
		resource, t->s->off_bytes, t->s->off_bytes / a->env.geo->sector_bytes,
		a->env.dev->id.name, owner, what, did_text(t, o, w), w->look, facts[0] ? " (" : "",
		facts, facts[0] ? ")" : "", count);
}
