"""LPIPS from local weights, its numerics, its errors, and the loss that needs no weights."""

import warnings

import lpips
import pytest
import torch
import torchvision
from torch import nn

from videoar.errors import UserError
from videoar.losses.perceptual import MultiscaleGradient, Perceptual, perceptual_loss


@pytest.fixture(scope="module")
def alex_weights(tmp_path_factory):
    """Random AlexNet weights in torchvision's layout: the layout is what the loader must get right."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "alex.pth"
    torch.save(torchvision.models.alexnet(weights=None).state_dict(), path)
    return path


@pytest.fixture
def videos():
    rng = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 2, 64, 64, generator=rng) * 2 - 1, torch.rand(2, 3, 2, 64, 64, generator=rng) * 2 - 1


def test_equals_the_lpips_package_frame_by_frame(alex_weights, videos):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    full = torch.load(alex_weights, weights_only=True)
    for name, parameter in package.net.named_parameters():
        parameter.data.copy_(full["features." + name.split(".", 1)[1]])
    x, y = (video.transpose(1, 2).flatten(0, 1) for video in videos)
    expected = package(x, y).mean()
    torch.testing.assert_close(Perceptual("alex", str(alex_weights))(*videos), expected, rtol=1e-4, atol=1e-6)


def test_gradient_is_finite_where_features_vanish(alex_weights):
    loss = Perceptual("alex", str(alex_weights))
    for layer in loss.network(torch.device("cpu")).net.modules():
        if isinstance(layer, nn.Conv2d):  # every feature is exactly zero: sqrt(0) has no gradient
            layer.weight.data.zero_(), layer.bias.data.zero_()
    video = torch.zeros(1, 3, 1, 64, 64, requires_grad=True)
    loss(video, torch.ones(1, 3, 1, 64, 64)).backward()
    assert video.grad.isfinite().all()


def test_frozen_network_is_in_no_checkpoint_and_no_optimizer(alex_weights, videos):
    holder = nn.ModuleDict({"perceptual": Perceptual("alex", str(alex_weights))})
    holder["perceptual"](*videos)
    assert holder.state_dict() == {} and list(holder.parameters()) == []


def test_is_float32_inside_autocast(alex_weights, videos):
    loss = Perceptual("alex", str(alex_weights))
    plain = loss(*videos)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(*videos), plain)


def test_missing_weights_name_the_file_and_the_choice_without_download(tmp_path, videos, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"vgg16-397923af\.pth does not exist.*multiscale_gradient"):
        Perceptual("vgg")(*videos)
    with pytest.raises(UserError, match="nowhere"):
        Perceptual("vgg", str(tmp_path / "nowhere.pth"))(*videos)


def test_wrong_or_broken_weights_are_refused(tmp_path, videos, alex_weights):
    with pytest.raises(UserError, match=r"not a torchvision vgg16 state dict"):
        Perceptual("vgg", str(alex_weights))(*videos)
    broken = tmp_path / "broken.pth"
    broken.write_bytes(alex_weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="is truncated or no torch file"):
        Perceptual("alex", str(broken))(*videos)


def test_multiscale_gradient_matches_its_formula(videos):
    x, y = (video.double() for video in videos)
    terms = []
    for size in (64, 32):
        dx = (x[..., 1:] - x[..., :-1]) - (y[..., 1:] - y[..., :-1])
        dy = (x[..., 1:, :] - x[..., :-1, :]) - (y[..., 1:, :] - y[..., :-1, :])
        dt = (x[:, :, 1:] - x[:, :, :-1]) - (y[:, :, 1:] - y[:, :, :-1])
        terms.append(dx.abs().mean() + dy.abs().mean() + dt.abs().mean())
        x, y = (z.reshape(2, 3, 2, size // 2, 2, size // 2, 2).mean((4, 6)) for z in (x, y))
    torch.testing.assert_close(MultiscaleGradient(levels=2)(*videos).double(), sum(terms) / 2, rtol=1e-5, atol=0)


def test_multiscale_gradient_sees_blur_that_l1_hardly_sees():
    stripes = torch.arange(64).remainder(2).float().mul(2).sub(1).expand(1, 3, 1, 64, 64)
    loss = MultiscaleGradient()
    shifted = stripes * 0.5  # half the contrast: same edges, half as strong
    assert loss(stripes, stripes) == 0
    assert loss(stripes * 0, stripes) == pytest.approx(2 * loss(shifted, stripes).item())


def test_multiscale_gradient_prefers_a_moving_thing_to_a_frozen_one():
    moving = torch.zeros(1, 3, 8, 32, 32)
    for t in range(8):
        moving[:, :, t, 12:16, 4 * t : 4 * t + 4] = 1.0
    frozen, late = moving.mean(2, keepdim=True).expand_as(moving), 0.9 * moving
    loss = MultiscaleGradient()
    assert loss(late, moving) < 0.2 * loss(frozen, moving)
    by_frame = torch.stack([loss(frozen[:, :, t : t + 1], moving[:, :, t : t + 1]) for t in range(8)]).mean()
    assert loss(frozen, moving) > 1.2 * by_frame  # the frozen video pays for its motion on top of its edges


@pytest.mark.parametrize("loss", [MultiscaleGradient(), Perceptual("alex")])
def test_small_or_different_frames_are_refused(loss):
    if isinstance(loss, Perceptual):
        loss._built[torch.device("cpu")] = nn.Identity()
    with pytest.raises(ValueError, match="31x40"):
        loss(torch.zeros(1, 3, 1, 31, 40), torch.zeros(1, 3, 1, 31, 40))
    with pytest.raises(ValueError, match="two shapes"):
        loss(torch.zeros(1, 3, 1, 64, 64), torch.zeros(1, 3, 2, 64, 64))


def test_choice_by_name():
    assert perceptual_loss("none") is None
    assert isinstance(perceptual_loss("multiscale_gradient"), MultiscaleGradient)
    assert perceptual_loss("lpips_alex", "x").net == "alex"
    with pytest.raises(ValueError, match="dino"):
        perceptual_loss("dino")
