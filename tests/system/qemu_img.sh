#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# qemu-img create, convert, compare and check work with qcow2 and raw images, with cache=none too.
. "$(dirname "$0")/lib.sh"
command -v qemu-img >/dev/null || skip "qemu-img is not installed"

make_image 2G --hosts 2
mount_host a
mount_host b
M=$(mnt a)
head -c 60M /dev/urandom >"$WORK/src.raw"
truncate -s 200M "$WORK/src.raw"
for cache in none writeback; do
	qemu-img convert -q -f raw -O qcow2 -t $cache "$WORK/src.raw" "$M/$cache.qcow2"
	qemu-img check -q "$M/$cache.qcow2" || fail "qemu-img check, cache=$cache"
	qemu-img compare -q "$WORK/src.raw" "$M/$cache.qcow2" || fail "qcow2 differs, cache=$cache"
	qemu-img convert -q -f qcow2 -O raw -t $cache -T $cache "$M/$cache.qcow2" "$M/$cache.raw"
	cmp "$WORK/src.raw" "$M/$cache.raw" || fail "raw differs, cache=$cache"
	cmp "$WORK/src.raw" "$(mnt b)/$cache.raw" || fail "raw differs on b, cache=$cache"
	qemu-img create -q -f raw "$M/new.$cache.raw" 100M
	qemu-img create -q -f qcow2 -o preallocation=metadata "$M/new.$cache.qcow2" 100M
	qemu-img create -q -f raw -o preallocation=falloc "$M/falloc.$cache.raw" 50M
	qemu-img bench -q -t $cache -f raw -w -c 500 -s 4096 -S 8192 "$M/new.$cache.raw" >/dev/null
	qemu-io -f raw -t $cache -c 'write -P 7 12288 65536' -c 'read -P 7 12288 65536' -c flush \
		"$M/new.$cache.raw" | grep -q 'Pattern verification failed' && fail "qemu-io reads back something else"
done
say "sparse raw image: $(stat -c '%s bytes, %b blocks' "$M/none.raw")"
(($(stat -c %b "$M/none.raw") * 512 < 150000000)) || fail "the sparse part of a raw image takes space"
umount_all
check_clean
pass "qemu-img works with qcow2 and raw, cache=none and writeback"
