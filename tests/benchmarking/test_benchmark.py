"""`videoar benchmark`: what is counted agrees with arithmetic, and one run of the command says where it comes from."""

import importlib.util
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import nn

from videoar import kernels
from videoar.benchmarking import suites
from videoar.benchmarking.measure import Case, count_flops, run_case
from videoar.benchmarking.run import run_benchmark
from videoar.benchmarking.setting import Setting
from videoar.benchmarking.timing import Roofline, Workload, nbytes
from videoar.cli import benchmark
from videoar.cli import main as cli
from videoar.data.writers import write_mp4
from videoar.tokenizer.layers import conv3d

CPU = torch.device("cpu")
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def tiny():
    return Setting("debug", CPU, torch.float32, frames=5, size=(32, 32))


def test_flops_of_products_and_convolutions():
    layer, x = nn.Linear(6, 10), torch.randn(4, 6)
    assert count_flops(lambda: layer(x)) == 2 * 4 * 6 * 10
    video, kernel = torch.randn(1, 4, 3, 8, 8), torch.randn(5, 4, 3, 3, 3)

    def convolve():
        return conv3d(video, kernel, None, (1, 1, 1), (0, 1, 1))  # oneDNN's own operator where gradients are off

    assert count_flops(convolve) == 2 * 5 * 4 * 27 * 1 * 8 * 8


def test_flops_of_teacher_forcing(tiny):
    """Two per weight of the blocks' matrices and token, and attention over the whole dense square."""
    case = suites.generator_forward(tiny)
    model = tiny.generator(torch.float32)
    config, L = model.config, tiny.tokens
    inside = sum(p.numel() for p in model.blocks.parameters() if p.ndim == 2)
    blocks = 2 * inside * (L + 1)  # the class is a prefix of one token
    attention = config.depth * 4 * (L + 1) ** 2 * config.width
    outside = 2 * L * config.width * config.latent_dim * 2
    assert case.workload.flops == pytest.approx(blocks + attention + outside, rel=0.08)
    assert case.workload.bytes == 4 * sum(p.numel() for p in model.parameters())


def test_a_training_step_changes_weights_and_counts_three_forward_passes(tiny):
    torch.manual_seed(0)
    case = suites.generator_training(tiny)
    assert case.workload.flops == pytest.approx(3 * suites.generator_forward(tiny).workload.flops)
    losses = [float(case.workload.run()) for _ in range(20)]
    assert losses[-1] < losses[0], "the step really trains"


def test_attention_backends_agree_and_count_visible_pairs(tiny):
    cases = list(suites.attention_cases(tiny))
    torch.manual_seed(0)
    naive, sdpa = (case.workload.run() for case in cases)
    for a, b in zip(naive, sdpa):
        torch.testing.assert_close(a, b)
    L, K, heads = tiny.tokens + 1, 32, 2
    assert 0 < cases[0].workload.flops < 12 * heads * K * L * L


def test_sampling_counts_the_weights_of_every_step(tiny):
    latents, clip, raster = suites.sampling_cases(tiny)
    model = tiny.generator(torch.float32)
    weights = nbytes(*(p for block in model.blocks for p in block.parameters()))
    steps = tiny.latent_frames * len(tiny.pyramid)
    assert latents.workload.bytes > steps * weights and f"{steps} steps" in latents.workload.detail
    assert clip.workload.flops > latents.workload.flops and clip.workload.bytes > latents.workload.bytes
    tokens = tiny.latent_frames * math.prod(tiny.pyramid.full)
    assert f"{tokens} steps, {tokens} tokens" in raster.workload.detail, "next token: a call for each"
    assert raster.workload.bytes > tokens * weights and raster.workload.flops < latents.workload.flops
    (frames,) = {latent.shape for latent in raster.workload.run()}
    assert frames == (1, tiny.tokenizer_config.latent_dim, 1, *tiny.pyramid.full)


def test_shares_of_the_ceiling():
    a = torch.randn(64, 64)
    load = Workload("product", lambda: a @ a, 2 * 64**3, 3 * nbytes(a), "64 x 64")
    figure = run_case(Case("x", load, "products", 2), CPU, Roofline(tflops=1e-3, gigabytes=1e6), budget_s=0.05)
    assert figure.timing.repeats >= 3 and figure.peak_mib is None
    assert run_case(Case("x", load, "products", 2), CPU, Roofline(1e-3, 1e6), budget_s=1e-9).timing.repeats == 1
    seconds = figure.timing.median_ms / 1e3
    assert figure.rate == pytest.approx(2 / seconds)
    assert figure.of_matmul == pytest.approx(2 * 64**3 / seconds / 1e9)
    assert figure.timing.roofline_share == pytest.approx(figure.of_matmul)


def test_the_command_writes_what_it_shows(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "240")
    options = ["--preset", "debug", "--size", "32", "--frames", "5", "--budget", "0.02", "--device", "cpu"]
    assert cli.main(["benchmark", *options, "--suite", "quantiser", "--cpu-time", "--out", str(tmp_path)]) == 0
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text())["machine"]["clock"].startswith("CPU time of the process")
    path.unlink()
    assert cli.main(["benchmark", *options, "--out", str(tmp_path)]) == 0
    (path,) = tmp_path.iterdir()
    content = json.loads(path.read_text())
    assert content["commit"][:8] in path.name and torch.__version__.split("+")[0] in path.name
    assert content["settings"]["preset"] == "debug" and content["ceilings"].keys() == {"float32", "bfloat16"}
    names = set(content["figures"])
    assert {"quantiser/quantize", "data/decord", "generator/train_step", "sampling/clip", "tokenizer/decode"} <= names
    shown = capsys.readouterr().out
    for name, figure in content["figures"].items():
        assert figure["low_ms"] <= figure["median_ms"] <= figure["high_ms"] and figure["rate"] > 0, name
        assert f"{figure['median_ms']:.4g}" in shown, name
        assert (figure["flops"] > 0) == (figure["of_matmul"] is not None), name


def test_a_benchmark_from_python(tiny, tmp_path):
    result = run_benchmark(tiny, ["quantiser"], cases=["quantize"], without=["linear"], budget=0.02)
    (figure,) = result.figures
    assert figure.timing.name == "quantize" and figure.rate > 0
    assert result.content["settings"]["without"] == ["linear"] and result.content["settings"]["batch"] == 1
    path = result.save(tmp_path)
    assert json.loads(path.read_text())["figures"].keys() == {"quantiser/quantize"} and result.save(tmp_path) == path
    result.content["settings"]["batch"] = 2
    assert result.save(tmp_path) != path and path.is_file()  # another benchmark replaces nothing
    lines = io.StringIO()
    Console(file=lines, width=80).print(result.table(80))
    (row,) = [line for line in lines.getvalue().splitlines() if "quantiser/quantize" in line]
    assert f"{figure.timing.median_ms:.4g}" in row and f"{figure.unit}/s" in row


@pytest.mark.parametrize(
    "options, match",
    [
        (["--preset", "huge"], "unknown generator preset 'huge'"),
        (["--frames", "6"], "6 frames are not 1 + 4·n"),
        (["--size", "30"], "sides that 16 divides"),
        (["--size", "32", "32", "32"], "one or two numbers"),
        (["--budget", "0"], "--budget: must be a number above 0"),
        (["--guidance", "much"], "guidance 'much' is not"),
        (["--depth", "0"], "--depth: must be a whole number from 1"),
        (["--case", "latent"], "no case of sampling is called latent"),
    ],
)
def test_bad_options(options, match, command_line):
    fixed = ["benchmark", "--suite", "sampling", "--device", "cpu", "--preset", "debug"]
    code, err = command_line([*fixed, *options])
    assert code == 2 and match in err and err.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_said(command_line):
    code, err = command_line(["benchmark", "--device", "cuda:0"])
    assert code == 2 and "this machine has no device 'cuda:0'" in err and err.count("\n") == 1


def test_the_gpu_suite_runs_at_tiny_sizes(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("gpu_suite", REPOSITORY / "benchmarks" / "gpu_suite.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(["--tiny", "--out", str(tmp_path)]) == 0
    content = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert not content["failed"] and not content["left_out"]
    assert any(name.endswith("sampling/clip") for name in content["figures"])
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith("wrote ")


def test_every_twin_can_be_turned_off_from_the_command_line():
    assert benchmark.TWINS == kernels.NAMES


def test_a_sheet_shows_a_row_a_model(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("sample_sheet", REPOSITORY / "benchmarks" / "sample_sheet.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for model, grey in (("a", 50), ("b", 200)):
        (tmp_path / model).mkdir()
        for name in ("ms_pacman_00000", "ms_pacman_00001", "pong_00002"):
            video = np.full((5, 32, 32, 3), grey, np.uint8)
            video[np.arange(5), 6 * np.arange(5)] = 0  # a GIF keeps no frame twice
            write_mp4(tmp_path / model / f"{name}.mp4", video, fps=5)
    monkeypatch.setattr("sys.argv", ["", str(tmp_path / "s.png"), f"one={tmp_path}/a", f"two={tmp_path}/b"])
    module.main()
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    classes, frames, side, names = 2, 3, 98, 40  # a clip of 32 pixels is shown three times as large
    assert sheet.shape[0] in range(2 * 96 + names, 2 * 104 + names) and sheet.shape[1] > classes * frames * 96
    for row, grey in enumerate((50, 200)):
        assert abs(int(sheet[names + row * side + 48, -48, 0]) - grey) < 6
    monkeypatch.setattr("sys.argv", ["", str(tmp_path / "s.gif"), f"one={tmp_path}/a", f"two={tmp_path}/b"])
    module.main()
    moving = Image.open(tmp_path / "s.gif")
    assert moving.n_frames == 5 and abs(moving.convert("L").getpixel((moving.width - 48, moving.height - 48)) - 200) < 6
    (tmp_path / "b" / "pong_00002.mp4").unlink()
    with pytest.raises(SystemExit):
        module.main()
    with pytest.raises(FileNotFoundError, match="no samples"):
        module.videos(tmp_path, 0)
