"""Responses that are not Gaussian: clean tables of each family, and tables with a known fault."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

import hierpool as hp
from hierpool.core.findings import Findings

GROUPS, ROWS = 20, 6
TRIALS = 10


@dataclass(frozen=True)
class OfFamily:
    """Tables of 20 groups of 6 rows, an intercept a group of sd 0.7 and a slope of 0.5.

    Attributes
    ----------
    name
        Of the situation.
    family
        Of the model.
    simulated
        Which distribution the response has: ``family`` where the table is clean.
    codes
        Codes of the findings of which one has to appear; none where the table is clean.
    """

    name: str
    family: str
    simulated: str
    codes: tuple[str, ...] = ()

    def check(self, seed: int) -> Findings:
        """Findings of the posterior of one simulated table."""
        rng = np.random.default_rng(seed)
        g, x = np.repeat(np.arange(GROUPS), ROWS), rng.standard_normal(GROUPS * ROWS)
        eta = 0.5 * x + 0.7 * rng.standard_normal(GROUPS)[g]
        y = response(rng, self.simulated, eta)
        data = pd.DataFrame({"y": y, "x": x, "n": TRIALS, "g": [f"g{j:02d}" for j in g]})
        left = "y / n" if self.family == "binomial" else "y"
        model = hp.Model(f"{left} ~ x + (1 | g)", data, family=self.family)
        return hp.check(model.fit(engine="exact", seed=1, progress=False))

    def __str__(self) -> str:
        return self.name


def response(rng: np.random.Generator, family: str, eta: np.ndarray) -> np.ndarray:
    """One response for each linear predictor."""
    n, p, rate = len(eta), special.expit(eta), np.exp(1 + eta)
    match family:
        case "bernoulli":
            return (rng.uniform(size=n) < p).astype(int)
        case "binomial":
            return rng.binomial(TRIALS, p)
        case "betabinomial":  # correlation of trials 0.25
            return rng.binomial(TRIALS, rng.beta(3 * p, 3 * (1 - p)))
        case "poisson":
            return rng.poisson(rate)
        case "negbinomial":  # shape 2
            return rng.poisson(rate * rng.gamma(2.0, 0.5, n))
        case "zero_inflated_poisson":  # a quarter more zeros
            return rng.poisson(rate) * (rng.uniform(size=n) < 0.75)
        case "ordinal":
            return 1 + np.digitize(eta + rng.logistic(size=n), [-1.5, 0.0, 1.5])
        case "gamma":  # shape 3
            return rate * rng.gamma(3.0, 1 / 3, n)
        case "student":
            return eta + 0.7 * rng.standard_t(4, n)
    raise ValueError(family)


CLEAN = tuple(
    OfFamily(family, family, family)
    for family in ("bernoulli", "binomial", "poisson", "negbinomial", "ordinal", "gamma", "student")
)
FAULTS = (
    OfFamily("counts that vary more", "poisson", "negbinomial", ("overdispersion",)),
    OfFamily("trials that are alike", "binomial", "betabinomial", ("overdispersion",)),
    OfFamily(
        "more zeros",
        "poisson",
        "zero_inflated_poisson",
        ("overdispersion", "zero-inflation"),
    ),
)
