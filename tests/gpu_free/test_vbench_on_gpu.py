"""VBench's seven dimensions on the fake GPU: devices, and what the host waits for."""

from collections import Counter

import torch
from fake_gpu import STEPS, TOKENIZER, batches, moved, train

from videoar import GeneratorConfig, VideoAR, VideoTokenizer
from videoar.callbacks.vbench import VBenchMetrics
from videoar.metrics.vbench.aggregate import QUALITY
from videoar.metrics.vbench.backbones import _frozen, clip_pixels, dino_pixels, raft_pixels
from videoar.metrics.vbench.base import Backbone
from videoar.metrics.vbench.registry import _CLASSES
from videoar.training.generator_module import GeneratorModule

GENERATOR = GeneratorConfig(latent_dim=8, width=32, depth=2, heads=2, num_classes=2, size=(32, 32))


def stand_in(dimension):
    """A small network behind the real preparation of its frames; a fake GPU has none of the real weights."""
    if dimension == "temporal_flickering":
        return ()
    if dimension == "motion_smoothness":
        return (Backbone("AMT", lambda frames: (frames[1:] + frames[:-1]) / 2),)
    network = moved(torch.nn.Conv2d(3, 2, 3, padding=1))
    network.to = lambda device: network  # it is there; fake tensors cannot be moved in place
    if dimension == "dynamic_degree":
        return (Backbone("RAFT", lambda first, second: network(raft_pixels(first) - raft_pixels(second))),)
    prepare = dino_pixels if dimension == "subject_consistency" else clip_pixels
    features = _frozen(network, lambda net, frames: net(prepare(frames)).flatten(1), batch=3)
    if dimension.endswith("consistency"):
        return (Backbone("ViT", features),)
    return (Backbone("score", lambda frames: features(frames).mean(1)),)


def test_the_host_waits_for_the_range_of_a_batch_and_for_each_result(gpu, tmp_path, monkeypatch):
    module, tokenizer = GeneratorModule(GENERATOR), VideoTokenizer(TOKENIZER)
    module.generator = VideoAR(GENERATOR)
    callback = VBenchMetrics(STEPS, seeds=(0, 1, 2), frames=5, batch=2)  # six videos in three batches, at the end
    with gpu() as it:
        module._adopt(moved(tokenizer))
        metrics = [_CLASSES[name](*stand_in(name)) for name in QUALITY]
        for metric in metrics:  # their states are no parameters, which `moved` exchanges
            metric.total, metric.weight = torch.zeros(2, dtype=torch.float64, device="cuda").unbind()
        monkeypatch.setattr(callback, "_built", lambda device: metrics)
        steps = train(it, moved(module), batches(STEPS), tmp_path, [callback])
    assert steps[:-1] == [[]] * (STEPS - 1)
    waits = Counter((kind, line.split(":")[0]) for kind, line in steps[-1])
    assert waits == {("fetch", "preprocess.py"): 3 * 7, ("fetch", "base.py"): 7, ("send", "vbench.py"): 2 * 7}, steps
    assert len((tmp_path / "vbench.jsonl").read_text().splitlines()) == 1
