/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "open.h"

#include "vol/volume.h"

int image_open(const char *name, struct dev **dev, struct geo *geo, char *why, size_t why_len)
{
	int rc = dev_open(name, 0, 0, dev, why, why_len);

	if (rc)
		return rc;
	rc = vol_read_super(*dev, geo, NULL, why, why_len);
	if (rc == 0 && geo->sector_bytes == (*dev)->id.sector_bytes)
		return 0;
	dev_close(*dev);
	return rc ? rc : dev_open(name, 0, geo->sector_bytes, dev, why, why_len);
}
