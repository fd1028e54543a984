"""Callbacks: schedules and counts as numbers, alarms at the right moment, state that survives a resume."""

import logging
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from videoar.callbacks.flip_schedule import FlipSchedule, ramp
from videoar.callbacks.health import HealthMonitor
from videoar.callbacks.progress import Clock, LineProgress
from videoar.callbacks.stage_switch import StageSwitch
from videoar.callbacks.video_logger import VideoLogger, names_of
from videoar.data.curriculum import Curriculum, Stage
from videoar.errors import UserError
from videoar.generator.model import GeneratorConfig
from videoar.tokenizer.model import TokenizerConfig, VideoTokenizer
from videoar.training.base import LoopConfig
from videoar.training.generator_module import CorruptionConfig, GeneratorModule
from videoar.training.optim import OptimConfig


@pytest.fixture
def generator_module(tmp_path):
    """A tiny GeneratorModule with random weights."""

    def make(**corruption):
        torch.manual_seed(0)
        config = TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4)
        VideoTokenizer(config).save_pretrained(tmp_path / "tokenizer")
        return GeneratorModule(
            GeneratorConfig(latent_dim=8, width=32, depth=1, heads=2, num_classes=2),
            tokenizer=str(tmp_path / "tokenizer"),
            corruption=CorruptionConfig(**corruption),
            optim=OptimConfig(schedule="constant"),
            loop=LoopConfig(),
        )

    return make


def test_ramp_is_a_line_between_two_plateaus():
    values = [ramp(batch, 10, 20, 0.1, 0.3) for batch in (0, 10, 15, 20, 99)]
    assert values == pytest.approx([0.1, 0.1, 0.2, 0.3, 0.3])
    assert ramp(0, 0, 0, 0.1, 0.3) == 0.3


def test_flip_schedule_moves_the_modules_corruption(fit, clips, generator_module):
    module, seen = generator_module(), []
    original = module.training_step
    module.training_step = lambda *a: (seen.append(module.corruption.p_max), original(*a))[1]
    callback = FlipSchedule(first_batch=1, last_batch=3, start=0.0, end=0.2)
    trainer = fit(module, clips(4), callbacks=[callback])
    assert seen == pytest.approx([0.0, 0.0, 0.1, 0.2])
    assert trainer.callback_metrics["train/flip_p_max"] == pytest.approx(0.2)
    assert callback.state_dict() == {"p_max": pytest.approx(0.2)}


@pytest.mark.parametrize("bad", [{"first_batch": 5, "last_batch": 2}, {"end": 0.9}, {"start": -0.1}])
def test_flip_schedule_refuses_bad_numbers(bad):
    with pytest.raises(UserError, match=str(next(iter(bad.values())))):
        FlipSchedule(**bad)


def test_flip_schedule_refuses_modules_without_flips(fit, clips, generator_module, tokenizer_module):
    with pytest.raises(UserError, match="not `off`"):
        fit(generator_module(mode="off"), clips(1), callbacks=[FlipSchedule()])
    with pytest.raises(UserError, match="not `off`"):
        fit(tokenizer_module(), clips(1), callbacks=[FlipSchedule()])
    with pytest.raises(UserError, match=r"down to 0\.0, below p_min 0\.05"):
        fit(generator_module(p_min=0.05), clips(1), callbacks=[FlipSchedule()])


def test_tensorboard_holds_every_number(fit, clips, tokenizer_module, list_data, tmp_path):
    """One run of images and videos; what the event file holds afterwards, read with TensorBoard's own reader."""
    from lightning.pytorch.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    batches = [clips(1)[0], clips(1, frames=1)[0], clips(1, frames=9)[0]]
    module = tokenizer_module({"entropy": 0.1, "lecam": 0.1, "r1": 1.0, "r1_every": 1, "adaptive_gan": True})
    logger = TensorBoardLogger(tmp_path, name="", version="")
    callbacks = [VideoLogger(num=1), StageSwitch()]
    fit(module, list_data(batches, val=batches), logger=logger, log_every_n_steps=1, callbacks=callbacks)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    scalars, scales, frames = set(events.Tags()["scalars"]), range(1, 5), range(9)
    both = ["psnr", "temporal_error", "motion_ratio", "reconstruction", "commitment", "entropy"]
    both += [f"{name}/scale_{k:02}" for name in ("bit_usage", "dead_bits") for k in scales]
    both += [f"l1_frame/{t:02}" for t in frames]
    train = ["gan", "weight_gan", "discriminator", "lecam", "r1", "logits_real", "logits_fake", "grad_norm", "lr"]
    wanted = {f"{split}/{name}" for split in ("train", "val") for name in both}
    assert wanted | {f"train/{name}" for name in [*train, "loss", "skipped_steps"]} <= scalars
    assert [event.step for event in events.Scalars("train/psnr")] == [0, 1, 2]
    assert events.Tags()["images"] == ["videos/real | reconstruction"]


def test_stage_switch_announces_and_counts(fit, clips, tokenizer_module, list_data, caplog):
    data = list_data([*clips(2), *clips(2, frames=1, size=32)])
    data.train[3]["label"] = torch.tensor([-1, 0])
    stages = [Stage(until=2, resolution=16, frames=5, batch_size=2), Stage(resolution=32, image_share=1.0)]
    data.stage_at = Curriculum(stages).index
    callback = StageSwitch()
    with caplog.at_level(logging.INFO):
        trainer = fit(tokenizer_module({"gan": 0.0}), data, callbacks=[callback])
    lines = [r.getMessage() for r in caplog.records if r.name.endswith("stage_switch")]
    assert lines == [
        "batch 0 trains in stage 1; the run begins",
        "batch 2 trains in stage 2; stage 1 had 2 batches, 0 of them images, 4 clips",
    ]
    logged = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("curriculum/")}
    expected = {"stage": 2, "frames": 1, "height": 32, "width": 32, "clips": 2, "image_share": 1}
    assert logged == {f"curriculum/{name}": value for name, value in expected.items()} | {
        "curriculum/unlabelled_share": 0.25
    }
    again = StageSwitch()
    again.load_state_dict(callback.state_dict())
    assert again.stage == 1 and again.counts == callback.counts


class Sheets:
    """A logger that takes images, as TensorBoard's does."""

    def __init__(self):
        self.images = []
        self.experiment = self

    def add_image(self, tag, image, step, dataformats):
        self.images.append((tag, image, step, dataformats))


def test_video_logger_shows_samples_of_the_generator(fit, clips, generator_module, list_data, tmp_path):
    batches = clips(1, size=32)
    module, sheets = generator_module(), Sheets()
    callback = VideoLogger(num=2, frames=3)
    trainer = fit(module, list_data(batches, val=batches), callbacks=[callback], logger=True)
    folder = next(tmp_path.rglob("videos"))
    assert sorted(p.name for p in folder.iterdir()) == ["batch_00000001.mp4", "batch_00000001.png"]
    rows = [[torch.zeros(3, 5, 16, 16)] * 3]
    trainer_like = type("T", (), {"log_dir": None, "loggers": [sheets], "is_global_zero": True})()
    callback._write(trainer_like, 7, rows, ["pong"], ("real", "reconstruction", "sample"))
    assert [(tag, step, form) for tag, _, step, form in sheets.images] == [
        ("videos/real | reconstruction | sample", 7, "HWC")
    ]
    assert trainer.logger is not None and module.network.training


def test_video_logger_shows_the_same_each_time_and_works_from_latents(fit, clips, generator_module, list_data):
    batches = clips(1)
    module = generator_module()
    trainer = fit(module, batches)
    shown = []
    callback = VideoLogger(num=1)
    callback._write = lambda trainer, seen, rows, labels, columns: shown.append((" | ".join(columns), rows))
    callback._show(trainer, module, batches[0])
    callback._show(trainer, module, batches[0])
    assert shown[0][0] == "real | reconstruction | sample"
    for a, b in zip(shown[0][1][0], shown[1][1][0]):
        assert torch.equal(a, b)
    latent = {**batches[0], "latent": module.tokenizer.encode(batches[0]["video"])}
    del latent["video"]
    callback._show(trainer, module, latent)
    assert shown[2][0] == "reconstruction | sample"
    torch.testing.assert_close(shown[2][1][0][0], shown[0][1][0][1])


class Both(CSVLogger):
    """A logger of one's own that takes pictures and videos, as Lightning's WandbLogger does."""

    def log_image(self, key, images, step=None):
        self.got = [(key, images[0].shape, step)]

    def log_video(self, key, videos, step=None, format=()):
        self.got.append((key, Path(videos[0]).name, step, format))


def test_every_logger_gets_what_it_takes(fit, clips, tokenizer_module, list_data, tmp_path):
    batches, both = clips(1), Both(tmp_path / "both")
    loggers = [CSVLogger(tmp_path / "csv"), both]
    fit(tokenizer_module({"gan": 0.0}), list_data(batches, val=batches), callbacks=[VideoLogger()], logger=loggers)
    image, video = both.got
    assert image[0] == "videos/real | reconstruction" and image[2] == 1 and image[1][2] == 3
    assert video == (f"{image[0]} (video)", "batch_00000001.mp4", 1, ["mp4"])


def test_clips_are_called_by_class_or_caption(generator_module):
    trainer = type("T", (), {"datamodule": type("D", (), {"class_names": ("pong", "breakout")})})()
    module = type("M", (), {"network": type("N", (), {"config": type("C", (), {})})})()
    batch = {"label": torch.tensor([1, -1]), "caption": ["", "a cat"]}
    assert names_of(trainer, module, batch) == ["breakout", "a cat"]
    module.network.config.condition = "bytes"
    assert names_of(trainer, module, batch) == ["", "a cat"]
    assert names_of(trainer, module, {"label": torch.tensor([-1]), "caption": [""]}) == []


def test_video_logger_counts_validations(fit, clips, tokenizer_module, list_data, tmp_path):
    batches = clips(4)
    data = list_data(batches, val=batches[:1])
    callback = VideoLogger(num=1, every=2)
    fit(tokenizer_module({"gan": 0.0}), data, callbacks=[callback], logger=True, val_check_interval=1)
    assert sorted(p.stem for p in next(tmp_path.rglob("videos")).glob("*.png")) == ["batch_00000001", "batch_00000003"]
    assert callback.state_dict() == {"validations": 4}


def test_progress_is_whole_lines(fit, clips, tokenizer_module, capsys):
    fit(tokenizer_module({"gan": 0.0}), clips(3), callbacks=[LineProgress(seconds=0)], enable_progress_bar=True)
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[0].startswith("epoch 0 batch 1/3  ") and "loss" in lines[0] and "it/s" in lines[0]
    fit(
        tokenizer_module({"gan": 0.0}),
        clips(3),
        callbacks=[LineProgress(seconds=0)],
        enable_progress_bar=True,
        max_steps=2,
    )
    assert capsys.readouterr().err.splitlines()[1].startswith("step 2/2  epoch 0 batch 2/3  ")
    assert lines[-1].startswith("done after 3 steps") and all("\r" not in line for line in lines)


def test_progress_says_how_long_the_whole_run_will_take(capsys):
    clock, module = Clock(), type("M", (), {"run_length": lambda self: 100, "batches_seen": 40})()
    assert clock.left(module) == ""
    clock.tick()
    clock._last -= 120  # a batch of two minutes
    clock.tick()
    assert clock.left(module) == "2:00:00"
    clock.rest()
    clock.tick()  # after a pause, whose time is no batch's
    assert clock.left(module) == "2:00:00"
    module.batches_seen = 100
    assert clock.left(module) == "0:00:00"


def test_validation_has_lines_of_its_own(fit, clips, tokenizer_module, list_data, capsys):
    data = list_data(clips(1), val=clips(2))
    fit(tokenizer_module({"gan": 0.0}), data, callbacks=[LineProgress(seconds=0)], enable_progress_bar=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines if line.startswith("valid")] == [
        "validating batch 1/2",
        "validating batch 2/2",
    ]


@pytest.mark.parametrize("bad", [lambda: HealthMonitor(every=0), lambda: VideoLogger(num=0)])
def test_bad_counts_are_refused(bad):
    with pytest.raises(ValueError, match="at least 1"):
        bad()
