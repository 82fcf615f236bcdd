/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every decoder of raw bytes by itself. An input: one byte of what is decoded, one of the example
 * to begin with, one of flags, then changes to the example (where: 2 bytes, how many bytes, these).
 * Checksum, magic and volume id are made right afterwards unless a flag says otherwise. What a
 * decoder accepts is then used as the callers do: items of nodes are read, inserted, moved.
 *
 * Answers of SCSI devices and ACLs have no example: all bytes are theirs.
 */
#include "fuzz.h"

#include "base/crc.h"
#include "base/text.h"
#include "cli/image.h"
#include "cluster/host_impl.h"
#include "cluster/lock_impl.h"
#include "dev/scsi_pr.h"
#include "node/btree.h"

#include <stdlib.h>
#include <string.h>

#define NO_SEAL 0x1u
#define IMAGE_SCRAMBLED 0x2u

struct example {
	struct insp_place p;
	uint8_t bytes[LUNFS_BLOCK_BYTES];
};

struct kind {
	const char *const *names; /* of the examples; NULL: there are none */
	void (*decode)(struct bed *b, const struct example *e, uint8_t *buf, size_t len);
};

/* ---- structures ------------------------------------------------------------------------------ */

static void decode_super(struct bed *b, const struct example *e, uint8_t *buf, size_t len)
{
	uint64_t unknown = 0;
	uint8_t *back;
	struct geo g;

	(void)b, (void)e, (void)len;
	if (sb_decode(buf, &g, &unknown))
		return;
	FUZZ_CHECK(g.groups && g.end_blk <= g.dev_blks && g.group0_blk < g.end_blk,
		   "a superblock without groups is accepted");
	for (uint64_t i = 0; i < g.groups && i < 8; i++)
		FUZZ_CHECK(geo_group_blk(&g, i) + geo_group_len(&g, i) <= g.dev_blks,
			   "group %llu lies behind the volume", (unsigned long long)i);
	blk_range_ok(&g, g.root_ino, g.cell_blks);
	back = calloc(1, LUNFS_BLOCK_BYTES);
	sb_encode(&g, back);
	FUZZ_CHECK(sb_decode(back, &g, &unknown) == 0, "what was decoded is not accepted again");
	free(back);
}

static void decode_slot(struct bed *b, const struct example *e, uint8_t *buf, size_t len)
{
	char label[HOST_LABEL_BYTES];
	struct host_info hi;

	(void)len;
	if (slot_decode(&b->geo, buf, (unsigned)e->p.index, &hi))
		return;
	host_label(&hi, label);
	FUZZ_CHECK(hi.slot == e->p.index, "slot %u is accepted elsewhere", hi.slot);
	FUZZ_CHECK(hi.state == LUNFS_SLOT_FREE || hi.lease_ms, "a lease of no time is accepted");
}

static void decode_maint(struct bed *b, const struct example *e, uint8_t *buf, size_t len)
{
	struct maint_info mi;

	(void)e, (void)len;
	if (maint_decode(&b->geo, buf, &mi) == 0)
		FUZZ_CHECK(!(mi.flags & LUNFS_MAINT_REDO) ||
			       mi.redo_blk + mi.redo_blks <= b->geo.dev_blks,
			   "a redo log behind the volume is accepted");
}

static void decode_lock(struct bed *b, const struct example *e, uint8_t *buf, size_t len)
{
	uint64_t addr = e->p.off_bytes / LUNFS_BLOCK_BYTES;
	struct lunfs_lock_rec rec;

	(void)len;
	if (lock_rec_decode(&b->geo, buf, addr, &rec) == 0)
		FUZZ_CHECK(le16_get(rec.mode) <= LUNFS_LOCK_MULTI, "mode %u is accepted",
			   le16_get(rec.mode));
}

static void decode_board(struct bed *b, const struct example *e, uint8_t *buf, size_t len)
{
	uint64_t at = e->p.off_bytes - LUNFS_BOARD_OFF;
	struct lunfs_board_sec sec;

	(void)len;
	if (board_decode(&b->geo, buf, (unsigned)(at / b->geo.board_row_bytes),
			 (unsigned)(at % b->geo.board_row_bytes / b->geo.sector_bytes), &sec) == 0)
		FUZZ_CHECK(le16_get(sec.wishes) <= LUNFS_WISHES, "%u wishes are accepted",
			   le16_get(sec.wishes));
}

static void decode_group(struct bed *b, const struct example *e, uint8_t *buf, size_t len)
{
	struct group_info gi;

	(void)len;
	if (group_decode(&b->geo, buf, 0, &gi) || e->p.type != LUNFS_BLK_GROUP)
		return;
	FUZZ_CHECK(gi.free_blks <= gi.nblks, "more is free than there is");
	for (unsigned w = 0; w < LUNFS_GROUP_WINDOWS; w++)
		FUZZ_CHECK(gi.chunk[w] <= LUNFS_CHUNK_CELLS, "a chunk has %u cells", gi.chunk[w]);
}

static void decode_chunk(struct bed *b, const struct example *e, uint8_t *buf, size_t len)
{
	struct chunk_info ci;

	(void)len;
	if (chunk_decode(&b->geo, buf, e->p.addr, &ci) == 0)
		FUZZ_CHECK(ci.cells <= LUNFS_CHUNK_CELLS && ci.free_cells <= ci.cells,
			   "%u of %u cells are free", ci.free_cells, ci.cells);
}

/* Nothing beyond the structure itself: insp_check() and image_clean() look at all of them. */
static void decode_other(struct bed *b, const struct example *e, uint8_t *buf, size_t len)
{
	(void)len;
	if (e->p.seal == INSP_SEAL_BLK)
		blk_check(&b->geo, buf, e->p.type, e->p.addr);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static size_t bytes_of(const uint8_t *area, unsigned from, unsigned n)
{
	size_t sum = 0, len;

	while (n--) {
		const uint8_t *body = leaf_body(area, from + n, &len);

		for (size_t i = 0; i < len; i++)
			sum += body[i];
	}
	return sum;
}

static void change_leaf(uint8_t *area, size_t size)
{
	static const uint8_t body[100];
	uint8_t right[BT_AREA_BYTES] = {0}, bigger[BT_AREA_BYTES] = {0};
	unsigned n = node_items(area);
	struct bt_range all = {0, UINT64_MAX};

	if (size < sizeof(bigger)) {
		node_move(bigger, sizeof(bigger), area, size);
		FUZZ_CHECK(node_check(NULL, bigger, sizeof(bigger), 0, all) == 0,
			   "a leaf that was moved fails its check");
	}
	if (leaf_fits(area, size, sizeof(body)))
		leaf_insert(area, size, n, UINT64_MAX, body, sizeof(body));
	else if (n > 1 && size == sizeof(right))
		leaf_split(area, size, right, n, UINT64_MAX, body, sizeof(body), BT_SPLIT_EVEN);
	FUZZ_CHECK(node_check(NULL, area, size, 0, all) == 0, "a leaf fails after an insertion");
	while (node_items(area))
		leaf_remove(area, size, node_items(area) / 2);
	FUZZ_CHECK(node_check(NULL, area, size, 0, all) == 0, "an empty leaf fails its check");
}

static void use_node(struct bed *b, uint8_t *area, size_t size)
{
	struct bt_range all = {0, UINT64_MAX};
	volatile size_t sum = 0;
	unsigned n;

	if (node_check(&b->geo, area, size, -1, all))
		return;
	n = node_items(area);
	if (node_level(area)) {
		for (unsigned i = 0; i < n; i++)
			sum += inner_child(area, i);
		FUZZ_CHECK(inner_find(area, UINT64_MAX) < n, "a key leads to no child");
		while (node_items(area) > 1)
			inner_remove(area, node_items(area) / 2);
		return;
	}
	sum += bytes_of(area, 0, n);
	FUZZ_CHECK(leaf_find(area, UINT64_MAX) <= n, "a key leads behind the leaf");
	if (n && leaf_key(area, n - 1) != UINT64_MAX)
		change_leaf(area, size);
}

static void decode_node(struct bed *b, const struct example *e, uint8_t *buf, size_t len)
{
	struct lunfs_bt_pl *p = (void *)buf;

	(void)len;
	if (blk_check(&b->geo, buf, LUNFS_BLK_BTREE, e->p.addr) == 0)
		use_node(b, p->area, sizeof(p->area));
}

static void decode_inode(struct bed *b, const struct example *e, uint8_t *buf, size_t len)
{
	struct lunfs_inode_pl *p = (void *)buf;
	struct inode i;

	(void)len;
	if (inode_decode(&b->geo, buf, e->p.addr, &i))
		return;
	FUZZ_CHECK(i.ino == e->p.addr, "an inode is accepted elsewhere");
	if (i.data_format == LUNFS_FORK_TREE)
		use_node(b, p->data_fork, sizeof(p->data_fork));
	if (i.xattr_format == LUNFS_FORK_TREE)
		use_node(b, p->xattr_fork, sizeof(p->xattr_fork));
}

/* ---- bytes of others ------------------------------------------------------------------------- */

static void decode_acl(struct bed *b, const struct example *e, uint8_t *buf, size_t len)
{
	uint32_t mode = 0755;
	uint8_t *access = malloc(len + 1);
	bool minimal;

	(void)b, (void)e;
	if (acl_check(buf, len) == 0) {
		FUZZ_CHECK(acl_to_mode(buf, len, &mode, &minimal) == 0, "no mode of an ACL");
		FUZZ_CHECK(acl_inherit(buf, len, &mode, access, &minimal) == 0, "no heir");
		FUZZ_CHECK(acl_check(access, len) == 0, "what is inherited is no ACL");
		FUZZ_CHECK(acl_chmod(buf, len, 0640) == 0 && acl_check(buf, len) == 0,
			   "after chmod it is no ACL");
	}
	free(access);
}

static void decode_scsi(struct bed *b, const struct example *e, uint8_t *buf, size_t len)
{
	struct sbc_sense_key k = sbc_sense_decode(buf, len);
	uint8_t designator[64] = {0};
	struct sbc_capacity cap;
	struct sbc_limits lim;
	char product[40];

	(void)b, (void)e;
	FUZZ_CHECK(sbc_outcome(len ? buf[0] : 2, &k) <= 1, "an outcome is no errno");
	sbc_cause(len ? buf[0] : 2, &k);
	if (sbc_capacity_decode(buf, len, &cap))
		FUZZ_CHECK((cap.sector_bytes == 512 || cap.sector_bytes == 4096) &&
			       cap.size_bytes % cap.sector_bytes == 0,
			   "a device of %llu bytes in sectors of %u",
			   (unsigned long long)cap.size_bytes, cap.sector_bytes);
	sbc_limits_decode(buf, len, &lim);
	sbc_write_protected(buf, len);
	sbc_thin_unmaps(buf, len);
	sbc_product(buf, len, product, sizeof(product));
	FUZZ_CHECK(strnlen(product, sizeof(product)) < sizeof(product), "a name has no end");
	sbc_designator(buf, len, designator, sizeof(designator));
}

static void decode_pr(struct bed *b, const struct example *e, uint8_t *buf, size_t len)
{
	static uint64_t keys[DEV_PR_KEYS_MAX];
	struct dev_pr_state st = {.keys = keys};
	struct spr_caps caps;

	(void)b, (void)e;
	if (spr_decode_keys(buf, len, &st) == 0)
		FUZZ_CHECK(st.nkeys <= DEV_PR_KEYS_MAX && st.nkeys * 8 <= len, "%zu keys",
			   st.nkeys);
	spr_decode_reservation(buf, len, &st);
	spr_decode_caps(buf, len, &caps);
}

static void decode_text(struct bed *b, const struct example *e, uint8_t *buf, size_t len)
{
	char *s = strndup((const char *)buf, len), *plain = text_plain_dup(s);

	(void)b, (void)e;
	FUZZ_CHECK(text_is_plain(plain), "what was made plain is not");
	FUZZ_CHECK(!text_is_plain(s) || strcmp(s, plain) == 0, "plain text was changed");
	free(plain);
	free(s);
}

/* ---- the table ------------------------------------------------------------------------------- */

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})

static const struct kind kinds[] = {
    {NAMES("superblock", "superblock:1"), decode_super},
    {NAMES("slot:0", "slot:1", "slot:2"), decode_slot},
    {NAMES("maint"), decode_maint},
    {NAMES("lock:inode:/frag", "lock:anchor:volume", "lock:group:0"), decode_lock},
    {NAMES("board:0,0", "board:0,1", "board:1,0"), decode_board},
    {NAMES("group:0"), decode_group},
    {NAMES("chunk:0,0"), decode_chunk},
    {NAMES("inode:root", "inode:/frag", "inode:/xattr-big", "inode:/xattr-small", "inode:/inline",
	   "inode:/link-short", "inode:/link-long", "inode:/many", "inode:/acl", "inode:/fifo",
	   "inode:/char", "inode:/hole", "inode:/empty"),
     decode_inode},
    {NAMES("extent:/frag,5", "dirent:/many/file-000050", "dirent:/many/file-000000",
	   "xattr:/xattr-big,user.big,3", "xattr:/xattr-big,user.attribute-0007",
	   "piece:/link-long,1", "extent:/frag,77"),
     decode_node},
    {NAMES("journal:0", "journal:0:0", "journal:0:0:commit", "journal:1", "bitmap:0,0",
	   "anchor:volume", "anchor:watermark"),
     decode_other},
    {NULL, decode_acl},
    {NULL, decode_scsi},
    {NULL, decode_pr},
    {NULL, decode_text},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* ---- a run ----------------------------------------------------------------------------------- */

static struct example *example_of(struct bed *b, const char *name)
{
	static struct example *seen[BASES][256];
	static const char *seen_name[BASES][256];
	struct example **at;
	char why[512];
	unsigned i = 0;

	while (seen_name[b->kind][i] && seen_name[b->kind][i] != name)
		i++;
	at = &seen[b->kind][i];
	if (seen_name[b->kind][i])
		return *at;
	seen_name[b->kind][i] = name;
	*at = calloc(1, sizeof(**at));
	if (insp_find(&b->in, name, &(*at)->p, why, sizeof(why)) ||
	    insp_read(&b->in, (*at)->p.off_bytes, (*at)->p.len_bytes, (*at)->bytes)) {
		free(*at);
		*at = NULL;
	}
	return *at;
}

static void change(uint8_t *buf, size_t len, const uint8_t *in, size_t n)
{
	while (n > 3) {
		size_t at = (size_t)(in[0] | in[1] << 8) % len, some = in[2] % 32u + 1u;

		n -= 3;
		in += 3;
		some = some < n ? some : n;
		some = some < len - at ? some : len - at;
		memcpy(buf + at, in, some);
		in += some;
		n -= some;
	}
}

static void looked_at(void *ctx, const char *name, bool ok, const char *text)
{
	(void)ctx;
	FUZZ_CHECK(name[0] && (ok || text[0]), "a check fails without a word");
}

/* A right checksum stays right, whatever is taken out. */
static void clean(struct bed *b, const struct example *e, uint8_t *buf, unsigned flags)
{
	struct image im = {.geo = b->geo, .scramble = flags & IMAGE_SCRAMBLED, .seed = 3};
	bool ok = insp_seal_ok(&e->p, buf);

	im.from = im.to = (struct insp){b->look, &im.geo};
	if (e->p.seal == INSP_SEAL_BLK)
		image_clean(&im, e->p.addr, true, buf);
	else if (e->p.seal == INSP_SEAL_SB)
		image_clean_super(&im, buf);
	else if (e->p.seal == INSP_SEAL_ATS && e->p.type == LUNFS_ATS_SLOT)
		image_clean_slot(&im, (unsigned)e->p.index, buf);
	FUZZ_CHECK(insp_seal_ok(&e->p, buf) == ok, "%s: its checksum is another afterwards",
		   e->p.name);
	free(im.dirs.v);
	free(im.leaves.v);
}

static void decode_example(struct bed *b, const struct kind *k, const uint8_t *in, size_t n)
{
	struct insp_checks to = {.check = looked_at};
	uint8_t *buf, *copy;
	const struct example *e;
	unsigned names = 0;

	while (k->names[names])
		names++;
	e = example_of(b, k->names[in[0] % names]);
	if (!e)
		return;
	buf = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	copy = malloc(e->p.len_bytes); /* reads behind it are noticed */
	memcpy(buf, e->bytes, e->p.len_bytes);
	change(buf, e->p.len_bytes, in + 2, n - 2);
	if (!(in[1] & NO_SEAL))
		insp_seal(&e->p, buf);
	memcpy(copy, buf, e->p.len_bytes);
	insp_check(&b->in, &e->p, copy, &to);
	clean(b, e, copy, in[1]);
	k->decode(b, e, buf, e->p.len_bytes);
	free(copy);
	free(buf);
}

static void run(struct bed *b, struct clock *clk)
{
	const uint8_t *in = b->input;
	size_t n = b->input_bytes;
	const struct kind *k;
	uint8_t *copy;

	(void)clk;
	if (n < 3)
		return;
	k = &kinds[in[0] % KINDS];
	if (k->names) {
		decode_example(b, k, in + 1, n - 1);
		return;
	}
	copy = malloc(n); /* its end is the end of the answer */
	memcpy(copy, in + 1, n - 1);
	copy = realloc(copy, n - 1);
	k->decode(b, NULL, copy, n - 1);
	free(copy);
}

const struct fuzz_target fuzz_target = {.bases = 1u << BASE_TREE | 1u << BASE_DEAD | 1u << BASE_4K,
					.raw = true,
					.pure = true,
					.run = run};
