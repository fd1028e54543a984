from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from videoar.metrics.vbench.base import Backbone, VBenchDimension
from videoar.metrics.vbench.consistency import BackgroundConsistency, SubjectConsistency
from videoar.metrics.vbench.ffmpeg import FLOW, INTERPOLATION, flow, interpolate
from videoar.metrics.vbench.motion import DynamicDegree, MotionSmoothness, TemporalFlickering, large_motion
from videoar.metrics.vbench.quality import AestheticQuality, ImagingQuality

Clip = Callable[..., Tensor]


def colours(frames: Tensor) -> Tensor:
    """A stand-in image encoder: mean colour of the four quarters, shifted so that cosines vary in sign."""
    quarters = torch.nn.functional.adaptive_avg_pool2d(frames, 2).flatten(1)
    return quarters - 127.5


def neighbours(frames: Tensor) -> Tensor:
    return (frames[:-1] + frames[1:]) / 2


def shift(first: Tensor, second: Tensor) -> Tensor:
    """A stand-in flow: how far the brightest column moved, everywhere."""
    columns = [frames.mean((1, 2)).argmax(-1).float() for frames in (first, second)]
    moved = (columns[1] - columns[0]).view(-1, 1, 1).expand(-1, *first.shape[-2:])
    return torch.stack([moved, torch.zeros_like(moved)], dim=1)


def every_dimension() -> list[VBenchDimension]:
    def best(frames: Tensor) -> Tensor:
        return torch.full((len(frames),), 10.0)

    return [
        SubjectConsistency(Backbone("colours", colours)),
        BackgroundConsistency(Backbone("colours", colours)),
        TemporalFlickering(),
        MotionSmoothness(Backbone("mean", neighbours)),
        MotionSmoothness(INTERPOLATION),
        DynamicDegree(Backbone("shift", shift)),
        DynamicDegree(FLOW),
        AestheticQuality(Backbone("best", best)),
        ImagingQuality(Backbone("best", lambda frames: best(frames) * 10)),
    ]


def whole_bytes(video: Tensor) -> np.ndarray:
    """[B, T, 3, H, W], 0 … 255, as a file would hold it."""
    return np.round((video.double().numpy() + 1) * 127.5).transpose(0, 2, 1, 3, 4)


def test_a_static_video_is_ideal_for_every_dimension(clip: Clip) -> None:
    still = clip(frames=1, size=(48, 48)).expand(-1, -1, 9, -1, -1)
    for metric in every_dimension():
        metric.update(still, fps=8)
        ideal = 0.0 if metric.dimension == "dynamic_degree" else 1.0
        assert float(metric.compute()) == pytest.approx(ideal, abs=1e-9), metric.key


def test_keys_mark_substitutes() -> None:
    assert [metric.key for metric in every_dimension()][3:7] == [
        "motion_smoothness",
        "motion_smoothness@ffmpeg",
        "dynamic_degree",
        "dynamic_degree@ffmpeg",
    ]


@pytest.mark.parametrize("kind", [SubjectConsistency, BackgroundConsistency])
def test_consistency_by_hand(kind: type, clip: Clip) -> None:
    metric = kind(Backbone("colours", colours))
    total, frames = 0.0, 0
    for seed, length in ((0, 4), (1, 7)):
        video = clip(batch=1, frames=length, size=(20, 20), seed=seed)
        video = torch.cat([video, -video], dim=2)  # opposite colours: some cosines are negative
        metric.update(video, fps=8)
        x = whole_bytes(video)[0]
        quarters = x.reshape(len(x), 3, 2, 10, 2, 10).mean((3, 5)).reshape(len(x), -1) - 127.5
        x = quarters / np.linalg.norm(quarters, axis=1, keepdims=True)
        for t in range(1, len(x)):
            total += (max(0, x[t] @ x[t - 1]) + max(0, x[t] @ x[0])) / 2
        frames += len(x) - 1
    assert float(metric.compute()) == pytest.approx(total / frames, abs=1e-6)


def test_flickering_by_hand(clip: Clip) -> None:
    video = clip(batch=3, frames=5)
    metric = TemporalFlickering()
    metric.update(video, fps=8)
    change = np.abs(np.diff(whole_bytes(video), axis=1)).mean((2, 3, 4)).mean(1)
    assert float(metric.compute()) == pytest.approx(((255 - change) / 255).mean(), abs=1e-6)


@pytest.mark.parametrize("frames", [3, 8, 9])
def test_smoothness_by_hand(frames: int, clip: Clip) -> None:
    video = clip(batch=2, frames=frames)
    metric = MotionSmoothness(Backbone("mean", neighbours))
    metric.update(video, fps=8)
    scores = []
    for x in whole_bytes(video):
        even, odd = x[::2], x[1::2]
        made = np.floor((even[:-1] + even[1:]) / 2)
        scores.append((255 - np.abs(odd[: len(made)] - made).mean((1, 2, 3)).mean()) / 255)
    assert float(metric.compute()) == pytest.approx(np.mean(scores), abs=1e-6)


def test_large_motion_is_the_mean_of_the_largest_twentieth() -> None:
    field = torch.zeros(2, 2, 10, 10)
    field[0, 0, 0, :5] = torch.tensor([3.0, 3.0, 3.0, 3.0, 8.0])
    field[0, 1, 0, :5] = torch.tensor([4.0, 4.0, 4.0, 4.0, 6.0])
    field[1, :, 5, 5] = 1
    torch.testing.assert_close(large_motion(field), torch.tensor([6.0, 2**0.5 / 5]))
    assert large_motion(torch.ones(1, 2, 2, 2)).item() == pytest.approx(2**0.5), "tiny fields use one vector"


@pytest.mark.parametrize(
    ("frames", "fps", "moving", "expected"),
    [
        (16, 8, 4, 1.0),
        (16, 8, 3, 0.0),
        (9, 8, 2, 1.0),
        (9, 8, 1, 0.0),
        (32, 16, 8, 1.0),
        (2, 8, 0, 0.0),
        (2, 8, 1, 1.0),
    ],
)
def test_dynamic_degree_counts_moving_pairs(frames: int, fps: float, moving: int, expected: float) -> None:
    """Threshold 6·128/256 = 3 px; round(n/4) of n kept frames must move (2.25 → 2 at n = 9)."""
    video = torch.full((1, 3, frames, 128, 128), -1.0)
    column = 0
    for t in range(frames):
        if 0 < t <= moving:
            column += 4
        video[0, :, t, :, column % 128] = 1
    if fps == 16:  # every second frame is kept: pairs move 8 px
        moving //= 2
    metric = DynamicDegree(Backbone("shift", shift))
    metric.update(video, fps=fps)
    assert float(metric.compute()) == expected


def test_dynamic_degree_needs_two_frames_at_eight_a_second() -> None:
    with pytest.raises(ValueError, match="one frame at 8 fps"):
        DynamicDegree(Backbone("shift", shift)).update(torch.zeros(1, 3, 3, 16, 16), fps=60)


def test_frame_quality_means_over_frames_then_videos() -> None:
    metric = AestheticQuality(Backbone("brightness", lambda frames: frames.mean((1, 2, 3)) / 25.5))
    metric.update(torch.linspace(-1, 1, 6).view(1, 1, 6, 1, 1).expand(1, 3, 6, 4, 4), fps=8)
    metric.update(torch.ones(1, 3, 1, 4, 4), fps=8)
    levels = np.round((np.linspace(-1, 1, 6) + 1) * 127.5) / 255
    assert float(metric.compute()) == pytest.approx((levels.mean() + 1) / 2, abs=1e-6)
    with pytest.raises(ValueError, match="scores for 2 frames"):
        ImagingQuality(Backbone("bad", lambda frames: torch.ones(1))).update(torch.zeros(1, 3, 2, 4, 4), fps=8)


def test_order_and_batches_do_not_matter(clip: Clip) -> None:
    video = clip(batch=4, frames=5, size=(32, 32))
    for whole, parts in zip(every_dimension(), every_dimension()):
        whole.update(video, fps=8)
        for i in (3, 1, 0, 2):
            parts.update(video[i : i + 1], fps=8)
        torch.testing.assert_close(whole.compute(), parts.compute(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("metric", every_dimension(), ids=lambda m: m.key)
def test_bad_input(metric: VBenchDimension) -> None:
    with pytest.raises(ValueError, match="expected \\[-1, 1\\]"):
        metric.update(torch.full((1, 3, 4, 16, 16), 128.0), fps=8)
    with pytest.raises(ValueError, match="fps must be positive"):
        metric.update(torch.zeros(1, 3, 4, 16, 16), fps=0)
    if metric.min_frames > 1:
        with pytest.raises(ValueError, match=f"at least {metric.min_frames} frames, got 1"):
            metric.update(torch.zeros(1, 3, 1, 16, 16), fps=8)
    metric.reset()
    with pytest.raises(ValueError, match="before any video"), pytest.warns(UserWarning):
        metric.compute()


def test_a_broken_network_is_not_averaged_away() -> None:
    metric = ImagingQuality(Backbone("nan", lambda frames: torch.full((len(frames),), torch.nan)))
    metric.update(torch.zeros(1, 3, 2, 4, 4), fps=8)
    with pytest.raises(ValueError, match="imaging_quality gave nan"):
        metric.compute()


def test_no_weights_are_saved() -> None:
    metric = SubjectConsistency(Backbone("net", torch.nn.Linear(3, 3)))
    assert not metric.state_dict() and not list(metric.parameters())


# ---- the substitutes from FFmpeg ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(128, 128), (40, 56), (33, 65)])
def test_interpolation_follows_motion_better_than_averaging(size: tuple[int, int]) -> None:
    cells = (size[0] // 8, (size[1] + 32) // 8)
    texture = torch.rand(1, 3, *cells, generator=torch.Generator().manual_seed(3)) * 255
    wide = (
        torch.nn.functional.interpolate(texture, size=(size[0], size[1] + 32), mode="bicubic").clamp(0, 255)[0].round()
    )
    frames = torch.stack([wide[..., 2 * t : 2 * t + size[1]] for t in range(9)])
    made = interpolate(frames[::2])
    assert made.shape == frames[1::2].shape
    inner = (..., slice(8, -8), slice(8, -8))
    error = (made - frames[1::2])[inner].abs().mean()
    assert error < 0.5 * (neighbours(frames[::2]) - frames[1::2])[inner].abs().mean()


def test_flow_finds_a_shift_in_pixels() -> None:
    texture = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(4)) * 255
    wide = torch.nn.functional.interpolate(texture, size=(96, 96), mode="bicubic").clamp(0, 255)
    for dx, dy in ((0, 0), (3, 0), (0, -2), (-4, 5)):
        first = wide[..., 16:80, 16:80]
        second = wide[..., 16 - dy : 80 - dy, 16 - dx : 80 - dx]
        field = flow(first, second)
        assert field.shape == (1, 2, 8, 8)
        assert field[0, 0].median() == dx and field[0, 1].median() == dy
