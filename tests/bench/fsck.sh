#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# fsck.lunfs beside e2fsck: the same files on the same RAM-backed loop device, one after the other; then
# full checks in turn, the page cache dropped before each, that of fsck.lunfs on one processor as well. Prints a
# Markdown table with medians.
#
# usage: fsck.sh [FILES [RUNS]]; LUNFS_BUILD is the build folder. Needs root.
set -euo pipefail
TOP=$(cd "$(dirname "$0")/../.." && pwd)
BUILD=${LUNFS_BUILD:-$TOP/build}
FILES=${1:-100000} RUNS=${2:-5}
WORK=$(mktemp -d "${LUNFS_TEST_DIR:-/dev/shm}/lunfs-bench.XXXXXX")
LOOPS=()

cleanup() {
	umount "$WORK/mnt" 2>/dev/null || true
	for l in "${LOOPS[@]}"; do losetup -d "$l" 2>/dev/null || true; done
	rm -rf "$WORK"
}
trap cleanup EXIT

# 1000 files a directory, every other one with two blocks of data.
populate() {
	python3 - "$1" "$FILES" <<'PY'
import os, sys
top, n = sys.argv[1], int(sys.argv[2])
for i in range(n):
    d = f"{top}/d{i // 1000}"
    if i % 1000 == 0:
        os.mkdir(d)
    fd = os.open(f"{d}/file-{i}", os.O_CREAT | os.O_WRONLY, 0o644)
    if i % 2:
        os.write(fd, b"x" * 6000)
    os.close(fd)
PY
}

loop() { # name
	truncate -s $((2 + FILES / 50000))G "$WORK/$1.img"
	losetup --direct-io=on -f --show "$WORK/$1.img" 2>/dev/null || losetup -f --show "$WORK/$1.img"
}

seconds() { # command...: wall time, peak memory
	local out
	sync
	echo 3 >/proc/sys/vm/drop_caches
	out=$( (/usr/bin/env time -f '%e %M %U %S' "$@" >/dev/null 2>&3) 3>&1 | tail -n 1)
	echo "$out"
}

median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }

ext4=$(loop ext4) lunfs=$(loop lunfs)
LOOPS=("$ext4" "$lunfs")
mkdir "$WORK/mnt"
mkfs.ext4 -q -F -N $((FILES * 2)) "$ext4"
mount "$ext4" "$WORK/mnt"
populate "$WORK/mnt"
umount "$WORK/mnt"
"$BUILD/mkfs/mkfs.lunfs" -q "$lunfs"
"$BUILD/fs/mount.lunfs" "$lunfs" "$WORK/mnt"
populate "$WORK/mnt"
umount "$WORK/mnt"
until "$BUILD/fsck/fsck.lunfs" -n "$lunfs" >/dev/null 2>&1; do sleep 0.2; done

for _ in $(seq "$RUNS"); do
	seconds e2fsck -fn "$ext4" >>"$WORK/e2fsck"
	seconds "$BUILD/fsck/fsck.lunfs" -n "$lunfs" >>"$WORK/fsck.lunfs"
	seconds taskset -c 0 "$BUILD/fsck/fsck.lunfs" -n "$lunfs" >>"$WORK/one processor"
done

echo "$FILES files, half of them with two blocks, 1000 a directory; loop device on RAM; median of $RUNS runs."
echo
echo "| | seconds (lowest to highest) | processor time, s | memory, MiB |"
echo "|---|---|---|---|"
for p in e2fsck fsck.lunfs "one processor"; do
	sort -n "$WORK/$p" | awk -v p="$p" '{t[NR] = $1; c[NR] = $3 + $4; m[NR] = $2}
		END {k = int((NR + 1) / 2); printf "| %s | %s (%s to %s) | %.2f | %d |\n", p, t[k], t[1], t[NR], c[k], m[k] / 1024}'
done
a=$(cut -d' ' -f1 "$WORK/e2fsck" | median) b=$(cut -d' ' -f1 "$WORK/fsck.lunfs" | median)
c=$(cut -d' ' -f1 "$WORK/one processor" | median)
awk -v a="$a" -v b="$b" -v c="$c" -v n="$(nproc)" 'BEGIN {
	printf "\nfsck.lunfs takes %.2f times as long as e2fsck; on one processor %.2f times as long as on %d.\n", b / a, c / b, n}'
