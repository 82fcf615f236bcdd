/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lunfs stats for people: grouped, aligned, with units, within 100 columns. */
#include "cli/stats.h"

#include "cluster/ats.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COUNT(label, path)                                                                         \
	{                                                                                          \
		label, path, false                                                                 \
	}
#define MICROS(label, path)                                                                        \
	{                                                                                          \
		label, path, true                                                                  \
	}

struct entry {
	const char *label, *path;
	bool us;
};

/* "1.50 ms": three digits are enough for anybody. */
static const char *duration(uint64_t us, char buf[24])
{
	if (us < 1000)
		snprintf(buf, 24, "%" PRIu64 " us", us);
	else if (us < 1000000)
		snprintf(buf, 24, "%.*f ms",
			 us < 10000    ? 2
			 : us < 100000 ? 1
				       : 0,
			 (double)us / 1e3);
	else
		snprintf(buf, 24, "%.*f s",
			 us < 10000000	  ? 2
			 : us < 100000000 ? 1
					  : 0,
			 (double)us / 1e6);
	return buf;
}

static const char *bytes(uint64_t n, char buf[24])
{
	static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double v = (double)n;
	unsigned u = 0;

	while (v >= 1024 && u < 6) {
		v /= 1024;
		u++;
	}
	snprintf(buf, 24, "%.*f %s", u == 0 || v >= 100 ? 0 : v >= 10 ? 1 : 2, v, unit[u]);
	return buf;
}

static void group(const char *title)
{
	printf("\n%s\n", title);
}

/* Two to a line. */
static void cells(struct json_object *o, const struct entry *c, size_t n)
{
	char buf[24];

	for (size_t i = 0; i < n; i++) {
		uint64_t v = stats_num(o, c[i].path);

		if (c[i].us)
			printf("  %-26s %14s", c[i].label, duration(v, buf));
		else
			printf("  %-26s %14" PRIu64, c[i].label, v);
		if (i % 2 || i + 1 == n)
			putchar('\n');
		else
			printf("    ");
	}
}

#define CELLS(o, ...)                                                                              \
	do {                                                                                       \
		static const struct entry c_[] = {__VA_ARGS__};                                    \
		cells(o, c_, sizeof(c_) / sizeof(c_[0]));                                          \
	} while (0)

static void heading(struct json_object *o)
{
	char left[24], up[24];

	printf("Volume %s \"%.32s\" on %.40s (%s)\n", stats_text(o, "uuid"), stats_text(o, "label"),
	       stats_text(o, "device"), stats_text(o, "device_kind"));
	printf("Host %.64s, slot %" PRIu64 ", generation %" PRIu64 "\n", stats_text(o, "host.name"),
	       stats_num(o, "host.slot"), stats_num(o, "host.generation"));
	printf("%s%s, fenced by %s, %s of the lease left, mounted for %s\n",
	       stats_text(o, "host.state"),
	       json_object_get_boolean(stats_at(o, "read_only")) ? ", read-only" : "",
	       stats_text(o, "host.fence"),
	       duration(stats_num(o, "host.lease_left_ms") * 1000, left),
	       duration(stats_num(o, "uptime_ms") * 1000, up));
}

static void device_group(struct json_object *o)
{
	char buf[24];

	group("Device");
	printf("  %-14s %14s %14s\n", "", "commands", "bytes");
	printf("  %-14s %14" PRIu64 " %14s\n", "reads", stats_num(o, "dev_reads"),
	       bytes(stats_num(o, "dev_read_bytes"), buf));
	printf("  %-14s %14" PRIu64 " %14s\n", "writes", stats_num(o, "dev_writes"),
	       bytes(stats_num(o, "dev_write_bytes"), buf));
	printf("  %-14s %14" PRIu64 "\n", "flushes", stats_num(o, "dev_flushes"));
	printf("  %-14s %14" PRIu64 "\n", "discards", stats_num(o, "dev_discards"));
}

static void ats_group(struct json_object *o)
{
	struct entry c[DEV_CAUSES];
	char path[DEV_CAUSES][STATS_PATH_MAX];
	size_t n = 0;

	group("Test and set (ATS)");
	CELLS(o, COUNT("commands", "ats_commands"), COUNT("sent again", "ats.retries"),
	      COUNT("miscompares", "ats.miscompares"),
	      COUNT("of these, false", "ats.false_miscompares"), COUNT("done", "ats.done"),
	      COUNT("done late", "ats.done-late"), COUNT("lost a race", "ats.lost-race"),
	      COUNT("unexplained", "ats.unexplained"), COUNT("went back", "ats.went-back"),
	      COUNT("damaged", "ats.damaged"), COUNT("unknown", "ats.unknown"),
	      COUNT("fenced", "ats.fenced"), COUNT("failed", "ats.error"));
	for (unsigned k = DEV_CAUSE_NONE + 1; k < DEV_CAUSES; k++) {
		const char *name = dev_cause_name((enum dev_cause)k);

		snprintf(path[n], sizeof(path[n]), "ats.errors.%s", name);
		c[n] = (struct entry)COUNT(name, path[n]);
		if (stats_num(o, path[n]))
			n++;
	}
	printf("  commands not carried out, or of unknown fate%s\n", n ? ":" : ": none");
	cells(o, c, n);
}

static void latency_row(struct json_object *o, const char *name, const char *part, const char *path)
{
	char at[STATS_PATH_MAX], mean[24], p50[24], p99[24], max[24];
	struct dist_copy c;
	uint64_t top;

	stats_dist(o, path, &c);
	snprintf(at, sizeof(at), "%s.max_us", path);
	top = stats_num(o, at);
	if (!c.n)
		return;
	snprintf(at, sizeof(at), "%s.p50_us", path);
	duration(stats_num(o, at), p50);
	snprintf(at, sizeof(at), "%s.p99_us", path);
	duration(stats_num(o, at), p99);
	printf("  %-18s %-8s %12" PRIu64 " %11s %11s %11s %11s\n", name, part, c.n,
	       duration(c.sum_us / c.n, mean), p50, p99, duration(top, max));
}

static void latency_group(struct json_object *o)
{
	static const char *const label[HEALTH_OPS] = {
	    "ATS of locks", "beats", "slot changes", "other ATS", "reads", "writes", "flushes"};
	char path[STATS_PATH_MAX];

	group("Latency");
	printf("  %-18s %-8s %12s %11s %11s %11s %11s\n", "", "", "count", "mean", "p50", "p99",
	       "max");
	for (unsigned op = 0; op < HEALTH_OPS; op++) {
		const char *name = health_op_name((enum health_op)op);

		snprintf(path, sizeof(path), "latency.%s.queue", name);
		latency_row(o, label[op], "queue", path);
		snprintf(path, sizeof(path), "latency.%s.device", name);
		latency_row(o, op > HEALTH_OTHER ? label[op] : "", "device", path);
	}
	latency_row(o, "beats sent late", "", "beats.delay");
	latency_row(o, "lease left after", "beat", "beats.lease_left");
	CELLS(o, MICROS("lease left, least ever", "beats.lease_left_min_us"));
}

static void warnings_group(struct json_object *o)
{
	char path[HEALTH_WARNINGS][STATS_PATH_MAX];
	struct entry c[HEALTH_WARNINGS];
	size_t n = 0;

	for (unsigned w = 0; w < HEALTH_WARNINGS; w++) {
		const char *name = health_warning_name((enum health_warning)w);

		snprintf(path[n], sizeof(path[n]), "warnings.%s", name);
		c[n] = (struct entry)COUNT(name, path[n]);
		if (stats_num(o, path[n]))
			n++;
	}
	group(n ? "Warnings (see the log)" : "Warnings: none");
	cells(o, c, n);
}

void stats_print_table(struct json_object *o)
{
	heading(o);
	warnings_group(o);
	device_group(o);
	ats_group(o);
	latency_group(o);
	group("Locks");
	CELLS(o, COUNT("cached, no I/O", "locks.cached"),
	      COUNT("cold, read and taken", "locks.cold"),
	      COUNT("taken ahead of use", "locks.ahead"),
	      COUNT("asked for ahead of use", "locks.asked_ahead"),
	      COUNT("asked of other hosts", "locks.asked"), COUNT("received", "locks.received"),
	      COUNT("handed over", "locks.handed_over"), COUNT("released", "locks.released"),
	      COUNT("upgraded", "locks.upgraded"), COUNT("waits", "locks.waits"),
	      MICROS("waited in all", "locks.wait_us"),
	      COUNT("request board reads", "locks.board_reads"),
	      COUNT("request board writes", "locks.board_writes"));
	group("Journal");
	CELLS(o, COUNT("commits", "transactions.commits"),
	      COUNT("blocks committed", "transactions.committed_blocks"),
	      MICROS("slowest commit", "transactions.commit_us_max"),
	      COUNT("blocks logged", "transactions.log_blocks"),
	      COUNT("checkpoints", "transactions.checkpoints"),
	      COUNT("blocks checkpointed", "transactions.checkpointed_blocks"),
	      COUNT("journals replayed", "transactions.replays"),
	      COUNT("blocks replayed", "transactions.replayed_blocks"),
	      COUNT("blocks not live", "transactions.skipped_blocks"),
	      COUNT("cache hits", "transactions.cache_hits"),
	      COUNT("cache misses", "transactions.cache_misses"),
	      COUNT("read together", "transactions.cache_refilled"));
	group("Orphans");
	CELLS(o, COUNT("waiting to be freed", "orphans.waiting"), COUNT("freed", "orphans.freed"));
}
