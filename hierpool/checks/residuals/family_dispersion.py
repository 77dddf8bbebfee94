"""Whether counts vary more, or are zero more often, than their family allows.

References
----------
Gelman, Meng, Stern (1996), Stat. Sinica 6, 733-807 (discrepancies that depend on parameters).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from hierpool.checks.residuals.null_residuals import SEED, WARN_BELOW_P
from hierpool.checks.residuals.quantile_residuals import DRAWS, predictors
from hierpool.core.design import Design
from hierpool.core.families.family import Family
from hierpool.core.findings import Finding
from hierpool.core.fitted import Posterior
from hierpool.core.options import tails
from hierpool.core.text import short

MOST_NUMBERS = 20_000_000  # of rows and draws, above which the question is not asked
NOTEWORTHY = 1.2  # times the variance that the family allows
NOTEWORTHY_ZEROS = 1.15  # times the zeros that it expects
CAUSE_BELOW_P = 0.05  # of zeros where it is known that something varies too much, not what
_OF_ZEROS = ("poisson", "negbinomial")


def judged(fit: Posterior, _: object) -> Iterator[Finding]:
    """More variance or more zeros than data simulated from the same draws have.

    At each draw the sum of squared Pearson residuals of the data is compared with that of responses
    drawn there. 0/1 responses and ratings cannot vary more than their means say. Of a Poisson response
    that varies more zeros are too many if a negative binomial one would not have so many either.
    """
    design, family = fit.design, fit.design.family
    if family is None or not family.is_discrete or not fit.status.is_trustworthy:
        return
    if family.name == "bernoulli" or family.has_thresholds or design.n * DRAWS > MOST_NUMBERS:
        return
    eta, par = predictors(fit, DRAWS)
    drawn = family.draw(eta, par, design.trials, np.random.default_rng(SEED))
    found = list(_overdispersed(design, family, (eta, par, drawn)))
    if family.name in _OF_ZEROS:
        is_zero, below = drawn == 0, WARN_BELOW_P
        if found and family.name == "poisson":
            is_zero, below = _zeros_of_negbinomial(design, family.mean(eta, par)), CAUSE_BELOW_P
        found = list(_zeros(design, family, is_zero, below)) or found
    yield from found


def _zeros_of_negbinomial(design: Design, mean: np.ndarray) -> np.ndarray:
    """Shape (K, n): which rows are zero in tables that vary as much as the data, by moments.

    Zeros of another kind make counts vary more; this tells them from counts that just vary more.
    """
    excess = ((design.y - mean) ** 2 - mean).sum(axis=1) / (mean**2).sum(axis=1)
    per_shape = max(float(excess.mean()), 1e-6)
    probability = (1 + mean * per_shape) ** (-1 / per_shape)
    return np.asarray(np.random.default_rng(SEED).random(mean.shape) < probability)


def _overdispersed(
    design: Design, family: Family, at: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> Iterator[Finding]:
    eta, par, drawn = at
    mean = design.trials * family.mean(eta, par)
    variance = np.maximum(family.variance(eta, par, design.trials), np.finfo(float).tiny)
    observed = np.mean((design.y - mean) ** 2 / variance, axis=1)
    simulated = np.mean((drawn - mean) ** 2 / variance, axis=1)
    p = float((1 + (simulated >= observed).sum()) / (1 + len(observed)))
    ratio = float(observed.mean() / simulated.mean())
    if p >= WARN_BELOW_P or ratio < NOTEWORTHY:
        return
    name = design.spec.response
    table = pd.DataFrame(
        {"observed": [observed.mean()], "expected": [simulated.mean()], "ratio": [ratio], "p": [p]},
        index=pd.Index(["squared Pearson residual"], name="statistic"),
    )
    yield Finding(
        "overdispersion",
        "warning",
        f"{name} varies {short(ratio)} times as much as a {family.name} response with these means "
        f"(p = {p:.2g}).",
        f"Standard errors and intervals are too small. {_remedy(family)}",
        evidence=table,
    )


def _remedy(family: Family) -> str:
    by_row = (
        "make a group of each row, data['row'] = range(len(data)), and add (1 | row) to the formula"
    )
    others = {
        "poisson": 'Use family="negbinomial", or ',
        "zero_inflated_poisson": 'Use family="zero_inflated_negbinomial", or ',
        "hurdle_poisson": 'Use family="hurdle_negbinomial", or ',
    }
    text = others.get(family.name, "")
    return f"{text}{by_row if text else by_row.capitalize()}."


def _zeros(design: Design, family: Family, is_zero: np.ndarray, below: float) -> Iterator[Finding]:
    observed, simulated = int((design.y == 0).sum()), is_zero.sum(axis=1)
    p = float((1 + (simulated >= observed).sum()) / (1 + len(simulated)))
    if p >= below or observed < NOTEWORTHY_ZEROS * simulated.mean():
        return
    low, high = np.quantile(simulated, tails())
    name = design.spec.response
    yield Finding(
        "zero-inflation",
        "warning",
        f"{name} is 0 in {observed} of {design.n} rows; counts that vary as much as these "
        f"have {low:.0f} to {high:.0f} (p = {p:.2g}).",
        f'Some zeros seem to be of another kind. Use family="zero_inflated_{family.name}", or '
        f'family="hurdle_{family.name}" if every zero is.',
        evidence=pd.DataFrame(
            {"observed": [observed], "expected": [simulated.mean()], "p": [p]},
            index=pd.Index(["zeros"], name="statistic"),
        ),
    )
