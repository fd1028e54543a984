"""The networks that come through transformers, as real (tiny, random) models in folders."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from videoar.metrics.features.base import weights_sha256
from videoar.metrics.features.registry import load_features
from videoar.metrics.vbench import backbones
from videoar.metrics.vbench.backbones import Weights, clip_pixels, dino_pixels

SMALL = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def test_videomae_from_a_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.VideoMAEConfig(image_size=32, patch_size=16, num_frames=8, **SMALL)
    model = transformers.VideoMAEModel(config).eval()
    model.save_pretrained(tmp_path)
    net = load_features(f"videomae:{tmp_path}")
    assert net.dim == 12 and net.card()["frames_used"] == 8 and net.card()["weights_sha256"] == weights_sha256(model)
    video = torch.rand(2, 3, 17, 32, 32) * 2 - 1
    frames = (video.double().numpy()[:, :, np.linspace(0, 16, 8).round().astype(int)].transpose(0, 2, 1, 3, 4) + 1) / 2
    mean, std = (np.reshape(v, (1, 1, 3, 1, 1)) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        expected = model(pixel_values=torch.from_numpy((frames - mean) / std).float()).last_hidden_state.mean(1)
    torch.testing.assert_close(net(video), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(224, 224), (48, 64)])
def test_dino_and_clip_from_the_hubs_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    vit = transformers.ViTConfig(image_size=224, patch_size=16, **SMALL)
    tower = transformers.CLIPVisionConfig(image_size=224, patch_size=32, projection_dim=5, **SMALL)
    dino = transformers.ViTModel(vit, add_pooling_layer=False).eval()
    clip = transformers.CLIPVisionModelWithProjection(tower).eval()
    dino.save_pretrained(tmp_path / "facebook/dino-vitb16")
    clip.save_pretrained(tmp_path / "openai/clip-vit-base-patch32")
    monkeypatch.chdir(tmp_path)  # a hub's name is a relative path, which transformers looks at first
    frames, weights = torch.rand(3, 3, *size) * 255, Weights(tmp_path)
    with torch.no_grad():
        expected = dino(dino_pixels(frames), interpolate_pos_encoding=True).last_hidden_state[:, 0]
        torch.testing.assert_close(backbones.dino(weights).run(frames), expected, rtol=1e-4, atol=1e-5)
        expected = clip(clip_pixels(frames)).image_embeds
        torch.testing.assert_close(backbones.clip("ViT-B-32", weights, "a test").run(frames), expected)
    assert backbones.dino(weights).sha256 == weights_sha256(dino)
