"""`videoar data ucf101`: UCF-101 as distributed (a RAR and a zip of split lists) -> one checked folder.

out/<class>/v_<class>_gNN_cNN.avi (or .mp4)   classInd.txt   trainlist01..03.txt   testlist01..03.txt   manifest.csv
"""

import os
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from videoar.data.files import VIDEO_SUFFIXES, atomic_folder
from videoar.data.layout import read_class_index, read_split
from videoar.data.prepare import Report, check_folder
from videoar.errors import UserError
from videoar.files import writing

CLASSES, CLIPS = 101, 13320
LISTS = ("classInd.txt", *(f"{kind}list{number:02d}.txt" for number in (1, 2, 3) for kind in ("train", "test")))
TOOLS: tuple[tuple[str, ...], ...] = (
    ("bsdtar", "-xf", "{archive}", "-C", "{to}"),
    ("unrar", "x", "-idq", "{archive}", "{to}/"),
    ("unar", "-q", "-o", "{to}", "{archive}"),
    ("7zz", "x", "-y", "-o{to}", "{archive}"),
    ("7z", "x", "-y", "-o{to}", "{archive}"),
)


def prepare_ucf101(
    archive: str | Path,
    out: str | Path,
    splits: str | Path | None = None,
    transcode: bool = False,
    workers: int = 2,
    report: Report | None = None,
) -> tuple[int, dict[str, str]]:
    """Unpack, verify, optionally transcode, check; returns (clips, {bad file: reason}).

    `archive` is UCF101.rar, a zip, or an unpacked folder; `splits` the official zip or folder of split lists
    (default: looked for beside and inside the archive). `out` appears when everything is done. Raises `UserError`
    if a tool, a list or a clip is missing. `transcode` writes H.264 mp4, which every decoder seeks in exactly.
    """
    archive = Path(archive)
    if not archive.exists():
        raise UserError(f"no such file or folder: {archive}")
    with atomic_folder(out) as made:
        inbox = made / ".unpacked"
        source = archive if archive.is_dir() else _unpack(archive, inbox / "videos")
        lists = _find_lists(Path(splits) if splits else None, source, archive.parent, inbox / "lists")
        for name in LISTS:
            shutil.copy(lists / name, made / name)
        clips = _verify(source, made)
        _place(clips, made, transcode, workers, keep=archive.is_dir())
        shutil.rmtree(inbox, ignore_errors=True)
        _, bad = check_folder(made, workers=workers, report=report)
    return len(clips), bad


def _unpack(archive: Path, to: Path) -> Path:
    if not archive.is_file():
        raise UserError(f"{archive} is no file that could be unpacked")
    to.mkdir(parents=True)
    if zipfile.is_zipfile(archive):
        try:
            with writing(to), zipfile.ZipFile(archive) as content:
                content.extractall(to)
        except UserError:
            raise
        except Exception as error:  # a wrong sum, encrypted, cut short: damaged bytes make zipfile raise many kinds
            raise UserError(f"cannot unpack {archive}: {error}") from error
        return to
    tools = [tool for tool in TOOLS if shutil.which(tool[0])]
    if not tools:
        names = ", ".join(tool[0] for tool in TOOLS)
        raise UserError(
            f"unpacking {archive} needs one of {names}; install one (Debian: libarchive-tools) or unpack it"
        )
    failures = []
    for tool in tools:
        command = [part.format(archive=archive, to=to) for part in tool]
        done = subprocess.run(  # no input: for an encrypted archive they ask for a password
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )
        if done.returncode == 0:
            if link := next((path for path in to.rglob("*") if path.is_symlink()), None):
                raise UserError(f"{archive} holds links, such as {link.relative_to(to)}, and is not used")
            return to
        failures.append(f"{tool[0]}: {' '.join(done.stderr.split())[-200:]}")
    raise UserError(f"cannot unpack {archive}: {'; '.join(failures)}")


def _find_lists(splits: Path | None, source: Path, beside: Path, inbox: Path) -> Path:
    """The folder that holds all split lists; a zip of them is unpacked into `inbox`."""
    zips = [splits] if splits and splits.is_file() else [] if splits else sorted(beside.glob("UCF101TrainTest*.zip"))
    for file in zips:
        _unpack(file, inbox)
    for place in [splits] if splits and splits.is_dir() else [inbox, source, beside / "ucfTrainTestlist"]:
        for index in sorted(place.rglob("classInd.txt")):
            if all((index.parent / name).is_file() for name in LISTS):
                return index.parent
    raise UserError(
        f"no split lists ({', '.join(LISTS[:3])}, …) in {splits or source}; give --splits the official "
        "UCF101TrainTestSplits-RecognitionTask.zip, or a folder of its files"
    )


def _verify(source: Path, lists: Path) -> list[Path]:
    """All clips, once every listed one is there and, with all 101 classes, their number is the official one."""
    classes = read_class_index(lists / "classInd.txt")
    found = {f"{file.parent.name}/{file.stem}": file for file in source.rglob("v_*") if file.suffix in VIDEO_SUFFIXES}
    wanted = {line.rpartition(".")[0] for name in LISTS[1:] for line in read_split(lists / name)}
    missing = sorted(wanted - found.keys())
    if missing:
        raise UserError(
            f"{source}: {len(missing)} of {len(wanted)} listed clips are missing, the first is {missing[0]}"
        )
    if len(classes) == CLASSES and len(wanted) != CLIPS:
        raise UserError(f"{source}: the lists name {len(wanted)} clips; UCF-101 has {CLIPS}")
    return [found[name] for name in sorted(wanted)]


def _place(clips: Sequence[Path], out: Path, transcode: bool, workers: int, keep: bool) -> None:
    """Put every clip into its class folder: linked or copied from the user's folder, moved from the unpacked one."""

    def place(clip: Path) -> None:
        target = out / clip.parent.name / clip.name
        target.parent.mkdir(exist_ok=True)
        if transcode:
            _transcode(clip, target.with_suffix(".mp4"))
        elif not keep:
            os.replace(clip, target)
        else:
            try:
                os.link(clip, target)
            except OSError:
                shutil.copy2(clip, target)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        list(pool.map(place, clips))


def _transcode(clip: Path, target: Path) -> None:
    from videoar.data.probe import probe
    from videoar.data.readers import iterate
    from videoar.data.writers import open_mp4_writer

    with open_mp4_writer(target, probe(clip).fps or 25.0) as writer:
        for frame in iterate(clip):
            writer.write(frame)
