#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# On a kernel before Linux 6.16, which writes pages of mappings back from copies: what another host
# writes and syncs is not overwritten by copies that were still in the kernel's queue when it asked
# for the file. Two hosts on one disk of a small virtual machine with Debian's kernel.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"

MODULES="virtio_pci virtio_blk crc32c_generic crc32c_intel fuse"
TIMING=2000,8000,20000 # an emulated machine is slow
STOP_MS=500 # of a daemon
ROUNDS=${LUNFS_ROUNDS:-3}
PROGRAM=$BUILD/tests/system/old_kernel

[ -x "$PROGRAM" ] || skip "libcmocka is missing, so the tests' programs were not built"
why=$(vm_missing)
[ -z "$why" ] || skip "$why"
read -r version _ < <(vm_kernel)
[ "$(printf '%s\n6.16\n' "$version" | sort -V | head -n 1)" != 6.16 ] || skip "Linux $version makes no copies"

VM=$WORK/vm
mkdir "$VM"
truncate -s 512M "$DEV"
vm_build "$VM" "$MODULES" "$(dirname "$0")/old_kernel.init" "$MKFS" "$MOUNT" "$FSCK" "$PROGRAM" ||
	fail "no initramfs"
CLEANUP+=("vm_kill '$VM'")
VM_APPEND="lunfs_timing=$TIMING lunfs_rounds=$ROUNDS lunfs_stop_ms=$STOP_MS" \
	vm_boot "$VM" 1024 -drive "file=$DEV,format=raw,if=virtio,cache=unsafe"
vm_wait "$VM" 400 "all done" || {
	tail -n 20 "$VM/console.log"
	fail "the machine did not come to its end"
}
console=$(tr -d '\r' <"$VM/console.log")
sed -n 's/^\(both are mounted\|round\)/  &/p' <<<"$console"
for what in "all done: clean" "both are mounted"; do
	grep -q "^$what" <<<"$console" || {
		echo "$console"
		fail "the machine did not say '$what'"
	}
done
[ "$(grep -c '^round .* ended with 0 .* lost 0 ' <<<"$console")" = "$ROUNDS" ] || {
	tail -n 40 <<<"$console"
	fail "blocks that host b had synced are lost, or a round came to no end"
}
[ "$(grep -c '^round .*: copies [1-9]' <<<"$console")" = "$ROUNDS" ] ||
	fail "the kernel had nothing queued, so nothing is shown"
! grep -q backlog-unknown <<<"$console" || fail "the daemon cannot see what the kernel has left to write"
pass "copies in the queue of an old kernel do not come after the lock has gone"
