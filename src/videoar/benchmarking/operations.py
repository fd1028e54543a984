"""Operations that the host launches one after the other: what a step costs before any of them has run.

A GPU is fed by the host, which takes some microseconds an operation. They are counted on fake CUDA tensors, where
nothing is computed, so waste shows on every machine. Views count too: they launch no kernel, but take the host's time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from videoar.benchmarking.fakes import fake
from videoar.benchmarking.setting import Setting
from videoar.generator.model import VideoAR
from videoar.sampling.guidance import Guidance
from videoar.sampling.request import LatentRequest, SamplingOptions
from videoar.sampling.sampler import LatentSampler
from videoar.tokenizer.model import VideoTokenizer


class Operations(TorchDispatchMode):
    """Counts operations by name while it is on. Questions to a tensor (`prim::device`) are none."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name().startswith("aten::"):
            self.names[func.name().removeprefix("aten::").split(".")[0]] += 1
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        """All of them."""
        return self.names.total()


class FusedAttention(TorchFunctionMode):
    """Attention as the one operation that it is on a GPU; without one PyTorch takes it apart. Its result is empty."""

    def __init__(self, operations: Operations) -> None:
        super().__init__()
        self.operations = operations

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        before = self.operations.names.copy()
        result = torch.empty_like(args[0])
        self.operations.names = before + Counter(scaled_dot_product_attention=1)
        return result


def count_operations(run: Callable[[], Any]) -> Operations:
    """The operations of a call, which must not need the result of an attention."""
    with Operations() as operations, FusedAttention(operations):
        run()
    return operations


@torch.no_grad()
def inference_operations(setting: Setting) -> dict[str, int]:
    """Operations of guided sampling and of the tokenizer with bfloat16 weights on a GPU, for one batch of clips.

    Returns:
        `sampling step`: mean over the transformer calls of a clip, with all that the loop does around them;
        `sampling, clip`: all of them; `encode`, `decode`: of the tokenizer, for the clip.
    """
    s = replace(setting, device=torch.device("cuda"))
    options = SamplingOptions(Guidance.of(s.guidance))
    with FakeTensorMode():
        generator = fake(lambda: VideoAR(s.generator_config), torch.bfloat16, "cuda").eval()
        tokenizer = fake(lambda: VideoTokenizer(s.tokenizer_config), torch.bfloat16, "cuda").eval()
        asked = LatentRequest(s.labels(), s.pyramid, s.latent_frames, range(s.batch), options)
        sampler = LatentSampler(generator, asked)
        video, latent = s.video(torch.bfloat16), s.latent().bfloat16()

        def loop() -> None:
            for t in range(s.latent_frames):
                sampler.cache.begin_frame(t)
                sampler._sample_frame(t)

        clip = count_operations(loop).total
        return {
            "sampling step": round(clip / s.steps),
            "sampling, clip": clip,
            "encode": count_operations(lambda: tokenizer.encode(video)).total,
            "decode": count_operations(lambda: tokenizer.decode(latent)).total,
        }
