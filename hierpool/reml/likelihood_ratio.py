"""Likelihood ratio tests of nested models, with the null distribution that fits the question."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from scipy import special

from hierpool.core.arguments import check_choice
from hierpool.core.design import Design
from hierpool.core.printable import one_line
from hierpool.core.results import Estimate
from hierpool.reml import pooling_limits
from hierpool.reml.bootstrap import Each, refits, seeds, simulate
from hierpool.reml.criterion import Method
from hierpool.reml.estimate import estimate
from hierpool.reml.nesting import Step, step

Null = Literal["auto", "simulated"]
_NOTHING = 1e-6  # twice a log-likelihood: less is rounding at the boundary
_BELOW = -1e-4  # an optimum of the larger model that was missed

type Fit = tuple[Design, Estimate]


@dataclass(frozen=True, repr=False)
class LikelihoodRatio:
    """A likelihood ratio test.

    Attributes
    ----------
    statistic
        Twice the difference of the log-likelihoods, at least 0.
    df
        Parameters that the larger model has more.
    p
        Probability of a statistic as large under the smaller model.
    null
        Where p comes from, in words.
    method
        ``"ML"`` or ``"REML"``.
    formulas, logliks
        Of the smaller model and the larger.
    notes
        What else to know: fits that were made anew, optima on the boundary.
    simulated
        Simulated statistics, where there are any.
    seed
        Of the simulations.
    """

    statistic: float
    df: int
    p: float
    null: str
    method: Method
    formulas: tuple[str, str]
    logliks: tuple[float, float]
    notes: tuple[str, ...] = ()
    simulated: np.ndarray | None = None
    seed: int | None = None

    def __repr__(self) -> str:
        word = "restricted log-likelihood" if self.method == "REML" else "log-likelihood"
        width = max(map(len, self.formulas))
        lines = [
            f"Likelihood ratio test by {self.method}",
            *(
                f"  {formula:<{width}}   {word} {loglik:.4f}"
                for formula, loglik in zip(self.formulas, self.logliks, strict=True)
            ),
            f"statistic {self.statistic:.4g}, {self.df} more parameter{'s' * (self.df > 1)}, "
            f"p = {self.p:.3g}",
            f"null: {self.null}",
            *self.notes,
        ]
        return "\n".join(map(one_line, lines))


@dataclass(frozen=True)
class Simulating:
    """How null distributions are simulated."""

    null: Null
    number: int
    seed: int | None
    each: Each[np.random.SeedSequence, float]


def likelihood_ratio(smaller: Fit, larger: Fit, how: Simulating) -> LikelihoodRatio:
    """Test of the smaller model within the larger."""
    check_choice("null", how.null, get_args(Null))
    more = step(smaller[0], larger[0])
    method, notes = _method(smaller, larger)
    fits = [_by(fit, method) for fit in (smaller, larger)]
    recoded = (
        _recoding(smaller[0].observations.X, larger[0].observations.X) if method == "REML" else 0.0
    )
    logliks = (_loglik(fits[0], method) - recoded, _loglik(fits[1], method))
    statistic = 2 * (logliks[1] - logliks[0])
    if statistic < _BELOW:
        notes += (
            f"The larger model's optimum lies {-statistic / 2:.2g} below the smaller's, so the "
            "search did not find it.",
        )
    statistic = statistic if statistic > _NOTHING else 0.0
    notes += tuple(
        f"{design.spec.formula}: {e.status.sentence}"
        for design, e in fits
        if e.status.word != "converged"
    )
    formulas = (smaller[0].spec.shown, larger[0].spec.shown)
    test = LikelihoodRatio(statistic, more.df, np.nan, "", method, formulas, logliks, notes)
    if how.null == "auto" and more.weights is not None:
        return replace(test, p=_mixture(statistic, more.weights), null=_said(more))
    return _by_simulation(test, fits, how)


def _by_simulation(test: LikelihoodRatio, fits: list[Fit], how: Simulating) -> LikelihoodRatio:
    """The test with a null distribution of responses simulated from the smaller fit."""
    own, simulated, failed = _simulated(fits, test.method, how)
    above = int((simulated >= test.statistic).sum())  # all of them where it is 0
    notes = (f"{failed} of {how.number} simulations failed and were left out.",) if failed else ()
    return replace(
        test,
        # The observed one is counted too, so that p is never zero (Davison and Hinkley 1997).
        p=(1 + above) / (1 + len(simulated)),
        null=f"simulated from the smaller model, {len(simulated)} responses",
        notes=test.notes + notes,
        simulated=simulated,
        seed=own,
    )


def _method(smaller: Fit, larger: Fit) -> tuple[Method, tuple[str, ...]]:
    """REML where it compares, and what to say where fits were REML and ML is needed."""
    methods = {fit[1].method for fit in (smaller, larger)}
    same_X = np.isfinite(_recoding(smaller[0].observations.X, larger[0].observations.X))
    if "REML" not in methods:
        return "ML", ()
    if same_X and "ML" not in methods:
        return "REML", ()
    why = "the other fit is ML" if same_X else "the fixed effects differ"
    return "ML", (f"Refitted by ML: REML likelihoods are not comparable where {why}.",)


def _recoding(X: np.ndarray, other: np.ndarray) -> float:
    """log |det B| where other = X B, one coding of the same fixed effects; NaN where it is not.

    A restricted log-likelihood in the coding of X is that of the other plus this: centring moves
    none, a change of unit does.
    """
    if X.shape != other.shape:
        return np.nan
    if np.array_equal(X, other):
        return 0.0
    size = np.linalg.norm(X, axis=0)
    B = np.linalg.lstsq(X / size, other)[0]
    if not np.allclose(X / size @ B, other, rtol=1e-7, atol=1e-9 * np.abs(other).max()):
        return np.nan
    return float(np.linalg.slogdet(B / size[:, None])[1])


def _by(fit: Fit, method: Method) -> Fit:
    """The fit by this method; least squares is both."""
    design, e = fit
    if e.method in {method, "least squares"}:
        return fit
    return design, estimate(design, method)


def loglik_by(fit: Fit, method: Method) -> float:
    """Log-likelihood of a fit by another method, refitted if need be."""
    return _loglik(_by(fit, method), method)


def _loglik(fit: Fit, method: Method) -> float:
    design, e = fit
    if e.method == "least squares" and method == "REML":
        return pooling_limits.restricted_loglik(design)
    return e.loglik


def _mixture(statistic: float, weights: tuple[tuple[int, float], ...]) -> float:
    """Probability of a statistic as large; chi-squared with 0 df is 0."""
    if statistic <= 0:
        return 1.0
    return float(sum(w * special.chdtrc(df, statistic) for df, w in weights if df > 0))


def _said(more: Step) -> str:
    assert more.weights is not None
    if len(more.weights) == 1:
        return f"chi-squared with {more.df} df"
    (low, _), (high, _) = more.weights
    source = "Self and Liang 1987" if more.parameters == 1 else "Stram and Lee 1994"
    return f"50:50 mixture of chi-squareds with {low} and {high} df ({source})"


def _simulated(fits: list[Fit], method: Method, how: Simulating) -> tuple[int, np.ndarray, int]:
    """The seed, statistics of responses simulated from the smaller fit, and how many failed."""
    own, each_seed = seeds(how.number, how.seed)
    models = [refits(*fit, method) for fit in fits]
    (design, e), (other, _) = fits
    recoded = _recoding(design.observations.X, other.observations.X) if method == "REML" else 0.0

    def work(seed: np.random.SeedSequence) -> float:
        y = simulate(design, e, seed)
        small, large = (model.to(y) for model in models)
        if small is None or large is None:
            return np.nan
        difference = 2 * (large.loglik - small.loglik + recoded)
        return 0.0 if difference < _NOTHING else difference

    found = np.array(how.each(work, each_seed))
    kept = found[np.isfinite(found)]
    return own, kept, len(found) - len(kept)
