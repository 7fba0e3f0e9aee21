"""The tables: overhead by job and design, and how many times smaller larder's is."""

import statistics

from designs import DESIGNS, JOBS
from figures import seconds

# What an isolated job does is the same in both columns: it remembers nothing.
COLUMNS = {"same": "the same commit", "next": "after a commit in one sibling"}


def overhead(samples, slot, job, column, without=()):
    """The median over rounds of a job's wall time less the work in it.

    Phases named in `without` are taken off. `setup` builds nothing: all of it is overhead.
    """
    ideal = {(s["job"], s["round"]): s for s in samples if s["design"] == "ideal" and s["column"] == column}
    wanted = "any" if slot == "isolated" else column
    found = []
    for sample in samples:
        if (sample["design"], sample["job"], sample["column"]) == (slot, job, wanted):
            wall = sample["wall_s"] - sum(sample["phases_s"].get(phase, 0) for phase in without)
            found.append(wall - work(sample, ideal.get((job, sample["round"]))))
    return statistics.median(found) if found else None


def work(sample, ideal):
    """What of a job is no overhead, in seconds: what the ideal takes.

    Where both build the same packages it is what cargo itself took in this very job: two builds of a minute differ by more
    than all that is around them.
    """
    if not ideal:
        return 0
    same = ideal["packages_built"] > 0 and sample["packages_built"] == ideal["packages_built"]
    return sample["cargo_s"] if same else ideal["wall_s"]


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
    lines = ["All jobs together, medians:", "", "| design | packages built, same | next | cargo itself, same | next |", "|---|--:|--:|--:|--:|"]
    for slot in ["ideal", *slots]:
        cells = [f"{sums(samples, slot, column, 'packages_built'):.0f}" for column in COLUMNS]
        cells += [seconds(sums(samples, slot, column, "cargo_s")) for column in COLUMNS]
        lines.append(f"| {names.get(slot, 'undisturbed checkout')} | {' | '.join(cells)} |")
    parts.append("\n".join(lines))
    return "\n\n".join(parts)


def sums(samples, slot, column, what):
    """The median over rounds of a number summed over all jobs."""
    wanted = "any" if slot == "isolated" else column
    rounds = {}
    for sample in samples:
        if (sample["design"], sample["column"]) == (slot, wanted):
            rounds[sample["round"]] = rounds.get(sample["round"], 0) + sample[what]
    return statistics.median(rounds.values())


def signed(value):
    return seconds(value) if value >= 0 else f"-{seconds(-value)}"
