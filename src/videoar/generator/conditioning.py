"""Conditions: class labels, text features or raw bytes become prefix tokens and one pooled vector."""

# B batch · P prefix tokens · F text feature width · C width

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from videoar.errors import UserError
from videoar.generator.config import GeneratorConfig
from videoar.generator.text import TextFeatures
from videoar.kernels.transfer import sent


@dataclass(frozen=True)
class Condition:
    """What a batch of samples is conditioned on.

    Attributes:
        tokens: prefix tokens, right-padded, [B, P, C].
        lengths: real prefix tokens |Ψ| of each sample, long [B]; None when all P are real in every sample.
        pooled: one vector a sample, which drives the adaptive modulation, [B, C].
        modulation: what the generator makes of `pooled` (`VideoAR.prepared`); None: not made yet.
    """

    tokens: Tensor
    lengths: Tensor | None
    pooled: Tensor
    modulation: tuple[Any, Tensor] | None = None

    def overwrite(self, other: Condition) -> None:
        """Copy another condition of the same shape into the memory of this one."""
        for mine, new in zip(self._tensors(), other._tensors(), strict=True):
            mine.copy_(new)

    def _tensors(self) -> list[Tensor]:
        return [t for t in tree_leaves((self.tokens, self.lengths, self.pooled, self.modulation)) if t is not None]

    @property
    def batch(self) -> int:
        return self.tokens.shape[0]

    def resolved_lengths(self) -> Tensor:
        """`lengths`, also where it is None."""
        if self.lengths is not None:
            return self.lengths
        return torch.full((self.batch,), self.tokens.shape[1], device=self.tokens.device)


def stack(conditions: Sequence[Condition]) -> Condition:
    """Concatenate along the batch, padding prefixes to the longest."""
    longest = max(c.tokens.shape[1] for c in conditions)
    tokens = torch.cat([nn.functional.pad(c.tokens, (0, 0, 0, longest - c.tokens.shape[1])) for c in conditions])
    uniform = all(c.lengths is None and c.tokens.shape[1] == longest for c in conditions)
    lengths = None if uniform else torch.cat([c.resolved_lengths() for c in conditions])
    return Condition(tokens, lengths, torch.cat([c.pooled for c in conditions]))


def pad_prefix(condition: Condition, multiple: int = 128) -> Condition:
    """Pad prefixes of text to a multiple, so that prompts of any length give few shapes to compile for."""
    missing = -condition.tokens.shape[1] % multiple
    if condition.lengths is None or missing == 0:
        return condition
    return Condition(nn.functional.pad(condition.tokens, (0, 0, 0, missing)), condition.lengths, condition.pooled)


class NullCondition(nn.Module):
    """The learned absence of a condition: one prefix token and one pooled vector, for classifier-free guidance."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(width) * 0.02)
        self.pooled = nn.Parameter(torch.randn(width) * 0.02)

    def forward(self, batch: int) -> Condition:
        """The null condition for `batch` samples."""
        return Condition(self.token.expand(batch, 1, -1), None, self.pooled.expand(batch, -1))

    def replace(self, condition: Condition, drop: Tensor) -> Condition:
        """Put the null condition where `drop`, bool [B], is true."""
        null = self.token.new_zeros(condition.tokens.shape[1:])
        null = torch.cat([self.token[None], null[1:]])
        tokens = torch.where(drop[:, None, None], null, condition.tokens)
        pooled = torch.where(drop[:, None], self.pooled, condition.pooled)
        single = condition.lengths is None and condition.tokens.shape[1] == 1
        lengths = None if single else torch.where(drop, 1, condition.resolved_lengths())
        return Condition(tokens, lengths, pooled)


class ClassCondition(nn.Module):
    """One prefix token a class. Accepts labels (long [B] or ints) or class names."""

    def __init__(self, width: int, num_classes: int, class_names: Sequence[str] = ()) -> None:
        super().__init__()
        self.num_classes, self.class_names = num_classes, tuple(class_names)
        self.embedding = nn.Embedding(num_classes, width)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def labels(self, values: Tensor | Sequence[int | str]) -> Tensor:
        """Validated label indices, long [B]. Those on an accelerator are not read back: their batch was checked.

        Raises:
            UserError: an unknown class name or a label outside 0 … num_classes−1.
        """
        if not isinstance(values, Tensor):
            values = torch.tensor([self._index(value) for value in values])
        elif values.device.type != "cpu" or torch.compiler.is_compiling():  # a graph asks no values
            return values
        else:
            self.check(values)
        return sent(values, self.embedding.weight.device)

    def check(self, values: Tensor) -> None:
        """Raises UserError if a label is outside 0 … num_classes−1."""
        if values.numel() and (int(values.min()) < 0 or int(values.max()) >= self.num_classes):
            wrong = values[(values < 0) | (values >= self.num_classes)][0]
            raise UserError(f"label {int(wrong)} is outside 0 … {self.num_classes - 1}")

    def _index(self, value: int | str) -> int:
        if value in self.class_names:  # before numbers: a class may be called "10"
            return self.class_names.index(value)
        if isinstance(value, str) and not value.isdecimal():
            known = ", ".join(self.class_names[:20]) or "none: this model knows only label numbers"
            raise UserError(f"unknown class {value!r}; known classes: {known}")
        if not 0 <= int(value) < self.num_classes:
            raise UserError(f"label {value} is outside 0 … {self.num_classes - 1}")
        return int(value)

    def forward(self, values: Tensor | Sequence[int | str]) -> Condition:
        token = self.embedding(self.labels(values))
        return Condition(token[:, None], None, token)


class _PrefixProjection(nn.Module):
    """Padded features [B, P, F] → prefix tokens and their mean as the pooled vector."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.token = nn.Linear(features, width)
        self.pool = nn.Linear(features, width)

    def forward(self, features: Tensor, lengths: Tensor) -> Condition:
        features = self.norm(features)
        real = (torch.arange(features.shape[1], device=features.device) < lengths[:, None])[..., None]
        mean = (features * real).sum(1) / lengths[:, None]
        return Condition(self.token(features) * real, lengths, self.pool(mean))


class ByteCondition(nn.Module):
    """Text with nothing to download: the prompt's UTF-8 bytes through a learned embedding."""

    def __init__(self, width: int, max_tokens: int) -> None:
        super().__init__()
        self.max_tokens = max_tokens
        self.embedding = nn.Embedding(256, width)
        self.project = _PrefixProjection(width, width)

    def forward(self, prompts: Sequence[str]) -> Condition:
        """Raises UserError for an empty prompt or one longer than `max_tokens` bytes."""
        encoded = [prompt.encode() for prompt in prompts]
        for prompt, data in zip(prompts, encoded):
            if not 1 <= len(data) <= self.max_tokens:
                raise UserError(f"prompt of {len(data)} bytes; allowed are 1 … {self.max_tokens}: {prompt[:60]!r}")
        device = self.embedding.weight.device
        lengths = sent(torch.tensor([len(data) for data in encoded]), device)
        longest = max(len(data) for data in encoded)
        ids = sent(torch.tensor([list(data.ljust(longest, b"\0")) for data in encoded]), device)
        return self.project(self.embedding(ids), lengths)


class TextCondition(nn.Module):
    """Text through a frozen encoder that belongs to no checkpoint (`generator.text`)."""

    def __init__(self, width: int, encoder: str, features: int, max_tokens: int) -> None:
        super().__init__()
        self.max_tokens = max_tokens
        self.text = TextFeatures(encoder, max_tokens)
        self.project = _PrefixProjection(features, width)

    def forward(self, prompts: Sequence[str]) -> Condition:
        """Raises UserError as `TextFeatures.of`."""
        device = self.project.token.weight.device
        each = self.text.of(prompts, device)
        lengths = sent(torch.tensor([f.shape[0] for f in each]), device)
        padded = sent(nn.utils.rnn.pad_sequence(each, batch_first=True), device)
        return self.project(padded, lengths)


def encode(network: Any, values: Condition | Tensor | Sequence[int | str | None]) -> Condition:
    """What labels, names or prompts tell a generator (`VideoAR.condition`); a Condition passes through."""
    if isinstance(values, Condition):
        return values
    if isinstance(values, str):
        raise UserError(f"conditions come as a list, one a sample: [{values!r}]")
    if network.config.condition != "none":
        return network.encode_condition(values)
    if isinstance(values, Tensor) or any(value not in (None, "") for value in values):
        raise UserError("this model is unconditional: it takes None for each sample, no labels and no prompts")
    return network.null(len(values))


def batch_condition(network: Any, batch: dict[str, Any]) -> Condition:
    """What a batch of data tells a generator (VideoAR); null where a clip has no label (−1) or an empty caption.

    Of the batch it reads `label`, long [B], or `caption`, B texts, as the generator's config says.
    """
    kind = network.config.condition
    if kind == "none":
        return network.condition([None] * len(next(iter(batch.values()))))
    if kind == "class":
        condition, absent = network.condition(batch["label"].clamp(min=0)), batch["label"] < 0
    else:
        condition = network.condition([caption or " " for caption in batch["caption"]])
        absent = torch.tensor([not caption for caption in batch["caption"]])
    return network.null.replace(condition, sent(absent, condition.tokens.device))


def condition_encoder(config: GeneratorConfig) -> nn.Module:
    """What turns a batch's labels or prompts into a Condition; nothing where there are none."""
    if config.condition == "none":
        return nn.Identity()
    if config.condition == "class":
        return ClassCondition(config.width, config.num_classes, config.class_names)
    if config.condition == "bytes":
        return ByteCondition(config.width, config.max_prompt)
    return TextCondition(config.width, config.text_encoder, config.text_features, config.max_prompt)
