/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tables of fields against the structs and against FORMAT.md. */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void cover(const struct insp_struct *st, uint8_t *seen)
{
	for (unsigned i = 0; i < st->n; i++) {
		const struct insp_field *f = &st->field[i];

		assert_true(f->width > 0 && f->count > 0);
		assert_true(f->off + f->width * f->count <= st->size);
		assert_true(f->array || f->count == 1);
		if (f->kind <= INSP_LE64)
			assert_int_equal(f->width, 1 << f->kind);
		if (f->kind == INSP_STRUCT)
			assert_int_equal(f->width, f->sub->size);
		if (f->unit == INSP_ENUM || f->unit == INSP_FLAGS)
			assert_non_null(f->names);
		for (unsigned b = 0; b < (unsigned)f->width * f->count; b++)
			seen[f->off + b]++;
	}
}

static void every_byte_of_every_struct_belongs_to_one_field(void **s)
{
	unsigned n = 0;

	(void)s;
	for (; insp_structs[n]; n++) {
		uint8_t seen[LUNFS_BLOCK_BYTES] = {0};

		cover(insp_structs[n], seen);
		for (unsigned b = 0; b < insp_structs[n]->size; b++)
			if (seen[b] != 1)
				fail_msg("byte %#x of %s is described %u times", b,
					 insp_structs[n]->name, seen[b]);
	}
	assert_true(n >= 25);
}

static const struct insp_struct *table_of(const char *name)
{
	for (unsigned i = 0; insp_structs[i]; i++)
		if (strcmp(insp_structs[i]->name, name) == 0)
			return insp_structs[i];
	return NULL;
}

/* One row of a table of FORMAT.md: "| 0x008 | 4 | crc | ...". */
static void check_row(const struct insp_struct *st, const char *line)
{
	char name[64];
	unsigned off;

	if (sscanf(line, "| %x | %*[^|] | %63[a-z0-9_] |", &off, name) != 2)
		return;
	if (st->tail && strcmp(st->tail, name) == 0) {
		assert_int_equal(st->size, off);
		return;
	}
	for (unsigned i = 0; i < st->n; i++)
		if (strcmp(st->field[i].name, name) == 0) {
			assert_int_equal(st->field[i].off, off);
			return;
		}
	fail_msg("%s.%s is in the text and in no table", st->name, name);
}

static void every_struct_and_field_of_the_text_has_a_table(void **s)
{
	FILE *f = fopen(getenv("LUNFS_FORMAT_MD"), "r");
	const struct insp_struct *st = NULL;
	char line[1024], name[64];
	unsigned n = 0;

	(void)s;
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "## struct %63s", name) == 1) {
			st = table_of(name);
			if (!st)
				fail_msg("%s has no table", name);
			n++;
		} else if (strncmp(line, "## ", 3) == 0) {
			st = NULL;
		} else if (st) {
			check_row(st, line);
		}
	}
	fclose(f);
	assert_true(n >= 24);
}

static void words_and_numbers_of_a_field_agree(void **s)
{
	uint64_t v;
	char text[INSP_TEXT_BYTES];
	const struct insp_field *type = &insp_blk_hdr.field[1];

	(void)s;
	assert_string_equal(type->name, "type");
	for (unsigned i = LUNFS_BLK_FREE; i <= LUNFS_BLK_BTREE; i++) {
		insp_meaning(type, i, text, sizeof(text));
		assert_int_equal(insp_name_value(type, text, &v), 0);
		assert_int_equal(v, i);
	}
	assert_int_equal(insp_name_value(type, "FREE|ANCHOR", &v), -EINVAL); /* one of them */
	assert_int_equal(insp_name_value(type, "free", &v), -EINVAL);
	insp_meaning(type, 99, text, sizeof(text));
	assert_string_equal(text, "no such value");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_byte_of_every_struct_belongs_to_one_field),
	    cmocka_unit_test(every_struct_and_field_of_the_text_has_a_table),
	    cmocka_unit_test(words_and_numbers_of_a_field_agree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
