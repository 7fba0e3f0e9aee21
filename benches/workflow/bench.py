#!/usr/bin/env python3
"""What a workflow costs beyond its builds: isolated jobs, rsync scripts, larder.

Run it as `bench.py setup` once and then `bench.py run`; README.md beside this file says what each number is.
Only the standard library is used. Linux only.
"""

import argparse
import fcntl
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

sys.dont_write_bytecode = True  # The directory is part of a repository.
sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "shared"))

from common import fail, git, remove, sh  # noqa: E402
from designs import DESIGNS, JOBS, Design, Isolated  # noqa: E402
from meter import become_subreaper, reap  # noqa: E402
from report import tables  # noqa: E402
from workload import STEPS, add_arguments, load, setup  # noqa: E402

SCHEMA_VERSION = 2

# cargo, and how many microseconds it took: whoever calls it. Of its own calls nothing is taken down.
TIMED_CARGO = """#!/bin/bash
times=$BENCH_TIMES begin=${{EPOCHREALTIME/[^0-9]/}}
unset BENCH_TIMES
"{cargo}" "$@"
code=$?
echo $((${{EPOCHREALTIME/[^0-9]/}} - begin)) >>"$times"
exit $code
"""


class Bench:
    """The workload, the remotes that every job clones from, and what was measured."""

    def __init__(self, args):
        self.args = args
        self.work = args.work
        self.workload = load(self.work)
        self.runs = self.work / "workflow"
        self.remotes = self.runs / "remotes"
        self.names = [self.workload["app"], *self.workload["patched"]]
        self.bin = Path(sh(["rustc", "--print", "sysroot"], cwd=self.work).strip()) / "bin"
        self.samples = []
        self.gone = 0

    def prepare(self):
        remove(self.work, self.runs)
        self.remotes.mkdir(parents=True)
        for name in self.names:
            git(self.remotes, "clone", "-q", "--bare", self.work / "origin" / name, f"{name}.git")
            git(self.remotes / f"{name}.git", "update-ref", "refs/heads/main", "step-0" if name == self.workload["lowest"] else "HEAD")
            git(self.remotes / f"{name}.git", "symbolic-ref", "HEAD", "refs/heads/main")
        self.cargo_home()
        self.timed_cargo = self.runs / "bin/cargo"
        self.timed_cargo.parent.mkdir()
        self.timed_cargo.write_text(TIMED_CARGO.format(cargo=self.bin / "cargo"))
        self.timed_cargo.chmod(0o755)

    def cargo_home(self):
        """A CARGO_HOME with the sources of this workload and nothing else: what a runner keeps, or a script copies."""
        home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
        seed = self.runs / "cargo-home"
        lock = (self.work / "origin" / self.workload["app"] / "Cargo.lock").read_text()
        names = set()
        for block in lock.split("[[package]]"):
            fields = dict(line.split(" = ", 1) for line in block.splitlines() if " = " in line and not line.startswith(" "))
            if "source" in fields:
                names.add((fields["name"].strip('"'), fields["version"].strip('"')))
        crates = {f"{name}-{version}" for name, version in names}
        for kind, suffix in (("cache", ".crate"), ("src", "")):
            for registry in (home / "registry" / kind).glob("*"):
                for crate in sorted(crates):
                    source = registry / f"{crate}{suffix}"
                    target = seed / "registry" / kind / registry.name / source.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if source.is_dir():
                        shutil.copytree(source, target, symlinks=True)
                    elif source.is_file():
                        shutil.copy2(source, target)
        wanted = {name for name, _ in names}
        for registry in (home / "registry" / "index").glob("*"):
            target = seed / "registry" / "index" / registry.name
            target.mkdir(parents=True)
            for entry in registry.rglob("*"):
                relative = entry.relative_to(registry)
                if entry.is_file() and (".cache" not in relative.parts or entry.name in wanted):
                    (target / relative).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(entry, target / relative)

    def push(self, step):
        """Commit `step` of the crate that is edited becomes what its branch has."""
        git(self.remotes / f"{self.workload['lowest']}.git", "update-ref", "refs/heads/main", f"step-{step}")

    def env(self, home, cargo_home):
        """The same for all designs; nothing of the caller's cargo settings gets in."""
        keep = {k: v for k, v in os.environ.items() if k in ("LANG", "TERM", "TMPDIR", "SSL_CERT_FILE")}
        home.mkdir(parents=True, exist_ok=True)
        tools = [Path(found).parent for found in [shutil.which("cargo-deny")] if found]
        return {
            **keep,
            "HOME": str(home),
            "PATH": ":".join(map(str, [self.bin, *tools, "/usr/local/bin", "/usr/bin", "/bin"])),
            "CARGO_HOME": str(cargo_home),
            "CARGO_NET_OFFLINE": "true",
            "CARGO_TERM_COLOR": "never",
            "GIT_CONFIG_NOSYSTEM": "1",
        }

    def set_aside(self, path):
        """Out of the way, and removed when nobody is measured: deleting makes the next files dearer."""
        if path.exists():
            self.gone += 1
            trash = self.runs / "gone"
            trash.mkdir(exist_ok=True)
            path.rename(trash / str(self.gone))

    def sweep(self):
        remove(self.work, self.runs / "gone")
        os.sync()

    @contextmanager
    def quiet(self, column):
        """Holds the machine while something is measured, by the command that `--lock` names; no table has first builds."""
        lock = self.args.prepare_lock if column == "cold" else self.args.lock
        if not lock:
            yield
            return
        holder = subprocess.Popen([*lock.split(), "sh", "-c", "echo held; read end"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            if holder.stdout.readline() != "held\n":
                fail(f"{lock} gives no lock")
            yield
        finally:
            holder.stdin.close()
            holder.wait()


@contextmanager
def alone(work):
    """No two runs in one work directory: they would measure each other's files."""
    with (work / "workflow.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            fail(f"another run works in {work}")
        yield


def run(args):
    bench = Bench(args)
    if args.rounds > STEPS:
        fail(f"at most {STEPS} rounds: so many commits were prepared")
    larder = shutil.which(args.larder)
    if not larder and "larder" in args.only:
        fail(f"{args.larder} is not there")
    bench.larder = larder and Path(larder).resolve()
    bench.prepare()
    field = [kind(bench) for kind in DESIGNS if kind.slot in args.only]
    ideal = Design(bench)
    others = [design for design in field if design.slot != Isolated.slot]
    isolated = next((design for design in field if design.slot == Isolated.slot), None)
    # What every checkout starts from. The ideal's first build is a build from nothing, as an isolated job's is.
    ideal.measure("cold", 0, 0)
    for design in others:
        design.measure("cold", 0, 0)
    write(bench, args)
    for number in range(1, args.rounds + 1):
        turn = (number - 1) % max(len(others), 1)
        order = [ideal, *others[turn:], *others[:turn]]
        bench.push(number)
        for design in order:
            design.measure("next", number, number)
        if isolated and number <= args.isolated_rounds:
            isolated.measure("any", number, number)
        for design in reversed(order):
            design.measure("same", number, number)
        write(bench, args)
        bench.sweep()
    print(tables(bench.samples, [d.slot for d in field], bench.workload, args))
    if not args.keep:
        remove(bench.work, bench.runs)


def write(bench, args):
    report = {
        "schema_version": SCHEMA_VERSION,
        "workload": bench.workload,
        "machine": {
            "cores": os.cpu_count(),
            "kernel": platform.release(),
            "file_system": sh(["stat", "-f", "-c", "%T", bench.work]).strip(),
            "rustc": sh([bench.bin / "rustc", "--version"]).strip(),
        },
        "rounds": args.rounds,
        "isolated_rounds": args.isolated_rounds,
        "larder": sh([bench.larder, "--version"]).strip() if bench.larder else None,
        "larder_env": args.larder_env,
        "jobs": {job: list(command) for job, command in JOBS.items()},
        "samples": bench.samples,
    }
    args.json.write_text(json.dumps(report, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = add_arguments(parser)
    two = steps.add_parser("run", help="measure")
    two.add_argument("--rounds", type=int, default=3, help="rounds, each with a commit of its own (default 3)")
    two.add_argument("--isolated-rounds", type=int, help="rounds of the isolated jobs, which build everything each time (default: as --rounds)")
    two.add_argument("--only", nargs="+", choices=[k.slot for k in DESIGNS], default=[k.slot for k in DESIGNS], help="these designs only")
    two.add_argument("--json", type=lambda p: Path(p).resolve(), default=Path("workflow.json").resolve())
    two.add_argument("--larder", default="larder", help="the program (default: larder on PATH)")
    two.add_argument("--larder-env", action="append", default=["LARDER_CANONICAL=true"], metavar="NAME=VALUE", help="one more variable of larder's jobs")
    two.add_argument("--lock", help="a command that runs another one while nobody else uses the machine, as `flock FILE`")
    two.add_argument("--prepare-lock", help="the same for the first builds, which no table reports")
    two.add_argument("--keep", action="store_true", help="leave stores and checkouts for a look")
    args = parser.parse_args()
    if args.step == "setup":
        setup(args)
        return
    args.isolated_rounds = args.rounds if args.isolated_rounds is None else args.isolated_rounds
    become_subreaper()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: terminated"))
    with alone(args.work):
        try:
            run(args)
        finally:
            # Whatever ended the run, nothing that it started stays behind.
            reap(0)


if __name__ == "__main__":
    main()
