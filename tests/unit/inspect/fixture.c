/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include "vol/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void make_names(struct simcluster *t, struct nodeid dir, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		char name[32];

		snprintf(name, sizeof(name), "name-%04u", i);
		sc_mkfile(t, 0, dir, name);
	}
}

void use_volume(struct simcluster *t)
{
	uint8_t *buf = dev_buf_alloc(LUNFS_BLOCK_BYTES);
	struct nodeid root, f, x;
	char target[3000];
	struct vattr a;

	sc_up(t, 0);
	root = sc_root_id(t, 0);
	f = sc_mkfile(t, 0, root, "f");
	for (unsigned i = 0; i < 150; i++)
		sc_write(t, 0, f, (uint64_t)i * 2 * LUNFS_BLOCK_BYTES, buf, LUNFS_BLOCK_BYTES);
	f = sc_mkfile(t, 0, root, "small");
	sc_write(t, 0, f, 0, "contents", 8);
	make_names(t, sc_mkdir(t, 0, root, "d"), 200);
	memset(target, 't', sizeof(target));
	target[sizeof(target) - 1] = '\0';
	SC_OK(t, vol_symlink(t->v[0], &sc_root, root, "l", target, &a));
	x = sc_mkfile(t, 0, root, "x");
	SC_OK(t, vol_setxattr(t->v[0], &sc_root, x, "user.a", "value", 5, 0));
	SC_OK(t, vol_setxattr(t->v[0], &sc_root, x, "user.big", target, sizeof(target), 0));
	SC_OK(t, vol_syncfs(t->v[0]));
	free(buf);
}
