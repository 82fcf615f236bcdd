/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What text is fit for a terminal and for JSON. */
#include "unit.h"

#include "base/text.h"

#include <stdlib.h>
#include <string.h>

static void utf8_without_controls_is_plain(void **state)
{
	static const char *const good[] = {"",
					   "vmstore",
					   "\xc3\xbc\xe2\x98\x83",
					   "\xf0\x90\x80\x80",
					   "\xed\x9f\xbf",
					   "\xf4\x8f\xbf\xbf",
					   "a b \"\\"};
	static const char *const bad[] = {
	    "\n",   "a\x7f",	"\xff",		"\xc0\xaf", "\xc2\x85",		"\xe0\x80\x80",
	    "\xc3", "\xe2\x98", "\xed\xa0\x80", "\x80",	    "\xf4\x90\x80\x80", "\xf0\x8f\xbf\xbf"};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(text_is_plain(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(text_is_plain(bad[i]));
}

static void what_is_not_plain_becomes_question_marks(void **state)
{
	char *s = text_plain_dup("a\xff\xc3\xbc\n\xe2\x98");

	(void)state;
	assert_string_equal(s, "a?\xc3\xbc???");
	assert_true(text_is_plain(s));
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(utf8_without_controls_is_plain),
	    cmocka_unit_test(what_is_not_plain_becomes_question_marks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
