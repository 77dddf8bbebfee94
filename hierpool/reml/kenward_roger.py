"""Kenward and Roger's covariance of the fixed effects, and F tests with their degrees of freedom.

Of a REML fit whose V = sum_r gamma_r G_r is linear in its parameters: the entries of T T' (the
relative covariance of the levels, free ones only) and the residual variance. Of residual structures
that are not linear ``correlated.second_derivatives`` adds what bends. With W = V^-1,
Phi = (X'WX)^-1 and

    P_r  = -X'W G_r W X     Q_rs = X'W G_r W G_s W X     K_rs = tr(W G_r W G_s)

the covariance of the parameters is A = 2 [K_rs - 2 tr(Phi Q_rs) + tr(Phi P_r Phi P_s)]^-1 and that
of the fixed effects Phi + 2 Phi {sum_rs A_rs (Q_rs - P_r Phi P_s)} Phi.

All of it comes from cross-products of the levels' columns Z, with B = Z'WZ and C = Z'WX: no array
has rows times rows. What involves the residual variance follows from W V W = W. Everything is in
units of sigma, and Z in the coordinates in which T is free.

References
----------
Kenward, Roger (1997), Biometrics 53, 983-997.
Halekoh, Hoejsgaard (2014), J. Stat. Softw. 59(9): pbkrtest, which is followed here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierpool.algebra.choose import MOST_TURNED, has_sparse_equations
from hierpool.algebra.correlated.covariance_products import covariance_products
from hierpool.algebra.correlated.factorisation import CorrelatedFactorisation
from hierpool.algebra.correlated.second_derivatives import has_natural_parameters, second_order
from hierpool.algebra.weighted_products import CovarianceParameter, WeightedProducts
from hierpool.core.design import Design
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.results import Estimate
from hierpool.reml.criterion import Criterion
from hierpool.reml.f_tests import FTest

LARGEST = 4000  # columns of several factors together: one dense block of that size squared
LINEAR = ("cs", "toep", "symm", "us")  # structures whose covariances are free, or equal
_FLAT = 1e-10  # eigenvalue of the scaled information below which a direction is not identified


@dataclass(frozen=True)
class KenwardRoger:
    """Adjusted covariance of the fixed effects.

    Attributes
    ----------
    covariance
        Shape (p, p): adjusted, in the user's coding.
    plain
        Shape (p, p): Phi, not adjusted.
    P
        Shape (m, p, p): derivatives of Phi^-1 by the parameters, in the user's coding.
    parameters
        Shape (m, m): covariance A of the parameters.
    """

    covariance: np.ndarray
    plain: np.ndarray
    P: np.ndarray
    parameters: np.ndarray

    @classmethod
    def from_estimate(cls, design: Design, estimate: Estimate) -> KenwardRoger:
        """From a REML fit of a partially pooled design.

        Raises
        ------
        UnsupportedModelError
            Several factors with too many levels, a fit that is not REML, or a residual structure that
            it is not for.
        """
        _check(design, estimate)
        criterion = Criterion.from_design(design, "REML")
        phi = estimate.residual_parameters
        theta = criterion.theta_of(estimate.relative_covariance_factor, phi)
        T, at = criterion.matrix(theta), criterion.at(theta)
        Phi = at.marginal.beta_covariance[0]
        patterns: list[np.ndarray] = []
        if isinstance(at, CorrelatedFactorisation):
            basis = criterion.basis
            patterns = [basis @ r.E @ basis.T for r in _parameters(design, T)]
            K, P, Q = covariance_products(at, patterns)
        else:
            weighted = criterion.algebra.weighted_products(criterion.basis, T)
            K, P, Q = _products(weighted, _parameters(design, T), Phi, design.residual.has_sigma)
        # Twice the expected REML information; the inverse is doubled for it.
        information = (
            K - 2 * np.einsum("ab,rsba->rs", Phi, Q) + np.einsum("rab,sba->rs", Phi @ P, Phi @ P)
        )
        A = 2 * _inverse(information)
        U = np.einsum("rs,rsab->ab", A, Q) - np.einsum("rs,rac,scb->ab", A, P, Phi @ P)
        U = U + U.T
        if isinstance(at, CorrelatedFactorisation) and not is_linear(design):
            U = U - second_order(at, patterns, A) / 2
        adjusted = Phi + Phi @ U @ Phi
        if not (np.diag(adjusted) > 0).all():
            raise _not_defined(design)
        x, size = criterion.coordinates.x, estimate.sigma**2
        into, back = x.from_working, x.to_working
        return cls(
            size * into @ adjusted @ into.T,
            size * into @ Phi @ into.T,
            back.T @ P @ back / size,
            A,
        )

    def test(self, L: np.ndarray, beta: np.ndarray) -> FTest:
        """Scaled F test of L beta = 0, L (r, p)."""
        q, moved = len(L), L @ beta
        wald = float(moved @ np.linalg.solve(L @ self.covariance @ L.T, moved)) / q
        Theta = L.T @ np.linalg.solve(L @ self.plain @ L.T, L)
        turned = Theta @ self.plain @ self.P @ self.plain
        traces = np.trace(turned, axis1=1, axis2=2)
        A1 = float(traces @ self.parameters @ traces)
        A2 = float(np.einsum("rs,rab,sba->", self.parameters, turned, turned))
        df, scale = _df_and_scale(q, A1, A2)
        return FTest(q, df, scale * wald)


def _not_defined(design: Design) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"Kenward and Roger's standard errors of {design.residual.term.words} do not exist at this "
        "optimum: what its curved covariances take off the variance of a coefficient is more than there "
        "is, as where a variance is hardly more than zero. Use df='satterthwaite'",
        "no-kenward-roger",
    )


def _df_and_scale(q: int, A1: float, A2: float) -> tuple[float, float]:
    """Denominator df and factor of the Wald statistic, by matching two moments of F."""
    if not A2 > 0:
        return np.inf, 1.0
    # Kenward and Roger (1997), section 3: E* = 1 / (1 - A2 / q), V* = (2 / q) V0 / (V1^2 V2), and
    # rho = V* / 2 E*^2. Guards against V0 or V1 of zero and a df of 2 are those of pbkrtest.
    B = (A1 + 6 * A2) / (2 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    below = 3 * q + 2 * (1 - g)
    V0 = 1 + g / below * B
    V1 = 1 - (q - g) / below * B
    V2 = 1 - (q + 2 - g) / below * B
    ratio = (1 - A2 / q) / V1 if V1 != 0 else 1.0
    rho = ratio**2 * (V0 if abs(V0) > 1e-10 else 0.0) / V2 / q
    df = 4 + (q + 2) / (q * rho - 1)
    scale = 1.0 if abs(df - 2) < 1e-2 else df * (1 - A2 / q) / (df - 2)
    return df, scale


def _check(design: Design, estimate: Estimate) -> None:
    if estimate.method != "REML":
        raise UnsupportedModelError(
            f"Kenward and Roger's method needs a REML fit, and this is {estimate.method}: use "
            "model.reml(), or df='satterthwaite'.",
            "kenward-roger-needs-reml",
        )
    structure, term = design.residual.structure, design.residual.term
    if structure is not None and not _has_independent_groups(design):
        raise UnsupportedModelError(
            f"Kenward and Roger's method is for residual structures of independent groups, beside one "
            f"factor or none, and {term.words} stands beside others. Use df='satterthwaite'",
            "no-kenward-roger",
        )
    if structure is not None and not is_linear(design) and not has_natural_parameters(structure):
        raise UnsupportedModelError(
            f"Kenward and Roger's standard errors of {term.words} would depend on how its parameters are "
            "written, as on the unit of time: its covariances are not linear in them, as those of cs, "
            "toep, symm, us and sds of classes are, and they are not variances and correlations alone. "
            "Use df='satterthwaite'",
            "no-kenward-roger",
        )
    if is_too_large(design):
        columns = _n_random_effects(design)
        raise UnsupportedModelError(
            f"{design.spec.formula} has {columns} coefficients of groups; with several factors "
            f"Kenward and Roger's method takes at most {LARGEST}, with related groups "
            f"{MOST_TURNED} and no slopes, because it needs a dense table of all pairs. Use "
            "df='satterthwaite'; with so many groups the two agree.",
            "kenward-roger-too-large",
        )


def is_linear(design: Design) -> bool:
    """Whether the covariances of residuals can be the parameters of their structure."""
    s, term = design.residual.structure, design.residual.term
    if s is None:
        return True
    if s.scale is not None or not _has_independent_groups(design):
        return False
    if term.correlation is None:
        return s.is_by_class
    return term.correlation.word in LINEAR and not term.spread


def _has_independent_groups(design: Design) -> bool:
    """Whether correlated rows lie in one level of one factor, or there is none."""
    s = design.residual.structure
    assert s is not None
    return len(design.groups) < 2 and all(s.lies_within(g.codes) for g in design.groups)


def is_too_large(design: Design) -> bool:
    """Whether the table of all pairs of random effects of several factors would be too large."""
    too_many = len(design.groups) > 1 and _n_random_effects(design) > LARGEST
    return too_many or has_sparse_equations(design)


def _n_random_effects(design: Design) -> int:
    return sum(len(g.terms) * g.grouping.n_levels for g in design.groups)


def _parameters(design: Design, T: np.ndarray) -> list[CovarianceParameter]:
    """The free entries of T T', factor by factor."""
    found = []
    for f, (group, at) in enumerate(zip(design.groups, design.group_columns, strict=True)):
        covariance = T[at, at] @ T[at, at].T
        for block in group.blocks:
            for pattern in block.patterns:
                E = np.zeros_like(covariance)
                E[block.columns, block.columns] = pattern
                found.append(
                    CovarianceParameter(f, E, float(covariance[tuple(np.argwhere(E)[-1])]))
                )
    return found


def _products(
    weighted: WeightedProducts,
    parameters: list[CovarianceParameter],
    Phi: np.ndarray,
    has_sigma: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K (m, m), P (m, p, p) and Q (m, m, p, p), the residual variance last."""
    m, p = len(parameters), len(Phi)
    size = m + has_sigma
    K, P, Q = np.zeros((size, size)), np.zeros((size, p, p)), np.zeros((size, size, p, p))
    for i, r in enumerate(parameters):
        P[i] = -weighted.first(r)
        for j, s in enumerate(parameters[: i + 1]):
            T = weighted.squares(r.factor, s.factor)
            K[i, j] = K[j, i] = np.einsum("ab,abcd,cd->", r.E, T, s.E)
            Q[i, j] = weighted.second(r, s)
            Q[j, i] = Q[i, j].T
    if has_sigma:
        # V = sum_r gamma_r G_r + I in units of sigma^2: what has I in the middle is what has V there, less
        # the other parameters' share.
        gamma = np.array([r.gamma for r in parameters])
        own = [float((r.E * weighted.diagonal(r.factor)).sum()) for r in parameters]
        K[m, :m] = K[:m, m] = np.array(own) - gamma @ K[:m, :m]
        K[m, m] = weighted.trace - gamma @ K[:m, m]
        P[m] = -np.linalg.inv(Phi) - np.tensordot(gamma, P[:m], 1)
        Q[m, :m] = -P[:m] - np.tensordot(gamma, Q[:m, :m], 1)
        Q[:m, m] = np.swapaxes(Q[m, :m], 1, 2)
        Q[m, m] = -P[m] - np.tensordot(gamma, Q[:m, m], 1)
    return K, P, Q


def _inverse(information: np.ndarray) -> np.ndarray:
    """Inverse, or where it is singular the pseudo-inverse, of the scaled information."""
    # Scaled, since a variance of slopes may be 1e12 times one of intercepts by its unit alone.
    diagonal = np.diag(information)
    size = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    inverse = np.linalg.pinv(information / np.outer(size, size), _FLAT, hermitian=True)
    return np.asarray(inverse / np.outer(size, size))
