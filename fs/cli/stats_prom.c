/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lunfs stats --prometheus: text exposition format 0.0.4. Every sample is labelled with the volume
 * and the host, so that those of many hosts can be added up or told apart. Durations are seconds.
 * Histograms have one bucket for each doubling; the daemon's own are four times finer.
 */
#include "cli/stats.h"

#include "cluster/ats.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LE_FIRST 4u /* buckets end at 16 us, 32 us ... 134 s */
#define LE_LAST 27u

struct prom {
	struct json_object *o;
	char *labels; /* volume="...",host="..." */
};

struct plain { /* one sample of its own */
	const char *path, *name, *type, *help;
	double unit; /* so much of the daemon's is one of ours */
};

static const struct plain plains[] = {
    {"uptime_ms", "lunfs_uptime_seconds", "gauge", "Time since the mount.", 1e3},
    {"host.lease_left_ms", "lunfs_lease_left_now_seconds", "gauge",
     "What is left of the lease at this moment.", 1e3},
    {"beats.lease_left_min_us", "lunfs_lease_left_min_seconds", "gauge",
     "The least that was ever left of the lease when a beat came back.", 1e6},
    {"dev_reads", "lunfs_device_reads_total", "counter", "Reads sent to the device.", 1},
    {"dev_writes", "lunfs_device_writes_total", "counter", "Writes sent to the device.", 1},
    {"dev_flushes", "lunfs_device_flushes_total", "counter", "Flushes sent to the device.", 1},
    {"dev_discards", "lunfs_device_discards_total", "counter", "Discards sent to the device.", 1},
    {"dev_read_bytes", "lunfs_device_read_bytes_total", "counter", "Bytes read.", 1},
    {"dev_write_bytes", "lunfs_device_written_bytes_total", "counter", "Bytes written.", 1},
    {"ats_commands", "lunfs_ats_commands_total", "counter",
     "COMPARE AND WRITE commands sent, those sent again included.", 1},
    {"ats.retries", "lunfs_ats_retries_total", "counter",
     "COMPARE AND WRITE commands that were sent again.", 1},
    {"ats.miscompares", "lunfs_ats_miscompares_total", "counter",
     "COMPARE AND WRITE commands answered with a miscompare.", 1},
    {"ats.false_miscompares", "lunfs_ats_false_miscompares_total", "counter",
     "Miscompares although the sector held what was expected.", 1},
    {"locks.asked_ahead", "lunfs_locks_asked_ahead_total", "counter",
     "Locks of files asked of other hosts before they were needed, many at once.", 1},
    {"locks.cached", "lunfs_locks_cached_total", "counter", "Locks taken without I/O.", 1},
    {"locks.cold", "lunfs_locks_cold_total", "counter", "Locks read and taken by ATS.", 1},
    {"locks.ahead", "lunfs_locks_ahead_total", "counter",
     "Locks of files taken before they were asked for, many at once.", 1},
    {"locks.asked", "lunfs_locks_asked_total", "counter", "Wishes for locks of other hosts.", 1},
    {"locks.received", "lunfs_locks_received_total", "counter", "Locks handed over to this host.",
     1},
    {"locks.handed_over", "lunfs_locks_handed_over_total", "counter",
     "Locks handed over to other hosts.", 1},
    {"locks.released", "lunfs_locks_released_total", "counter", "Locks released.", 1},
    {"locks.upgraded", "lunfs_locks_upgraded_total", "counter",
     "Locks taken exclusively after they were held shared.", 1},
    {"locks.waits", "lunfs_lock_waits_total", "counter", "Waits for locks of other hosts.", 1},
    {"locks.wait_us", "lunfs_lock_wait_seconds_total", "counter",
     "Time waited for locks of other hosts.", 1e6},
    {"locks.board_reads", "lunfs_board_reads_total", "counter", "Request board reads.", 1},
    {"locks.board_writes", "lunfs_board_writes_total", "counter", "Request board writes.", 1},
    {"transactions.commits", "lunfs_commits_total", "counter", "Transactions committed.", 1},
    {"transactions.committed_blocks", "lunfs_committed_blocks_total", "counter",
     "Metadata blocks committed.", 1},
    {"transactions.log_blocks", "lunfs_log_blocks_total", "counter",
     "Blocks written to the journal.", 1},
    {"transactions.checkpoints", "lunfs_checkpoints_total", "counter", "Checkpoints.", 1},
    {"transactions.checkpointed_blocks", "lunfs_checkpointed_blocks_total", "counter",
     "Metadata blocks written in place.", 1},
    {"transactions.replays", "lunfs_replays_total", "counter", "Journals of dead hosts replayed.",
     1},
    {"transactions.replayed_blocks", "lunfs_replayed_blocks_total", "counter",
     "Blocks written by replays.", 1},
    {"transactions.skipped_blocks", "lunfs_skipped_blocks_total", "counter",
     "Blocks in replayed journals that were not live.", 1},
    {"transactions.cache_hits", "lunfs_cache_hits_total", "counter",
     "Metadata blocks found in the cache.", 1},
    {"transactions.cache_misses", "lunfs_cache_misses_total", "counter",
     "Metadata blocks read from the device.", 1},
    {"transactions.cache_refilled", "lunfs_cache_refilled_total", "counter",
     "Metadata blocks read together when a lock came back.", 1},
    {"transactions.commit_us_max", "lunfs_commit_max_seconds", "gauge", "The slowest commit.", 1e6},
    {"orphans.waiting", "lunfs_orphans_waiting", "gauge", "Unlinked inodes to be freed.", 1},
    {"orphans.freed", "lunfs_orphans_freed_total", "counter", "Unlinked inodes freed.", 1},
};

/* ---- writing ------------------------------------------------------------------------------- */

static void family(const char *name, const char *type, const char *help)
{
	printf("# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void sample(const struct prom *p, const char *name, const char *more, double v)
{
	printf("%s{%s%s%s} %.15g\n", name, p->labels, *more ? "," : "", more, v);
}

static void print_escaped(FILE *f, const char *text)
{
	for (; *text; text++) {
		if (*text == '\\' || *text == '"')
			fputc('\\', f);
		if (*text == '\n')
			fputs("\\n", f);
		else
			fputc(*text, f);
	}
}

static void label(FILE *f, const char *sep, const char *name, const char *value)
{
	fprintf(f, "%s%s=\"", sep, name);
	print_escaped(f, value);
	fputc('"', f);
}

static void plain(const struct prom *p, const struct plain *m)
{
	family(m->name, m->type, m->help);
	sample(p, m->name, "", (double)stats_num(p->o, m->path) / m->unit);
}

static void by_label(const struct prom *p, const char *name, const char *what, const char *value,
		     const char *dir)
{
	char path[STATS_PATH_MAX], more[STATS_PATH_MAX];

	snprintf(path, sizeof(path), "%s.%s", dir, value);
	snprintf(more, sizeof(more), "%s=\"%s\"", what, value);
	sample(p, name, more, (double)stats_num(p->o, path));
}

static void info(const struct prom *p)
{
	static const char *const state[] = {"active", "suspended", "lost"};
	char more[64], *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return;
	label(f, "", "label", stats_text(p->o, "label"));
	label(f, ",", "device", stats_text(p->o, "device"));
	label(f, ",", "device_kind", stats_text(p->o, "device_kind"));
	label(f, ",", "fence", stats_text(p->o, "host.fence"));
	fclose(f);
	family("lunfs_info", "gauge", "What is mounted; always 1.");
	sample(p, "lunfs_info", text, 1);
	free(text);
	family("lunfs_host_state", "gauge", "1 for the state that this host is in.");
	for (unsigned i = 0; i < 3; i++) {
		snprintf(more, sizeof(more), "state=\"%s\"", state[i]);
		sample(p, "lunfs_host_state", more,
		       strcmp(state[i], stats_text(p->o, "host.state")) == 0);
	}
}

/* ---- histograms ---------------------------------------------------------------------------- */

static void histogram(const struct prom *p, const char *name, const char *more, const char *path)
{
	char part[STATS_PATH_MAX], labels[STATS_PATH_MAX];
	uint64_t below = 0;
	struct dist_copy c;
	unsigned k = 0;

	stats_dist(p->o, path, &c);
	snprintf(part, sizeof(part), "%s_bucket", name);
	for (unsigned le = LE_FIRST; le <= LE_LAST; le++) {
		while (k < DIST_BUCKETS && dist_floor_us(k + 1) <= 1ull << le)
			below += c.bucket[k++];
		snprintf(labels, sizeof(labels), "%s%sle=\"%.9g\"", more, *more ? "," : "",
			 (double)(1ull << le) / 1e6);
		sample(p, part, labels, (double)below);
	}
	snprintf(labels, sizeof(labels), "%s%sle=\"+Inf\"", more, *more ? "," : "");
	sample(p, part, labels, (double)c.n);
	snprintf(part, sizeof(part), "%s_sum", name);
	sample(p, part, more, (double)c.sum_us / 1e6);
	snprintf(part, sizeof(part), "%s_count", name);
	sample(p, part, more, (double)c.n);
}

/* One family of histograms, and one of the greatest values, by kind of command. */
static void latencies(const struct prom *p, const char *part, unsigned ops, const char *help,
		      const char *max_help)
{
	char name[64], path[STATS_PATH_MAX], more[64];

	snprintf(name, sizeof(name), "lunfs_%s_seconds", part);
	family(name, "histogram", help);
	for (unsigned op = 0; op < ops; op++) {
		const char *kind = health_op_name((enum health_op)op);

		snprintf(path, sizeof(path), "latency.%s.%s", kind, part);
		snprintf(more, sizeof(more), "kind=\"%s\"", kind);
		histogram(p, name, more, path);
	}
	snprintf(name, sizeof(name), "lunfs_%s_max_seconds", part);
	family(name, "gauge", max_help);
	for (unsigned op = 0; op < ops; op++) {
		const char *kind = health_op_name((enum health_op)op);

		snprintf(path, sizeof(path), "latency.%s.%s.max_us", kind, part);
		snprintf(more, sizeof(more), "kind=\"%s\"", kind);
		sample(p, name, more, (double)stats_num(p->o, path) / 1e6);
	}
}

void stats_print_prometheus(struct json_object *o)
{
	struct prom p = {.o = o};
	size_t len = 0;
	FILE *f = open_memstream(&p.labels, &len);

	if (!f)
		return;
	label(f, "", "volume", stats_text(o, "uuid"));
	label(f, ",", "host", stats_text(o, "host.name"));
	fclose(f);
	info(&p);
	for (size_t i = 0; i < sizeof(plains) / sizeof(plains[0]); i++)
		plain(&p, &plains[i]);
	family("lunfs_ats_outcomes_total", "counter", "Test and sets by how they ended.");
	for (unsigned k = 0; k < ATS_OUTCOMES; k++)
		by_label(&p, "lunfs_ats_outcomes_total", "outcome",
			 ats_outcome_name((enum ats_outcome)k), "ats");
	family("lunfs_ats_errors_total", "counter",
	       "COMPARE AND WRITE commands not carried out, or of unknown fate, by cause.");
	for (unsigned k = DEV_CAUSE_NONE + 1; k < DEV_CAUSES; k++)
		by_label(&p, "lunfs_ats_errors_total", "kind", dev_cause_name((enum dev_cause)k),
			 "ats.errors");
	family("lunfs_warnings_total", "counter", "Warnings before trouble, by their event words.");
	for (unsigned w = 0; w < HEALTH_WARNINGS; w++)
		by_label(&p, "lunfs_warnings_total", "kind",
			 health_warning_name((enum health_warning)w), "warnings");
	latencies(&p, "queue", HEALTH_OTHER + 1, "How long test and sets waited in lunfs.",
		  "The longest that one waited in lunfs.");
	latencies(&p, "device", HEALTH_OPS, "How long the device took.",
		  "The longest that the device took.");
	family("lunfs_beat_delay_seconds", "histogram",
	       "How much later than due beats were sent: this host's own delay.");
	histogram(&p, "lunfs_beat_delay_seconds", "", "beats.delay");
	family("lunfs_lease_left_seconds", "histogram",
	       "What was left of the lease when a beat came back.");
	histogram(&p, "lunfs_lease_left_seconds", "", "beats.lease_left");
	free(p.labels);
}
