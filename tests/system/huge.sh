#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A sparse 64 TiB volume formats in seconds and mounts; a file of 16 TiB works; so do 64 MiB volumes
# and both sector sizes.
. "$(dirname "$0")/lib.sh"

try_volume() { # size, mkfs options
	rm -f "$DEV"
	local t0
	t0=$(now_ms)
	make_image "$@"
	say "mkfs of $*: $(($(now_ms) - t0)) ms, $(du -m "$DEV" | cut -f1) MiB written"
	(($(now_ms) - t0 < 10000)) || fail "mkfs of $* took longer than 10 s"
	mount_host a
	mount_host b
	echo x >"$(mnt a)/x"
	[ "$(cat "$(mnt b)/x")" = x ] || fail "$*: b does not see a's file"
	stat -f "$(mnt b)" >/dev/null
}

try_volume 64T
truncate -s 16T "$(mnt a)/big"
echo end | dd of="$(mnt a)/big" bs=1 seek=$(((16 << 40) - 4)) conv=notrunc status=none
[ "$(tail -c 4 "$(mnt b)/big")" = end ] || fail "the end of a 16 TiB file"
[ "$(stat -c %s "$(mnt b)/big")" = $((16 << 40)) ] || fail "the size of a 16 TiB file"
umount_all
check_clean
for sector in 512 4096; do
	for size in 64M 3G 20G; do
		try_volume $size --sector-size $sector --hosts 3
		n=$(printf 'n%.0s' $(seq 1 255))
		echo y >"$(mnt b)/$n"
		[ "$(cat "$(mnt a)/$n")" = y ] || fail "a name of 255 bytes"
		if echo z 2>/dev/null >"$(mnt a)/${n}n"; then fail "a name of 256 bytes was taken"; fi
		umount_all
		check_clean
	done
done
pass "volumes from 64 MiB to 64 TiB, both sector sizes, a 16 TiB file, names of 255 bytes"
