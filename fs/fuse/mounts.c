/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is mounted on directories of this file system: in the daemon's own name space of mounts, and
 * in those of all processes that it can see (containers).
 */
#include "fuse/front.h"
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct ids {
	unsigned long long *id;
	size_t n, cap;
};

static void add(struct ids *s, unsigned long long id)
{
	if (s->n == s->cap) {
		s->cap = s->cap ? s->cap * 2 : 64;
		s->id = realloc(s->id, s->cap * sizeof(*s->id));
		lunfs_assert(s->id);
	}
	s->id[s->n++] = id;
}

static bool has(const struct ids *s, unsigned long long id)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->id[i] == id)
			return true;
	return false;
}

/* proc_pid_mountinfo(5): mount ID, parent ID, device. */
static bool beneath_in(const struct front *f, const char *path)
{
	struct ids ours = {0}, parents = {0};
	FILE *fp = fopen(path, "re");
	unsigned long long id, parent;
	unsigned major, minor;
	bool found = false;
	char *line = NULL;
	size_t cap = 0;

	if (!fp)
		return false; /* the process has ended, or is hidden from us */
	while (getline(&line, &cap, fp) > 0) {
		if (sscanf(line, "%llu %llu %u:%u", &id, &parent, &major, &minor) != 4)
			continue;
		add(&parents, parent);
		if (major == f->dev_major && minor == f->dev_minor)
			add(&ours, id);
	}
	for (size_t i = 0; i < ours.n && !found; i++)
		found = has(&parents, ours.id[i]);
	free(line);
	free(ours.id);
	free(parents.id);
	fclose(fp);
	return found;
}

/* A number for the name space of mounts of process @pid; 0: there is none to be had. */
static unsigned long long mount_space(const char *pid)
{
	unsigned long long id = 0;
	char path[300], link[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%s/ns/mnt", pid);
	n = readlink(path, link, sizeof(link) - 1);
	if (n <= 0)
		return 0;
	link[n] = '\0';
	return sscanf(link, "mnt:[%llu]", &id) == 1 ? id : 0;
}

bool mounts_beneath(const struct front *f)
{
	struct ids seen = {0};
	struct dirent *de;
	bool found;
	DIR *d;

	if (!f->have_dev)
		return false;
	found = beneath_in(f, "/proc/self/mountinfo");
	add(&seen, mount_space("self"));
	d = found ? NULL : opendir("/proc");
	while (d && !found && (de = readdir(d))) {
		unsigned long long space;
		char path[300];

		if (!isdigit((unsigned char)de->d_name[0]))
			continue;
		space = mount_space(de->d_name);
		if (space == 0 || has(&seen, space))
			continue;
		add(&seen, space);
		snprintf(path, sizeof(path), "/proc/%s/mountinfo", de->d_name);
		found = beneath_in(f, path);
	}
	if (d)
		closedir(d);
	free(seen.id);
	return found;
}
