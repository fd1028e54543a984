"""Callbacks: what watches a training. Each is known by its short name in a configuration (`- VideoLogger`)."""

from importlib import import_module
from typing import Any

HOME = {
    "CUDAKernelBenchmark": "cuda_kernels",
    "FlipSchedule": "flip_schedule",
    "HealthMonitor": "health",
    "LineProgress": "progress",
    "StageSwitch": "stage_switch",
    "VBenchMetrics": "vbench",
    "VideoLogger": "video_logger",
    "VideoMetrics": "video_metrics",
}
"""The module of each class."""
__all__ = list(HOME)


def __getattr__(name: str) -> Any:
    """Import a class on first use."""
    if name not in HOME:
        raise AttributeError(f"module 'videoar.callbacks' has no attribute {name!r}")
    return getattr(import_module(f"videoar.callbacks.{HOME[name]}"), name)
