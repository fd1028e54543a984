"""CUDAKernelBenchmark: how fast the kernels of this very model run on this very machine."""

# B batch · T latent frames · L tokens · N heads · K head width · D bits per token · C channels

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer

from videoar import kernels
from videoar.benchmarking.timing import Workload, clock, flop_counter, measure, measure_roofline, nbytes, result
from videoar.data.files import atomic_path
from videoar.sampling.given import latent_frames
from videoar.sampling.guidance import Guidance, default_guidance
from videoar.sampling.raster import sampler_of
from videoar.sampling.request import LatentRequest, SamplingOptions

log = logging.getLogger(__name__)


class CUDAKernelBenchmark(Callback):
    """Times attention, quantiser, 3D convolution, the cached decode step and the host-to-device copy of a batch.

    Runs before the first training batch, and again at every `every` batches if that is set. Writes
    `<log_dir>/kernels.json` and logs `kernels/<name>/…` (median and spread in ms, TFLOP/s, share of the roofline that
    a matrix product and a copy reached just before). On a GPU CUDA events keep the time. Elsewhere a wall clock does,
    and the result says so.

    Args:
        frames: pixel frames of the clip, 1 + 4n. size: (height, width) in pixels. batch: clips.
        repeats, warmup: timed and untimed calls of each kernel.
        every: batches between two benchmarks; 0: only one.

    Raises:
        ValueError: a number below what makes sense.
    """

    def __init__(
        self,
        frames: int = 17,
        size: tuple[int, int] = (128, 128),
        batch: int = 1,
        repeats: int = 20,
        warmup: int = 3,
        every: int = 0,
    ) -> None:
        if min(frames, batch, repeats, *size) < 1 or warmup < 0 or every < 0:
            raise ValueError(f"bad benchmark: {frames} frames, {size}, batch {batch}, {repeats} repeats, every {every}")
        self.frames, self.size, self.batch = frames, (size[0], size[1]), batch
        self.repeats, self.warmup, self.every = repeats, warmup, every

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._benchmark(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.every and int(pl_module.batches_seen) % self.every == 0:  # type: ignore[arg-type]
            self._benchmark(trainer, pl_module)

    @torch.no_grad()
    def _benchmark(self, trainer: Trainer, module: Any) -> None:
        """On every rank, because a sharded generator decodes with all of them; the first one reports."""
        measured, log_dir = self.run(module), trainer.log_dir
        if not trainer.is_global_zero:
            return
        log.info("kernels timed with %s on %s", measured["machine"]["clock"], measured["machine"]["device"])
        if log_dir is not None:
            with atomic_path(Path(log_dir) / "kernels.json") as path:
                path.write_text(json.dumps({"batches_seen": int(module.batches_seen), **measured}, indent=2) + "\n")
        scalars = {
            f"kernels/{name}/{key}": timing[key]
            for name, timing in measured["kernels"].items()
            for key in ("median_ms", "low_ms", "high_ms", "tflops", "roofline_share")
            if timing[key] is not None
        }
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=int(module.batches_seen))

    @torch.no_grad()
    def run(self, module: Any) -> dict[str, Any]:
        """All timings of a TokenizerModule or GeneratorModule, as plain data (see `timing.result`)."""
        device = next(module.network.parameters()).device
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        roofline = measure_roofline(device, dtype)
        timings = []
        for workload in self.workloads(module, device, dtype):
            timings.append(measure(workload, device, roofline, self.repeats, self.warmup))
            log.info("%s (%s): %.3f ms, %s", workload.name, workload.detail, timings[-1].median_ms, clock(device))
        return result(timings, roofline, device, dtype)

    def workloads(self, module: Any, device: torch.device, dtype: torch.dtype) -> Iterator[Workload]:
        """The kernels at the shapes of this model and this clip, one at a time."""
        tokenizer, generator = module.tokenizer, module.network if module.kind == "generator" else None
        width, heads = (generator.config.width, generator.config.heads) if generator else (1536, 12)
        frames = latent_frames(tokenizer, self.frames)
        pyramid = tokenizer.pyramid(*self.size)
        yield self._attention(pyramid.sequence_length(frames), heads, width // heads, device, dtype)
        yield self._quantiser(tokenizer, frames, device)
        yield self._conv3d(tokenizer.config.channels, device, dtype)
        if generator is not None:
            yield self._decode_step(generator, tokenizer, frames, device)
        yield self._transfer(device)

    def _attention(self, L: int, heads: int, K: int, device: torch.device, dtype: torch.dtype) -> Workload:
        """Softmax attention over a whole clip, as in teacher forcing (no mask: the dense upper bound)."""
        q, k, v = (torch.randn(self.batch, heads, L, K, device=device, dtype=dtype) for _ in range(3))
        flops, detail = 4 * self.batch * heads * L * L * K, f"B {self.batch}, heads {heads}, L {L}, width {K}"
        return Workload("attention", lambda: F.scaled_dot_product_attention(q, k, v), flops, 4 * nbytes(q), detail)

    def _quantiser(self, tokenizer: Any, frames: int, device: torch.device) -> Workload:
        """The multi-scale residual recursion; at least two reads and a write of the latent a scale."""
        pyramid, D = tokenizer.pyramid(*self.size), tokenizer.config.latent_dim
        latent = torch.randn(self.batch, D, frames, *pyramid.full, device=device)
        detail = f"latent {tuple(latent.shape)}, {len(pyramid)} scales"
        traffic = 3 * len(pyramid) * nbytes(latent)
        return Workload("quantiser", lambda: tokenizer.quantize(latent, pyramid), 0, traffic, detail)

    def _conv3d(self, channels: int, device: torch.device, dtype: torch.dtype) -> Workload:
        """A 3x3x3 convolution of the tokenizer's widest grid, at half the clip's resolution."""
        height, width = self.size[0] // 2, self.size[1] // 2
        x = torch.randn(self.batch, channels, self.frames, height, width, device=device, dtype=dtype)
        kernel = torch.randn(channels, channels, 3, 3, 3, device=device, dtype=dtype)
        flops = 2 * kernel.numel() * self.batch * self.frames * height * width
        detail = f"x {tuple(x.shape)}, kernel {tuple(kernel.shape)}"
        traffic = 2 * nbytes(x) + nbytes(kernel)
        return Workload("conv3d", lambda: F.conv3d(x, kernel, padding=1), flops, traffic, detail)

    def _decode_step(self, generator: Any, tokenizer: Any, frames: int, device: torch.device) -> Workload:
        """One cached transformer call (t, k), with guidance: the mean over the calls of a whole clip."""
        pyramid = tokenizer.pyramid(*self.size)
        condition = [{"class": 0, "none": None}.get(generator.config.condition, "a")] * self.batch
        options = SamplingOptions(Guidance.of(default_guidance(generator.config.condition)))
        asked = LatentRequest(condition, pyramid, frames, range(self.batch), options)
        sampler, steps = sampler_of(generator), frames * len(generator.steps(pyramid))

        def sample() -> None:
            training = generator.training
            generator.eval()
            for _ in sampler(generator, asked).frames():
                pass
            generator.train(training)

        with kernels.without(*kernels.NAMES), flop_counter() as counter:  # packed layers are not counted
            sample()
        weights = nbytes(*(p for block in generator.blocks for p in block.parameters()))
        detail = f"mean of {steps} calls, {pyramid.sequence_length(frames)} tokens, guided"
        return Workload("decode_step", sample, counter.get_total_flops() / steps, weights, detail, calls=steps)

    def _transfer(self, device: torch.device) -> Workload:
        """The copy of a batch of pixels from (pinned) host memory to the device."""
        video = torch.empty(self.batch, 3, self.frames, *self.size)
        video = video.pin_memory() if device.type == "cuda" else video
        target = torch.empty(video.shape, device=device)
        copy = lambda: target.copy_(video, non_blocking=True)  # noqa: E731
        where = "pinned host memory to GPU" if device.type == "cuda" else "host memory to host memory"
        detail = f"{tuple(video.shape)} float32, {where}"
        return Workload("transfer", copy, 0, nbytes(video), detail, on_device=device.type != "cuda")
