/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text from people and from disks: is it UTF-8, and fit for a terminal and for JSON? */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>

/* Valid UTF-8 without control characters. */
bool text_is_plain(const char *s);
/* A copy for free(3) in which what is not so is '?'. NULL: no memory. */
char *text_plain_dup(const char *s);

#endif
