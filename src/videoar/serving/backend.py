"""An exported folder as the source of samples, in place of PyTorch's two networks: `videoar sample --backend onnx`."""

# B samples · T frames

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

from videoar.errors import UserError
from videoar.generator.model import VideoAR
from videoar.sampling.given import as_clips
from videoar.sampling.request import Request, SamplingOptions


class OnnxModel:
    """The runner behind the same questions that `Request` asks of the networks.

    Attributes:
        config: condition, num_classes, class_names and size, as a `GeneratorConfig` has them.

    Raises:
        UserError: onnxruntime is missing, or no folder of `videoar export --onnx`.
    """

    def __init__(self, folder: str | Path, threads: int = 0) -> None:
        try:
            from videoar.serving.runner import Model
        except ImportError as error:
            raise UserError(f"--backend onnx needs {error.name}: pip install 'videoar[onnx]'") from error
        try:
            self.model = Model(folder, threads)
        except ValueError as error:
            raise UserError(str(error)) from error
        about = self.model.about
        classes, names = about["classes"], tuple(about["class_names"])
        condition = "class" if classes else "none"
        size = (about["size"][0], about["size"][1])
        self.config: Any = SimpleNamespace(condition=condition, num_classes=classes, class_names=names, size=size)

    def facts(self) -> dict[str, Any]:
        """Which weights and which program."""
        import onnxruntime

        about = self.model.about
        told = {name: about[name] for name in ("generator", "tokenizer", "weights", "opset")}
        return {"onnxruntime": onnxruntime.__version__, **told}

    def options(self, asked: Request) -> SamplingOptions:
        """How bits are drawn."""
        return asked.options(cast(VideoAR, self))  # which reads `config.condition` alone

    def latent_frames(self, frames: int) -> int:
        """Latent frames of so many pixel frames; UserError if there are none."""
        try:
            return self.model.latent_frames(frames)
        except ValueError as error:
            raise UserError(str(error)) from error

    def stream(self, asked: Request) -> Iterator[Tensor]:
        """Pixels [B, 3, n, H, W] of one latent frame after the other, as `generate_stream`.

        Raises:
            UserError: what does not fit the exported model.
        """
        if asked.size is not None and tuple(asked.size) != self.config.size:
            wanted, own = ("x".join(map(str, size)) for size in (asked.size, self.config.size))
            raise UserError(f"this folder was exported for {own} pixels, not {wanted}; export with --size")
        options = self.options(asked)
        heat = options.temperature
        settings: dict[str, Any] = {"frames": asked.frames, "seed": asked.seeds, "temperature": heat}
        settings |= {"guidance": asdict(options.guidance), "greedy": options.greedy}
        settings["prefix"] = None if asked.prefix is None else as_clips(asked.prefix).float().numpy()
        try:
            calls, total = len(self.model.grids), self.latent_frames(asked.frames)
            for done, pixels in enumerate(self.model.stream(cast(Any, asked.condition), **settings), 1):
                if asked.progress is not None:
                    asked.progress(done * calls, total * calls)
                yield torch.from_numpy(pixels)
        except UserError:
            raise
        except ValueError as error:
            raise UserError(str(error)) from error
