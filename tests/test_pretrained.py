"""Saved models: one file or several, one network or a folder of two, and names."""

import json

import pytest
import torch

from videoar import GeneratorConfig, TokenizerConfig, VideoAR, VideoTokenizer
from videoar.errors import UserError


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    return VideoAR(GeneratorConfig.preset("debug", num_classes=3)), VideoTokenizer(TokenizerConfig.preset("debug"))


def test_large_weights_are_split_and_come_back_whole(pair, tmp_path):
    model = pair[0]
    model.save_pretrained(tmp_path, max_shard_size="300KB")
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) > 1 and not (tmp_path / "model.safetensors").exists()
    assert max(file.stat().st_size for file in files) < 400_000
    assert VideoAR.from_pretrained(tmp_path).fingerprint() == model.fingerprint()
    files[0].rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"holds no {files[0].name}"):
        VideoAR.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)  # over the split one: nothing stale may stay
    assert [file.name for file in tmp_path.glob("model*")] == ["model.safetensors"]
    assert VideoAR.from_pretrained(tmp_path).fingerprint() == model.fingerprint()


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": {"a": "../model.safetensors"}}'])
def test_a_bad_index_is_one_clear_error(pair, tmp_path, index):
    pair[0].save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors.index.json").write_text(index)
    (tmp_path / "m" / "model.safetensors").rename(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"no index of weights|holds no model\.safetensors"):
        VideoAR.from_pretrained(tmp_path / "m")


def test_each_class_finds_its_part_of_a_folder(pair, tmp_path):
    generator, tokenizer = pair
    generator.save_pretrained(tmp_path / "generator")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    assert VideoAR.from_pretrained(tmp_path).fingerprint() == generator.fingerprint()
    assert VideoTokenizer.from_pretrained(tmp_path).fingerprint() == tokenizer.fingerprint()
    with pytest.raises(UserError, match="does not describe a VideoAR"):
        VideoAR.from_pretrained(tmp_path / "tokenizer")


def test_a_model_saved_before_every_scale_saw_the_past_loads_as_it_was(tmp_path):
    model = VideoAR(GeneratorConfig.preset("debug", temporal_context="first_scale")).eval()
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["temporal_context"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    old = VideoAR.from_pretrained(tmp_path)
    assert old.config.temporal_context == "first_scale" and old.fingerprint() == model.fingerprint()
    assert GeneratorConfig.preset("debug").temporal_context == "every_scale"


def test_half_precision_files_load_as_float32(pair, tmp_path):
    tokenizer = VideoTokenizer(TokenizerConfig.preset("debug")).to(torch.bfloat16)
    tokenizer.save_pretrained(tmp_path)
    loaded = VideoTokenizer.from_pretrained(tmp_path)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert loaded.fingerprint() == tokenizer.fingerprint()
    assert json.loads((tmp_path / "config.json").read_text())["model"] == "VideoTokenizer"


def test_an_unknown_shipped_name_is_one_clear_error():
    with pytest.raises(UserError, match="has no assets/videoar-nothing"):
        VideoAR.from_pretrained("videoar-nothing")
