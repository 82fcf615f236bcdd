/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where log lines go: stderr, one write a line so that the lines of two threads do not mix, or
 * syslog. Set once before threads start, read-only afterwards.
 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>
#include <unistd.h>

static struct {
	const char *program;
	enum log_level max;
	int to_syslog;
} sink = {.program = "lunfs", .max = LOG_LVL_INFO};

bool standard_files_open(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

void log_open(const char *program, enum log_level max, int to_syslog)
{
	sink.program = program;
	sink.max = max;
	sink.to_syslog = to_syslog;
	if (to_syslog)
		openlog(program, LOG_PID, LOG_DAEMON);
}

static void emit(enum log_level lvl, const char *event, const char *text)
{
	char line[1280];
	int len;
	ssize_t done;

	if (sink.to_syslog) {
		syslog((int)lvl, "%s: %s", event, text);
		return;
	}
	len = snprintf(line, sizeof(line), "%s: %s: %s\n", sink.program, event, text);
	if (len < 0)
		return;
	if ((size_t)len >= sizeof(line)) {
		len = (int)sizeof(line) - 1;
		line[len - 1] = '\n';
	}
	do
		done = write(STDERR_FILENO, line, (size_t)len);
	while (done < 0 && errno == EINTR);
}

void log_msg(enum log_level lvl, const char *event, const char *fmt, ...)
{
	char text[1024];
	int saved = errno;
	va_list ap;

	if (lvl > sink.max)
		return;
	va_start(ap, fmt);
	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		text[0] = '\0';
	va_end(ap);
	emit(lvl, event, text);
	errno = saved;
}

void log_assert_failed(const char *cond, const char *file, int line)
{
	log_msg(LOG_LVL_ERR, "assertion-failed",
		"\"%s\" does not hold at %s:%d; lunfs stops here so that nothing wrong is written.",
		cond, file, line);
	abort();
}
