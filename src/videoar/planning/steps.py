"""One training step of each model, as the training modules do it, on real or on fake networks."""

# B batch · T latent frames · P prefix tokens · D bits per token

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from videoar.benchmarking.setting import Setting
from videoar.bits.corruption import CorruptionConfig
from videoar.bits.pyramid import ScalePyramid
from videoar.generator.attention import Attend, DenseAttend
from videoar.generator.conditioning import Condition, TextCondition
from videoar.generator.config import GeneratorConfig
from videoar.generator.model import Labels, VideoAR
from videoar.losses.bitwise import bitwise_loss
from videoar.losses.perceptual import Perceptual
from videoar.tokenizer.discriminator import VideoDiscriminator
from videoar.tokenizer.model import VideoTokenizer
from videoar.training.ema import EMA
from videoar.training.objective import TokenizerLossConfig, TokenizerObjective, weigh
from videoar.training.optim import OptimConfig, clip_gradients, make_optimizer
from videoar.training.tokenizer_module import frozen

Make = Callable[[Callable[[], nn.Module]], Any]
"""Turns a builder into a network: `fakes.fake`, or a call and a move to a device."""
Mark = Callable[[str], None]
"""Called when a phase of a step is over: `backward`, `update`."""


class TrainingRun(Protocol):
    """Networks, optimizers and averages of one run."""

    network: nn.Module

    def step(self, batch: int, mark: Mark) -> None:
        """One training step on `batch` clips in bf16-mixed."""


class Learner:
    """A network with its optimizer; the moments are there from the start, as they are from the second step on."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.optimizer = make_optimizer(network, OptimConfig())
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def descend(self, loss: Tensor, mark: Mark, average: EMA | None = None) -> None:
        """Backward, clip, AdamW, average."""
        loss.backward()
        mark("backward")
        clip_gradients(self.network.parameters(), 1.0)
        self.optimizer.step()
        if average is not None:
            average.update()
        self.optimizer.zero_grad()
        mark("update")


class GeneratorRun:
    """The generator's training from pixels: a frozen tokenizer encodes, the generator learns its bits."""

    def __init__(self, setting: Setting, make: Make, checkpointing: bool) -> None:
        self.setting = setting
        config = GeneratorConfig.preset(setting.preset)
        kind = Unmasked if needs_flex(setting) else VideoAR
        self.network = make(lambda: kind(config)).train()
        self.network.checkpointing = checkpointing
        self.tokenizer = make(lambda: VideoTokenizer(setting.tokenizer_config)).eval().requires_grad_(False)
        self.learner, self.average = Learner(self.network), EMA(0.999)
        self.average.start(self.network)

    def step(self, batch: int, mark: Mark) -> None:
        s = replace(self.setting, batch=batch)
        video = s.video(torch.float32)
        with torch.autocast(s.device.type, torch.bfloat16):
            with torch.no_grad():
                latent = self.tokenizer.encode(video).float()
            lesson = self.network.lesson(latent, s.pyramid, CorruptionConfig(mode="inheritance"))
            condition = conditions(self.network, batch)
            logits = self.network(lesson.tokens, condition, s.pyramid, s.latent_frames, bits=lesson.targets)
            result = bitwise_loss(logits, lesson.targets, s.pyramid, s.latent_frames)
            self.learner.descend(result.loss, mark, self.average)


class TokenizerRun:
    """The tokenizer's training with every loss on, and its discriminator's."""

    def __init__(self, setting: Setting, make: Make, checkpointing: bool) -> None:
        self.setting = setting
        self.network = make(lambda: VideoTokenizer(setting.tokenizer_config)).train()
        self.network.checkpoint_activations(checkpointing)
        self.critic = make(VideoDiscriminator).train()
        paper = setting.preset.startswith("videoar")
        self.losses = TokenizerLossConfig(perceptual_net="lpips_vgg" if paper else "multiscale_gradient")
        self.objective = make(lambda: TokenizerObjective(self.losses, setting.tokenizer_config.latent_dim))
        if isinstance(self.objective.perceptual, Perceptual):  # its size matters here, its weights do not
            self.objective.perceptual._built[setting.device] = make(_random_lpips).requires_grad_(False).eval()
        self.learner, self.critic_learner, self.average = Learner(self.network), Learner(self.critic), EMA(0.999)
        self.average.start(self.network)

    def step(self, batch: int, mark: Mark) -> None:
        video = replace(self.setting, batch=batch).video(torch.float32)
        with torch.autocast(self.setting.device.type, torch.bfloat16):
            latent = self.network.encode(video)
            codes = self.network.quantize(latent, straight_through=True)
            rebuilt = self.network.decoder(codes.latent).float()
            with frozen(self.critic):
                terms = self.objective(video, rebuilt, latent, codes, self.critic(rebuilt))
                self.learner.descend(weigh(terms, self.losses.weights(0)), mark, self.average)
            rebuilt = rebuilt.detach()
            terms, _ = self.objective.discriminator_terms(video, rebuilt, self.critic, 0, lambda mean: mean)
            self.critic_learner.descend(weigh(terms, self.losses.discriminator_weights()), mark)


RUNS: dict[str, Callable[[Setting, Make, bool], TrainingRun]] = {"tokenizer": TokenizerRun, "generator": GeneratorRun}


class Unmasked(VideoAR):
    """FlexAttention's memory: queries, keys, values, output and row sums, and no mask over all pairs of tokens."""

    def _teacher_forcing_attend(
        self, condition: Condition, pyramid: ScalePyramid, frames: int, frame_keep: Tensor | None, flex: bool
    ) -> Attend:
        return DenseAttend(None)


def needs_flex(setting: Setting) -> bool:
    """Long sequences train with `attention: flex`, as configs/generator/stage1.yaml does."""
    return setting.pyramid.sequence_length(setting.latent_frames) > 4096


def conditions(network: VideoAR, batch: int) -> Labels:
    """A label a clip, or features of the longest prompt a clip (the text encoder itself stays on the CPU)."""
    encoder = network.encode_condition
    if not isinstance(encoder, TextCondition):
        return [None if network.config.condition == "none" else 0] * batch
    weight = encoder.project.token.weight
    features = torch.zeros(batch, encoder.max_tokens, weight.shape[1], device=weight.device, dtype=weight.dtype)
    return encoder.project(features, torch.full((batch,), encoder.max_tokens, device=weight.device))


def _random_lpips() -> nn.Module:
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips calls torchvision with arguments it has deprecated
        return lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
