/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel has the size of an open file before it is told that the file has changed. */
#include "fuse/front.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define INO 0x123456789abcull
#define GENERATION 77u
#define SEC 1000000000ull
#define REAL_SIZE 5000u
#define DEV_MAJOR 7u
#define DEV_MINOR 9u

static struct {
	struct front f;
	pthread_mutex_t mtx;
	pthread_cond_t go;
	atomic_uint questions; /* that reached the daemon */
	atomic_ullong size;    /* that the kernel has */
	uint64_t real_size;
	unsigned overtaken; /* so many answers are passed over */
	bool unanswered;
	bool stuck; /* while it drops pages, with the size taken up */
	unsigned dev_major;
	pthread_t thread[32];
	unsigned threads;
} w;

/* ---- the kernel ------------------------------------------------------------------------------ */

int open_by_handle_at(int mount, struct file_handle *fh, int flags)
{
	uint32_t raw[3];

	assert_true(mount >= 0);
	assert_true(flags & O_PATH);
	assert_int_equal(fh->handle_type, 0x81);
	assert_int_equal(fh->handle_bytes, sizeof(raw));
	memcpy(raw, fh->f_handle, sizeof(raw));
	assert_int_equal((uint64_t)raw[0] << 32 | raw[1], INO);
	assert_int_equal(raw[2], GENERATION);
	return fcntl(mount, F_DUPFD_CLOEXEC, 0);
}

static void wait_while(const bool *what)
{
	pthread_mutex_lock(&w.mtx);
	while (*what)
		pthread_cond_wait(&w.go, &w.mtx);
	pthread_mutex_unlock(&w.mtx);
}

static void let_go(bool *what)
{
	pthread_mutex_lock(&w.mtx);
	*what = false;
	pthread_cond_broadcast(&w.go);
	pthread_mutex_unlock(&w.mtx);
}

/* GETATTR, served by the daemon. */
static void getattr(void)
{
	assert_true(sizes_asks(w.f.sizes, gettid()));
	wait_while(&w.unanswered);
	sizes_told(w.f.sizes, gettid(), w.real_size);
	if (atomic_fetch_add(&w.questions, 1) >= w.overtaken)
		atomic_store(&w.size, w.real_size);
	wait_while(&w.stuck);
}

int statx(int fd, const char *restrict path, int flags, unsigned mask, struct statx *restrict st)
{
	(void)fd;
	(void)mask;
	assert_string_equal(path, "");
	memset(st, 0, sizeof(*st));
	if (flags & AT_STATX_FORCE_SYNC)
		getattr();
	st->stx_size = atomic_load(&w.size);
	st->stx_dev_major = w.dev_major;
	st->stx_dev_minor = DEV_MINOR;
	return 0;
}

/* ---- what stands around sizes.c -------------------------------------------------------------- */

struct job {
	void (*fn)(void *arg);
	void *arg;
};

static void *job_main(void *arg)
{
	struct job j = *(struct job *)arg;

	free(arg);
	j.fn(j.arg);
	return NULL;
}

int vol_getattr(struct volume *v, const struct op_ctx *c, struct nodeid id, struct vattr *out)
{
	(void)v;
	assert_true(c->drain);
	assert_int_equal(id.ino, INO);
	memset(out, 0, sizeof(*out));
	out->st.st_size = (off_t)w.real_size;
	return 0;
}

struct nodeid front_node(struct front *f, fuse_ino_t nodeid)
{
	return (struct nodeid){nodeid, nodes_generation(f->nodes, nodeid)};
}

void inval_run(struct inval *v, void (*fn)(void *arg), void *arg)
{
	struct job *j = malloc(sizeof(*j));

	(void)v;
	assert_non_null(j);
	assert_true(w.threads < sizeof(w.thread) / sizeof(w.thread[0]));
	*j = (struct job){fn, arg};
	assert_int_equal(pthread_create(&w.thread[w.threads++], NULL, job_main, j), 0);
}

static int set_up(void **state)
{
	(void)state;
	memset(&w, 0, sizeof(w));
	pthread_mutex_init(&w.mtx, NULL);
	pthread_cond_init(&w.go, NULL);
	assert_int_equal(clock_real_new(&w.f.clk), 0);
	w.f.nodes = nodes_new(w.f.clk);
	w.f.sizes = sizes_new(&w.f);
	w.f.mountpoint = "/";
	w.f.have_dev = true;
	w.real_size = REAL_SIZE;
	w.f.dev_major = w.dev_major = DEV_MAJOR;
	w.f.dev_minor = DEV_MINOR;
	nodes_remember(w.f.nodes, (struct nodeid){INO, (7ull << 32) + GENERATION});
	nodes_handle(w.f.nodes, INO, 1, false);
	atomic_store(&w.size, 100);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	let_go(&w.stuck);
	let_go(&w.unanswered);
	for (unsigned i = 0; i < w.threads; i++)
		pthread_join(w.thread[i], NULL);
	assert_false(sizes_asks(w.f.sizes, gettid()));
	sizes_free(w.f.sizes);
	nodes_free(w.f.nodes);
	w.f.clk->ops->destroy(w.f.clk);
	return 0;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void the_kernel_has_the_size_of_an_open_file(void **state)
{
	(void)state;
	sizes_settle(w.f.sizes, INO);
	assert_int_equal(atomic_load(&w.size), REAL_SIZE);
	assert_int_equal(atomic_load(&w.questions), 1);
}

static void nobody_is_asked_about_a_file_that_is_closed(void **state)
{
	(void)state;
	nodes_handle(w.f.nodes, INO, -1, false);
	sizes_settle(w.f.sizes, INO);
	assert_int_equal(atomic_load(&w.questions), 0);
}

static void settle_again(unsigned questions)
{
	atomic_store(&w.questions, 0);
	sizes_settle(w.f.sizes, INO);
	assert_int_equal(atomic_load(&w.size), w.real_size);
	assert_int_equal(atomic_load(&w.questions), questions);
}

static void a_kernel_that_has_the_size_still_is_not_asked(void **state)
{
	(void)state;
	settle_again(1);
	settle_again(0);
	w.real_size = REAL_SIZE + 1; /* another host appended */
	settle_again(1);
	settle_again(0);
}

static void write_to(uint64_t end)
{
	struct data_req r = {.off = end - 1, .len = 1, .write_end = end};

	nodes_data_begin(w.f.nodes, INO, &r);
	nodes_data_end(w.f.nodes, INO, &r);
}

static void read_to(uint64_t end)
{
	struct data_req r = {.len = 4096, .fill = true, .pages = true};

	nodes_data_begin(w.f.nodes, INO, &r);
	r.got = end;
	nodes_data_end(w.f.nodes, INO, &r);
}

/* Whatever may have given it another size than the one that it was seen to have. */
static void a_kernel_that_was_told_another_size_is_asked(void **state)
{
	struct vattr va = {.id = {INO, (7ull << 32) + GENERATION}, .st = {.st_size = REAL_SIZE}};
	const struct entry_keep k = {.dir = 1};

	(void)state;
	settle_again(1);
	write_to(REAL_SIZE);
	read_to(4096);
	nodes_size_seen(w.f.nodes, INO, REAL_SIZE);
	nodes_keep_entry(w.f.nodes, &va, &k);
	settle_again(0);
	write_to(REAL_SIZE + 1);
	settle_again(1);
	write_to(UINT64_MAX);
	settle_again(1);
	read_to(100);
	settle_again(1);
	nodes_size_seen(w.f.nodes, INO, 4);
	settle_again(1);
	va.st.st_size = 5;
	nodes_keep_entry(w.f.nodes, &va, &k);
	settle_again(1);
	nodes_handle(w.f.nodes, INO, -1, false); /* closed, forgotten perhaps, and opened again */
	nodes_handle(w.f.nodes, INO, 1, false);
	settle_again(1);
	settle_again(0);
}

static void an_answer_that_is_passed_over_is_asked_for_again(void **state)
{
	(void)state;
	w.overtaken = 2;
	sizes_settle(w.f.sizes, INO);
	assert_int_equal(atomic_load(&w.size), REAL_SIZE);
	assert_int_equal(atomic_load(&w.questions), 3);
}

static void a_kernel_that_waits_for_pages_is_not_waited_for(void **state)
{
	(void)state;
	w.stuck = true;
	sizes_settle(w.f.sizes, INO);
	assert_int_equal(atomic_load(&w.size), REAL_SIZE);
	assert_int_equal(atomic_load(&w.questions), 1);
}

static void a_question_without_an_answer_does_not_keep_the_lock(void **state)
{
	uint64_t begun = clock_now_ns(w.f.clk);

	(void)state;
	w.unanswered = true;
	sizes_settle(w.f.sizes, INO);
	assert_int_equal(atomic_load(&w.questions), 0);
	assert_true(clock_now_ns(w.f.clk) < begun + 30 * SEC);
}

static void no_question_is_asked_once_the_session_ends(void **state)
{
	(void)state;
	sizes_settle(w.f.sizes, INO);
	sizes_stop(w.f.sizes);
	sizes_settle(w.f.sizes, INO);
	assert_int_equal(atomic_load(&w.questions), 1);
}

static void *settle(void *arg)
{
	sizes_settle(w.f.sizes, INO);
	return arg;
}

static void the_session_ends_when_the_last_question_was_answered(void **state)
{
	pthread_t thread;

	(void)state;
	w.stuck = true;
	assert_int_equal(pthread_create(&thread, NULL, settle, NULL), 0);
	while (!atomic_load(&w.questions))
		clock_sleep_ns(w.f.clk, 100000);
	let_go(&w.stuck);
	sizes_stop(w.f.sizes);
	pthread_join(thread, NULL);
	assert_int_equal(atomic_load(&w.size), REAL_SIZE);
}

static void something_else_that_is_mounted_there_is_left_alone(void **state)
{
	(void)state;
	w.dev_major = DEV_MAJOR + 1;
	sizes_settle(w.f.sizes, INO);
	assert_int_equal(atomic_load(&w.questions), 0);
}

static void the_root_is_told_as_it_was_told_last(void **state)
{
	struct vattr va = {.st = {.st_mode = 0755}}, out;

	(void)state;
	assert_int_equal(sizes_root(w.f.sizes, &out), -EAGAIN);
	sizes_root_is(w.f.sizes, &va);
	assert_int_equal(sizes_root(w.f.sizes, &out), 0);
	assert_int_equal(out.st.st_mode, 0755);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(the_kernel_has_the_size_of_an_open_file),
	    T(a_kernel_that_has_the_size_still_is_not_asked),
	    T(a_kernel_that_was_told_another_size_is_asked),
	    T(nobody_is_asked_about_a_file_that_is_closed),
	    T(an_answer_that_is_passed_over_is_asked_for_again),
	    T(a_kernel_that_waits_for_pages_is_not_waited_for),
	    T(a_question_without_an_answer_does_not_keep_the_lock),
	    T(no_question_is_asked_once_the_session_ends),
	    T(the_session_ends_when_the_last_question_was_answered),
	    T(something_else_that_is_mounted_there_is_left_alone),
	    T(the_root_is_told_as_it_was_told_last),
	};

	return cmocka_run_group_tests_name("fuse-sizes", tests, NULL, NULL);
}
