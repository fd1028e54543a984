"""The runner's numpy is the package's torch: resizing, noise, guidance; and it needs nothing else."""

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from videoar.bits import residual
from videoar.sampling import guidance
from videoar.sampling.draw import Noise
from videoar.serving import runner
from videoar.serving.sample import write_png

GRIDS = [(1, 1), (2, 3), (3, 4), (4, 4), (5, 8), (6, 6), (8, 8), (9, 16)]


@pytest.mark.parametrize("mode", ["area", "bilinear"])
@pytest.mark.parametrize("source", GRIDS)
@pytest.mark.parametrize("target", GRIDS)
def test_resize(source, target, mode):
    x = torch.randn(2, 3, *source, generator=torch.Generator().manual_seed(0))
    expected = residual.resize(x[:, :, None], target, mode)[:, :, 0]
    assert np.allclose(runner.resize(x.numpy(), target, mode), expected.numpy(), atol=2e-6)


@pytest.mark.parametrize("seed", [0, 7, 123_456, 2**32 - 1, 2**32 + 5])
def test_noise_is_the_samplers_to_the_bit(seed):
    ours, theirs = runner.Noise(seed, (13, 8)), Noise([seed], 13, 8, torch.device("cpu"))
    for _ in range(3):
        assert np.array_equal(ours.frame(), theirs.frame()[0].numpy())


@pytest.mark.parametrize("name", [*guidance.PAPER, 2.5])
@pytest.mark.parametrize("frames", [1, 5])
def test_guidance(name, frames):
    schedule = guidance.Guidance.of(name)
    fields = {"schedule": schedule.schedule, "start": schedule.start, "middle": schedule.middle, "end": schedule.end}
    for t in range(frames):
        for k in range(4):
            expected = guidance.guidance_scale(schedule, t, k, frames, 4)
            assert runner.guidance_scale(fields, t, k, frames, 4) == pytest.approx(expected)


def test_it_imports_numpy_and_onnxruntime_only():
    tree = ast.parse(Path(runner.__file__).read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in nodes if isinstance(n, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} - sys.stdlib_module_names == {"numpy", "onnxruntime"}


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"model\.json"):
        runner.Model(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        runner.Model(tmp_path)


def test_animated_png(tmp_path):
    from PIL import Image

    video = np.linspace(-1, 1, 3 * 4 * 2 * 5, dtype=np.float32).reshape(3, 4, 2, 5)
    write_png(tmp_path / "x.png", video, fps=8, zoom=2)
    with Image.open(tmp_path / "x.png") as image:
        assert (image.n_frames, image.size, image.info["duration"]) == (4, (10, 4), 125)
        image.seek(3)
        last = np.asarray(image.convert("RGB"))[::2, ::2]
    assert np.array_equal(last, ((video[:, 3] + 1) * 127.5).round().astype(np.uint8).transpose(1, 2, 0))
