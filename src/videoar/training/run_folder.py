"""A run's folder: where its checkpoints lie, which is the newest, and that no second run is mixed into it.

runs/generator/           --trainer.default_root_dir
  config.yaml  events…    of the training
  checkpoints/last.ckpt   and the others that ModelCheckpoint keeps
  validate/version_0/     of `videoar validate`, and so for test and predict
"""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from videoar.errors import UserError
from videoar.shipped import located
from videoar.training.checkpoint import CHECKPOINTS, newest_in

log = logging.getLogger(__name__)
LIGHTNINGS = ("best", "hpc")
"""Words for `--ckpt_path` that Lightning's Trainer looks up itself."""
OF_A_RUN = ("config.yaml", "events.out.tfevents.*", "*.jsonl", "videos")


def checkpoint_folders(trainer: Trainer) -> list[Path]:
    """Where the Trainer's checkpoints go, by callback; to be called on all ranks."""
    keepers = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    resolved = [keeper._ModelCheckpoint__resolve_ckpt_dir(trainer) for keeper in keepers]  # type: ignore[attr-defined]
    return [Path(folder) for folder in dict.fromkeys(resolved)]


def checkpoint_to_load(given: str | None, root: Path, folders: list[Path]) -> str | None:
    """What `--ckpt_path` means: a file or URL itself, a run's folder or `last` its newest checkpoint.

    Args:
        root: the run's folder. folders: of its checkpoints.

    Returns:
        None without a checkpoint: nothing given, or `last` of a run that has none yet.

    Raises:
        UserError: no such file, or a folder without checkpoints.
    """
    if given == "last":
        found = newest_in(*folders, root / CHECKPOINTS)
        return str(found) if found else None
    if given in (None, *LIGHTNINGS) or "://" in given:
        return given
    if not given.strip():
        raise UserError("--ckpt_path must not be empty")
    if not Path(given).is_dir():
        if not Path(given).is_file():
            raise UserError(f"no checkpoint at {given}")
        return given
    found = newest_in(Path(given) / CHECKPOINTS, Path(given))
    if found is None and not (Path(given) / "meta.pt").is_file():  # a sharded checkpoint is a folder
        raise UserError(f"--ckpt_path {given}: no checkpoint in this folder nor in its {CHECKPOINTS}/")
    return str(found or given)


def refuse_mixture(root: Path, folders: list[Path], going_on_with: str | None) -> None:
    """Make sure that a new run does not go into the folder of another.

    Raises:
        UserError: there are checkpoints, and `going_on_with` is none of them.
    """
    places = [*folders, root / CHECKPOINTS]
    found = newest_in(*places)
    if found is None:
        return
    inside = [place.resolve() for place in places]
    if going_on_with is None or Path(going_on_with).resolve().parent not in inside:
        raise UserError(
            f"{root} holds another run ({found}); go on with it by --ckpt_path last, or choose another"
            " --trainer.default_root_dir"
        )


def set_aside(root: Path) -> Path | None:
    """Move what a run without a checkpoint has left in its folder to `aborted_N/`, so that curves do not mix."""
    left = [path for pattern in OF_A_RUN for path in root.glob(pattern)]
    if not any(path.name.startswith("events.") for path in left):
        return None
    number = 1 + sum(1 for _ in root.glob("aborted_*"))
    aside = root / f"aborted_{number}"
    aside.mkdir()
    for path in left:
        path.rename(aside / path.name)
    log.info("%s held a run without a checkpoint; its logs are in %s now", root, aside)
    return aside


def next_command(kind: str, root: Path, arguments: list[str], data: Any) -> str:
    """What one would do after a training of this kind."""
    if kind == "generator":
        return shlex.join(["videoar", "sample", "--model", str(root)])
    configs = [Path(word) for word in arguments if word.endswith((".yaml", ".yml"))]
    twins = [path.parent.parent / "generator" / path.name for path in configs if path.parent.name == "tokenizer"]
    config = next((str(path) for path in twins if located(path).is_file()), "GENERATOR.yaml")
    sources = getattr(data, "sources", None)
    videos = ["--data.root", str(sources[0].path)] if sources and len(sources) == 1 else []
    return shlex.join(["videoar", "fit", "--config", config, *videos, "--model.tokenizer", str(root)])
