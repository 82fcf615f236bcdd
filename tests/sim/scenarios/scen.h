/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the directed scenarios share. Each is a test of whole hosts on one simulated LUN, told as a
 * story: who does what, what goes wrong when, and what must be true then. After each run the
 * volume is checked by fsck's passes, in this process.
 *
 * LUNFS_SEED=n runs one seed, LUNFS_SEEDS=n so many.
 */
#ifndef TESTS_SCEN_H
#define TESTS_SCEN_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "cluster/lock_impl.h"
#include "simcluster.h"
#include "simrand.h"

#define MS (SC_S / 1000)
#define BEAT (150 * MS)
#define DEADLINE (400 * MS)
#define LEASE (800 * MS)
#define LONG (30 * SC_S) /* more than anything here may take */

/* A scenario: the body runs as the first task, with @seeds seeds, on the simulated LUN. */
struct scenario {
	void (*body)(struct simcluster *t);
	const char *name;
	unsigned seeds;
	uint64_t size_bytes; /* 0: as simcluster */
};
void scen_run(const struct scenario *s);

#define SCENARIO_SIZED(name, n, bytes)                                                             \
	static void body_##name(struct simcluster *t);                                             \
	static void name(void **state)                                                             \
	{                                                                                          \
		(void)state;                                                                       \
		scen_run(&(struct scenario){body_##name, #name, n, bytes});                        \
	}                                                                                          \
	static void body_##name(struct simcluster *t)
#define SCENARIO(name, n) SCENARIO_SIZED(name, n, 0)

#define EXPECT(t, cond) SC_CHECK(t, cond, "expected: %s", #cond)
#define EXPECT_EQ(t, a, b)                                                                         \
	do {                                                                                       \
		long long a_ = (long long)(a), b_ = (long long)(b);                                \
		SC_CHECK(t, a_ == b_, "expected: %s == %s, but %lld != %lld", #a, #b, a_, b_);     \
	} while (0)
/* Look every ms until it is true; the test fails when that takes LONG. */
#define UNTIL(t, cond)                                                                             \
	do {                                                                                       \
		uint64_t end_ = clock_now_ns((t)->clk) + LONG;                                     \
		while (!(cond)) {                                                                  \
			SC_CHECK(t, clock_now_ns((t)->clk) < end_, "it never came: %s", #cond);    \
			clock_sleep_ns((t)->clk, MS);                                              \
		}                                                                                  \
	} while (0)

static inline void rest(struct simcluster *t, uint64_t ns)
{
	clock_sleep_ns(t->clk, ns);
}
static inline struct host *host_of(struct simcluster *t, unsigned host)
{
	return vol_host(t->v[host]);
}
void scen_up(struct simcluster *t, unsigned hosts); /* 0 ... hosts - 1 */

/* ---- what stands on the medium --------------------------------------------------------------- */

void scen_slot(struct simcluster *t, unsigned slot, struct host_info *out);
enum lunfs_slot_state scen_state(struct simcluster *t, unsigned slot);
void scen_record(struct simcluster *t, uint64_t addr, struct lunfs_lock_rec *out);
void scen_poke_record(struct simcluster *t, uint64_t addr, struct lunfs_lock_rec *r);
/* Where the command goes. */
bool in_journal(const struct geo *g, unsigned slot, uint64_t off_bytes);
bool in_slots(uint64_t off_bytes);
bool in_board(const struct geo *g, uint64_t off_bytes);
bool in_groups(const struct geo *g, uint64_t off_bytes);
static inline bool is_lock_of(uint64_t addr, uint64_t off_bytes)
{
	return off_bytes == geo_blk_off(addr);
}

/* ---- one operation as a task of its host ----------------------------------------------------- */

enum job_kind { JOB_READ, JOB_WRITE, JOB_APPEND, JOB_FSYNC, JOB_TRUNCATE };

struct job {
	struct simcluster *t;
	struct volume *v;
	unsigned host;
	enum job_kind kind;
	struct nodeid id;
	uint64_t off;
	size_t len, done;
	uint8_t fill; /* written everywhere; read: all of it, or 0 where bytes differ */
	int rc;
	bool ended;
	uint64_t began_ns, ended_ns;
	struct task *task;
};
void job_start(struct simcluster *t, unsigned host, struct job *j);
void job_end(struct job *j); /* wait for it */

/* Whole files of one byte value. */
void scen_fill(struct simcluster *t, unsigned host, struct nodeid id, uint8_t fill, size_t len);
/* The byte that the file is full of; the test fails when it is not @len long, or not of one. */
uint8_t scen_filled(struct simcluster *t, unsigned host, struct nodeid id, size_t len);
void scen_sync(struct simcluster *t, unsigned host);
struct nodeid scen_find(struct simcluster *t, unsigned host, const char *name); /* in the root */
/* Files "f0" ... in the root, f<k> full of 'a' + k, all of it synced. */
#define SCEN_FILE_BYTES 6000u
void scen_files(struct simcluster *t, unsigned host, unsigned n);
void scen_check_files(struct simcluster *t, unsigned host, unsigned n);

/* ---- a host that works and works ------------------------------------------------------------- */

/* Writes blocks of its own file, syncs now and then, makes and removes names. */
struct worker {
	struct simcluster *t;
	struct volume *v;
	unsigned host, rounds; /* in: so many, 0: until .stop */
	unsigned done, synced; /* blocks written, and those fsynced for sure */
	int rc;		       /* of what failed; it stops there */
	bool stop, ended;
	uint64_t slowest_ns; /* operation */
	struct nodeid id, dir;
	struct task *task;
};
#define WORK_BYTES 4096u
void worker_start(struct simcluster *t, unsigned host, struct worker *w, unsigned rounds);
void worker_end(struct worker *w);
/* What it had synced is there, and what it wrote beyond is its own or nothing. */
void worker_check(struct simcluster *t, unsigned reader, const struct worker *w);

unsigned long long scen_fsck(struct simcluster *t); /* problems found */
/* On a volume in use: whatever it finds, it ends. */
void scen_try_fsck(struct simcluster *t);

#endif
