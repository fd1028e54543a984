"""The pieces of a model as plain functions of tensors, state in and state out: what `export` turns into ONNX graphs.

    condition  labels → prefix tokens, modulation
    embed      contexts of (t, k) → token embeddings
    step       embeddings, positions, modulation, past keys and values → features, new keys and values
    head       features → logits; of a head in groups → what all groups read
    group      that, the bits of the groups before → logits of a group
    encoder    pixels of one latent frame, state → latent, state        (first: no state yet; next)
    decoder    latent frame, state → pixels, state                      (first: no state yet; next)

They call the very modules that training and `generate` call.
"""

# R rows of a call · P prefix · n tokens of a call · S past tokens · F context features · C width · D bits
# A layers · N heads · K head width · G groups of bits · M hidden width of a group

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videoar.generator.head import GroupedBitHead
from videoar.generator.model import VideoAR
from videoar.generator.places import offset
from videoar.generator.rope import rotations
from videoar.tokenizer.layers import Stream


class ConditionGraph(nn.Module):
    """Labels [R] → prefix tokens [R, 1, C] and modulations [R, 1, 8, C]: six of the blocks, two of the head.

    The label behind the last class is the null condition, for guidance and for unconditional models.
    """

    def __init__(self, generator: VideoAR) -> None:
        super().__init__()
        null = generator.null
        encoder: Any = generator.encode_condition
        given = encoder.embedding.weight if generator.config.condition == "class" else None
        rows = [weight[None] for weight in (null.token, null.pooled)]
        tables = rows if given is None else [torch.cat([given, row]) for row in rows]
        self.tokens, self.pooled = (nn.Embedding.from_pretrained(table.detach()) for table in tables)
        self.modulation, self.of_head = generator.modulation, generator.head_modulation

    def forward(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        pooled = F.silu(self.pooled(labels))
        modulation = torch.cat([self.modulation(pooled), self.of_head(pooled)], dim=-1)
        return self.tokens(labels)[:, None], modulation.unflatten(-1, (1, 8, -1))


class EmbedGraph(nn.Module):
    """Contexts [R, n, F] of scale `scale` → embeddings [R, n, C]; the start token where `start` is true.

    `positions` [n, 3] are (t, h, w), not shifted by the prefix; only the ablations without full RoPE read them here.
    """

    def __init__(self, generator: VideoAR) -> None:
        super().__init__()
        self.generator, self.config = generator, generator.config

    def forward(self, tokens: Tensor, scale: Tensor, start: Tensor, positions: Tensor) -> Tensor:
        model, config = self.generator, self.config
        x = model.embed(tokens * config.latent_dim**0.5)
        x = torch.where(start, model.start, x) + model.scale_embedding(scale)
        return offset(config, x, positions)


class StepGraph(nn.Module):
    """One call of the transformer on n tokens that see the whole past and each other, as all sampling steps do.

    `forward` takes x [R, n, C], positions [n, 3] behind the prefix, modulation [R, 1, 8, C], past [S, A, 2, R, N, K].
    It returns features [R, n, C] and the tokens' own keys and values [n, A, 2, R, N, K], to be put behind `past`: with
    time first, a growing past is one block of memory.
    """

    def __init__(self, generator: VideoAR) -> None:
        super().__init__()
        self.generator, self.config = generator, generator.config

    def forward(self, x: Tensor, positions: Tensor, modulation: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        model, config = self.generator, self.config
        rotation = None
        if config.position != "absolute":
            rotation = rotations(positions, config.width // config.heads, config.position)
        attend = PastAttend(past)
        x = model._transform(x, modulation[:, :, :6], rotation, attend)
        return model._features(x, modulation[:, :, 6:]), torch.stack(attend.new).permute(4, 0, 1, 2, 3, 5)


class GroupGraph(nn.Module):
    """One group of a token's bits, for heads that draw them one after another (`head.GroupedBitHead`).

    `forward` takes state [R, n, D+G·M] (`head.begin`), told [R, n, D], the bits drawn so far as ±1 and 0 for the
    others, and the group's index; it returns its logits [R, n, D/G].
    """

    def __init__(self, head: GroupedBitHead) -> None:
        super().__init__()
        groups, hidden, size = head.write.shape
        self.bits, self.groups = head.bits, groups
        direct, inner = head.told.weight.detach().split([head.bits, groups * hidden])
        self.register_buffer("direct", direct.unflatten(0, (groups, size)))
        self.register_buffer("inner", inner.unflatten(0, (groups, hidden)))
        self.register_buffer("write", head.write.detach())

    def forward(self, state: Tensor, told: Tensor, index: Tensor) -> Tensor:
        own = lambda x, axis: x.index_select(axis, index.reshape(1)).squeeze(axis)  # noqa: E731
        parts = state.split([self.bits, state.shape[-1] - self.bits], dim=-1)
        plain, hidden = (own(part.unflatten(-1, (self.groups, -1)), -2) for part in parts)
        inner = F.silu(hidden + F.linear(told, own(self.inner, 0)))
        return plain + F.linear(told, own(self.direct, 0)) + inner @ own(self.write, 0)


class PastAttend:
    """Attention to a given past and to the call's own tokens, whose keys and values it collects in `new`."""

    def __init__(self, past: Tensor) -> None:
        self.past = past
        self.new: list[Tensor] = []

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.new.append(torch.stack([k, v]))
        past = self.past[:, layer].permute(1, 2, 3, 0, 4)  # [2, R, N, S, K]
        keys, values = torch.cat([past, self.new[-1]], dim=3).unbind(0)
        return F.scaled_dot_product_attention(q, keys, values)


class StreamGraph(nn.Module):
    """Encoder or decoder on one latent frame's worth of a video: x and the state of the piece before → y, new state.

    Args:
        network: called as network(x, stream). clamp: keep y in [-1, 1], as pixels are.
    """

    def __init__(self, network: nn.Module, clamp: bool) -> None:
        super().__init__()
        self.network, self.clamp = network, clamp
        self.layers: list[nn.Module] = []  # those with a state, in the order of their states

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        stream = Stream()
        for layer, frames in zip(self.layers, state):
            stream.keep(layer, frames)
        y = self.network(x, stream)
        tails = stream.tails()
        if not state:
            self.layers = list(tails)
        return (y.clamp(-1, 1) if self.clamp else y, *(tails[layer] for layer in self.layers))
