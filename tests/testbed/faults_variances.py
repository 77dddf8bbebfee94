"""Faults of standard deviations, correlations, priors and draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

import hierpool as hp
from hierpool.core.errors import FitError
from hierpool.core.findings import Findings
from tests.support.tables import grouped
from tests.testbed.situations import DRAWS, Situation


def levels_alike(rng: np.random.Generator) -> pd.DataFrame:
    return grouped(rng, 8, 20, sd=(0.0, 0.0))


def slopes_alike(rng: np.random.Generator) -> pd.DataFrame:
    return grouped(rng, 8, 20, sd=(1.0, 0.0))


def one_line(rng: np.random.Generator) -> pd.DataFrame:
    """Slopes follow intercepts without error."""
    table = grouped(rng, 8, 30, sd=(1.5, 0.0))
    own = table.groupby("g")["y"].transform(lambda y: 0.0) + np.repeat(rng.normal(0, 1.5, 30), 8)
    return table.assign(y=3 + 2 * table["x"] + own * (1 + table["x"]) + rng.normal(size=240))


def lines_through_two_rows(rng: np.random.Generator) -> pd.DataFrame:
    """As many coefficients of levels as rows: residual and lines cannot be told apart."""
    g = np.repeat(np.arange(40), 2)
    x, u = np.tile([0.0, 1.0], 40), rng.normal(size=(40, 2))
    return pd.DataFrame({"g": g, "x": x, "y": u[g, 0] + u[g, 1] * x + rng.normal(size=80)})


def meta_analysis(rng: np.random.Generator) -> pd.DataFrame:
    """Six effects with standard errors of 1 and a standard deviation of 0.5."""
    y = 0.5 * rng.normal(size=6) + rng.normal(size=6)
    return pd.DataFrame({"g": list("abcdef"), "y": y, "se": 1.0})


def far_levels(rng: np.random.Generator) -> pd.DataFrame:
    return grouped(rng, 8, 20, sd=(3.0, 0.0))


@dataclass(frozen=True)
class WithPriors(Situation):
    """The same with a prior that the user gave, or with few draws."""

    prior: float = 0.0
    draws: int = DRAWS

    def check(self, seed: int) -> Findings:
        data = self.simulate(np.random.default_rng(seed))
        priors = {"sd_g": hp.Prior("HalfNormal", sigma=self.prior)} if self.prior else None
        model = hp.Model(self.formula, data, priors)
        return hp.check(_kept(model, self.draws))


def _kept(model: hp.Model, draws: int) -> hp.PosteriorFit:
    try:
        return model.fit(engine="exact", draws=draws, seed=1, progress=False)
    except FitError as error:
        return error.fit  # type: ignore[return-value]


NEAR_ZERO = ("singular-reml", "variance-near-zero")
FAULTS = (
    Situation(
        "levels that are alike",
        NEAR_ZERO,
        "sd of levels 0, 20 levels of 8",
        levels_alike,
        "y ~ x + (1 | g)",
        "posterior",
    ),
    Situation(
        "slopes that are alike",
        NEAR_ZERO,
        "sd of slopes 0, 20 levels of 8",
        slopes_alike,
        stage="posterior",
    ),
    Situation(
        "correlation of one",
        ("singular-reml", "correlation-near-one"),
        "slope equals intercept, sd 1.5, 30 levels of 8",
        one_line,
        stage="posterior",
    ),
    Situation(
        "variances that are not identified",
        ("not-identified",),
        "40 levels of 2 rows, intercepts and slopes",
        lines_through_two_rows,
        stage="posterior",
    ),
    Situation(
        "a prior that decides",
        ("prior-dominates",),  # was two levels of 4 rows, where few levels are the cause
        "6 effects with standard errors twice the standard deviation between them",
        meta_analysis,
        "y ~ 1 + (1 | g)",
        "posterior",
        "se",
    ),
    WithPriors(
        "a prior in the way",
        ("prior-against-data",),
        "HalfNormal(0.3) for an sd of 3",
        far_levels,
        "y ~ x + (1 | g)",
        "posterior",
        prior=0.3,
    ),
    WithPriors(
        "too few draws",
        ("doubtful-draws",),
        "4 x 20 draws",
        lambda rng: grouped(rng),
        stage="posterior",
        draws=20,
    ),
)
