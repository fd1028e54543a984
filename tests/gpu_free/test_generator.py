"""The generator under CUDA's autocast: bfloat16 where it is fast, float32 where it matters."""

import pytest
import torch
from fake_gpu import moved

from videoar import GeneratorConfig, ScalePyramid, VideoAR
from videoar.generator.text import TextFeatures

PYRAMID = ScalePyramid(((1, 1), (2, 2), (3, 4)))
LOW, FULL = torch.bfloat16, torch.float32


@pytest.mark.parametrize("condition", ["class", "bytes"])
def test_attention_is_bfloat16_and_the_residual_stream_float32(gpu, condition):
    seen = []
    attention = "scaled_dot_product_attention"
    with gpu(), torch.autocast("cuda", torch.bfloat16):
        with torch.device("cuda"):
            model = VideoAR(GeneratorConfig.preset("debug", condition=condition)).train()
        for block in model.blocks:
            block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
            block.attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1][0].dtype))
        original = getattr(torch.nn.functional, attention)
        values = [0, 3] if condition == "class" else ["a", "bird"]
        calls = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                torch.nn.functional,
                attention,
                lambda q, k, v, **rest: calls.append((q.dtype, k.dtype, v.dtype)) or original(q, k, v, **rest),
            )
            tokens = torch.zeros(2, 3 * PYRAMID.length, model.config.context_features, device="cuda")
            logits = model(tokens, values, PYRAMID, 3)
    assert set(seen) == {FULL}, "what a block adds to, and RoPE's cos and sin"
    assert set(calls) == {(LOW, LOW, LOW)} and len(calls) == len(model.blocks)
    assert logits.shape == (*tokens.shape[:2], model.config.latent_dim) and logits.is_cuda


def test_prompts_are_encoded_in_bfloat16_on_the_device(gpu, text_encoder, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text, asked, inputs = TextFeatures(text_encoder, 16), [], []
    text.of(["a red ball"], torch.device("cpu"))
    tokenizer, encoder = text.encoder
    encoder = encoder.to(LOW)
    monkeypatch.setattr(text, "_keep", lambda features, path: None)  # fake tensors have no values to write
    with gpu(), torch.autocast("cuda", LOW):
        encoder = moved(encoder)
        encoder.to = lambda *where: asked.append(where)  # fake tensors cannot be converted in place
        encoder.register_forward_pre_hook(lambda _, args, given: inputs.append(given), with_kwargs=True)
        text.encoder = [tokenizer, encoder]
        features = text.of(["a blue ball", "a paddle bounces"], torch.device("cuda"))
    assert asked == [(torch.device("cuda"), LOW)]
    assert len(inputs) == 1 and all(given.is_cuda for given in inputs[0].values())
    assert all(x.device.type == "cpu" and x.dtype == FULL for x in features)
