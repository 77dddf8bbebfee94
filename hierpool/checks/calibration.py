"""Simulation-based calibration: whether the posteriors of a model are what they say they are.

Parameters are drawn from the priors and a response is simulated from them; the posterior is drawn
given that response. Over many simulations the rank of the true value among independent posterior
draws is uniform, for every quantity, if the engine is right. Uniformity is judged by simultaneous
bands of the ranks' empirical distribution.

References
----------
Talts, Betancourt, Simpson, Vehtari, Gelman (2018), arXiv:1804.06788.
Modrak, Moon, Kim, Buerkner, Huurre, Faltejskova, Gelman, Vehtari (2025), Bayesian Anal. 20,
461-488 (the log-likelihood as a quantity: without it an engine that returns the prior passes).
Saeilynoja, Buerkner, Vehtari (2022), Stat. Comput. 32, 32 (simultaneous bands).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd
from arviz_stats.base import array_stats
from scipy import stats

from hierpool.checks.threads import in_threads
from hierpool.core.errors import ArgumentError
from hierpool.core.printable import one_line, printable

KEPT = 99  # independent posterior draws per simulation: ranks 0..99
BAND = 0.99  # probability that all of a uniform sample's distribution is inside the band
_NULL_SAMPLES = 20_000
_NULL_SEED = 20220511


@dataclass(frozen=True)
class Simulated:
    """A simulated response with what made it.

    Attributes
    ----------
    truth
        Quantity -> value that the response was simulated from.
    response
        What ``Refit`` takes.
    """

    truth: Mapping[str, float]
    response: Any


@dataclass(frozen=True)
class Redrawn:
    """Posterior draws given a simulated response.

    Attributes
    ----------
    draws
        Quantity -> shape (kept,), close to independent.
    is_trusted
        Whether the engine's own verdict on these draws is good.
    """

    draws: Mapping[str, np.ndarray]
    is_trusted: bool


Simulate = Callable[[np.random.Generator], Simulated]
Refit = Callable[[Any, np.random.Generator], Redrawn]


@dataclass(frozen=True, repr=False)
class Calibration:
    """Ranks of true values among posterior draws, and whether they are uniform.

    Attributes
    ----------
    formula
        The model.
    engine
        Which engine drew.
    ranks
        One row a simulation, one column a quantity: how many of ``n_draws`` draws are below the
        true value.
    n_draws
        Draws kept of each posterior.
    n_distrusted
        Simulations whose draws the engine itself did not trust; they are counted all the same.
    seed, seconds
        How it was made.
    """

    formula: str
    engine: str
    ranks: pd.DataFrame
    n_draws: int
    n_distrusted: int
    seed: int
    seconds: float

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a quantity.

        ``p_value``: how often a uniform sample strays as far; below 0.01 it leaves its 99 % band.
        ``mean_rank``: 0.5 if right; above, the draws are too low. ``spread``: 1 if right; above,
        the posteriors are too narrow; below, too wide.
        """
        null = uniform_ranks(len(self.ranks), self.n_draws)
        scaled = (self.ranks + 0.5) / (self.n_draws + 1)
        strays = [null.closeness(self.ranks[name].to_numpy()) for name in self.ranks]
        return pd.DataFrame(
            {
                "p_value": [null.p_value(s) for s in strays],
                "inside": [s >= null.threshold for s in strays],
                "mean_rank": scaled.mean().to_numpy(),
                "spread": (scaled.std() * np.sqrt(12)).to_numpy(),
            },
            index=pd.Index(self.ranks.columns, name="quantity"),
        )

    @property
    def is_calibrated(self) -> bool:
        """Whether no quantity strays too far, all of them taken together (Bonferroni, 1 %)."""
        return bool(self.table["p_value"].min() * len(self.table) >= 1 - BAND)

    @property
    def verdict(self) -> str:
        """One sentence."""
        outside = self.table.index[~self.table["inside"]]
        n, size = len(self.table), len(self.ranks)
        if not len(outside):
            return (
                f"Calibrated: over {size} simulations the ranks of all {n} quantities stay inside "
                f"their {BAND:.0%} bands."
            )
        names = ", ".join(f"{q} ({_how(self.table.loc[q])})" for q in outside)
        if self.is_calibrated:
            return (
                f"Calibrated as far as {size} simulations can tell: {len(outside)} of {n} "
                f"quantities just outside the {BAND:.0%} band, {names}; among {n} that happens by "
                "chance. More simulations would tell."
            )
        return f"Not calibrated: outside the {BAND:.0%} band over {size} simulations: {names}."

    def band(self) -> pd.DataFrame:
        """The simultaneous band of the ranks' distribution: columns ``rank``, ``lower``, ``upper``.

        Shares of the simulations with a rank below ``rank``.
        """
        return uniform_ranks(len(self.ranks), self.n_draws).band()

    def __repr__(self) -> str:
        lines = [f"Calibration of {self.formula}", self.verdict]
        if self.n_distrusted:
            lines.append(f"{self.n_distrusted} posteriors were distrusted by the engine itself.")
        lines.append(
            f"{self.engine} engine, {self.n_draws} draws of each posterior, seed {self.seed}, "
            f"{self.seconds:.1f} s; hp.plots.calibration() shows it."
        )
        table = self.table.to_string(float_format=lambda v: f"{v:.3f}")
        return printable("\n".join([*map(one_line, lines), "", table]))

    def _repr_html_(self) -> str:
        from html import escape

        head = "<br>".join(escape(line) for line in repr(self).split("\n\n")[0].splitlines())
        table = self.table.to_html(float_format=lambda v: f"{v:.3f}")
        return printable(f"<p>{head}</p>{table}")


def _how(row: pd.Series[Any]) -> str:
    """In which way the ranks of a quantity are not uniform."""
    words = []
    if abs(row["mean_rank"] - 0.5) > 0.05:
        words.append("draws too low" if row["mean_rank"] > 0.5 else "draws too high")
    if abs(row["spread"] - 1) > 0.07:
        words.append("too narrow" if row["spread"] > 1 else "too wide")
    return " and ".join(words) or f"p = {row['p_value']:.2g}"


def calibrate(
    simulate: Simulate,
    refit: Refit,
    *,
    formula: str,
    engine: str,
    simulations: int,
    seed: int,
    progress: bool = True,
) -> Calibration:
    """Ranks of simulated truths among the draws of an engine.

    Parameters
    ----------
    simulate
        Draws parameters from the priors and a response from them.
    refit
        Posterior draws given a response, under the same priors.
    formula, engine
        For the printed form.
    simulations
        How many; the bands narrow with their square root.
    seed
        One seed, one answer.
    progress
        Whether to show a bar.
    """
    if simulations < 20:
        raise ArgumentError(
            f"simulations={simulations}: 20 at least, 100 to tell much", "bad-count"
        )
    start = time.perf_counter()

    def one(source: np.random.SeedSequence) -> tuple[dict[str, int], bool, int]:
        rng = np.random.default_rng(source)
        simulated = simulate(rng)
        redrawn = refit(simulated.response, rng)
        ranks = {q: _rank(v, redrawn.draws[q], rng) for q, v in simulated.truth.items()}
        return ranks, redrawn.is_trusted, len(next(iter(redrawn.draws.values())))

    # One at a time: small fits are Python more than compiled, and the compiled part is threaded.
    sources = np.random.SeedSequence(seed).spawn(simulations)
    done = in_threads(one, sources, f"calibrating {formula}", 1, progress)
    return Calibration(
        formula=formula,
        engine=engine,
        ranks=pd.DataFrame([ranks for ranks, _, _ in done]),
        n_draws=min(kept for _, _, kept in done),
        n_distrusted=sum(not trusted for _, trusted, _ in done),
        seed=seed,
        seconds=time.perf_counter() - start,
    )


def independent(*chained: np.ndarray) -> tuple[bool, np.ndarray]:
    """Whether draws (chains, draws) hold enough independent ones; positions of evenly spaced ones."""
    moving = [v for v in chained if np.ptp(v)]  # nothing moves where theta is empty
    ess = min([float(array_stats.ess(v, method="bulk")) for v in moving], default=np.inf)
    kept = np.linspace(0, chained[0].size - 1, KEPT).round().astype(np.intp)
    return ess >= KEPT, kept


def _rank(truth: float, draws: np.ndarray, rng: np.random.Generator) -> int:
    """How many draws are below the truth; ties, as at a correlation of one, fall at random."""
    return int((draws < truth).sum() + rng.integers(0, (draws == truth).sum(), endpoint=True))


@dataclass(frozen=True)
class UniformRanks:
    """How far the distribution of uniform ranks strays.

    Attributes
    ----------
    tails
        Shape (n_draws, simulations + 1): two-sided binomial tail probability of each count of
        ranks below 1, 2, ..., n_draws.
    closest
        Sorted closeness of simulated uniform samples.
    """

    tails: np.ndarray
    closest: np.ndarray

    @property
    def threshold(self) -> float:
        """Closeness below which a sample leaves its simultaneous band."""
        return float(np.quantile(self.closest, 1 - BAND))

    def closeness(self, ranks: np.ndarray) -> float:
        """Smallest two-sided tail probability over all points: small where the ranks stray."""
        counts = np.bincount(ranks, minlength=len(self.tails) + 1)
        return float(_closeness(self.tails, counts[None])[0])

    def p_value(self, closeness: float) -> float:
        """Share of uniform samples that stray as far."""
        below = np.searchsorted(self.closest, closeness, side="right")
        return float((1 + below) / (1 + len(self.closest)))

    def band(self) -> pd.DataFrame:
        """See ``Calibration.band``."""
        allowed = self.tails >= self.threshold
        n = self.tails.shape[1] - 1
        lower = allowed.argmax(axis=1) / n
        upper = 1 - allowed[:, ::-1].argmax(axis=1) / n
        rank = np.arange(1, len(self.tails) + 1)
        return pd.DataFrame({"rank": rank, "lower": lower, "upper": upper})


@lru_cache(maxsize=8)
def uniform_ranks(simulations: int, n_draws: int) -> UniformRanks:
    """What ranks from 0 to ``n_draws`` do in so many simulations if they are uniform."""
    at = np.arange(1, n_draws + 1)[:, None] / (n_draws + 1)
    counts = np.arange(simulations + 1)
    below = stats.binom.cdf(counts, simulations, at)
    above = stats.binom.sf(counts - 1, simulations, at)
    tails = np.minimum(1.0, 2 * np.minimum(below, above))
    rng = np.random.default_rng(_NULL_SEED)
    samples = rng.multinomial(simulations, np.full(n_draws + 1, 1 / (n_draws + 1)), _NULL_SAMPLES)
    return UniformRanks(tails, np.sort(_closeness(tails, samples)))


def _closeness(tails: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Shape (samples,): smallest tail probability of samples given as counts of each rank."""
    below = counts.cumsum(axis=1)[:, :-1]
    return np.asarray(tails[np.arange(len(tails)), below].min(axis=1))
