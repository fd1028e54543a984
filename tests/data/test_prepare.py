"""`videoar data check` and `videoar data ucf101`, on folders with every kind of bad file."""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest

from videoar.cli import data as command
from videoar.data.datasets import Reading
from videoar.data.decoding import KillableDecoder
from videoar.data.items import Source
from videoar.data.layout import read_manifest
from videoar.data.prepare import check_folder
from videoar.data.probe import UnreadableClip
from videoar.data.sources import index_source
from videoar.data.ucf101 import TOOLS, prepare_ucf101
from videoar.errors import UserError


def parse(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(argv)


@pytest.fixture(scope="module")
def decoder():
    decoder = KillableDecoder(60)
    yield decoder
    decoder.close()


def test_a_decoder_that_hangs_is_killed(decoder, class_folder):
    file = str(class_folder / "apple" / "clip0.mp4")
    assert decoder.probe(file, "pyav", None) == (24, 12.0)
    pid = decoder._process.pid
    os.kill(pid, signal.SIGSTOP)  # like decord in its deadlock: alive, silent, deaf to everything but SIGKILL
    decoder.patience = 0.3
    with pytest.raises(UnreadableClip, match=r"clip0\.mp4: did not decode within 0\.3 s; decoder killed"):
        decoder.probe(file, "pyav", None)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    decoder.patience = 60
    assert decoder.frames(file, "pyav", None, np.array([0, 23])).shape == (2, 48, 64, 3)


def test_a_decoder_that_crashes_is_replaced(decoder, class_folder):
    file = str(class_folder / "apple" / "clip0.mp4")
    decoder.probe(file, "pyav", None)
    decoder._process.kill()
    decoder._process.wait()
    with pytest.raises(UnreadableClip, match=r"the decoder crashed \(exit code -9\)"):
        decoder.probe(file, "pyav", None)
    assert decoder.check(file, "decord")[:4] == (24, 12.0, 48, 64)


@pytest.fixture(scope="module")
def messy(tmp_path_factory, class_folder, image_folder, encoder, frames, lying, uneven, huge):
    """Good and bad files side by side."""
    root = tmp_path_factory.mktemp("messy")
    shutil.copy(class_folder / "apple" / "clip0.mp4", root / "good.mp4")
    shutil.copy(image_folder / "image0.png", root / "picture.png")
    shutil.copy(class_folder / "apple" / "clip1.mp4", root / "wrong_suffix.avi")  # the content decides: it decodes
    encoder(root / "one_frame.mp4", frames[:1])
    encoder(root / "old.avi", frames, "mpeg4", bf="2")
    encoder(root / "ten_bit.mkv", frames, pix_fmt="yuv422p10le")
    encoder(root / "alpha.mov", frames, "qtrle", pix_fmt="argb")
    lying(encoder(root / "phone.mp4", frames), 90)
    uneven(root / "uneven.mp4")
    huge(root / "huge.avi")
    whole = encoder(root / "cut.mp4", frames, movflags="faststart").read_bytes()
    (root / "cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    old = encoder(root / "cut.avi", frames, "mpeg4").read_bytes()
    (root / "cut.avi").write_bytes(old[: len(old) * 9 // 10])
    (root / "empty.mp4").touch()
    (root / "text.mp4").write_text("no video" * 500)
    (root / "picture.jpg").write_bytes(b"\xff\xd8\xff no picture")
    with wave.open(str(root / "sound.mp4"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    (root / ".hidden.mp4").touch()
    (root / "notes.txt").write_text("not looked at")
    return root


def test_check_writes_true_counts_and_reasons(messy, capsys):
    command.run(parse("check", str(messy), "--workers", "1"))
    shown = capsys.readouterr().out
    rows = read_manifest(messy)
    counts = {name: row.frames for name, row in rows.items()}
    assert counts == {
        "good.mp4": 24,
        "picture.png": 1,
        "wrong_suffix.avi": 24,
        "one_frame.mp4": 1,
        "old.avi": 24,
        "ten_bit.mkv": 24,
        "alpha.mov": 24,
        "phone.mp4": 24,
        "uneven.mp4": 24,
    }
    assert (rows["phone.mp4"].width, rows["phone.mp4"].height) == (48, 64)  # upright
    assert rows["uneven.mp4"].fps == pytest.approx(6.42, abs=0.01)
    assert (rows["good.mp4"].fps, rows["good.mp4"].width, rows["good.mp4"].height) == (12.0, 64, 48)
    bad = dict(line.split(",", 1) for line in (messy / "bad_files.csv").read_text().splitlines()[1:])
    assert set(bad) == {"cut.mp4", "cut.avi", "empty.mp4", "text.mp4", "picture.jpg", "sound.mp4", "huge.avi"}
    assert bad["huge.avi"].startswith("frames of 8208x8192 exceed the limit")
    assert bad["empty.mp4"] == "the file is empty"
    assert bad["cut.avi"].startswith("cut short or damaged: 1 of ")
    assert bad["sound.mp4"] == "no video stream"
    assert all(f"bad: {name}: " in shown for name in bad)
    assert "9 good files with 170 frames, 7 bad" in shown


@pytest.fixture
def clips(tmp_path, class_folder):
    """Two good clips and one whose name is no text."""
    for number, name in enumerate(("a.mp4", "b.mp4", os.fsdecode(b"caf\xe9.mp4"))):
        shutil.copy(class_folder / "apple" / f"clip{number % 2}.mp4", tmp_path / name)
    return tmp_path


def test_check_replaces_only_its_own_lists(clips, capsys):
    (clips / "manifest.csv").write_text("path,speaker\na.mp4,Ann\n")
    with pytest.raises(UserError, match=r"manifest\.csv is not of this command and would be replaced"):
        command.run(parse("check", str(clips)))
    assert (clips / "manifest.csv").read_text() == "path,speaker\na.mp4,Ann\n"
    out = clips.parent / f"{clips.name}_lists"
    command.run(parse("check", str(clips), "--out", str(out)))
    assert "bad: caf\\udce9.mp4: its name is not UTF-8; rename it" in capsys.readouterr().out
    assert set(read_manifest(out)) == {"a.mp4", "b.mp4"}
    assert (out / "bad_files.csv").read_text().splitlines()[1:] == ["caf\\udce9.mp4,its name is not UTF-8; rename it"]
    assert not (clips / "bad_files.csv").exists()


def test_a_check_that_fails_leaves_the_lists_alone(clips):
    check_folder(clips, workers=1)
    before = (clips / "manifest.csv").read_bytes()
    with pytest.raises(UserError, match="patience must be a number above 0"):
        check_folder(clips, patience=0)
    with pytest.raises(UserError, match="none of 3 files can be used, the lists are left as they were; a"):
        check_folder(clips, patience=1e-9, workers=1)
    assert (clips / "manifest.csv").read_bytes() == before
    with pytest.raises(UserError, match="patience must be a number above 0"):
        Reading(isolate=True, patience=0)


def without_rights() -> None:
    """In a child: give up the right to write where permissions forbid it, which only root has."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_results_of_a_read_only_data_set_are_printed(clips):
    clips.chmod(0o555)
    check = [sys.executable, "-m", "videoar", "data", "check", str(clips), "--workers", "1"]
    done = subprocess.run(check, capture_output=True, text=True, preexec_fn=without_rights)
    clips.chmod(0o755)
    assert done.returncode == 2
    first, *_, last = done.stderr.strip().splitlines()
    assert first.endswith("the results are only printed") and "cannot write manifest.csv into" in first
    assert "2 good files with 48 frames, 1 bad" in done.stdout and "--out names another folder" in last
    assert not (clips / "manifest.csv").exists()


def test_copies_are_listed_and_not_trained_on(class_folder, tmp_path, capsys):
    root, clip = tmp_path / "set", class_folder / "apple" / "clip0.mp4"
    for name in ("a class/first.mp4", "a class/again.mkv", "b/copy.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clip, root / name)
    shutil.copyfile(class_folder / "apple" / "clip1.mp4", root / "b" / "other.mp4")
    command.run(parse("check", str(root), "--workers", "1"))
    shown = capsys.readouterr().out
    assert "2 good files with 48 frames, 0 bad, 2 copies" in shown
    assert "bad: b/copy.mp4: a copy of a class/again.mkv" in shown
    index = index_source(Source(str(root)))
    found = {Path(item.path).name for items in index.splits.values() for item in items}
    assert found == {"again.mkv", "other.mp4"}


def test_check_needs_a_folder_with_clips(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        check_folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no video or image files"):
        check_folder(tmp_path)


@pytest.fixture(scope="module")
def official(tmp_path_factory, class_folder, encoder, frames):
    """A small UCF-101 as distributed: UCF-101/<class>/*.avi, and the split lists in a zip beside it."""
    root = tmp_path_factory.mktemp("official")
    lines: dict[str, list[str]] = {}
    for number, name in enumerate(("Archery", "Biking"), start=1):
        for group in (1, 2, 3, 4):
            clip = f"{name}/v_{name}_g{group:02d}_c01.avi"
            encoder(root / "UCF-101" / clip, frames[:6], "mpeg4")
            for split in (1, 2, 3):
                kind = "test" if group == split else "train"
                lines.setdefault(f"{kind}list0{split}.txt", []).append(clip if kind == "test" else f"{clip} {number}")
    lines["classInd.txt"] = ["1 Archery", "2 Biking"]
    with zipfile.ZipFile(root / "UCF101TrainTestSplits-RecognitionTask.zip", "w") as lists:
        for name, content in lines.items():
            lists.writestr(f"ucfTrainTestlist/{name}", "\r\n".join(content) + "\r\n")
    with zipfile.ZipFile(root / "UCF101.zip", "w") as videos:
        for file in sorted((root / "UCF-101").rglob("*.avi")):
            videos.write(file, file.relative_to(root))
    return root


@pytest.mark.parametrize("archive", ["UCF-101", "UCF101.zip"])
def test_ucf101_from_a_folder_or_an_archive(official, tmp_path, archive):
    out = tmp_path / "ucf"
    command.run(parse("ucf101", "--archive", str(official / archive), "--out", str(out), "--workers", "1"))
    assert {name: row.frames for name, row in read_manifest(out).items()} == {
        f"{name}/v_{name}_g0{group}_c01.avi": 6 for name in ("Archery", "Biking") for group in (1, 2, 3, 4)
    }
    assert (official / "UCF-101" / "Archery" / "v_Archery_g01_c01.avi").is_file()
    from videoar.data.items import Source
    from videoar.data.sources import index_source

    index = index_source(Source(str(out), split=2))
    assert index.class_names == ("Archery", "Biking")
    assert ["_g02_" in item.path for item in index.splits["test"]] == [True, True]
    assert len(index.splits["train"]) == 6
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == []


def test_ucf101_transcoded(official, tmp_path):
    prepare_ucf101(official / "UCF-101", tmp_path / "ucf", official.glob("*Splits*.zip").__next__(), transcode=True)
    assert {path.suffix for path in (tmp_path / "ucf").rglob("v_*")} == {".mp4"}
    assert all(row.frames == 6 for row in read_manifest(tmp_path / "ucf").values())


def test_ucf101_mistakes(official, tmp_path, monkeypatch):
    out = tmp_path / "ucf"
    with pytest.raises(UserError, match="no such file or folder"):
        prepare_ucf101(tmp_path / "UCF101.rar", out)
    (tmp_path / "UCF101.rar").write_bytes(b"Rar!")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UserError, match=f"needs one of {', '.join(tool[0] for tool in TOOLS)}"):
        prepare_ucf101(tmp_path / "UCF101.rar", out)
    with pytest.raises(UserError, match="no split lists"):
        prepare_ucf101(official / "UCF-101", out, splits=tmp_path)
    shutil.copytree(official, tmp_path / "copy")
    (tmp_path / "copy" / "UCF-101" / "Biking" / "v_Biking_g03_c01.avi").unlink()
    with pytest.raises(UserError, match="1 of 8 listed clips are missing, the first is Biking/v_Biking_g03_c01"):
        prepare_ucf101(tmp_path / "copy" / "UCF-101", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["UCF101.rar", "copy"]
    out.mkdir()
    with pytest.raises(UserError, match="exists already"):
        prepare_ucf101(official / "UCF-101", out)
