/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file backend and the front doors on a temporary image, and on a loop device over it where
 * that can be had.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <lunfs/dev.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define IMAGE_BYTES (4u << 20)
#define PROCESSES 4u
#define THREADS 4u
#define ROUNDS 200u
#define TURNS 20u

struct fixture {
	char image[128], name[128]; /* name: what dev_open gets, the image or a loop device */
	uint32_t sector_bytes;
	int loop_fd;
	struct dev *d;
};

static struct dev *open_ok(const struct fixture *fx, unsigned flags)
{
	char why[256] = "";
	struct dev *d = NULL;
	int rc = dev_open(fx->name, flags, fx->sector_bytes, &d, why, sizeof(why));

	if (rc)
		fail_msg("dev_open(%s): %d %s", fx->name, rc, why);
	return d;
}

static struct fixture *image_new(uint32_t sector_bytes)
{
	struct fixture *fx = calloc(1, sizeof(*fx));
	const char *dir = access("/dev/shm", W_OK) ? getenv("TMPDIR") : "/dev/shm";
	int fd;

	assert_non_null(fx);
	snprintf(fx->image, sizeof(fx->image), "%s/lunfs-test-dev-XXXXXX", dir ? dir : "/tmp");
	fd = mkstemp(fx->image);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, IMAGE_BYTES), 0);
	close(fd);
	memcpy(fx->name, fx->image, sizeof(fx->name));
	fx->sector_bytes = sector_bytes;
	fx->loop_fd = -1;
	return fx;
}

static int set_up_512(void **state)
{
	struct fixture *fx = image_new(512);

	fx->d = open_ok(fx, 0);
	*state = fx;
	return 0;
}

static int set_up_4096(void **state)
{
	struct fixture *fx = image_new(4096);

	fx->d = open_ok(fx, 0);
	*state = fx;
	return 0;
}

/* d stays NULL where there are no loop devices for us. */
static int set_up_loop(void **state)
{
	struct fixture *fx = image_new(512);
	struct loop_config cfg = {0};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), n = -1;

	*state = fx;
	if (control >= 0) {
		n = ioctl(control, LOOP_CTL_GET_FREE);
		close(control);
	}
	if (n < 0)
		return 0;
	snprintf(fx->name, sizeof(fx->name), "/dev/loop%d", n);
	fx->loop_fd = open(fx->name, O_RDWR | O_CLOEXEC);
	cfg.fd = (uint32_t)open(fx->image, O_RDWR | O_CLOEXEC);
	if (fx->loop_fd >= 0 && !ioctl(fx->loop_fd, LOOP_CONFIGURE, &cfg)) {
		fx->d = open_ok(fx, 0);
	} else if (fx->loop_fd >= 0) {
		close(fx->loop_fd);
		fx->loop_fd = -1;
	}
	close((int)cfg.fd);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fx = *state;

	dev_close(fx->d);
	if (fx->loop_fd >= 0) {
		ioctl(fx->loop_fd, LOOP_CLR_FD);
		close(fx->loop_fd);
	}
	unlink(fx->image);
	free(fx);
	return 0;
}

static void fill(uint8_t *buf, size_t len, uint8_t seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(seed + i * 7 + i / 256);
}

/* ---- plain I/O ---------------------------------------------------------------------------- */

static void what_is_written_is_read_back(void **state)
{
	struct fixture *fx = *state;
	size_t len = 256u << 10;
	uint8_t *a = dev_buf_alloc(len), *b = dev_buf_alloc(len);

	fill(a, len, 3);
	assert_int_equal(dev_write(fx->d, 1 << 20, len, a), 0);
	assert_int_equal(dev_flush(fx->d), 0);
	assert_int_equal(dev_read(fx->d, 1 << 20, len, b), 0);
	assert_memory_equal(a, b, len);
	assert_int_equal(atomic_load(&fx->d->stats.reads), 1);
	assert_int_equal(atomic_load(&fx->d->stats.read_bytes), len);
	assert_int_equal(atomic_load(&fx->d->stats.writes), 1);
	assert_int_equal(atomic_load(&fx->d->stats.flushes), 1);
	free(a);
	free(b);
}

static void unaligned_memory_works_too(void **state)
{
	struct fixture *fx = *state;
	size_t sector = fx->sector_bytes;
	uint8_t *a = dev_buf_alloc(2 * sector), *b = dev_buf_alloc(2 * sector);

	fill(a, 2 * sector, 9);
	assert_int_equal(dev_write(fx->d, sector, sector, a + 1), 0);
	assert_int_equal(dev_read(fx->d, sector, sector, b + 3), 0);
	assert_memory_equal(a + 1, b + 3, sector);
	free(a);
	free(b);
}

static void unaligned_or_outside_is_refused(void **state)
{
	struct fixture *fx = *state;
	struct dev *d = fx->d;
	size_t s = fx->sector_bytes;
	void *buf = dev_buf_alloc(2 * s);

	assert_int_equal(dev_read(d, s / 2, s, buf), -EINVAL);
	assert_int_equal(dev_read(d, 0, s / 2, buf), -EINVAL);
	assert_int_equal(dev_write(d, 1, s, buf), -EINVAL);
	assert_int_equal(dev_caw(d, s / 2, buf, buf), -EINVAL);
	assert_int_equal(dev_caw(d, IMAGE_BYTES, buf, buf), -EINVAL);
	assert_int_equal(dev_read(d, IMAGE_BYTES, s, buf), -EINVAL);
	assert_int_equal(dev_write(d, IMAGE_BYTES - s, 2 * s, buf), -EINVAL);
	assert_int_equal(dev_write(d, UINT64_MAX - s + 1, s, buf), -EINVAL);
	assert_int_equal(dev_discard(d, 0, s / 2), -EINVAL);
	assert_int_equal(dev_zero(d, 0, UINT64_MAX - s + 1), -EINVAL);
	assert_int_equal(atomic_load(&d->stats.writes), 0);
	free(buf);
}

static void zeroing_and_discarding_leave_neighbours_alone(void **state)
{
	struct fixture *fx = *state;
	size_t len = 64u << 10, part = 16u << 10;
	uint8_t *a = dev_buf_alloc(len), *b = dev_buf_alloc(len);

	fill(a, len, 5);
	assert_int_equal(dev_write(fx->d, 0, len, a), 0);
	assert_int_equal(dev_zero(fx->d, part, part), 0);
	if (fx->d->id.has_discard)
		assert_int_equal(dev_discard(fx->d, 3 * part, part), 0);
	memset(a + part, 0, part);
	assert_int_equal(dev_read(fx->d, 0, len, b), 0);
	assert_memory_equal(a, b, 3 * part);
	free(a);
	free(b);
}

/* Neighbours, so that they go in one vector, then scattered ones, and one bad element. */
static void a_batch_gives_each_element_its_result(void **state)
{
	struct fixture *fx = *state;
	size_t s = fx->sector_bytes;
	struct dev_io io[24];
	uint8_t *a = dev_buf_alloc(24 * 4096), *b = dev_buf_alloc(24 * 4096);

	fill(a, 24 * 4096, 77);
	for (size_t i = 0; i < 24; i++)
		io[i] = (struct dev_io){DEV_WRITE, i < 16 ? i * s : (100 + 5 * i) * s, s,
					a + i * 4096, 1};
	dev_batch(fx->d, io, 24);
	for (size_t i = 0; i < 24; i++) {
		assert_int_equal(io[i].result, 0);
		io[i] = (struct dev_io){DEV_READ, io[i].off_bytes, s, b + i * 4096, 1};
	}
	dev_batch(fx->d, io, 24);
	for (size_t i = 0; i < 24; i++) {
		assert_int_equal(io[i].result, 0);
		assert_memory_equal(a + i * 4096, b + i * 4096, s);
	}
	io[3].off_bytes++;
	dev_batch(fx->d, io, 24);
	for (size_t i = 0; i < 24; i++)
		assert_int_equal(io[i].result, i == 3 ? -EINVAL : 0);
	assert_int_equal(atomic_load(&fx->d->stats.writes), 24);
	free(a);
	free(b);
}

#define MANY 300u /* more than the kernel is given at once */

/* A long row of neighbours, then some alone and short rows. */
static uint64_t scattered(unsigned k)
{
	return (uint64_t)4096 * (k < 120 ? k : k < 200 ? 2 * k : 2 * k + 4 - k % 3);
}

/* In memory that has to be copied now and then. */
static struct dev_io scattered_io(enum dev_io_op op, uint8_t *mem, unsigned k)
{
	return (struct dev_io){op, scattered(k), 4096, mem + k * 8192 + (k % 50 == 49), 1};
}

static void a_long_batch_ends_whole_wherever_its_elements_lie(void **state)
{
	struct fixture *fx = *state;
	uint8_t *a = dev_buf_alloc(MANY * 8192), *b = dev_buf_alloc(MANY * 8192);
	struct dev_io io[MANY];

	if (!fx->d)
		skip();
	fill(a, MANY * 8192, 9);
	for (unsigned k = 0; k < MANY; k++)
		io[k] = scattered_io(DEV_WRITE, a, k);
	dev_batch(fx->d, io, MANY);
	for (unsigned k = 0; k < MANY; k++) {
		assert_int_equal(io[k].result, 0);
		io[k] = scattered_io(DEV_READ, b, k);
	}
	dev_batch(fx->d, io, MANY);
	for (unsigned k = 0; k < MANY; k++) {
		assert_int_equal(io[k].result, 0);
		assert_memory_equal(scattered_io(DEV_READ, a, k).buf, io[k].buf, 4096);
	}
	free(a);
	free(b);
}

static void what_fails_in_a_batch_fails_alone(void **state)
{
	struct fixture *fx = *state;
	uint8_t *buf = dev_buf_alloc(20 * 4096);
	struct dev_io io[20];

	if (!fx->d)
		skip();
	assert_int_equal(truncate(fx->image, IMAGE_BYTES / 2), 0); /* behind the device's back */
	for (unsigned k = 0; k < 20; k++)
		io[k] = (struct dev_io){DEV_READ, k % 2 ? IMAGE_BYTES - (k + 1) * 4096 : k * 8192,
					4096, buf + k * 4096, 1};
	dev_batch(fx->d, io, 20);
	for (unsigned k = 0; k < 20; k++)
		assert_int_equal(io[k].result, k % 2 ? -EIO : 0);
	free(buf);
}

static void read_only_means_no_change_of_any_kind(void **state)
{
	struct fixture *fx = *state;
	struct dev *d = open_ok(fx, DEV_OPEN_RDONLY);
	size_t s = fx->sector_bytes;
	void *buf = dev_buf_alloc(s);

	assert_true(d->id.read_only);
	assert_int_equal(dev_read(d, 0, s, buf), 0);
	assert_int_equal(dev_write(d, 0, s, buf), -EROFS);
	assert_int_equal(dev_caw(d, 0, buf, buf), -EROFS);
	assert_int_equal(dev_zero(d, 0, s), -EROFS);
	assert_int_equal(dev_discard(d, 0, s), -EROFS);
	assert_int_equal(dev_flush(d), 0);
	dev_close(d);
	free(buf);
}

/* ---- the atomic operation ----------------------------------------------------------------- */

static void a_miscompare_leaves_the_sector_alone(void **state)
{
	struct fixture *fx = *state;
	size_t s = fx->sector_bytes;
	uint8_t *a = dev_buf_alloc(s), *b = dev_buf_alloc(s), *now = dev_buf_alloc(s);

	fill(a, s, 1);
	fill(b, s, 2);
	assert_int_equal(dev_write(fx->d, 8 * s, s, a), 0);
	assert_int_equal(dev_caw(fx->d, 8 * s, b, b), DEV_CAW_MISCOMPARE);
	assert_int_equal(dev_read(fx->d, 8 * s, s, now), 0);
	assert_memory_equal(now, a, s);
	memcpy(now, a, s);
	now[s - 1] ^= 1; /* the last byte counts too */
	assert_int_equal(dev_caw(fx->d, 8 * s, now, b), DEV_CAW_MISCOMPARE);
	assert_int_equal(dev_caw(fx->d, 8 * s, a, b), DEV_CAW_GOOD);
	assert_int_equal(dev_read(fx->d, 8 * s, s, now), 0);
	assert_memory_equal(now, b, s);
	assert_int_equal(atomic_load(&fx->d->stats.caws), 3);
	assert_int_equal(atomic_load(&fx->d->stats.miscompares), 2);
	free(a);
	free(b);
	free(now);
}

static void a_caw_batch_gives_each_element_its_result(void **state)
{
	struct fixture *fx = *state;
	size_t s = fx->sector_bytes;
	uint8_t *zero = dev_buf_alloc(s), *a = dev_buf_alloc(s), *now = dev_buf_alloc(s);
	struct dev_caw_io io[8];

	fill(a, s, 4);
	for (size_t i = 0; i < 8; i++)
		io[i] = (struct dev_caw_io){
		    .off_bytes = i * s, .test = i % 2 ? a : zero, .set = a, .result = -1};
	dev_caw_batch(fx->d, io, 8);
	for (size_t i = 0; i < 8; i++) {
		assert_int_equal(io[i].result, i % 2 ? DEV_CAW_MISCOMPARE : DEV_CAW_GOOD);
		assert_int_equal(dev_read(fx->d, i * s, s, now), 0);
		assert_memory_equal(now, i % 2 ? zero : a, s);
	}
	assert_int_equal(atomic_load(&fx->d->stats.caws), 8);
	assert_int_equal(atomic_load(&fx->d->stats.miscompares), 4);
	free(zero);
	free(a);
	free(now);
}

/* Add one to a counter in the sector at @off, ROUNDS times; 0 on success. */
static int increment(struct dev *d, uint64_t off)
{
	size_t s = d->id.sector_bytes;
	uint64_t *test = dev_buf_alloc(s), *set = dev_buf_alloc(s);
	int rc = 0;

	for (unsigned done = 0; done < ROUNDS && rc >= 0;) {
		rc = dev_read(d, off, s, test);
		if (rc)
			break;
		memcpy(set, test, s);
		set[0]++;
		set[s / sizeof(*set) - 1] = set[0];
		rc = dev_caw(d, off, test, set);
		if (rc == DEV_CAW_GOOD)
			done++;
	}
	free(test);
	free(set);
	return rc < 0 ? rc : 0;
}

static void *increment_thread(void *arg)
{
	return (void *)(intptr_t)increment(arg, 0);
}

/* Threads of one handle share its descriptor, which OFD locks alone would let through. */
static int increment_by_threads(struct dev *d)
{
	pthread_t t[THREADS];
	intptr_t bad = 0;

	for (unsigned i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, increment_thread, d);
	for (unsigned i = 0; i < THREADS; i++) {
		void *rc;

		pthread_join(t[i], &rc);
		bad |= (intptr_t)rc;
	}
	return (int)bad;
}

static uint64_t counter_at(struct dev *d, uint64_t off)
{
	uint64_t *buf = dev_buf_alloc(d->id.sector_bytes), v;

	assert_int_equal(dev_read(d, off, d->id.sector_bytes, buf), 0);
	v = buf[0];
	assert_int_equal(buf[d->id.sector_bytes / sizeof(*buf) - 1], v);
	free(buf);
	return v;
}

static void no_increment_is_lost_between_processes_and_threads(void **state)
{
	struct fixture *fx = *state;
	pid_t pid[PROCESSES];

	if (!fx->d)
		skip();
	for (unsigned i = 0; i < PROCESSES; i++) {
		pid[i] = fork();
		if (!pid[i]) {
			struct dev *d = open_ok(fx, 0);

			_exit(increment_by_threads(d) ? 1 : 0);
		}
	}
	for (unsigned i = 0; i < PROCESSES; i++) {
		int status;

		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
	}
	assert_int_equal(counter_at(fx->d, 0), PROCESSES * THREADS * ROUNDS);
}

static void no_increment_is_lost_between_handles_of_one_process(void **state)
{
	struct fixture *fx = *state;
	struct dev *other = open_ok(fx, 0);
	pthread_t t[2];
	void *rc;

	pthread_create(&t[0], NULL, increment_thread, fx->d);
	pthread_create(&t[1], NULL, increment_thread, other);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(t[i], &rc);
		assert_null(rc);
	}
	assert_int_equal(counter_at(fx->d, 0), 2 * ROUNDS);
	dev_close(other);
}

/* Whoever was stopped in the middle of its operation must not stop the others for ever. */
static void a_loop_device_and_the_file_behind_it_exclude_each_other(void **state)
{
	struct fixture *fx = *state;
	struct dev *image;
	char why[256];
	pthread_t t[2];
	void *failed[2];

	if (!fx->d)
		skip();
	assert_int_equal(dev_open(fx->image, 0, fx->d->id.sector_bytes, &image, why, sizeof(why)),
			 0);
	for (unsigned turn = 0; turn < TURNS; turn++) {
		pthread_create(&t[0], NULL, increment_thread, fx->d);
		pthread_create(&t[1], NULL, increment_thread, image);
		for (unsigned k = 0; k < 2; k++) {
			pthread_join(t[k], &failed[k]);
			assert_null(failed[k]);
		}
	}
	assert_int_equal(counter_at(fx->d, 0), 2 * TURNS * ROUNDS);
	dev_close(image);
}

static void a_stuck_holder_costs_no_more_than_the_deadline(void **state)
{
	struct fixture *fx = *state;
	size_t s = fx->sector_bytes;
	void *zero = dev_buf_alloc(s);
	int fd = open(fx->name, O_RDWR | O_CLOEXEC);
	struct flock fl = {
	    .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = (off_t)s};

	assert_int_equal(fcntl(fd, F_OFD_SETLK, &fl), 0);
	dev_set_deadline(fx->d, 30);
	assert_int_equal(dev_caw(fx->d, 0, zero, zero), -EAGAIN);
	assert_int_equal(dev_caw(fx->d, (uint64_t)s, zero, zero), DEV_CAW_GOOD);
	close(fd);
	assert_int_equal(dev_caw(fx->d, 0, zero, zero), DEV_CAW_GOOD);
	free(zero);
}

/* ---- probing and opening ------------------------------------------------------------------ */

static void the_probe_changes_nothing(void **state)
{
	struct fixture *fx = *state;
	size_t s = fx->sector_bytes;
	uint8_t *a = dev_buf_alloc(s), *now = dev_buf_alloc(s);
	char why[256] = "";

	fill(a, s, 42);
	assert_int_equal(dev_write(fx->d, 4 * s, s, a), 0);
	assert_int_equal(dev_caw_probe(fx->d, 4 * s, why, sizeof(why)), 0);
	assert_int_equal(dev_read(fx->d, 4 * s, s, now), 0);
	assert_memory_equal(now, a, s);
	assert_true(fx->d->id.has_caw);
	free(a);
	free(now);
}

static int rejected(struct dev *d, uint64_t off, const void *test, const void *set)
{
	(void)d, (void)off, (void)test, (void)set;
	return -EOPNOTSUPP;
}

/* The liar that does not compare. */
static int blind(struct dev *d, uint64_t off, const void *test, const void *set)
{
	(void)test;
	return d->ops->write(d, off, d->id.sector_bytes, set);
}

static void the_probe_refuses_a_device_that_rejects_or_does_not_compare(void **state)
{
	struct fixture *fx = *state;
	const struct dev_ops *real = fx->d->ops;
	struct dev_ops fake = *real;
	char why[256] = "";

	fx->d->ops = &fake;
	fake.compare_and_write = rejected;
	assert_int_equal(dev_caw_probe(fx->d, 0, why, sizeof(why)), -EOPNOTSUPP);
	assert_non_null(strstr(why, "rejects COMPARE AND WRITE"));
	assert_false(fx->d->id.has_caw);
	fake.compare_and_write = blind;
	assert_int_equal(dev_caw_probe(fx->d, 0, why, sizeof(why)), -EOPNOTSUPP);
	assert_non_null(strstr(why, "without comparing"));
	fx->d->ops = real;
}

static void open_fails(const char *name, int want, const char *words)
{
	char why[512] = "";
	struct dev *d = NULL;

	assert_int_equal(dev_open(name, 0, 512, &d, why, sizeof(why)), want);
	assert_null(d);
	if (!strstr(why, words))
		fail_msg("\"%s\" does not say \"%s\"", why, words);
}

static void what_cannot_be_opened_is_explained(void **state)
{
	(void)state;
	open_fails("/nonexistent/device", -ENOENT, "no such device");
	open_fails("/tmp", -EISDIR, "is a directory");
	open_fails("/dev/null", -ENOTBLK, "neither a block device nor a regular file");
}

static void a_file_takes_either_sector_size_and_a_device_its_own(void **state)
{
	struct fixture *fx = *state;
	char why[256] = "";
	struct dev *d = NULL;

	assert_int_equal(dev_open(fx->image, 0, 0, &d, why, sizeof(why)), 0);
	assert_int_equal(d->id.sector_bytes, 512);
	assert_int_equal(d->id.size_bytes, IMAGE_BYTES);
	assert_true(d->id.one_machine);
	dev_close(d);
	assert_int_equal(dev_open(fx->image, 0, 4096, &d, why, sizeof(why)), 0);
	assert_int_equal(d->id.sector_bytes, 4096);
	assert_int_equal(d->id.phys_bytes, 4096);
	dev_close(d);
	assert_int_equal(dev_open(fx->image, 0, 1024, &d, why, sizeof(why)), -EINVAL);
	if (!fx->d)
		skip();
	assert_int_equal(dev_open(fx->name, 0, 4096, &d, why, sizeof(why)), -EMEDIUMTYPE);
	assert_non_null(strstr(why, "sectors of 512 bytes, 4096"));
}

static void an_image_of_odd_length_ends_at_its_last_whole_sector(void **state)
{
	struct fixture *fx = *state;
	struct dev *d;

	assert_int_equal(truncate(fx->image, IMAGE_BYTES - 1), 0);
	d = open_ok(fx, 0);
	assert_int_equal(d->id.size_bytes, IMAGE_BYTES - fx->sector_bytes);
	dev_close(d);
}

/* ---- transfers that nobody waits for ------------------------------------------------------------
 */

#define STARTED 600u /* more than are taken at once */

struct started {
	struct dev_async a; /* first */
	struct watch *w;
	unsigned ended;
};

struct watch {
	pthread_mutex_t mtx;
	pthread_cond_t all;
	unsigned left;
	struct dev_lane *lane; /* NULL: none */
};

static void started_done(struct dev_async *a)
{
	struct started *s = (struct started *)a;

	pthread_mutex_lock(&s->w->mtx);
	s->ended++;
	if (--s->w->left == 0)
		pthread_cond_signal(&s->w->all);
	pthread_mutex_unlock(&s->w->mtx);
}

static int start(struct dev *d, struct watch *w, struct started *s, enum dev_io_op op, uint64_t off,
		 size_t len, void *buf)
{
	int rc;

	*s = (struct started){.w = w};
	s->a.io = (struct dev_io){.op = op, .off_bytes = off, .len_bytes = len, .buf = buf};
	s->a.done = started_done;
	pthread_mutex_lock(&w->mtx);
	w->left++;
	pthread_mutex_unlock(&w->mtx);
	dev_lane_use(w->lane);
	rc = dev_start(d, &s->a);
	if (rc) {
		pthread_mutex_lock(&w->mtx);
		w->left--;
		pthread_mutex_unlock(&w->mtx);
	}
	return rc;
}

static void wait_all(struct watch *w)
{
	while (w->lane->on_way)
		dev_lane_wait(w->lane, -1);
	pthread_mutex_lock(&w->mtx);
	while (w->left)
		pthread_cond_wait(&w->all, &w->mtx);
	pthread_mutex_unlock(&w->mtx);
}

static struct watch new_watch(struct dev *d)
{
	struct dev_lane *l = d ? dev_lane_new(d) : NULL;

	return (struct watch){PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, l};
}

static void end_watch(struct watch *w)
{
	dev_lane_use(NULL);
	dev_lane_free(w->lane);
}

static void what_was_started_ends_once_and_where_it_should(void **state)
{
	struct fixture *fx = *state;
	struct started *s = calloc(STARTED, sizeof(*s));
	uint8_t *buf = dev_buf_alloc(STARTED * 4096), *back = dev_buf_alloc(STARTED * 4096);
	struct watch w = new_watch(fx->d);
	unsigned refused = 0;

	if (!fx->d)
		skip();
	fill(buf, STARTED * 4096, 5);
	for (unsigned k = 0; k < STARTED; k++) {
		int rc = start(fx->d, &w, &s[k], DEV_WRITE, k * 4096, 4096, buf + k * 4096);

		if (rc == -EAGAIN) { /* the queue is full: that is the caller's turn */
			refused++;
			rc = dev_write(fx->d, k * 4096, 4096, buf + k * 4096);
		}
		assert_int_equal(rc, 0);
	}
	wait_all(&w);
	for (unsigned k = 0; k < STARTED; k++)
		while (start(fx->d, &w, &s[k], DEV_READ, k * 4096, 4096, back + k * 4096))
			dev_lane_wait(w.lane, -1);
	wait_all(&w);
	for (unsigned k = 0; k < STARTED; k++) {
		assert_int_equal(s[k].ended, 1);
		assert_int_equal(s[k].a.io.result, 0);
	}
	assert_memory_equal(buf, back, STARTED * 4096);
	assert_int_equal(atomic_load(&fx->d->stats.writes), STARTED);
	assert_int_equal(atomic_load(&fx->d->stats.reads), STARTED);
	print_message("[          ] %u of %u found the queue full\n", refused, STARTED);
	end_watch(&w);
	free(s);
	free(buf);
	free(back);
}

static void what_cannot_be_started_is_refused_and_never_ends(void **state)
{
	struct fixture *fx = *state;
	uint8_t *buf = dev_buf_alloc(8192);
	struct watch w = new_watch(fx->d);
	struct dev *ro, *file;
	struct started s;
	char why[256];

	if (!fx->d)
		skip();
	assert_int_equal(start(fx->d, &w, &s, DEV_READ, IMAGE_BYTES, 4096, buf), -EINVAL);
	assert_int_equal(start(fx->d, &w, &s, DEV_READ, 100, 4096, buf), -EINVAL);
	assert_int_equal(start(fx->d, &w, &s, DEV_READ, 0, 4096, buf + 512), -EAGAIN);
	ro = open_ok(fx, DEV_OPEN_RDONLY);
	assert_int_equal(start(ro, &w, &s, DEV_WRITE, 0, 4096, buf), -EROFS);
	assert_int_equal(start(ro, &w, &s, DEV_READ, 0, 4096, buf), -EAGAIN); /* another's lane */
	dev_close(ro);
	/* A regular file would keep whoever tells it waiting. */
	assert_int_equal(dev_open(fx->image, 0, 0, &file, why, sizeof(why)), 0);
	assert_null(dev_lane_new(file));
	dev_close(file);
	end_watch(&w);
	w.lane = NULL;
	assert_int_equal(start(fx->d, &w, &s, DEV_READ, 0, 4096, buf), -EAGAIN);
	assert_int_equal(s.ended, 0);
	free(buf);
}

static void a_started_transfer_that_fails_says_so(void **state)
{
	struct fixture *fx = *state;
	uint8_t *buf = dev_buf_alloc(8192);
	struct watch w = new_watch(fx->d);
	struct started s;

	if (!fx->d)
		skip();
	assert_int_equal(truncate(fx->image, IMAGE_BYTES / 2), 0); /* behind the device's back */
	assert_int_equal(start(fx->d, &w, &s, DEV_READ, IMAGE_BYTES - 8192, 8192, buf), 0);
	wait_all(&w);
	assert_int_equal(s.a.io.result, -EIO);
	end_watch(&w);
	free(buf);
}

static void *bring_back(void *arg)
{
	wait_all(arg);
	return NULL;
}

static void a_lane_is_handed_on_with_what_is_on_its_way(void **state)
{
	struct fixture *fx = *state;
	struct started s[64];
	uint8_t *buf = dev_buf_alloc(IMAGE_BYTES / 2), *back = dev_buf_alloc(IMAGE_BYTES / 2);
	struct watch w = new_watch(fx->d);
	pthread_t t;

	if (!fx->d)
		skip();
	fill(buf, IMAGE_BYTES / 2, 9);
	for (unsigned k = 0; k < 64; k++) { /* some of them were sent */
		assert_int_equal(start(fx->d, &w, &s[k], DEV_WRITE, 0, IMAGE_BYTES / 2, buf), 0);
		if (k == 40)
			dev_lane_turn(w.lane);
	}
	assert_true(w.lane->on_way > 0);
	assert_int_equal(pthread_create(&t, NULL, bring_back, &w), 0);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(w.left, 0);
	for (unsigned k = 0; k < 64; k++)
		assert_int_equal(s[k].ended, 1);
	assert_int_equal(dev_read(fx->d, 0, IMAGE_BYTES / 2, back), 0);
	assert_memory_equal(buf, back, IMAGE_BYTES / 2);
	end_watch(&w);
	free(buf);
	free(back);
}

static void a_turn_is_due_when_there_is_much_to_send_or_something_ended(void **state)
{
	struct fixture *fx = *state;
	uint8_t *buf = dev_buf_alloc(64 * 4096);
	struct watch w = new_watch(fx->d);
	struct started s[64];
	unsigned n = 0;

	if (!fx->d)
		skip();
	assert_false(dev_lane_due(w.lane));
	while (!dev_lane_due(w.lane)) {
		assert_true(n < 64);
		assert_int_equal(start(fx->d, &w, &s[n], DEV_READ, n * 4096, 4096, buf + n * 4096),
				 0);
		n++;
	}
	assert_true(n > 1);
	dev_lane_turn(w.lane);
	while (w.lane->on_way) {
		while (!dev_lane_due(w.lane))
			sched_yield();
		dev_lane_turn(w.lane);
	}
	assert_false(dev_lane_due(w.lane));
	assert_int_equal(w.left, 0);
	end_watch(&w);
	free(buf);
}

static void who_looks_after_several_is_woken_by_each_end(void **state)
{
	struct fixture *fx = *state;
	uint8_t *buf = dev_buf_alloc(8 * 4096);
	struct watch w = new_watch(fx->d);
	struct started s[8];

	if (!fx->d)
		skip();
	for (unsigned k = 0; k < 8; k++)
		assert_int_equal(start(fx->d, &w, &s[k], DEV_READ, k * 4096, 4096, buf + k * 4096),
				 0);
	dev_lane_turn(w.lane);
	while (w.lane->on_way) {
		struct pollfd p = {.fd = dev_lane_fd(w.lane), .events = POLLIN};

		assert_int_equal(poll(&p, 1, 20000), 1);
		dev_lane_wait(w.lane, -1);
	}
	assert_int_equal(w.left, 0);
	end_watch(&w);
	free(buf);
}

/* As after a process was stopped in between. */
static void what_is_to_be_sent_too_late_is_not_sent(void **state)
{
	struct fixture *fx = *state;
	uint8_t *buf = dev_buf_alloc(4096), *old = dev_buf_alloc(4096), *now = dev_buf_alloc(4096);
	struct watch w = new_watch(fx->d);
	struct started s, r;

	if (!fx->d)
		skip();
	assert_int_equal(dev_read(fx->d, 0, 4096, old), 0);
	fill(buf, 4096, 77);
	dev_set_deadline(fx->d, 1);
	assert_int_equal(start(fx->d, &w, &s, DEV_WRITE, 0, 4096, buf), 0);
	assert_int_equal(start(fx->d, &w, &r, DEV_READ, 0, 4096, now), 0);
	usleep(2000);
	wait_all(&w);
	assert_int_equal(s.a.io.result, -ECANCELED);
	assert_int_equal(r.a.io.result, 0);
	assert_memory_equal(old, now, 4096);
	end_watch(&w);
	free(buf);
	free(old);
	free(now);
}

#define BOTH(f)                                                                                    \
	cmocka_unit_test_setup_teardown(f, set_up_512, tear_down),                                 \
	    cmocka_unit_test_setup_teardown(f, set_up_4096, tear_down)
#define ON_LOOP(f) cmocka_unit_test_setup_teardown(f, set_up_loop, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    BOTH(what_is_written_is_read_back),
	    BOTH(unaligned_memory_works_too),
	    BOTH(unaligned_or_outside_is_refused),
	    BOTH(zeroing_and_discarding_leave_neighbours_alone),
	    BOTH(a_batch_gives_each_element_its_result),
	    BOTH(read_only_means_no_change_of_any_kind),
	    BOTH(a_miscompare_leaves_the_sector_alone),
	    BOTH(a_caw_batch_gives_each_element_its_result),
	    BOTH(no_increment_is_lost_between_processes_and_threads),
	    BOTH(no_increment_is_lost_between_handles_of_one_process),
	    BOTH(a_stuck_holder_costs_no_more_than_the_deadline),
	    BOTH(the_probe_changes_nothing),
	    BOTH(the_probe_refuses_a_device_that_rejects_or_does_not_compare),
	    BOTH(an_image_of_odd_length_ends_at_its_last_whole_sector),
	    ON_LOOP(a_loop_device_and_the_file_behind_it_exclude_each_other),
	    ON_LOOP(no_increment_is_lost_between_processes_and_threads),
	    ON_LOOP(a_batch_gives_each_element_its_result),
	    ON_LOOP(a_long_batch_ends_whole_wherever_its_elements_lie),
	    ON_LOOP(what_fails_in_a_batch_fails_alone),
	    ON_LOOP(what_was_started_ends_once_and_where_it_should),
	    ON_LOOP(what_cannot_be_started_is_refused_and_never_ends),
	    ON_LOOP(a_started_transfer_that_fails_says_so),
	    ON_LOOP(a_lane_is_handed_on_with_what_is_on_its_way),
	    ON_LOOP(a_turn_is_due_when_there_is_much_to_send_or_something_ended),
	    ON_LOOP(who_looks_after_several_is_woken_by_each_end),
	    ON_LOOP(what_is_to_be_sent_too_late_is_not_sent),
	    ON_LOOP(a_file_takes_either_sector_size_and_a_device_its_own),
	    cmocka_unit_test(what_cannot_be_opened_is_explained),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
