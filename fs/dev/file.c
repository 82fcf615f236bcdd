/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file backend: a regular file, a loop device, any block device, shared by processes of *one*
 * machine. The atomic operation is read-compare-write under an OFD byte-range lock of the sector.
 *
 * OFD locks exclude other openings of the same inode, in this and in other processes, and vanish
 * with their owner, however it dies. They do not exclude threads that share one descriptor: a
 * mutex, one of a few by sector, does that. All openings go through the kernel's own node of a
 * block device, so that two names of one device are one inode; the locks of a loop device are those
 * of the file behind it, so that both, and several loop devices of one file, exclude each other.
 *
 * The lock is held for read, compare and write only; the flush that makes the image durable comes
 * after it. Whoever sees the image before that and builds on it flushes the same device
 * first (locks_unproven()).
 */
#include "dev/dev_impl.h"
#include "dev/fdio.h"
#include "dev/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define STRIPES 64u
#define NAP_MIN_NS 20000ull
#define NAP_MAX_NS 2000000ull

struct stripe {
	pthread_mutex_t mtx;
	void *sector; /* what is read under mtx */
};

struct file_dev {
	struct dev dev;
	struct fdio f;
	int lock_fd; /* whose locks count; f.fd, or the file behind a loop device */
	uint64_t lock_off_bytes;
	struct stripe stripe[STRIPES];
};

static struct file_dev *file_of(struct dev *d)
{
	return (struct file_dev *)d;
}

static int file_read(struct dev *d, uint64_t off_bytes, size_t len_bytes, void *buf)
{
	return fdio_read(&file_of(d)->f, off_bytes, len_bytes, buf);
}

static int file_write(struct dev *d, uint64_t off_bytes, size_t len_bytes, const void *buf)
{
	return fdio_write(&file_of(d)->f, off_bytes, len_bytes, buf);
}

static int file_flush(struct dev *d)
{
	return fdio_flush(&file_of(d)->f);
}

static int file_discard(struct dev *d, uint64_t off_bytes, uint64_t len_bytes)
{
	return fdio_discard(&file_of(d)->f, off_bytes, len_bytes);
}

static int file_zero(struct dev *d, uint64_t off_bytes, uint64_t len_bytes)
{
	return fdio_zero(&file_of(d)->f, off_bytes, len_bytes);
}

static void file_batch(struct dev *d, struct dev_io *io, size_t n)
{
	fdio_batch(&file_of(d)->f, io, n);
}

static struct dev_lane *file_lane_new(struct dev *d)
{
	return fdio_lane_new(&file_of(d)->f, d);
}

/* ---- the atomic operation ----------------------------------------------------------------- */

static int range_lock(struct file_dev *fd, short type, uint64_t off_bytes)
{
	struct flock fl = {
	    .l_type = type,
	    .l_whence = SEEK_SET,
	    .l_start = (off_t)(fd->lock_off_bytes + off_bytes),
	    .l_len = fd->f.sector_bytes,
	};

	return fcntl(fd->lock_fd, F_OFD_SETLK, &fl) ? -errno : 0;
}

/* Bounded, unlike F_OFD_SETLKW: the holder may have been stopped. */
static int range_lock_wait(struct file_dev *fd, uint64_t off_bytes, uint64_t until_ns)
{
	uint64_t nap = NAP_MIN_NS;

	for (;;) {
		int rc = range_lock(fd, F_WRLCK, off_bytes);

		if (!rc)
			return 0;
		if (rc != -EAGAIN && rc != -EACCES && rc != -EINTR)
			return fdio_errno(-rc);
		if (dev_now_ns() >= until_ns)
			return -EAGAIN;
		dev_nap_ns(nap);
		nap = nap < NAP_MAX_NS ? 2 * nap : NAP_MAX_NS;
	}
}

/* Read, compare, write. Once the write was tried, its failure does not say what the sector holds.
 */
static int compare_write(struct file_dev *fd, uint64_t off_bytes, const void *test, const void *set,
			 void *sector)
{
	size_t len = fd->f.sector_bytes;
	int rc = fdio_read(&fd->f, off_bytes, len, sector);

	if (rc)
		return rc;
	if (memcmp(sector, test, len))
		return DEV_CAW_MISCOMPARE;
	memcpy(sector, set, len);
	rc = fdio_write(&fd->f, off_bytes, len, sector);
	if (rc == -ECANCELED) /* stopped in between: it is still to be tried */
		return -EAGAIN;
	return rc == -EIO ? -ETIMEDOUT : rc;
}

static int caw_no_flush(struct file_dev *fd, uint64_t off_bytes, const void *test, const void *set)
{
	struct stripe *s = &fd->stripe[off_bytes / fd->f.sector_bytes % STRIPES];
	uint64_t until_ns = dev_deadline_ns(&fd->dev);
	int rc, unlock;

	pthread_mutex_lock(&s->mtx);
	rc = range_lock_wait(fd, off_bytes, until_ns);
	if (!rc) {
		rc = compare_write(fd, off_bytes, test, set, s->sector);
		unlock = range_lock(fd, F_UNLCK, off_bytes);
		lunfs_assert(!unlock);
	}
	pthread_mutex_unlock(&s->mtx);
	return rc;
}

/* The image stands; without the flush nobody knows whether it would survive. */
static int make_durable(struct file_dev *fd)
{
	return fdio_flush(&fd->f) ? -ETIMEDOUT : DEV_CAW_GOOD;
}

static int file_caw(struct dev *d, uint64_t off_bytes, const void *test, const void *set)
{
	struct file_dev *fd = file_of(d);
	int rc = caw_no_flush(fd, off_bytes, test, set);

	return rc == DEV_CAW_GOOD ? make_durable(fd) : rc;
}

static void file_caw_batch(struct dev *d, struct dev_caw_io *io, size_t n)
{
	struct file_dev *fd = file_of(d);
	uint64_t from_ns = dev_now_ns(), flush_ns;
	bool any_good = false;
	int flushed;

	for (size_t i = 0; i < n; i++) {
		uint64_t sent_ns = dev_now_ns();

		io[i].result = caw_no_flush(fd, io[i].off_bytes, io[i].test, io[i].set);
		if (io[i].result == -EAGAIN)
			io[i].cause = DEV_CAUSE_NOT_SENT;
		any_good = any_good || io[i].result == DEV_CAW_GOOD;
		io[i].wait_ns = sent_ns - from_ns;
		io[i].device_ns = dev_now_ns() - sent_ns;
	}
	flush_ns = dev_now_ns();
	flushed = any_good ? make_durable(fd) : 0;
	flush_ns = dev_now_ns() - flush_ns;
	for (size_t i = 0; i < n; i++) {
		if (io[i].result != DEV_CAW_GOOD)
			continue;
		io[i].result = flushed;
		io[i].cause = flushed ? DEV_CAUSE_NOT_DURABLE : DEV_CAUSE_NONE;
		io[i].device_ns += flush_ns;
	}
}

/* What has been answered has nothing on its way any more, and the rest is awaited by its owner. */
static int file_drain(struct dev *d)
{
	(void)d;
	return 0;
}

/* ---- open and close ----------------------------------------------------------------------- */

static void file_facts(struct dev *d, char *buf, size_t len)
{
	struct stat st;

	if (!fstat(file_of(d)->f.fd, &st) && S_ISBLK(st.st_mode))
		sysfs_facts(st.st_rdev, buf, len);
}

static void file_close(struct dev *d)
{
	struct file_dev *fd = file_of(d);

	if (fd->lock_fd != fd->f.fd)
		close(fd->lock_fd);
	fdio_close(&fd->f);
	for (unsigned i = 0; i < STRIPES; i++) {
		pthread_mutex_destroy(&fd->stripe[i].mtx);
		free(fd->stripe[i].sector);
	}
	free(fd);
}

static const struct dev_ops file_ops = {
    .read = file_read,
    .write = file_write,
    .flush = file_flush,
    .discard = file_discard,
    .write_zeroes = file_zero,
    .compare_and_write = file_caw,
    .batch = file_batch,
    .caw_batch = file_caw_batch,
    .lane_new = file_lane_new,
    .drain = file_drain,
    .facts = file_facts,
    .close = file_close,
};

static void file_identify(struct file_dev *fd, const char *name, dev_t rdev)
{
	struct dev_identity *id = &fd->dev.id;

	id->kind = DEV_KIND_FILE;
	strncpy(id->name, name, sizeof(id->name) - 1);
	id->size_bytes = fd->f.size_bytes;
	id->sector_bytes = fd->f.sector_bytes;
	id->phys_bytes = fd->f.phys_bytes;
	id->read_only = fd->f.read_only;
	id->one_machine = true;
	id->has_caw = true;
	id->discard_max_bytes = fd->f.block ? fdio_discard_max(sysfs_discard_max(rdev)) : 0;
	id->has_discard = !fd->f.block || id->discard_max_bytes;
	id->has_write_zeroes = true;
}

static int file_set_up(struct file_dev *fd, const struct dev_open_args *a)
{
	int rc;

	if (fd->f.block) {
		rc = dev_check_sector(a, fd->f.sector_bytes);
	} else {
		rc = fdio_set_sector(&fd->f, a->sector_bytes ? a->sector_bytes : 512);
		if (rc)
			dev_refuse_open(a, rc);
	}
	return rc;
}

/* The file may be out of reach (another mount namespace): then the device's own locks have to do.
 */
static void choose_locks(struct file_dev *fd, dev_t rdev)
{
	char path[PATH_MAX];
	uint64_t off_bytes;
	int lock_fd;

	fd->lock_fd = fd->f.fd;
	if (!fd->f.block || fd->f.read_only ||
	    !sysfs_loop_file(rdev, path, sizeof(path), &off_bytes))
		return;
	lock_fd = open(path, O_RDWR | O_CLOEXEC);
	if (lock_fd < 0)
		return;
	fd->lock_fd = lock_fd;
	fd->lock_off_bytes = off_bytes;
}

int file_open(const struct dev_open_args *a, struct dev **out)
{
	struct file_dev *fd;
	char path[PATH_MAX];
	struct stat st;
	int rc;

	if (stat(a->name, &st))
		return dev_refuse_open(a, -errno);
	fd = calloc(1, sizeof(*fd));
	if (!fd)
		return dev_refuse_open(a, -ENOMEM);
	if (!S_ISBLK(st.st_mode) || !sysfs_node(st.st_rdev, path, sizeof(path)))
		snprintf(path, sizeof(path), "%s", a->name);
	rc = fdio_open(&fd->f, &fd->dev, path, a->flags);
	if (rc) {
		free(fd);
		return dev_refuse_open(a, rc);
	}
	fd->dev.ops = &file_ops;
	choose_locks(fd, st.st_rdev);
	for (unsigned i = 0; i < STRIPES; i++)
		pthread_mutex_init(&fd->stripe[i].mtx, NULL);
	rc = file_set_up(fd, a);
	if (rc) {
		file_close(&fd->dev);
		return rc;
	}
	for (unsigned i = 0; i < STRIPES; i++)
		fd->stripe[i].sector = dev_buf_alloc(fd->f.sector_bytes);
	file_identify(fd, a->name, st.st_rdev);
	*out = &fd->dev;
	return 0;
}
