"""The DataModule: batches as promised, faults replaced and counted, and resume at exactly the next batch."""

from __future__ import annotations

import gc
import io
import json
import logging
import os
import shutil
import signal
import tarfile
import time
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from videoar.data.curriculum import Stage
from videoar.data.datamodule import Evaluation, MixedDataModule
from videoar.data.datasets import Reading
from videoar.data.items import Source
from videoar.data.latents import write_latent
from videoar.data.loader import Loading
from videoar.data.prepare import check_folder
from videoar.errors import UserError

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*dirpath has changed.*"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
]
SMALL = {"resolution": 32, "frames": 5, "batch_size": 2}


def make(root: Path | None = None, stage: dict[str, Any] | None = None, **options: Any) -> MixedDataModule:
    loading = Loading(**{"workers": 0, "epoch_batches": 5, **options.pop("loading", {})})
    stages = options.pop("stages", None)
    one = None if stages else Stage(**{**SMALL, **(stage or {})})
    return MixedDataModule(str(root) if root else None, stage=one, stages=stages, loading=loading, **options)


def test_the_easy_path_needs_only_a_root(class_folder):
    data = MixedDataModule(str(class_folder), loading=Loading(workers=0))
    assert data.class_names == ("apple", "pear", "plum")
    assert data.num_classes == 3
    loader = data.train_dataloader()
    assert len(loader) == 50
    batch = next(iter(loader))
    assert set(batch) == {"video", "label", "caption", "path"}
    assert batch["video"].shape == (8, 3, 17, 128, 128)
    assert batch["video"].dtype == torch.float32
    assert -1 <= batch["video"].min() < batch["video"].max() <= 1
    assert [data.class_names[label] for label in batch["label"]] == batch["caption"]
    assert [Path(path).parent.name for path in batch["path"]] == batch["caption"]


def test_every_clip_is_seen_once_a_pass(class_folder):
    data = make(class_folder, {"batch_size": 11}, loading={"epoch_batches": 3})
    passes = [sorted(batch["path"]) for batch in data.train_dataloader()]
    assert passes[0] == passes[1] == passes[2]
    assert len(set(passes[0])) == 11  # 12 clips, one held out


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(class_folder, workers):
    alone = list(make(class_folder, reading=Reading(crop="random", flip=True)).train_dataloader())
    reading = Reading(crop="random", flip=True)
    many = list(make(class_folder, reading=reading, loading={"workers": workers}).train_dataloader())
    assert [batch["path"] for batch in alone] == [batch["path"] for batch in many]
    assert all(torch.equal(a["video"], b["video"]) for a, b in zip(alone, many))


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_cache_and_isolation_change_nothing(class_folder, backend):
    plain = list(make(class_folder, reading=Reading(backend)).train_dataloader())
    for reading in (Reading(backend, cache=True), Reading(backend, isolate=True)):
        other = list(make(class_folder, reading=reading).train_dataloader())
        assert [batch["path"] for batch in plain] == [batch["path"] for batch in other]
        assert all(torch.equal(a["video"], b["video"]) for a, b in zip(plain, other))


def test_the_cache_spares_the_decoder(class_folder, monkeypatch):
    data = make(class_folder, {"batch_size": 11}, reading=Reading(cache=True))
    loader = data.train_dataloader()
    first = list(loader)
    monkeypatch.setattr("videoar.data.decoding.open_video", lambda *_: pytest.fail("decoded again"))
    data.set_consumed(0)
    assert all(torch.equal(a["video"], b["video"]) for a, b in zip(first, loader))


def test_images_and_videos_mix_as_the_stage_says(class_folder, image_folder):
    sources = [Source(str(class_folder)), Source(str(image_folder))]
    stages = [
        Stage(until=4, image_share=0.5, resolution=32, frames=5, batch_size=2, image_batch_size=3),
        Stage(image_share=0.25, resolution=[48, 64], frames=9, stride=2, batch_size=1),
    ]
    data = make(sources=sources, stages=stages, loading={"epoch_batches": 12})
    shapes = [tuple(batch["video"].shape) for batch in data.train_dataloader()]
    assert sorted(shapes[:4]) == [(2, 3, 5, 32, 32)] * 2 + [(3, 3, 1, 32, 32)] * 2
    assert sorted(shapes[4:]) == [(1, 3, 1, 48, 64)] * 2 + [(1, 3, 9, 48, 64)] * 6
    assert data.ledger.drawn == {class_folder.name: 10, image_folder.name: 8}


def test_a_clip_of_the_papers_high_resolution(class_folder):
    stage = {"resolution": 512, "aspects": ["1:1", "16:9", "9:16"], "batch_size": 1}
    [batch] = make(class_folder, stage, loading={"epoch_batches": 1}).train_dataloader()
    assert batch["video"].shape == (1, 3, 5, 384, 672)


def test_aspect_buckets_take_the_clips_that_fit(tmp_path, class_folder, encoder, frames):
    for number in range(4):
        encoder(tmp_path / f"wide{number}.mp4", frames[:, :32])
        encoder(tmp_path / f"tall{number}.mp4", frames[:, :, :32])
    stage = {"resolution": 64, "aspects": ["16:9", "9:16"], "batch_size": 2}
    seen = set()
    for batch in make(tmp_path, stage, loading={"epoch_batches": 8}).train_dataloader():
        names = {Path(path).name[:4] for path in batch["path"]}
        assert len(names) == 1
        assert tuple(batch["video"].shape[-2:]) == ((48, 80) if names == {"wide"} else (80, 48))
        seen |= names
    assert seen == {"wide", "tall"}


def shard(path: Path, members: dict[str, bytes]) -> None:
    """A tar of WebDataset members."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_of_videos_and_images_with_captions(tmp_path, class_folder, image_folder, workers):
    for number, label in enumerate(("apple", "pear", "plum")):
        members: dict[str, bytes] = {}
        for file in sorted((class_folder / label).iterdir()):
            facts = {"frames": 24, "fps": 12, "width": 64, "height": 48, "caption": f"{label} {file.stem}"}
            members |= {f"{file.stem}.mp4": file.read_bytes(), f"{file.stem}.cls": label.encode()}
            members |= {f"{file.stem}.json": json.dumps(facts).encode()}
        shard(tmp_path / f"videos{number}.tar", members)
    pictures = sorted(image_folder.iterdir())
    members = {f"deep/{file.stem}.png": file.read_bytes() for file in pictures}
    shard(tmp_path / "images.tar", members | {f"deep/{file.stem}.txt": f"a {file.stem}".encode() for file in pictures})
    sources = [Source(f"{tmp_path}/videos*.tar", holdout=0), Source(f"{tmp_path}/images.tar", holdout=0)]
    stages = [Stage(image_share=0.5, resolution=48, aspects=["1:1", "4:3"], frames=5, batch_size=6)]
    data = make(sources=sources, stages=stages, loading={"workers": workers, "epoch_batches": 4})
    seen = {}
    for batch in data.train_dataloader():
        frames = batch["video"].shape[2]
        assert batch["video"].shape == (6, 3, frames, 32, 48)  # 64 x 48 is 4:3
        for path, caption, label in zip(batch["path"], batch["caption"], batch["label"].tolist()):
            seen[path] = (frames, caption, label)
    assert len(seen) == 18  # every video and every image once
    assert seen[f"{tmp_path}/videos1.tar/clip2.mp4"] == (5, "pear clip2", 1)
    assert seen[f"{tmp_path}/images.tar/deep/image3.png"] == (1, "a image3", -1)


def test_validation_clips_are_fixed_and_show_every_class(class_folder):
    sources = [Source(str(class_folder), holdout=0.5)]
    data = make(sources=sources, stage={"batch_size": 3}, evaluation=Evaluation(clips=4))
    one, two = (list(data.val_dataloader()) for _ in range(2))
    assert [len(batch["path"]) for batch in one] == [3, 1]
    assert len({Path(path).parent.name for path in one[0]["path"]}) == len(set(one[0]["caption"])) >= 2
    assert all(torch.equal(a["video"], b["video"]) for a, b in zip(one, two))
    train = {path for batch in data.train_dataloader() for path in batch["path"]}
    assert train.isdisjoint(path for batch in data.test_dataloader() for path in batch["path"])
    predicted = {path for batch in data.predict_dataloader() for path in batch["path"]}
    assert sorted(predicted) == sorted(item.path for item in data.indices[0].splits["train"])


def test_cached_latents_replace_pixels(tmp_path):
    for number in range(4):
        write_latent(tmp_path / "pong" / f"{number}.safetensors", torch.full((8, 5, 2, 2), float(number)))
    batch = next(iter(make(tmp_path, {"frames": 9, "batch_size": 3}).train_dataloader()))
    assert "video" not in batch
    assert batch["latent"].shape == (3, 8, 3, 2, 2)
    assert [int(latent.mean()) for latent in batch["latent"]] == [int(Path(path).stem) for path in batch["path"]]
    with pytest.raises(UserError, match=r"10 clips in a row cannot be used; the last one is .*5 latent frames"):
        next(iter(make(tmp_path, {"frames": 33}).train_dataloader()))


@pytest.fixture
def with_bad_files(tmp_path, class_folder) -> Path:
    """A copy of the class folder in which 3 of 15 training files cannot be read."""
    shutil.copytree(class_folder, tmp_path / "clips")
    (tmp_path / "clips" / "apple" / "empty.mp4").touch()
    (tmp_path / "clips" / "pear" / "text.mp4").write_text("no video")
    good = (class_folder / "plum" / "clip0.mp4").read_bytes()
    (tmp_path / "clips" / "plum" / "cut.mp4").write_bytes(good[:344])  # where FFmpeg knows a stream but no codec
    return tmp_path / "clips"


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_clips_are_replaced_counted_and_named(with_bad_files, workers, caplog):
    sources = [Source(str(with_bad_files), holdout=0)]
    loading = {"max_bad": 0.5, "workers": workers, "epoch_batches": 6}
    runs = []
    for _ in range(2):
        data = make(sources=sources, stage={"batch_size": 5}, loading=loading)
        runs.append([batch["path"] for batch in data.train_dataloader()])
    assert runs[0] == runs[1]
    assert {Path(path).name for path in data.ledger.bad} == {"empty.mp4", "text.mp4", "cut.mp4"}
    assert data.ledger.samples == 30
    assert data.ledger.replaced == 6  # 3 of 15 files, seen twice
    assert not {path for batch in runs[0] for path in batch} & data.ledger.bad.keys()
    assert "empty.mp4: the file is empty" in caplog.text


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_faults_stop_the_run(with_bad_files, workers):
    sources = [Source(str(with_bad_files), holdout=0)]
    data = make(sources=sources, stage={"batch_size": 5}, loading={"workers": workers, "epoch_batches": 20})
    with pytest.raises(UserError, match=r"of \d+ samples could not be read, more than max_bad 5%; the last one is"):
        list(data.train_dataloader())


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_but_bad_files_is_one_line(tmp_path, workers):
    for number in range(3):
        (tmp_path / f"{number}.mp4").write_text("no video")
    data = make(tmp_path, loading={"workers": workers})
    with pytest.raises(UserError, match=r"^10 clips in a row cannot be used; the last one is .*mp4: not a video"):
        list(data.train_dataloader())


@pytest.mark.parametrize(
    ("fate", "message"),
    [
        (lambda: time.sleep(60), "no batch within 1 s: a decoder hangs"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "a loader worker died"),
    ],
)
def test_a_worker_that_hangs_or_dies_ends_the_run_with_advice(class_folder, monkeypatch, fate, message):
    monkeypatch.setattr("videoar.data.datasets.ClipDecoder.clip", lambda *_: fate())
    data = make(class_folder, loading={"workers": 1, "timeout": 1.0})
    with pytest.raises(UserError, match=f"{message}.*`videoar data check`"):
        next(iter(data.train_dataloader()))


def test_workers_end_with_their_loader(class_folder, tmp_path):
    """Not with a collection of garbage, where torch waits 5 s for each."""
    before = set(active_children())
    gc.disable()
    try:
        batches = iter(make(class_folder, loading={"workers": 1}).train_dataloader())
        next(batches)
        assert set(active_children()) > before
        del batches
        assert set(active_children()) <= before
        train(class_folder, tmp_path, 3, workers=1)
        assert set(active_children()) <= before
    finally:
        gc.enable()


def test_clips_that_are_too_short(class_folder, tmp_path):
    with pytest.raises(UserError, match=r"clip\d\.mp4: 24 frames; 25 at stride 1 need 25"):
        next(iter(make(class_folder, {"frames": 25}).train_dataloader()))
    shutil.copytree(class_folder, tmp_path / "clips")
    check_folder(tmp_path / "clips", workers=1)
    with pytest.raises(UserError, match=r"every clip is too short; the longest, .* has 24 frames, and 13 at stride 2"):
        make(tmp_path / "clips", {"frames": 13, "stride": 2}).train_dataloader().plan(0)


def test_validation_leaves_out_clips_that_are_too_short_for_a_stage(tmp_path, encoder, frames):
    for number in range(30):
        encoder(tmp_path / "val" / "a" / f"{number:02}.mp4", frames[: 24 if number % 3 else 8])
    for number in range(2):
        encoder(tmp_path / "train" / "a" / f"{number}.mp4", frames)
    check_folder(tmp_path, workers=1)
    stages = [Stage(until=5, **SMALL), Stage(resolution=32, frames=17, batch_size=4)]
    data = make(sources=[Source(str(tmp_path))], stages=stages, evaluation=Evaluation(clips=None))
    seen = [path for batch in data.val_dataloader() for path in batch["path"]]
    assert len(seen) == len(set(seen)) == 20  # with the ten others max_bad would end the run


@pytest.mark.parametrize("count", [1, 5, 33, 65])
def test_clips_of_any_length(tmp_path, encoder, frames, count):
    encoder(tmp_path / "long.mp4", np.concatenate([frames] * 3)[:66])
    batch = next(iter(make(tmp_path, {"frames": count, "batch_size": 1}).train_dataloader()))
    assert batch["video"].shape == (1, 3, count, 32, 32)


def test_contradictions_are_errors(class_folder, tmp_path):
    with pytest.raises(UserError, match=r"either data\.root"):
        MixedDataModule()
    with pytest.raises(UserError, match=r"either data\.root"):
        MixedDataModule("a", sources=[Source("b")])
    write_latent(tmp_path / "a.safetensors", torch.zeros(4, 1, 1, 1))
    with pytest.raises(UserError, match="cached latents cannot be mixed with pixels"):
        _ = make(sources=[Source(str(class_folder)), Source(str(tmp_path))]).class_names
    with pytest.raises(UserError, match="workers must be a whole number from 0 to 1,024"):
        Loading(workers=-1)
    with pytest.raises(UserError, match="max_bad must be a number from 0 to 1, got 2"):
        Loading(max_bad=2)


class Recorder(lightning.LightningModule):
    """Writes down what it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[Any, ...]] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        video = batch["video"]
        self.seen.append((tuple(video.shape), tuple(batch["path"]), video.double().sum().item()))
        return self.weight * video.mean()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        assert batch["video"].dtype == torch.float32

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


STAGES = [Stage(until=7, **SMALL), Stage(resolution=48, frames=9, batch_size=3)]  # the switch is mid-epoch


def train(root: Path, out: Path, steps: int, workers: int = 0, ckpt: Path | None = None, **trainer: Any) -> Recorder:
    module = Recorder()
    keep = ModelCheckpoint(out, filename="{step}", save_top_k=-1, every_n_train_steps=1)
    options = {"max_steps": steps, "accelerator": "cpu", "logger": False, "callbacks": [keep]}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    data = make(root, stages=STAGES, loading={"workers": workers}, reading=Reading(crop="random"))
    lightning.Trainer(**{**options, **quiet, **trainer}).fit(module, data, ckpt_path=ckpt)
    return module


@pytest.fixture(scope="module")
def whole_run(class_folder, tmp_path_factory) -> tuple[list[tuple[Any, ...]], Path]:
    """17 batches in epochs of 5, never interrupted, with a checkpoint after each."""
    out = tmp_path_factory.mktemp("checkpoints")
    return train(class_folder, out, 17).seen, out


@pytest.mark.filterwarnings("error:.*dataloader is not resumable.*")
@pytest.mark.parametrize(("after", "workers"), [(1, 0), (5, 0), (6, 2), (7, 0), (9, 2), (10, 0), (13, 1), (15, 2)])
def test_fit_goes_on_with_exactly_the_next_batch(class_folder, whole_run, tmp_path, after, workers):
    seen, out = whole_run
    assert len(seen) == 17
    assert [shape[2] for shape, _, _ in seen] == [5] * 7 + [9] * 10
    assert train(class_folder, tmp_path, 17, workers, out / f"step={after}.ckpt").seen == seen[after:]


def test_resume_survives_shorter_epochs_and_validation(class_folder, tmp_path):
    short = {"limit_train_batches": 3, "val_check_interval": 2, "limit_val_batches": 1}
    seen = train(class_folder, tmp_path / "a", 11, **short).seen
    assert len({path for _, path, _ in seen}) > 8
    for after in (2, 4, 6, 7):
        ckpt = tmp_path / "a" / f"step={after}.ckpt"
        assert train(class_folder, tmp_path / "b", 11, 0, ckpt, **short).seen == seen[after:]


def test_position_counts_what_was_handed_out_not_what_was_prefetched(class_folder):
    data = make(class_folder, loading={"workers": 2, "prefetch": 3})
    loader = data.train_dataloader()
    batches = iter(loader)
    first = [next(batches)["path"] for _ in range(2)]
    ledger = {"samples": 4, "replaced": 0, "drawn": {class_folder.name: 4}}
    saved = data.state_dict()
    assert saved == {"consumed": 2, "seed": 0, "world": 1, "ledger": ledger}
    third = next(batches)["path"]
    again = make(class_folder)
    again.load_state_dict(saved)
    assert next(iter(again.train_dataloader()))["path"] == third
    assert again.ledger.drawn == {class_folder.name: 6}  # the mixture goes on being counted
    again.set_consumed(0)
    assert [batch["path"] for batch in again.train_dataloader()][:3] == [*first, third]
    with pytest.raises(ValueError, match="at least 0, got -1"):
        again.set_consumed(-1)


def test_overfit_batches_trains_on_the_same_clips_again_and_again(class_folder, tmp_path):
    seen = train(class_folder, tmp_path, 9, overfit_batches=2).seen  # STAGES switch at batch 7
    assert seen == (seen[:2] * 5)[:9] and seen[0] != seen[1]
    assert train(class_folder, tmp_path / "b", 9, 0, tmp_path / "step=5.ckpt", overfit_batches=2).seen == seen[5:]


def test_a_run_that_ends_before_a_stage_is_warned_of(class_folder, caplog):
    stages = [Stage(until=5, image_share=1, **SMALL), Stage(until=9, **SMALL), Stage(frames=17, resolution=32)]
    data = make(class_folder, stages=stages)
    data.check_length(10)
    assert not caplog.records
    data.check_length(5)
    assert "ends at batch 5 and never reaches stages 2 to 3 of 3, which begins at batch 5" in caplog.text
    assert "clips of 17 frames: it trains on images alone" in caplog.text
    caplog.clear()
    data.check_length(9)
    assert "never reaches stage 3 of 3, which begins at batch 9; the last one has clips of 17 frames" in caplog.text
    assert "images alone" not in caplog.text


def test_clips_and_classes_that_are_too_short_for_a_stage_are_counted_once(tmp_path, encoder, frames, caplog):
    for name, count in (("a/1", 24), ("a/2", 8), ("b/1", 8), ("c/1", 24)):
        encoder(tmp_path / f"{name}.mp4", frames[:count])
    check_folder(tmp_path, workers=1)
    stages = [Stage(until=5, **SMALL), Stage(resolution=32, frames=17, batch_size=2)]
    data = make(sources=[Source(str(tmp_path), holdout=0)], stages=stages)
    for _ in range(2):
        data.train_dataloader()
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    left = "left out 2 of 4 clips, too short for 17 frames at stride 1; no clip is left of 1 classes: b"
    assert said == [f"stage 2: {tmp_path}: {left}"]


def test_printing_tells_what_is_in_it(class_folder, image_folder):
    stages = [Stage(until=4, image_share=0.5, **SMALL), Stage(resolution=32, frames=9, batch_size=1)]
    data = make(sources=[Source(str(class_folder), holdout=0.25), Source(str(image_folder))], stages=stages)
    assert str(data).splitlines() == [
        "MixedDataModule",
        f"  {class_folder}: video clips (9 train, 3 val, 3 test), 3 classes (apple, pear, plum), 0 captions",
        f"  {image_folder}: image clips (5 train, 1 val, 1 test), no classes, 0 captions",
        "  stage 1 of 2 from batch 0: 32x32, 5 frames, stride 1, 50% image batches, 2 clips or 2 images",
        "  stage 2 of 2 from batch 4: 32x32, 9 frames, stride 1, 0% image batches, 1 clips or 1 images",
        "  epochs of 5 batches, 0 workers, seed 0",
        "  validation: 64 clips; prediction: the train split",
    ]


@pytest.fixture
def flat(tmp_path, class_folder) -> Path:
    """A flat folder of four clips."""
    for number, file in enumerate(sorted((class_folder / "apple").iterdir())):
        shutil.copy(file, tmp_path / f"{number}.mp4")
    return tmp_path


def test_what_a_condition_learns_from_must_be_there(flat, class_folder, caplog):
    for condition, what in (("class", "classes"), ("bytes", "captions"), ("text", "captions")):
        with pytest.raises(UserError, match=f"{condition} needs {what}, and none of 3 clips has one; .*none"):
            make(flat).check_condition(condition)
    make(flat).check_condition("none")
    make(class_folder).check_condition("class")
    make(class_folder).check_condition("bytes")  # the names of classes are captions
    assert not caplog.records
    (flat / "0.txt").write_text("a ball")
    data = make(sources=[Source(str(flat), holdout=0)])
    with pytest.raises(UserError, match="`bytes` or `text` learns from captions"):
        data.check_condition("class")
    data.check_condition("bytes")
    assert "3 of 4 clips have no caption and train the null condition" in caplog.text


def test_captions_of_latents_count(tmp_path):
    write_latent(tmp_path / "a.safetensors", torch.zeros(4, 1, 1, 1), "a ball")
    make(tmp_path).check_condition("bytes")


class Rank:
    """What the data module reads of a Trainer with several processes."""

    def __init__(self, rank: int, world: int) -> None:
        self.global_rank, self.world_size = rank, world
        self.state = type("State", (), {"fn": "validate"})


@pytest.mark.parametrize("world", [2, 3, 7])
def test_every_rank_validates_equally_many_batches(class_folder, world):
    sources = [Source(str(class_folder), holdout=0.25)]  # 3 clips
    paths = []
    for rank in range(world):
        data = make(sources=sources, evaluation=Evaluation(clips=None, batch_size=1))
        data.trainer = Rank(rank, world)
        paths.append([path for batch in data.val_dataloader() for path in batch["path"]])
    assert {len(own) for own in paths} == {-(-3 // world)}
    assert len({path for own in paths for path in own}) == 3


def test_another_seed_or_world_on_resume_is_said(class_folder, caplog):
    make(class_folder, loading={"seed": 3}).load_state_dict({"consumed": 2, "seed": 0, "world": 2, "ledger": {}})
    assert "data seed was 0, now 3" in caplog.text
    assert "data world was 2, now 1" in caplog.text


def test_mixture_is_logged(class_folder, image_folder, tmp_path):
    class Log(lightning.pytorch.loggers.CSVLogger):
        rows: list[dict[str, float]] = []  # noqa: RUF012

        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            self.rows.append(metrics | {"step": step})

    stage = Stage(image_share=0.5, **SMALL)
    data = make(sources=[Source(str(class_folder)), Source(str(image_folder))], stages=[stage])
    trainer = lightning.Trainer(
        max_steps=4,
        accelerator="cpu",
        logger=Log(tmp_path),
        log_every_n_steps=2,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(Recorder(), data)
    rows = [row for row in Log.rows if "data/stage" in row]
    assert rows[-1][f"data/share/{image_folder.name}"] == 0.5, "the tag names no folder above"
    assert [row["step"] for row in rows] == [1, 3]
    assert rows[-1]["data/stage"] == 1.0
    assert rows[-1]["data/unreadable_files"] == 0.0
