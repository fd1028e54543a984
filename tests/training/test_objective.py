"""The tokenizer's terms of hard and of moving pixels against their definitions."""

import pytest
import torch

from videoar import VideoTokenizer
from videoar.motion import moving_mask
from videoar.tokenizer.model import TokenizerConfig
from videoar.training.objective import TokenizerLossConfig, TokenizerObjective

CONFIG = TokenizerConfig(latent_dim=4, channels=4, multipliers=(1, 1, 1), res_blocks=1, norm_groups=2)


def terms(video, rebuilt, **losses):
    config = TokenizerLossConfig(perceptual=0.0, commitment=0.0, entropy=0.0, gan=0.0, **losses)
    tokenizer = VideoTokenizer(CONFIG)
    latent = torch.zeros(len(video), 4, 1, 4, 4)
    objective = TokenizerObjective(config, 4)
    return objective(video, rebuilt, latent, tokenizer.quantize(latent), None), config.weights(0)


def scene():
    """A grey clip of five frames in which a white square of 4x4 pixels jumps to another place in each."""
    video = torch.zeros(1, 3, 5, 16, 16)
    for t in range(5):
        video[:, :, t, :4, 3 * t : 3 * t + 4] = 1.0
    return video


@pytest.mark.parametrize("distance, power", [("l1", 1), ("l2", 2)])
def test_hard_pixels_are_the_worst_of_each_frame(distance, power):
    video = scene()
    rebuilt = video.clone()
    rebuilt[:, :, 0] += torch.linspace(0, 1, 256).view(16, 16)
    rebuilt[:, :, 1, 5, 5] -= 0.5
    found, weights = terms(video, rebuilt, hard=0.3, hard_share=4 / 256, distance=distance)
    first = torch.linspace(0, 1, 256)[-4:].pow(power).mean()
    second = torch.tensor(0.5**power / 4)
    torch.testing.assert_close(found["hard"], (first + second) / 5)
    assert weights["hard"] == 0.3


def test_moving_pixels_are_those_of_the_one_definition():
    video = scene()
    mask = moving_mask(video)[:, None]
    assert 0 < mask.float().mean() < 0.5
    still, moved = torch.where(mask, video, video + 0.3), torch.where(mask, video + 0.3, video)
    assert terms(video, still, moving=1.0, distance="l1")[0]["moving"] == pytest.approx(0, abs=1e-6)
    assert terms(video, moved, moving=1.0, distance="l1")[0]["moving"] == pytest.approx(0.3, abs=1e-5)
    image = video[:, :, :1]
    assert terms(image, image + 0.3, moving=1.0)[0]["moving"] == 0.0


def test_terms_of_weight_zero_are_not_computed():
    video = scene()
    assert set(terms(video, video)[0]) == {"reconstruction"}


@pytest.mark.parametrize("bad", [{"hard": -1.0}, {"hard_share": 0.0}, {"entropy_memory": -2.5}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError, match=str(next(iter(bad.values())))):
        TokenizerLossConfig(**bad)
