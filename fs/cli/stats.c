/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lunfs stats: asks the daemon of a mount point by a virtual extended attribute of its root, once
 * or again and again, and shows the answer as a table, as JSON, or for Prometheus.
 */
#include "cli/stats.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <time.h>

#define STATS_BYTES (64u << 10)
#define INTERVAL_MAX_S 86400.0
#define HEADING_EVERY 20u

struct stats_cmd {
	const char *dir;
	bool json, prometheus, live;
	double interval_s;
	uint64_t count; /* 0: for ever */
};

/* ---- reading the answer -------------------------------------------------------------------- */

struct json_object *stats_at(struct json_object *o, const char *path)
{
	char copy[STATS_PATH_MAX], *rest = copy, *key;

	snprintf(copy, sizeof(copy), "%s", path);
	while (o && (key = strsep(&rest, ".")))
		if (!json_object_object_get_ex(o, key, &o))
			return NULL;
	return o;
}

uint64_t stats_num(struct json_object *o, const char *path)
{
	struct json_object *v = stats_at(o, path);

	return v && json_object_is_type(v, json_type_int) ? json_object_get_uint64(v) : 0;
}

const char *stats_text(struct json_object *o, const char *path)
{
	struct json_object *v = stats_at(o, path);

	return v && json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
}

static uint64_t number_in(struct json_object *pair, size_t i)
{
	return json_object_get_uint64(json_object_array_get_idx(pair, i));
}

void stats_dist(struct json_object *o, const char *path, struct dist_copy *out)
{
	char at[STATS_PATH_MAX];
	struct json_object *list;
	unsigned k = 0;

	memset(out, 0, sizeof(*out));
	snprintf(at, sizeof(at), "%s.sum_us", path);
	out->sum_us = stats_num(o, at);
	snprintf(at, sizeof(at), "%s.buckets", path);
	list = stats_at(o, at);
	if (!list || !json_object_is_type(list, json_type_array))
		return;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *pair = json_object_array_get_idx(list, i);

		if (!json_object_is_type(pair, json_type_array) ||
		    json_object_array_length(pair) != 2)
			continue;
		while (k < DIST_BUCKETS - 1 && dist_floor_us(k + 1) < number_in(pair, 0))
			k++;
		out->bucket[k] += number_in(pair, 1);
		out->n += number_in(pair, 1);
	}
}

static struct json_object *fetch(const char *dir)
{
	char *buf = calloc(1, STATS_BYTES + 1);
	struct json_object *o = NULL;
	ssize_t n = buf ? getxattr(dir, VOL_STATS_XATTR, buf, STATS_BYTES) : -1;

	if (n < 0) {
		fprintf(stderr, "lunfs: %s: %s\n", dir,
			errno == ENODATA || errno == EOPNOTSUPP
			    ? "not the mount point of a lunfs volume"
			    : strerror(errno));
	} else {
		o = json_tokener_parse(buf);
		if (!o)
			fprintf(stderr, "lunfs: %s: the daemon's answer is no JSON\n", dir);
	}
	free(buf);
	return o;
}

/* ---- live ---------------------------------------------------------------------------------- */

static void show_line(const struct stats_cmd *s, struct json_object *was, struct json_object *now,
		      uint64_t line)
{
	struct json_object *rates;

	if (s->json) {
		rates = stats_rates_json(was, now);
		puts(json_object_to_json_string_ext(rates, JSON_C_TO_STRING_PLAIN));
		json_object_put(rates);
	} else {
		stats_print_line(was, now, (unsigned)(line % HEADING_EVERY));
	}
	fflush(stdout);
}

static void pause_until(struct timespec *t, double seconds)
{
	long ns = t->tv_nsec + (long)((seconds - (double)(time_t)seconds) * 1e9);

	t->tv_sec += (time_t)seconds + ns / 1000000000;
	t->tv_nsec = ns % 1000000000;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, t, NULL) == EINTR)
		;
}

/* The first line is since the mount, each that follows since the one before. */
static int live(const struct stats_cmd *s)
{
	struct json_object *was = NULL, *now;
	struct timespec next;
	uint64_t line = 0;

	clock_gettime(CLOCK_MONOTONIC, &next);
	for (;;) {
		now = fetch(s->dir);
		if (now)
			show_line(s, was, now, line);
		json_object_put(was);
		was = now;
		if (!now || ferror(stdout) || ++line == s->count)
			break;
		pause_until(&next, s->interval_s);
	}
	json_object_put(was);
	return now && !ferror(stdout) ? EX_CLI_OK : EX_CLI_FAIL;
}

static int once(const struct stats_cmd *s)
{
	struct json_object *o = fetch(s->dir);

	if (!o)
		return EX_CLI_FAIL;
	if (s->json) {
		cli_print_json(o);
		return EX_CLI_OK;
	}
	if (s->prometheus)
		stats_print_prometheus(o);
	else
		stats_print_table(o);
	json_object_put(o);
	return EX_CLI_OK;
}

/* ---- the command line ---------------------------------------------------------------------- */

static void usage(FILE *to)
{
	fputs("Usage: lunfs stats [--json | --prometheus] DIRECTORY\n"
	      "       lunfs stats --interval SECONDS [--count N] [--json] DIRECTORY\n\n"
	      "Counters and latencies of the daemon that serves the mount point DIRECTORY.\n\n"
	      "Options:\n"
	      "  --json              one JSON object; with --interval one a line\n"
	      "  --prometheus        text exposition format 0.0.4\n"
	      "  --interval SECONDS  rates again and again; the first line is since the mount\n"
	      "  --count N           stop after N lines\n"
	      "  -h, --help          print this\n"
	      "\nExit codes: 0 done, 1 failed, 2 usage.\n",
	      to);
}

static int usage_error(const char *why)
{
	fprintf(stderr, "lunfs: %s\n", why);
	usage(stderr);
	return EX_CLI_USAGE;
}

static bool parse_seconds(const char *text, double *out)
{
	char *end;

	*out = strtod(text, &end);
	return end != text && !*end && *out >= 0.01 && *out <= INTERVAL_MAX_S;
}

static bool parse_count(const char *text, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno && *out > 0;
}

/* -1: go on; else the exit code. */
static int parse(int argc, char **argv, struct stats_cmd *s)
{
	static const struct option longs[] = {{"json", no_argument, NULL, 'j'},
					      {"prometheus", no_argument, NULL, 'p'},
					      {"interval", required_argument, NULL, 'i'},
					      {"count", required_argument, NULL, 'c'},
					      {"help", no_argument, NULL, 'h'},
					      {"version", no_argument, NULL, 'V'},
					      {NULL, 0, NULL, 0}};
	int o;

	while ((o = getopt_long(argc, argv, "hV", longs, NULL)) != -1) {
		if (o == 'j')
			s->json = true;
		else if (o == 'p')
			s->prometheus = true;
		else if (o == 'i' && parse_seconds(optarg, &s->interval_s))
			s->live = true;
		else if (o == 'i')
			return usage_error("--interval takes seconds, from 0.01 to a day");
		else if (o == 'c' && !parse_count(optarg, &s->count))
			return usage_error("--count takes a number of lines");
		else if (o == 'h' || o == '?') {
			usage(o == 'h' ? stdout : stderr);
			return o == 'h' ? EX_CLI_OK : EX_CLI_USAGE;
		} else if (o == 'V') {
			puts("lunfs " LUNFS_VERSION);
			return EX_CLI_OK;
		}
	}
	if (argc - optind != 1)
		return usage_error("'lunfs stats' takes one DIRECTORY");
	if (s->prometheus && (s->json || s->live))
		return usage_error("--prometheus goes with neither --json nor --interval");
	if (s->count && !s->live)
		return usage_error("--count goes with --interval");
	s->dir = argv[optind];
	return -1;
}

int cmd_stats(int argc, char **argv, bool json)
{
	struct stats_cmd s = {.json = json};
	int rc = parse(argc, argv, &s);

	if (rc < 0)
		rc = s.live ? live(&s) : once(&s);
	return rc;
}
