"""Samples of several models side by side, as one picture: a row a model, a few frames of one sample a class.

    python benchmarks/sample_sheet.py sheet.png "next frame=outputs/sweeps/baselines_cpu/next-frame__seed0/samples" \\
        "VideoAR=outputs/sweeps/baselines_cpu/VideoAR__seed0/samples"

Reads folders of `videoar sample`, whose files are CLASS_NUMBER.mp4.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from videoar.data.readers import open_video
from videoar.data.sheets import contact_sheet
from videoar.data.writers import write_png


def videos(folder: Path, number: int) -> list[torch.Tensor]:
    """The sample `number` of every class, by name, each [3, T, H, W] in [-1, 1].

    Raises:
        FileNotFoundError: a folder without samples.
    """
    classes: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*_*.mp4")):
        classes.setdefault(path.stem.rsplit("_", 1)[0], []).append(path)
    if not classes:
        raise FileNotFoundError(f"{folder} has no samples CLASS_NUMBER.mp4")
    readers = [open_video(files[number]) for files in classes.values()]
    return [reader.get(range(len(reader))).permute(3, 0, 1, 2).float() / 127.5 - 1 for reader in readers]


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the PNG to write")
    parser.add_argument("models", nargs="+", metavar="LABEL=FOLDER", help="a row each")
    parser.add_argument("--number", type=int, default=0, help="which sample of each class (default 0)")
    parser.add_argument("--frames", type=int, default=3, help="frames of each sample (default 3: first, middle, last)")
    args = parser.parse_args()
    pairs = [model.split("=", 1) for model in args.models]
    rows = [videos(Path(folder), args.number) for _, folder in pairs]
    write_png(args.out, contact_sheet(rows, args.frames, [label for label, _ in pairs]))


if __name__ == "__main__":
    main()
