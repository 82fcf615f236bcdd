/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Log lines for the admin at 3 a.m.: one stable event word, then one sentence. To stderr in the
 * foreground and for the tools, to syslog once a daemon runs in the background.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdarg.h>
#include <stdbool.h>

enum log_level { LOG_LVL_ERR = 3, LOG_LVL_WARN = 4, LOG_LVL_INFO = 6, LOG_LVL_DEBUG = 7 };

/*
 * Before anything is opened: closed standard files become /dev/null. A device that got the number
 * of one would be printed on, or closed by who goes to the background. False: they cannot.
 */
bool standard_files_open(void);

/* The sink is per process, set once before threads start: the one global that lunfs has. */
void log_open(const char *program, enum log_level max, int to_syslog);
void log_msg(enum log_level lvl, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_err(event, ...) log_msg(LOG_LVL_ERR, event, __VA_ARGS__)
#define log_warn(event, ...) log_msg(LOG_LVL_WARN, event, __VA_ARGS__)
#define log_info(event, ...) log_msg(LOG_LVL_INFO, event, __VA_ARGS__)
#define log_debug(event, ...) log_msg(LOG_LVL_DEBUG, event, __VA_ARGS__)

/* State an invariant; stays on in release. Never for what was read from disk. */
#define lunfs_assert(cond)                                                                         \
	do {                                                                                       \
		if (!(cond))                                                                       \
			log_assert_failed(#cond, __FILE__, __LINE__);                              \
	} while (0)
void log_assert_failed(const char *cond, const char *file, int line) __attribute__((noreturn));

#endif
