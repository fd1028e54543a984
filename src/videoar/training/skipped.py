"""Steps whose gradients are not finite: counted on the device, so that the host need not wait for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from videoar.errors import UserError

log = logging.getLogger(__name__)
MAX_SKIPPED = 100


class SkippedSteps:
    """How many steps of each network were skipped, in all and in a row.

    Args:
        earlier: what the run before a checkpoint had skipped, by network.
    """

    def __init__(self, earlier: Mapping[str, int] | None = None) -> None:
        self._counts = {name: torch.tensor([count, 0]) for name, count in (earlier or {}).items()}
        self._warned = dict(earlier or {})

    def add(self, name: str, finite: Tensor) -> None:
        """Count one step of a network: skipped, unless the bool `finite` is true."""
        counts = self._counts.get(name, torch.zeros(2, dtype=torch.long, device=finite.device)).to(finite.device)
        self._counts[name] = counts
        counts += ~finite  # in all
        counts[1] *= ~finite  # in a row

    @property
    def counts(self) -> dict[str, Tensor]:
        """Of each network [skipped in all, in a row], where they were counted."""
        return dict(self._counts)

    @property
    def in_all(self) -> dict[str, int]:
        """Skipped steps of each network that has any; waits for the device."""
        return {name: int(counts[0]) for name, counts in self._counts.items() if counts[0] > 0}

    def look(self, name: str, counts: Tensor, batch: int) -> None:
        """Warn of new ones, at training batch number `batch`.

        Args:
            counts: those of the network, on the CPU.

        Raises:
            UserError: MAX_SKIPPED steps of the network in a row were skipped.
        """
        in_all, in_a_row = (int(count) for count in counts)
        if in_all > self._warned.get(name, 0):
            said = "batch %d: gradients of the %s were not finite, %d steps skipped so far"
            log.warning(said, batch, name, in_all)
        self._warned[name] = in_all
        if in_a_row >= MAX_SKIPPED:
            raise UserError(
                f"{MAX_SKIPPED} steps of the {name} in a row had gradients that are not finite"
                f" (batch {batch}); lower the learning rate or the GAN weight"
            )
