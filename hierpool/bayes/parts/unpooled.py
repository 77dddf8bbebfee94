"""The part of a group term whose covariance is given: no pooling."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hierpool.bayes.parts.part import GroupPart
from hierpool.bayes.priors.coefficients import CoefficientPriors
from hierpool.bayes.priors.prior import PriorRow
from hierpool.core.coding import Coding
from hierpool.core.theta import Theta


@dataclass(frozen=True)
class UnpooledPart(GroupPart):
    """Coefficients of each level under independent priors: a covariance with nothing to estimate.

    Attributes
    ----------
    factor
        The factor over whose levels they vary.
    coefficients
        Priors of each level's coefficients.
    """

    factor: str
    coefficients: CoefficientPriors

    @property
    def coding(self) -> Coding:  # type: ignore[override]
        """The coordinates of the priors."""
        return self.coefficients.coding

    @property
    def terms(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the columns."""
        return self.coefficients.terms

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Nothing of theta."""
        return {}

    @property
    def size(self) -> int:
        """Zero."""
        return 0

    def values(self, z: np.ndarray, sigma: np.ndarray) -> dict[str, np.ndarray]:
        """Nothing."""
        return {}

    def root(self, theta: Theta) -> np.ndarray:
        """Shape (K, q, q): the prior sds of the coefficients on the diagonal."""
        root = np.diag(self.coefficients.sd)
        return np.broadcast_to(root, (len(theta), *root.shape))

    @property
    def mean(self) -> np.ndarray:
        """Shape (q,): prior means of the coefficients."""
        return self.coefficients.mean

    @property
    def components(self) -> tuple[str, ...]:
        """The coefficients' own prior."""
        return (f"coef_{self.factor}",)

    def power_scaled(self, component: str, power: float) -> UnpooledPart:
        """The same with the coefficients' priors raised to a power."""
        if component not in self.components:
            return self
        return replace(self, coefficients=self.coefficients.power_scaled(power))

    def log_priors(self, theta: Theta) -> dict[str, np.ndarray]:
        """Nothing of theta has a prior here."""
        return {}

    def table(self, response: str, common: tuple[str, ...] = ()) -> list[PriorRow]:
        """One row a coefficient."""
        return self.coefficients.table(f"coef_{self.factor}", response, common)
