/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A watchdog: a timer that resets this machine when nobody keeps it alive. Behind an interface of
 * three calls, so that a test can stand in for the machine.
 */
#ifndef CLUSTER_WATCHDOG_H
#define CLUSTER_WATCHDOG_H

#include <stddef.h>

#define WATCHDOG_DEFAULT "/dev/watchdog"

struct watchdog {
	/*
	 * Arm it: from now on the machine is reset @timeout_s after the last keepalive. *actual_s
	 * is what the hardware made of that. -errno with a sentence in @why, not armed then.
	 */
	int (*start)(struct watchdog *w, unsigned timeout_s, unsigned *actual_s, char *why,
		     size_t why_len);
	void (*keepalive)(struct watchdog *w);
	void (*stop)(struct watchdog *w); /* disarm: the machine goes on living */
};

/* That of the kernel at @path. Freeing one that is armed leaves it armed: the machine is reset. */
struct watchdog *watchdog_new(const char *path);
void watchdog_free(struct watchdog *w);

#endif
