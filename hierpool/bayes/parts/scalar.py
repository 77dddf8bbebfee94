"""A parameter of the response's family beside the linear predictor: a shape, degrees of freedom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from hierpool.bayes.parts.part import Part, Vanishing, quantile
from hierpool.bayes.priors.power import scaled_prior
from hierpool.bayes.priors.prior import Prior, PriorRow
from hierpool.core.options import options, percent
from hierpool.core.theta import Theta

SPREADS: dict[str, Callable[[float], float]] = {  # what people think in; each falls with the number
    "shape": lambda shape: shape**-0.5,
    "precision": lambda precision: 0.5 * (1 + precision) ** -0.5,
    "nu": lambda nu: 2 * float(stats.t.sf(3, nu)),
}


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
        What the printed table says it is: of its value in ``SPREADS``, else of itself.
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
        said = self.prior.interval_in_words()
        if self.name in SPREADS:
            bound = SPREADS[self.name](float(self.prior.distribution.ppf(1 - options.prob)))
            said = f"{percent()} % below {bound:.3g}"
        what = self.meaning.replace("{response}", response)
        return [PriorRow(self.name, str(self.prior), f"{what}: {said}")]

    @property
    def vanishing(self) -> tuple[Vanishing, ...]:
        """Overdispersion, where the prior is one of 1 / sqrt(shape): 0 is the Poisson distribution."""
        return (Vanishing(0, ()),) if self.prior.of == "1/sqrt" else ()
