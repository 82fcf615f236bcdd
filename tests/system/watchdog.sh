#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# fence=watchdog with the kernel's software watchdog in a small virtual machine: beats keep it quiet, a
# clean unmount disarms it, and a daemon that is stopped has the machine reset before its lease ends.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"

why=$(vm_missing)
[ -z "$why" ] || skip "$why"
VM=$WORK/vm
mkdir "$VM"
vm_build "$VM" "fuse softdog" "$(dirname "$0")/watchdog.init" "$MKFS" "$MOUNT" "$LUNFS" ||
	fail "no initramfs"
CLEANUP+=("vm_kill '$VM'")
vm_boot "$VM" 1024
vm_wait "$VM" 120 "stopped at" || {
	tail -n 20 "$VM/console.log"
	fail "the machine did not come to its end"
}
start=$(now_ms)
machine_gone() { ! vm_alive "$VM"; }
wait_until 30 machine_gone || {
	tail -n 20 "$VM/console.log"
	fail "the machine was not reset"
}
say "reset $(($(now_ms) - start)) ms after the daemon was stopped (lease 4000 ms)"
for what in refused nowayout label fed unmount disarmed; do
	grep -q "^result $what 0" "$VM/console.log" || {
		tail -n 30 "$VM/console.log"
		fail "$what"
	}
done
! grep "^result .* [1-9]" "$VM/console.log" || fail "see above"
pass "the watchdog resets the machine of a daemon that cannot beat, and nobody else's"
