/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of node ids: references, generations, pages, and who waits where. */
#include "fuse/front.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define INO 4711u

struct fix {
	struct clock *clk;
	struct nodes *n;
};

static int set_up(void **state)
{
	static struct fix f;

	assert_int_equal(clock_real_new(&f.clk), 0);
	f.n = nodes_new(f.clk);
	*state = &f;
	return 0;
}

static int tear_down(void **state)
{
	struct fix *f = *state;

	nodes_free(f->n);
	f->clk->ops->destroy(f->clk);
	return 0;
}

static void a_node_is_known_until_its_last_reference_is_forgotten(void **state)
{
	struct fix *f = *state;

	assert_int_equal(nodes_generation(f->n, INO), 0);
	nodes_remember(f->n, (struct nodeid){INO, 7});
	nodes_remember(f->n, (struct nodeid){INO, 7});
	nodes_forget(f->n, INO, 1);
	assert_int_equal(nodes_generation(f->n, INO), 7);
	nodes_forget(f->n, INO, 1);
	assert_int_equal(nodes_generation(f->n, INO), 0);
	nodes_forget(f->n, INO, 5); /* more than there are: harmless */
}

static void an_address_used_again_has_its_new_generation(void **state)
{
	struct fix *f = *state;

	nodes_remember(f->n, (struct nodeid){INO, 7});
	nodes_remember(f->n, (struct nodeid){INO, 8});
	assert_int_equal(nodes_generation(f->n, INO), 8);
	nodes_forget(f->n, INO, 2);
}

static void pages_stand_until_they_are_taken_and_no_request_is_in_hand(void **state)
{
	struct fix *f = *state;
	struct data_req r = {.off = 0, .len = 4096, .pages = true, .fill = true};
	uint64_t *all;

	nodes_remember(f->n, (struct nodeid){INO, 7});
	assert_false(nodes_take_pages(f->n, INO));
	nodes_data_begin(f->n, INO, &r);
	assert_true(nodes_take_pages(f->n, INO));
	assert_true(nodes_take_pages(f->n, INO)); /* its answer may still bring some */
	nodes_remember(f->n, (struct nodeid){INO + 1, 7});
	assert_int_equal(nodes_with_pages(f->n, &all), 1);
	assert_int_equal(all[0], INO);
	free(all);
	nodes_data_end(f->n, INO, &r);
	assert_true(nodes_take_pages(f->n, INO));
	assert_false(nodes_take_pages(f->n, INO));
	nodes_forget(f->n, INO, 1);
}

static void only_requests_that_wait_are_in_the_way_and_in_order(void **state)
{
	struct fix *f = *state;
	struct data_req far = {.off = 9000, .len = 10, .pages = true};
	struct data_req near = {.off = 100, .len = 5000, .pages = true, .fill = true};
	struct data_req served = {.off = 40960, .len = 10, .pages = true};
	struct data_req back = {.off = 81920, .len = 10, .pages = true, .back = true};
	struct span s[8];

	nodes_remember(f->n, (struct nodeid){INO, 7});
	atomic_store(&served.admitted, true);
	nodes_data_begin(f->n, INO, &far);
	nodes_data_begin(f->n, INO, &near);
	nodes_data_begin(f->n, INO, &served);
	nodes_data_begin(f->n, INO, &back);
	assert_int_equal(nodes_waiting(f->n, INO, s, 8), 2);
	assert_int_equal(s[0].off, 0);
	assert_int_equal(s[0].end, 8192);
	assert_true(s[0].fill);
	assert_int_equal(s[1].off, 8192);
	assert_int_equal(s[1].end, 12288);
	assert_false(s[1].fill);
	nodes_data_end(f->n, INO, &far);
	nodes_data_end(f->n, INO, &near);
	nodes_data_end(f->n, INO, &served);
	nodes_data_end(f->n, INO, &back);
	assert_int_equal(nodes_waiting(f->n, INO, s, 8), 0);
	nodes_forget(f->n, INO, 1);
}

static void a_writable_handle_makes_reads_exclusive(void **state)
{
	struct fix *f = *state;
	struct data_req r = {.len = 1, .pages = true};

	nodes_remember(f->n, (struct nodeid){INO, 7});
	nodes_handle(f->n, INO, 1, true);
	assert_true(nodes_data_begin(f->n, INO, &r));
	nodes_data_end(f->n, INO, &r);
	nodes_handle(f->n, INO, -1, true);
	assert_false(nodes_data_begin(f->n, INO, &r));
	nodes_data_end(f->n, INO, &r);
	nodes_forget(f->n, INO, 1);
}

static void pages_may_be_dirty_from_the_first_mapping_until_the_last_handle_goes(void **state)
{
	struct fix *f = *state;

	assert_false(nodes_maybe_dirtied(f->n, INO));
	nodes_remember(f->n, (struct nodeid){INO, 7});
	nodes_handle(f->n, INO, 1, false);
	assert_false(nodes_maybe_dirtied(f->n, INO));
	nodes_handle(f->n, INO, 1, true);
	assert_true(nodes_maybe_dirtied(f->n, INO));
	nodes_handle(f->n, INO, -1, true);
	assert_true(nodes_maybe_dirtied(f->n, INO)); /* write-back may hold the other one */
	nodes_handle(f->n, INO, -1, false);
	assert_false(nodes_maybe_dirtied(f->n, INO));
	nodes_handle(f->n, INO, 1, false);
	assert_false(nodes_maybe_dirtied(f->n, INO));
	nodes_handle(f->n, INO, -1, false);
	nodes_forget(f->n, INO, 1);
}

static void write_back_is_counted_from_its_beginning_to_its_end(void **state)
{
	struct fix *f = *state;
	struct data_req back = {.len = 1, .pages = true, .back = true}, write = {.len = 1};
	uint64_t begun;

	nodes_remember(f->n, (struct nodeid){INO, 7});
	nodes_data_begin(f->n, INO, &write);
	assert_false(nodes_write_back(f->n, &begun));
	assert_int_equal(begun, 0);
	nodes_data_begin(f->n, INO, &back);
	assert_true(nodes_write_back(f->n, &begun));
	assert_int_equal(begun, 1);
	nodes_data_end(f->n, INO, &write);
	assert_true(nodes_write_back(f->n, &begun));
	nodes_data_end(f->n, INO, &back);
	assert_false(nodes_write_back(f->n, &begun));
	assert_int_equal(begun, 1);
	nodes_forget(f->n, INO, 1);
}

struct fill {
	struct fix *f;
	struct data_req r;
	atomic_bool went_on;
};

static void fill_pages(void *arg)
{
	struct fill *x = arg;

	nodes_let_writes_end(x->f->n, INO, &x->r);
	atomic_store(&x->went_on, true);
}

static bool is_behind(struct fix *f, uint64_t off, uint64_t len, bool pages, bool fill)
{
	struct data_req r = {.off = off, .len = len, .pages = pages, .fill = fill};
	bool yes;

	nodes_data_begin(f->n, INO, &r);
	yes = nodes_behind_write(f->n, INO, &r);
	nodes_data_end(f->n, INO, &r);
	return yes;
}

static void pages_are_filled_once_writes_to_them_have_ended(void **state)
{
	struct fix *f = *state;
	struct data_req w = {.off = 4000, .len = 200, .pages = true, .write_end = 4200};
	struct data_req back = {.off = 0, .len = 4096, .pages = true, .back = true};
	struct fill x = {.f = f, .r = {.len = 4096, .pages = true, .fill = true}};
	struct task *t;

	nodes_remember(f->n, (struct nodeid){INO, 7});
	nodes_data_begin(f->n, INO, &back);
	assert_false(is_behind(f, 0, 4096, true, true));
	nodes_data_begin(f->n, INO, &w);
	assert_true(is_behind(f, 0, 4096, true, true));
	assert_true(is_behind(f, 4096, 4096, true, true));
	assert_false(is_behind(f, 8192, 4096, true, true));
	assert_false(is_behind(f, 0, 4096, false, true)); /* straight from a call's buffer */
	assert_false(is_behind(f, 0, 4096, true, false));
	nodes_data_begin(f->n, INO, &x.r);
	assert_int_equal(f->clk->ops->task_start(f->clk, "fill", fill_pages, &x, &t), 0);
	clock_sleep_ns(f->clk, 20000000);
	assert_false(atomic_load(&x.went_on));
	nodes_data_end(f->n, INO, &w);
	f->clk->ops->task_join(f->clk, t);
	assert_true(atomic_load(&x.went_on));
	nodes_data_end(f->n, INO, &x.r);
	nodes_data_end(f->n, INO, &back);
}

static void a_write_that_has_to_wait_keeps_its_place_before_reads(void **state)
{
	struct fix *f = *state;
	struct data_req first = {.len = 4096, .pages = true, .fill = true};
	struct data_req tried = {.len = 4096, .pages = true}, w;
	struct data_req r = {.len = 4096, .pages = true, .fill = true};

	nodes_remember(f->n, (struct nodeid){INO, 7});
	nodes_data_begin(f->n, INO, &first);
	nodes_data_begin(f->n, INO, &tried);
	nodes_data_begin(f->n, INO, &r);
	nodes_data_end(f->n, INO, &first);
	nodes_data_move(f->n, INO, &tried, &w);
	assert_false(tried.linked);
	assert_true(nodes_behind_write(f->n, INO, &r));
	nodes_data_begin(f->n, INO, &w);
	assert_true(nodes_behind_write(f->n, INO, &r));
	assert_true(w.overtaken); /* by the first one, which has ended since */
	nodes_data_end(f->n, INO, &w);
	assert_false(nodes_behind_write(f->n, INO, &r));
	nodes_data_end(f->n, INO, &r);
	nodes_forget(f->n, INO, 1);
	assert_false(nodes_known(f->n, INO));
}

static bool is_overtaken(struct fix *f, uint64_t off, uint64_t len, bool pages, bool back)
{
	struct data_req w = {.off = off, .len = len, .pages = pages, .back = back};

	nodes_data_begin(f->n, INO, &w);
	nodes_data_end(f->n, INO, &w);
	return w.overtaken;
}

static void a_write_that_begins_after_its_pages_are_being_filled_was_overtaken(void **state)
{
	struct fix *f = *state;
	struct data_req r = {.off = 4096, .len = 4096, .pages = true, .fill = true};
	struct data_req direct = {.off = 16384, .len = 4096, .fill = true};

	nodes_remember(f->n, (struct nodeid){INO, 7});
	nodes_data_begin(f->n, INO, &direct);
	nodes_data_begin(f->n, INO, &r);
	assert_false(r.overtaken);
	assert_true(is_overtaken(f, 4100, 10, true, false));
	assert_true(is_overtaken(f, 0, 4097, true, false));
	assert_false(is_overtaken(f, 0, 4096, true, false));
	assert_false(is_overtaken(f, 8192, 4096, true, false));
	assert_false(is_overtaken(f, 16384, 4096, true, false)); /* that READ makes no pages */
	assert_false(is_overtaken(f, 4096, 4096, true, true));	 /* write-back: it is there */
	assert_false(is_overtaken(f, 4096, 4096, false, false));
	nodes_data_end(f->n, INO, &r);
	assert_false(is_overtaken(f, 4096, 4096, true, false));
	nodes_data_end(f->n, INO, &direct);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(a_node_is_known_until_its_last_reference_is_forgotten),
	    T(an_address_used_again_has_its_new_generation),
	    T(pages_stand_until_they_are_taken_and_no_request_is_in_hand),
	    T(only_requests_that_wait_are_in_the_way_and_in_order),
	    T(a_writable_handle_makes_reads_exclusive),
	    T(pages_may_be_dirty_from_the_first_mapping_until_the_last_handle_goes),
	    T(write_back_is_counted_from_its_beginning_to_its_end),
	    T(pages_are_filled_once_writes_to_them_have_ended),
	    T(a_write_that_has_to_wait_keeps_its_place_before_reads),
	    T(a_write_that_begins_after_its_pages_are_being_filled_was_overtaken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
