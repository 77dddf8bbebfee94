"""The part of a structure of the residuals: their correlation, weights of log sds, a random scale."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hierpool.bayes.parts.group_term import partial_correlations
from hierpool.bayes.parts.part import Part, Vanishing, quantile
from hierpool.bayes.priors.power import scaled_prior
from hierpool.bayes.priors.prior import Prior, PriorRow
from hierpool.core.errors import PriorError
from hierpool.core.theta import Theta

CORRELATION, SPREAD = "residual_correlation", "residual_spread"
SCALE, DEVIATION = "sd_log_sigma", "residual_deviation"


@dataclass(frozen=True)
class ResidualStructurePart(Part):
    """Parameters of the correlation between their bounds, and normal weights of log sds.

    Of a random scale omega, and the standard normal s_j of each group: its log sd deviates by
    omega s_j.

    Attributes
    ----------
    words
        The structure as typed, for the printed table.
    lower, shapes
        Shapes (m,): where each parameter of the correlation begins (it ends at 1), and a of its
        Beta(a, a) prior between the bounds.
    spread_sd
        Shape (k,): prior sds of the weights.
    scale
        Prior of omega; None without a random scale.
    n_levels
        Groups with an s_j of their own in theta.
    """

    words: str
    lower: np.ndarray
    shapes_of_beta: np.ndarray
    spread_sd: np.ndarray
    scale: Prior | None = None
    n_levels: int = 0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameters, weights, omega and s, where there are any."""
        sizes = {CORRELATION: len(self.lower), SPREAD: len(self.spread_sd)}
        found: dict[str, tuple[int, ...]] = {k: (size,) for k, size in sizes.items() if size}
        if self.scale is not None:
            found[SCALE] = ()
        return {**found, DEVIATION: (self.n_levels,)} if self.n_levels else found

    @property
    def size(self) -> int:
        """All of them."""
        return self._first_of_scale + (self.scale is not None) + self.n_levels

    @property
    def _first_of_scale(self) -> int:
        return len(self.lower) + len(self.spread_sd)

    @property
    def collapsed(self) -> ResidualStructurePart:
        """The same with the groups' s_j integrated out."""
        return replace(self, n_levels=0)

    def values(self, z: np.ndarray, sigma: np.ndarray) -> dict[str, np.ndarray]:
        """Both at z (K, size)."""
        m, first = len(self.lower), self._first_of_scale
        between = partial_correlations(z[:, :m], self.shapes_of_beta)
        found = {
            CORRELATION: self.lower + (1 - self.lower) * (1 + between) / 2,
            SPREAD: z[:, m:first] * self.spread_sd,
            DEVIATION: z[:, first + 1 :],
        }
        if self.scale is not None:
            found[SCALE] = quantile(self.scale, z[:, first])
        return {name: found[name] for name in self.shapes}

    def phi(self, theta: Theta) -> np.ndarray:
        """Shape (K, size): parameters as ``RowStructure`` orders them; deviations if theta has them."""
        v = theta.values
        found = [v[name] for name in (CORRELATION, SPREAD) if name in self.shapes]
        if self.scale is not None:
            omega = v[SCALE][:, None]
            found += [omega, omega * v[DEVIATION]] if DEVIATION in v else [omega]
        return np.concatenate(found, axis=1)

    @property
    def components(self) -> tuple[str, ...]:
        """Correlations, weights, and omega."""
        return tuple(name for name in self.shapes if name != DEVIATION)

    @property
    def vanishing(self) -> tuple[Vanishing, ...]:
        """Omega, where it is estimated."""
        return () if self.scale is None else (Vanishing(self._first_of_scale, ()),)

    def power_scaled(self, component: str, power: float) -> ResidualStructurePart:
        """The same with the prior of one of the two raised to a power."""
        if component == SPREAD:
            return replace(self, spread_sd=self.spread_sd / np.sqrt(power))
        if component == SCALE and self.scale is not None:
            return replace(self, scale=scaled_prior(self.scale, power))
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
        if self.scale is not None:
            out[SCALE] = self.scale.log_density_as_stated(theta.values[SCALE])
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
        if self.scale is not None:
            what = f"sd between groups of the log residual sd: {self.scale.interval_in_words()}"
            rows.append(PriorRow(SCALE, str(self.scale), what))
        return rows
