"""How single kernels are timed, and what is attainable on a device."""

import pytest
import torch

from videoar.benchmarking.timing import Roofline, Workload, clock, measure, seconds_of

CPU = torch.device("cpu")


def test_share_of_the_roofline() -> None:
    roofline = Roofline(tflops=2.0, gigabytes=100.0)
    compute = Workload("c", lambda: None, flops=2e9, bytes=1e6, detail="")
    memory = Workload("m", lambda: None, flops=1e6, bytes=1e9, detail="")
    assert roofline.attainable(compute) == pytest.approx(1e-3) and roofline.attainable(memory) == pytest.approx(1e-2)
    assert roofline.attainable(Workload("t", lambda: None, 0, 1e9, "", on_device=False)) is None


def test_time_is_the_median_of_single_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = [0.1] * 8 + [0.5, 0.9]
    monkeypatch.setattr("videoar.benchmarking.timing.seconds_of", lambda *args: taken)
    workload = Workload("w", lambda: None, flops=2e9, bytes=1e9, detail="", calls=10)
    timing = measure(workload, CPU, Roofline(1.0, 100.0), repeats=10, warmup=0)
    assert timing.median_ms == pytest.approx(10) and timing.low_ms == pytest.approx(10)
    assert 10 < timing.high_ms <= 90 and timing.tflops == pytest.approx(0.2)
    assert timing.roofline_share == pytest.approx(1.0)


def test_warm_up_is_not_timed() -> None:
    calls: list[int] = []
    assert len(seconds_of(lambda: calls.append(1), CPU, repeats=3, warmup=2)) == 3 and len(calls) == 5
    assert clock(torch.device("cuda")) == "CUDA events"
