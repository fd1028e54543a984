"""Checkpoint files that are whole or absent, and a way back when the newest one is not."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from videoar.errors import UserError
from videoar.training.checkpoint import read_checkpoint

log = logging.getLogger(__name__)


class SafeCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written beside their place and renamed; the CLI puts it into every Trainer.

    (Lightning's own writer collects the whole file in memory and moves it from the system's temporary
    folder, which across file systems is a copy that a kill can cut short.)
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint so that `path` holds the old file or the whole new one, whenever we are killed.

        Raises:
            OSError: the disk is full or not writable; what was at `path` is untouched.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except (OSError, RuntimeError) as error:
            problem = f"cannot write checkpoint {target} (is the disk full?), the previous one is untouched: {error}"
            raise OSError(problem) from error
        finally:
            partial.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> Any:
        """Read a checkpoint; if it is damaged, the newest readable one of its folder, with a warning.

        Raises:
            UserError: nothing readable of the same kind in the folder.
        """
        if "://" in str(path):
            return super().load_checkpoint(path, map_location, weights_only)
        try:
            return read_checkpoint(path, map_location)
        except UserError as damage:
            if not Path(path).is_file():
                raise
            for earlier in _others(Path(path)):
                try:
                    content = read_checkpoint(earlier, map_location)
                except UserError:
                    continue
                log.warning("%s; going back to %s", damage, earlier)
                return content
            raise


def _others(path: Path) -> list[Path]:
    """The other checkpoints beside `path`, newest first."""
    others = [p for p in path.parent.glob("*.ckpt") if p.resolve() != path.resolve()]
    return sorted(others, key=lambda p: p.stat().st_mtime, reverse=True)
