/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What was met in a run or in a batch of runs: counters in memory that workers share. */
#ifndef SIM_COVER_H
#define SIM_COVER_H

#include "cluster/ats.h"
#include <stdint.h>

#define COVER_POINTS(X)                                                                            \
	X(ATS_DONE, "ATS done")                                                                    \
	X(ATS_DONE_LATE, "ATS done-late")                                                          \
	X(ATS_LOST_RACE, "ATS lost-race")                                                          \
	X(ATS_UNEXPLAINED, "ATS unexplained")                                                      \
	X(ATS_WENT_BACK, "ATS went-back")                                                          \
	X(ATS_DAMAGED, "ATS damaged")                                                              \
	X(ATS_UNKNOWN, "ATS unknown")                                                              \
	X(ATS_FENCED, "ATS fenced")                                                                \
	X(ATS_ERROR, "ATS error")                                                                  \
	X(SLOT_CLAIM, "slot FREE > LIVE")                                                          \
	X(SLOT_BEAT, "slot LIVE > LIVE (beat)")                                                    \
	X(SLOT_RELEASE, "slot LIVE > FREE")                                                        \
	X(SLOT_TAKE, "slot LIVE > RECOVERING")                                                     \
	X(SLOT_TAKEOVER, "slot RECOVERING by R > by S")                                            \
	X(SLOT_RENEW, "slot RECOVERING renewed by R")                                              \
	X(SLOT_FREED, "slot RECOVERING > FREE")                                                    \
	X(LOCK_BACK, "lock: seen and lost at a power cut")                                         \
	X(LOCK_ACQUIRE, "lock taken")                                                              \
	X(LOCK_RELEASE, "lock released")                                                           \
	X(LOCK_HANDOVER, "lock handed over")                                                       \
	X(LOCK_DOWNGRADE, "lock downgraded")                                                       \
	X(LOCK_STALE, "lock of a dead incarnation taken")                                          \
	X(GUARD_RENEW, "recovery: guard renewed")                                                  \
	X(REPLAY_WRITE, "recovery: block replayed")                                                \
	X(REPLAY_KEPT, "recovery: committed block that still counts stands in place")              \
	X(HOST_SUSPENDED, "host suspended")                                                        \
	X(HOST_RESUMED, "host resumed")                                                            \
	X(HOST_LOST, "host lost its slot")                                                         \
	X(HOST_FENCED, "host fenced")                                                              \
	X(FAULT_KILL, "fault: host killed")                                                        \
	X(FAULT_KILL_MOUNTING, "fault: host killed while mounting")                                \
	X(FAULT_PAUSE, "fault: host paused")                                                       \
	X(FAULT_PAUSE_LONG, "fault: host paused beyond its lease")                                 \
	X(FAULT_FREEZE, "fault: host paused with its clock")                                       \
	X(FAULT_SLOW, "fault: slow host")                                                          \
	X(FAULT_PATH, "fault: a host's path to the array lost")                                    \
	X(FAULT_PR_LOST, "fault: registrations lost")                                              \
	X(FAULT_EIO, "fault: a command fails for good")                                            \
	X(FAULT_ROT, "fault: sectors that cannot be read")                                         \
	X(FAULT_LEAVE, "fault: host leaves and comes back")                                        \
	X(FAULT_STUCK, "fault: test and sets of a host's locks have no answer for a while")        \
	X(FAULT_POWER, "fault: power cut of everything")                                           \
	X(FAULT_POWER_FLUSH, "fault: the same at a flush that makes more durable than one's own")  \
	X(FAULT_OUTAGE, "fault: outage of the array")                                              \
	X(FAULT_RESTART, "fault: restarted under the same name")                                   \
	X(LIE_CAW_BLIND, "lie: COMPARE AND WRITE does not compare")                                \
	X(LIE_CAW_SPLIT, "lie: COMPARE AND WRITE is not atomic")                                   \
	X(LIE_CAW_DONE, "lie: COMPARE AND WRITE writes nothing")                                   \
	X(LIE_CAW_REFUSES, "lie: COMPARE AND WRITE sees no match, again and again")                \
	X(LIE_LOST_WRITE, "lie: metadata writes lost")                                             \
	X(LIE_READ_CORRUPT, "lie: metadata read with a flipped bit")                               \
	X(LIE_READ_STALE, "lie: metadata reads show the past")                                     \
	X(LIE_ROLL_BACK, "lie: the array goes back")                                               \
	X(LIE_SCRIBBLE, "lie: a lock or slot holds something that is no record")                   \
	X(LIE_SAID, "lies that did harm were noticed and said")                                    \
	X(LIE_UNSEEN, "harm that no host can notice: not atomic, or lost before it was on record") \
	X(DEV_DELAY, "device: slow command")                                                       \
	X(DEV_LOST_REPLY, "device: reply lost after the command landed")                           \
	X(DEV_LOST_COMMAND, "device: command lost")                                                \
	X(DEV_LATE, "device: command landed after its answer")                                     \
	X(DEV_RESENT, "device: COMPARE AND WRITE executed twice")                                  \
	X(DEV_MISCOMPARE, "device: miscompare for a match")                                        \
	X(DEV_BUSY, "device: BUSY")                                                                \
	X(DEV_TASK_SET_FULL, "device: TASK SET FULL")                                              \
	X(DEV_UNIT_ATTENTION, "device: unit attention")                                            \
	X(DEV_TRUNCATE, "device: write cut short")                                                 \
	X(DEV_TORN, "device: write torn into pieces")                                              \
	X(DEV_LOST_SECTORS, "device: sectors lost at a power cut")                                 \
	X(DEV_CONFLICT, "device: RESERVATION CONFLICT")                                            \
	X(DEV_ABORTED, "device: command aborted by PREEMPT AND ABORT or a drain")                  \
	X(FIRST_TOGETHER, "first writes that were committed by another one")                       \
	X(FIRST_IN_THE_WAY, "first writes that another one was in the way of")                     \
	X(LOCKS_AHEAD, "locks taken ahead, of files of a directory that is looked through")        \
	X(ASKED_AHEAD, "the same, taken from other hosts")                                         \
	X(REFILLED, "blocks read together when the lock over them came back")                      \
	X(ADMIN_KEY, "key of a mount that died before its claim taken away by hand")               \
	X(OPS_LOST, "operations lost with a host, as they may")                                    \
	X(OPS_KEPT, "operations kept although their host died")

enum cover_point {
#define X(name, text) COVER_##name,
	COVER_POINTS(X)
#undef X
	    COVER_POINTS_N
};

struct cover {
	uint64_t count[COVER_POINTS_N];
	uint64_t seeds, ops;
};

struct sim_run;
struct volume;
void cover_hit(struct sim_run *r, enum cover_point p);
void cover_add(struct sim_run *r, enum cover_point p, uint64_t n);
void cover_event(struct sim_run *r, const char *event); /* a log line's first word */
void cover_ats(struct sim_run *r, const struct ats *a);
void cover_volume(struct sim_run *r, struct volume *v);
void cover_device(struct sim_run *r); /* what the medium counted */
const char *cover_text(enum cover_point p);

#endif
