"""One comparison of the tokenizer's recipe: train for some CPU seconds, then measure on test clips: a row of a table.

    python benchmarks/tokenizer_recipe.py --data data/atari64 --csv recipe.csv --name d16 --images 120 --clips 60 \\
        --set tokenizer.latent_dim=16 optim.lr=2e-3

Every run has the same seed, sees images (single frames) first and then clips, and its learning rate falls along a
cosine over the CPU seconds of the whole, so that each is finished when it is measured. PSNR is the mean over frames of
test clips; moving PSNR is that of all pixels that move (videoar.motion): of single frames after images, of whole clips
after clips.
"""

import argparse
import csv
import time
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from torch import Tensor

from videoar.data.readers import open_video
from videoar.metrics.pixels import frame_psnr, psnr_of_mse
from videoar.motion import moving_mask
from videoar.tokenizer.model import TokenizerConfig, VideoTokenizer
from videoar.training.checkpoint import load_tokenizer
from videoar.training.diagnostics import bits_report
from videoar.training.ema import EMA
from videoar.training.objective import TokenizerLossConfig, TokenizerObjective, weigh
from videoar.training.optim import OptimConfig, clip_gradients, make_optimizer, set_lr


def load(root: Path, split: str, most: int) -> Tensor:
    """Clips of a split list, evenly over the games: uint8 [N, 3, T, H, W]."""
    lines = (root / f"{split}list01.txt").read_text().split("\n")
    paths = [line.split()[0] for line in lines if line.strip()]
    paths = paths[:: max(1, len(paths) // most)][:most]
    clips = []
    for path in paths:
        reader = open_video(root / path, "pyav")
        clips.append(reader.get(range(17)).permute(3, 0, 1, 2))
    return torch.stack(clips)


def to_float(clips: Tensor) -> Tensor:
    return clips.float() / 127.5 - 1


def batch_of(clips: Tensor, size: int, frames: int, rng: torch.Generator) -> Tensor:
    chosen = clips[torch.randint(len(clips), (size,), generator=rng)]
    starts = torch.randint(clips.shape[2] - frames + 1, (size,), generator=rng)
    return to_float(torch.stack([clip[:, t : t + frames] for clip, t in zip(chosen, starts)]))


@torch.no_grad()
def measure(tokenizer: VideoTokenizer, clips: Tensor, images: bool) -> dict[str, float]:
    """PSNR, PSNR over moving pixels, ratio of moving pixels, bit usage of the first and last scale."""
    psnr, error, pixels, moved, moving = [], 0.0, 0.0, 0.0, 0.0
    for part in clips.split(8):
        video = to_float(part)
        mask = moving_mask(video)
        if images:
            video, mask = video[:, :, ::8], mask[:, ::8]
            shown = video.transpose(1, 2).flatten(0, 1)[:, :, None]
            rebuilt = tokenizer.reconstruct(shown)[:, :, 0].unflatten(0, (len(part), -1)).transpose(1, 2)
        else:
            rebuilt = tokenizer.reconstruct(video)
            moved += float(moving_mask(rebuilt).sum())
            moving += float(mask.sum())
        psnr.append(frame_psnr(rebuilt, video).mean(1))
        squares = ((rebuilt - video) / 2).square().mean(1)
        error, pixels = error + float((squares * mask).sum()), pixels + float(mask.sum())
    kind = "image" if images else "clip"
    found = {
        f"{kind}_psnr": float(torch.cat(psnr).mean()),
        f"{kind}_moving": float(psnr_of_mse(torch.tensor(error / pixels))),
    }
    return found if images else found | {"motion_ratio": moved / moving}


def train(tokenizer, objective, losses, optim, args, clips, ema) -> dict[str, float]:
    """Images for `args.images` CPU seconds, then clips for `args.clips`; returns batches and what the images gave."""
    optimizer = make_optimizer(tokenizer, optim)
    rng = torch.Generator().manual_seed(args.seed)
    weights, spent, total = losses.weights(10**9), 0.0, args.images + args.clips
    counts: dict[str, float] = {}
    for images in (True, False):
        budget, size = (args.images, args.image_batch) if images else (args.clips, args.clip_batch)
        used, batch = 0.0, 0
        schedule = replace(optim, total=10_000, warmup=0)
        while used < budget:
            start = time.process_time()
            video = batch_of(clips, size, 1 if images else args.frames, rng)
            latent = tokenizer.encode(video)
            codes = tokenizer.quantize(latent, straight_through=True)
            rebuilt = tokenizer.decoder(codes.latent)
            weigh(objective(video, rebuilt, latent, codes, None), weights).backward()
            clip_gradients(tokenizer.parameters(), optim.clip)
            progress = min(1.0, (spent + used) / total)
            set_lr(optimizer, schedule.lr_at(int(10_000 * progress), None) * min(1.0, (batch + 1) / 20))
            optimizer.step()
            optimizer.zero_grad()
            ema.update()
            batch, used = batch + 1, used + time.process_time() - start
        spent += used
        counts["image_batches" if images else "clip_batches"] = batch
        if images and budget:
            ema.swap_in(tokenizer)
            counts |= measure(tokenizer, args.test, True)
            ema.swap_out(tokenizer)
    return counts


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True)
    add(
        "--config", type=Path, default=Path("configs/tokenizer/atari_cpu.yaml"), help="where everything else comes from"
    )
    add("--csv", type=Path, required=True)
    add("--name", required=True)
    add("--init", type=Path, help="checkpoint or folder of a tokenizer to start from")
    add("--images", type=float, default=120, help="CPU seconds of images")
    add("--clips", type=float, default=0, help="CPU seconds of clips")
    add("--image-batch", type=int, default=8)
    add("--clip-batch", type=int, default=2)
    add("--frames", type=int, default=9, help="of a training clip")
    add("--seed", type=int, default=0)
    add("--set", nargs="*", default=[], help="tokenizer.KEY=VALUE, losses.KEY=VALUE or optim.KEY=VALUE")
    return parser.parse_args()


def main() -> None:
    args = parsed()
    torch.set_num_threads(1)
    given = yaml.safe_load(args.config.read_text())["model"]["init_args"]
    for change in args.set:  # a list's brackets reach us as text
        (part, key), value = change.split("=")[0].split("."), yaml.safe_load(change.split("=", 1)[1])
        given[part][key] = float(value) if isinstance(value, str) and value[0].isdigit() else value
    torch.manual_seed(args.seed)
    config = TokenizerConfig(**given["tokenizer"])
    tokenizer = VideoTokenizer(config) if args.init is None else load_tokenizer(args.init).requires_grad_(True).train()
    losses, optim = TokenizerLossConfig(**given["losses"]), OptimConfig(**given["optim"])
    args.test, clips = load(args.data, "test", 64), load(args.data, "train", 1200)
    ema = EMA(0.99)
    ema.start(tokenizer)
    row = train(
        tokenizer,
        TokenizerObjective(losses, tokenizer.config.latent_dim),
        losses,
        replace(optim, final=0.0),
        args,
        clips,
        ema,
    )
    ema.swap_in(tokenizer)
    tokenizer.eval()
    if args.clips:
        row |= measure(tokenizer, args.test, False)
    with torch.no_grad():
        report = bits_report(tokenizer.quantize(tokenizer.encode(to_float(args.test[::2, :, :1]))))
    usage = [float(v) for k, v in report.items() if k.startswith("bit_usage")]
    changes = " ".join([f"images={args.images:g}x{args.image_batch} clips={args.clips:g}x{args.clip_batch}", *args.set])
    columns = (
        "image_batches",
        "image_psnr",
        "image_moving",
        "clip_batches",
        "clip_psnr",
        "clip_moving",
        "motion_ratio",
    )
    numbers = [f"{row[c]:.3f}".rstrip("0").rstrip(".") if c in row else "" for c in columns]
    new = not args.csv.exists()
    with args.csv.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["name", *columns, "bit_usage", "settings"])
        writer.writerow([args.name, *numbers, " ".join(f"{u:.2f}" for u in usage), changes])
    print(args.name, dict(zip(columns, numbers)), [round(u, 2) for u in usage], flush=True)


if __name__ == "__main__":
    main()
