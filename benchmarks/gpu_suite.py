"""Everything that only a GPU can show, in one script: sampling latency and throughput of L and XL (plain, CUDA graphs,
compiled and graphs), MFU of training steps plain and compiled, tokenizer, attention backends.
Random weights, no downloads, at most 6 minutes on an H200-class GPU.

    python benchmarks/gpu_suite.py --out benchmarks/results/performance      # on a GPU
    python benchmarks/gpu_suite.py --tiny                                    # seconds on a CPU; what the tests run

The figures that matter most come first: no part and no figure begins after --limit seconds, and the JSON says what was
left out. The slowest figure, which compiles XL, takes about a minute.
A part that fails (out of memory, say) is reported and the others go on. The exit code is then 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from videoar.benchmarking import measure, suites
from videoar.benchmarking.measure import Case, Figure
from videoar.benchmarking.sampling import sampling_cases
from videoar.benchmarking.setting import Setting
from videoar.errors import UserError

Part = tuple[str, Callable[[], Iterator[Case]]]


def parts(base: Setting, tiny: bool) -> Iterator[Part]:
    """Name and cases of each part, the most wanted first."""
    large = base if tiny else replace(base, preset="videoar-l")
    extra = base if tiny else replace(base, preset="videoar-xl")
    many, some, few = (2, 2, 2) if tiny else (64, 16, 4)
    gpu = base.device.type == "cuda"
    if gpu:  # a CPU has no graphs
        yield "L", lambda: sampling_cases(large, compiled=True, graphs=True)
        yield "L", lambda: sampling_cases(large, graphs=True)
    yield "L", lambda: sampling_cases(large)
    yield f"L batch {some}", lambda: iter([suites.generator_training(replace(large, batch=some))])
    if gpu:
        yield f"L batch {some}", lambda: iter([suites.generator_training(replace(large, batch=some), compiled=True)])
        yield "XL", lambda: sampling_cases(extra, compiled=True, graphs=True)
    yield f"L batch {many}", lambda: sampling_cases(replace(large, batch=many), graphs=gpu)
    yield "videoar", lambda: suites.tokenizer_inference(large)
    yield f"videoar batch {few}", lambda: iter([suites.tokenizer_training(replace(large, batch=few))])
    yield f"L, {some} clips", lambda: suites.attention_cases(replace(large, batch=some))
    long = base.latent_frames * (2 if tiny else 4)
    yield "L, 4x longer", lambda: suites.attention_cases(replace(large, batch=2), long)
    if gpu:
        yield f"videoar batch {few}", lambda: iter([suites.tokenizer_training(replace(large, batch=few), True)])
        yield f"L batch {some}", lambda: iter([suites.generator_training(replace(large, batch=some), "flex")])
        yield f"XL batch {some}", lambda: iter([suites.generator_training(replace(extra, batch=some))])
        yield "L unguided", lambda: sampling_cases(replace(large, guidance="none"), graphs=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a short table last, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="debug models on the CPU: does the script run?")
    parser.add_argument("--out", default="outputs/benchmarks", help="folder of the JSON (default outputs/benchmarks)")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds after which nothing begins (default 300)")
    args = parser.parse_args(argv)
    if not args.tiny and not torch.cuda.is_available():
        parser.error("no CUDA device; --tiny runs on a CPU")
    began = time.monotonic()
    if args.tiny:
        base, budget = Setting("debug", torch.device("cpu"), torch.float32, 5, (32, 32)), 0.02
    else:
        base, budget = Setting("videoar-l", torch.device("cuda"), torch.bfloat16), 4.0
    roofs = measure.ceilings(base.device)
    figures: dict[str, Figure] = {}
    failed: dict[str, str] = {}
    left_out: list[str] = []
    for name, cases in parts(base, args.tiny):
        if time.monotonic() - began > args.limit:
            left_out.append(name)
            continue
        try:
            for figure in measure.run_cases(cases(), base.device, roofs, budget):
                figures[f"{name}: {figure.suite}/{figure.timing.name}"] = figure
                print(f"{time.monotonic() - began:5.0f} s  {line(name, figure)}", flush=True)
                if time.monotonic() - began > args.limit:
                    left_out.append(f"the rest of {name}")
                    break
        except (RuntimeError, UserError) as error:
            failed[name] = " ".join(str(error).split())[:300]
            print(f"{time.monotonic() - began:5.0f} s  {name} failed: {failed[name]}", flush=True)
    content = report(figures, roofs, base, failed, left_out)
    content["settings"]["seconds"] = round(time.monotonic() - began, 1)
    print(f"\n{content['machine']['device']}, torch {torch.__version__}, commit {content['commit']}")
    for dtype, roof in roofs.items():
        print(f"{dtype}: matmul {roof.tflops:.4g} TFLOP/s, copy {roof.gigabytes:,.0f} GB/s")
    print("\n".join(line(key.split(":")[0], figure) for key, figure in figures.items()))
    print("\n".join([*(f"failed: {k}: {v}" for k, v in failed.items()), *(f"left out: {name}" for name in left_out)]))
    print(f"wrote {measure.save(content, args.out)}")
    return int(bool(failed))


def report(
    figures: dict[str, Figure], roofs: Any, base: Setting, failed: dict[str, str], left_out: list[str]
) -> dict[str, Any]:
    """Everything as plain data, figures under their part's name."""
    settings = {"frames": base.frames, "size": list(base.size), "guidance": base.guidance}
    content = measure.report([], roofs, base.device, settings)
    content["figures"] = {name: measure.plain(figure) for name, figure in figures.items()}
    return content | {"failed": failed, "left_out": left_out}


def line(part: str, figure: Figure) -> str:
    """One figure as a line of the table."""
    t = figure.timing
    shares = f"{measure.percent(figure.of_matmul)} of matmul, {measure.percent(t.roofline_share)} of roofline"
    peak = "" if figure.peak_mib is None else f", {figure.peak_mib:,.0f} MiB"
    rate = f"{figure.rate:,.4g} {figure.unit}/s"
    return f"{part:18} {figure.suite + '/' + t.name:30} {t.median_ms:10.4g} ms  {rate:22} {shares}{peak}"


if __name__ == "__main__":
    sys.exit(main())
