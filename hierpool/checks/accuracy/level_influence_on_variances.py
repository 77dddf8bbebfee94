"""Rows and groups with a large influence on the posterior of the standard deviations.

Leaving a row or a level out reweights the draws of theta; where the weights are long-tailed (a high
Pareto k), or where they change a standard deviation, its influence is large.

References
----------
Vehtari, Simpson, Gelman, Yao, Gabry (2024), J. Mach. Learn. Res. 25(72) (Pareto k).
Peruggia (1997), J. Am. Stat. Assoc. 92, 199-207 (case deletion by weights).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from arviz_stats.base import array_stats

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.core.design import Grouping
from hierpool.core.findings import Finding
from hierpool.core.group_nouns import and_more, called, nouns
from hierpool.core.results import variance_component_name
from hierpool.core.theta import WorkingTheta

HIGH_K = 0.7  # from which weights cannot be averaged (Vehtari and others 2024, section 3.2.4)
LARGE_SHIFT = 1.5  # posterior sds; of 8 clean levels one moves an sd by 1.0 in a quarter of cases
DRAWS = 1000  # of theta that are used
_MOST = 10_000_000  # densities of rows, above which the question is not asked
_MOST_LEVELS = 1_000  # of more no single one carries a standard deviation
_SHOWN = 10


def on_levels(fit: IntegratedPosterior, _: object) -> Iterator[Finding]:
    """Groups that change a standard deviation by 1.5 posterior sds or more."""
    if len(fit.design.groups) != 1 or fit.design.spec.pooling != "partial":
        return
    grouping = fit.design.groups[0].grouping
    is_asked = grouping.n_levels <= _MOST_LEVELS
    if not is_asked or not _can_ask(fit, len(_picks(fit)), grouping.n_levels):
        return
    table = without_each_level(fit, grouping)
    shift = table[[f"shift[{name}]" for name in _spread(fit)]]
    largest = shift.abs().max(axis=1)
    found = table[largest >= LARGE_SHIFT]
    if not len(found):
        return
    j = int(largest.to_numpy().argmax())
    name = list(_spread(fit))[int(shift.iloc[j].abs().to_numpy().argmax())]
    row = table.iloc[j]
    now, would = row[f"mean[{name}]"], row[f"without[{name}]"]
    about = "about " if row["pareto_k"] > HIGH_K else ""
    one, factor = called(grouping.factor, grouping.levels[j]), grouping.factor
    yield Finding(
        "influential-level-sd",
        "note",
        f"Without {one}, the posterior mean of {name} changes from {now:.3g} to {about}{would:.3g} "
        f"({largest.max():.1f} posterior sds).{and_more(len(found) - 1, factor)}",
        f"The shrinkage of the other {nouns(factor)} depends on it.",
        evidence=table.loc[largest.sort_values(ascending=False).index].head(_SHOWN),
    )


def without_each_level(fit: IntegratedPosterior, grouping: Grouping) -> pd.DataFrame:
    """Fixed effects and standard deviations without each level, by reweighted draws of theta.

    Index (factor, level); ``n``; ``pareto_k``; for each quantity its posterior mean, the same
    without the level, and the first less the second in posterior sds.
    """
    picks = _picks(fit)
    theta = fit.working_theta[picks]
    density = fit.integrated.log_density_of_levels(theta, grouping)
    log_weights, k = _smoothed(density, fit)
    weights = np.exp(log_weights)
    columns: dict[str, np.ndarray] = {"n": grouping.n_rows, "pareto_k": k}

    def add(name: str, mean: float, without: np.ndarray, sd: float) -> None:
        columns[f"mean[{name}]"] = np.full(len(k), mean)
        columns[f"without[{name}]"] = without
        columns[f"shift[{name}]"] = (mean - without) / max(sd, np.finfo(float).tiny)

    if fit.design.terms:
        mean, without = _beta_without(fit, theta, weights, grouping)
        sds = fit.variable("beta").to_numpy().std(axis=(0, 1))
        for i, term in enumerate(fit.design.terms):
            add(term, mean[i], without[:, i], sds[i])
    for name, draws in _spread(fit).items():
        # the picks' own mean taken off: what thinning does to both sides cancels
        add(
            name,
            draws.mean(),
            draws.mean() + weights @ draws[picks] - draws[picks].mean(),
            draws.std(),
        )
    index = pd.MultiIndex.from_product(
        [[grouping.factor], grouping.levels], names=["factor", "level"]
    )
    return pd.DataFrame(columns, index=index)


def _beta_without(
    fit: IntegratedPosterior, theta: WorkingTheta, weights: np.ndarray, grouping: Grouping
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means of the fixed effects (p,), and without each level (J, p)."""
    to_user, parts = fit.integrated.coordinates.beta_to_user, []
    p = len(fit.design.terms)
    for some in fit.integrated.blocks(len(theta), 4 * grouping.n_levels * (p + 1) ** 2):
        S, s = fit.integrated.population_without_levels(theta[some], grouping)
        parts.append(to_user(np.linalg.solve(S, s[..., None])[..., 0]))
    mean = to_user(fit.integrated.marginal(theta).beta).mean(axis=0)
    return mean, np.einsum("jk,kjp->jp", weights, np.concatenate(parts))


def _spread(fit: IntegratedPosterior) -> dict[str, np.ndarray]:
    """Name of each standard deviation -> its draws, flat."""
    out: dict[str, np.ndarray] = {}
    for group in fit.design.groups:
        values = fit.variable(f"sd_{group.factor}").to_numpy()
        for k, term in enumerate(group.terms):
            out[variance_component_name(group.factor, "sd", term, "")] = values[..., k].reshape(-1)
    if fit.design.residual.has_sigma:
        out["sigma"] = fit.variable("sigma").to_numpy().reshape(-1)
    return out


def _picks(fit: IntegratedPosterior) -> np.ndarray:
    return np.unique(np.linspace(0, len(fit.theta) - 1, DRAWS).astype(int))


def _can_ask(fit: IntegratedPosterior, draws: int, points: int) -> bool:
    is_good = fit.is_integrable and fit.status.is_trustworthy and len(fit.design.groups) <= 1
    return bool(is_good and draws * points <= _MOST and np.ptp(fit.theta.sigma) > 0)


def _smoothed(density: np.ndarray, fit: IntegratedPosterior) -> tuple[np.ndarray, np.ndarray]:
    """Log weights (points, K) that leave each point out, and Pareto k; density (points, K)."""
    log_weights, k = array_stats.psislw(density, r_eff=_efficiency(fit, density.shape[1]))
    return np.asarray(log_weights), np.asarray(k)


def _efficiency(fit: IntegratedPosterior, used: int) -> float:
    """Relative efficiency of so many draws of theta, evenly spread."""
    return min(1.0, fit.efficiency * len(fit.theta) / used)
