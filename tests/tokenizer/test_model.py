"""Shapes, configuration, bits, gradients, errors, saving."""

import json

import pytest
import torch
from torch.testing import assert_close

from videoar import ScalePyramid, TokenizerConfig, VideoTokenizer
from videoar.bits.residual import decode_bits
from videoar.errors import UserError
from videoar.tokenizer.config import PRESETS


def test_the_paper_s_shape():
    config = TokenizerConfig.preset("videoar")
    assert (config.latent_dim, config.widths, config.spatial_ratio, config.temporal_ratio) == (
        48,
        (128, 256, 512, 512, 512),
        16,
        4,
    )
    with torch.device("meta"):
        tokenizer = VideoTokenizer(config)
        latent = tokenizer.encode(torch.empty(1, 3, 17, 128, 128))
        assert latent.shape == (1, 48, 5, 8, 8)
        assert tokenizer.decode(latent).shape == (1, 3, 17, 128, 128)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_copies_at_16x16x4(name):
    config = TokenizerConfig.preset(name)
    config.latent_dim = 1
    assert TokenizerConfig.preset(name).latent_dim != 1
    assert (config.spatial_ratio, config.temporal_ratio) == (16, 4)


def test_atari_fits_25_million_parameters():
    with torch.device("meta"):
        assert sum(p.numel() for p in VideoTokenizer(TokenizerConfig.preset("atari")).parameters()) < 25e6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temporal_kernel": 2}, "1 or 3, got 2"),
        ({"temporal_kernel": 1}, "need temporal_kernel 3"),
        ({"temporal_stages": (2,)}, "must lie in the 2 stages"),
        ({"channels": 0}, "channels must be a whole number from 1 to 65,536, got 0"),
        ({"multipliers": ()}, "1 to 8 levels, got 0"),
    ],
)
def test_a_bad_config_is_refused_at_once(make_tokenizer, changes, message):
    with pytest.raises(ValueError, match=message):
        make_tokenizer(**changes)


def test_an_unknown_preset_lists_the_known():
    with pytest.raises(ValueError, match="'huge'; there are debug, atari, videoar"):
        TokenizerConfig.preset("huge")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 4, 16, 16), r"1 \+ 4n frames, got 4"),
        ((1, 3, 0, 16, 16), r"1 \+ 4n frames, got 0"),
        ((1, 3, 5, 16, 20), "multiples of 8, got 16x20"),
        ((1, 3, 5, 0, 16), "multiples of 8, got 0x16"),
        ((1, 1, 5, 16, 16), r"\[B, 3, T, H, W\], got \[1, 1, 5, 16, 16\]"),
        ((3, 16, 16), r"\[B, 3, T, H, W\], got \[3, 16, 16\]"),
    ],
)
def test_encode_refuses_other_shapes_with_the_numbers(tokenizer, shape, message):
    with pytest.raises(ValueError, match=message):
        tokenizer.encode(torch.zeros(shape))


def test_decode_refuses_other_shapes(tokenizer):
    with pytest.raises(ValueError, match=r"\[B, 6, T', h, w\], got \[1, 5, 1, 2, 2\]"):
        tokenizer.decode(torch.zeros(1, 5, 1, 2, 2))
    with pytest.raises(ValueError, match="at least one frame"):
        tokenizer.decode(torch.zeros(1, 6, 0, 2, 2))


def test_an_image_tokenizer_takes_any_number_of_frames_but_none(make_tokenizer):
    tokenizer = make_tokenizer(temporal_kernel=1, temporal_stages=())
    assert tokenizer.encode(torch.zeros(1, 3, 2, 16, 16)).shape[2] == 2
    with pytest.raises(ValueError, match=r"1 \+ 1n frames, got 0"):
        tokenizer.encode(torch.zeros(1, 3, 0, 16, 16))


@torch.no_grad()
def test_true_bits_decode_to_the_reconstruction(tokenizer, clip):
    codes = tokenizer.quantize(tokenizer.encode(clip))
    assert [tuple(bits.shape) for bits in codes.bits] == [(2, 5, h, w, 6) for h, w in tokenizer.pyramid(16, 24).grids]
    assert torch.equal(tokenizer.decode(decode_bits(codes.bits, codes.pyramid)), tokenizer.reconstruct(clip))


@torch.no_grad()
def test_the_first_scales_alone_decode(tokenizer, clip):
    codes = tokenizer.quantize(tokenizer.encode(clip))
    pictures = [tokenizer.decode(decode_bits(codes.bits[:k], codes.pyramid)) for k in range(1, len(codes.bits) + 1)]
    assert all(picture.shape == clip.shape for picture in pictures)
    assert not torch.equal(pictures[0], pictures[-1])


def test_straight_through_carries_the_gradient_to_the_encoder(tokenizer, clip):
    latent = tokenizer.encode(clip[:, :, :5])
    latent.retain_grad()
    quantized = tokenizer.quantize(latent, straight_through=True).latent
    quantized.retain_grad()
    tokenizer.decoder(quantized).square().mean().backward()
    assert_close(latent.grad, quantized.grad)
    gradients = [p.grad for p in tokenizer.parameters()]
    tokenizer.zero_grad()
    assert all(g is not None and g.abs().sum() > 0 for g in gradients)


def test_checkpointing_changes_memory_not_gradients(make_tokenizer, clip):
    gradients = []
    for enabled in (False, True):
        tokenizer = make_tokenizer().train()
        tokenizer.checkpoint_activations(enabled)
        tokenizer.decoder(tokenizer.encode(clip[:, :, :5])).square().mean().backward()
        gradients.append([p.grad for p in tokenizer.parameters()])
    assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-5)


def test_checkpointing_recomputes(make_tokenizer, clip):
    tokenizer = make_tokenizer().train()
    tokenizer.checkpoint_activations()
    calls = []
    tokenizer.encoder.mid.blocks[0].conv1.register_forward_hook(lambda *_: calls.append(1))
    tokenizer.encode(clip[:, :, :1]).sum().backward()
    assert len(calls) == 2


def test_compiles_as_one_graph_with_unchanged_keys(make_tokenizer, clip):
    tokenizer, plain = (make_tokenizer(multipliers=(1, 2), temporal_stages=(0,), patch=4) for _ in range(2))
    for part in (tokenizer.encoder, tokenizer.decoder):
        part.compile(backend="eager", fullgraph=True)
    latent = tokenizer.encode(clip[:, :, :5])
    assert torch.equal(latent, plain.encode(clip[:, :, :5]))
    assert torch.equal(tokenizer.decoder(latent), plain.decoder(latent))
    assert tokenizer.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(tokenizer.encode(clip), plain.encode(clip))


def test_explicit_scales(make_tokenizer):
    tokenizer = make_tokenizer(scales=[1, [1, 2], [2, 3]])
    assert tokenizer.pyramid(16, 24) == ScalePyramid(((1, 1), (1, 2), (2, 3)))
    with pytest.raises(ValueError, match=r"end in a grid of \(2, 3\), but the latent's is \(2, 2\)"):
        tokenizer.pyramid(16, 16)


def test_another_pyramid_can_be_asked_for(tokenizer, clip):
    pyramid = ScalePyramid(((2, 3),))
    assert len(tokenizer.quantize(tokenizer.encode(clip), pyramid).bits) == 1


@torch.no_grad()
def test_save_and_load(tokenizer, clip, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = VideoTokenizer.from_pretrained(tmp_path)
    assert loaded.config == tokenizer.config
    assert loaded.fingerprint() == tokenizer.fingerprint()
    assert torch.equal(loaded.reconstruct(clip), tokenizer.reconstruct(clip))


def test_a_truncated_or_foreign_folder_is_one_clear_error(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"channels": 16}))
    with pytest.raises(UserError, match=r"model.safetensors does not fit.*misshapen"):
        VideoTokenizer.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"model.safetensors is damaged: its checksum"):
        VideoTokenizer.from_pretrained(tmp_path)


def test_fingerprint_follows_weights_and_config(make_tokenizer):
    tokenizer, twin = make_tokenizer(), make_tokenizer()
    assert tokenizer.fingerprint() == twin.fingerprint()
    assert make_tokenizer(scales=[1, 2]).fingerprint() != twin.fingerprint()
    with torch.no_grad():
        next(twin.parameters()).add_(1e-3)
    assert tokenizer.fingerprint() != twin.fingerprint()


@torch.no_grad()
def test_bfloat16_weights_work(make_tokenizer, clip):
    exact, rough = make_tokenizer(), make_tokenizer().bfloat16()
    latent = rough.encode(clip.bfloat16())
    assert latent.dtype == torch.bfloat16
    assert_close(latent.float(), exact.encode(clip), atol=0.1, rtol=0.1)
    assert rough.reconstruct(clip.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("frames", [1, 5, 9])
def test_bfloat16_training_has_the_gradients_of_float32(make_tokenizer, clip, frames):
    tokenizer, gradients = make_tokenizer(), []
    for half in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            video = tokenizer.decoder(tokenizer.encode(clip[:, :, :frames]))
        loss = (video.float() - clip[:, :, :frames]).square().mean()
        gradients.append(torch.autograd.grad(loss, [p for p in tokenizer.parameters() if p.ndim > 1]))
    for exact, rough in zip(*gradients):
        assert (exact - rough).norm() < 0.3 * exact.norm()
