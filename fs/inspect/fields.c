/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fields of every struct of format.h. Offsets, widths and kinds are taken from the structs
 * themselves; that every byte of each is described exactly once is tested.
 */
#include "inspect/inspect.h"

#include <dirent.h>

#define M(T, m) (((struct T *)0)->m)
/* The kind of a scalar or of one element. Structs have no kind of their own here. */
#define KIND(x)                                                                                    \
	_Generic((x), le16 : INSP_LE16, le32 : INSP_LE32, le64 : INSP_LE64, uint8_t : INSP_U8)
/* clang-format off */
#define F(T, m, ...)                                                                               \
	{.name = #m, .off = offsetof(struct T, m), .width = sizeof(M(T, m)), .count = 1,           \
	 .kind = KIND(M(T, m)), __VA_ARGS__}
#define A(T, m, ...)                                                                               \
	{.name = #m, .off = offsetof(struct T, m), .width = sizeof(M(T, m)[0]),                    \
	 .count = sizeof(M(T, m)) / sizeof(M(T, m)[0]), .array = true, .kind = KIND(M(T, m)[0]),   \
	 __VA_ARGS__}
#define B(T, m, k)                                                                                 \
	{.name = #m, .off = offsetof(struct T, m), .width = sizeof(M(T, m)), .count = 1, .kind = k}
/* Reserved numbers are zero bytes like the others. */
#define Z(T, m) B(T, m, INSP_ZERO)
#define S(T, m, s)                                                                                 \
	{.name = #m, .off = offsetof(struct T, m), .width = sizeof(M(T, m)), .count = 1,           \
	 .kind = INSP_STRUCT, .sub = &s}
#define SA(T, m, s)                                                                                \
	{.name = #m, .off = offsetof(struct T, m), .width = sizeof(M(T, m)[0]),                    \
	 .count = sizeof(M(T, m)) / sizeof(M(T, m)[0]), .array = true, .kind = INSP_STRUCT,        \
	 .sub = &s}
#define HEX .unit = INSP_HEX
#define ADDR .unit = INSP_ADDR
#define OWNER .unit = INSP_OWNER
#define TIME .unit = INSP_TIME
#define ENUM(n) .unit = INSP_ENUM, .names = n
#define FLAGS(n) .unit = INSP_FLAGS, .names = n
#define STRUCT(var, T)                                                                             \
	const struct insp_struct insp_##var = {.name = #T, .size = sizeof(struct T),               \
					       .n = sizeof(var##_f) / sizeof(var##_f[0]),          \
					       .field = var##_f}
#define TAIL(var, T, m, k)                                                                         \
	const struct insp_struct insp_##var = {.name = #T, .size = offsetof(struct T, m),          \
					       .n = sizeof(var##_f) / sizeof(var##_f[0]),          \
					       .field = var##_f, .tail = #m, .tail_kind = k}
/* clang-format on */

/* ---- words ----------------------------------------------------------------------------------- */

static const struct insp_name blk_types[] = {
    {LUNFS_BLK_FREE, "FREE"},	{LUNFS_BLK_ANCHOR, "ANCHOR"},
    {LUNFS_BLK_GROUP, "GROUP"}, {LUNFS_BLK_BITMAP, "BITMAP"},
    {LUNFS_BLK_CHUNK, "CHUNK"}, {LUNFS_BLK_INODE, "INODE"},
    {LUNFS_BLK_BTREE, "BTREE"}, {0, NULL}};
static const struct insp_name ats_types[] = {{LUNFS_ATS_LOCK, "LOCK"},
					     {LUNFS_ATS_SLOT, "SLOT"},
					     {LUNFS_ATS_MAINT, "MAINT"},
					     {LUNFS_ATS_SCRATCH, "SCRATCH"},
					     {0, NULL}};
static const struct insp_name lock_modes[] = {{LUNFS_LOCK_FREE, "FREE"},
					      {LUNFS_LOCK_SHARED, "SHARED"},
					      {LUNFS_LOCK_EXCL, "EXCL"},
					      {LUNFS_LOCK_MULTI, "MULTI"},
					      {0, NULL}};
static const struct insp_name slot_states[] = {{LUNFS_SLOT_FREE, "FREE"},
					       {LUNFS_SLOT_LIVE, "LIVE"},
					       {LUNFS_SLOT_RECOVERING, "RECOVERING"},
					       {0, NULL}};
static const struct insp_name fences[] = {
    {LUNFS_FENCE_NONE, "none"}, {LUNFS_FENCE_TIMER, "timer"},	    {LUNFS_FENCE_PIDFD, "pidfd"},
    {LUNFS_FENCE_PR, "pr"},	{LUNFS_FENCE_WATCHDOG, "watchdog"}, {0, NULL}};
static const struct insp_name slot_flags[] = {{1, "READ_ONLY"}, {0, NULL}};
static const struct insp_name maint_flags[] = {
    {LUNFS_MAINT_MUST_FSCK, "MUST_FSCK"}, {LUNFS_MAINT_REDO, "REDO"}, {0, NULL}};
static const struct insp_name entry_kinds[] = {
    {LUNFS_JENT_IMAGE, "IMAGE"}, {LUNFS_JENT_REVOKE, "REVOKE"}, {0, NULL}};
static const struct insp_name ext_flags[] = {
    {LUNFS_EXT_UNWRITTEN, "UNWRITTEN"}, {LUNFS_EXT_SHARED, "SHARED"}, {0, NULL}};
static const struct insp_name file_types[] = {{DT_FIFO, "FIFO"}, {DT_CHR, "CHR"}, {DT_DIR, "DIR"},
					      {DT_BLK, "BLK"},	 {DT_REG, "REG"}, {DT_LNK, "LNK"},
					      {DT_SOCK, "SOCK"}, {0, NULL}};
static const struct insp_name xattr_spaces[] = {{LUNFS_XATTR_USER, "user"},
						{LUNFS_XATTR_TRUSTED, "trusted"},
						{LUNFS_XATTR_SECURITY, "security"},
						{LUNFS_XATTR_SYSTEM, "system"},
						{0, NULL}};
static const struct insp_name fork_formats[] = {{LUNFS_FORK_EMPTY, "EMPTY"},
						{LUNFS_FORK_INLINE, "INLINE"},
						{LUNFS_FORK_TREE, "TREE"},
						{0, NULL}};
static const struct insp_name inode_flags[] = {
    {LUNFS_INODE_ORPHAN, "ORPHAN"}, {LUNFS_INODE_ORPHAN_DIR, "ORPHAN_DIR"}, {0, NULL}};

/* ---- superblock ------------------------------------------------------------------------------ */

static const struct insp_field sb_f[] = {
    B(lunfs_sb, magic, INSP_TEXT),
    F(lunfs_sb, format_version),
    F(lunfs_sb, crc, HEX),
    B(lunfs_sb, vol_id, INSP_UUID),
    B(lunfs_sb, uuid, INSP_UUID),
    B(lunfs_sb, label, INSP_TEXT),
    F(lunfs_sb, compat, HEX),
    F(lunfs_sb, ro_compat, HEX),
    F(lunfs_sb, incompat, HEX),
    F(lunfs_sb, sb_seq),
    F(lunfs_sb, dev_blks),
    F(lunfs_sb, sector_bytes),
    F(lunfs_sb, cell_blks),
    F(lunfs_sb, payload_off),
    F(lunfs_sb, slots),
    F(lunfs_sb, journals),
    F(lunfs_sb, board_row_bytes),
    F(lunfs_sb, journal_blks),
    F(lunfs_sb, group_blks),
    F(lunfs_sb, group0_blk, ADDR),
    F(lunfs_sb, groups),
    F(lunfs_sb, root_ino, ADDR),
    F(lunfs_sb, end_blk, ADDR),
    F(lunfs_sb, beat_ms),
    F(lunfs_sb, deadline_ms),
    F(lunfs_sb, lease_ms),
    F(lunfs_sb, bitmap_cells),
    B(lunfs_sb, hash_key, INSP_BYTES),
    F(lunfs_sb, mkfs_time_s, TIME),
    B(lunfs_sb, dev_id, INSP_BYTES),
    Z(lunfs_sb, reserved),
    A(lunfs_sb, journal_blk, ADDR),
    A(lunfs_sb, orphan_ino, ADDR),
};
STRUCT(sb, lunfs_sb);

/* ---- sectors changed by compare-and-write ---------------------------------------------------- */

static const struct insp_field ats_hdr_f[] = {
    F(lunfs_ats_hdr, magic, HEX),	 F(lunfs_ats_hdr, type, ENUM(ats_types)),
    Z(lunfs_ats_hdr, reserved0),	 B(lunfs_ats_hdr, vol_id, INSP_UUID),
    F(lunfs_ats_hdr, sector_off, HEX),	 F(lunfs_ats_hdr, image_seq),
    F(lunfs_ats_hdr, setter_nonce, HEX), F(lunfs_ats_hdr, setter_owner, OWNER),
    Z(lunfs_ats_hdr, reserved1),	 F(lunfs_ats_hdr, crc, HEX),
};
STRUCT(ats_hdr, lunfs_ats_hdr);

static const struct insp_field lock_rec_f[] = {
    S(lunfs_lock_rec, hdr, insp_ats_hdr), F(lunfs_lock_rec, mode, ENUM(lock_modes)),
    Z(lunfs_lock_rec, reserved0),	  F(lunfs_lock_rec, possession_seq),
    F(lunfs_lock_rec, owner, OWNER),	  F(lunfs_lock_rec, payload_version),
    F(lunfs_lock_rec, ex_pending, OWNER), B(lunfs_lock_rec, waiters, INSP_BITMAP),
    Z(lunfs_lock_rec, reserved1),	  A(lunfs_lock_rec, entry, .unit = INSP_ENTRY),
};
STRUCT(lock_rec, lunfs_lock_rec);

static const struct insp_field slot_rec_f[] = {
    S(lunfs_slot_rec, hdr, insp_ats_hdr),
    F(lunfs_slot_rec, state, ENUM(slot_states)),
    F(lunfs_slot_rec, slot),
    F(lunfs_slot_rec, fence, ENUM(fences)),
    F(lunfs_slot_rec, flags, FLAGS(slot_flags)),
    F(lunfs_slot_rec, generation),
    F(lunfs_slot_rec, nonce, HEX),
    F(lunfs_slot_rec, beat_seq),
    F(lunfs_slot_rec, beat_ms),
    F(lunfs_slot_rec, deadline_ms),
    F(lunfs_slot_rec, lease_ms),
    F(lunfs_slot_rec, pid),
    F(lunfs_slot_rec, recoverer, OWNER),
    F(lunfs_slot_rec, claim_time_s, TIME),
    B(lunfs_slot_rec, machine_id, INSP_UUID),
    B(lunfs_slot_rec, boot_id, INSP_UUID),
    F(lunfs_slot_rec, pid_start),
    B(lunfs_slot_rec, hostname, INSP_TEXT),
    F(lunfs_slot_rec, pid_ns),
    Z(lunfs_slot_rec, reserved),
};
STRUCT(slot_rec, lunfs_slot_rec);

static const struct insp_field maint_rec_f[] = {
    S(lunfs_maint_rec, hdr, insp_ats_hdr),
    F(lunfs_maint_rec, holder, OWNER),
    F(lunfs_maint_rec, flags, FLAGS(maint_flags)),
    F(lunfs_maint_rec, redo_blks),
    F(lunfs_maint_rec, redo_blk, ADDR),
    F(lunfs_maint_rec, redo_crc, HEX),
    Z(lunfs_maint_rec, reserved),
};
STRUCT(maint_rec, lunfs_maint_rec);

/* ---- request board --------------------------------------------------------------------------- */

static const struct insp_field wish_f[] = {
    F(lunfs_wish, addr, ADDR), F(lunfs_wish, mode, ENUM(lock_modes)),
    F(lunfs_wish, flags),      F(lunfs_wish, cells),
    F(lunfs_wish, seq),
};
STRUCT(wish, lunfs_wish);

static const struct insp_field board_sec_f[] = {
    F(lunfs_board_sec, magic, HEX),
    F(lunfs_board_sec, crc, HEX),
    B(lunfs_board_sec, vol_id, INSP_UUID),
    F(lunfs_board_sec, row),
    F(lunfs_board_sec, column),
    F(lunfs_board_sec, wishes),
    Z(lunfs_board_sec, reserved0),
    F(lunfs_board_sec, asker, OWNER),
    F(lunfs_board_sec, asked, OWNER),
    F(lunfs_board_sec, seq),
    Z(lunfs_board_sec, reserved1),
    SA(lunfs_board_sec, wish, insp_wish),
};
STRUCT(board_sec, lunfs_board_sec);

/* ---- journal, redo log ----------------------------------------------------------------------- */

static const struct insp_field jhdr_f[] = {
    F(lunfs_jhdr, magic, HEX), F(lunfs_jhdr, crc, HEX),	  B(lunfs_jhdr, vol_id, INSP_UUID),
    F(lunfs_jhdr, slot),       Z(lunfs_jhdr, reserved0),  F(lunfs_jhdr, tail_blk),
    F(lunfs_jhdr, generation), F(lunfs_jhdr, nonce, HEX), F(lunfs_jhdr, tail_seq),
    Z(lunfs_jhdr, reserved1),
};
STRUCT(jhdr, lunfs_jhdr);

static const struct insp_field jentry_f[] = {
    F(lunfs_jentry, addr, ADDR),
    F(lunfs_jentry, guard, ADDR),
    F(lunfs_jentry, possession_seq),
    F(lunfs_jentry, version),
    F(lunfs_jentry, kind, ENUM(entry_kinds)),
    F(lunfs_jentry, off_bytes),
    F(lunfs_jentry, len_bytes),
    Z(lunfs_jentry, reserved),
};
STRUCT(jentry, lunfs_jentry);

static const struct insp_field jdesc_f[] = {
    F(lunfs_jdesc, magic, HEX),
    F(lunfs_jdesc, crc, HEX),
    B(lunfs_jdesc, vol_id, INSP_UUID),
    F(lunfs_jdesc, nonce, HEX),
    F(lunfs_jdesc, seq),
    F(lunfs_jdesc, index),
    F(lunfs_jdesc, n_desc),
    F(lunfs_jdesc, n_entries),
    F(lunfs_jdesc, n_blks),
    Z(lunfs_jdesc, reserved),
    SA(lunfs_jdesc, entry, insp_jentry),
};
STRUCT(jdesc, lunfs_jdesc);

static const struct insp_field jcommit_f[] = {
    F(lunfs_jcommit, magic, HEX), F(lunfs_jcommit, crc, HEX),  B(lunfs_jcommit, vol_id, INSP_UUID),
    F(lunfs_jcommit, nonce, HEX), F(lunfs_jcommit, seq),       F(lunfs_jcommit, body_crc, HEX),
    Z(lunfs_jcommit, reserved0),  Z(lunfs_jcommit, reserved1),
};
STRUCT(jcommit, lunfs_jcommit);

static const struct insp_field redo_desc_f[] = {
    F(lunfs_redo_desc, magic, HEX),	   F(lunfs_redo_desc, crc, HEX),
    B(lunfs_redo_desc, vol_id, INSP_UUID), F(lunfs_redo_desc, index),
    F(lunfs_redo_desc, entries),	   Z(lunfs_redo_desc, reserved),
    A(lunfs_redo_desc, entry, HEX),
};
STRUCT(redo_desc, lunfs_redo_desc);

/* ---- payloads -------------------------------------------------------------------------------- */

static const struct insp_field blk_hdr_f[] = {
    F(lunfs_blk_hdr, magic, HEX),  F(lunfs_blk_hdr, type, ENUM(blk_types)),
    Z(lunfs_blk_hdr, reserved0),   B(lunfs_blk_hdr, vol_id, INSP_UUID),
    F(lunfs_blk_hdr, addr, ADDR),  F(lunfs_blk_hdr, version),
    F(lunfs_blk_hdr, guard, ADDR), F(lunfs_blk_hdr, guard_gen, HEX),
    Z(lunfs_blk_hdr, reserved1),   F(lunfs_blk_hdr, crc, HEX),
};
STRUCT(blk_hdr, lunfs_blk_hdr);

static const struct insp_field anchor_pl_f[] = {
    S(lunfs_anchor_pl, hdr, insp_blk_hdr),
    F(lunfs_anchor_pl, value),
    Z(lunfs_anchor_pl, reserved),
};
STRUCT(anchor_pl, lunfs_anchor_pl);

static const struct insp_field group_pl_f[] = {
    S(lunfs_group_pl, hdr, insp_blk_hdr), F(lunfs_group_pl, group),
    F(lunfs_group_pl, first_blk, ADDR),	  F(lunfs_group_pl, nblks),
    F(lunfs_group_pl, free_blks),	  F(lunfs_group_pl, chunks),
    Z(lunfs_group_pl, reserved),	  A(lunfs_group_pl, chunk),
};
STRUCT(group_pl, lunfs_group_pl);

static const struct insp_field bitmap_pl_f[] = {
    S(lunfs_bitmap_pl, hdr, insp_blk_hdr),
    B(lunfs_bitmap_pl, bits, INSP_BITMAP),
};
STRUCT(bitmap_pl, lunfs_bitmap_pl);

static const struct insp_field chunk_pl_f[] = {
    S(lunfs_chunk_pl, hdr, insp_blk_hdr),  F(lunfs_chunk_pl, group),
    F(lunfs_chunk_pl, first_blk, ADDR),	   F(lunfs_chunk_pl, cells),
    F(lunfs_chunk_pl, free_cells),	   Z(lunfs_chunk_pl, reserved0),
    B(lunfs_chunk_pl, valid, INSP_BITMAP), B(lunfs_chunk_pl, used, INSP_BITMAP),
    Z(lunfs_chunk_pl, reserved1),
};
STRUCT(chunk_pl, lunfs_chunk_pl);

struct lunfs_free_pl { /* nothing follows the head of a cell that is not in use */
	struct lunfs_blk_hdr hdr;
	uint8_t rest[LUNFS_PAYLOAD_BYTES - sizeof(struct lunfs_blk_hdr)];
};
static const struct insp_field free_pl_f[] = {
    S(lunfs_free_pl, hdr, insp_blk_hdr),
    B(lunfs_free_pl, rest, INSP_BYTES),
};
STRUCT(free_pl, lunfs_free_pl);

/* ---- trees ----------------------------------------------------------------------------------- */

static const struct insp_field bt_head_f[] = {
    F(lunfs_bt_head, level),
    F(lunfs_bt_head, items),
    F(lunfs_bt_head, body_off),
    F(lunfs_bt_head, dead),
};
STRUCT(bt_head, lunfs_bt_head);

static const struct insp_field bt_leaf_slot_f[] = {
    F(lunfs_bt_leaf_slot, key, HEX),
    F(lunfs_bt_leaf_slot, off),
    F(lunfs_bt_leaf_slot, len),
};
STRUCT(bt_leaf_slot, lunfs_bt_leaf_slot);

static const struct insp_field bt_inner_slot_f[] = {
    F(lunfs_bt_inner_slot, key, HEX),
    F(lunfs_bt_inner_slot, child, ADDR),
};
STRUCT(bt_inner_slot, lunfs_bt_inner_slot);

static const struct insp_field bt_pl_f[] = {
    S(lunfs_bt_pl, hdr, insp_blk_hdr),
    B(lunfs_bt_pl, area, INSP_BYTES),
};
STRUCT(bt_pl, lunfs_bt_pl);

static const struct insp_field extent_f[] = {
    F(lunfs_extent, blk, ADDR),
    F(lunfs_extent, len),
    F(lunfs_extent, flags, FLAGS(ext_flags)),
};
STRUCT(extent, lunfs_extent);

static const struct insp_field dirent_f[] = {
    F(lunfs_dirent, ino, ADDR),
    F(lunfs_dirent, generation, HEX),
    F(lunfs_dirent, type, ENUM(file_types)),
    F(lunfs_dirent, name_len),
};
TAIL(dirent, lunfs_dirent, name, INSP_TEXT);

static const struct insp_field xattr_f[] = {
    F(lunfs_xattr, ns, ENUM(xattr_spaces)),
    F(lunfs_xattr, name_len),
    F(lunfs_xattr, part_len),
    F(lunfs_xattr, value_len),
};
TAIL(xattr, lunfs_xattr, data, INSP_BYTES);

/* ---- inode ----------------------------------------------------------------------------------- */

static const struct insp_field inode_pl_f[] = {
    S(lunfs_inode_pl, hdr, insp_blk_hdr),
    F(lunfs_inode_pl, generation, HEX),
    F(lunfs_inode_pl, mode, .unit = INSP_MODE),
    F(lunfs_inode_pl, nlink),
    F(lunfs_inode_pl, uid),
    F(lunfs_inode_pl, gid),
    F(lunfs_inode_pl, size),
    F(lunfs_inode_pl, blks),
    F(lunfs_inode_pl, atime_s, TIME),
    F(lunfs_inode_pl, mtime_s, TIME),
    F(lunfs_inode_pl, ctime_s, TIME),
    F(lunfs_inode_pl, btime_s, TIME),
    F(lunfs_inode_pl, atime_ns),
    F(lunfs_inode_pl, mtime_ns),
    F(lunfs_inode_pl, ctime_ns),
    F(lunfs_inode_pl, btime_ns),
    F(lunfs_inode_pl, rdev_major),
    F(lunfs_inode_pl, rdev_minor),
    F(lunfs_inode_pl, parent, ADDR),
    F(lunfs_inode_pl, flags, FLAGS(inode_flags)),
    F(lunfs_inode_pl, orphan_slot),
    F(lunfs_inode_pl, xattr_format, ENUM(fork_formats)),
    F(lunfs_inode_pl, data_format, ENUM(fork_formats)),
    Z(lunfs_inode_pl, reserved),
    B(lunfs_inode_pl, xattr_fork, INSP_BYTES),
    B(lunfs_inode_pl, data_fork, INSP_BYTES),
};
STRUCT(inode_pl, lunfs_inode_pl);

const struct insp_struct *const insp_structs[] = {&insp_sb,
						  &insp_ats_hdr,
						  &insp_lock_rec,
						  &insp_slot_rec,
						  &insp_maint_rec,
						  &insp_wish,
						  &insp_board_sec,
						  &insp_jhdr,
						  &insp_jentry,
						  &insp_jdesc,
						  &insp_jcommit,
						  &insp_redo_desc,
						  &insp_blk_hdr,
						  &insp_anchor_pl,
						  &insp_group_pl,
						  &insp_bitmap_pl,
						  &insp_chunk_pl,
						  &insp_bt_head,
						  &insp_bt_pl,
						  &insp_bt_leaf_slot,
						  &insp_bt_inner_slot,
						  &insp_extent,
						  &insp_dirent,
						  &insp_xattr,
						  &insp_inode_pl,
						  NULL};

/* ---- unknown bytes --------------------------------------------------------------------------- */

static const struct insp_field raw_f[] = {
    {.name = "u8", .width = 1, .count = LUNFS_BLOCK_BYTES, .array = true, .kind = INSP_U8},
    {.name = "le16", .width = 2, .count = LUNFS_BLOCK_BYTES / 2, .array = true, .kind = INSP_LE16},
    {.name = "le32", .width = 4, .count = LUNFS_BLOCK_BYTES / 4, .array = true, .kind = INSP_LE32},
    {.name = "le64", .width = 8, .count = LUNFS_BLOCK_BYTES / 8, .array = true, .kind = INSP_LE64},
};
const struct insp_struct insp_raw = {
    .name = "block", .size = LUNFS_BLOCK_BYTES, .n = 4, .field = raw_f};
