"""Least squares as the two limits of the group variance: zero (one line) and infinity (a line each).

Complete pooling is the algebra of ``algebra.gaussian`` without levels. No pooling lets the variance
of the levels go to infinity: each level's block A_j of the normal equations is solved by itself,
and what is common to all is estimated from what the levels leave over. A coefficient that the
rows cannot tell (one row, one value of the predictor, a predictor that is constant within levels)
is NaN, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hierpool.algebra.gaussian import LOG_2PI, BetaPrior, condition
from hierpool.algebra.moments import Coordinates, Moments, Rows, single_group
from hierpool.algebra.sweep import SweptLevels, swept_inverse
from hierpool.core.design import EXACT_FIT, Design, exact_fit
from hierpool.core.errors import DataError
from hierpool.core.results import Estimate, FactorEstimate, Status


def complete_pooling(design: Design) -> Estimate:
    """Ordinary least squares on all rows; log-likelihood by ML."""
    coordinates = Coordinates.from_design(design)
    rows = Rows.from_design(design, coordinates)
    no_levels = rows.without_levels
    moments = Moments.from_rows(no_levels)
    df = design.n - moments.p
    first = condition(moments, np.ones(1), np.zeros((1, 0, 0)), BetaPrior.flat(moments.p))
    residual = no_levels.residuals(first.beta[0], np.zeros((0, 0)))
    # From the residuals: yy - c'r would lose its digits where the fit is close.
    ss = float(np.square(residual / rows.sd).sum())
    sigma = _sigma(design, ss, df)
    x = coordinates.x
    return _estimate(
        beta=coordinates.beta_to_user(first.beta)[0],
        beta_covariance=sigma**2
        * x.from_working
        @ first.marginal.beta_covariance[0]
        @ x.from_working.T,
        sigma=sigma,
        sigma_is_known=not design.residual.has_sigma,
        df=df,
        fitted=design.observations.y - residual,
        loglik=_ml_loglik(design, ss, moments.log_sd),
        n_parameters=moments.p + design.residual.has_sigma,
        sentence="least squares on all rows, one line for all groups.",
    )


def restricted_loglik(design: Design) -> float:
    """REML log-likelihood of complete pooling, in the user's coding."""
    coordinates = Coordinates.from_design(design)
    rows = Rows.from_design(design.with_schema(groups=()), replace(coordinates, zs=()))
    moments = Moments.from_rows(rows)
    at = condition(moments, np.ones(1), np.zeros((1, 0, 0)), BetaPrior.flat(moments.p)).marginal
    df = design.n - moments.p
    ss = float(np.square(rows.residuals(at.beta[0], np.zeros((0, 0))) / rows.sd).sum())
    residual = df * (1 + float(np.log(ss / df))) if design.residual.has_sigma else ss
    log_dets = float(at.log_det_population[0]) + 2 * float(np.log(coordinates.x.scales).sum())
    return -0.5 * (df * LOG_2PI + residual + log_dets) - moments.log_sd


@dataclass(frozen=True)
class OwnLines:
    """Least squares of each level, and of what is common to all, in working coordinates.

    Attributes
    ----------
    design, coordinates, rows, moments
        A design without pooling, and its rows and cross-products.
    swept
        Generalised inverses of the levels' blocks.
    through
        Shape (J, q, p): what a level's coefficients take from the common ones.
    beta, beta_inverse, estimable
        Shapes (p,), (p, p), (p,): the common coefficients; 0 where not estimable.
    own
        Shape (J, q): the levels' coefficients; 0 where not estimable.
    """

    design: Design
    coordinates: Coordinates
    rows: Rows
    moments: Moments
    swept: SweptLevels
    through: np.ndarray
    beta: np.ndarray
    beta_inverse: np.ndarray
    estimable: np.ndarray
    own: np.ndarray

    @classmethod
    def from_design(cls, design: Design) -> OwnLines:
        """Solve the normal equations."""
        coordinates = Coordinates.from_design(design)
        rows = Rows.from_design(design, coordinates)
        m = Moments.from_rows(rows)
        # Levels eliminated first (Frisch and Waugh), then what their columns left of the common
        # ones: the pivots compare with the columns before that, so that a constant one is aliased.
        swept = SweptLevels.from_cross_products(m.A[m.design_of])
        C = m.C[m.design_of]
        # A downdate; pivots of rounding are told from real ones by comparing them with XX.
        left = m.XX - np.einsum("jap,jab,jbr->pr", C, swept.inverse, C)
        right = m.Xy - np.einsum("jap,jab,jb->p", C, swept.inverse, m.b)
        inverse, estimable = swept_inverse(left, np.diag(m.XX))
        beta = inverse @ right
        own = np.einsum("jab,jb->ja", swept.inverse, m.b - C @ beta)
        through = swept.inverse @ C
        return cls(design, coordinates, rows, m, swept, through, beta, inverse, estimable, own)

    @property
    def in_user_coding(self) -> tuple[np.ndarray, np.ndarray]:
        """Shapes (p,), (J, q): common and own coefficients; NaN where not estimable.

        A level with one value of x keeps its mean as intercept, as R's lm does: only the slope is
        NaN.
        """
        z, x = self.coordinates.z, self.coordinates.x
        assert z is not None
        coef = self.own @ z.from_working.T + _moved(self.coordinates, self.beta)
        beta = np.where(self.estimable, x.from_working @ self.beta, np.nan)
        return beta, np.where(self.swept.is_estimable, coef, np.nan)

    @property
    def covariances(self) -> tuple[np.ndarray, np.ndarray]:
        """Shapes (p, p), (J, q, q): of common and own coefficients, in units of sigma^2; NaN likewise."""
        z, x = self.coordinates.z, self.coordinates.x
        assert z is not None
        through, missing, unknown = self.through, ~self.swept.is_estimable, ~self.estimable
        own = self.swept.inverse + through @ self.beta_inverse @ np.swapaxes(through, -1, -2)
        own = z.from_working @ own @ z.from_working.T
        own[missing[:, :, None] | missing[:, None, :]] = np.nan
        common = x.from_working @ self.beta_inverse @ x.from_working.T
        common[unknown[:, None] | unknown] = np.nan
        return common, own


def own_coefficients(design: Design) -> tuple[np.ndarray, np.ndarray]:
    """Common and own coefficients of a design without pooling, shapes (p,) and (J, q).

    Least squares, in the user's coding; NaN where not estimable. Unlike ``no_pooling`` it needs no
    rows to spare for a residual sd.
    """
    return OwnLines.from_design(design).in_user_coding


def no_pooling(design: Design) -> Estimate:
    """Least squares with own coefficients per level, common ones for what does not vary.

    A common column that is constant within levels is aliased with the levels' intercepts: NaN.
    """
    group = single_group(design)
    assert group is not None
    solved = OwnLines.from_design(design)
    swept, estimable = solved.swept, solved.estimable
    residual = solved.rows.residuals(solved.beta, solved.own)
    ss = float(np.square(residual / solved.rows.sd).sum())
    rank = int(swept.is_estimable.sum() + estimable.sum())
    df = design.n - rank
    sigma = _sigma(design, ss, df)
    beta, coef = solved.in_user_coding
    beta_covariance, coef_covariance = (sigma**2 * each for each in solved.covariances)
    none1, none2 = np.zeros(0), np.zeros((0, 0))
    none3 = np.zeros((0, 0, 0))
    own_lines = FactorEstimate(
        factor=group.factor,
        sd=none1,
        sd_se=none1,
        corr=none2,
        corr_se=none2,
        u=np.zeros((0, group.Z.shape[1])),
        coef=coef,
        u_pev=none3,
        u_condvar=none3,
        coef_covariance=coef_covariance,
    )
    return _estimate(
        beta=beta,
        beta_covariance=beta_covariance,
        sigma=sigma,
        sigma_is_known=not design.residual.has_sigma,
        df=df,
        fitted=design.observations.y - residual,
        loglik=_ml_loglik(design, ss, solved.moments.log_sd),
        n_parameters=rank + design.residual.has_sigma,
        sentence=f"least squares, {rank - int(estimable.sum())} separate coefficients for "
        f"{group.grouping.n_levels} groups of {group.factor}.",
        factors=(own_lines,),
    )


def _moved(coordinates: Coordinates, beta: np.ndarray) -> np.ndarray:
    assert coordinates.z is not None
    moved = coordinates.y_shift - (beta / coordinates.x.scales) @ coordinates.x.means
    return moved * coordinates.z.constant


def _sigma(design: Design, ss: float, df: int) -> float:
    if not design.residual.has_sigma:
        return 1.0
    if df <= 0:
        raise DataError(
            f"{design.spec.formula} has as many coefficients as rows ({design.n}), so least "
            "squares cannot estimate a residual sd. Use partial pooling.",
            "no-residual-df",
        )
    sigma = float(np.sqrt(ss / df))
    if not sigma > EXACT_FIT * design.schema.response_scale.largest_sigma:
        raise exact_fit(design.schema, sigma)
    return sigma


def _ml_loglik(design: Design, ss: float, log_sd: float) -> float:
    n = design.n
    if design.residual.has_sigma:
        ss = n * (1 + float(np.log(max(ss, np.finfo(float).tiny) / n)))
    return -0.5 * (n * LOG_2PI + ss) - log_sd


def _estimate(
    *,
    beta: np.ndarray,
    beta_covariance: np.ndarray,
    sigma: float,
    df: int,
    fitted: np.ndarray,
    sigma_is_known: bool,
    loglik: float,
    n_parameters: int,
    sentence: str,
    factors: tuple[FactorEstimate, ...] = (),
) -> Estimate:
    return Estimate(
        method="least squares",
        beta=beta,
        beta_covariance=beta_covariance,
        sigma=sigma,
        # Delta method from Var(sigma_hat^2) = 2 sigma^4 / df.
        sigma_se=np.nan if sigma_is_known else sigma / np.sqrt(2 * df),
        factors=factors,
        fitted=fitted,
        loglik=loglik,
        n_parameters=n_parameters,
        relative_covariance_factor=np.zeros((0, 0)),
        status=Status("converged", sentence),
    )
