/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reporting of problems: a line each on standard output, or collected for --json. */
#include "fsck/problem.h"
#include "base/text.h"
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define SHOWN_MAX 1000u /* of one code; the rest is only counted */

static const struct {
	const char *name, *text;
} table[PROBLEMS] = {
#define X(name, text) {#name, text},
    PROBLEM_LIST(X)
#undef X
};

const char *problem_name(enum problem_code code)
{
	return table[code].name;
}

const char *problem_text(enum problem_code code)
{
	return table[code].text;
}

static void add_json(struct problems *p, enum problem_code code, uint64_t addr, const char *detail)
{
	struct json_object *o = json_object_new_object();
	char *plain = text_plain_dup(detail);

	if (!p->list)
		p->list = json_object_new_array();
	json_object_object_add(o, "code", json_object_new_string(table[code].name));
	json_object_object_add(o, "text", json_object_new_string(table[code].text));
	json_object_object_add(o, "address", json_object_new_uint64(addr));
	json_object_object_add(o, "detail", json_object_new_string(plain ? plain : ""));
	free(plain);
	json_object_array_add(p->list, o);
}

void problem(struct problems *p, enum problem_code code, uint64_t addr, const char *fmt, ...)
{
	char detail[512];
	va_list ap;

	p->total++;
	if (p->count[code]++ >= SHOWN_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(detail, sizeof(detail), fmt, ap);
	va_end(ap);
	if (p->json)
		add_json(p, code, addr, detail);
	else
		printf("%s: %s: %s\n", table[code].name, table[code].text, detail);
	if (p->count[code] == SHOWN_MAX && !p->json)
		printf("%s: further ones are only counted\n", table[code].name);
}
