/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening an image for the tools of recipes. */
#ifndef IMAGES_OPEN_H
#define IMAGES_OPEN_H

#include "base/geo.h"
#include <lunfs/dev.h>

/* With the sectors that its volume was made for. On failure @why holds one sentence. */
int image_open(const char *name, struct dev **dev, struct geo *geo, char *why, size_t why_len);

#endif
