"""Text conditions through a real, tiny T5 encoder with random weights, made here and loaded from its folder."""

import pytest
import torch

from videoar.errors import UserError
from videoar.generator.conditioning import TextCondition


def test_prompts_become_prefix_tokens_of_their_length(text_encoder):
    condition = TextCondition(32, text_encoder, 24, max_tokens=16)(["a red ball", "the blue paddle bounces twice"])
    assert condition.lengths.tolist() == [4, 6]  # words and the end token
    assert condition.tokens.shape == (2, 6, 32) and condition.pooled.shape == (2, 32)
    assert (condition.tokens[0, 4:] == 0).all()


def test_without_a_cache_folder_they_stay_in_memory(text_encoder, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    module = TextCondition(32, text_encoder, 24, max_tokens=16)
    assert torch.equal(module.features("a red ball"), module.features("a red ball"))
    assert caplog.text.count("kept in memory only") == 1


def test_the_encoder_is_frozen_and_enters_no_checkpoint(text_encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module = TextCondition(32, text_encoder, 24, max_tokens=16)
    before = set(module.state_dict())
    module(["a red ball"])
    assert set(module.state_dict()) == before
    assert all(not p.requires_grad for p in module._encoder[1].parameters())


def test_features_are_cached_on_disk(text_encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = TextCondition(32, text_encoder, 24, max_tokens=16)
    features = first.features("a red ball")
    assert len(list((tmp_path / "videoar" / "text").glob("*.safetensors"))) == 1
    second = TextCondition(32, text_encoder, 24, max_tokens=16)
    assert torch.equal(second.features("a red ball"), features)
    assert second._encoder == [], "the encoder is not loaded for a prompt that is cached"


def test_bad_prompts_and_encoders_are_refused(text_encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    TextCondition(32, text_encoder, 24, max_tokens=16)(["the blue paddle bounces twice"])  # cached, and yet too long
    with pytest.raises(UserError, match=r"prompt of 6 tokens; allowed are 1 … 4"):
        TextCondition(32, text_encoder, 24, max_tokens=4)(["the blue paddle bounces twice"])
    with pytest.raises(UserError, match="cannot load the text encoder"):
        TextCondition(32, str(tmp_path / "nothing"), 24, max_tokens=4)(["a"])
