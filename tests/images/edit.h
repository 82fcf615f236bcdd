/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Edits of structures by name: the language in which recipes damage a volume (README.md, "Edits").
 */
#ifndef IMAGES_EDIT_H
#define IMAGES_EDIT_H

#include "inspect/inspect.h"

/* Carry one edit out. @why: one sentence. */
int edit_apply(const struct insp *in, const char *line, char *why, size_t why_len);

#endif
