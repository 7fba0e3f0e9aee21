"""The workload: published crates as sibling repositories with a history, joined by `[patch]`."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from common import MARKER, fail, git, remove, sh

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
DROPPED = {".cargo-ok", ".cargo_vcs_info.json", "Cargo.toml.orig", "rust-toolchain.toml", ".cargo"}


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


def add_arguments(parser):
    """Says where the workload is; the steps of the benchmark, of which `setup` makes it."""
    parser.add_argument("--work", type=lambda p: Path(p).resolve(), required=True, help="an empty directory on the file system to measure")
    steps = parser.add_subparsers(dest="step", required=True)
    one = steps.add_parser("setup", help="fetch the crates and make the repositories")
    one.add_argument("--app", choices=sorted(APPS), default="blvm-node")
    one.add_argument("--tests", type=int, default=36, help="integration tests of the app to keep (default 36)")
    return steps


def load(work):
    """What `setup` noted."""
    noted = work / "workload.json"
    if not noted.exists():
        fail(f"no workload in {work}: run `bench.py setup` first")
    return json.loads(noted.read_text())


def setup(args):
    work = args.work
    work.mkdir(parents=True, exist_ok=True)
    marker = work / MARKER
    if any(work.iterdir()) and not marker.exists():
        fail(f"{work} is not empty and not from this benchmark; choose another --work")
    marker.write_text("made by bench.py of benches/siblings or benches/workflow, which remove directories below this one\n")
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
