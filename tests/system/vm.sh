#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A small virtual machine with Debian's kernel, for tests that need a real SCSI target or real SCSI
# disks. Sourced; everything lives in one folder, and the machine is ended by the pid kept there.
#
#   vm_build DIR "modules..." INIT [file...]   initramfs in DIR: busybox, modules with what they
#                                              need, INIT as /init, programs with their libraries,
#                                              vm_guest.sh as /guest.sh
#   vm_boot DIR MEMORY_MB [qemu options...]    in the background; console in DIR/console.log
#   vm_wait DIR SECONDS TEXT                   until the console shows a line TEXT
#   vm_kill DIR
#
# The kernel comes from the package linux-image-amd64: the one installed, or one that is downloaded
# and unpacked (not installed) below LUNFS_KERNEL_CACHE. All functions return non-zero with
# a sentence on stderr; vm_missing prints why there can be no machine here. vm_iscsistart prints the
# files that make the kernel's own iSCSI initiator log in (package open-iscsi, unpacked likewise).

KERNEL_CACHE=${LUNFS_KERNEL_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/lunfs-test-kernel}

vm_missing() {
	local p
	for p in qemu-system-x86_64 busybox cpio; do
		vm_find "$p" >/dev/null || {
			echo "$p is not installed, so no virtual machine can be started"
			return
		}
	done
	vm_kernel >/dev/null || echo "Debian's kernel package linux-image-amd64 is not to be had"
}

vm_find() { PATH=$PATH:/usr/sbin:/sbin command -v "$1"; }

# Prints "VERSION KERNEL MODULES" of a kernel, which is downloaded the first time.
vm_kernel() {
	local top v
	for top in "" "$KERNEL_CACHE"; do
		for v in $(cd "$top/lib/modules" 2>/dev/null && printf '%s\n' *-amd64 | sort -rV); do
			if [ -f "$top/boot/vmlinuz-$v" ] && [ -d "$top/lib/modules/$v/kernel" ]; then
				echo "$v $top/boot/vmlinuz-$v $top/lib/modules/$v"
				return 0
			fi
		done
		[ -n "$top" ] || vm_download || true
	done
	return 1
}

vm_download() {
	local pkg tmp
	[ ! -d "$KERNEL_CACHE/lib/modules" ] || return 0
	compgen -G "/boot/vmlinuz-*-amd64" >/dev/null && return 0
	pkg=$(apt-cache depends linux-image-amd64 2>/dev/null |
		sed -n 's/.*Depends: \(linux-image-[0-9].*-amd64\)$/\1/p' | head -n 1)
	[ -n "$pkg" ] || return 1
	mkdir -p "$KERNEL_CACHE"
	tmp=$(mktemp -d "$KERNEL_CACHE/new.XXXXXX")
	(
		cd "$tmp" &&
			timeout 300 apt-get download "$pkg" >/dev/null 2>&1 &&
			dpkg -x ./*.deb . &&
			mv lib boot "$KERNEL_CACHE/"
	)
	local rc=$?
	rm -rf "$tmp"
	return $rc
}

# Prints the paths of iscsistart and of a library of its own; both go into a machine's /bin.
vm_iscsistart() {
	local tmp dir=$KERNEL_CACHE/open-iscsi
	if [ ! -x "$dir/iscsistart" ]; then
		mkdir -p "$dir"
		tmp=$(mktemp -d "$KERNEL_CACHE/new.XXXXXX")
		(
			cd "$tmp" &&
				timeout 120 apt-get download open-iscsi libopeniscsiusr >/dev/null 2>&1 &&
				for p in ./*.deb; do dpkg -x "$p" .; done &&
				cp -L usr/lib/*/libopeniscsiusr.so.0.2.0 "$dir/" &&
				cp "$(find . -name iscsistart -type f)" "$dir/"
		) || rm -rf "$dir"
		rm -rf "$tmp"
	fi
	[ -x "$dir/iscsistart" ] && printf '%s\n' "$dir"/*
}

# Modules in the order in which depmod says that they can be loaded, as paths below MODULES.
vm_module_files() { # modules-folder names...
	local dir=$1 name
	shift
	for name in "$@"; do
		awk -F: -v n="$name" '
			{ base = $1; sub(/.*\//, "", base); sub(/\.ko.*/, "", base); gsub(/-/, "_", base) }
			base == n { k = split($2, dep, " "); for (i = k; i > 0; i--) print dep[i]; print $1 }
		' "$dir/modules.dep"
	done | awk '!seen[$0]++'
}

vm_unpack_module() { # from to
	case $1 in
	*.xz) xz -dc "$1" >"$2" ;;
	*.zst) zstd -qdc "$1" >"$2" ;;
	*) cp "$1" "$2" ;;
	esac
}

vm_add_modules() { # root modules-folder names...
	local root=$1 dir=$2 f n
	shift 2
	mkdir -p "$root/modules"
	while read -r f; do
		n=$(basename "$f")
		vm_unpack_module "$dir/$f" "$root/modules/${n%.ko*}.ko"
		echo "${n%.ko*}" >>"$root/modules/order"
	done < <(vm_module_files "$dir" "$@")
}

vm_add_program() { # root file
	local lib
	cp "$2" "$1/bin/"
	for lib in $(ldd "$2" 2>/dev/null | grep -o '/[^ ]*'); do
		mkdir -p "$1$(dirname "$lib")"
		cp -L "$lib" "$1$lib"
	done
}

vm_build() { # dir modules init files...
	local dir=$1 mods=$2 init=$3 root=$1/root version kernel moddir f
	shift 3
	read -r version kernel moddir < <(vm_kernel) || return 1
	mkdir -p "$root"/{bin,proc,sys,dev,etc/target/pr,var/target/pr,run,tmp}
	cp "$(vm_find busybox)" "$root/bin/busybox"
	if [ ! -s "$moddir/modules.dep" ]; then
		busybox depmod -b "${moddir%/lib/modules/*}" "$version" || return 1
	fi
	# shellcheck disable=SC2086
	vm_add_modules "$root" "$moddir" $mods
	for f in "$@"; do vm_add_program "$root" "$f"; done
	cp "$init" "$root/init"
	cp "$(dirname "${BASH_SOURCE[0]}")/vm_guest.sh" "$root/guest.sh"
	chmod +x "$root/init"
	(cd "$root" && find . | cpio -o -H newc --quiet) >"$dir/initramfs" || return 1
	rm -rf "$root"
	cp -L "$kernel" "$dir/kernel"
}

vm_boot() { # dir memory options...
	local dir=$1 mem=$2
	shift 2
	: >"$dir/console.log"
	setsid qemu-system-x86_64 -accel tcg -cpu max -smp 2 -m "$mem" -nodefaults -no-user-config \
		-display none -no-reboot -serial "file:$dir/console.log" \
		-kernel "$dir/kernel" -initrd "$dir/initramfs" \
		-append "console=ttyS0 quiet panic=-1 ${VM_APPEND:-}" "$@" \
		>"$dir/qemu.log" 2>&1 </dev/null &
	echo $! >"$dir/qemu.pid"
	disown $!
}

vm_alive() { kill -0 "$(cat "$1/qemu.pid" 2>/dev/null || echo x)" 2>/dev/null; }

vm_wait() { # dir seconds text
	local end=$((SECONDS + $2))
	until grep -q "^$3" "$1/console.log"; do
		if ! vm_alive "$1"; then
			! grep -q "^$3" "$1/console.log" || return 0 # its last words
			echo "The virtual machine ended early: $(tail -n 1 "$1/qemu.log")" >&2
			return 1
		fi
		if ((SECONDS >= end)); then
			echo "The virtual machine did not say \"$3\" in $2 s." >&2
			return 1
		fi
		sleep 0.1
	done
}

vm_kill() { # dir
	local pid
	pid=$(cat "$1/qemu.pid" 2>/dev/null) || return 0
	rm -f "$1/qemu.pid"
	# The number may have come round to somebody else.
	[ -d "/proc/$pid" ] && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF -- "$1/console.log" || return 0
	kill -9 "$pid" 2>/dev/null
	for _ in $(seq 1 100); do
		kill -0 "$pid" 2>/dev/null || return 0
		sleep 0.05
	done
}
