"""Validation, test and the callbacks that measure and show, on the fake GPU: devices, and what the host waits for."""

from collections import Counter

import lightning
import pytest
import torch
from fake_gpu import TOKENIZER, OnFakeGPU, batches, moved
from torch.utils.data import DataLoader

from videoar import GeneratorConfig, VideoAR, VideoTokenizer, generate
from videoar.callbacks.samples import sample_like
from videoar.callbacks.video_logger import VideoLogger
from videoar.callbacks.video_metrics import VideoMetrics
from videoar.evaluation.models import ModelTwin
from videoar.metrics.features.base import FeatureNet
from videoar.metrics.frechet import FrechetVideoDistance
from videoar.metrics.moving import MovingPSNR, MovingRatio
from videoar.training.generator_module import GeneratorModule
from videoar.training.objective import TokenizerLossConfig
from videoar.training.tokenizer_module import TokenizerModule

GENERATOR = GeneratorConfig(latent_dim=8, width=32, depth=2, heads=2, num_classes=2, size=(32, 32))


class Watch(lightning.Callback):
    """What the host waited for in each batch of validation and test; with `sample`, samples as VideoLogger does."""

    def __init__(self, gpu, sample=False):
        self.gpu, self.sample, self.batches, self.samples = gpu, sample, [], []

    def on_validation_batch_start(self, *_):
        self.gpu.waits.clear()

    def on_validation_batch_end(self, trainer, module, outputs, batch, *_):
        if self.sample:
            self.samples.append(sample_like(trainer, module, batch, batch["video"], 0, None))
        self.batches.append(list(self.gpu.waits))

    on_test_batch_start, on_test_batch_end = on_validation_batch_start, on_validation_batch_end


def evaluated(watch, module, tmp_path, *callbacks):
    """Run validation and test over two batches each."""
    trainer = lightning.Trainer(
        strategy=OnFakeGPU(),
        callbacks=[*callbacks, watch],
        inference_mode=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    for run in (trainer.validate, trainer.test):
        run(module, DataLoader(batches(2), batch_size=None), verbose=False)
    return watch


def waits(watch):
    """Of the second batches of validation and test; in first ones Lightning sends the sums that it logs into."""
    return [wait for batch in watch.batches[1::2] for wait in batch]


def test_the_tokenizer_and_its_metrics(gpu, tmp_path):
    module = TokenizerModule(TOKENIZER, losses=TokenizerLossConfig(perceptual_net="multiscale_gradient", gan=0.0))
    with gpu() as it:
        module._moving = MovingPSNR(), MovingRatio()  # their states are no parameters, which `moved` exchanges
        metrics = VideoMetrics(features=None)
        metrics._finish = lambda *_: None  # whose numbers say whether there were any videos
        watch = evaluated(Watch(it), moved(module), tmp_path, metrics)
        assert metrics.usage.ones.is_cuda and metrics.paired["ssim"].total.is_cuda
    others = [line for kind, line in waits(watch) if (kind, line.split(":")[0]) != ("fetch", "preprocess.py")]
    assert others == [], "metrics look at the range of what they are given, and at nothing else"


@pytest.mark.parametrize("condition", ["class", "bytes"])
def test_the_generator_and_its_samples(gpu, condition, tmp_path):
    module = GeneratorModule(GENERATOR)
    config = GeneratorConfig(latent_dim=8, width=32, depth=2, heads=2, condition=condition, num_classes=2)
    module.generator, tokenizer = VideoAR(config), VideoTokenizer(TOKENIZER)
    with gpu() as it:
        module._adopt(moved(tokenizer))
        watch = evaluated(Watch(it, sample=True), moved(module), tmp_path)
    assert waits(watch) == []
    assert all(sample.is_cuda and sample.shape == (2, 3, 5, 32, 32) for sample in watch.samples)
    assert {sample.dtype for sample in watch.samples} == {torch.float32}


def test_what_a_generators_samples_are_measured_and_shown_by(gpu, tmp_path, monkeypatch):
    module, shown = GeneratorModule(GENERATOR), []
    module.generator, tokenizer = VideoAR(GENERATOR), VideoTokenizer(TOKENIZER)
    with gpu() as it:
        module._adopt(moved(tokenizer))
        metrics, logger = VideoMetrics(features=None), VideoLogger(num=1)
        features = FeatureNet("means", torch.nn.Identity(), lambda _, x: x.mean((2, 3, 4)), 3, None, "none", 1, "")
        metrics.fvd = FrechetVideoDistance(features)
        metrics._finish = lambda *_: None  # whose numbers say whether there were any videos
        monkeypatch.setattr(logger, "_write", lambda trainer, seen, rows, labels, columns: shown.append(columns))
        watch = evaluated(Watch(it), moved(module), tmp_path, metrics, logger)
        assert metrics.fvd.real_total.is_cuda and metrics.moving is not None
    kinds = Counter((kind, line.split(":")[0]) for kind, line in waits(watch))
    assert kinds == {("fetch", "preprocess.py"): 2 * 4, ("read", "base.py"): 2 * 2}, "ranges, and features, of both"
    assert shown == [("real", "reconstruction", "sample")]


@torch.no_grad()
def test_a_clip_is_sampled_and_decoded_without_waiting(gpu):
    generator, tokenizer = VideoAR(GENERATOR).eval(), VideoTokenizer(TOKENIZER).eval()
    with gpu() as it:
        generator, tokenizer = moved(generator), moved(tokenizer)
        sample = generate(generator, tokenizer, [0, 1], frames=9, size=(32, 32))
    assert it.waits == [] and sample.video.is_cuda and sample.video.shape == (2, 3, 9, 32, 32)


@torch.no_grad()
def test_a_model_is_measured_on_real_clips(gpu):
    generator, tokenizer = VideoAR(GENERATOR).eval(), VideoTokenizer(TOKENIZER).eval()
    with gpu() as it:
        twin = ModelTwin(moved(tokenizer), moved(generator))
        for network in (tokenizer, generator):  # they are where the clips are; fake tensors cannot be moved in place
            network.to = lambda device, network=network: network
        rebuilt = twin(torch.zeros(2, 3, 5, 32, 32, device="cuda"), ["a/1.mp4", "b/1.mp4"])
        assert twin.usage.ones.is_cuda and twin.accuracy.right.is_cuda
    assert rebuilt.is_cuda and rebuilt.dtype == torch.float32
    assert [kind for kind, _ in it.waits if kind != "send"] == [], "only empty sums are sent to the device"
