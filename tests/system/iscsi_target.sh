#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A real iSCSI target that knows COMPARE AND WRITE: the kernel's own (LIO), in a small virtual
# machine of its own, reachable at a free port of 127.0.0.1.
#
#   iscsi_target.sh start DIR   boots it, prints one iscsi:// URL for each LUN (and keeps them in
#                               DIR/urls), and returns; DIR is made if need be
#   iscsi_target.sh stop DIR    ends it and removes what it made in DIR
#   iscsi_target.sh run DIR     start, stay until killed, stop
#
# LUN_MB (2048), LUNS (1; from the third on they reject FUA), LUN_SECTOR (512; or a list, one for each
# LUN). Exit status 77: it cannot be had here, with the reason on stdout.
set -uo pipefail
. "$(dirname "$0")/vm.sh"

MODULES="virtio_pci virtio_net virtio_blk crc32c_generic crc32c_intel configfs
	target_core_mod target_core_iblock iscsi_target_mod"
IQN=iqn.2026-01.test.lunfs:target
BOOT_S=90
PORT_TRIES=5

free_port() {
	local port
	while port=$((20000 + RANDOM)); do
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
	done
	echo "$port"
}

disks() { # dir -> qemu options, one a line
	local i size sizes
	read -ra sizes <<<"${LUN_SECTOR:-512}"
	for ((i = 0; i < ${LUNS:-1}; i++)); do
		size=${sizes[i]:-${sizes[-1]}}
		truncate -s "${LUN_MB:-2048}M" "$1/disk$i.img" || return 1
		printf '%s\n' -drive \
			"file=$1/disk$i.img,format=raw,if=none,id=d$i,cache=writeback,discard=unmap" \
			-device "virtio-blk-pci,drive=d$i,logical_block_size=$size,physical_block_size=$size"
	done
}

boot() { # dir
	local dir=$1 port opts
	mapfile -t opts < <(disks "$dir")
	for _ in $(seq 1 $PORT_TRIES); do
		port=$(free_port)
		vm_boot "$dir" 512 "${opts[@]}" \
			-netdev "user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:$port-:3260" \
			-device virtio-net-pci,netdev=n,romfile=
		if vm_wait "$dir" $BOOT_S "lunfs: target ready"; then
			echo "$port" >"$dir/port"
			return 0
		fi
		grep -q 'host forwarding' "$dir/qemu.log" || return 1
	done
	return 1
}

start() { # dir
	local why i
	why=$(vm_missing)
	if [ -n "$why" ]; then
		echo "$why."
		exit 77
	fi
	mkdir -p "$1" || exit 1
	if ! { vm_build "$1" "$MODULES" "$(dirname "$0")/iscsi_target.init" && boot "$1"; }; then
		tail -n 5 "$1/console.log" >&2
		stop "$1"
		exit 1
	fi
	for ((i = 0; i < ${LUNS:-1}; i++)); do
		echo "iscsi://127.0.0.1:$(cat "$1/port")/$IQN/$i"
	done | tee "$1/urls"
}

stop() { # dir
	vm_kill "$1"
	rm -rf "$1"/{disk*.img,initramfs,kernel,console.log,qemu.log,port,urls,root}
	rmdir "$1" 2>/dev/null || true
}

case ${1:-}:${2:+dir} in
start:dir) start "$2" ;;
stop:dir) stop "$2" ;;
run:dir)
	trap 'stop "$2"; exit 0' INT TERM
	start "$2"
	while vm_alive "$2"; do sleep 1; done
	stop "$2"
	exit 1
	;;
*)
	echo "usage: $0 start|stop|run DIR" >&2
	exit 2
	;;
esac
