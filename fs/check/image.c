/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the check writes into a sector: who, when and where, a pattern that fills the rest and
 * differs in every word, and a checksum over all. So a torn sector, one of another run and one that
 * belongs elsewhere are told apart.
 */
#include "check/check_impl.h"

#include "base/crc.h"

#define IMAGE_MAGIC 0x4d494b4cu /* "LKIM" */

struct image_disk {
	le32 magic;    /* 0x00 */
	le32 crc;      /* 0x04 of the sector with this field zero */
	le64 run;      /* 0x08 */
	le64 off;      /* 0x10 own place on the device */
	le64 setter;   /* 0x18 */
	le64 seq;      /* 0x20 */
	le64 value;    /* 0x28 */
	le64 fill[58]; /* 0x30 and on, to the end of a longer sector */
};
static_assert(sizeof(struct image_disk) == 512, "image_disk");

static uint64_t mix(uint64_t x) /* splitmix64 */
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

void image_make(void *sector, uint32_t len_bytes, uint64_t off_bytes, const struct image *img)
{
	struct image_disk *d = sector;
	uint64_t x = mix(img->run ^ mix(img->setter ^ mix(img->seq)));

	memset(d, 0, offsetof(struct image_disk, fill));
	d->magic = le32_make(IMAGE_MAGIC);
	d->run = le64_make(img->run);
	d->off = le64_make(off_bytes);
	d->setter = le64_make(img->setter);
	d->seq = le64_make(img->seq);
	d->value = le64_make(img->value);
	for (uint32_t i = 0; i < (len_bytes - offsetof(struct image_disk, fill)) / 8; i++)
		((le64 *)((uint8_t *)sector + offsetof(struct image_disk, fill)))[i] =
		    le64_make(x += 0x9e3779b97f4a7c15ull);
	crc_seal(sector, len_bytes, offsetof(struct image_disk, crc));
}

enum image_is image_read(const void *sector, uint32_t len_bytes, uint64_t off_bytes, uint64_t run,
			 struct image *out)
{
	const struct image_disk *d = sector;

	if (le32_get(d->magic) != IMAGE_MAGIC ||
	    !crc_ok(sector, len_bytes, offsetof(struct image_disk, crc)))
		return IMAGE_BROKEN;
	if (le64_get(d->off) != off_bytes)
		return le64_get(d->run) == run ? IMAGE_MOVED : IMAGE_BROKEN;
	*out = (struct image){.run = le64_get(d->run),
			      .setter = le64_get(d->setter),
			      .seq = le64_get(d->seq),
			      .value = le64_get(d->value)};
	return out->run == run ? IMAGE_OURS : IMAGE_FOREIGN;
}
