from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from videoar.metrics.drift import FrameDrift, frame_measures

Clip = Callable[..., Tensor]


def test_measures_against_numpy(clip: Clip) -> None:
    video = clip(batch=2, frames=3, size=(12, 10))
    pixels = np.round((video.double().numpy() + 1) * 127.5)
    luma = np.einsum("c,bcthw->bthw", [0.299, 0.587, 0.114], pixels)
    padded = np.pad(luma, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
    inner = padded[..., 1:-1, 1:-1]
    laplacian = (
        padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:] - 4 * inner
    )
    colour = pixels.mean((3, 4))
    expected = {
        "sharpness": np.abs(laplacian).mean((2, 3)),
        "contrast": luma.std((2, 3)),
        "saturation": (pixels.max(1) - pixels.min(1)).mean((2, 3)),
        "colour_shift": np.abs(colour - colour[:, :, :1]).mean(1),
    }
    measured = frame_measures(video)
    for name, values in expected.items():
        np.testing.assert_allclose(measured[name].numpy(), values, rtol=1e-4, atol=1e-3, err_msg=name)
    np.testing.assert_allclose(
        measured["motion"][:, 1:].numpy(), np.abs(np.diff(pixels, axis=2)).mean((1, 3, 4)), rtol=1e-4
    )
    assert measured["motion"][:, 0].isnan().all()


def test_a_fading_video_shows_as_falling_contrast_and_rising_shift() -> None:
    fade = torch.linspace(1, 0.2, 9).view(1, 1, 9, 1, 1)
    texture = torch.rand(1, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    curves = FrameDrift(9)
    curves.update(texture * 2 * fade - 1)
    out = curves.compute()
    assert (out["contrast"].diff() < 0).all() and (out["colour_shift"].diff() > 0).all()
    assert "psnr" not in out


def test_lengths_mix_and_targets_add_psnr(clip: Clip) -> None:
    metric = FrameDrift(6)
    long, short = clip(batch=1, frames=6), clip(batch=3, frames=2, seed=4)
    metric.update(long, (long + 0.2).clamp(-1, 1))
    metric.update(short)
    out = metric.compute()
    one, three = frame_measures(long)["contrast"], frame_measures(short)["contrast"]
    expected = torch.cat([(one[:, :2] + three.sum(0)) / 4, one[:, 2:]], dim=1)[0].double()
    torch.testing.assert_close(out["contrast"], expected, rtol=1e-6, atol=1e-6)
    assert out["psnr"].shape == (6,) and out["psnr"].isfinite().all()


def test_too_long_a_video(clip: Clip) -> None:
    with pytest.raises(ValueError, match="5 frames in a drift report of 4"):
        FrameDrift(4).update(clip(frames=5))
