"""One comparison of the generator's recipe: train some batches, then sample and measure: a row of a table.

    python benchmarks/generator_recipe.py --data data/atari64 --tokenizer runs/tokenizer/last --csv commit.csv \\
        --name interleaved --frames 1 --steps 300 --batch 12 --set generator.order=interleaved

With `--frames 1` a clip is a single frame: no past decides, so what is drawn must agree with itself. Its measure is the
share of pixels off the game's background (the median of its training frames), of samples over reconstructions of test
frames. With more frames it is the share of moving pixels (videoar.motion). Nats a bit are of test clips, without
corruption; all forms of drawing factorise the same likelihood, so they compare. Every run has one seed.
"""

import argparse
import csv
import time
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from torch import Tensor

from videoar.bits.corruption import CorruptionConfig
from videoar.data.readers import open_video
from videoar.generator.model import GeneratorConfig, VideoAR
from videoar.losses.bitwise import bitwise_loss
from videoar.motion import THRESHOLD, moving_mask
from videoar.sampling.guidance import Guidance
from videoar.sampling.raster import sampler_of
from videoar.sampling.request import LatentRequest, SamplingOptions
from videoar.tokenizer.model import VideoTokenizer
from videoar.training.checkpoint import load_tokenizer
from videoar.training.ema import EMA
from videoar.training.optim import OptimConfig, clip_gradients, make_optimizer, set_lr

SAMPLES = 32


def load(root: Path, split: str, games: list[str], frames: int) -> tuple[Tensor, Tensor]:
    """Clips of some games, uint8 [N, 3, frames, H, W], and their labels; of one frame: five a training clip."""
    clips, labels = [], []
    for line in (root / f"{split}list01.txt").read_text().split("\n"):
        if line.strip() and (game := line.split()[0].split("/")[-2]) in games:
            clip = open_video(root / line.split()[0], "pyav").get(range(17)).permute(3, 0, 1, 2)
            parts = clip[:, ::4].unbind(1) if frames == 1 and split == "train" else [clip[:, 0]]
            clips += [part[:, None] for part in parts] if frames == 1 else [clip[:, :frames]]
            labels += [games.index(game)] * (len(parts) if frames == 1 else 1)
    return torch.stack(clips), torch.tensor(labels)


@torch.no_grad()
def encoded(tokenizer: VideoTokenizer, clips: Tensor) -> Tensor:
    return torch.cat([tokenizer.encode(part.float() / 127.5 - 1) for part in clips.split(16)])


def train(model, latents, labels, pyramid, corruption, optim, args) -> None:
    """`args.steps` batches; the learning rate falls along a cosine; the model ends with its averaged weights."""
    optimizer, ema, rng = make_optimizer(model, optim), EMA(0.99), torch.Generator().manual_seed(args.seed)
    ema.start(model)
    for step in range(args.steps):
        chosen = torch.randint(len(latents), (args.batch,), generator=rng)
        lesson = model.lesson(latents[chosen], pyramid, corruption, rng)
        condition = model.drop_condition(model.condition(labels[chosen]), 0.1, rng)
        logits = model(lesson.tokens, condition, pyramid, latents.shape[2], bits=lesson.targets)
        bitwise_loss(logits, lesson.targets, pyramid, latents.shape[2]).loss.backward()
        clip_gradients(model.parameters(), optim.clip)
        set_lr(optimizer, optim.lr_at(step, args.steps))
        optimizer.step()
        optimizer.zero_grad()
        ema.update()
    ema.swap_in(model)
    model.eval()


@torch.no_grad()
def likelihood(model, latents, labels, pyramid) -> float:
    """Nats a bit of test clips."""
    losses = []
    for latent, label in zip(latents.split(8), labels.split(8)):
        lesson = model.lesson(latent, pyramid)
        logits = model(lesson.tokens, label, pyramid, latent.shape[2], bits=lesson.targets)
        losses += [bitwise_loss(logits, lesson.targets, pyramid, latent.shape[2]).loss] * len(latent)
    return float(torch.stack(losses).mean())


@torch.no_grad()
def sampled(model, tokenizer, label, pyramid, frames) -> Tensor:
    asked = LatentRequest([label] * SAMPLES, pyramid, frames, range(SAMPLES), SamplingOptions(Guidance.of("none")))
    latent = torch.cat([frame.latent for frame in sampler_of(model)(model, asked).frames()], dim=2)
    return torch.cat([tokenizer.decode(part) for part in latent.split(8)])


def standing_out(video: Tensor, background: Tensor) -> float:
    """Share of pixels that move; of single frames, those off the background [3, 1, H, W] by more than the threshold."""
    if video.shape[2] > 1:
        return float(moving_mask(video).float().mean())
    return float(((video.clamp(-1, 1) - background).abs().amax(1) > THRESHOLD * 2 / 255).float().mean())


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True)
    add("--tokenizer", type=Path, required=True)
    add("--csv", type=Path, required=True)
    add("--name", required=True)
    add("--config", type=Path, default=Path("configs/generator/atari_cpu.yaml"), help="where all else comes from")
    add("--games", default="boxing,fishing_derby,assault")
    add("--frames", type=int, default=1)
    add("--steps", type=int, default=300)
    add("--batch", type=int, default=12)
    add("--seed", type=int, default=0)
    add("--set", nargs="*", default=[], help="generator.KEY=VALUE, corruption.KEY=VALUE or optim.KEY=VALUE")
    return parser.parse_args()


def main() -> None:
    args = parsed()
    torch.set_num_threads(1)
    given = yaml.safe_load(args.config.read_text())["model"]["init_args"]
    for change in args.set:
        (part, key), value = change.split("=")[0].split("."), yaml.safe_load(change.split("=", 1)[1])
        given[part][key] = float(value) if isinstance(value, str) and value[0].isdigit() else value
    games, tokenizer = args.games.split(","), load_tokenizer(args.tokenizer)
    clips, labels = load(args.data, "train", games, args.frames)
    test, test_labels = load(args.data, "test", games, args.frames)
    latents, pyramid = encoded(tokenizer, clips), tokenizer.pyramid(*clips.shape[-2:])
    config = {**given["generator"], "latent_dim": tokenizer.config.latent_dim, "num_classes": len(games)}
    torch.manual_seed(args.seed)
    model = VideoAR(GeneratorConfig(**config, class_names=tuple(games)))
    optim = replace(OptimConfig(**given["optim"]), warmup=args.steps // 10, restarts=[], total=None)
    start = time.process_time()
    train(model, latents, labels, pyramid, CorruptionConfig(**given["corruption"]), optim, args)
    seconds, hidden = time.process_time() - start, encoded(tokenizer, test)
    row = {"nats_a_bit": likelihood(model, hidden, test_labels, pyramid), "cpu_seconds": seconds}
    row["calls_a_frame"] = len(model.steps(pyramid))
    for label, game in enumerate(games):
        background = clips[labels == label][::3].float().median(0).values / 127.5 - 1
        rebuilt = torch.cat(
            [tokenizer.decode(tokenizer.quantize(part).latent) for part in hidden[test_labels == label].split(8)]
        )
        sample = sampled(model, tokenizer, label, pyramid, hidden.shape[2])
        row[game] = standing_out(sample, background) / standing_out(rebuilt, background)
    numbers = {key: f"{value:.4g}" for key, value in row.items()}
    new = not args.csv.exists()
    with args.csv.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["name", "frames", "steps", "batch", *numbers, "settings"])
        writer.writerow([args.name, args.frames, args.steps, args.batch, *numbers.values(), " ".join(args.set)])
    print(args.name, numbers, flush=True)


if __name__ == "__main__":
    main()
