/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lunfs check-device: tries on a device what lunfs relies on. In here: the options, the leave to
 * write, opening the device, and waiting for the check with an end to all patience; the tests are
 * in fs/check/, what is printed in check_report.c.
 *
 * Without --destructive only the scratch area of a lunfs volume is written to; a device that holds
 * none is only looked at, and so is one on which more than the volume stands, or less of it: its
 * superblocks outlive a new use of the device.
 */
#include "cli/check_report.h"
#include "cli/cli.h"
#include "mkfs.h"

#include "base/siphash.h"
#include "cluster/host.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS_NS 1000000ull
#define S_NS 1000000000ull
#define TICK_NS (100 * MS_NS)
#define COMMAND_MAX_MS 8000u /* what the check gives a command at least */
#define SLACK_S 20u
#define SLACK_COMMANDS 12u /* that a check waits for in vain, one after the other */
#define SECONDS_DEFAULT 10u
#define SECONDS_MAX 3600u
#define WAIT_DEFAULT 60u

struct run {
	const char *name;
	char shown[sizeof(((struct dev_identity *)0)->name)]; /* the same without a password */
	bool json, quiet, facts_only, destructive, provoke, yes, force;
	unsigned seconds, hosts, wait_s, sessions, tasks;
	struct geo geo;
	bool volume;
	uint32_t sector_bytes;
	char note[1024]; /* about a volume that cannot be read */
	char why[512];
	struct clock *clk;
	struct check_facts facts;
	struct check *check;
	struct mtx mtx;
	struct cond cv;
	bool done; /* mtx */
	_Atomic(const char *) what;
	atomic_uint percent;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	(void)sig;
	interrupted = 1;
}

/* ---- options --------------------------------------------------------------------------------- */

enum {
	OPT_DESTRUCTIVE = 256,
	OPT_HOSTS,
	OPT_WAIT,
	OPT_SECONDS,
	OPT_SESSIONS,
	OPT_TASKS,
	OPT_JSON,
	OPT_PROVOKE
};

static const struct option longs[] = {{"json", no_argument, NULL, OPT_JSON},
				      {"destructive", no_argument, NULL, OPT_DESTRUCTIVE},
				      {"provoke", no_argument, NULL, OPT_PROVOKE},
				      {"hosts", required_argument, NULL, OPT_HOSTS},
				      {"wait", required_argument, NULL, OPT_WAIT},
				      {"seconds", required_argument, NULL, OPT_SECONDS},
				      {"sessions", required_argument, NULL, OPT_SESSIONS},
				      {"tasks", required_argument, NULL, OPT_TASKS},
				      {"dry-run", no_argument, NULL, 'n'},
				      {"yes", no_argument, NULL, 'y'},
				      {"force", no_argument, NULL, 'f'},
				      {"quiet", no_argument, NULL, 'q'},
				      {"help", no_argument, NULL, 'h'},
				      {NULL, 0, NULL, 0}};

static void usage(FILE *to)
{
	fputs(
	    "Usage: lunfs check-device [options] DEVICE\n"
	    "Try on DEVICE what lunfs relies on, and say whether hosts can share it.\n"
	    "\n"
	    "      --hosts N        together with N - 1 other hosts that run the same now\n"
	    "      --wait SECONDS   how long to wait for them (60)\n"
	    "      --seconds N      how long to try (10)\n"
	    "      --sessions N     sessions with the device (4)\n"
	    "      --tasks N        commands at once in each session (8)\n"
	    "      --destructive    a device without a lunfs volume: overwrite 512 KiB of it\n"
	    "      --provoke        with that: leave behind what a refused command leaves behind\n"
	    "  -y, --yes            do not ask before that\n"
	    "  -f, --force          even if something stands on it, or a host is alive\n"
	    "  -n, --dry-run        only what the device and the kernel say; write nothing\n"
	    "      --json           one JSON object on standard output\n"
	    "  -q, --quiet          the verdict and what speaks against it, nothing else\n"
	    "  -h, --help           print this\n"
	    "\n"
	    "Exit codes: 0 fit, 3 fit with limits, 4 unfit, 5 undecided, 1 failed, 2 usage.\n",
	    to);
}

static int number(const char *option, const char *text, unsigned max, unsigned *out)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || n == 0 || n > max) {
		fprintf(stderr, "lunfs: --%s \"%s\" cannot be used: a number from 1 to %u is\n",
			option, text, max);
		return -1;
	}
	*out = (unsigned)n;
	return 0;
}

static int option(struct run *r, int o)
{
	switch (o) {
	case OPT_JSON:
		r->json = true;
		return 0;
	case OPT_DESTRUCTIVE:
		r->destructive = true;
		return 0;
	case OPT_PROVOKE:
		r->provoke = true;
		return 0;
	case OPT_HOSTS:
		return number("hosts", optarg, CHECK_HOSTS_MAX, &r->hosts);
	case OPT_WAIT:
		return number("wait", optarg, SECONDS_MAX, &r->wait_s);
	case OPT_SECONDS:
		return number("seconds", optarg, SECONDS_MAX, &r->seconds);
	case OPT_SESSIONS:
		return number("sessions", optarg, CHECK_SESSIONS_MAX, &r->sessions);
	case OPT_TASKS:
		return number("tasks", optarg, CHECK_TASKS_MAX, &r->tasks);
	case 'n':
		r->facts_only = true;
		return 0;
	case 'y':
		r->yes = true;
		return 0;
	case 'f':
		r->force = true;
		return 0;
	case 'q':
		r->quiet = true;
		return 0;
	default:
		return -1;
	}
}

/* -1: go on. */
static int parse(struct run *r, int argc, char **argv)
{
	int o;

	*r = (struct run){.json = r->json, .seconds = SECONDS_DEFAULT, .wait_s = WAIT_DEFAULT};
	while ((o = getopt_long(argc, argv, "nyfqh", longs, NULL)) != -1) {
		if (o == 'h') {
			usage(stdout);
			return EX_CLI_OK;
		}
		if (option(r, o))
			return EX_CLI_USAGE;
	}
	if (argc - optind != 1) {
		usage(stderr);
		return EX_CLI_USAGE;
	}
	if (r->facts_only && r->destructive) {
		fputs("lunfs: --dry-run and --destructive exclude each other\n", stderr);
		return EX_CLI_USAGE;
	}
	if (r->provoke && !r->destructive) {
		fputs("lunfs: --provoke needs --destructive\n", stderr);
		return EX_CLI_USAGE;
	}
	r->name = argv[optind];
	dev_name_shown(r->name, r->shown, sizeof(r->shown));
	return -1;
}

/* ---- what it is, and the leave to write ------------------------------------------------------ */

static int complain(const struct run *r)
{
	fprintf(stderr, "lunfs: %s\n", r->why);
	return EX_CLI_FAIL;
}

/* The product string of a device that the kernel does not know: vendor, product, revision. */
static void split_product(const char *text, struct check_facts *f)
{
	const char *first = strchr(text, ' '), *last = strrchr(text, ' ');

	if (!first || first == last) {
		snprintf(f->product, sizeof(f->product), "%s", text);
		return;
	}
	snprintf(f->vendor, sizeof(f->vendor), "%.*s", (int)(first - text), text);
	snprintf(f->product, sizeof(f->product), "%.*s", (int)(last - first - 1), first + 1);
	snprintf(f->revision, sizeof(f->revision), "%s", last + 1);
}

static void learn(struct run *r, const struct dev *d)
{
	struct check_facts *f = &r->facts;

	split_product(d->id.product, f);
	if (d->id.kind == DEV_KIND_ISCSI) {
		snprintf(f->transport, sizeof(f->transport), "iSCSI");
		return;
	}
	if (!disk_facts_read(r->name, &f->disk) || !f->disk.vendor[0])
		return;
	snprintf(f->vendor, sizeof(f->vendor), "%s", f->disk.vendor);
	snprintf(f->product, sizeof(f->product), "%s", f->disk.model);
	snprintf(f->revision, sizeof(f->revision), "%s", f->disk.revision);
	snprintf(f->transport, sizeof(f->transport), "%s", f->disk.path[0].transport);
}

/* The maintenance sector stands half a MiB before the scratch area, and every mount needs it. */
static int maint_is_there(struct run *r, struct dev *d, const struct geo *g)
{
	void *sector = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	struct maint_info mi;
	int rc = dev_read(d, LUNFS_MAINT_OFF, LUNFS_BLOCK_BYTES, sector);

	if (!rc)
		rc = maint_decode(g, sector, &mi);
	if (rc)
		snprintf(r->note, sizeof(r->note),
			 "%s: behind the superblock there is no volume any more, or its "
			 "maintenance sector is damaged (fsck.lunfs)",
			 r->shown);
	free(sector);
	return rc;
}

static int nothing_else_is_there(struct run *r, struct dev *d)
{
	struct mkfs_found found = {0};
	int rc = probe_signatures(d, &found, r->note, sizeof(r->note));

	if (!rc && found.others) {
		snprintf(r->note, sizeof(r->note),
			 "%s: a lunfs superblock is not all that stands there: %s", r->shown,
			 found.names);
		rc = -EEXIST;
	}
	found_free(&found);
	return rc;
}

/* A superblock alone does not make the scratch area ours: it may have outlived its volume. */
static int look_at_volume(struct run *r, struct dev *d, struct geo *g)
{
	bool copy;
	int rc = vol_read_super(d, g, &copy, r->note, sizeof(r->note));

	if (rc) {
		if (rc == -EINVAL)
			r->note[0] = 0;
		return rc;
	}
	if (copy) {
		snprintf(
		    r->note, sizeof(r->note),
		    "%s: only a copy of the superblock is left; if the volume is still in use, "
		    "run fsck.lunfs",
		    r->shown);
		return -EUCLEAN;
	}
	rc = maint_is_there(r, d, g);
	return rc ? rc : nothing_else_is_there(r, d);
}

/* Does it hold a volume? Opened for reading only. */
static int look(struct run *r)
{
	struct dev *d;
	int rc = dev_open(r->name, DEV_OPEN_RDONLY, 0, &d, r->why, sizeof(r->why));

	if (rc)
		return rc;
	learn(r, d);
	r->volume = look_at_volume(r, d, &r->geo) == 0;
	r->sector_bytes = r->volume ? r->geo.sector_bytes : d->id.sector_bytes;
	dev_close(d);
	return 0;
}

static int ask(const struct run *r)
{
	char line[16];

	if (r->yes)
		return 0;
	if (!isatty(STDIN_FILENO)) {
		fprintf(stderr, "lunfs: --destructive asks before it writes; in a script, say "
				"--yes\n");
		return -1;
	}
	fprintf(stderr,
		"This overwrites 512 KiB of %s, tries discards there and reserves the device for "
		"a moment.\nGo on? [y/N] ",
		r->shown);
	if (!fgets(line, sizeof(line), stdin) || (line[0] != 'y' && line[0] != 'Y')) {
		fputs("lunfs: nothing was done\n", stderr);
		return -1;
	}
	return 0;
}

/* Nobody uses it, and nothing of value stands there. */
static int permission(struct run *r, struct dev *d)
{
	struct mkfs_found found = {0};
	struct live_table *live = NULL;
	int rc = 0;

	if (d->id.size_bytes >= LUNFS_MIN_BYTES) /* else it has no host table */
		rc = live_watch(d, r->clk, r->json || r->quiet, &live, r->why, sizeof(r->why));
	live_free(live);
	if (rc == -EBUSY && r->force)
		rc = 0;
	if (rc)
		return rc;
	rc = probe_signatures(d, &found, r->why, sizeof(r->why));
	if (!rc && (r->volume ? found.others : found.names[0]) && !r->force) {
		snprintf(r->why, sizeof(r->why),
			 "It holds something already: %s. Use -f to write to it all the same.",
			 found.names);
		rc = -EEXIST;
	}
	found_free(&found);
	return rc;
}

static int may_destroy(struct run *r)
{
	struct dev *d;
	int rc = dev_open(r->name, DEV_OPEN_EXCL, r->sector_bytes, &d, r->why, sizeof(r->why));

	if (rc)
		return rc;
	rc = permission(r, d);
	dev_close(d);
	return rc;
}

/* ---- the check and waiting for it ------------------------------------------------------------ */

static int open_session(void *ctx, struct dev **out, char *why, size_t why_len)
{
	struct run *r = ctx;
	bool write = r->destructive || (r->volume && !r->facts_only);

	return dev_open(r->name, write ? 0 : DEV_OPEN_RDONLY, r->sector_bytes, out, why, why_len);
}

static void progress(void *ctx, const char *what, unsigned percent)
{
	struct run *r = ctx;

	atomic_store(&r->what, what);
	atomic_store(&r->percent, percent);
}

static uint64_t boot_hash(void)
{
	static const uint8_t key[16] = "lunfs check boot";
	char id[64] = "";
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	if (f && !fgets(id, sizeof(id), f))
		id[0] = 0;
	if (f)
		fclose(f);
	return siphash24(key, id, strlen(id));
}

static void configure(struct run *r, struct check_config *cfg)
{
	const struct geo *g = &r->geo;

	*cfg = (struct check_config){
	    .clk = r->clk,
	    .open = open_session,
	    .ctx = r,
	    .facts = &r->facts,
	    .may_write = r->destructive || (r->volume && !r->facts_only),
	    .destructive = r->destructive,
	    .provoke = r->provoke,
	    .volume = r->volume,
	    .volume_cell_bytes = r->volume ? geo_cell_bytes(g) : 0,
	    .beat_ms = r->volume ? g->beat_ms : 3000,
	    .deadline_ms = r->volume ? g->deadline_ms : 8000,
	    .lease_ms = r->volume ? g->lease_ms : 16000,
	    .sessions = r->sessions,
	    .tasks = r->tasks,
	    .run_ms = r->seconds * 1000,
	    .hosts = r->hosts,
	    .wait_ms = r->wait_s * 1000,
	    .boot = boot_hash(),
	    .progress = progress,
	};
	gethostname(cfg->host, sizeof(cfg->host) - 1);
}

static void check_task(void *arg)
{
	struct run *r = arg;

	check_run(r->check);
	mtx_lock(&r->mtx);
	r->done = true;
	cond_broadcast(&r->cv);
	mtx_unlock(&r->mtx);
}

static bool tick(struct run *r)
{
	uint64_t until = clock_now_ns(r->clk) + TICK_NS;
	bool done;

	mtx_lock(&r->mtx);
	while (!r->done && clock_now_ns(r->clk) < until)
		cond_wait(&r->cv, &r->mtx, until);
	done = r->done;
	mtx_unlock(&r->mtx);
	return done;
}

static uint64_t patience_ns(const struct run *r, const struct check_config *cfg)
{
	uint64_t ms = cfg->deadline_ms > COMMAND_MAX_MS ? cfg->deadline_ms : COMMAND_MAX_MS;

	return (2ull * r->seconds + (r->hosts > 1 ? r->wait_s : 0) + SLACK_S) * S_NS +
	       SLACK_COMMANDS * ms * MS_NS;
}

/* true: it has ended; false: it hangs. */
static bool wait_for(struct run *r, uint64_t patience)
{
	uint64_t start = clock_now_ns(r->clk);
	bool show = isatty(STDERR_FILENO) && !r->quiet, told = false, done;
	uint64_t shown = UINT64_MAX;

	while (!(done = tick(r)) && clock_now_ns(r->clk) - start < patience) {
		const char *what = atomic_load(&r->what);

		if (interrupted && !told) {
			check_stop(r->check);
			told = true;
		}
		if (show && (clock_now_ns(r->clk) - start) / S_NS != shown) {
			shown = (clock_now_ns(r->clk) - start) / S_NS;
			fprintf(stderr, "\r\033[K%3u %% %s, %llu s", atomic_load(&r->percent),
				told   ? "stopping"
				: what ? what
				       : "",
				(unsigned long long)shown);
		}
	}
	if (show)
		fputs("\r\033[K", stderr);
	return done;
}

static void catch_signals(void)
{
	/* SA_RESETHAND: the second one ends the program as ever. */
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND | SA_RESTART};

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
}

static int finish(struct run *r, const struct check_config *cfg)
{
	struct check_report rep = {.device = r->shown,
				   .volume = r->volume,
				   .note = r->note,
				   .facts = &r->facts,
				   .cfg = cfg,
				   .quiet = r->quiet};

	rep.results = check_results(r->check, rep.result);
	rep.verdict = check_verdict(rep.result, rep.results);
	if (r->json)
		check_report_json(&rep);
	else
		check_report_text(&rep);
	return check_exit_code(rep.verdict);
}

static int check(struct run *r)
{
	struct check_config cfg;
	struct task *task;
	int rc;

	configure(r, &cfg);
	r->check = check_new(&cfg);
	mtx_init(&r->mtx, r->clk);
	cond_init(&r->cv, r->clk);
	catch_signals();
	if (r->clk->ops->task_start(r->clk, "check", check_task, r, &task)) {
		fputs("lunfs: no thread can be started\n", stderr);
		return EX_CLI_FAIL;
	}
	if (!wait_for(r, patience_ns(r, &cfg))) {
		check_add_hang(r->check);
		rc = finish(r, &cfg);
		fflush(NULL);
		_exit(rc); /* its threads cannot be waited for */
	}
	r->clk->ops->task_join(r->clk, task);
	rc = finish(r, &cfg);
	check_free(r->check);
	cond_destroy(&r->cv);
	mtx_destroy(&r->mtx);
	return rc;
}

int cmd_check_device(int argc, char **argv, bool json)
{
	static struct run r; /* it outlives a check that hangs */
	int rc;

	r.json = json;
	rc = parse(&r, argc, argv);
	if (rc >= 0)
		return rc;
	if (clock_real_new(&r.clk)) {
		fputs("lunfs: there is no memory\n", stderr);
		return EX_CLI_FAIL;
	}
	rc = look(&r);
	if (!rc && r.destructive) {
		if (ask(&r))
			return EX_CLI_FAIL;
		rc = may_destroy(&r);
	}
	rc = rc ? complain(&r) : check(&r);
	r.clk->ops->destroy(r.clk);
	return rc;
}
