# SPDX-License-Identifier: GPL-2.0-or-later
"""
Whose time it was and for what: samples of perf, put together as stacks that begin with who, and added up in a
table. A stack is from the outermost function to the innermost; of each function its file is known.
"""

import collections
import re

from rig import command

PROGRAMS = ("fio", "bench-meta", "fs_mark", "qemu-img", "tar", "rm", "dbench")
WHO = ["who asks", "the daemon", "kernel threads", "interrupts while idle", "others", "idle"]
HALTED = re.compile(r"safe_halt|default_idle|cpuidle_enter|acpi_idle|intel_idle|mwait")
KERNEL_THREAD = re.compile(r"(kworker|ksoftirqd|migration|rcu_|jbd2|xfs)")
# On the way to every function, and no news.
BOILERPLATE = re.compile(r"(entry_SYSCALL_64_after_hwframe|do_syscall_64|clone3|start_thread|ret_from_fork(_asm)?|"
                         r"kthread|__libc_start.*|_start)$")

LAYERS = ["base", "dev", "cluster", "txn", "alloc", "node", "vol", "fuse"]
# What a function of the kernel is for; the first that fits.
KERNEL = [(what, re.compile(pattern)) for what, pattern in (
    ("waking, sleeping", r"schedule|wake_up|wakeup|ttwu|futex|task_switch|exit_to_user_mode_loop|resched|wait_event"),
    ("copying", r"_copy_|^copy_|memcpy|rep_movs|clear_page|memset"),
    ("pinning pages", r"gup|get_user_pages|pin_user|iov_iter_(get|extract)_pages|unpin|bio_release_pages"),
    ("device", r"^_*(blk|blkdev|submit_bio|loop|lo_|aio_|io_submit|shmem|bio_|iomap|nvme|scsi|sd_)"),
    ("FUSE", r"fuse"))]
OTHER_KERNEL, OTHER = "kernel, other", "other programs' own"
WHAT = [*(what for what, _ in KERNEL), OTHER_KERNEL, *(f"lunfs {x}" for x in LAYERS), "libfuse", OTHER]


def clean(function):
    """Without what the compiler and the linker put behind it."""
    return re.sub(r"(\.(isra|part|constprop|cold)(\.\d+)?|@@.*)+$", "", function)


def layers_of(folder):
    """function: layer of lunfs, by the folder it was compiled for."""
    out = {}
    for layer in LAYERS:
        files = [*folder.glob(f"fs/{layer}/*.p/*.o"), *folder.glob(f"fs/mount.lunfs.p/{layer}_*.o")]
        for line in command("nm", "--defined-only", *files).splitlines() if files else []:
            word = line.split()
            if len(word) == 3 and word[1] in "tT":
                out.setdefault(clean(word[2]), layer)
    return out


def in_kernel(where):
    return where.startswith("[kernel") or where.endswith(".ko")


def what_is(function, where, layers):
    """What a function is for, or None if that depends on who called it."""
    if in_kernel(where):
        return next((what for what, pattern in KERNEL if pattern.search(function)), None)
    if where.endswith("mount.lunfs"):
        return f"lunfs {layers[function]}" if function in layers else None
    return "libfuse" if "libfuse" in where else None


def what_for(frames, layers):
    """What the innermost functions do: those who call them are asked until one knows."""
    kernel = bool(frames) and in_kernel(frames[-1][1])
    for function, where in reversed(frames):
        if kernel and not in_kernel(where):
            break
        what = what_is(function, where, layers)
        if what:
            return what
    return OTHER_KERNEL if kernel else OTHER


class Profile:
    """The samples of all runs of one work on one contender."""

    def __init__(self, daemons, layers):
        self.daemons, self.layers, self.rates = daemons, layers, []
        self.folded, self.table, self.threads = (collections.Counter() for _ in range(3))
        self.of = {}  # function: what it is for

    def add(self, found, rate):
        self.rates.append(rate)
        for comm, pid, _, frames in found:
            who = self.who(comm, pid, frames)
            what = what_for(frames, self.layers)
            self.table[who, "" if who == "idle" else what] += 1
            if who == "the daemon":
                self.threads[comm] += 1
            self.folded[self.path(who, comm, frames)] += 1

    def who(self, comm, pid, frames):
        if pid == 0:
            halted = any(HALTED.search(f) for f, _ in frames[-3:])
            return "idle" if halted else "interrupts while idle"
        if pid in self.daemons:
            return "the daemon"
        if comm in PROGRAMS:
            return "who asks"
        return "kernel threads" if KERNEL_THREAD.match(comm) else "others"

    def path(self, who, comm, frames):
        if who == "idle":
            return (who,)
        path = [who, comm.split("/")[0]]
        for function, where in frames:
            name = f"[{where.rsplit('/', 1)[-1].strip('[]')}]" if function == "[unknown]" else function
            if name != path[-1] and not BOILERPLATE.match(name):
                path.append(name)
            if name not in self.of:
                self.of[name] = what_is(function, where, self.layers) or (
                    OTHER_KERNEL if in_kernel(where) else OTHER)
        return tuple(path)

    def total(self):
        return sum(self.folded.values()) or 1

    def share(self, who=None, what=None):
        n = sum(n for (a, b), n in self.table.items() if who in (None, a) and what in (None, b))
        return 100 * n / self.total()

    def text(self):
        """One stack a line, as speedscope, inferno or flamegraph.pl read them."""
        return "".join(f"{';'.join(path)} {n}\n" for path, n in sorted(self.folded.items()))

    def facts(self):
        return {"samples": self.total(), "rates": self.rates,
                "percent": {who: {what or who: round(self.share(who, what), 1) for what in ["", *WHAT]
                                  if self.table[who, what]} for who in WHO if self.share(who)},
                "threads_percent": {t: round(100 * n / self.total(), 1) for t, n in self.threads.most_common()}}

    def markdown(self, title):
        there = [w for w in WHO if self.share(w) >= 0.05]
        lines = [f"{title}: {self.total()} samples", "", "| % of both processors' time | " + " | ".join(there) + " |",
                 "|---|" + "---:|" * len(there)]
        for what in WHAT:
            if self.share(what=what) >= 0.3:
                cells = [f"{self.share(w, what):.1f}" if self.table[w, what] else "" for w in there]
                lines.append(f"| {what} | " + " | ".join(cells) + " |")
        lines.append("| all | " + " | ".join(f"{self.share(w):.1f}" for w in there) + " |")
        return "\n".join([*lines, ""])
