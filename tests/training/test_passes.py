"""How often the tokenizer's encoder sees a pixel frame: once a batch, whoever else looks at the batch."""

import pytest
from lightning.pytorch import Callback

from videoar.callbacks.video_logger import VideoLogger
from videoar.callbacks.video_metrics import VideoMetrics
from videoar.generator.model import GeneratorConfig
from videoar.metrics.features.atari import AtariFeatures
from videoar.training.generator_module import GeneratorModule

TRAINED, VALIDATED = 3, 2


class EncoderPasses(Callback):
    """Pixel frames that the encoder was shown in each stage."""

    def __init__(self):
        self.frames = {"train": 0, "validate": 0}

    def on_train_start(self, trainer, module):
        def count(_, inputs):
            self.frames["validate" if trainer.validating else "train"] += inputs[0].shape[0] * inputs[0].shape[2]

        module.tokenizer.encoder.register_forward_pre_hook(count)


@pytest.mark.parametrize("kind", ["tokenizer", "generator", "generator of latents"])
def test_the_encoder_sees_every_frame_once(kind, fit, clips, list_data, tokenizer_module, tmp_path):
    batches, module = clips(TRAINED + VALIDATED, frames=9, size=32), tokenizer_module({"r1": 1.0, "r1_every": 1})
    if kind != "tokenizer":
        module.tokenizer.save_pretrained(tmp_path / "tokenizer")
        small = GeneratorConfig(latent_dim=8, width=32, depth=1, heads=2, num_classes=2)
        latents = [{**batch, "latent": module.tokenizer.encode(batch["video"]).detach()} for batch in batches]
        batches = latents if kind.endswith("latents") else batches
        module = GeneratorModule(small, str(tmp_path / "tokenizer"))
    AtariFeatures(["pong", "breakout"], width=4).save(tmp_path / "features", {})
    passes, data = EncoderPasses(), list_data(batches[:TRAINED], batches[TRAINED:])
    callbacks = [passes, VideoMetrics(f"atari:{tmp_path / 'features'}", guidance=2.0)]
    callbacks += [VideoLogger(num=1)] if kind == "tokenizer" else []  # of a generator it shows a reconstruction as well
    fit(module, data, callbacks=callbacks)
    per_batch = 0 if kind.endswith("latents") else 2 * 9
    assert passes.frames == {"train": TRAINED * per_batch, "validate": VALIDATED * per_batch}
