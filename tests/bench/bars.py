# SPDX-License-Identifier: GPL-2.0-or-later
"""
The bars: what lunfs wants to reach, each judged by the medians of one run. A bar that lacks one of
its figures is neither met nor missed.
"""

PASSTHROUGH = ("passthrough_ll", "passthrough_hp")
OTHER_FUSE = (*PASSTHROUGH, "fuse2fs", "ntfs-3g")
US_MORE_THAN_EXT4 = 25
PINGPONG_RATE = 100
PINGPONG_IOS = 3
IDLE_IOS = 2


class Judge:
    def __init__(self, medians):
        self.medians, self.rows = medians, []

    def value(self, work, contender, field="value"):
        return self.medians.get(work, {}).get(contender, {}).get(field)

    def best(self, work, contenders):
        """(figure, who) of the best of them that has one."""
        have = [(self.value(work, c), c) for c in contenders if self.value(work, c)]
        return max(have) if have else (None, None)

    def row(self, bar, value, wanted, less=False, note=""):
        """@wanted is what @value must reach, or, if @less, not exceed."""
        met = None
        if value is not None and wanted is not None:
            met = value <= wanted if less else value >= wanted
        self.rows.append({"bar": bar, "lunfs": value, "wanted": wanted, "less": less, "met": met,
                          "note": note})

    def at_least(self, bar, work, share, contenders, mine="lunfs"):
        theirs, who = self.best(work, contenders)
        self.row(bar, self.value(work, mine), theirs and share * theirs,
                 note=f"{who}: {theirs:,.0f}" if theirs else "")

    def rate_of(self, bar, work, base, times):
        one = self.value(base, work[1])
        self.row(bar, self.value(*work), one and times * one, note=f"one: {one:,.0f}" if one else "")


def judge(medians):
    j = Judge(medians)
    for op in ("read", "write"):
        j.at_least(f"1 MiB sequential {op}: 95 % of the best other FUSE file system", f"{op}-1m", 0.95,
                   OTHER_FUSE)
    j.at_least("1 MiB sequential write: 85 % of the device", "write-1m", 0.85, ["raw"])
    for op in ("read", "write"):
        j.at_least(f"1 MiB sequential {op}, device slowed to 500 MB/s: 95 % of the device",
                   f"slow-{op}-1m", 0.95, ["raw"])
    for op in ("read", "write"):
        j.at_least(f"4k random {op}, QD32: the better passthrough example", f"{op}-4k-q32", 1, PASSTHROUGH)
        j.at_least(f"4k random {op}, QD32: 5 times fuse2fs", f"{op}-4k-q32", 5, ["fuse2fs"])
    ext4 = j.value("write-4k-q1", "ext4", "lat_us")
    j.row("4k write, QD1: at most 25 microseconds more than ext4", j.value("write-4k-q1", "lunfs", "lat_us"),
          ext4 and ext4 + US_MORE_THAN_EXT4, less=True, note=f"ext4: {ext4:.1f}" if ext4 else "")
    j.at_least("4k overwrite with fdatasync: 80 % of ext4", "fdatasync-4k", 0.8, ["ext4"])
    for op in ("create", "stat", "rename", "unlink"):
        j.at_least(f"{op}: the better passthrough example", f"{op}-1t", 1, PASSTHROUGH)
        j.at_least(f"{op}: 2 times fuse2fs", f"{op}-1t", 2, ["fuse2fs"])
        j.rate_of(f"{op}: four threads 1.5 times one", (f"{op}-4t", "lunfs"), f"{op}-1t", 1.5)
    j.at_least("fs_mark with fsync of every file: 50 % of ext4", "fs_mark-fsync-1t", 0.5, ["ext4"])
    for op in ("create", "stat", "rename", "unlink"):
        j.rate_of(f"{op}: two hosts, a directory each, 1.8 times one", (f"{op}-two-hosts", "lunfs2"),
                  f"{op}-one-host", 1.8)
        cores = [j.value(f"{op}-{n}", "lunfs2", "cores_busy") for n in ("one-host", "two-hosts")]
        if all(cores):
            # both kinds of work are measured over all phases of one run
            j.rows[-1]["note"] += f"; busy cores: {cores[0]} with one, {cores[1]} with two"
    j.row("lock ping-pong: hand-overs a second", j.value("lock-pingpong", "lunfs2"), PINGPONG_RATE)
    j.row("lock ping-pong: device I/Os a hand-over beside the data", j.value("cost-of-pingpong", "lunfs2"),
          PINGPONG_IOS, less=True)
    j.row("idle host: device I/Os a second", j.value("idle-io", "lunfs2"), IDLE_IOS, less=True)
    return j.rows
