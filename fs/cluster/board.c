/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What others ask of this host: its row of the request board, read by the poller, which sends the
 * revokers. It reads seldom while nothing happens, often after something did, and when a lock was
 * received as soon as the next wish for it is likely. The row is data that somebody else wrote: a
 * sector that fails a check holds no wishes, a wish whose asker does not live is ignored, and what
 * it asks for is judged by what this host holds, not by what the wish says.
 */
#include "cluster/lock_impl.h"

#include "base/bitmap.h"
#include "base/crc.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- one sector ----------------------------------------------------------------------------- */

static bool wish_ok(const struct geo *g, const struct lunfs_wish *w)
{
	unsigned mode = le16_get(w->mode);

	return (mode == LUNFS_LOCK_SHARED || mode == LUNFS_LOCK_EXCL) && !le16_get(w->flags) &&
	       le32_get(w->cells) >= 1 && cell_addr_ok(g, le64_get(w->addr));
}

int board_decode(const struct geo *g, const void *sector, unsigned row, unsigned column,
		 struct lunfs_board_sec *out)
{
	const struct lunfs_board_sec *b = sector;
	unsigned n = le16_get(b->wishes);

	if (le32_get(b->magic) != LUNFS_BOARD_MAGIC ||
	    !crc_ok(sector, REC_BYTES, offsetof(struct lunfs_board_sec, crc)) ||
	    memcmp(b->vol_id, g->vol_id, sizeof(b->vol_id)))
		return -EUCLEAN;
	if (le16_get(b->row) != row || le16_get(b->column) != column || n > LUNFS_WISHES ||
	    LUNFS_OWNER_SLOT(le64_get(b->asker)) != column ||
	    LUNFS_OWNER_SLOT(le64_get(b->asked)) != row || le16_get(b->reserved0) ||
	    !mem_is_zero(b->reserved1, sizeof(b->reserved1)))
		return -EUCLEAN;
	for (unsigned i = 0; i < n; i++) {
		if (!wish_ok(g, &b->wish[i]))
			return -EUCLEAN;
	}
	*out = *b;
	return 0;
}

void board_encode(const struct geo *g, struct lunfs_board_sec *b, void *sector)
{
	b->magic = le32_make(LUNFS_BOARD_MAGIC);
	memcpy(b->vol_id, g->vol_id, sizeof(b->vol_id));
	memset(sector, 0, g->sector_bytes);
	memcpy(sector, b, sizeof(*b));
	crc_seal(sector, REC_BYTES, offsetof(struct lunfs_board_sec, crc));
}

/* ---- the row in core ------------------------------------------------------------------------ */

void board_init(struct locks *ls)
{
	mtx_init(&ls->board.mtx, ls->env.clk);
	cond_init(&ls->board.cond, ls->env.clk);
	cond_init(&ls->board.looked, ls->env.clk);
}

void board_destroy(struct locks *ls)
{
	free(ls->board.row_buf);
	cond_destroy(&ls->board.looked);
	cond_destroy(&ls->board.cond);
	mtx_destroy(&ls->board.mtx);
}

void board_reset(struct locks *ls)
{
	struct board *b = &ls->board;

	mtx_lock(&b->mtx);
	memset(b->col, 0, sizeof(b->col));
	memset(b->due, 0, sizeof(b->due));
	b->wishes = 0;
	b->hot_until_ns = b->full_ns = b->read_ns = b->tried_ns = b->look_ns = 0;
	b->idle_ns = b->rhythm.ns = BOARD_FAST_NS;
	b->look_now = true;
	if (!b->row_buf)
		b->row_buf = dev_buf_alloc(ls->env.geo->board_row_bytes);
	mtx_unlock(&b->mtx);
}

void board_heat(struct locks *ls)
{
	struct board *b = &ls->board;

	mtx_lock(&b->mtx);
	if (b->hot_until_ns < lock_now(ls)) {
		b->look_now = true;
		cond_broadcast(&b->cond);
	}
	b->hot_until_ns = lock_now(ls) + BOARD_HOT_NS;
	mtx_unlock(&b->mtx);
}

void board_received(struct locks *ls)
{
	struct board *b = &ls->board;
	uint64_t now = lock_now(ls);

	mtx_lock(&b->mtx);
	b->hot_until_ns = now + BOARD_HOT_NS;
	if (!b->look_ns)
		b->look_last_ns = now + BOARD_SLOW_NS;
	b->look_ns = now + b->rhythm.ns < b->look_last_ns ? now + b->rhythm.ns : b->look_last_ns;
	cond_broadcast(&b->cond);
	mtx_unlock(&b->mtx);
}

void board_queued(struct locks *ls)
{
	struct board *b = &ls->board;

	mtx_lock(&b->mtx);
	if (lock_now(ls) >= b->read_ns + BOARD_QUEUE_NS) {
		b->look_now = true;
		cond_broadcast(&b->cond);
	}
	mtx_unlock(&b->mtx);
}

bool board_due(struct locks *ls, uint64_t addr, uint64_t ns)
{
	struct board *b = &ls->board;
	unsigned at = BOARD_DUES;

	mtx_lock(&b->mtx);
	for (unsigned i = 0; i < BOARD_DUES; i++) {
		if (b->due[i].ns && b->due[i].addr == addr) {
			at = i;
			break;
		}
		if (at == BOARD_DUES && !b->due[i].ns)
			at = i;
	}
	if (at < BOARD_DUES) {
		b->due[at].addr = addr;
		b->due[at].ns = ns;
		cond_broadcast(&b->cond);
	}
	mtx_unlock(&b->mtx);
	return at < BOARD_DUES;
}

/* Is the asker of this sector a host that lives? Dead ones are remembered for a beat. */
static bool asker_lives(struct locks *ls, unsigned column, uint64_t asker)
{
	struct in_col *c = &ls->board.col[column];
	enum owner_state st;
	uint64_t now = lock_now(ls);

	if (host_live_owner(ls->host, column) == asker)
		return true;
	if (c->refused == asker && now < c->refused_ns + ls->beat_ns)
		return false;
	if (!host_owner_state(ls->host, asker, true, &st) && st == OWNER_ALIVE)
		return true;
	c->refused = asker;
	c->refused_ns = now;
	return false;
}

static void take_column(struct locks *ls, unsigned column, const struct lunfs_board_sec *b,
			uint64_t read_ns)
{
	struct in_col *c = &ls->board.col[column], was = *c;
	uint64_t now = lock_now(ls);

	c->read_ns = read_ns;
	c->asker = b ? le64_get(b->asker) : 0;
	c->n = b ? le16_get(b->wishes) : 0;
	for (unsigned i = 0; i < c->n; i++) {
		struct in_wish *w = &c->wish[i];

		*w = (struct in_wish){
		    .addr = le64_get(b->wish[i].addr),
		    .seq = le64_get(b->wish[i].seq),
		    .mode = le16_get(b->wish[i].mode) == LUNFS_LOCK_EXCL ? LOCK_EX : LOCK_SH,
		    .first_ns = now,
		};
		for (unsigned k = 0; was.asker == c->asker && k < was.n; k++) {
			if (was.wish[k].addr == w->addr && was.wish[k].seq == w->seq &&
			    was.wish[k].mode == w->mode)
				*w = was.wish[k];
		}
		ls->board.news += w->first_ns == now;
	}
	ls->board.wishes += c->n - was.n;
}

static void read_column(struct locks *ls, unsigned column, const uint8_t *sector, uint64_t read_ns)
{
	struct lunfs_board_sec b;
	bool ok = !board_decode(ls->env.geo, sector, ls->slot, column, &b) &&
		  le64_get(b.asked) == ls->owner && le16_get(b.wishes) &&
		  asker_lives(ls, column, le64_get(b.asker));

	if (!ok && !ls->board.col[column].n)
		return;
	mtx_lock(&ls->board.mtx);
	take_column(ls, column, ok ? &b : NULL, read_ns);
	mtx_unlock(&ls->board.mtx);
}

/* The columns to read: of hosts that live or have wishes here; now and then all of them. */
static bool live_columns(struct locks *ls, unsigned *from, unsigned *to)
{
	struct board *b = &ls->board;
	unsigned all = geo_all_slots(ls->env.geo);
	uint64_t now = lock_now(ls);

	*from = all;
	*to = 0;
	if (now >= b->full_ns + ls->beat_ns / 2) {
		b->full_ns = now;
		*from = 0;
		*to = all;
		return true;
	}
	for (unsigned i = 0; i < all; i++) {
		if (i == ls->slot || (!host_live_owner(ls->host, i) && !b->col[i].n))
			continue;
		if (i < *from)
			*from = i;
		*to = i + 1;
	}
	return *from < *to;
}

static void read_row(struct locks *ls)
{
	const struct geo *g = ls->env.geo;
	uint64_t read_ns = lock_now(ls);
	unsigned from, to;
	int rc;

	if (!live_columns(ls, &from, &to))
		return;
	rc = health_read(&ls->env, geo_board_off(g, ls->slot, from),
			 (size_t)(to - from) * g->sector_bytes, ls->board.row_buf);
	LOCK_COUNT(ls, board_reads);
	if (rc)
		return; /* it proves nothing; what was read before stands */
	for (unsigned i = from; i < to; i++) {
		if (i != ls->slot)
			read_column(ls, i, ls->board.row_buf + (size_t)(i - from) * g->sector_bytes,
				    read_ns);
	}
}

/* ---- wishes for one lock -------------------------------------------------------------------- */

static bool before(const struct cand *a, const struct cand *b)
{
	if (a->waiter != b->waiter)
		return a->waiter;
	if (a->first_ns != b->first_ns)
		return a->first_ns < b->first_ns;
	return a->rank < b->rank;
}

static void insert_cand(struct cand *out, unsigned n, const struct cand *c)
{
	while (n && before(c, &out[n - 1])) {
		out[n] = out[n - 1];
		n--;
	}
	out[n] = *c;
}

/* Hosts that the record notes as a queue and that show no wish. */
static unsigned add_queue(struct locks *ls, const struct lock *l, struct cand *out, unsigned n)
{
	unsigned all = geo_all_slots(ls->env.geo);
	uint8_t seen[sizeof(l->known.waiters)] = {0};

	for (unsigned i = 0; i < n; i++) {
		if (out[i].slot < LUNFS_MAX_SLOTS)
			bit_set(seen, out[i].slot);
	}
	for (unsigned i = 0; i < all && i < LUNFS_MAX_SLOTS; i++) {
		struct cand c = {
		    .slot = i, .rank = (i + all - ls->slot) % all, .mode = LOCK_EX, .waiter = true};

		if (i == ls->slot || bit_get(seen, i) || !rec_waits(&l->known, i))
			continue;
		c.asker = host_live_owner(ls->host, i);
		if (c.asker)
			insert_cand(out, n++, &c);
	}
	return n;
}

/*
 * Granted already, and its withdrawal is on the way. Should it stand for longer, then whoever asks
 * has lost what it got, and what we hold decides again.
 */
static bool served(struct locks *ls, const struct in_wish *w)
{
	return w->served_ns && lock_now(ls) < w->served_ns + ls->beat_ns;
}

static unsigned wishes_for(struct locks *ls, uint64_t addr, const struct lock *l,
			   struct cand out[BOARD_COLS])
{
	struct board *b = &ls->board;
	unsigned all = geo_all_slots(ls->env.geo), n = 0;
	bool queue = l && rec_queue(&l->known);

	mtx_lock(&b->mtx);
	for (unsigned i = 0; i < all && b->wishes; i++) {
		const struct in_col *c = &b->col[i];

		for (unsigned k = 0; k < c->n; k++) {
			const struct in_wish *w = &c->wish[k];
			struct cand cand = {
			    .asker = c->asker,
			    .seq = w->seq,
			    .first_ns = w->first_ns,
			    .slot = i,
			    .rank = (i + all - ls->slot) % all,
			    .mode = w->mode,
			    .waiter = l && rec_waits(&l->known, i),
			};

			if (w->addr != addr || served(ls, w) || (l && c->read_ns < l->since_ns))
				continue;
			if (queue && cand.waiter)
				cand.first_ns = 0; /* in a circle */
			insert_cand(out, n++, &cand);
			break;
		}
	}
	mtx_unlock(&b->mtx);
	return queue ? add_queue(ls, l, out, n) : n;
}

unsigned board_wishes_for(struct locks *ls, const struct lock *l, struct cand out[BOARD_COLS])
{
	return wishes_for(ls, l->addr, l, out);
}

/* Does a host that the record does not note show a wish last seen before @l came? b->mtx held. */
static bool newcomer(struct locks *ls, const struct lock *l)
{
	for (unsigned i = 0; i < geo_all_slots(ls->env.geo); i++) {
		const struct in_col *c = &ls->board.col[i];

		if (c->read_ns >= l->since_ns || rec_waits(&l->known, i))
			continue;
		for (unsigned k = 0; k < c->n; k++) {
			if (c->wish[k].addr == l->addr && !served(ls, &c->wish[k]))
				return true;
		}
	}
	return false;
}

void board_meet_newcomers(struct locks *ls, const struct lock *l)
{
	struct board *b = &ls->board;
	uint64_t until = lock_now(ls) + (uint64_t)ls->env.geo->deadline_ms * 1000000;

	if (l->held != LOCK_EX || !rec_queue(&l->known))
		return;
	mtx_lock(&b->mtx);
	while (b->wishes && b->tried_ns < l->since_ns && newcomer(ls, l) && lock_now(ls) < until &&
	       !atomic_load(&ls->stopping)) {
		b->look_now = true;
		cond_broadcast(&b->cond);
		cond_wait(&b->looked, &b->mtx, until);
	}
	mtx_unlock(&b->mtx);
}

void board_served(struct locks *ls, uint64_t addr, const struct cand *cand)
{
	struct in_col *c = &ls->board.col[cand->slot];

	mtx_lock(&ls->board.mtx);
	for (unsigned k = 0; c->asker == cand->asker && k < c->n; k++) {
		if (c->wish[k].addr == addr && c->wish[k].seq == cand->seq)
			c->wish[k].served_ns = lock_now(ls);
	}
	mtx_unlock(&ls->board.mtx);
}

bool lock_wanted(struct locks *ls, uint64_t addr)
{
	struct stripe *s = table_stripe(ls, addr);
	struct cand cand[BOARD_COLS];
	const struct lock *l;
	bool queue;

	mtx_lock(&s->mtx);
	l = table_find(s, addr);
	queue = l && queue_others(ls, l);
	mtx_unlock(&s->mtx);
	return queue || wishes_for(ls, addr, NULL, cand) != 0;
}

/* ---- from a wish to a revoker --------------------------------------------------------------- */

/* A received lock serves this host first: until its first unpin, or for a few ms if others wait. */
static bool promised(struct locks *ls, const struct lock *l)
{
	if (l->asked_for && l->again && queue_keeps(ls, l))
		return true;
	if (!l->received_ns || lock_now(ls) >= l->received_ns + LOCK_SERVE_NS)
		return false;
	return !l->served || l->nwaiters;
}

/*
 * How soon a wish is checked again for a lock that is not held here: who noted itself when it gave
 * the lock away may have been handed it since.
 */
static uint64_t recheck_ns(struct locks *ls, const struct past *p)
{
	uint64_t ns = ls->beat_ns;

	if (p && p->noted)
		ns = (lock_now(ls) - p->gave_ns) / 8;
	if (ns < BOARD_QUEUE_NS)
		ns = BOARD_QUEUE_NS;
	return ns < ls->beat_ns ? ns : ls->beat_ns;
}

static bool due(struct locks *ls, uint64_t *checked_ns, uint64_t ns)
{
	uint64_t now = lock_now(ls);

	if (*checked_ns && now < *checked_ns + ns)
		return false;
	*checked_ns = now;
	return true;
}

/* What this wish means for us; true: it keeps us busy, poll fast. */
static bool heed(struct locks *ls, struct in_wish *w, uint64_t read_ns)
{
	struct stripe *s = table_stripe(ls, w->addr);
	bool hot = true;
	struct lock *l;

	mtx_lock(&s->mtx);
	l = table_find_born(ls, s, w->addr);
	if (l && (l->state != LST_IDLE || l->unsettled || l->queued || read_ns < l->since_ns)) {
		/* it will be looked at again when that has ended */
	} else if (l && (l->held == LOCK_EX || (l->held == LOCK_SH && w->mode == LOCK_EX))) {
		if (promised(ls, l))
			l->asked_for = true;
		else if (lock_now(ls) >= l->retry_ns)
			work_queue(ls, l, WORK_REVOKE);
	} else {
		hot = due(ls, &w->checked_ns, recheck_ns(ls, table_past(s, w->addr, false)));
		if (hot) {
			l = table_get(ls, s, w->addr);
			work_queue(ls, l, WORK_PROBE);
			table_put(s, l);
		}
	}
	mtx_unlock(&s->mtx);
	return hot;
}

static void heed_column(struct locks *ls, unsigned column)
{
	struct in_col *c = &ls->board.col[column], copy;
	bool hot = false;

	mtx_lock(&ls->board.mtx);
	copy = *c;
	mtx_unlock(&ls->board.mtx);
	for (unsigned i = 0; i < copy.n; i++) {
		if (!served(ls, &copy.wish[i]))
			hot |= heed(ls, &copy.wish[i], copy.read_ns);
	}
	mtx_lock(&ls->board.mtx);
	for (unsigned i = 0; i < copy.n && c->asker == copy.asker; i++)
		c->wish[i].checked_ns = copy.wish[i].checked_ns;
	mtx_unlock(&ls->board.mtx);
	if (hot)
		board_heat(ls);
}

/* ---- the poller ----------------------------------------------------------------------------- */

/*
 * The row was read at @now: how long until the next time, if nothing happens. What the look after a
 * lock was received has found is served first, and its next wish comes after the next receipt.
 */
static void set_interval(struct locks *ls, bool found, bool looked, uint64_t now)
{
	struct board *b = &ls->board;
	unsigned long long pins = atomic_load_explicit(&ls->pins, memory_order_relaxed);
	uint64_t limit = BOARD_IDLE_NS < ls->beat_ns ? BOARD_IDLE_NS : ls->beat_ns;

	if (pins >= b->pins_seen + BOARD_BUSY_PINS && limit > BOARD_BUSY_NS)
		limit = BOARD_BUSY_NS;
	else if (pins != b->pins_seen && limit > BOARD_CALM_NS)
		limit = BOARD_CALM_NS;
	b->pins_seen = pins;
	if (now < b->hot_until_ns && limit > BOARD_SLOW_NS)
		limit = BOARD_SLOW_NS;
	if (found)
		b->idle_ns = looked ? 2 * BOARD_FAST_NS : BOARD_FAST_NS;
	else if (looked)
		b->idle_ns = b->rhythm.ns / 2;
	else
		b->idle_ns += now < b->hot_until_ns ? b->idle_ns / 2 : b->idle_ns;
	if (b->idle_ns > limit)
		b->idle_ns = limit;
}

/* When to read the row; mtx held. */
static uint64_t next_ns(const struct board *b)
{
	if (b->look_now)
		return 0;
	return b->look_ns ? b->look_ns : b->read_ns + b->idle_ns;
}

/* When a lock of a queue has to be given on. */
static uint64_t next_due_ns(const struct board *b)
{
	uint64_t ns = UINT64_MAX;

	for (unsigned i = 0; i < BOARD_DUES; i++) {
		if (b->due[i].ns && b->due[i].ns < ns)
			ns = b->due[i].ns;
	}
	return ns;
}

/* Its time is over; where it cannot go yet, its next one is noted. */
static void give_on(struct locks *ls, uint64_t addr)
{
	struct stripe *s = table_stripe(ls, addr);
	struct lock *l;

	mtx_lock(&s->mtx);
	l = table_find(s, addr);
	if (l && l->asked_for && l->held == LOCK_EX) {
		uint64_t now = lock_now(ls), ns = queue_until_ns(l);

		if (l->state != LST_IDLE || l->queued)
			ns = now + TENURE_MAX_NS;
		if (ns <= now || !queue_arm(ls, l, ns)) {
			l->asked_for = false;
			work_queue(ls, l, WORK_REVOKE);
		}
	}
	mtx_unlock(&s->mtx);
}

/* b->mtx is held, and let go meanwhile. */
static void give_on_due(struct locks *ls, uint64_t now)
{
	struct board *b = &ls->board;

	for (unsigned i = 0; i < BOARD_DUES; i++) {
		uint64_t addr = b->due[i].addr;

		if (!b->due[i].ns || b->due[i].ns > now)
			continue;
		b->due[i].ns = 0;
		mtx_unlock(&b->mtx);
		give_on(ls, addr);
		mtx_lock(&b->mtx);
	}
}

/* @looked: a lock was received before the row was read, and that was the look after it. */
static void plan_next(struct locks *ls, unsigned news, uint64_t looked)
{
	struct board *b = &ls->board;
	bool found = b->news != news;

	if (looked) {
		timing_learn(&b->rhythm, found, BOARD_LOOK_MAX_NS);
		if (b->look_ns == looked)
			b->look_ns = 0;
	}
	b->read_ns = lock_now(ls);
	set_interval(ls, found, looked != 0, b->read_ns);
}

static void look_at_row(struct locks *ls)
{
	struct board *b = &ls->board;

	read_row(ls);
	for (unsigned i = 0; i < geo_all_slots(ls->env.geo); i++) {
		if (b->col[i].n)
			heed_column(ls, i);
	}
}

void board_poller(void *arg)
{
	struct locks *ls = arg;
	struct board *b = &ls->board;

	mtx_lock(&b->mtx);
	while (!atomic_load(&ls->stopping)) {
		uint64_t now = lock_now(ls), looked;
		unsigned news = b->news;

		atomic_store(&ls->poller_ns, now);
		if (now >= next_due_ns(b)) {
			give_on_due(ls, now);
			continue;
		}
		if (now < next_ns(b)) {
			uint64_t due = next_due_ns(b), next = next_ns(b);

			cond_wait(&b->cond, &b->mtx, due < next ? due : next);
			continue;
		}
		b->look_now = false;
		looked = b->look_ns && now >= b->look_ns ? b->look_ns : 0;
		mtx_unlock(&b->mtx);
		if (host_lease_ok(ls->host))
			look_at_row(ls);
		mtx_lock(&b->mtx);
		b->tried_ns = now;
		plan_next(ls, news, looked);
		cond_broadcast(&b->looked);
	}
	mtx_unlock(&b->mtx);
}
