"""Editing the future never changes the past (paper §4.1), and images are clips of one frame."""

import pytest
import torch
from torch.testing import assert_close

from videoar import TokenizerConfig, VideoTokenizer


@pytest.mark.parametrize("gradients", [True, False], ids=["whole", "piecewise"])
@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_latent_frame_n_ignores_pixel_frames_after_4n(tokenizer, clip, n, gradients):
    edited = clip.clone()
    edited[:, :, 4 * n + 1 :] = -edited[:, :, 4 * n + 1 :] + 0.3
    with torch.set_grad_enabled(gradients):
        before, after = tokenizer.encode(clip), tokenizer.encode(edited)
    assert torch.equal(before[:, :, : n + 1], after[:, :, : n + 1])
    assert not torch.equal(before[:, :, n + 1 :], after[:, :, n + 1 :])


@pytest.mark.parametrize("gradients", [True, False], ids=["whole", "piecewise"])
@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_pixels_of_latent_frame_n_ignore_later_latents(tokenizer, clip, n, gradients):
    with torch.set_grad_enabled(gradients):
        latent = tokenizer.encode(clip).detach()
        edited = latent.clone()
        edited[:, :, n + 1 :] += 1
        before, after = tokenizer.decode(latent), tokenizer.decode(edited)
    past = 4 * n + 1
    assert torch.equal(before[:, :, :past], after[:, :, :past])
    assert not torch.equal(before[:, :, past:], after[:, :, past:])


def test_latent_frame_n_does_see_pixel_frame_4n(tokenizer, clip):
    edited = clip.clone()
    edited[:, :, 4] += 0.1
    difference = (tokenizer.encode(clip) - tokenizer.encode(edited)).abs().amax(dim=(0, 1, 3, 4))
    assert difference[0] == 0 and difference[1] > 1e-4


@torch.no_grad()
def test_an_image_is_the_first_frame_of_a_clip(tokenizer, clip):
    latent = tokenizer.encode(clip)
    assert torch.equal(tokenizer.encode(clip[:, :, :1]), latent[:, :, :1])
    assert torch.equal(tokenizer.decode(latent[:, :, :1]), tokenizer.decode(latent)[:, :, :1])


def test_an_image_is_the_first_frame_in_training_too(tokenizer, clip):
    assert_close(tokenizer.encode(clip[:, :, :1]), tokenizer.encode(clip)[:, :, :1], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_fresh_tokenizer_holds_every_fourth_frame_by_itself(clip):
    torch.manual_seed(0)
    fresh = VideoTokenizer(TokenizerConfig(6, 8, (1, 2, 2), res_blocks=1, patch=2, norm_groups=4)).eval()
    assert_close(fresh.encode(clip)[:, :, 2:3], fresh.encode(clip[:, :, 8:9]), atol=1e-5, rtol=0)
    latent = fresh.encode(clip)
    still = fresh.decode(latent[:, :, 2:3])
    assert_close(fresh.decode(latent)[:, :, 5:9], still.expand(-1, -1, 4, -1, -1), atol=1e-5, rtol=0)
