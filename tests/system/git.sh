#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# git works on a mount: clone, commit, gc, fsck; another host sees the same repository.
. "$(dirname "$0")/lib.sh"
command -v git >/dev/null || skip "git is not installed"

export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.org GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@example.org
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
make_image 1G --hosts 2
mount_host a
mount_host b
git init -q "$(mnt a)/repo"
cp -r "$TOP/fs" "$TOP/include" "$(mnt a)/repo/"
cd "$(mnt a)/repo" || fail "no repository"
git add -A
git commit -qm one
for i in $(seq 1 20); do
	echo "$i" >>fs/DESIGN.md
	git commit -qam "change $i"
done
git gc -q
git fsck --strict >/dev/null 2>&1 || fail "git fsck on a"
cd "$(mnt b)" || fail "no mount"
git clone -q repo clone
git -C clone fsck --strict >/dev/null 2>&1 || fail "git fsck on b"
[ "$(git -C clone rev-parse HEAD)" = "$(git -C "$(mnt a)/repo" rev-parse HEAD)" ] || fail "heads differ"
[ -z "$(git -C clone status --porcelain)" ] || fail "the clone is not clean"
cd /
umount_all
check_clean
pass "git works, on two hosts"
