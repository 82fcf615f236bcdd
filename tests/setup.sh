#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Installs the Debian packages that building and testing lunfs take, as far as they are missing, and
# builds into build/. Sourced by run.sh and demo.sh.

# shellcheck disable=SC2034 # used by who sources this
BUILD_PACKAGES=(gcc meson ninja-build pkg-config libfuse3-dev fuse3 libblkid-dev uuid-dev
	libsgutils2-dev libiscsi-dev libcmocka-dev libjson-c-dev libisal-dev uthash-dev)
# shellcheck disable=SC2034
TEST_PACKAGES=(jq python3 attr acl util-linux sqlite3 git qemu-utils qemu-system-x86
	busybox-static cpio kmod procps xz-utils zstd e2fsprogs udev spin tgt clang libclang-rt-dev llvm)
# shellcheck disable=SC2034 # what tests/bench/run.py and flame.py measure with and beside; not needed by any test
BENCH_PACKAGES=(fio fsmark dbench qemu-utils e2fsprogs xfsprogs fuse2fs ntfs-3g python3 g++ dpkg-dev
	linux-perf)

missing_packages() {
	local p
	for p in "$@"; do
		dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q '^install ok installed' ||
			echo "$p"
	done
}

install_missing() {
	local need
	mapfile -t need < <(missing_packages "$@")
	((${#need[@]} == 0)) && return 0
	echo "Installing: ${need[*]}"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq &&
		apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
}

build_lunfs() { # top [build folder]
	local top=$1 build=${2:-$1/build}
	[ -f "$build/build.ninja" ] || meson setup "$build" "$top" >/dev/null || return 1
	ninja -C "$build" >"$build/ninja.log" 2>&1 || {
		tail -n 40 "$build/ninja.log"
		return 1
	}
}
