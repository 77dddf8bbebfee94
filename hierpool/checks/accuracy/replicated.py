"""Predictive checks: statistics of the response and of data simulated from the model.

References
----------
Gelman, Meng, Stern (1996), Stat. Sinica 6, 733-807 (posterior predictive checks).
Marshall, Spiegelhalter (2003), Stat. Med. 22, 1649-1660; Bayarri, Castellanos (2007), Stat. Sci.
22, 322-343 (levels drawn anew: a level's own estimate hides that the level does not fit).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr

from hierpool.algebra.correlated.residuals import drawn as drawn_residuals
from hierpool.checks.accuracy.level_statistics import Statistics
from hierpool.checks.residuals.null_residuals import SEED, WARN_BELOW_P
from hierpool.core.arguments import check_choice, check_seed
from hierpool.core.design import Design, GroupDesign
from hierpool.core.errors import ArgumentError
from hierpool.core.findings import Finding
from hierpool.core.fitted import Posterior
from hierpool.core.group_nouns import nouns
from hierpool.core.options import tails

REPLICATES = 1000
_NUMBERS = 8_000_000  # of replicated rows, where that leaves enough replicates
_FEWEST = 200

By = Literal["data", "level"]


def predictive_check(
    fit: Posterior, levels: str = "new", by: str = "data", seed: int | None = None
) -> pd.DataFrame:
    """The table of ``PosteriorFit.predictive_check``."""
    check_choice("levels", levels, ("new", "known"))
    check_choice("by", by, ("data", "level"))
    if by == "level" and not fit.design.groupings:
        raise ArgumentError(
            f"{fit.design.spec.formula} has no groups. Pass group=... when you build the model.",
            "no-groups",
        )
    drawn = replicate(fit, levels == "new", SEED if seed is None else check_seed(seed))
    return compared(fit.design, drawn, by)


def replicate(fit: Posterior, is_new: bool, seed: int) -> np.ndarray:
    """Shape (n, m): responses drawn from the posterior, with new levels or those of the fit."""
    design = fit.design
    total = int(np.prod(fit.n_draws))
    m = min(total, int(np.clip(_NUMBERS // design.n, _FEWEST, REPLICATES)))
    picks = np.linspace(0, total - 1, m).astype(int)
    rng = np.random.default_rng(seed)

    def draws(name: str) -> np.ndarray:
        values = fit.variable(name).to_numpy()
        return np.asarray(values.reshape(total, *values.shape[2:])[picks])

    offset = np.broadcast_to(design.offset, (design.n,))[:, None]
    y = offset + (design.X @ draws("beta").T if design.terms else np.zeros((design.n, m)))
    for group in design.groups:
        drawn_anew = group.is_pooled and is_new
        u = _new_levels(group, draws, rng) if drawn_anew else draws(group.level_variable)
        for k in range(len(group.terms)):
            y += group.Z[:, k, None] * u[:, group.grouping.codes, k].T
    if design.family is not None:
        par = fit.family_parameters[picks]
        return np.asarray(design.family.draw(y.T, par, design.trials, rng).T)
    sigma = draws("sigma") if design.residual.has_sigma else np.ones(m)
    phi = None if fit.residual_parameters is None else fit.residual_parameters[picks]
    if phi is not None and is_new and design.scale_factor:
        structure = design.residual.structure
        assert structure is not None
        J = design.groupings[design.scale_factor].n_levels
        phi = structure.with_new_groups(phi, rng.standard_normal((m, J)))
    z = rng.standard_normal(y.shape)
    return np.asarray(y + drawn_residuals(design, sigma, phi, z.T).T)


def _new_levels(
    group: GroupDesign, draws: Callable[[str], np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Shape (m, J, q): deviations of new levels, a covariance a draw."""
    sd = draws(f"sd_{group.factor}")
    z = rng.standard_normal((len(sd), group.grouping.n_levels, sd.shape[1]))
    if group.has_correlation:
        values, vectors = np.linalg.eigh(draws(f"corr_{group.factor}"))
        root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None]
        z = z @ np.swapaxes(root, 1, 2)
    return np.asarray(z * sd[:, None])


def compared(design: Design, drawn: np.ndarray, by: str) -> pd.DataFrame:
    """Statistics of the response and of simulated responses (n, m)."""
    from hierpool.draws.summary import summary

    statistics = Statistics(design)
    make = statistics.by_level if by == "level" else statistics.whole
    made = make(np.column_stack([design.y, drawn]))
    values = made.to_numpy()
    observed, simulated = values[:, 0], values[:, 1:]
    named = xr.DataArray(simulated.T[None], dims=("chain", "draw", "quantity"))
    with np.errstate(all="ignore"):
        table = summary(named, diagnostics=False).set_index(made.index)
        above = (simulated > observed[:, None]) + 0.5 * (simulated == observed[:, None])
    table.insert(0, "observed", observed)
    table["p"] = np.where(np.isnan(observed), np.nan, above.mean(axis=1))
    return table


def judged(fit: Posterior, _: object) -> Iterator[Finding]:
    """A statistic of the data that simulated data hardly ever reproduce.

    The largest of all statistics, each in sds of its replicates, is judged by the same of the
    replicates. Since the same data made the posterior it is a cautious judgement.
    """
    design = fit.design
    if design.spec.pooling == "none" or not fit.status.is_trustworthy or not design.groupings:
        return
    drawn = replicate(fit, True, SEED)
    values = Statistics(design).whole(np.column_stack([design.y, drawn]))
    simulated = values.to_numpy()[:, 1:]
    sd = simulated.std(axis=1, keepdims=True)
    z = (values.to_numpy() - simulated.mean(axis=1, keepdims=True)) / np.where(sd > 0, sd, np.inf)
    largest = np.abs(z).max(axis=0)
    p = (1 + (largest[1:] >= largest[0]).sum()) / len(largest)
    if p >= WARN_BELOW_P:
        return
    k = int(np.abs(z[:, 0]).argmax())
    factor, statistic = values.index.tolist()[k]
    low, high = np.quantile(simulated[k], tails())
    observed = float(values.to_numpy()[k, 0])
    of = "" if factor == "rows" else f" across {nouns(factor)}"
    yield Finding(
        "predictive-check",
        "warning",
        f"The {statistic}{of} is {observed:.3g} in the data, but {low:.3g} to {high:.3g} in data "
        f"simulated from the model (p = {p:.2g}).",
        "The model does not reproduce this. Avoid conclusions that depend on it. "
        "fit.predictive_check() shows all statistics.",
        evidence=compared(design, drawn, "data"),
    )
