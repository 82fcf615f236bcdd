/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The trees of recipes (README.md, "Trees"). */
#ifndef IMAGES_POPULATE_H
#define IMAGES_POPULATE_H

#include "vol/volume.h"

/*
 * Make in @v what the line says; what is wrong is told on stderr. *crash is set by the line
 * "crash": the caller lets the host die.
 */
int populate_line(struct volume *v, const char *line, bool *crash);

#endif
