/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * umount.lunfs: umount(8)'s helper. For the kernel a mount of FUSE is gone while its daemon still
 * has all of the last seconds to write. This waits for that, and says if it failed. The unmounting
 * itself is left to umount(8), which also knows what users may do and keeps its tables.
 */
#include "fuse/outcome.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define UMOUNT "/bin/umount"
#define FSTYPE "fuse.lunfs"
#define STEP_MS 20
#define GRACE_MS 300   /* for the last who holds on to a file system that goes */
#define SAY_MS 5000    /* then say what is waited for */
#define BLIND_MS 30000 /* without sysfs: it may be in use for ever */

enum { /* exit codes of umount(8) */
       EX_UMOUNT_USAGE = 1,
       EX_UMOUNT_SYSTEM = 2,
       EX_UMOUNT_FAIL = 32,
};

struct target {
	const char *dir;
	unsigned dev_major, dev_minor;
	ino_t
	    bdi; /* tells this file system from a later one of the same number; 0: not to be had */
	int fd;	 /* of the daemon's outcome; -1: none */
	int pidfd; /* of the daemon; -1: not there any more, or not to be seen */
	pid_t pid;
};

static void say(const struct target *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void say(const struct target *t, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "umount.lunfs: %s: ", t->dir);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

/* ---- the mount ------------------------------------------------------------------------------- */

/* proc_pid_mountinfo(5) writes blanks and the like as \ooo. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (s[0] == '\\' && isdigit((unsigned char)s[1]) && isdigit((unsigned char)s[2]) &&
		    isdigit((unsigned char)s[3])) {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

/* The absolute path without a request to the file system, whose daemon may be dead. To be freed. */
static char *absolute(const char *dir)
{
	char *copy = strdup(dir), *parent, *out = NULL, *slash;
	size_t len = strlen(dir);

	while (copy && len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	slash = copy ? strrchr(copy, '/') : NULL;
	if (slash)
		*slash = '\0';
	parent = copy ? realpath(!slash ? "." : slash == copy ? "/" : copy, NULL) : NULL;
	if (parent && asprintf(&out, "%s/%s", strcmp(parent, "/") ? parent : "",
			       slash ? slash + 1 : copy) < 0)
		out = NULL;
	free(parent);
	free(copy);
	return out;
}

/* Device number of what is mounted on @dir last. False: it is none of ours. */
static bool find_mount(struct target *t, const char *dir)
{
	FILE *fp = fopen("/proc/self/mountinfo", "re");
	bool found = false;
	char *line = NULL;
	size_t cap = 0;

	while (fp && getline(&line, &cap, fp) > 0) {
		char *where = NULL, *type = strstr(line, " - ");
		unsigned dev_major, dev_minor;

		if (sscanf(line, "%*u %*u %u:%u %*s %ms", &dev_major, &dev_minor, &where) == 3) {
			unescape(where);
			if (strcmp(where, dir) == 0) {
				found =
				    type && strncmp(type + 3, FSTYPE " ", strlen(FSTYPE) + 1) == 0;
				t->dev_major = dev_major;
				t->dev_minor = dev_minor;
			}
		}
		free(where);
	}
	free(line);
	if (fp)
		fclose(fp);
	return found;
}

/* The kernel shows this for as long as the file system is in use anywhere. 0: it is not there. */
static ino_t bdi_of(const struct target *t)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u", t->dev_major, t->dev_minor);
	return lstat(path, &st) == 0 ? st.st_ino : 0;
}

/* ---- its daemon ------------------------------------------------------------------------------ */

/* 0: nobody. -1: somebody whom this process cannot see, in another name space of processes. */
static pid_t locked_by(int fd)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

	if (fcntl(fd, F_GETLK, &lock) != 0)
		return -1;
	return lock.l_type == F_UNLCK ? 0 : lock.l_pid > 0 ? lock.l_pid : -1;
}

static void find_daemon(struct target *t)
{
	char path[64];

	snprintf(path, sizeof(path), OUTCOME_NAME, t->dev_major, t->dev_minor);
	t->fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	t->pid = t->fd < 0 ? 0 : locked_by(t->fd);
	if (t->pid > 0)
		t->pidfd = (int)syscall(SYS_pidfd_open, t->pid, 0);
	/* The number may have gone to another process before it was opened. */
	if (t->pidfd >= 0 && locked_by(t->fd) != t->pid) {
		close(t->pidfd);
		t->pidfd = -1;
	}
}

static bool has_ended(const struct target *t, int ms)
{
	struct pollfd p = {.fd = t->pidfd, .events = POLLIN};

	return poll(&p, 1, ms) > 0;
}

/* Is the file system mounted or open elsewhere, so that its daemon goes on? */
static bool is_in_use(const struct target *t)
{
	for (int ms = 0; t->bdi && bdi_of(t) == t->bdi; ms += STEP_MS) {
		if (ms >= GRACE_MS)
			return true;
		if (has_ended(t, STEP_MS))
			return false;
	}
	return false;
}

static bool all_written(const struct target *t, char *text, size_t size)
{
	ssize_t n = pread(t->fd, text, size - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return strcmp(text, OUTCOME_WRITTEN) == 0;
}

static int read_outcome(const struct target *t)
{
	char text[128];

	if (all_written(t, text, sizeof(text)))
		return 0;
	text[strcspn(text, "\n")] = '\0';
	say(t,
	    "not everything was written before the daemon ended (%s); the journal has what was "
	    "committed, and the next mount or another host replays it; see the daemon's log",
	    *text ? text : "it was killed");
	return EX_UMOUNT_FAIL;
}

/* The mount is gone from here. Returns the exit code. */
static int wait_for_daemon(const struct target *t)
{
	char text[128];

	if (t->pidfd < 0 && t->fd >= 0 && locked_by(t->fd) == 0) {
		if (all_written(t, text, sizeof(text)))
			return 0;
		say(t, "its daemon was gone already; what it had not committed is lost");
		return 0;
	}
	if (t->pidfd < 0) {
		say(t, "unmounted, but when its daemon has written everything cannot be seen");
		return 0;
	}
	if (is_in_use(t)) {
		say(t, "unmounted here; it is in use elsewhere, and its daemon goes on");
		return 0;
	}
	if (!has_ended(t, SAY_MS)) {
		say(t, "unmounted; waiting for its daemon (process %d) to write everything",
		    t->pid);
		/* As long as the device takes: the daemon gives up when its lease is over. */
		if (!has_ended(t, t->bdi ? -1 : BLIND_MS)) {
			say(t, "its daemon goes on; the volume may be in use elsewhere");
			return 0;
		}
	}
	return read_outcome(t);
}

/* ---- umount(8) ------------------------------------------------------------------------------- */

static int run_umount(char **args)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		execv(UMOUNT, args);
		fprintf(stderr, "umount.lunfs: %s: %s\n", UMOUNT, strerror(errno));
		_exit(EX_UMOUNT_SYSTEM);
	}
	if (pid < 0)
		return EX_UMOUNT_SYSTEM;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return EX_UMOUNT_SYSTEM;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EX_UMOUNT_SYSTEM;
}

static int unmount(struct target *t, char **args, bool elsewhere)
{
	char *dir = elsewhere ? NULL : absolute(t->dir);
	bool ours = dir && find_mount(t, dir);
	int rc;

	if (ours) {
		t->bdi = bdi_of(t);
		find_daemon(t);
	}
	free(dir);
	rc = run_umount(args);
	if (rc == 0 && elsewhere)
		say(t, "in another name space of mounts; its daemon is not waited for");
	if (rc == 0 && !ours && !elsewhere)
		say(t, "unmounted; it could not be told which daemon to wait for");
	return rc == 0 && ours ? wait_for_daemon(t) : rc;
}

static int usage(void)
{
	fputs("usage: umount.lunfs [-flnrv] [-t TYPE] [-N NAMESPACE] DIRECTORY\n", stderr);
	return EX_UMOUNT_USAGE;
}

/* As umount(8) gets it from us: each flag once, and nothing of what it found out by itself. */
static char **umount_args(const char *flags, const char *space, const char *dir)
{
	static char *args[8], letters[8];
	int n = 0;

	snprintf(letters, sizeof(letters), "-i%s", flags);
	args[n++] = "umount";
	args[n++] = letters;
	if (space) {
		args[n++] = "-N";
		args[n++] = (char *)space;
	}
	args[n++] = "--";
	args[n] = (char *)dir;
	return args;
}

int main(int argc, char **argv)
{
	struct target t = {.fd = -1, .pidfd = -1};
	char flags[6] = "", *space = NULL;
	int opt;

	while ((opt = getopt(argc, argv, "flnrvt:N:V")) != -1) {
		if (opt == 'V') {
			puts("umount.lunfs " LUNFS_VERSION);
			return 0;
		}
		if (opt == '?')
			return usage();
		if (opt == 'N')
			space = optarg;
		else if (opt != 't' && !strchr(flags, opt))
			flags[strlen(flags)] = (char)opt;
	}
	if (optind + 1 != argc)
		return usage();
	t.dir = argv[optind];
	return unmount(&t, umount_args(flags, space, t.dir), space != NULL);
}
