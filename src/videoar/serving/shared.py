"""ONNX graphs of one folder whose weights lie in one file, each once, whichever graphs use it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Self

WEIGHTS = "weights.bin"
SMALL = 1024
"""Bytes below which a constant stays in its graph."""


class SharedWeights:
    """Writes graphs into `folder`; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = (folder / WEIGHTS).open("wb")
        self._places: dict[bytes, tuple[int, int]] = {}

    def save(self, model: Any, name: str) -> None:
        """Write an onnx_ir model as `name`.onnx; its large constants become pointers into the file."""
        import onnx_ir

        for key, value in model.graph.initializers.items():
            kept = value.const_value
            data = kept.tobytes()
            if len(data) < SMALL:
                continue
            place = self._place(data)
            value.const_value = onnx_ir.ExternalTensor(
                WEIGHTS, *place, kept.dtype, shape=kept.shape, name=key, base_dir=self.folder
            )
        for part in (model.graph, *model.graph.all_nodes()):  # the exporter notes lines and paths of the source
            part.metadata_props.clear()
        self._file.flush()
        onnx_ir.save(model, self.folder / f"{name}.onnx")

    def _place(self, data: bytes) -> tuple[int, int]:
        """(offset, length) of these bytes in the file."""
        digest = hashlib.sha256(data).digest()
        if digest not in self._places:
            self._file.write(b"\0" * (-self._file.tell() % 64))
            self._places[digest] = self._file.tell(), len(data)
            self._file.write(data)
        return self._places[digest]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
