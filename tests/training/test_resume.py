"""kill -9 at any batch, go on from the last checkpoint: same batches, same losses, same final weights, bit for bit."""

import os
import random
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


# Where a run is killed, and the batch it must go on with (None: whichever its last checkpoint says).
POINTS: dict[str, dict[str, int | None]] = {
    # the checkpoint lies inside an accumulation window, where the stage switches
    "tokenizer": {"start@7": 5, "validation@5": None, "30000@4": None},
    "generator": {"start@4": 3, "replace@4": 3, "9000@1": 0},  # mid-epoch, before the stage switches
}
RUNS = [("tokenizer", 0), ("generator", 2)]
if KILLS := int(os.environ.get("VIDEOAR_KILLS", "0")):  # 30: the long form
    RUNS += [("tokenizer", 2), ("generator", 0)]
for kind, points in POINTS.items():
    draw = random.Random(kind)
    for _ in range(KILLS):
        how = draw.choice(["start", "end", "validation", "fsync", "replace", str(draw.randrange(100, 60_000))])
        batch = 5 if how == "validation" else draw.randrange(7) if how in ("start", "end") else draw.randrange(1, 5)
        points.setdefault(f"{how}@{batch}")


@pytest.mark.slow
@pytest.mark.parametrize("kind, workers", RUNS)
def test_killed_run_ends_like_the_one_that_was_not(place, kind, workers):
    folder = place / f"{kind}{workers}"
    command = [sys.executable, str(PROGRAM), kind, str(folder), str(workers), *POINTS[kind]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300 * (1 + len(POINTS[kind]))
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    expected = torch.load(folder / "whole" / "result.pt")
    assert sorted(expected["losses"]) == list(range(8))
    for point, goes_on_at in POINTS[kind].items():
        resumed = torch.load(folder / point / "result.pt")
        first = min(resumed["losses"]) if goes_on_at is None else goes_on_at
        assert first <= int(point.partition("@")[2]) + 1
        assert sorted(resumed["losses"]) == list(range(first, 8)), point
        for batch, (loss, paths) in resumed["losses"].items():
            assert (loss, paths) == expected["losses"][batch], point
        for part in ("weights", "ema"):
            assert expected[part].keys() == resumed[part].keys()
            for name, value in expected[part].items():
                assert torch.equal(value, resumed[part][name]), f"{point} {part} {name}"
