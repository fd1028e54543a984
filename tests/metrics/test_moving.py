"""PSNR and share of what moves: golden numbers, worked out by hand."""

import math

import pytest
import torch

from videoar.metrics.moving import MovingPSNR, MovingRatio


def still(clips=1, frames=5):
    return torch.full((clips, 3, frames, 4, 4), 51.0) / 127.5 - 1


def sprite(clips=1, frames=5, level=255.0):
    """One white pixel that stands somewhere else in every frame."""
    video = still(clips, frames)
    for t in range(frames):
        video[:, :, t, t // 4, t % 4] = level / 127.5 - 1
    return video


def test_psnr_counts_moving_pixels_only():
    metric = MovingPSNR()
    target = sprite()
    metric.update(target, target)
    assert metric.compute().mean == 100
    metric.reset()
    metric.update(still(), target)  # every sprite is missing: an error of (255 - 51) / 255 = 0.8
    assert metric.compute().mean == pytest.approx(-20 * math.log10(0.8), abs=1e-4)
    metric.reset()
    wrong_scenery = torch.where(target == 1, target, torch.tensor(1.0))
    metric.update(wrong_scenery, target)
    assert metric.compute().mean == 100


def test_psnr_pools_the_pixels_of_a_class_and_averages_classes():
    metric = MovingPSNR(["pong", "boxing", "empty"])
    target = sprite(3)
    guess = target.clone()
    guess[1] = sprite(level=204.0)[0]  # off by 0.2 in every channel
    guess[2, 0] = torch.where(target[2, 0] == 1, torch.tensor(0.6), target[2, 0])  # the same in one channel of three
    metric.update(guess, target, [0, 0, 1])
    metric.update(still(), still(), torch.tensor([2]))  # nothing moves: no value
    pong, boxing = -10 * math.log10(0.04 / 2), -10 * math.log10(0.04 / 3)
    assert metric.compute().named() == pytest.approx({"pong": pong, "boxing": boxing}, abs=1e-4)
    mean = {"moving_psnr": (pong + boxing) / 2, "moving_psnr/pong": pong, "moving_psnr/boxing": boxing}
    assert metric.compute().scalars("moving_psnr") == pytest.approx(mean, abs=1e-4)


def test_ratio_of_unpaired_videos():
    metric = MovingRatio(["a", "b"])
    metric.update(sprite(4), [0, 0, 1, 1], real=True)
    metric.update(torch.cat([sprite(), still()]), [0, 0])  # half of what is asked for stands still
    metric.update(sprite(1), [1])
    assert (metric.real_moved / metric.real_videos).tolist() == pytest.approx([1 / 16, 1 / 16])
    assert (metric.moved / metric.videos).tolist() == pytest.approx([1 / 32, 1 / 16])
    assert metric.compute().named() == pytest.approx({"a": 0.5, "b": 1.0})
    assert metric.compute().mean == pytest.approx(0.75)


def test_nothing_to_compare_is_not_a_number():
    ratio, psnr = MovingRatio(), MovingPSNR()
    ratio.update(still(), real=True)
    ratio.update(sprite())
    psnr.update(still(), still())
    for metric in (ratio, psnr):
        assert math.isnan(metric.compute().mean)
        assert metric.compute().scalars("x") == {}


@pytest.mark.parametrize("labels", [[2], [-1], [0, 1]])
def test_labels_that_are_no_class(labels):
    with pytest.raises(ValueError, match="there are 2 classes"):
        MovingRatio(["a", "b"]).update(still(), labels)


def test_ranks_merge_by_adding():
    target, guess = sprite(2), torch.cat([still(), sprite(level=204.0)])
    whole, parts = MovingPSNR(), [MovingPSNR(), MovingPSNR()]
    whole.update(guess, target)
    for i, part in enumerate(parts):
        part.update(guess[i : i + 1], target[i : i + 1])
    merged = parts[0]
    merged._reduce_states(parts[1].metric_state)
    assert merged.compute().scalars("x") == pytest.approx(whole.compute().scalars("x"))
