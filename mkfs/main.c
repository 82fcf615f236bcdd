/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mkfs.lunfs: make a lunfs volume. Looks before it writes: at the device, at what stands on it, at
 * whether somebody uses that; and asks, on a terminal. Exit codes are those of mke2fs: 0 done, 1
 * not done.
 */
#include "mkfs.h"

#include "base/log.h"
#include "cluster/pr.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uuid/uuid.h>

struct run {
	struct mkfs_options o;
	struct dev *d;
	struct clock *clk;
	struct mkfs_topology topology;
	struct geo g;
	struct mkfs_found found;
	struct live_table *old;
	struct pr_temporary pr;
	struct mkfs_work work;
	struct progress progress;
	int lock_fd;		      /* of a regular file, -1: none */
	bool planned, looked, worked; /* how far it came, for the report */
	char why[MKFS_WHY_BYTES];
};

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	(void)sig;
	interrupted = 1;
}

/* From here on a signal ends the work between two writes, so that no reservation is left behind. */
static void catch_signals(void)
{
	static const int sig[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction sa = {.sa_handler = on_signal};

	for (unsigned i = 0; i < sizeof(sig) / sizeof(*sig); i++)
		sigaction(sig[i], &sa, NULL);
}

static int open_device(struct run *r)
{
	unsigned flags = DEV_OPEN_EXCL | (r->o.dry_run ? DEV_OPEN_RDONLY : 0) |
			 (r->o.force_file ? DEV_OPEN_FORCE_FILE : 0);
	int err = dev_open(r->o.device, flags, r->o.sector_bytes, &r->d, r->why, sizeof(r->why));

	if (err)
		return err;
	if (r->d->id.read_only && !r->o.dry_run) {
		snprintf(r->why, sizeof(r->why), "It is read-only.");
		return -EROFS;
	}
	topology_read(r->o.device, &r->topology);
	if (r->topology.physical_bytes > r->d->id.phys_bytes)
		r->d->id.phys_bytes = r->topology.physical_bytes;
	return r->o.force ? 0 : topology_check(&r->topology, r->why, sizeof(r->why));
}

/* Two mkfs.lunfs on one file would leave a part of each; a block device is opened exclusively. */
static int lock_file(struct run *r)
{
	struct stat st;

	if (r->o.dry_run || stat(r->o.device, &st) || !S_ISREG(st.st_mode))
		return 0;
	r->lock_fd = open(r->o.device, O_RDONLY | O_CLOEXEC);
	if (r->lock_fd < 0 || flock(r->lock_fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		return 0; /* a file system without such locks is no reason to refuse */
	snprintf(r->why, sizeof(r->why),
		 "Another program holds a lock on this file, another mkfs.lunfs perhaps.");
	return -EBUSY;
}

static int plan(struct run *r)
{
	struct geo *g = &r->g;
	struct timespec now;
	int err;

	r->o.align_bytes =
	    layout_align(r->d->id.size_bytes, r->topology.min_io_bytes, r->topology.opt_io_bytes);
	err = layout_make(&r->o, r->d->id.size_bytes, r->d->id.sector_bytes, r->d->id.phys_bytes, g,
			  r->why, sizeof(r->why));
	if (err)
		return err;
	memcpy(g->uuid, r->o.uuid, sizeof(g->uuid));
	memcpy(g->label, r->o.label, strlen(r->o.label));
	memcpy(g->dev_id, r->d->id.dev_id, sizeof(g->dev_id));
	uuid_generate_random(g->vol_id);
	r->clk->ops->random(r->clk, g->hash_key, sizeof(g->hash_key));
	r->clk->ops->realtime(r->clk, &now);
	g->mkfs_time_s = (uint64_t)now.tv_sec;
	r->planned = true;
	return 0;
}

static int refuse_overwrite(struct run *r)
{
	snprintf(r->why, sizeof(r->why), "It holds something already: %s. Use -f to overwrite it.",
		 r->found.names);
	return -EEXIST;
}

/* What stands there is not to be lost without a word. */
static int consent(struct run *r)
{
	char line[16];

	if (!r->found.names[0] || r->o.force)
		return 0;
	if (r->o.dry_run || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
		return refuse_overwrite(r);
	fprintf(stderr, "%s holds something already: %s.\nProceed anyway? (y,N) ", r->o.shown,
		r->found.names);
	if (fgets(line, sizeof(line), stdin) && (line[0] == 'y' || line[0] == 'Y'))
		return 0;
	snprintf(r->why, sizeof(r->why), "It still holds %s: nothing was written.", r->found.names);
	return -ECANCELED;
}

static bool silent(const struct run *r) /* on standard output, but for one JSON object */
{
	return r->o.quiet || r->o.json;
}

static struct mkfs_report report_of(struct run *r)
{
	return (struct mkfs_report){.o = &r->o,
				    .d = r->d,
				    .topology = &r->topology,
				    .g = r->planned ? &r->g : NULL,
				    .found = r->looked ? &r->found : NULL,
				    .work = r->worked ? &r->work : NULL,
				    .error = r->why[0] ? r->why : NULL};
}

/* Nobody uses it; then what stands there. */
static int look(struct run *r)
{
	int err = live_watch(r->d, r->clk, silent(r), &r->old, r->why, sizeof(r->why));

	if (!err)
		err = probe_signatures(r->d, &r->found, r->why, sizeof(r->why));
	r->looked = !err;
	return err;
}

static bool tell(void *ctx, const char *what, uint64_t done, uint64_t total)
{
	progress_show(ctx, what, done, total);
	return !interrupted;
}

static int make(struct run *r)
{
	FILE *out = !silent(r)						? stdout
		    : r->o.json && !r->o.quiet && isatty(STDERR_FILENO) ? stderr
									: NULL;
	int err;

	catch_signals();
	/* Who mounted while the question stood open keeps its registration with the device. */
	err = live_recheck(r->d, r->old, r->why, sizeof(r->why));
	if (!err)
		err = pr_temporary_take(&r->pr, r->d, r->clk, r->why, sizeof(r->why));
	if (!err)
		err = dev_caw_probe(r->d, LUNFS_SCRATCH_OFF, r->why, sizeof(r->why));
	if (err)
		return err;
	progress_begin(&r->progress, out);
	r->work = (struct mkfs_work){.d = r->d,
				     .clk = r->clk,
				     .g = &r->g,
				     .found = &r->found,
				     .old = r->old,
				     .discard = !r->o.keep && r->d->id.has_discard,
				     .step = tell,
				     .step_ctx = &r->progress};
	r->worked = true;
	err = volume_make(&r->work, r->why, sizeof(r->why));
	progress_end(&r->progress, !err);
	if (!silent(r) && r->work.discard_note[0])
		puts(r->work.discard_note);
	return err;
}

static int format(struct run *r)
{
	struct mkfs_report report;
	int err = open_device(r);

	if (!err)
		err = lock_file(r);
	if (!err)
		err = plan(r);
	if (!err)
		err = look(r);
	if (err)
		return err;
	if (!r->o.dry_run)
		err = consent(r);
	report = report_of(r);
	if (!err && !silent(r))
		report_layout(&report);
	if (r->o.dry_run)
		err = consent(r);
	if (err || r->o.dry_run)
		return err;
	return make(r);
}

static void say_why(struct run *r, int err)
{
	if (!r->why[0])
		snprintf(r->why, sizeof(r->why), "%s.", strerror(-err));
	if (strncmp(r->why, r->o.shown, strlen(r->o.shown)) == 0) /* it names the device itself */
		fprintf(stderr, "mkfs.lunfs: %s\n", r->why);
	else
		fprintf(stderr, "mkfs.lunfs: %s: %s\n", r->o.shown, r->why);
}

static void say_end(struct run *r, int err)
{
	struct mkfs_report report;

	if (err)
		say_why(r, err);
	else if (!silent(r))
		puts(r->o.dry_run ? "Nothing was written (-n)." : "Done.");
	if (!r->o.json)
		return;
	report = report_of(r);
	report_json(&report);
}

/* The kernel may still show partitions of a table that is gone; a file has none. */
static void forget_partitions(const struct run *r)
{
	int fd = open(r->o.device, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return;
	ioctl(fd, BLKRRPART);
	close(fd);
}

int main(int argc, char **argv)
{
	static struct run r = {.lock_fd = -1};
	bool made;
	int rc;

	if (!standard_files_open())
		return 1;
	signal(SIGPIPE, SIG_IGN); /* who reads along may leave; the work goes on */
	rc = options_parse(&r.o, argc, argv);
	if (rc)
		return rc < 0 ? 1 : 0;
	dev_name_shown(r.o.device, r.o.shown, sizeof(r.o.shown));
	log_open("mkfs.lunfs", LOG_LVL_WARN, 0);
	if (clock_real_new(&r.clk) != 0) {
		fprintf(stderr, "mkfs.lunfs: there is no memory.\n");
		return 1;
	}
	rc = format(&r);
	pr_temporary_end(&r.pr);
	made = !rc && r.worked && r.found.names[0];
	say_end(&r, rc);
	live_free(r.old);
	found_free(&r.found);
	if (r.d)
		dev_close(r.d);
	if (r.lock_fd >= 0)
		close(r.lock_fd);
	if (made)
		forget_partitions(&r);
	r.clk->ops->destroy(r.clk);
	return rc ? 1 : 0;
}
