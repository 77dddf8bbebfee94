"""Whether counts vary more, or are zero more often, than their family allows; randomised residuals.

References
----------
Gelman, Meng, Stern (1996), Stat. Sinica 6, 733-807 (discrepancies that depend on parameters).
Dunn, Smyth (1996), J. Comput. Graph. Stat. 5, 236-244 (randomised quantile residuals).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import special

from hierpool.checks.residuals.null_residuals import SEED, WARN_BELOW_P
from hierpool.core.design import Design
from hierpool.core.families.family import Family
from hierpool.core.findings import Finding
from hierpool.core.fitted import Posterior
from hierpool.core.options import tails
from hierpool.core.text import short

DRAWS = 400  # of the posterior that are used
MOST_NUMBERS = 20_000_000  # of rows and draws, above which the question is not asked
NOTEWORTHY = 1.2  # times the variance that the family allows
NOTEWORTHY_ZEROS = 1.15  # times the zeros that it expects
_OF_ZEROS = ("poisson", "negbinomial")


def judged(fit: Posterior, _: object) -> Iterator[Finding]:
    """More variance or more zeros than data simulated from the same draws have.

    At each draw the sum of squared Pearson residuals of the data is compared with that of responses
    drawn there. 0/1 responses and ratings cannot vary more than their means say.
    """
    design, family = fit.design, fit.design.family
    if family is None or not family.is_discrete or not fit.status.is_trustworthy:
        return
    if family.name == "bernoulli" or family.has_thresholds or design.n * DRAWS > MOST_NUMBERS:
        return
    eta, par = predictors(fit, DRAWS)
    drawn = family.draw(eta, par, design.trials, np.random.default_rng(SEED))
    found = list(_overdispersed(design, family, (eta, par, drawn)))
    if not found and family.name in _OF_ZEROS:
        found = list(_zeros(design, family, drawn))
    yield from found


def predictors(fit: Posterior, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Linear predictors (k, n) and parameters of the family (k, P) at some draws, evenly spaced."""
    design = fit.design
    total = int(np.prod(fit.n_draws))
    picks = np.unique(np.linspace(0, total - 1, min(most, total)).astype(int))

    def draws(name: str) -> np.ndarray:
        values = fit.variable(name).to_numpy()
        return np.asarray(values.reshape(total, *values.shape[2:])[picks])

    eta = np.tile(np.broadcast_to(design.offset, (design.n,)), (len(picks), 1))
    if design.terms:
        eta += draws("beta") @ design.X.T
    for group in design.groups:
        u = draws(group.level_variable)
        for k in range(len(group.terms)):
            eta += u[:, group.grouping.codes, k] * group.Z[:, k]
    return eta, fit.family_parameters[picks]


def quantile_residuals(fit: Posterior, seed: int = SEED) -> pd.Series:
    """Randomised quantile residuals: standard normal if the model holds.

    The cdf of each row, a uniform number between its values below and at the response where that
    is discrete, averaged over draws of the posterior, as a normal quantile. Groups are those of the fit.
    """
    design, family = fit.design, fit.design.family
    assert family is not None
    eta, par = predictors(fit, DRAWS)
    at = family.cdf(design.y, eta, par, design.trials).mean(axis=0)
    below = at
    if family.is_discrete:
        below = family.cdf(design.y - 1, eta, par, design.trials).mean(axis=0)
    u = below + (at - below) * np.random.default_rng(seed).random(design.n)
    values = special.ndtri(np.clip(u, 1e-12, 1 - 1e-12))
    return pd.Series(values, index=design.rows, name="quantile_residual")


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


def _zeros(design: Design, family: Family, drawn: np.ndarray) -> Iterator[Finding]:
    observed, simulated = int((design.y == 0).sum()), (drawn == 0).sum(axis=1)
    p = float((1 + (simulated >= observed).sum()) / (1 + len(simulated)))
    if p >= WARN_BELOW_P or observed < NOTEWORTHY_ZEROS * simulated.mean():
        return
    low, high = np.quantile(simulated, tails())
    name = design.spec.response
    yield Finding(
        "zero-inflation",
        "warning",
        f"{name} is 0 in {observed} of {design.n} rows; the model expects {low:.0f} to {high:.0f} "
        f"(p = {p:.2g}).",
        f'Some zeros seem to be of another kind. Use family="zero_inflated_{family.name}", or '
        f'family="hurdle_{family.name}" if every zero is.',
        evidence=pd.DataFrame(
            {"observed": [observed], "expected": [simulated.mean()], "p": [p]},
            index=pd.Index(["zeros"], name="statistic"),
        ),
    )
