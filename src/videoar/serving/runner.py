"""VideoAR without PyTorch: samples with a folder of `videoar export MODEL OUT --onnx`; needs numpy and onnxruntime.

model = Model("OUT")
sample = model.generate(["riverraid", "boxing"], frames=17, seed=0)    # .video [B, 3, T, H, W], .bits
for pixels in model.stream(["riverraid"], frames=17, seed=0): ...        # [B, 3, n, H, W] as frames are done

The same seed gives the same bits as `videoar.generate`, up to the rounding of float32. The file imports nothing of
videoar, so that it can be copied, read and translated.
"""

# B samples · R rows of a call (samples x guidance groups) · T frames · D bits · h w grid of a scale · H W latent grid

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

FORMAT = 2
DESCRIPTION = "model.json"
Array = Any  # numpy.ndarray; numpy's own annotations say no more here
GRAPHS = ("condition", "embed", "step", "head", "encoder_first", "encoder_next", "decoder_first", "decoder_next")


@dataclass(frozen=True)
class Sample:
    """video: float32 [B, 3, T, H, W] in [-1, 1]. bits: one bool [B, T', h, w, D] a scale."""

    video: Array
    bits: tuple[Array, ...]


# ---- the residual recursion (paper §3) ------------------------------------------------------------------------------


def resize(x: Array, grid: tuple[int, int], mode: str) -> Array:
    """x [..., H, W] → [..., h, w]: by area (mean of what a cell covers), or bilinearly (align_corners=False)."""
    rows, columns = (matrix(x.shape[-2], grid[0], mode), matrix(x.shape[-1], grid[1], mode))
    return x if x.shape[-2:] == tuple(grid) else rows @ x @ columns.T


@cache
def matrix(source: int, target: int, mode: str) -> Array:
    """The resizing of one axis as a matrix [target, source]."""
    weights = np.zeros((target, source), np.float32)
    for i in range(target):
        if mode == "area":
            first, last = i * source // target, -((i + 1) * source // -target)
            weights[i, first:last] = 1 / (last - first)
        else:
            at = max(float(np.float32(source / target) * np.float32(i + 0.5) - np.float32(0.5)), 0.0)  # as torch's
            low = min(int(at), source - 1)
            weights[i, low] += 1 - (at - low)
            weights[i, min(low + 1, source - 1)] += at - low
    return weights


def around(x: Array) -> Array:
    """Every cell of x [R, F, h, w] with the eight around it, [R, 9F, h, w]; zeros outside the grid."""
    (h, w), padded = x.shape[2:], np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    shifted = [padded[:, :, i : i + h, j : j + w] for i in range(3) for j in range(3)]
    return np.stack(shifted, 2).reshape(len(x), -1, h, w)


def code_of(bits: Array) -> Array:
    """bool [R, n, D] → codes ±1/√D, [R, n, D]."""
    return ((bits.astype(np.float32) * 2 - 1) * np.float32(1 / np.sqrt(bits.shape[-1]))).astype(np.float32)


# ---- guidance and draw ----------------------------------------------------------------------------------------------


def guidance_scale(guidance: dict[str, Any], t: int, k: int, frames: int, scales: int) -> float:
    """γ(t, k) of latent frame t of `frames` and scale k of `scales` (paper §4.2)."""
    along_t, along_k = t / max(frames - 1, 1), k / max(scales - 1, 1)
    start, middle, end = guidance["start"], guidance["middle"], guidance["end"]
    if guidance["schedule"] == "none":
        return 1.0
    if guidance["schedule"] == "constant":
        return float(end)
    if guidance["schedule"] == "ucf101":
        first = start + (middle - start) * along_t
        return first + (end - first) * along_k
    return start + (end - start) * (along_t + along_k) / 2


class Noise:
    """Uniform noise [tokens, bits] in [0, 1), a frame at a time: PyTorch's CPU stream of the same seed.

    PyTorch makes a float32 of the lower 24 bits of each word of a Mersenne twister, which numpy seeds alike.
    """

    def __init__(self, seed: int, shape: tuple[int, int]) -> None:
        self.words, self.shape = np.random.RandomState(seed % 2**32), shape

    def frame(self) -> Array:
        words = self.words.randint(0, 2**32, self.shape, dtype=np.uint32)
        return (words & 0xFFFFFF).astype(np.float32) * np.float32(2**-24)


# ---- the model ------------------------------------------------------------------------------------------------------


class Model:
    """The graphs of a folder, and the loop over frames and scales.

    Args:
        threads: of each graph; 0: onnxruntime's choice. providers: where they run.

    Raises:
        ValueError: no such folder, or one of another format.
    """

    def __init__(
        self, folder: str | Path, threads: int = 0, providers: Sequence[str] = ("CPUExecutionProvider",)
    ) -> None:
        path = Path(folder) / DESCRIPTION
        if not path.is_file():
            raise ValueError(f"{folder} has no {DESCRIPTION}: make it with `videoar export MODEL {folder} --onnx`")
        self.about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if self.about.get("format") != FORMAT:
            raise ValueError(f"{path} is of format {self.about.get('format')}, this runner reads {FORMAT}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # small graphs: waiting costs most
        options.log_severity_level = 3
        names = GRAPHS + ("group",) * (self.about["groups"] > 1)
        self.sessions = {
            name: onnxruntime.InferenceSession(str(Path(folder) / f"{name}.onnx"), options, providers=list(providers))
            for name in names
        }
        self.grids = [(h, w) for h, w in self.about["pyramid"]]
        self.lengths = [h * w for h, w in self.grids]
        self.bits, self.ratio = self.about["bits"], self.about["temporal_ratio"]

    def run(self, name: str, *inputs: Array) -> list[Array]:
        """Call a graph; an input that the exporter found unused is left out."""
        session = self.sessions[name]
        order = {"embed": ("tokens", "scale", "start", "positions"), "step": ("x", "positions", "modulation", "past")}
        wanted = [node.name for node in session.get_inputs()]
        return session.run(None, dict(zip(order.get(name, wanted), inputs, strict=True)))

    # ---- what users call ----

    def generate(self, labels: Sequence[int | str | None], **options: Any) -> Sample:
        """One video for each label; the options are those of `stream`."""
        video, bits = [], []
        for pixels, of_frame in self.frames(labels, **options):
            video.append(pixels)
            bits.append(of_frame)
        return Sample(np.concatenate(video, 2), tuple(np.concatenate(scale, 1) for scale in zip(*bits)))

    def stream(self, labels: Sequence[int | str | None], **options: Any) -> Iterator[Array]:
        """Pixels [B, 3, n, H, W] of one latent frame after the other (n: 1, then the temporal ratio).

        Options:
            frames: pixel frames, 1 + ratio·n (default 17).
            seed: sample i uses seed + i, or seed[i] (default 0).
            guidance: a schedule's name, a number, or a dict of a schedule's fields; None: the model's.
            temperature: a number, or one a scale, coarse to fine (default 1). greedy: the likelier value of every bit.
            prefix: pixels [B or 1, 3, 1 + ratio·n, H, W] in [-1, 1] that the videos start with (image and clip to
                video).

        Raises:
            ValueError: what does not fit the model.
        """
        for pixels, _ in self.frames(labels, **options):
            yield pixels

    # ---- the loop ----

    def frames(
        self,
        labels: Sequence[int | str | None],
        frames: int = 17,
        seed: int | Sequence[int] = 0,
        guidance: dict[str, Any] | float | str | None = None,
        temperature: float | Sequence[float] = 1.0,
        greedy: bool = False,
        prefix: Array | None = None,
    ) -> Iterator[tuple[Array, tuple[Array, ...]]]:
        """Pixels and bits of one latent frame after the other."""
        total = self.latent_frames(frames)
        seeds = [seed + i for i in range(len(labels))] if isinstance(seed, int) else list(seed)
        heat = [float(t) for t in ([temperature] if isinstance(temperature, (int, float)) else temperature)]
        if len(seeds) != len(labels) or not heat or min(heat) <= 0:
            raise ValueError("there must be one seed a sample, and temperatures above 0")
        clip = Clip(self, self.indices(labels), seeds, self.guidance(guidance), total)
        given = [] if prefix is None else self.encode(self.fitting(prefix, len(labels), frames))
        state: list[Array] = []
        for t in range(total):
            bits, latent = clip.given(t, given[t]) if t < len(given) else clip.sample(t, heat, greedy)
            pixels, *state = self.run("decoder_next" if t else "decoder_first", latent, *state)
            yield pixels, bits

    def encode(self, video: Array) -> list[Array]:
        """Pixels [B, 3, 1 + ratio·n, H, W] → one latent [B, D, 1, H, W] a latent frame."""
        latents: list[Array] = []
        state: list[Array] = []
        for t in range(self.latent_frames(video.shape[2])):
            first = 1 + (t - 1) * self.ratio if t else 0
            piece = video[:, :, first : first + (self.ratio if t else 1)]
            latent, *state = self.run("encoder_next" if t else "encoder_first", piece, *state)
            latents.append(latent)
        return latents

    # ---- what is asked, checked ----

    def latent_frames(self, frames: int) -> int:
        if frames < 1 or (frames - 1) % self.ratio:
            raise ValueError(f"{frames} frames are not 1 + {self.ratio}·n")
        return 1 + (frames - 1) // self.ratio

    def indices(self, labels: Sequence[int | str | None]) -> Array:
        names, classes = self.about["class_names"], self.about["classes"]
        number = lambda v: classes if v is None else int(v) if str(v).isdecimal() else -1  # noqa: E731
        found = [names.index(v) if v in names else number(v) for v in labels]
        if any(not 0 <= i < max(classes, 1) for i in found):
            raise ValueError(f"labels are {', '.join(names) or 'None'} or 0 … {classes - 1}, got {list(labels)}")
        return np.array(found, np.int64)

    def guidance(self, value: dict[str, Any] | float | str | None) -> dict[str, Any]:
        schedules, value = self.about["schedules"], self.about["guidance"] if value is None else value
        if isinstance(value, dict):
            return schedules["none"] | value
        return schedules[value] if value in schedules else self.constant(float(value))

    def constant(self, strength: float) -> dict[str, Any]:
        return self.about["schedules"]["none"] | {"schedule": "constant", "end": strength}

    def fitting(self, prefix: Array, batch: int, frames: int) -> Array:
        shape, size = prefix.shape, tuple(self.about["size"])
        if prefix.ndim != 5 or shape[0] not in (1, batch) or shape[1] != 3 or shape[3:] != size or shape[2] >= frames:
            raise ValueError(f"a prefix is [1 or {batch}, 3, fewer than {frames}, {size[0]}, {size[1]}], got {shape}")
        return np.ascontiguousarray(np.broadcast_to(prefix, (batch, *shape[1:])), np.float32)


class Clip:
    """The state of one batch of videos while it is sampled: cache, codes of the frame before, noise."""

    def __init__(self, model: Model, labels: Array, seeds: list[int], guidance: dict[str, Any], total: int) -> None:
        self.model, self.about, self.guidance, self.total, self.batch = model, model.about, guidance, total, len(labels)
        constant_one = guidance["schedule"] == "constant" and guidance["end"] == 1.0
        self.guided = guidance["schedule"] != "none" and not constant_one
        self.corrupted = guidance["prefix_strength"] > 0
        null = np.full_like(labels, self.about["classes"])
        rows = [labels if self.about["classes"] else null] + [null] * self.guided + [labels] * self.corrupted
        self.groups, R = len(rows), len(rows) * self.batch
        shape = (sum(model.lengths), model.bits)
        self.noise = [Noise(seed, shape) for seed in seeds]
        self.flips = [Noise(seed + 1_000_003, shape) for seed in seeds]
        self.previous = np.zeros((R, model.bits, *model.grids[-1]), np.float32)
        prefix, self.modulation = model.run("condition", np.concatenate(rows))
        self.prefix = prefix.shape[1]
        layers, two, heads, width = self.about["cache"]
        window = self.about["window"]
        kept = min(total, window + self.about["sinks"] + 1) if window else total
        self.past = np.empty((self.prefix + kept * sum(model.lengths), layers, two, R, heads, width), np.float32)
        self.filled, self.stored = 0, 0  # tokens and frames in `past`
        positions = np.arange(self.prefix, dtype=np.float32)[:, None].repeat(3, 1)
        self.call(prefix, positions)

    def call(self, x: Array, positions: Array) -> Array:
        """One call of the transformer: features of x [R, n, C]; its keys and values join the past."""
        features, new = self.model.run("step", x, positions, self.modulation, self.past[: self.filled])
        self.past[self.filled : self.filled + len(new)] = new
        self.filled += len(new)
        return features

    def begin(self, t: int) -> None:
        """Forget the oldest frame that is no sink once frame t would see more than the window."""
        window, sinks, length = self.about["window"], self.about["sinks"], sum(self.model.lengths)
        if window and self.stored > window + sinks:
            first = self.prefix + sinks * length
            self.past[first : self.filled - length] = self.past[first + length : self.filled].copy()
            self.filled, self.stored = self.filled - length, self.stored - 1
        self.stored += 1

    def frame(self, t: int, decide: Callable[..., Array]) -> tuple[tuple[Array, ...], Array]:
        """All scales of frame t, pass by pass: their bits, and the sum of their codes [B, D, 1, H, W].

        Args:
            decide: what the bits of a pass are, bool [R, n, D], from (scale, its cells, where they lie in the frame's
                tokens, codes of the frame before the scale [R, D, H, W], features [R, n, C]).
        """
        grids, B, drawn, start = self.model.grids, self.batch, [], 0
        self.begin(t)
        seen = np.zeros_like(self.previous)
        for k, (h, w) in enumerate(grids):
            before, code = seen, np.zeros((*seen.shape[:2], h, w), np.float32)
            bits = np.zeros((B, 1, h, w, seen.shape[1]), bool)
            for n, (row, down, column, right) in enumerate(self.about["passes"][k]):
                cells = np.s_[row::down, column::right]
                x = self.look(t, k, cells, seen, start=t == k == n == 0)
                inside, start = slice(start, start + x.shape[1]), start + x.shape[1]
                told = decide(k, cells, inside, before, x)
                part = code[:, :, cells[0], cells[1]]
                bits[:, 0, cells[0], cells[1]] = told[:B].reshape(B, *part.shape[2:], -1)
                part[...] = code_of(told).swapaxes(1, 2).reshape(part.shape)
                seen = before + resize(code, grids[-1], "bilinear")
            drawn.append(bits)
        self.previous = seen
        return tuple(drawn), seen[:B, :, None]

    def look(self, t: int, k: int, cells: tuple[slice, slice], seen: Array, start: bool) -> Array:
        """Features [R, n, C] of some cells of scale k of frame t, given the frame's codes so far: one call."""
        (h, w), full = self.model.grids[k], self.model.grids[-1]
        if self.about["temporal_context"] == "first_scale":
            shown = resize(seen if k else self.previous, (h, w), "bilinear")
        else:
            shown = np.concatenate([resize(seen, (h, w), "bilinear"), resize(self.previous, (h, w), "area")], 1)
        shown = (around(shown) if self.about["neighbours"] else shown)[:, :, cells[0], cells[1]]
        tokens = np.ascontiguousarray(shown.reshape(*shown.shape[:2], -1).swapaxes(1, 2))
        rows, columns = np.arange(h, dtype=np.float32)[cells[0]], np.arange(w, dtype=np.float32)[cells[1]]
        if self.about["normalised_positions"]:
            rows, columns = (rows + 0.5) * (full[0] / h) - 0.5, (columns + 0.5) * (full[1] / w) - 0.5
        places = [np.full(tokens.shape[1], t), rows.repeat(len(columns)), np.tile(columns, len(rows))]
        at = np.stack(places, 1).astype(np.float32)
        x = self.model.run("embed", tokens, np.array(k), np.array(start), at)[0]
        return self.call(x, at + np.float32(self.prefix))

    def sample(self, t: int, heat: list[float], greedy: bool) -> tuple[tuple[Array, ...], Array]:
        """A frame whose bits are drawn, a group of a token's bits after the other, each told those before."""
        noise, flips = (np.stack([stream.frame() for stream in streams]) for streams in (self.noise, self.flips))
        groups, size = self.about["groups"], self.model.bits // self.about["groups"]

        def draw(k: int, cells: Any, inside: slice, before: Array, x: Array) -> Array:
            state, told = self.model.run("head", x)[0], np.zeros((*x.shape[:2], self.model.bits), np.float32)
            for g in range(groups):
                own = np.s_[..., g * size : (g + 1) * size]
                logits = self.model.run("group", state, told, np.array(g))[0] if groups > 1 else state
                logits = self.guide(logits, t, k)
                with np.errstate(over="ignore"):
                    p = 1 / (1 + np.exp(-logits / np.float32(heat[min(k, len(heat) - 1)])))
                bits = logits > 0 if greedy else noise[:, inside][own] < p
                rows = np.concatenate([bits] * self.groups)
                if self.corrupted:
                    rows[-self.batch :] ^= flips[:, inside][own] < self.guidance["prefix_flip"]
                told[own] = rows * 2.0 - 1
            return told > 0

        return self.frame(t, draw)

    def guide(self, logits: Array, t: int, k: int) -> Array:
        """Rows of a call [R, n, D] → guided logits [B, n, D]: null + γ·(conditional − null)."""
        rows = np.split(logits, self.groups)
        guided = rows[0]
        if self.guided:
            scale = guidance_scale(self.guidance, t, k, self.total, len(self.model.grids))
            guided = rows[1] + np.float32(scale) * (rows[0] - rows[1])
        if self.corrupted:
            guided = guided + np.float32(self.guidance["prefix_strength"]) * (rows[0] - rows[-1])
        return guided

    def given(self, t: int, latent: Array) -> tuple[tuple[Array, ...], Array]:
        """A known frame: its bits are those of its latent [B, D, 1, H, W], and the cache learns of them."""
        known = np.concatenate([latent[:, :, 0]] * self.groups)

        def read(k: int, cells: Any, inside: slice, before: Array, x: Array) -> Array:
            bits = resize(known - before, self.model.grids[k], "area")[:, :, cells[0], cells[1]] > 0
            return bits.reshape(*bits.shape[:2], -1).swapaxes(1, 2)

        return self.frame(t, read)
