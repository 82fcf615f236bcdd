# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the works are: their groups (a group is what one set-up of the device is for), units and texts. How
each is done says work.py. More is better in all of them but those of LESS_IS_BETTER.
"""

META = ["create", "stat", "rename", "readdir", "unlink"]
HOSTS = ["create", "stat", "rename", "unlink"]
# fio: name, rw, block size, queue depth, jobs
DATA = [(f"{op}-4k-{q}", rw, "4k", depth, jobs)
        for q, depth, jobs in (("q1", 1, 1), ("q32", 32, 1), ("4x32", 32, 4))
        for op, rw in (("read", "randread"), ("write", "randwrite"), ("mix", "randrw"))]
DATA += [("read-64k", "randread", "64k", 8, 1), ("write-64k", "randwrite", "64k", 8, 1),
         ("read-1m", "read", "1m", 4, 1), ("write-1m", "write", "1m", 4, 1)]

# name, group, unit: text. {op} and {n} stand for every operation and number of threads.
TABLE = """
fdatasync-4k             data      IOPS          4k overwrite with fdatasync after each, direct, one at a time
fdatasync-append-4k      data      IOPS          4k append with fdatasync after each, direct
extend-1m                data      MB/s          1m sequential, direct, QD4, a file that grows
prealloc-1m              data      MB/s          1m sequential, direct, QD4, first write of an fallocated file
prealloc-4k-q32          data      IOPS          4k random first write of an fallocated file, QD32
sparse-64k               data      MB/s          64k sequential, direct, QD8, first write of a sparse file
sparse-4k-q32            data      IOPS          4k random first write of a sparse file, QD32
slow-write-1m            slow      MB/s          1m sequential write, direct, QD4, device slowed to 500 MB/s
slow-read-1m             slow      MB/s          1m sequential read, direct, QD4, device slowed to 500 MB/s
qemu-{image}-{aio}-{rw}  qemu      IOPS          qemu-img bench {rw}, 4k, depth 32, cache=none, aio={aio}, {image} image
{meta}-1t                meta      /s            {meta}, 1 thread
{meta}-4t                meta      /s            {meta}, 4 threads, a directory each
create-fsync-1t          meta      /s            create, write 4k, fsync, close; 1 thread
create-fsync-4t          meta      /s            create, write 4k, fsync, close; 4 threads, a directory each
create-shared-4t         meta      /s            create, 4 threads in one directory
fs_mark-1t               tree      files/s       fs_mark, 4k files, no sync
fs_mark-fsync-1t         tree      files/s       fs_mark, 4k files, fsync of each
fs_mark-fsync-4t         tree      files/s       fs_mark, 4k files, fsync of each, 4 threads
untar                    tree      files/s       tar xf of a source tree
rm-rf                    tree      files/s       rm -rf of it
dbench-4                 tree      MB/s          dbench, 4 clients
{host}-one-host          hosts     /s            {host}, one host at work of two mounted, one directory
{host}-two-hosts         hosts     /s            {host}, two hosts at once, a directory each
{host}-same-dir          hosts     /s            {host}, two hosts at once in one directory
one-file-1-host          hosts     IOPS          4k random write QD8 to one file by one host
one-file-2-hosts         hosts     IOPS          4k random write QD8 to one file by two hosts, disjoint halves
lock-pingpong            hosts     hand-overs/s  two hosts write 4k of one file by turns
cost-of-pingpong         hosts     I/Os          device I/Os a hand-over beside the data
contended-write          hosts     writes/s      two hosts write 4k of one file as fast as each can
idle-io                  idle      I/Os/s        device I/Os a second and host when two hosts are mounted and idle
recovery-total           recovery  ms            from the last write of a killed host to another's first to that file
recovery-notice          recovery  ms            of that: until it was taken for dead; its process is gone, no lease is waited for
recovery-fencing         recovery  ms            of that: fencing
recovery-replay          recovery  ms            of that: the replay of its journal of 64 MiB
"""
MANY = {"image": ["raw", "qcow2"], "aio": ["threads", "uring"], "rw": ["read", "write"], "meta": META, "host": HOSTS}
LESS_IS_BETTER = {"cost-of-pingpong", "idle-io", "recovery-total", "recovery-notice", "recovery-fencing",
                  "recovery-replay"}


def expand(lines):
    """A line for each word that a {key} stands for."""
    for key, words in MANY.items():
        mark = "{" + key + "}"
        lines = [x.replace(mark, w) for x in lines for w in (words if mark in x else [""])]
    return lines


def read_table():
    """name: (group, unit, what it is)"""
    out = {name: ("data", "MB/s" if bs == "1m" else "IOPS", f"{bs} {rw}, {jobs} x QD{depth}, direct, written image")
           for name, rw, bs, depth, jobs in DATA}
    for line in expand(TABLE.strip().splitlines()):
        name, group, unit, text = line.split(maxsplit=3)
        out[name] = (group, unit, text)
    return out


WORKS = read_table()
GROUPS = list(dict.fromkeys(g for g, _, _ in WORKS.values()))
TITLES = {"data": "Data, fio on an image", "slow": "Data, a slow device", "qemu": "Virtual machine images",
          "meta": "Metadata", "tree": "Trees of files", "hosts": "Two hosts of lunfs", "idle": "Two hosts that are idle",
          "recovery": "A host is killed"}
# Nothing else on the machine changes these much.
RUNS_MAX = {"idle": 2, "recovery": 3}
# What only lunfs does, in the plot: title, unit, text, bars.
TOGETHER = {
    "hosts": [*((op, "/s", "by hosts and directories", [
        ("one host", f"{op}-one-host"), ("two, own dirs", f"{op}-two-hosts"), ("two, one dir", f"{op}-same-dir")])
                for op in HOSTS),
              ("one file", "IOPS", "4k random write QD8", [("one host", "one-file-1-host"),
                                                           ("two, halves", "one-file-2-hosts")]),
              ("one file", "/s", "4k writes of one file by two hosts", [("by turns", "lock-pingpong"),
                                                                       ("at once", "contended-write")]),
              ("hand-over", "I/Os (less is better)", WORKS["cost-of-pingpong"][2], [("each", "cost-of-pingpong")])],
    "recovery": [("recovery", "ms (less is better)", WORKS["recovery-total"][2], [
        (part, f"recovery-{part}") for part in ("total", "notice", "fencing", "replay")])],
}
# what --quick does if nothing is chosen: some of each group
QUICK = {"write-4k-q1", "read-4k-q32", "write-4k-q32", "write-4k-4x32", "read-1m", "write-1m", "fdatasync-4k",
         "slow-write-1m", "qemu-raw-threads-write", "qemu-qcow2-uring-read", "fs_mark-fsync-1t",
         *(f"{op}-{t}t" for op in META for t in (1, 4)), "create-fsync-1t", "untar", "rm-rf", "dbench-4",
         *(f"{op}-{kind}" for op in HOSTS for kind in ("one-host", "two-hosts", "same-dir")),
         "one-file-2-hosts", "one-file-1-host", "lock-pingpong", "cost-of-pingpong", "contended-write", "idle-io"}
