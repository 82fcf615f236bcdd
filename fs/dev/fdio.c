/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Plain I/O on a file descriptor; see fdio.h. Errors of the kernel are translated here, and only
 * here, into those of dev.h.
 */
#include "dev/fdio.h"

#include "base/log.h"
#include "dev/dev_impl.h"
#include "dev/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MERGE_MAX 64u		   /* elements of a batch in one vector */
#define RANGE_CHUNK (256ull << 20) /* of a discard or zeroing in one system call; of a device */
#define HOLE_CHUNK (1ull << 40)	   /* of a file, where it costs what is allocated there */

int fdio_errno(int err)
{
	switch (err) {
	case ETIMEDOUT:
	case ENOLINK: /* BLK_STS_TRANSPORT */
		return -ETIMEDOUT;
	case EBADE: /* BLK_STS_RESV_CONFLICT */
		return -EBADE;
	case EROFS:
	case EPERM:
		return -EROFS;
	case ENODEV:
	case ENXIO:
		return -ENODEV;
	case ENOSPC:
	case EDQUOT:
		return -ENOSPC;
	case EOPNOTSUPP:
	case ENOTTY:
		return -EOPNOTSUPP;
	default: /* a medium error, a target error, what nobody foresaw */
		return -EIO;
	}
}

static bool doubtful(const struct fdio *f, int err)
{
	return f->doubt && (err == EIO || err == ENODEV || err == ENXIO);
}

/* 0: the call that failed with the positive errno @err is to be made again. */
static int failed(const struct fdio *f, int err, unsigned *doubts)
{
	if (err == EINTR)
		return 0;
	if (doubtful(f, err))
		return f->doubt(f->doubt_ctx, (*doubts)++);
	return fdio_errno(err);
}

/* ---- opening ------------------------------------------------------------------------------ */

static int open_direct(const char *path, int flags, bool *direct)
{
	int fd = open(path, flags | O_DIRECT);

	*direct = true;
	if (fd < 0 && errno == EINVAL) {
		fd = open(path, flags);
		*direct = false;
	}
	return fd < 0 ? -errno : fd;
}

static int block_geometry(struct fdio *f)
{
	unsigned int phys = 0;
	int sector = 0, ro = 0;

	if (ioctl(f->fd, BLKGETSIZE64, &f->size_bytes) || ioctl(f->fd, BLKSSZGET, &sector))
		return -errno;
	if (ioctl(f->fd, BLKPBSZGET, &phys) || phys < (unsigned)sector || phys & (phys - 1))
		phys = (unsigned)sector;
	if (ioctl(f->fd, BLKROGET, &ro) == 0 && ro)
		f->read_only = true;
	f->sector_bytes = (uint32_t)sector;
	f->phys_bytes = phys;
	return 0;
}

int fdio_open(struct fdio *f, const struct dev *d, const char *path, unsigned dev_open_flags)
{
	bool ro = dev_open_flags & DEV_OPEN_RDONLY;
	int flags = (ro ? O_RDONLY : O_RDWR) | O_CLOEXEC;
	struct stat st;
	int rc = 0;

	if (stat(path, &st))
		return -errno;
	if (!S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode))
		return -ENOTBLK;
	memset(f, 0, sizeof(*f));
	f->dev = d;
	f->block = S_ISBLK(st.st_mode);
	f->read_only = ro;
	if (f->block && dev_open_flags & DEV_OPEN_EXCL)
		flags |= O_EXCL;
	f->fd = open_direct(path, flags, &f->direct);
	if (f->fd < 0)
		return f->fd;
	f->size_bytes = (uint64_t)st.st_size;
	if (f->block)
		rc = block_geometry(f);
	if (!rc && f->block && f->read_only && !ro)
		rc = -EROFS;
	if (rc) {
		close(f->fd);
		return rc;
	}
	f->path = strdup(path);
	lunfs_assert(f->path);
	pthread_mutex_init(&f->aio_mtx, NULL);
	pthread_cond_init(&f->no_rest, NULL);
	return 0;
}

/* A read that only a file system without direct I/O in units of this sector size refuses. */
static bool direct_refused(struct fdio *f)
{
	void *buf;
	ssize_t n;

	if (f->size_bytes < 2ull * f->sector_bytes)
		return false;
	buf = dev_buf_alloc(f->sector_bytes);
	n = pread(f->fd, buf, f->sector_bytes, f->sector_bytes);
	free(buf);
	return n < 0 && errno == EINVAL;
}

int fdio_set_sector(struct fdio *f, uint32_t sector_bytes)
{
	int flags;

	f->sector_bytes = sector_bytes;
	f->phys_bytes = sector_bytes;
	f->size_bytes -= f->size_bytes % sector_bytes;
	if (!f->direct || !direct_refused(f))
		return 0;
	flags = fcntl(f->fd, F_GETFL);
	if (flags < 0 || fcntl(f->fd, F_SETFL, flags & ~O_DIRECT) < 0)
		return -errno;
	f->direct = false;
	return 0;
}

void fdio_close(struct fdio *f)
{
	aio_free(f->aio);
	pthread_mutex_lock(&f->aio_mtx);
	while (f->rests)
		pthread_cond_wait(&f->no_rest, &f->aio_mtx);
	pthread_mutex_unlock(&f->aio_mtx);
	pthread_cond_destroy(&f->no_rest);
	pthread_mutex_destroy(&f->aio_mtx);
	free(f->path);
	close(f->fd);
}

/* ---- reading and writing ------------------------------------------------------------------ */

struct span { /* what one call reads or writes */
	enum dev_io_op op;
	uint64_t off;
	size_t len;
	uint8_t *buf;
	uint64_t until_ns; /* nothing of it goes out later */
	bool given_up;	   /* the kernel had it, and does not tell what became of it */
};

/* For a call that is made now. A read changes nothing, so it may be sent whenever it is. */
static uint64_t deadline_of(const struct fdio *f, enum dev_io_op op)
{
	return op == DEV_READ ? UINT64_MAX : dev_deadline_ns(f->dev);
}

static bool too_late(uint64_t until_ns)
{
	return until_ns != UINT64_MAX && dev_now_ns() >= until_ns;
}

static ssize_t transfer_call(const struct fdio *f, const struct span *s)
{
	return s->op == DEV_READ ? pread(f->fd, s->buf, s->len, (off_t)s->off)
				 : pwrite(f->fd, s->buf, s->len, (off_t)s->off);
}

/* Not sent, or not again: is anything of it on its way? */
static int not_sent(const struct fdio *f, const struct span *s)
{
	int rc = s->given_up && f->doubt ? f->doubt(f->doubt_ctx, 0) : 0;

	return rc ? rc : -ECANCELED;
}

static int transfer(struct fdio *f, struct span s)
{
	unsigned doubts = 0;

	while (s.len) {
		ssize_t n;

		if (too_late(s.until_ns))
			return not_sent(f, &s);
		n = transfer_call(f, &s);
		s.given_up = false; /* what is in doubt is looked at below */
		if (n < 0) {
			int rc = failed(f, errno, &doubts);

			if (rc)
				return rc;
			continue;
		}
		if ((size_t)n < s.len && f->direct)
			n -= n % (ssize_t)f->sector_bytes; /* direct I/O goes on at a sector */
		if (n <= 0)
			return -EIO; /* the file was cut short under us */
		s.buf += n;
		s.off += (uint64_t)n;
		s.len -= (size_t)n;
	}
	return 0;
}

static bool memory_fits(const struct fdio *f, const void *buf)
{
	return !f->direct || (uintptr_t)buf % f->sector_bytes == 0;
}

/* Through memory that fits, if that of the caller does not. */
static int move(struct fdio *f, struct span s)
{
	void *theirs = s.buf;
	int rc;

	if (memory_fits(f, theirs))
		return transfer(f, s);
	s.buf = dev_buf_alloc(s.len);
	if (s.op == DEV_WRITE)
		memcpy(s.buf, theirs, s.len);
	rc = transfer(f, s);
	if (!rc && s.op == DEV_READ)
		memcpy(theirs, s.buf, s.len);
	free(s.buf);
	return rc;
}

int fdio_read(struct fdio *f, uint64_t off_bytes, size_t len_bytes, void *buf)
{
	return move(
	    f, (struct span){DEV_READ, off_bytes, len_bytes, buf, deadline_of(f, DEV_READ), false});
}

int fdio_write(struct fdio *f, uint64_t off_bytes, size_t len_bytes, const void *buf)
{
	return move(f, (struct span){DEV_WRITE, off_bytes, len_bytes, (void *)(uintptr_t)buf,
				     deadline_of(f, DEV_WRITE), false});
}

int fdio_flush(struct fdio *f)
{
	unsigned doubts = 0;

	if (f->read_only)
		return 0;
	while (fdatasync(f->fd)) {
		int rc = failed(f, errno, &doubts);
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- ranges ------------------------------------------------------------------------------- */

static int range_call(struct fdio *f, unsigned long request, uint64_t off, uint64_t len)
{
	uint64_t range[2] = {off, len}, until = deadline_of(f, DEV_WRITE);
	unsigned doubts = 0;
	int rc;

	while (!too_late(until)) {
		if (f->block)
			rc = ioctl(f->fd, request, range);
		else
			rc = fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				       (off_t)off, (off_t)len);
		if (!rc)
			return 0;
		rc = failed(f, errno, &doubts);
		if (rc)
			return rc;
	}
	return -ECANCELED;
}

static int range_op(struct fdio *f, unsigned long request, uint64_t off, uint64_t len)
{
	int rc = 0;

	while (len && !rc) {
		uint64_t most = f->block ? RANGE_CHUNK : HOLE_CHUNK;
		uint64_t n = len < most ? len : most;

		rc = range_call(f, request, off, n);
		off += n;
		len -= n;
	}
	return rc;
}

uint64_t fdio_discard_max(uint64_t kernels_bytes)
{
	return kernels_bytes < RANGE_CHUNK ? kernels_bytes : RANGE_CHUNK;
}

int fdio_discard(struct fdio *f, uint64_t off_bytes, uint64_t len_bytes)
{
	return range_op(f, BLKDISCARD, off_bytes, len_bytes);
}

int fdio_zero(struct fdio *f, uint64_t off_bytes, uint64_t len_bytes)
{
	return range_op(f, BLKZEROOUT, off_bytes, len_bytes);
}

/* ---- many at once ------------------------------------------------------------------------- */

struct run { /* neighbours on the device: one transfer */
	struct dev_io *io;
	size_t n;
	uint64_t until_ns;
	bool given_up; /* as in struct span */
};

struct batch {
	struct dev_io *io; /* those that are not done yet */
	size_t n;
	uint64_t until_ns; /* of its writes */
};

/* Those of @b, which has some, that continue each other from the @at-th on. */
static struct run run_from(const struct fdio *f, const struct batch *b, size_t at)
{
	struct dev_io *io = b->io + at;
	size_t i = 1, n = b->n - at;

	while (i < n && i < MERGE_MAX && io[i].op == io[0].op &&
	       io[i].off_bytes == io[i - 1].off_bytes + io[i - 1].len_bytes &&
	       memory_fits(f, io[0].buf) && memory_fits(f, io[i].buf))
		i++;
	return (struct run){io, i, io[0].op == DEV_READ ? UINT64_MAX : b->until_ns, false};
}

static void run_vector(const struct run *r, struct iovec *iov)
{
	for (size_t i = 0; i < r->n; i++)
		iov[i] = (struct iovec){.iov_base = r->io[i].buf, .iov_len = r->io[i].len_bytes};
}

/*
 * The kernel did @n bytes of a run, or answered with a negative errno. Returns how many elements
 * have their result; the kernel may stop short without an error.
 */
static size_t run_credit(const struct fdio *f, struct run *r, int64_t n)
{
	size_t done = 0;

	r->given_up = n < 0 && doubtful(f, (int)-n);
	if (n == -EAGAIN || n == -EINTR || r->given_up)
		return 0; /* one by one, then */
	for (; n < 0 && done < r->n; done++)
		r->io[done].result = fdio_errno((int)-n);
	for (; done < r->n && (uint64_t)n >= r->io[done].len_bytes; done++) {
		n -= (int64_t)r->io[done].len_bytes;
		r->io[done].result = 0;
	}
	return done;
}

static int64_t run_call(const struct fdio *f, const struct run *r)
{
	struct iovec iov[MERGE_MAX];
	ssize_t n;

	if (too_late(r->until_ns))
		return -EAGAIN;
	run_vector(r, iov);
	if (r->io[0].op == DEV_READ)
		n = preadv(f->fd, iov, (int)r->n, (off_t)r->io[0].off_bytes);
	else
		n = pwritev(f->fd, iov, (int)r->n, (off_t)r->io[0].off_bytes);
	return n < 0 ? -errno : n;
}

static void run_finish(struct fdio *f, struct run *r, size_t i)
{
	for (; i < r->n; i++) {
		struct dev_io *io = &r->io[i];

		io->result = move(f, (struct span){io->op, io->off_bytes, io->len_bytes, io->buf,
						   r->until_ns, r->given_up});
	}
}

static void run_do(struct fdio *f, struct run *r)
{
	run_finish(f, r, r->n > 1 ? run_credit(f, r, run_call(f, r)) : 0);
}

/* NULL: to be done by calls. */
static struct aio *queue_of(struct fdio *f)
{
	if (!f->block || !f->direct)
		return NULL;
	if (!atomic_load_explicit(&f->aio_tried, memory_order_acquire)) {
		pthread_mutex_lock(&f->aio_mtx);
		if (!atomic_load(&f->aio_tried))
			f->aio = aio_new(f->fd, f->path);
		atomic_store(&f->aio_tried, true);
		pthread_mutex_unlock(&f->aio_mtx);
	}
	return f->aio;
}

/* Some runs of @b, all of which fit in one batch of the kernel's. How many elements. */
static size_t some_runs(struct fdio *f, struct aio *q, const struct batch *b)
{
	struct iovec iov[AIO_BATCH_MAX + MERGE_MAX];
	struct aio_io a[AIO_BATCH_MAX];
	struct run run[AIO_BATCH_MAX];
	size_t runs = 0, vecs = 0, i = 0;

	while (i < b->n && runs < AIO_BATCH_MAX && vecs < AIO_BATCH_MAX) {
		struct run *r = &run[runs];

		*r = run_from(f, b, i);
		if (!memory_fits(f, r->io[0].buf) || too_late(r->until_ns))
			break;
		run_vector(r, iov + vecs);
		a[runs++] = (struct aio_io){.write = r->io[0].op == DEV_WRITE,
					    .off_bytes = r->io[0].off_bytes,
					    .iov = iov + vecs,
					    .iovs = (unsigned)r->n,
					    .until_ns = r->until_ns};
		vecs += r->n;
		i += r->n;
	}
	if (runs > 1)
		aio_batch(q, a, runs);
	for (size_t k = 0; k < runs; k++) {
		if (runs > 1)
			run_finish(f, &run[k], run_credit(f, &run[k], a[k].result));
		else
			run_do(f, &run[k]);
	}
	return i;
}

void fdio_batch(struct fdio *f, struct dev_io *io, size_t n)
{
	struct aio *q = n > 1 ? queue_of(f) : NULL;
	struct batch b = {io, n, deadline_of(f, DEV_WRITE)};

	while (b.n) {
		size_t some = q ? some_runs(f, q, &b) : 0;

		if (!some) {
			struct run r = run_from(f, &b, 0);

			run_do(f, &r);
			some = r.n;
		}
		b.io += some;
		b.n -= some;
	}
}

/* ---- without waiting ---------------------------------------------------------------------- */

struct rest { /* of a transfer that ended short, or of which nobody knows how */
	struct fdio *f;
	struct dev_async *a;
	size_t done;
	bool given_up; /* as in struct span */
};

static void rest_do(struct rest *s)
{
	struct dev_io *io = &s->a->io;

	io->result =
	    move(s->f, (struct span){io->op, io->off_bytes + s->done, io->len_bytes - s->done,
				     (uint8_t *)io->buf + s->done, s->a->until_ns, s->given_up});
	dev_started_done(s->a);
}

static void rests_add(struct fdio *f, int by)
{
	pthread_mutex_lock(&f->aio_mtx);
	f->rests += (unsigned)by;
	if (!f->rests)
		pthread_cond_signal(&f->no_rest);
	pthread_mutex_unlock(&f->aio_mtx);
}

static void *rest_run(void *arg)
{
	struct rest *s = arg;

	rest_do(s);
	rests_add(s->f, -1);
	free(s);
	return NULL;
}

/*
 * There is no thread for it. Who started the transfer may wait, and sends it again: all of it, and
 * after a drain where it is in doubt.
 */
static void rest_leave(struct rest *s)
{
	s->a->io.result = s->given_up ? -ETIMEDOUT : -ECANCELED;
	dev_started_done(s->a);
	rests_add(s->f, -1);
	free(s);
}

/* It may take as long as the device likes, and others wait for the thread of the lane. */
static void rest_apart(const struct rest *s)
{
	struct rest *own = malloc(sizeof(*own));
	pthread_attr_t attr;
	pthread_t t;

	lunfs_assert(own);
	*own = *s;
	rests_add(s->f, 1);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&t, &attr, rest_run, own))
		rest_leave(own);
	pthread_attr_destroy(&attr);
}

struct fdio_lane {
	struct dev_lane lane; /* first */
	struct fdio *f;
	struct aio_lane *aio;
};

static void lane_ended(void *ctx, void *data, int64_t n)
{
	struct fdio_lane *l = ctx;
	struct rest s = {.f = l->f, .a = data};
	struct dev_io *io = &s.a->io;

	l->lane.on_way--;
	s.given_up = n < 0 && doubtful(s.f, (int)-n);
	if (n == AIO_TOO_LATE) {
		io->result = -ECANCELED;
		dev_started_done(s.a);
	} else if (n < 0 && n != -EINTR && n != -EAGAIN && !s.given_up) {
		io->result = fdio_errno((int)-n);
		dev_started_done(s.a);
	} else if (n == (int64_t)io->len_bytes) {
		io->result = 0;
		dev_started_done(s.a);
	} else {
		s.done = n < 0 ? 0 : (size_t)(n - n % s.f->sector_bytes);
		rest_apart(&s);
	}
}

static int lane_start(struct dev_lane *lane, struct dev_async *a)
{
	struct fdio_lane *l = (struct fdio_lane *)lane;
	int rc;

	a->until_ns = deadline_of(l->f, a->io.op);
	rc = aio_lane_start(l->aio, &(struct aio_one){.write = a->io.op == DEV_WRITE,
						      .off_bytes = a->io.off_bytes,
						      .buf = a->io.buf,
						      .len_bytes = a->io.len_bytes,
						      .until_ns = a->until_ns,
						      .data = a});
	lane->on_way += rc == 0;
	return rc;
}

static void lane_turn(struct dev_lane *lane)
{
	aio_lane_turn(((struct fdio_lane *)lane)->aio);
}

static void lane_wait(struct dev_lane *lane, int fd)
{
	aio_lane_wait(((struct fdio_lane *)lane)->aio, fd);
}

static bool lane_due(const struct dev_lane *lane)
{
	return aio_lane_due(((const struct fdio_lane *)lane)->aio);
}

static int lane_fd(const struct dev_lane *lane)
{
	return aio_lane_fd(((const struct fdio_lane *)lane)->aio);
}

static void lane_free(struct dev_lane *lane)
{
	aio_lane_free(((struct fdio_lane *)lane)->aio);
	free(lane);
}

static const struct dev_lane_ops lane_ops = {
    .start = lane_start,
    .turn = lane_turn,
    .wait = lane_wait,
    .due = lane_due,
    .fd = lane_fd,
    .free = lane_free,
};

struct dev_lane *fdio_lane_new(struct fdio *f, struct dev *d)
{
	struct aio *q = queue_of(f);
	struct fdio_lane *l = q ? calloc(1, sizeof(*l)) : NULL;

	if (!l)
		return NULL;
	*l = (struct fdio_lane){.lane = {.dev = d, .ops = &lane_ops}, .f = f};
	l->aio = aio_lane_new(q, lane_ended, l);
	if (l->aio)
		return &l->lane;
	free(l);
	return NULL;
}
