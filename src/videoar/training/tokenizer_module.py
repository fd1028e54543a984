"""TokenizerModule: trains the video tokenizer against its discriminator (paper §4.1)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from videoar.bits.residual import Quantized, decode_bits
from videoar.data.latent_folder import LatentFolder
from videoar.data.latents import write_bits, write_latent
from videoar.errors import UserError
from videoar.losses.adversarial import adaptive_weight
from videoar.metrics.moving import MovingPSNR, MovingRatio
from videoar.randomness import seeded_weights
from videoar.tokenizer.discriminator import DiscriminatorConfig, VideoDiscriminator
from videoar.tokenizer.model import TokenizerConfig, VideoTokenizer
from videoar.training.base import LoopConfig, TrainingModule
from videoar.training.checkpoint import load_tokenizer
from videoar.training.diagnostics import bits_report, reconstruction_report
from videoar.training.objective import TokenizerLossConfig, TokenizerObjective, weigh
from videoar.training.optim import OptimConfig, make_optimizer
from videoar.training.plain import from_plain, plain
from videoar.weights import affordable, load_strict

log = logging.getLogger(__name__)


class TokenizerModule(TrainingModule):
    """The tokenizer, its discriminator, their losses and their two optimizers. A batch holds images or videos.

    Args:
        tokenizer: a preset's name or a full configuration; None: that of `init_from`.
        train: `all`, or the `decoder` alone: the encoder keeps its bits, so latents and generators stay valid.
        init_from: exported folder or checkpoint of a tokenizer to start from, e.g. an inflated Infinity
            tokenizer or the image stage of one's own.
        losses, discriminator, optim, discriminator_optim, loop: see their classes.
        latents_dir: where `videoar predict` writes latents, as a data set of its own; nothing else needs it.
        stored: what it writes: `latent`, for training a generator, or packed `bits`, for keeping videos small.

    Raises:
        UserError: neither `tokenizer` nor `init_from`, or an `init_from` that is missing, broken or does not
            fit.
    """

    kind: ClassVar[Literal["tokenizer", "generator"]] = "tokenizer"

    def __init__(
        self,
        tokenizer: TokenizerConfig | str | None = None,
        init_from: str | None = None,
        train: Literal["all", "decoder"] = "all",
        losses: TokenizerLossConfig | None = None,
        discriminator: DiscriminatorConfig | None = None,
        optim: OptimConfig | None = None,
        discriminator_optim: OptimConfig | None = None,
        loop: LoopConfig | None = None,
        latents_dir: str | None = None,
        stored: Literal["latent", "bits"] = "latent",
    ) -> None:
        super().__init__(loop)
        if train not in ("all", "decoder") or (train == "decoder" and init_from is None):
            raise UserError(f"train is `all`, or `decoder` with an `init_from`; got {train!r} and {init_from!r}")
        self.losses = from_plain(TokenizerLossConfig, losses)
        self.optim = from_plain(OptimConfig, optim)
        self.discriminator_optim = from_plain(OptimConfig, discriminator_optim)
        critic = from_plain(DiscriminatorConfig, discriminator)
        with seeded_weights():
            self.tokenizer = _make_tokenizer(tokenizer, init_from)
            self.discriminator = affordable(VideoDiscriminator, critic) if self.losses.gan > 0 else None
        self.tokenizer.encoder.requires_grad_(train == "all")
        self.tokenizer.checkpoint_activations(self.loop.checkpointing)
        self.objective = TokenizerObjective(self.losses, self.tokenizer.config.latent_dim)
        self.latents_dir, self.stored, self._predicted_frames = latents_dir, stored, 0
        self.init_from = init_from
        self._moving = MovingPSNR(), MovingRatio()
        self.save_hyperparameters(
            {
                "tokenizer": plain(self.tokenizer.config),
                "losses": plain(self.losses),
                "discriminator": plain(critic),
                "optim": plain(self.optim),
                "discriminator_optim": plain(self.discriminator_optim),
                "loop": plain(self.loop),
            }
        )

    @property
    def network(self) -> VideoTokenizer:
        return self.tokenizer

    def configure_optimizers(self) -> list[Optimizer]:
        optimizers: list[Optimizer] = [make_optimizer(self.tokenizer, self.optim)]
        if self.discriminator is not None:
            optimizers.append(make_optimizer(self.discriminator, self.discriminator_optim))
        return optimizers

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.loop.compile:
            for part in (self.tokenizer.encoder, self.tokenizer.decoder):
                part.compile()

    # ---- one training step, both sides of the game ------------------------------------------------------------

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        video = checked_video(batch)
        optimizers: Any = self.optimizers()
        main_step, critic_step = optimizers if isinstance(optimizers, list) else (optimizers, optimizers)
        critic = self.discriminator if self.losses.gan_on(self.batches_seen) else None

        # 1. the tokenizer, while the discriminator holds still
        latent = self.tokenizer.encode(video)
        codes = self.tokenizer.quantize(latent, straight_through=True)
        rebuilt = self.tokenizer.decoder(self._shown(latent, codes)).float()
        with frozen(critic):
            fake_logits = critic(rebuilt) if critic is not None else None
            terms = self.objective(video, rebuilt, latent, codes, fake_logits, self.mean_over_ranks)
            terms |= (extra := self.extra_terms(video, rebuilt, latent, codes))
            weights = self.losses.weights(self.batches_seen) | dict.fromkeys(extra, 1.0)
            if critic is not None and self.losses.adaptive_gan:
                weights["gan"] *= self._balance(terms, weights)
            loss = weigh(terms, weights)
            self.descend("tokenizer", loss, main_step, self.optim, batch_idx)

        # 2. the discriminator, on the same videos
        rebuilt, played = rebuilt.detach(), {}
        if critic is not None:
            terms_d, logits = self.objective.discriminator_terms(
                video, rebuilt, critic, self.batches_seen, self.mean_over_ranks
            )
            loss_d = weigh(terms_d, self.losses.discriminator_weights())
            self.descend("discriminator", loss_d, critic_step, self.discriminator_optim, batch_idx)
            played = {**terms_d, **logits, "weight_gan": weights["gan"]}

        def report() -> dict[str, Any]:
            return {"loss": loss, **terms, **played, **reconstruction_report(rebuilt, video), **bits_report(codes)}

        self.end_step(main_step, report, prog_bar=("loss", "psnr"))
        return {"loss": loss.detach()}

    def extra_terms(self, video: Tensor, rebuilt: Tensor, latent: Tensor, codes: Quantized) -> dict[str, Tensor]:
        """A hook for subclasses: more terms of the tokenizer's loss by name, none here.

        Each is a scalar that enters the loss as it is, so a weight belongs into it; it is logged as `train/NAME` and
        `val/NAME`. Arguments as in `TokenizerObjective.forward`; the name of one of its terms replaces that.
        """
        return {}

    def _shown(self, latent: Tensor, codes: Quantized) -> Tensor:
        """What the decoder sees: all scales, or with probability `partial_scales` only the first k of them."""
        scales, p = len(codes.bits), self.losses.partial_scales
        if p == 0 or scales == 1:
            return codes.latent
        draw = torch.rand(2, generator=self.rng("cpu"))
        if draw[0] >= p:
            return codes.latent
        first = 1 + int(draw[1] * (scales - 1))
        partial = decode_bits(codes.bits[:first], codes.pyramid, codes.latent.dtype)
        return latent + (partial - latent).detach()

    def _balance(self, terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
        """The adaptive GAN weight, of reconstruction and perceptual terms against the adversarial one."""
        faithful = weigh({k: v for k, v in terms.items() if k in ("reconstruction", "perceptual")}, weights)
        kernels = [p for p in self.tokenizer.decoder.parameters() if p.ndim > 1]
        return adaptive_weight(faithful, terms["gan"], kernels[-1], average=self.mean_over_ranks)

    # ---- validation, test, prediction (with the averaged weights) ---------------------------------------------

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        return self._evaluate("val", batch)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        return self._evaluate("test", batch)

    def _evaluate(self, split: str, batch: dict[str, Any]) -> dict[str, Any]:
        """Log the batch's numbers; callbacks get what they were made of: `codes` and `rebuilt`."""
        video = checked_video(batch)
        latent = self.tokenizer.encode(video)
        codes = self.tokenizer.quantize(latent)
        rebuilt = self.tokenizer.decode(codes.latent).float()
        terms = self.objective(video, rebuilt, latent, codes, None) | self.extra_terms(video, rebuilt, latent, codes)
        report = {**terms, **reconstruction_report(rebuilt, video), **bits_report(codes)}
        self.log_scalars(split, report, len(video), prog_bar=("psnr",))
        self._measure_moving(rebuilt.clamp(-1, 1), video, batch)
        return {"codes": codes, "rebuilt": rebuilt}

    def _measure_moving(self, rebuilt: Tensor, video: Tensor, batch: dict[str, Any]) -> None:
        """Collect what becomes of moving pixels, by class; clips without one count for the first."""
        psnr, ratio = self._moving
        labels = batch["label"].clamp(min=0) if len(psnr.classes) > 1 else None
        psnr.update(rebuilt, video, labels)
        ratio.update(rebuilt, labels)
        ratio.update(video, labels, real=True)

    def _log_moving(self, split: str) -> None:
        """Log the mean over classes and every class's own value, over all ranks; images have none."""
        psnr, ratio = (metric.compute() for metric in self._moving)
        self.log_scalars(split, psnr.scalars("moving_psnr") | ratio.scalars("moving_ratio"), 1)

    def _start_moving(self) -> None:
        names = getattr(getattr(self.trainer, "datamodule", None), "class_names", None) or ("",)
        self._moving = MovingPSNR(names).to(self.device), MovingRatio(names).to(self.device)

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._start_moving()

    def on_validation_epoch_end(self) -> None:
        self._log_moving("val")
        super().on_validation_epoch_end()

    def on_test_epoch_start(self) -> None:
        super().on_test_epoch_start()
        self._start_moving()

    def on_test_epoch_end(self) -> None:
        self._log_moving("test")
        super().on_test_epoch_end()

    def on_predict_epoch_start(self) -> None:
        super().on_predict_epoch_start()
        if self.latents_dir is None:
            raise UserError("predict writes latents: give model.latents_dir, the folder to write them to")
        # of the averaged weights, which are in place now
        self._latents = LatentFolder(self.latents_dir, self.tokenizer.encoder_fingerprint())

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Write the latent (or bits) of every clip into the latents' folder."""
        latents = self.tokenizer.encode(checked_video(batch)).float()
        names = self.trainer.datamodule.class_names  # type: ignore[attr-defined]
        captions = batch.get("captions", batch["caption"])
        firsts = batch.get("first_frame", [0] * len(latents))
        for latent, label, caption, path, first in zip(latents, batch["label"], captions, batch["path"], firsts):
            target = self._latents.place(path, names[label] if label >= 0 else None, first)
            if self.stored == "bits":
                codes = self.tokenizer.quantize(latent[None])
                write_bits(target, codes.bits, codes.pyramid, caption, self._latents.tokenizer)
            else:
                write_latent(target, latent, caption, self._latents.tokenizer)
        self._predicted_frames = int(batch["video"].shape[2])

    def on_predict_epoch_end(self) -> None:
        super().on_predict_epoch_end()
        report = self._latents.report(self._predicted_frames)
        if self.trainer.is_global_zero:
            log.info("%s", report)


def checked_video(batch: dict[str, Any]) -> Tensor:
    """The pixels of a batch (whose range `check_range` has looked at).

    Raises:
        UserError: no pixels (cached latents), a wrong shape, or bytes.
    """
    if "video" not in batch:
        raise UserError("the tokenizer trains on pixels, but this data set holds cached latents")
    video = batch["video"]
    if video.ndim != 5 or video.shape[1] != 3:
        raise UserError(f"a batch of videos must be [B, 3, T, H, W], got {list(video.shape)}")
    if not video.is_floating_point():
        raise UserError(f"videos must be floats in [-1, 1], got {video.dtype}")
    return video


@contextmanager
def frozen(network: nn.Module | None) -> Iterator[None]:
    """Gradients pass through the network, but not into its parameters."""
    parameters = [] if network is None else list(network.parameters())
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def _make_tokenizer(tokenizer: Any, init_from: str | None) -> VideoTokenizer:
    if tokenizer is None and init_from is None:
        raise UserError("give `tokenizer` (a preset or a configuration), `init_from`, or both")
    source = load_tokenizer(init_from) if init_from is not None else None
    if tokenizer is None and source is not None:
        return source.requires_grad_(True).train()
    config = TokenizerConfig.preset(tokenizer) if isinstance(tokenizer, str) else from_plain(TokenizerConfig, tokenizer)
    network = affordable(VideoTokenizer, config)
    if source is not None:
        load_strict(network, source.state_dict(), str(init_from))
    return network.train()
