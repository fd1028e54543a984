"""Timing of single kernels: CUDA events on a GPU, wall clock elsewhere; compared with what this device can reach."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count, sdpa_backward_flop_count, sdpa_flop_count


@dataclass(frozen=True)
class Workload:
    """One thing to time.

    Attributes:
        run: called once a repeat.
        flops: floating-point operations of a call (a multiply-add is two); 0 for pure data movement.
        bytes: the least that a call must read and write.
        detail: the shapes, for people.
        calls: what `run` repeats inside; times are divided by it.
        on_device: whether the bytes move in the device's own memory (a host-to-device copy does not).
    """

    name: str
    run: Callable[[], Any]
    flops: float
    bytes: float
    detail: str
    calls: int = 1
    on_device: bool = True


@dataclass(frozen=True)
class Roofline:
    """What the device reached on a large matrix product and a large copy."""

    tflops: float
    gigabytes: float

    def attainable(self, workload: Workload) -> float | None:
        """Seconds a call would take at the roofline; None where it does not apply."""
        if not workload.on_device:
            return None
        return max(workload.flops / (self.tflops * 1e12), workload.bytes / (self.gigabytes * 1e9))


@dataclass(frozen=True)
class Timing:
    """What one workload took.

    Attributes:
        median_ms, low_ms, high_ms: of one call: median, 10th and 90th percentile over the repeats.
        tflops, gigabytes: per second, at the median.
        roofline_share: attainable time / median time; None where it does not apply.
    """

    name: str
    detail: str
    median_ms: float
    low_ms: float
    high_ms: float
    repeats: int
    tflops: float
    gigabytes: float
    roofline_share: float | None


CPU_CLOCK: Callable[[], float] = time.perf_counter
"""Seconds on a CPU: wall clock, or `time.process_time`, which on a shared machine counts only our own work."""


def clock(device: torch.device) -> str:
    """How times on `device` are taken, in words."""
    if device.type == "cuda":
        return "CUDA events"
    name = "wall clock" if CPU_CLOCK is time.perf_counter else "CPU time of the process"
    return f"{name} ({device.type}: no CUDA events)"


def seconds_of(run: Callable[[], Any], device: torch.device, repeats: int, warmup: int) -> list[float]:
    """Seconds of each of `repeats` calls, after `warmup` untimed ones."""
    for _ in range(warmup):
        run()
    if device.type == "cuda":
        events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
        torch.cuda.synchronize(device)
        for start, end in events:
            start.record()
            run()
            end.record()
        torch.cuda.synchronize(device)
        return [start.elapsed_time(end) / 1e3 for start, end in events]
    taken = []
    for _ in range(repeats):
        begin = CPU_CLOCK()
        run()
        taken.append(CPU_CLOCK() - begin)
    return taken


def measure_roofline(device: torch.device, dtype: torch.dtype) -> Roofline:
    """Peak of this device as matmul and copy reach it: 8192² and 1 GiB on a GPU, 1024² and 64 MiB elsewhere."""
    gpu = device.type == "cuda"
    side, size = (8192, 2**30) if gpu else (1024, 2**26)
    a = torch.randn(side, side, device=device, dtype=dtype)
    product = min(seconds_of(lambda: a @ a, device, repeats=10, warmup=3))
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = min(seconds_of(lambda: target.copy_(source), device, repeats=10, warmup=3))
    return Roofline(2 * side**3 / product / 1e12, 2 * size / copy / 1e9)


def measure(workload: Workload, device: torch.device, roofline: Roofline, repeats: int, warmup: int) -> Timing:
    """Time one workload."""
    taken = sorted(t / workload.calls for t in seconds_of(workload.run, device, repeats, warmup))
    middle = median(taken)
    low, high = (taken[0], taken[-1])
    if len(taken) >= 10:
        tenths = quantiles(taken, n=10, method="inclusive")
        low, high = tenths[0], tenths[-1]
    best = roofline.attainable(workload)
    return Timing(
        workload.name,
        workload.detail,
        middle * 1e3,
        low * 1e3,
        high * 1e3,
        repeats,
        workload.flops / middle / 1e12,
        workload.bytes / middle / 1e9,
        None if best is None else best / middle,
    )


def machine(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What a benchmark result must say about where it comes from."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "device": gpu or f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads",
        "clock": clock(device),
        "dtype": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if gpu else None,
    }


def result(timings: list[Timing], roofline: Roofline, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """All timings as plain data."""
    return {
        "machine": machine(device, dtype),
        "roofline": asdict(roofline),
        "kernels": {timing.name: asdict(timing) for timing in timings},
    }


def flop_counter() -> FlopCounterMode:
    """Counts matrix products, convolutions and attentions, also of CPU operators that torch's counter may not know."""
    aten = torch.ops.aten
    cpu: Any = {
        aten.mkldnn_convolution: lambda x, w, *_, out_shape: conv_flop_count(x, w, out_shape),
        aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
        ),
    }
    return FlopCounterMode(display=False, custom_mapping=cpu)


def nbytes(*tensors: Tensor) -> int:
    """Bytes of tensors together."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
