/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The on-disk format, version 1: every struct that stands on a lunfs volume, and nothing else.
 * FORMAT.md beside this file is the normative text; the static assertions below keep the two and
 * the compiler of one mind. All integers are little-endian; all reserved bytes are zero and
 * decoders check that they are.
 *
 * Units: a *block* is 4096 bytes. An address ("addr", "blk") counts blocks from byte 0 of the
 * device. A *cell* is a lock sector followed by a payload of 3584 bytes; it is named by the
 * address of its first block.
 */
#ifndef LUNFS_FORMAT_H
#define LUNFS_FORMAT_H

#include <assert.h>
#include <lunfs/le.h>
#include <stddef.h>
#include <stdint.h>

#define LUNFS_BLOCK_BYTES 4096u
#define LUNFS_PAYLOAD_BYTES 3584u
#define LUNFS_COUNT_MAX (1ull << 62) /* of sequence numbers and versions: more is damage */
#define LUNFS_FORMAT_VERSION 1u

/* Fixed places, in bytes from the start of the device. */
#define LUNFS_SB_OFF (64ull << 10)
#define LUNFS_MAINT_OFF (1ull << 20)			/* maintenance sector, every geometry */
#define LUNFS_ANCHOR_OFF ((1ull << 20) + (64ull << 10)) /* anchor cell i at + i * 8192 */
#define LUNFS_ANCHOR_STRIDE 8192ull
#define LUNFS_SCRATCH_OFF ((1ull << 20) + (512ull << 10)) /* device-check scratch area */
#define LUNFS_SCRATCH_BYTES (512ull << 10)
#define LUNFS_HOST_TABLE_OFF (2ull << 20) /* slot i at + i * 4096 */
#define LUNFS_SLOT_STRIDE 4096ull
#define LUNFS_BOARD_OFF (3ull << 20)
#define LUNFS_TAIL_BYTES (64ull << 10) /* the last whole 64 KiB begin with a superblock copy */

enum lunfs_anchor {
	LUNFS_ANCHOR_VOLUME = 0,    /* the volume lock */
	LUNFS_ANCHOR_RENAME = 1,    /* the rename lock */
	LUNFS_ANCHOR_WATERMARK = 2, /* how many groups are initialised */
	LUNFS_ANCHORS = 3,
};

#define LUNFS_MAX_SLOTS 128u /* slots that may own a journal and locks */
#define LUNFS_SPARE_SLOTS 2u /* journal-less slots, numbered slots .. slots + 1 */
#define LUNFS_NO_SLOT 0xffffu
#define LUNFS_MIN_BYTES (64ull << 20)
#define LUNFS_NAME_MAX 255u
#define LUNFS_LABEL_BYTES 64u
#define LUNFS_HOSTNAME_BYTES 64u

/*
 * Owner id: (generation << 8) | slot. Generations start at 1 and only grow, so 0 is "nobody".
 */
#define LUNFS_OWNER(gen, slot) ((uint64_t)(gen) << 8 | (uint64_t)(slot))
#define LUNFS_OWNER_SLOT(owner) ((unsigned)((owner)&0xff))
#define LUNFS_OWNER_GEN(owner) ((uint64_t)(owner) >> 8)
#define LUNFS_GEN_LIMIT (1ull << 56) /* of generations: what an owner id has room for */

/* ---- magics and block types ------------------------------------------------------------- */

#define LUNFS_SB_MAGIC "LUNFSVOL"	/* 8 bytes, no terminator */
#define LUNFS_BLK_MAGIC 0x4b4c424cu	/* "LBLK" */
#define LUNFS_ATS_MAGIC 0x5354414cu	/* "LATS" */
#define LUNFS_BOARD_MAGIC 0x44524f42u	/* "BORD" */
#define LUNFS_JHDR_MAGIC 0x52444a4cu	/* "LJDR" */
#define LUNFS_JDESC_MAGIC 0x53444a4cu	/* "LJDS" */
#define LUNFS_JCOMMIT_MAGIC 0x4d434a4cu /* "LJCM" */

enum lunfs_blk_type {			  /* blk_hdr.type: what a cell's payload serves as */
		      LUNFS_BLK_FREE = 1, /* a cell of a chunk that is not in use */
		      LUNFS_BLK_ANCHOR = 2,
		      LUNFS_BLK_GROUP = 3,
		      LUNFS_BLK_BITMAP = 4,
		      LUNFS_BLK_CHUNK = 5,
		      LUNFS_BLK_INODE = 6,
		      LUNFS_BLK_BTREE = 7, /* node of a directory, extent or xattr tree */
};

enum lunfs_ats_type { /* ats_hdr.type */
		      LUNFS_ATS_LOCK = 1,
		      LUNFS_ATS_SLOT = 2,
		      LUNFS_ATS_MAINT = 3,
		      LUNFS_ATS_SCRATCH = 4,
};

/* ---- superblock: 4096 bytes at 64 KiB ---------------------------------------------------- */

#define LUNFS_INCOMPAT_IMAGE 1ull /* an image of the metadata alone: never mounted */
#define LUNFS_INCOMPAT_KNOWN LUNFS_INCOMPAT_IMAGE
#define LUNFS_RO_COMPAT_KNOWN 0ull

struct lunfs_sb {
	uint8_t magic[8];	 /* 0x000 LUNFS_SB_MAGIC */
	le32 format_version;	 /* 0x008 */
	le32 crc;		 /* 0x00c CRC32C of 4096 bytes with this field zero */
	uint8_t vol_id[16];	 /* 0x010 internal volume id, never changes */
	uint8_t uuid[16];	 /* 0x020 user-visible UUID */
	uint8_t label[64];	 /* 0x030 UTF-8, zero padded */
	le64 compat;		 /* 0x070 feature words */
	le64 ro_compat;		 /* 0x078 */
	le64 incompat;		 /* 0x080 */
	le64 sb_seq;		 /* 0x088 +1 at every rewrite; the highest valid copy wins */
	le64 dev_blks;		 /* 0x090 size of the volume, blocks */
	le32 sector_bytes;	 /* 0x098 512 or 4096: the unit of ATS */
	le32 cell_blks;		 /* 0x09c 1 or 2 */
	le32 payload_off;	 /* 0x0a0 512 or 4096: payload's offset in its cell, bytes */
	le16 slots;		 /* 0x0a4 slots in the host table without the spare ones */
	le16 journals;		 /* 0x0a6 how many of journal_blk[] are set */
	le64 board_row_bytes;	 /* 0x0a8 row r of the board at LUNFS_BOARD_OFF + r * this */
	le32 journal_blks;	 /* 0x0b0 size of each journal */
	le32 group_blks;	 /* 0x0b4 blocks a group; the last group may be shorter */
	le64 group0_blk;	 /* 0x0b8 address of group 0 */
	le64 groups;		 /* 0x0c0 number of groups */
	le64 root_ino;		 /* 0x0c8 address of the root directory's cell */
	le64 end_blk;		 /* 0x0d0 first block after the last group */
	le32 beat_ms;		 /* 0x0d8 timing defaults of this volume */
	le32 deadline_ms;	 /* 0x0dc */
	le32 lease_ms;		 /* 0x0e0 */
	le32 bitmap_cells;	 /* 0x0e4 bitmap cells in each group */
	uint8_t hash_key[16];	 /* 0x0e8 SipHash-2-4 key of directory and xattr names */
	le64 mkfs_time_s;	 /* 0x0f8 seconds since the epoch */
	uint8_t dev_id[64];	 /* 0x100 LUN identity (VPD 0x83 designator) or zero, zero padded */
	uint8_t reserved[0x6c0]; /* 0x140 */
	le64 journal_blk[LUNFS_MAX_SLOTS]; /* 0x800 address of each slot's journal, 0 = none */
	le64 orphan_ino[LUNFS_MAX_SLOTS];  /* 0xc00 each journalled slot's orphan directory */
};
static_assert(offsetof(struct lunfs_sb, compat) == 0x70, "sb.compat");
static_assert(offsetof(struct lunfs_sb, sector_bytes) == 0x98, "sb.sector_bytes");
static_assert(offsetof(struct lunfs_sb, hash_key) == 0xe8, "sb.hash_key");
static_assert(offsetof(struct lunfs_sb, dev_id) == 0x100, "sb.dev_id");
static_assert(offsetof(struct lunfs_sb, journal_blk) == 0x800, "sb.journal_blk");
static_assert(sizeof(struct lunfs_sb) == 4096, "sb");

/* ---- sectors changed by ATS: common head -------------------------------------------------- */

/*
 * (setter_nonce, image_seq) is unique among all images ever set: the nonce is random for each
 * incarnation, image_seq grows with every image of this sector. The rest of a 4096-byte sector
 * after the 512 bytes of a record is zero.
 */
struct lunfs_ats_hdr {
	le32 magic;	    /* 0x00 LUNFS_ATS_MAGIC */
	le16 type;	    /* 0x04 enum lunfs_ats_type */
	le16 reserved0;	    /* 0x06 */
	uint8_t vol_id[16]; /* 0x08 */
	le64 sector_off;    /* 0x18 own place: byte offset on the device */
	le64 image_seq;	    /* 0x20 previous image's + 1 */
	le64 setter_nonce;  /* 0x28 incarnation nonce of whoever set this image */
	le64 setter_owner;  /* 0x30 its owner id, 0 for mkfs and fsck */
	le32 reserved1;	    /* 0x38 */
	le32 crc;	    /* 0x3c CRC32C of the record's 512 bytes with this field zero */
};
static_assert(sizeof(struct lunfs_ats_hdr) == 0x40, "ats_hdr");

enum lunfs_lock_mode {
	LUNFS_LOCK_FREE = 0,
	LUNFS_LOCK_SHARED = 1,
	LUNFS_LOCK_EXCL = 2,
	LUNFS_LOCK_MULTI = 3,
};

#define LUNFS_ENT_TAG_MASK 0x3fffu /* generation & mask */
#define LUNFS_ENT_SHARED 0x4000u
#define LUNFS_ENT_OPEN 0x8000u

struct lunfs_lock_rec {
	struct lunfs_ats_hdr hdr; /* 0x000 */
	le16 mode;		  /* 0x040 enum lunfs_lock_mode */
	uint8_t reserved0[6];	  /* 0x042 */
	le64 possession_seq;	  /* 0x048 +1 when a possession begins */
	le64 owner;		  /* 0x050 owner id of the exclusive holder, 0 if none */
	le64 payload_version;	 /* 0x058 payload's version at last release, downgrade, hand-over */
	le64 ex_pending;	 /* 0x060 owner id waiting for exclusive, 0 if none */
	uint8_t waiters[16];	 /* 0x068 bit a slot: waits; the holder's own: they are a queue */
	uint8_t reserved1[0x88]; /* 0x078 */
	le16 entry[LUNFS_MAX_SLOTS]; /* 0x100 a host each: tag, SHARED, OPEN */
};
static_assert(offsetof(struct lunfs_lock_rec, waiters) == 0x68, "lock_rec.waiters");
static_assert(offsetof(struct lunfs_lock_rec, entry) == 0x100, "lock_rec.entry");
static_assert(sizeof(struct lunfs_lock_rec) == 512, "lock_rec");

enum lunfs_slot_state {
	LUNFS_SLOT_FREE = 0,
	LUNFS_SLOT_LIVE = 1,
	LUNFS_SLOT_RECOVERING = 2,
};

enum lunfs_fence_mode {
	LUNFS_FENCE_NONE = 0,
	LUNFS_FENCE_TIMER = 1,
	LUNFS_FENCE_PIDFD = 2, /* file backend: kill and wait, one machine */
	LUNFS_FENCE_PR = 3,
	LUNFS_FENCE_WATCHDOG = 4,
};

struct lunfs_slot_rec {
	struct lunfs_ats_hdr hdr; /* 0x000 */
	le16 state;		  /* 0x040 enum lunfs_slot_state */
	le16 slot;		  /* 0x042 own index */
	le16 fence;		  /* 0x044 enum lunfs_fence_mode */
	le16 flags;		  /* 0x046 0; bit 0: mounted read-only */
	le64 generation;	  /* 0x048 +1 at every claim */
	le64 nonce;		  /* 0x050 incarnation nonce of the owner of `generation` */
	le64 beat_seq;		  /* 0x058 +1 at every beat */
	le32 beat_ms;		  /* 0x060 timing this owner uses */
	le32 deadline_ms;	  /* 0x064 */
	le32 lease_ms;		  /* 0x068 */
	le32 pid;		  /* 0x06c process id in its pid namespace */
	le64 recoverer;		  /* 0x070 owner id of the recovering host while RECOVERING */
	le64 claim_time_s;	  /* 0x078 seconds since the epoch, for people only */
	uint8_t machine_id[16];	  /* 0x080 /etc/machine-id, for same-machine proofs */
	uint8_t boot_id[16];	  /* 0x090 /proc/sys/kernel/random/boot_id */
	le64 pid_start; /* 0x0a0 start time of pid in clock ticks (proc_pid_stat field 22) */
	uint8_t hostname[LUNFS_HOSTNAME_BYTES]; /* 0x0a8 zero padded */
	le64 pid_ns;		 /* 0x0e8 inode number of pid's namespace, 0 = unknown */
	uint8_t reserved[0x110]; /* 0x0f0 */
};
static_assert(offsetof(struct lunfs_slot_rec, hostname) == 0xa8, "slot_rec.hostname");
static_assert(sizeof(struct lunfs_slot_rec) == 512, "slot_rec");

#define LUNFS_MAINT_MUST_FSCK 0x1u /* an unfinished repair */
#define LUNFS_MAINT_REDO 0x2u	   /* its changes stand in a redo log */

struct lunfs_maint_rec {
	struct lunfs_ats_hdr hdr; /* 0x000 */
	le64 holder;		  /* 0x040 owner id of the slot fsck beats in, 0 = nobody */
	le32 flags;		  /* 0x048 LUNFS_MAINT_* */
	le32 redo_blks;		  /* 0x04c with LUNFS_MAINT_REDO, else 0: length of the log */
	le64 redo_blk;		  /* 0x050 its first block, inside a journal region */
	le32 redo_crc;		  /* 0x058 CRC32C of the log */
	uint8_t reserved[0x1a4];  /* 0x05c */
};
static_assert(sizeof(struct lunfs_maint_rec) == 512, "maint_rec");

/* ---- request board: one sector a (owner slot = row, requester slot = column) --------------- */

#define LUNFS_WISHES 16u

struct lunfs_wish {
	le64 addr;  /* 0x00 lock's cell */
	le16 mode;  /* 0x08 enum lunfs_lock_mode wanted */
	le16 flags; /* 0x0a 0 */
	le32 cells; /* 0x0c number of cells in the range, 1 = just addr */
	le64 seq;   /* 0x10 requester's wish counter: oldest first */
};
static_assert(sizeof(struct lunfs_wish) == 24, "wish");

struct lunfs_board_sec {
	le32 magic;			      /* 0x00 LUNFS_BOARD_MAGIC */
	le32 crc;			      /* 0x04 CRC32C of 512 bytes with this field zero */
	uint8_t vol_id[16];		      /* 0x08 */
	le16 row;			      /* 0x18 slot that is asked */
	le16 column;			      /* 0x1a slot that asks */
	le16 wishes;			      /* 0x1c number of valid entries in wish[] */
	le16 reserved0;			      /* 0x1e */
	le64 asker;			      /* 0x20 owner id of the requester */
	le64 asked;			      /* 0x28 owner id that is asked */
	le64 seq;			      /* 0x30 +1 at every write of this sector */
	uint8_t reserved1[0x48];	      /* 0x38 */
	struct lunfs_wish wish[LUNFS_WISHES]; /* 0x80 */
};
static_assert(offsetof(struct lunfs_board_sec, wish) == 0x80, "board_sec.wish");
static_assert(sizeof(struct lunfs_board_sec) == 512, "board_sec");

/* ---- journal ------------------------------------------------------------------------------- */

/*
 * A journal region is journal_blks blocks. Block 0 is the header (only its first sector is ever
 * rewritten). Blocks 1 .. journal_blks-1 are the log, a ring. A transaction is contiguous modulo
 * the ring: n_desc descriptor blocks, then the images of its entries packed at 3584 bytes each and
 * padded to a block, then one commit block.
 */
struct lunfs_jhdr {
	le32 magic;		  /* 0x00 LUNFS_JHDR_MAGIC */
	le32 crc;		  /* 0x04 CRC32C of 512 bytes with this field zero */
	uint8_t vol_id[16];	  /* 0x08 */
	le16 slot;		  /* 0x18 */
	le16 reserved0;		  /* 0x1a */
	le32 tail_blk;		  /* 0x1c block within the region (>= 1) where replay starts */
	le64 generation;	  /* 0x20 incarnation that wrote it */
	le64 nonce;		  /* 0x28 */
	le64 tail_seq;		  /* 0x30 sequence number expected at tail_blk */
	uint8_t reserved1[0x1c8]; /* 0x38 */
};
static_assert(sizeof(struct lunfs_jhdr) == 512, "jhdr");

enum lunfs_jentry_kind {
	LUNFS_JENT_IMAGE = 1,  /* a range of a payload follows in the image area */
	LUNFS_JENT_REVOKE = 2, /* the block was given up: no image, ends all earlier mentions */
};

struct lunfs_jentry {
	le64 addr;	     /* 0x00 cell whose payload this is */
	le64 guard;	     /* 0x08 cell of the lock that protects it */
	le64 possession_seq; /* 0x10 of the guard, when the transaction committed */
	le64 version;	     /* 0x18 payload version in the image */
	le16 kind;	     /* 0x20 enum lunfs_jentry_kind */
	le16 off_bytes;	     /* 0x22 range within the payload; 0 in a whole image */
	le16 len_bytes;	     /* 0x24 3584 in a whole image, 0 in a revoke */
	le16 reserved;	     /* 0x26 */
};
static_assert(sizeof(struct lunfs_jentry) == 40, "jentry");

#define LUNFS_JDESC_ENTRIES 100u

struct lunfs_jdesc {
	le32 magic;		/* 0x00 LUNFS_JDESC_MAGIC */
	le32 crc;		/* 0x04 CRC32C of this block with this field zero */
	uint8_t vol_id[16];	/* 0x08 */
	le64 nonce;		/* 0x18 incarnation */
	le64 seq;		/* 0x20 transaction's sequence number */
	le16 index;		/* 0x28 0 .. n_desc-1 */
	le16 n_desc;		/* 0x2a */
	le32 n_entries;		/* 0x2c in the whole transaction */
	le32 n_blks;		/* 0x30 whole transaction, descriptors and commit block included */
	uint8_t reserved[0x2c]; /* 0x34 */
	struct lunfs_jentry entry[LUNFS_JDESC_ENTRIES]; /* 0x60 */
};
static_assert(offsetof(struct lunfs_jdesc, entry) == 0x60, "jdesc.entry");
static_assert(sizeof(struct lunfs_jdesc) == 4096, "jdesc");

struct lunfs_jcommit {
	le32 magic;		  /* 0x00 LUNFS_JCOMMIT_MAGIC */
	le32 crc;		  /* 0x04 CRC32C of this block with this field zero */
	uint8_t vol_id[16];	  /* 0x08 */
	le64 nonce;		  /* 0x18 */
	le64 seq;		  /* 0x20 */
	le32 body_crc;		  /* 0x28 CRC32C of all blocks of the transaction before this one */
	le32 reserved0;		  /* 0x2c */
	uint8_t reserved1[0xfd0]; /* 0x30 */
};
static_assert(sizeof(struct lunfs_jcommit) == 4096, "jcommit");

/*
 * A redo log: what a repair is about to change, written whole and named by the maintenance sector
 * before the first change. A descriptor block, then the blocks that it lists, again and again. It
 * lies in the log part of a journal region, whose slot is FREE, so that nothing in it counts.
 */
#define LUNFS_REDO_MAGIC 0x4f44524cu /* "LRDO" */
#define LUNFS_REDO_ENTRIES 500u

struct lunfs_redo_desc {
	le32 magic;			/* 0x00 LUNFS_REDO_MAGIC */
	le32 crc;			/* 0x04 CRC32C of this block with this field zero */
	uint8_t vol_id[16];		/* 0x08 */
	le32 index;			/* 0x18 0, 1, ... in this log */
	le32 entries;			/* 0x1c valid entries; as many blocks follow */
	uint8_t reserved[0x40];		/* 0x20 */
	le64 entry[LUNFS_REDO_ENTRIES]; /* 0x60 address << 8 | bit i: its 512 bytes at i * 512 */
};
static_assert(offsetof(struct lunfs_redo_desc, entry) == 0x60, "redo_desc.entry");
static_assert(sizeof(struct lunfs_redo_desc) == 4096, "redo_desc");

/* ---- payloads: 3584 bytes, all begin with blk_hdr ------------------------------------------ */

struct lunfs_blk_hdr {
	le32 magic;	    /* 0x00 LUNFS_BLK_MAGIC */
	le16 type;	    /* 0x04 enum lunfs_blk_type */
	le16 reserved0;	    /* 0x06 */
	uint8_t vol_id[16]; /* 0x08 */
	le64 addr;	    /* 0x18 own address: the cell's first block */
	le64 version;	    /* 0x20 grows with every rewrite, in whatever role */
	le64 guard;	    /* 0x28 cell whose lock protects this payload */
	le64 guard_gen;	    /* 0x30 inode generation of the guard; 0 if the guard is no inode */
	le32 reserved1;	    /* 0x38 */
	le32 crc;	    /* 0x3c CRC32C of the payload's 3584 bytes with this field zero */
};
static_assert(sizeof(struct lunfs_blk_hdr) == 0x40, "blk_hdr");

struct lunfs_anchor_pl {
	struct lunfs_blk_hdr hdr; /* 0x00 */
	le64 value;		  /* 0x40 WATERMARK: groups initialised; else 0 */
	uint8_t reserved[0xdb8];  /* 0x48 */
};
static_assert(sizeof(struct lunfs_anchor_pl) == LUNFS_PAYLOAD_BYTES, "anchor_pl");

/*
 * A group: cell_blks blocks kept for a superblock copy, the header cell, bitmap_cells bitmap cells,
 * then blocks to allocate. Bit n of the bitmap is block n of the group, 1 = in use; bits past the
 * end of a short last group are 1. The bitmap cells are guarded by the header cell's lock.
 */
#define LUNFS_BITMAP_BYTES (LUNFS_PAYLOAD_BYTES - 0x40u)
#define LUNFS_BITMAP_BITS (LUNFS_BITMAP_BYTES * 8u)
#define LUNFS_CHUNK_CELLS 256u
#define LUNFS_GROUP_WINDOWS 1024u

struct lunfs_group_pl {
	struct lunfs_blk_hdr hdr; /* 0x000 */
	le64 group;		  /* 0x040 index */
	le64 first_blk;		  /* 0x048 address of its block 0 */
	le32 nblks;		  /* 0x050 its size */
	le32 free_blks;		  /* 0x054 zero bits in the bitmap */
	le32 chunks;		  /* 0x058 windows with a chunk */
	uint8_t reserved[0x5a4];  /* 0x05c */
	/*
	 * Window w is blocks [w * 256 * cell_blks, (w + 1) * 256 * cell_blks) of the group. 0: no
	 * metadata chunk there; else 1 + index, within the window, of the cell with its header.
	 */
	le16 chunk[LUNFS_GROUP_WINDOWS]; /* 0x600 */
};
static_assert(offsetof(struct lunfs_group_pl, chunk) == 0x600, "group_pl.chunk");
static_assert(sizeof(struct lunfs_group_pl) == LUNFS_PAYLOAD_BYTES, "group_pl");

struct lunfs_bitmap_pl {
	struct lunfs_blk_hdr hdr; /* guard = the group's header cell */
	uint8_t bits[LUNFS_BITMAP_BYTES];
};
static_assert(sizeof(struct lunfs_bitmap_pl) == LUNFS_PAYLOAD_BYTES, "bitmap_pl");

/*
 * Header cell of a metadata chunk; a lock of its own. Bit n is the cell at
 * first_blk + n * cell_blks. valid: this block pair is a cell of the chunk; used: it serves as
 * something (the header cell itself is always used).
 */
struct lunfs_chunk_pl {
	struct lunfs_blk_hdr hdr; /* 0x00 guard = itself */
	le64 group;		  /* 0x40 */
	le64 first_blk;		  /* 0x48 address of the window */
	le32 cells;		  /* 0x50 bits set in valid */
	le32 free_cells;	  /* 0x54 valid and not used */
	uint8_t reserved0[8];	  /* 0x58 */
	uint8_t valid[32];	  /* 0x60 */
	uint8_t used[32];	  /* 0x80 */
	uint8_t reserved1[0xd60]; /* 0xa0 */
};
static_assert(sizeof(struct lunfs_chunk_pl) == LUNFS_PAYLOAD_BYTES, "chunk_pl");

/* ---- B+tree areas: in an inode's forks, and in cells of their own --------------------------- */

/*
 * An area of `size` bytes holds one node: this head, then `items` slots sorted by key, ascending
 * and unique; item bodies grow down from the end of the area. Interior nodes (level > 0) have no
 * bodies: slot i = { key, child } where the child holds keys >= key (slot 0's key is 0) and below
 * slot i+1's key.
 */
struct lunfs_bt_head {
	le16 level;    /* 0x0 0 = leaf */
	le16 items;    /* 0x2 */
	le16 body_off; /* 0x4 offset of the lowest body from the area's start; area size if none */
	le16 dead;     /* 0x6 bytes of bodies no longer referred to */
};
static_assert(sizeof(struct lunfs_bt_head) == 8, "bt_head");

struct lunfs_bt_leaf_slot {
	le64 key;
	le16 off; /* of the body from the area's start */
	le16 len;
};
static_assert(sizeof(struct lunfs_bt_leaf_slot) == 12, "bt_leaf_slot");

struct lunfs_bt_inner_slot {
	le64 key;
	le64 child; /* address of the child's cell */
};
static_assert(sizeof(struct lunfs_bt_inner_slot) == 16, "bt_inner_slot");

struct lunfs_bt_pl {		  /* LUNFS_BLK_BTREE */
	struct lunfs_blk_hdr hdr; /* guard = the inode, guard_gen = its generation */
	uint8_t area[LUNFS_PAYLOAD_BYTES - 0x40];
};
static_assert(sizeof(struct lunfs_bt_pl) == LUNFS_PAYLOAD_BYTES, "bt_pl");

/* Leaf bodies. */
#define LUNFS_EXT_UNWRITTEN 0x1u
#define LUNFS_EXT_SHARED 0x2u

struct lunfs_extent { /* key = first logical block */
	le64 blk;     /* 0x0 address */
	le32 len;     /* 0x8 blocks, >= 1 */
	le32 flags;   /* 0xc LUNFS_EXT_* */
};
static_assert(sizeof(struct lunfs_extent) == 16, "extent");

/*
 * Key of a name: h = SipHash-2-4(hash_key, name); key = (h >> 8) << 7 | n with the smallest n in
 * 0..127 that is free, and with (h >> 8) raised to 1 if it is 0; so 128 <= key < 2^63. A directory
 * stream's cookie is the key of the next entry to return; "." and ".." are cookies 0 and 1, and are
 * not stored (an inode knows its parent).
 */
struct lunfs_dirent {
	le64 ino;	  /* 0x00 address of the inode's cell */
	le64 generation;  /* 0x08 of that inode */
	uint8_t type;	  /* 0x10 DT_* of <dirent.h> */
	uint8_t name_len; /* 0x11 1..255 */
	uint8_t name[];	  /* 0x12 no terminator; no '/' and no NUL inside */
};
static_assert(offsetof(struct lunfs_dirent, name) == 0x12, "dirent.name");

enum lunfs_xattr_ns {
	LUNFS_XATTR_USER = 1,
	LUNFS_XATTR_TRUSTED = 2,
	LUNFS_XATTR_SECURITY = 3,
	LUNFS_XATTR_SYSTEM = 4, /* POSIX ACLs */
};

/*
 * Key of an xattr: h as above over ns byte and name; key = (h >> 20) << 16 | n << 8 | part, with
 * n the smallest free in 0..255 among other names and part = 0.. the pieces of its value (at most
 * 1024 bytes each). The name stands in part 0 only.
 */
#define LUNFS_XATTR_PART_BYTES 1024u
#define LUNFS_XATTR_VALUE_MAX 65536u

struct lunfs_xattr {
	uint8_t ns;	  /* 0x0 enum lunfs_xattr_ns */
	uint8_t name_len; /* 0x1 part 0: 1..255, without the prefix; later parts: 0 */
	le16 part_len;	  /* 0x2 bytes of value in this part */
	le32 value_len;	  /* 0x4 whole value */
	uint8_t data[];	  /* 0x8 name, then this part of the value */
};
static_assert(offsetof(struct lunfs_xattr, data) == 8, "xattr.data");

/*
 * Symbolic links: up to the data fork's size in place (FORK_INLINE); longer ones as tree items,
 * key = number of the piece, pieces of 1024 bytes.
 */
#define LUNFS_SYMLINK_PART_BYTES 1024u
#define LUNFS_SYMLINK_MAX 4095u

/* ---- inode ----------------------------------------------------------------------------------- */

enum lunfs_fork_format {
	LUNFS_FORK_EMPTY = 0,
	LUNFS_FORK_INLINE = 1, /* bytes in place: small files, short symlinks */
	LUNFS_FORK_TREE = 2,   /* a bt_head and its slots: root of the fork's B+tree */
};

#define LUNFS_XATTR_FORK_BYTES 0x200u
#define LUNFS_DATA_FORK_BYTES 0xb00u

#define LUNFS_INODE_ORPHAN 0x1u	    /* stands in orphan directory `orphan_slot` */
#define LUNFS_INODE_ORPHAN_DIR 0x2u /* is an orphan directory */

struct lunfs_inode_pl {
	struct lunfs_blk_hdr hdr; /* 0x000 guard = itself, guard_gen = generation */
	le64 generation;	  /* 0x040 of this use of the cell: (incarnation, counter) */
	le32 mode;		  /* 0x048 st_mode */
	le32 nlink;		  /* 0x04c */
	le32 uid;		  /* 0x050 */
	le32 gid;		  /* 0x054 */
	le64 size;		  /* 0x058 bytes; directories: number of entries */
	le64 blks;		  /* 0x060 data blocks and tree cells (in blocks) it refers to */
	le64 atime_s;		  /* 0x068 seconds since the epoch, signed */
	le64 mtime_s;		  /* 0x070 */
	le64 ctime_s;		  /* 0x078 */
	le64 btime_s;		  /* 0x080 */
	le32 atime_ns;		  /* 0x088 0..999999999 */
	le32 mtime_ns;		  /* 0x08c */
	le32 ctime_ns;		  /* 0x090 */
	le32 btime_ns;		  /* 0x094 */
	le32 rdev_major;	  /* 0x098 */
	le32 rdev_minor;	  /* 0x09c */
	le64 parent;		  /* 0x0a0 directories: ".."; else 0 */
	le32 flags;		  /* 0x0a8 LUNFS_INODE_* */
	le16 orphan_slot;	  /* 0x0ac with LUNFS_INODE_ORPHAN, else 0 */
	uint8_t xattr_format;	  /* 0x0ae enum lunfs_fork_format: EMPTY or TREE */
	uint8_t data_format;	  /* 0x0af */
	uint8_t reserved[0x50];	  /* 0x0b0 */
	uint8_t xattr_fork[LUNFS_XATTR_FORK_BYTES]; /* 0x100 */
	uint8_t data_fork[LUNFS_DATA_FORK_BYTES];   /* 0x300 */
};
static_assert(offsetof(struct lunfs_inode_pl, data_format) == 0xaf, "inode_pl.data_format");
static_assert(offsetof(struct lunfs_inode_pl, xattr_fork) == 0x100, "inode_pl.xattr_fork");
static_assert(sizeof(struct lunfs_inode_pl) == LUNFS_PAYLOAD_BYTES, "inode_pl");

#endif
