#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Two virtual machines, each with a kernel of its own, share one LUN through their kernels' SCSI layer
# (the sg backend): the power of one is cut in the middle of its load, and the other one goes on with its
# files, once it has fenced and recovered it by persistent reservations. What was acknowledged is there;
# the machine that comes back mounts again. The LUN is one of the kernel's target in a third machine.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"

HERE=$(cd "$(dirname "$0")" && pwd)
MODULES="virtio_pci virtio_net crc32c_generic crc32c_intel sd_mod sg iscsi_tcp fuse"
command -v jq >/dev/null || skip "jq is not installed"
why=$(vm_missing)
[ -z "$why" ] || skip "$why"
mapfile -t login < <(vm_iscsistart)
[ ${#login[@]} -gt 0 ] || skip "Debian's package open-iscsi is not to be had"

rc=0
out=$(LUN_MB=512 "$HERE/iscsi_target.sh" start "$WORK/target") || rc=$?
[ $rc -ne 77 ] || skip "$out"
[ $rc -eq 0 ] || fail "the iSCSI target did not start: $out"
CLEANUP+=("'$HERE/iscsi_target.sh' stop '$WORK/target'")

power_on() { # host
	local dir=$WORK/$1
	mkfifo "$dir/tell.in" "$dir/tell.out" 2>/dev/null || true
	VM_APPEND="lunfs_host=$1 lunfs_port=$(cat "$WORK/target/port")" vm_boot "$dir" 512 \
		-serial "pipe:$dir/tell" -netdev user,id=n -device virtio-net-pci,netdev=n,romfile=
}

number=0
ask() { # host command...: prints what it says, ends as it does
	local h=$1
	shift
	number=$((number + 1))
	echo "$number $*" >"$WORK/$h/tell.in"
	answer "$h" "$number" 60
}

answer() { # host number seconds
	local rc
	vm_wait "$WORK/$1" "$3" "$2 ended with" || fail "host $1 does not answer"
	tr -d '\r' <"$WORK/$1/console.log" | sed -n "s/^$2> //p"
	rc=$(tr -d '\r' <"$WORK/$1/console.log" | sed -n "s/^$2 ended with //p")
	return "$rc"
}

mkdir "$WORK/b" "$WORK/c"
vm_build "$WORK/b" "$MODULES" "$HERE/two_vms.init" "$MKFS" "$MOUNT" "$FSCK" "$LUNFS" "${login[@]}" ||
	fail "no initramfs"
cp "$WORK/b"/{kernel,initramfs} "$WORK/c/"
for h in b c; do
	CLEANUP+=("vm_kill '$WORK/$h'")
	power_on $h
done
for h in b c; do
	vm_wait "$WORK/$h" 90 "host $h is ready" || {
		tail -n 20 "$WORK/$h/console.log"
		fail "host $h did not start"
	}
done
ask b 'ls -l $dev; cat /proc/partitions; cat /sys/class/iscsi_connection/*/ping_tmo; ls /sys/class/iscsi_connection/*/'
ask c 'ls -l $dev; cat /proc/partitions'
pass "two machines see one LUN"
