"""Samples to measure: for a gFVD one for each real clip, of its class; for VBench several a prompt. A run that was
interrupted goes on."""

# B batch · T frames · H W pixels

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any

from videoar.data.files import atomic_path
from videoar.data.folders import class_in, folder_of_class
from videoar.data.writers import write_lossless
from videoar.errors import UserError
from videoar.evaluation.folders import VideoFolder
from videoar.evaluation.protocol import Protocol
from videoar.evaluation.vbench_folder import VBenchFolder
from videoar.gallery.folder import SETTINGS
from videoar.generator.model import VideoAR
from videoar.sampling.generate import generate_asked
from videoar.sampling.guidance import Guidance, default_guidance
from videoar.sampling.jobs import Job, in_batches
from videoar.sampling.request import Request
from videoar.tokenizer.model import VideoTokenizer

_FACTS = ("model", "generator", "tokenizer", "frames", "size", "seed", "guidance", "options", "temperature", "greedy")


@dataclass(frozen=True)
class SampleSettings:
    """How the videos are sampled; clip i of the real set (or sample i of a prompt) has the seed `seed` + i."""

    frames: int = 17
    size: tuple[int, int] = (128, 128)
    seed: int = 0
    guidance: float | str | None = None

    @property
    def request(self) -> Request:
        """What all videos have in common."""
        return Request((), self.frames, self.size, guidance=self.guidance)


def sample_like(
    real: VideoFolder,
    protocol: Protocol,
    folder: Path,
    models: tuple[VideoAR, VideoTokenizer],
    settings: SampleSettings,
    batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write `folder/<class>/sample_<seed>.mkv` for every real clip that the protocol takes; returns how many are new.

    A clip's class is the first folder of its path that the model knows as one. Samples that are there already are kept;
    the noise of a sample depends on its seed alone, so a run in pieces gives what one run gives, to round-off. Files
    hold the exact 8-bit pixels (FFV1): no lossy codec comes between the model and the metric.

    Raises:
        UserError: a model conditioned on text, a class it does not know, clips shorter than the protocol's, or a
            folder that holds other samples.
    """
    generator, tokenizer = models
    names = real.chosen(protocol)
    classes = _classes(generator, real, names)
    if settings.frames < (protocol.frames or 1):
        raise UserError(f"samples of {settings.frames} frames, but the protocol takes {protocol.frames}; use --frames")
    clips = {"count": len(names), "names": hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]}
    default = default_guidance(generator.config.condition) if settings.guidance is None else settings.guidance
    facts = {"generator": generator.fingerprint(), "tokenizer": tokenizer.fingerprint(), **asdict(settings)}
    facts |= {"size": list(settings.size), "guidance": default, "options": asdict(Guidance.of(default))}
    _check_folder(folder, facts | {"real_clips": clips})
    jobs: list[Job] = [(name, settings.seed + i) for i, name in enumerate(classes)]
    jobs = [job for job in jobs if not _file(folder, *job).exists()]
    done = 0
    for part, asked in in_batches(jobs, settings.request, batch):
        for job, video in zip(part, generate_asked(*models, asked).video):
            write_lossless(_file(folder, *job), video.float(), 8)
        done += len(part)
        if progress:
            progress(done, len(jobs))
    return len(jobs)


def sample_prompts(
    folder: VBenchFolder,
    models: tuple[VideoAR, VideoTokenizer],
    settings: SampleSettings,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the samples of all prompts that are not there yet, in VBench's layout; returns how many.

    Sample i of a prompt has the seed `settings.seed` + i.
    """
    pending = list(folder.pending())
    jobs: list[Job] = [(prompt.refined or prompt.text, settings.seed + index) for prompt, index in pending]
    for done, (place, (_, asked)) in enumerate(zip(pending, in_batches(jobs, settings.request, 1)), start=1):
        folder.write(*place, generate_asked(*models, asked).video[0].float())
        if progress:
            progress(done, len(jobs))
    return len(pending)


def _file(folder: Path, class_name: int | str | None, seed: int) -> Path:
    return folder / (folder_of_class(str(class_name)) if class_name is not None else "") / f"sample_{seed:06}.mkv"


def _classes(generator: VideoAR, real: VideoFolder, names: Sequence[str]) -> Sequence[str | None]:
    """The class of each real clip; None for an unconditional model."""
    if generator.config.condition == "none":
        return [None] * len(names)
    if generator.config.condition != "class":
        raise UserError("this model is conditioned on text: give --prompts, there are none in a folder of real clips")
    known = generator.config.class_names or ()
    classes = [(name, class_in(PurePath(name), known)) for name in names]
    if unknown := next((name for name, label in classes if label is None), None):
        raise UserError(f"{real.path / unknown} lies in no folder of a class that the model knows: {', '.join(known)}")
    return [label for _, label in classes]


def _check_folder(folder: Path, facts: dict[str, Any]) -> None:
    """Remember in the folder how its samples are made; refuse to mix them with others."""
    path = folder / SETTINGS
    if path.is_file():
        earlier = json.loads(path.read_text())
        changed = [f"{key} {earlier.get(key)} -> {value}" for key, value in facts.items() if earlier.get(key) != value]
        if changed:
            raise UserError(f"{folder} holds samples made otherwise ({'; '.join(changed)}); choose another folder")
        return
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} holds other files; choose another folder for the samples")
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n")


def read_settings(folder: Path) -> dict[str, Any] | None:
    """What `samples.json` says of the videos of a folder, for the protocol card; None without one."""
    path = folder / SETTINGS
    if not path.is_file():
        return None
    facts = json.loads(path.read_text())
    return {"samples": str(folder), **{key: facts[key] for key in _FACTS if key in facts}}
