"""Counting memory without having it: networks of fake tensors, and a mode that adds up what is alive.

A fake tensor (torch's FakeTensorMode) has a shape, a dtype and a storage size, but no data. The real modules, losses,
autograd and optimizers run on them, in the order in which they would run on a device, and nothing is allocated.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from videoar.generator import model as generator_model


class LiveMemory(TorchDispatchMode):
    """Adds up the storages of all tensors made while it is on, fake or real, until they die.

    It sees operators, not kernels: scratch memory inside a kernel, the allocator's rounding and fragments, and the
    device's own context are not in it.

    Attributes:
        live: bytes alive now. peak: the most since the start or the last `restart`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: Any = WeakIdKeyDictionary()

    def restart(self) -> int:
        """Forget the peak; returns the bytes alive now."""
        self.peak = self.live
        return self.live

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known[storage] = size
        weakref.finalize(storage, self._free, size)
        self.live += size
        self.peak = max(self.peak, self.live)

    def _free(self, size: int) -> None:
        self.live -= size


@contextmanager
def counting() -> Iterator[LiveMemory]:
    """Inside, every new tensor is fake and counted."""
    with FakeTensorMode(), LiveMemory() as memory:
        generator_model._ids.cache_clear()  # fake ids must not leave, real ones not enter
        try:
            yield memory
        finally:
            generator_model._ids.cache_clear()
