"""From a trained model to a folder that samples without PyTorch and without videoar: ONNX graphs, JSON and the runner.

OUT/model.json                  pyramid, class names, guidance schedules, shapes, fingerprints
OUT/condition.onnx …            the graphs of `serving.graphs`
OUT/weights.bin                 what they share: every weight once
OUT/runner.py, OUT/sample.py    numpy and onnxruntime: `python OUT/sample.py --label riverraid`
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videoar import __version__
from videoar.bits.pyramid import INTERLEAVED, Part
from videoar.errors import UserError
from videoar.files import atomic_folder
from videoar.generator.model import VideoAR
from videoar.sampling.guidance import PAPER, default_guidance
from videoar.sampling.pairing import check_pair
from videoar.serving import runner
from videoar.serving.graphs import ConditionGraph, EmbedGraph, GroupGraph, StepGraph, StreamGraph
from videoar.serving.shared import SharedWeights
from videoar.tokenizer.model import VideoTokenizer

OPSET = 18


def export_onnx(
    generator: VideoAR,
    tokenizer: VideoTokenizer,
    out: str | Path,
    size: tuple[int, int] | None = None,
    progress: Callable[[str], None] = lambda graph: None,
) -> Path:
    """Write the folder `out`, weights in float32 (`precision.smaller` makes a smaller one of it).

    Args:
        size: (height, width) of the videos in pixels; None: what the generator was trained at.
        progress: called with the name of every graph that is written; each takes seconds.

    Raises:
        UserError: `out` exists, onnx is missing, a size the tokenizer does not take, or a model that has parts no graph
            is written for: text conditions, raster order.
    """
    _check(generator, tokenizer)
    size = size or generator.config.size
    ratio = tokenizer.config.spatial_ratio
    if size[0] % ratio or size[1] % ratio or min(size) < ratio:
        raise UserError(f"{size[0]}x{size[1]} pixels are not multiples of {ratio}")
    with atomic_folder(out) as folder, torch.no_grad(), _quiet():
        generator, tokenizer = generator.cpu().float().eval(), tokenizer.cpu().float().eval()
        with SharedWeights(folder) as weights:
            for name, model in chain(_generator_graphs(generator), _tokenizer_graphs(tokenizer, size)):
                weights.save(model, name)
                progress(name)
        about = _description(generator, tokenizer, size)
        (folder / runner.DESCRIPTION).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        for file in ("runner.py", "sample.py"):
            shutil.copyfile(Path(runner.__file__).with_name(file), folder / file)
    return Path(out)


def _check(generator: VideoAR, tokenizer: VideoTokenizer) -> None:
    try:
        import onnx_ir  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"--onnx needs {error.name}: pip install 'videoar[onnx]'") from error
    check_pair(generator, tokenizer)
    config = generator.config
    if config.condition not in ("class", "none"):
        raise UserError(f"no ONNX graph is written for condition {config.condition!r}: only for classes and for none")
    if config.order == "raster":
        raise UserError("no ONNX graph is written for order 'raster': only for scales and the interleaved ones")


def _generator_graphs(generator: VideoAR) -> Iterator[tuple[str, Any]]:
    """Rows, tokens and past are free in every graph."""
    c = generator.config
    rows, tokens, past = (torch.export.Dim(name) for name in ("rows", "tokens", "past"))
    R, n, S, K = 2, 3, 5, c.width // c.heads
    labels, positions = torch.zeros(R, dtype=torch.long), torch.rand(n, 3)
    x, modulation = torch.rand(R, n, c.width), torch.rand(R, 1, 8, c.width)
    condition = ConditionGraph(generator)
    yield "condition", _graph(condition, {"labels": labels}, ["prefix", "modulation"], {"labels": {0: rows}})
    contexts = torch.rand(R, n, c.context_features)
    given = {"tokens": contexts, "scale": torch.tensor(0), "start": torch.tensor(False), "positions": positions}
    free: dict[str, Any] = {"tokens": {0: rows, 1: tokens}, "scale": {}, "start": {}, "positions": {0: tokens}}
    yield "embed", _graph(EmbedGraph(generator), given, ["x"], free)
    given = {"x": x, "positions": positions, "modulation": modulation, "past": torch.rand(S, c.depth, 2, R, c.heads, K)}
    free = {"x": {0: rows, 1: tokens}, "positions": {0: tokens}, "modulation": {0: rows}, "past": {0: past, 3: rows}}
    yield "step", _graph(StepGraph(generator), given, ["features", "new"], free)
    head: Any = generator.head
    if len(head.parts) == 1:
        yield "head", _graph(head, {"x": x}, ["logits"], {"x": {0: rows, 1: tokens}})
        return
    yield "head", _graph(head.read, {"input": x}, ["state"], {"input": {0: rows, 1: tokens}})
    given = {"state": torch.rand(R, n, head.read.out_features), "told": torch.rand(R, n, c.latent_dim)}
    free = {"state": {0: rows, 1: tokens}, "told": {0: rows, 1: tokens}, "index": {}}
    yield "group", _graph(GroupGraph(head), given | {"index": torch.tensor(0)}, ["logits"], free)


def _tokenizer_graphs(tokenizer: VideoTokenizer, size: tuple[int, int]) -> Iterator[tuple[str, Any]]:
    """The batch is free; frames and sizes are fixed."""
    c = tokenizer.config
    grid = size[0] // c.spatial_ratio, size[1] // c.spatial_ratio
    networks = {
        "encoder": (tokenizer.encoder, (3, 1, *size), (3, c.temporal_ratio, *size)),
        "decoder": (tokenizer.decoder, (c.latent_dim, 1, *grid), (c.latent_dim, 1, *grid)),
    }
    batch = torch.export.Dim("batch")
    for name, (network, first, later) in networks.items():
        graph = StreamGraph(network, clamp=name == "decoder")
        state: tuple[Tensor, ...] = graph(torch.zeros(2, *first))[1:]
        names = ["y", *(f"state_{i}" for i in range(len(state)))]
        yield f"{name}_first", _stream_graph(graph, torch.rand(2, *first), (), names, batch)
        yield f"{name}_next", _stream_graph(graph, torch.rand(2, *later), state, names, batch)


def _stream_graph(graph: nn.Module, x: Tensor, state: tuple[Tensor, ...], names: list[str], batch: Any) -> Any:
    shapes = {"x": {0: batch}} | ({"state": tuple({0: batch} for _ in state)} if state else {})
    inputs = ["x", *(f"{name}_before" for name in names[1 : 1 + len(state)])]
    return _program(graph, (x, *state), inputs, names, shapes)


def _graph(module: nn.Module, given: dict[str, Tensor], outputs: list[str], shapes: dict[str, Any]) -> Any:
    return _program(module, tuple(given.values()), list(given), outputs, shapes)


def _program(module: nn.Module, given: tuple[Tensor, ...], inputs: list[str], outputs: list[str], shapes: Any) -> Any:
    """One graph as an onnx_ir model."""
    program = torch.onnx.export(
        module.eval(),
        given,
        dynamo=True,
        opset_version=OPSET,
        input_names=inputs,
        output_names=outputs,
        dynamic_shapes=shapes,
        verbose=False,
    )
    assert program is not None
    return program.model


def _description(generator: VideoAR, tokenizer: VideoTokenizer, size: tuple[int, int]) -> dict[str, Any]:
    """All that the runner must know and no graph says."""
    g, t, pyramid = generator.config, tokenizer.config, tokenizer.pyramid(*size)
    classes = g.num_classes if g.condition == "class" else 0
    return {
        "videoar": __version__,
        "format": runner.FORMAT,
        "opset": OPSET,
        "weights": "float32",
        "generator": generator.fingerprint(),
        "tokenizer": tokenizer.fingerprint(),
        "size": list(size),
        "temporal_ratio": t.temporal_ratio,
        "bits": g.latent_dim,
        "pyramid": [list(grid) for grid in pyramid.grids],
        "passes": [[_cells(part) for part in pyramid.parts(k, g.order)] for k in range(len(pyramid))],
        "groups": len(generator.head.parts),
        "neighbours": g.order in INTERLEAVED,
        "classes": classes,
        "class_names": list(g.class_names),
        "cache": [g.depth, 2, g.heads, g.width // g.heads],
        "window": g.window,
        "sinks": g.sinks,
        "temporal_context": g.temporal_context,
        "normalised_positions": g.normalised_positions,
        "guidance": default_guidance(g.condition),
        "schedules": {name: asdict(schedule) for name, schedule in PAPER.items()},
    }


def _cells(part: Part) -> list[int]:
    """[first row, step, first column, step]."""
    return [number for axis in part for number in (axis.start, axis.step or 1)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes to its own developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
