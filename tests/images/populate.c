/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Makes the files of a recipe, as its lines say (README.md, "Trees"), by the code under FUSE. */
#include "populate.h"
#include "vol/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#define MAX_WORDS 5
#define PIECE_BYTES (1u << 20)

struct pop {
	struct volume *v;
	struct op_ctx c;
	bool crash;
};

/* The same tree in two sizes. */
static const struct {
	const char *line, *little; /* NULL: as it is */
} standard[] = {
    {"dir /d1", NULL},
    {"dir /d1/d2", NULL},
    {"dir /d1/d2/d3", NULL},
    {"file /d1/d2/d3/deep 5000", NULL},
    {"dir /gone", NULL},
    {"file /empty 0", NULL},
    {"file /inline 100", NULL},
    {"file /small 10000", NULL},
    {"file /big 1048576", "file /big 262144"},
    {"sparse /frag 600", "sparse /frag 150"},
    {"hole /hole 1048576", NULL},
    {"prealloc /prealloc 65536", NULL},
    {"dir /many", NULL},
    {"files /many 300", "files /many 100"},
    {"file /d1/target 10", NULL},
    {"dir /tall", NULL},
    {"links /d1/target /tall 3000", "links /d1/target /tall 60"},
    {"file /hard1 6000", NULL},
    {"link /hard1 /d1/hard2", NULL},
    {"file /xattr-small 0", NULL},
    {"xattr /xattr-small user.a 10", NULL},
    {"xattr /xattr-small security.s 40", NULL},
    {"file /xattr-big 0", NULL},
    {"xattr /xattr-big user.big 20000", "xattr /xattr-big user.big 8000"},
    {"xattrs /xattr-big 60", "xattrs /xattr-big 30"},
    {"dir /acl", NULL},
    {"acl /acl", NULL},
    {"symlink /link-short 20", NULL},
    {"symlink /link-long 3900", NULL},
    {"fifo /fifo", NULL},
    {"socket /socket", NULL},
    {"char /char 1 3", NULL},
    {"block /block 7 1", NULL},
};

/* ---- names ----------------------------------------------------------------------------------- */

static int walk(struct pop *p, const char *path, struct nodeid *out)
{
	char copy[4096], *rest = copy, *name;
	int rc = vol_root(p->v, out);

	snprintf(copy, sizeof(copy), "%s", path);
	while (rc == 0 && (name = strsep(&rest, "/"))) {
		struct vattr a;

		if (!*name)
			continue;
		rc = vol_lookup(p->v, &p->c, *out, name, &a);
		if (rc == 0)
			*out = a.id;
	}
	return rc;
}

/* The directory that @path stands in, and its last name. */
static int parent(struct pop *p, const char *path, struct nodeid *dir, const char **name)
{
	const char *slash = strrchr(path, '/');
	char head[4096];

	if (!slash || !slash[1])
		return -EINVAL;
	snprintf(head, sizeof(head), "%.*s", (int)(slash - path), path);
	*name = slash + 1;
	return walk(p, head, dir);
}

static int make(struct pop *p, const char *path, mode_t mode, dev_t rdev, struct nodeid *out)
{
	struct nodeid dir;
	struct vattr a;
	const char *name;
	int rc = parent(p, path, &dir, &name);

	if (rc == 0 && S_ISDIR(mode))
		rc = vol_mkdir(p->v, &p->c, dir, name, mode, &a);
	else if (rc == 0)
		rc = vol_mknod(p->v, &p->c, dir, name, mode, rdev, &a);
	if (rc == 0 && out)
		*out = a.id;
	return rc;
}

/* ---- files ----------------------------------------------------------------------------------- */

static int fill(struct pop *p, struct nodeid id, uint64_t off, uint64_t len)
{
	size_t piece = len < PIECE_BYTES ? (size_t)len : PIECE_BYTES;
	uint8_t *buf = dev_buf_alloc(piece);
	int rc = 0;

	for (size_t i = 0; i < piece; i++)
		buf[i] = (uint8_t)("lunfs test data\n"[i % 16]);
	for (uint64_t at = 0; rc == 0 && at < len;) {
		size_t done, n = len - at < piece ? (size_t)(len - at) : piece;

		rc = vol_write(p->v, &p->c, id, off + at, n, buf, 0, &done, NULL);
		at += done;
	}
	free(buf);
	return rc;
}

static int do_file(struct pop *p, char **w)
{
	struct nodeid id;
	int rc = make(p, w[1], S_IFREG | 0644, 0, &id);

	return rc ? rc : fill(p, id, 0, strtoull(w[2], NULL, 0));
}

static int do_hole(struct pop *p, char **w)
{
	struct stat st = {.st_size = strtoll(w[2], NULL, 0)};
	struct nodeid id;
	struct vattr a;
	int rc = make(p, w[1], S_IFREG | 0644, 0, &id);

	return rc ? rc : vol_setattr(p->v, &p->c, id, &st, VSET_SIZE, &a);
}

/* As many extents as asked for: every other block. */
static int do_sparse(struct pop *p, char **w)
{
	uint64_t n = strtoull(w[2], NULL, 0);
	struct nodeid id;
	int rc = make(p, w[1], S_IFREG | 0644, 0, &id);

	for (uint64_t i = 0; rc == 0 && i < n; i++)
		rc = fill(p, id, i * 2 * LUNFS_BLOCK_BYTES, LUNFS_BLOCK_BYTES);
	return rc;
}

static int do_prealloc(struct pop *p, char **w)
{
	struct nodeid id;
	int rc = make(p, w[1], S_IFREG | 0644, 0, &id);

	return rc ? rc
		  : vol_fallocate(p->v, &p->c, id, FALLOC_FL_KEEP_SIZE, 0, strtoull(w[2], NULL, 0));
}

static int do_dir(struct pop *p, char **w)
{
	return make(p, w[1], S_IFDIR | 0755, 0, NULL);
}

static int do_files(struct pop *p, char **w)
{
	unsigned n = (unsigned)strtoul(w[2], NULL, 0);
	char path[4096];
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < n; i++) {
		snprintf(path, sizeof(path), "%s/file-%06u", w[1], i);
		rc = make(p, path, S_IFREG | 0644, 0, NULL);
	}
	return rc;
}

static int do_link(struct pop *p, char **w)
{
	struct nodeid id, dir;
	struct vattr a;
	const char *name;
	int rc = walk(p, w[1], &id);

	if (rc == 0)
		rc = parent(p, w[2], &dir, &name);
	return rc ? rc : vol_link(p->v, &p->c, id, dir, name, &a);
}

/* Many long names of one file: a tall tree at the cost of no inodes. */
static int do_links(struct pop *p, char **w)
{
	unsigned n = (unsigned)strtoul(w[3], NULL, 0);
	char path[4096], pad[201];
	char *one[MAX_WORDS] = {w[0], w[1], path};
	int rc = 0;

	memset(pad, 'x', sizeof(pad) - 1);
	pad[sizeof(pad) - 1] = '\0';
	for (unsigned i = 0; rc == 0 && i < n; i++) {
		snprintf(path, sizeof(path), "%s/name-%06u-%s", w[2], i, pad);
		rc = do_link(p, one);
	}
	return rc;
}

static int do_symlink(struct pop *p, char **w)
{
	size_t n = strtoull(w[2], NULL, 0);
	char target[LUNFS_SYMLINK_MAX + 1];
	struct nodeid dir;
	struct vattr a;
	const char *name;
	int rc = n < 1 || n > LUNFS_SYMLINK_MAX ? -EINVAL : parent(p, w[1], &dir, &name);

	for (size_t i = 0; rc == 0 && i < n; i++)
		target[i] = i % 100 == 99 ? '/' : 't';
	target[rc ? 0 : n] = '\0';
	return rc ? rc : vol_symlink(p->v, &p->c, dir, name, target, &a);
}

static int do_fifo(struct pop *p, char **w)
{
	return make(p, w[1], S_IFIFO | 0644, 0, NULL);
}

static int do_socket(struct pop *p, char **w)
{
	return make(p, w[1], S_IFSOCK | 0644, 0, NULL);
}

static dev_t rdev_of(char **w)
{
	return makedev((unsigned)strtoul(w[2], NULL, 0), (unsigned)strtoul(w[3], NULL, 0));
}

static int do_char(struct pop *p, char **w)
{
	return make(p, w[1], S_IFCHR | 0644, rdev_of(w), NULL);
}

static int do_block(struct pop *p, char **w)
{
	return make(p, w[1], S_IFBLK | 0644, rdev_of(w), NULL);
}

/* ---- attributes ------------------------------------------------------------------------------ */

static int set_xattr(struct pop *p, const char *path, const char *name, size_t len)
{
	uint8_t *value = malloc(len + 1);
	struct nodeid id;
	int rc = walk(p, path, &id);

	memset(value, 'v', len + 1);
	if (rc == 0)
		rc = vol_setxattr(p->v, &p->c, id, name, value, len, 0);
	free(value);
	return rc;
}

static int do_xattr(struct pop *p, char **w)
{
	return set_xattr(p, w[1], w[2], strtoull(w[3], NULL, 0));
}

static int do_xattrs(struct pop *p, char **w)
{
	unsigned n = (unsigned)strtoul(w[2], NULL, 0);
	char name[64];
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < n; i++) {
		snprintf(name, sizeof(name), "user.attribute-%04u", i);
		rc = set_xattr(p, w[1], name, 100);
	}
	return rc;
}

/* An access ACL with one named user, as <linux/posix_acl_xattr.h> has it. */
static int do_acl(struct pop *p, char **w)
{
	static const uint8_t acl[] = {
	    2,	0, 0, 0,			 /* version 2 */
	    1,	0, 7, 0, 0xff, 0xff, 0xff, 0xff, /* user::rwx */
	    2,	0, 5, 0, 0xe8, 0x03, 0,	   0,	 /* user:1000:r-x */
	    4,	0, 5, 0, 0xff, 0xff, 0xff, 0xff, /* group::r-x */
	    16, 0, 5, 0, 0xff, 0xff, 0xff, 0xff, /* mask::r-x */
	    32, 0, 5, 0, 0xff, 0xff, 0xff, 0xff, /* other::r-x */
	};
	struct nodeid id;
	int rc = walk(p, w[1], &id);

	return rc ? rc
		  : vol_setxattr(p->v, &p->c, id, "system.posix_acl_access", acl, sizeof(acl), 0);
}

/* ---- ends ------------------------------------------------------------------------------------ */

static int do_unlink(struct pop *p, char **w)
{
	struct nodeid dir;
	const char *name;
	int rc = parent(p, w[1], &dir, &name);

	return rc ? rc : vol_unlink(p->v, &p->c, dir, name);
}

/* Unlinked while it is open: it stays until the last close, which never comes. */
static int do_orphan(struct pop *p, char **w)
{
	struct nodeid id;
	int rc = do_file(p, w);

	if (rc == 0)
		rc = walk(p, w[1], &id);
	if (rc == 0)
		rc = vol_open(p->v, &p->c, id);
	return rc ? rc : do_unlink(p, w);
}

static int do_sync(struct pop *p, char **w)
{
	(void)w;
	return vol_syncfs(p->v);
}

static int do_crash(struct pop *p, char **w)
{
	p->crash = true;
	return do_sync(p, w);
}

static int run_line(struct pop *p, const char *line);

static int make_standard(struct pop *p, bool little)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof(standard) / sizeof(standard[0]); i++)
		rc = run_line(p,
			      little && standard[i].little ? standard[i].little : standard[i].line);
	return rc;
}

static int do_standard(struct pop *p, char **w)
{
	(void)w;
	return make_standard(p, false);
}

static int do_little(struct pop *p, char **w)
{
	(void)w;
	return make_standard(p, true);
}

static const struct verb {
	const char *name;
	int words;
	int (*run)(struct pop *p, char **w);
} verbs[] = {
    {"standard", 1, do_standard}, {"little", 1, do_little},   {"dir", 2, do_dir},
    {"file", 3, do_file},	  {"hole", 3, do_hole},	      {"sparse", 3, do_sparse},
    {"prealloc", 3, do_prealloc}, {"files", 3, do_files},     {"link", 3, do_link},
    {"links", 4, do_links},	  {"symlink", 3, do_symlink}, {"fifo", 2, do_fifo},
    {"socket", 2, do_socket},	  {"char", 4, do_char},	      {"block", 4, do_block},
    {"xattr", 4, do_xattr},	  {"xattrs", 3, do_xattrs},   {"acl", 2, do_acl},
    {"unlink", 2, do_unlink},	  {"orphan", 3, do_orphan},   {"sync", 1, do_sync},
    {"crash", 1, do_crash},
};

static int run_line(struct pop *p, const char *line)
{
	char copy[4096], *rest = copy, *w[MAX_WORDS] = {0}, *one;
	int n = 0, rc = -EINVAL;

	snprintf(copy, sizeof(copy), "%s", line);
	while (n < MAX_WORDS && (one = strsep(&rest, " \t")))
		if (*one)
			w[n++] = one;
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (n == verbs[i].words && strcmp(w[0], verbs[i].name) == 0)
			rc = verbs[i].run(p, w);
	if (rc)
		fprintf(stderr, "lunfs-populate: '%s': %s\n", line, strerror(-rc));
	return rc;
}

int populate_line(struct volume *v, const char *line, bool *crash)
{
	struct pop p = {.v = v};
	int rc = run_line(&p, line);

	*crash = *crash || p.crash;
	return rc;
}
