#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""run.py BUILD [NAME...]: make each damaged volume of this folder, check that fsck.lunfs finds just what the recipe says, that
-p and -y do what it says, that a second run finds nothing, and that what was good still is. Needs root (mounts)."""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(sys.argv[1]).resolve()
FSCK, MKFS, MOUNT = BUILD / "fsck/fsck.lunfs", BUILD / "mkfs/mkfs.lunfs", BUILD / "fs/mount.lunfs"
EDIT, POPULATE = BUILD / "tests/images/lunfs-edit", BUILD / "tests/images/lunfs-populate"
DIES = BUILD / "tests/images/lunfs-fsck-dies"
TIMING = "150,400,800"  # milliseconds: a dead host is waited for


class Wrong(Exception):
    pass


def recipe(path):
    r = {"size": "96M", "mkfs": ["--hosts", "2"], "tree": [], "unfinished": [], "edit": [], "options": [], "expect": set(), "may": set(), "finds": set(), "preen": None,
         "repair": 1, "keep": [], "gone": [], "lost": None}
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        key, _, value = line.partition(" ")
        value = value.strip()
        if key in ("tree", "edit", "unfinished"):
            r[key].append(value)
        elif key in ("expect", "may", "finds"):
            r[key].update(value.split())
        elif key in ("keep", "gone", "options"):
            r[key] += value.split()
        elif key == "mkfs":
            r[key] = value.split()
        elif key in ("preen", "repair", "lost"):
            r[key] = int(value)
        elif key == "size":
            r[key] = value
        else:
            raise Wrong(f"unknown line '{line}'")
    return r


def run(*args, ok=(0,), feed=""):
    p = subprocess.run([str(a) for a in args], input=feed, capture_output=True, text=True, errors="replace",
                       timeout=120, check=False)
    if p.returncode not in ok:
        raise Wrong(f"{pathlib.Path(args[0]).name} {' '.join(map(str, args[1:-1]))} ended with {p.returncode}, not {ok}:\n"
                    + (p.stdout + p.stderr)[-2000:])
    return p.stdout


def copy(a, b):
    subprocess.run(["cp", "--sparse=always", str(a), str(b)], check=True)


def codes(text):
    result = json.loads(text)
    return {p["code"] for p in result["problems"]}, result


class Mount:
    def __init__(self, image, where):
        self.image, self.where = image, where

    def __enter__(self):
        os.makedirs(self.where, exist_ok=True)
        run(MOUNT, "-o", "host=images", self.image, self.where)
        return self.where

    def __exit__(self, *_):
        end = time.monotonic() + 60
        # Between fork and exec a child of another thread holds the files that this one has closed.
        while subprocess.run(["umount", self.where], capture_output=True, check=False).returncode and time.monotonic() < end:
            time.sleep(0.02)
        while time.monotonic() < end:  # umount does not wait for the daemon
            p = subprocess.run([str(FSCK), "-n", str(self.image)], capture_output=True, text=True, check=False)
            if p.returncode == 0:
                return
            time.sleep(0.02)
        raise Wrong("the volume is not clean after a mount and unmount: " + p.stdout[-1000:])


def sum_of(top, path):
    full = top + path
    if os.path.islink(full):
        return "link " + os.readlink(full)
    if os.path.isdir(full):
        return "directory"
    if not os.path.isfile(full):
        return "special"
    with open(full, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else \
            hashlib.sha256(f.read()).hexdigest()


def check_files(r, image, work, before):
    with Mount(image, f"{work}/mnt") as top:
        for path in r["keep"]:
            if not os.path.lexists(top + path):
                raise Wrong(f"{path} is gone")
            if sum_of(top, path) != before[path]:
                raise Wrong(f"{path} is not what it was")
        for path in r["gone"]:
            if os.path.lexists(top + path):
                raise Wrong(f"{path} is still there")
        if r["lost"] is not None:
            have = len(os.listdir(top + "/lost+found")) if os.path.isdir(top + "/lost+found") else 0
            if have != r["lost"]:
                raise Wrong(f"lost+found has {have} entries, not {r['lost']}")
        probe = top + "/probe-of-the-repaired-volume"
        with open(probe, "w", encoding="utf-8") as f:
            f.write("x" * 20000)
        os.unlink(probe)


def mounts(tree):
    """The lines of @tree, a list for each time that the volume is mounted."""
    lists = [[]]
    for line in tree:
        if line == "again":
            lists.append([])
        else:
            lists[-1].append(line)
    return [lines for lines in lists if lines]


def base_image(r, cache, work):
    key = hashlib.sha256(repr((r["size"], r["mkfs"], r["tree"])).encode()).hexdigest()[:16]
    path = f"{cache}/{key}.img"
    if not os.path.exists(path):
        new = f"{work}/new.img"
        run("truncate", "-s", r["size"], new)
        run(MKFS, "-q", "--timing", TIMING, *r["mkfs"], new)
        for lines in mounts(r["tree"]):
            run(POPULATE, new, *lines)
        os.rename(new, path)
    return path


def sums_before(r, base, work):
    if not r["keep"]:
        return {}
    image = f"{work}/before.img"
    copy(base, image)
    with Mount(image, f"{work}/mnt") as top:
        sums = {p: sum_of(top, p) for p in r["keep"]}
    os.unlink(image)
    return sums


def preen(r, bad, work):
    if r["preen"] is None:
        return
    image = f"{work}/preen.img"
    copy(bad, image)
    run(FSCK, "-p", *r["options"], image, ok=(r["preen"],))
    if r["preen"] == 4:  # nothing may have been repaired
        found, _ = codes(run(FSCK, "-n", "--json", *r["options"], image, ok=(4,)))
        if not r["expect"] <= found | {"MAINT"}:
            raise Wrong(f"-p gave up, and yet {r['expect'] - found} are not there any more")
    else:
        run(FSCK, "-n", image)
    os.unlink(image)


def check_mountable(result, want):
    if result["complete"] and result.get("mountable") != want:
        raise Wrong(f"it says mountable: {result.get('mountable')}, not {want}")


def one(path, cache):
    r = recipe(path)
    work = tempfile.mkdtemp(prefix="image.", dir=cache)
    try:
        base = base_image(r, cache, work)
        before = sums_before(r, base, work)
        bad = f"{work}/bad.img"
        copy(base, bad)
        if r["unfinished"]:
            run(EDIT, bad, "-", feed="\n".join(r["unfinished"]) + "\n")
            run(DIES, "-y", bad, ok=(-9,))
        if r["edit"]:
            run(EDIT, bad, "-", feed="\n".join(r["edit"]) + "\n")
        found, result = codes(run(FSCK, "-n", "--json", *r["options"], bad, ok=(4,) if r["expect"] or r["finds"] else (0,)))
        if not r["expect"] <= found or not found <= r["expect"] | r["may"]:
            raise Wrong(f"fsck.lunfs -n finds {sorted(found)}, not {sorted(r['expect'])} (perhaps {sorted(r['may'])})")
        check_mountable(result, not found & {"MUST_CHECK", "MAINT"})
        preen(r, bad, work)
        out = run(FSCK, "-y", "--json", *r["options"], bad, ok=(r["repair"],))
        met, result = codes(out)
        wanted = r["finds"] | r["expect"] if r["repair"] else set()  # 0: taking hold of the volume repairs it
        if not wanted <= met or (not r["repair"] and met):
            raise Wrong(f"fsck.lunfs -y finds {sorted(met)}, not {sorted(wanted)}")
        if r["repair"] <= 1:
            check_mountable(result, True)
            try:
                run(FSCK, "-y", bad)
            except Wrong as e:
                raise Wrong(f"the second run: {e}\nthe first run: {out[-1500:]}") from e
            check_files(r, bad, work, before)
        return None
    except (Wrong, subprocess.TimeoutExpired, OSError) as e:
        return str(e)
    finally:
        subprocess.run(["umount", "-l", f"{work}/mnt"], capture_output=True, check=False)
        shutil.rmtree(work, ignore_errors=True)


def main():
    wanted = sys.argv[2:]
    paths = sorted(p for p in HERE.glob("*.recipe") if not wanted or p.stem in wanted)
    cache = tempfile.mkdtemp(prefix="lunfs-images.", dir=os.environ.get("LUNFS_TEST_DIR", "/dev/shm"))
    failed, shown = 0, set()
    try:
        for p in paths:  # images that several recipes share are made once, by whoever comes first
            r = recipe(p)
            shown |= r["expect"] | r["finds"]
        with ThreadPoolExecutor(max_workers=int(os.environ.get("LUNFS_JOBS", "4"))) as pool:
            for p, error in zip(paths, pool.map(lambda q: one(q, cache), paths)):
                if error:
                    failed += 1
                    print(f"FAIL {p.stem}: {error}")
        print(f"{len(paths)} damaged volumes, {len(shown)} codes, {failed} failed")
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    sys.exit(bool(failed or not paths))


if __name__ == "__main__":
    main()
