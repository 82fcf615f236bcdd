/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For how long the kernel may keep names and attributes, and that they are taken back, as pages. */
#include "fuse/front.h"

#include <errno.h>
#include <linux/fuse.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define DIR_INO 100u
#define INO 4711u
#define SEC 1000000000ull
#define INC_EPOCH 8
#define WRITE_WAITS_NS 5000000ull /* the page of one that waits for the lock may be locked */

static struct {
	struct front f;
	uint64_t lease_ns;
	bool mounts;
	int device[2];	   /* a pipe for the kernel's device */
	unsigned notified; /* of INO's attributes */
	uint64_t notified_ns;
	unsigned unknown; /* so often the kernel does not know INO yet */
	unsigned dropped; /* ranges of its pages */
	bool dirty;	  /* its first page is: dropping it writes it back, which takes its time */
	bool copies;	  /* are left of pages that were written back */
	unsigned waits;	  /* for these */
} w;

/* ---- what stands around keep.c --------------------------------------------------------------- */

uint64_t vol_lease_left_ns(struct volume *v)
{
	(void)v;
	return w.lease_ns;
}

bool mounts_beneath(const struct front *f)
{
	(void)f;
	return w.mounts;
}

void sizes_settle(struct sizes *s, uint64_t ino)
{
	(void)s;
	(void)ino;
}

bool backlog_wait(struct backlog *b, uint64_t until)
{
	(void)b;
	assert_true(until > clock_now_ns(w.f.clk) && until < clock_now_ns(w.f.clk) + 3 * SEC);
	assert_int_equal(w.dropped, 1);
	w.waits++;
	return !w.copies;
}

int fuse_session_fd(struct fuse_session *se)
{
	(void)se;
	return w.device[1];
}

int fuse_lowlevel_notify_inval_inode(struct fuse_session *se, fuse_ino_t ino, off_t off, off_t len)
{
	(void)se;
	(void)len;
	assert_int_equal(ino, INO);
	if (off == 0 && w.dirty) {
		struct data_req back = {.len = 4096, .pages = true, .back = true};

		nodes_data_begin(w.f.nodes, INO, &back);
		clock_sleep_ns(w.f.clk, 10 * WRITE_WAITS_NS);
		w.dirty = false;
		nodes_data_end(w.f.nodes, INO, &back);
	}
	if (off >= 0) {
		w.dropped++;
		return 0;
	}
	w.notified++;
	w.notified_ns = clock_now_ns(w.f.clk);
	if (!w.unknown)
		return 0;
	w.unknown--;
	return -ENOENT;
}

static unsigned epochs_ended(void)
{
	struct fuse_out_header h;
	unsigned n = 0;

	while (read(w.device[0], &h, sizeof(h)) == (ssize_t)sizeof(h)) {
		assert_int_equal(h.unique, 0);
		assert_int_equal(h.error, INC_EPOCH);
		assert_int_equal(h.len, sizeof(h));
		n++;
	}
	return n;
}

static int set_up(void **state)
{
	(void)state;
	memset(&w, 0, sizeof(w));
	assert_int_equal(clock_real_new(&w.f.clk), 0);
	assert_int_equal(pipe2(w.device, O_NONBLOCK), 0);
	w.f.nodes = nodes_new(w.f.clk);
	w.f.inval = inval_new(&w.f);
	w.f.root = (struct nodeid){1000, 1};
	w.f.epochs = true;
	w.f.epoch = 1;
	w.lease_ns = 3 * SEC;
	nodes_remember(w.f.nodes, (struct nodeid){DIR_INO, 1});
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	inval_free(w.f.inval);
	nodes_free(w.f.nodes);
	w.f.clk->ops->destroy(w.f.clk);
	close(w.device[0]);
	close(w.device[1]);
	return 0;
}

static struct vattr a_file(mode_t mode)
{
	struct vattr va = {.id = {INO, 7}};

	va.st.st_mode = S_IFREG | mode;
	return va;
}

static struct fuse_entry_param answer(enum keep_how how, uint64_t begun)
{
	struct vattr va = a_file(0644);
	struct fuse_entry_param e;

	keep_entry(&w.f, DIR_INO, &va, begun, how, &e);
	return e;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void an_answer_is_kept_for_what_is_left_of_the_lease(void **state)
{
	struct fuse_entry_param e = answer(KEEP_FOUND, keep_begin(&w.f));

	(void)state;
	assert_true(e.entry_timeout == 3.0 && e.attr_timeout == 3.0);
	w.lease_ns = 100 * SEC;
	e = answer(KEEP_FOUND, keep_begin(&w.f));
	assert_true(e.entry_timeout == 10.0 && e.attr_timeout == 10.0);
	assert_true(keep_absence(&w.f, DIR_INO, keep_begin(&w.f)) == 10.0);
	w.lease_ns = 0;
	e = answer(KEEP_FOUND, keep_begin(&w.f));
	assert_true(e.entry_timeout == 0 && e.attr_timeout == 0);
}

static void an_answer_that_a_revoke_overlaps_is_not_kept(void **state)
{
	uint64_t begun = keep_begin(&w.f);
	struct vattr va = a_file(0644);
	struct fuse_entry_param e;

	(void)state;
	front_invalidate(&w.f, 12345);
	e = answer(KEEP_FOUND, begun);
	assert_true(e.entry_timeout == 0 && e.attr_timeout == 0);
	assert_true(keep_attrs(&w.f, &va, begun) == 0);
	assert_true(keep_absence(&w.f, DIR_INO, begun) == 0);
	assert_true(keep_attrs(&w.f, &va, keep_begin(&w.f)) > 0);
}

static void attributes_that_the_kernel_takes_at_any_rate_are_not_kept(void **state)
{
	struct vattr va = a_file(04755);

	(void)state;
	assert_true(answer(KEEP_MADE, keep_begin(&w.f)).attr_timeout == 0);
	assert_true(answer(KEEP_CREATED, keep_begin(&w.f)).attr_timeout > 0);
	assert_true(keep_attrs(&w.f, &va, keep_begin(&w.f)) == 0); /* bits that a write clears */
}

static void names_are_taken_back_before_their_directory_is_given_up(void **state)
{
	(void)state;
	answer(KEEP_FOUND, keep_begin(&w.f));
	front_downgrade(&w.f, DIR_INO);
	assert_int_equal(epochs_ended(), 0); /* others read it, too: names stay */
	front_invalidate(&w.f, DIR_INO);
	assert_int_equal(epochs_ended(), 1);
	front_invalidate(&w.f, DIR_INO);
	assert_int_equal(epochs_ended(), 0); /* there are none any more */
}

static void names_of_an_epoch_that_has_ended_need_not_be_taken_back(void **state)
{
	(void)state;
	nodes_remember(w.f.nodes, (struct nodeid){DIR_INO + 1, 1});
	answer(KEEP_FOUND, keep_begin(&w.f));
	keep_absence(&w.f, DIR_INO + 1, keep_begin(&w.f));
	front_invalidate(&w.f, DIR_INO);
	front_invalidate(&w.f, DIR_INO + 1);
	assert_int_equal(epochs_ended(), 1);
}

static void a_directory_that_others_want_gives_out_no_names_for_a_while(void **state)
{
	(void)state;
	answer(KEEP_FOUND, keep_begin(&w.f));
	front_invalidate(&w.f, DIR_INO);
	assert_true(answer(KEEP_FOUND, keep_begin(&w.f)).entry_timeout == 0);
	assert_true(answer(KEEP_FOUND, keep_begin(&w.f)).attr_timeout > 0);
	front_invalidate(&w.f, DIR_INO);
	assert_int_equal(epochs_ended(), 1);
}

static void attributes_are_taken_back_once_the_kernel_has_taken_up_the_answer(void **state)
{
	(void)state;
	answer(KEEP_FOUND, keep_begin(&w.f));
	w.unknown = 3;
	front_invalidate(&w.f, INO);
	assert_int_equal(w.notified, 4);
	front_invalidate(&w.f, INO);
	assert_int_equal(w.notified, 4); /* there are none any more */
}

static void an_inode_that_the_kernel_forgot_is_not_waited_for(void **state)
{
	(void)state;
	answer(KEEP_FOUND, keep_begin(&w.f));
	nodes_forget(w.f.nodes, INO, 1);
	w.unknown = 1000000;
	front_invalidate(&w.f, INO);
	assert_true(w.notified <= 1);
}

static void an_answer_to_create_is_taken_back_twice_while_nothing_was_heard_since(void **state)
{
	(void)state;
	answer(KEEP_CREATED, keep_begin(&w.f));
	front_invalidate(&w.f, INO);
	assert_int_equal(w.notified, 2);
	nodes_settled(w.f.nodes, INO);
	answer(KEEP_FOUND, keep_begin(&w.f));
	front_invalidate(&w.f, INO);
	assert_int_equal(w.notified, 3);
}

static void a_name_that_moves_is_taken_back_with_its_new_directory(void **state)
{
	uint64_t begun = keep_begin(&w.f);

	(void)state;
	keep_moved_begin(&w.f, DIR_INO);
	keep_moved_end(&w.f, DIR_INO, begun);
	assert_int_equal(epochs_ended(), 0);
	front_invalidate(&w.f, DIR_INO);
	assert_int_equal(epochs_ended(), 1);
	keep_moved_begin(&w.f, DIR_INO);
	front_invalidate(&w.f, DIR_INO); /* before the rename has the lock */
	assert_int_equal(epochs_ended(), 1);
	keep_moved_end(&w.f, DIR_INO, begun);
	assert_int_equal(epochs_ended(), 1);
}

static void with_mounts_beneath_names_are_waited_for_and_no_more_are_kept(void **state)
{
	uint64_t began;

	(void)state;
	w.lease_ns = SEC / 10;
	answer(KEEP_FOUND, keep_begin(&w.f));
	w.mounts = true;
	began = clock_now_ns(w.f.clk);
	front_invalidate(&w.f, DIR_INO);
	assert_true(clock_now_ns(w.f.clk) - began > w.lease_ns / 2);
	assert_int_equal(epochs_ended(), 0);
	nodes_remember(w.f.nodes, (struct nodeid){DIR_INO + 1, 1});
	assert_true(keep_absence(&w.f, DIR_INO + 1, keep_begin(&w.f)) == 0);
}

static void a_kernel_without_epochs_keeps_no_names(void **state)
{
	struct fuse_entry_param e;

	(void)state;
	w.f.epochs = false;
	e = answer(KEEP_FOUND, keep_begin(&w.f));
	assert_true(e.entry_timeout == 0 && e.attr_timeout == 0);
	assert_true(keep_absence(&w.f, DIR_INO, keep_begin(&w.f)) == 0);
	front_invalidate(&w.f, DIR_INO);
	assert_int_equal(epochs_ended(), 0);
}

static void a_lost_volume_leaves_nothing_in_the_cache(void **state)
{
	(void)state;
	answer(KEEP_FOUND, keep_begin(&w.f));
	front_drop_all(&w.f);
	assert_int_equal(epochs_ended(), 1);
	assert_int_equal(w.notified, 1);
}

/* Pages of INO, read by a handle that can be mapped to write, or not, are called back. */
static int called_back(bool old_kernel, bool mappable)
{
	struct data_req r = {.len = 4096, .pages = true, .fill = true};
	int rc;

	w.f.epochs = !old_kernel;
	w.waits = w.dropped = 0;
	nodes_remember(w.f.nodes, (struct nodeid){INO, 7});
	nodes_handle(w.f.nodes, INO, 1, mappable);
	nodes_data_begin(w.f.nodes, INO, &r);
	nodes_data_end(w.f.nodes, INO, &r);
	rc = front_downgrade(&w.f, INO);
	nodes_handle(w.f.nodes, INO, -1, mappable);
	return rc;
}

static void an_old_kernel_is_waited_for_where_pages_may_be_dirty(void **state)
{
	(void)state;
	assert_int_equal(called_back(true, true), 0);
	assert_int_equal(w.waits, 1);
	w.copies = true;
	assert_int_equal(called_back(true, false), 0);
	assert_int_equal(called_back(false, true), 0);
	assert_int_equal(w.dropped, 1);
	assert_int_equal(w.waits, 0);
}

static void a_lock_stays_while_an_old_kernel_has_copies_to_write(void **state)
{
	(void)state;
	w.copies = true;
	assert_int_equal(called_back(true, true), -EAGAIN);
	nodes_handle(w.f.nodes, INO, 1, true);
	w.copies = false;
	w.dropped = 0;
	assert_int_equal(front_downgrade(&w.f, INO), 0); /* asked again */
	assert_int_equal(w.dropped, 1);
	assert_int_equal(w.waits, 2);
}

static void a_dirty_page_beneath_a_write_that_waits_is_written_back_first(void **state)
{
	struct data_req r = {.len = 100, .pages = true};

	(void)state;
	nodes_remember(w.f.nodes, (struct nodeid){INO, 7});
	nodes_handle(w.f.nodes, INO, 1, true);
	nodes_data_begin(w.f.nodes, INO, &r); /* not admitted */
	w.dirty = true;
	assert_int_equal(front_downgrade(&w.f, INO), 0);
	assert_false(w.dirty);
	nodes_data_end(w.f.nodes, INO, &r);
	nodes_handle(w.f.nodes, INO, -1, true);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(an_answer_is_kept_for_what_is_left_of_the_lease),
	    T(an_answer_that_a_revoke_overlaps_is_not_kept),
	    T(attributes_that_the_kernel_takes_at_any_rate_are_not_kept),
	    T(names_are_taken_back_before_their_directory_is_given_up),
	    T(names_of_an_epoch_that_has_ended_need_not_be_taken_back),
	    T(a_directory_that_others_want_gives_out_no_names_for_a_while),
	    T(attributes_are_taken_back_once_the_kernel_has_taken_up_the_answer),
	    T(an_inode_that_the_kernel_forgot_is_not_waited_for),
	    T(an_answer_to_create_is_taken_back_twice_while_nothing_was_heard_since),
	    T(a_name_that_moves_is_taken_back_with_its_new_directory),
	    T(with_mounts_beneath_names_are_waited_for_and_no_more_are_kept),
	    T(a_kernel_without_epochs_keeps_no_names),
	    T(a_lost_volume_leaves_nothing_in_the_cache),
	    T(an_old_kernel_is_waited_for_where_pages_may_be_dirty),
	    T(a_lock_stays_while_an_old_kernel_has_copies_to_write),
	    T(a_dirty_page_beneath_a_write_that_waits_is_written_back_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
