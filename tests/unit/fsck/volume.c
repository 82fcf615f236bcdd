/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The volume of unit.h: made, repaired, compared. */
#include "unit.h"
#include "vol/maint.h"
#include <json-c/json.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>

#define PLAIN_BYTES 40000u
#define SMALL_BYTES 700u

const char *const fu_path[FU_FILES] = {"/",	"d",	 "d/sub", "d/sub/deep", "many",
				       "small", "plain", "other", "frag",	"hard",
				       "attrs", "acl",	 "short", "long",	"fifo"};

static const uint8_t acl[] = {2, 0,  0,	  0,   1,   0,	 6,  0, 255, 255, 255, 255, 2,	 0,  7,
			      0, 77, 0,	  0,   0,   4,	 0,  4, 0,   255, 255, 255, 255, 16, 0,
			      7, 0,  255, 255, 255, 255, 32, 0, 4,   0,	  255, 255, 255, 255};

/* ---- what stands in files -------------------------------------------------------------------- */

static void pattern(uint8_t *buf, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(seed * 31 + i * 7 + i / 251 + 1);
}

static void fill(struct simcluster *t, struct nodeid id, uint64_t off, size_t len, unsigned seed)
{
	uint8_t *buf = malloc(len);

	pattern(buf, len, seed);
	sc_write(t, 0, id, off, buf, len);
	free(buf);
}

static void expect(struct fu *u, enum fu_file file, uint64_t off, size_t len, unsigned seed)
{
	uint8_t *want = malloc(len), *have = malloc(len);

	pattern(want, len, seed);
	memset(have, 0, len);
	SC_CHECK(u->t, sc_read(u->t, 0, fu_at(u, fu_path[file]), off, have, len) == len,
		 "%s is short", fu_path[file]);
	SC_CHECK(u->t, memcmp(want, have, len) == 0, "%s has other contents at %llu", fu_path[file],
		 (unsigned long long)off);
	free(want);
	free(have);
}

/* ---- making ---------------------------------------------------------------------------------- */

static void make_dirs(struct fu *u)
{
	struct simcluster *t = u->t;
	char name[64];

	u->id[FU_ROOT] = sc_root_id(t, 0);
	u->id[FU_DIR] = sc_mkdir(t, 0, u->id[FU_ROOT], "d");
	u->id[FU_SUB] = sc_mkdir(t, 0, u->id[FU_DIR], "sub");
	u->id[FU_DEEP] = sc_mkfile(t, 0, u->id[FU_SUB], "deep");
	fill(t, u->id[FU_DEEP], 0, SMALL_BYTES, 3);
	u->id[FU_MANY_DIR] = sc_mkdir(t, 0, u->id[FU_ROOT], "many");
	for (unsigned i = 0; i < FU_MANY; i++) {
		struct vattr va;

		snprintf(name, sizeof(name), "a-name-that-takes-some-room-%04u", i);
		SC_OK(t,
		      vol_link(t->v[0], &sc_root, u->id[FU_DEEP], u->id[FU_MANY_DIR], name, &va));
	}
}

static void make_files(struct fu *u)
{
	struct simcluster *t = u->t;
	struct nodeid root = u->id[FU_ROOT];
	struct vattr va;

	u->id[FU_SMALL] = sc_mkfile(t, 0, root, "small");
	fill(t, u->id[FU_SMALL], 0, SMALL_BYTES, 5);
	u->id[FU_PLAIN] = sc_mkfile(t, 0, root, "plain");
	fill(t, u->id[FU_PLAIN], 0, PLAIN_BYTES, 6);
	u->id[FU_OTHER] = sc_mkfile(t, 0, root, "other");
	fill(t, u->id[FU_OTHER], 0, PLAIN_BYTES, 7);
	SC_OK(t, vol_fallocate(t->v[0], &sc_root, u->id[FU_OTHER], FALLOC_FL_KEEP_SIZE, 1 << 20,
			       1 << 16));
	u->id[FU_FRAGGED] = sc_mkfile(t, 0, root, "frag");
	for (unsigned i = 0; i < FU_FRAG; i++)
		fill(t, u->id[FU_FRAGGED], 8192ull * i, 4096, i);
	u->id[FU_HARD] = sc_mkfile(t, 0, root, "hard");
	fill(t, u->id[FU_HARD], 0, SMALL_BYTES, 8);
	SC_OK(t, vol_link(t->v[0], &sc_root, u->id[FU_HARD], u->id[FU_SUB], "hard2", &va));
}

static void make_attrs(struct fu *u)
{
	struct simcluster *t = u->t;
	struct nodeid root = u->id[FU_ROOT];
	uint8_t *buf = malloc(FU_BIG_ATTR);
	char name[32];

	u->id[FU_ATTRS_FILE] = sc_mkfile(t, 0, root, "attrs");
	for (unsigned i = 0; i < FU_ATTRS; i++) {
		snprintf(name, sizeof(name), "user.attr%u", i);
		pattern(buf, 100, i);
		SC_OK(t, vol_setxattr(t->v[0], &sc_root, u->id[FU_ATTRS_FILE], name, buf, 100, 0));
	}
	pattern(buf, FU_BIG_ATTR, 9);
	SC_OK(t, vol_setxattr(t->v[0], &sc_root, u->id[FU_ATTRS_FILE], "user.big", buf, FU_BIG_ATTR,
			      0));
	free(buf);
	u->id[FU_ACL_FILE] = sc_mkfile(t, 0, root, "acl");
	SC_OK(t, vol_setxattr(t->v[0], &sc_root, u->id[FU_ACL_FILE], ACL_ACCESS_NAME, acl,
			      sizeof(acl), 0));
}

static void make_others(struct fu *u)
{
	struct simcluster *t = u->t;
	struct nodeid root = u->id[FU_ROOT];
	char target[4001];
	struct vattr va;

	SC_OK(t, vol_symlink(t->v[0], &sc_root, root, "short", "to/there", &va));
	u->id[FU_SHORT_LINK] = va.id;
	memset(target, 'x', 4000);
	target[4000] = 0;
	SC_OK(t, vol_symlink(t->v[0], &sc_root, root, "long", target, &va));
	u->id[FU_LONG_LINK] = va.id;
	SC_OK(t, vol_mknod(t->v[0], &sc_root, root, "fifo", S_IFIFO | 0600, 0, &va));
	u->id[FU_FIFO] = va.id;
	u->orphan = sc_mkfile(t, 0, root, "unlinked");
	fill(t, u->orphan, 0, PLAIN_BYTES, 1);
	SC_OK(t, vol_open(t->v[0], &sc_root, u->orphan));
	SC_OK(t, vol_unlink(t->v[0], &sc_root, root, "unlinked"));
	SC_OK(t, vol_syncfs(t->v[0]));
}

struct start {
	struct fu *u;
	void (*body)(struct fu *u);
};

static void start(struct simcluster *t)
{
	struct start *s = t->ctx;
	struct fu *u = s->u;

	u->t = t;
	t->no_fsck = true;
	sc_up(t, 0);
	make_dirs(u);
	make_files(u);
	make_attrs(u);
	make_others(u);
	sc_kill(t, 0);
	fu_fsck(u, MODE_YES); /* the claim replays its journal */
	SC_CHECK(t, u->rc == 0 && u->total == 0, "the volume that was made is not clean");
	u->made = simdev_snapshot(t->medium);
	s->body(u);
	simdev_snapshot_free(u->made);
}

void fu_run(void (*body)(struct fu *u), uint32_t sector_bytes)
{
	struct fu u = {0};
	struct start s = {&u, body};
	struct sc_shape shape = {.seed = 1, .sector_bytes = sector_bytes, .ctx = &s};

	sc_run(start, &shape);
	free(u.said);
}

void fu_restore(struct fu *u)
{
	simdev_roll_back(u->t->medium, u->made);
}

/* ---- repairing ------------------------------------------------------------------------------- */

static void note(struct fu *u, struct fsck *f, int rc)
{
	memcpy(u->count, f->problems.count, sizeof(u->count));
	u->total = f->problems.total;
	u->fixed = f->problems.fixed;
	u->left = u->total - u->fixed;
	u->orphans = f->orphans;
	u->rc = rc;
	if (getenv("FU_SAY") && f->problems.list)
		puts(json_object_to_json_string_ext(f->problems.list, JSON_C_TO_STRING_PRETTY));
	free(u->said);
	u->said = strdup(json_object_to_json_string(f->problems.list));
	json_object_put(f->problems.list);
}

static struct geo read_geo(struct fu *u, struct dev *dev)
{
	char why[512] = "";
	struct geo geo;

	SC_CHECK(u->t, vol_read_super(dev, &geo, NULL, why, sizeof(why)) == 0, "%s", why);
	return geo;
}

static struct maint *claim(struct fu *u, struct dev *dev, const struct geo *geo)
{
	struct maint_config cfg = {.host.name = "fsck", .host.claim_wait_ms = 20000};
	struct maint *m = NULL;

	u->rc = maint_begin(dev, u->t->clk, geo, &cfg, &m, u->why, sizeof(u->why));
	if (m) /* what it tried first may have failed */
		u->why[0] = '\0';
	return m;
}

static int open_undo(struct fu *u, struct fsck *f)
{
	return u->undo ? undo_open(&f->store, u->undo, u->why, sizeof(u->why)) : 0;
}

static void run_on(struct fu *u, struct dev *dev, enum repair_mode mode)
{
	struct simcluster *t = u->t;
	struct geo geo = read_geo(u, dev);
	struct maint *m = mode == MODE_CHECK ? NULL : claim(u, dev, &geo);
	struct fsck f = {0};
	int rc;

	if (mode != MODE_CHECK && !m) { /* only if it was killed */
		dev_close(dev);
		return;
	}
	fsck_init(&f, dev, &geo, mode, m);
	f.clk = u->alone ? NULL : t->clk;
	f.threads = u->threads;
	f.problems.json = true;
	rc = open_undo(u, &f);
	if (rc == 0 && m)
		rc = u->log = redo_finish(&f.store);
	if (rc >= 0 || rc == -EUCLEAN)
		rc = fsck_run(&f);
	if (rc == 0)
		rc = fsck_write(&f, NULL, NULL);
	note(u, &f, rc);
	fsck_free(&f);
	u->given_up = m ? maint_end(m) : 0;
	dev_close(dev);
}

void fu_put_back(struct fu *u, const char *path)
{
	struct dev *dev = simdev_attach(u->t->medium);
	struct geo geo = read_geo(u, dev);
	struct maint *m = claim(u, dev, &geo);
	struct fsck f = {0};

	SC_CHECK(u->t, m, "%s", u->why);
	fsck_init(&f, dev, &geo, MODE_YES, m);
	u->rc = undo_put_back(&f.store, path, false, u->why, sizeof(u->why));
	fsck_free(&f);
	u->given_up = maint_end(m);
	dev_close(dev);
}

void fu_fsck(struct fu *u, enum repair_mode mode)
{
	run_on(u, simdev_attach(u->t->medium), mode);
}

struct killer {
	struct dev *dev;
	unsigned nth, n;
};

static void count_down(void *ctx, struct dev *d, const struct simdev_cmd *cmd,
		       struct simdev_fault *out)
{
	struct killer *k = ctx;

	(void)out;
	if (d == k->dev && cmd->op != SIMDEV_READ && ++k->n == k->nth)
		simdev_kill(d);
}

bool fu_fsck_killed(struct fu *u, unsigned nth, bool cut)
{
	struct killer k = {.dev = simdev_attach(u->t->medium), .nth = nth};

	simdev_set_hook(u->t->medium, count_down, &k);
	run_on(u, k.dev, MODE_YES);
	simdev_set_hook(u->t->medium, NULL, NULL);
	if (cut)
		simdev_power_cut(u->t->medium, nth);
	return k.n >= nth;
}

bool fu_log(struct fu *u, struct maint_info *mi)
{
	uint8_t buf[LUNFS_BLOCK_BYTES];

	simdev_peek(u->t->medium, LUNFS_MAINT_OFF, sizeof(buf), buf);
	return maint_decode(&u->t->geo, buf, mi) == 0 && mi->flags & LUNFS_MAINT_REDO;
}

static uint64_t changes(struct fu *u)
{
	struct simdev_counts c;

	simdev_counts(u->t->medium, &c);
	return c.writes + c.caws + c.discards;
}

void fu_repair(struct fu *u, enum problem_code code)
{
	uint64_t before = changes(u);

	fu_fsck(u, MODE_CHECK);
	SC_CHECK(u->t, u->count[code] > 0, "%s is not found by -n", problem_name(code));
	SC_CHECK(u->t, changes(u) == before, "-n has written");
	fu_fsck(u, MODE_YES);
	SC_CHECK(u->t, u->rc == 0, "the repair failed: %s", strerror(-u->rc));
	SC_CHECK(u->t, u->count[code] > 0, "%s is not found", problem_name(code));
	SC_CHECK(u->t, u->left == 0, "%llu problems are left", (unsigned long long)u->left);
	u->found = u->total;
	fu_fsck(u, MODE_CHECK);
	for (int i = 0; i < PROBLEMS; i++)
		SC_CHECK(u->t, u->count[i] == 0, "after the repair there is %s",
			 problem_name((enum problem_code)i));
	SC_CHECK(u->t, u->rc == 0, "the second check failed: %s", strerror(-u->rc));
}

/* ---- comparing ------------------------------------------------------------------------------- */

static int look(struct fu *u, const char *path, struct nodeid *id)
{
	char copy[256], *save = NULL;

	*id = sc_root_id(u->t, 0);
	snprintf(copy, sizeof(copy), "%s", path);
	for (char *p = strtok_r(copy, "/", &save); p; p = strtok_r(NULL, "/", &save)) {
		int rc = sc_lookup(u->t, 0, *id, p, id);

		if (rc)
			return rc;
	}
	return 0;
}

bool fu_exists(struct fu *u, const char *path)
{
	struct nodeid id;

	return look(u, path, &id) == 0;
}

struct nodeid fu_at(struct fu *u, const char *path)
{
	struct nodeid id;

	SC_CHECK(u->t, look(u, path, &id) == 0, "%s is gone", path);
	return id;
}

static void verify_many(struct fu *u)
{
	struct nodeid dir = fu_at(u, "many"), id;
	char name[64];

	for (unsigned i = 0; i < FU_MANY; i++) {
		snprintf(name, sizeof(name), "a-name-that-takes-some-room-%04u", i);
		SC_CHECK(u->t, sc_lookup(u->t, 0, dir, name, &id) == 0, "many/%s is gone", name);
		SC_CHECK(u->t, id.ino == u->id[FU_DEEP].ino, "many/%s is another one", name);
	}
}

static void verify_attrs(struct fu *u)
{
	uint8_t *want = malloc(FU_BIG_ATTR), *have = malloc(FU_BIG_ATTR);
	struct nodeid id = fu_at(u, "attrs");
	size_t len;
	char name[32];

	for (unsigned i = 0; i < FU_ATTRS; i++) {
		snprintf(name, sizeof(name), "user.attr%u", i);
		pattern(want, 100, i);
		SC_OK(u->t, vol_getxattr(u->t->v[0], &sc_root, id, name, have, 100, &len));
		SC_CHECK(u->t, len == 100 && !memcmp(want, have, 100), "%s is another", name);
	}
	pattern(want, FU_BIG_ATTR, 9);
	SC_OK(u->t, vol_getxattr(u->t->v[0], &sc_root, id, "user.big", have, FU_BIG_ATTR, &len));
	SC_CHECK(u->t, len == FU_BIG_ATTR && !memcmp(want, have, len), "user.big is another");
	free(want);
	free(have);
}

static void verify_acl(struct fu *u)
{
	uint8_t have[sizeof(acl)];
	size_t len;

	SC_OK(u->t, vol_getxattr(u->t->v[0], &sc_root, fu_at(u, "acl"), ACL_ACCESS_NAME, have,
				 sizeof(have), &len));
	SC_CHECK(u->t, len == sizeof(acl) && !memcmp(acl, have, len), "the ACL is another");
}

static void verify_link(struct fu *u, const char *path, size_t len, char first)
{
	char buf[4200];

	SC_OK(u->t, vol_readlink(u->t->v[0], &sc_root, fu_at(u, path), buf, sizeof(buf)));
	SC_CHECK(u->t, strlen(buf) == len && buf[0] == first, "%s leads elsewhere", path);
}

static void verify_one(struct fu *u, enum fu_file file)
{
	switch (file) {
	case FU_MANY_DIR:
		verify_many(u);
		break;
	case FU_ATTRS_FILE:
		verify_attrs(u);
		break;
	case FU_ACL_FILE:
		verify_acl(u);
		break;
	case FU_SHORT_LINK:
		verify_link(u, "short", 8, 't');
		break;
	case FU_LONG_LINK:
		verify_link(u, "long", 4000, 'x');
		break;
	case FU_PLAIN:
		expect(u, file, 0, PLAIN_BYTES, 6);
		break;
	case FU_OTHER:
		expect(u, file, 0, PLAIN_BYTES, 7);
		break;
	case FU_FRAGGED:
		for (unsigned i = 0; i < FU_FRAG; i++)
			expect(u, file, 8192ull * i, 4096, i);
		break;
	case FU_SMALL:
		expect(u, file, 0, SMALL_BYTES, 5);
		break;
	case FU_DEEP:
		expect(u, file, 0, SMALL_BYTES, 3);
		break;
	case FU_HARD:
		expect(u, file, 0, SMALL_BYTES, 8);
		fu_at(u, "d/sub/hard2");
		break;
	default:
		fu_at(u, fu_path[file]);
	}
}

void fu_verify(struct fu *u, unsigned except)
{
	sc_up(u->t, 0);
	for (int i = 0; i < FU_FILES; i++)
		if (!(except & 1u << i))
			verify_one(u, (enum fu_file)i);
	sc_down(u->t, 0);
	fu_fsck(u, MODE_CHECK);
	SC_CHECK(u->t, u->rc == 0 && u->total == 0, "after a mount it is not clean");
}

void fu_cycle(struct fu *u, enum problem_code code, unsigned except)
{
	fu_repair(u, code);
	fu_verify(u, except);
}

/* ---- damaging -------------------------------------------------------------------------------- */

void fu_get(struct fu *u, uint64_t cell, void *payload)
{
	simdev_peek(u->t->medium, geo_payload_off(&u->t->geo, cell), LUNFS_PAYLOAD_BYTES, payload);
}

void fu_put_raw(struct fu *u, uint64_t cell, const void *payload)
{
	simdev_poke(u->t->medium, geo_payload_off(&u->t->geo, cell), LUNFS_PAYLOAD_BYTES, payload);
}

void fu_put(struct fu *u, uint64_t cell, void *payload)
{
	blk_seal(payload);
	fu_put_raw(u, cell, payload);
}

void fu_get_inode(struct fu *u, enum fu_file file, struct lunfs_inode_pl *pl)
{
	fu_get(u, u->id[file].ino, pl);
}

unsigned fu_spare(const struct fu *u)
{
	unsigned i = 0;

	while (i < u->t->geo.slots && u->t->geo.journal_blk[i])
		i++;
	return i;
}

void fu_damage_slot(struct fu *u, unsigned slot)
{
	uint8_t noise[512];

	memset(noise, 0xee, sizeof(noise));
	simdev_poke(u->t->medium, geo_slot_off(slot), sizeof(noise), noise);
}

void fu_lose_replay(struct fu *u, uint8_t *lock)
{
	uint64_t at = geo_blk_off(u->id[FU_SMALL].ino);
	uint8_t noise[512];

	sc_up(u->t, 0);
	sc_write(u->t, 0, u->id[FU_SMALL], 0, "journal", 7);
	SC_OK(u->t, vol_syncfs(u->t->v[0]));
	sc_kill(u->t, 0);
	simdev_peek(u->t->medium, at, sizeof(noise), lock);
	memset(noise, 0xee, sizeof(noise));
	simdev_poke(u->t->medium, at, sizeof(noise), noise);
}

uint64_t fu_child(struct fu *u, enum fu_file file, unsigned i)
{
	const struct lunfs_bt_inner_slot *s;
	struct lunfs_inode_pl pl;

	fu_get_inode(u, file, &pl);
	SC_CHECK(u->t, le16_get(fu_head(pl.data_fork)->level) == 1, "%s is no tree of two levels",
		 fu_path[file]);
	s = (const void *)(pl.data_fork + sizeof(struct lunfs_bt_head));
	return le64_get(s[i].child);
}

struct lunfs_bt_head *fu_head(uint8_t *area)
{
	return (struct lunfs_bt_head *)area;
}

struct lunfs_bt_leaf_slot *fu_slot(uint8_t *area, unsigned i)
{
	return (struct lunfs_bt_leaf_slot *)(area + sizeof(struct lunfs_bt_head)) + i;
}

struct lunfs_dirent *fu_dirent(uint8_t *area, const char *name, unsigned *idx)
{
	for (unsigned i = 0; i < le16_get(fu_head(area)->items); i++) {
		struct lunfs_dirent *de = (void *)(area + le16_get(fu_slot(area, i)->off));

		if (de->name_len == strlen(name) && !memcmp(de->name, name, strlen(name))) {
			if (idx)
				*idx = i;
			return de;
		}
	}
	return NULL;
}

struct lunfs_extent *fu_extent(uint8_t *area, unsigned i)
{
	return (struct lunfs_extent *)(area + le16_get(fu_slot(area, i)->off));
}
