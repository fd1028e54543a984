"""Dimensions by name, with VBench's network where its weights are at hand and a named substitute where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from videoar.errors import UserError
from videoar.metrics.vbench.aggregate import QUALITY
from videoar.metrics.vbench.backbones import Weights, aesthetic, clip, dino, musiq, raft
from videoar.metrics.vbench.base import Backbone, VBenchDimension
from videoar.metrics.vbench.consistency import BackgroundConsistency, SubjectConsistency
from videoar.metrics.vbench.motion import DynamicDegree, MotionSmoothness, TemporalFlickering
from videoar.metrics.vbench.quality import AestheticQuality, ImagingQuality
from videoar.randomness import stream_untouched

SUBSTITUTES = {
    "motion_smoothness": "ffmpeg: FFmpeg's minterpolate for AMT-S",
    "dynamic_degree": "ffmpeg: FFmpeg's mestimate for RAFT",
    "subject_consistency": "atari: our Atari classifier on single frames for DINO (Atari clips only)",
}
"""What can stand in offline. The other dimensions need their network: nothing classical measures the same thing."""


@dataclass(frozen=True)
class Dimensions:
    """What `make_dimensions` could build.

    Attributes:
        metrics: ready to be updated.
        unavailable: dimension → why it is missing.
    """

    metrics: tuple[VBenchDimension, ...]
    unavailable: dict[str, str]


def _atari_frames() -> Backbone:
    from videoar.metrics.features.atari import frame_embedder

    net = frame_embedder()

    def run(frames: Tensor) -> Tensor:
        return net((frames / 127.5 - 1).unsqueeze(2))

    return Backbone("Atari classifier, single frames", run, "atari", net.sha256)


def _substitute(dimension: str, allowed: Sequence[str]) -> Backbone | None:
    name = SUBSTITUTES.get(dimension, "").partition(":")[0]
    if not name or name not in allowed:
        return None
    if name == "atari":
        return _atari_frames()
    from videoar.metrics.vbench import ffmpeg

    return ffmpeg.INTERPOLATION if dimension == "motion_smoothness" else ffmpeg.FLOW


def _vbench_backbone(dimension: str, weights: Weights) -> Backbone:
    if dimension == "subject_consistency":
        return dino(weights)
    if dimension == "background_consistency":
        return clip("ViT-B-32", weights, "background consistency (CLIP)")
    if dimension == "dynamic_degree":
        return raft(weights)
    if dimension == "aesthetic_quality":
        return aesthetic(weights)
    if dimension == "imaging_quality":
        return musiq(weights)
    raise UserError("motion smoothness: AMT-S (CC BY-NC) is in no library; pass one to MotionSmoothness, or use VBench")


_CLASSES: dict[str, type[VBenchDimension]] = {
    kind.dimension: kind
    for kind in (
        SubjectConsistency,
        BackgroundConsistency,
        TemporalFlickering,
        MotionSmoothness,
        DynamicDegree,
        AestheticQuality,
        ImagingQuality,
    )
}


def make_dimension(dimension: str, weights: Weights, substitutes: Sequence[str] = ("ffmpeg",)) -> VBenchDimension:
    """One dimension, with VBench's network or else an allowed substitute.

    Args:
        substitutes: which may stand in: "ffmpeg", "atari".

    Raises:
        UserError: not one of the seven, or neither weights nor substitute.
    """
    if dimension not in _CLASSES:
        raise UserError(f"unknown dimension {dimension!r}; without prompts there are {', '.join(QUALITY)}")
    if dimension == "temporal_flickering":
        return TemporalFlickering()
    try:
        backbone = _vbench_backbone(dimension, weights)
    except UserError:
        substitute = _substitute(dimension, substitutes)
        if substitute is None:
            raise
        backbone = substitute
    return _CLASSES[dimension](backbone)


STAND_INS = ("ffmpeg", "atari", "none")
"""What may stand in for VBench's own networks."""


@stream_untouched()
def make_dimensions(
    names: Sequence[str] = QUALITY, weights: Weights | None = None, substitutes: Sequence[str] = ("ffmpeg",)
) -> Dimensions:
    """Several dimensions; those that cannot be had are listed with the reason instead of raising."""
    if wrong := [name for name in substitutes if name not in STAND_INS]:
        raise UserError(f"no substitute {wrong[0]!r}; there are {', '.join(STAND_INS)}")
    metrics, unavailable = [], {}
    for name in names:
        try:
            metrics.append(make_dimension(name, weights or Weights(), substitutes))
        except UserError as error:
            if name not in _CLASSES:
                raise
            unavailable[name] = str(error)
    return Dimensions(tuple(metrics), unavailable)
