import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from videoar import GeneratorConfig, TokenizerConfig, VideoAR, VideoTokenizer
from videoar.cli.main import main
from videoar.data.readers import open_video
from videoar.metrics.features.atari import AtariFeatures

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
    assert main(["evaluate", "--real", str(real), "--model", str(models), "--metrics", "psnr"]) == 2
    assert "clips of 1 + 4·n frames, the protocol takes all frames" in capsys.readouterr().err


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
        (["--fake", "x", "--real", "y", "--batch", "0"], "--batch must be at least 1"),
        (["--fake", "x", "--real", "y", "--max-skipped", "2"], "--max-skipped is a share"),
        (["--fake", "x", "--vbench", "color"], "unknown dimension 'color'"),
        (["--fake", "x", "--generate", "m"], "--generate needs --prompts"),
        (["--vbench-results", "nowhere"], "no folder of VBench results"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and len(error.splitlines()) == 1
