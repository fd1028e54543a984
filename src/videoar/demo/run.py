"""The demo as a list of commands, and the runner that passes them on one after the other.

Every step but the last is a `videoar` command that is shown, so that it can be repeated and changed by hand.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videoar.demo.report import show
from videoar.errors import UserError
from videoar.evaluation.plots import curves_plot
from videoar.figures import save_figure
from videoar.files import atomic_path
from videoar.provenance import commit, versions
from videoar.training.checkpoint import newest_in
from videoar.training.logs import read_scalars

Command = Callable[[Sequence[str]], int]
"""Runs the words behind `videoar`; its exit code."""
CURVES = {"tokenizer": ("train/reconstruction", "train/psnr"), "generator": ("train/loss", "train/accuracy")}


@dataclass
class Demo:
    """What the demo makes, and where.

    Attributes:
        games: joined by commas. clips: for training, of each.
        tokenizer_steps, generator_steps: training batches; None: the configuration's.
        guidance: of the samples.
        seconds: what each step took; filled while it runs.

    Raises:
        UserError: a configuration is missing.
    """

    out: Path
    configs: Path = Path("configs")
    games: str = "boxing,fishing_derby,frogger,riverraid"
    clips: int = 80
    tokenizer_steps: int | None = None
    generator_steps: int | None = None
    guidance: float | str = 2.0
    seed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part in ("tokenizer", "generator"):
            path = self.configs / part / "demo.yaml"
            if not path.is_file():
                raise UserError(f"{path} is missing: run the demo from the repository's folder")

    @property
    def data(self) -> Path:
        """The rendered games."""
        return self.out / "data"

    @property
    def model(self) -> Path:
        """The exported pair."""
        return self.out / "model"


def run_demo(demo: Demo, command: Command, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Run every step; returns the report, which also lies in `report.json`.

    Args:
        command: what runs the words of a `videoar` command.

    Raises:
        UserError: a command failed; its own message has been shown.
    """
    import torch

    folders = {part: _unused(demo.out / part) for part in ("tokenizer", "generator")}

    def step(name: str, *words: str) -> None:
        say(f"\n[{name}] videoar {' '.join(words)}")
        started = time.perf_counter()
        if code := command(words):
            raise UserError(f"the demo stopped: `videoar {words[0]}` ended with exit code {code}")
        demo.seconds[name] = round(time.perf_counter() - started, 1)

    shipped = demo.out / "shipped"
    shown = ["--out", str(shipped), "--overwrite", "--seed", str(demo.seed)]
    step("shipped", "sample", "--num", "1", "--grid", "--fps", "15", *shown)
    say(f"\nSamples of the shipped VideoAR-Atari: {shipped / 'grid.gif'}. Now a small one from nothing:")
    games = ["--games", demo.games, "--clips-per-game", str(demo.clips), "--test-clips", "4"]
    step("data", "data", "atari", "--out", str(demo.data), *games, "--frames", "17", "--size", "64")
    step("tokenizer", *_fit(demo, "tokenizer", folders["tokenizer"], demo.tokenizer_steps))
    tokenizer = ["--model.tokenizer", str(_last_checkpoint(folders["tokenizer"]))]
    step("generator", *_fit(demo, "generator", folders["generator"], demo.generator_steps), *tokenizer)
    shutil.rmtree(demo.model, ignore_errors=True)
    step("export", "export", str(_last_checkpoint(folders["generator"])), str(demo.model))

    started = time.perf_counter()
    report = show(demo.model, demo.data, demo.out, seed=demo.seed, guidance=demo.guidance)
    curves = {part: read_scalars(folder) for part, folder in folders.items()}
    save_figure(curves_plot(curves, CURVES), demo.out / "curves.png", dpi=100)
    demo.seconds["samples"] = round(time.perf_counter() - started, 1)
    report |= {"seconds": demo.seconds, "threads": torch.get_num_threads()}
    report |= {"versions": versions(), "commit": commit()}
    with atomic_path(demo.out / "report.json") as path:
        path.write_text(json.dumps(report, indent=2) + "\n")
    return report


def _fit(demo: Demo, part: str, folder: Path, steps: int | None) -> list[str]:
    """The command that trains one of the two models."""
    words = ["fit", "--config", str(demo.configs / part / "demo.yaml"), "--data.root", str(demo.data)]
    words += ["--seed_everything", str(demo.seed), "--trainer.default_root_dir", str(folder)]
    return words if steps is None else [*words, "--trainer.max_steps", str(steps)]


def _unused(folder: Path) -> Path:
    """The folder, or where an earlier demo has trained in it, the next one with a number."""
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([folder], numbered) if not (path / "checkpoints").exists())


def _last_checkpoint(folder: Path) -> Path:
    found = newest_in(folder / "checkpoints")
    if found is None:
        raise UserError(f"training left no checkpoint in {folder}")
    return found
