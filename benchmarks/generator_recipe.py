"""Comparisons of the generator's recipe: train some batches, then sample and measure; a row of a table for each seed.

    python benchmarks/generator_recipe.py --data data/atari64 --tokenizer runs/tokenizer --csv forms.csv --frames 17 \\
        --steps 300 --batch 8 --seeds 0 1 2 --rows configs.yaml

The YAML maps names of rows to settings, and may change the number of batches, for equal FLOPs:

    every bit by itself: {generator.order: scales, generator.bit_groups: 1, steps: 325}
    VideoAR: {}

With `--frames 1` a clip is a single frame: no past decides, so what is drawn must agree with itself. Its measure is the
share of pixels off the game's background (the median of its training frames), of samples over reconstructions of test
frames. With more frames it is the share of moving pixels (videoar.motion), again over the reconstructions'; then also
gFVD (Atari net), sprites in the first frame (connected moving pixels) over the reconstructions', and how far the mean
colour of the last frame has drifted. Nats a bit are of test clips, without corruption; all forms of drawing factorise
the same likelihood, so they compare. Rows that the CSV has already are not made again.
"""

import argparse
import csv
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from videoar.bits.corruption import CorruptionConfig
from videoar.bits.pyramid import ScalePyramid
from videoar.data.readers import open_video
from videoar.generator.model import GeneratorConfig, VideoAR
from videoar.losses.bitwise import bitwise_loss
from videoar.metrics.drift import FrameDrift
from videoar.metrics.features.atari import load_atari
from videoar.metrics.frechet import FrechetVideoDistance
from videoar.motion import THRESHOLD, count_sprites, moving_mask
from videoar.sampling.guidance import Guidance
from videoar.sampling.raster import sampler_of
from videoar.sampling.request import LatentRequest, SamplingOptions
from videoar.tokenizer.model import VideoTokenizer
from videoar.training.checkpoint import load_tokenizer
from videoar.training.ema import EMA
from videoar.training.optim import OptimConfig, clip_gradients, make_optimizer, set_lr
from videoar.training.precision import machine_precision


@dataclass
class Clips:
    """Test or training clips of some games: pixels uint8 [N, 3, T, H, W], labels [N], latents [N, D, T', h, w]."""

    pixels: Tensor
    labels: Tensor
    latents: Tensor


def load(root: Path, split: str, games: list[str], frames: int, tokenizer: VideoTokenizer) -> Clips:
    """The clips of a split; of one frame: five a training clip."""
    clips, labels = [], []
    for line in (root / f"{split}list01.txt").read_text().split("\n"):
        if line.strip() and (game := line.split()[0].split("/")[-2]) in games:
            clip = open_video(root / line.split()[0], "pyav").get(range(17)).permute(3, 0, 1, 2)
            parts = clip[:, ::4].unbind(1) if frames == 1 and split == "train" else [clip[:, 0]]
            clips += [part[:, None] for part in parts] if frames == 1 else [clip[:, :frames]]
            labels += [games.index(game)] * (len(parts) if frames == 1 else 1)
    pixels = torch.stack(clips)
    with torch.no_grad():
        latents = torch.cat([tokenizer.encode(part.float() / 127.5 - 1) for part in pixels.split(16)])
    return Clips(pixels, torch.tensor(labels), latents)


def fast() -> Any:
    """The precision that this machine trains fast in."""
    return torch.autocast("cpu", torch.bfloat16) if machine_precision("cpu") == "bf16-mixed" else nullcontext()


def train(
    model: VideoAR, clips: Clips, pyramid: ScalePyramid, given: dict[str, Any], steps: int, batch: int, seed: int
) -> None:
    """`steps` batches; the learning rate falls along a cosine; the model ends with its averaged weights."""
    optim = replace(OptimConfig(**given["optim"]), warmup=steps // 10, restarts=[], total=None)
    corruption = CorruptionConfig(**given["corruption"])
    optimizer, ema, rng = make_optimizer(model, optim), EMA(0.99), torch.Generator().manual_seed(seed)
    ema.start(model)
    for step in range(steps):
        chosen = torch.randint(len(clips.latents), (batch,), generator=rng)
        latents, frames = clips.latents[chosen], clips.latents.shape[2]
        with fast():
            lesson = model.lesson(latents, pyramid, corruption, rng)
            condition = model.drop_condition(model.condition(clips.labels[chosen]), 0.1, rng)
            logits = model(lesson.tokens, condition, pyramid, frames, bits=lesson.targets)
            loss = bitwise_loss(logits, lesson.targets, pyramid, frames).loss
        loss.backward()
        clip_gradients(model.parameters(), optim.clip)
        set_lr(optimizer, optim.lr_at(step, steps))
        optimizer.step()
        optimizer.zero_grad()
        ema.update()
    ema.swap_in(model)
    model.eval()


@torch.no_grad()
def likelihood(model: VideoAR, clips: Clips, pyramid: ScalePyramid) -> float:
    """Nats a bit."""
    losses = []
    for latent, label in zip(clips.latents.split(8), clips.labels.split(8)):
        lesson = model.lesson(latent, pyramid)
        logits = model(lesson.tokens, label, pyramid, latent.shape[2], bits=lesson.targets)
        losses += [bitwise_loss(logits, lesson.targets, pyramid, latent.shape[2]).loss] * len(latent)
    return float(torch.stack(losses).mean())


@torch.no_grad()
def sampled(
    model: VideoAR, tokenizer: VideoTokenizer, label: int, pyramid: ScalePyramid, frames: int, samples: int
) -> Tensor:
    """Videos of a class, of `frames` latent frames, without guidance."""
    asked = LatentRequest([label] * samples, pyramid, frames, range(samples), SamplingOptions(Guidance.of("none")))
    latent = torch.cat([frame.latent for frame in sampler_of(model)(model, asked).frames()], dim=2)
    return torch.cat([tokenizer.decode(part) for part in latent.split(8)]).clamp(-1, 1)


def standing_out(video: Tensor, background: Tensor) -> Tensor:
    """What moves, bool [N, T, H, W]; of single frames, what is off the background [3, 1, H, W]."""
    return moving_mask(video) if video.shape[2] > 1 else (video - background).abs().amax(1) > THRESHOLD * 2 / 255


def measured(
    model: VideoAR, tokenizer: VideoTokenizer, clips: Clips, test: Clips, games: list[str], samples: int
) -> dict[str, float]:
    """The numbers of a row, from samples of every game."""
    pyramid, frames = tokenizer.pyramid(*clips.pixels.shape[-2:]), test.latents.shape[2]
    row = {"nats_a_bit": likelihood(model, test, pyramid), "calls_a_frame": float(len(model.steps(pyramid)))}
    distance, drift = FrechetVideoDistance(load_atari()), FrameDrift(test.pixels.shape[2])
    shares, sprites, seconds = {}, [], 0.0
    for label, game in enumerate(games):
        background = clips.pixels[clips.labels == label][::3].float().median(0).values / 127.5 - 1
        with torch.no_grad():
            held = test.latents[test.labels == label].split(8)
            rebuilt = torch.cat([tokenizer.decode(tokenizer.quantize(part).latent) for part in held]).clamp(-1, 1)
        start = time.process_time()
        video = sampled(model, tokenizer, label, pyramid, frames, samples)
        seconds += time.process_time() - start
        ours, theirs = standing_out(video, background), standing_out(rebuilt, background)
        shares[game] = float(ours.float().mean() / theirs.float().mean())
        sprites.append(float(count_sprites(ours[:, 0]).float().mean() / count_sprites(theirs[:, 0]).float().mean()))
        if frames > 1:
            distance.update(video, real=False)
            distance.update(test.pixels[test.labels == label].float() / 127.5 - 1, real=True)
            drift.update(video)
    row["sprites"], row["cpu_seconds_a_clip"] = sum(sprites) / len(sprites), seconds / len(games) / samples
    if frames > 1:
        row |= {"gfvd": float(distance.compute()), "colour_drift": float(drift.compute()["colour_shift"][-1])}
    return row | shares


def changed(base: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The recipe with settings `generator.KEY`, `corruption.KEY` or `optim.KEY`."""
    given = {part: dict(base[part]) for part in ("generator", "corruption", "optim")}
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
    add("--seeds", type=int, nargs="+", default=[0])
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parsed(argv)
    torch.set_num_threads(1)
    base = yaml.safe_load(args.config.read_text())["model"]["init_args"]
    games, tokenizer = args.games.split(","), load_tokenizer(args.tokenizer)
    clips, test = (load(args.data, split, games, args.frames, tokenizer) for split in ("train", "test"))
    pyramid = tokenizer.pyramid(*clips.pixels.shape[-2:])
    for seed in args.seeds:
        for name, settings in yaml.safe_load(args.rows.read_text()).items():
            settings = dict(settings or {})
            steps, key = settings.pop("steps", args.steps), [name, str(seed)]
            done = list(csv.reader(args.csv.open(newline=""))) if args.csv.exists() else []
            if key in [line[:2] for line in done]:
                continue
            given = changed(base, settings)
            config = {**given["generator"], "latent_dim": tokenizer.config.latent_dim, "num_classes": len(games)}
            torch.manual_seed(seed)
            model, start = VideoAR(GeneratorConfig(**config, class_names=tuple(games))), time.process_time()
            train(model, clips, pyramid, given, steps, args.batch, seed)
            row = {"train_cpu_seconds": time.process_time() - start}
            row |= measured(model, tokenizer, clips, test, games, args.samples)
            with args.csv.open("a", newline="") as file:
                writer = csv.writer(file)
                if not done:
                    writer.writerow(["name", "seed", "frames", "steps", "batch", *row, "settings"])
                numbers = [f"{value:.4g}" for value in row.values()]
                written = " ".join(f"{setting}={value}" for setting, value in settings.items())
                writer.writerow([*key, args.frames, steps, args.batch, *numbers, written])
            print(name, seed, dict(zip(row, numbers)), flush=True)


if __name__ == "__main__":
    main()
