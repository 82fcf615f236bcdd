/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside lunfs stats: the daemon's JSON object, and the forms in which it is shown. */
#ifndef CLI_STATS_H
#define CLI_STATS_H

#include "base/dist.h"
#include "cli/cli.h"

#define STATS_PATH_MAX 128u

/* What a dotted path names ("ats.errors.busy"); NULL: it is not there. */
struct json_object *stats_at(struct json_object *o, const char *path);
/* A number, 0 where there is none; a text, "" where there is none. */
uint64_t stats_num(struct json_object *o, const char *path);
const char *stats_text(struct json_object *o, const char *path);
/* The distribution at a path; all zero where there is none. */
void stats_dist(struct json_object *o, const char *path, struct dist_copy *out);

/* stats_table.c: a table for people. */
void stats_print_table(struct json_object *o);
/* stats_prom.c: the text form of Prometheus, version 0.0.4. */
void stats_print_prometheus(struct json_object *o);
/* stats_live.c: what happened from @was (NULL: since the mount) to @now; a heading with @line 0. */
void stats_print_line(struct json_object *was, struct json_object *now, unsigned line);
struct json_object *stats_rates_json(struct json_object *was, struct json_object *now);

#endif
