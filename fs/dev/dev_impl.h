/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared inside fs/dev: how a backend is opened, how it explains a refusal, its time.
 */
#ifndef DEV_DEV_IMPL_H
#define DEV_DEV_IMPL_H

#include <lunfs/dev.h>

#define DEV_DEADLINE_DEFAULT_MS 8000u

struct dev_open_args {
	const char *name;
	unsigned flags;	       /* DEV_OPEN_* */
	uint32_t sector_bytes; /* wanted, or 0 */
	char *why;
	size_t why_len;
};

/* Each fills *out on 0, or *why and returns a negative errno. */
int file_open(const struct dev_open_args *a, struct dev **out);
int sg_open(const struct dev_open_args *a, struct dev **out);
int iscsi_dev_open(const struct dev_open_args *a, struct dev **out);

/* Write one sentence into a->why and return @err. */
int dev_refuse(const struct dev_open_args *a, int err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The sentence for an open(2) of @name that failed with the negative errno @err; returns it. */
int dev_refuse_open(const struct dev_open_args *a, int err);
/* -EMEDIUMTYPE with a sentence if a->sector_bytes is neither 0 nor @sector_bytes. */
int dev_check_sector(const struct dev_open_args *a, uint32_t sector_bytes);

uint64_t dev_now_ns(void);		       /* CLOCK_BOOTTIME */
uint64_t dev_deadline_ns(const struct dev *d); /* now plus the bound of one command */
void dev_nap_ns(uint64_t ns);

#endif
