#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The sg backend on real SCSI disks of a small virtual machine: those that know COMPARE AND WRITE
# work, by block device, by /dev/sgN and through dm-multipath; one that rejects it is refused, and so
# is a mapping that it does not pass. Persistent reservations hold between paths, dm-multipath's taken
# together. What a failing disk (scsi_debug) says and does not say is understood.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"

MODULES="virtio_pci virtio_blk virtio_scsi crc32c_generic configfs sd_mod sg scsi_debug
	dm_mod dm_multipath dm_round_robin target_core_mod target_core_iblock tcm_loop
	iscsi_target_mod iscsi_tcp"
LIVE=$BUILD/tests/unit/dev/test_dev_live
[ -x "$LIVE" ] || skip "libcmocka is missing, so test_dev_live was not built"
why=$(vm_missing)
[ -z "$why" ] || skip "$why"

VM=$WORK/vm
mkdir "$VM"
truncate -s 128M "$WORK/lio.img" "$WORK/qemu.img"
PROGRAMS=("$LIVE" "$BUILD/tests/unit/dev/test_dev_reserve" "$BUILD/tests/unit/dev/test_dev_faults"
	"$BUILD/tests/unit/cluster/test_ats_live")
DISKS=(scsi_debug scsi_debug-faults scsi_debug-ats tcm_loop tcm_loop-ats tcm_loop-by-sg qemu-disk qemu-disk-reserved)
if mapfile -t login < <(vm_iscsistart) && [ ${#login[@]} -gt 0 ]; then
	PROGRAMS+=("${login[@]}")
	DISKS+=(iscsi-reserved)
	if dmsetup=$(vm_find dmsetup); then
		PROGRAMS+=("$dmsetup")
		DISKS+=(multipath multipath-reserved multipath-keys mapping)
	fi
fi
vm_build "$VM" "$MODULES" "$(dirname "$0")/sg_dev.init" "${PROGRAMS[@]}" || fail "no initramfs"
CLEANUP+=("vm_kill '$VM'")
vm_boot "$VM" 768 -drive "file=$WORK/lio.img,format=raw,if=virtio" \
	-device virtio-scsi-pci -drive "file=$WORK/qemu.img,format=raw,if=none,id=q" \
	-device scsi-hd,drive=q
vm_wait "$VM" 400 "all done" || {
	tail -n 20 "$VM/console.log"
	fail "the machine did not come to its end"
}
grep -E 'sectors|rejects COMP|fenced in|told after|multipathd|mapping over|^ats-' "$VM/console.log" | tr -d '\r' | sed 's/^/  /' || true
for what in "${DISKS[@]}"; do
	grep -q "^result $what 0" "$VM/console.log" || {
		cat "$VM/console.log"
		fail "the tests on $what"
	}
done
pass "sg backend on ${DISKS[*]}"
