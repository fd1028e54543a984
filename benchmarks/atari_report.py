"""What a run of configs/sweeps/atari.yaml measured, as files that fit into the repository: JSON, Markdown and pictures.

    python benchmarks/atari_report.py outputs/sweeps/atari_cpu --out benchmarks/results/atari

Reads the sweep's folder only; every number comes from the runs' TensorBoard logs or from `videoar evaluate`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from videoar.evaluation.plots import curves_plot
from videoar.figures import save_figure
from videoar.training.logs import read_scalars

CURVES = {
    "tokenizer": ("val/psnr", "val/motion_ratio", "val/temporal_error", "train/loss"),
    "generator": ("train/loss", "train/accuracy", "val/loss", "val/accuracy"),
}


def main() -> None:
    """Collect, plot and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="folder of the sweep")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--rename", nargs="+", default=[], metavar="OLD=NEW", help="folders in the copied commands")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    runs = {"tokenizer": args.sweep / "prepare" / "tokenizer", "generator": args.sweep / "seed0"}
    scalars = {name: read_scalars(folder) for name, folder in runs.items()}
    save_figure(curves_plot(scalars, CURVES, columns=4), args.out / "curves.png")
    states = {name: load(args.sweep / name / "state.json") for name in ("prepare", "seed0")}
    report = {
        "seconds": {step: s for state in states.values() for step, s in state["seconds"].items()},
        "last": {name: last(curves, ("val/",)) for name, curves in scalars.items()},
        "reconstruction": values(args.sweep / "reconstruction"),
        "generation": values(args.sweep / "seed0" / "evaluate"),
        "vbench_real": values(args.sweep / "seed0" / "vbench_real"),
        "vbench_generated": values(args.sweep / "seed0" / "vbench_fake"),
    }
    (args.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    for source, name in (
        (args.sweep / "reconstruction" / "metrics.md", "reconstruction.md"),
        (args.sweep / "seed0" / "evaluate" / "metrics.md", "generation.md"),
        (args.sweep / "seed0" / "vbench_real" / "metrics.md", "vbench_real.md"),
        (args.sweep / "seed0" / "vbench_fake" / "metrics.md", "vbench_generated.md"),
        (args.sweep / "prepare" / "commands.sh", "commands_prepare.sh"),
        (args.sweep / "seed0" / "commands.sh", "commands_generator.sh"),
    ):
        if source.is_file():
            (args.out / name).write_text(renamed(source.read_text(encoding="utf-8"), args.rename), encoding="utf-8")
    print(json.dumps(report, indent=2))


def renamed(text: str, pairs: list[str]) -> str:
    """`text` with each OLD replaced by its NEW: commands as others would type them, not a machine's scratch folders."""
    for old, new in (pair.split("=", 1) for pair in pairs):
        text = text.replace(old, new)
    return text


def last(curves: dict[str, dict[int, float]], prefixes: tuple[str, ...]) -> dict[str, float]:
    """The last value of every scalar whose tag begins with one of `prefixes`."""
    return {tag: curve[max(curve)] for tag, curve in sorted(curves.items()) if tag.startswith(prefixes) and curve}


def values(folder: Path) -> dict[str, Any]:
    """The numbers of one `videoar evaluate --out`; {} if it did not run."""
    return load(folder / "metrics.json").get("values", {})


def load(path: Path) -> dict[str, Any]:
    """A JSON file; {} if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


if __name__ == "__main__":
    main()
