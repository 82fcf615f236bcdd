/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fencing: making sure that a dead host's late writes cannot reach the device.
 *
 * pr: persistent reservations, pr.c. pidfd (file backend, one machine): the process is killed and
 * its exit waited for. watchdog: nothing is done here; the dead host's machine was reset before its
 * lease ended, since only a beat keeps its watchdog quiet. timer: nothing is done here; the lease
 * has run out by the time a slot is taken over, and its owner starts no write in the last I/O
 * deadline of it.
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

/* LATER: it could be told but for want of a descriptor or of memory here. */
enum proc_fate { PROC_GONE, PROC_THERE, PROC_UNKNOWN, PROC_LATER };

static enum proc_fate untold(int err)
{
	return err == EMFILE || err == ENFILE || err == ENOMEM ? PROC_LATER : PROC_UNKNOWN;
}

/* @fd: a pidfd of the very process when PROC_THERE, else -1. */
static enum proc_fate look_at(const struct host_info *hi, int *fd)
{
	struct pollfd p = {.events = POLLIN};
	uint64_t start;
	int err;

	*fd = -1;
	p.fd = (int)syscall(SYS_pidfd_open, (pid_t)hi->pid, 0);
	if (p.fd < 0)
		return errno == ESRCH ? PROC_GONE : untold(errno);
	errno = 0;
	start = start_time(hi->pid);
	err = errno;
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
		return untold(err);
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
	enum proc_fate fate;
	int fd, r;

	if (!same_place(&h->self, dead) || dead->pid == h->self.pid)
		return 0; /* no process to be seen from here: its lease is what counts */
	fate = look_at(dead, &fd);
	if (fate == PROC_GONE || fate == PROC_UNKNOWN)
		return 0;
	r = fate == PROC_THERE ? kill_and_wait(h, dead, fd) : -EMFILE;
	if (fd >= 0)
		close(fd);
	if (fate == PROC_LATER)
		log_err("host-fence-failed",
			"Process %u of %s has lost its lease, and for want of file descriptors or "
			"memory here it cannot be told whether it has ended; its recovery waits. "
			"Look at the limits of this process and of the machine.",
			dead->pid, host_label(dead, name));
	else if (r)
		log_err("host-fence-failed",
			"Process %u of %s has lost its lease but cannot be killed (error %d); its "
			"recovery waits until the process has ended.",
			dead->pid, host_label(dead, name), r);
	return r;
}

/*
 * It relied on being refused by the device, so it may have started writes until its lease ended;
 * but no reservations can be had here. Give those writes their I/O deadline.
 */
static int wait_for_writes(struct host *h, const struct job *j, const struct host_info *dead)
{
	uint64_t deadline = dead->deadline_ms * MS_NS;

	return host_now(h) < j->taken_ns + deadline + (deadline >> HOST_DRIFT_SHIFT) ? -EAGAIN : 0;
}

int fence_host(struct host *h, const struct job *j, const struct host_info *dead)
{
	if (h->env.dev->id.one_machine)
		return fence_pidfd(h, dead);
	if (dead->fence != LUNFS_FENCE_PR)
		return 0;
	return h->fence == LUNFS_FENCE_PR ? pr_fence(h, dead, j->failures)
					  : wait_for_writes(h, j, dead);
}

int fence_check(struct host *h, const struct host_info *dead)
{
	if (dead->fence != LUNFS_FENCE_PR || h->fence != LUNFS_FENCE_PR)
		return 0;
	return pr_fenced_still(h, dead);
}

bool fence_old_process(struct host *h, const struct host_info *hi)
{
	enum proc_fate fate;
	int fd;

	if (!same_place(&h->self, hi) || hi->pid == h->self.pid)
		return false;
	fate = look_at(hi, &fd);
	if (fd >= 0)
		close(fd);
	return fate == PROC_THERE || fate == PROC_LATER;
}

/* ---- of this host ---------------------------------------------------------------------------- */

/*
 * It must fire before the others may call us dead, and have room for a beat that comes late: three
 * quarters of the lease.
 */
static unsigned watchdog_want_s(const struct host *h)
{
	return h->cfg.lease_ms * 3 / 4 / 1000;
}

static int check_watchdog_lease(const struct host *h, char *why, size_t why_len)
{
	unsigned want_s = watchdog_want_s(h);

	if (want_s && want_s * 1000 >= 2 * h->cfg.beat_ms)
		return 0;
	snprintf(why, why_len,
		 "A watchdog counts in seconds: a lease of %u ms with beats of %u ms is too short "
		 "for it.",
		 h->cfg.lease_ms, h->cfg.beat_ms);
	return -EINVAL;
}

int fence_begin(struct host *h, char *why, size_t why_len)
{
	if (h->fence == LUNFS_FENCE_PR)
		return pr_join(h, why, why_len);
	return h->fence == LUNFS_FENCE_WATCHDOG ? check_watchdog_lease(h, why, why_len) : 0;
}

/* Armed for @got_s from now: does it fire in time? */
static int armed_in_time(const struct host *h, unsigned got_s, char *why, size_t why_len)
{
	if (got_s * 1000ull + h->cfg.beat_ms > h->cfg.lease_ms) {
		snprintf(
		    why, why_len,
		    "The watchdog cannot be set to %u s, only to %u s, which is too long for a "
		    "lease of %u ms.",
		    watchdog_want_s(h), got_s, h->cfg.lease_ms);
		return -EINVAL;
	}
	if (host_now(h) + got_s * 1000 * MS_NS <= atomic_load(&h->lease_end_ns))
		return 0;
	snprintf(
	    why, why_len,
	    "Too much of a lease of %u ms had gone by when the watchdog was armed; mount again, "
	    "and look at the device and its paths if that does not help.",
	    h->cfg.lease_ms);
	return -ETIMEDOUT;
}

int fence_arm(struct host *h, char *why, size_t why_len)
{
	unsigned got_s = 0;
	int r;

	if (h->fence != LUNFS_FENCE_WATCHDOG)
		return 0;
	if (!h->wd)
		h->wd = h->cfg.wd ? h->cfg.wd : (h->own_wd = watchdog_new(h->cfg.watchdog_path));
	r = h->wd->start(h->wd, watchdog_want_s(h), &got_s, why, why_len);
	if (r)
		return r;
	r = armed_in_time(h, got_s, why, why_len);
	if (r) {
		h->wd->stop(h->wd);
		return r;
	}
	h->wd_timeout_ns = got_s * 1000 * MS_NS;
	log_info("watchdog-armed",
		 "The watchdog resets this machine when host %s does not beat for %u s; it is "
		 "disarmed by a clean unmount only.",
		 h->cfg.name, got_s);
	return 0;
}

static void disarm(struct host *h)
{
	if (h->wd_timeout_ns)
		h->wd->stop(h->wd);
	h->wd_timeout_ns = 0;
}

void fence_end(struct host *h)
{
	pr_leave(h);
	h->pr_key = 0;
	disarm(h);
}

void fence_abandoned(struct host *h)
{
	struct dev *d = h->env.dev;

	h->pr_key = 0; /* it stays, for whoever recovers the slot to preempt */
	if (!h->wd_timeout_ns)
		return;
	if (!dev_drain(d))
		disarm(h);
	else
		log_err("watchdog-stays",
			"It cannot be proven that no write of host %s is on its way any more: its "
			"watchdog stays armed and resets this machine.",
			h->cfg.name);
}

void fence_fed(struct host *h, uint64_t since_ns)
{
	uint64_t now = host_now(h);

	if (!h->wd_timeout_ns)
		return;
	if (now + h->wd_timeout_ns <= since_ns + h->cfg.lease_ms * MS_NS) {
		h->wd->keepalive(h->wd);
		return;
	}
	log_warn("watchdog-not-fed",
		 "A beat of host %s took %llu ms, too long to put off the watchdog; when the next "
		 "ones are late too, this machine is reset. Look at the device and its paths.",
		 h->cfg.name, (unsigned long long)((now - since_ns) / MS_NS));
}
