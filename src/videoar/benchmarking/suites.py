"""What `videoar benchmark` times: the models and their parts at one clip's shapes, with random weights.

Time does not depend on what the weights are. FLOPs are counted by running (matrix products, convolutions, attention);
bytes are the least a call must move: weights, inputs, outputs, and for sampling the KV cache.
"""

# B batch · T latent frames · L tokens · N heads · K head width · D bits per token

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videoar.benchmarking.measure import Case, count_flops
from videoar.benchmarking.sampling import sampling_cases
from videoar.benchmarking.setting import Setting
from videoar.benchmarking.timing import Workload, nbytes
from videoar.bits.corruption import CorruptionConfig, teacher_forcing
from videoar.bits.residual import decode_bits, quantize
from videoar.errors import UserError
from videoar.generator.config import GeneratorConfig
from videoar.generator.visibility import SequenceIds, dense_mask
from videoar.losses.bitwise import bitwise_loss
from videoar.training.optim import OptimConfig, make_optimizer


def tokenizer_cases(s: Setting) -> Iterator[Case]:
    """Encode, decode and one training step (reconstruction loss, AdamW; no discriminator)."""
    yield from tokenizer_inference(s)
    yield tokenizer_training(s)


def tokenizer_inference(s: Setting) -> Iterator[Case]:
    """Encode and decode a clip."""
    model = s.tokenizer(s.dtype).eval()
    video, latent = s.video(), s.latent().to(s.dtype)
    halves = {
        "encode": (partial(model.encode, video), model.encoder),
        "decode": (partial(model.decode, latent), model.decoder),
    }
    for name, (run, half) in halves.items():
        moved = nbytes(*half.parameters()) + nbytes(video, latent)
        yield _case("tokenizer", name, run, moved, s, "frames", s.batch * s.frames)


def tokenizer_training(s: Setting, compiled: bool = False) -> Case:
    """One training step of the tokenizer."""
    network, video = s.tokenizer(torch.float32).train(), s.video(torch.float32)
    if compiled:
        _compile(network.encoder, network.decoder)

    def loss() -> Tensor:
        codes = network.quantize(network.encode(video), straight_through=True)
        return F.l1_loss(network.decoder(codes.latent), video)

    return _training_case(
        "tokenizer", network, loss, s, "frames", s.batch * s.frames, "train_step" + "_compiled" * compiled
    )


def quantiser_cases(s: Setting) -> Iterator[Case]:
    """Latent → bits, bits → latent, and the corrupted context that the generator trains on; always float32."""
    latent, pyramid = s.latent(), s.pyramid
    bits = quantize(latent, pyramid).bits
    traffic = 3 * len(pyramid) * nbytes(latent)  # a scale reads the latent, reads and writes what is built
    jobs: dict[str, Callable[[], object]] = {
        "quantize": lambda: quantize(latent, pyramid),
        "decode_bits": lambda: decode_bits(bits, pyramid),
        "teacher_forcing": lambda: teacher_forcing(latent, pyramid, CorruptionConfig()),
    }
    for name, run in jobs.items():
        detail = f"latent {'x'.join(map(str, latent.shape))}, {len(pyramid)} scales"
        yield Case("quantiser", Workload(name, _frozen(run), 0, traffic, detail), "clips", s.batch)


def generator_cases(s: Setting) -> Iterator[Case]:
    """Teacher forcing and one training step over a whole clip; then attention backends."""
    yield generator_forward(s)
    yield generator_training(s)
    yield from attention_cases(s)


def generator_forward(s: Setting) -> Case:
    """Logits of a whole clip under teacher forcing."""
    model = s.generator(s.dtype).eval()
    lesson = model.lesson(s.latent(), s.pyramid)
    run = partial(model, lesson.tokens.to(s.dtype), s.labels(), s.pyramid, s.latent_frames, bits=lesson.targets)
    return _case("generator", "forward", run, nbytes(*model.parameters()), s, "tokens", s.tokens)


def generator_training(s: Setting, attention: Literal["sdpa", "flex"] = "sdpa", compiled: bool = False) -> Case:
    """One training step of the generator on given latents."""
    network = s.generator(torch.float32).train()
    lesson = network.lesson(s.latent(), s.pyramid)
    network.config.attention = attention
    if compiled:
        _compile(*network.blocks)
    labels, pyramid, frames = s.labels(), s.pyramid, s.latent_frames

    def loss() -> Tensor:
        logits = network(lesson.tokens, labels, pyramid, frames, bits=lesson.targets)
        return bitwise_loss(logits, lesson.targets, pyramid, frames).loss

    name = "train_step" if attention == "sdpa" else f"train_step_{attention}"
    return _training_case("generator", network, loss, s, "tokens", s.tokens, name + "_compiled" * compiled)


def attention_cases(s: Setting, frames: int | None = None) -> Iterator[Case]:
    """One layer's block-causal attention by each backend, forward and backward; FlexAttention needs a GPU for that.

    FLOPs are those of the visible pairs only, so that backends compare.
    """
    config, frames = GeneratorConfig.preset(s.preset), frames or s.latent_frames
    ids = SequenceIds.build(s.pyramid, frames, 1, s.device)
    mask = dense_mask(ids, ids, 0, 0, None, None)
    L, K = ids.frame.shape[0], config.width // config.heads
    q, k, v = (
        torch.randn(s.batch, config.heads, L, K, device=s.device, dtype=s.dtype, requires_grad=True) for _ in range(3)
    )
    dense: Callable[..., Tensor] = partial(F.scaled_dot_product_attention, attn_mask=mask)
    backends: dict[str, Callable[..., Tensor]] = {"naive": partial(_naive, mask=mask), "sdpa": dense}
    if s.device.type == "cuda":
        from videoar.generator.flex import FlexAttend

        backends["flex"] = partial(FlexAttend(ids, s.batch), 0)
    flops = 3 * 4 * s.batch * config.heads * K * int(mask.sum())
    for name, attend in backends.items():
        run = partial(_there_and_back, attend, q, k, v)
        detail = f"B {s.batch}, heads {config.heads}, L {L}, width {K}, forward and backward"
        load = Workload(f"attention_{name}_{L}", run, flops, 8 * nbytes(q), detail)
        yield Case("generator", load, "tokens", s.batch * L, s.dtype)


def data_cases(s: Setting) -> Iterator[Case]:
    """Decode a clip's frames from an H.264 file with every reader there is, and turn them into floats."""
    from videoar.data.readers import open_video
    from videoar.data.writers import write_mp4

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        smooth = F.interpolate(torch.rand(1, 3, s.frames, 8, 8) * 2 - 1, (s.frames, *s.size), mode="trilinear")[0]
        write_mp4(path, smooth, 24)

        def read(backend: str) -> Tensor:
            reader = open_video(path, backend)
            return reader.get(range(s.frames)).permute(3, 0, 1, 2).float().div_(127.5).sub_(1)

        for backend in ("decord", "pyav", "torchcodec"):
            try:
                out = nbytes(read(backend))
            except (UserError, ImportError):
                continue  # an optional reader that is not installed
            detail = f"{s.frames}x{s.size[0]}x{s.size[1]}, H.264, one file a call"
            load = Workload(backend, partial(read, backend), 0, out, detail, on_device=False)
            yield Case("data", load, "frames", s.frames)


SUITES: dict[str, Callable[[Setting], Iterator[Case]]] = {
    "quantiser": quantiser_cases,
    "data": data_cases,
    "generator": generator_cases,
    "sampling": sampling_cases,
    "tokenizer": tokenizer_cases,
}


def _compile(*parts: nn.Module) -> None:
    """Compile parts in place, as training does."""
    for part in parts:
        part.compile()


def _there_and_back(attend: Callable[..., Tensor], *qkv: Tensor) -> object:
    """Forward and backward of an attention."""
    return torch.autograd.grad(attend(*qkv).float().mean(), qkv)


def _naive(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention as it is written in papers."""
    scores = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1) @ v


def _frozen(run: Callable[[], object]) -> Callable[[], object]:
    """`run` without gradients."""
    return torch.no_grad()(run)


def _case(suite: str, name: str, run: Callable[[], object], moved: float, s: Setting, unit: str, amount: float) -> Case:
    """A case without gradients, its FLOPs counted."""
    return Case(suite, Workload(name, _frozen(run), count_flops(run), moved, s.shapes), unit, amount, s.dtype)


def _training_case(
    suite: str,
    network: nn.Module,
    loss: Callable[[], Tensor],
    s: Setting,
    unit: str,
    amount: float,
    name: str = "train_step",
) -> Case:
    """Forward, backward and AdamW with float32 weights, under autocast for a lower dtype.

    FLOPs are three times the forward pass (nothing is recomputed), so the share of the ceiling is the MFU. Bytes:
    weights read twice, gradients written, weights, gradients and two moments read and three of them written.
    """
    optimizer = make_optimizer(network, OptimConfig())
    mixed = torch.autocast(s.device.type, s.dtype, enabled=s.dtype != torch.float32)

    def step() -> Tensor:
        with mixed:
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        return value.detach()

    def forward() -> None:
        with mixed:
            loss()

    count = sum(p.numel() for p in network.parameters())
    load = Workload(name, step, 3 * count_flops(forward), 10 * 4 * count, f"{s.shapes}, {count / 1e6:.4g} M weights")
    return Case(suite, load, unit, amount, s.dtype)
