"""The contestants: how each is set up, what is timed, and how its result is proved."""

import json
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

from common import COMMANDS, fail, git, remove, sh
from figures import human
from meter import classify, counting_toolchain, own_io, reap
from workload import load


class Bench:
    def __init__(self, args):
        self.args = args
        self.work = args.work
        self.workload = load(self.work)
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
            "SCCACHE_SERVER_UDS": str(self.root / f"socket{os.getpid()}"),
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
            # A name of its own: the daemon of a run that was killed may still hold the last one.
            "KACHE_RUNTIME_DIR": str(self.root / f"rt{os.getpid()}"),
            "KACHE_MAX_SIZE": "60GiB",
            "XDG_CONFIG_HOME": str(self.root / "home/.config"),
        }

    def version(self):
        return sh([self.binary, "--version"], env=self.env).strip()

    def prepare(self):
        runtime = Path(self.env["KACHE_RUNTIME_DIR"])
        runtime.mkdir(parents=True, exist_ok=True)
        runtime.chmod(0o700)
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
