"""Parameter recovery: how well each pooling estimates the true coefficients of the groups."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from arviz_base import rcParams
from arviz_stats.base import array_stats
from scipy import special

from hierpool.algebra.moments import single_group
from hierpool.bayes import choose
from hierpool.bayes import simulate as prior_draws
from hierpool.bayes.choose import is_trusted
from hierpool.bayes.exact.log_posterior import log_posterior
from hierpool.bayes.exact.refit_with_priors import sample_judged
from hierpool.bayes.parts.residual import ResidualPart
from hierpool.bayes.priors.model_priors import ModelPriors, default_priors
from hierpool.core.design import Design, check_gaussian
from hierpool.core.errors import ArgumentError, UnsupportedModelError
from hierpool.core.options import options, tails
from hierpool.core.printable import one_line, printable
from hierpool.core.threads import in_threads
from hierpool.fits.optimum import LikelihoodFit
from hierpool.fits.posterior import PosteriorFit
from hierpool.formula.build import encode
from hierpool.formula.parse import make_like, read_columns
from hierpool.formula.pooling import (
    complete_pooling_spec,
    no_pooling_spec,
    read_rows,
)
from hierpool.model import Model
from hierpool.reml import estimate
from hierpool.simulation.calibration import (
    CHAINS,
    DRAWS,
    MORE_DRAWS,
    check_model,
)


@dataclass(frozen=True)
class Estimated:
    """Estimates of the levels' coefficients with intervals, shapes (J, q)."""

    estimate: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    @classmethod
    def from_draws(cls, draws: np.ndarray) -> Estimated:
        """Posterior means, and intervals of ``hp.options.prob``, of draws (K, J, q)."""
        interval = array_stats.hdi if rcParams["stats.ci_kind"] == "hdi" else array_stats.eti
        bounds = interval(draws.reshape(len(draws), -1), prob=options.prob, axis=0)
        lower, upper = bounds.reshape(*draws.shape[1:], 2).transpose(2, 0, 1)
        return cls(draws.mean(axis=0), lower, upper)

    @classmethod
    def normal(cls, estimate: np.ndarray, se: np.ndarray) -> Estimated:
        """Normal intervals of the same probability."""
        half = special.ndtri(tails()[1]) * se
        return cls(estimate, estimate - half, estimate + half)


Simulate = Callable[[np.random.Generator], tuple[np.ndarray, Any]]
"""Random generator -> true coefficients (J, q), and a response that the estimators take."""
Estimator = Callable[[Any, int], Estimated]
"""Response and seed -> estimates."""


@dataclass(frozen=True, repr=False)
class Recovery:
    """Errors and coverage for the coefficients of the groups, by estimator, in simulated data.

    Attributes
    ----------
    formula
        The model that the data were simulated from.
    truth
        Source of the true parameters, in words.
    probability
        Nominal coverage of the intervals, that of ``hp.options``.
    simulations, seed, seconds
        How it was made.
    table
        Index (estimator, term); columns ``bias`` (mean error over levels and simulations),
        ``rmse``, ``coverage`` (share of the intervals that contain the truth), their Monte Carlo
        errors ``bias_mcse``, ``rmse_mcse``, ``coverage_mcse``, and ``width`` (mean width of the
        intervals).
    """

    formula: str
    truth: str
    probability: float
    simulations: int
    seed: int
    seconds: float
    table: pd.DataFrame

    @property
    def sentence(self) -> str:
        """Which estimator has the smallest error, and whether coverage is nominal."""
        parts = []
        for term, rows in self.table.groupby(level="term", sort=False):
            best = rows.index.get_level_values("estimator")[int(rows["rmse"].argmin())]
            parts.append(f"{best} ({term})")
        miss = (self.table["coverage"] - self.probability).abs() > np.maximum(
            0.03, 3 * self.table["coverage_mcse"]
        )
        outside = self.table[miss].reset_index()
        columns = (outside[c] for c in ("estimator", "coverage", "term"))
        missed = [
            f"{name} {share:.0%} ({term})" for name, share, term in zip(*columns, strict=True)
        ]
        text = f"Smallest rmse: {', '.join(parts)}."
        nominal = f"the nominal {self.probability:.0%}"
        if missed:
            return f"{text} Coverage differs from {nominal}: {', '.join(missed)}."
        return f"{text} No coverage differs clearly from {nominal}."

    def __repr__(self) -> str:
        lines = [
            f"Recovery of {self.formula} at {self.truth}",
            self.sentence,
            f"{self.simulations} simulations, seed {self.seed}, {self.seconds:.1f} s",
        ]
        table = self.table.to_string(float_format=lambda v: f"{v:.3g}")
        return printable("\n".join([*map(one_line, lines), "", table]))

    def _repr_html_(self) -> str:
        from html import escape

        head = "<br>".join(escape(line) for line in repr(self).split("\n\n")[0].splitlines())
        table = self.table.to_html(float_format=lambda v: f"{v:.3g}")
        return printable(f"<p>{head}</p>{table}")


def simulate_and_score(
    simulate: Simulate,
    estimators: Mapping[str, Estimator],
    terms: tuple[str, ...],
    *,
    formula: str,
    truth: str,
    simulations: int,
    seed: int,
    progress: bool = True,
) -> Recovery:
    """Errors of several estimators of the same coefficients, over the same simulated responses.

    Parameters
    ----------
    simulate
        True coefficients and a response.
    estimators
        Name -> estimator.
    terms
        Names of the q coefficients.
    formula, truth
        For the printed form.
    simulations, seed, progress
        How many; one seed, one answer; whether to show a bar.
    """
    if simulations < 2:
        raise ArgumentError(f"simulations={simulations}: at least 2 are needed", "bad-count")
    start = time.perf_counter()

    def one(source: np.random.SeedSequence) -> np.ndarray:
        rng = np.random.default_rng(source)
        true, response = simulate(rng)
        seeds = rng.integers(2**31, size=len(estimators))
        made = [e(response, int(s)) for e, s in zip(estimators.values(), seeds, strict=True)]
        return np.stack([_scores(e, true) for e in made])

    # One at a time: small fits are Python more than compiled, and the compiled part is threaded.
    sources = np.random.SeedSequence(seed).spawn(simulations)
    every = np.stack(in_threads(one, sources, f"simulating {formula}", 1, progress))
    index = pd.MultiIndex.from_product([list(estimators), terms], names=["estimator", "term"])
    return Recovery(
        formula=formula,
        truth=truth,
        probability=options.prob,
        simulations=simulations,
        seed=seed,
        seconds=time.perf_counter() - start,
        table=pd.DataFrame(_summary(every), index=index),
    )


def _scores(made: Estimated, true: np.ndarray) -> np.ndarray:
    """Shape (q, 4): over the levels, mean error, mean squared error, coverage, mean width."""
    error = made.estimate - true
    inside = (made.lower <= true) & (true <= made.upper)
    each = [error, error**2, inside, made.upper - made.lower]
    return np.stack([np.mean(v, axis=0) for v in each], axis=1)


def _summary(every: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of the table from scores (simulations, estimators, q, 4)."""
    mean = every.mean(axis=0).reshape(-1, 4)
    mcse = (every.std(axis=0, ddof=1) / np.sqrt(len(every))).reshape(-1, 4)
    rmse = np.sqrt(mean[:, 1])
    return {
        "bias": mean[:, 0],
        "rmse": rmse,
        "coverage": mean[:, 2],
        "width": mean[:, 3],
        "bias_mcse": mcse[:, 0],
        # Delta method: d sqrt(m) = dm / (2 sqrt(m)).
        "rmse_mcse": mcse[:, 1] / (2 * rmse),
        "coverage_mcse": mcse[:, 2],
    }


def recovery(
    model: Model,
    simulations: int = 100,
    *,
    at: Literal["reml", "prior"] | PosteriorFit | LikelihoodFit = "reml",
    seed: int | None = None,
    progress: bool = True,
) -> Recovery:
    """Parameter recovery of no, complete and partial pooling and of BLUPs, in simulated data.

    Responses are simulated from the model, with new groups each time. The four estimators are applied
    to each data set, and their estimates of the coefficients of every group are compared with the
    truth.

    Parameters
    ----------
    model
        A partially pooled model.
    simulations
        How many simulated responses.
    at
        True parameters: ``"reml"``, the REML estimates from the model's data; a fit, its estimates
        (posterior means); ``"prior"``, drawn from the priors for each data set.
    seed
        The same seed gives the same result; None: a fresh one, recorded.
    progress
        Show a progress bar if it takes over a second.

    Returns
    -------
    Recovery
        Bias, rmse and coverage by estimator and term; intervals have the probability of
        ``hp.options``, those of BLUPs are normal.
    """
    check_model(model, "recovery")
    design, priors = model.design, model.priors
    check_gaussian(design.schema, "recovery()")
    group = single_group(design)
    if group is None or not group.is_pooled:
        raise UnsupportedModelError(
            f"{model.formula} does not pool partially, so there are no group effects to recover. Use "
            "varying_intercept(...) or "
            "varying_slope(...).",
            "no-random-effects",
        )
    if not priors.is_integrable:
        raise UnsupportedModelError(
            f"recovery of {model.formula} needs normal priors on its coefficients.",
            "exact-needs-normal",
        )
    if design.samples_scales:
        raise UnsupportedModelError(
            f"recovery of {model.formula} needs the exact engine: "
            f"{choose.not_for_exact(design, priors)}. Use hp.calibrate(model, engine='nuts')",
            "beyond-quadrature",
        )
    given, truth = _parameters_at(model, at)

    def simulate(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if given is None:
            drawn = prior_draws.draw_parameters(design, priors, rng)
        else:
            drawn = prior_draws.at_parameters(design, given, rng)
        return drawn.named(design)[f"coef_{group.factor}"], prior_draws.simulate(design, drawn, rng)

    return simulate_and_score(
        simulate,
        _estimators(model),
        group.terms,
        formula=model.formula,
        truth=truth,
        simulations=simulations,
        seed=choose.fresh_seed() if seed is None else seed,
        progress=progress,
    )


def _parameters_at(model: Model, at: Any) -> tuple[prior_draws.Parameters | None, str]:
    """Parameters to simulate at, None for those of the priors, and words for them."""
    if isinstance(at, str) and at == "prior":
        return None, "parameters drawn from the priors"
    if isinstance(at, str) and at == "reml":
        at = model.reml()
    if not isinstance(at, (LikelihoodFit, PosteriorFit)):
        raise ArgumentError(f"at={at!r}: choose 'reml', 'prior' or a fit", "unknown-choice")
    if at.design.spec != model.design.spec:
        raise ArgumentError(
            f"at= is a fit of {at.design.spec.formula}, but the model is {model.formula}",
            "unknown-choice",
        )
    if isinstance(at, LikelihoodFit):
        e = at.estimate
        roots = tuple(
            prior_draws.covariance_root(f.sd, np.where(np.isnan(f.corr), 0.0, f.corr))
            for f in e.factors
        )
        optimal = prior_draws.Parameters(e.beta, e.sigma, roots, phi=e.residual_parameters)
        return optimal, f"its {e.method} optimum"
    posterior = at.draws["posterior"].mean(("chain", "draw"))
    found = []
    for group in model.design.groups:
        sd, corr = posterior[f"sd_{group.factor}"].to_numpy(), np.eye(len(group.terms))
        if group.has_correlation:
            corr = posterior[f"corr_{group.factor}"].to_numpy()
        found.append(prior_draws.covariance_root(sd, corr))
    beta = posterior["beta"].to_numpy() if "beta" in posterior else np.zeros(0)
    sigma = float(posterior["sigma"]) if model.design.residual.has_sigma else 1.0
    own = model.priors.residual_structure
    phi = None if own is None else own.phi(at.theta).mean(axis=0)
    return prior_draws.Parameters(beta, sigma, tuple(found), phi=phi), "its posterior means"


def _estimators(model: Model) -> dict[str, Estimator]:
    """No, complete and partial pooling, and BLUPs, of the levels' coefficients of a model."""
    design = model.design
    group = design.groups[0]
    spec = design.spec
    columns = make_like(spec, read_columns(spec.without_bars))
    rows = read_rows(columns, design.frame, group.factor)
    complete = encode(complete_pooling_spec(columns, group.factor), rows)
    own = encode(no_pooling_spec(columns, group.factor), rows)
    residual = [part for part in model.priors.parts if isinstance(part, ResidualPart)]
    common = replace(model.priors, parts=tuple(residual))
    return {
        "no_pooling": lambda y, seed: _drawn(own, default_priors(own.schema), y, seed, group.terms),
        "complete_pooling": lambda y, seed: _drawn(complete, common, y, seed, group.terms),
        "partial_pooling": lambda y, seed: _drawn(design, model.priors, y, seed, group.terms),
        "blup": lambda y, seed: _blup(design.with_response(y)),
    }


def _drawn(
    design: Design, priors: ModelPriors, y: np.ndarray, seed: int, terms: tuple[str, ...]
) -> Estimated:
    """Posterior means and intervals of the levels' coefficients on these terms."""
    target = log_posterior(design.with_response(y), priors)
    rng = np.random.default_rng(seed)
    found, _ = sample_judged(target, CHAINS, MORE_DRAWS * DRAWS, rng, is_trusted)
    theta, working = target.drawn(found.flat, rng)
    drawn = target.integrated.draw_coefficients(working, rng)
    n_levels = next(iter(design.groupings.values())).n_levels
    K = len(theta)
    values = np.zeros((K, n_levels, len(terms)))
    group = single_group(design)
    for k, term in enumerate(terms):
        if group is not None and term in group.terms:
            values[..., k] = drawn[f"coef_{group.factor}"][..., group.terms.index(term)]
        elif term in design.terms:
            values[..., k] = drawn["beta"][:, [design.terms.index(term)]]
    return Estimated.from_draws(values)


def _blup(design: Design) -> Estimated:
    e = estimate.estimate(design, "REML")
    variance = np.diagonal(e.only.coef_covariance, axis1=-2, axis2=-1)
    return Estimated.normal(e.only.coef, np.sqrt(variance))
