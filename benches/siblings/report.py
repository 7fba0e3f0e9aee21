"""Tables of medians."""

import statistics

from common import COMMANDS
from figures import human, seconds


def table(samples, names, command):
    def pick(slot, column):
        return [s for s in samples if s["command"] == command and s["contestant"] == slot and s["column"] == column]

    def median(rows, key):
        return statistics.median(r[key] for r in rows)

    def spread(rows):
        walls = [r["wall_s"] for r in rows]
        return f"{seconds(min(walls))} – {seconds(max(walls))}"

    lines = [
        f"`cargo {' '.join(COMMANDS[command])}`",
        "",
        "| with | cold | min – max | same commit | min – max | compilers | read | written | next commit | min – max | compilers | read | written |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for slot, name in names.items():
        cold = pick(slot, "cold")
        if not cold:
            continue
        row = [name, seconds(median(cold, "wall_s")), spread(cold)]
        for column in ("same", "next"):
            rows = pick(slot, column)
            if not rows:
                row += ["–"] * 5
                continue
            scans = median(rows, "scans")
            row += [
                seconds(median(rows, "wall_s")),
                spread(rows),
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
