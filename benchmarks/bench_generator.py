"""The generator's parts at the shapes of one 17x128x128 clip: teacher forcing, training step, attention backends.

    python -m pytest benchmarks/bench_generator.py --benchmark-only                     # atari on a GPU, debug on a CPU
    VIDEOAR_BENCH_PRESET=videoar-l python -m pytest benchmarks/bench_generator.py       # the paper's L

`extra_info` holds GFLOP a call, GFLOP/s at the median, tokens/s, and the share of a matrix product's FLOP/s measured
in the same run: in training that is the MFU. FlexAttention is timed on a GPU only: it has no backward pass on a CPU.
"""

import os
from functools import cache

import pytest
import torch

from videoar.benchmarking import suites
from videoar.benchmarking.setting import Setting
from videoar.benchmarking.timing import measure_roofline

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPE = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
PRESET = os.environ.get("VIDEOAR_BENCH_PRESET", "atari" if DEVICE.type == "cuda" else "debug")
BATCH = int(os.environ.get("VIDEOAR_BENCH_BATCH", "1"))
SETTING = Setting(PRESET, DEVICE, DTYPE, batch=BATCH)
FLEX = ["flex"] if DEVICE.type == "cuda" else []


@cache
def roofline():
    return measure_roofline(DEVICE, DTYPE)


def record(benchmark, case):
    """Run a case and note what its time means."""

    def run():
        case.workload.run()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    benchmark.pedantic(run, rounds=5, warmup_rounds=2)
    median = benchmark.stats.stats.median
    benchmark.extra_info.update(
        preset=PRESET,
        device=str(DEVICE),
        dtype=str(DTYPE),
        torch=torch.__version__,
        shapes=case.workload.detail,
        gflop=case.workload.flops / 1e9,
        gflop_per_s=case.workload.flops / median / 1e9,
        of_matmul=case.workload.flops / median / 1e12 / roofline().tflops,
        per_s={case.unit: case.amount / median},
    )


def test_teacher_forcing(benchmark):
    record(benchmark, suites.generator_forward(SETTING))


@pytest.mark.parametrize("attention", ["sdpa", *FLEX])
def test_training_step(benchmark, attention):
    record(benchmark, suites.generator_training(SETTING, attention))


@pytest.mark.parametrize("longer", [1, 4], ids=["clip", "four_times_longer"])
@pytest.mark.parametrize("backend", ["naive", "sdpa", *FLEX])
def test_attention(benchmark, backend, longer):
    """Forward and backward of one layer's block-causal attention; FLOPs of the visible pairs only."""
    cases = suites.attention_cases(SETTING, SETTING.latent_frames * longer)
    record(benchmark, next(case for case in cases if f"_{backend}_" in case.workload.name))
