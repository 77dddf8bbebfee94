"""The Laplace approximation of all coefficients given theta: where the engine proposes, no more."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hierpool.algebra.gaussian import BetaPrior
from hierpool.algebra.quadrature.rows import LevelRows
from hierpool.core.theta import FamilyPoint, FamilyTheta
from hierpool.core.threads import over_threads

if TYPE_CHECKING:
    from hierpool.algebra.quadrature.model import QuadratureModel


class Start(NamedTuple):
    """Where searches for modes begin.

    Attributes
    ----------
    gamma
        Shape (P,).
    v
        Shape (U, q): standardised deviations of the levels that differ.
    """

    gamma: np.ndarray
    v: np.ndarray

    @classmethod
    def of_rows(cls, gamma: np.ndarray, rows: LevelRows) -> Start:
        """Levels that do not deviate."""
        return cls(gamma, np.zeros((rows.n_levels, rows.Z.shape[1])))


class Laplace(NamedTuple):
    """Joint modes of all coefficients at K values of theta.

    Attributes
    ----------
    gamma
        Shape (K, P): their part in gamma.
    root
        Shape (K, P, P), lower: the precision of gamma, levels eliminated, is root root'.
    log_density
        Shape (K,): Laplace approximation of log p(y | theta).
    start
        The modes at the last theta, a start for theta near it.
    """

    gamma: np.ndarray
    root: np.ndarray
    log_density: np.ndarray
    start: Start


def laplace(model: QuadratureModel, theta: FamilyTheta, start: Start | None = None) -> Laplace:
    """Joint modes at K values of theta, all searched for from the same start."""
    from hierpool.algebra.quadrature import laplace_kernels  # numba loads when first needed

    rows, K, P = model.rows, len(theta), model.n_gamma
    begin = model.start if start is None else start
    gamma, v = np.tile(begin.gamma, (K, 1)), np.tile(begin.v, (K, 1, 1))
    root, density = np.zeros((K, P, P)), np.empty(K)
    own, others = model.factors_of(theta)
    over_threads(
        laplace_kernels.modes,
        K,
        model.family.code,
        *(rows.y, rows.trials, rows.weight, rows.offset, rows.Z, rows.X, model.places),
        *(rows.others.columns, rows.start, rows.others.blocks, rows.counts, own, others),
        *(np.ascontiguousarray(theta.par), model.fisher_share(theta)),
        *(model.gamma_mean, model.gamma_precision, gamma, v, root, density),
        alone=2,
    )
    constant = model.constants.total(theta.par) + 0.5 * model.prior.log_det_precision
    found = Start(gamma[-1].copy(), v[-1].copy()) if K else begin
    return Laplace(gamma, root, density + constant, found)


def laplace_given_beta(model: QuadratureModel, point: FamilyPoint, start: Start) -> Laplace:
    """Modes of all levels at one point (K = 1), and Laplace log p(y | beta, theta).

    The point's own effects do not matter. ``start.gamma`` and gamma are those of the factors that are
    not integrated.
    """
    rows = model.rows
    offset = rows.offset + rows.X @ point.beta[0]
    without = replace(rows, offset=offset, X=np.zeros((len(rows.y), 0)))
    given = replace(model, rows=without, prior=BetaPrior.flat(0))
    theta = FamilyTheta(point.sigma, point.Lambda, point.par)
    found = laplace(given, theta, start)
    # Once more from the modes: the density is that of where the last step began.
    return laplace(given, theta, found.start)
