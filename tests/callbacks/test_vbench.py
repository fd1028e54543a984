import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader

from videoar import TokenizerConfig, VideoTokenizer
from videoar.callbacks.vbench import VBenchMetrics
from videoar.callbacks.video_metrics import VideoMetrics
from videoar.errors import UserError
from videoar.metrics.features.atari import AtariFeatures
from videoar.training.generator_module import GeneratorModule
from videoar.training.objective import TokenizerLossConfig
from videoar.training.tokenizer_module import TokenizerModule

DIMENSIONS = ("temporal_flickering", "motion_smoothness", "dynamic_degree")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tokenizer")
    VideoTokenizer(TokenizerConfig.preset("debug")).save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("features")
    AtariFeatures(["a", "b"], width=4).save(path, {})
    return f"atari:{path}"


def batches(count: int = 2) -> DataLoader:
    rng = torch.Generator().manual_seed(0)
    samples = [
        {"video": torch.rand(3, 5, 32, 32, generator=rng) * 2 - 1, "label": i % 4, "caption": "", "path": str(i)}
        for i in range(4 * count)
    ]
    return DataLoader(samples, batch_size=4)  # type: ignore[arg-type]


def trainer(root: Path, *callbacks: Callback, **options: Any) -> Trainer:
    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": False,
    }
    return Trainer(default_root_dir=root, accelerator="cpu", callbacks=list(callbacks), **{**quiet, **options})


def generator(tokenizer: str) -> GeneratorModule:
    torch.manual_seed(1)
    return GeneratorModule(generator="debug", tokenizer=tokenizer)


def plain_tokenizer() -> TokenizerModule:
    """No perceptual network and no discriminator: nothing to download."""
    torch.manual_seed(2)
    return TokenizerModule(
        tokenizer="debug", losses=TokenizerLossConfig(perceptual=0.0, perceptual_net="none", gan=0.0)
    )


def vbench(**changes: Any) -> VBenchMetrics:
    settings = {"interval": 2, "dimensions": DIMENSIONS, "frames": 5, "size": (32, 32), "guidance": 1.0}
    return VBenchMetrics(**{**settings, **changes})


@pytest.mark.slow
def test_dimensions_are_logged_at_the_interval_with_fixed_samples(tmp_path: Path, tokenizer: str) -> None:
    callback, module = vbench(seeds=(0, 3), batch=3), generator(tokenizer)
    run = trainer(tmp_path, callback, max_steps=4)
    run.fit(module, batches(4))
    logged = {name: float(value) for name, value in run.callback_metrics.items() if name.startswith("vbench")}
    assert set(logged) == {
        "vbench/temporal_flickering",
        "vbench_normalised/temporal_flickering",
        "vbench/motion_smoothness@ffmpeg",
        "vbench/dynamic_degree@ffmpeg",
    }
    lines = [json.loads(line) for line in (tmp_path / "vbench.jsonl").read_text().splitlines()]
    assert [line["batches_seen"] for line in lines] == [2, 4]
    raw = lines[1]["raw"]["temporal_flickering"]
    assert logged["vbench/temporal_flickering"] == pytest.approx(raw, abs=1e-6)
    assert logged["vbench_normalised/temporal_flickering"] == pytest.approx((raw - 0.6293) / (1 - 0.6293), abs=1e-6)
    assert not module.ema.swapped_in and module.network.training, "training goes on with its own weights"


@pytest.mark.slow
def test_the_same_weights_give_the_same_numbers(tmp_path: Path, tokenizer: str) -> None:
    """Two trainings that never step: with a learning rate of 0 every measurement sees the same weights and seeds."""
    module = generator(tokenizer)
    module.optim.lr = 0.0
    trainer(tmp_path, vbench(interval=1, conditions=[1, 2]), max_steps=2).fit(module, batches(2))
    lines = [json.loads(line)["raw"] for line in (tmp_path / "vbench.jsonl").read_text().splitlines()]
    assert len(lines) == 2 and lines[0] == lines[1]


@pytest.mark.slow
def test_measuring_does_not_change_training(tmp_path: Path, tokenizer: str) -> None:
    ends = []
    for callbacks in ((), (vbench(interval=1, conditions=[1, 2]),)):
        module = generator(tokenizer)
        trainer(tmp_path, *callbacks, max_steps=3).fit(module, batches(3))
        ends.append({name: value.clone() for name, value in module.state_dict().items()})
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


def test_prompts_are_needed_for_text_and_a_generator_in_any_case(tmp_path: Path, tokenizer: str) -> None:
    with pytest.raises(UserError, match="belongs to a generator"):
        trainer(tmp_path, vbench(interval=1), max_steps=1).fit(plain_tokenizer(), batches(1))
    module = generator(tokenizer)
    module.configure_model()
    module.network.config.condition = "bytes"
    with pytest.raises(UserError, match="needs `conditions`"):
        vbench()._jobs(trainer(tmp_path), module.network.config)


def test_missing_networks_are_left_out_or_end_the_run(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    callback = vbench(dimensions=("temporal_flickering", "imaging_quality"), weights=str(tmp_path))
    assert [metric.key for metric in callback._built(torch.device("cpu"))] == ["temporal_flickering"]
    assert "imaging_quality is left out" in caplog.text
    alone = vbench(dimensions=("imaging_quality",), weights=str(tmp_path))
    with pytest.raises(UserError, match="none of the VBench dimensions"):
        alone._built(torch.device("cpu"))


def test_bad_settings() -> None:
    for bad, said in (({"interval": 0}, "interval"), ({"seeds": ()}, "seeds"), ({"dimensions": ("color",)}, "'color'")):
        with pytest.raises(ValueError, match=said):
            VBenchMetrics(**bad)  # type: ignore[arg-type]


# ---- VideoMetrics ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_tokenizer_validation_over_the_whole_set(tmp_path: Path, features: str) -> None:
    callback, module = VideoMetrics(features), plain_tokenizer()
    run = trainer(tmp_path, callback)
    values = run.validate(module, batches(2), verbose=False)[0]
    data = torch.cat([batch["video"] for batch in batches(2)])
    with torch.no_grad():
        rebuilt = module.tokenizer.reconstruct(data)
    assert callback.fvd is not None
    net = callback.fvd.features
    callback.fvd.reset()
    callback.fvd.update(data, real=True)
    callback.fvd.update(rebuilt, real=False)
    assert values["val/rfvd"] == pytest.approx(float(callback.fvd.compute()), rel=1e-4)
    assert 0 < values["val/ssim"] < 1 and 0 <= values["val/codebook/entropy/scale_1"] <= 1
    assert net.name == "atari" and values["val/psnr"] > 0
    assert "test/rfvd" in run.test(module, batches(2), verbose=False)[0]
    lines = [json.loads(line) for line in (tmp_path / "video_metrics.jsonl").read_text().splitlines()]
    assert [line["card"]["split"] for line in lines] == ["val", "test"]
    assert lines[0]["values"]["rfvd"] == pytest.approx(values["val/rfvd"], rel=1e-6)
    card = lines[0]["card"]
    assert (card["clips"], card["frames"], card["size"]) == (8, 5, [32, 32])
    assert card["features"]["weights_sha256"] == net.sha256 and "torch" in card["versions"]


@pytest.mark.slow
def test_generator_validation_samples_the_classes_of_the_set(tmp_path: Path, tokenizer: str, features: str) -> None:
    run = trainer(tmp_path, VideoMetrics(features, guidance=1.0))
    values = run.validate(generator(tokenizer), batches(2), verbose=False)[0]
    first = values["val/gfvd"]
    assert values["val/moving_ratio"] >= 0
    again = run.validate(generator(tokenizer), batches(2), verbose=False)[0]["val/gfvd"]
    assert math.isfinite(first) and first > 0 and first == again, "the noise of clip i is the same every time"
    card = json.loads((tmp_path / "video_metrics.jsonl").read_text().splitlines()[0])["card"]
    assert card["guidance"] == 1.0 and card["seeds"].startswith("0 +") and len(card["tokenizer"]) > 8


@pytest.mark.slow
def test_a_stage_of_images_has_no_fvd(tmp_path: Path, tokenizer: str, features: str) -> None:
    images = DataLoader([{**batch, "video": batch["video"][:, :, :1]} for batch in batches(1)], batch_size=None)
    values = trainer(tmp_path, VideoMetrics(features)).validate(plain_tokenizer(), images, verbose=False)[0]
    assert "val/rfvd" not in values and abs(values["val/ssim"]) < 1
    assert "val/gfvd" not in trainer(tmp_path, VideoMetrics(features)).validate(generator(tokenizer), images)[0]


def test_latents_are_no_pixels(tmp_path: Path, features: str) -> None:
    with pytest.raises(UserError, match="cached latents"):
        VideoMetrics(features)._update(plain_tokenizer(), {"latent": torch.zeros(1)}, trainer(tmp_path), None)
    with pytest.raises(UserError, match="no file at"):
        VideoMetrics(f"atari:{tmp_path}")
