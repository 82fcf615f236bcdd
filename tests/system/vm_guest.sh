# SPDX-License-Identifier: GPL-2.0-or-later
# Inside a virtual machine of vm.sh: what the /init scripts share. vm_build puts it there as /guest.sh.
#
#   guest_start [MODULE ARGUMENTS]   the usual file systems and links, the modules in their order
#   lio_disk NAME DEVICE             a disk of the kernel's target over a block device
#   lio_iscsi NAME...                one iSCSI target that lets everybody in, a LUN for each disk
#   lio_loop NAME NUMBER             a SCSI disk of this machine, by a path of that number
#   iscsi_login INITIATOR ADDRESS PORT
#   disks_by VENDOR NUMBER           names of the SCSI disks of a make, once there are so many
#   until_true SECONDS COMMAND...
#
# shellcheck shell=sh
bb=/bin/busybox
target=/sys/kernel/config/target
IQN=iqn.2026-01.test.lunfs:target
export PATH=/bin LD_LIBRARY_PATH=/bin

guest_start() {
	$bb --install -s /bin
	mount -t proc proc /proc
	mount -t sysfs sysfs /sys
	mount -t devtmpfs devtmpfs /dev
	mkdir -p /dev/shm /run /var/lock
	mount -t tmpfs tmpfs /dev/shm
	mount -t tmpfs tmpfs /run
	while read -r m; do
		args=
		[ "$m" = "$1" ] && args=$2
		# shellcheck disable=SC2086
		insmod /modules/$m.ko $args || echo "no module $m"
	done </modules/order
	[ ! -d /sys/kernel/config ] || mount -t configfs configfs /sys/kernel/config
	ip link set lo up
	if [ -d /sys/class/net/eth0 ]; then
		ip addr add 10.0.2.15/24 dev eth0
		ip link set eth0 up
	fi
}

until_true() { # seconds command...
	n=$(($1 * 10))
	shift
	until "$@"; do
		n=$((n - 1))
		[ $n -gt 0 ] || return 1
		usleep 100000
	done
}

lio_disk() { # name device
	mkdir -p $target/core/iblock_0/$1
	echo "udev_path=$2" >$target/core/iblock_0/$1/control
	echo 1 >$target/core/iblock_0/$1/enable
	echo "lunfs-test-$1" >$target/core/iblock_0/$1/wwn/vpd_unit_serial
	echo 1 >$target/core/iblock_0/$1/attrib/emulate_tpu 2>/dev/null
}

lio_iscsi() { # name...
	tpg=$target/iscsi/$IQN/tpgt_1 n=0
	mkdir -p $tpg/np/0.0.0.0:3260
	for disk in "$@"; do
		mkdir -p $tpg/lun/lun_$n
		ln -s $target/core/iblock_0/$disk $tpg/lun/lun_$n/disk
		n=$((n + 1))
	done
	for a in demo_mode_write_protect=0 generate_node_acls=1 cache_dynamic_acls=1 authentication=0 \
		default_cmdsn_depth=64; do
		echo ${a#*=} >$tpg/attrib/${a%=*}
	done
	echo 1 >$tpg/enable
}

lio_loop() { # name number
	tpg=$target/loopback/naa.500140500000000$2/tpgt_1
	mkdir -p $tpg/lun/lun_0
	echo naa.500140500000001$2 >$tpg/nexus
	ln -s $target/core/iblock_0/$1 $tpg/lun/lun_0/disk
}

# One session for each address of a target: iscsistart takes a second for the same. Without a daemon
# nobody could follow a ping that was not answered in time, so there are none.
iscsi_login() { # initiator address port
	iscsistart -i $1 -t $IQN -g 1 -a $2 -p $3 -P node.conn[0].timeo.noop_out_interval=0 \
		-P node.conn[0].timeo.noop_out_timeout=0
}

disks_by() { # vendor number
	n=0
	while [ $n -lt 100 ]; do
		found=
		for d in /sys/block/sd*; do
			grep -qs "$1" $d/device/vendor && [ -b /dev/${d##*/} ] && found="$found ${d##*/}"
		done
		# shellcheck disable=SC2086
		[ "$(echo $found | wc -w)" = $2 ] && echo $found && return
		usleep 100000
		n=$((n + 1))
	done
}
