"""The data set that `videoar predict` writes: where each clip's latent lies, and what is in the folder in the end."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from videoar.data.files import walk
from videoar.data.folders import folder_of_class
from videoar.data.latents import latent_tokenizer
from videoar.errors import UserError


class LatentFolder:
    """`<folder>/<class>/<name>-<hash of the path>[-<first frame>].safetensors`, all of one tokenizer.

    Raises `UserError` if latents of another tokenizer lie there.
    """

    def __init__(self, folder: str | Path, tokenizer: str) -> None:
        self.folder, self.tokenizer = Path(folder), tokenizer
        self._sources: dict[Path, str] = {}
        earlier = self._files()
        if earlier and (other := latent_tokenizer(earlier[0])) != tokenizer:
            raise UserError(f"{folder} holds latents of tokenizer {other}, this is {tokenizer}; choose another folder")

    def place(self, path: str, label: str | None, first: int = 0) -> Path:
        """Where the latent of the clip goes that begins at frame `first` of the file at `path`."""
        name = f"{Path(path).stem[:80]}-{sha256(path.encode(errors='surrogateescape')).hexdigest()[:6]}"
        inside = self.folder / (folder_of_class(label) if label is not None else "")
        target = inside / f"{name}{f'-{first:06d}' if first else ''}.safetensors"
        self._sources[target] = path
        return target

    def report(self, frames: int) -> str:
        """One line: how many clips of how many files were placed, over all processes, and what else lies there."""
        every = _gathered(self._sources)
        rest = len({*self._files()} - every.keys())
        beside = f", beside {rest} files of before" if rest else ""
        return f"{len(every)} clips of {frames} frames from {len({*every.values()})} files into {self.folder}{beside}"

    def _files(self) -> list[Path]:
        return walk(self.folder, {".safetensors"}) if self.folder.is_dir() else []


def _gathered(own: dict[Path, str]) -> dict[Path, str]:
    """The union of a dict over all processes."""
    if not torch.distributed.is_initialized():
        return own
    every: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(every, own)
    return {key: value for part in every for key, value in part.items()}
