"""Weights that are damaged, foreign or boundless are refused, and no memory is taken for them first."""

import json
import logging
import random
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from videoar import GeneratorConfig, ScalePyramid, TokenizerConfig, VideoAR, VideoTokenizer
from videoar.errors import UserError
from videoar.weights import SUMS, check_values, fitted


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    VideoAR(GeneratorConfig.preset("debug", num_classes=3)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def little_memory():
    """This process may take 1 GiB more address space than it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def flip(path, seed):
    """One random bit of a file, turned over."""
    data, rng = bytearray(path.read_bytes()), random.Random(seed)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_in_the_weights_is_noticed(folder, seed):
    flip(folder / "model.safetensors", seed)
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        VideoAR.from_pretrained(folder)


def test_a_config_that_was_edited_is_loaded_with_a_word(folder, caplog):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"window": 2}))
    with caplog.at_level(logging.WARNING):
        assert VideoAR.from_pretrained(folder).config.window == 2
    assert "config.json is not as it was saved" in caplog.text


def test_the_sums_are_those_of_sha256sum(folder):
    import subprocess

    assert subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=folder, capture_output=True).returncode == 0
    (folder / SUMS).unlink()  # folders of others have none
    VideoAR.from_pretrained(folder)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(folder, bad):
    state = load_file(folder / "model.safetensors")
    state["head.weight"][1, 2] = bad
    save_file(state, folder / "model.safetensors")
    (folder / SUMS).unlink()
    with pytest.raises(UserError, match=r"head\.weight holds values that are not finite"):
        VideoAR.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 65_536, "depth": 64}, "does not fit this VideoAR"),
        ({"num_classes": 100_000_000}, "misshapen"),
        ({"width": 10**12}, "width must be a whole number from 1 to 65,536, got 1000000000000"),
        ({"depth": 10**9}, "depth must be a whole number"),
        ({"depth": -1}, "depth must be a whole number"),
        ({"heads": 0}, "heads must be a whole number"),
        ({"width": "64"}, "width must be a whole number from 1 to 65,536, got '64'"),
        ({"hidden_ratio": 1e300}, "hidden_ratio must be a number above 0 up to 64"),
        ({"hidden_ratio": 1e-9}, "does not fit this VideoAR"),
        ({"width": None}, "width must be"),
        ({"size": [1]}, "config.json"),
        ({"size": [64, 10**9]}, "a side of size must be"),
        ({"class_names": [1, 2, 3]}, "are text"),
        ({"condition": "telepathy"}, "condition 'telepathy' is not one of"),
        ({"import": "os"}, "GeneratorConfig has no import"),
    ],
)
def test_a_config_that_the_weights_do_not_bear_out_takes_no_memory(folder, little_memory, change, words):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=r"config\.json|does not fit") as error:
        VideoAR.from_pretrained(folder)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("change", [{"channels": 60_000}, {"multipliers": [64] * 8}, {"multipliers": [1] * 1000}])
def test_the_same_for_a_tokenizer(tmp_path, little_memory, change):
    VideoTokenizer(TokenizerConfig.preset("debug")).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=r"does not fit this VideoTokenizer|1 to 8 levels"):
        VideoTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "{", "\0", '{"model": "Popen"}', "\udcff"])
def test_a_config_that_is_none_is_one_clear_error(folder, text):
    (folder / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"config\.json (is not readable JSON|does not describe a VideoAR)"):
        VideoAR.from_pretrained(folder)


def test_a_view_that_states_more_than_the_file_holds_is_refused(little_memory):
    config = GeneratorConfig.preset("debug", num_classes=100_000_000)
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in VideoAR(config).state_dict().items()}
    state = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    with pytest.raises(UserError, match="no plain tensor"):
        fitted(VideoAR, config, state, "a stranger's file")
    with pytest.raises(UserError, match="no plain tensor"):
        check_values({"weight": torch.zeros(2, device="meta")}, "a stranger's file")


ORDERS = ("interleaved", "interleaved_from_4", "raster")


@pytest.mark.parametrize("switches", [{}, {"bit_groups": 4}, *({"order": order} for order in ORDERS)])
@torch.no_grad()
def test_a_loaded_model_is_the_saved_one_bit_for_bit(tmp_path, monkeypatch, switches):
    """Memory that loading leaves as it was would be NaN here."""
    config = GeneratorConfig(latent_dim=8, width=16, depth=1, heads=2, num_classes=3, **switches)
    saved = VideoAR(config).eval()
    saved.save_pretrained(tmp_path)
    empty_like = torch.empty_like
    empty = lambda *args, **how: empty_like(*args, **how).fill_(float("nan"))  # noqa: E731
    monkeypatch.setattr(torch, "empty_like", empty)  # what `to_empty` calls
    loaded = VideoAR.from_pretrained(tmp_path)
    monkeypatch.undo()
    pyramid = ScalePyramid(((2, 2),)) if config.order == "raster" else ScalePyramid(((1, 1), (2, 2)))
    lesson = saved.lesson(torch.randn(1, 8, 2, 2, 2), pyramid)
    logits = [model(lesson.tokens, [0], pyramid, 2, bits=lesson.targets) for model in (saved, loaded)]
    assert torch.equal(*logits)


def test_a_network_with_a_buffer_that_no_file_holds_is_refused():
    class Masked(torch.nn.Linear):
        def __init__(self, width):
            super().__init__(width, width)
            self.register_buffer("mask", torch.ones(width), persistent=False)

    with pytest.raises(TypeError, match="Masked has buffers that no file holds: mask"):
        fitted(Masked, 2, torch.nn.Linear(2, 2).state_dict(), "a file")


def test_building_from_weights_draws_nothing_random(folder):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    VideoAR.from_pretrained(folder)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["outputs/model", "runs/last.ckpt", "runs/model.safetensors", "./a/b", "~/a", "a/b/c"])
def test_a_mistyped_path_asks_no_hub(name, tmp_path, monkeypatch):
    from videoar.training.checkpoint import load_models, load_tokenizer

    def asked(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("videoar.pretrained.snapshot_download", asked)
    monkeypatch.chdir(tmp_path)
    said = "hf://user/model|is a training checkpoint: videoar.load_models reads it"
    for load in (load_models, load_tokenizer):
        with pytest.raises(UserError, match=said):
            load(name)
    (tmp_path / "outputs").mkdir()
    with pytest.raises(UserError, match=said):
        VideoAR.from_pretrained(name)


def test_the_hub_is_asked_when_told_so(monkeypatch, folder):
    asked = []
    monkeypatch.setattr("videoar.pretrained.snapshot_download", lambda name, **_: asked.append(name) or folder)
    for name in ("hf://user/model", "user/model"):
        assert isinstance(VideoAR.from_pretrained(name), VideoAR)
    assert asked == ["user/model"] * 2


def test_where_prompts_are_cached_is_no_property_of_a_model(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    assert "text_cache" not in config
    (folder / "config.json").write_text(json.dumps(config | {"text_cache": str(tmp_path / "anywhere")}))
    VideoAR.from_pretrained(folder)  # models of earlier versions still load
    assert not (tmp_path / "anywhere").exists()
