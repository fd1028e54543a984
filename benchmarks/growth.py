"""How time and memory grow with frames, resolution, batch and model size, beside what FLOPs and bytes allow.

    python benchmarks/growth.py --out benchmarks/results/performance      # minutes on a CPU: growth_*.json and .png
    python benchmarks/growth.py --tiny                                    # seconds: does the script run?

Small models with random weights stand for large ones: what is shown is the shape of the curves. Every point says its
measured seconds (sampling a clip's latents, or encoding and decoding it as a stream), the seconds that this machine's
matrix product and copy would need for its FLOPs and bytes, and the peak memory above the loaded model.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from videoar import GeneratorConfig, ScalePyramid, TokenizerConfig, VideoAR, VideoTokenizer
from videoar.benchmarking import timing
from videoar.benchmarking.measure import _processor, count_flops
from videoar.benchmarking.memory import freed_at_once, peak_memory
from videoar.benchmarking.timing import Roofline, Workload, measure_roofline, nbytes, seconds_of
from videoar.data.files import atomic_path
from videoar.provenance import commit, versions
from videoar.sampling.guidance import Guidance
from videoar.sampling.request import LatentRequest, SamplingOptions
from videoar.sampling.sampler import LatentSampler

FRAMES, SIDES = (17, 33, 65, 129, 257), ((128, 128), (192, 192), (256, 256), (384, 384), (384, 672))
BATCHES, MODELS = (1, 2, 4, 8), ((128, 4), (256, 4), (512, 4), (768, 6))
WIDTH, DEPTH, BITS, WINDOW = 256, 4, 16, 4
Point = dict[str, Any]


def points(tiny: bool) -> Iterator[tuple[str, str, float, Callable[..., Callable[[], object]], dict[str, Any]]]:
    """(figure, curve, place on the axis, what makes the job, its settings) of every point."""
    frames, sides = (FRAMES[:2], ((32, 32), (48, 32))) if tiny else (FRAMES, SIDES)
    for count in frames:
        side = (32, 32) if tiny else (128, 128)
        for curve, window in ((f"sampling, window {WINDOW}", WINDOW), ("sampling, no window", 0)):
            yield "frames", curve, count, sampling, {"frames": count, "size": side, "window": window}
        yield "frames", "tokenizer, streamed", count, reconstruction, {"frames": count, "size": side}
    for side in sides:
        yield "pixels of a frame", "sampling", side[0] * side[1], sampling, {"size": side}
        yield "pixels of a frame", "tokenizer, streamed", side[0] * side[1], reconstruction, {"size": side}
    small = {"size": (32, 32)} if tiny else {}
    for batch in BATCHES[:2] if tiny else BATCHES:
        yield "batch", "sampling", batch, sampling, {"batch": batch, **small}
    for width, depth in MODELS[:2] if tiny else MODELS:
        model = {"width": width, "depth": depth}
        with torch.device("meta"):
            size = sum(p.numel() for p in VideoAR(_config(**model)).blocks.parameters())
        yield "weights", "sampling", size, sampling, {**model, **small}


def _config(width: int = WIDTH, depth: int = DEPTH, window: int = 0) -> GeneratorConfig:
    return GeneratorConfig(BITS, width, depth, width // 64, num_classes=4, window=window)


def sampling(
    device: torch.device,
    frames: int = 17,
    size: tuple[int, int] = (128, 128),
    batch: int = 1,
    window: int = 0,
    width: int = WIDTH,
    depth: int = DEPTH,
) -> tuple[Callable[[], object], int]:
    """Sample the latents of a batch with guidance; and the bytes that must move."""
    with torch.device(device):
        model = VideoAR(_config(width, depth, window)).eval()
    pyramid, latents = ScalePyramid.default(size[0] // 16, size[1] // 16), 1 + (frames - 1) // 4
    asked = LatentRequest([0] * batch, pyramid, latents, range(batch), SamplingOptions(Guidance.of("ucf101")))

    def run() -> None:
        for _ in LatentSampler(model, asked).frames():
            pass

    seen = [min(t, window or t) * pyramid.length + part.stop for t in range(latents) for part in pyramid.slices]
    cache = 2 * 2 * batch * width * depth * 4 * sum(seen)
    return run, latents * len(pyramid) * nbytes(*model.blocks.parameters()) + cache


def reconstruction(
    device: torch.device, frames: int = 17, size: tuple[int, int] = (128, 128)
) -> tuple[Callable[[], object], int]:
    """Encode, quantise and decode a video as a stream that is never held as a whole; and the bytes that must move."""
    config = TokenizerConfig(BITS, channels=16, multipliers=(1, 2, 2), res_blocks=1, patch=4, norm_groups=4)
    with torch.device(device):
        model = VideoTokenizer(config).eval()
    chunks = [min(16, frames - start) for start in range(0, frames, 16)]

    def run() -> None:
        video = (torch.zeros(1, 3, n, *size, device=device) for n in chunks)
        for _ in model.decode_stream(model.quantize(latent).latent for latent in model.encode_stream(video)):
            pass

    return run, 2 * 4 * 3 * frames * size[0] * size[1] + len(chunks) * 4 * nbytes(*model.parameters())


@torch.no_grad()
def measure(device: torch.device, roof: Roofline, make: Callable[..., Any], settings: dict[str, Any]) -> Point:
    """Seconds (median, low, high), seconds at the roofline, peak MiB."""
    with freed_at_once():
        run, moved = make(device, **settings)
    flops = count_flops(make(torch.device("meta"), **settings)[0])
    with peak_memory(device) as peak:
        first = seconds_of(run, device, 1, 0)[0]
    taken = sorted(seconds_of(run, device, 3 if first < 2 else 1, 0))
    load = Workload(make.__name__, run, flops, moved, "")
    return {
        "settings": settings,
        "seconds": taken[len(taken) // 2],
        "low": taken[0],
        "high": taken[-1],
        "roofline_seconds": roof.attainable(load),
        "gflop": flops / 1e9,
        "megabytes": moved / 1e6,
        "peak_mib": peak(),
    }


def plot(figures: dict[str, dict[str, list[Point]]], path: Path, title: str) -> None:
    """Time above, memory below, a column for each figure; dashed: the roofline."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullLocator

    shown, axes = plt.subplots(2, len(figures), figsize=(4 * len(figures), 7))
    for (name, curves), (above, below) in zip(figures.items(), axes.T):
        for curve, line in curves.items():
            x = [point["x"] for point in line]
            (drawn,) = above.plot(x, [point["seconds"] for point in line], "o-", label=curve)
            above.plot(x, [point["roofline_seconds"] for point in line], "--", color=drawn.get_color())
            below.plot(x, [point["peak_mib"] for point in line], "o-", color=drawn.get_color())
        for axis, unit in ((above, "seconds (dashed: roofline)"), (below, "peak MiB above the model")):
            axis.set(xscale="log", yscale="log", ylabel=unit, xlabel=name)
            axis.set_xticks(x, [_short(value) for value in x])
            axis.xaxis.set_minor_locator(NullLocator())
            axis.grid(alpha=0.3, which="both")
        above.legend(fontsize=8)
    shown.suptitle(title)
    shown.tight_layout()
    with atomic_path(path) as temporary:
        shown.savefig(temporary, format="png", dpi=80)
    plt.close(shown)


def _short(value: float) -> str:
    """A number as an axis shows it."""
    return f"{value / 1e6:.0f}M" if value >= 1e6 else f"{value / 1e3:.0f}k" if value >= 1e4 else f"{value:.0f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every point, write the JSON and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="two small points a curve")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cpu-time", action="store_true", help="CPU seconds, one thread: for a shared machine")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks"))
    args = parser.parse_args(argv)
    device, began = torch.device(args.device), time.monotonic()
    timing.CPU_CLOCK = time.process_time if args.cpu_time else time.perf_counter
    if args.cpu_time:
        torch.set_num_threads(1)
    roof = measure_roofline(device, torch.float32)
    for make in (sampling, reconstruction):  # what libraries allocate once is not the first point's memory
        with torch.no_grad():
            make(device, size=(32, 32))[0]()
    figures: dict[str, dict[str, list[Point]]] = {}
    for figure, curve, x, make, settings in points(args.tiny):
        point = {"x": x, **measure(device, roof, make, settings)}
        figures.setdefault(figure, {}).setdefault(curve, []).append(point)
        print(f"{figure} {x}, {curve}: {point['seconds']:.3g} s, roofline {point['roofline_seconds']:.3g} s, "
              f"{point['peak_mib']:.0f} MiB", flush=True)  # fmt: skip
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu {_processor()}"
    machine = f"{name}, {torch.get_num_threads()} threads" if device.type == "cpu" else name
    content = {
        "machine": machine,
        "clock": timing.clock(device),
        "versions": versions(),
        "commit": commit(),
        "seconds": round(time.monotonic() - began, 1),
        "ceilings": {"tflops": roof.tflops, "gigabytes": roof.gigabytes},
        "figures": figures,
    }
    stem = "growth_" + re.sub(r"[^a-z0-9]+", "-", machine.lower())
    with atomic_path(args.out / f"{stem}.json") as path:
        path.write_text(json.dumps(content, indent=1) + "\n")
    plot(figures, args.out / f"{stem}.png", f"{machine}, float32, torch {torch.__version__}")
    print(f"wrote {args.out / stem}.json and .png in {content['seconds']} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
