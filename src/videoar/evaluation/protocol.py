"""Protocol: everything that decides a number besides the videos; and the card that is printed next to it.

Published FVDs differ by split, counts, frames, stride, crop, resize to the feature net, its weights, covariance and
more. Each named protocol (`configs/evaluate/NAME.yaml`) is one such set of choices; the card says which of them held.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from videoar.errors import UserError
from videoar.metrics.preprocess import RESIZES
from videoar.ranges import COUNT, FRAMES, SEED, SIDE, Range
from videoar.shipped import shipped
from videoar.yaml_files import read_mapping

_CHOICES = {
    "select": ("first", "random"),
    "start": ("first", "centre", "random"),
    "crop": RESIZES,
    "features_resize": (*RESIZES, "internal"),
    "generated": ("as_is", "like_real"),
    "psnr": ("frame", "clip"),
    "ssim": ("rgb", "grey"),
    "lpips": ("alex", "vgg"),
}


@dataclass(frozen=True)
class Protocol:
    """How videos become numbers.

    Raises:
        UserError: a value that is not among the choices, or a count below 1.
    """

    name: str
    description: str = ""
    """What it reproduces, with its source."""
    split: str = ""
    """Which split of the data set the real folder should hold (told, not checked)."""
    videos: int | None = None
    """Videos on each side; None: all that are there. Fewer than this is reported as a deviation."""
    select: str = "random"
    """Which ones if there are more: the first in sorted order, or a seeded random sample."""
    frames: int | None = 16
    """Frames of a clip; None: whole videos."""
    stride: int = 1
    """Step between the frames of a real clip."""
    start: str = "first"
    """Where a real clip begins in its video: first, centre or random (seeded)."""
    generated: str = "as_is"
    """Frames of a generated video: as_is, its first ones at stride 1; like_real, chosen as in the real video, for
    reconstructions of whole videos."""
    size: tuple[int, int] | None = None
    """(height, width) that both sides are brought to before anything is measured; None: as they are."""
    crop: str = "short_side_crop_antialias"
    """How they are brought to `size`."""
    features: str | None = None
    """Feature net the protocol asks for (i3d, videomae, atari); its weights come from --features."""
    features_resize: str = "direct"
    """How frames reach the feature net's own size."""
    batch_norm_eps: float = 1e-3
    """Of an I3D state dict."""
    unbiased: bool = True
    """Covariance over N − 1 (True) or N."""
    psnr: str = "frame"
    """PSNR per frame, or per clip."""
    ssim: str = "rgb"
    """SSIM per channel, or of the luma."""
    lpips: str = "alex"
    """Backbone of LPIPS, alex or vgg."""
    seed: int = 0
    """Seed of the random choices above."""
    runs: int = 1
    """Independent generations (several --fake folders) that the protocol averages over."""

    def __post_init__(self) -> None:
        if isinstance(self.size, int) and not isinstance(self.size, bool):
            object.__setattr__(self, "size", (self.size, self.size))
        self._check_kinds()
        if self.size is not None:
            object.__setattr__(self, "size", tuple(self.size))
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise UserError(f"protocol {self.name}: {name} is {getattr(self, name)!r}, not {' or '.join(choices)}")
        ranges = {"videos": COUNT, "frames": FRAMES, "stride": FRAMES, "runs": COUNT, "seed": SEED}
        for name, allowed in ranges.items():
            if getattr(self, name) is not None:
                allowed.check(f"protocol {self.name}: {name}", getattr(self, name))
        if self.size is not None and (len(self.size) != 2 or not all(map(SIDE.holds, self.size))):
            raise UserError(f"protocol {self.name}: size must be [height, width], got {self.size}")
        Range(0, 1, whole=False).check(f"protocol {self.name}: batch_norm_eps", self.batch_norm_eps)

    def _check_kinds(self) -> None:
        """Raise UserError for a value of another kind than its field's: YAML and --set bring whatever was written."""
        kinds: dict[str, Any] = {"description": str, "split": str, "unbiased": bool}
        kinds |= {"features": str | None, "size": tuple | list | None}
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise UserError(f"protocol {self.name}: {name} cannot be {getattr(self, name)!r}")

    @classmethod
    def load(cls, name_or_path: str) -> Protocol:
        """A named protocol, or one from a YAML file.

        Raises:
            UserError: no such protocol, or keys it does not have.
        """
        path = Path(name_or_path)
        if path.suffix not in (".yaml", ".yml"):
            path = shipped("configs/evaluate") / f"{name_or_path}.yaml"
        if not path.is_file():
            raise UserError(f"no protocol {name_or_path!r}; there are {', '.join(names())}, or give a YAML file")
        return cls(name=path.stem).with_(read_mapping(path), source=str(path))

    def with_(self, changes: dict[str, Any], source: str = "override") -> Protocol:
        """A copy with some values changed.

        Raises:
            UserError: an unknown key, or a value of the wrong kind.
        """
        known = {field.name for field in fields(self)}
        if unknown := sorted(set(changes) - known):
            raise UserError(f"{source}: unknown protocol key {unknown[0]!r}; there are {', '.join(sorted(known))}")
        try:
            return replace(self, **changes)
        except TypeError as error:
            raise UserError(f"{source}: {error}") from error

    def shaped(self, frames: int, size: tuple[int, int]) -> Protocol:
        """A copy with a length and a size of clips where it leaves them open."""
        return replace(self, frames=self.frames or frames, size=self.size or size)

    def digest(self) -> str:
        """Short hash of every value that changes what is measured (the words that only describe are left out)."""
        values = {k: v for k, v in asdict(self).items() if k not in ("name", "description", "split")}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def names() -> list[str]:
    """The named protocols that come with this installation."""
    return sorted(path.stem for path in shipped("configs/evaluate").glob("*.yaml"))
