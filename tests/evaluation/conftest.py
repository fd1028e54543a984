"""Folders of videos to compare."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from videoar.data.writers import write_mp4


@pytest.fixture
def folder(tmp_path: Path, clip: Callable[..., Tensor]) -> Callable[..., Path]:
    """A folder of `count` short mp4 files."""

    def make(name: str, count: int = 3, seed: int = 0, noise: float = 0.0, **shape: object) -> Path:
        root = tmp_path / name
        videos = clip(batch=count, seed=seed, **shape)
        generator = torch.Generator().manual_seed(seed + 1)
        videos = (videos + noise * torch.randn(videos.shape, generator=generator)).clamp(-1, 1)
        for i, video in enumerate(videos):
            write_mp4(root / f"v{i:02}.mp4", video, fps=8, crf=4)
        return root

    return make
