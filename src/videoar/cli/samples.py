"""The samples that `videoar evaluate --generate` writes before it measures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from videoar.errors import UserError

if TYPE_CHECKING:
    from videoar.evaluation.protocol import Protocol
    from videoar.generator.model import VideoAR
    from videoar.tokenizer.model import VideoTokenizer


def write_samples(args: argparse.Namespace, protocol: Protocol, device: str) -> None:
    """Sample `args.generate` into the one folder of `args.fake`; what is there already is kept."""
    from videoar.training.checkpoint import load_models

    if not (args.prompts or args.real) or len(args.fake or ()) != 1:
        raise UserError("--generate needs --prompts FILE, or --real with its classes, and one folder as --fake")
    generator, tokenizer = load_models(args.generate)
    models = generator.to(device).eval(), tokenizer.to(device).eval()
    size = (args.size[0], args.size[1]) if args.size else tuple(generator.config.size)
    (_of_prompts if args.prompts else _of_classes)(args, protocol, models, size)


def _of_classes(
    args: argparse.Namespace, protocol: Protocol, models: tuple[VideoAR, VideoTokenizer], size: tuple[int, int]
) -> None:
    """One sample for each real clip, of its class."""
    from rich.progress import Progress

    from videoar.evaluation.folders import VideoFolder
    from videoar.evaluation.samples import SampleSettings, sample_like

    folder, settings = Path(args.fake[0]), SampleSettings(args.frames, size, args.seed, args.guidance)
    with Progress(transient=True) as bar:
        task = bar.add_task("sampling", total=None)
        progress = lambda done, total: bar.update(task, completed=done, total=total)  # noqa: E731
        made = sample_like(VideoFolder(args.real), protocol, folder, models, settings, args.batch, progress)
    print(f"{made} videos written to {folder}")


def _of_prompts(
    args: argparse.Namespace, protocol: Protocol, models: tuple[VideoAR, VideoTokenizer], size: tuple[int, int]
) -> None:
    """The samples of all prompts, in VBench's layout."""
    from rich.progress import track

    from videoar.evaluation.vbench_folder import VBenchFolder, read_prompts
    from videoar.sampling.generate import generate

    folder = VBenchFolder(args.fake[0], read_prompts(args.prompts), args.samples)
    pending = list(folder.pending())
    for prompt, index in track(pending, "sampling", transient=True):
        text, seed = [prompt.refined or prompt.text], args.seed + index
        sample = generate(*models, text, frames=args.frames, size=size, seed=seed, guidance=args.guidance)
        folder.write(prompt, index, sample.video[0].float())
    print(f"{len(pending)} videos written to {folder.path}; prompts in {folder.write_info()}")
