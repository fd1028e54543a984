"""Pictures and videos to whatever logger takes them: TensorBoard, Weights & Biases, Comet, MLflow, or one's own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


def show(loggers: Iterable[Any], tag: str, sheet: np.ndarray, video: Path | None, step: int) -> None:
    """Hand a picture, and the video that belongs to it, to every logger that has a way to take them.

    A logger's own `log_image` and `log_video` (Weights & Biases; the way for one of one's own) come first, then what
    its `experiment` offers. Others, such as CSV files, get nothing.

    Args:
        sheet: uint8 [H, W, 3]. video: an mp4 file, or None. step: in training batches.
    """
    for logger in loggers:
        experiment: Any = getattr(logger, "experiment", None)
        if hasattr(logger, "log_image"):
            logger.log_image(key=tag, images=[sheet], step=step)
            if video is not None and hasattr(logger, "log_video"):
                logger.log_video(key=f"{tag} (video)", videos=[str(video)], step=step, format=["mp4"])
        elif hasattr(experiment, "add_image"):  # TensorBoard, whose videos need moviepy
            experiment.add_image(tag, sheet, step, dataformats="HWC")
        elif hasattr(experiment, "log_image") and hasattr(logger, "run_id"):  # MLflow
            name = tag.replace("|", "-").replace(" ", "")
            experiment.log_image(logger.run_id, sheet, key=name, step=step)
            if video is not None:
                experiment.log_artifact(logger.run_id, str(video), "videos")
        elif hasattr(experiment, "log_image"):  # Comet
            experiment.log_image(sheet, name=tag, step=step)
            if video is not None:
                experiment.log_video(str(video), name=tag, step=step)
