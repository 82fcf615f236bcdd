/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every on-disk structure by name: what fields it has (fields.c, made from the structs of
 * format.h), where it stands on a device (names.c), how a field is read and set (value.c), which
 * of its checks it passes (checks.c).
 *
 * What is read is shown as it is, damaged or not: nothing in here trusts it. Every loop over what
 * the device says is bounded, every offset is checked against the structure it stands in.
 */
#ifndef INSPECT_INSPECT_H
#define INSPECT_INSPECT_H

#include "base/geo.h"
#include <lunfs/dev.h>

/* ---- fields.c: the structs ------------------------------------------------------------------- */

enum insp_kind {
	INSP_U8,
	INSP_LE16,
	INSP_LE32,
	INSP_LE64,
	INSP_BYTES,  /* shown in hexadecimal */
	INSP_UUID,   /* 16 bytes */
	INSP_TEXT,   /* zero padded */
	INSP_BITMAP, /* bit n is bit n % 8 of byte n / 8 */
	INSP_ZERO,   /* reserved */
	INSP_STRUCT,
};

enum insp_unit { /* what a number means to a person */
		 INSP_PLAIN,
		 INSP_HEX,
		 INSP_ADDR,  /* a block */
		 INSP_OWNER, /* an owner id */
		 INSP_TIME,  /* signed seconds since 1970 */
		 INSP_MODE,  /* st_mode */
		 INSP_ENUM,  /* one of .names */
		 INSP_FLAGS, /* bits of .names */
		 INSP_ENTRY, /* of a lock record: tag and flags */
};

struct insp_name {
	uint64_t value;
	const char *name; /* NULL ends the list */
};

struct insp_struct;

struct insp_field {
	const char *name;
	uint16_t off;	/* bytes from the start of the struct */
	uint16_t width; /* bytes of one element */
	uint16_t count; /* elements; 1 for what is no array */
	bool array;
	enum insp_kind kind;
	enum insp_unit unit;
	const struct insp_name *names;
	const struct insp_struct *sub; /* INSP_STRUCT */
};

struct insp_struct {
	const char *name; /* as in FORMAT.md */
	uint16_t size;	  /* without a last member of variable length */
	uint16_t n;
	const struct insp_field *field;
	const char *tail; /* name of that last member, NULL: none */
	enum insp_kind tail_kind;
};

extern const struct insp_struct insp_sb, insp_ats_hdr, insp_lock_rec, insp_slot_rec, insp_maint_rec,
    insp_wish, insp_board_sec, insp_jhdr, insp_jentry, insp_jdesc, insp_jcommit, insp_redo_desc,
    insp_blk_hdr, insp_anchor_pl, insp_group_pl, insp_bitmap_pl, insp_chunk_pl, insp_bt_head,
    insp_bt_leaf_slot, insp_bt_inner_slot, insp_bt_pl, insp_extent, insp_dirent, insp_xattr,
    insp_inode_pl, insp_free_pl;
/* All of them, NULL at the end. */
extern const struct insp_struct *const insp_structs[];
/* Of a payload whose header says @type; insp_free_pl for what is none. */
const struct insp_struct *insp_payload_struct(unsigned type);
/* Bytes that stand for nothing known: u8[n], le16[n], le32[n], le64[n] over a whole block. */
extern const struct insp_struct insp_raw;

/* ---- names.c: places ------------------------------------------------------------------------- */

struct insp {
	struct dev *dev;
	const struct geo *geo;
};

enum insp_seal { /* what its checksum covers */
		 INSP_SEAL_NONE,
		 INSP_SEAL_SB,
		 INSP_SEAL_ATS,
		 INSP_SEAL_BLK,
		 INSP_SEAL_BOARD,
		 INSP_SEAL_JHDR,
		 INSP_SEAL_JDESC,
		 INSP_SEAL_JCOMMIT,
		 INSP_SEAL_JBODY, /* inside a transaction, without a checksum of its own */
		 INSP_SEAL_REDO,
};

#define INSP_PARTS 4u
#define INSP_NAME_BYTES 512u
#define INSP_NO_ADDR UINT64_MAX

struct insp_part { /* a struct, or an array of them, inside a place */
	const char *name;
	const struct insp_struct *st;
	uint32_t off; /* from the place's start */
	uint32_t count;
	bool array;
	uint32_t tail_len; /* of the last member of variable length */
};

/*
 * A sealed structure on the device, and the part of it that was named: a directory entry is a
 * focus inside the payload of a cell.
 */
struct insp_place {
	char name[INSP_NAME_BYTES]; /* the canonical one */
	uint64_t off_bytes;
	uint32_t len_bytes; /* <= LUNFS_BLOCK_BYTES */
	uint32_t focus_off, focus_len;
	uint64_t addr;	/* what a field that refers to it holds, or INSP_NO_ADDR */
	uint16_t type;	/* with INSP_SEAL_ATS or _BLK: the type it should have; 0: any */
	uint64_t index; /* slot, group, bitmap << 32 | group ... : what the checks ask for */
	enum insp_seal seal;
	struct {
		unsigned slot;
		uint32_t pos, blks; /* of the transaction, in the ring; blks 0: not known */
	} journal;
	unsigned parts;
	struct insp_part part[INSP_PARTS];
};

/*
 * Find the structure called @what (tests/images/README.md and lunfs(8) list the names). -EINVAL: no
 * such name; -ENOENT: the volume has none; -EUCLEAN: what leads there is damaged; -EIO. @why: one
 * sentence.
 */
int insp_find(const struct insp *in, const char *what, struct insp_place *out, char *why,
	      size_t why_len);
/* The payload in cell @addr, with the parts that its type says. */
int insp_cell(const struct insp *in, uint64_t addr, struct insp_place *out, char *why,
	      size_t why_len);
/*
 * What stands in block @blk, in words; @name: the name of the structure to look at there, "" if
 * there is none.
 */
#define INSP_ROLE_BYTES 160u
void insp_block_role(const struct insp *in, uint64_t blk, char role[INSP_ROLE_BYTES],
		     char name[INSP_NAME_BYTES]);

/* Any range inside the device, whatever its alignment. */
int insp_read(const struct insp *in, uint64_t off_bytes, size_t len_bytes, void *buf);
int insp_write(const struct insp *in, uint64_t off_bytes, size_t len_bytes, const void *buf);
/* Compute the checksum of the structure in @buf anew; false: it has none. */
bool insp_seal(const struct insp_place *p, void *buf);
/* Is it right? */
bool insp_seal_ok(const struct insp_place *p, const void *buf);

/* ---- walk.c: trees --------------------------------------------------------------------------- */

#define INSP_NODES_MAX (1u << 20) /* nodes of one tree that are looked at */

enum insp_fork { INSP_DATA, INSP_XATTRS };

struct insp_item {
	uint64_t key;
	uint64_t cell;	   /* whose payload it stands in */
	uint32_t slot_off; /* of its lunfs_bt_leaf_slot, from the payload's start */
	uint32_t off, len; /* of its body; len 0: outside its area */
	const uint8_t *body;
	uint64_t leaf_lo, leaf_hi; /* the keys that its leaf may hold, as the nodes above say */
};

struct insp_walk {
	void *ctx;
	/* Either may be NULL. Other than 0 ends the walk with that. */
	int (*item)(void *ctx, const struct insp_item *it);
	int (*node)(void *ctx, uint64_t cell, unsigned level, unsigned items);
	uint64_t lo, hi; /* only keys in there are wanted (nodes are left out by their keys) */
	uint64_t nodes;	 /* out: how many were read */
	uint64_t bad;	 /* out: nodes that could not be read or made no sense */
};
/* Items in order of keys as far as the nodes say. -E2BIG: too many nodes. */
int insp_walk(const struct insp *in, uint64_t ino, enum insp_fork fork, struct insp_walk *w);

/* "/a/b", "NUMBER", "NUMBER/a", "root", "orphan:SLOT/name": the address of the inode's cell. */
int insp_path(const struct insp *in, const char *path, uint64_t *ino, char *why, size_t why_len);
struct insp_hit {
	bool found;
	uint64_t cell, key;
	uint32_t slot_off, off, len;
};
/* The entry @name of directory @dir. -ENOENT. */
int insp_dirent_find(const struct insp *in, uint64_t dir, const char *name, struct insp_hit *out);
/* Key base of a name: lunfs_dirent and lunfs_xattr in FORMAT.md. */
uint64_t insp_dirent_key(const struct geo *g, const void *name, size_t len);
uint64_t insp_xattr_key(const struct geo *g, uint8_t ns, const void *name, size_t len);

/* ---- value.c: fields ------------------------------------------------------------------------- */

struct insp_ref { /* a field of a place */
	const struct insp_field *f;
	uint32_t off;	       /* from the place's start */
	uint32_t width;	       /* bytes; a whole array without an index */
	bool indexed;	       /* one element of an array */
	int bit;	       /* of the byte at @off, or -1 */
	struct insp_field own; /* what @f points to where no table has it */
};

/* Longest text of one value that is not text or bytes itself. */
#define INSP_TEXT_BYTES 128u

/* @field: "nlink", "hdr.crc" (or just "crc"), "entry[3].addr", "bits[17]", "slot[0].key". */
int insp_field_find(const struct insp_place *p, const char *field, struct insp_ref *out);
/* Numbers, bits included. */
bool insp_is_number(const struct insp_ref *r);
uint64_t insp_get(const struct insp_ref *r, const void *buf);
void insp_set(const struct insp_ref *r, void *buf, uint64_t value);
/* The meaning of a number, "" where it means itself. */
void insp_meaning(const struct insp_field *f, uint64_t v, char *out, size_t len);
/* A word of the field's names ("EXCL", "ORPHAN|ORPHAN_DIR"). -EINVAL. */
int insp_name_value(const struct insp_field *f, const char *word, uint64_t *out);
/* One element of a field (insp_number of its bytes), whatever it is. */
uint64_t insp_number(enum insp_kind kind, const void *at);

/* ---- checks.c -------------------------------------------------------------------------------- */

struct insp_checks {
	void *ctx;
	/* @name: a stable word; @text: one sentence, "" when passed. */
	void (*check)(void *ctx, const char *name, bool ok, const char *text);
};
/* Tell each check of the structure in @buf (len_bytes of the place). Returns how many failed. */
unsigned insp_check(const struct insp *in, const struct insp_place *p, const void *buf,
		    const struct insp_checks *to);

/* ---- journal.c ------------------------------------------------------------------------------- */

struct insp_txn {
	uint32_t pos, blks; /* in the ring: block 1 + pos of the region */
	uint32_t n_desc, n_entries;
	uint64_t seq, nonce;
	uint32_t used;	 /* blocks from the tail up to its end */
	bool valid;	 /* as a whole, its checksums at least */
	const char *why; /* what is wrong with it */
};
/*
 * The transaction at the tail; the one behind @t, which it replaces; the one number @n from the
 * tail. -ENOENT: the log ends before it.
 */
int insp_journal_first(const struct insp *in, unsigned slot, struct insp_txn *out);
int insp_journal_next(const struct insp *in, unsigned slot, struct insp_txn *t);
int insp_journal_txn(const struct insp *in, unsigned slot, unsigned n, struct insp_txn *out);
/* Any transaction that begins at @pos of the ring. -ENOENT: no descriptor is there. */
int insp_journal_at(const struct insp *in, unsigned slot, uint32_t pos, struct insp_txn *out);
/* Compute body_crc and the checksum of the commit block anew. */
int insp_journal_reseal(const struct insp *in, unsigned slot, uint32_t pos, uint32_t blks);

#endif
