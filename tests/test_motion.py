"""What moves, by hand-made videos whose numbers can be counted."""

import pytest
import torch

from videoar.motion import changing_share, count_sprites, levels, moving_mask, moving_share


def clip(frames=5, height=4, width=6, level=100.0):
    """A grey still clip [1, 3, T, H, W], in levels of 255."""
    return torch.full((1, 3, frames, height, width), level)


def as_video(pixels):
    return pixels / 127.5 - 1


def test_a_sprite_moves_and_the_scenery_it_leaves_does_not():
    pixels = clip()
    for t in range(5):
        pixels[0, 1, t, 2, t] = 200  # one green pixel wanders from left to right
    mask = moving_mask(as_video(pixels))
    assert mask.shape == (1, 5, 4, 6)
    assert mask.nonzero().tolist() == [[0, t, 2, t] for t in range(5)]
    assert moving_share(as_video(pixels)).tolist() == pytest.approx([5 / 120])
    assert changing_share(as_video(pixels)).tolist() == [pytest.approx([2 / 24] * 4)]  # where it was and where it is


def test_more_than_24_levels_in_one_channel():
    pixels = clip(frames=3)
    pixels[0, 0, 1, 0, 0], pixels[0, 2, 1, 0, 1], pixels[0, 2, 1, 0, 2] = 124, 125, 75
    assert moving_mask(as_video(pixels))[0, 1].nonzero().tolist() == [[0, 1], [0, 2]]
    assert changing_share(as_video(pixels)).tolist() == [pytest.approx([2 / 24, 2 / 24])]


def test_every_level_survives_the_way_to_floats_and_back():
    every = torch.arange(256.0)
    assert torch.equal(levels(as_video(every)), every)
    assert torch.equal(levels(as_video(every).bfloat16()[::128]), torch.tensor([0.0, 128.0]))
    assert levels(torch.tensor([-1.2, 1.2])).tolist() == [0, 255]


def test_clips_of_a_batch_do_not_touch_and_one_frame_stands_still():
    pixels = torch.cat([clip(), clip()])
    pixels[1, :, 2] = 255
    assert moving_share(as_video(pixels)).tolist() == pytest.approx([0, 1 / 5])
    assert changing_share(as_video(pixels)).tolist() == [[0, 0, 0, 0], [0, 1, 1, 0]]
    assert moving_share(as_video(clip(frames=1))).tolist() == [0]
    assert changing_share(as_video(clip(frames=1))).shape == (1, 0)


def test_the_lower_median_of_an_even_number_of_frames():
    pixels = clip(frames=2)
    pixels[0, :, 1, 0, 0] = 200
    assert moving_mask(as_video(pixels)).nonzero().tolist() == [[0, 1, 0, 0]]


def test_sprites_are_connected_groups():
    picture = """
        11....11
        ..1....1
        ........
        1..1.111
        ...1.1..
        ...1.111
    """
    rows = [[c == "1" for c in row] for row in picture.split()]
    mask = torch.tensor(rows)
    assert count_sprites(mask).item() == 4  # the single pixel at the left is noise
    assert count_sprites(mask, smallest=1).item() == 5
    assert count_sprites(mask, smallest=4).item() == 1
    stack = torch.stack([mask, torch.zeros_like(mask), torch.ones_like(mask)])[None]
    assert count_sprites(stack).tolist() == [[4, 0, 1]]


def test_a_long_snake_is_one_sprite():
    mask = torch.zeros(9, 40, dtype=torch.bool)
    mask[::2] = True
    mask[1::4, -1] = mask[3::4, 0] = True
    assert count_sprites(mask).item() == 1
