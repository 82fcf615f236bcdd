/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reporting of problems: a line each on standard output, or collected for --json; and what is to
 * be done about each, by the mode or by whom we ask.
 */
#include "fsck/problem.h"
#include "base/log.h"
#include "base/text.h"
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define SHOWN_MAX 1000u /* of one code; the rest is only counted */
#define PATIENT_ROUNDS 6u

static const struct {
	const char *name, *question, *text;
	enum problem_severity severity;
	enum problem_preen preen;
} table[PROBLEMS] = {
#define X(name, severity, preen, question, text) {#name, question, text, severity, preen},
    PROBLEM_LIST(X)
#undef X
};

struct marked { /* a problem, by name */
	struct {
		uint64_t addr, item, code;
	} key;
	UT_hash_handle hh;
};

const char *problem_name(enum problem_code code)
{
	return table[code].name;
}

const char *problem_text(enum problem_code code)
{
	return table[code].text;
}

const char *problem_question(enum problem_code code)
{
	return table[code].question;
}

enum problem_severity problem_severity(enum problem_code code)
{
	return table[code].severity;
}

bool problem_preen(enum problem_code code)
{
	return table[code].preen == PREEN_FIX;
}

/* ---- what was left --------------------------------------------------------------------------- */

static struct marked *find(struct marked *set, enum problem_code code, uint64_t addr, uint64_t item)
{
	struct marked key, *d;

	memset(&key, 0, sizeof(key));
	key.key.addr = addr;
	key.key.item = item;
	key.key.code = code;
	HASH_FIND(hh, set, &key.key, sizeof(key.key), d);
	return d;
}

static void mark(struct marked **set, enum problem_code code, uint64_t addr, uint64_t item)
{
	struct marked *d = calloc(1, sizeof(*d));

	lunfs_assert(d);
	d->key.addr = addr;
	d->key.item = item;
	d->key.code = code;
	HASH_ADD(hh, *set, key, sizeof(d->key), d);
}

bool problem_left(const struct problems *p, enum problem_code code, uint64_t addr, uint64_t item)
{
	return find(p->declined, code, addr, item) != NULL;
}

/*
 * Repaired again and again: something that was left stands in the way, so this has to be left, too.
 */
static bool comes_back(struct problems *p, enum problem_code code, uint64_t addr, uint64_t item)
{
	if (p->round < PATIENT_ROUNDS)
		return false;
	if (find(p->again, code, addr, item))
		return true;
	mark(&p->again, code, addr, item);
	return false;
}

static void free_set(struct marked **set)
{
	struct marked *d, *next;

	HASH_ITER (hh, *set, d, next) {
		HASH_DEL(*set, d);
		free(d);
	}
}

void problems_begin_anew(struct problems *p)
{
	free_set(&p->again);
}

void problems_free(struct problems *p)
{
	free_set(&p->declined);
	free_set(&p->again);
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* An end of input cancels all of it. "a": yes to this and to all that follow. */
static bool ask(struct problems *p, enum problem_code code)
{
	char line[64];

	for (;;) {
		printf("  %s? [y]es, [n]o, yes to [a]ll: ", table[code].question);
		fflush(stdout);
		if (!fgets(line, sizeof(line), stdin)) {
			putchar('\n');
			p->cancelled = p->stopped = true;
			return false;
		}
		switch (line[0]) {
		case 'a':
		case 'A':
			p->mode = MODE_YES;
			return true;
		case 'y':
		case 'Y':
			return true;
		case 'n':
		case 'N':
			return false;
		default:
			break;
		}
	}
}

static bool decide(struct problems *p, enum problem_code code)
{
	if (!table[code].question || p->hold)
		return false;
	switch (p->mode) {
	case MODE_YES:
		return true;
	case MODE_PREEN:
		p->stopped |= table[code].preen != PREEN_FIX;
		return table[code].preen == PREEN_FIX;
	case MODE_ASK:
		return !p->stopped && ask(p, code);
	default:
		return false;
	}
}

/* ---- telling --------------------------------------------------------------------------------- */

static void add_json(struct problems *p, enum problem_code code, uint64_t addr, const char *detail,
		     bool fix)
{
	static const char *const severity[] = {"minor", "damage", "loss"};
	struct json_object *o = json_object_new_object();
	char *plain = text_plain_dup(detail);

	if (!p->list)
		p->list = json_object_new_array();
	json_object_object_add(o, "code", json_object_new_string(table[code].name));
	json_object_object_add(o, "text", json_object_new_string(table[code].text));
	json_object_object_add(o, "severity",
			       json_object_new_string(severity[table[code].severity]));
	json_object_object_add(o, "address", json_object_new_uint64(addr));
	json_object_object_add(o, "detail", json_object_new_string(plain ? plain : ""));
	json_object_object_add(o, "repaired", json_object_new_boolean(fix));
	free(plain);
	json_object_array_add(p->list, o);
}

void problems_none_repaired(struct problems *p)
{
	size_t n = p->list ? json_object_array_length(p->list) : 0;

	for (size_t i = 0; i < n; i++)
		json_object_object_add(json_object_array_get_idx(p->list, i), "repaired",
				       json_object_new_boolean(false));
}

/* Names are anybody's: none of their bytes is to control a terminal. */
static void say_problem(enum problem_code code, const char *detail)
{
	char *plain = text_plain_dup(detail);

	printf("%s: %s: %s\n", table[code].name, table[code].text, plain ? plain : "");
	free(plain);
}

static void say_fix(const struct problems *p, enum problem_code code, bool fix)
{
	if (fix && p->mode != MODE_ASK)
		printf("  %s: yes.\n", table[code].question);
	else if (p->stopped && p->mode == MODE_PREEN)
		printf("  Not repaired by -p: run fsck.lunfs without it.\n");
}

static bool report(struct problems *p, enum problem_code code, uint64_t addr, uint64_t item,
		   const char *fmt, va_list ap)
{
	char detail[512];
	bool fix, show;

	if (p->interrupt && *p->interrupt)
		p->cancelled = p->stopped = true;
	if (p->halted || p->cancelled)
		return false;
	if (find(p->declined, code, addr, item)) {
		p->declined_n++;
		return false;
	}
	p->total++;
	show = p->count[code]++ < SHOWN_MAX;
	vsnprintf(detail, sizeof(detail), fmt, ap);
	if (show && !p->json) {
		if (p->progress)
			fprintf(stderr, "\r\033[K");
		say_problem(code, detail);
	}
	fix = decide(p, code) && !comes_back(p, code, addr, item);
	p->fixed += fix;
	if (!fix && p->mode != MODE_CHECK)
		mark(&p->declined, code, addr, item);
	if (show && p->json)
		add_json(p, code, addr, detail, fix);
	else if (show)
		say_fix(p, code, fix);
	if (p->count[code] == SHOWN_MAX && !p->json)
		printf("%s: further ones are only counted\n", table[code].name);
	return fix;
}

bool problem(struct problems *p, enum problem_code code, uint64_t addr, const char *fmt, ...)
{
	va_list ap;
	bool fix;

	va_start(ap, fmt);
	fix = report(p, code, addr, 0, fmt, ap);
	va_end(ap);
	return fix;
}

bool problem_item(struct problems *p, enum problem_code code, uint64_t addr, uint64_t item,
		  const char *fmt, ...)
{
	va_list ap;
	bool fix;

	va_start(ap, fmt);
	fix = report(p, code, addr, item, fmt, ap);
	va_end(ap);
	return fix;
}
