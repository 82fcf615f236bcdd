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
	X(LOCK_ACQUIRE, "lock taken")                                                              \
	X(LOCK_RELEASE, "lock released")                                                           \
	X(LOCK_HANDOVER, "lock handed over")                                                       \
	X(LOCK_DOWNGRADE, "lock downgraded")                                                       \
	X(LOCK_STALE, "lock of a dead incarnation taken")                                          \
	X(GUARD_RENEW, "recovery: guard renewed")                                                  \
	X(REPLAY_WRITE, "recovery: block replayed")                                                \
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
	X(FAULT_LEAVE, "fault: host leaves and comes back")                                        \
	X(FAULT_POWER, "fault: power cut of everything")                                           \
	X(FAULT_OUTAGE, "fault: outage of the array")                                              \
	X(FAULT_RESTART, "fault: restarted under the same name")                                   \
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
void cover_hit(struct sim_run *r, enum cover_point p);
void cover_add(struct sim_run *r, enum cover_point p, uint64_t n);
void cover_event(struct sim_run *r, const char *event); /* a log line's first word */
void cover_ats(struct sim_run *r, const struct ats *a);
const char *cover_text(enum cover_point p);

#endif
