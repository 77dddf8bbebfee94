"""Whether draws can be trusted, and tables of draws with their diagnostics; all through ArviZ."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import xarray as xr
from scipy import special

from hierpool.core.options import bound_names, probability_of, tails
from hierpool.core.results import Status

R_HAT_LIMIT = 1.01
ESS_LIMIT = 400.0
_DIAGNOSTICS = ["ess_bulk", "ess_tail", "r_hat"]


def convergence(tree: xr.DataTree, names: Iterable[str]) -> pd.DataFrame:
    """R-hat, bulk and tail ESS of every scalar of the named variables, one row a scalar.

    Scalars that are constant by construction (the diagonal of a correlation matrix) are left out;
    one that is constant without reason has NaN diagnostics, which no verdict accepts.
    """
    from arviz_base import rcParams  # ArviZ loads when there are draws
    from arviz_stats.base import array_stats

    posterior = tree["posterior"].to_dataset()
    labels: list[str] = []
    parts = []
    for name in names:
        if name not in posterior:
            continue
        values = posterior[name]
        if name.startswith("corr_"):
            values = _below_diagonal(values)
        flat = values.transpose("chain", "draw", ...).to_numpy()
        parts.append(flat.reshape(*flat.shape[:2], -1))
        labels += [name] * parts[-1].shape[-1]
    draws, axes = np.concatenate(parts, axis=-1), {"chain_axis": 0, "draw_axis": 1}
    probability = float(rcParams["stats.ci_prob"])
    with np.errstate(all="ignore"):  # of scalars that never moved: NaN says so
        return pd.DataFrame(
            {
                "variable": labels,
                "ess_bulk": array_stats.ess(draws, **axes, method="bulk"),
                "ess_tail": array_stats.ess(draws, **axes, method="tail", prob=probability),
                "r_hat": array_stats.rhat(draws, **axes),
            }
        )


def _below_diagonal(values: xr.DataArray) -> xr.DataArray:
    """The correlations below the diagonal, stacked; those of blocks that are never correlated left out."""
    array = values.to_numpy()
    q = array.shape[-1]
    low = [(i, j) for i in range(q) for j in range(i) if np.ptp(array[..., i, j]) > 0]
    stacked = np.stack([array[..., i, j] for i, j in low], axis=-1) if low else array[..., :0, 0]
    # a residual structure with by= has a matrix for each class: their pairs follow one another
    pairs = stacked.reshape(*stacked.shape[:2], -1)
    return xr.DataArray(pairs, dims=("chain", "draw", "pair"))


def verdict(tree: xr.DataTree, names: Iterable[str]) -> Status:
    """One word and one sentence on the draws of ``names``, divergences and energy included."""
    checked = convergence(tree, names)
    stats = tree["sample_stats"].to_dataset() if "sample_stats" in tree.children else xr.Dataset()
    bad = []
    lone = tree["posterior"].sizes["chain"] == 1
    judged = [c for c in _DIAGNOSTICS if not (lone and c == "r_hat")]
    undefined = int(checked[judged].isna().any(axis=1).sum())
    if lone:
        bad.append("R-hat needs several chains (chains=4)")
    if undefined:
        bad.append(f"{undefined} of {len(checked)} quantities are constant")
    if (worst := checked["r_hat"].max()) > R_HAT_LIMIT:
        bad.append(f"R-hat reaches {worst:.3f} ({_at(checked, 'r_hat', max)})")
    for column, kind in (("ess_bulk", "bulk"), ("ess_tail", "tail")):
        if (least := checked[column].min()) < ESS_LIMIT:
            bad.append(f"{kind} ESS falls to {least:.0f} ({_at(checked, column, min)})")
    if "diverging" in stats and (divergences := int(stats["diverging"].sum())):
        bad.append(f"{divergences} of {stats['diverging'].size} transitions diverged")
    if "energy" in stats:
        import arviz_stats as azs
        from arviz_base import rcParams

        energy = azs.bfmi(tree)["energy"].to_numpy()
        if energy.min() < rcParams["stats.bfmi_threshold"]:
            bad.append(f"E-BFMI falls to {energy.min():.2f}")
    if bad:
        return Status("doubtful", f"{'; '.join(bad)}.")
    least, worst = checked["ess_bulk"].min(), checked["r_hat"].max()
    tail = checked["ess_tail"].min()
    return Status(
        "good",
        f"R-hat at most {worst:.3f}, bulk ESS at least {least:.0f}, tail ESS at least {tail:.0f} "
        f"over {len(checked)} quantities{_clean(stats)}.",
    )


def _clean(stats: xr.Dataset) -> str:
    return "; no divergences" if "diverging" in stats else ""


def _at(checked: pd.DataFrame, column: str, pick: Callable[[pd.Series], float]) -> str:
    return str(checked["variable"][checked[column] == pick(checked[column])].iloc[0])


def proposal_pareto_k(log_weights: np.ndarray) -> float:
    """Pareto k of importance weights, flat: above 0.7 their average cannot be trusted.

    ArviZ's ``psislw`` negates its argument, as for log likelihoods; minus the weights go in. Equal
    weights, of a posterior without theta, are as good as can be. None, of one that no point has a
    density in, cannot be trusted, nor can a tail of equal ones, where the density itself was lost.
    """
    known = log_weights[np.isfinite(log_weights)]
    if not len(known):
        return np.inf
    if not np.ptp(known):
        return -np.inf if len(known) == len(log_weights) else np.inf
    tail = min(len(known) / 5, 3 * np.sqrt(len(known)))  # of psislw, which refuses equal ones
    if np.sum(known == known.max()) >= tail:
        return np.inf
    from arviz_stats.base import array_stats

    return float(array_stats.psislw(-known)[1])


def summary(
    values: xr.DataArray, diagnostics: bool = True, prob: float | None = None
) -> pd.DataFrame:
    """Mean, median, sd, interval and diagnostics of every scalar of one variable, full precision.

    Rows in C order of the dims after (chain, draw). The interval has the probability of
    ``hp.options``, unless ``prob`` is given; its kind follows ArviZ's rcParams.
    ``diagnostics=False`` leaves ESS and R-hat out: they cost about 2 ms a scalar.
    """
    import arviz_stats as azs
    from arviz_base import rcParams

    data = values.to_dataset(name="v")
    kind = rcParams["stats.ci_kind"]
    bounds = (azs.hdi if kind == "hdi" else azs.eti)(data, prob=probability_of(prob))["v"]
    sampled = ("chain", "draw")
    flat = values.transpose(*sampled, ...).to_numpy()
    table = pd.DataFrame(
        {
            "mean": flat.mean(axis=(0, 1)).reshape(-1),
            "median": np.median(flat, axis=(0, 1)).reshape(-1),
            "sd": flat.std(axis=(0, 1), ddof=1).reshape(-1),
        }
    )
    for bound, name in zip(("lower", "upper"), bound_names(kind, prob), strict=True):
        table[name] = bounds.sel(ci_bound=bound).to_numpy().reshape(-1)
    if diagnostics:
        table["ess_bulk"] = azs.ess(data, method="bulk")["v"].to_numpy().reshape(-1)
        table["ess_tail"] = azs.ess(data, method="tail")["v"].to_numpy().reshape(-1)
        table["r_hat"] = azs.rhat(data)["v"].to_numpy().reshape(-1)
    return table


def normal_interval(
    estimate: np.ndarray, se: np.ndarray, prob: float | None = None
) -> dict[str, np.ndarray]:
    """Bounds of normal intervals by the names of their columns; None: that of ``hp.options``."""
    reach = float(special.ndtri(tails(prob)[1])) * se
    low, high = bound_names("ci", prob)
    return {low: estimate - reach, high: estimate + reach}


def monte_carlo_error(values: xr.DataArray) -> np.ndarray:
    """Monte Carlo standard errors of the means, flat in C order of the dims after (chain, draw)."""
    import arviz_stats as azs

    return np.asarray(azs.mcse(values.to_dataset(name="v"))["v"].to_numpy()).reshape(-1)
