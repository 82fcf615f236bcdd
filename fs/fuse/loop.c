/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Worker threads. A request may wait for another host, so there is always one worker that reads,
 * or will be when there can be a thread for it again; a few read at a time, for each that sleeps
 * there is woken by a request of its own, and what is to spare is parked, or goes away if it is
 * many. Each reads into a buffer laid out so that the payload of a WRITE starts on a page boundary
 * and goes to the device as it is.
 *
 * A request that is answered later, when the device has answered (front_keep), takes the worker's
 * buffer with it, and the worker goes on with another. Who reads looks after the device's answers
 * to what it has started, too: its lane. It never waits for anything else meanwhile: before it
 * does, it leaves the lane, with all that is on its way, to the worker that reads instead. That is
 * not for each place to remember where somebody may wait, since all waiting goes through the clock.
 *
 * Workers read from a few clones of the kernel's device (FUSE_DEV_IOC_CLONE), each of which has its
 * own list of requests in hand; they come in pairs, one to sleep in and one to look at beside a
 * lane. An answer goes to the one that its request came from; all are open until the last answer
 * was given.
 *
 * Signals are blocked in every thread but taken by one that waits for them; it then tells the
 * session to end and wakes the readers with SIGUSR1 until the last of them has seen it.
 */
#include "fuse/bufs.h"
#include "fuse/front.h"
#include "fuse/lanes.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/*
 * Each request that waits for another host keeps one, and what that host waits for may be the next
 * request. Who makes requests waits with them, so it is the kernel that bounds them all.
 */
#define WORKERS_MAX 8192u
#define READERS_MAX 4u	/* workers that read when there is nothing to do */
#define PARKED_MAX 64u	/* and that are kept beside them */
#define LOOK_ROUND 64u	/* requests */
#define BUSY 12u	/* requests in hand that are enough for another reader */
#define KEPT_MAX 256u	/* requests that are answered later */
#define CLONES 4u
#define RETRY_MS 50 /* where there was no thread for one who reads */
#define COMPLAIN_NS (60000ull * 1000000)
#define WRITE_HEADER_BYTES 80u /* fuse_in_header + fuse_write_in */

struct clone {	 /* of the kernel's device */
	int fd;	 /* -1: none; then the session's is used, and no lane */
	int now; /* another one, that is never waited for */
};

struct worker {
	struct worker *next;
	struct loop *loop;
	pthread_t thread;
	struct front_buf *buf; /* NULL: it went with the request in hand */
	struct lane *lane;     /* NULL: none to be had, or given to others */
	struct clone clone;
	bool cloned;	       /* that one is its own to keep */
	void (*fn)(void *arg); /* not a worker of requests: does this, and ends */
	void *arg;
	bool waits; /* the request in hand may: it does not count as reading */
	bool turning; /* it brings back what was on its lane, and no request is in hand */
	unsigned served;
	bool ended;
};

struct late { /* what waits for a thread */
	struct late *next;
	void (*fn)(void *arg);
	void *arg;
};

struct loop {
	struct front *f;
	pthread_mutex_t mtx;
	pthread_cond_t changed, more;
	struct worker *workers;
	struct late *late;
	struct bufs bufs;
	struct lanes *lanes;
	/* Parked ones: so many of them are to read, and so many to do what is late. */
	unsigned parked, calls, nlate;
	unsigned total, reading;
	unsigned kept;
	unsigned busy_readers; /* so many where all they do is to send transfers */
	atomic_uint in_hand;
	struct clone clone[CLONES];
	unsigned next_clone;
	int error;
	bool signalled, tuned;
	uint64_t complain_ns; /* nobody says before that that nobody can read */
};

static _Thread_local struct worker *self;

static void on_wake(int sig)
{
	(void)sig; /* only to make a blocking read return */
}

void front_block_signals(void)
{
	struct sigaction sa = {.sa_handler = on_wake};
	sigset_t set;

	sigaction(SIGUSR1, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

void *front_answer_buf(size_t len_bytes)
{
	if (!self || !self->buf || len_bytes > BUF_BYTES - LUNFS_BLOCK_BYTES)
		return NULL;
	return self->buf->mem + LUNFS_BLOCK_BYTES;
}

/* ---- answers that are given later ------------------------------------------------------------ */

struct front_buf *front_keep(void)
{
	struct loop *l = self ? self->loop : NULL;
	struct front_buf *b = NULL;

	if (!l || !self->buf || !self->lane || self->waits ||
	    atomic_load_explicit(&l->in_hand, memory_order_relaxed) < 2)
		return NULL;
	pthread_mutex_lock(&l->mtx);
	if (l->kept < KEPT_MAX) {
		l->kept++;
		b = self->buf;
	}
	pthread_mutex_unlock(&l->mtx);
	if (!b)
		return NULL;
	b->fd = wire_fd();
	self->buf = NULL;
	return b;
}

static void kept_less(struct loop *l)
{
	pthread_mutex_lock(&l->mtx);
	if (--l->kept == 0)
		pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->mtx);
}

void front_unkeep(struct front_buf *b)
{
	self->buf = b;
	kept_less(self->loop);
}

int front_kept_fd(const struct front_buf *b)
{
	return b->fd;
}

void front_kept_done(struct front *f, struct front_buf *b)
{
	struct loop *l = f->loop;

	buf_put(&l->bufs, b);
	atomic_fetch_sub_explicit(&l->in_hand, 1, memory_order_relaxed);
	kept_less(l);
}

/* ---- lanes ----------------------------------------------------------------------------------- */

/* Send, and bring back; @fd as for dev_lane_wait(). What that calls must not sleep. */
static void lane_turn(struct dev_lane *d, bool wait, int fd)
{
	self->turning = true;
	if (wait)
		dev_lane_wait(d, fd);
	else
		dev_lane_turn(d);
	self->turning = false;
}

static void lane_take(struct loop *l)
{
	bool left;

	self->lane = lanes_take(l->lanes, self->clone.now >= 0, &left);
	if (left)
		lane_turn(self->lane->dev, false, -1);
}

/* This worker waits. True: somebody else must look after what it has started. */
static bool lane_leave(struct loop *l)
{
	struct lane *n = self->lane;
	bool busy = n && n->dev->on_way;

	self->lane = NULL;
	if (busy)
		lanes_leave(l->lanes, n);
	else if (n)
		lanes_give(l->lanes, n);
	return busy;
}

/* This worker reads no more. */
static void lane_end(struct loop *l)
{
	struct lane *n = self->lane;

	self->lane = NULL;
	if (n)
		lanes_end(l->lanes, n);
}

/* ---- workers --------------------------------------------------------------------------------- */

static void *worker_run(void *arg);

static bool thread_add(struct loop *l, void (*fn)(void *arg), void *arg) /* l->mtx held */
{
	struct worker *w = calloc(1, sizeof(*w));

	lunfs_assert(w);
	w->loop = l;
	w->fn = fn;
	w->arg = arg;
	if (pthread_create(&w->thread, NULL, worker_run, w) != 0) {
		free(w);
		return false;
	}
	w->next = l->workers;
	l->workers = w;
	l->total++;
	return true;
}

static bool can_call(const struct loop *l) /* l->mtx held */
{
	return l->parked > l->calls + l->nlate;
}

/*
 * By a parked worker if there is one. Without a thread for it the loop does it itself; the caller's
 * would keep other answers waiting.
 */
void front_later(struct front *f, void (*fn)(void *arg), void *arg)
{
	struct loop *l = f->loop;
	bool called;

	pthread_mutex_lock(&l->mtx);
	called = can_call(l);
	if (called || !thread_add(l, fn, arg)) {
		struct late *t = calloc(1, sizeof(*t));

		lunfs_assert(t);
		*t = (struct late){.next = l->late, .fn = fn, .arg = arg};
		l->late = t;
		l->nlate++;
		pthread_cond_signal(called ? &l->more : &l->changed);
	}
	pthread_mutex_unlock(&l->mtx);
}

static void do_one_late(struct loop *l) /* l->mtx held; let go meanwhile */
{
	struct late *t = l->late;

	l->late = t->next;
	l->nlate--;
	pthread_mutex_unlock(&l->mtx);
	if (self)
		self->fn = t->fn;
	t->fn(t->arg);
	if (self)
		self->fn = NULL;
	free(t);
	pthread_mutex_lock(&l->mtx);
}

/*
 * Somebody must read. False: no thread can be had. The others go on then; the next request tries
 * again.
 */
static bool reader_add(struct loop *l) /* l->mtx held */
{
	if (can_call(l)) {
		l->calls++;
		pthread_cond_signal(&l->more);
	} else if (l->total >= WORKERS_MAX || !thread_add(l, NULL, NULL)) {
		return false;
	}
	l->reading++;
	return true;
}

/* True: to read; it counts as reading again. False: to go. */
static bool park(struct loop *l) /* l->mtx held */
{
	if (l->parked >= PARKED_MAX)
		return false;
	l->parked++;
	while (!l->calls && !fuse_session_exited(l->f->se)) {
		if (!l->late) {
			pthread_cond_wait(&l->more, &l->mtx);
			continue;
		}
		l->parked--;
		do_one_late(l);
		l->parked++;
	}
	l->parked--;
	if (!l->calls)
		return false;
	l->calls--;
	return true;
}

void front_will_wait(void *ctx)
{
	(void)ctx;
	front_waits();
}

void front_waits(void)
{
	struct loop *l = self ? self->loop : NULL;
	bool left;

	if (!l || self->fn || self->waits || self->turning)
		return;
	self->waits = true;
	dev_lane_use(NULL);
	left = lane_leave(l);
	pthread_mutex_lock(&l->mtx);
	l->reading--;
	if ((left || l->reading == 0) && !reader_add(l)) {
		if (left)
			lanes_strand(l->lanes);
		pthread_cond_signal(&l->changed);
	}
	pthread_mutex_unlock(&l->mtx);
}

/* Are there more requests than one reader gets on its way? */
static void look_round(struct loop *l)
{
	unsigned in_hand = atomic_load_explicit(&l->in_hand, memory_order_relaxed);

	pthread_mutex_lock(&l->mtx);
	if (l->reading < l->busy_readers && in_hand > BUSY * l->reading)
		reader_add(l);
	pthread_mutex_unlock(&l->mtx);
}

/* After a request. False: this worker ends. */
static bool read_on(struct loop *l)
{
	bool go_on;

	if (fuse_session_exited(l->f->se))
		return false;
	if (!self->waits) {
		if (++self->served % LOOK_ROUND == 0)
			look_round(l);
		return true;
	}
	self->waits = false;
	if (self->buf && !self->buf->arena) {
		/* serve() takes a better one if there is one by now. */
		buf_put(&l->bufs, self->buf);
		self->buf = NULL;
	}
	pthread_mutex_lock(&l->mtx);
	go_on = l->reading < READERS_MAX;
	l->reading += go_on; /* one that goes away must not make others believe that it reads */
	pthread_mutex_unlock(&l->mtx);
	if (go_on)
		return true;
	if (self->buf)
		buf_put(&l->bufs, self->buf);
	self->buf = NULL;
	pthread_mutex_lock(&l->mtx);
	go_on = park(l);
	pthread_mutex_unlock(&l->mtx);
	return go_on;
}

/* The session has ended, or the kernel's device failed. */
static bool no_more(struct loop *l, int n)
{
	pthread_mutex_lock(&l->mtx);
	if (n < 0 && n != -ENODEV)
		l->error = n;
	pthread_mutex_unlock(&l->mtx);
	fuse_session_exit(l->f->se);
	return false;
}

/* One request; -EAGAIN in *@n: there is none now. False: this worker ends. */
static bool serve_one(struct loop *l, struct fuse_buf *fb, int *n)
{
	struct front *f = l->f;

	*n = fuse_session_receive_buf(f->se, fb);
	if (*n == -EINTR || *n == -EAGAIN)
		return !fuse_session_exited(f->se);
	if (*n <= 0)
		return no_more(l, *n);
	atomic_fetch_add_explicit(&l->in_hand, 1, memory_order_relaxed);
	fuse_session_process_buf(f->se, fb);
	if (self->buf)
		atomic_fetch_sub_explicit(&l->in_hand, 1, memory_order_relaxed);
	if (!l->tuned && atomic_load(&f->initialised)) { /* that was INIT, and nobody else reads */
		l->tuned = true;
		session_tune(f);
	}
	return read_on(l);
}

/* The same, and what comes back on the lane. */
static bool serve_beside(struct loop *l, struct fuse_buf *fb)
{
	struct dev_lane *d = self->lane ? self->lane->dev : NULL;
	bool busy = d && d->on_way, go_on;
	int fd = busy ? self->clone.now : self->clone.fd, n;

	dev_lane_use(d);
	wire_set_fd(fd);
	go_on = serve_one(l, fb, &n);
	if (!self->lane) /* left to others */
		return go_on;
	d = self->lane->dev;
	if (busy && n == -EAGAIN)
		lane_turn(d, true, fd);
	else if (dev_lane_due(d) || (busy && self->buf)) /* no more was started */
		lane_turn(d, false, -1);
	return go_on;
}

static int clone_new(struct loop *l, int flags)
{
	uint32_t session = (uint32_t)fuse_session_fd(l->f->se);
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | flags);

	if (fd >= 0 && ioctl(fd, FUSE_DEV_IOC_CLONE, &session)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static void clone_close(struct clone *c)
{
	if (c->fd >= 0)
		close(c->fd);
	if (c->now >= 0)
		close(c->now);
	*c = (struct clone){-1, -1};
}

/* Both or none. */
static void clone_open(struct loop *l, struct clone *c)
{
	*c = (struct clone){clone_new(l, 0), clone_new(l, O_NONBLOCK)};
	if (c->fd < 0 || c->now < 0)
		clone_close(c);
}

/* The first worker has none before INIT was answered. */
static void clone_take(struct loop *l)
{
	struct clone *c;

	self->clone = (struct clone){fuse_session_fd(l->f->se), -1};
	if (!atomic_load(&l->f->initialised))
		return;
	self->cloned = true;
	pthread_mutex_lock(&l->mtx);
	c = &l->clone[l->next_clone++ % CLONES];
	if (c->fd < 0)
		clone_open(l, c);
	if (c->fd >= 0)
		self->clone = *c;
	pthread_mutex_unlock(&l->mtx);
}

static void serve(struct loop *l)
{
	struct fuse_buf fb = {0};
	bool go_on = true;

	while (go_on && !fuse_session_exited(l->f->se)) {
		if (!self->buf)
			self->buf = buf_get(&l->bufs);
		if (!self->cloned)
			clone_take(l);
		if (!self->lane)
			lane_take(l);
		fb.mem = self->buf->mem + LUNFS_BLOCK_BYTES - WRITE_HEADER_BYTES;
		go_on = serve_beside(l, &fb);
	}
	lane_end(l);
	if (fuse_session_exited(l->f->se))
		lanes_close(l->lanes);
	if (self->buf)
		buf_put(&l->bufs, self->buf);
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;
	struct loop *l = w->loop;

	self = w;
	clock_real_on_sleep(front_waits);
	if (w->fn)
		w->fn(w->arg);
	else
		serve(l);
	pthread_mutex_lock(&l->mtx);
	w->ended = true;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->mtx);
	return NULL;
}

/* Join the workers that have ended. l->mtx held; let go meanwhile. */
static void reap(struct loop *l)
{
	struct worker **pw = &l->workers;

	while (*pw) {
		struct worker *w = *pw;

		if (!w->ended) {
			pw = &w->next;
			continue;
		}
		*pw = w->next;
		l->total--;
		pthread_mutex_unlock(&l->mtx);
		pthread_join(w->thread, NULL);
		free(w);
		pthread_mutex_lock(&l->mtx);
		pw = &l->workers;
	}
}

static void wake_readers(struct loop *l) /* l->mtx held */
{
	pthread_cond_broadcast(&l->more);
	for (struct worker *w = l->workers; w; w = w->next)
		if (!w->ended)
			pthread_kill(w->thread, SIGUSR1);
}

static void wait_changed(struct loop *l, long ms) /* l->mtx held */
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_nsec += ms * 1000000L;
	ts.tv_sec += ts.tv_nsec / 1000000000L;
	ts.tv_nsec %= 1000000000L;
	pthread_cond_timedwait(&l->changed, &l->mtx, &ts);
}

static void *signal_run(void *arg)
{
	struct loop *l = arg;
	sigset_t set;
	bool first;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	while (sigwait(&set, &sig) != 0)
		;
	pthread_mutex_lock(&l->mtx);
	first = !l->signalled;
	l->signalled = true;
	pthread_mutex_unlock(&l->mtx);
	if (first) /* a log that blocks must not hold up the workers */
		log_info("unmounting", "Signal %d (%s): unmounting.", sig, strsignal(sig));
	sizes_stop(l->f->sizes); /* while somebody reads what it asks */
	pthread_mutex_lock(&l->mtx);
	fuse_session_exit(l->f->se);
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->mtx);
	return NULL;
}

static void close_all(struct loop *l)
{
	for (unsigned k = 0; k < CLONES; k++)
		clone_close(&l->clone[k]);
	lanes_free(l->lanes);
	bufs_destroy(&l->bufs);
}

/* Half of the processors: the others carry out transfers and answer them. */
static unsigned busy_readers(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN) / 2;

	return n < 1 ? 1 : n > (long)READERS_MAX ? READERS_MAX : (unsigned)n;
}

/*
 * All workers wait, and there was no thread for one that reads. They may wait for what a request
 * brings that nobody has read. False: there is none now, either. l->mtx held; let go meanwhile.
 */
static bool someone_reads(struct loop *l)
{
	uint64_t now;

	if (l->reading || reader_add(l))
		return true;
	now = clock_now_ns(l->f->clk);
	if (now < l->complain_ns)
		return false;
	l->complain_ns = now + COMPLAIN_NS;
	pthread_mutex_unlock(&l->mtx);
	log_warn("no-thread",
		 "%s: all workers wait, and the system has no thread for one more: what else is "
		 "asked for waits, too, and so may other hosts; raise the limit of processes "
		 "(TasksMax= or pids.max, kernel.threads-max).",
		 l->f->mountpoint);
	pthread_mutex_lock(&l->mtx);
	return false;
}

/* Until nobody serves a request any more, and none is to be answered later. l->mtx held. */
static void supervise(struct loop *l)
{
	while (l->workers || l->kept) {
		bool ends = fuse_session_exited(l->f->se);

		wait_changed(l, ends ? 20 : someone_reads(l) ? 10000 : RETRY_MS);
		ends = fuse_session_exited(l->f->se);
		if (ends) {
			pthread_mutex_unlock(&l->mtx); /* it takes what who waits may have */
			calls_interrupt_all(l->f);
			pthread_mutex_lock(&l->mtx);
			wake_readers(l);
			lanes_close(l->lanes);
		}
		while (l->late && (l->nlate + l->calls > l->parked || ends))
			do_one_late(l);
		reap(l);
	}
}

int front_loop(struct front *f)
{
	struct loop l = {.f = f,
			 .mtx = PTHREAD_MUTEX_INITIALIZER,
			 .changed = PTHREAD_COND_INITIALIZER,
			 .more = PTHREAD_COND_INITIALIZER,
			 .clone = {[0 ... CLONES - 1] = {-1, -1}}};
	pthread_t sig_thread;

	l.lanes = lanes_new(f->dev);
	if (!l.lanes)
		return -EAGAIN;
	if (pthread_create(&sig_thread, NULL, signal_run, &l) != 0) {
		lanes_free(l.lanes);
		return -EAGAIN;
	}
	f->loop = &l;
	bufs_init(&l.bufs);
	l.busy_readers = busy_readers();
	pthread_mutex_lock(&l.mtx);
	reader_add(&l);
	if (!l.workers)
		l.error = -EAGAIN;
	supervise(&l);
	l.signalled = true;
	pthread_mutex_unlock(&l.mtx);
	pthread_kill(sig_thread, SIGTERM);
	pthread_join(sig_thread, NULL);
	close_all(&l);
	return l.error;
}
