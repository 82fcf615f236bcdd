/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the code under test logs, kept instead of printed. For tests that are linked with
 * --wrap=log_msg; include it in one file of each.
 */
#ifndef UNIT_CLUSTER_SAID_H
#define UNIT_CLUSTER_SAID_H

#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SAID_MAX 64u

static struct {
	char event[64], text[1024];
} said[SAID_MAX];
static unsigned said_n;
static pthread_mutex_t said_mtx = PTHREAD_MUTEX_INITIALIZER; /* a real device has threads */

void __wrap_log_msg(enum log_level lvl, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void __wrap_log_msg(enum log_level lvl, const char *event, const char *fmt, ...)
{
	va_list ap;

	(void)lvl;
	pthread_mutex_lock(&said_mtx);
	if (said_n == SAID_MAX)
		said_n--;
	snprintf(said[said_n].event, sizeof(said[0].event), "%s", event);
	va_start(ap, fmt);
	vsnprintf(said[said_n].text, sizeof(said[0].text), fmt, ap);
	va_end(ap);
	if (getenv("TEST_SAY"))
		printf("%s: %s\n", said[said_n].event, said[said_n].text);
	said_n++;
	pthread_mutex_unlock(&said_mtx);
}

static inline void said_forget(void)
{
	said_n = 0;
}

static inline unsigned said_count(const char *event)
{
	unsigned n = 0;

	for (unsigned i = 0; i < said_n; i++)
		n += strcmp(said[i].event, event) == 0;
	return n;
}

/* The last sentence under that word; "" if there is none. */
static inline const char *said_text(const char *event)
{
	for (unsigned i = said_n; i > 0; i--) {
		if (strcmp(said[i - 1].event, event) == 0)
			return said[i - 1].text;
	}
	return "";
}

#define SAYS(event, part)                                                                          \
	do {                                                                                       \
		if (!strstr(said_text(event), part))                                               \
			print_error("%s: \"%s\"\n", event, said_text(event));                      \
		assert_non_null(strstr(said_text(event), part));                                   \
	} while (0)

#endif
