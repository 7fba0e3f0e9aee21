#!/usr/bin/env python3
"""Freshness of larder and its peers on sibling repositories: cold, the same commit, the next commit.

Run it as `bench.py setup` once and then `bench.py run`; README.md beside this file says what each number is.
Only the standard library is used. Linux only: /proc, prctl.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import sys
from pathlib import Path

sys.dont_write_bytecode = True  # The directory is part of a repository.
sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "shared"))

from common import COMMANDS, fail, remove, sh  # noqa: E402
from contestants import CONTESTANTS, Bench  # noqa: E402
from meter import become_subreaper, reap  # noqa: E402
from report import table  # noqa: E402
from workload import STEPS, add_arguments, setup  # noqa: E402

SCHEMA_VERSION = 1


def run(args):
    bench = Bench(args)
    if args.rounds > STEPS:
        fail(f"at most {STEPS} rounds: so many commits were prepared")
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
    if args.cold_rounds < 1:
        fail("the warm columns need a cold one before them")
    names, versions, tables = {k.slot: k.name for k, _ in chosen}, {}, []
    for command in args.commands:
        for kind, _ in chosen:
            remove(bench.work, bench.work / "runs" / command / kind.slot)
        field = [kind(bench, command, binary) for kind, binary in chosen]
        versions.update({c.slot: c.version() for c in field})
        for number in range(args.cold_rounds):
            for place in range(len(field)):
                place = (place + number) % len(field)
                if number:
                    kind, binary = chosen[place]
                    remove(bench.work, field[place].root)
                    field[place] = kind(bench, command, binary)
                field[place].measure("cold", 0, number)
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
            for contestant in field:
                remove(bench.work, contestant.root)
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
        "cold_rounds": args.cold_rounds,
        "larder_options": args.larder_option,
        "dropped_caches": args.drop_caches,
        "versions": versions,
        "samples": bench.samples,
    }
    args.json.write_text(json.dumps(report, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = add_arguments(parser)
    two = steps.add_parser("run", help="measure")
    two.add_argument("--rounds", type=int, default=3, help="rounds of the warm columns (default 3)")
    two.add_argument("--cold-rounds", type=int, default=1, help="rounds of the cold column (default 1)")
    two.add_argument("--commands", nargs="+", choices=sorted(COMMANDS), default=["build", "test"])
    two.add_argument("--only", nargs="+", choices=[k.slot for k in CONTESTANTS], help="these contestants only")
    two.add_argument("--json", type=lambda p: Path(p).resolve(), default=Path("siblings.json").resolve())
    two.add_argument("--keep", action="store_true", help="leave stores and checkouts for a look")
    two.add_argument("--drop-caches", action="store_true", help="with a cold page cache (needs root)")
    for tool in ("larder", "sccache", "kache", "mbx"):
        two.add_argument(f"--{tool}", default=tool, help=f"the program (default: {tool} on PATH)")
    two.add_argument("--larder-option", action="append", default=[], metavar="OPTION", help="one more option for `larder run`, as --larder-option=--spare")
    args = parser.parse_args()
    if args.step == "setup":
        setup(args)
        return
    become_subreaper()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: terminated"))
    try:
        run(args)
    finally:
        # Whatever ended the run, no daemon of a peer stays behind.
        reap(0)


if __name__ == "__main__":
    main()
