"""`videoar sample`: videos from labels, prompts, an image or a clip: mp4, GIF and a JSON of every setting."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videoar.cli import options
from videoar.errors import UserError
from videoar.ranges import BATCH, COUNT, FPS, FRAMES, SECONDS, SEED, SIDE, STRENGTH, TEMPERATURE, check_memory

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from videoar.generator.model import VideoAR
    from videoar.sampling.request import Request
    from videoar.tokenizer.model import VideoTokenizer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add(
        "--model",
        type=options.word,
        default="videoar-atari",
        metavar="PATH",
        help="a generator checkpoint (.ckpt), an exported folder or a name (default: the shipped videoar-atari)",
    )
    add(
        "--label",
        type=options.word,
        action="append",
        metavar="NAME",
        help="class name or number; repeat for several (default: all, one each)",
    )
    add("--prompt", type=options.word, action="append", metavar="TEXT", help="a text prompt; repeat for several")
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
    add("--grid", action="store_true", help="also write grid.gif and grid.png, one row a label or prompt")
    add("--seed", type=SEED, default=0, help="video i uses seed + i (default 0)")
    add("--batch", type=BATCH, default=8, help="videos sampled together (default 8)")
    add("--device", type=options.device, default=None, help="cpu, cuda, … (default: cuda if there is one)")
    add(
        "--dtype", choices=["float32", "bfloat16"], default="float32", help="precision of the weights (default float32)"
    )
    add("--compile", action="store_true", help="compile the generator's steps: a minute first, then faster")
    add("--graphs", action="store_true", help="record CUDA graphs in the first batch and replay them in the others")
    add(
        "--out",
        type=options.word,
        default="outputs/samples",
        metavar="DIR",
        help="folder for the results (default outputs/samples)",
    )
    add("--overwrite", action="store_true", help="remove the videos that an earlier run left in --out")


def run(args: argparse.Namespace) -> int:
    """Sample and write `<condition>_<seed>.mp4`, `.gif` and `samples.json`."""
    import torch

    from videoar import __version__
    from videoar.cli.outputs import claim_folder
    from videoar.sampling.graphs import FrameGraphs
    from videoar.sampling.guidance import Guidance
    from videoar.sampling.request import Request
    from videoar.training.checkpoint import load_models

    started = time.perf_counter()
    claim_folder(Path(args.out), args.overwrite)
    generator, tokenizer = load_models(args.model)
    device = args.device or options.default_device()
    dtype = getattr(torch, args.dtype)
    generator, tokenizer = generator.to(device, dtype).eval(), tokenizer.to(device, dtype).eval()
    if args.compile:
        generator.compile_steps()
    graphs = FrameGraphs() if args.graphs else None
    guidance = _guidance(args, generator, Guidance)
    heat = args.temperature[0] if len(args.temperature) == 1 else tuple(args.temperature)
    size = _size(args.size, generator.config.size)
    check_memory(3 * 5 * min(args.batch, args.num) * args.frames * size[0] * size[1], "clips of this length and size")
    jobs = [(value, args.seed + i) for i, value in enumerate(_conditions(args, generator))]
    prefix = _prefix(args, size)
    asked = Request((), args.frames, size, 0, guidance, heat, args.greedy, prefix, graphs=graphs)
    settings: dict[str, Any] = {name: value for name, value in vars(args).items() if not callable(value)}
    settings |= {"size": list(size), "device": device, "options": asdict(asked.options(generator))}
    settings |= {"videoar": __version__, "torch": torch.__version__}
    settings |= {"generator": generator.fingerprint(), "tokenizer": tokenizer.fingerprint(), "videos": []}
    videos: list[np.ndarray] = []
    for start in range(0, len(jobs), args.batch):
        part = jobs[start : start + args.batch]
        which = f"{start + len(part)}/{len(jobs)}"
        files, clips = _sample_batch(args, generator, tokenizer, part, asked, which)
        settings["videos"] += files
        settings["seconds_in_all"] = round(time.perf_counter() - started, 3)
        _write_settings(args, settings)  # after every batch, so that an interrupted run can be told from others' files
        videos += clips if args.grid else []
    if args.grid:
        names = ["sample" if value is None else str(value) for value, _ in jobs[:: args.num]]
        _write_grid(args, names, videos)
    print(f"{len(jobs)} videos in {args.out}")
    return 0


def _write_settings(args: argparse.Namespace, settings: dict[str, Any]) -> None:
    from videoar.cli.outputs import SETTINGS
    from videoar.data.files import atomic_path

    with atomic_path(Path(args.out) / SETTINGS) as path:
        path.write_text(json.dumps(settings, indent=2, default=str) + "\n")


def _guidance(args: argparse.Namespace, generator: VideoAR, kind: Any) -> Any:
    from videoar.sampling.guidance import default_guidance

    return replace(
        kind.of(args.guidance or default_guidance(generator.config.condition)), prefix_strength=args.prefix_guidance
    )


def _conditions(args: argparse.Namespace, generator: VideoAR) -> list[int | str | None]:
    """One entry a video."""
    values: list[int | str | None]
    if generator.config.condition == "none":
        if args.prompt or args.label:
            raise UserError("this model is unconditional: it takes no --label and no --prompt, only --num")
        values = [None]
    elif generator.config.condition == "class":
        if args.prompt:
            raise UserError("this model is class-conditional: use --label")
        names = generator.config.class_names
        values = args.label or list(names or range(generator.config.num_classes))
    else:
        if args.label or not args.prompt:
            raise UserError("this model is conditioned on text: use --prompt")
        values = args.prompt
    return [value for value in values for _ in range(args.num)]


def _size(given: list[int] | None, trained: tuple[int, int]) -> tuple[int, int]:
    if given is None:
        return trained
    if len(given) > 2:
        raise UserError(f"--size takes one or two numbers, got {given}")
    return given[0], given[-1]


def _prefix(args: argparse.Namespace, size: tuple[int, int]) -> Tensor | None:
    """The given image or the end of the given clip, [3, n, H, W] in [-1, 1]."""
    from videoar.data.readers import open_video, read_image
    from videoar.data.transforms import fit

    if args.image and args.video:
        raise UserError("--image and --video cannot be given together")
    if args.image:
        return fit(read_image(args.image), size)
    if not args.video:
        return None
    context = args.context or 5
    reader = open_video(args.video)
    if len(reader) < context:
        raise UserError(f"{args.video} has {len(reader)} frames; --context asks for {context}")
    return fit(reader.get(range(len(reader) - context, len(reader))), size)


def _sample_batch(
    args: argparse.Namespace,
    generator: VideoAR,
    tokenizer: VideoTokenizer,
    jobs: list[tuple[int | str | None, int]],
    asked: Request,
    which: str,
) -> tuple[list[dict[str, Any]], list[np.ndarray]]:
    """Sample one batch, writing frames while later ones are sampled: what was written, and the videos as bytes."""
    from contextlib import ExitStack

    import numpy as np
    from rich.progress import Progress

    from videoar.data.writers import open_mp4_writer, to_uint8, write_gif

    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    stems = [folder / f"{_file_name(value)}_{seed:05d}" for value, seed in jobs]
    kept: list[list[np.ndarray]] = [[] for _ in jobs]
    with Progress(transient=True) as bar, ExitStack() as files:
        task = bar.add_task(f"sampling {which}", total=None)
        writers = [files.enter_context(open_mp4_writer(stem.with_suffix(".mp4"), args.fps)) for stem in stems]
        progress = lambda done, total: bar.update(task, completed=done, total=total)  # noqa: E731
        batch = replace(asked, condition=[v for v, _ in jobs], seed=[seed for _, seed in jobs], progress=progress)
        for part in _stream(args, generator, tokenizer, batch):
            for clip, writer, frames in zip(part, writers, kept):
                frames.append(to_uint8(clip))
                writer.write(frames[-1])
    videos = [np.concatenate(frames) for frames in kept]
    for stem, video in zip(stems, videos):
        write_gif(stem.with_suffix(".gif"), video, args.fps)
    files_of = zip(stems, jobs)
    return [{"file": f"{stem.name}.mp4", "condition": value, "seed": seed} for stem, (value, seed) in files_of], videos


def _write_grid(args: argparse.Namespace, names: list[str], videos: list[np.ndarray]) -> None:
    """All videos as one GIF, and five frames of each row's first as one picture."""
    from videoar.data.writers import contact_sheet, tile, write_gif, write_png

    rows = [videos[start : start + args.num] for start in range(0, len(videos), args.num)]
    scale = max(1, 128 // videos[0].shape[2])
    write_gif(Path(args.out) / "grid.gif", tile(rows).repeat(scale, 1).repeat(scale, 2), args.fps)
    write_png(Path(args.out) / "grid.png", contact_sheet([row[:1] for row in rows], 5, names, scale))


def _stream(
    args: argparse.Namespace, generator: VideoAR, tokenizer: VideoTokenizer, asked: Request
) -> Iterator[Tensor]:
    from videoar.sampling.generate import extend, generate_stream

    if args.seconds is None:
        return generate_stream(generator, tokenizer, asked)
    how = {"seconds": args.seconds, "fps": args.fps, "overlap": args.context or 5}
    return extend(generator, tokenizer, asked, **how)


def _file_name(value: int | str | None) -> str:
    """A condition as part of a file name."""
    if value is None:
        return "sample"
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in str(value))[:60]
