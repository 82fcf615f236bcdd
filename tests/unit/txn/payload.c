/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A number as the contents of a payload. */
#include "world.h"

void payload_set(void *payload, uint32_t value)
{
	struct lunfs_bt_pl *p = payload;

	memset(p->area, (int)(value & 0xff), sizeof(p->area));
	memcpy(p->area, &value, sizeof(value));
}

uint32_t payload_get(const void *payload)
{
	const struct lunfs_bt_pl *p = payload;
	uint32_t value;

	memcpy(&value, p->area, sizeof(value));
	return value;
}
