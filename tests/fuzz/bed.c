/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The volumes of fuzz.h, and one run on one of them. */
#include "fuzz.h"

#include "base/crc.h"
#include "edit.h"
#include "populate.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A run that takes more hangs: the longest lease that a volume may ask for is an hour. */
#define RUN_STEPS 20000000ull
#define RUN_NS (12 * 3600ull * SC_S)
#define SPARE_BYTES (4ull << 20) /* of the device, behind the volume's end */

static const char *const base_name[BASES] = {"tree", "dead", "redo", "4k"};

static struct bed beds[BASES];
static struct clock *clk;
static uint64_t zero_ns;
static struct {
	bool any;
	uint64_t end_bytes;
} allowed;

void fuzz_fail(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s:%d: ", file, line);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}

/* ---- a device that takes no time ------------------------------------------------------------- */

struct look {
	struct dev dev;
	struct simdev_medium *m;
};

static bool outside(const struct dev *d, uint64_t off, size_t len)
{
	return off > d->id.size_bytes || len > d->id.size_bytes - off;
}

static int look_read(struct dev *d, uint64_t off, size_t len, void *buf)
{
	if (outside(d, off, len))
		return -EINVAL;
	simdev_peek(((struct look *)d)->m, off, len, buf);
	return 0;
}

static int look_write(struct dev *d, uint64_t off, size_t len, const void *buf)
{
	if (outside(d, off, len))
		return -EINVAL;
	simdev_poke(((struct look *)d)->m, off, len, buf);
	return 0;
}

static const struct dev_ops look_ops = {.read = look_read, .write = look_write};

static struct dev *look_new(struct simdev_medium *m, const struct dev_identity *id)
{
	struct look *l = calloc(1, sizeof(*l));

	l->dev.ops = &look_ops;
	l->dev.id = *id;
	l->m = m;
	return &l->dev;
}

/* ---- writes ---------------------------------------------------------------------------------- */

static void watch_writes(void *ctx, const struct simdev_landing *l)
{
	(void)ctx;
	FUZZ_CHECK(allowed.any, "a check writes at %llu", (unsigned long long)l->off_bytes);
	FUZZ_CHECK(l->off_bytes >= LUNFS_SB_OFF && l->off_bytes + l->len_bytes <= allowed.end_bytes,
		   "%llu bytes are written at %llu, outside of the volume",
		   (unsigned long long)l->len_bytes, (unsigned long long)l->off_bytes);
}

void bed_allow_writes(struct bed *b, bool any, uint64_t end_bytes)
{
	allowed.any = any;
	allowed.end_bytes = end_bytes;
	simdev_set_monitor(b->medium, watch_writes, NULL);
}

/* ---- making ---------------------------------------------------------------------------------- */

struct make {
	struct bed *b;
	char path[64];
};

static void populate(struct simcluster *t, const char *line)
{
	bool crash;

	SC_OK(t, populate_line(t->v[0], line, &crash));
}

/* Dies once the maintenance sector names its log. */
static void kill_after_log(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
			   struct simdev_fault *out)
{
	struct bed *b = ctx;
	struct lunfs_maint_rec rec;

	(void)out;
	simdev_peek(b->medium, LUNFS_MAINT_OFF, sizeof(rec), &rec);
	if (cmd->op == SIMDEV_WRITE && le32_get(rec.flags) & LUNFS_MAINT_REDO)
		simdev_kill(d);
}

static void leave_log(struct simcluster *t, struct bed *b)
{
	static const char *const edits[] = {"inode:/d1.nlink=9", "inode:/small.blks=77",
					    "zero inode:/many"};
	char why[512];

	for (unsigned i = 0; i < sizeof(edits) / sizeof(edits[0]); i++)
		SC_OK(t, edit_apply(&b->in, edits[i], why, sizeof(why)));
	simdev_set_hook(b->medium, kill_after_log, b);
	fuzz_repair(b, t->clk, &(struct fuzz_fsck){0});
	simdev_set_hook(b->medium, NULL, NULL);
}

static void make_body(struct simcluster *t)
{
	struct make *mk = t->ctx;
	struct bed *b = mk->b;

	t->no_fsck = true;
	b->geo = t->geo;
	sc_up(t, 0);
	populate(t, "little");
	if (b->kind == BASE_DEAD) {
		populate(t, "sync");
		populate(t, "orphan /open 9000");
		populate(t, "unlink /d1/hard2");
		populate(t, "sync");
		sc_kill(t, 0);
	} else {
		sc_down(t, 0);
	}
	if (b->kind == BASE_REDO) {
		b->medium = t->medium;
		b->look = look_new(t->medium, &t->first->id);
		b->in = (struct insp){b->look, &b->geo};
		leave_log(t, b);
		free(b->look);
	}
	SC_OK(t, simdev_save(t->medium, mk->path));
}

static struct bed *make(enum base kind)
{
	struct bed *b = &beds[kind];
	uint32_t sector = kind == BASE_4K ? 4096 : 512;
	struct make mk = {.b = b};
	struct sc_shape shape = {
	    .seed = 1, .sector_bytes = sector, .journal_bytes = 1 << 20, .hosts = 2, .ctx = &mk};
	int fd = memfd_create("lunfs-fuzz", 0);
	uint64_t size;

	snprintf(mk.path, sizeof(mk.path), "/proc/self/fd/%d", fd);
	b->kind = kind;
	sc_run(make_body, &shape);
	/* A volume of the device's whole length, and one that has bytes behind it. */
	size = b->geo.dev_blks * LUNFS_BLOCK_BYTES;
	if (kind == BASE_4K)
		size += SPARE_BYTES;
	b->first = simdev_new(clk, size, sector, sector);
	b->medium = simdev_medium_of(b->first);
	if (fd < 0 || simdev_load(b->medium, mk.path))
		fuzz_fail(__FILE__, __LINE__, "the %s volume cannot be loaded", base_name[kind]);
	close(fd);
	b->look = look_new(b->medium, &b->first->id);
	b->in = (struct insp){b->look, &b->geo};
	b->made = simdev_snapshot(b->medium);
	return b;
}

/* Damage is told of without end. sc_run() opens the log too. */
static void setup_log(void)
{
	log_open("fuzz", getenv("LUNFS_FUZZ_LOG") ? LOG_LVL_DEBUG : (enum log_level)0, 0);
}

static void setup(void)
{
	clk = simclock_new();
	zero_ns = simclock_true_ns(clk);
}

struct bed *bed_get(enum base kind)
{
	if (!clk)
		setup();
	if (!beds[kind].made) {
		make(kind);
		setup_log();
	}
	return &beds[kind];
}

/* ---- one run --------------------------------------------------------------------------------- */

static enum base lowest(void)
{
	return (enum base)__builtin_ctz(fuzz_target.bases);
}

enum base bed_choose(const char *text)
{
	const char *line = strstr(text, "base ");

	for (unsigned i = 0; line && i < BASES; i++)
		if (fuzz_target.bases & 1u << i &&
		    strncmp(line + 5, base_name[i], strlen(base_name[i])) == 0)
			return (enum base)i;
	return lowest();
}

static void apply(struct bed *b, const char *text)
{
	char *copy = strdup(text), *rest = copy, *line;
	unsigned n = 0;

	while ((line = strsep(&rest, "\n")) && n < FUZZ_EDITS) {
		char why[512];

		if (!*line || *line == '#' || strncmp(line, "base ", 5) == 0 ||
		    strlen(line) >= FUZZ_LINE_BYTES)
			continue;
		if (edit_apply(&b->in, line, why, sizeof(why)) && getenv("LUNFS_FUZZ_LOG"))
			fprintf(stderr, "%s: %s\n", line, why);
		n++;
	}
	free(copy);
}

/*
 * The maintenance sector holds the checksum of all of the redo log, which an edit does not know:
 * it is made right, unless the input is about just that.
 */
static void reseal_log(struct bed *b, const char *text)
{
	struct lunfs_maint_rec m;
	uint64_t off, len;
	uint8_t *log;

	if (strstr(text, "redo_crc") || strstr(text, "nocrc") ||
	    insp_read(&b->in, LUNFS_MAINT_OFF, sizeof(m), &m))
		return;
	off = le64_get(m.redo_blk) * LUNFS_BLOCK_BYTES;
	len = le32_get(m.redo_blks) * (uint64_t)LUNFS_BLOCK_BYTES;
	if (!(le32_get(m.flags) & LUNFS_MAINT_REDO) || le32_get(m.redo_blks) > b->geo.journal_blks)
		return;
	log = malloc(len + 1);
	if (insp_read(&b->in, off, len, log) == 0) {
		m.redo_crc = le32_make(crc32c(log, len));
		crc_seal(&m, sizeof(m), offsetof(struct lunfs_ats_hdr, crc));
		insp_write(&b->in, LUNFS_MAINT_OFF, sizeof(m), &m);
	}
	free(log);
}

static void run_target(void *arg)
{
	fuzz_target.run(arg, clk);
}

static void undamage(struct bed *b)
{
	simdev_set_monitor(b->medium, NULL, NULL);
	simdev_roll_back(b->medium, b->made);
}

/* Undamaged at once: memory that is not free again after a run is a leak. */
static void run_in_time(struct bed *b)
{
	simclock_set_limits(clk, simclock_steps(clk) + RUN_STEPS,
			    simclock_true_ns(clk) - zero_ns + RUN_NS);
	simclock_run(clk, run_target, b, 1);
	undamage(b);
}

void bed_run(const char *text)
{
	struct bed *b = bed_get(bed_choose(text));

	undamage(b);
	apply(b, text);
	if (b->kind == BASE_REDO)
		reseal_log(b, text);
	run_in_time(b);
}

static enum base base_of_byte(unsigned byte)
{
	unsigned n = byte % (unsigned)__builtin_popcount(fuzz_target.bases);

	for (unsigned i = 0;; i++)
		if (fuzz_target.bases & 1u << i && n-- == 0)
			return (enum base)i;
}

void bed_run_raw(const uint8_t *data, size_t size)
{
	struct bed *b = bed_get(size ? base_of_byte(data[0]) : lowest());

	b->input = size ? data + 1 : data;
	b->input_bytes = size ? size - 1 : 0;
	if (fuzz_target.pure) {
		fuzz_target.run(b, clk);
		return;
	}
	undamage(b);
	run_in_time(b);
}
