"""Simulation-based calibration: whether the posteriors of a model are calibrated.

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
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from arviz_stats.base import array_stats

from hierpool.bayes import choose
from hierpool.bayes import simulate as prior_draws
from hierpool.bayes.choose import is_trusted
from hierpool.bayes.exact.log_posterior import log_posterior
from hierpool.bayes.exact.random_scale import ScalePosterior
from hierpool.bayes.exact.refit_with_priors import sample_judged
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.bayes.run import SamplerSettings, variance_components
from hierpool.bayes.theta import integrate_family
from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError, UnsupportedModelError
from hierpool.core.printable import one_line, printable
from hierpool.core.theta import ResidualTheta, ScaleTheta
from hierpool.core.threads import in_threads
from hierpool.draws.scalars import scalars, telling_levels
from hierpool.draws.uniformity import BAND, uniform_ranks
from hierpool.model import Model, fitted

KEPT = 99  # independent posterior draws per simulation: ranks 0..99


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
        Simulations whose draws failed the convergence checks; they are included.
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
        """One row per quantity.

        ``p_value``: probability that a uniform sample departs as much; below 0.01 the ranks leave
        their 99 % band. ``mean_rank``: 0.5 if calibrated; above, the draws are too low. ``spread``: 1
        if calibrated; above, the posteriors are too narrow; below, too wide.
        """
        null = uniform_ranks(len(self.ranks), self.n_draws)
        # Middles of the ranks' cells; the sd of a uniform is 1 / sqrt(12).
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
        """Whether no quantity departs from calibration (Bonferroni, 1 % for all together)."""
        return bool(self.table["p_value"].min() * len(self.table) >= 1 - BAND)

    @property
    def verdict(self) -> str:
        """One sentence."""
        outside = self.table.index[~self.table["inside"]]
        n, size = len(self.table), len(self.ranks)
        if not len(outside):
            return (
                f"Calibrated: in {size} simulations, the ranks of all {n} quantities stay inside their "
                f"{BAND:.0%} bands."
            )
        names = ", ".join(f"{q} ({_how(self.table.loc[q])})" for q in outside)
        if self.is_calibrated:
            return (
                f"Probably calibrated: {len(outside)} of {n} quantities are just outside their "
                f"{BAND:.0%} bands, {names}. This can happen by chance; run more simulations to be "
                "sure."
            )
        return f"Not calibrated: outside their {BAND:.0%} bands in {size} simulations: {names}."

    def band(self) -> pd.DataFrame:
        """The simultaneous band of the ranks' distribution: columns ``rank``, ``lower``, ``upper``.

        Shares of the simulations with a rank below ``rank``.
        """
        return uniform_ranks(len(self.ranks), self.n_draws).band()

    def __repr__(self) -> str:
        lines = [f"Calibration of {self.formula}", self.verdict]
        if self.n_distrusted:
            lines.append(f"{self.n_distrusted} posteriors failed the convergence checks.")
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


def simulate_and_rank(
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
            f"simulations={simulations}: at least 20 are needed, and 100 for a clear result",
            "bad-count",
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


CHAINS, DRAWS = 4, 100  # of each simulated fit; four times as many for recovery
MORE_DRAWS = 4  # times as many draws where too few of them are independent
LOG_LIKELIHOOD = "log_likelihood"  # quantity: log p(y | theta), coefficients integrated out


def calibrate(
    model: Model,
    simulations: int = 200,
    *,
    seed: int | None = None,
    engine: Literal["exact", "nuts"] = "exact",
    progress: bool = True,
) -> Calibration:
    """Simulation-based calibration: whether the posteriors of a model are calibrated.

    Parameters are drawn from the model's priors, as printed; responses simulated from them are
    fitted under the same priors. The ranks of sigma, the standard deviations, the correlations,
    beta, the coefficients of three groups (fewest, median and most rows) and the log-likelihood
    among 99 posterior draws are uniform if the engine is correct.

    Parameters
    ----------
    model
        Any model with proper priors.
    simulations
        How many simulated responses.
    seed
        The same seed gives the same result; None: a fresh one, recorded.
    engine
        ``"exact"``, or ``"nuts"``: minutes, not seconds.
    progress
        Show a progress bar if it takes over a second.

    Returns
    -------
    Calibration
        Prints a verdict; ``ranks``, ``table``; ``hp.plots.calibration`` draws it.
    """
    check_model(model, "calibrate")
    design, priors = model.design, model.priors
    if engine not in ("exact", "nuts"):
        raise ArgumentError(f"engine={engine!r}: choose 'exact' or 'nuts'", "unknown-choice")
    if engine == "exact" and not priors.is_integrable:
        raise UnsupportedModelError(
            f"the exact engine cannot fit {model.formula}, because a coefficient has a prior that is not "
            "normal. Use engine='nuts'.",
            "exact-needs-normal",
        )
    if engine == "exact" and design.samples_scales:
        raise UnsupportedModelError(
            f"the exact engine cannot fit {model.formula}: {choose.not_for_exact(design, priors)}. Use "
            "engine='nuts'.",
            "beyond-quadrature",
        )
    levels = telling_levels(design.schema)
    by_weights = _redraw_exact if design.family is None else _redraw_family
    redraw = by_weights if engine == "exact" else _redraw_nuts

    def simulate(rng: np.random.Generator) -> Simulated:
        drawn = prior_draws.draw_parameters(design, priors, rng)
        response = design.with_response(prior_draws.simulate(design, drawn, rng))
        truth = scalars(design.schema, drawn.named(design), levels)
        if engine == "exact" and drawn.theta is not None:
            truth[LOG_LIKELIHOOD] = np.asarray(_log_likelihood_at(response, priors, drawn))
        return Simulated({k: float(v) for k, v in truth.items()}, response)

    def refit(response: Design, rng: np.random.Generator) -> Redrawn:
        return redraw(response, priors, levels, rng)

    return simulate_and_rank(
        simulate,
        refit,
        formula=model.formula,
        engine=engine,
        simulations=simulations,
        seed=choose.fresh_seed() if seed is None else seed,
        progress=progress,
    )


def check_model(model: object, function: str) -> None:
    """Raise where it is no model: a fit cannot be simulated from."""
    if not isinstance(model, Model):
        raise ArgumentError(
            f"{function}() needs a model to simulate from; given: {type(model).__name__}. Write "
            f"hp.{function}(model), e.g. with model = hp.Model('y ~ x + (x | g)', data).",
            "model-needed",
        )


def _log_likelihood_at(
    response: Design, priors: ModelPriors, drawn: prior_draws.Parameters
) -> float:
    """log p(y | theta), or that given theta and the coefficients that are not integrated."""
    assert drawn.theta is not None
    if response.family is None:
        target = log_posterior(response, priors)
        working = target.theta_map.working(drawn.theta)
        if isinstance(target, ScalePosterior):
            beta = target.integrated.coordinates.beta_from_user(drawn.beta[None])
            working = ScaleTheta.at(cast("ResidualTheta", working), beta)
        return float(target.integrated.log_density(working)[0])
    model, theta_map = integrate_family(response, priors)
    named = drawn.named(response)
    u = {g.factor: named[g.level_variable][None] for g in response.groups}
    beta = named.get("beta", np.zeros(0))[None]
    point = model.point_of_draws(theta_map.of_family(drawn.theta), beta, u)
    return float(model.log_density_of_points(point)[0])


def _redraw_family(
    design: Design, priors: ModelPriors, levels: np.ndarray, rng: np.random.Generator
) -> Redrawn:
    from hierpool.bayes.quadrature.refit import redrawn  # numba loads when first needed

    enough, kept = False, np.zeros(0, dtype=np.intp)
    for draws in (DRAWS, MORE_DRAWS * DRAWS):
        found = redrawn(design, priors, CHAINS, draws, rng, is_trusted)
        enough, kept = independent(found.draws.log_posterior)
        if enough:
            break
    drawn = scalars(design.schema, {k: v[kept] for k, v in found.variables.items()}, levels)
    drawn[LOG_LIKELIHOOD] = found.draws.at.log_likelihood[kept]
    return Redrawn(drawn, found.is_trusted and enough)


def _redraw_exact(
    design: Design, priors: ModelPriors, levels: np.ndarray, rng: np.random.Generator
) -> Redrawn:
    target = log_posterior(design, priors)
    trusted, kept = False, np.zeros(0, dtype=np.intp)
    for draws in (DRAWS, MORE_DRAWS * DRAWS):
        found, trusted = sample_judged(target, CHAINS, draws, rng, is_trusted)
        enough, kept = independent(found.log_posterior, *np.moveaxis(found.z, -1, 0)[:1])
        if enough:
            break
    theta, working = target.drawn(found.flat[kept], rng)
    variables = target.integrated.draw_coefficients(working, rng)
    variables |= variance_components(design, target.theta_map, theta)
    drawn = scalars(design.schema, variables, levels)
    drawn[LOG_LIKELIHOOD] = target.log_likelihood(found.flat[kept])
    return Redrawn(drawn, trusted and enough)


def _redraw_nuts(
    design: Design, priors: ModelPriors, levels: np.ndarray, rng: np.random.Generator
) -> Redrawn:
    seed = int(rng.integers(2**31))
    settings = SamplerSettings(
        MORE_DRAWS * DRAWS, 1000, CHAINS, None, seed, "nutpie", None, False, {}
    )
    fit = fitted(design, priors, "nuts", settings)
    posterior = fit.draws["posterior"].to_dataset()
    variables = {str(k): v.to_numpy() for k, v in posterior.data_vars.items()}
    chained = scalars(design.schema, variables, levels)
    enough, kept = independent(*chained.values())
    return Redrawn({k: v.reshape(-1)[kept] for k, v in chained.items()}, enough)
