/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What this host asks of others: its column of the request board. A sector holds up to 16 wishes,
 * oldest first; when more belong there, they take turns. A new wish is written by the thread that
 * has it, together with all others of that row; withdrawals, rotation and the rewrite that every
 * beat owes are the keeper's.
 *
 * A wish stays in every row where it was once shown until it is cancelled: a lock that wanders
 * meets it wherever it goes. Writing a stale wish late is harmless, it is judged by content.
 */
#include "cluster/lock_impl.h"

#include "base/bitmap.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WITHDRAW_NS 3000000ull /* a withdrawal waits so long for company */
#define ROTATE_NS 20000000ull
#define RETRY_NS 100000000ull
#define NEVER UINT64_MAX

void wishes_init(struct locks *ls)
{
	struct outbox *o = &ls->out;

	mtx_init(&o->mtx, ls->env.clk);
	cond_init(&o->cond, ls->env.clk);
	TAILQ_INIT(&o->wishes);
	for (unsigned i = 0; i < BOARD_COLS; i++)
		o->row[i].due_ns = NEVER;
}

void wishes_destroy(struct locks *ls)
{
	lunfs_assert(TAILQ_EMPTY(&ls->out.wishes));
	cond_destroy(&ls->out.cond);
	mtx_destroy(&ls->out.mtx);
}

void wishes_reset(struct locks *ls)
{
	mtx_lock(&ls->out.mtx);
	for (unsigned i = 0; i < BOARD_COLS; i++)
		ls->out.row[i] = (struct out_row){.due_ns = NEVER};
	mtx_unlock(&ls->out.mtx);
}

/* ---- one sector ----------------------------------------------------------------------------- */

static void add_wish(struct lunfs_board_sec *b, unsigned at, const struct wish *w)
{
	b->wish[at] = (struct lunfs_wish){
	    .addr = le64_make(w->addr),
	    .mode = le16_make(w->mode == LOCK_EX ? LUNFS_LOCK_EXCL : LUNFS_LOCK_SHARED),
	    .cells = le32_make(1),
	    .seq = le64_make(w->seq),
	};
}

/* Wishes of this row with seq in (after, until], oldest first, from place @at on. */
static unsigned pick(struct locks *ls, unsigned row, uint64_t after, uint64_t until,
		     struct lunfs_board_sec *b, unsigned at)
{
	struct out_row *r = &ls->out.row[row];
	struct wish *w;

	TAILQ_FOREACH(w, &ls->out.wishes, link)
	{
		if (at == LUNFS_WISHES)
			break;
		if (!bit_get(w->rows, row) || w->seq <= after || w->seq > until)
			continue;
		add_wish(b, at++, w);
		r->last_seq = w->seq;
	}
	return at;
}

static void fill(struct locks *ls, unsigned row, struct lunfs_board_sec *b)
{
	struct out_row *r = &ls->out.row[row];
	uint64_t from = r->n > LUNFS_WISHES ? r->last_seq : 0;
	unsigned n;

	memset(b, 0, sizeof(*b));
	n = pick(ls, row, from, UINT64_MAX, b, 0);
	if (n < LUNFS_WISHES && from)
		n = pick(ls, row, 0, from, b, n);
	b->row = le16_make((uint16_t)row);
	b->column = le16_make((uint16_t)ls->slot);
	b->wishes = le16_make((uint16_t)n);
	b->asker = le64_make(ls->owner);
	b->asked = le64_make(r->asked);
	b->seq = le64_make(++r->seq);
}

static int write_sector(struct locks *ls, unsigned row, struct lunfs_board_sec *b)
{
	const struct geo *g = ls->env.geo;
	uint8_t *buf;
	int rc = lock_gate(ls);

	if (rc)
		return rc;
	buf = dev_buf_alloc(g->sector_bytes);
	board_encode(g, b, buf);
	rc = dev_write(ls->env.dev, geo_board_off(g, row, ls->slot), g->sector_bytes, buf);
	free(buf);
	LOCK_COUNT(ls, board_writes);
	if (rc)
		log_warn("board-write",
			 "A request to the host in slot %u could not be written (%s); it is tried "
			 "again.",
			 row, strerror(-rc));
	return rc;
}

static void set_due(struct locks *ls, struct out_row *r)
{
	uint64_t now = lock_now(ls);

	if (r->dirty)
		r->due_ns = now + RETRY_NS;
	else if (!r->n)
		r->due_ns = NEVER;
	else if (r->n > LUNFS_WISHES)
		r->due_ns = now + ROTATE_NS;
	else
		r->due_ns = now + ls->beat_ns * 3 / 4;
}

/* Write the row as it is to be now; out.mtx is held, and let go during the write. */
static void write_row(struct locks *ls, unsigned row)
{
	struct out_row *r = &ls->out.row[row];
	struct lunfs_board_sec b;
	int rc;

	while (r->writing)
		cond_wait(&ls->out.cond, &ls->out.mtx, CLOCK_FOREVER);
	if (!r->dirty)
		return; /* somebody wrote ours with theirs */
	r->writing = true;
	r->dirty = false;
	fill(ls, row, &b);
	mtx_unlock(&ls->out.mtx);
	rc = write_sector(ls, row, &b);
	mtx_lock(&ls->out.mtx);
	r->writing = false;
	if (rc)
		r->dirty = true;
	else if (r->dirty)
		rc = 1; /* changed meanwhile: whoever changed it waits for its turn */
	if (rc <= 0)
		set_due(ls, r);
	cond_broadcast(&ls->out.cond);
}

/* ---- asking and withdrawing ----------------------------------------------------------------- */

/*
 * Is @owner to be asked in a row in which @was is asked, 0: nobody? The host that lives in the
 * slot,
 * @live, is; else the later one. An owner that was made out of the tag of a record while its slot
 * could not be read may be one that there never was.
 */
static bool asks_rather(uint64_t owner, uint64_t was, uint64_t live)
{
	return owner != was && (owner == live || (was != live && was < owner));
}

void wish_ask(struct locks *ls, struct wish *w, const uint64_t *owners, unsigned n)
{
	struct outbox *o = &ls->out;
	uint8_t todo[sizeof(w->rows)] = {0};
	uint64_t live[BOARD_COLS];

	lunfs_assert(n <= BOARD_COLS);
	for (unsigned i = 0; i < n; i++)
		live[i] = host_live_owner(ls->host, LUNFS_OWNER_SLOT(owners[i]));
	mtx_lock(&o->mtx);
	if (!w->linked) {
		w->linked = true;
		w->seq = ++o->next_seq;
		TAILQ_INSERT_TAIL(&o->wishes, w, link);
	}
	for (unsigned i = 0; i < n; i++) {
		unsigned row = LUNFS_OWNER_SLOT(owners[i]);
		bool rather;

		if (row >= BOARD_COLS || row >= geo_all_slots(ls->env.geo))
			continue;
		rather = asks_rather(owners[i], o->row[row].asked, live[i]);
		if (bit_get(w->rows, row) && !rather)
			continue;
		if (!bit_get(w->rows, row))
			o->row[row].n++;
		bit_set(w->rows, row);
		if (rather)
			o->row[row].asked = owners[i];
		o->row[row].dirty = true;
		bit_set(todo, row);
	}
	for (unsigned row = 0; row < BOARD_COLS; row++) {
		if (bit_get(todo, row))
			write_row(ls, row);
	}
	mtx_unlock(&o->mtx);
}

/*
 * Who granted the wish knows it by its number and heeds it no more, so there it may stand until the
 * next one takes its place, or for part of a beat. Elsewhere it has to go soon.
 */
void wish_cancel(struct locks *ls, struct wish *w, uint64_t granter)
{
	struct outbox *o = &ls->out;

	if (!w->linked)
		return;
	mtx_lock(&o->mtx);
	w->linked = false;
	TAILQ_REMOVE(&o->wishes, w, link);
	for (unsigned row = 0; row < BOARD_COLS; row++) {
		struct out_row *r = &o->row[row];
		bool known = granter && r->asked == granter;
		uint64_t due = lock_now(ls) + (known ? ls->beat_ns / 4 : WITHDRAW_NS);

		if (!bit_get(w->rows, row))
			continue;
		r->n--;
		r->dirty |= !known;
		if (r->due_ns > due)
			r->due_ns = due;
	}
	cond_broadcast(&o->cond);
	mtx_unlock(&o->mtx);
}

void wishes_sync(struct locks *ls, unsigned row)
{
	mtx_lock(&ls->out.mtx);
	if (row < BOARD_COLS && (ls->out.row[row].dirty || ls->out.row[row].writing))
		write_row(ls, row);
	mtx_unlock(&ls->out.mtx);
}

/* ---- the keeper ----------------------------------------------------------------------------- */

/* Write the rows that are due; out.mtx is held, and let go during a write. True: one was. */
static bool write_due(struct locks *ls)
{
	bool wrote = false;

	for (unsigned row = 0; row < BOARD_COLS && !atomic_load(&ls->stopping); row++) {
		struct out_row *r = &ls->out.row[row];

		if (r->writing || r->due_ns > lock_now(ls))
			continue;
		r->dirty = true;
		write_row(ls, row);
		wrote = true;
	}
	return wrote;
}

/* When the next row is due; one that is being written says so when it is. */
static uint64_t next_due_ns(const struct locks *ls)
{
	uint64_t next = NEVER;

	for (unsigned row = 0; row < BOARD_COLS; row++) {
		const struct out_row *r = &ls->out.row[row];

		if (!r->writing && r->due_ns < next)
			next = r->due_ns;
	}
	return next;
}

/* During a write of its own the keeper hears nothing, so it looks at all rows again after one. */
void wishes_keeper(void *arg)
{
	struct locks *ls = arg;
	struct outbox *o = &ls->out;

	mtx_lock(&o->mtx);
	while (!atomic_load(&ls->stopping)) {
		if (!write_due(ls))
			cond_wait(&o->cond, &o->mtx, next_due_ns(ls));
	}
	mtx_unlock(&o->mtx);
}
