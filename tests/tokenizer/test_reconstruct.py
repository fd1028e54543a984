"""`videoar convert` and `videoar reconstruct`, as a user calls them."""

import json

import pytest
import torch

from videoar.cli.main import main
from videoar.data.readers import open_video
from videoar.data.writers import write_mp4
from videoar.errors import UserError
from videoar.tokenizer.reconstruct import reconstruct


@pytest.fixture
def video(tmp_path):
    """30 x 42 pixels, 11 frames: neither multiples of 8 nor 1 + 4n."""
    t, y, x = torch.meshgrid(torch.arange(11), torch.arange(30), torch.arange(42), indexing="ij")
    frames = torch.stack([x * 6 + t, y * 8, (x + y + 5 * t) * 2], dim=-1).clamp(0, 255).to(torch.uint8)
    write_mp4(tmp_path / "in.mp4", frames, fps=10)
    return tmp_path / "in.mp4"


@pytest.fixture
def model(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def call(*arguments):
    return main([str(argument) for argument in arguments])


def test_reconstruct_keeps_size_and_length_and_measures(video, model, tmp_path):
    out, report = tmp_path / "new" / "out.mp4", tmp_path / "out.json"
    arguments = ("reconstruct", video, out, "--model", model, "--side-by-side", "--metrics", report, "--chunk", 3)
    assert call(*arguments) == 0
    written = open_video(out)
    assert (len(written), written.height, written.width, written.fps) == (11, 30, 84, 10)
    values = json.loads(report.read_text())
    assert [row["frame"] for row in values["per_frame"]] == list(range(11))
    assert values["psnr"] == pytest.approx(sum(row["psnr"] for row in values["per_frame"]) / 11)
    assert -1 <= values["ssim"] <= 1 and values["frames"] == 11


@pytest.mark.parametrize(("height", "width"), [(31, 43), (7, 9), (25, 16)])
def test_odd_sizes_are_padded_and_cropped_back(tokenizer, height, width):
    frames = torch.randint(0, 256, (6, height, width, 3), dtype=torch.uint8)
    pieces = list(reconstruct(tokenizer, iter(frames), 4))
    original, rebuilt = (torch.cat(part, dim=1) for part in zip(*pieces))
    assert original.shape == rebuilt.shape == (3, 6, height, width)
    padded = torch.nn.functional.pad(original[None], (0, -width % 8, 0, -height % 8, 0, 3), mode="replicate")
    with torch.no_grad():
        assert torch.equal(rebuilt, tokenizer.reconstruct(padded)[0, :, :6, :height, :width])


def test_an_odd_video_goes_through_the_command(model, tmp_path, caplog):
    """H.264 needs even sizes: the file gets one more row and column, and a warning says so."""
    import av

    with av.open(str(tmp_path / "odd.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.width, stream.height, stream.pix_fmt = 43, 31, "bgr0"
        for t in range(6):
            picture = torch.full((31, 43, 3), 40 * t, dtype=torch.uint8).numpy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    out = tmp_path / "out.mp4"
    assert call("reconstruct", tmp_path / "odd.mkv", out, "--model", model, "--metrics", tmp_path / "out.json") == 0
    written = open_video(out, backend="pyav")
    assert (len(written), written.height, written.width) == (6, 32, 44) and "31x43 padded" in caplog.text
    report = json.loads((tmp_path / "out.json").read_text())
    assert (report["height"], report["width"], len(report["per_frame"])) == (31, 43, 6)


def test_reconstruct_shows_the_original_on_the_left(video, model, tmp_path):
    assert call("reconstruct", video, tmp_path / "out.mp4", "--model", model, "--side-by-side") == 0
    left = open_video(tmp_path / "out.mp4").get(range(11))[:, :, :42].float()
    assert (left - open_video(video).get(range(11)).float()).abs().mean() < 8


def test_any_chunking_gives_the_padded_whole(tokenizer):
    frames = torch.randint(0, 256, (11, 30, 42, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    runs = []
    for chunk in (1, 3, 64):
        pieces = list(reconstruct(tokenizer, iter(frames), chunk))
        original, rebuilt = (torch.cat(part, dim=1) for part in zip(*pieces))
        assert torch.equal(original, frames.permute(3, 0, 1, 2).float() / 127.5 - 1)
        runs.append(rebuilt)
    assert torch.equal(runs[0], runs[1]) and torch.equal(runs[0], runs[2])
    padded = torch.nn.functional.pad(original[None], (0, 6, 0, 2, 0, 2), mode="replicate")
    with torch.no_grad():
        assert torch.equal(rebuilt, tokenizer.reconstruct(padded)[0, :, :11, :30, :42])


def test_scales_and_frames_limit_the_work(video, model, tmp_path):
    assert call("reconstruct", video, tmp_path / "out.mp4", "--model", model, "--scales", 1, "--frames", 2) == 0
    assert len(open_video(tmp_path / "out.mp4")) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--scales": "9"}, "scales 9: these frames have"),
        ({"--chunk": "0"}, "--chunk: must be a whole number from 1"),
        ({"--model": "nowhere"}, "no checkpoint or model at nowhere"),
        ({"input": "none.mp4"}, "none.mp4: no such file"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(video, model, tmp_path, command_line, changes, message):
    options = {"--model": str(model)} | {key: value for key, value in changes.items() if key != "input"}
    source = tmp_path / changes["input"] if "input" in changes else video
    asked = (part for pair in options.items() for part in pair)
    code, errors = command_line(["reconstruct", str(source), str(tmp_path / "out.mp4"), *asked])
    assert code == 2 and message in errors and errors.count("\n") == 1
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


@pytest.mark.parametrize("wrong", [{"chunk": 0}, {"chunk": -1}, {"scales": 0}, {"limit": 0}])
def test_numbers_in_python_are_looked_at_too(tokenizer, wrong):
    with pytest.raises(UserError, match=f"{next(iter(wrong))} must be a whole number from 1"):
        next(reconstruct(tokenizer, [torch.zeros(16, 16, 3, dtype=torch.uint8)], **wrong))


def test_a_video_is_not_replaced_by_its_reconstruction(video, model, tmp_path, capsys):
    before = video.read_bytes()
    (tmp_path / "link.mp4").symlink_to(video)
    for same in (video, tmp_path / "link.mp4"):
        assert call("reconstruct", video, same, "--model", model) == 2
        assert "in.mp4 would be replaced by its reconstruction" in capsys.readouterr().err
    assert video.read_bytes() == before


def test_convert_refuses_an_existing_folder_and_a_wrong_file(video, tmp_path, capsys):
    assert call("convert", "infinity", video, tmp_path / "out") == 2
    assert "no torch file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
