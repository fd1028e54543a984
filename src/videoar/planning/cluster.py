"""A sharded training run on paper: memory of a device, tokens, time, data and checkpoints, by formulas and counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from videoar.benchmarking.setting import Setting
from videoar.errors import UserError
from videoar.generator.config import GeneratorConfig
from videoar.generator.model import VideoAR
from videoar.planning.memory import GB, USABLE
from videoar.planning.needs import Need, model_flops, training_need
from videoar.provenance import commit, versions
from videoar.tokenizer.model import VideoTokenizer


@dataclass(frozen=True)
class Cluster:
    """What a plan is asked for.

    Attributes:
        batch: clips a device and micro-batch. accumulate: micro-batches a step.
        memory: GB of a device. tflops: its peak in bfloat16. mfu: share of it that training reaches, an assumption.
        clip_mb: megabytes of one stored clip, an assumption. clips: clips in the data set.
    """

    preset: str = "videoar-4b"
    frames: int = 65
    size: tuple[int, int] = (384, 672)
    devices: int = 64
    batch: int = 1
    accumulate: int = 1
    steps: int = 50_000
    memory: float = 80.0
    tflops: float = 989.0
    mfu: float = 0.4
    clips: int = 1_000_000
    clip_mb: float = 1.0

    def __post_init__(self) -> None:
        for name in ("devices", "batch", "accumulate", "steps", "memory", "tflops", "clips", "clip_mb"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} must be more than 0, got {getattr(self, name)}")
        if not 0 < self.mfu <= 1:
            raise UserError(f"mfu is a share of the peak in 0 … 1, got {self.mfu}")


@dataclass(frozen=True)
class Weights:
    """Numbers of weights: all, of one block, outside the blocks, of the tokenizer."""

    all: int
    block: int
    rest: int
    tokenizer: int


def weights_of(setting: Setting) -> Weights:
    """Count without building."""
    with torch.device("meta"):
        generator = VideoAR(GeneratorConfig.preset(setting.preset))
        tokenizer = VideoTokenizer(setting.tokenizer_config)
    everything = _count(generator)
    blocks = _count(generator.blocks)
    return Weights(everything, blocks // len(generator.blocks), everything - blocks, _count(tokenizer))


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def plan_cluster(asked: Cluster, need: Need | None = None) -> dict[str, Any]:
    """The whole plan as plain data; bytes, seconds, numbers.

    Args:
        need: of a training step with checkpointing on one device, its FLOPs without; None: counted now.
    """
    setting = Setting(asked.preset, torch.device("cuda"), torch.bfloat16, asked.frames, asked.size, 1)
    if need is None:
        need = training_need("generator", setting, checkpointing=True, flops=False)
        need = replace(need, flops=model_flops("generator", setting))
    w = weights_of(setting)
    clips = asked.devices * asked.batch * asked.accumulate
    seconds = clips * need.flops / (asked.devices * asked.tflops * 1e12 * asked.mfu)
    latent = 4 * setting.tokenizer_config.latent_dim * setting.latent_frames * setting.pyramid.full[0]
    latent *= setting.pyramid.full[1]
    checkpoint = 16 * w.all + 4 * w.tokenizer
    device = device_bytes(w, asked, need)
    return {
        "asked": asdict(asked) | {"size": list(asked.size)},
        "versions": versions(),
        "commit": commit(),
        "weights": asdict(w),
        "device_bytes": device,
        "device_total": sum(device.values()),
        "fits": sum(device.values()) <= USABLE * asked.memory * GB,
        "one_device_peak": need.peak(asked.batch),
        "tokens_a_clip": setting.tokens,
        "bits_a_clip": setting.tokens * setting.tokenizer_config.latent_dim,
        "clips_a_step": clips,
        "tokens_a_step": clips * setting.tokens,
        "flops_a_clip": need.flops,
        "seconds_a_step": seconds,
        "tokens_a_second": clips * setting.tokens / seconds,
        "days": seconds * asked.steps / 86400,
        "device_hours": seconds * asked.steps * asked.devices / 3600,
        "clips_seen": clips * asked.steps,
        "passes": clips * asked.steps / asked.clips,
        "frames_a_second_and_device": asked.frames * clips / seconds / asked.devices,
        "data_bytes": asked.clips * asked.clip_mb * 1e6,
        "shards_of_1_gb": -(-asked.clips * asked.clip_mb // 1000),
        "latents_bytes": asked.clips * latent,
        "checkpoint_bytes": checkpoint,
    }


def device_bytes(w: Weights, asked: Cluster, need: Need) -> dict[str, float]:
    """Memory of one device under FSDP2 (configs/hardware/fsdp.yaml), part by part.

    Weights, gradients, moments and averaged weights are float32 and sharded. A block is gathered in bfloat16 for its
    turn, the next one meanwhile; its gradients are reduced in float32. What is outside the blocks is gathered once a
    step, in float32 (`training.sharding`). AdamW's update is fused and makes no copies.
    """
    shard = w.all / asked.devices
    gathered = 2 * 2 * w.block + 4 * w.rest
    reducing = 4 * w.rest + max((2 + 4) * w.block, 4 * w.rest)  # the rest's are whole until the end of the pass
    activations = asked.batch * need.per_clip
    return {
        "weights, float32, sharded": 4 * shard,
        "gradients, float32, sharded": 4 * shard,
        "AdamW's two moments, float32, sharded": 8 * shard,
        "averaged weights (EMA), float32, sharded": 4 * shard,
        "frozen tokenizer, float32, whole": 4.0 * w.tokenizer,
        "two gathered blocks, bfloat16, and the rest, float32": float(gathered),
        "gradients on their way, of a block and the rest": float(reducing),
        "activations with checkpointing": float(activations),
    }


def markdown(p: dict[str, Any]) -> str:
    """The plan as tables."""
    a, w = p["asked"], p["weights"]
    size = f"{a['frames']}x{a['size'][0]}x{a['size'][1]}"
    memory = [f"| {name} | {value / GB:.2f} |" for name, value in p["device_bytes"].items()]
    verdict = "fits" if p["fits"] else "does not fit"
    facts = {
        "weights of the generator, of its tokenizer": f"{w['all'] / 1e9:.2f} B, {w['tokenizer'] / 1e6:.0f} M",
        "tokens a clip, tokens a step": f"{p['tokens_a_clip']:,}, {p['tokens_a_step'] / 1e6:.2f} M",
        "clips a step": f"{p['clips_a_step']:,}",
        "PFLOP a clip, without recomputation": f"{p['flops_a_clip'] / 1e15:.3g}",
        f"seconds a step at an MFU of {100 * a['mfu']:.0f} % of {a['tflops']:g} TFLOP/s": f"{p['seconds_a_step']:.3g}",
        "tokens a second": f"{p['tokens_a_second']:,.0f}",
        f"days for {a['steps']:,} steps, device hours": f"{p['days']:.1f}, {p['device_hours']:,.0f}",
        f"clips seen, passes over {a['clips']:,} clips": f"{p['clips_seen']:,}, {p['passes']:.2g}",
        "pixel frames a second that each device takes": f"{p['frames_a_second_and_device']:.1f}",
        f"videos on disk at {a['clip_mb']:g} MB a clip, shards of 1 GB": f"{p['data_bytes'] / 1e12:.2f} TB,"
        f" {p['shards_of_1_gb']:,.0f}",
        "the same as cached latents": f"{p['latents_bytes'] / 1e12:.2f} TB",
        "one checkpoint": f"{p['checkpoint_bytes'] / GB:.0f} GB",
    }
    lines = [
        f"### `{a['preset']}`, {size}, {a['devices']} devices of {a['memory']:g} GB, {a['batch']} a device (computed)",
        "",
        "| memory of one device | GB |",
        "|---|--:|",
        *memory,
        f"| **in all** ({verdict} in {100 * USABLE:.0f} % of {a['memory']:g} GB) | **{p['device_total'] / GB:.2f}** |",
        "",
        "| the run | |",
        "|---|--:|",
        *(f"| {name} | {value} |" for name, value in facts.items()),
        "",
        f"torch {p['versions']['torch']}, commit {p['commit'][:8]}",
    ]
    return "\n".join(lines) + "\n"
