"""A parameter of the response's family beside the linear predictor: a shape, degrees of freedom."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hierpool.bayes.parts.part import Part, Vanishing, quantile
from hierpool.bayes.priors.power import scaled_prior
from hierpool.bayes.priors.prior import Prior, PriorRow
from hierpool.core.theta import Theta


@dataclass(frozen=True)
class ScalarPart(Part):
    """One number of theta under a prior of its own.

    Attributes
    ----------
    name
        As in the posterior: ``shape``, ``nu``, ``precision``, ``zero_inflation``, ``hurdle``.
    prior
        Its prior.
    meaning
        What it is, for the printed table.
    """

    name: str
    prior: Prior
    meaning: str

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The number itself."""
        return {self.name: ()}

    @property
    def size(self) -> int:
        """One."""
        return 1

    def values(self, z: np.ndarray, sigma: np.ndarray) -> dict[str, np.ndarray]:
        """The number at z (K, 1)."""
        return {self.name: quantile(self.prior, z[:, 0])}

    @property
    def components(self) -> tuple[str, ...]:
        """Its name."""
        return (self.name,)

    def power_scaled(self, component: str, power: float) -> ScalarPart:
        """The same with its prior raised to a power."""
        if component != self.name:
            return self
        return replace(self, prior=scaled_prior(self.prior, power))

    def log_priors(self, theta: Theta) -> dict[str, np.ndarray]:
        """Log prior density, shape (K,), of what the prior is stated of."""
        return {self.name: self.prior.log_density_as_stated(theta.values[self.name])}

    def table(self, response: str, common: tuple[str, ...] = ()) -> list[PriorRow]:
        """One row."""
        what = f"{self.meaning} of {response}: {self.prior.interval_in_words()}"
        return [PriorRow(self.name, str(self.prior), what)]

    @property
    def vanishing(self) -> tuple[Vanishing, ...]:
        """Overdispersion, where the prior is one of 1 / sqrt(shape): 0 is the Poisson distribution."""
        return (Vanishing(0, ()),) if self.prior.of == "1/sqrt" else ()
