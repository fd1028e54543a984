"""Samples of several models side by side, as one picture: a row a model, a column a class; a PNG shows a few frames of
one sample, a GIF moves.

    python benchmarks/sample_sheet.py sheet.png "next frame=outputs/sweeps/baselines_cpu/next-frame__seed0/samples" \\
        "VideoAR=outputs/sweeps/baselines_cpu/VideoAR__seed0/samples"

Reads folders of videos CLASS_NUMBER.mp4, as `videoar sample` writes them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from videoar.data.readers import open_video
from videoar.data.sheets import contact_sheet, moving_grid
from videoar.data.writers import write_gif, write_png


def videos(folder: Path, number: int) -> dict[str, torch.Tensor]:
    """The sample `number` of every class, by its name in the files, each [3, T, H, W] in [-1, 1].

    Raises:
        FileNotFoundError: a folder without samples.
    """
    classes: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*_*.mp4")):
        classes.setdefault(path.stem.rsplit("_", 1)[0], []).append(path)
    if not classes:
        raise FileNotFoundError(f"{folder} has no samples CLASS_NUMBER.mp4")
    readers = {name: open_video(files[number]) for name, files in classes.items()}
    return {
        name: reader.get(range(len(reader))).permute(3, 0, 1, 2).float() / 127.5 - 1 for name, reader in readers.items()
    }


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the PNG or GIF to write")
    parser.add_argument("models", nargs="+", metavar="LABEL=FOLDER", help="a row each")
    parser.add_argument("--number", type=int, default=0, help="which sample of each class (default 0)")
    parser.add_argument("--frames", type=int, default=3, help="of each sample in a PNG (default 3)")
    parser.add_argument("--fps", type=float, default=8.0, help="frames a second of a GIF (default 8)")
    args = parser.parse_args()
    pairs = [model.split("=", 1) for model in args.models]
    samples = [videos(Path(folder), args.number) for _, folder in pairs]
    names = list(samples[0])
    if unlike := next((folder for (_, folder), found in zip(pairs, samples) if list(found) != names), None):
        parser.error(f"{unlike} has other classes than {pairs[0][1]}")
    rows, labels = [list(found.values()) for found in samples], [label for label, _ in pairs]
    if args.out.suffix == ".gif":
        write_gif(args.out, moving_grid(rows, labels, names), args.fps)
    else:
        write_png(args.out, contact_sheet(rows, args.frames, labels, names))


if __name__ == "__main__":
    main()
