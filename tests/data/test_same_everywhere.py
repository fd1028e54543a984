"""The same list of files through what `fit`, `evaluate`, `reconstruct` and `data check` read: the same frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numbered import MATRIX, encode, in_order, numbers_of
from test_numbered import CORE

from videoar import TokenizerConfig, VideoTokenizer
from videoar.cli.main import main
from videoar.data.curriculum import Stage
from videoar.data.datamodule import MixedDataModule
from videoar.data.datasets import Reading
from videoar.data.items import Source
from videoar.data.loader import Loading
from videoar.data.prepare import check_files
from videoar.data.readers import iterate
from videoar.evaluation.clips import read_clip
from videoar.evaluation.folders import VideoFolder
from videoar.evaluation.protocol import Protocol

FRAMES = 5
NAMES = tuple(name for name in CORE if name != "palette.gif")  # evaluate takes the video beside a GIF of its name


@pytest.fixture(scope="module")
def truth(tmp_path_factory) -> dict[Path, list[int]]:
    """What each file's frames say, decoded from the start."""
    folder = tmp_path_factory.mktemp("same")
    files = [encode(folder, clip) for clip in MATRIX if clip.name in NAMES]
    return {file: in_order(file) for file in files}


def said(video: torch.Tensor) -> list[int]:
    """The numbers in a video [3, T, H, W] in [-1, 1]."""
    return numbers_of(np.asarray((video.permute(1, 2, 3, 0) + 1) * 127.5))


def is_part(numbers: list[int], whole: list[int]) -> bool:
    """Whether the numbers follow each other in the file."""
    return any(numbers == whole[start : start + len(numbers)] for start in range(len(whole)))


@pytest.mark.parametrize("backend", ["pyav", "decord"])
def test_what_fit_trains_on(truth, backend):
    if backend == "decord":
        pytest.importorskip("decord")
    folder = next(iter(truth)).parent
    data = MixedDataModule(
        sources=[Source(str(folder), holdout=0)],
        stage=Stage(resolution=[48, 64], frames=FRAMES, batch_size=1),
        loading=Loading(workers=0, epoch_batches=3 * len(truth)),
        reading=Reading(backend=backend),
    )
    seen = set()
    for batch in data.train_dataloader():
        (path,), video = batch["path"], batch["video"][0]
        assert is_part(said(video), truth[Path(path)]), path
        seen.add(Path(path))
    assert seen == truth.keys() and not data.ledger.bad


@pytest.mark.parametrize("start", ["first", "centre", "random"])
def test_what_evaluate_measures(truth, start):
    folder = VideoFolder(next(iter(truth)).parent)
    assert set(folder.names) == {file.name for file in truth}
    protocol = Protocol("own", frames=FRAMES, stride=2, start=start)
    for name in folder.names:
        numbers = said(read_clip(folder, name, protocol, True, "pyav").video[0])
        assert is_part(numbers, truth[folder.path / name][::2]) or is_part(numbers, truth[folder.path / name][1::2])


def test_what_reconstruct_rebuilds(truth, tmp_path):
    torch.manual_seed(0)
    config = TokenizerConfig(8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4)
    VideoTokenizer(config).save_pretrained(tmp_path / "model")
    for file, numbers in truth.items():
        out = tmp_path / f"{file.name}.mp4"
        model = ["--model", str(tmp_path / "model"), "--side-by-side", "--frames=9"]
        assert main(["reconstruct", str(file), str(out), *model]) == 0
        left = [np.asarray(frame)[:, :64] for frame in iterate(out)]
        assert numbers_of(left) == numbers[:9], file.name


def test_what_the_check_writes_down(truth):
    folder = next(iter(truth)).parent
    good, bad = check_files(folder, workers=1)
    assert not bad and {folder / row.path: row.frames for row in good} == {f: len(n) for f, n in truth.items()}
