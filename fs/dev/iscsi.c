/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One iSCSI session: a thread of its own that alone calls libiscsi, whose contexts are not
 * thread-safe. Callers queue their commands and sleep until the thread has the answers.
 *
 * A command is handed to libiscsi once. When one is not answered in time or the connection breaks,
 * the whole context goes: all commands in it end as "fate unknown", and the next use logs in again
 * with the same ISID, so that the target ends the old session and its tasks before any command of
 * the new one. Commands that were never handed over stay queued and go with the new session.
 *
 * Buffers belong to sleeping callers, so a command is answered only when libiscsi no longer refers
 * to them: after its callback, and for a write that failed early not before all queued data went
 * out; or after the context is destroyed.
 */
#include "dev/iscsi.h"

#include "base/log.h"
#include "dev/dev_impl.h"
#include "dev/iscsi_name.h"

#include <errno.h>
#include <fcntl.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define WINDOW 64u /* commands in libiscsi's hands */
#define TICK_MS 20 /* how late a deadline may be noticed */
#define LOGIN_PAUSE_NS 200000000ull
#define LOGIN_MIN_MS 1000u
#define LOGOUT_MS 500u
#define TEXT_MAX INAME_MAX

struct group { /* the commands of one call */
	pthread_cond_t ended;
	size_t left;
};

struct iscsi_link {
	struct iscsi_cmd *cmd; /* NULL: a barrier, see isess_drain() */
	struct iscsi_session *s;
	struct group *group;
	struct iscsi_link *next, *prev;
	struct scsi_task *task;
	struct scsi_iovec iov;
	uint64_t until_ns;
	int result;
	bool fail_fast; /* a barrier that ends with the first failed login */
};

struct list { /* doubly linked, first in first out */
	struct iscsi_link *first, *last;
	size_t n;
};

enum state { DOWN, CONNECTING, UP };

struct iscsi_session {
	/* set once */
	char portal[TEXT_MAX], target[TEXT_MAX];
	char user[TEXT_MAX], password[TEXT_MAX], target_user[TEXT_MAX], target_password[TEXT_MAX];
	char shown[TEXT_MAX];
	int lun, wake_fd;
	struct iscsi_name name;
	atomic_uint login_ms; /* bound of a login */
	pthread_t thread;
	/* shared, under mtx */
	pthread_mutex_t mtx;
	struct list incoming;
	bool stop;
	char error[TEXT_MAX]; /* of the last failed login */
	/* the thread's own */
	struct iscsi_context *ctx;
	enum state state;
	bool broken, was_up, logged_out;
	char login_text[TEXT_MAX]; /* why the login under way failed */
	struct list pending, flying, answered;
	uint64_t login_after_ns, login_until_ns;
};

static void list_add(struct list *l, struct iscsi_link *k)
{
	k->next = NULL;
	k->prev = l->last;
	*(l->last ? &l->last->next : &l->first) = k;
	l->last = k;
	l->n++;
}

static void list_remove(struct list *l, struct iscsi_link *k)
{
	*(k->prev ? &k->prev->next : &l->first) = k->next;
	*(k->next ? &k->next->prev : &l->last) = k->prev;
	l->n--;
}

/* ---- answers ------------------------------------------------------------------------------ */

/* Hand @k back to its caller, who may free it as soon as the mutex is dropped. */
static void complete(struct iscsi_session *s, struct iscsi_link *k, int result)
{
	struct group *g = k->group;

	if (k->task)
		scsi_free_scsi_task(k->task);
	k->task = NULL;
	if (k->cmd) {
		k->cmd->result = result;
		k->cmd->ended_ns = dev_now_ns();
		if (result == -EAGAIN && !k->cmd->cause)
			k->cmd->cause = DEV_CAUSE_NOT_SENT;
	}
	pthread_mutex_lock(&s->mtx);
	k->result = result;
	if (!--g->left)
		pthread_cond_signal(&g->ended);
	pthread_mutex_unlock(&s->mtx);
}

/*
 * From the data segment of the response: two bytes of length, then the sense data (RFC 7143
 * 11.4.7.2). libiscsi's own reading of it does not look how long it is.
 */
static struct sbc_sense_key sense_of(const struct scsi_task *t)
{
	const uint8_t *seg = t->datain.data;
	size_t have, len;

	if (!seg || t->datain.size < 2)
		return sbc_sense_decode(NULL, 0);
	have = (size_t)t->datain.size - 2;
	len = (size_t)(seg[0] << 8 | seg[1]);
	return sbc_sense_decode(seg + 2, len < have ? len : have);
}

int iscsi_cmd_judge(struct iscsi_cmd *c, const struct scsi_task *t, int status, uint64_t until_ns)
{
	struct sbc_sense_key key = {0};
	int rc;

	if (status == SCSI_STATUS_CANCELLED || status == SCSI_STATUS_TIMEOUT ||
	    status == SCSI_STATUS_ERROR) {
		if (dev_now_ns() < until_ns)
			c->cause = DEV_CAUSE_TRANSPORT;
		return -ETIMEDOUT;
	}
	if (status == SCSI_STATUS_CHECK_CONDITION)
		key = sense_of(t);
	rc = sbc_outcome((unsigned)status, &key);
	c->cause = sbc_cause((unsigned)status, &key);
	if (rc == -EAGAIN && !c->cause)
		c->cause = DEV_CAUSE_BUSY;
	c->got_bytes = c->len_bytes;
	if (t->residual_status == SCSI_RESIDUAL_UNDERFLOW)
		c->got_bytes -= t->residual < c->len_bytes ? t->residual : c->len_bytes;
	if (!rc && c->dir == ISCSI_OUT && c->got_bytes != c->len_bytes)
		rc = -EIO;
	return sbc_fate(c->cdb, rc, &key, &c->cause);
}

static int outcome_of(const struct iscsi_cmd *c)
{
	if (c->result)
		return c->result < 0 ? c->result : -EIO;
	return c->dir == ISCSI_IN && c->got_bytes != c->len_bytes ? -EIO : 0;
}

int iscsi_cmds_outcome(const struct iscsi_cmd *c, size_t n)
{
	int rc = 0;

	for (size_t k = 0; k < n; k++) {
		int one = outcome_of(&c[k]);

		if (one == -ETIMEDOUT)
			return one;
		rc = rc ? rc : one;
	}
	return rc;
}

/* libiscsi's callback. What the context did not get an answer for is broken with it. */
static void on_answer(struct iscsi_context *ctx, int status, void *data, void *arg)
{
	struct iscsi_link *k = arg;

	(void)ctx;
	(void)data;
	k->result = iscsi_cmd_judge(k->cmd, k->task, status, k->until_ns);
	if (status == SCSI_STATUS_CANCELLED || status == SCSI_STATUS_TIMEOUT ||
	    status == SCSI_STATUS_ERROR)
		k->s->broken = true;
	list_remove(&k->s->flying, k);
	list_add(&k->s->answered, k);
}

/* A write that failed may have left data in the output queue that points into its buffer. */
static bool buffer_is_free(struct iscsi_session *s, const struct iscsi_link *k)
{
	if (!s->ctx || k->cmd->dir != ISCSI_OUT || k->result >= 0)
		return true;
	return !iscsi_out_queue_length(s->ctx) && !(iscsi_which_events(s->ctx) & POLLOUT);
}

static void hand_back_answered(struct iscsi_session *s)
{
	struct iscsi_link *k, *next;

	for (k = s->answered.first; k; k = next) {
		next = k->next;
		if (!buffer_is_free(s, k))
			continue;
		list_remove(&s->answered, k);
		complete(s, k, k->result);
	}
}

/* ---- the session comes and goes ----------------------------------------------------------- */

/* All that libiscsi holds ends here; nothing refers to callers' buffers afterwards. */
static void tear_down(struct iscsi_session *s, const char *reason)
{
	struct iscsi_link *k;
	size_t lost = s->flying.n;

	for (k = s->answered.first; k; k = k->next)
		lost += k->result == -ETIMEDOUT;
	if (s->state == UP)
		log_warn("iscsi-lost",
			 "%s: the session ended (%s) with %zu commands unanswered; the next "
			 "use logs in again.",
			 s->shown, reason, lost);
	if (s->ctx)
		iscsi_destroy_context(s->ctx);
	s->ctx = NULL;
	s->state = DOWN;
	s->broken = false;
	s->login_after_ns = dev_now_ns() + (s->was_up ? 0 : LOGIN_PAUSE_NS);
	s->was_up = false;
	while ((k = s->flying.first)) {
		list_remove(&s->flying, k);
		if (k->cmd && dev_now_ns() < k->until_ns)
			k->cmd->cause = DEV_CAUSE_TRANSPORT;
		complete(s, k, -ETIMEDOUT);
	}
	hand_back_answered(s);
}

static void login_failed(struct iscsi_session *s, const char *text)
{
	struct iscsi_link *k, *next;
	size_t len;

	pthread_mutex_lock(&s->mtx);
	snprintf(s->error, sizeof(s->error), "%s", text);
	len = strlen(s->error);
	if (len && s->error[len - 1] == '.')
		s->error[len - 1] = 0;
	pthread_mutex_unlock(&s->mtx);
	tear_down(s, text);
	for (k = s->pending.first; k; k = next) {
		next = k->next;
		if (!k->fail_fast)
			continue;
		list_remove(&s->pending, k);
		complete(s, k, -ENOTCONN);
	}
}

static void on_login(struct iscsi_context *ctx, int status, void *data, void *arg)
{
	struct iscsi_session *s = arg;

	(void)data;
	if (s->state != CONNECTING)
		return;
	if (status == SCSI_STATUS_GOOD) {
		s->state = UP;
		s->was_up = true;
		return;
	}
	s->broken = true; /* the reason is overwritten soon */
	snprintf(s->login_text, sizeof(s->login_text), "%s", iscsi_get_error(ctx));
	s->login_text[strcspn(s->login_text, "\n")] = 0;
}

static void login_start(struct iscsi_session *s)
{
	struct iscsi_context *ctx = iscsi_create_context(s->name.initiator);
	unsigned login_ms = atomic_load(&s->login_ms);

	s->ctx = ctx;
	s->login_text[0] = 0;
	s->state = CONNECTING;
	s->login_until_ns = dev_now_ns() + (uint64_t)login_ms * 1000000;
	if (!ctx) {
		login_failed(s, "no memory");
		return;
	}
	iscsi_set_isid_random(ctx, s->name.isid_random, s->name.isid_qualifier);
	iscsi_set_targetname(ctx, s->target);
	iscsi_set_session_type(ctx, ISCSI_SESSION_NORMAL);
	iscsi_set_header_digest(ctx, ISCSI_HEADER_DIGEST_NONE_CRC32C);
	iscsi_set_noautoreconnect(ctx, 1);
	iscsi_set_tcp_user_timeout(ctx, (int)login_ms);
	if (s->user[0])
		iscsi_set_initiator_username_pwd(ctx, s->user, s->password);
	if (s->target_user[0])
		iscsi_set_target_username_pwd(ctx, s->target_user, s->target_password);
	if (iscsi_full_connect_async(ctx, s->portal, s->lun, on_login, s))
		login_failed(s, iscsi_get_error(ctx));
	else
		fcntl(iscsi_get_fd(ctx), F_SETFD, FD_CLOEXEC);
}

static void handle_broken(struct iscsi_session *s)
{
	if (s->state == CONNECTING)
		login_failed(s, s->login_text[0] ? s->login_text : "the connection was closed");
	else
		tear_down(s, "the connection was lost");
}

/* ---- commands go out ---------------------------------------------------------------------- */

static void hand_over(struct iscsi_session *s, struct iscsi_link *k)
{
	static const int dir[] = {SCSI_XFER_NONE, SCSI_XFER_READ, SCSI_XFER_WRITE};
	struct iscsi_cmd *c = k->cmd;

	if (c->not_after_ns && dev_now_ns() > c->not_after_ns) {
		complete(s, k, -EAGAIN);
		return;
	}
	k->task = scsi_create_task((int)c->cdb_len, c->cdb, dir[c->dir], (int)c->len_bytes);
	if (!k->task) {
		complete(s, k, -EAGAIN);
		return;
	}
	k->iov = (struct scsi_iovec){.iov_base = c->buf, .iov_len = c->len_bytes};
	if (c->dir == ISCSI_IN)
		scsi_task_set_iov_in(k->task, &k->iov, 1);
	else if (c->dir == ISCSI_OUT)
		scsi_task_set_iov_out(k->task, &k->iov, 1);
	list_add(&s->flying, k);
	c->sent_ns = dev_now_ns();
	if (iscsi_scsi_command_async(s->ctx, s->lun, k->task, on_answer, NULL, k)) {
		list_remove(&s->flying, k);
		complete(s, k, -EAGAIN);
		s->broken = true;
	}
}

static void submit(struct iscsi_session *s)
{
	struct iscsi_link *k;

	while (s->state == UP && !s->broken && (k = s->pending.first)) {
		if (!k->cmd && (s->flying.n || s->answered.n))
			return; /* a barrier waits for all before it */
		if (s->flying.n >= WINDOW)
			return;
		list_remove(&s->pending, k);
		if (k->cmd)
			hand_over(s, k);
		else
			complete(s, k, 0);
	}
}

static void take_incoming(struct iscsi_session *s)
{
	struct iscsi_link *k;

	pthread_mutex_lock(&s->mtx);
	while ((k = s->incoming.first)) {
		list_remove(&s->incoming, k);
		list_add(&s->pending, k);
	}
	pthread_mutex_unlock(&s->mtx);
}

static void check_deadlines(struct iscsi_session *s)
{
	uint64_t now = dev_now_ns();
	struct iscsi_link *k, *next;
	bool late = false;

	for (k = s->pending.first; k; k = next) {
		next = k->next;
		if (k->until_ns > now)
			continue;
		list_remove(&s->pending, k);
		complete(s, k, k->cmd ? -EAGAIN : -ETIMEDOUT);
	}
	for (k = s->flying.first; k && !late; k = k->next)
		late = k->until_ns <= now;
	for (k = s->answered.first; k && !late; k = k->next)
		late = k->until_ns <= now;
	if (late)
		tear_down(s, "a command was not answered in time");
	if (s->state == CONNECTING && s->login_until_ns <= now)
		login_failed(s, "the target does not answer in time");
}

/* ---- the thread --------------------------------------------------------------------------- */

static int poll_timeout_ms(const struct iscsi_session *s)
{
	bool busy = s->pending.n || s->flying.n || s->answered.n || s->state == CONNECTING;

	return busy ? TICK_MS : -1;
}

/* Wait for the socket, for new commands, or a tick, and let libiscsi work. */
static void wait_and_serve(struct iscsi_session *s)
{
	struct pollfd p[2] = {{.fd = s->wake_fd, .events = POLLIN}, {.fd = -1}};
	uint64_t n;

	if (s->ctx) {
		p[1].fd = iscsi_get_fd(s->ctx);
		p[1].events = (short)iscsi_which_events(s->ctx);
	}
	if (poll(p, 2, poll_timeout_ms(s)) < 0)
		return;
	if (p[0].revents && read(s->wake_fd, &n, sizeof(n)) < 0)
		return;
	if (!s->ctx || !p[1].revents)
		return;
	if (s->state == UP && p[1].revents & (POLLERR | POLLHUP | POLLNVAL))
		s->broken = true;
	else if (iscsi_service(s->ctx, p[1].revents) < 0)
		s->broken = true;
}

static void push_out(struct iscsi_session *s)
{
	if (s->state == UP && !s->broken && iscsi_which_events(s->ctx) & POLLOUT &&
	    iscsi_service(s->ctx, POLLOUT) < 0)
		s->broken = true;
}

static void on_logout(struct iscsi_context *ctx, int status, void *data, void *arg)
{
	struct iscsi_session *s = arg;

	(void)ctx;
	(void)status;
	(void)data;
	s->logged_out = true;
}

/* Good manners at the end, within bounds; the connection is closed anyway. */
static void log_out(struct iscsi_session *s)
{
	uint64_t until = dev_now_ns() + LOGOUT_MS * 1000000ull;

	if (s->state != UP || iscsi_logout_async(s->ctx, on_logout, s))
		return;
	while (!s->logged_out && dev_now_ns() < until) {
		struct pollfd p = {.fd = iscsi_get_fd(s->ctx),
				   .events = (short)iscsi_which_events(s->ctx)};

		if (poll(&p, 1, TICK_MS) < 0 || (p.revents && iscsi_service(s->ctx, p.revents) < 0))
			return;
	}
}

static bool stopping(struct iscsi_session *s)
{
	bool stop;

	pthread_mutex_lock(&s->mtx);
	stop = s->stop;
	pthread_mutex_unlock(&s->mtx);
	return stop;
}

static void *session_thread(void *arg)
{
	struct iscsi_session *s = arg;

	while (!stopping(s)) {
		take_incoming(s);
		if (s->state == DOWN && s->pending.n && dev_now_ns() >= s->login_after_ns)
			login_start(s);
		submit(s);
		push_out(s);
		if (!s->broken)
			wait_and_serve(s);
		if (s->broken)
			handle_broken(s);
		hand_back_answered(s);
		check_deadlines(s);
	}
	log_out(s);
	s->state = DOWN; /* ended by ourselves: nothing to tell */
	tear_down(s, "closed");
	return NULL;
}

/* ---- calls -------------------------------------------------------------------------------- */

static void wake(struct iscsi_session *s)
{
	uint64_t one = 1;
	ssize_t n = write(s->wake_fd, &one, sizeof(one));

	lunfs_assert(n == sizeof(one) || errno == EAGAIN);
}

static void queue_and_wait(struct iscsi_session *s, struct iscsi_link *link, size_t n)
{
	struct group g = {.left = n};

	pthread_cond_init(&g.ended, NULL);
	pthread_mutex_lock(&s->mtx);
	for (size_t i = 0; i < n; i++) {
		link[i].s = s;
		link[i].group = &g;
		list_add(&s->incoming, &link[i]);
	}
	pthread_mutex_unlock(&s->mtx);
	wake(s);
	pthread_mutex_lock(&s->mtx);
	while (g.left)
		pthread_cond_wait(&g.ended, &s->mtx);
	pthread_mutex_unlock(&s->mtx);
	pthread_cond_destroy(&g.ended);
}

void isess_run(struct iscsi_session *s, struct iscsi_cmd *cmd, size_t n, uint64_t until_ns)
{
	struct iscsi_link one = {0}, *link = n > 1 ? calloc(n, sizeof(*link)) : &one;
	size_t used = 0;

	if (!link) { /* one by one needs no memory */
		for (size_t i = 0; i < n; i++)
			isess_run(s, cmd + i, 1, until_ns);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (cmd[i].result != -EAGAIN)
			continue;
		cmd[i].cause = DEV_CAUSE_NONE;
		cmd[i].sent_ns = 0;
		link[used].cmd = &cmd[i];
		link[used++].until_ns = until_ns;
	}
	if (used)
		queue_and_wait(s, link, used);
	if (link != &one)
		free(link);
}

void isess_set_login_bound(struct iscsi_session *s, uint32_t ms)
{
	atomic_store(&s->login_ms, ms < LOGIN_MIN_MS ? LOGIN_MIN_MS : ms);
}

unsigned isess_window(void)
{
	return WINDOW;
}

bool isess_name_is_locked(const struct iscsi_session *s)
{
	return s->name.lock_fd >= 0;
}

int isess_drain(struct iscsi_session *s, uint64_t until_ns)
{
	struct iscsi_link barrier = {.until_ns = until_ns};

	queue_and_wait(s, &barrier, 1);
	return barrier.result;
}

/* ---- open and close ----------------------------------------------------------------------- */

/*
 * A numeric portal, since resolving a name may block for long, and the session's thread must not.
 * @portal is "host[:port][,tag]" as libiscsi has parsed it.
 */
static int resolve_portal(const char *portal, char *out, size_t out_len)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *ai = NULL;
	char text[TEXT_MAX], host[NI_MAXHOST], port[NI_MAXSERV];
	char *at = text, *colon, *bracket;
	int n;

	snprintf(text, sizeof(text), "%s", portal);
	text[strcspn(text, ",")] = 0;
	colon = strrchr(text, ':');
	bracket = strrchr(text, ']');
	if (bracket && text[0] == '[') {
		*bracket = 0;
		at = text + 1;
		colon = bracket[1] == ':' ? bracket + 1 : NULL;
	}
	if (colon)
		*colon = 0;
	if (getaddrinfo(at, colon && colon[1] ? colon + 1 : "3260", &hints, &ai))
		return -ENOENT;
	n = getnameinfo(ai->ai_addr, ai->ai_addrlen, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV);
	if (!n)
		n = snprintf(out, out_len, ai->ai_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
			     port) >= (int)out_len;
	freeaddrinfo(ai);
	return n ? -ENOENT : 0;
}

static int parse_url(struct iscsi_session *s, const char *url, char *why, size_t why_len)
{
	struct iscsi_context *ctx = iscsi_create_context(s->name.machine);
	struct iscsi_url *u = ctx ? iscsi_parse_full_url(ctx, url) : NULL;
	int rc = -EINVAL;

	if (!u) {
		snprintf(why, why_len,
			 "%s is not of the form "
			 "iscsi://[user%%password@]host[:port]/target-iqn/lun.",
			 s->shown);
	} else {
		s->lun = u->lun;
		snprintf(s->target, sizeof(s->target), "%s", u->target);
		snprintf(s->user, sizeof(s->user), "%s", u->user);
		snprintf(s->password, sizeof(s->password), "%s", u->passwd);
		snprintf(s->target_user, sizeof(s->target_user), "%s", u->target_user);
		snprintf(s->target_password, sizeof(s->target_password), "%s", u->target_passwd);
		rc = resolve_portal(u->portal, s->portal, sizeof(s->portal));
		if (rc)
			snprintf(why, why_len,
				 "%s: the name of the target's host cannot be resolved.", s->shown);
		iscsi_destroy_url(u);
	}
	iscsi_destroy_context(ctx);
	return rc;
}

/* Signals are the daemon's business; SIGPIPE must not reach a thread that writes to a socket. */
static int start_thread(struct iscsi_session *s)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&s->thread, NULL, session_thread, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -rc;
}

static void session_free(struct iscsi_session *s)
{
	close(s->wake_fd);
	iname_release(&s->name);
	pthread_mutex_destroy(&s->mtx);
	explicit_bzero(s, sizeof(*s));
	free(s);
}

static int first_login(struct iscsi_session *s, char *why, size_t why_len)
{
	struct iscsi_link barrier = {.fail_fast = true};

	barrier.until_ns = dev_now_ns() + 2ull * atomic_load(&s->login_ms) * 1000000;
	queue_and_wait(s, &barrier, 1);
	if (!barrier.result)
		return 0;
	pthread_mutex_lock(&s->mtx);
	snprintf(why, why_len, "%s: the login failed: %s.", s->shown,
		 s->error[0] ? s->error : "no answer in time");
	pthread_mutex_unlock(&s->mtx);
	return barrier.result;
}

/* A target that lets machines in by their names need not know the one with a number. */
static int first_login_by_either_name(struct iscsi_session *s, char *why, size_t why_len)
{
	int rc = first_login(s, why, why_len);

	if (rc != -ENOTCONN || !strcmp(s->name.initiator, s->name.machine))
		return rc;
	memcpy(s->name.initiator, s->name.machine, sizeof(s->name.initiator));
	return first_login(s, why, why_len);
}

static struct iscsi_session *session_new(const char *shown, uint32_t deadline_ms)
{
	struct iscsi_session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->name.lock_fd = -1;
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->wake_fd < 0) {
		free(s);
		return NULL;
	}
	pthread_mutex_init(&s->mtx, NULL);
	snprintf(s->shown, sizeof(s->shown), "%s", shown);
	isess_set_login_bound(s, deadline_ms);
	iname_machine(s->name.machine, sizeof(s->name.machine));
	return s;
}

int isess_open(const char *url, const char *shown, uint32_t deadline_ms, struct iscsi_session **out,
	       char *why, size_t why_len)
{
	struct iscsi_session *s = session_new(shown, deadline_ms);
	int rc;

	if (!s) {
		snprintf(why, why_len, "%s: no memory or no descriptor for a session.", shown);
		return -ENOMEM;
	}
	rc = parse_url(s, url, why, why_len);
	if (!rc) {
		rc = iname_take(&s->name, s->target, s->lun);
		if (!rc)
			rc = start_thread(s);
		if (rc)
			snprintf(why, why_len, "%s: no thread or no randomness for a session.",
				 shown);
	}
	if (rc) {
		session_free(s);
		return rc;
	}
	rc = first_login_by_either_name(s, why, why_len);
	if (rc)
		isess_close(s);
	else
		*out = s;
	return rc;
}

void isess_close(struct iscsi_session *s)
{
	pthread_mutex_lock(&s->mtx);
	s->stop = true;
	pthread_mutex_unlock(&s->mtx);
	wake(s);
	pthread_join(s->thread, NULL);
	session_free(s);
}
