"""Class-labelled clips of Atari 2600 games, played from the ROMs that ship inside the ale-py wheel.

An offline stand-in for UCF-101: the same folder layout, one class a game, short clips with real motion. A group
(`g01`, `g02`, …) is one seeded run of the emulator, its clips are cuts of that run; test groups come first, as
in UCF-101's split 01, so train and test never share a run. Everything is a function of the seed alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from videoar.data.layout import ManifestRow
from videoar.errors import UserError

CLIPS_PER_GROUP = 4
FAVOURITES = (
    "breakout pong space_invaders ms_pacman freeway seaquest enduro boxing qbert demon_attack assault "
    "beam_rider asterix kung_fu_master riverraid road_runner frostbite carnival atlantis hero phoenix "
    "pooyan ice_hockey tennis fishing_derby bowling gopher jamesbond kangaroo krull "
)
"""Names, taken first when only a number of games is asked for: they start by themselves and look different."""


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
    min_motion: float = 0.5
    """Share of successive frames that must differ visibly; below it a clip is static."""

    def __post_init__(self) -> None:
        for name in ("clips_per_game", "test_clips", "frames", "size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.size % 2:
            raise UserError(f"size must be even for H.264, got {self.size}")
        if not 1 <= self.fps <= 60 or 60 % self.fps:
            raise UserError(f"fps must divide the console's 60 frames a second, got {self.fps:g}")
        if not 0 <= self.sticky < 1 or not 0 <= self.min_motion <= 1:
            raise UserError(f"sticky {self.sticky} and min_motion {self.min_motion} must lie in [0, 1)")

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
    """The game shows no motion under random play."""


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


def motion(video: np.ndarray) -> float:
    """Share of successive frame pairs in which at least 1 pixel in 1000 changes by more than 16 levels."""
    change = np.abs(np.diff(video.astype(np.int16), axis=0)).max(-1) > 16
    return float((change.mean((1, 2)) >= 1e-3).mean()) if len(video) > 1 else 1.0


def render_game(game: str, folder: Path, clips: AtariClips) -> None:
    """Render all clips of one game into `folder`.

    A static clip is replaced by a later cut of the same run, at most 5 times. Raises `StaticGame` if that is not
    enough: the game is then no use as a class.
    """
    from videoar.data.writers import write_mp4

    for _, group, count in clips.groups():
        player = Player(game, group, clips)
        for cut in range(1, count + 1):
            for _ in range(6):
                video = player.clip()
                if motion(video) >= clips.min_motion:
                    break
            else:
                raise StaticGame(f"motion {motion(video):.2f} under random play is below {clips.min_motion:g}")
            write_mp4(folder / clip_name(game, group, cut), video, clips.fps, crf=14)


def clip_name(game: str, group: int, cut: int) -> str:
    """File name of one clip, as UCF-101 names them."""
    return f"v_{game}_g{group:02d}_c{cut:02d}.mp4"


def manifest_rows(game: str, clips: AtariClips) -> list[tuple[str, ManifestRow]]:
    """(split, row) of every clip that `render_game` makes of one game."""
    return [
        (split, ManifestRow(f"{game}/{clip_name(game, group, cut)}", game, clips.frames, clips.fps, *size))
        for size in [(clips.size, clips.size)]
        for split, group, count in clips.groups()
        for cut in range(1, count + 1)
    ]
