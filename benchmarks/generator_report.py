"""A table and a picture of what benchmarks/generator_recipe.py has measured: does a form pay, and where?

    python benchmarks/generator_report.py forms.csv --out benchmarks/results/generator

`forms.md` has a line for each row and number of batches: means over the seeds with their standard deviation.
`forms.png` shows gFVD against training FLOPs, and, of the forms that had the longest training, against the CPU seconds
of a clip sampled alone.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from videoar.figures import new_figure, save_figure

COLUMNS = {  # heading: (column of the CSV, factor, format)
    "TFLOPs": ("train_flops", 1e-12, ".1f"),
    "nats a bit": ("nats_a_bit", 1, ".4f"),
    "bits right, %": ("bits_right", 100, ".1f"),
    "gFVD": ("gfvd", 1, ".1f"),
    "moving share": ("share", 1, ".2f"),
    "sprites": ("sprites", 1, ".2f"),
    "drift, 17 frames": ("colour_drift", 1, ".2f"),
    "drift, extended": ("extended_colour_drift", 1, ".2f"),
    "calls a frame": ("calls_a_frame", 1, ".0f"),
    "seconds alone": ("cpu_seconds_alone", 1, ".2f"),
    "seconds a clip, batch": ("cpu_seconds_a_clip", 1, ".3f"),
}
Rows = dict[tuple[str, int], list[dict[str, str]]]


def grouped(path: Path) -> Rows:
    """(name, which training: the shortest of its name is 0) -> the rows of all seeds."""
    rows = list(csv.DictReader(path.open(newline="")))
    lengths = {row["name"]: sorted({int(r["steps"]) for r in rows if r["name"] == row["name"]}) for row in rows}
    found: Rows = {}
    for row in rows:
        found.setdefault((row["name"], lengths[row["name"]].index(int(row["steps"]))), []).append(row)
    return dict(sorted(found.items(), key=lambda item: item[0][1]))


def numbers(rows: Sequence[dict[str, str]], column: str, factor: float = 1) -> list[float]:
    """One a seed; none where it was not measured."""
    return [float(row[column]) * factor for row in rows if row.get(column)]


def cell(values: Sequence[float], form: str) -> str:
    """The mean, and the deviation of several."""
    if not values:
        return "–"
    return f"{mean(values):{form}}" + (f" ± {stdev(values):{form}}" if len(values) > 1 else "")


def table(groups: Rows) -> str:
    """Markdown."""
    shown = {head: entry for head, entry in COLUMNS.items() if any(numbers(g, entry[0]) for g in groups.values())}
    lines = [f"| form | batches | seeds | {' | '.join(shown)} |", "|---|--:|--:|" + "--:|" * len(shown)]
    for (name, _), rows in groups.items():
        cells = [cell(numbers(rows, column, factor), form) for column, factor, form in shown.values()]
        lines.append(f"| {name} | {rows[0]['steps']} | {len(rows)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def picture(groups: Rows, target: Path) -> None:
    """gFVD against training FLOPs (a line a form), and against sampling time."""
    figure = new_figure(13, 4)
    by_flops, by_time = figure.subplots(1, 2)
    names = list(dict.fromkeys(name for name, _ in groups))
    longest = max(training for _, training in groups)
    for n, name in enumerate(names):
        look = {"color": f"C{n % 10}", "marker": "os^D"[n // 10 % 4]}
        points = [rows for (other, _), rows in groups.items() if other == name]
        flops = [mean(numbers(rows, "train_flops")) for rows in points]
        quality = [mean(numbers(rows, "gfvd")) for rows in points]
        by_flops.plot(flops, quality, label=name, **look)
        seconds = [mean(numbers(rows, "cpu_seconds_alone")) for rows in points[longest:]]
        by_time.plot(seconds, quality[longest:], linestyle="", label=name, **look)
        for rows in points:
            by_flops.plot(numbers(rows, "train_flops"), numbers(rows, "gfvd"), ".", color=look["color"], alpha=0.5)
    by_flops.set(xscale="log", xlabel="training FLOPs", ylabel="gFVD (Atari net)")
    by_time.set(xscale="log", xlabel="CPU seconds to sample one clip alone", ylabel="gFVD after the longest training")
    for panel in (by_flops, by_time):
        panel.grid(alpha=0.3)
    by_time.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1))
    save_figure(figure, target, dpi=120)


def main(argv: list[str] | None = None) -> None:
    """Read, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args(argv)
    groups = grouped(args.csv)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{args.csv.stem}.md").write_text(text := table(groups))
    picture(groups, args.out / f"{args.csv.stem}.png")
    print(text)


if __name__ == "__main__":
    main()
