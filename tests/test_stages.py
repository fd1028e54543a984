"""The stage configs chain: each starts from the checkpoint of the one before, at another resolution and length."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml

from videoar.cli.main import main
from videoar.data.writers import to_uint8, write_mp4, write_png
from videoar.training.checkpoint import load_models, load_tokenizer, read_checkpoint

CONFIGS = Path(__file__).parents[1] / "configs"
TOKENIZER = {"latent_dim": 8, "channels": 8, "multipliers": [1, 1, 2], "patch": 4, "res_blocks": 1, "norm_groups": 4}
GENERATOR = {"latent_dim": 8, "width": 32, "depth": 1, "heads": 2, "text_features": 24, "max_prompt": 16}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """films.jsonl and photos.jsonl with captions, and what they list: clips/ in two class folders, photos/."""
    folder = tmp_path_factory.mktemp("stages")
    rng = torch.Generator().manual_seed(0)
    lists: dict[str, list] = {"films": [], "photos": []}
    for i in range(6):
        coarse = torch.randn(1, 3, 13, 3, 4, generator=rng)
        clip = torch.nn.functional.interpolate(coarse, (13, 64, 96), mode="trilinear")[0].tanh()
        film, photo = f"clips/{('pong', 'boxing')[i % 2]}/{i}.mp4", f"photos/{i}.png"
        write_mp4(folder / film, clip, fps=8)
        write_png(folder / photo, to_uint8(clip[:, :1])[0])
        lists["films"].append({"path": film, "caption": "a red ball" if i % 2 else "the blue paddle bounces twice"})
        lists["photos"].append({"path": photo, "caption": "a paddle"})
    for name, rows in lists.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def fit(config, folder, root, model, data):
    """Two steps of a shipped config, made small by an overlay."""
    trainer = {"max_steps": 2, "accelerator": "cpu", "default_root_dir": str(root), "limit_val_batches": 0}
    keep = {"save_last": True, "every_n_train_steps": 1}
    trainer |= {"callbacks": [{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": keep}]}
    overlay = {"trainer": trainer, "model": {"init_args": model}, "data": data | {"loading": {"workers": 0}}}
    small = folder / f"{root.name}.yaml"
    small.write_text(yaml.safe_dump(overlay))
    assert main(["fit", "--config", str(CONFIGS / config), "--config", str(small)]) == 0
    return root / "checkpoints" / "last.ckpt"


def stage_of(config, **changes):
    """The config's own stages (the last in full), with numbers that fit the test."""
    data = yaml.safe_load((CONFIGS / config).read_text())["data"]
    stage = (data["stages"][-1] if "stages" in data else data["stage"]) | changes | {"batch_size": 2}
    return stage | ({"image_batch_size": 2} if "image_batch_size" in stage else {})


def test_generator_stages_one_to_three(place, tmp_path, text_encoder, monkeypatch):
    from videoar import TokenizerConfig, VideoTokenizer

    torch.manual_seed(0)
    VideoTokenizer(TokenizerConfig(**TOKENIZER)).save_pretrained(tmp_path / "tokenizer")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    text = {"text_encoder": text_encoder}
    model = {"tokenizer": str(tmp_path / "tokenizer"), "generator": GENERATOR | text}
    weights = []
    for stage, resolution, frames in ((1, 32, 5), (2, 48, 9), (3, 48, 13)):
        config = f"generator/stage{stage}.yaml"
        shipped = yaml.safe_load((CONFIGS / config).read_text())["data"]["sources"]
        sources = [{"path": str(place / Path(source["path"]).name), "holdout": 0.2} for source in shipped]
        data = {"sources": sources, "stage": stage_of(config, resolution=resolution, frames=frames)}
        checkpoint = fit(config, tmp_path, tmp_path / f"stage{stage}", model, data)
        generator, tokenizer = load_models(checkpoint, ema=False)
        assert generator.config.condition == "text" and generator.config.attention == "flex"
        assert generator.config.tokenizer_fingerprint == tokenizer.encoder_fingerprint()
        assert max(generator.config.size) >= resolution  # where sampling starts from is the last stage's
        weights.append(generator.blocks[0].attention.qkv.weight)
        model = {"init_from": str(checkpoint)}
    assert all((a - b).abs().max() > 0 for a, b in pairwise(weights))
    assert (weights[0] - weights[2]).abs().max() < 0.01, "the second stage starts where the first ended"
    assert (tmp_path / "cache" / "videoar" / "text").is_dir()


def test_tokenizer_image_stage_then_joint_stage(place, tmp_path):
    small = {"losses": {"perceptual_net": "none", "gan_start": 0}, "discriminator": {"channels": 4, "layers": 2}}
    image, joint = "tokenizer/ucf101_image.yaml", "tokenizer/ucf101_joint.yaml"
    assert stage_of(image)["frames"] == 1 and 0 < stage_of(joint)["image_share"] < 1
    data = {"root": str(place / "clips"), "stage": stage_of(image, resolution=32)}
    first = fit(image, tmp_path, tmp_path / "image", small | {"tokenizer": TOKENIZER}, data)
    sources = [{"path": str(place / "clips")}, {"path": str(place / "photos"), "kind": "image"}]
    data = {"sources": sources, "stages": [stage_of(joint, resolution=48, frames=5, image_share=0.5)]}
    second = fit(joint, tmp_path, tmp_path / "joint", small | {"init_from": str(first)}, data)
    counts = read_checkpoint(second)["videoar"]
    assert counts["batches_seen"] == 2 and not counts["skipped"]
    before, after = load_tokenizer(first, ema=False), load_tokenizer(second, ema=False)
    assert after.config == before.config and after.config.latent_dim == 8
    moved = (after.encoder.conv_in.weight - before.encoder.conv_in.weight).abs().max()
    assert 0 < moved < 0.01
