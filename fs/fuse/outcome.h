/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How umount.lunfs learns when a mount's daemon has ended, and how: for as long as it lives, the
 * daemon holds a record lock on a file of its own, which tells its process beyond doubt; before it
 * ends, it writes into it whether all is on the device. A file without a lock or a word is of a
 * daemon that was killed.
 */
#ifndef FUSE_OUTCOME_H
#define FUSE_OUTCOME_H

#define OUTCOME_DIR "/run/lunfs"
#define OUTCOME_NAME OUTCOME_DIR "/mount-%u:%u" /* the file system's device number */
#define OUTCOME_WRITTEN "written\n"		/* all of it; else what failed */

/* For the calling process. -1: there is none to be had, and nobody can wait. */
int outcome_open(unsigned dev_major, unsigned dev_minor);
/* Nothing that can fail comes behind this. @rc: 0 or negative errno. @fd stays open, and locked. */
void outcome_tell(int fd, unsigned dev_major, unsigned dev_minor, int rc);

#endif
