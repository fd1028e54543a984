"""`predict` runs over whole files; what it writes is a data set that holds the same classes and captions."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch

from videoar.data.curriculum import Stage
from videoar.data.datamodule import Evaluation, MixedDataModule
from videoar.data.datasets import Reading
from videoar.data.folders import class_of_folder, folder_of_class
from videoar.data.items import Source
from videoar.data.latent_folder import LatentFolder
from videoar.data.latents import latent_captions, write_latent
from videoar.data.loader import Loading
from videoar.data.readers import open_video
from videoar.data.sources import index_source
from videoar.data.transforms import fit
from videoar.errors import UserError


@pytest.fixture
def clips(tmp_path, class_folder, encoder, frames) -> Path:
    """One clip of 24 frames, one of 9, one of 3, and one that cannot be read."""
    root = tmp_path / "clips"
    root.mkdir()
    shutil.copy(class_folder / "apple" / "clip0.mp4", root / "long.mp4")
    encoder(root / "nine.mp4", frames[:9])
    encoder(root / "short.mp4", frames[:3])
    (root / "text.mp4").write_text("no video")
    return root


def module(root: Path, **evaluation) -> MixedDataModule:
    return MixedDataModule(
        sources=[Source(str(root), holdout=0)],
        stage=Stage(resolution=32, frames=5, batch_size=3),
        reading=Reading(crop="random", flip=True),
        loading=Loading(workers=0, max_bad=1),
        evaluation=Evaluation(**evaluation),
    )


@pytest.mark.parametrize(
    ("every", "starts", "nine"),
    [(None, [0, 5, 10, 15], [0]), (8, [0, 8, 16], [0]), (2, [*range(0, 20, 2)], [0, 2, 4]), (0, [0], [0])],
)
def test_all_clips_of_all_files(clips, every, starts, nine, caplog):
    caplog.set_level(logging.INFO)
    data = module(clips, predict_every=every)
    seen, videos = [], []
    for batch in data.predict_dataloader():
        seen += [(Path(path).stem, first) for path, first in zip(batch["path"], batch["first_frame"], strict=True)]
        videos += list(batch["video"])
    assert sorted(seen) == [("long", first) for first in starts] + [("nine", first) for first in nine]
    assert "left out 1 files, too short for 5 frames: " in caplog.text and "short.mp4" in caplog.text
    assert "unreadable clip replaced" in caplog.text and "text.mp4" in caplog.text
    whole = open_video(clips / "long.mp4").get(range(24))
    for (name, first), video in zip(seen, videos, strict=True):
        if name == "long":  # its frames, neither cut nor mirrored at random
            assert torch.equal(video, fit(whole[first : first + 5], (32, 32)))


def test_a_class_is_a_folder_and_never_a_path(tmp_path):
    labels = ["a", "a/b", "a\\b", "../up", "/etc", ".", "..", ".hidden", "train", "Val", "50%", "50%2F", "猫 é"]
    folders = [folder_of_class(label) for label in labels]
    assert len(set(folders)) == len(labels) and not any("/" in name or name.startswith(".") for name in folders)
    assert [class_of_folder(name) for name in folders] == labels
    latents = LatentFolder(tmp_path / "latents", "abc")
    for label in labels:
        write_latent(latents.place("x/clip.mp4", label), torch.zeros(4, 1, 2, 2), tokenizer="abc")
    assert [path.name for path in tmp_path.iterdir()] == ["latents"]
    assert index_source(Source(str(tmp_path / "latents"))).class_names == tuple(sorted(labels))
    assert latents.report(5) == f"{len(labels)} clips of 5 frames from 1 files into {tmp_path / 'latents'}"


def test_latents_of_two_tokenizers_are_not_mixed(tmp_path):
    latents = LatentFolder(tmp_path, "abc")
    write_latent(latents.place("a.mp4", None), torch.zeros(4, 1, 2, 2), tokenizer="abc")
    again = LatentFolder(tmp_path, "abc")
    assert again.place("a.mp4", None, 17).name == latents.place("a.mp4", None).stem + "-000017.safetensors"
    assert again.report(5).endswith(f"from 1 files into {tmp_path}, beside 1 files of before")
    with pytest.raises(UserError, match="holds latents of tokenizer abc, this is xyz"):
        LatentFolder(tmp_path, "xyz")


def test_latents_bring_the_captions_of_their_clips(tmp_path):
    for name, caption in (("a", ["a ball", "ein Ball"]), ("b", "a cat"), ("c", "")):
        write_latent(tmp_path / "toys" / f"{name}.safetensors", torch.zeros(4, 2, 2, 2), caption)
    (tmp_path / "toys" / "b.txt").write_text("a better text")
    assert latent_captions(tmp_path / "toys" / "a.safetensors") == ("a ball", "ein Ball")
    data = module(tmp_path)
    seen = {(Path(p).stem, c) for b in data.train_dataloader() for p, c in zip(b["path"], b["caption"], strict=True)}
    assert seen == {("a", "a ball"), ("a", "ein Ball"), ("b", "a better text"), ("c", "toys")}
    shown = [c for b in data.val_dataloader() for c in b["caption"]]
    assert shown == ["a ball", "a better text", "toys"]
