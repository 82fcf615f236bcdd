#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Work that stays on one host costs no lock I/O: 10,000 files in one own directory, under 100 ATS.
. "$(dirname "$0")/lib.sh"

make_image 1G --hosts 4
mount_host a
mount_host b
mkdir "$(mnt a)/own"
before=$(stat_of a ats_commands)
beats_from=$(now_ms)
python3 - "$(mnt a)/own" <<'PY'
import os, sys
for i in range(10000):
    os.close(os.open("%s/file.%05d" % (sys.argv[1], i), os.O_CREAT | os.O_WRONLY, 0o644))
PY
after=$(stat_of a ats_commands)
# Beats are ATS commands too, but no lock I/O.
beats=$(((($(now_ms) - beats_from) / ${TIMING%%,*}) + 2))
spent=$((after - before - beats))
say "10,000 creates: $((after - before)) ATS commands, of these at most $beats beats"
((spent < 100)) || fail "10,000 creates took $spent ATS commands besides $beats beats"
[ "$(find "$(mnt b)/own" -type f | wc -l)" = 10000 ] || fail "b does not see all 10,000 files"
umount_all
check_clean
pass "10,000 creates in one own directory cost fewer than 100 ATS commands"
