"""`videoar demo`: samples of the shipped VideoAR-Atari in seconds; then the whole path in minutes: render games, train
both models, sample, and lay the results side by side.

Every step but the last is a `videoar` command that is printed, so that it can be repeated and changed by hand.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videoar.cli.options import guidance
from videoar.errors import UserError
from videoar.ranges import COUNT, SEED

if TYPE_CHECKING:
    from torch import Tensor

    from videoar.generator.model import VideoAR
    from videoar.tokenizer.model import VideoTokenizer

GAMES = "boxing,fishing_derby,frogger,riverraid"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("--out", default="outputs/demo", metavar="DIR", help="folder for everything (default outputs/demo)")
    add("--configs", default="configs", metavar="DIR", help="the repository's configs (default configs)")
    add("--games", default=GAMES, help=f"games to render, joined by commas (default {GAMES})")
    add("--clips", type=COUNT, default=24, help="training clips a game (default 24)")
    add("--tokenizer-steps", type=COUNT, default=None, help="training batches of the tokenizer (default: the config's)")
    add("--generator-steps", type=COUNT, default=None, help="training batches of the generator (default: the config's)")
    add("--guidance", type=guidance, default="2", help="guidance of the samples (default 2)")
    add("--seed", type=SEED, default=0, help="seed of data, training and samples (default 0)")


@dataclass
class Run:
    """Where the demo writes, and how long each step took."""

    out: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def command(self, name: str, *arguments: str) -> None:
        """Run one `videoar` command.

        Raises:
            UserError: it failed; its own message has been shown.
        """
        from videoar.cli.main import main

        print(f"\n[{name}] videoar {' '.join(arguments)}", flush=True)
        started = time.perf_counter()
        if code := main(arguments):
            raise UserError(f"the demo stopped: `videoar {arguments[0]}` ended with exit code {code}")
        self.seconds[name] = round(time.perf_counter() - started, 1)


def run(args: argparse.Namespace) -> int:
    """Run the demo from data to report."""
    import torch

    configs, run = Path(args.configs), Run(Path(args.out))
    for part in ("tokenizer", "generator"):
        if not (configs / part / "demo.yaml").is_file():
            raise UserError(f"{configs / part / 'demo.yaml'} is missing: run the demo from the repository's folder")
    data, model = run.out / "data", run.out / "model"
    tokenizer_dir, generator_dir = _unused(run.out / "tokenizer"), _unused(run.out / "generator")
    seed = ["--seed_everything", str(args.seed)]
    shown = ["--out", str(run.out / "shipped"), "--overwrite", "--seed", str(args.seed)]
    run.command("shipped", "sample", "--num", "1", "--grid", "--fps", "15", *shown)
    print(f"\nSamples of the shipped VideoAR-Atari: {run.out / 'shipped' / 'grid.gif'}. Now a small one from nothing:")
    games = ["--games", args.games, "--clips-per-game", str(args.clips), "--test-clips", "4"]
    run.command("data", "data", "atari", "--out", str(data), *games, "--frames", "17", "--size", "64")

    config = ["--config", str(configs / "tokenizer" / "demo.yaml"), "--data.root", str(data), *seed]
    root = ["--trainer.default_root_dir", str(tokenizer_dir)]
    run.command("tokenizer", "fit", *config, *root, *_steps(args.tokenizer_steps))
    tokenizer_ckpt = _last_checkpoint(tokenizer_dir)

    config = ["--config", str(configs / "generator" / "demo.yaml"), "--data.root", str(data), *seed]
    root = ["--trainer.default_root_dir", str(generator_dir), "--model.tokenizer", str(tokenizer_ckpt)]
    run.command("generator", "fit", *config, *root, *_steps(args.generator_steps))
    generator_ckpt = _last_checkpoint(generator_dir)
    shutil.rmtree(model, ignore_errors=True)
    run.command("export", "export", str(generator_ckpt), str(model))

    started = time.perf_counter()
    report = _show(args, run.out, data)
    run.seconds["samples"] = round(time.perf_counter() - started, 1)
    curves = {"tokenizer": tokenizer_dir, "generator": generator_dir}
    _plot_curves(curves, run.out / "curves.png")
    report |= {"seconds": run.seconds, "versions": _versions(), "threads": torch.get_num_threads()}
    _write_json(run.out / "report.json", report)
    print(f"\nDone in {sum(run.seconds.values()) / 60:.1f} minutes. Look at:")
    for name in ("contact_sheet.png", "curves.png", "report.json", "samples", "model"):
        print(f"  {run.out / name}")
    return 0


def _steps(count: int | None) -> list[str]:
    return [] if count is None else ["--trainer.max_steps", str(count)]


def _unused(folder: Path) -> Path:
    """The folder, or where an earlier demo has trained in it, the next one with a number."""
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([folder], numbered) if not (path / "checkpoints").exists())


def _last_checkpoint(folder: Path) -> Path:
    found = sorted(folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(f"training left no last.ckpt below {folder}")
    return found[-1]


def _show(args: argparse.Namespace, out: Path, data: Path) -> dict[str, Any]:
    """Reconstruct one test clip and sample one video of every class; write the files and measure."""
    import torch

    from videoar.data.writers import contact_sheet, write_gif, write_mp4, write_png
    from videoar.sampling.generate import generate
    from videoar.training.checkpoint import load_models

    generator, tokenizer = load_models(out / "model")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator, tokenizer = generator.to(device), tokenizer.to(device)
    names = list(generator.config.class_names)
    clips, labels = _test_clips(data, names)
    clips = clips.to(device)
    with torch.no_grad():
        rebuilt = torch.cat([tokenizer.reconstruct(clip[None]) for clip in clips])
    first = [labels.index(i) for i in range(len(names))]
    size = (clips.shape[-2], clips.shape[-1])
    started = time.perf_counter()
    sample = generate(generator, tokenizer, names, clips.shape[2], size, seed=args.seed, guidance=args.guidance)
    seconds = time.perf_counter() - started
    (out / "samples").mkdir(parents=True, exist_ok=True)
    for name, video in zip(names, sample.video.cpu()):
        write_mp4(out / "samples" / f"{name}.mp4", video, 15)
        write_gif(out / "samples" / f"{name}.gif", video, 15)
    rows = [[clips[i].cpu(), rebuilt[i].cpu(), sample.video[c].cpu()] for c, i in enumerate(first)]
    sheet = contact_sheet(rows, frames=5, scale=2, labels=names)
    write_png(out / "contact_sheet.png", sheet)
    error = (rebuilt - clips).square().mean((1, 2, 3, 4))
    return {
        "classes": names,
        "test_clips": len(labels),
        "psnr_db": round(float((10 * torch.log10(4 / error)).mean()), 2),
        **_bit_accuracy(generator, tokenizer, clips, labels),
        "sampling": {"videos": len(names), "steps": sample.steps, "seconds": round(seconds, 2)},
        "parameters": {
            "tokenizer": sum(p.numel() for p in tokenizer.parameters()),
            "generator": sum(p.numel() for p in generator.parameters()),
        },
        "device": device,
    }


def _test_clips(data: Path, names: list[str]) -> tuple[Tensor, list[int]]:
    """Every test clip [N, 3, T, H, W] and its label, by the set's own test list."""
    import torch

    from videoar.data.readers import open_video

    lines = [line.split()[0] for line in (data / "testlist01.txt").read_text().splitlines() if line.strip()]
    clips = []
    for line in lines:
        reader = open_video(data / line)
        clips.append(reader.get(range(len(reader))).permute(3, 0, 1, 2).float() / 127.5 - 1)
    return torch.stack(clips), [names.index(Path(line).parent.name) for line in lines]


def _bit_accuracy(generator: VideoAR, tokenizer: VideoTokenizer, clips: Tensor, labels: list[int]) -> dict[str, Any]:
    """Share of right bits under teacher forcing, in all and by scale, on the test clips."""
    import torch

    from videoar.losses.bitwise import bitwise_loss

    pyramid = tokenizer.pyramid(clips.shape[-2], clips.shape[-1])
    with torch.no_grad():
        latent = tokenizer.encode(clips)
        lesson, frames = generator.lesson(latent, pyramid), latent.shape[2]
        logits = generator(lesson.tokens, labels, pyramid, frames, bits=lesson.targets)
        result = bitwise_loss(logits, lesson.targets, pyramid, frames)
    by_scale = {f"{h}x{w}": round(float(a), 4) for (h, w), a in zip(pyramid.grids, result.per_scale_accuracy)}
    return {"bit_accuracy": round(float(result.accuracy), 4), "bit_accuracy_per_scale": by_scale}


def _plot_curves(runs: dict[str, Path], path: Path) -> None:
    """The training curves of both runs, read from their TensorBoard logs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = {"tokenizer": ("train/reconstruction", "train/psnr"), "generator": ("train/loss", "train/accuracy")}
    figure, axes = plt.subplots(1, 4, figsize=(16, 3.4), constrained_layout=True)
    for i, (name, folder) in enumerate(runs.items()):
        scalars = _scalars(folder)
        for axis, tag in zip(axes[2 * i : 2 * i + 2], shown[name]):
            steps, values = scalars.get(tag, ([], []))
            axis.plot(steps, values, linewidth=1)
            axis.set(title=f"{name}: {tag.removeprefix('train/')}", xlabel="batches")
            axis.grid(alpha=0.3)
    partial = path.with_name(path.stem + ".partial.png")
    figure.savefig(partial, dpi=100)
    plt.close(figure)
    partial.rename(path)


def _scalars(folder: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Every scalar of the newest TensorBoard log below a folder: tag → (steps, values)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = sorted(folder.rglob("events.out.tfevents.*"), key=lambda p: p.stat().st_mtime)
    if not logs:
        return {}
    events = EventAccumulator(str(logs[-1].parent), size_guidance={"scalars": 0})
    events.Reload()
    curves = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    return {tag: ([e.step for e in points], [e.value for e in points]) for tag, points in curves.items()}


def _versions() -> dict[str, str]:
    import platform
    from importlib.metadata import version

    names = ("videoar", "torch", "lightning", "ale-py", "av")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _write_json(path: Path, values: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values, indent=2) + "\n")
    partial.rename(path)
