"""`videoar benchmark`: how fast models and data run on this machine, beside what the machine can reach.

Device ceilings (matrix product, copy) are measured in the same run. Weights are random; nothing is downloaded.

examples:
  videoar benchmark                                          # everything, at a preset that suits the device
  videoar benchmark --suite sampling --preset videoar-l --device cuda
  videoar benchmark --suite tokenizer generator --dtype bfloat16 --out benchmarks/results
"""

from __future__ import annotations

import argparse

from videoar.cli import options
from videoar.errors import UserError
from videoar.ranges import BATCH, DEPTH, FRAMES, SECONDS, SIDE

TWINS = ("attention", "conv3d", "group_norm", "linear")
SUITES = ("all", "quantiser", "data", "generator", "sampling", "tokenizer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("--suite", nargs="+", choices=SUITES, default=["all"], help="what to time (default all)")
    add(
        "--case", nargs="+", metavar="NAME", help="only these cases of the suites (latents, train_step, …; default all)"
    )
    add("--without", nargs="+", default=[], choices=TWINS, help="fast paths to turn off, for the time before and after")
    add("--device", type=options.device, help="cpu, cuda, … (default: cuda if there is one)")
    add(
        "--preset",
        help="generator, with its tokenizer: atari, videoar-l, … (default: debug, on a GPU videoar-l)",
    )
    add("--dtype", choices=["float32", "bfloat16"], help="of the arithmetic (default: float32, on a GPU bfloat16)")
    add("--frames", type=FRAMES, default=17, help="pixel frames of a clip, 1 + 4n (default 17)")
    add("--size", type=SIDE, nargs="+", metavar="PX", help="side, or height and width (default 64, on a GPU 128)")
    add("--batch", type=BATCH, default=1, help="clips in a batch (default 1)")
    add("--depth", type=DEPTH, help="blocks of the generator (default: the preset's; fewer where memory is short)")
    add(
        "--guidance",
        type=options.guidance,
        default="ucf101",
        help="of sampling: ucf101, text, none or a number (default ucf101)",
    )
    add(
        "--budget",
        type=SECONDS,
        default=2.0,
        metavar="S",
        help="seconds a figure (default 2; 3 to 30 repeats, one where a call takes five times as long)",
    )
    add("--cpu-time", action="store_true", help="count CPU seconds, not wall clock: one thread on a shared machine")
    add("--out", default="outputs/benchmarks", metavar="DIR", help="folder of the JSON (default outputs/benchmarks)")


def run(args: argparse.Namespace) -> int:
    """Measure, print one table, save the JSON."""
    import torch
    from rich.console import Console

    from videoar.benchmarking.measure import DTYPES
    from videoar.benchmarking.run import run_benchmark
    from videoar.benchmarking.setting import Setting

    device = torch.device(args.device or options.default_device())
    gpu = device.type == "cuda"
    dtype = DTYPES[args.dtype or ("bfloat16" if gpu else "float32")]
    sides = args.size or [128 if gpu else 64]
    if len(sides) > 2 or args.budget <= 0:
        raise UserError(f"--size takes one or two numbers, --budget more than 0; got {sides} and {args.budget}")
    preset, size = args.preset or ("videoar-l" if gpu else "debug"), (sides[0], sides[-1])
    setting = Setting(preset, device, dtype, args.frames, size, args.batch, args.guidance, args.depth)
    suites = SUITES if "all" in args.suite else args.suite
    how = {"cases": args.case or (), "without": args.without, "budget": args.budget, "cpu_time": args.cpu_time}
    result = run_benchmark(setting, suites, **how)
    console, machine = Console(), result.content["machine"]
    console.print(result.table(console.width))
    console.print(f"{machine['processor']} · {machine['device']} · {machine['clock']}")
    print(f"wrote {result.save(args.out)}")
    return 0
