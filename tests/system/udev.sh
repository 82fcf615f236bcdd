#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The rule that is installed with lunfs makes udev link a volume by UUID and label, and only a volume; findfs(8), which
# resolves tags as mount(8) does, follows. The rule is tried by `udevadm test`, which needs no running udev.
# shellcheck source=tests/system/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ -z "${LUNFS_DEV:-}" ] || skip "wants a loop device of its own"
command -v udevadm >/dev/null || skip "udev is not installed"

# In a mount namespace with /run/udev and /dev/disk of its own, nothing is left behind.
if [ "${1:-}" != inside ]; then
	mkdir -p /run/udev /dev/disk
	rc=0
	unshare -m bash "$0" inside || rc=$?
	exit $rc
fi
mount -t tmpfs none /run/udev
mount -t tmpfs none /dev/disk
mkdir /run/udev/rules.d
sed "s|IMPORT{program}=\"[^ ]*|IMPORT{program}=\"$LUNFS|" "$BUILD/fs/cli/61-lunfs.rules" >/run/udev/rules.d/61-lunfs-test.rules

LOOP='' OTHER=''
CLEANUP+=('for l in $LOOP $OTHER; do losetup -d "$l"; done')
ask_udev() { udevadm test --action=add "/sys/block/${1#/dev/}" >"$WORK/udev.log" 2>&1 || true; }

label="shared store $$"
make_image 256M -L "$label"
LOOP=$(losetup -f --show "$DEV")
ask_udev "$LOOP"
uuid=$("$LUNFS" info --json "$DEV" | jq -r .uuid)
[ "$(findfs "UUID=$uuid")" = "$LOOP" ] || fail "UUID=$uuid does not lead to $LOOP"
[ "$(findfs "LABEL=$label")" = "$LOOP" ] || fail "LABEL=$label does not lead to $LOOP"
grep -q '^ID_FS_TYPE=lunfs$' "$WORK/udev.log" || fail "udev does not know the type"

say "no links to what is no volume, or is one no more"
truncate -s 64M "$WORK/empty.img"
OTHER=$(losetup -f --show "$WORK/empty.img")
ask_udev "$OTHER"
grep -q "61-lunfs-test.rules:.*Importing" "$WORK/udev.log" || fail "the rule did not look at $OTHER"
! grep -q '^ID_FS_TYPE=' "$WORK/udev.log" || fail "udev takes an empty device for a volume"
dd if=/dev/zero of="$DEV" bs=4096 seek=16 count=1 conv=notrunc status=none
! "$LUNFS" udev "$DEV" >"$WORK/out" 2>&1 || fail "a wiped volume is told of"
[ ! -s "$WORK/out" ] || fail "words about a device without a volume: $(cat "$WORK/out")"
pass "UUID= and LABEL= lead to the volume"
