"""Faults of rows, levels, columns and responses that can be seen before fitting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from tests.support.tables import grouped, lines
from tests.testbed.situations import Situation


def three_levels(rng: np.random.Generator) -> pd.DataFrame:
    return grouped(rng, 20, 3)


def two_rows_each(rng: np.random.Generator) -> pd.DataFrame:
    """x, its square and a constant vary over 30 levels; 12 of them have two rows."""
    table = grouped(rng, np.repeat([2, 6], [12, 18]), 30)
    return table.assign(z=rng.normal(size=len(table)))


def constant_within(rng: np.random.Generator) -> pd.DataFrame:
    table = grouped(rng, 8, 20)
    x = rng.normal(size=20).round(3)[pd.factorize(table["g"])[0]]
    return table.assign(x=x)


def varies_in_three(rng: np.random.Generator) -> pd.DataFrame:
    """Of 20 levels three saw both values of x."""
    g = np.repeat(np.arange(20), 8)
    both = np.tile([0.0, 1.0], 80)
    return lines(rng, g, np.where(g < 3, both, (g % 2) * 1.0))


def calendar_years(rng: np.random.Generator) -> pd.DataFrame:
    """x is a year from 2001 to 2008."""
    table = grouped(rng, 8, 20)
    return table.assign(x=2001 + (table["x"] + 1) * 3.5)


def nearly_the_same(rng: np.random.Generator) -> pd.DataFrame:
    """z is x and noise of a fifth of its sd: correlation 0.98."""
    table = grouped(rng, 8, 20)
    return table.assign(z=table["x"] + rng.normal(0, 0.2 * table["x"].std(), len(table)))


def one_giant(rng: np.random.Generator) -> pd.DataFrame:
    """One level has 300 rows, 19 have 4."""
    return grouped(rng, np.r_[300, np.repeat(4, 19)], 20)


def counts(rng: np.random.Generator) -> pd.DataFrame:
    """Poisson with mean 3 on average, levels differing by a factor of 1.5."""
    table = grouped(rng, 8, 20, sd=(0.4, 0.0), sigma=0.0)
    return table.assign(y=rng.poisson(np.exp(table["y"] - 3 - 2 * table["x"] + np.log(3))))


def overdispersed_counts(rng: np.random.Generator) -> pd.DataFrame:
    """Negative binomial with mean 8 and size 2."""
    table = grouped(rng, 8, 20)
    return table.assign(y=rng.negative_binomial(2, 0.2, len(table)))


def zeros_and_ones(rng: np.random.Generator) -> pd.DataFrame:
    table = grouped(rng, 8, 20)
    return table.assign(y=(table["y"] > 3).astype(int))


def proportions(rng: np.random.Generator) -> pd.DataFrame:
    table = grouped(rng, 8, 20)
    return table.assign(y=1 / (1 + np.exp(3 - table["y"])))


def cut_off(rng: np.random.Generator) -> pd.DataFrame:
    """A tenth of the values is at the detection limit."""
    table = grouped(rng, 8, 20)
    return table.assign(y=table["y"].clip(lower=table["y"].quantile(0.1)))


def ratings(rng: np.random.Generator) -> pd.DataFrame:
    table = grouped(rng, 8, 20)
    return table.assign(y=table["y"].round().clip(1, 5))


def heavy(rng: np.random.Generator) -> pd.DataFrame:
    """Student-t residuals with 3 degrees of freedom, 320 rows."""
    return grouped(rng, 8, 40, noise=lambda g: rng.standard_t(3, len(g)))


def _before(name: str, code: str, effect: str, simulate, formula: str = "") -> Situation:
    made = Situation(name, (code,), effect, simulate, stage="model")
    return replace(made, formula=formula) if formula else made


FAULTS = (
    _before("too few levels", "few-levels", "3 levels of 20 rows", three_levels),
    _before(
        "fewer rows than coefficients",
        "thin-levels",
        "12 of 30 levels with 2 rows, 3 coefficients that vary",
        two_rows_each,
        "y ~ x + z + (x + z | g)",
    ),
    _before(
        "predictor constant within levels",
        "constant-within-levels",
        "one value of x a level",
        constant_within,
    ),
    _before(
        "slope of three levels",
        "slope-of-few-levels",
        "x varies within 3 of 20 levels",
        varies_in_three,
    ),
    _before("time far from zero", "far-from-zero", "years from 2001 to 2008", calendar_years),
    _before(
        "time far from zero beside ||",
        "far-from-zero",
        "years from 2001 to 2008",
        calendar_years,
        "y ~ x + (x || g)",
    ),
    _before(
        "near-collinear predictors",
        "near-collinear",
        "correlation 0.98",
        nearly_the_same,
        "y ~ x + z + (1 | g)",
    ),
    _before("extreme imbalance", "imbalance", "300 of 376 rows in one level", one_giant),
    _before("Poisson counts", "count-response", "mean 3", counts),
    _before("overdispersed counts", "count-response", "mean 8, size 2", overdispersed_counts),
    _before("zeros and ones", "binary-response", "about half ones", zeros_and_ones),
    _before("proportions", "bounded-response", "logit-normal", proportions),
    _before("detection limit", "bounded-response", "a tenth of the rows", cut_off),
    _before("ratings", "few-values", "1 to 5", ratings),
    Situation("heavy tails", ("heavy-tails",), "Student t, 3 df, 320 rows", heavy),
)
