"""The tokenizer's objective: paper eq. 4 term by term, unweighted, and the weights that meet them once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videoar.bits.residual import Quantized
from videoar.losses.adversarial import GanKind, discriminator_loss, generator_loss, gradient_penalty
from videoar.losses.entropy import EntropyPenalty
from videoar.losses.lecam import LeCAM
from videoar.losses.perceptual import PerceptualName, perceptual_loss
from videoar.motion import moving_mask
from videoar.ranges import AMOUNT, COUNT, INDEX, SHARE, WEIGHT, Range, check_ranges


@dataclass
class TokenizerLossConfig:
    """The weights of eq. 4 and what the terms are. A weight of 0 switches its term off.

    Raises:
        UserError: a negative weight, a probability outside 0 … 1, or r1_every below 1.
    """

    reconstruction: float = 1.0
    """λ_rec, of the L1 or L2 distance."""
    perceptual: float = 1.0
    """λ_perc."""
    hard: float = 0.0
    """Weight of the mean distance over the worst `hard_share` of each frame's pixels: small things are there."""
    hard_share: float = 0.05
    """Share of a frame's pixels that the hard term looks at."""
    moving: float = 0.0
    """Weight of the mean distance over the pixels that move (videoar.motion); images have none."""
    gan: float = 0.1
    """λ_GAN; with adaptive_gan it multiplies the adaptive weight. 0: no discriminator is built."""
    commitment: float = 0.25
    """λ_commit, of the squared distance between the latent and its quantised form."""
    entropy: float = 0.1
    """λ_entropy, of per-sample entropy − codebook entropy, meaned over scales."""
    lecam: float = 0.001
    """Weight of LeCAM in the discriminator's loss."""
    r1: float = 0.0
    """Weight of the R1 gradient penalty in the discriminator's loss."""
    r1_every: int = 16
    """R1 is computed on every so many batches, and counts as many times there."""
    distance: Literal["l1", "l2"] = "l1"
    """The reconstruction term."""
    perceptual_net: PerceptualName = "lpips_vgg"
    """The perceptual term; multiscale_gradient needs no downloaded weights."""
    perceptual_weights: str | None = None
    """File of the LPIPS backbone's weights; None: torchvision's cache."""
    gan_kind: GanKind = "hinge"
    """hinge or non_saturating."""
    gan_start: int = 0
    """Batches before tokenizer and discriminator begin to play."""
    gan_warmup: int = 0
    """Batches over which λ_GAN then rises from 0."""
    adaptive_gan: bool = False
    """Multiply λ_GAN by the ratio of the gradient norms at the decoder's last layer (VQGAN)."""
    entropy_temperature: float = 100.0
    """Inverse temperature τ of the entropy term's soft bits, σ(2τu/√D); peers write σ(4τu/√D): their 100 is 200."""
    entropy_memory: float = 256.0
    """Latent frames, of all ranks, over which the codebook's mean runs; 0: those of the batch alone."""
    partial_scales: float = 0.0
    """Probability that a batch is decoded from its first scales only (scale-wise regularisation)."""

    def __post_init__(self) -> None:
        terms = ("reconstruction", "perceptual", "hard", "moving", "gan", "commitment", "entropy", "lecam", "r1")
        for name in terms:
            WEIGHT.check(f"the weight of {name}", getattr(self, name))
        check_ranges(self, entropy_memory=WEIGHT, entropy_temperature=AMOUNT, partial_scales=SHARE, r1_every=COUNT)
        check_ranges(self, hard_share=Range(0, 1, whole=False, open_low=True), gan_start=INDEX, gan_warmup=INDEX)

    def gan_on(self, batch: int) -> bool:
        """Do tokenizer and discriminator play at training batch number `batch`?"""
        return self.gan > 0 and batch >= self.gan_start

    def weights(self, batch: int) -> dict[str, float]:
        """The weight of each term of the tokenizer at training batch number `batch`."""
        ramp = min(1.0, (batch - self.gan_start + 1) / max(1, self.gan_warmup))
        return {
            "reconstruction": self.reconstruction,
            "perceptual": self.perceptual,
            "hard": self.hard,
            "moving": self.moving,
            "commitment": self.commitment,
            "entropy": self.entropy,
            "gan": self.gan * ramp if self.gan_on(batch) else 0.0,
        }

    def discriminator_weights(self) -> dict[str, float]:
        """The weight of each term of the discriminator."""
        return {"discriminator": 1.0, "lecam": self.lecam, "r1": self.r1 * self.r1_every}


class TokenizerObjective(nn.Module):
    """The terms of both sides, from pixels and latents; its only state is running means (LeCAM, soft bits)."""

    def __init__(self, config: TokenizerLossConfig, latent_dim: int) -> None:
        super().__init__()
        self.config = config
        self.lecam = LeCAM() if config.gan > 0 else None
        entropy = (latent_dim, config.entropy_temperature, config.entropy_memory)
        self.entropy = EntropyPenalty(*entropy) if config.entropy > 0 else None
        self.perceptual = (
            perceptual_loss(config.perceptual_net, config.perceptual_weights) if config.perceptual > 0 else None
        )

    def forward(
        self,
        video: Tensor,
        rebuilt: Tensor,
        latent: Tensor,
        codes: Quantized,
        fake_logits: Tensor | None,
        average: Callable[[Tensor], Tensor] = lambda x: x,
    ) -> dict[str, Tensor]:
        """The tokenizer's terms, each an unweighted float32 scalar.

        Args:
            video, rebuilt: [B, 3, T, H, W]; the second not clamped.
            latent: [B, D, T', H', W'] before quantisation; `codes` is what became of it.
            fake_logits: what the discriminator says of `rebuilt`; None: no adversarial term.
            average: of a detached tensor over ranks, for the codebook's entropy.
        """
        video, rebuilt, latent = video.float(), rebuilt.float(), latent.float()
        distance = F.l1_loss if self.config.distance == "l1" else F.mse_loss
        error = distance(rebuilt, video, reduction="none").mean(1)  # [B, T, H, W]
        terms = {"reconstruction": error.mean()}
        if self.config.hard > 0:
            pixels = error.flatten(2)
            terms["hard"] = pixels.topk(math.ceil(self.config.hard_share * pixels.shape[2]), sorted=False).values.mean()
        if self.config.moving > 0:
            mask = moving_mask(video)
            terms["moving"] = (error * mask).sum() / mask.sum().clamp(min=1)
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(rebuilt, video)
        if self.config.commitment > 0:
            terms["commitment"] = F.mse_loss(latent, codes.latent.detach().float())
        if self.entropy is not None:
            terms["entropy"] = self.entropy(codes.residuals, average)
        if fake_logits is not None:
            terms["gan"] = generator_loss(fake_logits, self.config.gan_kind)
        return terms

    def discriminator_terms(
        self,
        video: Tensor,
        rebuilt: Tensor,
        discriminator: nn.Module,
        batch: int,
        average: Callable[[Tensor], Tensor],
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The discriminator's terms, unweighted, and its mean logits (`logits_real`, `logits_fake`) for the log.

        Args:
            rebuilt: detached and not clamped, as the tokenizer's own term sees it. batch: number of the
                training batch. average: over ranks, for LeCAM.
        """
        with_r1 = self.config.r1 > 0 and batch % self.config.r1_every == 0
        real_video = video.detach().requires_grad_(with_r1)
        real, fake = discriminator(real_video), discriminator(rebuilt)
        terms = {"discriminator": discriminator_loss(real, fake, self.config.gan_kind)}
        if self.lecam is not None and self.config.lecam > 0:
            self.lecam.update(real, fake, average)
            terms["lecam"] = self.lecam(real, fake)
        if with_r1:
            terms["r1"] = gradient_penalty(real, real_video)
        logits = {"logits_real": real.detach().float().mean(), "logits_fake": fake.detach().float().mean()}
        return terms, logits


def weigh(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Σ weight · term: the one place where they meet."""
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()
