"""Import of Infinity's layout, against a slow and independent 2D model written here from the layout's description."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from videoar import ScalePyramid, TokenizerConfig, VideoTokenizer
from videoar.bits.corruption import teacher_forcing
from videoar.cli.main import main
from videoar.errors import UserError
from videoar.tokenizer.inflation import _rename, import_infinity, infer_config

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"


def layout(bits, width, multipliers, blocks):
    """Names and shapes of Infinity's tokenizer."""
    shapes = {"quantizer.lfq.mask": [bits], "quantize.lfq.mask": [bits]}

    def conv(name, i, o, k=3):
        shapes.update({f"{name}.conv.weight": [o, i, k, k], f"{name}.conv.bias": [o]})

    def norm(name, c):
        shapes.update({f"{name}.norm.weight": [c], f"{name}.norm.bias": [c]})

    def block(name, i, o):
        norm(f"{name}.norm1", i), conv(f"{name}.conv1", i, o), norm(f"{name}.norm2", o), conv(f"{name}.conv2", o, o)
        if i != o:
            conv(f"{name}.nin_shortcut", i, o, 1)

    widths, last = [width * m for m in multipliers], len(multipliers) - 1
    top = widths[-1]
    conv("encoder.conv_in", 3, width), conv("encoder.conv_out", top, bits), norm("encoder.norm_out", top)
    conv("decoder.conv_in", bits, top), conv("decoder.conv_out", width, 3), norm("decoder.norm_out", width)
    for part in ("encoder", "decoder"):
        block(f"{part}.mid.block_1", top, top), block(f"{part}.mid.block_2", top, top)
    for n in range(last + 1):
        for b in range(blocks):
            block(f"encoder.down.{n}.block.{b}", widths[max(n - 1, 0)] if b == 0 else widths[n], widths[n])
        for b in range(blocks + 1):
            block(f"decoder.up.{n}.block.{b}", widths[min(n + 1, last)] if b == 0 else widths[n], widths[n])
        if n < last:
            conv(f"encoder.down.{n}.downsample.conv", widths[n], widths[n])
        if n > 0:
            conv(f"decoder.up.{n}.upsample.conv", widths[n], widths[n])
    return shapes


def random_weights(**shape):
    generator, weights = torch.Generator().manual_seed(0), {}
    for name, size in layout(**shape).items():
        scale = (size[1] * size[2] * size[3]) ** -0.5 if len(size) == 4 else 0.1
        weights[name] = torch.randn(size, generator=generator) * scale + name.endswith("norm.weight")
    return weights


class PlainImageTokenizer:
    """The 2D model, one operation at a time."""

    def __init__(self, weights, multipliers, blocks):
        self.w, self.levels, self.blocks = weights, len(multipliers), blocks

    def conv(self, x, name, stride=1, padding=1):
        return F.conv2d(x, self.w[f"{name}.conv.weight"], self.w[f"{name}.conv.bias"], stride, padding)

    def norm_swish(self, x, name):
        groups = 32 if x.shape[1] % 32 == 0 else 24
        g = x.reshape(len(x), groups, -1)
        g = (g - g.mean(2, keepdim=True)) / (g.var(2, correction=0, keepdim=True) + 1e-6).sqrt()
        y = g.view_as(x) * self.w[f"{name}.norm.weight"].view(-1, 1, 1) + self.w[f"{name}.norm.bias"].view(-1, 1, 1)
        return y * torch.sigmoid(y)

    def block(self, x, name):
        h = self.conv(self.norm_swish(x, f"{name}.norm1"), f"{name}.conv1")
        h = self.conv(self.norm_swish(h, f"{name}.norm2"), f"{name}.conv2")
        shortcut = f"{name}.nin_shortcut"
        return h + (self.conv(x, shortcut, padding=0) if f"{shortcut}.conv.weight" in self.w else x)

    def middle(self, x, part):
        return self.block(self.block(x, f"{part}.mid.block_1"), f"{part}.mid.block_2")

    def encode(self, x):
        x = self.conv(x, "encoder.conv_in")
        for n in range(self.levels):
            for b in range(self.blocks):
                x = self.block(x, f"encoder.down.{n}.block.{b}")
            if n < self.levels - 1:
                x = self.conv(F.pad(x, (0, 1, 0, 1)), f"encoder.down.{n}.downsample.conv", stride=2, padding=0)
        return self.conv(self.norm_swish(self.middle(x, "encoder"), "encoder.norm_out"), "encoder.conv_out")

    def quantize(self, latent, grids):
        seen, bits = torch.zeros_like(latent), []
        for grid in grids:
            bits.append(F.interpolate(latent - seen, grid, mode="area") > 0)
            code = torch.where(bits[-1], 1.0, -1.0) / latent.shape[1] ** 0.5
            seen = seen + F.interpolate(code, latent.shape[-2:], mode="bilinear")
        return bits, seen

    def decode(self, x):
        x = self.middle(self.conv(x, "decoder.conv_in"), "decoder")
        for n in reversed(range(self.levels)):
            for b in range(self.blocks + 1):
                x = self.block(x, f"decoder.up.{n}.block.{b}")
            if n > 0:
                x = self.conv(F.interpolate(x, scale_factor=2.0), f"decoder.up.{n}.upsample.conv")
        return self.conv(self.norm_swish(x, "decoder.norm_out"), "decoder.conv_out").clamp(-1, 1)


SHAPES = {
    "16x": {"bits": 16, "width": 32, "multipliers": (1, 2, 2, 2, 2), "blocks": 1},
    "8x": {"bits": 24, "width": 24, "multipliers": (1, 1, 2, 3), "blocks": 2},
}


@pytest.fixture(scope="module", params=SHAPES)
def released(request, tmp_path_factory):
    shape = SHAPES[request.param]
    weights = random_weights(**shape)
    path = tmp_path_factory.mktemp("infinity") / f"{request.param}.pth"
    torch.save({"vae": weights}, path)
    return path, PlainImageTokenizer(weights, shape["multipliers"], shape["blocks"]), weights


@torch.no_grad()
@pytest.mark.parametrize("image", [False, True], ids=["inflated", "2D"])
def test_one_frame_gives_what_the_image_tokenizer_gives(released, image):
    path, plain, _ = released
    tokenizer, _ = import_infinity(path, image=image)
    picture = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(2)) * 2 - 1
    latent, expected = tokenizer.encode(picture[:, :, None]), plain.encode(picture)
    assert_close(latent[:, :, 0], expected, atol=1e-4, rtol=0)
    codes = tokenizer.quantize(latent)
    bits, quantized = plain.quantize(expected, codes.pyramid.grids)
    for ours, theirs in zip(codes.bits, bits, strict=True):
        assert torch.equal(ours[:, 0], theirs.movedim(1, -1))
    assert_close(codes.latent[:, :, 0], quantized, atol=1e-5, rtol=0)
    assert_close(tokenizer.decode(codes.latent)[:, :, 0], plain.decode(quantized), atol=1e-4, rtol=0)


@torch.no_grad()
def test_an_inflated_tokenizer_takes_videos(released):
    tokenizer, _ = import_infinity(released[0])
    assert tokenizer.config.temporal_ratio == 4
    still = (torch.rand(1, 3, 1, 32, 32) * 2 - 1).expand(-1, -1, 5, -1, -1)
    latent = tokenizer.encode(still)
    assert_close(latent[:, :, 1], latent[:, :, 0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("init", ["zero", "random"])
def test_the_last_slice_holds_the_2d_kernel(released, init):
    path, _, weights = released
    tokenizer, _ = import_infinity(path, init=init, seed=3)
    kernel = tokenizer.encoder.levels[1].blocks[0].conv2.weight
    assert torch.equal(kernel[:, :, -1], weights["encoder.down.1.block.0.conv2.conv.weight"])
    assert (kernel[:, :, :-1].std() > 0) == (init == "random")
    again, _ = import_infinity(path, init=init, seed=3)
    assert again.fingerprint() == tokenizer.fingerprint()


def test_another_bit_width_renews_the_two_layers_at_the_latent(released):
    path, _, weights = released
    tokenizer, report = import_infinity(path, latent_dim=48)
    assert tokenizer.encode(torch.zeros(1, 3, 1, 32, 32)).shape[1] == 48
    assert report.new == (
        "encoder.conv_out.weight",
        "encoder.conv_out.bias",
        "decoder.conv_in.weight",
        "decoder.conv_in.bias",
    )
    assert report.imported == len(weights) - 2 - 4
    assert "4 new" in str(report) and "ignored quantize.lfq.mask" in str(report)


def test_wrong_files_are_one_clear_error(released, tmp_path):
    path, _, weights = released
    cases = {"no_vae": {"model": weights}, "no_tensors": {"vae": {"a": 1}}, "other": {"vae": {"a": torch.zeros(1)}}}
    for name, content in cases.items():
        torch.save(content, tmp_path / name)
    (tmp_path / "truncated").write_bytes(path.read_bytes()[:-1000])
    (tmp_path / "text").write_text("not weights")
    expected = {
        "absent": "is no file",
        "no_vae": "holds no",
        "no_tensors": "holds no",
        "other": "no encoder.conv_in.conv.weight",
        "truncated": "not a whole torch file",
        "text": "not a whole torch file",
    }
    for name, message in expected.items():
        with pytest.raises(UserError, match=message) as error:
            import_infinity(tmp_path / name)
        assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)


def test_keys_are_strict(released, tmp_path):
    weights = released[2]
    missing = {key: value for key, value in weights.items() if key != "decoder.norm_out.norm.bias"}
    torch.save({"vae": missing | {"encoder.attention.weight": torch.zeros(1)}}, tmp_path / "edited.pth")
    report = r"1 missing \(decoder.norm_out.bias\); 1 unexpected \(encoder.attention.weight\)"
    with pytest.raises(UserError, match=report):
        import_infinity(tmp_path / "edited.pth")


def test_pickles_that_run_code_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"vae": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="not a whole torch file of weights"):
        import_infinity(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("multipliers", "ratio"), [((1, 2, 4, 4, 4), 16), ((1, 2, 4, 4), 8)], ids=["16x", "8x"])
@pytest.mark.parametrize("bits", [16, 24, 32, 64])
def test_every_released_layout_fits(bits, multipliers, ratio):
    """Names and shapes of the released sizes; those of d32 at 16x are the recorded ones."""
    shapes = layout(bits=bits, width=128, multipliers=multipliers, blocks=2)
    recorded = REFERENCE / "infinity_vae_d32_manifest.json"
    if (bits, ratio) == (32, 16) and recorded.exists():
        assert json.loads(recorded.read_text()) == shapes
    with torch.device("meta"):
        weights = {key: torch.empty(size) for key, size in shapes.items() if not key.endswith("mask")}
        config = infer_config(weights, "released")
        own = VideoTokenizer(config).state_dict()
    assert config == TokenizerConfig(latent_dim=bits, multipliers=multipliers)
    assert (config.spatial_ratio, config.temporal_ratio) == (ratio, 4)
    names = {_rename(key, len(multipliers)): tuple(value.shape) for key, value in weights.items()}
    assert names.keys() == own.keys()
    for name, value in own.items():  # 2D kernels in 3D ones; a layer that doubles time has two
        shape = tuple(value.shape)
        without_time = shape if len(shape) < 5 else shape[:2] + shape[3:]
        assert names[name] in (without_time, (without_time[0] // 2, *without_time[1:])), name


def test_convert_writes_a_folder_that_loads(released, tmp_path, capsys):
    path, out = released[0], tmp_path / "out"
    assert main(["convert", "infinity", str(path), str(out)]) == 0
    assert "weights imported, 2 constants ignored, 0 new" in capsys.readouterr().out
    assert VideoTokenizer.from_pretrained(out).fingerprint() == import_infinity(path)[0].fingerprint()
    assert main(["convert", "infinity", str(path), str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.skipif(not REFERENCE.exists(), reason="the recorded outputs of the original implementation are not here")
@torch.no_grad()
@pytest.mark.parametrize("image", [False, True], ids=["inflated", "2D"])
def test_the_original_implementation_s_recorded_outputs(image):
    from safetensors.torch import load_file

    recorded = load_file(REFERENCE / "tiny_a.io.safetensors")
    config = json.loads((REFERENCE / "tiny_a.json").read_text())
    tokenizer, _ = import_infinity(REFERENCE / "tiny_a.pth", image=image)
    latent = tokenizer.encode(recorded["image"][:, :, None])
    pyramid = ScalePyramid(config["scales"])
    codes = tokenizer.quantize(latent, pyramid)
    assert_close(latent[:, :, 0], recorded["latent"], atol=1e-4, rtol=0)
    for k, bits in enumerate(codes.bits):
        assert torch.equal(bits[:, 0], recorded[f"bits.{k}"].bool())
    assert_close(codes.latent[:, :, 0], recorded["quantized"], atol=1e-4, rtol=0)
    assert_close(tokenizer.decode(codes.latent)[:, :, 0], recorded["reconstruction"], atol=1e-4, rtol=0)
    tokens = teacher_forcing(latent, pyramid).tokens[:, 1:]
    assert_close(tokens, recorded["next_scale_inputs"], atol=1e-4, rtol=0)
