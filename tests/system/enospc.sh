#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A full device says ENOSPC, deleting still works, and all space comes back.
. "$(dirname "$0")/lib.sh"

make_image 64M --hosts 3
mount_host a
mount_host b
free_blocks() { stat -f -c %f "$(mnt a)"; }
start=$(free_blocks)
for round in 1 2 3; do
	python3 - "$(mnt a)" "$(mnt b)" <<'PY' || fail "filling the volume did not end in ENOSPC"
import errno, os, sys
full = 0
for k, size in enumerate((1 << 20, 5000, 100)):
    for d in sys.argv[1:]:
        os.makedirs(d + "/fill", exist_ok=True)
        i = 0
        try:
            while True:
                with open("%s/fill/%d.%s.%d" % (d, k, d[-1], i), "wb") as f:
                    f.write(b"x" * size)
                i += 1
                if i > 200000:
                    sys.exit("no end in sight")
        except OSError as e:
            if e.errno != errno.ENOSPC:
                raise
            full += 1
sys.exit(0 if full == 6 else "only %d writers met ENOSPC" % full)
PY
	say "round $round: full at $(free_blocks) of $start free blocks, $(find "$(mnt a)/fill" -type f | wc -l) files"
	rm -rf "$(mnt b)/fill" || fail "deleting on a full volume"
	[ ! -e "$(mnt a)/fill" ] || fail "a still sees what b deleted"
	back() { (($(free_blocks) * 100 >= start * 80)); }
	wait_until 20 back || fail "round $round: only $(free_blocks) of $start free blocks came back"
	head -c 8M /dev/zero >"$(mnt b)/again" || fail "b cannot write after deleting"
	rm "$(mnt a)/again"
done
umount_all
check_clean
pass "a full volume says ENOSPC, deleting works and gives the space back"
