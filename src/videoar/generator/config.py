"""What fixes a generator: its configuration and the presets of the paper (Appendix A)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from videoar.bits.pyramid import INTERLEAVED, Order
from videoar.bits.residual import TemporalContext
from videoar.errors import UserError
from videoar.ranges import DEPTH, INDEX, WIDTH, Range, check_ranges


@dataclass
class GeneratorConfig:
    """Everything that fixes the generator's weights and what they mean; plain data.

    Raises:
        UserError: a number out of its range, heads that do not divide the width, an odd head width, groups that do not
            divide the bits, or an unknown choice.
    """

    saved_without: ClassVar[dict[str, Any]] = {"temporal_context": "first_scale"}
    """What a saved configuration meant that was written before it had the field."""
    saved_before: ClassVar[tuple[str, ...]] = ("text_cache",)
    """Fields that were saved once and are no more: a folder is no property of a model."""

    latent_dim: int = 48
    """D, bits per token; the tokenizer's."""
    width: int = 1536
    """C, the residual stream."""
    depth: int = 24
    """Transformer blocks."""
    heads: int = 12
    """Attention heads."""
    hidden_ratio: float = 4.0
    """Feed-forward width over C (SwiGLU: three matrices of C x hidden)."""
    condition: Literal["class", "text", "bytes", "none"] = "class"
    """class labels · text through a frozen encoder · UTF-8 bytes (nothing to download) · none (unconditional)."""
    num_classes: int = 101
    """Classes, for `condition: class`."""
    class_names: tuple[str, ...] = ()
    """Names of the classes in label order; empty if unknown."""
    text_encoder: str = "google/flan-t5-xl"
    """Hub name or folder of the frozen text encoder, for `condition: text`."""
    text_features: int = 2048
    """Width of the text encoder's features."""
    max_prompt: int = 256
    """Longest prompt, in tokens (text) or bytes (bytes)."""
    order: Order = "scales"
    """`scales`: next-frame-and-scale prediction, the paper's. `interleaved`: the cells of a scale of more than
    four a side in four passes, so that neighbours agree: more calls, no more tokens (He et al., arXiv 2103.15306, for
    compression in two passes). `interleaved_from_4`: a scale of four a side too, where layouts are decided.
    `raster`: the next-token baseline, which predicts every token of a frame alone, in row-major order, from all tokens
    before it; it needs a tokenizer of one scale (`scales: [8]`) and no corruption."""
    temporal_context: TemporalContext = "every_scale"
    """Which scales are shown the frame before: `every_scale`, so that every bit of a frame reaches the next one and
    eq. 5 holds, or `first_scale`, the paper's wording (`bits.residual.context`). Raster order has no use for it."""
    position: Literal["absolute", "rope2d", "multiscale_temporal_rope"] = "multiscale_temporal_rope"
    """Positional scheme; the first two are ablations (paper Table 4)."""
    normalised_positions: bool = False
    """Spread spatial indices over the final grid instead of counting each scale's own cells."""
    bit_groups: int = 1
    """Groups in which the bits of a token are drawn, each told the groups before; 1 = all at once, the paper
    (`generator/head.py`)."""
    max_scales: int = 24
    """Rows of the learned scale embedding."""
    window: int = 0
    """Earlier latent frames a frame sees; 0 = all (paper eq. 9)."""
    sinks: int = 0
    """First latent frames that stay visible beyond the window."""
    attention: Literal["sdpa", "flex"] = "sdpa"
    """Backend of teacher forcing: dense mask, or FlexAttention (long sequences on a GPU; a CPU trains without it)."""
    size: tuple[int, int] = (128, 128)
    """(height, width) in pixels that training ended with: the default of sampling. No weight depends on it."""
    tokenizer_fingerprint: str = ""
    """Whose bits this model speaks: the fingerprint of the tokenizer's encoder; empty = not trained yet."""

    def __post_init__(self) -> None:
        whole = {
            "latent_dim": WIDTH,
            "width": WIDTH,
            "depth": DEPTH,
            "heads": DEPTH,
            "max_scales": DEPTH,
            "bit_groups": WIDTH,
        }
        whole |= {"num_classes": INDEX, "text_features": WIDTH, "max_prompt": WIDTH, "window": INDEX, "sinks": INDEX}
        check_ranges(self, **whole, hidden_ratio=Range(0, 64, whole=False, open_low=True))
        if len(self.size) != 2:
            raise UserError(f"size must be [height, width], got {self.size}")
        self.class_names, self.size = tuple(self.class_names), (self.size[0], self.size[1])
        for side in self.size:
            WIDTH.check("a side of size", side)
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise UserError(f"width {self.width} needs {self.heads} heads of equal, even width")
        if not all(
            isinstance(name, str) for name in (*self.class_names, self.text_encoder, self.tokenizer_fingerprint)
        ):
            raise UserError("class_names, text_encoder and tokenizer_fingerprint are text")
        choices = {
            "order": ("scales", *INTERLEAVED, "raster"),
            "temporal_context": ("first_scale", "every_scale"),
            "position": ("absolute", "rope2d", "multiscale_temporal_rope"),
            "condition": ("class", "text", "bytes", "none"),
            "attention": ("sdpa", "flex"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"{name} {getattr(self, name)!r} is not one of {', '.join(allowed)}")
        if self.bit_groups < 1 or self.latent_dim % self.bit_groups:
            raise UserError(f"bit_groups {self.bit_groups} does not divide the {self.latent_dim} bits of a token")
        if self.class_names and len(self.class_names) != self.num_classes:
            raise UserError(f"{len(self.class_names)} class names for {self.num_classes} classes")

    @property
    def context_features(self) -> int:
        """F, the width of what a token is embedded from."""
        if self.order == "raster":
            return self.latent_dim
        of_cell = self.latent_dim * (2 if self.temporal_context == "every_scale" else 1)
        return of_cell * (9 if self.order in INTERLEAVED else 1)

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> GeneratorConfig:
        """`debug`, `atari`, or the paper's `videoar-l`, `videoar-xl`, `videoar-4b` (Appendix A), with fields replaced.

        Raises:
            UserError: an unknown preset.
        """
        if name not in PRESETS:
            raise UserError(f"unknown generator preset {name!r}; there are {', '.join(PRESETS)}")
        return replace(cls(**PRESETS[name]), **overrides)


PRESETS: dict[str, dict[str, Any]] = {
    "debug": {"latent_dim": 16, "width": 64, "depth": 2, "heads": 2, "num_classes": 4},
    "atari": {"latent_dim": 32, "width": 512, "depth": 12, "heads": 8, "num_classes": 95},
    "videoar-l": {"width": 1536, "depth": 24, "heads": 12},
    "videoar-xl": {"width": 2048, "depth": 32, "heads": 16},
    "videoar-4b": {"width": 2560, "depth": 36, "heads": 32, "condition": "text"},
}
