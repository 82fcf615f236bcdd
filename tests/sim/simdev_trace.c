/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What happened on the simulated LUN, told event by event and written as a time-line. */
#include "simdev_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void simdev_set_trace(struct simdev_medium *m, simdev_trace fn, void *ctx)
{
	medium_lock(m);
	m->trace = fn;
	m->trace_ctx = ctx;
	medium_unlock(m);
}

void simdev_tell(struct simdev_medium *m, enum simdev_event_kind what, const struct cmd *c,
		 uint64_t at_ns, const char *text)
{
	char buf[80];
	struct simdev_event e = {.what = what,
				 .at_ns = at_ns,
				 .number = c->number,
				 .label = c->s->label,
				 .op = c->op,
				 .off_bytes = c->off_bytes,
				 .len_bytes = c->len_bytes,
				 .fault = c->fault.kind,
				 .result = c->result,
				 .late = c->late,
				 .text = text};

	if (!m->trace)
		return;
	if (what == SIMDEV_EFFECT && c->n_pieces > 1 && c->landed > 0) {
		const struct piece *p = &c->piece[c->landed <= SIMDEV_PIECES ? c->landed - 1 : 0];

		e.off_bytes += p->from_bytes;
		e.len_bytes = p->len_bytes;
	}
	if (c->op == SIMDEV_PR && !text) {
		simdev_pr_text(c, buf, sizeof(buf));
		e.text = buf;
	}
	m->trace(m->trace_ctx, &e);
}

void simdev_note(struct simdev_medium *m, const struct simdev *s, const char *text)
{
	struct simdev_event e = {.what = SIMDEV_NOTE,
				 .at_ns = medium_now(m),
				 .label = s ? s->label : "array",
				 .text = text};

	if (m->trace)
		m->trace(m->trace_ctx, &e);
}

const char *simdev_op_name(enum simdev_op op)
{
	switch (op) {
	case SIMDEV_READ:
		return "read";
	case SIMDEV_WRITE:
		return "write";
	case SIMDEV_FLUSH:
		return "flush";
	case SIMDEV_CAW:
		return "caw";
	case SIMDEV_DISCARD:
		return "discard";
	case SIMDEV_PR:
		return "pr";
	case SIMDEV_ANY:
		break;
	}
	return "?";
}

static const char *event_name(const struct simdev_event *e)
{
	switch (e->what) {
	case SIMDEV_SUBMITTED:
		return "sends";
	case SIMDEV_EFFECT:
		return e->late ? "lands late" : "lands";
	case SIMDEV_ANSWERED:
		return "answer";
	case SIMDEV_DROPPED:
		return "is gone";
	case SIMDEV_NOTE:
		break;
	}
	return "*";
}

static const char *result_name(const struct simdev_event *e)
{
	if (e->what != SIMDEV_EFFECT && e->what != SIMDEV_ANSWERED)
		return "";
	if (e->op == SIMDEV_CAW && e->result == DEV_CAW_MISCOMPARE)
		return "MISCOMPARE";
	if (e->result == 0)
		return e->op == SIMDEV_CAW ? "GOOD" : "ok";
	return e->result < 0 ? strerrorname_np(-e->result) : "?";
}

char *simdev_event_format(const struct simdev_event *e, uint64_t zero_ns, char *buf, size_t len)
{
	double at = (double)(int64_t)(e->at_ns - zero_ns) / 1e6;
	const char *text = e->text ? e->text : "";
	const char *fault = e->fault == SIMDEV_OK ? "" : simdev_fault_name(e->fault);
	char range[48] = "";

	if (e->what == SIMDEV_NOTE) {
		snprintf(buf, len, "%13.6f ms %-12s %-10s %s", at, e->label, "*", text);
		return buf;
	}
	if (e->len_bytes)
		snprintf(range, sizeof(range), "%#llx+%llu", (unsigned long long)e->off_bytes,
			 (unsigned long long)e->len_bytes);
	snprintf(buf, len, "%13.6f ms %-12s %-10s #%-6llu %-7s %-20s %-10s %s%s%s", at, e->label,
		 event_name(e), (unsigned long long)e->number, simdev_op_name(e->op), range,
		 result_name(e), fault, *fault && *text ? ", " : "", text);
	for (size_t n = strlen(buf); n > 0 && buf[n - 1] == ' '; n--)
		buf[n - 1] = 0;
	return buf;
}
