/* SPDX-License-Identifier: GPL-2.0-or-later */
/* UTF-8 by the table of RFC 3629: no overlong forms, no surrogates, nothing over U+10FFFF. */
#include "base/text.h"

#include <string.h>

static bool in(unsigned char c, unsigned char low, unsigned char high)
{
	return c >= low && c <= high;
}

/* Bytes of the printable character at @s, 0 if there is none. */
static unsigned char_len(const unsigned char *s)
{
	unsigned char low = 0x80, high = 0xbf;
	unsigned n;

	if (s[0] < 0x80)
		return s[0] >= 0x20 && s[0] != 0x7f;
	if (!in(s[0], 0xc2, 0xf4))
		return 0;
	n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (s[0] == 0xc2 || s[0] == 0xe0)
		low = 0xa0; /* after 0xc2: U+0080 to U+009F are controls */
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf4)
		high = 0x8f;
	if (!in(s[1], low, high))
		return 0;
	for (unsigned i = 2; i < n; i++)
		if (!in(s[i], 0x80, 0xbf))
			return 0;
	return n;
}

bool text_is_plain(const char *s)
{
	while (*s) {
		unsigned n = char_len((const unsigned char *)s);

		if (n == 0)
			return false;
		s += n;
	}
	return true;
}

char *text_plain_dup(const char *s)
{
	char *copy = strdup(s);
	char *at = copy;

	while (at && *at) {
		unsigned n = char_len((const unsigned char *)at);

		if (n == 0)
			*at = '?';
		at += n ? n : 1;
	}
	return copy;
}
