/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sessions with the device, and one command at a time through them.
 *
 * A device that is reserved refuses whoever is not registered, so each session makes itself a
 * temporary key, which goes away with it. On a volume it does so before anything else, reserved or
 * not: a host may mount at any time, and a COMPARE AND WRITE should not be refused (reserve.c).
 */
#include "check/check_impl.h"

#define NAP_NS (2 * MS_NS)
#define NAP_MAX_NS (64 * MS_NS)
#define CONFLICTS_MAX 3u
#define SILENT_DEADLINES 2ull
#define DEADLINE_MIN_MS 8000u /* slower ones are to be measured, not to be cut off */

const char *io_error(int err)
{
	switch (err) {
	case -ETIMEDOUT:
		return "no answer within the deadline";
	case -EBADE:
		return "reservation conflict: another host keeps this one from writing";
	case -EROFS:
		return "write-protected";
	case -ENODEV:
		return "the device is gone";
	case -ENOSPC:
		return "there is no room left beneath the device";
	case -EAGAIN:
		return "busy all the time";
	case -EIO:
		return "the device reports an error";
	default:
		return strerror(-err);
	}
}

static uint32_t bound_ms(const struct check *c)
{
	return c->cfg.deadline_ms > DEADLINE_MIN_MS ? c->cfg.deadline_ms : DEADLINE_MIN_MS;
}

/* ---- sessions -------------------------------------------------------------------------------- */

static int session_open(struct check *c, unsigned i, char *why, size_t why_len)
{
	struct session *s = &c->s[i];
	int rc = c->cfg.open(c->cfg.ctx, &s->dev, why, why_len);

	if (rc) {
		s->dev = NULL;
		return rc;
	}
	dev_set_deadline(s->dev, bound_ms(c));
	atomic_store(&c->answered_ns, check_now(c));
	return 0;
}

/* One is needed, the others are wanted. */
int sessions_open(struct check *c)
{
	unsigned want = c->cfg.may_write ? c->sessions : 1, n = 0;
	char why[WHY_BYTES] = "";
	struct check_result r;
	int rc = 0;

	while (n < want && !check_over(c)) {
		rc = session_open(c, n, why, sizeof(why));
		if (rc)
			break;
		n++;
	}
	result_init(&r, "sessions");
	c->sessions = n;
	c->sector = n ? c->s[0].dev->id.sector_bytes : 0;
	if (n == want)
		return 0;
	if (!rc)
		result_say(&r, CHECK_UNKNOWN, "It was interrupted before the device was open.");
	else if (rc == -EROFS && !n)
		result_say(&r, CHECK_BAD,
			   "It cannot be written to, and every host writes to it, those that mount "
			   "read-only too: %s",
			   why);
	else
		result_say(&r, n ? CHECK_LIMIT : CHECK_UNKNOWN,
			   "Only %u of %u sessions with the device could be had: %s", n, want, why);
	if (n)
		result_advise(&r,
			      "Look at how many sessions the target admits for each initiator.");
	result_add(c, &r);
	if (!n)
		return rc ? rc : -EINTR;
	return 0;
}

void sessions_close(struct check *c)
{
	for (unsigned i = 0; i < c->sessions; i++)
		pr_temporary_end(&c->s[i].pr);
	for (unsigned i = 0; i < c->sessions; i++)
		dev_close(c->s[i].dev);
	c->sessions = 0;
}

static int make_key(struct check *c, unsigned i, char *why, size_t why_len)
{
	struct session *s = &c->s[i];
	int rc;

	mtx_lock(&c->mtx);
	while (s->key == KEY_BEING_MADE)
		cond_wait(&c->cv, &c->mtx, CLOCK_FOREVER);
	if (s->key != KEY_NONE) {
		rc = s->key == KEY_MADE ? 0 : -EBADE;
		mtx_unlock(&c->mtx);
		return rc;
	}
	s->key = KEY_BEING_MADE;
	mtx_unlock(&c->mtx);
	rc = pr_temporary_begin(&s->pr, s->dev, c->clk, why, why_len);
	mtx_lock(&c->mtx);
	s->key = rc ? KEY_FAILED : KEY_MADE;
	cond_broadcast(&c->cv);
	mtx_unlock(&c->mtx);
	return rc;
}

/* Is it reserved, or could a host that mounts meanwhile reserve it? */
static bool keys_needed(struct check *c)
{
	uint64_t *keys = calloc(DEV_PR_KEYS_MAX, sizeof(*keys));
	struct dev_pr_state st = {.keys = keys};
	struct dev *d = c->s[0].dev;
	char why[WHY_BYTES];
	bool needed = false;

	lunfs_assert(keys);
	if (d->ops->pr && d->ops->pr->read_state(d, &st) == 0)
		needed = st.reserved ||
			 (!c->cfg.destructive && d->ops->pr->probe(d, why, sizeof(why)) == 0);
	free(keys);
	return needed;
}

int sessions_register(struct check *c, char *why, size_t why_len)
{
	int rc = 0;

	if (!keys_needed(c))
		return 0;
	for (unsigned i = 0; i < c->sessions && !rc; i++)
		rc = make_key(c, i, why, why_len);
	return rc;
}

/* ---- commands -------------------------------------------------------------------------------- */

/* Did a conflict end with a key, so that the command, which had no effect, may go again? */
static bool after_conflict(struct check *c, unsigned s, unsigned *conflicts)
{
	char why[WHY_BYTES];

	return ++*conflicts <= CONFLICTS_MAX && make_key(c, s, why, sizeof(why)) == 0;
}

/* A device that answers nothing for some deadlines in a row is not asked any more. */
static int counted(struct check *c, int rc)
{
	uint64_t now = check_now(c);

	if (rc != -ETIMEDOUT) {
		atomic_store(&c->answered_ns, now);
		return rc;
	}
	atomic_fetch_add(&c->timeouts, 1);
	if (now > atomic_load(&c->answered_ns) + SILENT_DEADLINES * bound_ms(c) * MS_NS)
		atomic_store(&c->silent, true);
	return rc;
}

int io_read(struct check *c, unsigned s, uint64_t off_bytes, size_t len_bytes, void *buf)
{
	return counted(c, dev_read(c->s[s].dev, off_bytes, len_bytes, buf));
}

int io_write(struct check *c, unsigned s, uint64_t off_bytes, size_t len_bytes, const void *buf)
{
	unsigned conflicts = 0;
	int rc;

	do {
		rc = dev_write(c->s[s].dev, off_bytes, len_bytes, buf);
	} while (rc == -EBADE && after_conflict(c, s, &conflicts));
	return counted(c, rc);
}

int io_flush(struct check *c, unsigned s)
{
	return counted(c, dev_flush(c->s[s].dev));
}

int io_caw(struct check *c, unsigned s, uint64_t off_bytes, const void *test, const void *set)
{
	uint64_t until = check_now(c) + c->cfg.deadline_ms * MS_NS, nap = NAP_NS;
	unsigned conflicts = 0;
	int rc;

	for (;;) {
		rc = dev_caw(c->s[s].dev, off_bytes, test, set);
		if (rc == -EBADE && after_conflict(c, s, &conflicts))
			continue;
		if (rc != -EAGAIN || check_now(c) >= until)
			return counted(c, rc);
		check_nap(c, nap);
		nap = nap < NAP_MAX_NS ? 2 * nap : nap;
	}
}

int io_caw_as(struct check *c, unsigned s, uint64_t off_bytes, const void *test, const void *set,
	      enum lat_op op)
{
	uint64_t at = check_now(c);
	int rc = io_caw(c, s, off_bytes, test, set);

	if (rc >= 0)
		hist_add(&c->lat[op], check_now(c) - at);
	return rc;
}
