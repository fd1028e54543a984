"""An exported folder samples as PyTorch does: same seed, same bits; alone in a process without torch and videoar."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch

from videoar import GeneratorConfig, TokenizerConfig, VideoAR, VideoTokenizer, generate, load_models
from videoar.errors import UserError
from videoar.sampling.guidance import Guidance
from videoar.serving.export import export_onnx
from videoar.serving.precision import smaller
from videoar.serving.runner import GRAPHS, Model

pytest.importorskip("onnxscript", reason="the export needs the extra onnx")
NAMES = ("pong", "breakout")


def small_pair(generator: dict, **tokenizer) -> tuple[VideoAR, VideoTokenizer]:
    """Random weights, louder than fresh ones, so that every part of the graphs matters."""
    torch.manual_seed(0)
    settings = {"latent_dim": 8, "channels": 8, "res_blocks": 1, "norm_groups": 4} | tokenizer
    coder = VideoTokenizer(TokenizerConfig(**settings)).eval()
    for parameter in coder.parameters():
        if parameter.ndim == 5:
            parameter.data += torch.randn_like(parameter) * parameter.std()
    settings = {"latent_dim": 8, "width": 32, "depth": 2, "heads": 2, "size": (8, 16)}
    names = {"num_classes": 2, "class_names": NAMES} if generator.get("condition", "class") == "class" else {}
    config = GeneratorConfig(**settings | names | generator, tokenizer_fingerprint=coder.fingerprint())
    network = VideoAR(config).eval()
    for parameter in network.head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    for layer in (network.modulation, network.head_modulation):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return network, coder


@pytest.fixture(scope="module")
def pair():
    return small_pair({}, multipliers=(1, 2), temporal_stages=(0,))


@pytest.fixture(scope="module")
def folder(pair, tmp_path_factory):
    """The pair, exported; every graph is told of when it is there, and not when all are."""
    told: list[tuple[str, int]] = []
    place = tmp_path_factory.mktemp("onnx")
    count = lambda: len(list(place.rglob("*.onnx")))  # noqa: E731
    made = export_onnx(*pair, place / "model", progress=lambda graph: told.append((graph, count())))
    assert told == [(graph, number) for number, graph in enumerate(GRAPHS, start=1)]
    return made


def same(theirs, ours, tolerance: float = 1e-3) -> bool:
    """Every bit of every frame and scale is equal, and the pixels are but for rounding."""
    wrong = [int((a.numpy() != b).sum()) for a, b in zip(theirs.bits, ours.bits, strict=True)]
    assert not any(wrong), f"bits that differ, a scale each: {wrong}"
    return bool(np.abs(theirs.video.numpy() - ours.video).max() < tolerance)


def clip(frames: int, batch: int = 1) -> torch.Tensor:
    coarse = torch.randn(batch, 3, frames, 2, 4, generator=torch.Generator().manual_seed(5))
    return torch.nn.functional.interpolate(coarse, (frames, 8, 16), mode="trilinear").tanh()


CASES = {
    "schedule": {"guidance": "ucf101", "seed": 3},
    "constant, heat by scale": {"guidance": 2.0, "temperature": (1.2, 0.8), "seed": [9, 4]},
    "none, greedy": {"guidance": "none", "greedy": True},
    "image": {"prefix": clip(1), "guidance": 1.5},
    "clip, one a sample": {"prefix": clip(5, 2), "guidance": "text"},
    "prefix guidance": {"guidance": Guidance("constant", end=2.0, prefix_strength=0.7)},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_same_seed_same_bits(pair, folder, case):
    options = dict(CASES[case])
    theirs = generate(*pair, list(NAMES), frames=9, **options)
    if isinstance(options["guidance"], Guidance):
        options["guidance"] = asdict(options["guidance"])
    if "prefix" in options:
        options["prefix"] = options["prefix"].numpy()
    assert same(theirs, Model(folder, threads=1).generate(NAMES, frames=9, **options))


@pytest.mark.slow
@pytest.mark.parametrize(("order", "passes"), [("interleaved", [1, 4]), ("interleaved_from_4", [4, 4])])
def test_bits_in_groups_and_cells_in_passes(tmp_path, order, passes):
    """The shape of VideoAR-Atari's CPU edition, on a grid that is no square."""
    switches = {"bit_groups": 4, "order": order, "size": (6, 8)}
    pair = small_pair(switches, multipliers=(1,), temporal_stages=())
    model = Model(export_onnx(*pair, tmp_path / "model"), threads=1)
    assert [len(parts) for parts in model.about["passes"]] == [1, 1, 1, *passes] and "group" in model.sessions
    start = torch.nn.functional.interpolate(clip(3), (2, 6, 8))
    strong = Guidance("constant", end=2.0, prefix_strength=0.7)
    for options in ({"guidance": "ucf101", "seed": 3}, {"guidance": 2.0, "prefix": start}, {"guidance": strong}):
        theirs = generate(*pair, list(NAMES), frames=4, **options)
        given = {"prefix": start.numpy()} if "prefix" in options else {}
        given |= {"guidance": asdict(strong)} if options["guidance"] is strong else {}
        assert same(theirs, model.generate(NAMES, frames=4, **options | given))
    small = Model(smaller(tmp_path / "model", tmp_path / "int8", "int8"), threads=1)
    one = [each.generate(["pong"], frames=1, guidance="none").bits for each in (model, small)]
    assert np.mean([(a != b).mean() for a, b in zip(*one)]) < 0.3


@pytest.mark.slow
def test_a_window_forgets_what_the_sampler_forgets(pair, folder, tmp_path):
    network, coder = pair
    described = json.loads((folder / "model.json").read_text())
    for window, sinks, normalised in ((1, 0, True), (2, 1, False)):
        model = Model(folder, threads=1)
        model.about = described | {"window": window, "sinks": sinks, "normalised_positions": normalised}
        network.config.window, network.config.sinks = window, sinks
        network.config.normalised_positions = normalised
        try:
            theirs = generate(network, coder, ["pong"], frames=11, seed=1, guidance=2.0)
        finally:
            network.config.window = network.config.sinks = 0
            network.config.normalised_positions = False
        assert same(theirs, model.generate(["pong"], frames=11, seed=1, guidance=2.0))


@pytest.mark.slow
def test_ablations_and_an_unconditional_model(tmp_path):
    switches = {"temporal_context": "first_scale", "position": "absolute", "condition": "none"}
    pair = small_pair(switches, multipliers=(1,), temporal_stages=())
    model = Model(export_onnx(*pair, tmp_path / "model", size=(4, 4)), threads=1)
    theirs = generate(*pair, [None, None], frames=4, size=(4, 4), seed=2)
    assert same(theirs, model.generate([None, None], frames=4, seed=2))


@pytest.mark.slow
def test_the_folder_is_enough(folder, tmp_path):
    """A process that cannot import torch or videoar runs the folder's own files."""
    block = "import sys; sys.modules |= dict.fromkeys(['torch', 'videoar']); "
    run = "import runpy; sys.argv = sys.argv[1:]; sys.path.insert(0, sys.argv[0].rpartition('/')[0]); "
    run += "runpy.run_path(sys.argv[0], run_name='__main__')"
    arguments = [folder / "sample.py", "--label", "pong", "--frames", "5", "--file", tmp_path / "out.png"]
    command = [sys.executable, "-I", "-c", block + run, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    arguments[2] = "chess"
    done = subprocess.run([*command[:4], *map(str, arguments)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and "pong, breakout" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_every_weight_lies_on_disk_once_and_no_path_of_this_machine(pair, folder):
    weights = sum(p.numel() * 4 for network in pair for p in network.parameters())
    assert (folder / "weights.bin").stat().st_size < 1.5 * weights
    assert not any(b"videoar/" in path.read_bytes() for path in folder.glob("*.onnx"))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_smaller_weights(pair, folder, tmp_path, precision):
    small = smaller(folder, tmp_path / "model", precision)
    size = lambda place: (place / "weights.bin").stat().st_size  # noqa: E731
    assert size(small) < 0.7 * size(folder)
    models = [Model(place, threads=1) for place in (folder, small)]
    latents = [model.encode(clip(5).numpy()) for model in models]
    assert all(np.abs(a - b).max() < 0.05 * np.abs(a).max() for a, b in zip(*latents))
    samples = [model.generate(["pong"], frames=1, seed=0, guidance="none") for model in models]
    changed = np.mean([(a != b).mean() for a, b in zip(samples[0].bits, samples[1].bits)])
    assert changed < 0.2


@pytest.mark.slow
def test_the_shipped_model(tmp_path):
    generator, tokenizer = load_models("videoar-atari")
    model = Model(export_onnx(generator, tokenizer, tmp_path / "model"), threads=1)
    label, ratio = generator.config.class_names[0], tokenizer.config.temporal_ratio
    theirs = generate(generator, tokenizer, [label], frames=1 + 2 * ratio, seed=11)
    assert same(theirs, model.generate([label], frames=1 + 2 * ratio, seed=11), tolerance=0.01)
    options = {"frames": 1 + 3 * ratio, "seed": 4, "guidance": 2.0}
    start = theirs.video[:, :, : 1 + ratio]
    expected = generate(generator, tokenizer, [label], prefix=start, **options)
    assert same(expected, model.generate([label], prefix=start.numpy(), **options), tolerance=0.01)


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        ({"condition": "bytes"}, "condition 'bytes'"),
        ({"order": "raster"}, "raster"),
    ],
)
def test_what_is_not_covered_is_said(tmp_path, switches, words):
    torch.manual_seed(0)
    coder = VideoTokenizer(TokenizerConfig(8, 8, (1, 1, 2), res_blocks=1, norm_groups=4))
    network = VideoAR(GeneratorConfig(latent_dim=8, width=16, depth=1, heads=2, **switches))
    with pytest.raises(UserError, match=words):
        export_onnx(network, coder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_command_line_says_what_does_not_go_together(tmp_path, command_line):
    for options in (["--size", "64"], ["--onnx", "--overwrite"], ["--onnx", "--dtype", "bfloat16"]):
        code, said = command_line(["export", "videoar-atari", str(tmp_path / "x"), *options])
        assert code == 2 and "--onnx" in said


@pytest.mark.slow
def test_sample_backend_onnx(pair, folder, tmp_path, command_line):
    """The command writes what it writes with PyTorch, shot after shot too."""
    from videoar.data.readers import open_video

    for network in pair:
        network.save_pretrained(tmp_path / "model" / network.part)
    options = ["--label", "pong", "--num", "2", "--frames", "9", "--seed", "3", "--guidance", "2", "--seconds", "2"]
    videos = []
    for backend, model in (("torch", tmp_path / "model"), ("onnx", folder)):
        out = tmp_path / backend
        words = ["sample", "--model", str(model), "--backend", backend, "--device", "cpu", "--out", str(out), *options]
        assert command_line(words) == (0, "")
        report = json.loads((out / "samples.json").read_text())
        assert report["generator"] == pair[0].fingerprint() and report["options"]["guidance"]["end"] == 2
        readers = [open_video(out / video["file"]) for video in report["videos"]]
        videos.append(np.stack([reader.get(range(16)).numpy() for reader in readers]).astype(int))
    assert np.abs(videos[0] - videos[1]).max() <= 2


@pytest.mark.slow
def test_sample_backend_onnx_refuses(folder, tmp_path, command_line):
    cases = {
        "model.json": ["--model", str(tmp_path)],
        "8x16": ["--model", str(folder), "--size", "32"],
        "--graphs": ["--model", str(folder), "--graphs"],
        "not 1 + 2": ["--model", str(folder), "--frames", "8"],
        "chess": ["--model", str(folder), "--label", "chess"],
    }
    for words, options in cases.items():
        code, said = command_line(["sample", "--backend", "onnx", "--out", str(tmp_path / "out"), *options])
        assert code == 2 and words in said, said
