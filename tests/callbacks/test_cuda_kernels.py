import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from videoar import GeneratorConfig, TokenizerConfig, VideoAR, VideoTokenizer
from videoar.callbacks.cuda_kernels import CUDAKernelBenchmark

CPU = torch.device("cpu")


def module(kind: str) -> Any:
    """What the callback reads of a training module."""
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(TokenizerConfig.preset("debug")).eval()
    network = VideoAR(GeneratorConfig.preset("debug")).eval() if kind == "generator" else tokenizer
    return SimpleNamespace(kind=kind, tokenizer=tokenizer, network=network, batches_seen=7)


class Log:
    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.rows.append((step, values))


def benchmark(**changes: Any) -> CUDAKernelBenchmark:
    return CUDAKernelBenchmark(**{"frames": 5, "size": (32, 32), "repeats": 3, "warmup": 0, **changes})


@pytest.mark.parametrize("kind", ["tokenizer", "generator"])
def test_all_kernels_are_timed_logged_and_written(kind: str, tmp_path: Path) -> None:
    log = Log()
    trainer: Any = SimpleNamespace(log_dir=str(tmp_path), loggers=[log], is_global_zero=True)
    benchmark().on_train_start(trainer, module(kind))
    result = json.loads((tmp_path / "kernels.json").read_text())
    expected = {"attention", "quantiser", "conv3d", "transfer"} | ({"decode_step"} if kind == "generator" else set())
    assert set(result["kernels"]) == expected and result["batches_seen"] == 7
    for name, timing in result["kernels"].items():
        assert 0 < timing["low_ms"] <= timing["median_ms"] <= timing["high_ms"], name
        assert timing["roofline_share"] is None or timing["roofline_share"] > 0
    assert "wall clock" in result["machine"]["clock"] and result["machine"]["cuda"] is None
    step, scalars = log.rows[0]
    assert step == 7 and scalars["kernels/conv3d/median_ms"] == result["kernels"]["conv3d"]["median_ms"]


def test_operations_are_counted_right() -> None:
    made = {w.name: w for w in benchmark(batch=2).workloads(module("generator"), CPU, torch.float32)}
    L, heads, K = 2 * 5, 2, 32  # 2 latent frames of 1 + 4 tokens; 64 channels in 2 heads
    assert made["attention"].flops == 2 * (2 * 2 * heads * L * L * K)  # q·k and p·v, a multiply-add is two
    assert made["conv3d"].flops == 2 * 27 * 16 * 16 * (2 * 5 * 16 * 16)
    assert made["transfer"].bytes == 2 * 3 * 5 * 32 * 32 * 4 and made["quantiser"].flops == 0
    assert made["decode_step"].calls == 4 and made["decode_step"].flops > 0


def test_repeats_during_training(tmp_path: Path) -> None:
    log = Log()
    trainer: Any = SimpleNamespace(log_dir=None, loggers=[log], is_global_zero=True)
    callback, subject = benchmark(every=4, repeats=1), module("tokenizer")
    for seen in (3, 4, 5, 8):
        subject.batches_seen = seen
        callback.on_train_batch_end(trainer, subject, None, None, 0)
    assert [step for step, _ in log.rows] == [4, 8]
    assert all(math.isfinite(v) for _, row in log.rows for v in row.values())


def test_bad_settings() -> None:
    for bad in ({"repeats": 0}, {"warmup": -1}, {"size": (0, 8)}, {"every": -1}):
        with pytest.raises(ValueError, match="bad benchmark"):
            CUDAKernelBenchmark(**bad)
