"""The designs: what the jobs of each do, step by step, and what of it is timed."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from common import fail, git, sh
from figures import seconds
from meter import reap

# What the jobs are for. `setup` is each design's own affair.
JOBS = {
    "test": ["cargo", "test", "--workspace", "--no-run"],
    "clippy": ["cargo", "clippy", "--workspace", "--all-targets"],
    "fmt": ["cargo", "fmt", "--check"],
    "docs": ["cargo", "doc", "--workspace", "--no-deps"],
    "build": ["cargo", "build", "--workspace", "--release"],
    "security": ["cargo", "deny", "--offline", "list"],
}
# Jobs that read nothing but sources: no siblings are compiled, nothing is kept.
FMT, SECURITY = "fmt", "security"
# Published code is as its author formatted it, with whatever rustfmt that was.
MAY_FAIL = {FMT}


class Job:
    """One job: a place of its own, phases with their times."""

    def __init__(self, design, name, column, step, number):
        self.bench, self.design, self.name, self.step = design.bench, design, name, step
        self.root = design.place(name)
        self.app = self.root / self.bench.workload["app"]
        self.env = dict(design.env)
        self.phases, self.said, self.cargo_s = {}, "", 0
        self.sample = {"design": design.slot, "job": name, "column": column, "round": number, "step": step}

    def run(self, phase, command, cwd=None, env=None):
        """Runs a command of the job; its time is added to that of the phase, without what cargo itself takes in it."""
        times = self.design.root / "times"
        times.write_text("")
        begin = time.monotonic()
        done = subprocess.run(list(map(str, command)), cwd=cwd or self.app, env={**self.env, "BENCH_TIMES": str(times), **(env or {})}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
        took = time.monotonic() - begin
        own = sum(map(int, times.read_text().split())) / 1e6
        self.phases[phase] = self.phases.get(phase, 0) + took - own
        if done.returncode != 0 and not (own and self.name in MAY_FAIL):
            fail(f"{self.design.name}, {self.name}, {phase}: exit code {done.returncode}\n{' '.join(map(str, command))}\n{done.stdout[-2000:]}{done.stderr[-3000:]}")
        if own:
            self.said, self.cargo_s = done.stderr, own
        return done.stdout

    def clone(self, name, phase, *more):
        url = f"file://{self.bench.remotes}/{name}.git"
        self.run(phase, ["git", "clone", "-q", *more, "-c", "gc.auto=0", url, name], cwd=self.root)

    def checkout(self):
        """The workspace, as actions/checkout brings it: the newest commit alone."""
        self.clone(self.bench.workload["app"], "checkout", "--depth", "1")

    def cargo(self):
        return [str(self.bench.timed_cargo), *JOBS[self.name][1:]]

    def end(self, wall):
        """Takes down what was measured, after what was built proved to be of this commit."""
        if self.name == "build":
            said = sh([self.app / "target/release/bench-probe"], cwd=self.app)
            if f"step {self.step}\n" not in said:
                fail(f"STALE: {self.design.name}: wants `step {self.step}`, bench-probe says {said!r}")
        built = len(re.findall(r"^ +(?:Compiling|Checking|Documenting) ", self.said, re.M))
        self.sample |= {"wall_s": round(wall, 3), "phases_s": {k: round(v, 3) for k, v in self.phases.items()}, "cargo_s": round(self.cargo_s, 3), "packages_built": built}
        self.bench.samples.append(self.sample)
        shown = ", ".join(f"{k} {seconds(v)}" for k, v in {**self.phases, "cargo itself": self.cargo_s}.items())
        print(f"{self.sample['round']} {self.sample['column']:4} {self.design.slot:8} {self.name:8} {wall:8.2f} s  built {built:3}  {shown}", file=sys.stderr, flush=True)


class Design:
    """The ideal: each job's cargo command in a checkout of its own that is never moved, and nothing else."""

    name = "undisturbed checkout"
    slot = "ideal"
    jobs = list(JOBS)
    fresh = False

    def __init__(self, bench):
        self.bench = bench
        self.root = bench.runs / self.slot
        self.root.mkdir()
        self.env = bench.env(self.root / "home", bench.runs / "cargo-home")
        self.env |= self.settings()
        self.begin()

    def settings(self):
        return {}

    def begin(self):
        """What a machine has before its first job; not timed."""

    def place(self, job):
        """Where a job works: the same path in every run."""
        return self.root / "jobs" / job

    def measure(self, column, step, number):
        with self.bench.quiet(column):
            for name in self.jobs:
                job = Job(self, name, column, step, number)
                if self.fresh:
                    self.bench.set_aside(job.root)
                job.root.mkdir(parents=True, exist_ok=True)
                self.before(job)
                os.sync()  # Nobody pays for bytes that another left to be written.
                begin = time.monotonic()
                self.work(job)
                wall = time.monotonic() - begin
                reap(20)
                job.end(wall)
            if self.fresh:
                for name in self.jobs:
                    self.bench.set_aside(self.place(name))
                    self.place(name).mkdir()

    def before(self, job):
        """Brings the checkout to the commit; not timed, since it stands for work that nobody has to do."""
        for name in self.bench.names:
            if not (job.root / name).exists():
                job.clone(name, "prepare")
        lowest = job.root / self.bench.workload["lowest"]
        git(lowest, "checkout", "-q", "--detach", f"step-{job.step}")
        job.phases.clear()

    def work(self, job):
        job.run("cargo", job.cargo())


class Isolated(Design):
    """Each job for itself: everything is checked out again, everything is built from nothing."""

    name = "isolated jobs"
    slot = "isolated"
    fresh = True

    def before(self, job):
        pass

    def work(self, job):
        job.checkout()
        for name in self.bench.workload["patched"]:
            job.clone(name, "siblings", "--depth", "1")
        job.run("cargo", job.cargo())


class Rsync(Design):
    """A setup job, and rsync of target and CARGO_HOME from and to a directory on the same disk, done rightly.

    Rightly means: keys of the lock file and the toolchain, the newest of the same job where there is no exact one, locks
    around every copy, directories made before they are written to, one root for restore and save, the newest N kept by
    time. Siblings are checked out once for each commit and copied with their times, so that cargo finds them unchanged.
    """

    name = "rsync, written rightly"
    slot = "rsync"
    fresh = True
    jobs = ["setup", *JOBS]
    keep = 3

    def begin(self):
        self.cache = self.root / "cache"
        for folder in ("siblings", "target", "home"):
            (self.cache / folder).mkdir(parents=True)
        # The crates were fetched by a job before: a network is not measured here.
        shutil.copytree(self.bench.runs / "cargo-home", self.cache / "home" / "first", symlinks=True)
        self.outputs = {}

    def before(self, job):
        job.env["CARGO_HOME"] = str(job.root / "cargo-home")

    def locked(self, kind, folder, command):
        (self.cache / "locks").mkdir(exist_ok=True)
        lock = self.cache / "locks" / folder.replace("/", "-")
        return ["flock", kind, lock, *command]

    def work(self, job):
        job.checkout()
        if job.name == "setup":
            self.set_up(job)
            return
        if job.name == FMT:
            job.run("cargo", job.cargo())
            return
        for name, commit in self.outputs["commits"].items():
            folder = f"siblings/{name}-{commit}"
            job.run("siblings", self.locked("-s", folder, ["rsync", "-a", f"{self.cache}/{folder}/", f"{job.root / name}/"]))
        home = f"home/{self.outputs['home']}"
        job.run("restore home", self.locked("-s", "home", ["rsync", "-a", "--delete", f"{self.newest('home', home)}/", f"{job.env['CARGO_HOME']}/"]))
        if job.name == SECURITY:
            job.run("cargo", job.cargo())
            return
        folder = f"target/{job.name}-{self.outputs['key']}"
        source = self.newest(f"target/{job.name}-", folder)
        if source:
            job.run("restore", self.locked("-s", f"target/{job.name}", ["rsync", "-a", "--delete", f"{source}/", f"{job.app}/target/"]))
        job.run("cargo", job.cargo())
        (self.cache / folder).mkdir(exist_ok=True)
        job.run("save", self.locked("-x", f"target/{job.name}", ["rsync", "-a", "--delete", f"{job.app}/target/", f"{self.cache}/{folder}/"]))
        os.utime(self.cache / folder)
        self.prune(f"target/{job.name}-")

    def set_up(self, job):
        """Room on the disk, siblings at their newest commits, keys, the crates."""
        job.run("guard", ["df", "--output=pcent", self.cache, job.root])
        commits = {}
        for name in self.bench.workload["patched"]:
            url = f"file://{self.bench.remotes}/{name}.git"
            commit = job.run("siblings", ["git", "ls-remote", url, "refs/heads/main"]).split()[0]
            folder = f"siblings/{name}-{commit}"
            if not (self.cache / folder).exists():
                job.run("siblings", self.locked("-x", folder, ["git", "clone", "-q", "--depth", "1", url, f"{self.cache}/{folder}.new"]))
                (self.cache / f"{folder}.new").rename(self.cache / folder)
            commits[name] = commit
            job.run("siblings", self.locked("-s", folder, ["rsync", "-a", f"{self.cache}/{folder}/", f"{job.root / name}/"]))
        lock = (job.app / "Cargo.lock").read_bytes()
        rustc = job.run("keys", [self.bench.bin / "rustc", "-vV"]).encode()
        self.outputs = {"commits": commits, "home": digest(lock), "key": digest(lock, rustc)}
        home = f"home/{self.outputs['home']}"
        job.run("restore home", self.locked("-s", "home", ["rsync", "-a", "--delete", f"{self.newest('home', home)}/", f"{job.env['CARGO_HOME']}/"]))
        job.run("fetch", [self.bench.bin / "cargo", "fetch"])
        (self.cache / home).mkdir(exist_ok=True)
        job.run("save home", self.locked("-x", "home", ["rsync", "-a", "--delete", f"{job.env['CARGO_HOME']}/", f"{self.cache}/{home}/"]))
        self.prune("home/")

    def newest(self, prefix, exact):
        """The exact one, else the newest that begins so."""
        if (self.cache / exact).exists():
            return self.cache / exact
        folder, _, start = prefix.partition("/")
        found = [path for path in (self.cache / folder).iterdir() if path.name.startswith(start)]
        return max(found, key=lambda path: path.stat().st_mtime, default=None)

    def prune(self, prefix):
        folder, _, start = prefix.partition("/")
        found = [path for path in (self.cache / folder).iterdir() if path.name.startswith(start)]
        for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)[self.keep :]:
            shutil.rmtree(path)


class Larder(Design):
    """A setup job, then `larder run` with its plan: what `larder init` writes."""

    name = "larder"
    slot = "larder"
    fresh = True
    jobs = ["setup", *JOBS]

    def settings(self):
        more = dict(pair.split("=", 1) for pair in self.bench.args.larder_env)
        return {"LARDER_STORE": str(self.root / "store"), "LARDER_GUARD": "0", **more}

    def begin(self):
        self.plan = ""

    def before(self, job):
        # What GitHub tells every job.
        job.env |= {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_JOB": job.name,
            "GITHUB_REPOSITORY": f"bench/{self.bench.workload['app']}",
            "GITHUB_REF": "refs/heads/main",
            "GITHUB_REF_NAME": "main",
            "GITHUB_REF_TYPE": "branch",
            "GITHUB_EVENT_NAME": "push",
            "GITHUB_WORKSPACE": str(job.app),
            "GITHUB_OUTPUT": str(self.root / "output"),
        }
        (self.root / "output").write_text("")

    def work(self, job):
        job.checkout()
        larder = str(self.bench.larder)
        if job.name == "setup":
            job.run("larder setup", [larder, "setup"])
            found = re.search(r"^plan=(.*)$", (self.root / "output").read_text(), re.M)
            if not found:
                fail("larder setup wrote no plan")
            self.plan = found[1]
        elif job.name == FMT:
            job.run("cargo", job.cargo())
        else:
            more = {"LARDER_SAVE": "never"} if job.name == SECURITY else {}
            job.run("larder", [larder, "run", "--", *job.cargo()], env={"LARDER_PLAN": self.plan, **more})


def digest(*parts):
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()[:16]


DESIGNS = [Isolated, Rsync, Larder]
