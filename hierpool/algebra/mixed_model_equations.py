"""What an optimum says of any combination of coefficients, and how sure that is.

Given theta, the errors of beta_hat and of u_hat = Lambda v_hat are those of Henderson's mixed model
equations: (v, beta) has the covariance sigma^2 M^-1 (``core.gaussian``). For a combination (t, x) of
v and beta, with M's block of levels F F' and R as there,

    t'M^-1 t = |h|^2 + |R^-1 (x - G'h)|^2        h = F^-1 t        G = F^-1 Lambda'C

which holds for a Lambda of any rank. Own coefficients (no pooling) are the limit of an infinite
Lambda: no identity is added to Z'Z, whose inverse is a generalised one.

References
----------
Henderson (1975), Biometrics 31, 423-447.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from scipy import linalg

from hierpool.algebra.gaussian import BetaPrior, Conditional, Marginal, condition
from hierpool.algebra.moments import Coordinates, Moments, Rows
from hierpool.algebra.sweep import SweptLevels, swept_inverse
from hierpool.algebra.triangular import solve_lower
from hierpool.core.design import Design
from hierpool.core.results import Estimate

if TYPE_CHECKING:
    from hierpool.algebra.several.factorise import Factored

_BLOCK_NUMBERS = 4_000_000  # floats in one block of right-hand sides
_IN_SPAN = (
    1e-4  # part of a combination outside the span of the rows, from which they cannot tell it
)


class LevelPart(NamedTuple):
    """What combinations take from the levels of one factor, one entry a combination and level.

    Attributes
    ----------
    which
        Shape (e,): the combination.
    levels
        Shape (e,): position of the level.
    weights
        Shape (e, q): weights of the level's coefficients.
    """

    which: np.ndarray
    levels: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Combinations:
    """m linear combinations of the coefficients of a model.

    Attributes
    ----------
    X
        Shape (m, p): weights of the population coefficients.
    parts
        What is taken from each factor: deviations, own coefficients for no pooling.
    """

    X: np.ndarray
    parts: tuple[LevelPart, ...]

    def __len__(self) -> int:
        return len(self.X)

    def to_working(self, coordinates: Coordinates) -> Combinations:
        """The same of the coefficients in working coordinates (but for a constant)."""
        x, X = coordinates.x, self.X @ coordinates.x.from_working
        parts = []
        for part, z in zip(self.parts, coordinates.zs, strict=True):
            parts.append(part._replace(weights=part.weights @ z.from_working))
            if not x.has_constant:  # own intercepts carry the means of the common columns
                own = np.bincount(part.which, part.weights @ z.constant, len(X))
                X = X - own[:, None] * (x.means / x.scales)
        return Combinations(X, tuple(parts))

    def blocks(self, size: int) -> Iterator[tuple[slice, Combinations]]:
        """The combinations in runs of ``size``."""
        for start in range(0, len(self), size):
            some = slice(start, min(start + size, len(self)))
            parts = []
            for which, levels, weights in self.parts:
                own = (which >= some.start) & (which < some.stop)
                parts.append(LevelPart(which[own] - some.start, levels[own], weights[own]))
            yield some, Combinations(self.X[some], tuple(parts))


class _Algebra(Protocol):
    """One theta: what combinations in working coordinates are, in units of sigma^2."""

    def variance(self, t: Combinations) -> np.ndarray:
        """Shape (m,): error variances; NaN where the rows cannot tell a combination."""


@dataclass(frozen=True)
class Henderson:
    """An optimum as the solution of the mixed model equations at its theta.

    Attributes
    ----------
    design, estimate
        What was fitted, and what came out.
    """

    design: Design
    estimate: Estimate

    @cached_property
    def _coordinates(self) -> Coordinates:
        return Coordinates.from_design(self.design)

    @cached_property
    def _algebra(self) -> _Algebra:
        design, factor = self.design, self.estimate.relative_covariance_factor
        if len(design.groups) > 1:
            return _Several.from_design(design, self._coordinates, factor)
        if design.groups and not design.groups[0].is_pooled:
            return _Own.from_design(design, self._coordinates)
        moments = Moments.from_rows(Rows.from_design(design, self._coordinates))
        at = condition(moments, np.ones(1), factor[None], BetaPrior.flat(moments.p))
        return _One(at)

    def value(self, combinations: Combinations) -> np.ndarray:
        """Shape (m,): the estimates; a coefficient that the rows cannot tell counts as zero."""
        if isinstance(self._algebra, _Own):
            return self._algebra.value(combinations)
        out = combinations.X @ self.estimate.beta
        for own, part in zip(self.estimate.factors, combinations.parts, strict=True):
            each = np.einsum("eq,eq->e", part.weights, own.u[part.levels])
            out = out + np.bincount(part.which, each, len(out))
        return np.asarray(out)

    def variance(self, combinations: Combinations) -> np.ndarray:
        """Shape (m,): error variances; NaN where the rows cannot tell a combination."""
        working = combinations.to_working(self._coordinates)
        return self.estimate.sigma**2 * self._algebra.variance(working)

    def between(self, factor: int, Z: np.ndarray) -> np.ndarray:
        """Shape (m,): z'Sigma z, variance between the levels of a factor in columns (m, q)."""
        at = self.design.group_columns[factor]
        root = (
            self._coordinates.zs[factor].from_working
            @ self.estimate.relative_covariance_factor[at, at]
        )
        return self.estimate.sigma**2 * np.square(Z @ root).sum(axis=1)


def _population_part(R: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Shape (m,): |R^-1 x|^2 for rows x (m, p)."""
    if not left.shape[1]:
        return np.zeros(len(left))
    return np.asarray(np.square(linalg.solve_triangular(R, left.T, lower=True)).sum(axis=0))


def _sum_by(which: np.ndarray, values: np.ndarray, m: int) -> np.ndarray:
    """Shape (m, k): sums of the rows of values (e, k)."""
    out = np.zeros((m, values.shape[1]))
    np.add.at(out, which, values)
    return out


@dataclass(frozen=True)
class _One:
    """One factor, level by level, or none."""

    at: Conditional

    def variance(self, t: Combinations) -> np.ndarray:
        c, left, out = self.at, t.X, np.zeros(len(t))
        for part in t.parts:
            design = c.moments.design_of[part.levels]
            weights = (part.weights @ c.Lambda[0])[..., None]
            h = solve_lower(c.L[0][design], weights)[..., 0]
            left = left - _sum_by(part.which, np.einsum("eqp,eq->ep", c.G[0][design], h), len(t))
            out += np.bincount(part.which, np.square(h).sum(axis=1), len(t))
        return out + _population_part(c.marginal.R[0], left)


@dataclass(frozen=True)
class _Several:
    """Several factors, by way of ``core.fronts``."""

    at: Factored
    R: np.ndarray

    @classmethod
    def from_design(cls, design: Design, coordinates: Coordinates, Lambda: np.ndarray) -> _Several:
        from hierpool.algebra.several.factorise import (
            Fronts,  # compiled loops load when first needed
        )
        from hierpool.algebra.several.plan import ManyRows

        fronts = Fronts.from_rows(ManyRows.from_design(design, coordinates))
        at, m = fronts.factored(Lambda), fronts.moments
        return cls(at, Marginal.from_sums(m, BetaPrior.flat(m.p), np.ones(1), *at.sums).R[0])

    def variance(self, t: Combinations) -> np.ndarray:
        fronts, out = self.at.fronts, np.empty(len(t))
        for some, block in t.blocks(max(1, _BLOCK_NUMBERS // max(fronts.n_coefficients, 1))):
            h = self._solved_forward(block)
            left = block.X - h.T @ self.at.whitened[:, :-1]
            out[some] = np.square(h).sum(axis=0) + _population_part(self.R, left)
        return out

    def _solved_forward(self, t: Combinations) -> np.ndarray:
        """Shape (columns of M, m): F^-1 Lambda't."""
        from hierpool.algebra.several import solve_kernels

        fronts, s = self.at.fronts, self.at.fronts.plan.structure
        x = np.zeros((fronts.n_coefficients, len(t)))
        for position, f in enumerate(fronts.plan.order):
            part, i, q = t.parts[f], s.at[position], s.q[position]
            weights = part.weights @ self.at.Lambda[i : i + q, i : i + q]
            first = s.first[position] + q * part.levels
            np.add.at(x, (first[:, None] + np.arange(q), part.which[:, None]), weights)
        solve_kernels.forward_chain(s, self.at.values, x)
        if fronts.n_rest:
            rest = x[s.sizes[2] :]
            rest[:] = linalg.solve_triangular(self.at.U, rest, trans="T")
        return x


@dataclass(frozen=True)
class _Own:
    """Own coefficients for each level: no pooling."""

    coordinates: Coordinates
    moments: Moments
    swept: SweptLevels
    left: np.ndarray
    inverse: np.ndarray

    @classmethod
    def from_design(cls, design: Design, coordinates: Coordinates) -> _Own:
        m = Moments.from_rows(Rows.from_design(design, coordinates))
        swept, C = SweptLevels.from_cross_products(m.A[m.design_of]), m.C[m.design_of]
        left = m.XX - np.einsum("jap,jab,jbr->pr", C, swept.inverse, C)
        return cls(coordinates, m, swept, left, swept_inverse(left, np.diag(m.XX))[0])

    def value(self, combinations: Combinations) -> np.ndarray:
        m, x, (z,) = self.moments, self.coordinates.x, self.coordinates.zs
        C = m.C[m.design_of]
        right = m.Xy - np.einsum("jap,jab,jb->p", C, self.swept.inverse, m.b)
        beta = self.inverse @ right
        own = np.einsum("jab,jb->ja", self.swept.inverse, m.b - C @ beta)
        (given,), t = combinations.parts, combinations.to_working(self.coordinates)
        (part,) = t.parts
        constant = given.weights @ z.constant * (not x.has_constant)
        each = np.einsum("eq,eq->e", part.weights, own[part.levels])
        each = each + self.coordinates.y_shift * constant
        shift = self.coordinates.y_shift * (combinations.X @ x.constant)
        return np.asarray(t.X @ beta + shift + np.bincount(part.which, each, len(t)))

    def variance(self, t: Combinations) -> np.ndarray:
        (part,), m = t.parts, self.moments
        design, z = m.design_of[part.levels], part.weights
        solved = np.einsum("eab,eb->ea", self.swept.inverse[part.levels], z)
        told = _is_same(np.einsum("eab,eb->ea", m.A[design], solved), z)
        left = t.X - _sum_by(part.which, np.einsum("eap,ea->ep", m.C[design], solved), len(t))
        own = np.bincount(part.which, np.einsum("ea,ea->e", z, solved), len(t))
        through = left @ self.inverse
        variance = own + np.einsum("mp,mp->m", left, through)
        known = np.bincount(part.which, ~told, len(t)) == 0
        known &= _is_same(through @ self.left, left, np.abs(t.X).max(axis=1, initial=0.0))
        return np.where(known, variance, np.nan)


def _is_same(made: np.ndarray, wanted: np.ndarray, scale: np.ndarray | float = 0.0) -> np.ndarray:
    """Shape (m,): whether rows (m, k) agree."""
    size = np.maximum(np.abs(wanted).max(axis=1, initial=0.0), scale)
    return np.abs(made - wanted).max(axis=1, initial=0.0) <= _IN_SPAN * size
