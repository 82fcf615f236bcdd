/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What goes ahead of a COMPARE AND WRITE; see scout.h.
 */
#include "dev/scout.h"

#include "base/log.h"
#include "dev/dev_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LIO_VENDOR "LIO-ORG "

void scout_init(struct scout *s, const struct dev *d)
{
	s->dev = d;
	s->lio = !strncmp(d->id.product, LIO_VENDOR, strlen(LIO_VENDOR));
}

void scout_registered(struct scout *s, uint64_t key)
{
	atomic_store(&s->key, key);
}

/* A host beats more often than this, and is fenced after a lease, which is longer. */
static uint64_t window_ns(const struct scout *s)
{
	uint32_t ms = s->dev->deadline_ms ? s->dev->deadline_ms : DEV_DEADLINE_DEFAULT_MS;

	return ms * 500000ull;
}

static bool has_key(const struct dev_pr_state *st, uint64_t key)
{
	for (size_t i = 0; key && i < st->nkeys; i++)
		if (st->keys[i] == key)
			return true;
	return false;
}

static int still_let_in(struct scout *s, const struct spr_link *l)
{
	struct dev_pr_state st = {0};
	int rc;

	if (atomic_load(&s->no_reservations))
		return 0;
	st.keys = dev_buf_alloc(DEV_PR_KEYS_MAX * sizeof(*st.keys));
	rc = spr_read_state(l, &st);
	if (!rc && st.reserved && !has_key(&st, atomic_load(&s->key)))
		rc = -EBADE;
	free(st.keys);
	if (rc == -EOPNOTSUPP)
		atomic_store(&s->no_reservations, true);
	return rc;
}

static int test_unit_ready(const struct spr_link *l)
{
	uint8_t none[1];
	struct spr_cmd c = {.buf = none};

	c.cdb_len = sbc_cdb_test_unit_ready(c.cdb);
	return l->send(l->ctx, 0, &c);
}

int scout_ahead(struct scout *s, const struct spr_link *l, uint64_t *until_ns)
{
	uint64_t now = dev_now_ns(), passed = atomic_load(&s->passed_ns);
	bool fresh = passed && now < passed + window_ns(s);
	int rc = 0;

	*until_ns = (fresh ? passed : now) + window_ns(s);
	if (fresh && !s->lio)
		return 0;
	rc = test_unit_ready(l);
	if (rc != -ETIMEDOUT && !fresh)
		rc = still_let_in(s, l);
	/* Whatever else is wrong, the command itself will be told. */
	return rc == -ETIMEDOUT ? -EAGAIN : rc == -EBADE ? rc : 0;
}

void scout_answered(struct scout *s, uint64_t sent_ns, int result, enum dev_cause cause)
{
	uint64_t seen = atomic_load(&s->passed_ns);

	if (result >= 0)
		while (seen < sent_ns &&
		       !atomic_compare_exchange_weak(&s->passed_ns, &seen, sent_ns))
			;
	if (!s->lio || (result != -EBADE && cause != DEV_CAUSE_UNIT_ATTENTION) ||
	    atomic_exchange(&s->told, true))
		return;
	log_err("lio-caw",
		"%s answered a COMPARE AND WRITE with a %s. Linux targets may not carry out that "
		"command atomically any more after that (seen with Linux 6.1): unmount the volume "
		"on all hosts and restart the target before it is used further.",
		s->dev->id.name, result == -EBADE ? "reservation conflict" : "unit attention");
}
