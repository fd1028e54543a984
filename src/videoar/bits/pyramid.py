"""ScalePyramid: the sole owner of scale geometry (grids, lengths, slices, scale ids, positions)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.utils._pytree import register_constant

from videoar.errors import UserError

Grid = tuple[int, int]
Part = tuple[slice, slice]
"""Some rows and columns of a grid."""
Order = Literal["scales", "interleaved", "interleaved_from_4", "raster"]
"""How a frame's tokens are predicted: a scale at a time (the paper); large scales in four passes over their cells, each
told what the passes before drew; or one by one in row-major order (the baseline)."""
INTERLEAVED: dict[Order, int] = {"interleaved": 5, "interleaved_from_4": 4}
"""The interleaved orders: cells that the shorter side of a grid has at least where it is drawn in passes."""
PASSES = ((0, 0), (1, 1), (0, 1), (1, 0))
"""Interleaved orders: parity of row and column of the cells of each pass. No cell borders on another of its pass."""


def _ladder(limit: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, 24, … below `limit`: powers of two and the points half way between them."""
    sides = {1} | {2**n for n in range(1, limit.bit_length())} | {3 * 2**n for n in range(limit.bit_length())}
    return sorted(side for side in sides if side < limit)


@dataclass(frozen=True)
class ScalePyramid:
    """The coarse-to-fine grids of ONE latent frame; every frame of a clip has the same pyramid (paper §4.2).

    Tokens of a clip are ordered frame-major, then scale-major, then row-major (interleaved orders: pass by pass):
    `[frame 1: scale 1 … scale K | frame 2: scale 1 … scale K | …]`.

    Args:
        grids: (height, width) of each scale in latent cells, coarse to fine; the last is the latent grid itself.

    Raises:
        ValueError: no grid, a side < 1, or a grid that is smaller than the one before it.
    """

    grids: tuple[Grid, ...]

    def __post_init__(self) -> None:
        grids = tuple((int(h), int(w)) for h, w in self.grids)
        object.__setattr__(self, "grids", grids)
        if not grids:
            raise ValueError("a pyramid needs at least one grid")
        for h, w in grids:
            if h < 1 or w < 1:
                raise ValueError(f"pyramid grid {h}x{w} has a side below 1")
        for (h0, w0), (h1, w1) in pairwise(grids):
            if h1 < h0 or w1 < w0 or (h0, w0) == (h1, w1):
                raise ValueError(f"pyramid grids must grow, but {h0}x{w0} is followed by {h1}x{w1}")

    @classmethod
    def default(cls, height: int, width: int) -> ScalePyramid:
        """The documented rule for a latent grid of `height` x `width` cells.

        The shorter side climbs the ladder 1, 2, 3, 4, 6, 8, 12, 16, 24, … up to its own length, the longer side
        follows in proportion (rounded), and the first scale is always one single token. An 8x8 grid gives sides
        1, 2, 3, 4, 6, 8: 130 tokens a frame, so 5 frames take 30 steps, as in the paper's Table 3.
        """
        if height < 1 or width < 1:
            raise ValueError(f"a latent grid needs sides of at least 1, got {height}x{width}")
        short = min(height, width)
        scaled = [(round(height * side / short), round(width * side / short)) for side in _ladder(short) if side > 1]
        grids = [(1, 1), *scaled, (height, width)]
        return cls(tuple(dict.fromkeys(grids)))

    @classmethod
    def from_sides(cls, scales: Sequence[int | Sequence[int]]) -> ScalePyramid:
        """A pyramid from a config list: an int is a square grid, a pair is (height, width)."""
        return cls(tuple((s, s) if isinstance(s, int) else (s[0], s[1]) for s in scales))

    def __len__(self) -> int:
        """Number of scales K."""
        return len(self.grids)

    @property
    def full(self) -> Grid:
        """(height, width) of the latent grid."""
        return self.grids[-1]

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each scale."""
        return tuple(h * w for h, w in self.grids)

    @cached_property
    def length(self) -> int:
        """Tokens of one frame, all scales."""
        return sum(self.lengths)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where each scale lies inside one frame's tokens."""
        return tuple(slice(end - n, end) for n, end in zip(self.lengths, accumulate(self.lengths)))

    def parts(self, k: int, order: Order = "scales") -> tuple[Part, ...]:
        """The cells of scale k that are predicted together, in order, as a grid [..., h, w] is indexed."""
        if min(self.grids[k]) < INTERLEAVED.get(order, math.inf):
            return ((slice(0, None), slice(0, None)),)
        return tuple((slice(row, None, 2), slice(column, None, 2)) for row, column in PASSES)

    def steps(self, order: Order = "scales") -> tuple[slice, ...]:
        """The tokens of one frame that are predicted together, in order: a scale or a part of it, or a single token.

        Raises:
            UserError: raster order in a pyramid of several scales.
        """
        if order != "raster":
            grids = enumerate(self.grids)
            sizes = [
                len(range(h)[rows]) * len(range(w)[columns])
                for k, (h, w) in grids
                for rows, columns in self.parts(k, order)
            ]
            return tuple(slice(end - n, end) for n, end in zip(sizes, accumulate(sizes)))
        if len(self) > 1:
            raise UserError(
                f"raster order takes one token after the other of one grid, but this pyramid has {len(self)} scales:"
                " train the tokenizer with a single one, e.g. scales: [8]"
            )
        return tuple(slice(i, i + 1) for i in range(self.length))

    def sequence_length(self, frames: int) -> int:
        """Tokens of a clip of `frames` latent frames."""
        return frames * self.length

    def scale_ids(self, device: torch.device | None = None) -> Tensor:
        """Scale index of each token of one frame, long [length]."""
        return torch.cat([torch.full((n,), k, device=device) for k, n in enumerate(self.lengths)])

    def step_ids(self, order: Order = "scales", device: torch.device | None = None) -> Tensor:
        """Index of the step (see `steps`) that predicts each token of one frame, long [length]."""
        steps = enumerate(self.steps(order))
        return torch.cat([torch.full((s.stop - s.start,), i, device=device) for i, s in steps])

    def grid_positions(
        self, normalised: bool = False, device: torch.device | None = None, order: Order = "scales"
    ) -> Tensor:
        """(h, w) index of each token of one frame, float [length, 2].

        Native positions count the cells of the token's own grid (paper eq. 7: h < H_k, w < W_k). Normalised ones put
        every token at the centre it covers on the final grid, so that scales line up in space.
        """
        positions = []
        for k, (h, w) in enumerate(self.grids):
            rows, columns = torch.arange(h, device=device).float(), torch.arange(w, device=device).float()
            if normalised:
                rows = (rows + 0.5) * (self.full[0] / h) - 0.5
                columns = (columns + 0.5) * (self.full[1] / w) - 0.5
            positions += [torch.cartesian_prod(rows[i], columns[j]).reshape(-1, 2) for i, j in self.parts(k, order)]
        return torch.cat(positions)


register_constant(ScalePyramid)  # to torch.export it is no input, but part of the graph
