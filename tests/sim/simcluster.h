/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Several hosts on one simulated LUN that mkfs's own code formatted, each with the whole file
 * system below FUSE. After the last host is down, the medium is checked by fsck.lunfs -n.
 */
#ifndef TESTS_SIMCLUSTER_H
#define TESTS_SIMCLUSTER_H

#include "simclock.h"
#include "simdev.h"
#include "vol/vol_impl.h"

#define SC_HOSTS 3u	  /* how many take part when a shape does not say */
#define SC_HOSTS_MAX 8u	  /* how many a random run takes at most */
#define SC_HOSTS_ROOM 64u /* for how many there is room */
#define SC_S 1000000000ull
#define SC_NEXUS 1000u /* of host 0 */

struct simcluster {
	struct clock *clk;
	struct simdev_medium *medium;
	struct dev *first;
	struct geo geo;
	struct volume *v[SC_HOSTS_ROOM];
	struct dev *dev[SC_HOSTS_ROOM];
	unsigned hosts; /* 0 ... hosts - 1 have a slot and a name, "host0" ... */
	uint64_t seed, rng;
	unsigned boots; /* mounts so far: each is a new start of its machine */
	bool no_fsck;
	struct vol_options opt;	       /* of every mount; the name is filled in */
	unsigned boot[SC_HOSTS_ROOM];  /* not 0: the start of its machine that it is on */
	char label[SC_HOSTS_ROOM][32]; /* of its next device handle; "": none */
	void *ctx;		       /* of the shape */
	void (*done)(struct simcluster *t);
};

struct sc_shape {
	uint64_t size_bytes;   /* 0: 64 MiB */
	uint32_t sector_bytes; /* 0: 512 */
	uint64_t seed;
	uint64_t journal_bytes;			 /* 0: as mkfs chooses */
	unsigned hosts;				 /* 0: SC_HOSTS */
	uint32_t beat_ms, deadline_ms, lease_ms; /* 0: 150, 400, 800 */
	void *ctx;				 /* for the body, in t->ctx */
	/* The run is over, nobody is up: instead of fsck.lunfs of the environment. May be NULL. */
	void (*done)(struct simcluster *t);
};

/*
 * A check that failed: says where in the run (seed, virtual time), then what, and aborts.
 */
void sc_fail(const struct simcluster *t, const char *file, int line, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 4, 5)));
#define SC_CHECK(t, cond, ...)                                                                     \
	do {                                                                                       \
		if (!(cond))                                                                       \
			sc_fail(t, __FILE__, __LINE__, __VA_ARGS__);                               \
	} while (0)

/* @call answers 0, or the test fails with the call and its answer. */
#define SC_OK(t, call)                                                                             \
	do {                                                                                       \
		int sc_rc_ = (call);                                                               \
		if (sc_rc_)                                                                        \
			sc_fail(t, __FILE__, __LINE__, "%s: %s", #call, strerror(-sc_rc_));        \
	} while (0)

extern const struct op_ctx sc_root; /* uid 0, umask 022 */

/*
 * Format, run @body as the first task, take every host that is still up down, check.
 */
void sc_run(void (*body)(struct simcluster *t), const struct sc_shape *shape);
/* Seeds 1 to @n; LUNFS_SEED and LUNFS_SEEDS in the environment choose others. */
void sc_run_seeds(void (*body)(struct simcluster *t), unsigned n);
void sc_up(struct simcluster *t, unsigned host);
void sc_down(struct simcluster *t, unsigned host);
void sc_kill(struct simcluster *t, unsigned host); /* kill -9 and power off */
int sc_mount(struct simcluster *t, unsigned host, bool read_only, char *why, size_t why_len);
struct task *sc_task(struct simcluster *t, unsigned host, void (*fn)(void *), void *arg);
void sc_join(struct simcluster *t, struct task *task);
uint64_t sc_random(struct simcluster *t, uint64_t below);
void sc_settle(struct simcluster *t, unsigned host); /* orphans that can go are gone */

/* Short forms for tests; fail the test when the operation fails. */
struct nodeid sc_root_id(struct simcluster *t, unsigned host);
struct nodeid sc_mkfile(struct simcluster *t, unsigned host, struct nodeid dir, const char *name);
struct nodeid sc_mkdir(struct simcluster *t, unsigned host, struct nodeid dir, const char *name);
void sc_write(struct simcluster *t, unsigned host, struct nodeid id, uint64_t off, const void *buf,
	      size_t len);
size_t sc_read(struct simcluster *t, unsigned host, struct nodeid id, uint64_t off, void *buf,
	       size_t len);
struct stat sc_stat(struct simcluster *t, unsigned host, struct nodeid id);
int sc_lookup(struct simcluster *t, unsigned host, struct nodeid dir, const char *name,
	      struct nodeid *id);
int sc_truncate(struct simcluster *t, unsigned host, struct nodeid id, uint64_t size);
uint64_t sc_free_blks(struct simcluster *t, unsigned host);

#endif
