"""Encode, decode and quantise of the paper's tokenizer at 17x128x128 and 17x256x256, beside diffusers' video VAEs, and
the memory of long videos.

    python -m pytest benchmarks/bench_tokenizer.py --benchmark-only                  # 64x64 only on a CPU
    VIDEOAR_BENCH_SIDES="128 256" VIDEOAR_BENCH_DTYPE=bfloat16 VIDEOAR_BENCH_ROUNDS=3 python -m pytest benchmarks/…
    python -m pytest benchmarks/bench_tokenizer.py -k memory                         # 65 against 257 frames
    VIDEOAR_BENCH_LONG="17 65" python -m pytest benchmarks/bench_tokenizer.py -k long    # memory, beside the peers

The peers (AutoencoderKLWan, AutoencoderKLMagvit; `pip install videoar[benchmark]`) run in the same process on equal
pixels; without diffusers their rows are skipped. Weights are random: time does not depend on them. `extra_info` holds
parameters, GFLOP of one pass, GFLOP/s at the median time, the same of a matrix product just after, and the peak memory
above the loaded model.
On a shared machine `--benchmark-timer=time.process_time` with OMP_NUM_THREADS=1 counts only our own work.
"""

import gc
import os
import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from videoar import TokenizerConfig, VideoTokenizer
from videoar.benchmarking.memory import freed_at_once, peak_memory
from videoar.benchmarking.timing import measure_roofline

PRESET = os.environ.get("VIDEOAR_BENCH_PRESET", "videoar")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROUNDS = int(os.environ.get("VIDEOAR_BENCH_ROUNDS", "3" if DEVICE == "cuda" else "1"))
SIDES = [int(side) for side in os.environ.get("VIDEOAR_BENCH_SIDES", "128 256" if DEVICE == "cuda" else "64").split()]
LONG = [int(frames) for frames in os.environ.get("VIDEOAR_BENCH_LONG", "17 65" if DEVICE == "cuda" else "17").split()]
DTYPE = getattr(torch, os.environ.get("VIDEOAR_BENCH_DTYPE", "bfloat16" if DEVICE == "cuda" else "float32"))


def build(name):
    """(model, encode, decode); the two functions map tensors to tensors."""
    if name == "ours":
        model = VideoTokenizer(TokenizerConfig.preset(PRESET))
        return model, model.encode, model.decode
    diffusers = pytest.importorskip("diffusers", reason="the peers need diffusers")
    model = getattr(diffusers, name)()
    return model, lambda video: model.encode(video).latent_dist.mode(), lambda latent: model.decode(latent).sample


@pytest.fixture(scope="module", params=["ours", "AutoencoderKLWan", "AutoencoderKLMagvit"])
def peer(request):
    with torch.device("meta"):
        meta = build(request.param)
    torch.manual_seed(0)
    with freed_at_once():
        model, encode, decode = build(request.param)
        model.to(DEVICE, DTYPE).eval().requires_grad_(False)
    yield meta, (model, encode, decode)
    del model, encode, decode
    gc.collect()


def synchronise():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def measure(benchmark, model, call, meta_call, argument):
    """Time `call(argument)`; count its operations on the meta device."""

    def run():
        with torch.inference_mode():
            call(argument)
            synchronise()

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        meta_call(torch.empty(argument.shape, device="meta"))
    with peak_memory(torch.device(DEVICE)) as peak:
        benchmark.pedantic(run, rounds=ROUNDS)
    gflop = counter.get_total_flops() / 1e9
    ceiling = measure_roofline(torch.device(DEVICE), DTYPE).tflops * 1e3  # now, as a shared machine's speed drifts
    benchmark.extra_info |= {
        "parameters_m": round(sum(p.numel() for p in model.parameters()) / 1e6, 1),
        "gflop": round(gflop),
        "gflop_per_s": round(gflop / benchmark.stats.stats.median, 1),
        "matmul_gflop_per_s": round(ceiling, 1),
        "of_matmul": round(gflop / benchmark.stats.stats.median / ceiling, 3),
        "peak_mib": round(peak()),
        "dtype": str(DTYPE).removeprefix("torch."),
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else f"cpu, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
    }


def video_of(side, frames=17):
    return torch.rand(1, 3, frames, side, side, device=DEVICE, dtype=DTYPE) * 2 - 1


@pytest.mark.parametrize("side", SIDES)
def test_encode(benchmark, peer, side):
    (_, meta_encode, _), (model, encode, _) = peer
    measure(benchmark, model, encode, meta_encode, video_of(side))


@pytest.mark.parametrize("side", SIDES)
def test_decode(benchmark, peer, side):
    (_, meta_encode, meta_decode), (model, _, decode) = peer
    shape = meta_encode(torch.empty(1, 3, 17, side, side, device="meta")).shape
    measure(benchmark, model, decode, meta_decode, torch.randn(shape, device=DEVICE, dtype=DTYPE))


@pytest.mark.parametrize("side", SIDES)
def test_quantise(benchmark, side):
    config = TokenizerConfig.preset(PRESET)
    with torch.device("meta"):
        tokenizer = VideoTokenizer(config)
    grid = side // config.spatial_ratio
    latent = torch.randn(1, config.latent_dim, 5, grid, grid, device=DEVICE, dtype=DTYPE)

    def run():
        codes = tokenizer.quantize(latent)
        synchronise()
        return codes

    codes = benchmark(run)
    benchmark.extra_info |= {
        "scales": len(codes.bits),
        "tokens": 5 * codes.pyramid.length,
        "latent": list(latent.shape),
    }


@pytest.mark.parametrize("frames", LONG)
def test_long_clip(benchmark, peer, frames):
    """Peak memory of a clip encoded and decoded: ours as streams of four frames, the peers by their own calls."""
    _, (model, encode, decode) = peer

    @torch.inference_mode()
    def run():
        if isinstance(model, VideoTokenizer):
            chunks = (video_of(SIDES[0], 4 if start else 1) for start in (0, *range(1, frames, 4)))
            return sum(piece.shape[2] for piece in model.decode_stream(model.encode_stream(chunks)))
        return decode(encode(video_of(SIDES[0], frames))).shape[2]

    with peak_memory(torch.device(DEVICE)) as peak:
        assert benchmark.pedantic(run, rounds=1) == frames
    benchmark.extra_info |= {"peak_mib": round(peak()), "side": SIDES[0], "dtype": str(DTYPE).removeprefix("torch.")}


def test_memory_does_not_grow_with_the_length(benchmark):
    """Encode and decode 65 and 257 frames of 256x256 as streams, with a small tokenizer."""
    config = TokenizerConfig(latent_dim=16, channels=32, multipliers=(1, 2, 2), res_blocks=1, patch=4, norm_groups=8)
    tokenizer = VideoTokenizer(config).to(DEVICE, DTYPE).eval()

    def run(frames):
        chunks = (video_of(256, min(16, frames - start)) for start in range(0, frames, 16))
        latents = (tokenizer.quantize(latent).latent.to(DTYPE) for latent in tokenizer.encode_stream(chunks))
        return sum(piece.shape[2] for piece in tokenizer.decode_stream(latents))

    run(33)  # the allocator and oneDNN settle
    peaks, seconds = {}, {}
    for frames in (65, 257):
        started = time.perf_counter()
        with peak_memory(torch.device(DEVICE)) as peak:
            assert run(frames) == frames
        peaks[frames], seconds[frames] = peak(), time.perf_counter() - started
    benchmark.extra_info |= {"peak_mib": {n: round(mib, 1) for n, mib in peaks.items()}, "seconds": seconds}
    assert peaks[257] < 1.1 * peaks[65]
    benchmark.pedantic(run, args=(17,), rounds=1)
