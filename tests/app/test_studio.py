"""What the page does, without a browser: the same samples as `generate`, bounds, and code to copy that gives them."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from videoar import generate
from videoar.app import studio as room
from videoar.app.snippets import command_line, python_code
from videoar.app.studio import Asked, Studio
from videoar.data.readers import open_video
from videoar.data.writers import to_uint8, write_mp4, write_png
from videoar.errors import UserError

ASKED = Asked("breakout", number=2, frames=9, seed=3, guidance="2", temperature=0.9)


@pytest.fixture(scope="module")
def studio(model):
    return Studio(str(model))


def test_frames_come_as_they_are_made_and_are_those_of_generate(studio):
    views = list(studio.sample(ASKED))
    assert [view.clips[0].shape[0] for view in views] == [1, 5, 9, 9] and views[-1].frames == 9
    models = studio.generator, studio.tokenizer
    expected = generate(*models, ["breakout"] * 2, frames=9, seed=3, guidance=2.0, temperature=0.9)
    assert all(np.array_equal(a, to_uint8(b)) for a, b in zip(views[-1].clips, expected.video))
    assert all(torch.equal(a, b) for a, b in zip(views[-1].bits, expected.bits))


def test_longer_videos_go_on_shot_after_shot(studio):
    last = list(studio.sample(replace(ASKED, number=1, frames=25)))[-1]
    assert len(last.clips[0]) == 25 and last.bits == ()


def test_scale_by_scale_ends_with_the_sample(studio):
    sample = list(studio.sample(ASKED))[-1]
    clips = studio.scale_by_scale(sample.bits, 1)
    assert len(clips) == len(studio.scales)
    assert np.abs(clips[-1].astype(int) - sample.clips[1]).max() <= 1
    assert not np.array_equal(clips[0], clips[-1])


def test_a_start_is_where_the_video_starts(studio, clip_file, tmp_path):
    write_png(tmp_path / "start.png", open_video(clip_file).get([0])[0].numpy())
    for path, given in ((tmp_path / "start.png", 1), (clip_file, 5)):
        start = studio.request(replace(ASKED, start=str(path))).prefix
        assert start.shape == (3, given, *studio.size)


def test_reconstruction_is_the_tokenizers(studio, clip_file):
    *_, (original, rebuilt, psnr) = studio.reconstruct(str(clip_file))
    assert original.shape == rebuilt.shape == (5, 64, 96, 3)
    error = ((original.astype(float) - rebuilt) ** 2).mean((1, 2, 3)) / 255**2
    assert psnr == pytest.approx(-10 * np.log10(error).mean(), abs=0.05)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"number": 100}, "number of videos"),
        ({"frames": 10_001}, "length"),
        ({"frames": 8}, "8 frames"),
        ({"seed": -1}, "seed"),
        ({"temperature": 0.0}, "temperature"),
        ({"guidance": "1e9"}, "guidance"),
        ({"guidance": "strong"}, "strong"),
        ({"condition": None}, "choose a class"),
        ({"condition": "chess"}, "chess"),
    ],
)
def test_what_is_out_of_bounds_is_refused(studio, fields, words):
    with pytest.raises(UserError, match=words):
        list(studio.sample(replace(ASKED, **fields)))


def test_bad_uploads_are_refused_without_the_servers_paths(studio, clip_file, tmp_path, monkeypatch):
    (tmp_path / "fake.mp4").write_bytes(b"no video")
    (tmp_path / "fake.png").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("no clip")
    short = tmp_path / "short.mp4"
    write_mp4(short, torch.zeros(3, 2, 32, 32), fps=8)
    for name in ("fake.mp4", "fake.png", "notes.txt", "short.mp4", "absent.mp4"):
        with pytest.raises(UserError, match=name) as raised:
            list(studio.sample(replace(ASKED, start=str(tmp_path / name))))
        assert str(tmp_path) not in str(raised.value)
    for bound, value in (("UPLOAD_BYTES", 10), ("UPLOAD_FRAMES", 3), ("UPLOAD_PIXELS", 100)):
        with monkeypatch.context() as patch:
            patch.setattr(room, bound, value)
            with pytest.raises(UserError, match="at most"):
                list(studio.reconstruct(str(clip_file)))


@pytest.mark.slow
@pytest.mark.parametrize("start", [None, "clip"])
@pytest.mark.parametrize("frames", [9, 25])
def test_the_code_to_copy_makes_the_same_videos(studio, model, clip_file, tmp_path, start, frames):
    asked = replace(ASKED, frames=frames, number=1, start=str(clip_file) if start else None)
    shown = to_uint8_of(list(studio.sample(asked))[-1].clips[0], tmp_path / "shown.mp4")
    (tmp_path / clip_file.name).write_bytes(clip_file.read_bytes())
    (tmp_path / "code.py").write_text(python_code(str(model), asked))
    words = shlex.split(command_line(str(model), "class", asked))[1:]
    for command in ([sys.executable, "code.py"], [sys.executable, "-m", "videoar", *words, "--out", "cli"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    for path in (tmp_path / "sample_0.mp4", tmp_path / "cli" / "breakout_00003.mp4"):
        assert np.array_equal(frames_of(path), shown)


def to_uint8_of(clip, path):
    """A clip as a file gives it back."""
    write_mp4(path, clip, fps=8)
    return frames_of(path)


def frames_of(path):
    reader = open_video(path)
    return reader.get(range(len(reader))).numpy()


@pytest.mark.slow
def test_a_space_runs_from_its_own_folder(model, tmp_path):
    from videoar.app.space import write_space

    out = write_space(str(model), tmp_path / "space")
    assert {path.name for path in out.iterdir()} == {"app.py", "README.md", "requirements.txt", "videoar", "model"}
    assert "sdk: gradio" in (out / "README.md").read_text() and "torch" in (out / "requirements.txt").read_text()
    look = "import videoar, runpy; from videoar.app.page import build; from videoar.app.studio import Studio; "
    look += "print(videoar.__file__); build(Studio('model')); runpy.run_path('app.py')"
    environment = {"PYTHONPATH": str(out), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", look], cwd=out, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith(str(out))
    with pytest.raises(UserError, match="exists"):
        write_space(str(model), out)
