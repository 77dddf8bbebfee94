"""Tables for tests: a small one for formulas, and levels with lines of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

N = 24
_RNG = np.random.default_rng(20)
NOISE = _RNG.normal(size=N)
FLAGS = _RNG.random(N) > 0.5


def small(**columns: Any) -> pd.DataFrame:
    """Six levels with four rows each: x varies within levels, z does not; other columns as given."""
    frame = pd.DataFrame(
        {
            "y": NOISE,
            "x": np.tile([0.0, 1, 2, 3], 6),
            "z": np.repeat([1.0, 2, 5, 3, 2, 9], 4),
            "kind": np.tile(["u", "v", "v", "u", "v", "u"], 4),
            "flag": FLAGS,
            "g": np.repeat(list("fedcba"), 4),
            "day": np.roll(np.repeat(pd.date_range("2021-05-01", periods=6)[::-1], 4), 2),
        }
    )
    return frame.assign(**columns)


def lines(
    rng: np.random.Generator,
    g: np.ndarray,
    x: np.ndarray,
    sd: tuple[float, float] = (1.0, 1.0),
    sigma: float = 1.0,
    noise: Callable[[np.ndarray], np.ndarray] | None = None,
    common: tuple[float, float] = (3.0, 2.0),
) -> pd.DataFrame:
    """Lines of levels that differ normally, with normal residuals: ``g``, ``x``, ``y``.

    Parameters
    ----------
    rng
        Of everything.
    g, x
        Shape (n,): the level of each row, as a code, and its predictor.
    sd
        Of the levels' intercepts and slopes, independent of each other.
    sigma
        Residual sd.
    noise
        Shape (n,) of codes -> residuals in place of normal ones.
    common
        Intercept and slope about which the levels vary.
    """
    u = rng.normal(size=(g.max() + 1, 2)) * sd
    e = rng.normal(0, sigma, len(g)) if noise is None else noise(g)
    y = common[0] + common[1] * x + u[g, 0] + u[g, 1] * x + e
    return pd.DataFrame({"g": [f"g{k:03d}" for k in g], "x": x, "y": y})


def grouped(
    rng: np.random.Generator,
    rows: int | np.ndarray = 8,
    levels: int = 20,
    *,
    sd: tuple[float, float] = (1.0, 1.0),
    sigma: float = 1.0,
    noise: Callable[[np.ndarray], np.ndarray] | None = None,
) -> pd.DataFrame:
    """The same with so many rows a level, or for each its own number; x runs from -1 to 1."""
    counts = np.broadcast_to(rows, levels)
    g = np.repeat(np.arange(levels), counts)
    x = np.concatenate([np.linspace(-1, 1, n) if n > 1 else [0.0] for n in counts])
    return lines(rng, g, x, sd, sigma, noise)


def over_time(
    rng: np.random.Generator,
    levels: int = 20,
    rows: int = 8,
    sd: tuple[float, float] = (3.0, 1.0),
    sigma: float = 2.0,
    noise: Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> pd.DataFrame:
    """The same over ``time`` 0, 1, ...; noise takes (rng, codes, time), in units of sigma."""
    g, time = np.repeat(np.arange(levels), rows), np.tile(np.arange(float(rows)), levels)

    def residuals(codes: np.ndarray) -> np.ndarray:
        return sigma * (rng.normal(size=len(g)) if noise is None else noise(rng, codes, time))

    return lines(rng, g, time, sd, noise=residuals, common=(10.0, 2.0)).rename(
        columns={"x": "time"}
    )
