"""Checkpoints side by side: the same clips and seeds through several models, as pictures and numbers.

Written into one folder:

    clips.png    real | each model's reconstruction | its sample of the clip's class or caption
    clips.gif    real clips above each model's samples, a class or caption a column
    scales.png   each model's sample, decoded from its first k scales only
    worst.png    the clips with the lowest PSNR, real | each model's reconstruction
    seeds.png    a row a model and condition, a column a seed; seeds.gif moves
    compare.json PSNR of every clip, and how everything was made
"""

# N clips · T frames · H W pixels · K scales

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videoar.bits.residual import decode_bits
from videoar.data.files import atomic_path
from videoar.data.items import short_names
from videoar.data.sheets import contact_sheet, moving_grid
from videoar.data.writers import write_gif, write_png
from videoar.errors import UserError
from videoar.evaluation.examples import Clips, read_clips
from videoar.evaluation.models import DEFAULT_SIZE, ModelTwin, load_twin
from videoar.evaluation.plan import Progress
from videoar.generator.conditioning import batch_condition
from videoar.metrics.pixels import frame_psnr
from videoar.sampling.generate import Sample, generate_asked
from videoar.sampling.guidance import Guidance
from videoar.sampling.request import Request

log = logging.getLogger(__name__)


@dataclass
class Comparison:
    """Models and clips, and what has been made of them; every sample is made once.

    Attributes:
        models: by name; those without a generator are only shown reconstructing.
        clips: the first `shown` of them are sampled and shown, all are measured.
        guidance: as in `generate`. seed: of the first clip's sample; clip i has seed + i.
    """

    models: Mapping[str, ModelTwin]
    clips: Clips
    shown: int = 4
    seed: int = 0
    guidance: Guidance | float | str | None = None
    progress: Progress | None = None
    _samples: dict[tuple[str, tuple[int, ...]], Sample] = field(default_factory=dict)

    @property
    def generators(self) -> list[str]:
        """The models that sample."""
        return [name for name, twin in self.models.items() if twin.generator is not None]

    @cached_property
    def rebuilt(self) -> dict[str, Tensor]:
        """Every model's reconstructions of all clips, [N, 3, T, H, W]."""
        made: dict[str, list[Tensor]] = {name: [] for name in self.models}
        for number, (name, twin) in enumerate(self.models.items()):
            for clip in self.clips.video.split(1):
                made[name].append(twin.tokenizer.reconstruct(clip.to(_device(twin))).float().cpu())
                self._tell("reconstructing", number * len(self.clips.items) + len(made[name]), len(self.models))
        return {name: torch.cat(clips) for name, clips in made.items()}

    @cached_property
    def psnr(self) -> dict[str, list[float]]:
        """Mean PSNR of each clip's frames in dB, by model."""
        return {name: frame_psnr(video, self.clips.video).mean(1).tolist() for name, video in self.rebuilt.items()}

    def sample(self, name: str, seeds: tuple[int, ...]) -> Sample:
        """One sample of a model for each clip that is shown, of its class or caption, with these seeds."""
        if (name, seeds) not in self._samples:
            twin, items = self.models[name], self.clips.items[: self.shown]
            assert twin.generator is not None
            known = list(twin.generator.config.class_names or ())
            labels = [known.index(item.label) if item.label in known else -1 for item in items]
            if -1 in labels and twin.generator.config.condition == "class" and not self._samples:
                log.warning("%s does not know the class of every clip: those are sampled without one", name)
            batch = {"label": torch.tensor(labels), "caption": [item.caption for item in items]}
            frames, height, width = self.clips.video.shape[2:]
            condition = batch_condition(twin.generator, batch)
            asked = Request(condition, frames, (height, width), list(seeds), self.guidance)
            told = lambda done, total: self._tell(f"sampling {name}", done, 0, total)  # noqa: E731
            sample = generate_asked(twin.generator, twin.tokenizer, replace(asked, progress=told))
            self._samples[name, seeds] = replace(
                sample, video=sample.video.float().cpu(), bits=tuple(bits.cpu() for bits in sample.bits)
            )
        return self._samples[name, seeds]

    @property
    def first_seeds(self) -> tuple[int, ...]:
        """The seed of each shown clip's first sample."""
        return tuple(self.seed + i for i in range(len(self.clips.items[: self.shown])))

    def clips_sheet(self) -> Any:
        """Real | reconstruction and sample of each model."""
        columns: dict[str, Tensor] = {"real": self.clips.video}
        for name in self.models:
            columns[f"{name}: reconstruction"] = self.rebuilt[name]
            if name in self.generators:
                columns[f"{name}: sample"] = self.sample(name, self.first_seeds).video
        return _sheet(columns, self.clips.names[: self.shown], 5 if len(columns) < 4 else 3)

    def clips_rows(self) -> tuple[list[list[Tensor]], list[str], list[str]]:
        """Videos, row labels and column names of the moving sheet: real above samples, one clip of each name."""
        names = self.clips.names[: self.shown]
        picked = [names.index(name) for name in dict.fromkeys(names)]
        sides = [self.clips.video, *(self.sample(name, self.first_seeds).video for name in self.generators)]
        rows = [[videos[i] for i in picked] for videos in sides]
        return rows, ["real", *self.generators], [names[i] for i in picked]

    def scales_sheet(self) -> Any:
        """What each model's first sample is after its first k scales; all models' rows have K columns."""
        rows, labels = [], []
        for name in self.generators:
            sample, twin = self.sample(name, self.first_seeds), self.models[name]
            pyramid = twin.tokenizer.pyramid(*self.clips.video.shape[3:])
            bits = tuple(scale[:1].to(_device(twin)) for scale in sample.bits)
            partial = [decode_bits(bits[: k + 1], pyramid) for k in range(len(bits))]
            rows.append([twin.tokenizer.decode(latent)[0].float().cpu() for latent in partial])
            labels.append(f"{name}: {self.clips.names[0]}")
        most = max(map(len, rows))
        rows = [row + row[-1:] * (most - len(row)) for row in rows]
        return contact_sheet(rows, 2, labels, [f"{k + 1} of {most} scales" for k in range(most)])

    def worst_sheet(self) -> Any:
        """The clips whose lowest PSNR of any model is lowest."""
        lowest = torch.tensor(list(self.psnr.values())).amin(0)
        worst = lowest.argsort()[: self.shown].tolist()
        columns = {"real": self.clips.video[worst]}
        columns |= {f"{name}: reconstruction": video[worst] for name, video in self.rebuilt.items()}
        decibels = [", ".join(f"{self.psnr[name][i]:.1f}" for name in self.models) for i in worst]
        labels = [f"{Path(self.clips.items[i].path).stem} {text} dB" for i, text in zip(worst, decibels)]
        return _sheet(columns, labels, 5)

    def seeds_rows(self, seeds: int) -> tuple[list[list[Tensor]], list[str], list[str]]:
        """Videos, row labels and column names of the grid of seeds; the first column is that of the clips' sheet."""
        rows, labels, count = [], [], len(self.first_seeds)
        for name in self.generators:
            made = [self.sample(name, tuple(s + n * count for s in self.first_seeds)).video for n in range(seeds)]
            rows += [[video[i] for video in made] for i in range(count)]
            labels += [f"{name}: {label}" for label in self.clips.names[:count]]
        return rows, labels, [f"seed {n + 1}" for n in range(seeds)]

    def write(self, folder: Path, seeds: int, fps: float) -> None:
        """Write all pictures."""
        write_png(folder / "clips.png", self.clips_sheet())
        write_png(folder / "worst.png", self.worst_sheet())
        if self.generators:
            write_png(folder / "scales.png", self.scales_sheet())
            write_gif(folder / "clips.gif", moving_grid(*self.clips_rows()), fps)
            rows, labels, columns = self.seeds_rows(seeds)
            write_png(folder / "seeds.png", contact_sheet(rows, 2, labels, columns))
            write_gif(folder / "seeds.gif", moving_grid(rows, labels, columns), fps)

    def figures(self) -> dict[str, Any]:
        """PSNR of every model and clip, as plain data."""
        rounded = {name: [round(value, 3) for value in values] for name, values in self.psnr.items()}
        clips = [
            {"path": item.path, "label": item.label, "psnr": {name: values[i] for name, values in rounded.items()}}
            for i, item in enumerate(self.clips.items)
        ]
        return {"psnr": {n: round(sum(v) / len(v), 3) for n, v in self.psnr.items()}, "clips": clips}

    def _tell(self, what: str, done: int, models: int, total: int = 0) -> None:
        if self.progress is not None:
            self.progress(what, done, total or models * len(self.clips.items))


def compare(
    models: Mapping[str, str | Path] | list[str],
    data: str | Path,
    out: str | Path,
    *,
    clips: int = 16,
    shown: int = 4,
    seeds: int = 4,
    frames: int = 17,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    guidance: Guidance | float | str | None = None,
    device: str = "cpu",
    fps: float = 8.0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare models on held-out clips and write the pictures; returns what `compare.json` holds.

    Args:
        models: name → checkpoint, run's folder, exported folder or hub name; a list is named by itself.
        data: any data set that training takes; its validation clips are used, of each class in turn.
        clips: how many are measured. shown: how many of them are sampled and shown. seeds: columns of the seed grid.
        size: (height, width); None: that of the first model that samples, else 128x128.

    Raises:
        UserError: no model, a model or data set that cannot be read, or no clip of `frames` frames.
    """
    paths = _named(models)
    twins = {name: _on(load_twin(path), device) for name, path in paths.items()}
    generators = [twin.generator for twin in twins.values() if twin.generator is not None]
    if size is None:
        size = generators[0].config.size if generators else DEFAULT_SIZE
    known = [name for generator in generators for name in generator.config.class_names or ()]
    compared = Comparison(twins, read_clips(data, clips, frames, size, known), shown, seed, guidance, progress)
    compared.write(Path(out), seeds, fps)
    facts = {
        "models": {name: {"path": paths[name], **_facts(twin)} for name, twin in twins.items()},
        "data": str(data),
        "size": list(size),
        "frames": frames,
        "seed": seed,
        "guidance": str(guidance or "default"),
        **compared.figures(),
    }
    with atomic_path(Path(out) / "compare.json") as path:
        path.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return facts


def _named(models: Mapping[str, str | Path] | list[str]) -> dict[str, str]:
    """Name → path of each model."""
    if not models:
        raise UserError("give at least one model")
    if isinstance(models, Mapping):
        return {name: str(path) for name, path in models.items()}
    given = [str(path) for path in models]
    return dict(zip(short_names(given), given))


def _sheet(columns: Mapping[str, Tensor], labels: list[str], frames: int) -> Any:
    rows = [[video[i] for video in columns.values()] for i in range(len(labels))]
    return contact_sheet(rows, frames, labels, list(columns))


def _on(twin: ModelTwin, device: str) -> ModelTwin:
    twin.tokenizer.to(device)
    if twin.generator is not None:
        twin.generator.to(device)
    return twin


def _device(twin: ModelTwin) -> torch.device:
    return next(twin.tokenizer.parameters()).device


def _facts(twin: ModelTwin) -> dict[str, str]:
    found = {"tokenizer": twin.tokenizer.fingerprint()}
    return found | ({"generator": twin.generator.fingerprint()} if twin.generator is not None else {})
