import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from videoar import GeneratorConfig, TokenizerConfig, VideoAR, VideoTokenizer
from videoar.cli.main import main
from videoar.data.readers import open_video
from videoar.data.writers import to_uint8
from videoar.metrics.features.atari import AtariFeatures
from videoar.sampling.generate import generate
from videoar.training.checkpoint import load_models

Folder = Callable[..., Path]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder with a generator of two classes and its tokenizer."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("models")
    tokenizer = VideoTokenizer(TokenizerConfig.preset("debug")).eval()
    tokenizer.save_pretrained(root / "tokenizer")
    config = GeneratorConfig.preset(
        "debug",
        num_classes=2,
        class_names=("pong", "qbert"),
        tokenizer_fingerprint=tokenizer.fingerprint(),
        size=(32, 32),
    )
    VideoAR(config).save_pretrained(root / "generator")
    return root


def test_folders(folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real, fake, out = folder("real"), folder("fake", noise=0.1), tmp_path / "out"
    metrics = "psnr,ssim,drift"
    arguments = [
        "--metrics",
        metrics,
        "--set",
        "frames=3",
        "--note",
        "guidance=5",
        "--out",
        str(out),
        "--device",
        "cpu",
    ]
    assert main(["evaluate", "--real", str(real), "--fake", str(fake), *arguments]) == 0
    shown = capsys.readouterr().out
    assert "| psnr |" in shown and "changed by hand: frames=3" in shown and "guidance: 5" in shown
    content = json.loads((out / "metrics.json").read_text())
    assert content["card"]["protocol"]["frames"] == 3 and set(content["values"]) == {"psnr", "ssim"}
    assert len(content["runs"][0]["curves"]["psnr"]) == 3


def test_atari_features_from_a_folder(folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    AtariFeatures(["pong"], width=2).save(tmp_path / "net", {})
    real = folder("real", count=4)
    arguments = ["--features", f"atari:{tmp_path / 'net'}", "--metrics", "fvd", "--cache", str(tmp_path / "cache")]
    assert main(["evaluate", "--real", str(real), "--fake", str(real), *arguments]) == 0
    shown = capsys.readouterr().out
    assert "| fvd | 0.0000 | lower |" in shown and "weights_sha256" in shown
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_model_on_real_clips(
    folder: Folder, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = folder("real", frames=7)
    (real / "pong").mkdir()
    (real / "v00.mp4").rename(real / "pong" / "v00.mp4")
    arguments = ["--metrics", "psnr", "--set", "frames=5", "size=[32, 32]", "--out", str(tmp_path / "out")]
    assert main(["evaluate", "--real", str(real), "--model", str(models), *arguments]) == 0
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    names = set(content["values"])
    assert {
        "psnr",
        "bit_usage/entropy/scale_1",
        "accuracy/bits",
        "accuracy/bits/scale_2",
        "accuracy/bits/frame_2",
    } <= names
    assert 0.3 < content["values"]["accuracy/bits"]["mean"] < 0.7, "an untrained generator guesses"
    assert content["card"]["models"][0]["clips_without_class"] == 2
    assert main(["evaluate", "--real", str(real), "--model", str(models / "tokenizer"), *arguments]) == 0
    assert not any(
        name.startswith("accuracy") for name in json.loads((tmp_path / "out" / "metrics.json").read_text())["values"]
    )
    capsys.readouterr()
    assert main(["evaluate", "--real", str(real), "--model", str(models), "--set", "frames=6"]) == 2
    assert "6 frames are not 1 + 4·n; use 5 or 9" in capsys.readouterr().err


def test_a_model_says_how_long_and_large_ones_own_videos_are_taken(
    folder: Folder, models: Path, tmp_path: Path, command_line: Callable
) -> None:
    real = folder("real", frames=19, size=(44, 60), count=2)
    ask = ["evaluate", "--real", str(real), "--model", str(models), "--metrics", "psnr", "--out", str(tmp_path / "out")]
    assert command_line(ask)[0] == 0
    card = json.loads((tmp_path / "out" / "metrics.json").read_text())["card"]
    assert (card["protocol"]["frames"], card["protocol"]["size"]) == (17, [32, 32])
    assert card["follows_protocol"] and card["notes"]["clips"].startswith("17 frames of 32x32: ")
    short = folder("short", frames=7, count=1)
    code, said = command_line(["evaluate", "--real", str(short), "--model", str(models)])
    assert code == 2 and "7 frames, 17 at stride 1 are needed (--set frames=N takes fewer)" in said


def test_vbench_layout_is_generated_measured_and_continued(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("pong\nqbert\n")
    out = tmp_path / "videos"
    arguments = [
        "--generate",
        str(models),
        "--prompts",
        str(prompts),
        "--samples",
        "2",
        "--frames",
        "5",
        "--fake",
        str(out),
    ]
    assert main(["evaluate", *arguments]) == 0
    assert "4 videos written" in capsys.readouterr().out
    assert sorted(p.name for p in out.glob("*.mp4")) == ["pong-0.mp4", "pong-1.mp4", "qbert-0.mp4", "qbert-1.mp4"]
    assert len(open_video(out / "pong-0.mp4", "pyav")) == 5
    (out / "qbert-1.mp4").unlink()
    assert main(["evaluate", *arguments, "--vbench", "temporal_flickering"]) == 0
    shown = capsys.readouterr().out
    assert "1 videos written" in shown and "| temporal_flickering |" in shown


def test_gfvd_of_a_generator_in_one_command_that_can_be_interrupted(
    folder: Folder, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    AtariFeatures(["pong"], width=2).save(tmp_path / "net", {})
    real, fake, out = folder("real", count=4, frames=5), tmp_path / "fake", tmp_path / "out"
    for i, name in enumerate(("pong", "pong", "qbert", "qbert")):
        (real / name).mkdir(exist_ok=True)
        (real / f"v0{i}.mp4").rename(real / name / f"v0{i}.mp4")
    arguments = ["evaluate", "--real", str(real), "--generate", str(models), "--fake", str(fake), "--out", str(out)]
    arguments += ["--features", f"atari:{tmp_path / 'net'}", "--set", "frames=5", "--no-cache", "--device", "cpu"]
    arguments += ["--frames", "5", "--guidance", "2"]
    assert main([*arguments, "--batch", "3", "--seed", "7"]) == 0
    assert "4 videos written" in capsys.readouterr().out
    samples = sorted(fake.rglob("*.mkv"))
    assert [path.relative_to(fake).as_posix() for path in samples] == [
        "pong/sample_000007.mkv", "pong/sample_000008.mkv", "qbert/sample_000009.mkv", "qbert/sample_000010.mkv",
    ]  # fmt: skip
    content = json.loads((out / "metrics.json").read_text())
    card = content["card"]["models"][0]
    assert content["values"]["fvd"]["mean"] > 0 and "do not pair" in content["unavailable"]["psnr"]
    assert content["card"]["counts"][0]["fake"] == content["card"]["counts"][0]["real"] == 4
    assert content["card"]["protocol"]["size"] == [32, 32], "real clips are brought to the samples' size"
    assert card["seed"] == 7 and card["guidance"] == "2" and card["options"]["end"] == 2 and len(card["generator"]) > 8

    generator, tokenizer = load_models(models)
    video = generate(generator, tokenizer, ["qbert"], frames=5, size=(32, 32), seed=9, guidance=2.0).video[0]
    stored = open_video(samples[2]).get(range(5)).numpy().astype(int)
    assert np.abs(stored - to_uint8(video)).max() <= 1, "no codec in between; a batch of one rounds otherwise"
    before = open_video(samples[1]).get(range(5)).int()
    samples[1].unlink()
    assert main([*arguments, "--batch", "1", "--seed", "7"]) == 0
    assert "1 videos written" in capsys.readouterr().out
    assert (open_video(samples[1]).get(range(5)).int() - before).abs().max() <= 1
    again = json.loads((out / "metrics.json").read_text())["values"]["fvd"]["mean"]
    assert again == pytest.approx(content["values"]["fvd"]["mean"], rel=1e-2)

    assert main([*arguments, "--seed", "8"]) == 2
    assert "holds samples made otherwise (seed 7 -> 8)" in capsys.readouterr().err
    (real / "v99.mp4").write_bytes((real / "pong" / "v00.mp4").read_bytes())
    assert main([*arguments, "--seed", "7"]) == 2
    assert "v99.mp4 lies in no folder of a class that the model knows: pong, qbert" in capsys.readouterr().err
    (real / "v99.mp4").unlink()
    assert main([*arguments, "--set", "frames=9"]) == 2
    assert "samples of 5 frames, but the protocol takes 9" in capsys.readouterr().err


def test_official_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"color": [0.9, []]}))
    assert main(["evaluate", "--vbench-results", str(tmp_path)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["dimensions"] == {"color": 0.9} and shown["total"] is None and len(shown["missing"]) == 15


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give either --fake"),
        (["--fake", "x", "--model", "y"], "give either --fake"),
        (["--fake", "x"], "give --real to compare with"),
        (["--fake", "x", "--real", "y"], "no folder at y"),
        (["--fake", "x", "--real", "y", "--protocol", "z"], "no protocol 'z'"),
        (["--fake", "x", "--real", "y", "--set", "frames"], "--set takes KEY=VALUE"),
        (["--fake", "x", "--real", "y", "--set", "frames=many"], "frames must be a whole number"),
        (["--fake", "x", "--real", "y", "--features", "i3d:none.pt"], "no file at none.pt"),
        (["--fake", "x", "--real", "y", "--batch", "0"], "--batch: must be a whole number from 1"),
        (["--fake", "x", "--real", "y", "--max-skipped", "2"], "--max-skipped: must be a number from 0 to 1"),
        (["--fake", "x", "--vbench", "color"], "unknown dimension 'color'"),
        (["--fake", "x", "--generate", "m"], "--generate needs --prompts"),
        (["--vbench-results", "nowhere"], "no folder of VBench results"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], said: str, command_line: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, error = command_line(["evaluate", *arguments])
    assert code == 2 and said in error and error.count("\n") == 1
