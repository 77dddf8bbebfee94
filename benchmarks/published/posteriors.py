"""Readers of posterior draws, and rstanarm's priors by weights on hierpool's draws."""

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

    @property
    def effective_draws(self) -> float:
        """How many equal draws would do as well."""
        return float(1 / (self.weights**2).sum())


def drawn(
    formula: str, priors: Mapping[str, Any], draws: int = DRAWS, **columns: str
) -> Callable[[pd.DataFrame], Posterior]:
    """Exact draws under these priors, and hierpool's own where none is named."""

    def fit(rows: pd.DataFrame) -> Posterior:
        return _sampled(hp.Model(formula, rows, priors, **columns), draws)

    return fit


def _sampled(model: hp.Model, draws: int) -> Posterior:
    found = model.fit(engine="exact", draws=draws, chains=CHAINS, seed=SEED, progress=False)
    return Posterior(found, np.full(CHAINS * draws, 1 / (CHAINS * draws)))


def weighted(found: Posterior, log_weight: np.ndarray) -> Posterior:
    """The same draws, their weights times these; -inf leaves a draw out."""
    weights = found.weights * np.exp(log_weight - log_weight.max())
    return Posterior(found.fit, weights / weights.sum())


def rstanarm(formula: str, draws: int = DRAWS) -> Callable[[pd.DataFrame], Posterior]:
    """The posterior under the default priors of ``stan_lmer``.

    Fixed effects and sigma: normal and exponential, as hierpool says them (before its version
    2.21 rstanarm had an intercept four times as wide; no number here can tell). Levels: the
    "decov" prior, in units of sigma, by weights.
    """

    def fit(rows: pd.DataFrame) -> Posterior:
        plain = hp.Model(formula, rows)
        sd_y = plain.design.y.std(ddof=1)
        priors = {"sigma": hp.Prior("Exponential", lam=1 / sd_y)}
        for group in plain.design.groups:
            priors[group.factor] = hp.Prior("HalfStudentT", nu=4, sigma=sd_y)
        found = _sampled(plain.with_priors(priors), draws)
        for group in plain.design.groups:
            found = weighted(found, _log_decov(found.fit, group, priors[group.factor]))
        return found

    return fit


def _log_decov(fit: hp.PosteriorFit, group: Any, prior: hp.Prior) -> np.ndarray:
    """Log of "decov" of shape and scale 1 over ``prior`` on each sd, shape (K,), up to a constant.

    One term: sd = sigma t, t ~ Exponential(1). Two: the variances share 2 (sigma t)^2 uniformly,
    and the correlation is uniform, as under LKJ(1).
    """
    sd = fit.variable(f"sd_{group.factor}").to_numpy().reshape(-1, len(group.terms))
    sigma = fit.variable("sigma").to_numpy().ravel()
    if sd.shape[1] == 1:
        log_decov = -sd[:, 0] / sigma - np.log(sigma)
    elif sd.shape[1] == 2:
        radius = np.sqrt((sd**2).sum(axis=1))
        # d(t, share) / d(sd_1, sd_2) = sqrt(2) sd_1 sd_2 / (sigma radius^3)
        log_decov = -radius / (np.sqrt(2) * sigma) + np.log(sd.prod(axis=1) / sigma / radius**3)
    else:
        raise NotImplementedError(f"decov for {sd.shape[1]} terms")
    return np.asarray(log_decov - prior.distribution.logpdf(sd).sum(axis=1))


def of_beta(term: str = "Intercept") -> Values:
    return lambda found: found.draws("beta", term=term)


def of_sigma(found: Posterior) -> np.ndarray:
    return found.draws("sigma")


def of_sd(factor: str, term: str = "Intercept") -> Values:
    return lambda found: found.draws(f"sd_{factor}", **{f"{factor}_term": term})


def of_corr(factor: str, term: str, other: str) -> Values:
    labels = {f"{factor}_term": term, f"{factor}_term_bis": other}
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
