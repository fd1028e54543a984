"""Import of Infinity's layout: what becomes of every key, and what is refused. Outputs: test_infinity_outputs.py."""

import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from videoar import TokenizerConfig, VideoTokenizer
from videoar.cli.main import main
from videoar.errors import UserError
from videoar.tokenizer.inflation import _rename, import_infinity, infer_config

D32 = Path(__file__).with_name("infinity_d32.json")  # name -> shape of every weight, as Infinity's code builds it


@torch.no_grad()
def test_an_inflated_tokenizer_takes_videos(released):
    tokenizer, _ = import_infinity(released[0])
    assert tokenizer.config.temporal_ratio == 4
    still = (torch.rand(1, 3, 1, 32, 32) * 2 - 1).expand(-1, -1, 5, -1, -1)
    latent = tokenizer.encode(still)
    assert_close(latent[:, :, 1], latent[:, :, 0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("init", ["zero", "random"])
def test_the_last_slice_holds_the_2d_kernel(released, init):
    path, weights = released
    tokenizer, _ = import_infinity(path, init=init, seed=3)
    kernel = tokenizer.encoder.levels[1].blocks[0].conv2.weight
    assert torch.equal(kernel[:, :, -1], weights["encoder.down.1.block.0.conv2.conv.weight"])
    assert (kernel[:, :, :-1].std() > 0) == (init == "random")
    again, _ = import_infinity(path, init=init, seed=3)
    assert again.fingerprint() == tokenizer.fingerprint()


def test_another_bit_width_renews_the_two_layers_at_the_latent(released):
    path, weights = released
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
    path, weights = released
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
        "truncated": "no torch file",
        "text": "no torch file",
    }
    for name, message in expected.items():
        with pytest.raises(UserError, match=message) as error:
            import_infinity(tmp_path / name)
        assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)


def test_keys_are_strict(released, tmp_path):
    weights = released[1]
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
    with pytest.raises(UserError, match="no torch file"):
        import_infinity(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("multipliers", "ratio"), [((1, 2, 4, 4, 4), 16), ((1, 2, 4, 4), 8)], ids=["16x", "8x"])
@pytest.mark.parametrize("bits", [16, 24, 32, 64])
def test_every_released_layout_fits(infinity_layout, bits, multipliers, ratio):
    """Names and shapes of the released sizes; those of d32 at 16x are recorded from Infinity's own code."""
    shapes = infinity_layout(bits=bits, width=128, multipliers=multipliers, blocks=2)
    if (bits, ratio) == (32, 16):
        assert json.loads(D32.read_text()) == shapes
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
