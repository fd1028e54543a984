"""What the demo shows of its models: test clips, their reconstructions and samples side by side, and a few numbers."""

# N clips · T frames · H W pixels

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from videoar.data.lists import listed_videos
from videoar.data.readers import open_video
from videoar.data.sheets import contact_sheet
from videoar.data.writers import write_gif, write_mp4, write_png
from videoar.evaluation.models import ModelTwin
from videoar.metrics.preprocess import from_bytes
from videoar.metrics.reconstruction import PSNR
from videoar.sampling.generate import generate
from videoar.training.checkpoint import load_models

FPS = 15.0


def show(model: Path, data: Path, out: Path, *, seed: int, guidance: float | str) -> dict[str, Any]:
    """Reconstruct the test clips, sample one video of every class, write the pictures and measure.

    Writes `samples/<class>.mp4` and `.gif`, and `contact_sheet.png`: real, reconstructed, sampled.

    Args:
        model: an exported pair of a class-conditional generator and its tokenizer.
        data: a set of clips of one shape in folders of their class, with its `testlist01.txt`.
    """
    generator, tokenizer = load_models(model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator, tokenizer = generator.to(device), tokenizer.to(device)
    names = listed_videos(data / "testlist01.txt")
    clips = torch.cat([from_bytes(reader.get(range(len(reader)))) for reader in (open_video(data / n) for n in names)])
    twin, psnr = ModelTwin(tokenizer, generator), PSNR("clip")
    rebuilt = torch.cat([twin(clip[None].to(device), [name]).cpu() for clip, name in zip(clips, names)])
    psnr.update(rebuilt, clips)
    assert twin.accuracy is not None, "the pair has a generator"
    accuracy = twin.accuracy.compute()
    by_scale = zip(twin.accuracy.pyramid.grids, accuracy.bits_per_scale)

    classes, size = list(generator.config.class_names or ()), (clips.shape[-2], clips.shape[-1])
    started = time.perf_counter()
    sample = generate(generator, tokenizer, classes, clips.shape[2], size, seed=seed, guidance=guidance)
    seconds = time.perf_counter() - started
    for name, video in zip(classes, sample.video.cpu()):
        write_mp4(out / "samples" / f"{name}.mp4", video, FPS)
        write_gif(out / "samples" / f"{name}.gif", video, FPS)
    first = [next(i for i, path in enumerate(names) if Path(path).parent.name == name) for name in classes]
    rows = [[clips[i], rebuilt[i], sample.video[c].cpu()] for c, i in enumerate(first)]
    write_png(out / "contact_sheet.png", contact_sheet(rows, 5, classes, ["real", "reconstruction", "sample"]))
    return {
        "classes": classes,
        "test_clips": len(names),
        "psnr_db": round(float(psnr.compute()), 2),
        "bit_accuracy": round(float(accuracy.bits), 4),
        "bit_accuracy_per_scale": {f"{h}x{w}": round(float(share), 4) for (h, w), share in by_scale},
        "sampling": {"videos": len(classes), "steps": sample.steps, "seconds": round(seconds, 2)},
        "parameters": {"tokenizer": tokenizer.num_parameters(), "generator": generator.num_parameters()},
        "device": device,
    }
