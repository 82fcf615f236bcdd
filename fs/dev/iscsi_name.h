/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an iSCSI session calls itself. Initiator name and ISID make the initiator's half of an I_T
 * nexus, to which registrations belong, and a login with both the same ends what an earlier one
 * left behind. So the first process of a machine on a LUN always uses the same two: it takes over
 * from the one that died. A process beside it gets others: some targets tell registrations of one
 * initiator name apart badly (the kernel's own forgets who is registered), so not the ISID alone.
 */
#ifndef DEV_ISCSI_NAME_H
#define DEV_ISCSI_NAME_H

#include <stddef.h>
#include <stdint.h>

#define INAME_MAX 256

struct iscsi_name {
	char machine[INAME_MAX];   /* the machine's own initiator name */
	char initiator[INAME_MAX]; /* the session's: that, or one with a number behind */
	uint32_t isid_random, isid_qualifier;
	int lock_fd; /* held for as long as the name is in use; -1: a random one */
};

void iname_machine(char *out, size_t len);
/* Names for a session of this process on that LUN; needs .machine. Negative errno: no randomness.
 */
int iname_take(struct iscsi_name *n, const char *target, int lun);
void iname_release(struct iscsi_name *n);

#endif
