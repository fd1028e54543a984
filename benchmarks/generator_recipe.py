"""Comparisons of the generator's recipe: train some batches, then sample and measure; a row of a table for each seed.

    python benchmarks/generator_recipe.py --data data/atari64 --tokenizer runs/tokenizer --csv forms.csv --frames 17 \\
        --steps 300 --batch 8 --seeds 0 1 2 --rows configs.yaml

The YAML maps names of rows to settings, and may change the number of batches, for equal FLOPs, and the tokenizer:

    every bit by itself: {generator.order: scales, generator.bit_groups: 1, steps: 325}
    next frame: {generator.order: scales, generator.bit_groups: 1, steps: 717, tokenizer: runs/single_scale}
    VideoAR: {}

With `--frames 1` a clip is a single frame: no past decides, so what is drawn must agree with itself. Its measure is the
share of pixels off the game's background (the median of its training frames), of samples over reconstructions of test
frames. With more frames it is the share of moving pixels (videoar.motion), again over the reconstructions'; then also
gFVD (Atari net), the reconstructions' own FVD, sprites in the first frame (connected moving pixels) over the
reconstructions', and how far the mean colour of the last frame has drifted; with `--extend 65` also that of clips
extended to 65 frames, shot after shot. Nats a bit are of test clips, without corruption; all forms of drawing factorise
the same likelihood, so rows of one tokenizer compare. Seconds are of this process (CPU), of sampling all samples of a
game at once and of one alone. Rows that the CSV has already are not made again.
"""

import argparse
import csv
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from videoar.benchmarking.timing import flop_counter
from videoar.bits.corruption import CorruptionConfig
from videoar.bits.pyramid import ScalePyramid
from videoar.data.readers import open_video
from videoar.generator.model import GeneratorConfig, VideoAR
from videoar.generator.visibility import draw_frame_keep
from videoar.losses.bitwise import BitwiseLoss, bitwise_loss
from videoar.metrics.drift import FrameDrift
from videoar.metrics.features.atari import load_atari
from videoar.metrics.frechet import FrechetVideoDistance
from videoar.motion import THRESHOLD, count_sprites, moving_mask
from videoar.sampling.generate import extend, generate
from videoar.sampling.request import Request
from videoar.tokenizer.model import VideoTokenizer
from videoar.training.checkpoint import load_tokenizer
from videoar.training.ema import EMA
from videoar.training.generator_module import TeachingConfig
from videoar.training.optim import OptimConfig, clip_gradients, make_optimizer, set_lr
from videoar.training.precision import machine_precision


@dataclass
class Clips:
    """Test or training clips of some games: pixels uint8 [N, 3, T, H, W], labels [N], latents [N, D, T', h, w]."""

    pixels: Tensor
    labels: Tensor
    latents: Tensor = field(default_factory=lambda: torch.empty(0))

    @torch.no_grad()
    def encoded(self, tokenizer: VideoTokenizer, cache: Path | None) -> "Clips":
        """The same clips with a tokenizer's latents, kept in a file for the next time."""
        if cache is not None and cache.exists():
            return replace(self, latents=torch.load(cache))
        latents = torch.cat([tokenizer.encode(floats(part)) for part in self.pixels.split(16)])
        if cache is not None:
            cache.parent.mkdir(parents=True, exist_ok=True)
            torch.save(latents, cache)
        return replace(self, latents=latents)


def floats(pixels: Tensor) -> Tensor:
    """In [-1, 1]."""
    return pixels.float() / 127.5 - 1


def load(root: Path, split: str, games: list[str], frames: int) -> Clips:
    """The clips of a split; of one frame: five a training clip."""
    clips, labels = [], []
    for line in (root / f"{split}list01.txt").read_text().split("\n"):
        if line.strip() and (game := line.split()[0].split("/")[-2]) in games:
            clip = open_video(root / line.split()[0], "pyav").get(range(frames if frames > 1 else 17))
            clip = clip.permute(3, 0, 1, 2)
            parts = clip[:, ::4].unbind(1) if frames == 1 and split == "train" else [clip[:, 0]]
            clips += [part[:, None] for part in parts] if frames == 1 else [clip]
            labels += [games.index(game)] * (len(parts) if frames == 1 else 1)
    return Clips(torch.stack(clips), torch.tensor(labels))


@dataclass
class Coder:
    """A tokenizer, the clips it has encoded, what it makes of the test clips [N, 3, T, H, W], and the FVD of that."""

    tokenizer: VideoTokenizer
    train: Clips
    test: Clips
    rebuilt: Tensor
    fvd: float

    @classmethod
    @torch.no_grad()
    def of(cls, path: Path, train: Clips, test: Clips, cache: Path | None) -> "Coder":
        """Load, encode, decode."""
        tokenizer = load_tokenizer(path)
        files = [cache and cache / f"{tokenizer.encoder_fingerprint()}-{len(part.labels)}.pt" for part in (train, test)]
        train, test = train.encoded(tokenizer, files[0]), test.encoded(tokenizer, files[1])
        bits = [tokenizer.quantize(part).latent for part in test.latents.split(8)]
        rebuilt = torch.cat([tokenizer.decode(part) for part in bits]).clamp(-1, 1)
        distance = FrechetVideoDistance(load_atari())
        for fake, real in zip(rebuilt.split(16), test.pixels.split(16)):
            if real.shape[2] > 1:
                distance.update(fake, real=False)
                distance.update(floats(real), real=True)
        return cls(tokenizer, train, test, rebuilt, float(distance.compute()) if test.pixels.shape[2] > 1 else math.nan)

    @property
    def pyramid(self) -> ScalePyramid:
        """Of these clips."""
        return self.tokenizer.pyramid(*self.train.pixels.shape[-2:])


def fast() -> Any:
    """The precision that this machine trains fast in."""
    return torch.autocast("cpu", torch.bfloat16) if machine_precision("cpu") == "bf16-mixed" else nullcontext()


def train(model: VideoAR, coder: Coder, given: dict[str, Any], steps: int, batch: int, seed: int) -> int:
    """`steps` batches, the learning rate along a cosine to its end; the model ends with its averaged weights.

    Returns the floating-point operations of all of them.
    """
    optim = replace(OptimConfig(**given["optim"]), warmup=min(60, steps // 10), restarts=[], total=None)
    corruption, teaching = CorruptionConfig(**given["corruption"]), TeachingConfig(**given["teaching"])
    clips, pyramid = coder.train, coder.pyramid
    optimizer, ema, rng = make_optimizer(model, optim), EMA(0.99), torch.Generator().manual_seed(seed)
    ema.start(model)
    counted = flop_counter()
    for step in range(steps):
        chosen = torch.randint(len(clips.latents), (batch,), generator=rng)
        latents, frames = clips.latents[chosen], clips.latents.shape[2]
        with fast(), counted if step == 0 else nullcontext():
            lesson = model.lesson(latents, pyramid, corruption, rng)
            condition = model.drop_condition(model.condition(clips.labels[chosen]), teaching.condition_drop, rng)
            keep = draw_frame_keep(batch, frames, teaching.frame_mask, rng) if teaching.frame_mask else None
            logits = model(lesson.tokens, condition, pyramid, frames, bits=lesson.targets, frame_keep=keep)
            loss = bitwise_loss(logits, lesson.targets, pyramid, frames).loss
            loss.backward()
        clip_gradients(model.parameters(), optim.clip)
        set_lr(optimizer, optim.lr_at(step, steps))
        optimizer.step()
        optimizer.zero_grad()
        ema.update()
    ema.swap_in(model)
    model.eval()
    return counted.get_total_flops() * steps


@torch.no_grad()
def likelihood(model: VideoAR, clips: Clips, pyramid: ScalePyramid) -> dict[str, float | str]:
    """Nats a bit, and the bits that are right under teacher forcing: all, by scale, by latent frame."""
    found: list[BitwiseLoss] = []
    for latent, label in zip(clips.latents.split(8), clips.labels.split(8)):
        lesson = model.lesson(latent, pyramid)
        logits = model(lesson.tokens, label, pyramid, latent.shape[2], bits=lesson.targets)
        found += [bitwise_loss(logits, lesson.targets, pyramid, latent.shape[2])] * len(latent)

    def mean(name: str) -> Tensor:
        return torch.stack([getattr(loss, name) for loss in found]).mean(0)

    def listed(name: str) -> str:
        return " ".join(f"{value:.4f}" for value in mean(name).tolist())

    right = {"right_by_scale": listed("per_scale_accuracy"), "right_by_frame": listed("per_frame_accuracy")}
    return {"nats_a_bit": float(mean("loss")), "bits_right": float(mean("accuracy")), **right}


def standing_out(video: Tensor, background: Tensor) -> Tensor:
    """What moves, bool [N, T, H, W]; of single frames, what is off the background [3, 1, H, W]."""
    return moving_mask(video) if video.shape[2] > 1 else (video - background).abs().amax(1) > THRESHOLD * 2 / 255


def seconds_of(run: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and the CPU seconds it took."""
    start = time.process_time()
    return run(), time.process_time() - start


@dataclass
class Quality:
    """Measures of samples that games are added to, one after another."""

    frames: int
    shares: dict[str, float] = field(default_factory=dict)
    sprites: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.distance = FrechetVideoDistance(load_atari())
        self.drift = FrameDrift(self.frames)

    def add(self, game: str, video: Tensor, seconds: float, coder: Coder, label: int) -> None:
        """Samples of a game [N, 3, T, H, W], which took so long."""
        of_game, ours = coder.test.labels == label, coder.train.labels == label
        background = floats(coder.train.pixels[ours][::3].float().median(0).values)
        drawn, rebuilt = standing_out(video, background), standing_out(coder.rebuilt[of_game], background)
        self.shares[game] = float(drawn.float().mean() / rebuilt.float().mean())
        self.sprites.append(
            float(count_sprites(drawn[:, 0]).float().mean() / count_sprites(rebuilt[:, 0]).float().mean())
        )
        self.seconds.append(seconds / len(video))
        if self.frames > 1:
            self.distance.update(video, real=False)
            self.distance.update(floats(coder.test.pixels[of_game]), real=True)
            self.drift.update(video)

    def row(self) -> dict[str, float]:
        """The means over the games, and each game's share."""
        row = {"sprites": sum(self.sprites) / len(self.sprites), "cpu_seconds_a_clip": min(self.seconds)}
        if self.frames > 1:
            drift = float(self.drift.compute()["colour_shift"][-1])
            row |= {"gfvd": float(self.distance.compute()), "colour_drift": drift}
        return row | {"share": sum(self.shares.values()) / len(self.shares)} | self.shares


@torch.no_grad()
def measured(model: VideoAR, coder: Coder, games: list[str], args: argparse.Namespace) -> dict[str, float | str]:
    """The numbers of a row, from samples of every game."""
    frames, guidance = coder.train.pixels.shape[2], args.guidance or "none"
    quality = Quality(frames)
    longer = FrameDrift(args.extend) if args.extend else None
    drawn = partial(generate, model, coder.tokenizer, frames=frames, guidance=guidance)
    for label, game in enumerate(games):
        sample, seconds = seconds_of(partial(drawn, [label] * args.samples))
        quality.add(game, sample.video, seconds, coder, label)
        if longer is not None:
            asked = Request([label] * 4, frames, guidance=guidance)
            parts = extend(model, coder.tokenizer, asked, seconds=float(args.extend), fps=1.0, overlap=5)
            longer.update(torch.cat(list(parts), dim=2))
    row = {**likelihood(model, coder.test, coder.pyramid), "calls_a_frame": len(model.steps(coder.pyramid))}
    row |= {"rfvd": coder.fvd} if frames > 1 else {}
    row |= {"cpu_seconds_alone": seconds_of(partial(drawn, [0]))[1]}
    drift = "" if longer is None else float(longer.compute()["colour_shift"][-1])
    row |= {"extended_colour_drift": drift}
    return row | quality.row()


def changed(base: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The recipe with settings `generator.KEY`, `corruption.KEY`, `teaching.KEY` or `optim.KEY`."""
    given = {part: dict(base.get(part, {})) for part in ("generator", "corruption", "teaching", "optim")}
    for name, value in settings.items():
        part, key = name.split(".")
        given[part][key] = value
    return given


def parsed(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True)
    add("--tokenizer", type=Path, required=True)
    add("--csv", type=Path, required=True)
    add("--rows", type=Path, required=True, help="YAML: NAME: {generator.KEY: VALUE, …}")
    add("--config", type=Path, default=Path("configs/generator/atari_cpu.yaml"), help="where all else comes from")
    add("--games", default="boxing,fishing_derby,assault")
    add("--frames", type=int, default=1)
    add("--steps", type=int, default=300)
    add("--batch", type=int, default=8)
    add("--samples", type=int, default=32, help="of each game")
    add("--guidance", type=float, help="None: without")
    add("--extend", type=int, default=0, help="frames of the extended clips, four a game; 0: none")
    add("--models", type=Path, help="folder that keeps every row's weights")
    add("--cache", type=Path, help="folder that keeps the latents of this data")
    add("--seeds", type=int, nargs="+", default=[0])
    return parser.parse_args(argv)


def add_row(csv_file: Path, row: dict[str, Any]) -> None:
    """Append to a CSV, whose header is the first row's."""
    if not csv_file.exists():
        csv_file.write_text(",".join(row) + "\n")
    with csv_file.open("r+", newline="") as file:
        writer = csv.DictWriter(file, csv.DictReader(file).fieldnames or ())
        file.seek(0, 2)
        writer.writerow({key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()})


def is_done(csv_file: Path, name: str, seed: int, steps: int) -> bool:
    """Does the CSV have this row?"""
    rows = list(csv.DictReader(csv_file.open(newline=""))) if csv_file.exists() else []
    return [name, str(seed), str(steps)] in [[row["name"], row["seed"], row["steps"]] for row in rows]


def main(argv: list[str] | None = None) -> None:
    args = parsed(argv)
    torch.set_num_threads(1)
    base = yaml.safe_load(args.config.read_text())["model"]["init_args"]
    games, coders = args.games.split(","), dict[Path, Coder]()
    clips, test = (load(args.data, split, games, args.frames) for split in ("train", "test"))
    for seed in args.seeds:
        for name, settings in yaml.safe_load(args.rows.read_text()).items():
            settings = dict(settings or {})
            steps, path = settings.pop("steps", args.steps), Path(settings.pop("tokenizer", args.tokenizer))
            if is_done(args.csv, name, seed, steps):
                continue
            if path not in coders:
                coders[path] = Coder.of(path, clips, test, args.cache)
            coder = coders[path]
            given = changed(base, settings)
            config = {**given["generator"], "latent_dim": coder.tokenizer.config.latent_dim, "num_classes": len(games)}
            torch.manual_seed(seed)
            model = VideoAR(GeneratorConfig(**config, class_names=tuple(games)))
            flops, seconds = seconds_of(partial(train, model, coder, given, steps, args.batch, seed))
            if args.models:
                model.save_pretrained(args.models / f"{name}-{steps}-{seed}")
            row = {"name": name, "seed": seed, "frames": args.frames, "steps": steps, "batch": args.batch}
            row |= {"train_cpu_seconds": seconds, "train_flops": float(flops), **measured(model, coder, games, args)}
            row |= {"settings": " ".join(f"{setting}={value}" for setting, value in settings.items())}
            add_row(args.csv, row)
            print(row, flush=True)


if __name__ == "__main__":
    main()
