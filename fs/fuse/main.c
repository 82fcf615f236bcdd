/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount.lunfs: mounts a volume and serves it. The parent waits for the daemon to say that the mount
 * works and exits with mount(8)'s code; with -f there is no parent.
 */
#include "fuse/front.h"
#include "fuse/options.h"
#include "fuse/outcome.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct daemon {
	struct options *o;
	int log_fd;   /* of o->log_file, else -1 */
	int ready_fd; /* a byte is written when the mount works; -1 in the foreground */
	int outcome;  /* for umount.lunfs; -1: none */
	struct front f;
};

/* ---- before anything is touched -------------------------------------------------------------- */

static int check_mountpoint(const char *dir)
{
	char parent[4096 + 4];
	struct stat st, up;

	if (stat(dir, &st) != 0) {
		if (errno == ENOTCONN)
			options_say("%s is a dead mount: its daemon is gone; 'umount -l %s' first",
				    dir, dir);
		else
			options_say("mount point %s: %s", dir, strerror(errno));
		return -1;
	}
	if (!S_ISDIR(st.st_mode)) {
		options_say("mount point %s is not a directory", dir);
		return -1;
	}
	snprintf(parent, sizeof(parent), "%s/..", dir);
	if (stat(parent, &up) == 0 && (up.st_dev != st.st_dev || up.st_ino == st.st_ino)) {
		options_say(
		    "%s already is a mount point; unmount what is there first, or use another "
		    "directory",
		    dir);
		return -1;
	}
	return 0;
}

static int check_fuse(void)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		options_say("cannot open /dev/fuse: %s; %s", strerror(errno),
			    errno == EACCES ? "mounting takes root"
					    : "load the kernel module 'fuse'");
		return -1;
	}
	close(fd);
	return 0;
}

static int open_log(struct daemon *d)
{
	const char *path = d->o->log_file;

	if (!path)
		return 0;
	d->log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (d->log_fd < 0)
		options_say("logfile %s: %s", path, strerror(errno));
	return d->log_fd < 0 ? -1 : 0;
}

/* ---- the daemon's process -------------------------------------------------------------------- */

/* Linux 5.6: memory reclaim must not wait for writes that need this process. */
#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

static void harden_process(void)
{
	/* Best effort: without the right to, the daemon still works, only later under pressure. */
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0)
		log_debug("not-locked", "Memory is not locked: %s.", strerror(errno));
}

static void to_background(struct daemon *d)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	/* Whoever reads our parent's output must not wait for us. */
	if (null >= 0)
		for (int fd = 0; fd < 3; fd++)
			if (fd != STDERR_FILENO || d->log_fd < 0)
				dup2(null, fd);
	log_open("mount.lunfs", d->o->verbose ? LOG_LVL_DEBUG : LOG_LVL_INFO, !d->o->log_file);
}

static void on_ready(void *ctx)
{
	struct daemon *d = ctx;

	if (d->log_fd >= 0)
		dup2(d->log_fd, STDERR_FILENO);
	if (d->ready_fd >= 0)
		to_background(d);
	log_info("mounted", "%s is mounted on %s as host %s.", d->o->shown, d->o->mountpoint,
		 d->o->vol.host.name);
	if (d->ready_fd < 0)
		return;
	if (write(d->ready_fd, "+", 1) != 1)
		log_warn("parent-gone", "The process that asked for the mount is gone.");
	close(d->ready_fd);
	d->ready_fd = -1;
}

static void on_lost(void *ctx, const char *why)
{
	struct daemon *d = (struct daemon *)((char *)ctx - offsetof(struct daemon, f));

	log_err("volume-lost",
		"%s on %s answers EIO from now on: %s; unmount it and mount it again.", d->o->shown,
		d->o->mountpoint, why);
	front_drop_all(&d->f);
}

static int open_volume(struct daemon *d, struct clock *clk)
{
	struct vol_options vo = d->o->vol;
	unsigned flags = d->o->force_file ? DEV_OPEN_FORCE_FILE : 0;
	char why[512] = "";
	struct dev *dev;
	struct geo geo;
	int rc;

	rc = dev_open(d->o->device, flags, 0, &dev, why, sizeof(why));
	if (rc) {
		options_say("%s", why);
		return rc;
	}
	/* A regular file takes either sector size: the superblock says which. */
	rc = vol_read_super(dev, &geo, NULL, why, sizeof(why));
	if (rc == 0 && geo.sector_bytes != dev->id.sector_bytes) {
		dev_close(dev);
		rc = dev_open(d->o->device, flags, geo.sector_bytes, &dev, why, sizeof(why));
		if (rc) {
			options_say("%s", why);
			return rc;
		}
	}
	vo.cb = (struct vol_cb){.ctx = &d->f,
				.prepare = front_prepare,
				.invalidate = front_invalidate,
				.downgrade = front_downgrade,
				.waits = front_will_wait,
				.lost = on_lost};
	if (rc == 0)
		rc = vol_mount(dev, clk, &vo, &d->f.vol, why, sizeof(why));
	if (rc) {
		options_say("%s", why);
		dev_close(dev);
	}
	d->f.dev = dev;
	return rc;
}

static struct fuse_session *mount_session(struct daemon *d)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_session *se = NULL;
	char *opts = NULL, *q;
	int rc;

	/* A comma in the device's name would end the fsname option. */
	if (asprintf(&opts, "-o%s%s,fsname=%s", d->o->kernel_opts, d->f.read_only ? ",ro" : "",
		     d->o->shown) < 0)
		return NULL;
	for (q = strstr(opts, ",fsname=") + 8; *q; q++)
		if (*q == ',')
			*q = '_';
	if (fuse_opt_add_arg(&args, "mount.lunfs") == 0 && fuse_opt_add_arg(&args, opts) == 0 &&
	    (!d->o->debug_fuse || fuse_opt_add_arg(&args, "-d") == 0))
		se = front_session_new(&d->f, &args);
	if (se && fuse_session_mount(se, d->o->mountpoint) != 0) {
		fuse_session_destroy(se);
		se = NULL;
	}
	rc = se ? wire_attach(se) : 0;
	if (rc) {
		log_err("not-served", "%s cannot be served on %s: %s.", d->o->shown,
			d->o->mountpoint, strerror(-rc));
		fuse_session_unmount(se);
		fuse_session_destroy(se);
		se = NULL;
	}
	fuse_opt_free_args(&args);
	free(opts);
	return se;
}

/* Without a request to ourselves. */
static void find_dev(struct front *f)
{
	struct statx st;

	if (statx(AT_FDCWD, f->mountpoint, AT_STATX_DONT_SYNC, 0, &st) != 0)
		return;
	f->dev_major = st.stx_dev_major;
	f->dev_minor = st.stx_dev_minor;
	f->have_dev = true;
}

static void free_parts(struct front *f)
{
	if (f->inval)
		inval_free(f->inval);
	backlog_free(f->backlog);
	sizes_free(f->sizes);
	nodes_free(f->nodes);
}

static int read_root(struct daemon *d, struct vattr *root)
{
	struct front *f = &d->f;
	int rc = vol_root(f->vol, &f->root);

	if (rc == 0)
		rc = vol_getattr(f->vol, NULL, f->root, root);
	if (rc)
		log_err("no-root", "The root directory of %s cannot be read (%s); run fsck.lunfs.",
			d->o->shown, strerror(-rc));
	return rc;
}

static int serve_requests(struct daemon *d)
{
	int rc = front_loop(&d->f);

	if (rc)
		log_err("not-served", "Requests for %s on %s cannot be taken any more: %s.",
			d->o->shown, d->o->mountpoint, strerror(-rc));
	return rc;
}

static int serve(struct daemon *d, struct clock *clk)
{
	struct front *f = &d->f;
	struct vattr root;
	int rc, rc2;

	f->clk = clk;
	atomic_store(&f->epoch, 1);
	mtx_init(&f->calls_mtx, clk);
	f->nodes = nodes_new(clk);
	f->sizes = sizes_new(f);
	f->backlog = backlog_new(f, "/proc");
	f->mountpoint = d->o->mountpoint;
	f->on_ready = on_ready;
	f->on_ready_ctx = d;
	f->read_only = d->o->vol.read_only || vol_read_only(f->vol);
	rc = read_root(d, &root);
	if (rc == 0) {
		sizes_root_is(f->sizes, &root);
		nodes_remember(f->nodes, f->root); /* the kernel knows it from the start */
		f->se = mount_session(d);
		if (f->se)
			find_dev(f);
		if (f->have_dev) /* before the mount works, so before anybody unmounts it */
			d->outcome = outcome_open(f->dev_major, f->dev_minor);
		f->inval = f->se ? inval_new(f) : NULL;
		rc = f->se ? serve_requests(d) : -EIO;
	}
	if (f->se) {
		front_end(f);
		fuse_session_unmount(f->se);
	}
	rc2 = vol_unmount(f->vol);
	if (sizes_stop(f->sizes) && backlog_stop(f->backlog))
		free_parts(f); /* else a thread uses them, and ends with the process */
	if (f->se)
		fuse_session_destroy(f->se);
	mtx_destroy(&f->calls_mtx);
	if (rc2 == 0)
		log_info("unmounted", "%s is unmounted from %s.", d->o->shown, d->o->mountpoint);
	outcome_tell(d->outcome, f->dev_major, f->dev_minor, rc2);
	return rc ? rc : rc2;
}

static int run(struct daemon *d)
{
	struct clock *clk;

	front_block_signals();
	if (clock_real_new(&clk) != 0)
		return EX_MOUNT_SYSTEM;
	if (open_volume(d, clk) != 0)
		return EX_MOUNT_FAIL;
	harden_process();
	return serve(d, clk) == 0 ? 0 : EX_MOUNT_FAIL;
}

/* ---- the parent ------------------------------------------------------------------------------ */

static int wait_for_daemon(pid_t pid, int fd)
{
	char c;
	int status;
	ssize_t n;

	do
		n = read(fd, &c, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		return 0;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return EX_MOUNT_SYSTEM;
	if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
		return WEXITSTATUS(status);
	options_say("the daemon ended before the mount worked");
	return EX_MOUNT_FAIL;
}

/*
 * umount(8) asks statfs(2) for the type, which says "fuse", and finds no helper, unless a table of
 * its own has some option of this mount. Best effort: without it, umount(8) does not wait.
 */
static void note_mount(const struct options *o)
{
	/* mount(8), if it has called us, adds nothing to what is there. */
	char *opts = o->netdev ? "x-lunfs,_netdev" : "x-lunfs";
	char *args[] = {"mount", "-fic", "-t",	   "fuse.lunfs",  "-o",
			opts,	 "--",	 o->shown, o->mountpoint, NULL};
	int status, null;
	pid_t pid;

	if (geteuid() != 0)
		return;
	pid = fork();
	if (pid == 0) {
		null = open("/dev/null", O_RDWR);
		if (null >= 0 && dup2(null, STDOUT_FILENO) >= 0 && dup2(null, STDERR_FILENO) >= 0)
			execv("/bin/mount", args);
		_exit(127);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return;
}

static int start_daemon(struct daemon *d)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) != 0) {
		options_say("pipe: %s", strerror(errno));
		return EX_MOUNT_SYSTEM;
	}
	pid = fork();
	if (pid < 0) {
		options_say("fork: %s", strerror(errno));
		return EX_MOUNT_SYSTEM;
	}
	if (pid > 0) {
		int rc;

		close(fds[1]);
		rc = wait_for_daemon(pid, fds[0]);
		if (rc == 0)
			note_mount(d->o);
		return rc;
	}
	close(fds[0]);
	d->ready_fd = fds[1];
	setsid();
	if (chdir("/") != 0)
		return EX_MOUNT_SYSTEM;
	return run(d);
}

/* A mount that works says nothing; the daemon logs from then on. */
static enum log_level first_level(const struct options *o)
{
	if (o->verbose)
		return LOG_LVL_DEBUG;
	return o->foreground ? LOG_LVL_INFO : LOG_LVL_WARN;
}

int main(int argc, char **argv)
{
	struct options o = {0};
	struct daemon d = {.o = &o, .log_fd = -1, .ready_fd = -1, .outcome = -1};
	int rc;

	if (!standard_files_open())
		return EX_MOUNT_SYSTEM;
	rc = options_parse(argc, argv, &o);
	if (rc > 0) {
		options_free(&o);
		return rc - 1;
	}
	if (o.vol.host.name[0] == '\0')
		gethostname(o.vol.host.name, sizeof(o.vol.host.name) - 1);
	log_open("mount.lunfs", first_level(&o), 0);
	if (check_mountpoint(o.mountpoint) || check_fuse() || open_log(&d))
		rc = EX_MOUNT_FAIL;
	else
		rc = o.foreground ? run(&d) : start_daemon(&d);
	options_free(&o);
	return rc;
}
