"""What a frozen Hugging Face text encoder (flan-t5 by name or path) says of prompts, kept in memory and on disk."""

# P prompt tokens · F text feature width

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from videoar.errors import UserError
from videoar.files import atomic_path, cache_folder

log = logging.getLogger(__name__)


class TextFeatures:
    """The features of prompts. The encoder is loaded at the first prompt that is not known.

    It is no `nn.Module`: its weights never enter a checkpoint. Features do not change, so those of the last prompts are
    kept in memory and those of all, one safetensors file a prompt, in `cache_folder("text")`. On an accelerator the
    encoder is bfloat16, and leaves it when every prompt of `IDLE` batches in a row was known.

    Args:
        encoder: name on the hub, or a folder.
        max_tokens: longest prompt.
    """

    REMEMBERED = 256
    IDLE = 100

    def __init__(self, encoder: str, max_tokens: int) -> None:
        self.name, self.max_tokens = encoder, max_tokens
        self.encoder: list[Any] = []
        self.idle = 0
        self._memory: dict[str, Tensor] = {}

    def of(self, prompts: Sequence[str], device: torch.device) -> list[Tensor]:
        """The features of each prompt, float32 [P, F] on the CPU; new ones are encoded together on `device`.

        Raises:
            UserError: transformers is missing, the encoder cannot be loaded, or a prompt is empty or too long.
        """
        for prompt in prompts:
            if prompt not in self._memory and (path := self._file(prompt)).exists():
                self._memory[prompt] = _load(path)
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._memory]
        self._memory |= self._encode(new, device) if new else {}
        self.idle = 0 if new else self.idle + 1
        if self.idle >= self.IDLE:
            self.encoder.clear()
        found = [self._memory[prompt] for prompt in prompts]
        for prompt, features in zip(prompts, found):
            self._check_length(prompt, features.shape[0])
        while len(self._memory) > self.REMEMBERED:
            del self._memory[next(iter(self._memory))]
        return found

    def _file(self, prompt: str) -> Path:
        key = hashlib.sha256(f"{self.name}\0{prompt}".encode()).hexdigest()[:32]
        return cache_folder("text") / f"{key}.safetensors"

    def _check_length(self, prompt: str, tokens: int) -> None:
        if not prompt or tokens > self.max_tokens:
            raise UserError(f"prompt of {tokens} tokens; allowed are 1 … {self.max_tokens}: {prompt[:60]!r}")

    def _encode(self, prompts: list[str], device: torch.device) -> dict[str, Tensor]:
        """Features of prompts in one pass, as their files hold them."""
        if not self.encoder:
            self.encoder = list(_load_encoder(self.name))
        tokenizer, encoder = self.encoder
        asked = tokenizer(prompts, return_tensors="pt", padding=True)
        lengths = asked.attention_mask.sum(1).tolist()
        for prompt, length in zip(prompts, lengths):
            self._check_length(prompt, length)
        encoder.to(device, torch.float32 if device.type == "cpu" else torch.bfloat16)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            inputs = {"input_ids": asked.input_ids.to(device), "attention_mask": asked.attention_mask.to(device)}
            padded = encoder(**inputs).last_hidden_state.half().cpu()
        found = {}
        for prompt, features, length in zip(prompts, padded, lengths):
            features = features[:length].contiguous()
            self._keep(features, self._file(prompt))
            found[prompt] = features.float()
        return found

    def _keep(self, features: Tensor, path: Path) -> None:
        try:
            with atomic_path(path) as partial:  # ranks may encode the same prompt at once
                save_file({"features": features}, partial)
        except UserError as error:
            log.warning("%s; the prompt's features are kept in memory only", error)


def _load(path: Path) -> Tensor:
    try:
        return load_file(path)["features"].float()
    except (SafetensorError, KeyError, OSError) as error:
        raise UserError(f"{path} holds no text features, delete it: {error}") from error


def _load_encoder(name: str) -> tuple[Any, Any]:
    """(tokenizer, encoder) of a Hugging Face text encoder, on the CPU, frozen."""
    try:
        from transformers import AutoTokenizer, T5EncoderModel
    except ImportError as error:
        raise UserError("text conditions need transformers: pip install 'videoar[text]'") from error
    try:
        plain: dict[str, Any] = {"trust_remote_code": False}  # the name may come from a stranger's configuration
        tokenizer, encoder = (kind.from_pretrained(name, **plain) for kind in (AutoTokenizer, T5EncoderModel))
        return tokenizer, encoder.eval().requires_grad_(False)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load the text encoder {name!r} (a hub name or a local folder): {error}") from error
