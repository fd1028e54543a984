import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from videoar.errors import UserError
from videoar.metrics.features.atari import ARRANGEMENTS, AtariFeatures, frame_embedder, load_atari, rearrange
from videoar.metrics.features.base import file_sha256, weights_sha256
from videoar.metrics.features.i3d import I3D, Unit, load_i3d, same_padding
from videoar.metrics.features.registry import load_features
from videoar.shipped import shipped

# ---- I3D ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "k", "s", "front", "back"),
    [
        (224, 7, 2, 2, 3),
        (16, 7, 2, 2, 3),
        (17, 7, 2, 3, 3),
        (112, 3, 2, 0, 1),
        (28, 3, 1, 1, 1),
        (5, 2, 2, 0, 1),
        (4, 2, 2, 0, 0),
    ],
)
def test_same_padding_is_tensorflows(n: int, k: int, s: int, front: int, back: int) -> None:
    x = torch.ones(1, 1, n, 1, 1)
    padded = same_padding(x, (k, 1, 1), (s, 1, 1))[0, 0, :, 0, 0]
    assert padded.tolist() == [0.0] * front + [1.0] * n + [0.0] * back
    assert (len(padded) - k) // s + 1 == -(-n // s), "SAME: output = ceil(input / stride)"


def test_unit_is_convolution_norm_relu_with_the_given_epsilon() -> None:
    for eps in (1e-3, 1e-5):
        unit = Unit(2, 3, eps=eps).eval()
        unit.bn.running_mean.copy_(torch.tensor([0.1, 0.0, -0.2]))
        unit.bn.running_var.copy_(torch.tensor([1e-4, 0.5, 2.0]))
        x = torch.rand(1, 2, 3, 4, 5)
        weight = unit.conv3d.weight.detach().double().numpy()[:, :, 0, 0, 0]
        y = np.einsum("oc,bcthw->bothw", weight, x.double().numpy())
        mean, var = (v.double().numpy().reshape(1, 3, 1, 1, 1) for v in (unit.bn.running_mean, unit.bn.running_var))
        np.testing.assert_allclose(
            unit(x).detach().numpy(), np.maximum((y - mean) / np.sqrt(var + eps), 0), rtol=1e-4, atol=1e-5
        )


@pytest.fixture(scope="module")
def i3d_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain state dict in the public layout, random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("i3d") / "i3d_pretrained_400.pt"
    torch.save(I3D().state_dict(), path)
    return path


def test_i3d_layout(i3d_file: Path) -> None:
    state = torch.load(i3d_file, weights_only=True)
    shapes = {
        "Conv3d_1a_7x7.conv3d.weight": (64, 3, 7, 7, 7),
        "Mixed_3b.b1a.conv3d.weight": (96, 192, 1, 1, 1),
        "Mixed_4f.b2b.bn.running_var": (128,),
        "Mixed_5c.b1b.conv3d.weight": (384, 192, 3, 3, 3),
        "logits.conv3d.weight": (400, 1024, 1, 1, 1),
        "logits.conv3d.bias": (400,),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    parameters = sum(v.numel() for k, v in state.items() if k.endswith(("conv3d.weight", "conv3d.bias")))
    assert parameters == 12_682_704, "12.7 M weights: the 51 MB of the public files"


def test_i3d_from_a_state_dict(i3d_file: Path) -> None:
    net = load_i3d(i3d_file, eps=1e-5)
    assert net.card()["batch_norm_eps"] == 1e-5 and net.sha256 == file_sha256(i3d_file)
    assert net.module.Conv3d_1a_7x7.bn.eps == 1e-5
    video = torch.rand(1, 3, 9, 32, 32) * 2 - 1
    features = net(video)
    assert features.shape == (1, 400)
    with pytest.raises(ValueError, match="at least 9 frames, got 8"):
        net(video[:, :, :8])
    with pytest.raises(UserError, match="internal"):
        load_i3d(i3d_file, resize="internal")


class Scripted(nn.Module):
    """The call of StyleGAN-V's archive, with a trivial body."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(400))

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        scale = 2.0 if resize else 1.0
        return x.mean(dim=[2, 3, 4]).repeat(1, 134)[:, :400] * self.weight * scale


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_i3d_from_torchscript(tmp_path: Path) -> None:
    path = tmp_path / "i3d_torchscript.pt"
    torch.jit.script(Scripted()).save(str(path))
    video = torch.rand(2, 3, 10, 20, 20) * 2 - 1
    net, inside = load_i3d(path), load_i3d(path, resize="internal")
    assert net.card()["kind"] == "torchscript" and net.card()["known_file"] is False
    torch.testing.assert_close(inside(video)[:, 0], 2 * video[:, 0].mean((1, 2, 3)))
    assert net(video).shape == (2, 400) and inside.card()["resize_inside"]


def test_i3d_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file at"):
        load_i3d(tmp_path / "missing.pt")
    torch.save({"weight": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="neither a TorchScript archive nor an I3D state dict"):
        load_i3d(tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(UserError, match=r"text\.pt is truncated or no torch file of plain data"):
        load_i3d(tmp_path / "text.pt")
    state = I3D().state_dict()
    state.pop("Mixed_3b.b0.bn.running_var")
    torch.save(state, tmp_path / "partial.pt")
    with pytest.raises(UserError, match="does not fit I3D"):
        load_i3d(tmp_path / "partial.pt")


# ---- Atari -------------------------------------------------------------------------------------------------


def test_atari_net_survives_saving_and_takes_any_length(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = AtariFeatures(["pong", "breakout"], width=16).eval()
    made.save(tmp_path, {"accuracy": 0.5})
    net = load_atari(tmp_path)
    assert net.dim == 16 and net.details["classes"] == 2 and net.sha256 == file_sha256(tmp_path / "model.safetensors")
    for frames in (2, 5, 17):
        video = torch.rand(2, 3, frames, 40, 60) * 2 - 1
        assert net(video).shape == (2, 16)
    exact = torch.rand(1, 3, 4, 128, 128) * 2 - 1
    torch.testing.assert_close(net(exact), made(exact).detach())
    assert frame_embedder(tmp_path)(exact[:, :, :1]).shape == (1, 16)
    with pytest.raises(ValueError, match="at least 2 frames"):
        net(exact[:, :, :1])


def test_atari_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file at"):
        load_atari(tmp_path)
    AtariFeatures(["pong"], width=8).save(tmp_path, {})
    config = (tmp_path / "config.json").read_text().replace('"width": 8', '"width": 16')
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError, match="does not hold an Atari feature net"):
        load_atari(tmp_path)


def test_the_shipped_net_is_small_and_is_what_its_card_says() -> None:
    folder = shipped("assets/atari-features")
    config = json.loads((folder / "config.json").read_text())
    net, card = load_atari(), (folder / "README.md").read_text()
    assert net.dim == config["width"] and (folder / "model.safetensors").stat().st_size < 2**24
    assert f"{len(config['classes'])} games" in card and f"({config['test_clips']} clips" in card
    for name in ("test_accuracy", "test_accuracy_one_frame", "test_accuracy_arrangement"):
        assert f"{100 * config[name]:.1f} %" in card


def test_arrangements_of_frames() -> None:
    video = torch.arange(6.0).view(1, 1, 6, 1, 1).expand(4, 3, 6, 2, 2)
    out = rearrange(video, torch.arange(4), torch.Generator().manual_seed(0))[:, 0, :, 0, 0]
    assert ARRANGEMENTS == ("forwards", "backwards", "shuffled", "frozen")
    assert out[0].tolist() == [0, 1, 2, 3, 4, 5] and out[1].tolist() == [5, 4, 3, 2, 1, 0]
    assert sorted(out[2].tolist()) == [0, 1, 2, 3, 4, 5] and out[2].tolist() != out[0].tolist()
    assert len(set(out[3].tolist())) == 1


def test_weights_hash_sees_values_names_and_shapes() -> None:
    one, two = nn.Linear(3, 4), nn.Linear(3, 4)
    two.load_state_dict(one.state_dict())
    assert weights_sha256(one) == weights_sha256(two)
    with torch.no_grad():
        two.bias[0] += 1e-7
    assert weights_sha256(one) != weights_sha256(two)


# ---- VideoMAE and the registry -----------------------------------------------------------------------------


def test_videomae_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """What transformers is given, by a stand-in: 16 even frames, ImageNet's scale; the mean of the tokens returns."""
    calls = {}

    class Model(nn.Module):
        config = types.SimpleNamespace(num_frames=16, image_size=8, hidden_size=3)

        @classmethod
        def from_pretrained(cls, source: str, local_files_only: bool) -> nn.Module:
            if source == "absent":
                raise OSError("absent is not a local folder")
            calls["local"] = local_files_only
            return cls()

        def forward(self, pixel_values: Tensor) -> types.SimpleNamespace:
            calls["pixels"] = pixel_values
            return types.SimpleNamespace(last_hidden_state=pixel_values.mean((3, 4)))

    monkeypatch.setitem(sys.modules, "transformers", types.SimpleNamespace(VideoMAEModel=Model))
    net = load_features("videomae:some-folder")
    video = torch.linspace(-1, 1, 31).view(1, 1, 31, 1, 1).expand(1, 3, 31, 8, 8)
    features = net(video)
    assert calls["local"] is True and calls["pixels"].shape == (1, 16, 3, 8, 8)
    frames = np.linspace(0, 30, 16).round() / 30  # in [0, 1]
    expected = (frames.mean() - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(features[0].numpy(), expected, rtol=1e-5)
    with pytest.raises(UserError, match="not on this machine"):
        load_features("videomae:absent")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match="need transformers"):
        load_features("videomae")


def test_unknown_nets_and_i3d_without_a_file() -> None:
    with pytest.raises(UserError, match="unknown feature net 'c3d'"):
        load_features("c3d")
    with pytest.raises(UserError, match="never fetched"):
        load_features("i3d")
