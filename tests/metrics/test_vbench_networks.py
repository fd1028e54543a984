"""The loaders, with random weights in files where the library is a dependency and with stand-ins where it is not."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from videoar.errors import UserError
from videoar.metrics.features.atari import AtariFeatures
from videoar.metrics.features.base import file_sha256
from videoar.metrics.vbench import backbones, registry
from videoar.metrics.vbench.backbones import Weights, clip_pixels, dino_pixels
from videoar.metrics.vbench.base import Backbone
from videoar.metrics.vbench.registry import make_dimension, make_dimensions


def test_clip_pixels_at_native_size_only_crop_and_normalise() -> None:
    frames = (torch.rand(2, 3, 224, 300, generator=torch.Generator().manual_seed(0)) * 255).round()
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    expected = (frames[..., 38:262].double().numpy() / 255 - mean.reshape(1, 3, 1, 1)) / std.reshape(1, 3, 1, 1)
    np.testing.assert_allclose(clip_pixels(frames).numpy(), expected, atol=1e-5)


def test_sizes_after_preprocessing() -> None:
    assert clip_pixels(torch.zeros(1, 3, 480, 852)).shape == (1, 3, 224, 224)
    assert clip_pixels(torch.zeros(1, 3, 64, 32)).shape == (1, 3, 224, 224)
    assert dino_pixels(torch.zeros(1, 3, 480, 852)).shape == (1, 3, 224, 384), "224x397, cut to whole patches"
    grey = dino_pixels(torch.full((1, 3, 64, 64), 0.456 * 255))
    torch.testing.assert_close(grey[0, 1], torch.zeros(224, 224), atol=1e-5, rtol=0)


def test_dino_from_vbenchs_file_goes_through_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dino_model" / "dino_vitbase16_pretrain.pth"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    asked: dict[str, Any] = {}

    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    def create_model(name: str, **options: Any) -> nn.Module:
        asked.update(options, name=name)
        return Net()

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    backbone = backbones.dino(Weights(tmp_path))
    assert asked["name"] == "vit_base_patch16_224.dino" and asked["checkpoint_path"] == str(path)
    assert asked["pretrained"] is False and backbone.sha256 == file_sha256(path) and backbone.substitute is None
    assert backbone.run(torch.rand(40, 3, 32, 32) * 255).shape == (40, 3), "frames go through in batches"


def test_clip_without_a_file_comes_from_the_hub_only_if_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Model(nn.Module):
        @classmethod
        def from_pretrained(cls, source: str, local_files_only: bool) -> nn.Module:
            if local_files_only:
                raise OSError("not cached")
            assert source == "openai/clip-vit-base-patch32"
            return cls()

        def forward(self, pixel_values: Tensor) -> SimpleNamespace:
            return SimpleNamespace(image_embeds=pixel_values.mean((2, 3)))

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(CLIPVisionModelWithProjection=Model))
    with pytest.raises(UserError, match="neither in VBench's cache folder nor in the hub's local cache"):
        backbones.clip("ViT-B-32", Weights(tmp_path), "background consistency")
    allowed = backbones.clip("ViT-B-32", Weights(tmp_path, download=True), "background consistency")
    assert allowed.run(torch.zeros(2, 3, 30, 30)).shape == (2, 3)


def test_aesthetic_head_is_linear_on_normalised_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "aesthetic_model" / "emb_reader" / "sa_0_4_vit_l_14_linear.pth"
    path.parent.mkdir(parents=True)
    torch.save({"weight": torch.tensor([[3.0, 4.0]]), "bias": torch.tensor([1.0])}, path)
    tower = Backbone("tower", lambda frames: frames.mean((2, 3))[:, :2])
    monkeypatch.setattr(backbones, "clip", lambda name, weights, purpose: tower)
    frames = torch.zeros(1, 3, 4, 4)
    frames[0, 0], frames[0, 1] = 6.0, 8.0
    assert float(backbones.aesthetic(Weights(tmp_path)).run(frames)) == pytest.approx(3 * 0.6 + 4 * 0.8 + 1)
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(UserError, match=r"LAION's linear head.* needs aesthetic_model/emb_reader"):
        backbones.aesthetic(Weights(tmp_path / "elsewhere"))


def test_musiq_shrinks_large_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pyiqa_model" / "musiq_spaq_ckpt-358bb6af.pth"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    seen: list[tuple[int, ...]] = []

    class MUSIQ(nn.Module):
        def __init__(self, pretrained_model_path: str) -> None:
            super().__init__()
            assert pretrained_model_path == str(path)

        def forward(self, x: Tensor) -> Tensor:
            seen.append(tuple(x.shape))
            return x.mean((1, 2, 3))[:, None] * 100

    monkeypatch.setitem(sys.modules, "pyiqa.archs.musiq_arch", SimpleNamespace(MUSIQ=MUSIQ))
    score = backbones.musiq(Weights(tmp_path)).run(torch.full((2, 3, 300, 1000), 51.0))
    assert seen == [(1, 3, 153, 512)] * 2
    torch.testing.assert_close(score, torch.full((2,), 20.0))


@pytest.mark.slow
def test_raft_from_torchvisions_file(tmp_path: Path) -> None:
    from torchvision.models.optical_flow import raft_large

    torch.manual_seed(0)
    path = tmp_path / "raft_model" / backbones.RAFT_FILE
    path.parent.mkdir()
    torch.save(raft_large(weights=None).state_dict(), path)
    backbone = backbones.raft(Weights(tmp_path), updates=1)
    frames = torch.rand(1, 3, 130, 132) * 255
    assert backbone.run(frames, frames).shape == (1, 2, 136, 136), "padded to whole eighths, as VBench leaves it"
    with pytest.raises(ValueError, match="at least 128x128 pixels, got \\(130, 64\\)"):
        backbone.run(frames[..., :64], frames[..., :64])


@pytest.mark.parametrize(("height", "width"), [(130, 133), (128, 136), (129, 135)])
def test_raft_sees_what_vbench_pads(height: int, width: int) -> None:
    """VBench's InputPadder, term by term: the frame lies in the middle of the padded one, edges repeated."""
    frames = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)) * 255
    pad_ht, pad_wd = (((height // 8) + 1) * 8 - height) % 8, (((width // 8) + 1) * 8 - width) % 8
    pad = [pad_wd // 2, pad_wd - pad_wd // 2, pad_ht // 2, pad_ht - pad_ht // 2]
    expected = torch.nn.functional.pad(frames, pad, mode="replicate") / 127.5 - 1
    torch.testing.assert_close(backbones.raft_pixels(frames), expected)


def test_what_is_missing_is_listed_and_what_can_stand_in_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setitem(sys.modules, "transformers", None)
    made = make_dimensions(weights=Weights(tmp_path))
    assert [m.key for m in made.metrics] == ["temporal_flickering", "motion_smoothness@ffmpeg", "dynamic_degree@ffmpeg"]
    assert set(made.unavailable) == {
        "subject_consistency",
        "background_consistency",
        "aesthetic_quality",
        "imaging_quality",
    }
    assert "pip install transformers" in made.unavailable["subject_consistency"]
    none = make_dimensions(weights=Weights(tmp_path), substitutes=("none",))
    assert [m.key for m in none.metrics] == ["temporal_flickering"] and "AMT-S" in none.unavailable["motion_smoothness"]


def test_atari_frames_stand_in_for_dino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    AtariFeatures(["a", "b"], width=8).save(tmp_path, {})
    monkeypatch.setattr("videoar.metrics.features.atari.shipped", lambda relative: tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    metric = make_dimension("subject_consistency", Weights(tmp_path), ("ffmpeg", "atari"))
    metric.update(torch.rand(1, 3, 4, 40, 40) * 2 - 1, fps=8)
    assert metric.key == "subject_consistency@atari" and 0 <= float(metric.compute()) <= 1


def test_unknown_dimensions() -> None:
    for names in (["beauty"], ["color"]):
        with pytest.raises(UserError, match=f"unknown dimension '{names[0]}'"):
            make_dimensions(names)
    assert set(registry.SUBSTITUTES) == {"motion_smoothness", "dynamic_degree", "subject_consistency"}
