"""Checkpoint files that are whole or absent, and a way back when the newest one is not."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from videoar.errors import UserError
from videoar.files import atomic_path
from videoar.training.checkpoint import checked_content, checkpoints_in, read_checkpoint

log = logging.getLogger(__name__)


class SafeCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written beside their place and renamed; the CLI puts it into every Trainer.

    (Lightning's own writer collects the whole file in memory and moves it from the system's temporary
    folder, which across file systems is a copy that a kill can cut short.)
    """

    def __init__(self) -> None:
        super().__init__()
        self._folders: set[str] = set()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint so that `path` holds the old file or the whole new one, whenever we are killed.

        Raises:
            UserError: the disk is full or not writable; what was at `path` is untouched.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            self._folders.add(_parent(path))
            return
        with atomic_path(path) as partial, partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        self._folders.add(_parent(path))

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> Any:
        """Read a checkpoint, weights-only; if it is damaged, the newest readable one of its folder, with a warning.

        Raises:
            UserError: nothing readable of the same kind in the folder, or at the URL.
        """
        if "://" in str(path):
            return _download(self, str(path), map_location)
        try:
            return read_checkpoint(path, map_location)
        except UserError as damage:
            if not Path(path).is_file():
                raise
            for earlier in newest(checkpoints_in(Path(path).parent)):
                if earlier.resolve() == Path(path).resolve():
                    continue
                try:
                    content = read_checkpoint(earlier, map_location)
                except UserError:
                    continue
                log.warning("%s; going back to %s", damage, earlier)
                return content
            raise

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint of this run: a .ckpt file directly in a folder that this run has written one to.

        Which file is to go comes from ModelCheckpoint's state, and so, in a resumed run, from the checkpoint, which may
        be a stranger's. Anything else stays, with a warning.
        """
        place, own = Path(path), str(path).endswith(".ckpt") and _parent(path) in self._folders
        if "://" in str(path) and own:
            super().remove_checkpoint(path)
        elif own and (place.is_file() or place.is_symlink()):
            place.unlink()
        elif place.exists():
            log.warning("%s is no checkpoint of this run and is not deleted", place)


def _parent(path: Any) -> str:
    """The folder of a file as one name, whichever way the path leads there; of a URL as it is written."""
    return str(path).rpartition("/")[0] if "://" in str(path) else str(Path(path).parent.resolve())


def _download(io: TorchCheckpointIO, url: str, map_location: Any) -> dict[str, Any]:
    """A checkpoint behind a URL; Lightning's own default would run what a pickle asks for."""
    try:
        content = TorchCheckpointIO.load_checkpoint(io, url, map_location, weights_only=True)
    except Exception as error:  # of the network, of the file system behind the URL, of the pickle
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{url} is no checkpoint of plain data that can be had: {reason}") from error
    return checked_content(content, url)


def newest(paths: Iterable[Path]) -> list[Path]:
    """Files by the time they were written, newest first."""
    return sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def save_when_due(trainer: Trainer) -> None:
    """Save for every ModelCheckpoint whose `train_time_interval` has passed.

    Lightning does so itself only under automatic optimisation.
    """
    for callback in (each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)):
        interval, since = callback._train_time_interval, callback._last_time_checked
        if interval is None or since is None or callback._should_skip_saving_checkpoint(trainer):
            continue
        if not trainer.strategy.broadcast(time.monotonic() - since >= interval.total_seconds()):
            continue
        callback._last_time_checked = time.monotonic()
        candidates = callback._monitor_candidates(trainer)
        if callback.monitor is not None and callback.monitor not in candidates:
            callback._defer_save_until_validation = True
            continue
        callback._save_topk_checkpoint(trainer, candidates)
        callback._save_last_checkpoint(trainer, candidates)
