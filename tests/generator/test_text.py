"""Text conditions through a real, tiny T5 encoder with random weights, made here and loaded from its folder."""

import pytest
import torch

from videoar.errors import UserError
from videoar.generator.conditioning import TextCondition
from videoar.generator.text import TextFeatures

CPU = torch.device("cpu")


def test_prompts_become_prefix_tokens_of_their_length(text_encoder):
    condition = TextCondition(32, text_encoder, 24, max_tokens=16)(["a red ball", "the blue paddle bounces twice"])
    assert condition.lengths.tolist() == [4, 6]  # words and the end token
    assert condition.tokens.shape == (2, 6, 32) and condition.pooled.shape == (2, 32)
    assert (condition.tokens[0, 4:] == 0).all()


def test_without_a_cache_folder_they_stay_in_memory(text_encoder, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    module = TextCondition(32, text_encoder, 24, max_tokens=16)
    assert torch.equal(module.text.of(["a red ball"], CPU)[0], module.text.of(["a red ball"], CPU)[0])
    assert caplog.text.count("kept in memory only") == 1


def test_the_encoder_is_frozen_and_enters_no_checkpoint(text_encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module = TextCondition(32, text_encoder, 24, max_tokens=16)
    before = set(module.state_dict())
    module(["a red ball"])
    assert set(module.state_dict()) == before
    assert all(not p.requires_grad for p in module.text.encoder[1].parameters())


def test_features_are_cached_on_disk(text_encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = TextCondition(32, text_encoder, 24, max_tokens=16)
    features = first.text.of(["a red ball"], CPU)[0]
    assert len(list((tmp_path / "videoar" / "text").glob("*.safetensors"))) == 1
    second = TextCondition(32, text_encoder, 24, max_tokens=16)
    assert torch.equal(second.text.of(["a red ball"], CPU)[0], features)
    assert second.text.encoder == [], "the encoder is not loaded for a prompt that is cached"


def test_bad_prompts_and_encoders_are_refused(text_encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    TextCondition(32, text_encoder, 24, max_tokens=16)(["the blue paddle bounces twice"])  # cached, and yet too long
    with pytest.raises(UserError, match=r"prompt of 6 tokens; allowed are 1 … 4"):
        TextCondition(32, text_encoder, 24, max_tokens=4)(["the blue paddle bounces twice"])
    with pytest.raises(UserError, match="cannot load the text encoder"):
        TextCondition(32, str(tmp_path / "nothing"), 24, max_tokens=4)(["a"])


def test_new_prompts_of_a_batch_are_encoded_together_and_as_alone(text_encoder, tmp_path, monkeypatch):
    prompts = ["a red ball", "the blue paddle bounces twice", "a red ball"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "alone"))
    alone = [TextFeatures(text_encoder, 16).of([prompt], CPU)[0] for prompt in prompts]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "together"))
    text, calls = TextFeatures(text_encoder, 16), []
    text.of(["a ball"], CPU)
    text.encoder[1].register_forward_pre_hook(lambda _, inputs: calls.append(inputs))
    together = text.of(prompts, CPU)
    assert len(calls) == 1 and [len(features) for features in together] == [4, 6, 4]
    for ours, theirs in zip(together, alone):
        torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=2e-3)  # files hold float16


def test_the_encoder_is_let_go_when_every_prompt_is_known(text_encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(TextFeatures, "IDLE", 3)
    text = TextFeatures(text_encoder, 16)
    for _ in range(3):
        first = text.of(["a red ball"], CPU)[0]
    assert text.encoder
    assert torch.equal(text.of(["a red ball"], CPU)[0], first) and not text.encoder
    text.of(["a ball"], CPU)
    assert text.encoder, "and comes back for a new one"
