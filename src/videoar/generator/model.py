"""VideoAR's generator: a block-causal transformer that predicts the bits of every scale of every frame (paper §4.2).

tokens [B, L, F] ─ embed ─┐
start token, scale emb. ──┴─ [condition prefix | frame 1: scale 1 … K | frame 2: …] ─ blocks ─ head → logits [B, L, D]
"""

# B batch · P prefix · L video tokens · D bits per token · F context features · C width · T latent frames

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from videoar.bits.corruption import CorruptionConfig, TeacherForcing, teacher_forcing
from videoar.bits.pyramid import Order, ScalePyramid
from videoar.generator.attention import Attend, DenseAttend, KVCache, RMSNorm, working_dtype
from videoar.generator.blocks import Block, Modulation
from videoar.generator.conditioning import Condition, NullCondition, condition_encoder, encode, pad_prefix
from videoar.generator.config import GeneratorConfig
from videoar.generator.head import make_head
from videoar.generator.places import FramePlace, offset, positions_of, rotation_of
from videoar.generator.visibility import SequenceIds, dense_mask, step_mask
from videoar.kernels.linear import Apply, packed, plain
from videoar.pretrained import Pretrained

Labels = Sequence[int | str | None] | Tensor | Condition
"""Class labels or names, prompts, a Condition made before, or None for each sample of an unconditional model."""


@lru_cache(maxsize=32)
def _ids(pyramid: ScalePyramid, frames: int, prefix: int, device: torch.device, order: Order) -> SequenceIds:
    return SequenceIds.build(pyramid, frames, prefix, device, order)


class VideoAR(nn.Module, Pretrained):
    """The generator. It knows D and a ScalePyramid, never the tokenizer.

    Attributes:
        checkpointing: recompute each block's activations in the backward pass instead of keeping them.
    """

    config_class: ClassVar[type] = GeneratorConfig
    part: ClassVar[str] = "generator"

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        C, D = config.width, config.latent_dim
        # 1. condition
        self.encode_condition = condition_encoder(config)
        self.null = NullCondition(C)
        # 2. token embedding
        self.embed = nn.Linear(config.context_features, C)
        self.start = nn.Parameter(torch.randn(C) * 0.02)
        self.scale_embedding = nn.Embedding(config.max_scales, C)
        # 3. transformer
        hidden = round(config.hidden_ratio * C)
        self.modulation = nn.Linear(C, 6 * C)
        self.blocks = nn.ModuleList(Block(C, config.heads, hidden, layer) for layer in range(config.depth))
        # 4. head
        self.head_norm = RMSNorm(C, affine=False)
        self.head_modulation = nn.Linear(C, 2 * C)
        self.head = make_head(C, D, config.bit_groups)
        self.checkpointing = False
        self._flex: dict[Any, Any] = {}
        self._compiled: Callable[..., Tensor] | None = None
        self._initialise()

    def _initialise(self) -> None:
        residual = 0.02 / (2 * self.config.depth) ** 0.5
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=residual if name.endswith((".out", ".down")) else 0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.scale_embedding.weight, std=0.02)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.head_modulation.weight)

    # ---- conditions -------------------------------------------------------------------------------------------------

    def condition(self, values: Labels) -> Condition:
        """Encode labels or prompts; a Condition passes through.

        Raises:
            UserError: one string instead of a list, an unknown label, a prompt that is empty or too long, or either for
                an unconditional model.
        """
        return encode(self, values)

    def drop_condition(self, condition: Condition, p: float, rng: torch.Generator | None = None) -> Condition:
        """Replace each sample's condition by the null condition with probability p (classifier-free guidance)."""
        device = condition.tokens.device
        return self.null.replace(condition, torch.rand(condition.batch, generator=rng, device=device) < p)

    # ---- teacher forcing --------------------------------------------------------------------------------------------

    def lesson(
        self,
        latent: Tensor,
        pyramid: ScalePyramid,
        corruption: CorruptionConfig | None = None,
        rng: torch.Generator | None = None,
    ) -> TeacherForcing:
        """Contexts and targets of a clip's latent [B, D, T, H, W], in this generator's order and form of context."""
        return teacher_forcing(latent, pyramid, corruption, rng, self.config.order, self.config.temporal_context)

    def forward(
        self,
        tokens: Tensor,
        condition: Labels,
        pyramid: ScalePyramid,
        frames: int,
        *,
        bits: Tensor | None = None,
        frame_keep: Tensor | None = None,
    ) -> Tensor:
        """Logits of all bits of a clip, given the contexts of all its tokens (`lesson`).

        Args:
            tokens: contexts [B, L, F], L = frames·pyramid.length; the first step of the first frame is not read.
            condition: labels, names, prompts, or an encoded Condition of B samples.
            frames: latent frames T.
            bits: the true bits [B, L, D] (`TeacherForcing.targets`), which a head in groups is told; else not read.
            frame_keep: random frame mask, bool [B, T, T] (paper eq. 9), or None.

        Returns:
            logits [B, L, D]: log-odds that a bit is 1.

        Raises:
            ValueError: L or F does not fit, or the pyramid has more scales than the model, or than raster order allows.
        """
        self._check(tokens, pyramid, frames)
        # FlexAttention has no backward pass on a CPU; the dense mask gives the same
        flex = self.config.attention == "flex" and not (tokens.device.type == "cpu" and torch.is_grad_enabled())
        encoded = self.condition(condition)
        encoded = pad_prefix(encoded) if flex else encoded
        scales = self.scale_embedding(pyramid.scale_ids(tokens.device).repeat(frames))
        x = self.embed_tokens(tokens, scales, start=self.steps(pyramid)[0].stop)
        prefix = encoded.tokens.shape[1]
        attend = self._teacher_forcing_attend(encoded, pyramid, frames, frame_keep, flex)
        positions = positions_of(self.config, pyramid, frames, 0, tokens.device)
        x = torch.cat([encoded.tokens.to(x.dtype), offset(self.config, x, positions)], dim=1)
        rotation = rotation_of(self.config, positions, encoded, with_prefix=True)
        modulation, of_head = self._modulations(encoded)
        return self.head(self._features(self._transform(x, modulation, rotation, attend)[:, prefix:], of_head), bits)

    def _check(self, tokens: Tensor, pyramid: ScalePyramid, frames: int) -> None:
        L, F = tokens.shape[1:]
        if pyramid.sequence_length(frames) != L:
            raise ValueError(f"{L} tokens, but {frames} frames of {pyramid.length} tokens were announced")
        if self.config.context_features != F:
            raise ValueError(f"tokens of {F} features for a generator of {self.config.context_features}")
        if len(pyramid) > self.config.max_scales:
            raise ValueError(f"a pyramid of {len(pyramid)} scales; this generator knows {self.config.max_scales}")

    def _teacher_forcing_attend(
        self, condition: Condition, pyramid: ScalePyramid, frames: int, frame_keep: Tensor | None, flex: bool
    ) -> Attend:
        config, prefix, device = self.config, condition.tokens.shape[1], condition.tokens.device
        ids_of = _ids.__wrapped__ if torch.compiler.is_compiling() else _ids  # a graph's tensors are not for keeping
        ids = ids_of(pyramid, frames, prefix, device, config.order)
        if flex:
            from videoar.generator.flex import FlexAttend

            key = (pyramid, frames, prefix, condition.batch, device)
            if key not in self._flex:
                self._flex[key] = FlexAttend(ids, condition.batch, config.window, config.sinks)
            return self._flex[key].set(condition.lengths, frame_keep)
        mask = dense_mask(ids, ids, config.window, config.sinks, condition.lengths, frame_keep)
        return DenseAttend(mask, [prefix + pyramid.sequence_length(t + 1) for t in range(frames)])

    # ---- sampling ---------------------------------------------------------------------------------------------------

    def steps(self, pyramid: ScalePyramid) -> tuple[slice, ...]:
        """The tokens of a frame that each call of `step` predicts when sampling, in order."""
        return pyramid.steps(self.config.order)

    def new_cache(self, condition: Condition, pyramid: ScalePyramid, frames: int) -> KVCache:
        """An empty KV cache for sampling `frames` latent frames under `condition`."""
        c, dtype = self.config, working_dtype(self.embed.weight)
        shape = (condition.batch, c.heads, c.width // c.heads)
        prefix = condition.tokens.shape[1]
        cache = KVCache(c.depth, shape, prefix, pyramid.length, frames, c.window, c.sinks, self.device, dtype)
        cache.linear = self.fast_linear()
        return cache

    def fast_linear(self) -> Apply:
        """How to apply the blocks' linear layers as their weights are now (`kernels.linear`)."""
        compiled = self._compiled is not None or any(block._compiled_call_impl is not None for block in self.blocks)
        return plain if compiled else packed(self.blocks)

    def compile_steps(self, **options: Any) -> None:
        """Compile the blocks for `step`, once for the shapes of all frames and scales; `options` go to torch.compile.

        It fuses norms, modulation and RoPE. The first clip takes a minute or more, so it pays for many clips.
        """
        self._compiled = torch.compile(self._transform, dynamic=True, **options)

    def step(
        self,
        tokens: Tensor,
        condition: Condition,
        cache: KVCache,
        pyramid: ScalePyramid,
        frame: int,
        inside: slice,
    ) -> Tensor:
        """One transformer call: features of some tokens of one frame, given everything in the cache.

        Frames and tokens come in order. The first call of all also takes the condition prefix in.

        Args:
            tokens: contexts of the tokens `inside` the frame, [B, n, F]: one of `steps` when sampling, all tokens of a
                frame that is given.

        Returns:
            features [B, n, C], from which `head` makes logits.
        """
        with_prefix, prefix = frame == 0 and inside.start == 0, condition.tokens.shape[1]
        if inside.start == 0:
            cache.begin_frame(frame)
            positions = positions_of(self.config, pyramid, 1, frame, tokens.device)
            scales = self.scale_embedding(pyramid.scale_ids(tokens.device))
            rotation = rotation_of(self.config, positions, condition, with_prefix=False)
            cache.place = FramePlace(scales, positions, rotation)
        place = cache.place
        assert place is not None, "a frame begins with its first token"
        modulation, of_head = condition.modulation or self._modulations(condition)
        lengths, device = condition.lengths, condition.tokens.device
        mask = step_mask(pyramid, cache.stored, inside, prefix, with_prefix, lengths, device, self.config.order)
        cache.begin_step(inside.start, inside.stop, with_prefix, mask)
        start = min(self.steps(pyramid)[0].stop, tokens.shape[1]) if with_prefix else 0
        x = self.embed_tokens(tokens, place.scales[inside], start)
        x, rotation = offset(self.config, x, place.positions[inside]), place.turned(inside)
        if with_prefix:
            x = torch.cat([condition.tokens.to(x.dtype), x], dim=1)
            rotation = rotation_of(self.config, place.positions[inside], condition, with_prefix=True)
        x = (self._compiled or self._transform)(x, modulation, rotation, cache, cache.linear)
        return self._features(x[:, prefix:] if with_prefix else x, of_head)

    # ---- shared -----------------------------------------------------------------------------------------------------

    def embed_tokens(self, tokens: Tensor, scales: Tensor, start: int) -> Tensor:
        """Contexts [B, n, F] → embeddings [B, n, C] (eq. 7).

        Args:
            scales: embeddings of the tokens' scales, [n, C].
            start: tokens at the beginning that are the first step of a clip, and so the start token.
        """
        x = self.embed(tokens.to(self.embed.weight.dtype) * self.config.latent_dim**0.5)
        if start:
            x = torch.cat([self.start.to(x.dtype).expand(x.shape[0], start, -1), x[:, start:]], dim=1)
        return x + scales

    def prepared(self, condition: Condition) -> Condition:
        """The condition with its modulations, which then are computed once a clip and not in every step."""
        shared, of_head = self._modulations(condition)
        if hasattr(self.blocks[0].modulation, "device_mesh"):  # sharded: whole only while a block runs
            return replace(condition, modulation=(shared, of_head))
        blocks: Any = self.blocks
        return replace(condition, modulation=([block.modulated(shared) for block in blocks], of_head))

    def _modulations(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """Adaptive scales, shifts and gates: of all blocks [B, 1, 6, C], and of the head [B, 1, 2, C]."""
        pooled = nn.functional.silu(condition.pooled)
        return self.modulation(pooled).unflatten(-1, (1, 6, -1)), self.head_modulation(pooled).unflatten(-1, (1, 2, -1))

    def _transform(
        self,
        x: Tensor,
        modulation: Tensor | Sequence[Modulation],
        rotation: tuple[Tensor, Tensor] | None,
        attend: Attend,
        linear: Apply = plain,
    ) -> Tensor:
        for i, block in enumerate(self.blocks):
            own = modulation if isinstance(modulation, Tensor) else modulation[i]
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, own, rotation, attend, use_reentrant=False)
            else:
                x = block(x, own, rotation, attend, linear)
        return x

    def _features(self, x: Tensor, modulation: Tensor) -> Tensor:
        scale, shift = modulation.unbind(-2)
        return torch.addcmul(shift, self.head_norm(x), 1 + scale)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in asdict(self.config).items() if name != "class_names")
