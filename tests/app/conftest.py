"""A small model, the page that shows it, and a browser where there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from videoar import GeneratorConfig, TokenizerConfig, VideoAR, VideoTokenizer
from videoar.data.writers import write_mp4

SIZE = (32, 48)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pair of two classes with random weights."""
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(TokenizerConfig(8, 8, (1, 1, 2), res_blocks=1, norm_groups=4))
    for parameter in tokenizer.decoder.parameters():
        if parameter.ndim == 5:
            parameter.data += torch.randn_like(parameter) * parameter.std()
    settings: dict[str, Any] = {"latent_dim": 8, "width": 32, "depth": 1, "heads": 2, "size": SIZE}
    settings |= {"num_classes": 2, "class_names": ("pong", "breakout")}
    generator = VideoAR(GeneratorConfig(**settings, tokenizer_fingerprint=tokenizer.fingerprint()))
    torch.nn.init.normal_(generator.head.weight, std=0.5)
    folder = tmp_path_factory.mktemp("model")
    for network in (generator, tokenizer):
        network.save_pretrained(folder / network.part)
    return folder


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of seven frames, wider than the model's."""
    coarse = torch.randn(1, 3, 7, 3, 4, generator=torch.Generator().manual_seed(0))
    path = tmp_path_factory.mktemp("clips") / "my clip.mp4"
    write_mp4(path, torch.nn.functional.interpolate(coarse, (7, 64, 96), mode="trilinear")[0].tanh(), fps=8)
    return path


@pytest.fixture(scope="session")
def address(model: Path) -> Iterator[str]:
    """Of the page, served in this process."""
    pytest.importorskip("gradio", reason="the app needs the extra app")
    from videoar.app.page import build, serve
    from videoar.app.studio import Studio

    page = build(Studio(str(model)))
    yield serve(page, port=None, wait=False)
    page.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium of this machine."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        program = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield program
        program.close()
