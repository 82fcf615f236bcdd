/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fencing: making sure that a dead host's late writes cannot reach the device.
 *
 * timer: nothing is done here; the lease has run out by the time a slot is taken over, and its
 * owner starts no write in the last I/O deadline of it. pidfd (file backend, one machine): the
 * process is killed and its exit waited for. Persistent reservations belong in fence_host():
 * PREEMPT AND ABORT of the dead nonce, then proof by READ KEYS, before the replay.
 */
#include "cluster/host_impl.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXIT_WAIT_NS (5ull * 1000 * MS_NS)
#define EXIT_POLL_NS (5 * MS_NS)
#define STAT_FIELDS_TO_START 20 /* of /proc/PID/stat, after the command's closing bracket */

/* 32 hex digits, dashes between them allowed; all zero if the file is not like that. */
static void read_id(const char *path, uint8_t out[16])
{
	FILE *f = fopen(path, "re");
	unsigned n = 0;
	int c;

	memset(out, 0, 16);
	if (!f)
		return;
	while (n < 32 && (c = fgetc(f)) != EOF) {
		if (isxdigit(c)) {
			unsigned v = (unsigned)(isdigit(c) ? c - '0' : tolower(c) - 'a' + 10);

			out[n / 2] = (uint8_t)(out[n / 2] << 4 | v);
			n++;
		} else if (c != '-') {
			break;
		}
	}
	if (n != 32)
		memset(out, 0, 16);
	fclose(f);
}

/* Start time in clock ticks since boot; 0 if there is no such process or it cannot be told. */
static uint64_t start_time(uint32_t pid)
{
	char path[64], buf[1024], *p;
	size_t len;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	len = fread(buf, 1, sizeof(buf) - 1, f);
	fclose(f);
	buf[len] = '\0';
	p = strrchr(buf, ')');
	for (int i = 0; p && i < STAT_FIELDS_TO_START; i++)
		p = strchr(p + 1, ' ');
	return p ? strtoull(p + 1, NULL, 10) : 0;
}

void proc_identify(struct proc_id *out)
{
	struct stat st;

	memset(out, 0, sizeof(*out));
	read_id("/etc/machine-id", out->machine_id);
	read_id("/proc/sys/kernel/random/boot_id", out->boot_id);
	out->pid = (uint32_t)getpid();
	out->pid_start = start_time(out->pid);
	if (!stat("/proc/self/ns/pid", &st))
		out->pid_ns = st.st_ino;
}

/* Can @hi's process be told by its id from here: same machine, boot and pid namespace? */
static bool same_place(const struct proc_id *self, const struct host_info *hi)
{
	return !mem_is_zero(self->boot_id, sizeof(self->boot_id)) &&
	       !memcmp(self->boot_id, hi->boot_id, sizeof(self->boot_id)) &&
	       !memcmp(self->machine_id, hi->machine_id, sizeof(self->machine_id)) &&
	       self->pid_ns && self->pid_ns == hi->pid_ns && hi->pid && hi->pid_start;
}

enum proc_fate { PROC_GONE, PROC_THERE, PROC_UNKNOWN };

/* @fd: a pidfd of the very process when PROC_THERE, else -1. */
static enum proc_fate look_at(const struct host_info *hi, int *fd)
{
	struct pollfd p = {.events = POLLIN};
	uint64_t start;

	*fd = -1;
	p.fd = (int)syscall(SYS_pidfd_open, (pid_t)hi->pid, 0);
	if (p.fd < 0)
		return errno == ESRCH ? PROC_GONE : PROC_UNKNOWN;
	start = start_time(hi->pid);
	if (start && start != hi->pid_start) { /* the number was given to another process */
		close(p.fd);
		return PROC_GONE;
	}
	if (poll(&p, 1, 0) == 1) { /* all its threads have ended; at most a zombie is left */
		close(p.fd);
		return PROC_GONE;
	}
	if (!start) { /* hidden from us: cannot tell */
		close(p.fd);
		return PROC_UNKNOWN;
	}
	*fd = p.fd;
	return PROC_THERE;
}

bool slot_owner_proven_gone(const struct host_info *hi)
{
	struct proc_id self;
	enum proc_fate fate;
	int fd;

	if (hi->pid == (uint32_t)getpid())
		return false;
	proc_identify(&self);
	if (!same_place(&self, hi))
		return false;
	fate = look_at(hi, &fd);
	if (fd >= 0)
		close(fd);
	return fate == PROC_GONE;
}

static int kill_and_wait(struct host *h, const struct host_info *dead, int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t until = host_now(h) + EXIT_WAIT_NS;
	char name[HOST_LABEL_BYTES];

	if (syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) && errno != ESRCH)
		return -errno;
	while (poll(&p, 1, 0) != 1) {
		if (host_now(h) >= until)
			return -ETIMEDOUT;
		clock_sleep_ns(h->env.clk, EXIT_POLL_NS);
	}
	log_warn("host-fenced", "Killed process %u of %s, which had lost its lease without ending.",
		 dead->pid, host_label(dead, name));
	return 0;
}

static int fence_pidfd(struct host *h, const struct host_info *dead)
{
	char name[HOST_LABEL_BYTES];
	int fd, r;

	if (!same_place(&h->self, dead) || dead->pid == h->self.pid)
		return 0; /* no process to be seen from here: its lease is what counts */
	if (look_at(dead, &fd) != PROC_THERE)
		return 0;
	r = kill_and_wait(h, dead, fd);
	close(fd);
	if (r)
		log_err("host-fence-failed",
			"Process %u of %s has lost its lease but cannot be killed (error %d); its "
			"recovery waits until the process has ended.",
			dead->pid, host_label(dead, name), r);
	return r;
}

int fence_host(struct host *h, const struct host_info *dead)
{
	if (h->env.dev->id.one_machine)
		return fence_pidfd(h, dead);
	return 0;
}
