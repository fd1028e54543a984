"""`videoar sample`, as a user calls it: classes, bytes, T5 text, images, clips, shots, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch

from videoar import GeneratorConfig, TokenizerConfig, VideoAR, VideoTokenizer, __version__, generate
from videoar.cli import options
from videoar.cli.main import main
from videoar.data.readers import open_video, read_image
from videoar.data.writers import to_uint8, write_mp4, write_png
from videoar.files import only_writer

SIZE = (16, 32)
KINDS = {
    "class": {"num_classes": 2, "class_names": ("pong", "breakout")},
    "bytes": {"condition": "bytes", "max_prompt": 16},
    "none": {"condition": "none"},
}


def save_model(folder: Path, tokenizer_seed: int = 0, scales=None, **condition) -> Path:
    """A tiny pair with random weights, as `videoar export` writes it."""
    torch.manual_seed(0)
    config = TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4)
    tokenizer = VideoTokenizer(config)
    for parameter in tokenizer.decoder.parameters():
        if parameter.ndim == 5:  # a fresh decoder paints hardly any contrast, and no motion
            parameter.data += torch.randn_like(parameter) * parameter.std()
    settings = {"latent_dim": 8, "width": 32, "depth": 1, "heads": 2, "size": SIZE}
    generator = VideoAR(GeneratorConfig(**settings, tokenizer_fingerprint=tokenizer.fingerprint(), **condition))
    torch.nn.init.normal_(generator.head.weight, std=0.5)
    generator.save_pretrained(folder / "generator")
    if tokenizer_seed or scales:
        torch.manual_seed(tokenizer_seed)
        config.scales = scales
        tokenizer = VideoTokenizer(config)
    if scales:
        generator.config.tokenizer_fingerprint = tokenizer.fingerprint()
        generator.save_pretrained(folder / "generator")
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Models of every condition, an image and a clip of seven frames in another size."""
    folder = tmp_path_factory.mktemp("sample")
    for kind, condition in KINDS.items():
        save_model(folder / kind, **condition)
    coarse = torch.randn(1, 3, 7, 3, 4, generator=torch.Generator().manual_seed(0))
    clip = torch.nn.functional.interpolate(coarse, (7, 32, 64), mode="trilinear")[0].tanh()
    write_mp4(folder / "clip.mp4", clip, fps=8, crf=1)
    write_png(folder / "image.png", to_uint8(clip[:, :1])[0])
    return folder


def sample(place, out, *arguments, model="class"):
    command = ["sample", "--model", place / model, "--out", out, "--device", "cpu", *arguments]
    return main([str(argument) for argument in command])


def written(path) -> torch.Tensor:
    """The frames of a file as the model holds them, [3, T, H, W]."""
    reader = open_video(path)
    return torch.as_tensor(reader.get(range(len(reader)))).permute(3, 0, 1, 2) / 127.5 - 1


def close(video, expected) -> bool:
    """Equal but for H.264."""
    error, other = ((video - truth).abs().mean() for truth in (expected, expected.flip(-1)))
    return bool(error < 0.5 * other)


def test_labels_give_files_and_every_setting(place, tmp_path):
    from PIL import Image

    arguments = ("--label", "breakout", "--num", 2, "--frames", 9, "--seed", 3, "--batch", 1, "--fps", 5)
    assert sample(place, tmp_path, *arguments, "--guidance", 2.5, "--temperature", 1.2, 0.8, "--grid") == 0
    names = ["breakout_00003", "breakout_00004"]
    assert sorted(p.stem for p in tmp_path.glob("*.mp4")) == names
    report = json.loads((tmp_path / "samples.json").read_text())
    assert report["videos"] == [
        {"file": f"{name}.mp4", "condition": "breakout", "seed": seed} for name, seed in zip(names, (3, 4))
    ]
    wanted = {"label": ["breakout"], "num": 2, "frames": 9, "fps": 5.0, "seed": 3, "size": list(SIZE), "batch": 1}
    wanted |= {"model": str(place / "class"), "device": "cpu", "dtype": "float32", "videoar": __version__}
    wanted |= {"image": None, "video": None, "prompt": None, "seconds": None, "context": None, "greedy": False}
    assert {key: report[key] for key in wanted} == wanted
    assert report["options"]["temperature"] == [1.2, 0.8] and report["options"]["guidance"]["end"] == 2.5
    generator = VideoAR.from_pretrained(place / "class" / "generator")
    tokenizer = VideoTokenizer.from_pretrained(place / "class" / "tokenizer")
    assert (report["generator"], report["tokenizer"]) == (generator.fingerprint(), tokenizer.fingerprint())
    same = generate(generator, tokenizer, ["breakout"], 9, SIZE, seed=4, guidance=2.5, temperature=(1.2, 0.8))
    assert close(written(tmp_path / "breakout_00004.mp4"), same.video[0])
    assert open_video(tmp_path / "breakout_00004.mp4").fps == 5
    with Image.open(tmp_path / "breakout_00004.gif") as gif:
        assert gif.n_frames == 9 and gif.size == SIZE[::-1] and gif.info["duration"] == 200
    assert (tmp_path / "grid.gif").is_file() and (tmp_path / "grid.png").is_file()


def test_precision_follows_the_device(monkeypatch):
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, there=there: there)
        assert options.default_dtype("cuda:1") == ("bfloat16" if there else "float32")
        assert options.default_dtype("cpu") == "float32"


def test_without_a_label_every_class_is_sampled(place, tmp_path):
    assert sample(place, tmp_path, "--frames", 5, "--greedy", "--dtype", "bfloat16", "--size", 32) == 0
    assert sorted(p.name for p in tmp_path.glob("*.mp4")) == ["breakout_00001.mp4", "pong_00000.mp4"]
    assert written(tmp_path / "pong_00000.mp4").shape == (3, 5, 32, 32)


@pytest.mark.parametrize(("option", "given"), [("--image", 1), ("--video", 5)])
def test_a_start_is_kept_as_the_tokenizer_sees_it(place, tmp_path, option, given):
    from videoar.data.transforms import fit

    source = place / ("image.png" if given == 1 else "clip.mp4")
    assert sample(place, tmp_path, option, source, "--label", "0", "--frames", 9, "--prefix-guidance", 0.5) == 0
    start = fit(read_image(source) if given == 1 else open_video(source).get(range(2, 7)), SIZE)
    tokenizer = VideoTokenizer.from_pretrained(place / "class" / "tokenizer")
    with torch.no_grad():
        expected = tokenizer.reconstruct(start[None])[0]
    video = written(tmp_path / "0_00000.mp4")
    assert video.shape[1] == 9 and close(video[:, :given], expected)
    report = json.loads((tmp_path / "samples.json").read_text())
    assert report[option[2:]] == str(source) and report["options"]["guidance"]["prefix_strength"] == 0.5


def test_prompts_as_bytes(place, tmp_path):
    assert sample(place, tmp_path, "--prompt", "a ball", "--prompt", "zwei Bälle", "--frames", 5, model="bytes") == 0
    assert sorted(p.name for p in tmp_path.glob("*.mp4")) == ["a_ball_00000.mp4", "zwei_Bälle_00001.mp4"]
    assert not torch.equal(*(written(path) for path in tmp_path.glob("*.mp4")))


def test_an_unconditional_model_needs_only_a_number(place, tmp_path):
    assert sample(place, tmp_path, "--num", 2, "--frames", 5, "--grid", model="none") == 0
    assert sorted(p.name for p in tmp_path.glob("*.mp4")) == ["sample_00000.mp4", "sample_00001.mp4"]
    report = json.loads((tmp_path / "samples.json").read_text())
    assert report["options"]["guidance"]["schedule"] == "none"
    assert [video["condition"] for video in report["videos"]] == [None, None]
    generator = VideoAR.from_pretrained(place / "none" / "generator")
    tokenizer = VideoTokenizer.from_pretrained(place / "none" / "tokenizer")
    same = generate(generator, tokenizer, [None], 5, SIZE, seed=1)
    assert close(written(tmp_path / "sample_00001.mp4"), same.video[0])
    assert not torch.equal(*(written(path) for path in tmp_path.glob("*.mp4")))


def test_prompts_through_a_text_encoder(place, tmp_path, text_encoder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    text = {"condition": "text", "text_encoder": text_encoder, "text_features": 24, "max_prompt": 8}
    save_model(tmp_path / "text", **text)
    arguments = ("--prompt", "a red ball", "--image", place / "image.png", "--frames", 5)
    assert sample(tmp_path, tmp_path / "out", *arguments, model="text") == 0
    assert len(list((tmp_path / "out").glob("a_red_ball_00000.*"))) == 2
    assert len(list((tmp_path / "cache" / "videoar" / "text").glob("*.safetensors"))) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_graphs_need_a_gpu(place, tmp_path, capsys):
    assert sample(place, tmp_path, "--label", "pong", "--graphs", "--frames", 1) == 2
    assert "CUDA graphs need a CUDA device" in capsys.readouterr().err


def test_twenty_seconds_in_shots(place, tmp_path):
    arguments = ("--label", "pong", "--seconds", 20, "--frames", 13, "--context", 5, "--guidance", "none")
    assert sample(place, tmp_path, *arguments) == 0
    video = open_video(tmp_path / "pong_00000.mp4")
    assert (len(video), video.fps) == (160, 8)


def test_videos_of_two_runs_are_never_mixed(place, tmp_path, capsys):
    from videoar.evaluation.folders import VideoFolder

    out = tmp_path / "out"
    assert sample(place, out, "--label", "pong", "--num", 2, "--frames", 5, "--grid") == 0
    assert VideoFolder(out).names == ("pong_00000.mp4", "pong_00001.mp4")  # and not grid.gif
    assert sample(place, out, "--label", "breakout", "--frames", 5) == 2
    error = capsys.readouterr().err
    assert "holds 5 videos already, e.g. grid.gif" in error and "--overwrite removes; choose another --out" in error
    assert len(VideoFolder(out)) == 2
    assert sample(place, out, "--label", "breakout", "--frames", 5, "--overwrite") == 0
    assert "removed 2 videos of an earlier run" in capsys.readouterr().out
    assert VideoFolder(out).names == ("breakout_00000.mp4",)
    (out / "holiday.mp4").write_bytes((out / "breakout_00000.mp4").read_bytes())
    assert sample(place, out, "--label", "pong", "--frames", 5, "--overwrite") == 2
    assert "holiday.mp4, which no earlier run lists" in capsys.readouterr().err
    assert (out / "holiday.mp4").is_file()
    with only_writer(tmp_path / "new"):
        assert sample(place, tmp_path / "new", "--label", "pong", "--frames", 5) == 2
    assert "new is being written by process" in capsys.readouterr().err and not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("class", "--label zork", "unknown class 'zork'; known classes: pong, breakout"),
        ("class", "--label 7", "label 7 is outside 0 … 1"),
        ("class", "--prompt ball", "class-conditional: use --label"),
        ("none", "--label pong", "this model is unconditional: it takes no --label and no --prompt, only --num"),
        ("none", "--guidance 3", "guidance follows a condition, and this model is unconditional: use guidance none"),
        ("bytes", "--label pong", "conditioned on text: use --prompt"),
        ("bytes", "--prompt a-prompt-that-is-too-long", "prompt of 25 bytes; allowed are 1 … 16"),
        ("bytes", "--prompt=", "--prompt"),
        ("class", "--frames 10", "10 frames are not 1 + 4·n; use 9 or 13"),
        ("class", "--size 30 32", "30x32 pixels are not multiples of 4"),
        ("class", "--size 1 2 3", "--size takes one or two numbers, got [1, 2, 3]"),
        ("class", "--video CLIP --frames 5", "a prefix of 5 frames leaves nothing to sample in a clip of 5"),
        ("class", "--video CLIP --context 4", "4 frames are not 1 + 4·n; use 1 or 5"),
        ("class", "--video CLIP --context 9", "clip.mp4 has 7 frames; --context asks for 9"),
        ("class", "--video CLIP --image CLIP", "cannot be given together"),
        ("class", "--image none.png", "none.png"),
        ("class", "--seconds 0", "--seconds: must be"),
        ("class", "--seconds 2 --frames 5", "an overlap of 5 frames leaves nothing of a shot of 5"),
        ("class", "--temperature 0", "--temperature: must be"),
        ("class", "--guidance much", "guidance 'much' is not none, ucf101, text or a number"),
        ("class", "--num 0", "--num: must be"),
        ("foreign", "", "their bits mean different things"),
        ("scales", "--size 24 24", "the configured scales end in a grid of (4, 8), but the latent's is (6, 6)"),
        ("nowhere", "", "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(place, tmp_path, capsys, model, arguments, message):
    if model == "foreign":
        save_model(place / "foreign", tokenizer_seed=1, **KINDS["class"])
    if model == "scales":
        save_model(place / "scales", scales=[1, [2, 4], [4, 8]], **KINDS["class"])
    words = [str(place / "clip.mp4") if word == "CLIP" else word for word in arguments.split()]
    try:
        code = sample(place, tmp_path / "out", *words, model=model)
    except SystemExit as stop:  # the parser's own way out
        code = stop.code
    assert code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("videoar") and "\n" not in error and "--debug" not in error
    assert message in error
    assert not list(tmp_path.rglob("*.*"))
