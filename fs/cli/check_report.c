/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lunfs check-device: its results for people and for scripts. */
#include "cli/check_report.h"
#include "cli/cli.h"

int check_exit_code(enum check_verdict v)
{
	switch (v) {
	case CHECK_FIT:
		return EX_CLI_OK;
	case CHECK_FIT_WITH_LIMITS:
		return EX_CHECK_LIMITS;
	case CHECK_UNFIT:
		return EX_CHECK_UNFIT;
	case CHECK_UNDECIDED:
		break;
	}
	return EX_CHECK_UNDECIDED;
}

/* ---- text ------------------------------------------------------------------------------------ */

/* Does it bear on the verdict? */
static bool matters(enum check_grade g)
{
	return g == CHECK_LIMIT || g == CHECK_BAD || g == CHECK_UNKNOWN;
}

static void print_paths(const struct disk_facts *f)
{
	for (unsigned i = 0; i < f->paths; i++) {
		const struct disk_path *p = &f->path[i];

		printf("           %s, %s%s%s: %s%s%s, queue depth %u, time-out %u s\n", p->node,
		       p->address, p->transport[0] ? ", " : "", p->transport, p->state,
		       p->access[0] ? ", " : "", p->access, p->queue_depth, p->timeout_s);
	}
}

static void print_verdict(const struct check_report *rep)
{
	bool first = true;

	printf("Verdict: %s", check_verdict_name(rep->verdict));
	for (unsigned i = 0; i < rep->results; i++) {
		const struct check_result *r = &rep->result[i];

		if (!matters(r->grade) || (rep->verdict == CHECK_UNFIT && r->grade != CHECK_BAD))
			continue;
		printf("%s%s", first ? ", because of: " : ", ", r->name);
		first = false;
	}
	puts(".");
}

void check_report_text(const struct check_report *rep)
{
	if (!rep->quiet)
		printf("%s%s\n", rep->device, rep->volume ? ", which holds a lunfs volume" : "");
	if (rep->note[0])
		printf("No volume on it can be relied on, so no scratch area is used: %s\n",
		       rep->note);
	for (unsigned i = 0; i < rep->results; i++) {
		const struct check_result *r = &rep->result[i];

		if (rep->quiet && !matters(r->grade))
			continue;
		printf("  %-7s  %-14s  %s\n", check_grade_name(r->grade), r->name, r->text);
		if (r->advice[0])
			printf("           %-14s  -> %s\n", "", r->advice);
		if (!rep->quiet && r->name && !i)
			print_paths(&rep->facts->disk);
	}
	print_verdict(rep);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void add_u64(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

static struct json_object *path_json(const struct disk_path *p)
{
	struct json_object *o = json_object_new_object();

	cli_add_text(o, "node", p->node);
	cli_add_text(o, "address", p->address);
	cli_add_text(o, "transport", p->transport);
	cli_add_text(o, "state", p->state);
	cli_add_text(o, "access_state", p->access);
	add_u64(o, "queue_depth", p->queue_depth);
	add_u64(o, "timeout_s", p->timeout_s);
	return o;
}

static struct json_object *result_json(const struct check_result *r)
{
	struct json_object *o = json_object_new_object(), *v = json_object_new_object();

	cli_add_text(o, "name", r->name);
	cli_add_text(o, "grade", check_grade_name(r->grade));
	cli_add_text(o, "text", r->text);
	cli_add_text(o, "advice", r->advice);
	for (unsigned i = 0; i < r->values; i++)
		add_u64(v, r->value[i].key, r->value[i].value);
	json_object_object_add(o, "values", v);
	return o;
}

static struct json_object *device_json(const struct check_facts *f)
{
	struct json_object *o = json_object_new_object(), *paths = json_object_new_array();

	cli_add_text(o, "vendor", f->vendor);
	cli_add_text(o, "product", f->product);
	cli_add_text(o, "revision", f->revision);
	cli_add_text(o, "transport", f->transport);
	cli_add_text(o, "write_cache", f->disk.cache);
	for (unsigned i = 0; i < f->disk.paths; i++)
		json_object_array_add(paths, path_json(&f->disk.path[i]));
	json_object_object_add(o, "paths", paths);
	return o;
}

void check_report_json(const struct check_report *rep)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();

	cli_add_text(o, "device", rep->device);
	cli_add_text(o, "verdict", check_verdict_name(rep->verdict));
	add_u64(o, "exit_code", (uint64_t)check_exit_code(rep->verdict));
	json_object_object_add(o, "volume", json_object_new_boolean(rep->volume));
	json_object_object_add(o, "tried", json_object_new_boolean(rep->cfg->may_write));
	json_object_object_add(o, "destructive", json_object_new_boolean(rep->cfg->destructive));
	if (rep->note[0])
		cli_add_text(o, "volume_error", rep->note);
	add_u64(o, "beat_ms", rep->cfg->beat_ms);
	add_u64(o, "deadline_ms", rep->cfg->deadline_ms);
	add_u64(o, "lease_ms", rep->cfg->lease_ms);
	json_object_object_add(o, "identity", device_json(rep->facts));
	for (unsigned i = 0; i < rep->results; i++)
		json_object_array_add(list, result_json(&rep->result[i]));
	json_object_object_add(o, "results", list);
	cli_print_json(o);
}
