"""Training steps of both modules on the fake GPU, in a real Trainer: devices, and what the host waits for."""

import pytest
import torch
from fake_gpu import STEPS, TOKENIZER, batches, moved, train
from lightning.pytorch.loggers import CSVLogger

from videoar.callbacks.flip_schedule import FlipSchedule
from videoar.callbacks.health import HealthMonitor
from videoar.callbacks.progress import LineProgress, RunProgress
from videoar.generator.model import GeneratorConfig, VideoAR
from videoar.tokenizer.discriminator import DiscriminatorConfig
from videoar.tokenizer.model import VideoTokenizer
from videoar.training.generator_module import GeneratorModule, TeachingConfig
from videoar.training.objective import TokenizerLossConfig
from videoar.training.tokenizer_module import TokenizerModule


def tokenizer_module(**losses):
    """On the fake GPU, as it is inside the block."""
    module = TokenizerModule(
        TOKENIZER,
        losses=TokenizerLossConfig(perceptual_net="multiscale_gradient", partial_scales=0.5, **losses),
        discriminator=DiscriminatorConfig(channels=4, layers=2, temporal_layers=1),
    )
    return lambda: moved(module)


def generator_module(condition="class", **config):
    """On the fake GPU, with its tokenizer."""
    module = GeneratorModule(
        GeneratorConfig(latent_dim=8, width=32, depth=2, heads=2, num_classes=2, condition=condition, **config),
        teaching=TeachingConfig(frame_mask=0.1, scale_weights=[1.0, 2.0, 1.0, 1.0, 1.0, 1.0]),
    )
    module.generator, tokenizer = VideoAR(module._wanted), VideoTokenizer(TOKENIZER)
    module._origin_checked = True

    def on_device():
        module._adopt(moved(tokenizer))
        return moved(module)

    return on_device


@pytest.mark.parametrize("losses", [{"gan": 0.0}, {"adaptive_gan": True, "lecam": 0.1, "r1": 1.0, "r1_every": 2}])
def test_tokenizer_steps_never_wait_for_the_device(gpu, losses, tmp_path):
    make = tokenizer_module(**losses)
    with gpu() as it:
        steps = train(it, make(), batches(STEPS), tmp_path)
    assert steps == [[]] * STEPS


@pytest.mark.parametrize(("condition", "pixels"), [("class", True), ("class", False), ("bytes", True), ("none", False)])
def test_generator_steps_never_wait_for_the_device(gpu, condition, pixels, tmp_path):
    make = generator_module(condition)
    with gpu() as it:
        steps = train(it, make(), batches(STEPS, pixels), tmp_path)
    assert steps == [[]] * STEPS


@pytest.mark.parametrize("pixels", [True, False])
def test_steps_on_prompts_whose_features_are_known_never_wait(gpu, pixels, tmp_path):
    make = generator_module("text", text_encoder="none is asked", text_features=24)
    with gpu() as it:
        module = make()
        module.network.encode_condition.text._memory = {"a ball": torch.zeros(3, 24), " ": torch.zeros(1, 24)}
        steps = train(it, module, batches(STEPS, pixels), tmp_path)
    assert steps == [[]] * STEPS


@pytest.mark.parametrize("kind", ["tokenizer", "generator"])
@pytest.mark.parametrize("bar", [RunProgress, LineProgress])
def test_where_loggers_are_shown_figures_the_host_waits_once(gpu, kind, bar, tmp_path, monkeypatch, capfd):
    """Not once a figure, and not again in later batches, whose progress bar shows the last ones."""
    make = tokenizer_module(r1=1.0, r1_every=2) if kind == "tokenizer" else generator_module()
    callbacks = [bar(), HealthMonitor(every=1)] + ([FlipSchedule(last_batch=3)] if kind == "generator" else [])
    monkeypatch.setattr("videoar.training.reporting.LOOK", 2)
    with gpu() as it:
        logger = CSVLogger(tmp_path)
        options = {"logger": logger, "log_every_n_steps": 2, "enable_progress_bar": True}
        steps = train(it, make(), batches(STEPS), tmp_path, callbacks, **options)
    assert [[kind for kind, _ in waits] for waits in steps] == [[], ["fetch"], [], ["fetch"]], steps
    logged = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()
    expected = {"train/loss", "train/lr", "train/grad_norm", "train/skipped_steps", "curriculum/unlabelled_share"}
    expected |= {"train/flip_p_max"} if kind == "generator" else {"train/psnr", "train/discriminator"}
    assert expected <= set(logged[0].split(",")) and len(logged) == 3
    assert "loss" in "".join(capfd.readouterr())
