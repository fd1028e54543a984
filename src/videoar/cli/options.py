"""Types of the commands' options that are no plain numbers (those are `videoar.ranges`); nothing heavy is imported."""

from __future__ import annotations

import argparse
import re

from videoar.errors import UserError

_SIZE = re.compile(r"(\d+)\s*(KB|MB|GB|TB)", re.IGNORECASE)


def words(text: str) -> str:
    """Names joined by commas, none of them empty."""
    if not all(part.strip() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"must be names joined by commas, got {text!r}")
    return text


def storage(text: str) -> str:
    """A size of files, such as 500MB or 5GB."""
    found = _SIZE.fullmatch(text.strip())
    if not found or int(found[1]) < 1:
        raise argparse.ArgumentTypeError(f"must be a size such as 500MB or 5GB, got {text!r}")
    return f"{int(found[1])}{found[2].upper()}"


def device(text: str) -> str:
    """A device that this machine has: cpu, cuda, cuda:1, mps, …"""
    import torch

    try:
        wanted = torch.device(text)
        torch.empty(0, device=wanted)
    except Exception as error:  # each backend's own when there is no such device, or no such backend
        reason = " ".join(str(error).split("\n")[0].split())[:120]
        raise argparse.ArgumentTypeError(f"this machine has no device {text!r} ({reason})") from error
    if wanted.type == "meta":
        raise argparse.ArgumentTypeError("meta is no device that computes")
    return text


def guidance(text: str) -> str:
    """A guidance schedule's name, or a number."""
    from videoar.sampling.guidance import Guidance

    try:
        Guidance.of(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declare `--model`, a generator to sample from."""
    parser.add_argument(
        "--model",
        default="videoar-atari",
        metavar="PATH",
        help="a generator's checkpoint, run or exported folder, or a name (default: the shipped videoar-atari)",
    )


def default_device() -> str:
    """cuda if there is one, else cpu."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def default_dtype(device: str) -> str:
    """What weights are sampled with: bfloat16 on a GPU that has it, else float32."""
    import torch

    gpu = torch.device(device).type == "cuda"
    return "bfloat16" if gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


def pairs(items: list[str], option: str) -> dict[str, str]:
    """KEY=VALUE arguments as a dict.

    Raises:
        UserError: an item without a key or an equals sign, or a key that is there twice.
    """
    found: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UserError(f"{option} takes KEY=VALUE, got {item!r}")
        if key in found:
            raise UserError(f"{option} gives {key} twice")
        found[key] = value
    return found
