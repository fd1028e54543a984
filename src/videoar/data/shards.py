"""WebDataset tar shards with random access: each tar is indexed by its headers once, then members are read in place.

A sample is a group of members with one key: `000017.mp4` (or an image), `000017.cls` (label), `000017.txt`
(caption), `000017.json` (label, caption, frames, fps, width, height). Because every sample has an address, a
curriculum over shards is shuffled, sharded by rank and resumed as exactly as one over files; a pass reads shards in
runs, so that shards on slow or remote file systems are read mostly in order.
"""

import json
import re
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import Any

from videoar.data.files import IMAGE_SUFFIXES, LATENT_SUFFIXES, VIDEO_SUFFIXES, as_text
from videoar.data.folders import LeftOut
from videoar.data.items import Item, captioned, split_of
from videoar.errors import UserError

_MEDIA = VIDEO_SUFFIXES | IMAGE_SUFFIXES | LATENT_SUFFIXES


def find_shards(path: str) -> list[Path]:
    """The tar files that `path` means: a .tar, a folder that holds some (or its train/, val/, test/), or a pattern.

    Empty: not shards.
    """
    if Path(path).is_dir():
        splits = [folder for folder in Path(path).iterdir() if folder.is_dir() and split_of(folder.name)]
        return sorted(Path(path).glob("*.tar")) or sorted(tar for folder in splits for tar in folder.glob("*.tar"))
    if not path.endswith(".tar"):
        return []
    found = sorted(Path(name) for name in glob(path))
    if not found:
        raise UserError(f"no tar shard matches {path}")
    return found


def index_shards(shards: Sequence[Path]) -> list[Item]:
    """The samples of all shards. Raises `UserError` for a file that is no tar, or two media in one sample."""
    items, left = [], LeftOut(shards[0].parent)
    for block, shard in enumerate(shards):
        if not shard.is_file():
            raise UserError(f"{shard} is no file")
        try:
            with tarfile.open(shard, "r:") as tar:  # not a compressed one, whose members have no place in the file
                items += _index_shard(shard, tar, block, left)
        except UserError:
            raise
        except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
            raise UserError(f"{shard}: not a readable tar: {' '.join(str(error).split())}") from error
    left.log()
    return items


def _index_shard(shard: Path, tar: tarfile.TarFile, block: int, left: LeftOut) -> list[Item]:
    media: dict[str, tarfile.TarInfo] = {}
    facts: dict[str, dict[str, Any]] = {}
    unusable: set[str] = set()
    for member in tar:
        if not member.isfile() or Path(member.name).name.startswith("."):
            continue
        stem, _, suffix = member.name.partition(".") if "/" not in member.name else _split_name(member.name)
        suffix = f".{suffix.lower()}"
        if suffix in _MEDIA:
            if stem in media:
                raise UserError(f"{shard}: sample {stem} holds {media[stem].name} and {member.name}")
            media[stem] = member
        elif suffix in (".cls", ".txt", ".json"):
            found = _read_facts(shard, tar, member, suffix)
            if found is None:
                left.add("samples with a text that is not UTF-8", f"{shard.name}/{member.name}")
                unusable.add(stem)
            else:
                facts.setdefault(stem, {}).update(found)
    split = split_of(shard.parent.name)
    kept = {key: member for key, member in media.items() if key not in unusable}
    return [_item(shard, member, block, split, facts.get(key, {})) for key, member in kept.items()]


def _item(shard: Path, member: tarfile.TarInfo, block: int, split: str | None, facts: dict[str, Any]) -> Item:
    label = facts.get("label")
    try:
        frames, width, height = (int(facts.get(name) or 0) for name in ("frames", "width", "height"))
        fps = float(facts.get("fps") or 0)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{shard}: the JSON beside {member.name}: {error}") from error
    item = Item(
        path=f"{shard}/{member.name}",
        label=None if label is None else str(label),
        split=split,
        frames=frames or None,
        fps=fps,
        size=(height, width) if height and width else None,
        offset=member.offset_data,
        bytes=member.size,
        block=block,
    )
    return captioned(item, facts.get("caption") or "")


def _split_name(name: str) -> tuple[str, str, str]:
    """WebDataset's rule: the key is everything before the first dot of the last path component."""
    folder, _, file = name.rpartition("/")
    stem, dot, suffix = file.partition(".")
    return f"{folder}/{stem}", dot, suffix


def _read_facts(shard: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, suffix: str) -> dict[str, Any] | None:
    """Label, caption and numbers of a sample; None for a text that is no UTF-8."""
    file = tar.extractfile(member)
    assert file is not None  # `member.isfile()` was checked
    text = as_text(file.read())
    if text is None:
        return None
    text = text.strip()
    if suffix == ".json":
        try:
            facts = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise UserError(f"{shard}/{member.name}: {error}") from error
        if not isinstance(facts, dict):
            raise UserError(f"{shard}/{member.name}: needs a JSON object")
        return facts
    return {"label": text} if suffix == ".cls" else {"caption": text}


@contextmanager
def local_file(item: Item) -> Iterator[Path]:
    """A path that decoders can open: the item's own file, or a temporary copy of a shard member."""
    if not item.bytes:
        yield Path(item.path)
        return
    with open(_shard_of(item), "rb") as tar, tempfile.NamedTemporaryFile(suffix=Path(item.path).suffix) as copy:
        tar.seek(item.offset)
        copy.write(tar.read(item.bytes))
        copy.flush()
        yield Path(copy.name)


def _shard_of(item: Item) -> str:
    """The tar that an item is in: of the places at which its path says `.tar/`, the first that is a file."""
    ends = [found.end() - 1 for found in re.finditer(r"\.tar/", item.path)]
    return next((item.path[:end] for end in ends if Path(item.path[:end]).is_file()), item.path)
