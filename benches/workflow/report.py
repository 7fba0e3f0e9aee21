"""The tables: overhead by job and design, and how many times smaller larder's is."""

import statistics

from designs import DESIGNS, JOBS
from figures import seconds

# What an isolated job does is the same in both columns: it remembers nothing.
COLUMNS = {"same": "the same commit", "next": "after a commit in one sibling"}


def overhead(samples, slot, job, column, without=()):
    """The median over rounds of a job's wall time less what its command takes in an undisturbed checkout.

    Phases named in `without` are taken off. `setup` builds nothing: all of it is overhead.
    """
    ideal = {(s["job"], s["round"]): s["wall_s"] for s in samples if s["design"] == "ideal" and s["column"] == column}
    wanted = "any" if slot == "isolated" else column
    found = []
    for sample in samples:
        if (sample["design"], sample["job"], sample["column"]) == (slot, job, wanted):
            wall = sample["wall_s"] - sum(sample["phases_s"].get(phase, 0) for phase in without)
            found.append(wall - ideal.get((job, sample["round"]), 0))
    return statistics.median(found) if found else None


def tables(samples, slots, workload, args):
    names = {design.slot: design.name for design in DESIGNS}
    parts = [f"{workload['app']} and {len(workload['patched'])} sibling repositories, {args.rounds} rounds (isolated jobs: {args.isolated_rounds}), medians."]
    for column, title in COLUMNS.items():
        rows = {names[slot]: {job: overhead(samples, slot, job, column) for job in ["setup", *JOBS]} for slot in slots}
        if "rsync" in slots:
            home = ("restore home", "save home")
            rows[f"{names['rsync']}, CARGO_HOME not counted"] = {job: overhead(samples, "rsync", job, column, home) for job in ["setup", *JOBS]}
        totals = {name: sum(value for value in row.values() if value is not None) for name, row in rows.items()}
        lines = [f"Overhead, {title}:", "", "| design | setup | " + " | ".join(JOBS) + " | total | larder's is smaller |", "|---|" + "--:|" * (len(JOBS) + 3)]
        for name, row in rows.items():
            cells = ["–" if value is None else signed(value) for value in row.values()]
            times = f"{totals[name] / totals['larder']:.1f} ×" if name != "larder" and totals.get("larder", 0) > 0 else ""
            lines.append(f"| {name} | {' | '.join(cells)} | {signed(totals[name])} | {times} |")
        ideals = [statistics.median(s["wall_s"] for s in samples if (s["design"], s["job"], s["column"]) == ("ideal", job, column)) for job in JOBS]
        lines.append(f"| (the command alone, undisturbed) | | {' | '.join(map(seconds, ideals))} | {seconds(sum(ideals))} | |")
        parts.append("\n".join(lines))
    built = ["Packages that cargo built, all jobs, median:", "", "| design | same | next |", "|---|--:|--:|"]
    for slot in ["ideal", *slots]:
        cells = []
        for column in COLUMNS:
            wanted = "any" if slot == "isolated" else column
            rounds = {}
            for sample in samples:
                if (sample["design"], sample["column"]) == (slot, wanted):
                    rounds[sample["round"]] = rounds.get(sample["round"], 0) + sample["packages_built"]
            cells.append(f"{statistics.median(rounds.values()):.0f}" if rounds else "–")
        built.append(f"| {names.get(slot, 'undisturbed checkout')} | {' | '.join(cells)} |")
    parts.append("\n".join(built))
    return "\n\n".join(parts)


def signed(value):
    return seconds(value) if value >= 0 else f"-{seconds(-value)}"
