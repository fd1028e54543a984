"""Archives of strangers: names that lead outside, links and devices. Nothing is written or read outside."""

from __future__ import annotations

import io
import random
import shutil
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from videoar.data import ucf101
from videoar.data.curriculum import Stage
from videoar.data.datamodule import MixedDataModule
from videoar.data.items import Source
from videoar.data.loader import Loading
from videoar.data.shards import index_shards, local_file
from videoar.data.sources import index_source
from videoar.errors import UserError

EVIL = ("../evil.mp4", "../../evil.mp4", "a/../../evil.mp4")


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder in a folder, with somebody's file beside it."""
    (tmp_path / "secret.mp4").write_text("mine")
    (tmp_path / "inside").mkdir()
    return tmp_path / "inside"


def shard(path: Path, clip: bytes) -> None:
    """A tar whose members are whatever a tar may hold."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for number, name in enumerate((*EVIL, "/tmp/evil-absolute.mp4", "good.mp4")):
            member = tarfile.TarInfo(name)
            member.size = len(clip)
            tar.addfile(member, io.BytesIO(clip))
            label = tarfile.TarInfo(str(Path(name).with_suffix(".cls")))
            label.size = 5
            tar.addfile(label, io.BytesIO(b"../up" if number % 2 else b"/etc1"))
        kinds = {"soft": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "pipe": tarfile.FIFOTYPE, "dev": tarfile.CHRTYPE}
        for name, kind in kinds.items():
            member = tarfile.TarInfo(f"{name}.mp4")
            member.type, member.linkname = kind, "../../secret.mp4"
            tar.addfile(member)


def test_shards_are_never_unpacked(place, class_folder):
    clip = (class_folder / "apple" / "clip0.mp4").read_bytes()
    (place / "set.tar").mkdir()  # a folder may be called so
    shard(place / "set.tar" / "0.tar", clip)
    before = everything(place.parent)
    items = index_source(Source(str(place / "set.tar"), holdout=0)).splits["train"]
    assert len(items) == 5  # no links, no pipes, no devices
    for item in items:
        with local_file(item) as copy:
            assert copy.read_bytes() == clip and copy.parent != place.parent
    data = MixedDataModule(
        sources=[Source(str(place / "set.tar"), holdout=0)],
        stage=Stage(resolution=16, frames=5, batch_size=5),
        loading=Loading(workers=0, epoch_batches=1),
    )
    assert len({*next(iter(data.train_dataloader()))["path"]}) == 5 and not data.ledger.bad
    assert everything(place.parent) == before and not Path("/tmp/evil-absolute.mp4").exists()


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in (*EVIL, "/evil.mp4", "good.mp4"):
            archive.writestr(name, b"pixels")
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "../../secret.mp4")


def write_rar(path: Path) -> None:
    """RAR 4 with stored files, which every tool reads."""

    def block(kind: int, flags: int, content: bytes) -> bytes:
        head = struct.pack("<BHH", kind, flags, 7 + len(content)) + content
        return struct.pack("<H", zlib.crc32(head) & 0xFFFF) + head

    data = b"Rar!\x1a\x07\x00" + block(0x73, 0, bytes(6))
    for name in (*EVIL, "good.mp4"):
        facts = struct.pack("<IIBIIBBHI", 6, 6, 3, zlib.crc32(b"pixels"), 0x58210000, 20, 0x30, len(name), 0o100644)
        data += block(0x74, 0x8000, facts + name.encode()) + b"pixels"
    path.write_bytes(data + block(0x7B, 0x4000, b""))


def write_tar(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for name in (*EVIL, "good.mp4"):
            member = tarfile.TarInfo(name)
            member.size = 6
            tar.addfile(member, io.BytesIO(b"pixels"))


@pytest.mark.parametrize("tool", [None, *ucf101.TOOLS], ids=lambda tool: tool[0] if tool else "zipfile")
def test_an_archive_with_names_that_lead_outside_stays_inside(place, monkeypatch, tool):
    archive = place.parent / "archive"
    if tool is None:
        write_zip(archive)
    elif shutil.which(tool[0]) is None:
        pytest.skip(f"{tool[0]} is not installed")
    else:
        monkeypatch.setattr(ucf101, "TOOLS", (tool,))
        write_tar(archive) if tool[0] == "bsdtar" else write_rar(archive)
    try:
        ucf101._unpack(archive, place / "videos" / "deep")
    except UserError as error:  # a tool may refuse the whole
        assert str(archive) in str(error)
    outside = [name for name in everything(place.parent) if not name.startswith("inside/videos/deep")]
    assert outside == ["archive", "inside", "inside/videos", "secret.mp4"]
    assert not any(path.is_symlink() for path in place.rglob("*")) and (place.parent / "secret.mp4").exists()


def test_links_in_an_archive_are_refused(place, monkeypatch):
    """Clips are moved out of what was unpacked: a link would be another's file."""
    tool = place.parent / "bsdtar"
    tool.write_text('#!/bin/sh\nln -s ../../secret.mp4 "$4/v_a.mp4"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(place.parent), prepend=":")
    (place / "UCF101.rar").write_bytes(b"Rar!")
    with pytest.raises(UserError, match=r"UCF101\.rar holds links, such as v_a\.mp4, and is not used"):
        ucf101.prepare_ucf101(place / "UCF101.rar", place / "out")
    assert everything(place) == ["UCF101.rar"] and (place.parent / "secret.mp4").read_text() == "mine"


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_a_damaged_archive_is_one_line(place, kind):
    archive = place / f"archive.{kind.removesuffix('.gz')}"
    if kind == "zip":
        write_zip(archive)
    else:
        with tarfile.open(archive, "w:gz" if kind == "tar.gz" else "w") as tar:
            tar.addfile(tarfile.TarInfo("good.mp4"))
    whole, draw, refused = archive.read_bytes(), random.Random(kind), 0
    for turn in range(80):
        data = bytearray(whole)
        for _ in range(draw.choice([1, 3, 20])):
            data[draw.randrange(min(len(data), 600))] = draw.randrange(256)
        archive.write_bytes(data)
        try:
            ucf101._unpack(archive, place / str(turn)) if kind == "zip" else index_shards([archive])
        except UserError as error:
            refused += 1
            assert str(archive) in str(error) and "\n" not in str(error)
    assert refused > 20 and (refused == 80 or kind != "tar.gz")
    assert (place.parent / "secret.mp4").read_text() == "mine"
