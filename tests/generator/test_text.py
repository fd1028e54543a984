"""Text conditions through a real, tiny T5 encoder with random weights, made here and loaded from its folder."""

import pytest
import torch

from videoar.errors import UserError
from videoar.generator.conditioning import TextCondition

WORDS = ["a", "red", "ball", "bounces", "over", "the", "blue", "paddle", "twice", "</s>", "<pad>", "<unk>"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("t5")
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)
    config = T5Config(vocab_size=len(WORDS), d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    T5EncoderModel(config).save_pretrained(folder)
    return str(folder)


def test_prompts_become_prefix_tokens_of_their_length(encoder):
    condition = TextCondition(32, encoder, 24, max_tokens=16)(["a red ball", "the blue paddle bounces twice"])
    assert condition.lengths.tolist() == [4, 6]  # words and the end token
    assert condition.tokens.shape == (2, 6, 32) and condition.pooled.shape == (2, 32)
    assert (condition.tokens[0, 4:] == 0).all()


def test_the_encoder_is_frozen_and_enters_no_checkpoint(encoder):
    module = TextCondition(32, encoder, 24, max_tokens=16)
    before = set(module.state_dict())
    module(["a red ball"])
    assert set(module.state_dict()) == before
    assert all(not p.requires_grad for p in module._encoder[1].parameters())


def test_features_are_cached_on_disk(encoder, tmp_path):
    first = TextCondition(32, encoder, 24, max_tokens=16, cache_dir=str(tmp_path))
    features = first.features("a red ball")
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    second = TextCondition(32, encoder, 24, max_tokens=16, cache_dir=str(tmp_path))
    assert torch.equal(second.features("a red ball"), features)
    assert second._encoder == [], "the encoder is not loaded for a prompt that is cached"


def test_bad_prompts_and_encoders_are_refused(encoder, tmp_path):
    with pytest.raises(UserError, match=r"prompt of 6 tokens; allowed are 1 … 4"):
        TextCondition(32, encoder, 24, max_tokens=4)(["the blue paddle bounces twice"])
    with pytest.raises(UserError, match="cannot load the text encoder"):
        TextCondition(32, str(tmp_path / "nothing"), 24, max_tokens=4)(["a"])
