"""What a phase cost: bytes and compilers, of all processes that it started.

Bytes are those of /proc/self/io, to which the kernel adds a child's, and its children's, when it is reaped. Daemons that
a tool leaves behind are adopted and reaped as well. Compilers are counted by a toolchain whose `rustc` writes down each call.
"""

import ctypes
import os
import re
import shutil
import signal
import time
from pathlib import Path

from common import fail, remove, sh


def own_io():
    """Bytes of this process and of all descendants it has reaped."""
    text = Path("/proc/self/io").read_text()
    return {key: int(value) for key, value in (line.split(": ") for line in text.splitlines())}


def become_subreaper():
    """Daemons that a tool leaves behind become our children, so their bytes and their end can be seen."""
    if ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0) != 0:  # PR_SET_CHILD_SUBREAPER
        fail("prctl(PR_SET_CHILD_SUBREAPER) failed")


def children():
    pids = []
    for task in Path("/proc/self/task").iterdir():
        pids += [int(pid) for pid in (task / "children").read_text().split()]
    return pids


def reap(seconds):
    """Waits for what the tools left running; ends it after `seconds`. Returns the names of what had to be ended."""
    deadline = time.monotonic() + seconds
    ended = []
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            if time.monotonic() > deadline:
                for child in children():
                    name = Path(f"/proc/{child}/comm").read_text().strip()
                    if name not in ended:
                        ended.append(name)
                    os.kill(child, signal.SIGTERM if time.monotonic() < deadline + 5 else signal.SIGKILL)
                time.sleep(0.2)
            time.sleep(0.02)


def classify(line):
    """What a call of the compiler was for."""
    if "--crate-name ___" in line or re.search(r"(^| )(-vV|-V|--version|--print)\b", line):
        return "queries"
    if not re.search(r"--crate-name ", line):
        return "queries"
    if re.search(r"--emit[= ]dep-info( |$)", line):
        return "scans"
    # Cargo asks for JSON; a build script that tries out the compiler does not.
    return "compilers" if re.search(r"--json[= ]", line) else "trials"


def counting_toolchain(work, log):
    """A toolchain like the present one whose `rustc` writes down each call before it does its work.

    A `RUSTC` setting would not do: sccache asks the compiler for its sysroot and calls what lies there.
    Files are linked, not copied, where the file system allows.
    """
    real = Path(sh(["rustc", "--print", "sysroot"], cwd=work).strip())
    copy, version = work / "toolchain", sh([real / "bin/rustc", "-vV"])
    shim = f"#!/bin/sh\nprintf '%s\\n' \"$*\" >>'{log}'\nexec '{copy}/bin/rustc-real' \"$@\"\n"
    stamp = copy / "of"
    if not stamp.exists() or stamp.read_text() != version + shim:
        remove(work, copy)

        def link(source, target):
            try:
                os.link(source, target)
            except OSError:
                shutil.copy2(source, target)

        shutil.copytree(real, copy, copy_function=link, ignore=lambda _, names: [n for n in names if n in ("doc", "src", "man")])
        (copy / "bin/rustc").rename(copy / "bin/rustc-real")
        (copy / "bin/rustc").write_text(shim)
        (copy / "bin/rustc").chmod(0o755)
        stamp.write_text(version + shim)
    if Path(sh([copy / "bin/rustc", "--print", "sysroot"]).strip()) != copy:
        fail(f"the compiler in {copy} does not take it for its sysroot")
    return copy
