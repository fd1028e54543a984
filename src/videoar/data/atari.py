"""Class-labelled clips of Atari 2600 games, played from the ROMs that ship inside the ale-py wheel.

An offline stand-in for UCF-101: the same folder layout, one class a game, short clips with real motion. A group
(`g01`, `g02`, …) is one seeded run of the emulator, its clips are cuts of that run; test groups come first, as
in UCF-101's split 01, so train and test never share a run. Everything is a function of the seed alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videoar.data.layout import ManifestRow
from videoar.data.transforms import to_pixels
from videoar.errors import UserError
from videoar.motion import changing_share
from videoar.ranges import COUNT, FRAMES, SEED, SIDE, check_ranges

CLIPS_PER_GROUP = 4
TRIES = 50
"""Recordings drawn for one clip; a game that needs more is no use as a class."""
PROBE_GROUPS, PROBE_CLIPS = (-1, 0), 6
"""Runs that only measure how a game moves; no clip of a set comes from them."""
VISIBLE = 1e-3
"""Share of the pixels that must change for a frame to differ visibly from the one before (4 of 64x64)."""


@dataclass(frozen=True)
class AtariClips:
    """What to render. `frames` at `fps` = 60 / skip; `size` is the side of the square the screen is resized to."""

    clips_per_game: int = 20
    test_clips: int = 4
    frames: int = 33
    size: int = 128
    fps: float = 15.0
    seed: int = 0
    sticky: float = 0.25
    """Probability that the emulator repeats the previous action (ALE's standard stochasticity)."""
    min_motion: float = 0.9
    """Share of successive frames that must differ visibly; below it a clip stands still."""
    max_change: float = 0.2
    """A cut: more than this share of the pixels changes from one frame to the next."""

    def __post_init__(self) -> None:
        check_ranges(self, clips_per_game=COUNT, test_clips=COUNT, frames=FRAMES, size=SIDE, seed=SEED)
        if self.size % 2:
            raise UserError(f"size must be even for H.264, got {self.size}")
        if not 1 <= self.fps <= 60 or 60 % self.fps:
            raise UserError(f"fps must divide the console's 60 frames a second, got {self.fps:g}")
        if not 0 <= self.sticky < 1:
            raise UserError(f"sticky must lie in [0, 1), got {self.sticky:g}")
        for name in ("min_motion", "max_change"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} must lie in [0, 1], got {getattr(self, name):g}")

    @property
    def skip(self) -> int:
        """Console frames a recorded frame; the action is held meanwhile."""
        return int(60 // self.fps)

    def groups(self) -> Iterator[tuple[str, int, int]]:
        """(split, group number, clips in it), test groups first."""
        group = 0
        for split, clips in (("test", self.test_clips), ("train", self.clips_per_game)):
            for start in range(0, clips, CLIPS_PER_GROUP):
                group += 1
                yield split, group, min(CLIPS_PER_GROUP, clips - start)


class StaticGame(Exception):
    """The game gives no usable clips under random play."""


@dataclass
class GameMotion:
    """How a game moves: of `drawn` recordings, `cut` held a cut and `still` stood still; the rest were used."""

    drawn: int = 0
    cut: int = 0
    still: int = 0
    shares: dict[str, float] = field(default_factory=dict)
    """Share of the pixels that change from frame to frame, by the name of the clip."""

    @property
    def motion(self) -> float:
        """Mean share over the clips used; 0 without any."""
        return sum(self.shares.values()) / len(self.shares) if self.shares else 0.0

    def usable(self, video: np.ndarray, name: str, clips: AtariClips) -> bool:
        """Count one recording, uint8 `[T, H, W, 3]`; is it without a cut and does it move?"""
        change = changing_share(to_pixels(torch.from_numpy(video).permute(3, 0, 1, 2)[None]))[0]
        cut = bool((change > clips.max_change).any())
        still = not cut and len(change) > 0 and int((change >= VISIBLE).sum()) / len(change) < clips.min_motion
        self.drawn += 1
        self.cut += cut
        self.still += still
        if not (cut or still):
            self.shares[name] = round(float(change.mean()), 5) if len(change) else 0.0
        return not (cut or still)


class Player:
    """One seeded run of one game under a random policy that holds actions for a few steps."""

    def __init__(self, game: str, group: int, clips: AtariClips) -> None:
        from ale_py import Action, ALEInterface, LoggerMode, roms

        seed = int.from_bytes(sha256(f"{clips.seed}/{game}/{group}".encode()).digest()[:4], "little") >> 1
        self._rng = np.random.default_rng(seed)
        self._clips = clips
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self._ale: Any = ALEInterface()
        self._ale.setInt("random_seed", seed)
        self._ale.setFloat("repeat_action_probability", clips.sticky)
        self._ale.loadROM(str(roms.get_rom_path(game)))
        self._noop, self._fire = Action.NOOP, Action.FIRE
        self._moves = self._ale.getMinimalActionSet()
        self._hold = 0
        self._restart()
        for _ in range(int(self._rng.uniform(5, 10) * clips.fps)):  # past intros and jingles
            self._step()

    def clip(self) -> np.ndarray:
        """Play on for a random while, then record: uint8 `[frames, size, size, 3]`.

        A recording that meets the end of a game starts again in the next one, so that clips have no cuts.
        """
        for _ in range(int(self._rng.integers(4, 24))):
            self._step()
        frames: list[np.ndarray] = []
        for _ in range(8 * self._clips.frames):
            frames = [] if self._ale.game_over() else frames
            frames.append(self._step())
            if len(frames) == self._clips.frames:
                break
        if len(frames) < self._clips.frames:
            raise StaticGame(f"games end within {self._clips.frames} frames")
        return np.stack([self._resize(frame) for frame in frames])

    def _restart(self) -> None:
        """New game: a random number of no-ops, then FIRE a few times, since many games wait for it."""
        self._ale.reset_game()
        for _ in range(int(self._rng.integers(1, 30))):
            self._ale.act(self._noop)
        for action in (self._fire, self._noop) * 4:
            self._ale.act(action)

    def _step(self) -> np.ndarray:
        """One recorded frame `[210, 160, 3]`: the brighter of the last two screens, which undoes sprite flicker."""
        if self._ale.game_over():
            self._restart()
        if self._hold == 0:
            self._hold = int(self._rng.integers(2, 9))
            fire = self._rng.random() < 0.2
            self._action = self._fire if fire else self._moves[self._rng.integers(len(self._moves))]
        self._hold -= 1
        screens: list[np.ndarray] = []
        for _ in range(self._clips.skip):
            self._ale.act(self._action)
            screens = [*screens[-1:], self._ale.getScreenRGB()]
        return np.maximum(screens[0], screens[-1])

    def _resize(self, frame: np.ndarray) -> np.ndarray:
        """The whole screen as a square: area averaging down, bicubic up."""
        from PIL import Image

        side = self._clips.size
        method = Image.Resampling.BOX if side <= 160 else Image.Resampling.BICUBIC
        return np.asarray(Image.fromarray(frame).resize((side, side), method))


def render_game(game: str, folder: Path, clips: AtariClips) -> GameMotion:
    """Render all clips of one game into `folder`.

    A recording that stands still or holds a cut is replaced by a later one of the same run. Raises `StaticGame` if
    50 in a row are no use.
    """
    from videoar.data.writers import write_mp4

    found = GameMotion()
    for _, group, count in clips.groups():
        player = Player(game, group, clips)
        for cut in range(1, count + 1):
            name = clip_name(game, group, cut)
            for _ in range(TRIES):
                video = player.clip()
                if found.usable(video, name, clips):
                    break
            else:
                what = f"{found.still} stood still, {found.cut} held a cut"
                raise StaticGame(f"{TRIES} recordings in a row are no use (of {found.drawn}, {what})")
            write_mp4(folder / name, video, clips.fps, crf=14)
    return found


def probe_game(game: str, folder: Path, clips: AtariClips) -> GameMotion:
    """Measure how a game moves, on a few recordings that are not kept (nothing is written into `folder`)."""
    found = GameMotion()
    for group in PROBE_GROUPS:
        player = Player(game, group, clips)
        for number in range(PROBE_CLIPS):
            found.usable(player.clip(), clip_name(game, group, number), clips)
    return found


def clip_name(game: str, group: int, cut: int) -> str:
    """File name of one clip, as UCF-101 names them."""
    return f"v_{game}_g{group:02d}_c{cut:02d}.mp4"


def manifest_rows(game: str, clips: AtariClips, shares: Mapping[str, float]) -> list[tuple[str, ManifestRow]]:
    """(split, row) of every clip that `render_game` makes of one game; `shares` as in its `GameMotion`."""
    rows = []
    for split, group, count in clips.groups():
        for cut in range(1, count + 1):
            name = clip_name(game, group, cut)
            size = (clips.size, clips.size)
            rows.append((split, ManifestRow(f"{game}/{name}", game, clips.frames, clips.fps, *size, shares[name])))
    return rows
