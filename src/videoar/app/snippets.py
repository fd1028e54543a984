"""The command line and the Python that make what the page has made."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from videoar.app.studio import FPS, OVERLAP, SHOT, Asked
from videoar.data.files import IMAGE_SUFFIXES


def command_line(model: str, condition: str, asked: Asked) -> str:
    """`videoar sample …`.

    Args:
        condition: the model's kind: class, bytes, text or none.
    """
    words = ["videoar", "sample", "--model", model]
    if condition != "none" and asked.condition:
        words += ["--label" if condition == "class" else "--prompt", asked.condition]
    words += ["--num", str(asked.number), "--seed", str(asked.seed)]
    words += ["--guidance", asked.guidance, "--temperature", f"{asked.temperature:g}", "--fps", str(FPS)]
    extended = asked.frames > SHOT
    words += ["--frames", str(min(asked.frames, SHOT))]
    words += ["--seconds", f"{asked.frames / FPS:g}", "--context", str(OVERLAP)] if extended else []
    if asked.start is not None:
        option = "--image" if _is_image(asked.start) else "--video"
        words += [option, Path(asked.start).name]
        words += ["--context", str(OVERLAP)] if option == "--video" and not extended else []
    return shlex.join(words)


def python_code(model: str, asked: Asked) -> str:
    """A script."""
    guidance = asked.guidance if re.search("[a-z]", asked.guidance) else float(asked.guidance)
    frames = min(asked.frames, SHOT)
    lines = ["from videoar import VideoARPipeline"]
    given = ""
    if asked.start is not None:
        lines += [f"from videoar.gallery.start import {_start_function(asked.start)}"]
        given = ", prefix=start"
    if asked.frames > SHOT:
        lines += ["from videoar.data.writers import write_mp4", "from videoar.sampling.generate import extend"]
        lines += ["from videoar.sampling.request import Request", "import torch"]
    lines += ["", f"pipeline = VideoARPipeline.from_pretrained({model!r})"]
    if asked.start is not None:
        frames_given = "" if _is_image(asked.start) else f"{OVERLAP}, "
        arguments = f"{Path(asked.start).name!r}, {frames_given}pipeline.generator.config.size"
        lines += [f"start = {_start_function(asked.start)}({arguments})"]
    options = f"frames={frames}, seed={asked.seed}, guidance={guidance!r}, temperature={asked.temperature!r}{given}"
    condition = f"[{asked.condition!r}] * {asked.number}"
    if asked.frames > SHOT:
        lines += [
            f"asked = Request({condition}, size=pipeline.generator.config.size, {options})",
            "shots = extend(pipeline.generator, pipeline.tokenizer, asked, "
            f"seconds={asked.frames / FPS!r}, fps={FPS}, overlap={OVERLAP})",
            "video = torch.cat(list(shots), dim=2)",
            f"for i in range({asked.number}):",
            f'    write_mp4(f"sample_{{i}}.mp4", video[i], fps={FPS})',
        ]
    else:
        lines += [
            f"sample = pipeline({condition}, {options})",
            f"for i in range({asked.number}):",
            f'    sample.save(f"sample_{{i}}.mp4", i, fps={FPS})',
        ]
    return "\n".join(lines) + "\n"


def _start_function(path: str) -> str:
    return "start_with_image" if _is_image(path) else "start_with_video"


def _is_image(path: str) -> bool:
    return Path(path).suffix.lower() in IMAGE_SUFFIXES
