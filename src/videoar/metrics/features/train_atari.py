"""Train the Atari feature net: `python -m videoar.metrics.features.train_atari --data DIR --out DIR`.

DIR is a set made by `videoar data atari`: class folders, trainlist01.txt and testlist01.txt. Minutes on two CPU cores.
The test accuracies go into config.json, next to the weights and the settings.
"""

# B batch · T frames · H W pixels

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from videoar.data.lists import listed_videos
from videoar.data.readers import open_video
from videoar.errors import UserError
from videoar.metrics.features.atari import ARRANGEMENTS, SIZE, AtariFeatures, rearrange
from videoar.metrics.preprocess import from_bytes, resize_video

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How the net is trained; written into its config.json."""

    steps: int = 600
    batch: int = 24
    frames: int = 9
    """Frames of a training clip; every eighth batch holds clips of one frame instead, for the frame embedder."""
    lr: float = 4e-3
    weight_decay: float = 0.05
    width: int = 128
    seed: int = 0


@dataclass(frozen=True)
class Split:
    """Clips of one split in memory: uint8 [T, 128, 128, 3] each, and their labels."""

    clips: list[Tensor]
    labels: Tensor


def read_split(path: Path, classes: list[str], backend: str = "pyav") -> Split:
    """All clips of a list file; the class is the folder that a clip lies in."""
    clips, labels = [], []
    for name in listed_videos(path):
        label = name.split("/")[0]
        if label not in classes:
            raise UserError(f"{path}: {name} is of class {label!r}, which has no training clip")
        reader = open_video(path.parent / name, backend)
        frames = reader.get(range(len(reader)))
        if frames.shape[1:3] != (SIZE, SIZE):
            video = resize_video(from_bytes(frames), (SIZE, SIZE), "short_side_crop_antialias")[0]
            frames = ((video + 1) * 127.5).round().byte().permute(1, 2, 3, 0)
        clips.append(frames)
        labels.append(classes.index(label))
    return Split(clips, torch.tensor(labels))


def draw(split: Split, index: Tensor, frames: int, rng: torch.Generator | None) -> Tensor:
    """Clips [B, 3, frames, 128, 128] of the split, at random places (at the first frame without `rng`)."""
    parts = []
    for i in index.tolist():
        clip = split.clips[i]
        spare = max(0, len(clip) - frames)
        start = 0 if rng is None else int(torch.randint(spare + 1, (1,), generator=rng))
        parts.append(from_bytes(clip[start : start + frames]))
    return torch.cat(parts)


def train(data: Path, out: Path, recipe: Recipe) -> dict[str, object]:
    """Train, test, save; returns what config.json says beside classes and width."""
    listed = listed_videos(data / "trainlist01.txt")
    classes = sorted({name.split("/")[0] for name in listed})
    splits = [read_split(data / f"{name}list01.txt", classes) for name in ("train", "test")]
    log.info("%d training and %d test clips of %d games", len(splits[0].clips), len(splits[1].clips), len(classes))
    torch.manual_seed(recipe.seed)
    net = AtariFeatures(classes, recipe.width)
    started = time.process_time()
    _fit(net, splits[0], recipe)
    notes: dict[str, object] = {
        "recipe": asdict(recipe),
        "train_clips": len(splits[0].clips),
        "test_clips": len(splits[1].clips),
        **accuracies(net, splits[1]),
        "cpu_seconds": round(time.process_time() - started),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    net.save(out, notes)
    return notes


def _fit(net: AtariFeatures, split: Split, recipe: Recipe) -> None:
    rng = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=recipe.steps)
    net.train()
    for step in range(recipe.steps):
        index = torch.randint(len(split.clips), (recipe.batch,), generator=rng)
        single = step % 8 == 7
        video = draw(split, index, 1 if single else recipe.frames, rng)
        how = torch.randint(len(ARRANGEMENTS), (recipe.batch,), generator=rng)
        game, arrangement = net.heads(net(video if single else rearrange(video, how, rng)))
        loss = F.cross_entropy(game, split.labels[index])
        if not single:
            loss = loss + F.cross_entropy(arrangement, how)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 25 == 0 or step == recipe.steps - 1:
            terms = (float(F.cross_entropy(game.detach(), split.labels[index])), float(loss.detach()))
            log.info("step %d of %d: game %.3f, in all %.3f", step, recipe.steps, *terms)


@torch.no_grad()
def accuracies(net: AtariFeatures, split: Split) -> dict[str, float]:
    """Test accuracy of the game (clips of 17 frames, and single frames) and of the arrangement of frames."""
    net.eval()
    rng = torch.Generator().manual_seed(1)
    right = torch.zeros(3)
    for index in torch.arange(len(split.clips)).split(16):
        video = draw(split, index, 17, None)
        how = torch.randint(len(ARRANGEMENTS), (len(index),), generator=rng)
        right[0] += (net.heads(net(video))[0].argmax(1) == split.labels[index]).sum()
        right[1] += (net.heads(net(video[:, :, :1]))[0].argmax(1) == split.labels[index]).sum()
        right[2] += (net.heads(net(rearrange(video, how, rng)))[1].argmax(1) == how).sum()
    share = right / len(split.clips)
    names = ("test_accuracy", "test_accuracy_one_frame", "test_accuracy_arrangement")
    return {name: round(float(value), 4) for name, value in zip(names, share)}


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a set made by `videoar data atari`")
    parser.add_argument("--out", type=Path, required=True, help="folder for model.safetensors and config.json")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--batch", type=int, default=Recipe.batch)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    print(train(args.data, args.out, Recipe(steps=args.steps, batch=args.batch, seed=args.seed)))


if __name__ == "__main__":
    main()
