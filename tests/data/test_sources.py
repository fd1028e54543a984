"""Every layout is recognised, and every mistake in one is a clear error."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from videoar.bits.pyramid import ScalePyramid
from videoar.data.datasets import ClipDataset, Reading
from videoar.data.items import Source
from videoar.data.latents import latent_captions, latent_tokenizer, read_bits, read_latent, write_bits, write_latent
from videoar.data.layout import ManifestRow, read_class_index, write_manifest, write_splits
from videoar.data.prepare import check_folder
from videoar.data.probe import UnreadableClip
from videoar.data.shards import local_file
from videoar.data.sources import index_source
from videoar.errors import UserError
from videoar.evaluation.folders import VideoFolder


def names(items) -> list[str]:
    return [item.path.rsplit("/", 1)[-1] for item in items]


def test_folder_of_class_folders(class_folder):
    index = index_source(Source(str(class_folder), holdout=0.25))
    assert index.kind == "video"
    assert index.class_names == ("apple", "pear", "plum")
    assert (len(index.splits["train"]), len(index.splits["val"])) == (9, 3)
    assert {item.path for item in index.splits["train"]}.isdisjoint(item.path for item in index.splits["val"])
    assert index.splits["train"][0].caption == "apple"
    again = index_source(Source(str(class_folder), holdout=0.25))
    assert again.splits == index.splits


def test_flat_folder_with_captions(tmp_path, class_folder):
    for number, file in enumerate(sorted((class_folder / "apple").iterdir())):
        shutil.copy(file, tmp_path / f"{number}.mp4")
    (tmp_path / "0.txt").write_text("a red apple\n falls")
    (tmp_path / ".hidden.mp4").write_text("not a clip")
    index = index_source(Source(str(tmp_path), holdout=0.0))
    assert index.class_names == ()
    assert index.splits["train"][0].caption == "a red apple falls"
    assert [item.label for item in index.splits["train"]] == [None] * 4
    assert index.splits["val"] == index.splits["train"]


def test_split_folders(tmp_path, class_folder):
    shutil.copytree(class_folder, tmp_path / "train")
    shutil.copytree(class_folder / "apple", tmp_path / "test" / "apple")
    index = index_source(Source(str(tmp_path)))
    assert [len(index.splits[split]) for split in ("train", "val", "test")] == [12, 4, 4]


def place(root: Path, *names: str) -> Path:
    """Empty files, which is all that finding clips needs."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ("000 001 002", "000 001 002"),
        ("2019 2020", "2019 2020"),
        ("5 3000000", "5 3000000"),
        ("10 9 8 7 6 5 4 3 2 1 0", "0 1 2 3 4 5 6 7 8 9 10"),
        ("² 1", "1 ²"),
        ("10 a 9", "10 9 a"),
    ],
)
def test_class_folders_of_numbers(tmp_path, labels, wanted):
    place(tmp_path, *(f"{label}/a.mp4" for label in labels.split()))
    index = index_source(Source(str(tmp_path)))
    assert index.class_names == tuple(wanted.split())
    items = [item for items in index.splits.values() for item in items]
    dataset = ClipDataset([index], "train", index.class_names, [], Reading())
    assert {dataset.numbers[item.label] for item in items} == set(range(len(wanted.split())))


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ("train/a/1.mp4 train/b/2.mp4", {"train": "a/1 b/2"}),
        ("train/a/1.mp4 valid/a/2.mp4", {"train": "a/1", "val": "a/2"}),
        ("Train/a/1.mp4 Val/a/2.mp4", {"train": "a/1", "val": "a/2"}),
        ("train/a/1.mp4 validation/a/2.mp4 test/a/3.mp4", {"train": "a/1", "val": "a/2", "test": "a/3"}),
        ("training/1.mp4 testing/2.mp4", {"train": "None/1", "test": "None/2"}),
        ("train/1.mp4 val/2.mp4 raw/3.mp4 4.mp4", {"train": "None/1", "val": "None/2"}),
        ("train/1.mp4 notes/readme.txt", {"train": "None/1"}),
        ("train/1.mp4 bus/2.mp4 car/3.mp4", {"train": "train/1 bus/2 car/3"}),
        ("test/1.mp4", {"train": "test/1"}),
        ("sport/running/fast/1.mp4 sport/2.mp4 3.mp4", {"train": "sport/1 sport/2 None/3"}),
    ],
)
def test_splits_and_classes_by_the_names_of_folders(tmp_path, files, wanted):
    index = index_source(Source(str(place(tmp_path, *files.split())), holdout=0))
    for split, expected in wanted.items():
        found = {f"{item.label}/{Path(item.path).stem}" for item in index.splits[split]}
        assert found == set(expected.split())


def test_splits_need_one_to_train_on(tmp_path):
    with pytest.raises(UserError, match="test, valid are splits, and none of them is called train"):
        index_source(Source(str(place(tmp_path, "valid/1.mp4", "test/2.mp4"))))


def test_what_is_left_out_is_said_once_with_its_number(tmp_path, caplog):
    place(tmp_path, "train/a/1.mp4", "val/a/2.mp4", "train/b/.keep", "train/c/notes.txt", "x/3.mp4", "x/4.mp4")
    (tmp_path / "train" / "a" / "1.txt").write_bytes(b"\xef\xbb\xbfa caf\xc3\xa9")
    place(tmp_path, "train/a/5.mp4", os.fsdecode(b"train/a/caf\xe9.mp4"))
    (tmp_path / "train" / "a" / "5.txt").write_bytes(b"a caf\xe9")
    index = index_source(Source(str(tmp_path)))
    assert [item.caption for item in index.splits["train"]] == ["a café"]
    said = [record.getMessage().split(": ", 1)[1] for record in caplog.records if record.levelname == "WARNING"]
    assert sorted(said) == [
        "left out 1 clips with a caption that is not UTF-8: train/a/5.mp4",
        "left out 1 files whose names are not UTF-8: train/a/caf\\udce9.mp4",
        "left out 2 files beside the split folders: x/3.mp4, x/4.mp4",
        "left out 2 folders without clips: train/b, train/c",
    ]


def test_linked_class_folders_are_class_folders(tmp_path, class_folder):
    (tmp_path / "set").mkdir()
    for name in ("apple", "pear"):
        (tmp_path / "set" / name).symlink_to(class_folder / name)
    index = index_source(Source(str(tmp_path / "set"), holdout=0))
    assert index.class_names == ("apple", "pear") and len(index.splits["train"]) == 8
    assert len(VideoFolder(tmp_path / "set")) == 8
    place(tmp_path / "set", os.fsdecode(b"caf\xe9.mp4"))
    assert len(VideoFolder(tmp_path / "set")) == 8  # its name could not be written into a report
    (tmp_path / "set" / os.fsdecode(b"caf\xe9.mp4")).unlink()
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "set").symlink_to(tmp_path / "set")
    rows, _ = check_folder(tmp_path / "all", workers=1)
    assert {(row.path.split("/")[1], row.class_name, row.frames) for row in rows} == {
        ("apple", "set", 24),  # as training sees it: the first folder
        ("pear", "set", 24),
    }
    items = index_source(Source(str(tmp_path / "all"))).splits["train"]
    assert {(item.label, item.frames) for item in items} == {("set", 24)}


def test_clips_are_held_out_by_class(tmp_path):
    place(tmp_path, *(f"a/{n}.mp4" for n in range(100)), *(f"b/{n}.mp4" for n in range(20)), "c/1.mp4")
    held = [item.label for item in index_source(Source(str(tmp_path), holdout=0.015)).splits["val"]]
    assert held == ["a", "b"]
    held = [item.label for item in index_source(Source(str(tmp_path), holdout=0.1)).splits["val"]]
    assert (held.count("a"), held.count("b"), held.count("c")) == (11, 2, 0)


def test_latents_of_one_video_are_held_out_together(tmp_path):
    names = [f"{clip}-abcdef{frame}.safetensors" for clip in range(10) for frame in ("", "-000017", "-000034")]
    index = index_source(Source(str(place(tmp_path, *names)), holdout=0.2))
    videos = [{Path(item.path).name.split("-")[0] for item in index.splits[split]} for split in ("train", "val")]
    assert (len(videos[0]), len(videos[1])) == (8, 2) and videos[0].isdisjoint(videos[1])


def test_classes_without_a_clip_to_train_on_are_said(tmp_path, caplog):
    place(tmp_path, "train/a/1.mp4", "val/a/2.mp4", "val/b/3.mp4", "val/c/4.mp4")
    index_source(Source(str(tmp_path)))
    assert "2 of 3 classes have no clip to train on: b, c" in caplog.text


@pytest.fixture
def ucf(tmp_path, class_folder):
    """UCF-101's layout with three classes; test is group 1."""
    train, test = [], []
    for name in ("apple", "pear", "plum"):
        (tmp_path / name).mkdir()
        for clip, file in enumerate(sorted((class_folder / name).iterdir())):
            target = f"{name}/v_{name}_g{clip + 1:02d}_c01.mp4"
            shutil.copy(file, tmp_path / target)
            (test if clip == 0 else train).append(target.replace(".mp4", ".avi"))
    write_splits(tmp_path, ["plum", "apple", "pear"], train, test)
    return tmp_path


def test_ucf101_layout_with_other_suffixes(ucf):
    index = index_source(Source(str(ucf)))
    assert index.class_names == ("plum", "apple", "pear")
    assert [len(index.splits[split]) for split in ("train", "val", "test")] == [9, 3, 3]
    assert all("_g01_" in item.path for item in index.splits["test"])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda root: (root / "pear" / "v_pear_g02_c01.mp4").unlink(),
            "names pear/v_pear_g02_c01.avi, which is not in",
        ),
        (lambda root: shutil.rmtree(root / "pear"), "pear: this class folder is missing or holds no clips"),
        (lambda root: (root / "trainlist01.txt").unlink(), "no such split list"),
        (lambda root: (root / "testlist01.txt").write_text("\n"), "the list is empty"),
        (lambda root: (root / "classInd.txt").write_text("1 apple\n3 pear\n"), "1..2 without gaps"),
        (lambda root: (root / "classInd.txt").write_text("apple\n"), "NUMBER NAME"),
    ],
)
def test_damaged_ucf101_layouts(ucf, damage, message):
    damage(ucf)
    with pytest.raises(UserError, match=message):
        index_source(Source(str(ucf)))


def test_manifests_give_verified_counts_and_leave_bad_files_out(ucf):
    rows = [ManifestRow("apple/v_apple_g02_c01.mp4", "apple", 7, 12, 64, 48)]
    write_manifest(ucf, rows)
    (ucf / "bad_files.csv").write_text("path,reason\npear/v_pear_g02_c01.mp4,broken\n")
    train = index_source(Source(str(ucf))).splits["train"]
    assert len(train) == 8
    assert [(item.frames, item.fps, item.size) for item in train if "apple_g02" in item.path] == [(7, 12.0, (48, 64))]
    (ucf / "manifest.csv").write_text("path,class,frames,fps,size\napple/v_apple_g02_c01.mp4,b,-1,1,1x1\n")
    with pytest.raises(UserError, match=r"apple_g02_c01\.mp4: frames must be a whole number"):
        index_source(Source(str(ucf)))
    (ucf / "manifest.csv").write_text("path,class,frames,fps,size\na,b,many,1,1x1\n")
    with pytest.raises(UserError, match=r"manifest\.csv line 2"):
        index_source(Source(str(ucf)))
    for name in ("manifest.csv", "bad_files.csv"):  # the user's own, of other columns
        (ucf / name).write_text("file,speaker\na.mp4,Ann\n")
    assert [len(index_source(Source(str(ucf))).splits["train"])] == [9]


def test_manifests_may_lie_elsewhere(tmp_path, class_folder):
    write_manifest(tmp_path, [ManifestRow("apple/clip0.mp4", "apple", 7, 12, 64, 48)])
    (tmp_path / "bad_files.csv").write_text("path,reason\nplum/clip0.mp4,broken\n")
    index = index_source(Source(str(class_folder), holdout=0, manifest=str(tmp_path)))
    assert [item.frames for item in index.splits["train"]] == [7, *[None] * 10]
    with pytest.raises(UserError, match="nowhere is no folder"):
        index_source(Source(str(class_folder), manifest=str(tmp_path / "nowhere")))


def write_list(folder, rows, kind: str):
    path = folder / f"list.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        columns = list(rows[0])
        lines = [",".join(str(row.get(column, "")) for column in columns) for row in rows]
        path.write_text("\n".join([",".join(columns), *lines]) + "\n")
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_lists_with_labels_captions_and_splits(tmp_path, class_folder, kind):
    clips = sorted(str(file) for file in class_folder.rglob("*.mp4"))
    rows = [
        {"path": clip, "label": number % 2 * 3, "caption": f"clip {number}", "split": "val" if number < 2 else "train"}
        for number, clip in enumerate(clips)
    ]
    index = index_source(Source(str(write_list(tmp_path, rows, kind))))
    assert index.class_names == ("0", "3")  # numbers that do not run 0 … N−1 are names
    assert [len(index.splits[split]) for split in ("train", "val", "test")] == [10, 2, 2]
    assert index.splits["val"][1].caption == "clip 1"
    assert index.splits["val"][1].label == "3"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"label": "x"}, 'entry 1: needs a "path"'),
        ({"path": "gone.mp4"}, r"entry 1: no such file .*gone\.mp4"),
        ({"path": "here.mp4", "label": -2}, "label -2 is out of range"),
        ({"path": "here.mp4", "split": "dev"}, "split must be one of train, val, test, got 'dev'"),
        ({"path": "here.mp4", "frames": "many"}, "entry 1: invalid literal"),
        ({"path": "here.mp4", "frames": math.inf}, "entry 1: cannot convert float infinity"),
        ({"path": "here.mp4", "frames": [3]}, r"entry 1: int\(\) argument"),
        ({"path": "here.mp4", "frames": -3}, r"here\.mp4: frames must be a whole number from 1"),
        ({"path": "here.mp4", "fps": math.nan}, r"here\.mp4: fps must be a number from 0"),
        ({"path": "here.mp4", "size": "4x-4"}, r"here\.mp4: a side of its size must be a whole number"),
        ({"path": "here.mp4", "caption": {"en": "a ball"}}, r"here\.mp4: a caption is a text or a list of texts"),
        ({"path": "here.mp4", "caption": ["a ball", 3]}, "a caption is a text or a list of texts"),
    ],
)
def test_bad_lists(tmp_path, row, message):
    (tmp_path / "here.mp4").touch()
    with pytest.raises(UserError, match=message):
        index_source(Source(str(write_list(tmp_path, [row], "jsonl"))))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("deep.jsonl", "[" * 100_000, "deep.jsonl line 1: maximum recursion"),
        ("long.csv", "path\n" + "x" * 200_000, "long.csv: field larger than field limit"),
        ("null.csv", "path\na\0b.mp4", "entry 1: no such file"),
    ],
)
def test_lists_that_are_none(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        index_source(Source(str(tmp_path / name)))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_lists_as_spreadsheets_store_them(tmp_path, kind):
    place(tmp_path, "Käse.mp4")
    rows = [{"path": "Käse.mp4", "label": "süß", "split": "Validation"}, {"path": "Käse.mp4"}]
    path = write_list(tmp_path, rows, kind)
    text = path.read_text()
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_bytes(text.encode(encoding))
        assert [item.label for item in index_source(Source(str(path))).splits["val"]] == ["süß"]
    path.write_bytes(text.encode("latin-1") if kind == "csv" else b"\xe9")
    with pytest.raises(UserError, match=rf"list\.{kind}: not UTF-8 text"):
        index_source(Source(str(path)))


def test_a_clip_may_have_several_captions(tmp_path):
    place(tmp_path, "a.mp4")
    path = write_list(tmp_path, [{"path": "a.mp4", "caption": ["a ball", "", "ein Ball"]}], "jsonl")
    [item] = index_source(Source(str(path))).splits["train"]
    assert (item.caption, item.captions) == ("a ball", ("a ball", "ein Ball"))


def test_bad_sources(tmp_path, class_folder, image_folder):
    with pytest.raises(UserError, match=r"no such file or folder: .*nowhere"):
        index_source(Source(str(tmp_path / "nowhere")))
    with pytest.raises(UserError, match="no clips in it"):
        index_source(Source(str(tmp_path)))
    shutil.copy(class_folder / "apple" / "clip0.mp4", tmp_path)
    shutil.copy(image_folder / "image0.png", tmp_path)
    with pytest.raises(UserError, match="list it once a kind"):
        index_source(Source(str(tmp_path)))
    assert names(index_source(Source(str(tmp_path), kind="image")).splits["train"]) == ["image0.png"]
    with pytest.raises(UserError, match="no latent in it"):
        index_source(Source(str(tmp_path), kind="latent"))
    with pytest.raises(UserError, match="weight must be a number from 0"):
        Source(str(tmp_path), weight=-1)


def write_shard(path, samples) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in samples:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def test_shards_are_read_in_place(tmp_path, class_folder):
    files = sorted(class_folder.rglob("*.mp4"))
    for shard in range(3):
        samples = []
        for number, file in enumerate(files[4 * shard : 4 * shard + 4]):
            samples += [(f"{number:04d}.mp4", file.read_bytes()), (f"{number:04d}.cls", file.parent.name.encode())]
            facts = {"caption": f"shard {shard} clip {number}", "frames": 24}
            samples.append((f"{number:04d}.json", json.dumps(facts).encode()))
        write_shard(tmp_path / f"{shard:03d}.tar", samples)
    for path in (tmp_path, tmp_path / "*.tar"):
        index = index_source(Source(str(path), holdout=0.0))
        assert index.class_names == ("apple", "pear", "plum")
        assert len(index.splits["train"]) == 12
    items = index.splits["train"]
    assert {item.block for item in items} == {0, 1, 2}
    assert {item.caption for item in items} >= {"shard 0 clip 0", "shard 2 clip 3"}
    for item in items:
        shard, number = int(item.path.split("/")[-2][:3]), int(item.path.split("/")[-1][:4])
        with local_file(item) as copy:
            assert copy.read_bytes() == files[4 * shard + number].read_bytes()
        assert not copy.exists()
        assert item.frames == 24


def test_bad_shards(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(UserError, match=r"a\.tar: not a readable tar"):
        index_source(Source(str(tmp_path)))
    with pytest.raises(UserError, match="no tar shard matches"):
        index_source(Source(str(tmp_path / "b*.tar")))
    write_shard(tmp_path / "a.tar", [("x.mp4", b"1"), ("x.json", b'{"frames": "many"}')])
    with pytest.raises(UserError, match=r"a\.tar: the JSON beside x\.mp4: invalid literal"):
        index_source(Source(str(tmp_path)))
    write_shard(tmp_path / "a.tar", [("x.mp4", b"1"), ("x.png", b"2")])
    with pytest.raises(UserError, match=r"sample x holds x\.mp4 and x\.png"):
        index_source(Source(str(tmp_path)))


def test_shards_in_split_folders_and_texts_that_are_none(tmp_path, caplog):
    for split in ("train", "valid"):
        (tmp_path / split).mkdir()
        samples = [("a.mp4", b"1"), ("a.cls", b"pear"), ("b.mp4", b"2"), ("b.txt", b"caf\xe9")]
        write_shard(tmp_path / split / "0.tar", [*samples, ("c.mp4", b"3"), ("c.json", b'{"caption": ["x", "y"]}')])
    index = index_source(Source(str(tmp_path)))
    assert [len(index.splits[split]) for split in ("train", "val")] == [2, 2]
    assert [item.captions for item in index.splits["train"]] == [(), ("x", "y")]
    assert "left out 2 samples with a text that is not UTF-8: 0.tar/b.txt, 0.tar/b.txt" in caplog.text


def test_latents_round_trip_and_name_their_tokenizer(tmp_path):
    latent = torch.randn(8, 3, 4, 4).bfloat16()
    path = tmp_path / "pong" / "a.safetensors"
    write_latent(path, latent, caption="pong", tokenizer="abc123")
    assert torch.equal(read_latent(path), latent)
    assert latent_tokenizer(path) == "abc123"
    assert index_source(Source(str(tmp_path))).kind == "latent"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UnreadableClip, match=r"a\.safetensors: cannot read latent"):
        read_latent(path)
    with pytest.raises(ValueError, match=r"must be \[D, T', h, w\]"):
        write_latent(tmp_path / "b.safetensors", latent[0])
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize("captions", ["{", "5", "[5]", "[" * 100_000])
def test_latents_whose_captions_are_none_are_unreadable_clips(tmp_path, captions):
    save_file({"latent": torch.zeros(8, 3, 4, 4)}, tmp_path / "a.safetensors", metadata={"captions": captions})
    with pytest.raises(UnreadableClip, match=r"a\.safetensors: its captions are no list of texts"):
        latent_captions(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 40)
    for read in (latent_captions, latent_tokenizer, read_latent):
        with pytest.raises(UnreadableClip, match="cannot read latent"):
            read(tmp_path / "a.safetensors")


def test_bits_round_trip_and_are_not_taken_for_latents(tmp_path):
    pyramid, path = ScalePyramid(((1, 1), (2, 3))), tmp_path / "a.safetensors"
    bits = tuple(torch.rand(1, 4, h, w, 11) < 0.5 for h, w in pyramid.grids)
    write_bits(path, bits, pyramid, tokenizer="abc123")
    again, shape = read_bits(path)
    assert shape == pyramid and all(torch.equal(a, b) for a, b in zip(again, bits, strict=True))
    assert latent_tokenizer(path) == "abc123"
    assert path.stat().st_size < 4 * 7 * 2 + 400, "two bytes a token, and the header"
    with pytest.raises(UnreadableClip, match="it holds bits; training a generator needs latents"):
        read_latent(path)
    write_latent(path, torch.zeros(8, 1, 2, 2))
    with pytest.raises(UnreadableClip, match="cannot read bits"):
        read_bits(path)


def test_class_index_numbers(tmp_path):
    path = tmp_path / "classInd.txt"
    path.write_text("2 b\n1 a\n")
    assert read_class_index(path) == ["a", "b"]
