#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Three hosts write records of their own to the same pages, by pwrite and by stores to mappings, while
# others read them both ways: nothing is lost, torn, or goes back, and nobody hangs.
. "$(dirname "$0")/lib.sh"

make_image 1G --hosts 4
for h in a b c; do mount_host $h; done
for kinds in b br mx bmrx; do
	python3 "$(dirname "$0")/shared_pages.py" 5 $kinds "$(mnt a)/$kinds" "$(mnt b)/$kinds" "$(mnt c)/$kinds" ||
		fail "shared pages ($kinds: b pwrite, m mapping; readers: r pread, x mapping)"
	say "$kinds: every record is there on every host"
done
umount_all
check_clean
pass "hosts that share pages lose none of each other's records"
