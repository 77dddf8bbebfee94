"""Readers of posterior draws, and the fits that they read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import hierpool as hp

CHAINS = 4
DRAWS = (
    10_000  # a chain: a mean is then off by 0.005 sds, the sd of a long tail by a hundredth of it
)
SEED = 1
Values = Callable[["Posterior"], np.ndarray]


@dataclass(frozen=True, slots=True)
class Posterior:
    """A fit and the weight of each of its draws, shape (K,), summing to one."""

    fit: hp.PosteriorFit
    weights: np.ndarray

    def draws(self, name: str, **labels: Any) -> np.ndarray:
        """Shape (K,): draws of one scalar."""
        values = self.fit.variable(name).sel(labels)
        return values.transpose("chain", "draw").to_numpy().ravel()


def drawn(
    formula: str, priors: Mapping[str, Any], draws: int = DRAWS, **columns: str
) -> Callable[[pd.DataFrame], Posterior]:
    """Exact draws under these priors, and hierpool's own where none is named."""

    def fit(rows: pd.DataFrame) -> Posterior:
        return sampled(hp.Model(formula, rows, priors, **columns), draws)

    return fit


def sampled(model: hp.Model, draws: int = DRAWS) -> Posterior:
    """Exact draws of a model, all of the same weight."""
    found = model.fit(engine="exact", draws=draws, chains=CHAINS, seed=SEED, progress=False)
    return Posterior(found, np.full(CHAINS * draws, 1 / (CHAINS * draws)))


def weighted(found: Posterior, log_weight: np.ndarray) -> Posterior:
    """The same draws, their weights times these; -inf leaves a draw out."""
    weights = found.weights * np.exp(log_weight - log_weight.max())
    return Posterior(found.fit, weights / weights.sum())


def rstanarm(formula: str, draws: int = DRAWS) -> Callable[[pd.DataFrame], Posterior]:
    """The posterior under the default priors of ``stan_lmer``.

    Fixed effects: normal, as hierpool has them (before its version 2.21 rstanarm had an intercept
    four times as wide; no number here can tell). Sigma: exponential. Levels: decov.
    """

    def fit(rows: pd.DataFrame) -> Posterior:
        plain = hp.Model(formula, rows)
        priors = {"sigma": hp.Prior("Exponential", lam=1 / plain.design.y.std(ddof=1))}
        decov = {group.factor: hp.Prior("Decov") for group in plain.design.groups}
        return sampled(plain.with_priors(priors | decov), draws)

    return fit


def of_beta(term: str = "Intercept") -> Values:
    return lambda found: found.draws("beta", term=term)


def of_sigma(found: Posterior) -> np.ndarray:
    return found.draws("sigma")


def of_sd(factor: str, term: str = "Intercept") -> Values:
    return lambda found: found.draws(f"sd_{factor}", **{f"{factor}_term": term})


def of_corr(factor: str, term: str, other: str) -> Values:
    labels = {f"{factor}_term": term, f"{factor}_term2": other}
    return lambda found: found.draws(f"corr_{factor}", **labels)


def of_coef(factor: str, level: str | int, term: str = "Intercept") -> Values:
    return lambda found: found.draws(f"coef_{factor}", **{factor: level, f"{factor}_term": term})


def of_u(factor: str, level: str | int, term: str = "Intercept") -> Values:
    return lambda found: found.draws(f"u_{factor}", **{factor: level, f"{factor}_term": term})


def squared(values: Values) -> Values:
    return lambda found: values(found) ** 2


def mean(values: Values) -> Callable[[Posterior], float]:
    return lambda found: float(found.weights @ values(found))


def spread(values: Values) -> Callable[[Posterior], float]:
    """Posterior sd."""

    def read(found: Posterior) -> float:
        draws = values(found)
        return float(np.sqrt(found.weights @ (draws - found.weights @ draws) ** 2))

    return read


def quantile(values: Values, probability: float) -> Callable[[Posterior], float]:
    return lambda found: _quantile(values(found), found.weights, probability)


def median(values: Values) -> Callable[[Posterior], float]:
    return quantile(values, 0.5)


def mad_sd(values: Values) -> Callable[[Posterior], float]:
    """Median distance from the median, times what makes it the sd of a normal."""

    def read(found: Posterior) -> float:
        draws = values(found)
        away = np.abs(draws - _quantile(draws, found.weights, 0.5))
        return 1.4826 * _quantile(away, found.weights, 0.5)

    return read


def _quantile(values: np.ndarray, weights: np.ndarray, probability: float) -> float:
    order = np.argsort(values)
    share = np.cumsum(weights[order]) - weights[order] / 2
    return float(np.interp(probability, share, values[order]))
