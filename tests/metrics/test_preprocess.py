import numpy as np
import pytest
import torch

from videoar.metrics.preprocess import check_video, from_bytes, resize_frames, resize_video
from videoar.motion import levels


@pytest.mark.parametrize(
    ("video", "said"),
    [
        (torch.zeros(3, 4, 8, 8), "expected \\[B, 3, T, H, W\\]"),
        (torch.zeros(1, 1, 4, 8, 8), "expected \\[B, 3, T, H, W\\]"),
        (torch.zeros(1, 3, 4, 8, 8, dtype=torch.uint8), "uint8"),
        (torch.full((1, 3, 4, 8, 8), 255.0), "255"),
        (torch.full((1, 3, 4, 8, 8), torch.nan), "not finite"),
        (torch.zeros(1, 3, 0, 8, 8), "empty"),
    ],
)
def test_bad_videos_are_named(video: torch.Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_video(video, "the video")


def test_round_off_beyond_one_is_clamped() -> None:
    assert check_video(torch.full((1, 3, 1, 2, 2), 1.004)).max() == 1


def test_every_byte_survives_the_round_trip() -> None:
    frames = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).repeat(1, 1, 1, 3)
    back = levels(from_bytes(frames))[0, :, 0].permute(1, 2, 0)
    assert torch.equal(back, frames[0].float())


def test_tf1_resize_has_no_half_pixel_centres() -> None:
    row = np.random.default_rng(0).random((3, 7))
    source = np.arange(5) * 7 / 5  # TensorFlow 1: target index · in / out
    low = np.floor(source).astype(int)
    high = np.minimum(low + 1, 6)
    expected = row[:, low] * (1 - (source - low)) + row[:, high] * (source - low)
    frames = torch.from_numpy(row).float().view(1, 3, 1, 7).expand(1, 3, 4, 7)
    out = resize_frames(frames, (4, 5), "tf1")
    np.testing.assert_allclose(out[0, :, 2].numpy(), expected, atol=1e-6)


def test_direct_resize_samples_between_pixel_centres() -> None:
    ramp = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 3, 4, 8)
    out = resize_frames(ramp, (4, 4), "direct")
    np.testing.assert_allclose(out[0, 0, 0].numpy(), [0.5, 2.5, 4.5, 6.5], atol=1e-6)


def test_short_side_crop_keeps_the_aspect_and_the_centre() -> None:
    frames = torch.zeros(1, 3, 10, 30)
    frames[..., 10:20] = 1  # the middle third, as wide as the frame is high
    assert resize_frames(frames, (10, 10), "short_side_crop").eq(1).all()
    assert resize_frames(frames, (7, 7), "short_side_crop_antialias").shape == (1, 3, 7, 7)


@pytest.mark.parametrize("how", ["direct", "short_side_crop", "short_side_crop_antialias", "tf1"])
def test_constant_videos_stay_constant(how: str) -> None:
    video = torch.full((2, 3, 4, 33, 21), 0.25)
    out = resize_video(video, (17, 24), how)
    assert out.shape == (2, 3, 4, 17, 24)
    torch.testing.assert_close(out, torch.full_like(out, 0.25))


def test_unknown_resize() -> None:
    with pytest.raises(ValueError, match="nearest"):
        resize_frames(torch.zeros(1, 3, 4, 4), (2, 2), "nearest")
