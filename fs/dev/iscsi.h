/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One iSCSI session on one LUN, for many threads at once; iscsi.c is the home of libiscsi. The
 * backend on top of it is iscsi_dev.c.
 */
#ifndef DEV_ISCSI_H
#define DEV_ISCSI_H

#include "dev/scsi.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum iscsi_dir { ISCSI_NO_DATA, ISCSI_IN, ISCSI_OUT };

struct scsi_task;  /* libiscsi's */
struct iscsi_link; /* private part of a command, one for each, made by isess_run() */
struct iscsi_session;

struct iscsi_cmd {
	uint8_t cdb[SBC_CDB_MAX];
	size_t cdb_len;
	enum iscsi_dir dir;
	void *buf;
	size_t len_bytes;
	/*
	 * Set it to -EAGAIN: "to be sent". Out: as sbc_outcome(); still -EAGAIN: it had no effect
	 * (busy, unit attention, never sent); -ETIMEDOUT: sent, and its fate is unknown.
	 */
	int result;
	uint64_t
	    not_after_ns; /* CLOCK_BOOTTIME; later it is not sent any more (-EAGAIN); 0: always */
	size_t got_bytes; /* out, ISCSI_IN: how much came; the rest of buf is as it was */
	enum dev_cause cause;	    /* out: of a negative result, where that alone does not tell */
	uint64_t sent_ns, ended_ns; /* out: handed to libiscsi (0: never), and its end */
};

/*
 * What libiscsi's @status of the task @t means for @c, which it was made of. As c->result; fills
 * got_bytes and cause. @until_ns: the command's deadline.
 */
int iscsi_cmd_judge(struct iscsi_cmd *c, const struct scsi_task *t, int status, uint64_t until_ns);

/*
 * What has become of one transfer that took @n commands. -ETIMEDOUT: one of them may still land,
 * whatever became of the others. Else the first failure; a read that came short is one.
 */
int iscsi_cmds_outcome(const struct iscsi_cmd *c, size_t n);

/*
 * Log in at @url. On failure a negative errno, and one sentence about @shown in @why. The session's
 * thread must not be left behind by a fork.
 */
int isess_open(const char *url, const char *shown, uint32_t deadline_ms, struct iscsi_session **out,
	       char *why, size_t why_len);
void isess_close(struct iscsi_session *s); /* nobody is in a call */

/*
 * Send those of the @n commands whose result is -EAGAIN, all at once, each exactly once, and
 * return when each has its result: at @until_ns (CLOCK_BOOTTIME) or a moment later at the latest.
 */
void isess_run(struct iscsi_session *s, struct iscsi_cmd *cmd, size_t n, uint64_t until_ns);

/*
 * This session's half of the nexus is this process's alone, by a lock: whatever else was registered
 * or sent along it came from a process that has ended.
 */
bool isess_name_is_locked(const struct iscsi_session *s);

unsigned isess_window(void); /* how many commands are on their way at most */

/* How long one login may take from now on; commands wait for it until their own time is up. */
void isess_set_login_bound(struct iscsi_session *s, uint32_t ms);

/*
 * 0: none of the commands sent by this session so far is still on its way: all are answered, or
 * the target took a login with the same ISID, by which it has ended the old session and all its
 * tasks (RFC 7143 6.3.5). -ETIMEDOUT: not known by @until_ns.
 */
int isess_drain(struct iscsi_session *s, uint64_t until_ns);

#endif
