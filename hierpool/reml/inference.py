"""Tests of the fixed effects: t and F with degrees of freedom, p values, intervals.

``usual`` is the one choice of degrees of freedom for every table of a fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd

from hierpool.core.arguments import check_choice
from hierpool.core.design import Design
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.group_nouns import nouns
from hierpool.core.options import bound_names, probability_of
from hierpool.core.results import Estimate, root_of_diagonal
from hierpool.reml.f_tests import FTest, Plain, Uncertainty, quantile, two_sided
from hierpool.reml.kenward_roger import KenwardRoger, is_linear, is_too_large
from hierpool.reml.satterthwaite import Satterthwaite

Df = Literal["satterthwaite", "kenward-roger", "residual", "normal"]


def coefficients(
    design: Design, beta: np.ndarray, how: Uncertainty, statistic: str, prob: float | None
) -> pd.DataFrame:
    """Fixed effects: estimate, se, df, statistic (t or z), p and interval."""
    bounds = bound_names("ci", prob)
    se = root_of_diagonal(how.covariance)
    units = np.eye(len(beta))
    own = np.array([how.test(unit[None], beta).den_df for unit in units])
    own = np.where(np.isfinite(beta), own, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = beta / se
    half = quantile(probability_of(prob), own) * se
    return pd.DataFrame(
        {
            "estimate": beta,
            "se": se,
            "df": own,
            statistic: t,
            "p": two_sided(t, own),
            bounds[0]: beta - half,
            bounds[1]: beta + half,
        },
        index=pd.Index(design.terms, name="term"),
    )


def anova(
    beta: np.ndarray, how: Uncertainty, contrasts: Sequence[tuple[str, np.ndarray]]
) -> pd.DataFrame:
    """F tests of the terms: num_df, den_df, F, p. ``contrasts`` has a hypothesis for each."""
    none = FTest(0, np.nan, np.nan)  # a term of which nothing is estimable
    tests = [how.test(L, beta) if len(L) else none for _, L in contrasts]
    return pd.DataFrame(
        {
            "num_df": np.array([t.num_df for t in tests], dtype=int),
            "den_df": np.array([t.den_df for t in tests], dtype=float),
            "F": np.array([t.F for t in tests], dtype=float),
            "p": np.array([t.p for t in tests], dtype=float),
        },
        index=pd.Index([name for name, _ in contrasts], name="term"),
    )


def chosen(design: Design, estimate: Estimate, df: Df) -> tuple[str, Uncertainty]:
    """A method that the user names, as tables call it, and how sure the fixed effects are.

    Of least squares every method but "normal" is the same.
    """
    check_choice("df", df, get_args(Df))
    plain = estimate.beta_covariance
    if design.family is not None and df != "normal":
        raise UnsupportedModelError(
            f"df={df!r} is for Gaussian responses, and {design.spec.formula} has "
            f"family={design.family.name!r}: its tests are normal, fixed_effects()",
            "normal-tests-only",
        )
    if design.scale_factor and df != "normal":
        raise UnsupportedModelError(
            f"df={df!r} is not available where residual sds differ between "
            f"{nouns(design.scale_factor)}: tests are normal, fixed_effects()",
            "normal-tests-only",
        )
    if df == "normal" or not len(plain):
        return "normal", Plain(plain, np.inf)
    if df == "residual" or estimate.method == "least squares":
        return "residual", Plain(plain, residual_df(design, estimate))
    if df == "kenward-roger":
        return "Kenward-Roger", KenwardRoger.from_estimate(design, estimate)
    return "Satterthwaite", Satterthwaite.from_estimate(design, estimate)


def usual(design: Design, estimate: Estimate) -> tuple[str, Uncertainty]:
    """The one choice for all tables of a fit, by name, and how sure the fixed effects are.

    Coefficients, F tests, means, slopes, contrasts and effects of terms take it. Kenward and
    Roger's for REML where it applies, else Satterthwaite's: for ML, where the variances are not
    identified, where several factors have too many groups, and for residual structures that are not
    linear in their covariances. Residual df for least squares.
    """
    if design.family is not None or design.scale_factor:
        return "normal", Plain(estimate.beta_covariance, np.inf)
    if estimate.method == "least squares":
        df = residual_df(design, estimate)
        return "normal" if np.isinf(df) else "residual", Plain(estimate.beta_covariance, df)
    if not len(estimate.beta):
        return "normal", Plain(estimate.beta_covariance, np.inf)
    has_information = estimate.status.word in ("converged", "singular")
    applies = is_linear(design) and not is_too_large(design)
    if applies and estimate.method == "REML" and has_information:
        try:
            return "Kenward-Roger", KenwardRoger.from_estimate(design, estimate)
        except UnsupportedModelError as error:
            if error.code != "kenward-roger-too-large":
                raise
    return "Satterthwaite", Satterthwaite.from_estimate(design, estimate)


def residual_df(design: Design, estimate: Estimate) -> float:
    """Rows less coefficients; infinite where the residual sds are known."""
    if not design.residual.has_sigma:
        return np.inf
    is_least_squares = estimate.method == "least squares"
    rank = estimate.n_parameters - 1 if is_least_squares else len(estimate.beta)
    return float(design.n - rank)
