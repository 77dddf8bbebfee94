"""The part of a structure of the residuals: parameters of their correlation, weights of log sds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hierpool.bayes.parts.group_term import partial_correlations
from hierpool.bayes.parts.part import Part
from hierpool.bayes.priors.prior import PriorRow
from hierpool.core.errors import PriorError
from hierpool.core.theta import Theta

CORRELATION, SPREAD = "residual_correlation", "residual_spread"


@dataclass(frozen=True)
class ResidualStructurePart(Part):
    """Parameters of the correlation between their bounds, and normal weights of log sds.

    Attributes
    ----------
    words
        The structure as typed, for the printed table.
    lower, shapes
        Shapes (m,): where each parameter of the correlation begins (it ends at 1), and a of its
        Beta(a, a) prior between the bounds.
    spread_sd
        Shape (k,): prior sds of the weights.
    """

    words: str
    lower: np.ndarray
    shapes_of_beta: np.ndarray
    spread_sd: np.ndarray

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameters and weights, where there are any."""
        sizes = {CORRELATION: len(self.lower), SPREAD: len(self.spread_sd)}
        return {name: (size,) for name, size in sizes.items() if size}

    @property
    def size(self) -> int:
        """All of them."""
        return len(self.lower) + len(self.spread_sd)

    def values(self, z: np.ndarray, sigma: np.ndarray) -> dict[str, np.ndarray]:
        """Both at z (K, size)."""
        m = len(self.lower)
        between = partial_correlations(z[:, :m], self.shapes_of_beta)
        found = {
            CORRELATION: self.lower + (1 - self.lower) * (1 + between) / 2,
            SPREAD: z[:, m:] * self.spread_sd,
        }
        return {name: found[name] for name in self.shapes}

    def phi(self, theta: Theta) -> np.ndarray:
        """Shape (K, size): parameters as ``RowStructure`` orders them."""
        return np.concatenate([theta.values[name] for name in self.shapes], axis=1)

    @property
    def components(self) -> tuple[str, ...]:
        """Correlations, and weights."""
        return tuple(self.shapes)

    def power_scaled(self, component: str, power: float) -> ResidualStructurePart:
        """The same with the prior of one of the two raised to a power."""
        if component == SPREAD:
            return replace(self, spread_sd=self.spread_sd / np.sqrt(power))
        if component != CORRELATION:
            return self
        shapes = 1 + power * (self.shapes_of_beta - 1)
        if (shapes <= 0).any():
            raise PriorError(
                f"the prior of the correlation of residuals raised to the power {power:g} is no "
                "distribution",
                "prior-parameters",
            )
        return replace(self, shapes_of_beta=shapes)

    def log_priors(self, theta: Theta) -> dict[str, np.ndarray]:
        """Log prior densities of both, shapes (K,), up to a constant."""
        out: dict[str, np.ndarray] = {}
        if len(self.lower):
            phi = theta.values[CORRELATION]
            each = (self.shapes_of_beta - 1) * (np.log(phi - self.lower) + np.log(1 - phi))
            out[CORRELATION] = each.sum(axis=1)
        if len(self.spread_sd):
            out[SPREAD] = -0.5 * np.square(theta.values[SPREAD] / self.spread_sd).sum(axis=1)
        return out

    def table(self, response: str, common: tuple[str, ...] = ()) -> list[PriorRow]:
        """One row for the correlations, one for the sds."""
        rows = []
        if len(self.lower):
            flat = bool((self.shapes_of_beta == 1).all())
            prior = f"Uniform({self.lower.max():.3g}, 1)" if flat else "LKJ(eta=1)"
            rows.append(PriorRow("residual correlation", prior, f"residuals: {self.words}"))
        if len(self.spread_sd):
            is_by_class = bool(np.isclose(self.spread_sd[0], np.sqrt(0.5)))
            prior = "Normal(mu=0, sigma=1)" if is_by_class else "Normal(mu=0, sigma=0.5)"
            what = (
                "log ratio of two residual sds"
                if is_by_class
                else "log residual sd per sd of column"
            )
            rows.append(PriorRow("residual spread", prior, f"{what}: {self.words}"))
        return rows
