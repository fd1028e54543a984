"""`videoar evaluate`: compare folders of generated videos with real ones.

Every number comes with its protocol: JSON, a Markdown table and a card that says what was compared and how.
Metrics that cannot be measured are listed with the reason, never guessed.

examples:
  videoar evaluate --real data/atari/testlist01.txt --fake outputs/samples --protocol atari
  videoar evaluate --real data/atari/testlist01.txt --generate run.ckpt --fake outputs/gfvd --protocol atari   # gFVD
  videoar evaluate --real clips --fake reconstructions                         # PSNR, SSIM, … of files with equal names
  videoar evaluate --real ucf101/train --fake seed0 seed1 --protocol ucf101-10k --features i3d:i3d_torchscript.pt
  videoar evaluate --real clips --model run.ckpt --set frames=17               # and usage and accuracy of the bits
  videoar evaluate --fake samples --vbench                                     # VBench's prompt-free dimensions
  videoar evaluate --generate model.ckpt --prompts VBench_full_info.json --fake vbench_videos   # for the official suite
  videoar evaluate --vbench-results evaluation_results                         # the official suite's totals
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videoar.cli import options
from videoar.cli.progress import Jobs
from videoar.errors import UserError
from videoar.ranges import BATCH, COUNT, FRAMES, SEED, SHARE, SIDE

if TYPE_CHECKING:
    from videoar.evaluation.plan import Options, Progress
    from videoar.evaluation.protocol import Protocol
    from videoar.metrics.vbench.registry import Dimensions


Add = Callable[..., Any]
"""A parser's `add_argument`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    _add_compared(parser.add_argument_group("what is compared").add_argument)
    _add_vbench(parser.add_argument_group("VBench").add_argument)
    _add_sampling(parser.add_argument_group("sampling first (an interrupted run goes on)").add_argument)
    _add_ways(parser.add_argument_group("how").add_argument)


def _add_compared(add: Add) -> None:
    add("--real", metavar="DIR", help="folder of real videos (all subfolders too), or a list file")
    add(
        "--split",
        choices=["train", "val", "test"],
        help="of --real only what training calls so: `val` are the clips that it held out (default: all)",
    )
    add(
        "--fake",
        metavar="DIR",
        nargs="+",
        help="generated or reconstructed videos; several: one a seed",
    )
    add(
        "--model",
        metavar="PATH",
        help="instead of --fake: reconstruct the real videos with this model (17 frames at its size, or --set)",
    )
    add(
        "--protocol",
        default="plain",
        metavar="NAME",
        help="named protocol or YAML file (default plain)",
    )
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="change values of the protocol")
    add(
        "--metrics",
        type=options.words,
        metavar="A,B",
        help="fvd, psnr, moving_psnr, ssim, lpips, temporal_difference, motion_ratio, moving_ratio, drift",
    )
    add("--features", metavar="NET", help="net of the FVD: i3d:FILE, videomae[:MODEL], atari[:FOLDER]")
    add("--note", nargs="+", default=[], metavar="KEY=VALUE", help="facts for the card (guidance=5, seed=0)")


def _add_vbench(add: Add) -> None:
    add(
        "--vbench", type=options.words, nargs="?", const="all", metavar="A,B", help="measure its prompt-free dimensions"
    )
    add("--vbench-weights", metavar="DIR", help="folder laid out like VBench's cache")
    add(
        "--substitutes",
        type=options.words,
        default="ffmpeg",
        metavar="A,B",
        help="ffmpeg, atari or none (default ffmpeg)",
    )
    add("--vbench-results", metavar="DIR", help="only add up the official suite's results")


def _add_sampling(add: Add) -> None:
    add("--generate", metavar="MODEL", help="write samples into --fake: of --prompts, or one of each real clip's class")
    add("--prompts", metavar="FILE", help="VBench's full_info JSON, or one prompt a line")
    add("--samples", type=COUNT, default=5, help="videos a prompt (default 5)")
    add("--frames", type=FRAMES, default=17, help="pixel frames of a generated video (default 17)")
    add("--size", type=SIDE, nargs=2, metavar=("H", "W"), help="of generated videos (default: as trained)")
    add("--seed", type=SEED, default=0, help="sample i (of a prompt, or of the real set) uses seed + i")
    add("--guidance", type=options.guidance, help="ucf101, text, none or a number (default: the paper's for the model)")


def _add_ways(add: Add) -> None:
    add("--out", metavar="DIR", help="write metrics.json, metrics.md and drift.png here")
    add("--cache", metavar="DIR", help="statistics of real sets (default ~/.cache/videoar/real)")
    add("--no-cache", action="store_true", help="neither read nor write them")
    add("--batch", type=BATCH, default=8, help="clips a batch (default 8)")
    add("--device", type=options.device, metavar="NAME", help="cpu, cuda, … (default: cuda if there is one)")
    add("--backend", default="pyav", choices=("pyav", "decord", "torchcodec"), help="video reader (default pyav)")
    add("--max-skipped", type=SHARE, default=0.05, metavar="SHARE", help="unusable files allowed (0.05)")
    add("--lpips-weights", metavar="FILE", help="torchvision weights of the LPIPS backbone")
    add("--download", action="store_true", help="let model hubs be asked for missing networks")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print the Markdown report."""
    if args.vbench_results:
        return _official(args.vbench_results)
    if bool(args.fake) == bool(args.model):
        raise UserError(
            "give either --fake, folders of generated videos, or --model, whose reconstructions are measured"
        )
    protocol = _protocol(args)
    if args.generate:
        protocol = _write_samples(args, protocol)
    if not (args.real or args.vbench):
        if args.generate:
            return 0
        raise UserError("give --real to compare with, or --vbench for what needs no real videos")

    from videoar.evaluation.evaluate import evaluate
    from videoar.evaluation.folders import VideoFolder
    from videoar.evaluation.models import load_twin
    from videoar.evaluation.plan import features_for

    metrics = args.metrics.split(",") if args.metrics else None
    wants_fvd = args.real and (metrics is None or "fvd" in metrics)
    features = features_for(protocol, args.features, args.download) if wants_fvd else None
    dimensions = _dimensions(args)  # what is asked is looked at before the folders are
    real = VideoFolder(args.real, args.split) if args.real else None
    with Jobs() as jobs:
        report = evaluate(
            [load_twin(args.model)] if args.model else args.fake,
            real,
            protocol,
            metrics=metrics,
            features=features,
            dimensions=dimensions,
            options=_options(args, jobs.show),
        )
    report.notes |= options.pairs(args.note, "--note")
    report.deviations[:0] = [f"changed by hand: {item}" for item in args.set]
    print(report.markdown(), end="")
    if args.out:
        print(f"\nwrote {', '.join(str(path) for path in report.write(args.out))}")
    return 0


def _protocol(args: argparse.Namespace) -> Protocol:
    from videoar.evaluation.protocol import Protocol
    from videoar.yaml_files import read_value

    changes = {key: read_value(value, "--set") for key, value in options.pairs(args.set, "--set").items()}
    return Protocol.load(args.protocol).with_(changes, source="--set")


def _write_samples(args: argparse.Namespace, protocol: Protocol) -> Protocol:
    """Sample `args.generate` into the one folder of `args.fake`; what is there already is kept.

    Returns:
        The protocol; real clips that it leaves as they are become as long and large as the samples.
    """
    from videoar.evaluation.folders import VideoFolder
    from videoar.evaluation.samples import SampleSettings, sample_like, sample_prompts
    from videoar.evaluation.vbench_folder import VBenchFolder, read_prompts
    from videoar.training.checkpoint import load_models

    if not (args.prompts or args.real) or len(args.fake or ()) != 1:
        raise UserError("--generate needs --prompts FILE, or --real with its classes, and one folder as --fake")
    generator, tokenizer = load_models(args.generate)
    models = (
        generator.to(args.device or options.default_device()).eval(),
        tokenizer.to(args.device or options.default_device()).eval(),
    )
    size = (args.size[0], args.size[1]) if args.size else generator.config.size
    folder, settings = Path(args.fake[0]), SampleSettings(args.frames, size, args.seed, args.guidance)
    with Jobs() as jobs:
        progress = lambda done, total: jobs.show("sampling", done, total)  # noqa: E731
        if args.prompts:
            layout = VBenchFolder(folder, read_prompts(args.prompts), args.samples)
            made = sample_prompts(layout, models, settings, progress)
        else:
            made = sample_like(
                VideoFolder(args.real, args.split), protocol, folder, models, settings, args.batch, progress
            )
    prompts = f"; prompts in {layout.write_info()}" if args.prompts else ""
    print(f"{made} videos written to {folder}{prompts}")
    return protocol.shaped(settings.frames, settings.size) if args.real else protocol


def _dimensions(args: argparse.Namespace) -> Dimensions | None:
    from videoar.metrics.vbench.aggregate import QUALITY
    from videoar.metrics.vbench.backbones import Weights
    from videoar.metrics.vbench.registry import make_dimensions

    if not args.vbench:
        return None
    weights = Weights(Path(args.vbench_weights) if args.vbench_weights else None, args.download)
    chosen = QUALITY if args.vbench == "all" else tuple(args.vbench.split(","))
    return make_dimensions(chosen, weights, args.substitutes.split(","))


def _options(args: argparse.Namespace, progress: Progress) -> Options:
    from videoar.evaluation.cache import default_cache
    from videoar.evaluation.plan import Options

    cache = None if args.no_cache else Path(args.cache) if args.cache else default_cache()
    return Options(
        args.batch,
        args.device or options.default_device(),
        args.backend,
        args.max_skipped,
        cache,
        args.lpips_weights,
        progress,
    )


def _official(folder: str) -> int:
    """Print the totals of the official suite's results."""
    from dataclasses import asdict

    from videoar.metrics.vbench.aggregate import aggregate, read_results

    values = read_results(folder)
    print(json.dumps({"dimensions": values, **asdict(aggregate(values))}, indent=2))
    return 0
