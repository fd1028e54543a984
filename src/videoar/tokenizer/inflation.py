"""Import of Infinity's released image tokenizers, as a 2D model or inflated to a causal 3D one (paper §4.1).

Inflation puts a 2D kernel into the temporally last slice of the 3D kernel, the slice that sees the present frame.
Before the first frame lie zeros, so a one-frame clip gives exactly what the image tokenizer gives, whatever is in the
other slices: zeros, which make a video of independent frames, or random numbers as in the paper.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from videoar.errors import UserError
from videoar.tokenizer.config import TokenizerConfig
from videoar.tokenizer.model import VideoTokenizer
from videoar.weights import load_strict, read_torch

CONSTANTS = {"quantizer.lfq.mask", "quantize.lfq.mask"}
RENAMES = (
    (r"\.down\.(\d+)\.block\.", r".levels.\1.blocks."),
    (r"\.up\.(\d+)\.block\.", r".levels.\1.blocks."),
    (r"\.down\.(\d+)\.downsample\.conv\.conv\.", r".levels.\1.resample."),
    (r"\.up\.(\d+)\.upsample\.conv\.conv\.", r".levels.\1.resample."),
    (r"\.mid\.block_1\.", ".mid.blocks.0."),
    (r"\.mid\.block_2\.", ".mid.blocks.1."),
    (r"\.nin_shortcut\.conv\.", ".shortcut."),
    (r"\.(norm\w+)\.norm\.", r".\1."),
    (r"\.(conv\w+)\.conv\.", r".\1."),
)


@dataclass(frozen=True)
class ImportReport:
    """What an import did with every key."""

    source: str
    config: TokenizerConfig
    imported: int
    ignored: tuple[str, ...]
    new: tuple[str, ...]

    def __str__(self) -> str:
        shape = f"D {self.config.latent_dim}, {self.config.spatial_ratio}x{self.config.spatial_ratio} pixels"
        lines = [f"{self.source}: {shape}, {self.config.temporal_ratio} frames a latent, widths {self.config.widths}"]
        lines.append(f"{self.imported} weights imported, {len(self.ignored)} constants ignored, {len(self.new)} new")
        return "\n".join(lines + [f"  {what} {key}" for what in ("ignored", "new") for key in getattr(self, what)])


def import_infinity(
    path: str | Path,
    image: bool = False,
    init: Literal["zero", "random"] = "zero",
    latent_dim: int | None = None,
    seed: int = 0,
) -> tuple[VideoTokenizer, ImportReport]:
    """Read a released Infinity tokenizer (a torch file `{"vae": state_dict}`); its shape is inferred from the weights.

    Args:
        image: keep it a 2D model (one temporal tap, no temporal downsampling) instead of inflating it.
        init: what fills the earlier temporal slices of an inflated kernel.
        latent_dim: another D than the file's; the two layers next to the latent are then new.
        seed: of whatever is random.

    Raises:
        UserError: no such file, not a torch file or truncated, or weights of another layout (with the keys).
    """
    weights, ignored = _read(Path(path))
    config = infer_config(weights, str(path))
    fresh = latent_dim is not None and latent_dim != config.latent_dim
    config.latent_dim = latent_dim or config.latent_dim
    if image:
        config.temporal_kernel, config.temporal_stages = 1, ()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = VideoTokenizer(config)
        own = tokenizer.state_dict()
        new = tuple(key for key in own if key.startswith(("encoder.conv_out.", "decoder.conv_in.")) and fresh)
        state = {key: own[key] for key in new}
        for key, value in weights.items():
            name = _rename(key, len(config.multipliers))
            if name not in state:
                state[name] = _inflate(value, own[name], init == "random") if name in own else value
    load_strict(tokenizer, state, str(path))
    return tokenizer.eval(), ImportReport(str(path), config, len(state) - len(new), ignored, new)


def infer_config(weights: dict[str, Tensor], source: str) -> TokenizerConfig:
    """The shape of a tokenizer in Infinity's layout, from the shapes of its weights.

    Raises:
        UserError: the layout is another one.
    """
    try:
        channels = weights["encoder.conv_in.conv.weight"].shape[0]
        latent_dim = weights["encoder.conv_out.conv.weight"].shape[0]
        levels = _count(weights, r"encoder\.down\.(\d+)\.")
        blocks = _count(weights, r"encoder\.down\.0\.block\.(\d+)\.")
        widths = [weights[f"encoder.down.{n}.block.0.conv1.conv.weight"].shape[0] for n in range(levels)]
    except KeyError as error:
        raise UserError(f"{source} is not in the layout of an Infinity tokenizer: no {error.args[0]}") from error
    if any(width % channels for width in widths) or blocks == 0:
        raise UserError(f"{source}: level widths {widths} are not multiples of {channels}, or a level has no block")
    multipliers = tuple(width // channels for width in widths)
    stages = (-2, -1) if levels > 2 else ()
    return TokenizerConfig(latent_dim, channels, multipliers, res_blocks=blocks, temporal_stages=stages)


def _read(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The "vae" weights of a torch file as float32, and the names of the constants left out."""
    if not path.is_file():
        raise UserError(f"{path} is no file")
    content = read_torch(path, legacy=True)
    weights = content.get("vae") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f'{path} holds no {{"vae": weights}}, the layout of a released Infinity tokenizer')
    ignored = tuple(sorted(CONSTANTS & weights.keys()))
    return {key: value.float() for key, value in weights.items() if key not in CONSTANTS}, ignored


def _count(weights: dict[str, Tensor], pattern: str) -> int:
    """One more than the highest index that `pattern` finds at the start of a key; 0 if it finds none."""
    return max((int(found[1]) + 1 for key in weights if (found := re.match(pattern, key))), default=0)


def _rename(key: str, levels: int) -> str:
    """Infinity's name of a weight → ours. Its `up.0` is the finest level, the last one that runs; ours run in order."""
    if found := re.match(r"decoder\.up\.(\d+)\.", key):
        key = key.replace(found[0], f"decoder.up.{levels - 1 - int(found[1])}.", 1)
    for pattern, replacement in RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def _inflate(weight: Tensor, own: Tensor, random: bool) -> Tensor:
    """A 2D kernel [O, I, h, w] in the last temporal slice of our [O, I, t, h, w]; the slices before: zero, or random.

    A layer that doubles time has two kernels and biases: the second is that of the later of the two frames it makes,
    the first what the earlier one has more. The frames start alike.
    """
    if own.shape[0] == 2 * weight.shape[0]:
        weight = torch.cat([torch.zeros_like(weight), weight])
    if weight.ndim != 4 or own.shape != (*weight.shape[:2], own.shape[2], *weight.shape[2:]):
        return weight
    inflated = torch.zeros_like(own)
    if random:
        nn.init.kaiming_uniform_(inflated, a=math.sqrt(5))
    inflated[:, :, -1] = weight
    return inflated
