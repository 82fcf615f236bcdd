/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tried, not believed: does COMPARE AND WRITE work on this device? Devices claim it and reject it,
 * so the claim (VPD B0) is not even looked at. The sector keeps what it holds in every outcome.
 */
#include <errno.h>
#include <lunfs/dev.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dev/dev_impl.h"

#define TRIES 50u /* somebody else's change, unit attention, busy */
#define NAP_NS 2000000ull

struct probe {
	struct dev *d;
	uint64_t off_bytes;
	uint8_t *now, *other, *after;
	char *why;
	size_t why_len;
};

static int explain(struct probe *p, int err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int explain(struct probe *p, int err, const char *fmt, ...)
{
	int n = p->why_len ? snprintf(p->why, p->why_len, "%s: ", p->d->id.name) : 0;
	va_list ap;

	if (n >= 0 && (size_t)n < p->why_len) {
		va_start(ap, fmt);
		vsnprintf(p->why + n, p->why_len - (size_t)n, fmt, ap);
		va_end(ap);
	}
	return err;
}

static int explain_error(struct probe *p, const char *what, int err)
{
	switch (err) {
	case -EOPNOTSUPP:
		p->d->id.has_caw = false;
		return explain(
		    p, err,
		    "the device rejects COMPARE AND WRITE, so several hosts cannot share "
		    "it safely; use a LUN that supports it (VAAI ATS).");
	case -EBADE:
		return explain(p, err,
			       "another host holds a persistent reservation that keeps this one "
			       "out.");
	case -EROFS:
		return explain(p, err,
			       "the device is write-protected, so locks cannot be taken on it.");
	default:
		return explain(p, err, "%s failed on the device-check sector: %s.", what,
			       strerror(-err));
	}
}

/* Another host may change the scratch sector in between: then it is read again. */
static int same_image_is_good(struct probe *p)
{
	size_t len = p->d->id.sector_bytes;
	int rc = 0;

	for (unsigned i = 0; i < TRIES; i++) {
		rc = dev_read(p->d, p->off_bytes, len, p->now);
		if (rc)
			return explain_error(p, "reading", rc);
		rc = dev_caw(p->d, p->off_bytes, p->now, p->now);
		if (rc == DEV_CAW_GOOD)
			return 0;
		if (rc != DEV_CAW_MISCOMPARE && rc != -EAGAIN)
			return explain_error(p, "COMPARE AND WRITE", rc);
		dev_nap_ns(NAP_NS);
	}
	if (rc == -EAGAIN)
		return explain_error(p, "COMPARE AND WRITE", rc);
	return explain(p, -EOPNOTSUPP,
		       "COMPARE AND WRITE says that a sector does not hold what a read "
		       "has just shown, %u times in a row; do not share this device.",
		       TRIES);
}

static int other_image_miscompares(struct probe *p)
{
	size_t len = p->d->id.sector_bytes;
	int rc = -EAGAIN;

	for (size_t i = 0; i < len; i++)
		p->other[i] = (uint8_t)~p->now[i];
	for (unsigned i = 0; i < TRIES && rc == -EAGAIN; i++) {
		if (i)
			dev_nap_ns(NAP_NS);
		rc = dev_caw(p->d, p->off_bytes, p->other, p->now);
	}
	if (rc < 0)
		return explain_error(p, "COMPARE AND WRITE", rc);
	if (rc != DEV_CAW_MISCOMPARE)
		return explain(p, -EOPNOTSUPP,
			       "COMPARE AND WRITE accepts a test image that the sector does "
			       "not hold: it writes without comparing; do not share this device.");
	rc = dev_read(p->d, p->off_bytes, len, p->after);
	if (rc)
		return explain_error(p, "reading", rc);
	if (!memcmp(p->after, p->other, len))
		return explain(p, -EOPNOTSUPP,
			       "COMPARE AND WRITE changed the sector although it said that "
			       "it differs; do not share this device.");
	return 0;
}

int dev_caw_probe(struct dev *d, uint64_t off_bytes, char *why, size_t why_len)
{
	struct probe p = {.d = d, .off_bytes = off_bytes, .why = why, .why_len = why_len};
	size_t len = d->id.sector_bytes;
	int rc;

	p.now = dev_buf_alloc(len);
	p.other = dev_buf_alloc(len);
	p.after = dev_buf_alloc(len);
	rc = same_image_is_good(&p);
	if (!rc)
		rc = other_image_miscompares(&p);
	if (!rc)
		d->id.has_caw = true;
	free(p.now);
	free(p.other);
	free(p.after);
	return rc;
}
