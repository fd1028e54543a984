"""The app as a folder that can be pushed to a Hugging Face Space, or run anywhere with `python app.py`."""

from __future__ import annotations

import shutil
from pathlib import Path

import videoar
from videoar.files import atomic_folder
from videoar.pipeline import VideoARPipeline

README = """\
---
title: VideoAR
emoji: 🎞️
colorFrom: indigo
colorTo: purple
sdk: gradio
sdk_version: {gradio}
app_file: app.py
license: apache-2.0
---

Autoregressive video generation by next-frame and next-scale prediction (arXiv 2601.05966), in the browser.
"""
APP = """\
from videoar.app.page import build, serve
from videoar.app.studio import Studio

if __name__ == "__main__":
    serve(build(Studio("model")), host="0.0.0.0", port=7860)
"""


def write_space(model: str, out: str | Path) -> Path:
    """Write the folder `out`: app.py, requirements.txt, README.md, the package and the model.

    Raises:
        UserError: `out` exists, or there is no such model.
    """
    import gradio

    pipeline = VideoARPipeline.from_pretrained(model)
    with atomic_folder(out) as folder:
        pipeline.save_pretrained(folder / "model")
        unused = shutil.ignore_patterns("__pycache__", "assets", "configs")
        shutil.copytree(Path(videoar.__file__).parent, folder / "videoar", ignore=unused)
        (folder / "app.py").write_text(APP)
        (folder / "README.md").write_text(README.format(gradio=gradio.__version__), encoding="utf-8")
        (folder / "requirements.txt").write_text("\n".join(_requirements()) + "\n")
    return Path(out)


def _requirements() -> list[str]:
    """What the package itself asks for; Spaces bring Gradio."""
    from importlib.metadata import requires

    return [line.split(";")[0].strip() for line in requires("videoar") or [] if "extra ==" not in line]
