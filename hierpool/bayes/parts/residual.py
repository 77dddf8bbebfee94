"""The residual's part of theta: sigma."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hierpool.bayes.parts.part import Part, quantile
from hierpool.bayes.priors.power import scaled_prior
from hierpool.bayes.priors.prior import Prior, PriorRow
from hierpool.core.theta import Theta


@dataclass(frozen=True)
class ResidualPart(Part):
    """Sigma, the residual standard deviation; nothing where those of the rows are known.

    Attributes
    ----------
    prior
        Prior of sigma; None where there is none to estimate.
    weights
        The user's column of weights, for the printed table; empty without one.
    """

    prior: Prior | None
    weights: str = ""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """``sigma``, if it is estimated."""
        return {} if self.prior is None else {"sigma": ()}

    @property
    def size(self) -> int:
        """One, or none."""
        return len(self.shapes)

    def values(self, z: np.ndarray, sigma: np.ndarray) -> dict[str, np.ndarray]:
        """Sigma at z (K, 1)."""
        return {} if self.prior is None else {"sigma": quantile(self.prior, z[:, 0])}

    @property
    def components(self) -> tuple[str, ...]:
        """``sigma``, if it is estimated."""
        return tuple(self.shapes)

    def power_scaled(self, component: str, power: float) -> ResidualPart:
        """The same with the prior of sigma raised to a power."""
        if self.prior is None or component not in self.components:
            return self
        return replace(self, prior=scaled_prior(self.prior, power))

    def log_priors(self, theta: Theta) -> dict[str, np.ndarray]:
        """Log prior density of sigma, shape (K,)."""
        if self.prior is None:
            return {}
        return {"sigma": self.prior.log_density_as_stated(theta.sigma)}

    def table(self, response: str, common: tuple[str, ...] = ()) -> list[PriorRow]:
        """One row, or none."""
        if self.prior is None:
            return []
        where = f" where {self.weights} is 1" if self.weights else ""
        what = f"residual sd of {response}{where}: {self.prior.interval_in_words()}"
        return [PriorRow("sigma", str(self.prior), what)]

    @property
    def scale_positions(self) -> tuple[int, ...]:
        """Of sigma."""
        return tuple(range(self.size))

    def scales(self, theta: Theta) -> np.ndarray:
        """Shape (K, 1): sigma."""
        return theta.sigma[:, None][:, : self.size]
