"""What a training step and a sampled clip need: counted on fake tensors, or measured by really running."""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from videoar import kernels
from videoar.benchmarking.fakes import fake
from videoar.benchmarking.setting import Setting
from videoar.benchmarking.timing import flop_counter
from videoar.generator.config import GeneratorConfig
from videoar.generator.model import VideoAR
from videoar.planning.live import LiveMemory, counting
from videoar.planning.steps import RUNS, Mark, TrainingRun, Unmasked, conditions
from videoar.sampling.generate import generate
from videoar.tokenizer.model import VideoTokenizer

BATCHES = (1, 4, 32)
"""Clips of the steps that are counted; in between and beyond, the peak is a straight line."""


@dataclass(frozen=True)
class Need:
    """Bytes of device memory as a function of the batch.

    Attributes:
        parameters: of the network that is trained; in sampling of all networks.
        state: alive between steps: weights, AdamW's moments, averaged weights, a frozen tokenizer; in sampling weights.
        points: (clips, bytes at the peak of forward and backward), or of sampling and decoding.
        update: bytes at the peak of the optimizer step, whatever the batch.
        flops: of a clip (matrix products, convolutions, attention), recomputation included; 0: not counted.
    """

    parameters: int
    state: int
    points: tuple[tuple[int, int], ...]
    update: int
    flops: int

    @property
    def per_clip(self) -> int:
        """What a further clip of a large batch adds: activations that wait for the backward pass, or the cache."""
        (few, low), (many, high) = self.points[-2:]
        return (high - low) // (many - few)

    def peak(self, batch: int) -> int:
        """Bytes at the highest point of a step with `batch` clips."""
        following = [i for i, (clips, _) in enumerate(self.points) if clips >= batch]
        i = max(1, following[0]) if following else -1
        (few, low), (many, high) = self.points[i - 1], self.points[i]
        return max(self.update, low + (batch - few) * (high - low) // (many - few))

    def fits(self, memory: float) -> int:
        """The largest batch in so many bytes; 0: not even one clip."""
        batch = 0
        for step in (1 << bit for bit in reversed(range(16))):
            if self.peak(batch + step) <= memory:
                batch += step
        return batch


def training_need(kind: str, setting: Setting, checkpointing: bool, flops: bool = True) -> Need:
    """Count training steps of the `tokenizer` or the `generator` in bf16-mixed; needs no such device."""
    with counted(setting) as (memory, own):
        run = RUNS[kind](own, fake, checkpointing)
        gc.collect()
        state = memory.restart()
        peaks = {batch: _phases(run.step, batch, memory) for batch in BATCHES}
        counter = flop_counter()
        if flops:
            with counter:
                run.step(1, lambda phase: None)
        count = sum(p.numel() for p in run.network.parameters())
    points = tuple((batch, peak["backward"]) for batch, peak in peaks.items())
    return Need(count, state, points, peaks[1]["update"], _operations(counter, run, setting))


def model_flops(kind: str, setting: Setting) -> int:
    """FLOPs of a training step on one clip without recomputation: what an MFU is counted with."""
    with counted(setting) as (_, own), flop_counter() as counter:
        run = RUNS[kind](own, fake, False)
        run.step(1, lambda phase: None)
    return _operations(counter, run, setting)


@contextmanager
def counted(setting: Setting) -> Iterator[tuple[LiveMemory, Setting]]:
    """Count on fake CPU tensors what happens on the setting's device; a GPU has none of the twins of `kernels`."""
    cpu = torch.device("cpu")
    with kernels.without(*(() if setting.device == cpu else kernels.NAMES)), counting() as memory:
        yield memory, replace(setting, device=cpu)


def _operations(counter: FlopCounterMode, run: TrainingRun, setting: Setting) -> int:
    """FLOPs of a counted step; of FlexAttention's only those of visible pairs."""
    flops = counter.get_flop_counts().get("Global", {})
    attention = sum(count for operator, count in flops.items() if "attention" in str(operator))
    share = 1.0
    if isinstance(run.network, Unmasked):
        text = run.network.config.condition == "text"
        share = visible_share(setting, run.network.config.max_prompt if text else 1)
    return round(sum(flops.values()) - (1 - share) * attention)


def visible_share(setting: Setting, prefix: int) -> float:
    """Pairs of tokens that see each other, of all pairs, without a window: the prefix, the past, the own frame's."""
    lengths, frames = setting.pyramid.lengths, setting.latent_frames
    inside = sum(n * sum(lengths[: k + 1]) for k, n in enumerate(lengths))
    tokens = sum(lengths)
    pairs = prefix**2 + frames * (tokens * prefix + inside) + tokens**2 * frames * (frames - 1) // 2
    return pairs / (prefix + frames * tokens) ** 2


def _phases(step: Callable[[int, Mark], None], batch: int, memory: LiveMemory) -> dict[str, int]:
    """Peak of each phase of a step."""
    peaks: dict[str, int] = {}

    def mark(phase: str) -> None:
        peaks[phase] = max(peaks.get(phase, 0), memory.peak)
        memory.restart()

    memory.restart()
    step(batch, mark)
    return peaks


def sampling_need(setting: Setting, guidance: str = "ucf101") -> Need:
    """Count the sampling of guided clips with bfloat16 weights, decoding included.

    What a call needs besides weights and cache does not depend on the depth, and those two are linear in it: the loop
    is counted with one and with two blocks, and the rest is a straight line.
    """
    config = GeneratorConfig.preset(setting.preset)
    one, two = (_sampled(setting, replace(config, depth=depth), guidance) for depth in (1, 2))
    more = config.depth - 1
    points = tuple((batch, low + more * (high - low)) for (batch, low), (_, high) in zip(one.points, two.points))
    parameters, state, flops = (
        getattr(one, name) + more * (getattr(two, name) - getattr(one, name))
        for name in ("parameters", "state", "flops")
    )
    return Need(parameters, state, points, 0, flops)


def _sampled(setting: Setting, config: GeneratorConfig, guidance: str) -> Need:
    """Sampling counted as it is, on meta tensors: nothing is autocast here."""
    with LiveMemory() as memory, torch.device("meta"):
        generator = VideoAR(config).to(torch.bfloat16).eval().requires_grad_(False)
        tokenizer = VideoTokenizer(setting.tokenizer_config).to(torch.bfloat16).eval().requires_grad_(False)
        gc.collect()
        state = memory.restart()
        points = []
        for batch in (1, 2):
            memory.restart()
            condition: Any = conditions(generator, batch)
            with flop_counter() as counter:
                generate(generator, tokenizer, condition, setting.frames, setting.size, guidance=guidance)
            points.append((batch, memory.peak))
    count = sum(p.numel() for network in (generator, tokenizer) for p in network.parameters())
    return Need(count, state, tuple(points), 0, counter.get_total_flops() // 2)


def measured_peak(kind: str, setting: Setting, checkpointing: bool) -> tuple[int, int]:
    """Really train for two steps; returns (bytes of the state, bytes at the peak of the second step).

    On a GPU the caching allocator says it, on a CPU torch's profiler, which records every allocation.
    """
    device, gpu = setting.device, setting.device.type == "cuda"

    def make(build: Callable[[], nn.Module]) -> nn.Module:
        with device:
            return build()

    before = torch.cuda.memory_allocated(device) if gpu else 0
    with LiveMemory() as memory:
        run = RUNS[kind](setting, make, checkpointing)
        gc.collect()
        state = memory.live
    run.step(setting.batch, lambda phase: None)
    gc.collect()
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
        run.step(setting.batch, lambda phase: None)
        return state, torch.cuda.max_memory_allocated(device) - before
    return state, state + _allocated(lambda: run.step(setting.batch, lambda phase: None))


def _allocated(run: Callable[[], None]) -> int:
    """Most bytes that torch's CPU allocator had given out at once during a call, beyond those before it."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = [(event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]"]
    held = peak = 0
    for _, change in sorted(changes, key=lambda item: item[0]):
        held += change
        peak = max(peak, held)
    return peak
