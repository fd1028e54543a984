"""Training steps of both modules on the fake GPU, in a real Trainer: devices, and what the host waits for."""

import lightning
import pytest
import torch
from fake_gpu import TOKENIZER, OnFakeGPU, batches, moved
from torch.utils.data import DataLoader

from videoar.callbacks.stage_switch import StageSwitch
from videoar.generator.model import GeneratorConfig, VideoAR
from videoar.tokenizer.discriminator import DiscriminatorConfig
from videoar.tokenizer.model import VideoTokenizer
from videoar.training.generator_module import GeneratorModule, TeachingConfig
from videoar.training.objective import TokenizerLossConfig
from videoar.training.tokenizer_module import TokenizerModule

STEPS = 2


class Waits(lightning.Callback):
    """What the host waited for in each training step, from its batch's start to its end."""

    def __init__(self, gpu):
        self.gpu, self.steps = gpu, []

    def on_train_batch_start(self, *_):
        self.gpu.waits.clear()

    def on_train_batch_end(self, *_):
        self.steps.append(list(self.gpu.waits))


def train(gpu, module, data, tmp_path):
    """What the host waited for in each step."""
    waits = Waits(gpu)
    trainer = lightning.Trainer(
        strategy=OnFakeGPU(),
        callbacks=[StageSwitch(), waits],
        max_steps=STEPS,
        log_every_n_steps=0,  # a logged value is read by the host, whichever way
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, DataLoader(data, batch_size=None))
    assert trainer.global_step == STEPS == module.ema.updates
    assert all(p.is_cuda and p.dtype == torch.float32 for p in module.network.parameters())
    assert all(average.is_cuda for average in module.ema.weights.values())
    return waits.steps


@pytest.mark.parametrize("losses", [{"gan": 0.0}, {"adaptive_gan": True, "lecam": 0.1, "r1": 1.0, "r1_every": 2}])
def test_tokenizer_steps_never_wait_for_the_device(gpu, losses, tmp_path):
    module = TokenizerModule(
        TOKENIZER,
        losses=TokenizerLossConfig(perceptual_net="multiscale_gradient", partial_scales=0.5, **losses),
        discriminator=DiscriminatorConfig(channels=4, layers=2, temporal_layers=1),
    )
    with gpu() as it:
        steps = train(it, moved(module), batches(STEPS), tmp_path)
    assert steps == [[]] * STEPS


@pytest.mark.parametrize(("condition", "pixels"), [("class", True), ("bytes", False)])
def test_generator_steps_never_wait_for_the_device(gpu, condition, pixels, tmp_path):
    module = GeneratorModule(
        GeneratorConfig(latent_dim=8, width=32, depth=2, heads=2, num_classes=2, condition=condition),
        teaching=TeachingConfig(frame_mask=0.1, scale_weights=[1.0, 2.0, 1.0, 1.0, 1.0, 1.0]),
    )
    module.generator, tokenizer = VideoAR(module._wanted), VideoTokenizer(TOKENIZER)
    module._origin_checked = True
    with gpu() as it:
        module._adopt(moved(tokenizer))
        steps = train(it, moved(module), batches(STEPS, pixels), tmp_path)
    assert steps == [[]] * STEPS
