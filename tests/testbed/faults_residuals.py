"""Faults of rows, levels, residual variances, neighbours and the mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from tests.support.tables import grouped, lines
from tests.testbed.situations import Situation


def serial(rng: np.random.Generator) -> pd.DataFrame:
    def noise(g: np.ndarray) -> np.ndarray:
        e = rng.normal(size=len(g))
        for i in np.flatnonzero(np.diff(g, prepend=-1) == 0):
            e[i] = 0.6 * e[i - 1] + 0.8 * e[i]
        return e

    return grouped(rng, 10, 30, noise=noise)


def far_level(rng: np.random.Generator) -> pd.DataFrame:
    table = grouped(rng, 6, 40)
    return table.assign(y=table.y + 12 * (table.g == "g007"))


def far_row(rng: np.random.Generator) -> pd.DataFrame:
    table = grouped(rng, 8, 20)
    return table.assign(y=table.y + 7 * (table.index == 37))


def bent(rng: np.random.Generator) -> pd.DataFrame:
    table = grouped(rng, 8, 20)
    return table.assign(y=table.y - 1.5 * table.x**2)


def wider_with_x(rng: np.random.Generator) -> pd.DataFrame:
    table = grouped(rng, 8, 30, sigma=0.0)
    return table.assign(y=table.y + rng.normal(size=240) * np.exp(0.7 * table.x))


def noisy_levels(rng: np.random.Generator) -> pd.DataFrame:
    return grouped(rng, 8, 40, noise=lambda g: rng.normal(size=len(g)) * (1 + 2 * (g % 2)))


def with_noise(
    draw: Callable[[np.random.Generator, int], np.ndarray],
) -> Callable[..., pd.DataFrame]:
    return lambda rng: grouped(rng, 8, 50, noise=lambda g: draw(rng, len(g)))


def contextual(rng: np.random.Generator) -> pd.DataFrame:
    g, middle = np.repeat(np.arange(50), 6), rng.normal(size=50)
    table = lines(rng, g, middle[g] + rng.normal(size=300), sd=(1.0, 0.0))
    return table.assign(y=table.y + 1.5 * middle[g])


def one_level_far_off_in_x(rng: np.random.Generator) -> pd.DataFrame:
    g = np.repeat(np.arange(30), 6)
    table = lines(rng, g, rng.normal(size=180) + 4 * (g == 3), sd=(0.0, 0.0))
    return table.assign(y=table.y - 5 * (table.g == "g003"))


def steeper_levels(rng: np.random.Generator) -> pd.DataFrame:
    return grouped(rng, 8, 20, sd=(1.0, 1.5))


def codes(rng: np.random.Generator) -> pd.DataFrame:
    """x is the number of one of three treatments, of which the second is unlike the others."""
    x = np.tile([1, 2, 3], 60)
    table = lines(rng, np.repeat(np.arange(20), 9), x * 1.0, sd=(1.0, 0.0), common=(3.0, 0.0))
    return table.assign(x=x, y=table.y + 1.5 * (x == 2))


def of_two_kinds(rng: np.random.Generator, n: int) -> np.ndarray:
    """Residuals about -1 and 1, with an sd of 0.3."""
    return rng.choice([-1.0, 1.0], n) + 0.3 * rng.normal(size=n)


def growing(rng: np.random.Generator) -> pd.DataFrame:
    """Multiplicative: a log of the response has equal variances."""
    table = grouped(rng, 8, 30, sd=(0.5, 0.0), sigma=0.4)
    return table.assign(y=np.exp(table.y))


def in_two_lumps(rng: np.random.Generator) -> pd.DataFrame:
    table = grouped(rng, 4, 80)
    return table.assign(y=table.y + 20 * (table.g.str[1:].astype(int) % 16 == 0))


FAULTS = (
    Situation("AR(1) residuals", ("autocorrelation",), "correlation .6, 30 levels of 10", serial),
    Situation(
        "one level far away",
        ("outlying-level",),
        "12 sds of the levels above the others, 40 levels of 6",
        far_level,
    ),
    Situation("one row far away", ("outlying-row",), "7 residual sds, 20 levels of 8", far_row),
    Situation(
        "a curve taken for a line",
        ("curvature",),
        "bow of 1.5 residual sds, 20 levels of 8",
        bent,
    ),
    Situation(
        "residuals that grow with x",
        ("unequal-variance",),
        "residual sd from 0.5 to 2, 30 levels of 8",
        wider_with_x,
    ),
    Situation(
        "noisy levels",
        ("unequal-variance-of-levels",),
        "residual sd of every other level three times that of the others, 40 levels of 8",
        noisy_levels,
    ),
    Situation(
        "skewed residuals",
        ("skewed-residuals",),
        "exponential residuals, 50 levels of 8",
        with_noise(lambda rng, n: rng.exponential(size=n) - 1),
    ),
    Situation(
        "a slope between levels that differs from that within",
        ("contextual-effect",),
        "slopes 3.5 and 2, means of levels with an sd of 1, 50 levels of 6",
        contextual,
        "y ~ x + (1 | g)",
    ),
    Situation(
        "one level that turns the slope",
        ("influential-level",),
        "4 sds away in x and 5 residual sds below the line of the others, 30 levels of 6",
        one_level_far_off_in_x,
        "y ~ x + (1 | g)",
    ),
    Situation(
        "slopes taken for common",
        ("coefficient-varies",),
        "sd of slopes 1.5 residual sds over half the range of x, 20 levels of 8",
        steeper_levels,
        "y ~ x + (1 | g)",
    ),
    Situation(
        "predictions that are not calibrated",
        ("loo-pit",),  # was of Student's t with 2 df, where heavy tails are the cause
        "residuals about -1 and 1, 50 levels of 8",
        with_noise(of_two_kinds),
        stage="posterior",
    ),
    Situation(
        "very heavy tails",
        ("heavy-tails",),
        "Student's t with 2 df, 50 levels of 8",
        with_noise(lambda rng, n: rng.standard_t(2, size=n)),
        stage="posterior",
    ),
    Situation(
        "numbers that are codes",
        ("numeric-code",),
        "the second of three treatments 1.5 residual sds above, 20 levels of 9",
        codes,
        "y ~ x + (1 | g)",
    ),
    Situation(
        "a response on the wrong scale",
        ("log-response",),
        "log-normal with an sd of 0.4 in the log and slope 2, 30 levels of 8",
        growing,
        "y ~ x + (1 | g)",
    ),
    Situation(
        "levels in two lumps",
        ("level-coverage",),
        "one in sixteen 20 residual sds above, 80 levels of 4",
        in_two_lumps,
        stage="posterior",
    ),
    Situation(
        "slopes that a model cannot make",
        ("coefficient-varies",),  # was a predictive check, which comes of it
        "sd of slopes 1.5 residual sds over half the range of x, 20 levels of 8",
        steeper_levels,
        "y ~ x + (1 | g)",
        "posterior",
    ),
)
