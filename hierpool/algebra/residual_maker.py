"""Residuals of a fit as a linear map of its response, standard deviations held at the optimum.

With V = Z Lambda Lambda'Z' + I, the covariance of the response in units of sigma^2, and

    K = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1

the residuals of the response, fixed effects and levels taken off, are e = K y. They have the
covariance sigma^2 K, and 1 - K_ii is the leverage of a row. So the null distribution of whatever is
made of residuals is known: that of normal vectors with this covariance, and not that of independent
ones. V is never made (``Factorisation.whiten``).

Rows are in working coordinates and divided by their residual sds, as in ``algebra.moments``. Those of
a residual structure are whitened, each less what the rows of its group before it say of it: their
residuals are the normalised ones, independent and alike if the structure is right.

References
----------
Henderson (1975), Biometrics 31, 423-447.
Christensen, Pearson, Johnson (1992), Technometrics 34, 38-45 (case deletion, variances held).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
from scipy import sparse

from hierpool.algebra.choose import marginal_model
from hierpool.algebra.correlated.factorisation import CorrelatedFactorisation
from hierpool.algebra.correlated.joint_factorisation import JointFactorisation
from hierpool.algebra.correlated.residuals import normalised, rows_sd
from hierpool.algebra.factorisation import Factorisation, in_places_of_levels
from hierpool.algebra.gaussian import BetaPrior
from hierpool.algebra.marginal_model import MarginalModel
from hierpool.algebra.moments import Coordinates, by_level
from hierpool.algebra.several.plan import ManyRows
from hierpool.core.design import Design
from hierpool.core.fitted import Optimum

_RANK = 1e-9  # singular values below this share of the largest are none


@dataclass(frozen=True)
class ResidualMaker:
    """A partially or completely pooled design at an optimum.

    Attributes
    ----------
    model
        What was fitted, with a flat prior on the fixed effects.
    rows
        The rows in working coordinates.
    at
        The factorisation at the optimum's Lambda.
    phi
        Shape (m,): parameters of a residual structure, held at the optimum; None without one.
    apart
        Whitened columns of all levels (n, J q) of factors whose levels correlated rows lie across.
    """

    model: MarginalModel
    rows: ManyRows
    at: Factorisation
    phi: np.ndarray | None = None
    apart: Mapping[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def from_fit(cls, blup: Optimum) -> ResidualMaker:
        """That of a ``LikelihoodFit`` whose groups are pooled."""
        design, coordinates = blup.design, Coordinates.from_design(blup.design)
        model = marginal_model(design, coordinates, BetaPrior.flat(len(design.terms)))
        phi = blup.estimate.residual_parameters
        at = model.at(blup.estimate.relative_covariance_factor, phi)
        if isinstance(at, CorrelatedFactorisation | JointFactorisation):
            return cls._of_whitened(model, at, phi)
        if phi is not None:  # sds of classes beside several factors
            return cls(model, cast(Any, at).fronts.rows, at, phi)
        return cls(model, ManyRows.from_design(design, coordinates), at)

    @classmethod
    def _of_whitened(
        cls,
        model: MarginalModel,
        at: CorrelatedFactorisation | JointFactorisation,
        phi: np.ndarray | None,
    ) -> ResidualMaker:
        design, zs = model.design, model.coordinates.zs
        white, apart = (at.rows, {}) if isinstance(at, CorrelatedFactorisation) else at.whitened
        Z = [normalised(design, z.work(g.Z), phi) for g, z in zip(design.groups, zs, strict=True)]
        codes = tuple(g.codes for g in design.groups)
        n_levels = tuple(g.grouping.n_levels for g in design.groups)
        assert phi is not None
        sd = rows_sd(design.residual, np.ones(1), phi[None])[0]
        sd = np.broadcast_to(sd, (design.n,))
        rows = ManyRows(white.y, white.X, tuple(Z), codes, n_levels, sd)
        return cls(model, rows, at, phi, apart)

    def with_factor(self, Lambda: np.ndarray) -> ResidualMaker:
        """The same design at another relative factor."""
        at = self.model.at(Lambda, self.phi)
        return ResidualMaker(self.model, self.rows, at, self.phi, self.apart)

    @property
    def design(self) -> Design:
        """What was fitted."""
        return self.model.design

    @property
    def coordinates(self) -> Coordinates:
        """Working coordinates of its columns."""
        return self.model.coordinates

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.rows.n

    @property
    def factor(self) -> np.ndarray:
        """Shape (Q, Q): Lambda, block diagonal over the factors."""
        return self.at.Lambda

    @cached_property
    def blocks(self) -> tuple[np.ndarray, ...]:
        """Lambda of each factor, shapes (q_f, q_f)."""
        return tuple(self.factor[at, at] for at in self.design.group_columns)

    @property
    def levels(self) -> sparse.csr_array:
        """Shape (n, columns of all levels): Z Lambda, factor by factor and level by level."""
        return self.at.columns

    def whiten(self, columns: np.ndarray) -> np.ndarray:
        """V^-1 times columns (n, m)."""
        return self.at.whiten(columns)

    @cached_property
    def basis(self) -> np.ndarray:
        """Shape (n, r): orthonormal columns that span X."""
        # K depends on the span of X alone; aliased columns would make X'V^-1 X singular.
        U, values, _ = np.linalg.svd(self.rows.X, full_matrices=False)
        return np.asarray(U[:, values > _RANK * values.max(initial=0.0)])

    @cached_property
    def _population(self) -> tuple[np.ndarray, np.ndarray]:
        """W (n, r) with K = V^-1 - W W', and V^-1 times the basis."""
        whitened = self.whiten(self.basis)
        L = np.linalg.cholesky(self.basis.T @ whitened) if whitened.shape[1] else np.eye(0)
        return np.linalg.solve(L, whitened.T).T, whitened

    @property
    def df(self) -> int:
        """Rows of the table less columns of the population."""
        return self.rows.n_summed - self.basis.shape[1]

    def residuals(self, responses: np.ndarray) -> np.ndarray:
        """K times responses (n, m)."""
        W = self._population[0]
        return self.whiten(responses) - W @ (W.T @ responses)

    @cached_property
    def observed(self) -> np.ndarray:
        """Shape (n,): residuals of the response."""
        return self.residuals(self.rows.y[:, None])[:, 0]

    @cached_property
    def population(self) -> np.ndarray:
        """Shape (n,): what the fixed effects say of the rows."""
        whitened = self._population[1]
        beta = np.linalg.solve(self.basis.T @ whitened, whitened.T @ self.rows.y)
        return np.asarray(self.basis @ beta)

    @cached_property
    def squares(self) -> float:
        """y'K y: the penalised residual sum of squares."""
        return float(self.rows.y @ self.observed)

    @property
    def sigma(self) -> float:
        """REML's residual sd at this Lambda; 1 where those of the rows are known."""
        return float(np.sqrt(self.squares / self.df)) if self.design.residual.has_sigma else 1.0

    @cached_property
    def diagonal(self) -> np.ndarray:
        """Shape (n,): K_ii, one less the leverage of each row."""
        W = self._population[0]
        # A difference: of a row that alone determines a coefficient only rounding is left, of either sign.
        return np.asarray(1 - self.at.leverage_of_levels() - np.square(W).sum(axis=1))

    def simulate(self, rng: np.random.Generator, m: int) -> np.ndarray:
        """Shape (n, m): responses with new levels, sigma 1 and no fixed effects (K takes them off)."""
        return self.at.from_new_levels(rng, m) + rng.standard_normal((self.n, m))

    def level_sums(self, f: int, values: np.ndarray) -> np.ndarray:
        """Shape (J, q, m): Z_j' times values (n, m), for the levels of factor ``f``."""
        group = self.design.groups[f]
        if f in self.apart:
            return (self.apart[f].T @ values).reshape(-1, len(group.terms), values.shape[1])
        spread = in_places_of_levels(self.rows.Z[f], group.codes, group.grouping.n_levels)
        return np.asarray(spread.T @ values).reshape(-1, len(group.terms), values.shape[1])

    def of_levels(self, f: int) -> tuple[np.ndarray, np.ndarray]:
        """Z_j'K Z_j and Z_j'Z_j of the levels of factor ``f``, shapes (J, q, q)."""
        # A downdate of Z_j'V^-1 Z_j. Directions that X takes up leave eigenvalues of rounding: callers cut
        # them off by a share of Z_j'Z_j.
        group, Z = self.design.groups[f], self.rows.Z[f]
        if f in self.apart:
            D, q = self.apart[f], len(group.terms)
            both = D.T @ self.residuals(D), D.T @ D
            K, plain = (np.einsum("jajb->jab", M.reshape(-1, q, len(M) // q, q)) for M in both)
            return K, plain
        codes, J = group.codes, group.grouping.n_levels
        W = by_level(Z, self._population[0], codes, J)
        whole = self.at.whitened_products(Z, group.grouping)
        return whole - W @ np.swapaxes(W, 1, 2), by_level(Z, Z, codes, J)
