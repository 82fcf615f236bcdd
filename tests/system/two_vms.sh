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
# Emulated machines answer in milliseconds, and stall for longer when this one is busy.
TIMING=1000,2500,6000
LEASE_MS=6000
BOOT_S=150
ANSWER_S=120
SETTLE_MS=60000 # to recover a host, and to answer, on a machine that is busy
LOAD=25 # records of b before its power is cut

command -v jq >/dev/null || skip "jq is not installed"
why=$(vm_missing)
[ -z "$why" ] || skip "$why"
mapfile -t initiator < <(vm_iscsistart)
[ ${#initiator[@]} -gt 0 ] || skip "Debian's package open-iscsi is not to be had"

console() { tr -d '\r' <"$WORK/$1/console.log"; }

power_on() { # host
	rm -f "$WORK/$1"/tell.*
	mkfifo "$WORK/$1/tell.in" "$WORK/$1/tell.out"
	VM_APPEND="lunfs_host=$1" vm_boot "$WORK/$1" 512 -serial "pipe:$WORK/$1/tell" \
		-netdev user,id=n -device virtio-net-pci,netdev=n,romfile=
}

# A command for a host, which carries out one after the other. What it says stands in $said.
number=0
tell() { # host command
	number=$((number + 1))
	eval "asked_$1=$number"
	echo "$number $2" >"$WORK/$1/tell.in"
}

answer() { # host
	local asked=asked_$1
	local n=${!asked}
	vm_wait "$WORK/$1" $ANSWER_S "$n ended with" || give_up "host $1 does not answer"
	said=$(console "$1" | sed -n "s/^$n> //p")
	[ "$(console "$1" | sed -n "s/^$n ended with //p")" = 0 ]
}

ask() { # host command
	tell "$1" "$2"
	answer "$1" || give_up "host $1, '$2': $said"
}

give_up() {
	local h
	for h in b c; do
		echo "The console of host $h:"
		console "$h" | tail -n 25
	done
	fail "$*"
}

both() { # command
	tell b "$1"
	tell c "$1"
	for h in b c; do answer $h || give_up "host $h, '$1': $said"; done
}

acknowledged() { # host
	local n
	n=$(console "$1" | sed -n "s,^acknowledged /mnt/$1 ,,p" | tail -n 1)
	echo "${n:-0}"
}

at_work() { # host records
	[ "$(acknowledged "$1")" -ge "$2" ] || { vm_alive "$WORK/$1" && return 1; }
}

hosts_are() { # jq-filter value: what c sees
	ask c 'lunfs hosts --json $dev'
	[ "$(jq -c "$1" <<<"$said")" = "$2" ]
}

both_registered() {
	hosts_are '[.hosts[] | select(.state != "free") | [.host, .state, .fence, .registered]] | sort' \
		'[["b","live","pr",true],["c","live","pr",true]]'
}

# Machines
mkdir "$WORK/b" "$WORK/c"
vm_build "$WORK/b" "$MODULES" "$HERE/two_vms.init" "$MKFS" "$MOUNT" "$FSCK" "$LUNFS" \
	"${initiator[@]}" || fail "no initramfs"
ln "$WORK/b"/{kernel,initramfs} "$WORK/c/"
for h in b c; do
	CLEANUP+=("vm_kill '$WORK/$h'")
	power_on $h
done
rc=0
out=$(LUN_MB=512 "$HERE/iscsi_target.sh" start "$WORK/target") || rc=$?
CLEANUP+=("'$HERE/iscsi_target.sh' stop '$WORK/target'")
[ $rc -eq 0 ] || fail "the iSCSI target did not start: $out"
for h in b c; do
	vm_wait "$WORK/$h" $BOOT_S "host $h is ready" || give_up "host $h did not start"
done
both "login $(cat "$WORK/target/port")"
ask c "mkfs.lunfs -q --timing $TIMING \$dev"
# One after the other: a mount resets the LUN, for what an earlier life of its machine may have sent, and
# Linux's target is not to tell a COMPARE AND WRITE of the other so (fs/dev/scout.h).
ask c up
ask b up
both_registered || give_up "not both are registered: $said"
say "two machines have mounted one LUN, fenced by persistent reservations"

# Load, and the end of b
both 'load /mnt/$lunfs_host &'
wait_until $ANSWER_S at_work b $((LOAD / 2)) || give_up "host b is too slow"
ask c 'records /mnt/b/records'
say "c reads $said records of b while b writes"
wait_until $ANSWER_S at_work b $LOAD || give_up "host b is too slow"
before=$(acknowledged c)
start=$(now_ms)
vm_kill "$WORK/b"
tell c 'n=$(($(wc -l </mnt/b/records) + 1)); append /mnt/b/records $n && echo $n'
answer c || give_up "host c cannot write to the file of b: $said"
took=$(($(now_ms) - start))
first=$said lost=$(acknowledged b) after=$(acknowledged c)
say "c wrote to the file of b $took ms after its power was cut (lease $LEASE_MS ms)"
((took > LEASE_MS / 2)) || give_up "c did not wait for the lease of b"
((took < LEASE_MS + SETTLE_MS)) || give_up "c waited for too long"
((after > before)) || give_up "c stood still until b was recovered"
wait_until 10 hosts_are '.hosts[] | select(.host == "b") | .state' '"free"' || give_up "host b is not recovered: $said"
hosts_are '[.reserved, (.keys | length)]' '[true,1]' || give_up "the key of b is still there: $said"
grep -q 'host-fenced: host b' "$WORK/c/console.log" || give_up "c does not say that it fenced b"
power_on b

# What stands
((first > lost)) || give_up "$lost records of b were acknowledged, but $first is the next one"
ask c 'records /mnt/b/records'
[ "$said" = "$first" ] || give_up "there should be $first records of b, not $said"
ask c "i=0; while [ \$i -lt $lost ]; do i=\$((i + 1)); [ -d /mnt/b/dir.\$i ] || echo \$i; done"
[ -z "$said" ] || give_up "folders of b are lost: $said"
ask c 'touch /tmp/stop; wait $!; records /mnt/c/records'
((said >= $(acknowledged c))) || give_up "$(acknowledged c) records of c were acknowledged, $said are there"
say "$lost acknowledged records of b and $said of c are there, $((after - before)) of them from meanwhile"

# b comes back
vm_wait "$WORK/b" $BOOT_S "host b is ready" || give_up "host b did not start again"
ask b "login $(cat "$WORK/target/port")"
ask b up
ask b "records /mnt/b/records && append /mnt/b/records $((first + 1))"
ask c 'records /mnt/b/records'
[ "$said" = $((first + 1)) ] || give_up "c sees $said records of b"
both_registered || give_up "not both are registered again: $said"
say "b has mounted again"
both down
hosts_are '[.reserved, (.keys | length)]' '[false,0]' || give_up "keys are left: $said"
ask c 'fsck.lunfs -n $dev'
! lio=$(grep -h lio-caw "$WORK"/[bc]/console.log) || say "${lio%%. *}"
pass "two machines share a LUN by the sg backend, and survive the loss of one"
