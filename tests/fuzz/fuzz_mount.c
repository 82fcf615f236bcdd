/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mounting a damaged volume, reading all of it, changing some, unmounting. Any operation may fail;
 * none may hang, none may write outside of the volume, no name may be one that a kernel would choke
 * on, and what was clean before is clean afterwards.
 */
#include "fuzz.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEPTH_MAX 8u
#define NAMES_MAX 300u /* of all directories together */
#define PIECES_MAX 20u
#define SETTLE_NS (2 * SC_S)

struct look_at {
	struct volume *v;
	unsigned names;
	struct nodeid last_dir, last_file;
};

static int sane(int rc)
{
	FUZZ_CHECK(rc <= 0, "an operation answers %d", rc);
	return rc;
}

/* ---- reading --------------------------------------------------------------------------------- */

static void read_file(struct volume *v, struct nodeid id)
{
	uint8_t *buf = dev_buf_alloc(1 << 16);
	uint64_t at = 0, next;
	size_t done;

	for (unsigned i = 0; i < PIECES_MAX; i++) {
		if (sane(vol_lseek(v, &sc_root, id, at, SEEK_DATA, &next)) || next < at)
			break;
		at = next;
		if (sane(vol_read(v, &sc_root, id, at, 1 << 16, buf, &done)) || !done)
			break;
		FUZZ_CHECK(done <= 1 << 16, "more was read than there is room for");
		at += done;
	}
	sane(vol_lseek(v, &sc_root, id, 0, SEEK_HOLE, &next));
	free(buf);
}

static void read_attrs(struct volume *v, struct nodeid id)
{
	char *names = malloc(65536), *value = malloc(65536);
	size_t len, got;

	if (sane(vol_listxattr(v, &sc_root, id, names, 65536, &len)))
		len = 0;
	for (size_t at = 0; at < len; at += strlen(names + at) + 1) {
		FUZZ_CHECK(memchr(names + at, 0, len - at), "a name of an attribute has no end");
		sane(vol_getxattr(v, &sc_root, id, names + at, value, 65536, &got));
	}
	free(names);
	free(value);
}

static void check_name(const struct dir_entry *de)
{
	size_t len = strnlen(de->name, sizeof(de->name));

	FUZZ_CHECK(len && len < sizeof(de->name), "a name of %zu bytes", len);
	FUZZ_CHECK(!strchr(de->name, '/'), "a name has a slash");
}

static void read_dir(struct look_at *l, struct nodeid dir, unsigned depth);

static void read_entry(struct look_at *l, struct nodeid dir, const char *name, unsigned depth)
{
	char *target = malloc(LUNFS_SYMLINK_MAX + 1);
	struct vattr a;

	if (sane(vol_lookup(l->v, &sc_root, dir, name, &a)) == 0) {
		read_attrs(l->v, a.id);
		if (S_ISDIR(a.st.st_mode)) {
			l->last_dir = a.id;
			read_dir(l, a.id, depth + 1);
		} else if (S_ISREG(a.st.st_mode)) {
			l->last_file = a.id;
			read_file(l->v, a.id);
		} else if (S_ISLNK(a.st.st_mode)) {
			sane(vol_readlink(l->v, &sc_root, a.id, target, LUNFS_SYMLINK_MAX + 1));
		}
	}
	free(target);
}

static void read_dir(struct look_at *l, struct nodeid dir, unsigned depth)
{
	struct vdirent *de = calloc(32, sizeof(*de));
	uint64_t cookie = 0;
	size_t n = 0;

	while (depth < DEPTH_MAX && l->names < NAMES_MAX &&
	       sane(vol_readdir(l->v, &sc_root, dir, cookie, VATTRS_CACHED, de, 32, &n)) == 0 &&
	       n) {
		FUZZ_CHECK(n <= 32, "more entries than asked for");
		for (size_t i = 0; i < n; i++) {
			check_name(&de[i].de);
			cookie = de[i].next;
			l->names++;
			if (strcmp(de[i].de.name, ".") && strcmp(de[i].de.name, ".."))
				read_entry(l, dir, de[i].de.name, depth);
		}
	}
	free(de);
}

/* ---- changing -------------------------------------------------------------------------------- */

static void write_some(struct volume *v, struct nodeid id)
{
	static const uint64_t at[] = {0, 4096, 40000, 1 << 20};
	uint8_t *buf = dev_buf_alloc(8192);
	struct stat st = {.st_size = 5000};
	struct vattr a;
	size_t done;

	if (sane(vol_open(v, &sc_root, id)))
		goto out;
	for (unsigned i = 0; i < 4; i++)
		sane(vol_write(v, &sc_root, id, at[i], 8192, buf, 0, &done, NULL));
	sane(vol_setattr(v, &sc_root, id, &st, VSET_SIZE, &a));
	sane(vol_fsync(v, &sc_root, id, false));
	vol_release(v, id);
out:
	free(buf);
}

static void change_dir(struct volume *v, struct nodeid dir)
{
	static char big[3000];
	struct vattr a;

	if (sane(vol_mknod(v, &sc_root, dir, "new-file", S_IFREG | 0644, 0, &a)) == 0) {
		write_some(v, a.id);
		sane(vol_setxattr(v, &sc_root, a.id, "user.n", big, sizeof(big), 0));
		sane(vol_link(v, &sc_root, a.id, dir, "new-link", &a));
	}
	sane(vol_mkdir(v, &sc_root, dir, "new-dir", 0755, &a));
	sane(vol_rename(v, &sc_root, dir, "new-link", dir, "new-dir", 0));
	sane(vol_rename(v, &sc_root, dir, "new-file", dir, "newer", 0));
	sane(vol_unlink(v, &sc_root, dir, "new-link"));
	sane(vol_rmdir(v, &sc_root, dir, "new-dir"));
}

static void change(struct look_at *l)
{
	static const char *const name[] = {"frag",	"big",	       "many", "xattr-big",
					   "link-long", "xattr-small", "gone", "hard1"};
	struct volume *v = l->v;
	struct nodeid root;
	struct vattr a;

	if (sane(vol_root(v, &root)))
		return;
	change_dir(v, root);
	if (l->last_dir.ino)
		change_dir(v, l->last_dir);
	if (sane(vol_lookup(v, &sc_root, root, "frag", &a)) == 0)
		write_some(v, a.id);
	if (sane(vol_lookup(v, &sc_root, root, "xattr-big", &a)) == 0) {
		sane(vol_removexattr(v, &sc_root, a.id, "user.big"));
		sane(vol_setxattr(v, &sc_root, a.id, "user.attribute-0003", "x", 1, 0));
	}
	for (unsigned i = 0; i < sizeof(name) / sizeof(name[0]); i++)
		if (sane(vol_unlink(v, &sc_root, root, name[i])))
			sane(vol_rmdir(v, &sc_root, root, name[i]));
	sane(vol_syncfs(v));
}

/* ---- the run --------------------------------------------------------------------------------- */

static void use(struct volume *v)
{
	struct look_at l = {.v = v};
	struct nodeid root;
	struct statvfs sv;

	if (sane(vol_root(v, &root)) == 0)
		read_dir(&l, root, 0);
	sane(vol_statfs(v, &sv));
	if (!vol_read_only(v))
		change(&l);
	if (!txn_failed(v->txns))
		orphans_settle(v->orphans, SETTLE_NS);
}

static void run(struct bed *b, struct clock *clk)
{
	struct vol_options opt = {.host.name = "fuzz", .host.claim_wait_ms = 20000};
	struct dev *dev = simdev_attach(b->medium);
	struct fuzz_fsck before, after;
	char why[512] = "";
	struct volume *v;
	struct geo geo;

	fuzz_check(b, clk, &before);
	if (vol_read_super(dev, &geo, NULL, why, sizeof(why)) == 0)
		bed_allow_writes(b, true, geo.dev_blks * LUNFS_BLOCK_BYTES);
	else
		bed_allow_writes(b, false, 0);
	if (sane(vol_mount(dev, clk, &opt, &v, why, sizeof(why)))) {
		FUZZ_CHECK(why[0], "a mount fails without a word");
		dev_close(dev);
		return;
	}
	use(v);
	sane(vol_unmount(v));
	fuzz_check(b, clk, &after);
	if (!before.rc && !before.total)
		FUZZ_CHECK(!after.rc && !after.total, "a clean volume is not clean afterwards (%s)",
			   after.first ? after.first : "");
}

const struct fuzz_target fuzz_target = {.bases = 1u << BASE_TREE | 1u << BASE_DEAD | 1u << BASE_4K,
					.run = run};
