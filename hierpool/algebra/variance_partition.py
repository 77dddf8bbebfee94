"""Where the variance of the response comes from: fixed effects, levels of each factor, residual.

    fixed     sample variance of X beta over the rows
    factor f  mean over the rows of z'Sigma_f z, z the row's columns (Johnson 2014)
    residual  mean over the rows of the residual variance

Marginal R2 is the share of the first, conditional R2 that of all but the last. An intraclass
correlation is the share of a factor in what is random, at the mean of its columns (of slopes: for
an average row); with an intercept alone the two means are one.

References
----------
Nakagawa, Schielzeth (2013), Methods Ecol. Evol. 4, 133-142.
Johnson (2014), Methods Ecol. Evol. 5, 944-946.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hierpool.algebra.correlated.residuals import mean_variance
from hierpool.algebra.moments import Coordinates
from hierpool.core.design import Design
from hierpool.core.theta import ResidualTheta, WorkingTheta

FIXED, RESIDUAL = "fixed", "residual"


@dataclass(frozen=True)
class Partition:
    """Variances of K draws, or of one estimate with K = 1.

    Attributes
    ----------
    factors
        Their names.
    fixed, residual
        Shapes (K,).
    levels, average
        Shapes (K, factors): mean over the rows, and at the mean of the columns.
    """

    factors: tuple[str, ...]
    fixed: np.ndarray
    residual: np.ndarray
    levels: np.ndarray
    average: np.ndarray

    @classmethod
    def from_covariances(
        cls,
        design: Design,
        beta: np.ndarray,
        residual: np.ndarray,
        Sigmas: Sequence[np.ndarray],
        Zs: Sequence[np.ndarray],
    ) -> Partition:
        """From beta (K, p), residual variances (K,), and the covariances (K, q, q) of each factor.

        Covariances and columns Z (n, q) of the factors are in one coding, whichever. No array has
        draws times rows.
        """
        # Centred before it is squared: at an offset of 1e8 the squares have no digits left for the spread.
        if (
            design.residual.term.column
        ):  # stand-ins have the weighted sums, and here rows count alike
            design.check_rows("the partition of the variance of rows with weights or known sds")
        X, shares = design.observations.X, design.observations.shares
        counts = np.ones(len(X)) if shares is None else shares.counts
        centred = X - np.average(X, axis=0, weights=counts)
        spread = (counts[:, None] * centred).T @ centred / (design.n - 1)
        levels, average = [], []
        for Z, Sigma in zip(Zs, Sigmas, strict=True):
            mean = np.average(Z, axis=0, weights=counts)
            squares = (counts[:, None] * Z).T @ Z
            levels.append(np.einsum("kab,ab->k", Sigma, squares / design.n))
            average.append(np.einsum("kab,a,b->k", Sigma, mean, mean))
        return cls(
            tuple(g.factor for g in design.groups),
            np.einsum("kp,pr,kr->k", beta, spread, beta),
            residual,
            np.array(levels).reshape(len(levels), len(residual)).T,
            np.array(average).reshape(len(average), len(residual)).T,
        )

    @classmethod
    def from_theta(cls, design: Design, beta: np.ndarray, theta: WorkingTheta) -> Partition:
        """From K values of theta: exact also where predictors are far from zero."""
        codings, sigma = Coordinates.from_design(design).zs, theta.sigma
        scaled = sigma[:, None, None] * theta.Lambda
        blocks = [scaled[:, at, at] for at in design.group_columns]
        Sigmas = [block @ np.swapaxes(block, 1, 2) for block in blocks]
        rows, factors = design.observations, [group.factor for group in design.groups]
        Zs = [rows.working_Z(f, z) for f, z in zip(factors, codings, strict=True)]
        phi = theta.phi if isinstance(theta, ResidualTheta) else None
        left = mean_variance(design, sigma, phi)
        return cls.from_covariances(design, beta, left, Sigmas, Zs)

    @property
    def names(self) -> tuple[str, ...]:
        """Fixed effects, factors, residual."""
        return (FIXED, *self.factors, RESIDUAL)

    @property
    def variances(self) -> np.ndarray:
        """Shape (K, parts): in the order of the names."""
        return np.column_stack([self.fixed, self.levels, self.residual])

    @property
    def shares(self) -> np.ndarray:
        """Shape (K, parts): of the total."""
        return self.variances / self.variances.sum(axis=1, keepdims=True)

    @property
    def r2(self) -> np.ndarray:
        """Shape (K, 2): marginal, conditional."""
        shares = self.shares
        return np.column_stack([shares[:, 0], shares[:, :-1].sum(axis=1)])

    @property
    def icc(self) -> np.ndarray:
        """Shape (K, factors)."""
        total = self.average.sum(axis=1) + self.residual
        return self.average / total[:, None]
