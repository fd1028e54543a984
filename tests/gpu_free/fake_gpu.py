"""A GPU that is not there: fake CUDA tensors with the real dispatch, dtypes and autocast, and what the host waits for.

FakeTensorMode runs the operations of CUDA tensors without kernels: shapes, dtypes and devices are those of a GPU, a
device mismatch is an error. `FakeGPU` also answers what a host would have to wait for, and writes it down:

    read     a value is read back: `.item()`, `bool(...)`, `float(...)`
    fetch    a tensor is copied to the host
    send     a tensor is copied to the device from memory that is not pinned, or blocking

The autograd engine of a CUDA build asks the driver, so there is no backward pass: gradients are given (`backward`).
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from videoar.callbacks.stage_switch import StageSwitch
from videoar.generator.model import _ids
from videoar.tokenizer.model import TokenizerConfig

aten = torch.ops.aten
CUDA = torch.device("cuda", 0)
STEPS = 4
TOKENIZER = TokenizerConfig(latent_dim=8, channels=8, multipliers=(1, 1, 2), res_blocks=1, norm_groups=4)


class FakeGPU(TorchDispatchMode):
    """Inside: `torch.device("cuda")` exists, without values.

    Attributes:
        waits: (kind, line of videoar or of a library) of everything the host waited for.
        dtypes: name of an operation → dtypes of its inputs, for those named in `watch`.
        count: operations so far.
    """

    def __init__(self, watch: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.waits: list[tuple[str, str]] = []
        self.dtypes: dict[str, list[tuple[torch.dtype, ...]]] = {name: [] for name in watch}
        self.count = 0
        self.fake = FakeTensorMode()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.count += 1
        name = func.name().removeprefix("aten::").split(".")[0]
        tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if name in self.dtypes:
            self.dtypes[name].append(tuple(x.dtype for x in tensors))
        if func is aten._local_scalar_dense.default:
            if tensors[0].is_cuda:
                self._wait("read")
            return {torch.bool: True}.get(tensors[0].dtype, 0.5 if tensors[0].is_floating_point() else 1)
        if func is aten._pin_memory.default:
            pinned = args[0].clone()
            pinned.pinned = True
            return pinned
        if func is aten.is_pinned.default:
            return getattr(args[0], "pinned", False)
        result = func(*args, **kwargs)
        if name in ("_to_copy", "copy_") and isinstance(result, Tensor):
            source, target = (args[1], args[0]) if name == "copy_" else (args[0], result)
            quiet = kwargs.get("non_blocking", False) or (name == "copy_" and args[2:] == (True,))
            if source.is_cuda and not target.is_cuda:
                self._wait("fetch")
            elif target.is_cuda and not source.is_cuda and not (quiet and getattr(source, "pinned", False)):
                self._wait("send")
        return result

    def _wait(self, kind: str) -> None:
        frames = [f for f in traceback.extract_stack() if "site-packages/torch" not in f.filename]
        ours = [f for f in frames if "videoar" in Path(f.filename).parts] or frames
        self.waits.append((kind, f"{Path(ours[-1].filename).name}:{ours[-1].lineno} {ours[-1].line}"))


class Stream:
    """A stream of work, without any."""

    def __init__(self, device: Any = None) -> None: ...

    def wait_stream(self, other: Stream) -> None: ...


@contextlib.contextmanager
def fake_gpu(monkeypatch: Any, watch: tuple[str, ...] = ()) -> Iterator[FakeGPU]:
    """A fake GPU for the block; `torch.autocast("cuda")`, pinned memory and random generators work as on a real one."""
    gpu, generator = FakeGPU(watch), torch.Generator
    _ids.cache_clear()
    with monkeypatch.context() as patch, gpu.fake, gpu:
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
        patch.setattr(torch, "Generator", lambda device="cpu": generator())
        patch.setattr(torch.Tensor, "pin_memory", lambda x, device=None: aten._pin_memory.default(x))
        patch.setattr(torch.Tensor, "backward", backward)
        patch.setattr(
            torch.autograd, "grad", lambda outputs, inputs, *_, **__: [torch.zeros_like(x) for x in _list(inputs)]
        )
        patch.setattr(torch.Tensor, "__deepcopy__", lambda x, memo: x.detach().clone())  # torchmetrics copies states
        patch.setattr(torch.cuda, "current_stream", lambda *_: Stream())
        patch.setattr(torch.cuda, "Stream", Stream)
        patch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
        patch.setattr(torch.Tensor, "record_stream", lambda *_: None)
        yield gpu
    _ids.cache_clear()  # fake tensors belong to one block


def moved(module: nn.Module) -> nn.Module:
    """A module on the fake GPU (inside its block; `module.to("cuda")` cannot exchange fake tensors for real ones)."""
    for part in module.modules():
        for name, p in part._parameters.items():
            if p is not None:
                fake = torch.empty_strided(p.shape, p.stride(), dtype=p.dtype, device=CUDA)
                part._parameters[name] = nn.Parameter(fake, requires_grad=p.requires_grad)
        for name, b in part._buffers.items():
            if b is not None:
                part._buffers[name] = torch.empty_strided(b.shape, b.stride(), dtype=b.dtype, device=CUDA)
    return module


def _list(x: Any) -> list[Tensor]:
    return [x] if isinstance(x, Tensor) else list(x)


def backward(loss: Tensor, *_: Any, **__: Any) -> None:
    """Every leaf that the loss depends on gets a gradient."""
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
        if (leaf := getattr(node, "variable", None)) is not None:
            leaf.grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad + 1


class OnFakeGPU(SingleDeviceStrategy):
    """One device that has no accelerator; modules are built on it."""

    def __init__(self):
        super().__init__(
            torch.device("cuda", 0), CPUAccelerator(), precision_plugin=MixedPrecision("bf16-mixed", "cuda")
        )

    def setup_environment(self):
        pass

    def model_to_device(self):
        pass

    def teardown(self):
        pass


def batches(count: int, pixels: bool = True) -> list[dict[str, Any]]:
    """Batches as a loader hands them over, in pinned memory."""
    batch = {"label": torch.tensor([1, -1]), "caption": ["a ball", ""], "path": ["x", "y"]}
    batch |= {"video": torch.zeros(2, 3, 5, 32, 32)} if pixels else {"latent": torch.zeros(2, 8, 2, 8, 8)}
    for value in batch.values():
        if isinstance(value, torch.Tensor):
            value.pinned = True  # as a loader's batches are
    return [batch] * count


class Waits(lightning.Callback):
    """What the host waited for in each training step, until the next one begins."""

    def __init__(self, gpu):
        self.gpu, self.steps = gpu, []

    def on_train_batch_start(self, *_):
        self.steps.append([])
        self.gpu.waits = self.steps[-1]


def train(
    gpu: FakeGPU, module: Any, data: Any, folder: Path, callbacks: Any = (), **options: Any
) -> list[list[tuple[str, str]]]:
    """What the host waited for in each of STEPS training steps."""
    waits = Waits(gpu)
    options = {"log_every_n_steps": 1000, "logger": False, "enable_progress_bar": False} | options
    trainer = lightning.Trainer(
        strategy=OnFakeGPU(),
        callbacks=[waits, StageSwitch(), *callbacks],
        max_steps=STEPS,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        **options,
    )
    trainer.fit(module, DataLoader(data, batch_size=None))
    assert trainer.global_step == STEPS == module.ema.updates
    assert all(p.is_cuda and p.dtype == torch.float32 for p in module.network.parameters())
    assert all(average.is_cuda for average in module.ema.weights.values())
    return waits.steps
