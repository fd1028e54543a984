"""`videoar sample`: videos from labels, prompts, an image or a clip: mp4, GIF and a JSON of every setting."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videoar.cli import options
from videoar.cli.progress import Jobs
from videoar.errors import UserError
from videoar.files import only_writer
from videoar.ranges import BATCH, COUNT, FPS, FRAMES, SECONDS, SEED, SIDE, STRENGTH, TEMPERATURE, check_memory

if TYPE_CHECKING:
    from torch import Tensor

    from videoar.gallery.write import Source
    from videoar.sampling.request import Request


CONTEXT = 5
"""Frames taken from --video or a shot where --context does not say."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    options.add_model(parser)
    add(
        "--backend",
        choices=["torch", "onnx"],
        default="torch",
        help="onnx: --model is a folder of `videoar export MODEL DIR --onnx` (default torch)",
    )
    add(
        "--label",
        action="append",
        metavar="NAME",
        help="class name or number; repeat for several (default: all, one each)",
    )
    add("--prompt", action="append", metavar="TEXT", help="a text prompt; repeat for several")
    add("--num", type=COUNT, default=1, metavar="N", help="videos for each label or prompt, or in all (default 1)")
    add("--image", metavar="FILE", help="start from this image")
    add("--video", metavar="FILE", help="continue the last frames of this clip")
    add(
        "--context",
        type=FRAMES,
        default=None,
        metavar="FRAMES",
        help="frames taken from --video or a shot (1+4n; default 5)",
    )
    _clip_arguments(parser)
    _run_arguments(parser)


def _clip_arguments(parser: argparse.ArgumentParser) -> None:
    """How long and large a clip is, and how its bits are drawn."""
    add = parser.add_argument
    add("--frames", type=FRAMES, default=17, help="pixel frames of a clip, 1 + 4n (default 17)")
    add("--seconds", type=SECONDS, default=None, help="go on shot after shot until the video is this long")
    add(
        "--size",
        type=SIDE,
        nargs="+",
        default=None,
        metavar="PX",
        help="side, or height and width (default: as trained)",
    )
    add("--fps", type=FPS, default=8.0, help="frames a second of the files (default 8)")
    add(
        "--guidance",
        type=options.guidance,
        default=None,
        help="ucf101, text, none or a number (default: the paper's for the model)",
    )
    add("--temperature", type=TEMPERATURE, nargs="+", default=[1.0], help="one value, or one a scale (default 1)")
    add("--greedy", action="store_true", help="the more likely value of every bit; no randomness")
    add(
        "--prefix-guidance",
        type=STRENGTH,
        default=0.0,
        metavar="S",
        help="visual prefix guidance strength (default 0: off)",
    )


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the files go, and how they are made."""
    add = parser.add_argument
    add("--grid", action="store_true", help="also write grid.gif and grid.png, one row a label or prompt")
    add("--seed", type=SEED, default=0, help="video i uses seed + i (default 0)")
    add("--batch", type=BATCH, default=8, help="videos sampled together (default 8)")
    add("--device", type=options.device, default=None, help="cpu, cuda, … (default: cuda if there is one)")
    add(
        "--dtype",
        choices=["float32", "bfloat16"],
        default=None,
        help="precision of the weights (default: bfloat16 on a GPU that has it, else float32)",
    )
    add("--compile", action="store_true", help="compile the generator's steps: a minute first, then faster")
    add("--graphs", action="store_true", help="record CUDA graphs in the first batch and replay them in the others")
    add(
        "--out",
        default="outputs/samples",
        metavar="DIR",
        help="folder for the results (default outputs/samples)",
    )
    add("--overwrite", action="store_true", help="remove the videos that an earlier run left in --out")


def run(args: argparse.Namespace) -> int:
    """Sample and write `<condition>_<seed>.mp4`, `.gif` and `samples.json`."""
    from videoar.gallery.folder import claim_folder
    from videoar.gallery.write import Gallery, write_samples

    folder = Path(args.out)
    if removed := claim_folder(folder, args.overwrite):
        print(f"removed {removed} videos of an earlier run from {folder}")
    source, config, made = _onnx(args) if args.backend == "onnx" else _networks(args)
    size = _size(args.size, config.size)
    check_memory(3 * 5 * min(args.batch, args.num) * args.frames * size[0] * size[1], "clips of this length and size")
    jobs = [(value, args.seed + i) for i, value in enumerate(_conditions(args, config))]
    row = args.num if args.grid else None
    gallery = Gallery(folder, args.fps, args.batch, row, args.seconds, args.context or CONTEXT)
    facts = {name: value for name, value in vars(args).items() if not callable(value)}
    facts |= {"size": list(size), **made}
    asked = _request(args, config, size)
    with only_writer(folder), Jobs() as bar:
        progress = lambda which, done, total: bar.show(f"sampling {which}", done, total)  # noqa: E731
        write_samples(source, jobs, asked, gallery, facts, progress)
    print(f"{len(jobs)} videos in {args.out}")
    return 0


def _networks(args: argparse.Namespace) -> tuple[Source, Any, dict[str, str]]:
    """Both networks as the source of samples, the generator's config, and where and in which precision they run."""
    import torch

    from videoar.gallery.write import Networks
    from videoar.training.checkpoint import load_models

    generator, tokenizer = load_models(args.model)
    device = args.device or options.default_device()
    precision = args.dtype or options.default_dtype(device)
    dtype = getattr(torch, precision)
    generator, tokenizer = generator.to(device, dtype).eval(), tokenizer.to(device, dtype).eval()
    if args.compile:
        generator.compile_steps()
    return Networks(generator, tokenizer), generator.config, {"device": device, "dtype": precision}


def _onnx(args: argparse.Namespace) -> tuple[Source, Any, dict[str, str]]:
    """The same of an exported folder."""
    import torch

    from videoar.serving.backend import OnnxModel

    given = {"--compile": args.compile, "--graphs": args.graphs, "--dtype": args.dtype == "bfloat16"}
    given["--device"] = args.device not in (None, "cpu")
    if unknown := [name for name, is_given in given.items() if is_given]:
        raise UserError(f"--backend onnx runs in float32 on the CPU: it takes no {', '.join(unknown)}")
    model = OnnxModel(args.model, torch.get_num_threads())
    return model, model.config, {"device": "cpu", "dtype": "float32"}


def _request(args: argparse.Namespace, config: Any, size: tuple[int, int]) -> Request:
    """What every video has in common."""
    from videoar.sampling.graphs import FrameGraphs
    from videoar.sampling.guidance import Guidance, default_guidance
    from videoar.sampling.request import Request

    guidance = Guidance.of(args.guidance or default_guidance(config.condition))
    guidance = replace(guidance, prefix_strength=args.prefix_guidance)
    heat = args.temperature[0] if len(args.temperature) == 1 else tuple(args.temperature)
    graphs = FrameGraphs() if args.graphs else None
    return Request((), args.frames, size, 0, guidance, heat, args.greedy, _prefix(args, size), graphs=graphs)


def _conditions(args: argparse.Namespace, config: Any) -> list[int | str | None]:
    """One entry a video."""
    from videoar.sampling.jobs import all_conditions

    kind, given = config.condition, args.prompt if args.prompt else args.label
    if kind == "none" and given:
        raise UserError("this model is unconditional: it takes no --label and no --prompt, only --num")
    if kind == "class" and args.prompt:
        raise UserError("this model is class-conditional: use --label")
    if kind not in ("none", "class") and (args.label or not args.prompt):
        raise UserError("this model is conditioned on text: use --prompt")
    return [value for value in given or all_conditions(config) for _ in range(args.num)]


def _size(given: list[int] | None, trained: tuple[int, int]) -> tuple[int, int]:
    if given is None:
        return trained
    if len(given) > 2:
        raise UserError(f"--size takes one or two numbers, got {given}")
    return given[0], given[-1]


def _prefix(args: argparse.Namespace, size: tuple[int, int]) -> Tensor | None:
    """The given image or the end of the given clip, [3, n, H, W] in [-1, 1]."""
    from videoar.gallery.start import start_with_image, start_with_video

    if args.image and args.video:
        raise UserError("--image and --video cannot be given together")
    if args.image:
        return start_with_image(args.image, size)
    return start_with_video(args.video, args.context or CONTEXT, size) if args.video else None
