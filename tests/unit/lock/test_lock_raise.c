/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pins that park, and one that is raised among them: who waits for whom, and who comes in between.
 */
#include "fixture.h"
#include "simrand.h"

#include <errno.h>
#include <string.h>

struct mate { /* pins shared, works, parks; then leads or waits until the leader is done */
	struct box *b;
	uint64_t work_ms;
	bool leads;
	bool *led; /* the leader is done */
	bool pinned, parked, raised, done;
	unsigned *parked_n, seen; /* parked ones, and so many of them when the pin was raised */
};

static void mate_task(void *arg)
{
	struct mate *m = arg;
	struct fix *f = m->b->f;
	struct lock *l;

	assert_int_equal(fix_pin(m->b, 1, LOCK_EX, LOCAL_SHARED, 0, NULL, &l), 0);
	m->pinned = true;
	fix_sleep_ms(f, m->work_ms);
	lock_park(m->b->ls, l);
	++*m->parked_n;
	m->parked = true;
	if (m->leads) {
		lock_raise(m->b->ls, l);
		m->raised = true;
		m->seen = *m->parked_n;
		fix_sleep_ms(f, 5);
		fix_add(m->b, l);
		*m->led = true;
	} else {
		while (!*m->led)
			fix_sleep_ms(f, 1);
	}
	m->done = true;
	fix_unpin(m->b, l, LOCK_EX, m->leads ? LOCAL_EXCL : LOCAL_PARKED);
}

#define MATES 4u

struct crew {
	struct mate m[MATES];
	struct task *t[MATES];
	unsigned parked_n;
	bool led;
};

/* Mate @leader leads; they work for 10, 20, ... ms. */
static void crew_start(struct fix *f, struct crew *c, unsigned leader)
{
	memset(c, 0, sizeof(*c));
	for (unsigned i = 0; i < MATES; i++) {
		c->m[i] = (struct mate){.b = &f->box[0],
					.work_ms = 10 * (i + 1),
					.leads = i == leader,
					.led = &c->led,
					.parked_n = &c->parked_n};
		c->t[i] = fix_task(f, 0, mate_task, &c->m[i]);
	}
}

static void crew_join(struct fix *f, struct crew *c)
{
	for (unsigned i = 0; i < MATES; i++)
		fix_join(f, c->t[i]);
}

static void body_waits(struct fix *f)
{
	struct crew c;

	fix_up(f, 0);
	for (unsigned leader = 0; leader < MATES; leader++) {
		crew_start(f, &c, leader);
		fix_sleep_ms(f, 35);
		assert_true(c.m[2].parked);
		assert_false(c.m[3].parked);
		assert_false(c.m[leader].raised);
		crew_join(f, &c);
		assert_int_equal(c.m[leader].seen, MATES);
	}
}

static void a_pin_is_raised_when_all_others_are_parked(void **state)
{
	(void)state;
	fix_run(body_waits, 512, 1);
}

struct other { /* wants the lock meanwhile */
	struct box *b;
	enum lock_local local;
	struct crew *c;
	bool in, mates_done;
};

static void other_task(void *arg)
{
	struct other *o = arg;
	struct lock *l;

	assert_int_equal(fix_pin(o->b, 1, LOCK_EX, o->local, 0, NULL, &l), 0);
	o->in = true;
	o->mates_done = true;
	for (unsigned i = 0; i < MATES; i++)
		o->mates_done &= o->c->m[i].done;
	fix_unpin(o->b, l, LOCK_EX, o->local);
}

/* @host 0: local exclusive on the same host. */
static void nobody_between(struct fix *f, unsigned host)
{
	struct crew c;
	struct other o = {.b = &f->box[host], .local = LOCAL_EXCL, .c = &c};
	struct task *t;

	crew_start(f, &c, 1);
	for (unsigned i = 0; i < MATES; i++)
		while (!c.m[i].pinned)
			clock_sleep_ns(f->clk, 10000);
	t = fix_task(f, host, other_task, &o);
	while (!c.m[1].raised) {
		assert_false(o.in);
		fix_sleep_ms(f, 1);
	}
	crew_join(f, &c);
	fix_join(f, t);
	assert_true(o.in);
	assert_true(o.mates_done);
}

static void body_between(struct fix *f)
{
	fix_up(f, 0);
	fix_up(f, 1);
	nobody_between(f, 0);
	nobody_between(f, 1);
}

static void nobody_has_it_alone_between_parking_and_the_last_unpin(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 10; seed++)
		fix_run(body_between, 512, seed);
}

/* Readers come one after the other without a pause, for as long as nobody has raised a pin. */
struct stream {
	struct box *b;
	struct crew *c;
	unsigned passed;
};

static void stream_task(void *arg)
{
	struct stream *s = arg;
	struct lock *l;

	while (!s->c->m[0].raised) {
		assert_int_equal(fix_pin(s->b, 1, LOCK_SH, LOCAL_SHARED, 0, NULL, &l), 0);
		s->passed += s->c->m[MATES - 1].parked && !s->c->m[0].raised;
		clock_sleep_ns(s->b->f->clk, 100000);
		fix_unpin(s->b, l, LOCK_SH, LOCAL_SHARED);
	}
}

static void body_stream(struct fix *f)
{
	struct stream s[2];
	struct crew c;
	struct task *t[2];

	fix_up(f, 0);
	crew_start(f, &c, 0);
	for (unsigned i = 0; i < 2; i++) {
		s[i] = (struct stream){.b = &f->box[0], .c = &c};
		t[i] = fix_task(f, 0, stream_task, &s[i]);
		clock_sleep_ns(f->clk, 50000); /* so that there is always one */
	}
	fix_sleep_ms(f, 60);
	assert_true(c.m[0].raised);
	assert_int_equal(s[0].passed + s[1].passed, 0); /* its patience was over by then */
	crew_join(f, &c);
	fix_join(f, t[0]);
	fix_join(f, t[1]);
}

static void those_who_come_later_do_not_keep_a_pin_from_being_raised(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 10; seed++)
		fix_run(body_stream, 512, seed);
}

static void body_patience(struct fix *f)
{
	struct box *b = &f->box[0];
	struct mate m;
	unsigned parked = 0;
	bool led = false;
	struct lock *l, *x;
	struct task *t;

	fix_up(f, 0);
	assert_int_equal(fix_pin(b, 1, LOCK_EX, LOCAL_SHARED, 0, NULL, &l), 0);
	m = (struct mate){.b = b, .leads = true, .led = &led, .parked_n = &parked};
	t = fix_task(f, 0, mate_task, &m);
	while (!m.parked)
		clock_sleep_ns(f->clk, 10000);
	/* For a moment others still pass, then they wait. */
	assert_int_equal(fix_pin(b, 1, LOCK_EX, LOCAL_SHARED, LOCK_TRY, NULL, &x), 0);
	fix_unpin(b, x, LOCK_EX, LOCAL_SHARED);
	fix_sleep_ms(f, 1);
	assert_int_equal(fix_pin(b, 1, LOCK_EX, LOCAL_SHARED, LOCK_TRY, NULL, &x), -EAGAIN);
	assert_false(m.raised);
	fix_unpin(b, l, LOCK_EX, LOCAL_SHARED);
	fix_join(f, t);
	assert_int_equal(fix_pin(b, 1, LOCK_EX, LOCAL_EXCL, LOCK_TRY, NULL, &x), 0);
	fix_unpin(b, x, LOCK_EX, LOCAL_EXCL);
}

static void others_pass_a_pin_that_is_raised_for_a_moment_only(void **state)
{
	(void)state;
	fix_run(body_patience, 512, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_pin_is_raised_when_all_others_are_parked),
	    cmocka_unit_test(nobody_has_it_alone_between_parking_and_the_last_unpin),
	    cmocka_unit_test(those_who_come_later_do_not_keep_a_pin_from_being_raised),
	    cmocka_unit_test(others_pass_a_pin_that_is_raised_for_a_moment_only),
	};

	return cmocka_run_group_tests_name("lock-raise", tests, NULL, NULL);
}
