"""A disk that is full or read-only: every writing command ends with one line and 2, and what was there stays whole."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from videoar import GeneratorConfig, TokenizerConfig, VideoAR, VideoTokenizer
from videoar.cli.main import main
from videoar.data.latents import write_latent
from videoar.data.writers import write_mp4
from videoar.errors import UserError
from videoar.training.checkpoint_io import SafeCheckpointIO

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and capabilities are Linux's")
CONFIGS = Path(__file__).parents[2] / "configs"
OLD = "of before\n"
JOBS = {
    "sample": (["sample", "--model", "model", "--frames=5", "--size=16", "--num=2", "--grid", "--out", "out"], ""),
    "reconstruct": (["reconstruct", "clips/0.mp4", "out/old.mp4", "--model", "model"], "old.mp4"),
    "metrics": (["reconstruct", "clips/0.mp4", "new.mp4", "--model=model", "--metrics=out/old.json"], "old.json"),
    "evaluate": (["evaluate", "--real", "clips", "--fake", "clips", "--metrics=psnr", "--out", "out"], "metrics.json"),
    "generate": (["evaluate", "--real", "clips", "--generate", "model", "--frames=5", "--fake", "out/new"], ""),
    "sweep": (["sweep", "configs/sweeps/debug.yaml", "--out", "out/sweep"], ""),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A tiny model and clips that are larger than the disk will be."""
    folder = tmp_path_factory.mktemp("full")
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(TokenizerConfig(8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4))
    tokenizer.save_pretrained(folder / "model" / "tokenizer")
    config = GeneratorConfig(
        8, 32, 1, 2, condition="none", size=(16, 16), tokenizer_fingerprint=tokenizer.fingerprint()
    )
    VideoAR(config).save_pretrained(folder / "model" / "generator")
    for number in range(2):
        write_mp4(folder / "clips" / f"{number}.mp4", torch.rand(3, 9, 32, 32) * 2 - 1, 8)
    return folder


def full() -> None:
    """No file of this process may be larger than 300 bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))


def read_only() -> None:
    """The folder `out` is read-only; give up the right to write there all the same, which root has."""
    os.chmod("out", 0o555)
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    ctypes.CDLL(None).capset(header, none)


def child(place: Path, folder: Path, harm: Callable[[], None], words: list[str], said: int) -> None:
    os.chdir(folder)
    for target in (place / "model", place / "clips", CONFIGS):
        Path(target.name).symlink_to(target)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    for stream in (1, 2):
        os.dup2(said, stream)
    sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    harm()
    os._exit(main(words))


@pytest.mark.parametrize("name, harm", [(n, h) for n in JOBS for h in (full, read_only) if (n, h) != ("metrics", full)])
def test_a_disk_that_cannot_be_written_to_is_one_line(place, tmp_path, name, harm):
    words, old = JOBS[name]
    (tmp_path / "out").mkdir()
    if old:
        (tmp_path / "out" / old).write_text(OLD)
    before = sorted((tmp_path / "out").rglob("*"))
    read, write = os.pipe()
    job = get_context("fork").Process(target=child, args=(place, tmp_path, harm, words, write))
    job.start()
    os.close(write)
    job.join(120)
    job.kill()
    with os.fdopen(read) as pipe:
        said = pipe.read()
    errors = [line for line in said.splitlines() if "error" in line]
    assert job.exitcode == 2 and len(errors) == 1 and "Traceback" not in said, said
    assert "cannot write out" in errors[0] and "what was there before is untouched" in errors[0], said
    after = {path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert after >= {*before} and not [path for path in after if ".part" in path.name]
    assert not old or (tmp_path / "out" / old).read_text() == OLD


@pytest.mark.parametrize("save", ["model", "latent", "state"])
def test_safetensors_on_a_full_disk_leave_the_old_file(tmp_path, save):
    """The library raises an error of its own, which names no file."""
    torch.manual_seed(0)
    small, large = (TokenizerConfig(8, channels=c, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4) for c in (4, 16))
    write = {
        "model": lambda config: VideoTokenizer(config).save_pretrained(tmp_path / "m"),
        "latent": lambda config: write_latent(
            tmp_path / "m" / "a.safetensors", torch.zeros(config.channels, 1, 99, 99)
        ),
        "state": lambda config: SafeCheckpointIO().save_checkpoint(
            {"state_dict": VideoTokenizer(config).state_dict()}, tmp_path / "m" / "a.ckpt"
        ),
    }[save]
    write(small)
    before = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    size = max(map(len, before.values()))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, hard))
    try:
        with pytest.raises(UserError, match=r"cannot write .*; what was there before is untouched"):
            write(large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()} == before
