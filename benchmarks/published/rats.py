"""Cross-validation of growth curves of rats: three models under rstanarm's priors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats import loo as psis_loo
from scipy import special, stats

import hierpool as hp

from .analyses import Analysis, outside
from .posteriors import DRAWS, Posterior, rstanarm

FORMULAS = ("weight ~ age", "weight ~ age + (1 | rat)", "weight ~ age + (age | rat)")
FEWER = 2_000  # draws a chain where a model is fitted many times
BAD_K = 0.7
RATS = outside("bugs_rats")


@dataclass(frozen=True, slots=True)
class Scores:
    """Log score of each row given what it was left out of, and in sample."""

    left_out: np.ndarray
    in_sample: np.ndarray

    @property
    def elpd(self) -> float:
        return float(self.left_out.sum())

    @property
    def se(self) -> float:
        return _se_of_sum(self.left_out)

    @property
    def p_loo(self) -> float:
        return float(self.in_sample.sum()) - self.elpd


def _se_of_sum(scores: np.ndarray) -> float:
    return float(np.sqrt(len(scores)) * scores.std(ddof=1))


def log_density(found: Posterior, form: str) -> np.ndarray:
    """Shape (K, n): log density of each row given each draw."""
    tree = found.fit.with_log_likelihood(form).datatree
    values = tree["log_likelihood"]["y"].transpose("chain", "draw", "obs").to_numpy()
    return values.reshape(-1, values.shape[-1])


def psis(log_likelihood: np.ndarray):
    """ArviZ's PSIS-LOO of independent draws."""
    y = xr.DataArray(log_likelihood[None], dims=("chain", "draw", "obs"))
    tree = xr.DataTree.from_dict({"/log_likelihood": xr.Dataset({"y": y})})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of bad k's, which are dealt with
        return psis_loo(tree, pointwise=True, reff=1.0)


def conditional(formula: str) -> Callable[[pd.DataFrame], Scores]:
    """The usual PSIS-LOO, by importance sampling of every coefficient."""

    def fit(rows: pd.DataFrame) -> Scores:
        values = log_density(rstanarm(formula)(rows), "conditional")
        scores = psis(values).elpd_i.to_numpy()
        return Scores(scores, special.logsumexp(values, axis=0) - np.log(len(values)))

    return fit


def with_refits(
    formula: str, rows: pd.DataFrame, form: str = "integrated", draws: int = DRAWS
) -> Scores:
    """A fit without the row wherever Pareto k is bad; elsewhere importance sampling.

    ``form``: "integrated", of theta alone, the coefficients integrated out; "conditional", of
    every coefficient, as the source does it.
    """
    found = rstanarm(formula, draws)(rows)
    scored = psis(log_density(found, form))
    scores, k = scored.elpd_i.to_numpy().copy(), scored.pareto_k.to_numpy()
    for row in np.flatnonzero(k > BAD_K):
        rest = rstanarm(formula, FEWER)(rows.drop(index=rows.index[row]))
        scores[row] = score_new(rest, rows.iloc[[row]], is_known=True)[0]
    values = log_density(found, "conditional")
    return Scores(scores, special.logsumexp(values, axis=0) - np.log(len(values)))


def score_new(found: Posterior, rows: pd.DataFrame, is_known: bool) -> np.ndarray:
    """Log density of each new row by itself: of rats of the fit, or of others."""
    age = rows["age"].to_numpy(float)
    x = np.stack([np.ones_like(age), age])
    variance = found.fit.variable("sigma").to_numpy().reshape(-1, 1) ** 2
    coefficients = found.fit.variable("beta").to_numpy().reshape(-1, 2)
    groups = found.fit.design.groups
    if groups and is_known:
        (rat,) = rows["rat"].unique()
        u = found.fit.variable("u_rat").sel(rat=rat).to_numpy()
        u = u.reshape(len(coefficients), -1)
        coefficients = coefficients + np.pad(u, ((0, 0), (0, 2 - u.shape[1])))
    elif groups:
        variance = variance + _variance_between(found.fit, x)
    each = stats.norm(coefficients @ x, np.sqrt(variance)).logpdf(rows["weight"].to_numpy())
    return special.logsumexp(each, axis=0, b=found.weights[:, None])


def _variance_between(fit: hp.PosteriorFit, x: np.ndarray) -> np.ndarray:
    """Shape (K, n): variance of the expected weights of rats at the columns of x."""
    sd = fit.variable("sd_rat").to_numpy()
    sd = sd.reshape(-1, sd.shape[-1])
    q = sd.shape[1]
    corr = fit.variable("corr_rat").to_numpy().reshape(-1, q, q) if q > 1 else np.ones((1, 1, 1))
    z = x[:q]
    return np.einsum("kq,kr,kqr,qn,rn->kn", sd, sd, np.broadcast_to(corr, (len(sd), q, q)), z, z)


def by_rat(formula: str, rows: pd.DataFrame) -> np.ndarray:
    """Shape (n,): log score of each row by itself, given all other rats."""
    scores = np.empty(len(rows))
    for rat in rows["rat"].unique():
        here = (rows["rat"] == rat).to_numpy()
        rest = rstanarm(formula, FEWER)(rows[~here].reset_index(drop=True))
        scores[here] = score_new(rest, rows[here], is_known=False)
    return scores


def three_left_out(rows: pd.DataFrame) -> list[np.ndarray]:
    return [with_refits(formula, rows).left_out for formula in FORMULAS]


def three_by_rat(rows: pd.DataFrame) -> tuple[list[np.ndarray], np.ndarray]:
    return [by_rat(formula, rows) for formula in FORMULAS], rows["rat"].to_numpy()


def difference(model: int):
    """Elpd of M1 or M2 less that of M3."""
    return lambda scores: float((scores[model - 1] - scores[2]).sum())


def se_of_difference(model: int):
    return lambda scores: _se_of_sum(scores[model - 1] - scores[2])


def se_by_rat(model: int):
    """Standard error of the difference with the rows of a rat added up."""

    def read(found) -> float:
        scores, rats = found
        each = pd.Series(scores[model - 1] - scores[2]).groupby(rats).sum()
        return _se_of_sum(each.to_numpy())

    return read


def of_rows(read):
    return lambda found: read(found[0])


SLOPES = "weight ~ age + (age|rat)"
SCORES = {
    "elpd_loo": lambda found: found.elpd,
    "se": lambda found: found.se,
    "p_loo": lambda found: found.p_loo,
}

ANALYSES = (
    Analysis(
        "rats_kcv",
        SLOPES,
        "PSIS-LOO (12 bad k)",
        RATS,
        conditional(FORMULAS[2]),
        SCORES,
        is_quick=False,
        note="Importance sampling of every coefficient, unreliable as in the source; only here.",
    ),
    Analysis(
        "rats_kcv",
        SLOPES,
        "LOO with exact refits (k_threshold=0.7)",
        RATS,
        lambda rows: with_refits(FORMULAS[2], rows),
        SCORES,
        is_quick=False,
    ),
    Analysis(
        "rats_kcv",
        "M1/M2/M3",
        "loo_compare (reloo)",
        RATS,
        three_left_out,
        {
            "elpd_diff M2-M3": difference(2),
            "se_diff M2": se_of_difference(2),
            "elpd_diff M1-M3": difference(1),
            "se_diff M1": se_of_difference(1),
        },
        is_quick=False,
    ),
    Analysis(
        "rats_kcv",
        "M1/M2/M3",
        "leave-one-rat-out K=30, pointwise log score",
        RATS,
        three_by_rat,
        {
            "elpd_diff M2-M3": of_rows(difference(2)),
            "se_diff M2 (pointwise)": of_rows(se_of_difference(2)),
            "elpd_diff M1-M3": of_rows(difference(1)),
            "se_diff M1 (pointwise)": of_rows(se_of_difference(1)),
            "se_diff M2 (groupwise)": se_by_rat(2),
            "se_diff M1 (groupwise)": se_by_rat(1),
        },
        is_quick=False,
    ),
)
