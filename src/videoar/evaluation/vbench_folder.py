"""VBench's folder: `{prompt}-{i}.mp4` and a `full_info.json`, so that the official suite scores our samples."""

# T frames · H W pixels

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from videoar.data.files import atomic_path
from videoar.data.writers import write_mp4
from videoar.errors import UserError

_LONGEST = 255  # bytes a file name may have on the usual file systems


@dataclass(frozen=True)
class Prompt:
    """One prompt of VBench's list.

    Attributes:
        text: the original prompt: file names and metrics use it.
        dimensions: what it is scored on.
        auxiliary: VBench's labels for the dimension (object, colour, …).
        refined: what the generator is given instead, if prompts were rewritten.
    """

    text: str
    dimensions: tuple[str, ...] = ()
    auxiliary: dict[str, Any] = field(default_factory=dict)
    refined: str | None = None

    def info(self) -> dict[str, Any]:
        """The entry of a full_info.json."""
        entry: dict[str, Any] = {"prompt_en": self.text, "dimension": list(self.dimensions)}
        if self.auxiliary:
            entry["auxiliary_info"] = self.auxiliary
        return entry | ({"refined_prompt": self.refined} if self.refined else {})


def read_prompts(path: str | Path) -> list[Prompt]:
    """Prompts from VBench's full_info JSON, or from a text file with one prompt a line.

    Raises:
        UserError: no file, no prompt, or JSON of another form.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no prompt file at {path}")
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".json":
        prompts = [Prompt(line.strip()) for line in text.splitlines() if line.strip()]
    else:
        try:
            prompts = [
                Prompt(e["prompt_en"], tuple(e["dimension"]), e.get("auxiliary_info", {}), e.get("refined_prompt"))
                for e in json.loads(text)
            ]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise UserError(f"{path} is not a list of {{prompt_en, dimension, …}}: {error!r}") from error
    if not prompts:
        raise UserError(f"{path} holds no prompt")
    return prompts


class VBenchFolder:
    """Writes samples for the official suite.

    Args:
        path: the folder; it is made when the first video is written.
        prompts: all prompts that will be scored; two entries may share a text (and then share videos).
        samples: videos per prompt (VBench: 5; temporal flickering: 25 before its filter).
        fps: of the files.

    Raises:
        UserError: a prompt that is no file name ("/", or too long).
    """

    def __init__(self, path: str | Path, prompts: Sequence[Prompt], samples: int = 5, fps: float = 8) -> None:
        self.path, self.prompts, self.samples, self.fps = Path(path), list(prompts), samples, fps
        for prompt in self.prompts:
            name = self.file(prompt, samples - 1).name
            if "/" in prompt.text or "\0" in prompt.text or len(name.encode()) > _LONGEST:
                raise UserError(f"prompt {prompt.text[:60]!r}… cannot be a file name, which VBench needs")

    def file(self, prompt: Prompt, index: int) -> Path:
        """Where sample `index` of a prompt belongs."""
        return self.path / f"{prompt.text}-{index}.mp4"

    def pending(self) -> Iterator[tuple[Prompt, int]]:
        """(prompt, index) of every video that is not there yet: an interrupted run goes on where it stopped."""
        texts: set[str] = set()
        for prompt in self.prompts:
            if prompt.text in texts:
                continue
            texts.add(prompt.text)
            for index in range(self.samples):
                if not self.file(prompt, index).exists():
                    yield prompt, index

    def write(self, prompt: Prompt, index: int, video: Tensor) -> Path:
        """Write one sample [3, T, H, W] in [-1, 1]."""
        path = self.file(prompt, index)
        write_mp4(path, video, self.fps)
        return path

    def write_info(self) -> Path:
        """Write `full_info.json` next to the folder's videos: VBench's `--full_json_dir`."""
        path = self.path / "full_info.json"
        with atomic_path(path) as temporary:
            temporary.write_text(
                json.dumps([prompt.info() for prompt in self.prompts], indent=2) + "\n", encoding="utf-8"
            )
        return path
