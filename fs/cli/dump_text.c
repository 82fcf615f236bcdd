/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The objects of dump_show() for people. */
#include "cli/dump.h"

#include <string.h>

static const char *str(struct json_object *o, const char *key)
{
	struct json_object *v = json_object_object_get(o, key);

	return v ? json_object_get_string(v) : "";
}

static bool is_true(struct json_object *o, const char *key)
{
	return json_object_get_boolean(json_object_object_get(o, key));
}

static void text_fields(struct json_object *list)
{
	if (!list || json_object_array_length(list) == 0)
		return;
	printf("  offset width  %-22s value\n", "field");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		struct json_object *n = json_object_object_get(o, "value");
		const char *text = str(o, "text"), *meaning = str(o, "meaning");

		printf(
		    "  0x%03llx  %5s  %-22s ",
		    (unsigned long long)json_object_get_uint64(json_object_object_get(o, "offset")),
		    str(o, "width"), str(o, "name"));
		if (n && atoll(str(o, "width")) > 8) /* a bitmap */
			printf("%s set: %s", json_object_get_string(n), text);
		else
			printf("%s", text);
		if (*meaning)
			printf("  (%s)", meaning);
		putchar('\n');
	}
}

static void text_checks(struct json_object *list)
{
	size_t n = list ? json_object_array_length(list) : 0;
	const char *sep = "  passed: ";
	bool any = false;

	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(list, i);

		if (!is_true(o, "passed"))
			continue;
		printf("%s%s", sep, str(o, "name"));
		sep = ", ";
		any = true;
	}
	if (any)
		putchar('\n');
	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(list, i);

		if (!is_true(o, "passed"))
			printf("  FAILED: %s: %s\n", str(o, "name"), str(o, "text"));
	}
}

/* "key value" pairs, one item a line. */
static void text_items(struct json_object *list, const char *indent)
{
	size_t n = list ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		const char *sep = indent;

		json_object_object_foreach(o, key, v)
		{
			if (json_object_get_type(v) == json_type_array)
				continue;
			if (json_object_get_type(v) == json_type_string &&
			    !*json_object_get_string(v))
				continue;
			printf("%s%s %s", sep, key, json_object_get_string(v));
			sep = "  ";
		}
		putchar('\n');
		text_items(json_object_object_get(o, "items"), "      ");
	}
}

static void hex_line(const uint8_t *b, unsigned off)
{
	printf("  %03x:", off);
	for (int i = 0; i < 16; i++)
		printf(" %02x", b[i]);
	printf("  ");
	for (int i = 0; i < 16; i++)
		putchar(b[i] >= 0x20 && b[i] < 0x7f ? b[i] : '.');
	putchar('\n');
}

/* Lines like the one before are one asterisk. */
static void text_bytes(const char *hex)
{
	const char *last = NULL;
	bool star = false;

	for (unsigned off = 0; strlen(hex) >= 32; off += 16, hex += 32) {
		uint8_t b[16];

		if (last && memcmp(last, hex, 32) == 0) {
			if (!star)
				puts("  *");
			star = true;
			continue;
		}
		last = hex;
		star = false;
		for (int i = 0; i < 16; i++) {
			unsigned x = 0;

			sscanf(hex + 2 * i, "%2x", &x);
			b[i] = (uint8_t)x;
		}
		hex_line(b, off);
	}
}

void dump_text(struct json_object *o)
{
	struct json_object *notes = json_object_object_get(o, "notes"), *in;

	printf("%s", str(o, "name"));
	if (*str(o, "struct"))
		printf(": struct %s in block %s, byte %#llx, %s bytes", str(o, "struct"),
		       str(o, "block"),
		       (unsigned long long)json_object_get_uint64(
			   json_object_object_get(o, "offset_bytes")),
		       str(o, "length_bytes"));
	printf("\n  read %s", str(o, "read_at"));
	if ((in = json_object_object_get(o, "fresh")))
		printf("; %s", str(in, "text"));
	putchar('\n');
	if (*str(o, "role"))
		printf("  it is %s\n", str(o, "role"));
	text_fields(json_object_object_get(o, "fields"));
	text_checks(json_object_object_get(o, "checks"));
	text_items(json_object_object_get(o, "items"), "  ");
	text_items(json_object_object_get(o, "transactions"), "  ");
	if (is_true(o, "more"))
		printf("  ... and more\n");
	for (size_t i = 0; notes && i < json_object_array_length(notes); i++)
		printf("  %s\n", json_object_get_string(json_object_array_get_idx(notes, i)));
	text_bytes(str(o, "bytes"));
	if ((in = json_object_object_get(o, "structure")))
		dump_text(in);
}
