/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The daemon's side of outcome.h. */
#include "fuse/outcome.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_MAX_BYTES 64

/*
 * The kernel gives the number of a file system that is gone to the next one, while the daemon of
 * the first may still be writing: each has a file of its own, and the newest has the name.
 */
int outcome_open(unsigned dev_major, unsigned dev_minor)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	char path[PATH_MAX_BYTES], made[PATH_MAX_BYTES];
	int fd;

	snprintf(path, sizeof(path), OUTCOME_NAME, dev_major, dev_minor);
	snprintf(made, sizeof(made), OUTCOME_DIR "/new-%d", (int)getpid());
	if (mkdir(OUTCOME_DIR, 0755) && errno != EEXIST)
		return -1;
	unlink(made); /* of a process that had our number */
	fd = open(made, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -1;
	if (fcntl(fd, F_SETLK, &lock) == 0 && rename(made, path) == 0)
		return fd;
	unlink(made);
	close(fd);
	return -1;
}

void outcome_tell(int fd, unsigned dev_major, unsigned dev_minor, int rc)
{
	char path[PATH_MAX_BYTES];
	struct stat named, ours;

	if (fd < 0)
		return;
	if (rc == 0 ? write(fd, OUTCOME_WRITTEN, strlen(OUTCOME_WRITTEN)) < 0
		    : dprintf(fd, "%s\n", strerror(-rc)) < 0)
		log_warn("outcome", "Whoever waits for the end cannot be told how it was: %s.",
			 strerror(errno));
	snprintf(path, sizeof(path), OUTCOME_NAME, dev_major, dev_minor);
	if (lstat(path, &named) == 0 && fstat(fd, &ours) == 0 && named.st_ino == ours.st_ino)
		unlink(path);
}
