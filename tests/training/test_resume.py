"""kill -9 at any batch, go on from the last checkpoint: same batches, same losses, same final weights, bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from videoar.data.writers import write_mp4
from videoar.tokenizer.model import TokenizerConfig, VideoTokenizer

PROGRAM = Path(__file__).with_name("small_run.py")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a few clips of two classes, and a tokenizer."""
    folder = tmp_path_factory.mktemp("resume")
    rng = torch.Generator().manual_seed(0)
    for i in range(8):
        coarse = torch.randn(1, 3, 12, 4, 4, generator=rng)
        video = torch.nn.functional.interpolate(coarse, (12, 32, 32), mode="trilinear")[0].tanh()
        write_mp4(folder / "clips" / ("pong", "breakout")[i % 2] / f"{i}.mp4", video, fps=8)
    torch.manual_seed(0)
    config = TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4)
    VideoTokenizer(config).save_pretrained(folder / "tokenizer")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, workers, kill_at, goes_on_at",
    [
        ("tokenizer", 0, 7, 5),  # the checkpoint lies inside an accumulation window, where the stage switches
        ("generator", 2, 4, 3),  # mid-epoch, before the stage switches
    ],
)
def test_killed_run_ends_like_the_one_that_was_not(place, kind, workers, kill_at, goes_on_at):
    folder = place / kind
    command = [sys.executable, str(PROGRAM), kind, str(folder), str(workers), str(kill_at)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    expected, resumed = (torch.load(folder / name / "result.pt") for name in ("whole", "killed"))
    assert sorted(expected["losses"]) == list(range(8))
    assert sorted(resumed["losses"]) == list(range(goes_on_at, 8))
    for batch, (loss, paths) in resumed["losses"].items():
        assert (loss, paths) == expected["losses"][batch]
    for part in ("weights", "ema"):
        assert expected[part].keys() == resumed[part].keys()
        for name, value in expected[part].items():
            assert torch.equal(value, resumed[part][name]), f"{part} {name}"
