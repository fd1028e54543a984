"""Both networks as one object, in the manner of diffusers: load, move, sample, save, upload.

pipeline = VideoARPipeline.from_pretrained("videoar-atari")
pipeline(["riverraid"]).frames[0][0].save("first.png")
"""

# B samples · T pixel frames

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from videoar.data.writers import to_uint8, write_mp4
from videoar.errors import UserError
from videoar.generator.model import Labels, VideoAR
from videoar.hub import model_card, publish
from videoar.metrics.preprocess import resize_video
from videoar.sampling.generate import Sample, generate
from videoar.sampling.given import Pixels, as_clips
from videoar.sampling.graphs import FrameGraphs
from videoar.sampling.guidance import Guidance
from videoar.sampling.pairing import check_pair
from videoar.sampling.request import Progress
from videoar.tokenizer.model import VideoTokenizer
from videoar.training.checkpoint import load_models, model_place

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class PipelineSample(Sample):
    """A `Sample` that also gives pictures and files."""

    @property
    def frames(self) -> list[list[Image]]:
        """The frames of every video as PIL images."""
        from PIL.Image import fromarray

        return [[fromarray(frame) for frame in to_uint8(clip)] for clip in self.video.float()]

    def save(self, path: str | Path, index: int = 0, fps: float = 8.0) -> None:
        """Write video `index` as H.264 mp4."""
        write_mp4(path, self.video[index].float(), fps)


class VideoARPipeline:
    """Generator and tokenizer that belong together; frozen, eval mode.

    Raises:
        UserError: the tokenizer does not belong to the generator.
    """

    def __init__(self, generator: VideoAR, tokenizer: VideoTokenizer) -> None:
        check_pair(generator, tokenizer)
        self.generator = generator.requires_grad_(False).eval()
        self.tokenizer = tokenizer.requires_grad_(False).eval()

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None, **hub: Any
    ) -> Self:
        """From a folder with `generator/` and `tokenizer/`, a run's folder, a checkpoint, a shipped name or the hub.

        Args:
            path: of a run's folder the newest checkpoint is taken, of a checkpoint (.ckpt) its averaged weights.
            dtype, device: of the parameters; None: float32, and the CPU.
            hub: `revision`, `cache_dir`, `token`, `force_download`, `local_files_only`.

        Raises:
            UserError: as `VideoAR.from_pretrained`, or no tokenizer that belongs to the generator.
            TypeError: another keyword.
        """
        if model_place(path).is_file():
            if hub:
                raise TypeError(f"{path} is of this machine; {', '.join(hub)} only make sense for a model of the hub")
            pipeline = cls(*load_models(path))
        else:
            pipeline = cls(VideoAR.from_pretrained(path, **hub), VideoTokenizer.from_pretrained(path, **hub))
        return pipeline.to(device=device, dtype=dtype)

    def save_pretrained(
        self, folder: str | Path, max_shard_size: str = "5GB", *, push_to_hub: bool = False, **upload: Any
    ) -> str | None:
        """Write `generator/` and `tokenizer/` (safetensors and config.json), which `from_pretrained` reads.

        Args:
            push_to_hub: also upload them, to `repo_id` or else the folder's name; further keywords as `push_to_hub`.

        Returns:
            The commit's address if it was uploaded.
        """
        if upload and not push_to_hub:
            raise TypeError(f"save_pretrained takes {', '.join(upload)} only with push_to_hub=True")
        for network in (self.generator, self.tokenizer):
            network.save_pretrained(Path(folder) / network.part, max_shard_size)
        if not push_to_hub:
            return None
        return self.push_to_hub(upload.pop("repo_id", Path(folder).resolve().name), max_shard_size, **upload)

    def push_to_hub(self, repo_id: str, max_shard_size: str = "5GB", **upload: Any) -> str:
        """Upload both networks and a model card in one commit; returns its address.

        Args:
            upload: `private`, `token`, `commit_message`, `branch`, `create_pr`.
        """
        save = lambda folder: self.save_pretrained(folder, max_shard_size)  # noqa: E731
        return publish(repo_id, save, self.card(repo_id), **upload)

    def card(self, name: str) -> str:
        """The model card, Markdown."""
        c, t = self.generator.config, self.tokenizer.config
        known = f": {', '.join(c.class_names)}" if c.class_names else ""
        facts = {
            "generator": f"{self.generator.num_parameters():,} parameters",
            "tokenizer": f"{self.tokenizer.num_parameters():,} parameters",
            "trained at": f"{c.size[0]}x{c.size[1]} pixels",
            "condition": f"{c.num_classes} classes{known}" if c.condition == "class" else c.condition,
            "bits a token": c.latent_dim,
            "compression": f"{t.spatial_ratio}x in space, {t.temporal_ratio}x in time",
            "fingerprints": f"generator {self.generator.fingerprint()}, tokenizer {self.tokenizer.fingerprint()}",
        }
        label: str | int = c.class_names[0] if c.class_names else 0
        example = {"class": label, "none": None}.get(c.condition, "a red ball")
        usage = (
            "from videoar import VideoARPipeline\n\n"
            f'pipeline = VideoARPipeline.from_pretrained("{name}")\n'
            f'pipeline([{example!r}], frames=17, seed=0).save("sample.mp4")'
        )
        what = "Autoregressive video generation by next-frame and next-scale prediction (arXiv 2601.05966)."
        return model_card(name.rpartition("/")[2], what, usage, facts)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move or convert both networks, with the arguments of `torch.nn.Module.to`."""
        wanted = {name: value for name, value in kwargs.items() if value is not None}
        if args or wanted:
            self.generator.to(*args, **wanted)
            self.tokenizer.to(*args, **wanted)
        return self

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.generator.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the generator's parameters."""
        return self.generator.dtype

    def num_parameters(self) -> int:
        """Of both networks."""
        return self.generator.num_parameters() + self.tokenizer.num_parameters()

    def __repr__(self) -> str:
        size = "x".join(map(str, self.generator.config.size))
        return f"{type(self).__name__}({self.num_parameters():,} parameters, {size}, {self.device}, {self.dtype})"

    def __call__(
        self,
        condition: Labels,
        *,
        frames: int = 17,
        size: tuple[int, int] | None = None,
        prefix: Pixels | None = None,
        seed: int | Sequence[int] = 0,
        guidance: Guidance | float | str | None = None,
        temperature: float | Sequence[float] = 1.0,
        greedy: bool = False,
        progress: Progress | None = None,
        graphs: FrameGraphs | None = None,
    ) -> PipelineSample:
        """Sample one video for each entry of `condition`: class names or labels, or prompts.

        Args:
            prefix: an image or a clip to start from, in any form of `sampling.given.as_clips`: PIL images, uint8, or
                floats in [-1, 1]. One of another size is scaled to cover the video's, and its middle is taken.

        The other arguments are the fields of `Request`, explained there.

        Raises:
            UserError: as `generate`.
        """
        if isinstance(condition, (str, int)):
            raise UserError(f"conditions come as a list, one a sample: [{condition!r}]")
        size = size or self.generator.config.size
        given = None if prefix is None else _fitted(as_clips(prefix), size)
        settings = (frames, size, seed, guidance, temperature, greedy, given, progress, graphs)
        sample = generate(self.generator, self.tokenizer, condition, *settings)
        return PipelineSample(sample.video, sample.bits, sample.steps)


def _fitted(clips: Tensor, size: tuple[int, int]) -> Tensor:
    """Clips [B, 3, T, H, W] scaled to cover `size` and cut to its middle."""
    return (
        clips
        if tuple(clips.shape[-2:]) == tuple(size)
        else resize_video(clips.float(), size, "short_side_crop_antialias")
    )
