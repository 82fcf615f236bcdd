/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Persistent reservations (SPC-5 5.14, 6.14, 6.15) for every backend that can send SCSI commands:
 * command blocks, what the answers say, and the operations of struct dev_pr_ops over one or several
 * paths (I_T nexuses). What a device sends is not trusted.
 */
#ifndef DEV_SCSI_PR_H
#define DEV_SCSI_PR_H

#include "dev/scsi.h"

#include <lunfs/dev.h>

#define SPR_OUT_BYTES 24u /* parameter list of PERSISTENT RESERVE OUT */
#define SPR_IN_BYTES (8u + 8u * DEV_PR_KEYS_MAX)

struct spr_cmd {
	uint8_t cdb[SBC_CDB_MAX];
	size_t cdb_len;
	bool out;	  /* to the device */
	void *buf;	  /* aligned as I/O buffers are */
	size_t len_bytes; /* of buf */
	size_t got_bytes; /* out, from the device */
};

struct spr_link { /* how commands reach the device */
	void *ctx;
	unsigned paths;
	/*
	 * Send @c along path @path; again while it had no effect (busy, unit attention) and there
	 * is time. As sbc_outcome(), but never -EAGAIN.
	 */
	int (*send)(void *ctx, unsigned path, struct spr_cmd *c);
};

/* As struct dev_pr_ops describes them; @name is the device's, for sentences. */
int spr_probe(const struct spr_link *l, const char *name, char *why, size_t why_len);
int spr_register(const struct spr_link *l, uint64_t old_key, uint64_t new_key);
/* Whatever keys the paths have: the caller has proven that they are its own or nobody's. */
int spr_register_anyway(const struct spr_link *l, uint64_t key);
int spr_reserve(const struct spr_link *l, uint64_t key);
int spr_preempt_abort(const struct spr_link *l, uint64_t own_key, uint64_t victim_key);
int spr_read_state(const struct spr_link *l, struct dev_pr_state *out);

struct spr_caps {
	bool aptpl;	/* can keep registrations through a power loss */
	bool types_say; /* .we_ar is stated */
	bool we_ar;	/* knows type 7 */
};

/* Decoders: 0, or -EIO for what cannot be; -EOVERFLOW: more keys than DEV_PR_KEYS_MAX. */
int spr_decode_keys(const uint8_t *data, size_t len, struct dev_pr_state *out);
int spr_decode_reservation(const uint8_t *data, size_t len, struct dev_pr_state *out);
int spr_decode_caps(const uint8_t *data, size_t len, struct spr_caps *out);

/*
 * Does this configuration of multipathd make it register keys on its own? @file, and all *.conf in
 * @dir; either may be absent.
 */
bool spr_multipathd_registers(const char *file, const char *dir);

#endif
