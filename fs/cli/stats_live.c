/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lunfs stats --interval: what happened between two answers of the daemon, in rates. A daemon that
 * was mounted anew in between has begun to count anew, so then the new numbers are the difference.
 */
#include "cli/stats.h"

#include "cluster/health.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MIB (1024.0 * 1024.0)

struct span { /* between two answers */
	struct json_object *was, *now;
	double seconds;
};

/* What a rate is made of: the sum of these counters. */
struct rate {
	const char *key, *heading;
	int width, digits;
	double unit;
	const char *path[6];
};

static const struct rate rates[] = {
    {"reads_per_s", "r/s", 8, 0, 1, {"dev_reads"}},
    {"read_mib_per_s", "rMiB/s", 8, 1, MIB, {"dev_read_bytes"}},
    {"writes_per_s", "w/s", 8, 0, 1, {"dev_writes"}},
    {"write_mib_per_s", "wMiB/s", 8, 1, MIB, {"dev_write_bytes"}},
    {"flushes_per_s", "fl/s", 7, 0, 1, {"dev_flushes"}},
    {"ats_per_s", "ats/s", 7, 0, 1, {"ats_commands"}},
    {"lost_races_per_s", "lost/s", 7, 1, 1, {"ats.lost-race"}},
    {"bad_per_s",
     "bad/s",
     6,
     1,
     1,
     {"ats.done-late", "ats.unexplained", "ats.unknown", "ats.error", "ats.damaged",
      "ats.went-back"}},
};
#define RATES (sizeof(rates) / sizeof(rates[0]))

static const struct {
	const char *key, *heading;
	int width;
	const char *path;
} slow[] = {
    {"read_p99_ms", "r99ms", 8, "latency.read.device"},
    {"write_p99_ms", "w99ms", 8, "latency.write.device"},
    {"ats_p99_ms", "ats99ms", 8, "latency.lock.device"},
    {"beat_p99_ms", "bt99ms", 8, "latency.beat.device"},
};
#define SLOW (sizeof(slow) / sizeof(slow[0]))

static struct span span(struct json_object *was, struct json_object *now)
{
	uint64_t before = was ? stats_num(was, "uptime_ms") : 0,
		 after = stats_num(now, "uptime_ms");
	bool same = was && before <= after &&
		    strcmp(stats_text(was, "uuid"), stats_text(now, "uuid")) == 0 &&
		    stats_num(was, "host.generation") == stats_num(now, "host.generation");
	struct span s = {.was = same ? was : NULL, .now = now};
	uint64_t ms = same ? after - before : after;

	s.seconds = (double)(ms ? ms : 1) / 1e3;
	return s;
}

static double per_second(const struct span *s, const struct rate *r)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < 6 && r->path[i]; i++) {
		uint64_t now = stats_num(s->now, r->path[i]);
		uint64_t was = s->was ? stats_num(s->was, r->path[i]) : 0;

		n += now > was ? now - was : 0;
	}
	return (double)n / r->unit / s->seconds;
}

static void dist_between(const struct span *s, const char *path, struct dist_copy *out)
{
	struct dist_copy was = {0};

	stats_dist(s->now, path, out);
	if (s->was)
		stats_dist(s->was, path, &was);
	out->n = 0;
	for (unsigned i = 0; i < DIST_BUCKETS; i++) {
		out->bucket[i] -= was.bucket[i] < out->bucket[i] ? was.bucket[i] : out->bucket[i];
		out->n += out->bucket[i];
	}
}

/* False: there was none. */
static bool p99_ms(const struct span *s, const char *path, double *out)
{
	struct dist_copy c;

	dist_between(s, path, &c);
	*out = (double)dist_quantile_us(&c, 990) / 1e3;
	return c.n > 0;
}

/* The least that was left of the lease when a beat came back; a lower bound. */
static bool lease_left_s(const struct span *s, double *out)
{
	struct dist_copy c;

	dist_between(s, "beats.lease_left", &c);
	for (unsigned i = 0; i < DIST_BUCKETS; i++) {
		if (!c.bucket[i])
			continue;
		*out = (double)dist_floor_us(i) / 1e6;
		return true;
	}
	return false;
}

static void print_headings(void)
{
	for (size_t i = 0; i < RATES; i++)
		printf("%*s", rates[i].width, rates[i].heading);
	for (size_t i = 0; i < SLOW; i++)
		printf("%*s", slow[i].width, slow[i].heading);
	printf("%8s\n", "lease s");
}

static void print_maybe(int width, int digits, bool there, double v)
{
	if (there)
		printf("%*.*f", width, digits, v);
	else
		printf("%*s", width, "-");
}

void stats_print_line(struct json_object *was, struct json_object *now, unsigned line)
{
	struct span s = span(was, now);
	double v = 0;
	bool there;

	if (line == 0)
		print_headings();
	for (size_t i = 0; i < RATES; i++)
		printf("%*.*f", rates[i].width, rates[i].digits, per_second(&s, &rates[i]));
	for (size_t i = 0; i < SLOW; i++) {
		there = p99_ms(&s, slow[i].path, &v);
		print_maybe(slow[i].width, v < 100 ? 2 : 0, there, v);
	}
	there = lease_left_s(&s, &v);
	print_maybe(8, 2, there, v);
	putchar('\n');
}

static void put(struct json_object *o, const char *key, double v, const char *fmt)
{
	char text[64];

	snprintf(text, sizeof(text), fmt, v);
	json_object_object_add(o, key, json_object_new_double_s(v, text));
}

struct json_object *stats_rates_json(struct json_object *was, struct json_object *now)
{
	struct json_object *o = json_object_new_object();
	struct span s = span(was, now);
	double v;

	put(o, "seconds", s.seconds, "%.3f");
	for (size_t i = 0; i < RATES; i++)
		put(o, rates[i].key, per_second(&s, &rates[i]), "%.3f");
	for (size_t i = 0; i < SLOW; i++) {
		if (p99_ms(&s, slow[i].path, &v))
			put(o, slow[i].key, v, "%.3f");
		else
			json_object_object_add(o, slow[i].key, NULL);
	}
	if (lease_left_s(&s, &v))
		put(o, "lease_left_s", v, "%.3f");
	else
		json_object_object_add(o, "lease_left_s", NULL);
	return o;
}
