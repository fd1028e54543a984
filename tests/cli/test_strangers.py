"""Models of strangers, given to every command: nothing in them runs, and each is one clear line."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from videoar import GeneratorConfig, TokenizerConfig, VideoAR, VideoTokenizer
from videoar.data.writers import write_mp4

DEBUG = str(Path(__file__).parents[2] / "configs" / "tokenizer" / "debug.yaml")
TRAIN = ["--config", DEBUG, "--trainer.accelerator=cpu", "--data.root=clips", "--trainer.default_root_dir=out"]
COMMANDS = {
    "sample": ["sample", "--model", "X", "--out", "out"],
    "export": ["export", "X", "out"],
    "onnx": ["export", "X", "out", "--onnx"],
    "reconstruct": ["reconstruct", "clips/0.mp4", "out.mp4", "--model", "X"],
    "evaluate": ["evaluate", "--real", "clips", "--model", "X", "--out", "out"],
    "generate": ["evaluate", "--real", "clips", "--generate", "X", "--fake", "out"],
    "compare": ["compare", "X", "--data", "clips", "--out", "out"],
    "fit": ["fit", *TRAIN, "--ckpt_path", "X"],
    "validate": ["validate", *TRAIN, "--ckpt_path", "X"],
    "init_from": ["fit", *TRAIN, "--model.init_from", "X"],
}
WEIGHTS = {
    "convert": ["convert", "infinity", "X", "out"],
    "i3d": ["evaluate", "--real", "clips", "--fake", "clips", "--metrics=fvd", "--features=i3d:X"],
    "lpips": ["evaluate", "--real", "clips", "--fake", "clips", "--metrics=lpips", "--lpips-weights=X"],
}


class Payload:
    """Pickles as a call that makes the file `ran`."""

    def __reduce__(self):
        return open, ("ran", "w")


def as_zip(path: Path) -> None:
    torch.save({"state_dict": {}, "x": Payload()}, path)


def as_legacy(path: Path) -> None:
    torch.save({"state_dict": {}, "x": Payload()}, path, _use_new_zipfile_serialization=False)


def as_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Payload()))


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A working folder with two clips."""
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        write_mp4(tmp_path / "clips" / f"{number}.mp4", torch.full((3, 9, 32, 32), number - 0.5), 8)
    return tmp_path


def refused(place: Path, command_line, command: list[str], name: str) -> str:
    code, err = command_line([word.replace("X", name) for word in command])
    said = [line for line in err.splitlines() if "error" in line]
    assert code == 2 and len(said) == 1 and "Traceback" not in err and len(said[0]) < 800, err
    assert not (place / "ran").exists() and not list(place.glob("out*/**/*.safetensors"))
    return said[0]


@pytest.mark.parametrize("write", [as_zip, as_legacy, as_pickle])
@pytest.mark.parametrize("command", [*COMMANDS, *WEIGHTS])
def test_a_pickle_that_asks_for_code_is_refused_by_every_command(place, command_line, command, write):
    if command in ("fit", "validate", "init_from", "compare") and write is not as_zip:
        pytest.skip("the same reader; each start of a training command takes seconds")
    write(place / "evil.ckpt")
    assert "evil.ckpt" in refused(place, command_line, (COMMANDS | WEIGHTS)[command], "evil.ckpt")


@pytest.fixture
def model(place) -> Path:
    """A whole tiny model."""
    tokenizer = VideoTokenizer(TokenizerConfig(8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4))
    tokenizer.save_pretrained(place / "model" / "tokenizer")
    config = GeneratorConfig(8, 32, 1, 2, condition="none", tokenizer_fingerprint=tokenizer.fingerprint())
    VideoAR(config).save_pretrained(place / "model" / "generator")
    return place / "model"


@pytest.mark.parametrize("harm", ["names", "unknown", "huge", "deep"])
@pytest.mark.parametrize("command", ["sample", "generate"])
def test_a_folder_with_foreign_names_or_a_strange_config_is_refused(place, model, command_line, command, harm):
    part = model / "generator"
    (part / "SHA256SUMS").unlink()
    config = json.loads((part / "config.json").read_text())
    if harm == "names":
        state = load_file(part / "model.safetensors")
        save_file({f"../../{name}": value for name, value in state.items()}, part / "model.safetensors")
    elif harm == "deep":
        (part / "config.json").write_text("[" * 100_000)
    else:
        strange = {"unknown": {"__import__": "os"}} if harm == "unknown" else {"width": 65_536, "depth": 64}
        (part / "config.json").write_text(json.dumps(config | strange))
    assert "model/generator" in refused(place, command_line, COMMANDS[command], "model")
