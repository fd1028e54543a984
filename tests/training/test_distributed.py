"""Two processes train and measure like one with the joint batch, and resume; tokenizer DDP, generator FSDP2."""

import json
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from videoar.data.writers import write_mp4
from videoar.metrics.features.atari import AtariFeatures
from videoar.tokenizer.model import TokenizerConfig, VideoTokenizer
from videoar.training.checkpoint import read_checkpoint

PROGRAM = Path(__file__).with_name("two_ranks.py")


@pytest.fixture(scope="module")
def program():
    spec = spec_from_file_location("two_ranks", PROGRAM)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tokenizer", "generator"])
def test_two_ranks_equal_one_process_with_the_joint_batch(kind, clips, tmp_path, program):
    torch.manual_seed(0)
    config = TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4)
    VideoTokenizer(config).save_pretrained(tmp_path / "tokenizer")
    AtariFeatures(["pong", "breakout"], width=4).save(tmp_path / "features", {})
    for batch in clips(6, frames=12, size=32):
        for video, name in zip(batch["video"], batch["caption"]):
            write_mp4(tmp_path / "clips" / name / f"{len(list(tmp_path.rglob('*.mp4')))}.mp4", video, fps=8)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PROGRAM), kind, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    two, start = (read_checkpoint(tmp_path / f"{name}.ckpt") for name in ("two", "one"))
    trainer = program.fit(kind, tmp_path, 2, tmp_path / "one.ckpt")
    trainer.save_checkpoint(tmp_path / "joint.ckpt")
    joint = read_checkpoint(tmp_path / "joint.ckpt")
    assert two["videoar"]["batches_seen"] == 2 and start["videoar"]["batches_seen"] == 1
    assert two["state_dict"].keys() == joint["state_dict"].keys() and two["ema"]["updates"] == 2
    for part in ("state_dict", "ema"):
        together, apart, before = (weights(content, part) for content in (joint, two, start))
        # of all weights together: AdamW makes whole steps of gradients that are nothing but round-off
        assert (together - apart).abs().mean() < 0.01 * (together - before).abs().mean()
    measured, expected = json.loads((tmp_path / "two.json").read_text()), program.logged(trainer)
    wanted = (
        {"val/rfvd", "val/psnr"} if kind == "tokenizer" else {"val/gfvd", "val/accuracy", "vbench/temporal_flickering"}
    )
    assert wanted <= measured.keys() == expected.keys()
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, rel=1e-2, abs=1e-3), name
    assert len(list(tmp_path.rglob("batch_*.png"))) <= 1


def weights(content, part):
    values = content[part]["weights"] if part == "ema" else content[part]
    return torch.cat([value.flatten().float() for _, value in sorted(values.items())])
