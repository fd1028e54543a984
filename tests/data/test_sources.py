"""Every layout is recognised, and every mistake in one is a clear error."""

from __future__ import annotations

import io
import json
import shutil
import tarfile

import pytest
import torch

from videoar.bits.pyramid import ScalePyramid
from videoar.data.items import Source
from videoar.data.latents import latent_tokenizer, read_bits, read_latent, write_bits, write_latent
from videoar.data.layout import ManifestRow, read_class_index, write_manifest, write_splits
from videoar.data.probe import UnreadableClip
from videoar.data.shards import local_file
from videoar.data.sources import index_source
from videoar.errors import UserError


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
    (ucf / "manifest.csv").write_text("path,class,frames,fps,size\na,b,many,1,1x1\n")
    with pytest.raises(UserError, match=r"manifest\.csv line 2"):
        index_source(Source(str(ucf)))


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
    assert index.class_names == ("0", "1", "2", "3")
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
    ],
)
def test_bad_lists(tmp_path, row, message):
    (tmp_path / "here.mp4").touch()
    with pytest.raises(UserError, match=message):
        index_source(Source(str(write_list(tmp_path, [row], "jsonl"))))


def test_bad_sources(tmp_path, class_folder, image_folder):
    with pytest.raises(UserError, match=r"no such file or folder: .*nowhere"):
        index_source(Source(str(tmp_path / "nowhere")))
    with pytest.raises(UserError, match="no clips in it"):
        index_source(Source(str(tmp_path)))
    (tmp_path / "empty_class").mkdir()
    shutil.copy(class_folder / "apple" / "clip0.mp4", tmp_path)
    with pytest.raises(UserError, match="empty_class: this class folder holds no clips"):
        index_source(Source(str(tmp_path)))
    (tmp_path / "empty_class").rmdir()
    shutil.copy(image_folder / "image0.png", tmp_path)
    with pytest.raises(UserError, match="list it once a kind"):
        index_source(Source(str(tmp_path)))
    assert names(index_source(Source(str(tmp_path), kind="image")).splits["train"]) == ["image0.png"]
    with pytest.raises(UserError, match="no latent in it"):
        index_source(Source(str(tmp_path), kind="latent"))
    with pytest.raises(UserError, match="weight -1"):
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
