"""What second derivatives of the covariance of rows add to Kenward and Roger's method.

With W = V^-1, A the covariance of the parameters and Phi that of the fixed effects, the adjustment is

    Phi + 2 Phi {sum_rs A_rs (Q_rs - P_r Phi P_s - R_rs / 4)} Phi      R_rs = X'W (d2V / dr ds) W X

The first two terms are the same whatever the parameters are; the third is that of *natural* ones n:
variances, and correlations as SAS has them. With parameters c of which V is a function, and J = dn/dc,

    sum_rs A_rs d2V / dn_r dn_s = sum_ab A_ab d2V / dc_a dc_b - sum_a dV/dc_a (J^-1 k)_a
                              k = sum_ab A_ab d2n / dc_a dc_b

which is zero where V is linear in n. Second derivatives are taken along the columns of a root of A.

References
----------
Kenward, Roger (1997), Biometrics 53, 983-997.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hierpool.algebra.correlated.covariance_products import BlocksOfRows
from hierpool.algebra.correlated.factorisation import CorrelatedFactorisation
from hierpool.core.correlation import AnteDependence, Ar1, Arma11, CompoundSymmetry, Correlation
from hierpool.core.residual import RowStructure

_STEP = 0.1  # of a standard error
_SMALL = 1e-3


def has_natural_parameters(structure: RowStructure) -> bool:
    """Whether variances and correlations without a unit of time say all of a structure.

    Not those of ``car1``, whose correlation is that of some distance in time, nor with a nugget, nor
    sds by a covariate.
    """
    own = structure.correlation
    if structure.scale is not None or not structure.is_by_class:
        return False
    plain = (Ar1, CompoundSymmetry, AnteDependence, Arma11)
    return (
        own is None or isinstance(own, plain) or (own.reports_matrix and "nugget" not in own.names)
    )


def second_order(
    at: CorrelatedFactorisation, patterns: Sequence[np.ndarray], A: np.ndarray
) -> np.ndarray:
    """Shape (p, p): sum of A_rs R_rs at one theta.

    Parameters
    ----------
    at
        The model at the optimum.
    patterns
        Shape (q, q) each: derivatives of Lambda Lambda' by its parameters.
    A
        Shape (m, m): covariance of these, of the free parameters of the residuals and of log sigma^2.
    """
    rows, m = BlocksOfRows.of(at), len(A)
    first = len(patterns)
    structure = at.correlated.structure
    free = structure.to_free(at.phi[None])[0]
    covariance = at.Lambda @ at.Lambda.T

    E = np.array(patterns).reshape(first, covariance.size)
    gamma = np.linalg.lstsq(E.T, covariance.ravel())[0]

    def moved(step: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        own = ((gamma + step[:first]) @ E).reshape(covariance.shape)
        phi = structure.from_free((free + step[first:-1])[None])[0]
        return own, phi, float(np.exp(step[-1]))

    def V(step: np.ndarray) -> np.ndarray:
        own, phi, size = moved(step)
        return size * (rows.residuals(phi)[0] + rows.Z @ own @ np.swapaxes(rows.Z, 1, 2))

    def natural(step: np.ndarray) -> np.ndarray:
        _, phi, size = moved(step)
        return np.concatenate([size * (gamma + step[:first]), _natural(structure, phi, size)])

    values, vectors = np.linalg.eigh(A)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    J = np.stack([_slope(natural, e) for e in np.eye(m)], axis=1)
    bent = np.linalg.solve(J, sum(_bend(natural, u) for u in root.T))
    D = sum(_bend(V, u) for u in root.T) - np.einsum(
        "r,rbij->bij", bent, rows.derivatives(patterns)
    )
    WX = rows.inverse @ rows.X
    return np.einsum("bip,bij,bjq->pq", WX, D, WX, optimize=True)


def _natural(structure: RowStructure, phi: np.ndarray, size: float) -> np.ndarray:
    """Correlations, class of ``by=`` by class, and the variances of the classes; ``size`` is sigma^2."""
    found = [size * np.exp(2 * structure.log_sds(phi[None])[0])]
    own = structure.correlation
    if not structure.n_spread:
        found = [np.array([size])]
    if own is not None:
        found += [_correlations(own, each) for each in structure.correlations(phi)]
    return np.concatenate(found)


def _correlations(own: Correlation, phi: np.ndarray) -> np.ndarray:
    """Shape (size,): of one class of ``by=``."""
    if isinstance(own, Arma11):
        return np.array([own.at_lag(phi[None], np.array([1.0]))[0, 0], phi[0]])
    if not own.reports_matrix or own.is_markov:
        return phi
    C = own.blocks(phi[None], [np.arange(float(own.n_occasions))])[0][0]
    return C[0, 1:] if len(phi) == len(C) - 1 else C[np.tril_indices(len(C), -1)]


def _bend(f: Callable[[np.ndarray], np.ndarray], u: np.ndarray) -> np.ndarray:
    """Second derivative along u, at zero: differences of order four."""
    h = _STEP * u
    far, near = f(2 * h) + f(-2 * h), f(h) + f(-h)
    return (16 * near - far - 30 * f(0 * u)) / (12 * _STEP**2)


def _slope(f: Callable[[np.ndarray], np.ndarray], u: np.ndarray) -> np.ndarray:
    """First derivative along u, at zero."""
    h = _SMALL * u
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * _SMALL)
