"""Parameter recovery: how well each way of pooling finds the coefficients that made the data."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from arviz_base import rcParams
from arviz_stats.base import array_stats
from scipy import special

from hierpool.checks.threads import in_threads
from hierpool.core.errors import ArgumentError
from hierpool.core.printable import one_line, printable


@dataclass(frozen=True)
class Estimated:
    """Estimates of the levels' coefficients with intervals, shapes (J, q)."""

    estimate: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    @classmethod
    def of_draws(cls, draws: np.ndarray) -> Estimated:
        """Posterior means, and intervals as ArviZ's rcParams say, of draws (K, J, q)."""
        kind, probability = rcParams["stats.ci_kind"], float(rcParams["stats.ci_prob"])
        interval = array_stats.hdi if kind == "hdi" else array_stats.eti
        bounds = interval(draws.reshape(len(draws), -1), prob=probability, axis=0)
        lower, upper = bounds.reshape(*draws.shape[1:], 2).transpose(2, 0, 1)
        return cls(draws.mean(axis=0), lower, upper)

    @classmethod
    def normal(cls, estimate: np.ndarray, se: np.ndarray) -> Estimated:
        """Normal intervals of the same probability."""
        probability = float(rcParams["stats.ci_prob"])
        half = special.ndtri(0.5 + probability / 2) * se
        return cls(estimate, estimate - half, estimate + half)


Simulate = Callable[[np.random.Generator], tuple[np.ndarray, Any]]
"""Random generator -> true coefficients (J, q), and a response that the estimators take."""
Estimator = Callable[[Any, int], Estimated]
"""Response and seed -> estimates."""


@dataclass(frozen=True, repr=False)
class Recovery:
    """Errors and coverage of the levels' coefficients over simulated data, by estimator.

    Attributes
    ----------
    formula
        The model that the data were simulated from.
    truth
        Where its parameters came from, in words.
    probability
        Nominal coverage of the intervals, as ArviZ's rcParams say.
    simulations, seed, seconds
        How it was made.
    table
        Index (estimator, term); columns ``bias`` (mean error over levels and simulations),
        ``rmse``, ``coverage`` (share of the intervals that hold the truth), their Monte Carlo
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
        """Which estimator errs least, and whose intervals miss their nominal coverage."""
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
            return f"{text} Coverage away from {nominal}: {', '.join(missed)}."
        return f"{text} Every coverage is within reach of {nominal}."

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


def recovery(
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
        raise ArgumentError(f"simulations={simulations}: 2 at least", "bad-count")
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
        probability=float(rcParams["stats.ci_prob"]),
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
        "rmse_mcse": mcse[:, 1] / (2 * rmse),
        "coverage_mcse": mcse[:, 2],
    }
