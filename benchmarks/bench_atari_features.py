"""What the Atari feature net notices: FVD of damaged test clips against intact ones.

    python benchmarks/bench_atari_features.py data/atari --out benchmarks/results/atari-features/sensitivity.json

The test clips are split into two halves of other recordings. Half A stands for the real set; half B, damaged in one
way at a time, for the generated one. "nothing" is the floor: two real sets of this size.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from videoar.data.files import atomic_path
from videoar.evaluation.clips import read_clip
from videoar.evaluation.folders import VideoFolder
from videoar.evaluation.protocol import Protocol
from videoar.metrics.features.atari import load_atari
from videoar.metrics.frechet import Moments, frechet_distance
from videoar.metrics.preprocess import frames_of


def blur(video: Tensor, factor: int) -> Tensor:
    """Shrink and enlarge every frame."""
    frames = F.avg_pool2d(frames_of(video), factor)
    frames = F.interpolate(frames, scale_factor=factor, mode="bilinear")
    return frames.unflatten(0, (video.shape[0], video.shape[2])).transpose(1, 2)


def noise(video: Tensor, strength: float) -> Tensor:
    """Add the same Gaussian noise pattern strength everywhere (seeded)."""
    rng = torch.Generator().manual_seed(0)
    return (video + strength * torch.randn(video.shape, generator=rng)).clamp(-1, 1)


DAMAGE: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing": lambda video: video,
    "blur, factor 2": lambda video: blur(video, 2),
    "blur, factor 4": lambda video: blur(video, 4),
    "noise, sigma 0.05": lambda video: noise(video, 0.05),
    "noise, sigma 0.2": lambda video: noise(video, 0.2),
    "brightness + 0.1": lambda video: (video + 0.1).clamp(-1, 1),
    "frozen after frame 5": lambda video: torch.cat([video[:, :, :5], video[:, :, 4:5].expand(-1, -1, 12, -1, -1)], 2),
    "frozen": lambda video: video[:, :, :1].expand_as(video),
    "frames shuffled": lambda video: video[:, :, torch.randperm(17, generator=torch.Generator().manual_seed(0))],
    "played backwards": lambda video: video.flip(2),
    "mirrored": lambda video: video.flip(-1),
}


def main() -> None:
    """Print one table row a kind of damage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a set made by `videoar data atari`")
    parser.add_argument("--clips", type=int, default=None, help="test clips in all (default: every one)")
    parser.add_argument("--features", help="folder of the net (default: the shipped one)")
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    args = parser.parse_args()
    net, protocol = load_atari(args.features), Protocol("atari", frames=17, size=(128, 128))
    folder = VideoFolder(args.data / "testlist01.txt")
    sums: dict[str, Moments] = {}
    games = sorted({name.split("/")[0] for name in folder.names})
    step = 1 if args.clips is None else max(1, len(folder.names) // args.clips)
    for index, name in enumerate(folder.names[::step]):
        video = read_clip(folder, name, protocol, True, "decord").video
        if index % 2 == 0:
            add(sums, "real", net(video))
            continue
        for damage, apply in DAMAGE.items():
            add(sums, damage, net(apply(video)))
        if games.index(name.split("/")[0]) % 4:
            add(sums, "a quarter of the games missing", net(video))
    real = sums.pop("real")
    fvd = {damage: round(float(frechet_distance(real, moments)), 3) for damage, moments in sums.items()}
    facts = {"games": len(games), "real_clips": int(real.count), "fake_clips": int(sums["nothing"].count)}
    print("{games} games; {real_clips} against {fake_clips} clips of 17 frames\n".format(**facts))
    print("| damage | FVD (atari) |\n|---|---|")
    for damage, value in fvd.items():
        print(f"| {damage} | {value:.3f} |")
    if args.out:
        with atomic_path(args.out) as path:
            path.write_text(json.dumps({**facts, "frames": 17, "features": net.card(), "fvd": fvd}, indent=2) + "\n")


def add(sums: dict[str, Moments], name: str, features: Tensor) -> None:
    """Add features to the moments of `name`."""
    moments = Moments.of(features)
    sums[name] = sums[name] + moments if name in sums else moments


if __name__ == "__main__":
    main()
