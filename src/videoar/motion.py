"""What moves in a video: the one definition behind the choice of data, losses, metrics and reports.

A pixel *moves* where any colour channel is more than 24 of 255 levels from its median over the clip's time: sprites
move, the scenery behind them does not. It *changes* where it differs by as much from the frame before. Videos are
float [B, 3, T, H, W] in [-1, 1] and are rounded to whole levels, as a video file would hold them.
"""

# B batch · T frames · H W pixels

import torch
from torch import Tensor

THRESHOLD = 24
"""Levels of 255. H.264 noise and fading colours stay below, sprites of the Atari games are far above."""


def levels(video: Tensor) -> Tensor:
    """[-1, 1] -> whole numbers 0 ... 255, still float32."""
    return ((video.float() + 1) * 127.5).round().clamp(0, 255)


def moving_mask(video: Tensor) -> Tensor:
    """Where a pixel is away from its temporal median: bool [B, T, H, W]. Of an even T the lower median counts."""
    pixels = levels(video)
    return (pixels - pixels.median(2, keepdim=True).values).abs().amax(1) > THRESHOLD


def moving_share(video: Tensor) -> Tensor:
    """Share of a clip's pixels that move, [B] in [0, 1]."""
    return moving_mask(video).float().mean((1, 2, 3))


def changing_share(video: Tensor) -> Tensor:
    """Share of the pixels that change from each frame to the next, [B, T - 1] in [0, 1]."""
    return (levels(video).diff(dim=2).abs().amax(1) > THRESHOLD).float().mean((2, 3))


def count_sprites(mask: Tensor, smallest: int = 2) -> Tensor:
    """Connected groups (8 neighbours) of at least `smallest` true pixels in each mask [..., H, W]: int64 [...].

    Every pixel takes the greatest label around it until nothing changes; a group is left with one label.
    """
    height, width = mask.shape[-2:]
    flat = mask.reshape(-1, 1, height, width)
    labels = torch.arange(1, height * width + 1, device=mask.device, dtype=torch.float32).view(1, 1, height, width)
    labels, before = labels * flat, None
    while before is None or not torch.equal(labels, before):
        before = labels
        labels = torch.nn.functional.max_pool2d(labels, 3, stride=1, padding=1) * flat
    sizes = torch.zeros(len(flat), height * width + 1, dtype=torch.int64, device=mask.device)
    sizes.scatter_add_(1, labels.flatten(1).long(), flat.flatten(1).long())
    return (sizes[:, 1:] >= smallest).sum(1).view(mask.shape[:-2])
