"""The part of a group term whose covariance is estimated: standard deviations and correlations.

Correlations enter as canonical partial correlations, each of which has a symmetric beta distribution
under LKJ(eta). Sds with a decov prior enter as their size in units of sigma and their shares of the
variance.

References
----------
Lewandowski, Kurowicka, Joe (2009), J. Multivariate Anal. 100, 1989-2001, section 2.4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from scipy import special, stats

from hierpool.bayes.parts.decov import Decov
from hierpool.bayes.parts.part import GroupPart, HasLaw, Vanishing, quantile
from hierpool.bayes.priors.coefficients import where_stated
from hierpool.bayes.priors.power import scaled_prior
from hierpool.bayes.priors.prior import Prior, PriorRow
from hierpool.core.coding import Coding
from hierpool.core.covariance import Covariance
from hierpool.core.design import Design
from hierpool.core.group_nouns import nouns
from hierpool.core.options import percent, tails
from hierpool.core.theta import Theta

_CORRELATION_MARGIN = 1e-12  # partial correlations are kept this far from -1 and 1
_TABLE_FROM, _TABLE_TO, _CELLS = 2000, 12.0, 3000  # numbers; largest |z|; cells of the table
_LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True)
class GroupTermPart(GroupPart):
    """Standard deviations and correlations of one block of a factor's columns.

    Attributes
    ----------
    factor
        The factor over whose levels the coefficients vary.
    name
        The factor; numbered where the factor has several blocks.
    covariance
        Its structure.
    coding
        The coordinates of the priors.
    terms
        Names of the block's columns.
    columns
        The block's columns among those of its factor.
    sd
        Priors of the standard deviations.
    eta
        Shape of the LKJ prior; None for a structure without correlations.
    """

    factor: str
    name: str
    covariance: Covariance
    coding: Coding
    terms: tuple[str, ...]
    columns: slice
    sd: tuple[Prior, ...]
    eta: float | None

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs (i, j), j < i, of the block's terms that correlate."""
        return () if self.eta is None else self.covariance.pairs(len(self.terms))

    @cached_property
    def sd_index(self) -> np.ndarray:
        """Shape (q,): which of the standard deviations each term has."""
        return self.covariance.sd_index(len(self.terms))

    @cached_property
    def decov(self) -> Decov | None:
        """The prior of all sds in units of sigma, if there is one; it stands at each term."""
        if self.sd[0].family != "Decov":
            return None
        return Decov.from_prior(self.sd[0], len(self.terms), self.eta is not None)

    @cached_property
    def beta_shapes(self) -> np.ndarray:
        """Shape (pairs,): a of the Beta(a, a) distribution on (-1, 1) of a partial correlation.

        That of terms i and j < i of a block of q, given the terms before j: a = eta + (q - 2 - j) / 2.
        """
        size, eta = len(self.terms), self.eta or 0.0
        return np.array([eta + (size - 2 - j) / 2 for _, j in self.pairs])

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """``sd_<name>``, and ``corr_chol_<name>`` where terms correlate."""
        out: dict[str, tuple[int, ...]] = {f"sd_{self.name}": (len(self.sd),)}
        if self.pairs:
            out[f"corr_chol_{self.name}"] = (len(self.terms),) * 2
        return out

    @property
    def size(self) -> int:
        """Standard deviations and pairs."""
        return len(self.sd) + len(self.pairs)

    def values(self, z: np.ndarray, sigma: np.ndarray) -> dict[str, np.ndarray]:
        """Standard deviations and the Cholesky factor of the correlation at z (K, size)."""
        k = len(self.sd)
        laws: tuple[HasLaw, ...] = self.sd if self.decov is None else self.decov.laws
        sds = np.empty((len(z), k))
        for i, law in enumerate(laws):
            sds[:, i] = quantile(law, z[:, i])
        if self.decov is not None:
            sds = self.decov.sds(sds, sigma)
        if not self.pairs:
            return {f"sd_{self.name}": sds}
        chol = self.correlation_root(partial_correlations(z[:, k:], self.beta_shapes))
        return {f"sd_{self.name}": sds, f"corr_chol_{self.name}": chol}

    def correlation_root(self, partial: np.ndarray) -> np.ndarray:
        """Shape (K, q, q): Cholesky factors of correlations from partial ones (K, pairs)."""
        K, q = len(partial), len(self.terms)
        chol = np.broadcast_to(np.eye(q), (K, q, q)).copy()
        left = np.ones((K, q))
        for k, (i, j) in enumerate(self.pairs):
            # Rows of length one: a partial correlation is a share of what earlier columns left of the row.
            chol[:, i, j] = partial[:, k] * np.sqrt(left[:, i])
            left[:, i] = left[:, i] * (1 - partial[:, k] ** 2)
            chol[:, i, i] = np.sqrt(left[:, i])
        return chol

    def sds(self, theta: Theta) -> np.ndarray:
        """Shape (K, q): standard deviation of each term, in the coordinates of the priors."""
        each = theta.values[f"sd_{self.name}"]
        return each if len(self.sd) == len(self.terms) else each[:, self.sd_index]

    def root(self, theta: Theta) -> np.ndarray:
        """Shape (K, q, q): standard deviations times the Cholesky factor of the correlation."""
        chol = theta.values[f"corr_chol_{self.name}"] if self.pairs else np.eye(len(self.terms))
        return np.asarray(self.sds(theta)[..., None] * chol)

    @property
    def vanishing(self) -> tuple[Vanishing, ...]:
        """Each standard deviation, with the correlations of its terms."""
        k, index = len(self.sd), self.sd_index
        return tuple(
            Vanishing(
                sd, tuple(k + p for p, pair in enumerate(self.pairs) if sd in index[list(pair)])
            )
            for sd in range(k)
        )

    @property
    def scale_positions(self) -> tuple[int, ...]:
        """Of the standard deviations."""
        return tuple(range(len(self.sd)))

    def scales(self, theta: Theta) -> np.ndarray:
        """Shape (K, sds): the standard deviations."""
        return theta.values[f"sd_{self.name}"]

    def n_behind(self, design: Design) -> int:
        """Number of levels."""
        return design.groupings[self.factor].n_levels

    @property
    def components(self) -> tuple[str, ...]:
        """Standard deviations, and correlations if there are any."""
        sd, corr = f"sd_{self.factor}", f"corr_{self.factor}"
        return (sd,) if self.eta is None else (sd, corr)

    def power_scaled(self, component: str, power: float) -> GroupTermPart:
        """The same with the prior of its sds, or of its correlations, raised to a power."""
        if component == f"sd_{self.factor}":
            return replace(self, sd=tuple(scaled_prior(p, power) for p in self.sd))
        if component == f"corr_{self.factor}" and self.eta is not None:
            eta = scaled_prior(Prior("LKJ", eta=self.eta), power).parameters["eta"]
            return replace(self, eta=eta)
        return self

    def log_priors(self, theta: Theta) -> dict[str, np.ndarray]:
        """Log prior densities of the sds and of the correlation matrix, shapes (K,)."""
        sds = self.scales(theta)
        if self.decov is not None:
            of_sds = self.decov.log_density(sds, theta.sigma)
        else:
            each = [p.log_density_as_stated(sds[:, k]) for k, p in enumerate(self.sd)]
            of_sds = np.asarray(np.sum(each, axis=0))
        out = {f"sd_{self.factor}": of_sds}
        if self.eta is not None:
            chol = theta.values[f"corr_chol_{self.name}"]
            # det^(eta - 1) of the correlation matrix, as it is stated: without the Jacobian of the
            # Cholesky factor that Stan's lkj_corr_cholesky has.
            diagonal = np.diagonal(chol, axis1=1, axis2=2)
            out[f"corr_{self.factor}"] = 2 * (self.eta - 1) * np.log(diagonal).sum(axis=1)
        return out

    def table(self, response: str, common: tuple[str, ...] = ()) -> list[PriorRow]:
        """One row an sd, and one for the correlations."""
        rows, factor = [], self.factor
        for k, prior in enumerate(self.sd):
            at = int(np.flatnonzero(self.sd_index == k)[0])
            where = where_stated(self.coding, self.terms) if self.coding.constant[at] else ""
            per = "" if self.coding.constant[at] else f" per unit of {self.terms[at]}"
            what = f"sd of {response}{per} between {nouns(factor)}{where}"
            text = f"{prior}, jointly" if self.decov is not None else str(prior)
            size = "in units of sigma" if self.decov is not None else prior.interval_in_words()
            rows.append(PriorRow(f"sd_{factor}[{self.terms[at]}]", text, f"{what}: {size}"))
        if self.eta is not None:
            where = ", in centred columns" if self.coding.is_centred else ""
            # Under LKJ(eta) one correlation has the distribution 2 Beta(a, a) - 1.
            a = self.eta + len(self.terms) / 2 - 1
            half = stats.beta(a, a).ppf(tails()[1]) * 2 - 1
            size = f"{percent()} % in [{-half:.2f}, {half:.2f}]"
            text = f"correlations between {nouns(factor)}{where}: {size}"
            rows.append(PriorRow(f"corr_{factor}", f"LKJ(eta={self.eta:g})", text))
        return rows


def partial_correlations(z: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Quantiles of 2 Beta(a, a) - 1 at Phi(z), shape (K, pairs)."""
    out = np.empty(np.broadcast_shapes(z.shape, shapes.shape))
    for a in np.unique(shapes):
        of = shapes == a
        out[:, of] = _quantiles(z[:, of], float(a))
    return np.clip(out, -1 + _CORRELATION_MARGIN, 1 - _CORRELATION_MARGIN)


def _quantiles(z: np.ndarray, a: float) -> np.ndarray:
    """Quantiles of 2 Beta(a, a) - 1 at Phi(z), many of them from a table."""
    size = np.abs(z)
    if z.size < _TABLE_FROM or a == 1.0 or size.max() >= _TABLE_TO:
        # By the lower tail and the symmetry: an upper tail of 1 - 1e-17 would be 1.
        lower = special.ndtr(-size)
        lower = lower if a == 1.0 else special.betaincinv(a, a, lower)
        return np.asarray(np.sign(z) * (1 - 2 * lower))
    table, step = _table(a)
    cell = np.minimum((size / step).astype(np.intp), len(table) - 1)
    t = size - cell * step
    c = table[cell]
    return np.asarray(
        np.sign(z) * np.tanh(c[..., 0] + t * (c[..., 1] + t * (c[..., 2] + t * c[..., 3])))
    )


@lru_cache(maxsize=32)
def _table(a: float) -> tuple[np.ndarray, float]:
    """Cubics (cells, 4) of the artanh of the quantile, by |z|, and their width: right to 1e-11.

    The artanh grows like a square, so that tails are as exact as the middle.
    """
    z = np.linspace(0, _TABLE_TO, _CELLS + 1)
    lower = special.betaincinv(a, a, special.ndtr(-z))
    g = 0.5 * (np.log1p(-lower) - np.log(lower))
    # dg/dz = phi(z) / (2 x (1 - x) density(x)), x the lower quantile
    log_density = (a - 1) * (np.log(lower) + np.log1p(-lower)) - special.betaln(a, a)
    slope = np.exp(-0.5 * (z**2 + _LOG_2PI) - log_density - np.log(lower) - np.log1p(-lower)) / 2
    h = z[1]
    rise = np.diff(g) / h
    second = (3 * rise - 2 * slope[:-1] - slope[1:]) / h
    third = (slope[:-1] + slope[1:] - 2 * rise) / h**2
    return np.column_stack([g[:-1], slope[:-1], second, third]), float(h)
