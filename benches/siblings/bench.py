#!/usr/bin/env python3
"""Freshness of larder and its peers on sibling repositories: cold, the same commit, the next commit.

Run it as `bench.py setup` once and then `bench.py run`; README.md beside this file says what each number is.
Only the standard library is used. Linux only: /proc, prctl.
"""

import argparse
import ctypes
import json
import os
import platform
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

SCHEMA_VERSION = 1
MARKER = ".larder-siblings-bench"
STEPS = 24

# A published Bitcoin node and the crates it is made of, each a repository of its own in development.
# The versions are those of blvm-node's published lock file.
SIBLINGS = {
    "blvm-protocol": "0.1.39",
    "blvm-consensus": "0.1.72",
    "blvm-primitives": "0.1.30",
    "blvm-secp256k1": "0.1.14",
    "blvm-muhash": "0.1.11",
}
APPS = {
    # app: version, the chain of crates from it down to the one that is edited
    "blvm-node": ("0.1.83", ["blvm-protocol", "blvm-consensus", "blvm-primitives"]),
    "blvm-protocol": ("0.1.39", ["blvm-consensus", "blvm-primitives"]),
}
COMMANDS = {"build": ["build"], "test": ["test", "--no-run"]}
DROPPED = {".cargo-ok", ".cargo_vcs_info.json", "Cargo.toml.orig", "rust-toolchain.toml", ".cargo"}


def fail(message):
    sys.exit(f"bench: {message}")


def sh(command, cwd=None, env=None):
    """Runs a command that is not measured; its output is shown only if it fails."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))} failed in {cwd or '.'}:\n{done.stderr}{done.stdout}")
    return done.stdout


# --- the workload -----------------------------------------------------------------------------------------------


def snake(name):
    return name.replace("-", "_")


def probe_source(step):
    """What is appended to the crate that is edited: one function more with each commit."""
    lines = ["", "/// What the benchmark prints.", "#[must_use]", "pub fn bench_probe() -> u32 {", f"    bench_step_{step}()", "}"]
    for number in range(step + 1):
        lines += ["", f"/// Came with commit {number}.", "#[must_use]", f"pub fn bench_step_{number}() -> u32 {{", f"    {number}", "}"]
    return "\n".join(lines) + "\n"


def keep_tests(manifest, count):
    """The manifest with only the first `count` test targets that need no feature, and with ours."""
    sections = re.split(r"(?m)^(?=\[)", manifest)
    kept, seen = [], 0
    for section in sections:
        if section.startswith("[[test]]"):
            seen += 1 if "required-features" not in section else 0
            if "required-features" in section or seen > count:
                continue
        kept.append(section if section.endswith("\n") else section + "\n")
    return "".join(kept)


def git(repo, *args):
    who = ["-c", "user.name=bench", "-c", "user.email=bench@example.invalid", "-c", "init.defaultBranch=main", "-c", "gc.auto=0"]
    return sh(["git", *who, *args], cwd=repo)


def setup(args):
    work = args.work
    work.mkdir(parents=True, exist_ok=True)
    marker = work / MARKER
    if any(work.iterdir()) and not marker.exists():
        fail(f"{work} is not empty and not from this benchmark; choose another --work")
    marker.write_text("made by benches/siblings/bench.py; `bench.py` removes directories below this one\n")
    version, chain = APPS[args.app]
    remove(work, work / "origin")
    remove(work, work / "fetch")

    # 1. The sources. A package that wants them makes cargo fetch and unpack them.
    fetch = work / "fetch"
    (fetch / "src").mkdir(parents=True)
    (fetch / "src/lib.rs").write_text("")
    pins = {**SIBLINGS, args.app: version}
    deps = "".join(f'{name} = "={pin}"\n' for name, pin in pins.items())
    (fetch / "Cargo.toml").write_text(f'[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n{deps}')
    print("fetching the crates", file=sys.stderr)
    host = re.search(r"^host: (.*)$", sh(["rustc", "-vV"]), re.M).group(1)
    metadata = json.loads(sh(["cargo", "metadata", "--format-version", "1", "--filter-platform", host], cwd=fetch))
    where = {p["name"]: Path(p["manifest_path"]).parent for p in metadata["packages"] if p["name"] in pins}

    # 2. One repository each.
    origin = work / "origin"
    origin.mkdir()
    for name in pins:
        repo = origin / name
        shutil.copytree(where[name], repo, ignore=lambda _, names: [n for n in names if n in DROPPED])
        for folder in [repo, *[d for d in repo.rglob("*") if d.is_dir()]]:
            folder.chmod(0o755)
    app = origin / args.app
    manifest = keep_tests((app / "Cargo.toml").read_text(), args.tests)
    top = snake(chain[0])
    manifest += '\n[[bin]]\nname = "bench-probe"\npath = "bench/probe.rs"\n'
    manifest += '\n[[test]]\nname = "bench_probe"\npath = "bench/test.rs"\n'
    lock = (app / "Cargo.lock").read_text() if (app / "Cargo.lock").exists() else ""
    patched = [n for n in SIBLINGS if n != args.app and (not lock or f'name = "{n}"' in lock)]
    manifest += "\n[patch.crates-io]\n" + "".join(f'{n} = {{ path = "../{n}" }}\n' for n in patched)
    (app / "Cargo.toml").write_text(manifest)
    (app / "bench").mkdir()
    # Through the app's own library and down the chain, so that a stale crate anywhere shows.
    (app / "bench/probe.rs").write_text(f'fn main() {{\n    println!("step {{}}", {snake(args.app)}::bench_probe());\n}}\n')
    (app / "bench/test.rs").write_text(f'#[test]\nfn probe() {{\n    println!("step {{}}", {snake(args.app)}::bench_probe());\n}}\n')
    with (app / "src/lib.rs").open("a") as lib:
        lib.write(f"\npub use {top}::bench_probe;\n")
    for upper, lower in zip(chain, chain[1:]):
        with (origin / upper / "src/lib.rs").open("a") as lib:
            lib.write(f"\npub use {snake(lower)}::bench_probe;\n")
    lowest = origin / chain[-1]
    library = (lowest / "src/lib.rs").read_text()
    (lowest / "src/lib.rs").write_text(library + probe_source(0))

    # 3. The lock file with the siblings instead of the registry's, and everything it names at hand.
    print("resolving", file=sys.stderr)
    resolve(app, host, patched)
    sh(["cargo", "fetch", "--locked", "--target", host], cwd=app)
    for name in pins:
        repo = origin / name
        (repo / ".gitignore").write_text("target\n")
        git(repo, "init", "-q")
        git(repo, "add", "-A", "-f")
        git(repo, "commit", "-q", "-m", "As published, with the probe")
        git(repo, "tag", "step-0")
    for step in range(1, STEPS + 1):
        (lowest / "src/lib.rs").write_text(library + probe_source(step))
        git(lowest, "commit", "-q", "-a", "-m", f"Add function {step}")
        git(lowest, "tag", f"step-{step}")
    (work / "workload.json").write_text(json.dumps({"app": args.app, "lowest": chain[-1], "repositories": pins, "patched": patched, "tests": args.tests}))
    print(f"ready: {work}", file=sys.stderr)


def resolve(app, host, patched):
    """Brings the published lock file up to date: the siblings are ours, and what the registry lost is chosen anew."""
    lock = app / "Cargo.lock"

    def forget(unwanted):
        blocks = re.split(r"(?m)^(?=\[\[package\]\])", lock.read_text())
        kept = [b for b in blocks if not any(b.startswith(f'[[package]]\nname = "{u}') for u in unwanted)]
        lock.write_text("".join(kept))
        return len(kept) < len(blocks)

    forget([f'{name}"' for name in patched])
    while True:
        command = ["cargo", "metadata", "--format-version", "1", "--filter-platform", host]
        done = subprocess.run(command, cwd=app, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode == 0:
            break
        gone = re.search(r"requirement `(\S+) = .*\(locked to (\S+)\)", done.stderr)
        if not gone or not forget([f'{gone[1]}"\nversion = "{gone[2]}"']):
            fail(f"cannot resolve {app}:\n{done.stderr}")
        print(f"the registry has no {gone[1]} {gone[2]}: another version is taken", file=sys.stderr)
    local = {p["name"] for p in json.loads(done.stdout)["packages"] if p["source"] is None}
    if missing := set(patched) - local:
        fail(f"not taken from beside the app: {', '.join(sorted(missing))}")


def remove(work, path):
    """Removes what this benchmark made, and nothing else."""
    if not (work / MARKER).exists() or work not in path.parents:
        fail(f"will not remove {path}")
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


# --- measuring --------------------------------------------------------------------------------------------------


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
                    ended.append(Path(f"/proc/{child}/comm").read_text().strip())
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


class Bench:
    def __init__(self, args):
        self.args = args
        self.work = args.work
        if not (self.work / "workload.json").exists():
            fail(f"no workload in {self.work}: run `bench.py setup` first")
        self.workload = json.loads((self.work / "workload.json").read_text())
        self.log = self.work / "rustc.log"
        self.toolchain = counting_toolchain(self.work, self.log) / "bin"
        self.cargo_home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
        self.samples = []

    def base_env(self, home):
        """The same for all contestants; nothing of the caller's cargo settings gets in."""
        keep = {k: v for k, v in os.environ.items() if k in ("LANG", "TERM", "TMPDIR", "SSL_CERT_FILE")}
        home.mkdir(parents=True, exist_ok=True)
        return {
            **keep,
            "HOME": str(home),
            "PATH": f"{self.toolchain}:/usr/local/bin:/usr/bin:/bin",
            "CARGO_HOME": str(self.cargo_home),
            "CARGO_NET_OFFLINE": "true",
            "CARGO_TERM_COLOR": "never",
        }


class Contestant:
    """Plain cargo in a checkout that is never moved: the ideal. The others override."""

    name = "cargo in place"
    slot = "ideal"
    moves = False

    def __init__(self, bench, command, binary=None):
        self.bench = bench
        self.command = command
        self.binary = binary
        self.root = bench.work / "runs" / command / self.slot
        self.src = self.root / "src"
        self.app = self.src / bench.workload["app"]
        self.store = self.root / "store"
        self.env = {**bench.base_env(self.root / "home"), **self.settings()}

    def settings(self):
        return {}

    def version(self):
        return sh([self.bench.toolchain / "cargo", "--version"]).strip()

    def cargo(self):
        return [str(self.bench.toolchain / "cargo"), *COMMANDS[self.command]]

    def prepare(self):
        """What a machine has running anyway; not timed."""

    def phases(self):
        """Name and command of each timed phase."""
        return [("cargo", self.cargo())]

    def details(self, out):
        """Phases that the tool times itself."""
        return {}

    def finish(self):
        """Ends what `prepare` or the tool started; not timed."""

    def target(self):
        return self.app / "target"

    # -- checkouts

    def checkout(self, step):
        lowest = self.bench.workload["lowest"]
        if not self.moves and self.app.exists():
            git(self.src / lowest, "checkout", "-q", f"step-{step}")
            return
        remove(self.bench.work, self.src)
        self.src.mkdir(parents=True)
        for name in self.bench.workload["repositories"]:
            if name != self.bench.workload["app"] and name not in self.bench.workload["patched"]:
                continue
            tag = f"step-{step}" if name == lowest else "step-0"
            git(self.src, "clone", "-q", "--branch", tag, "-c", "advice.detachedHead=false", self.bench.work / "origin" / name, name)

    def drop_checkout(self):
        if self.moves:
            remove(self.bench.work, self.src)

    def measure(self, column, step, number):
        bench = self.bench
        self.checkout(step)
        bench.log.write_text("")
        os.sync()  # Nobody pays for bytes that another left to be written.
        if bench.args.drop_caches:
            Path("/proc/sys/vm/drop_caches").write_text("3")
        load = os.getloadavg()[0]
        io_before, cpu_before = own_io(), resource.getrusage(resource.RUSAGE_CHILDREN)
        self.prepare()
        times, err_text = {}, ""
        out_path, err_path = self.root / "stdout", self.root / "stderr"
        start = time.monotonic()
        for phase, command in self.phases():
            begin = time.monotonic()
            with out_path.open("wb") as out, err_path.open("wb") as err:
                code = subprocess.run(command, cwd=self.app, env=self.env, stdin=subprocess.DEVNULL, stdout=out, stderr=err).returncode
            times[phase] = time.monotonic() - begin
            if phase == "cargo":
                err_text = err_path.read_text(errors="replace")
                out_text = out_path.read_text(errors="replace")
            if code != 0:
                fail(f"{self.name}, {self.command}, {column}, {phase}: exit code {code}\n{err_path.read_text(errors='replace')[-3000:]}")
        wall = time.monotonic() - start
        self.finish()
        ended = reap(20)
        io_after, cpu_after = own_io(), resource.getrusage(resource.RUSAGE_CHILDREN)
        calls = {"compilers": 0, "scans": 0, "trials": 0, "queries": 0}
        compiled = []
        for line in bench.log.read_text(errors="replace").splitlines():
            kind = classify(line)
            calls[kind] += 1
            if kind == "compilers":
                compiled.append(re.search(r"--crate-name (\S+)", line).group(1))
        sample = {
            "command": self.command,
            "contestant": self.slot,
            "column": column,
            "round": number,
            "step": step,
            "wall_s": round(wall, 3),
            "cpu_s": round(cpu_after.ru_utime + cpu_after.ru_stime - cpu_before.ru_utime - cpu_before.ru_stime, 3),
            "phases_s": {k: round(v, 3) for k, v in times.items()},
            **calls,
            "compiled": sorted(set(compiled)) if column != "cold" else [],
            "read_bytes": io_after["rchar"] - io_before["rchar"],
            "written_bytes": io_after["write_bytes"] - io_before["write_bytes"],
            "disk_read_bytes": io_after["read_bytes"] - io_before["read_bytes"],
            "load": load,
            "details": self.details(out_text),
            "ended": ended,
        }
        self.verify(step, err_text)
        self.drop_checkout()
        bench.samples.append(sample)
        print(
            f"{self.command:5} {number} {column:4} {self.slot:7} {wall:8.2f} s  cpu {sample['cpu_s']:7.1f} s  "
            f"{calls['compilers']:3} compilers  read {human(sample['read_bytes'])}  written {human(sample['written_bytes'])}  load {load:.1f}",
            file=sys.stderr,
            flush=True,
        )

    def verify(self, step, err_text):
        """What was built must say the commit it was built from."""
        if self.command == "build":
            program = [str(self.target() / "debug/bench-probe")]
        else:
            found = re.search(r"Executable \S*bench/test\.rs \((.*)\)", err_text)
            if not found:
                fail(f"{self.name}: cargo names no executable of bench/test.rs\n{err_text[-2000:]}")
            program = [str(self.app / found.group(1)), "--nocapture"]
        said = sh(program, cwd=self.app)
        if f"step {step}\n" not in said:
            fail(f"STALE: {self.name}, {self.command}: wants `step {step}`, {program[0]} says {said!r}")


class Rsync(Contestant):
    name = "rsync of target there and back"
    slot = "rsync"
    moves = True

    def version(self):
        return sh(["rsync", "--version"]).splitlines()[0]

    def phases(self):
        target, store = f"{self.app}/target/", f"{self.store}/"
        yield "restore", (["rsync", "-a", "--delete", store, target] if self.store.exists() else ["true"])
        yield "cargo", self.cargo()
        yield "save", ["rsync", "-a", "--delete", target, store]


class Sccache(Contestant):
    name = "sccache"
    slot = "sccache"
    moves = True

    def settings(self):
        return {
            "RUSTC_WRAPPER": str(self.binary),
            "SCCACHE_DIR": str(self.store),
            "SCCACHE_CACHE_SIZE": "60G",
            "SCCACHE_SERVER_UDS": str(self.root / "socket"),
            "SCCACHE_IDLE_TIMEOUT": "0",
            # It cannot keep incremental compilations and says to turn them off.
            "CARGO_INCREMENTAL": "0",
        }

    def version(self):
        return sh([self.binary, "--version"]).strip()

    def prepare(self):
        self.store.mkdir(parents=True, exist_ok=True)
        sh([self.binary, "--start-server"], env=self.env)

    def finish(self):
        sh([self.binary, "--stop-server"], env=self.env)


class Kache(Contestant):
    name = "kache"
    slot = "kache"
    moves = True

    def settings(self):
        return {
            "RUSTC_WRAPPER": str(self.binary),
            "KACHE_CACHE_DIR": str(self.store),
            "KACHE_CONFIG": str(self.root / "kache.toml"),
            "KACHE_RUNTIME_DIR": str(self.root / "rt"),
            "KACHE_MAX_SIZE": "60GiB",
            "XDG_CONFIG_HOME": str(self.root / "home/.config"),
        }

    def version(self):
        return sh([self.binary, "--version"], env=self.env).strip()

    def prepare(self):
        (self.root / "rt").mkdir(parents=True, exist_ok=True)
        (self.root / "rt").chmod(0o700)
        sh([self.binary, "daemon", "start"], env=self.env)

    def finish(self):
        sh([self.binary, "daemon", "stop"], env=self.env)


class Mbx(Contestant):
    name = "mbx, managed target folder"
    slot = "mbx"
    moves = True

    def settings(self):
        return {"MBX_CACHE_DIR": str(self.store), "MBX_GC_MAX_SIZE": "60GiB", "MBX_TARGET_MAX_SIZE": "60GiB", "MBX_SUMMARY": "off"}

    def version(self):
        return sh([self.binary, "--version"], env=self.env).strip()

    def phases(self):
        return [("cargo", [str(self.binary), *COMMANDS[self.command]])]


class Larder(Contestant):
    name = "larder"
    slot = "larder"
    moves = True

    def version(self):
        return sh([self.binary, "--version"], env=self.env).strip()

    def phases(self):
        options = ["--store", str(self.store), "--workspace", str(self.app), "--format", "json", "-q"]
        return [("cargo", [str(self.binary), "run", *options, *self.bench.args.larder_option, "--", *self.cargo()])]

    def details(self, out):
        restore = json.loads(out.splitlines()[-1])
        save = restore.pop("save") or {}
        return {
            "restore_ms": restore["duration_ms"],
            "cargo_ms": restore["command_ms"],
            "save_ms": save.get("duration_ms", 0),
            "restore": restore,
            "save": save,
        }


CONTESTANTS = [Contestant, Rsync, Sccache, Kache, Mbx, Larder]


# --- the report -------------------------------------------------------------------------------------------------


def human(count):
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit in ("B", "kB") or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return None


def seconds(value):
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def table(samples, names, command):
    def pick(slot, column):
        return [s for s in samples if s["command"] == command and s["contestant"] == slot and s["column"] == column]

    def median(rows, key):
        return statistics.median(r[key] for r in rows)

    lines = [
        f"`cargo {' '.join(COMMANDS[command])}`",
        "",
        "| with | cold | same commit | min – max | compilers | read | written | next commit | min – max | compilers | read | written |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for slot, name in names.items():
        cold = pick(slot, "cold")
        if not cold:
            continue
        row = [name, seconds(median(cold, "wall_s"))]
        for column in ("same", "next"):
            rows = pick(slot, column)
            if not rows:
                row += ["–"] * 5
                continue
            walls = [r["wall_s"] for r in rows]
            scans = median(rows, "scans")
            row += [
                seconds(median(rows, "wall_s")),
                f"{seconds(min(walls))} – {seconds(max(walls))}",
                f"{median(rows, 'compilers'):.0f}" + (f" + {scans:.0f} scans" if scans else ""),
                human(median(rows, "read_bytes")),
                human(median(rows, "written_bytes")),
            ]
        lines.append("| " + " | ".join(row) + " |")
    lines += ["", "Where the time goes:", "", "| with | column | restore | cargo | save | processor |", "|---|---|--:|--:|--:|--:|"]
    for slot, name in names.items():
        for column in ("cold", "same", "next"):
            rows = pick(slot, column)
            if not rows:
                continue
            if slot == "larder":
                phases = [statistics.median(r["details"][f"{p}_ms"] for r in rows) / 1000 for p in ("restore", "cargo", "save")]
            else:
                phases = [statistics.median(r["phases_s"].get(p, 0) for r in rows) for p in ("restore", "cargo", "save")]
            shown = [seconds(p) if p else "–" for p in phases]
            lines.append(f"| {name} | {column} | {' | '.join(shown)} | {seconds(median(rows, 'cpu_s'))} |")
    return "\n".join(lines)


def run(args):
    bench = Bench(args)
    if args.rounds > STEPS:
        fail(f"at most {STEPS} rounds: so many commits were prepared")
    become_subreaper()
    binaries = {"sccache": args.sccache, "kache": args.kache, "mbx": args.mbx, "larder": args.larder}
    chosen = []
    for kind in CONTESTANTS:
        if args.only and kind.slot not in args.only:
            continue
        binary = binaries.get(kind.slot)
        found = shutil.which(binary) if binary else None
        if binary and not found:
            print(f"left out: {kind.slot} ({binary} is not there)", file=sys.stderr)
            continue
        chosen.append((kind, found and Path(found).resolve()))
    if not chosen:
        fail("nobody to measure")
    names, versions, tables = {k.slot: k.name for k, _ in chosen}, {}, []
    for command in args.commands:
        remove(bench.work, bench.work / "runs" / command)
        field = [kind(bench, command, binary) for kind, binary in chosen]
        versions.update({c.slot: c.version() for c in field})
        for contestant in field:
            contestant.measure("cold", 0, 0)
        for number in range(1, args.rounds + 1):
            turn = (number - 1) % len(field)
            order = field[turn:] + field[:turn]
            for contestant in order:
                contestant.measure("next", number, number)
            for contestant in reversed(order):
                contestant.measure("same", number, number)
            write(bench, args, versions)
        tables.append(table(bench.samples, names, command))
        if not args.keep:
            remove(bench.work, bench.work / "runs" / command)
    write(bench, args, versions)
    loads = [s["load"] for s in bench.samples]
    app = bench.workload["app"]
    print(f"{app} and {len(bench.workload['patched'])} sibling repositories, {os.cpu_count()} cores, {args.rounds} rounds, medians.")
    print(f"Load of the machine when the measurements began: {min(loads):.1f} to {max(loads):.1f}.\n")
    print("\n\n".join(tables))
    print("\n" + "; ".join(f"{slot}: {version}" for slot, version in versions.items()))


def write(bench, args, versions):
    report = {
        "schema_version": SCHEMA_VERSION,
        "workload": bench.workload,
        "machine": {
            "cores": os.cpu_count(),
            "kernel": platform.release(),
            "file_system": sh(["stat", "-f", "-c", "%T", bench.work]).strip(),
            "rustc": sh([bench.toolchain / "rustc", "--version"]).strip(),
        },
        "rounds": args.rounds,
        "larder_options": args.larder_option,
        "dropped_caches": args.drop_caches,
        "versions": versions,
        "samples": bench.samples,
    }
    args.json.write_text(json.dumps(report, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=lambda p: Path(p).resolve(), required=True, help="an empty directory on the file system to measure")
    steps = parser.add_subparsers(dest="step", required=True)
    one = steps.add_parser("setup", help="fetch the crates and make the repositories")
    one.add_argument("--app", choices=sorted(APPS), default="blvm-node")
    one.add_argument("--tests", type=int, default=36, help="integration tests of the app to keep (default 36)")
    two = steps.add_parser("run", help="measure")
    two.add_argument("--rounds", type=int, default=3, help="rounds of the warm columns (default 3)")
    two.add_argument("--commands", nargs="+", choices=sorted(COMMANDS), default=["build", "test"])
    two.add_argument("--only", nargs="+", choices=[k.slot for k in CONTESTANTS], help="these contestants only")
    two.add_argument("--json", type=lambda p: Path(p).resolve(), default=Path("siblings.json").resolve())
    two.add_argument("--keep", action="store_true", help="leave stores and checkouts for a look")
    two.add_argument("--drop-caches", action="store_true", help="with a cold page cache (needs root)")
    for tool in ("larder", "sccache", "kache", "mbx"):
        two.add_argument(f"--{tool}", default=tool, help=f"the program (default: {tool} on PATH)")
    two.add_argument("--larder-option", action="append", default=[], metavar="OPTION", help="one more option for `larder run`, as --larder-option=--spare")
    args = parser.parse_args()
    setup(args) if args.step == "setup" else run(args)


if __name__ == "__main__":
    main()
