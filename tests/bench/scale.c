/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How lunfs scales with the number of hosts: up to 64 of them, each the production code below FUSE,
 * on one simulated LUN, in virtual time. A command takes a fixed latency, and no more than QUEUE of
 * them are served at once: the others wait their turn. Bandwidth has no limit. Each operation also
 * takes THINK_NS of its host, as an application and a kernel would; each host has one thread at
 * work.
 *
 * usage: bench-scale WORK HOSTS LATENCY_US MILLISECONDS [SEED]
 * Prints one JSON object: operations a second of virtual time, and what they cost the device, by
 * kinds. scale.py runs it for a whole table.
 *
 * bench-scale recovery HOSTS LATENCY_US MIB [SEED]: host 0 loses its power with MIB of committed
 * blocks in its journal that are not in place, and the others write to the file that it wrote last.
 */
#include "base/dist.h"
#include "cluster/host_impl.h"
#include "simcluster.h"

#include <stdio.h>
#include <stdlib.h>

#define QUEUE 64u
#define THINK_NS 200000u
#define MS 1000000ull
#define FILE_BLKS 256u
#define LIST 64u
#define STAT_NS 40000u /* what the kernel and its caller take for a lookup of ls -l */

enum io {
	IO_BEAT,
	IO_WATCH,
	IO_BOARD_READ,
	IO_BOARD_WRITE,
	IO_LOCK,
	IO_JOURNAL,
	IO_FLUSH,
	IO_READ,
	IO_WRITE,
	IO_KINDS
};

static const char *const io_name[IO_KINDS] = {"beats",	      "watching", "board_reads",
					      "board_writes", "locks",	  "journal",
					      "flushes",      "reads",	  "writes"};

struct ios {
	uint64_t kind[IO_KINDS], host[SC_HOSTS_ROOM];
};

struct scale;

struct actor {
	struct scale *s;
	unsigned host;
	uint64_t done, next, rng;
	uint64_t from_ns; /* when its operation began */
	struct nodeid at; /* its directory or its file */
	struct vdirent *listed; /* LIST of them, of which it has come to look_k of look_n */
	size_t look_k, look_n;
	uint64_t cookie;
	bool over; /* there is no more to do */
};

struct work {
	const char *name;
	bool shared;		     /* all have one directory, or one file */
	bool file;		     /* they work on a file */
	void (*op)(struct actor *a); /* NULL: idle */
	uint64_t think_ns;	     /* 0: THINK_NS */
	unsigned files;		     /* in the directory */
	enum { OTHERS, NOBODY } has; /* them in his cache: the host before it, or nobody */
};

struct recovery {
	double total_ms, silent_ms, fencing_ms, replay_ms;
	uint64_t replayed;
};

struct scale {
	struct simcluster *t;
	const struct work *work;
	uint64_t latency_ns, length_ns, from_ns, until_ns, mounted_ns;
	uint64_t free_ns[QUEUE]; /* when each of the device's places is free again */
	struct ios ios, before;
	struct dist latency;
	struct actor actor[SC_HOSTS_ROOM];
	unsigned turn; /* whose it is */
	unsigned dead_slot;
	struct recovery recovery;
	struct mtx mtx;
	struct cond turned;
};

/* ---- the device ------------------------------------------------------------------------------ */

static enum io kind_of(const struct geo *g, const struct simdev_cmd *c)
{
	bool slot = c->off_bytes >= LUNFS_HOST_TABLE_OFF && c->off_bytes < LUNFS_BOARD_OFF;
	uint64_t board_end = LUNFS_BOARD_OFF + geo_all_slots(g) * g->board_row_bytes;
	uint64_t blk = c->off_bytes / LUNFS_BLOCK_BYTES;
	bool board = c->off_bytes >= LUNFS_BOARD_OFF && c->off_bytes < board_end;

	if (c->op == SIMDEV_FLUSH)
		return IO_FLUSH;
	if (c->op == SIMDEV_CAW)
		return slot ? IO_BEAT : IO_LOCK;
	if (c->op == SIMDEV_READ)
		return slot ? IO_WATCH : board ? IO_BOARD_READ : IO_READ;
	if (board)
		return IO_BOARD_WRITE;
	return blk >= g->journal_blk[0] && blk < g->group0_blk ? IO_JOURNAL : IO_WRITE;
}

/* It waits for the place that is free first, and counts. */
static void on_command(void *ctx, struct dev *d, const struct simdev_cmd *c,
		       struct simdev_fault *out)
{
	struct scale *s = ctx;
	uint64_t now = simclock_true_ns(s->t->clk);
	unsigned host = simdev_nexus(d) - SC_NEXUS, first = 0;

	s->ios.kind[kind_of(&s->t->geo, c)]++;
	if (host < SC_HOSTS_ROOM)
		s->ios.host[host]++;
	for (unsigned i = 1; i < QUEUE; i++)
		if (s->free_ns[i] < s->free_ns[first])
			first = i;
	if (s->free_ns[first] > now)
		*out = (struct simdev_fault){.kind = SIMDEV_DELAY,
					     .delay_ns = s->free_ns[first] - now};
	else
		s->free_ns[first] = now;
	s->free_ns[first] += s->latency_ns;
}

/* ---- the work -------------------------------------------------------------------------------- */

static struct volume *vol(const struct actor *a)
{
	return a->s->t->v[a->host];
}

static void create(struct actor *a)
{
	struct vattr va;
	char name[32];

	snprintf(name, sizeof(name), "h%u-%llu", a->host, (unsigned long long)a->next++);
	SC_OK(a->s->t, vol_create(vol(a), &sc_root, a->at, name, S_IFREG | 0644, &va));
	vol_release(vol(a), va.id);
}

static void create_fsync(struct actor *a)
{
	struct vattr va;
	char name[32];

	snprintf(name, sizeof(name), "h%u-%llu", a->host, (unsigned long long)a->next++);
	SC_OK(a->s->t, vol_create(vol(a), &sc_root, a->at, name, S_IFREG | 0644, &va));
	SC_OK(a->s->t, vol_fsync(vol(a), &sc_root, va.id, false));
	vol_release(vol(a), va.id);
}

static void write_block(struct actor *a, uint64_t blk)
{
	static uint8_t block[LUNFS_BLOCK_BYTES] __attribute__((aligned(4096)));
	size_t done;

	SC_OK(a->s->t, vol_write(vol(a), &sc_root, a->at, blk * LUNFS_BLOCK_BYTES, sizeof(block),
				 block, 0, &done, NULL));
}

static void overwrite(struct actor *a)
{
	a->rng = a->rng * 6364136223846793005ull + 1442695040888963407ull;
	write_block(a, (a->rng >> 33) % FILE_BLKS);
}

static void contend(struct actor *a)
{
	write_block(a, a->host);
}

/* One host after the other: each write is a hand-over of the file's lock to whom it goes next. */
static void take_turns(struct actor *a)
{
	struct scale *s = a->s;

	mtx_lock(&s->mtx);
	while (s->turn != a->host && clock_now_ns(s->t->clk) < s->until_ns)
		cond_wait(&s->turned, &s->mtx, s->until_ns);
	mtx_unlock(&s->mtx);
	a->from_ns = clock_now_ns(s->t->clk);
	if (a->from_ns >= s->until_ns)
		return;
	write_block(a, a->host);
	mtx_lock(&s->mtx);
	s->turn = (a->host + 1) % s->t->hosts;
	cond_broadcast(&s->turned);
	mtx_unlock(&s->mtx);
}

/* The next name of a directory that nobody has looked at; NULL: there are no more. */
static const char *next_name(struct actor *a)
{
	const struct vdirent *vd;
	struct vattr va;

	if (!a->listed)
		a->listed = calloc(LIST, sizeof(*a->listed));
	if (a->look_k == a->look_n) {
		a->look_k = 0;
		SC_OK(a->s->t, vol_readdir(vol(a), &sc_root, a->at, a->cookie, VATTRS_NONE,
					   a->listed, LIST, &a->look_n));
	}
	a->over = a->look_n == 0;
	if (a->over)
		return NULL;
	vd = &a->listed[a->look_k++];
	a->cookie = vd->next;
	SC_OK(a->s->t, vol_lookup(vol(a), &sc_root, a->at, vd->de.name, &va));
	return vd->de.name;
}

static void look(struct actor *a) /* ls -l */
{
	next_name(a);
}

static void remove_next(struct actor *a) /* rm -r */
{
	const char *name = next_name(a);

	if (name && name[0] != '.')
		SC_OK(a->s->t, vol_unlink(vol(a), &sc_root, a->at, name));
}

static const struct work works[] = {
    {"idle", false, false, NULL},
    {"create-own", false, false, create},
    {"create-shared", true, false, create},
    {"create-fsync-own", false, false, create_fsync},
    {"create-fsync-shared", true, false, create_fsync},
    {"overwrite-own", false, true, overwrite},
    {"overwrite-shared", true, true, overwrite},
    {"contended", true, true, contend},
    {"turns", true, true, take_turns},
    {"turns-idle", true, true, take_turns, 7 * SC_S}, /* each finds an idle holder */
    {"scan-own", false, false, look, STAT_NS, 4000, NOBODY},
    {"scan-shared", true, false, look, STAT_NS, 4000, NOBODY},
    {"remove-own", false, false, remove_next, STAT_NS, 4000, NOBODY},
    {"remove-others", false, false, remove_next, STAT_NS, 2000, OTHERS},
    {"scan-others", false, false, look, STAT_NS, 2000, OTHERS},
};

/* ---- the run --------------------------------------------------------------------------------- */

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static void mount_one(void *arg)
{
	struct actor *a = arg;
	uint64_t from = simclock_true_ns(a->s->t->clk), took;

	sc_up(a->s->t, a->host);
	took = simclock_true_ns(a->s->t->clk) - from;
	if (took > a->s->mounted_ns)
		a->s->mounted_ns = took;
}

static void act(void *arg)
{
	struct actor *a = arg;
	struct scale *s = a->s;
	struct clock *clk = s->t->clk;
	uint64_t think_ns = s->work->think_ns ? s->work->think_ns : THINK_NS;

	while (!a->over && (a->from_ns = clock_now_ns(clk)) < s->until_ns) {
		s->work->op(a);
		if (a->from_ns >= s->from_ns && clock_now_ns(clk) < s->until_ns) {
			a->done++;
			dist_add(&s->latency, clock_now_ns(clk) - a->from_ns);
		}
		clock_sleep_ns(clk, think_ns);
	}
}

/* By host 0, so that nobody has anything of it in his cache but what comes of that. */
static void make_place(struct actor *a)
{
	struct simcluster *t = a->s->t;
	struct nodeid root = sc_root_id(t, a->host);
	uint8_t *buf;
	char name[32];

	snprintf(name, sizeof(name), "of-host%u", a->host);
	a->at =
	    a->s->work->file ? sc_mkfile(t, a->host, root, name) : sc_mkdir(t, a->host, root, name);
	for (unsigned k = 0; k < a->s->work->files; k++) {
		snprintf(name, sizeof(name), "file-%u", k);
		sc_mkfile(t, a->host, a->at, name);
	}
	if (!a->s->work->file)
		return;
	buf = dev_buf_alloc(FILE_BLKS * LUNFS_BLOCK_BYTES);
	memset(buf, 'x', FILE_BLKS * LUNFS_BLOCK_BYTES);
	sc_write(t, a->host, a->at, 0, buf, FILE_BLKS * LUNFS_BLOCK_BYTES);
	SC_OK(t, vol_fsync(t->v[a->host], &sc_root, a->at, false));
	free(buf);
}

static void all(struct scale *s, void (*fn)(void *))
{
	struct task *task[SC_HOSTS_ROOM];

	for (unsigned h = 0; h < s->t->hosts; h++)
		task[h] = sc_task(s->t, h, fn, &s->actor[h]);
	for (unsigned h = 0; h < s->t->hosts; h++)
		sc_join(s->t, task[h]);
}

static void leave(void *arg)
{
	struct actor *a = arg;

	sc_down(a->s->t, a->host);
}

/* So that nobody has anything in his cache. */
static void all_again(struct scale *s)
{
	all(s, leave);
	all(s, mount_one);
}

/* Each gets the one of the host before it. */
static void pass_on_places(struct scale *s)
{
	unsigned n = s->t->hosts;
	struct nodeid last = s->actor[n - 1].at;

	for (unsigned h = n - 1; h > 0; h--)
		s->actor[h].at = s->actor[h - 1].at;
	s->actor[0].at = last;
}

static void watch_over(void *arg)
{
	struct scale *s = arg;

	clock_sleep_ns(s->t->clk, s->from_ns - clock_now_ns(s->t->clk));
	s->before = s->ios;
	clock_sleep_ns(s->t->clk, s->until_ns - clock_now_ns(s->t->clk));
	for (unsigned k = 0; k < IO_KINDS; k++)
		s->before.kind[k] = s->ios.kind[k] - s->before.kind[k];
	for (unsigned h = 0; h < SC_HOSTS_ROOM; h++)
		s->before.host[h] = s->ios.host[h] - s->before.host[h];
}

static void body(struct simcluster *t)
{
	struct scale *s = t->ctx;
	struct task *watch;
	uint64_t warm_ns = !s->work->op ? 60 * SC_S : s->work->shared ? 3 * SC_S : s->length_ns / 2;

	if (s->work->files)
		warm_ns = 1; /* what is cold is so only once */
	s->t = t;
	simclock_set_step(t->clk, 1);
	simdev_set_latency(t->medium, s->latency_ns, s->latency_ns);
	simdev_set_hook(t->medium, on_command, s);
	mtx_init(&s->mtx, t->clk);
	cond_init(&s->turned, t->clk);
	for (unsigned h = 0; h < t->hosts; h++)
		s->actor[h] = (struct actor){.s = s, .host = h, .rng = h + 1};
	all(s, mount_one);
	for (unsigned h = 0; s->work->op && h < t->hosts; h++) {
		if (s->work->shared && h > 0)
			s->actor[h].at = s->actor[0].at;
		else
			make_place(&s->actor[h]);
	}
	if (s->work->files && s->work->has == OTHERS)
		pass_on_places(s);
	else if (s->work->files)
		all_again(s);
	clock_sleep_ns(t->clk, 10 * SC_S); /* what that left to be written is */
	s->from_ns = clock_now_ns(t->clk) + warm_ns;
	s->until_ns = s->from_ns + s->length_ns;
	watch = simclock_start(t->clk, 0, "watch", watch_over, s);
	if (s->work->op)
		all(s, act);
	sc_join(t, watch);
	for (unsigned h = 0; h < t->hosts; h++)
		free(s->actor[h].listed);
	simdev_set_hook(t->medium, NULL, NULL);
	simdev_set_latency(t->medium, 0, 0);
}

/* The first write of another host to the file, and what came before it: whoever recovered. */
static void write_after(void *arg)
{
	struct actor *a = arg;
	struct scale *s = a->s;
	struct simcluster *t = s->t;
	struct recovery *r = &s->recovery;

	write_block(a, 1);
	r->total_ms = ms(clock_now_ns(t->clk) - s->from_ns);
	for (unsigned h = 1; h < t->hosts; h++) {
		const struct job *j = &t->v[h]->host->jobs[s->dead_slot];
		const struct txn_stats *st = txns_stats(t->v[h]->txns);

		if (!j->replayed_ns)
			continue;
		r->silent_ms = ms(j->taken_ns - s->from_ns);
		r->fencing_ms = ms(j->fenced_ns - j->taken_ns);
		r->replay_ms = ms(j->replayed_ns - j->fenced_ns);
		r->replayed = atomic_load(&st->replayed_blocks);
	}
}

static void power_cut(struct simcluster *t)
{
	struct scale *s = t->ctx;
	const struct txn_stats *st;
	uint64_t want = s->length_ns / MS << 8, before;

	s->t = t;
	simclock_set_step(t->clk, 1);
	simdev_set_latency(t->medium, s->latency_ns, s->latency_ns);
	for (unsigned h = 0; h < t->hosts; h++)
		s->actor[h] = (struct actor){.s = s, .host = h};
	all(s, mount_one);
	s->work = &(struct work){.file = true};
	make_place(&s->actor[0]);
	s->actor[1].at = s->actor[0].at;
	s->actor[2].at = sc_mkdir(t, 0, sc_root_id(t, 0), "filled");
	st = txns_stats(t->v[0]->txns);
	before = atomic_load(&st->log_blocks);
	for (unsigned i = 0; atomic_load(&st->log_blocks) < before + want; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%u", i);
		sc_mkfile(t, 0, s->actor[2].at, name);
		if (i % 1000 == 999)
			SC_OK(t, vol_syncfs(t->v[0]));
	}
	write_block(&s->actor[0], 0);
	SC_OK(t, vol_fsync(t->v[0], &sc_root, s->actor[0].at, false));
	s->from_ns = clock_now_ns(t->clk);
	s->actor[0].done = atomic_load(&st->log_blocks) - before;
	s->dead_slot = host_slot(t->v[0]->host);
	sc_kill(t, 0);
	sc_join(t, sc_task(t, 1, write_after, &s->actor[1]));
	simdev_set_latency(t->medium, 0, 0);
}

static void print_recovery(const struct scale *s, unsigned hosts)
{
	const struct recovery *r = &s->recovery;

	printf(
	    "{\"work\": \"recovery\", \"hosts\": %u, \"latency_us\": %llu, \"journal_mib\": %.1f, "
	    "\"replayed_mib\": %.1f, \"total_ms\": %.1f, \"silent_ms\": %.1f, \"fencing_ms\": "
	    "%.1f, "
	    "\"replay_ms\": %.1f, \"rest_ms\": %.1f}\n",
	    hosts, (unsigned long long)s->latency_ns / 1000, (double)s->actor[0].done / 256,
	    (double)r->replayed / 256, r->total_ms, r->silent_ms, r->fencing_ms, r->replay_ms,
	    r->total_ms - r->silent_ms - r->fencing_ms - r->replay_ms);
}

static void print(struct scale *s, unsigned hosts)
{
	double took = (double)s->length_ns / 1e9;
	uint64_t done = 0, ios = 0, least = UINT64_MAX, most = 0, busiest = 0;
	struct dist_copy c;

	for (unsigned h = 0; h < hosts; h++) {
		uint64_t n = s->actor[h].done;

		done += n;
		least = n < least ? n : least;
		most = n > most ? n : most;
		busiest = s->before.host[h] > busiest ? s->before.host[h] : busiest;
	}
	for (unsigned k = 0; k < IO_KINDS; k++)
		ios += s->before.kind[k];
	dist_read(&s->latency, &c);
	printf(
	    "{\"work\": \"%s\", \"hosts\": %u, \"latency_us\": %llu, \"ops_s\": %.1f, "
	    "\"least_host_s\": %.1f, \"most_host_s\": %.1f, \"mean_us\": %llu, \"p50_us\": %llu, "
	    "\"p99_us\": %llu, \"max_us\": %llu, \"mount_ms\": %llu, \"ios_s\": %.1f, "
	    "\"ios_host_s\": %.2f, \"ios_busiest_host_s\": %.2f, \"ios_op\": %.2f, \"kinds_s\": {",
	    s->work->name, hosts, (unsigned long long)s->latency_ns / 1000, (double)done / took,
	    (double)least / took, (double)most / took,
	    (unsigned long long)(c.n ? c.sum_us / c.n : 0),
	    (unsigned long long)dist_quantile_us(&c, 500),
	    (unsigned long long)dist_quantile_us(&c, 990),
	    (unsigned long long)atomic_load(&s->latency.max_us),
	    (unsigned long long)(s->mounted_ns / MS), (double)ios / took,
	    (double)ios / took / hosts, (double)busiest / took,
	    done ? (double)ios / (double)done : 0);
	for (unsigned k = 0; k < IO_KINDS; k++)
		printf("%s\"%s\": %.2f", k ? ", " : "", io_name[k],
		       (double)s->before.kind[k] / took);
	puts("}}");
}

int main(int argc, char **argv)
{
	struct scale *s = calloc(1, sizeof(*s));
	struct sc_shape shape = {.size_bytes = 64ull << 30,
				 .journal_bytes = 16ull << 20,
				 .beat_ms = 3000,
				 .deadline_ms = 8000,
				 .lease_ms = 16000,
				 .ctx = s};

	bool recovery = argc >= 5 && strcmp(argv[1], "recovery") == 0;

	for (size_t i = 0; s && argc >= 5 && i < sizeof(works) / sizeof(works[0]); i++)
		if (strcmp(works[i].name, argv[1]) == 0)
			s->work = &works[i];
	if (!s || !(s->work || recovery) || atoi(argv[2]) < 1 + recovery ||
	    atoi(argv[2]) > (int)SC_HOSTS_ROOM) {
		fprintf(stderr, "usage: bench-scale WORK HOSTS LATENCY_US MILLISECONDS [SEED]\n");
		return 2;
	}
	shape.hosts = (unsigned)atoi(argv[2]);
	s->latency_ns = strtoull(argv[3], NULL, 10) * 1000;
	s->length_ns = strtoull(argv[4], NULL, 10) * MS;
	shape.seed = argc > 5 ? strtoull(argv[5], NULL, 10) : 1;
	if (recovery)
		shape.journal_bytes = 2 * strtoull(argv[4], NULL, 10) << 20;
	sc_run(recovery ? power_cut : body, &shape);
	if (recovery)
		print_recovery(s, shape.hosts);
	else
		print(s, shape.hosts);
	free(s);
	return 0;
}
