"""Stages are checked when they are built, and end at exactly the batch they say."""

from __future__ import annotations

import pytest
import torch

from videoar.data.curriculum import Curriculum, Stage, nearest, template_size
from videoar.data.transforms import clip_indices, crop, fit, resize_to_cover, to_pixels
from videoar.errors import UserError


@pytest.mark.parametrize(
    ("pixel_sqrt", "aspect", "size"),
    [
        (512, "16:9", (384, 672)),
        (512, "9:16", (672, 384)),
        (256, "1:1", (256, 256)),
        (128, "4:3", (96, 144)),
        (256, "16:9", (192, 336)),
    ],
)
def test_templates_are_the_papers_sizes(pixel_sqrt, aspect, size):
    assert template_size(pixel_sqrt, aspect) == size
    assert abs(size[0] * size[1] / pixel_sqrt**2 - 1) < 0.2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 16}, r"frames must be 1 \+ 4n, got 16; 13 and 17 would do"),
        ({"frames": 0}, r"frames must be 1 \+ 4n, got 0"),
        ({"resolution": 100}, "height must be a multiple of 16, got 100; 96 and 112 would do"),
        ({"resolution": [384, 600]}, "width must be a multiple of 16, got 600; 592 and 608 would do"),
        ({"resolution": [384, 672, 3]}, "one number with aspects"),
        ({"resolution": 128, "aspects": ["wide"]}, "'wide' must read like"),
        ({"resolution": 128, "aspects": ["1:1", "2:2"]}, "must give different sizes"),
        ({"image_share": 1.5}, "image_share must be a number from 0 to 1, got 1.5"),
        ({"stride": 0}, "stride must be a whole number from 1 to 100,000, got 0"),
        ({"fps": -8.0}, "fps must be a number from 0.1 to 1,000, got -8"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1 to 65,536, got 0"),
        ({"until": 0}, "until must be a whole number of at least 1, got 0"),
    ],
)
def test_bad_stages_are_named_with_numbers(wrong, message):
    with pytest.raises(UserError, match=message):
        Stage(**wrong)


@pytest.mark.parametrize("ends", [[], [None, None], [5, 5], [9, 3], [None, 4]])
def test_stages_must_follow_one_another(ends):
    with pytest.raises(UserError, match=r"stage"):
        Curriculum([Stage(until=end) for end in ends])


def test_stages_switch_at_their_batch():
    curriculum = Curriculum([Stage(until=3), Stage(until=5, frames=5), Stage(frames=9)])
    assert [curriculum.index(step) for step in range(7)] == [0, 0, 0, 1, 1, 2, 2]
    closed = Curriculum([Stage(until=3), Stage(until=5, frames=5)])
    assert closed.at(100).frames == 5
    assert "stage 2 of 2 from batch 3: 128x128, 5 frames" in closed.describe(1)


def test_strides_follow_the_rate_of_the_file():
    stage = Stage(fps=8)
    assert [stage.stride_for(fps) for fps in (8, 24, 30, 4, 0)] == [1, 3, 4, 1, 1]
    assert Stage(stride=3).stride_for(24) == 3


def test_nearest_shape_is_by_ratio():
    sizes = [(128, 128), (96, 160), (160, 96)]
    assert [nearest(sizes, *hw) for hw in ((240, 300), (1080, 1920), (1920, 1080), (50, 50))] == [0, 1, 2, 0]


def test_clip_indices_reach_both_ends():
    assert clip_indices(20, 5, 3, 0.0).tolist() == [0, 3, 6, 9, 12]
    assert clip_indices(20, 5, 3, 0.999).tolist() == [7, 10, 13, 16, 19]
    with pytest.raises(ValueError, match="12 frames; 5 at stride 3 need 13"):
        clip_indices(12, 5, 3, 0.0)


def test_resize_covers_and_crop_cuts():
    video = torch.arange(2 * 40 * 60 * 3).remainder(251).to(torch.uint8).view(2, 40, 60, 3)
    assert resize_to_cover(video, (40, 60)) is video
    assert resize_to_cover(video, (20, 20)).shape == (2, 20, 30, 3)
    assert torch.equal(crop(video, (16, 16), (0.0, 0.0)), video[:, :16, :16])
    assert torch.equal(crop(video, (16, 16), (1.0, 1.0)), video[:, -16:, -16:])
    flat = torch.full((1, 50, 70, 3), 77, dtype=torch.uint8)
    assert torch.allclose(fit(flat, (32, 32)), torch.tensor(77 / 127.5 - 1))
    assert fit(video, (32, 48)).shape == (3, 2, 32, 48)
    assert to_pixels(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]
    with pytest.raises(ValueError, match="expected uint8"):
        fit(video.float(), (32, 32))
