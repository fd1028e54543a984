"""Two processes that each see half of the videos report what one process reports that sees all."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from videoar.bits.pyramid import ScalePyramid
from videoar.bits.residual import quantize
from videoar.metrics.bits import BitAccuracy, CodebookUsage
from videoar.metrics.drift import FrameDrift
from videoar.metrics.features.base import FeatureNet
from videoar.metrics.frechet import FrechetVideoDistance
from videoar.metrics.reconstruction import PSNR, SSIM, MotionRatio, TemporalDifferenceError
from videoar.metrics.vbench.base import Backbone
from videoar.metrics.vbench.consistency import SubjectConsistency
from videoar.metrics.vbench.motion import TemporalFlickering

PYRAMID = ScalePyramid(((1, 1), (2, 2)))


def features(module: nn.Module, video: Tensor) -> Tensor:
    return torch.cat([video.mean((2, 3, 4)), video.std((2, 3, 4))], dim=1)


def measure(part: slice) -> dict[str, Tensor]:
    """All metrics over a part of 20 videos; `compute` adds up over the ranks there are."""
    rng = torch.Generator().manual_seed(0)
    real = torch.rand(20, 3, 4, 16, 16, generator=rng) * 2 - 1
    fake = (real + 0.2 * torch.randn(real.shape, generator=rng)).clamp(-1, 1)
    latent, logits = torch.randn(20, 4, 2, 2, 2, generator=rng), torch.randn(20, 10, 4, generator=rng)
    real, fake, latent, logits = real[part], fake[part], latent[part], logits[part]
    net = FeatureNet("mean", nn.Identity(), features, 6, None, "none", 2, "")
    fvd = FrechetVideoDistance(net)
    fvd.update(real, real=True)
    fvd.update(fake, real=False)
    out = {"fvd": fvd.compute()}
    for metric in (PSNR(), PSNR("clip"), SSIM(), TemporalDifferenceError(), MotionRatio()):
        metric.update(fake, real)
        out[f"{type(metric).__name__} {getattr(metric, 'pooling', '')}"] = metric.compute()
    dimensions = (TemporalFlickering(), SubjectConsistency(Backbone("mean", lambda frames: frames.mean((2, 3)) - 127)))
    for dimension in dimensions:
        dimension.update(fake, fps=8)
        out[dimension.key] = dimension.compute()
    drift = FrameDrift(4)
    drift.update(fake, real)
    out |= {f"drift {name}": curve[1:] for name, curve in drift.compute().items()}
    accuracy, usage = BitAccuracy(PYRAMID, 2, 4), CodebookUsage(2, 4)
    accuracy.update(logits, logits.roll(1, -1) > 0)
    usage.update(quantize(latent, PYRAMID).bits)
    scores, used = accuracy.compute(), usage.compute()
    assert used.codes is not None
    return out | {"bits": scores.bits_per_frame_and_scale, "entropy": used.entropy_per_scale, "codes": used.codes}


def rank(index: int, place: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{place}/store", rank=index, world_size=2)
    result = measure(slice(0, 13) if index == 0 else slice(13, 20))
    torch.save(result, os.path.join(place, f"{index}.pt"))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    mp.spawn(rank, args=(str(tmp_path),), nprocs=2)
    alone = measure(slice(0, 20))
    for index in range(2):
        together = torch.load(tmp_path / f"{index}.pt", weights_only=True)
        assert together.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(
                together[name], value, rtol=1e-6, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}"
            )
