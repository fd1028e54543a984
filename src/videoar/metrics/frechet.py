"""Fréchet video distance from streaming float64 moments.

    d² = |μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2·tr (Σ₁Σ₂)^½

With Σ = A·Aᵀ the last trace is the nuclear norm of A₁ᵀ·A₂. A comes from a symmetric eigen-decomposition whose noise
eigenvalues are cut off, and the norm from singular values: no square root of a non-symmetric matrix (which turns
complex or drifts when samples < features), and no squared spectrum, so FVD(x, x) = 0 to float64 round-off.
"""

# B batch · T frames · H W pixels · d feature width

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric

from videoar.metrics.features.base import FeatureNet


@dataclass(frozen=True)
class Moments:
    """Sums over N feature vectors, enough for a Gaussian; two sets of moments merge by `+`.

    Attributes:
        count: N, float64 scalar.
        total: Σx, float64 [d].
        outer: Σx·xᵀ, float64 [d, d].
    """

    count: Tensor
    total: Tensor
    outer: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Moments of feature vectors [N, d]."""
        x = features.double()
        return cls(x.new_full((), len(x)), x.sum(0), x.T @ x)

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.count + other.count, self.total + other.total, self.outer + other.outer)

    @property
    def mean(self) -> Tensor:
        """μ, [d]."""
        return self.total / self.count

    def covariance(self, unbiased: bool = True) -> Tensor:
        """Σ, [d, d]: divided by N − 1, or by N (StyleGAN-V, LARP)."""
        centred = self.outer - torch.outer(self.total, self.total) / self.count
        return (centred + centred.T) / (2 * (self.count - 1 if unbiased else self.count))


def _factor(covariance: Tensor) -> Tensor:
    """A with A·Aᵀ = Σ, [d, d]; eigenvalues below d·eps·λmax are round-off and become 0."""
    values, vectors = torch.linalg.eigh(covariance)
    floor = values[-1].clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    return vectors * torch.where(values > floor, values, 0).sqrt()


def frechet_distance(a: Moments, b: Moments, unbiased: bool = True) -> Tensor:
    """Squared Fréchet distance between the Gaussians of two sets of features, float64 scalar ≥ 0.

    Raises:
        ValueError: fewer than 2 vectors in a set, or different feature widths.
    """
    for name, moments in (("first", a), ("second", b)):
        if moments.count < 2:
            raise ValueError(f"a Fréchet distance needs at least 2 videos a set; the {name} has {int(moments.count)}")
    if a.total.shape != b.total.shape:
        raise ValueError(f"feature widths differ: {len(a.total)} and {len(b.total)}")
    sigma_a, sigma_b = a.covariance(unbiased), b.covariance(unbiased)
    cross = torch.linalg.svdvals(_factor(sigma_a).T @ _factor(sigma_b)).sum()
    distance = (a.mean - b.mean).square().sum() + sigma_a.trace() + sigma_b.trace() - 2 * cross
    return distance.clamp(min=0)


class FrechetVideoDistance(Metric):
    """FVD over a feature network, e.g. `load_features("i3d", path)`; rFVD and gFVD differ only in what is fed.

    Args:
        features: the network; not part of the module tree, so it never enters a checkpoint.
        unbiased: covariance over N − 1 (True) or N.
        keep_real: let `reset` keep the moments of the real videos, which never change between validations.

    `compute` warns when a set has no more videos than features: the covariance is then singular and the distance
    strongly biased, so that only equal counts may be compared.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    real_count: Tensor
    real_total: Tensor
    real_outer: Tensor
    fake_count: Tensor
    fake_total: Tensor
    fake_outer: Tensor

    def __init__(self, features: FeatureNet, unbiased: bool = True, keep_real: bool = False) -> None:
        super().__init__()
        self.features = features
        self.unbiased = unbiased
        self.keep_real = keep_real
        d = features.dim
        for side in ("real", "fake"):
            for name, shape in (("count", ()), ("total", (d,)), ("outer", (d, d))):
                zeros = torch.zeros(shape, dtype=torch.float64)
                self.add_state(f"{side}_{name}", zeros, dist_reduce_fx="sum")

    def update(self, video: Tensor, real: bool) -> None:
        """Add videos [B, 3, T, H, W] in [-1, 1] to the real or the generated set."""
        self.add(Moments.of(self.features(video)), real)

    def add(self, moments: Moments, real: bool) -> None:
        """Add moments computed elsewhere, e.g. cached ones; with several ranks on one rank only, since ranks add up."""
        if moments.total.shape != self.real_total.shape:
            raise ValueError(f"moments of width {len(moments.total)} for {self.features.dim} features")
        side = "real" if real else "fake"
        for name in ("count", "total", "outer"):
            getattr(self, f"{side}_{name}").add_(getattr(moments, name).to(self.device))
        self._update_count += 1
        self._computed = None

    def moments(self, real: bool) -> Moments:
        """What was accumulated for one side."""
        side = "real" if real else "fake"
        return Moments(*(getattr(self, f"{side}_{name}") for name in ("count", "total", "outer")))

    def compute(self) -> Tensor:
        """FVD, float64 scalar. Raises ValueError with fewer than 2 videos on a side."""
        real, fake = self.moments(True), self.moments(False)
        small = int(min(real.count, fake.count))
        if small <= self.features.dim:
            warnings.warn(
                f"FVD of {int(real.count)} real and {int(fake.count)} generated videos with {self.features.dim} "
                "features: the covariance is singular and the distance biased upwards; compare equal counts only",
                stacklevel=2,
            )
        return frechet_distance(real, fake, self.unbiased)

    def reset(self) -> None:
        """Forget the generated videos, and the real ones unless `keep_real`."""
        real = self.moments(True) if self.keep_real else None
        super().reset()
        if real is not None and real.count > 0:
            self.add(real, real=True)
