"""Two processes train like one with the joint batch, and resume; DDP for the tokenizer, FSDP2 for the generator."""

import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from videoar.tokenizer.model import TokenizerConfig, VideoTokenizer
from videoar.training.checkpoint_io import read_checkpoint

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
    torch.save(
        [{key: batch[key] for key in ("video", "label")} for batch in clips(2, batch=4)], tmp_path / "batches.pt"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PROGRAM), kind, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    two, start = (read_checkpoint(tmp_path / f"{name}.ckpt") for name in ("two", "one"))
    trainer = program.fit(kind, tmp_path, 2)
    trainer.save_checkpoint(tmp_path / "joint.ckpt")
    joint = read_checkpoint(tmp_path / "joint.ckpt")
    assert two["videoar"]["batches_seen"] == 2 and start["videoar"]["batches_seen"] == 1
    assert two["state_dict"].keys() == joint["state_dict"].keys() and two["ema"]["updates"] == 2
    for part in ("state_dict", "ema"):
        together, apart, before = (weights(content, part) for content in (joint, two, start))
        # of all weights together: AdamW makes whole steps of gradients that are nothing but round-off
        assert (together - apart).abs().mean() < 0.01 * (together - before).abs().mean()


def weights(content, part):
    values = content[part]["weights"] if part == "ema" else content[part]
    return torch.cat([value.flatten().float() for _, value in sorted(values.items())])
