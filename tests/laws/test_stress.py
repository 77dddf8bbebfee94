"""The exact engine where simpler recipes fail quietly: its verdict, and two seeds that must agree."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp

pytestmark = pytest.mark.slow


def grouped(
    n_levels: int,
    rows: int,
    sd: tuple[float, ...],
    *,
    sigma: float = 1.0,
    correlation: float = 0.0,
    offset: float = 0.0,
    unbalanced: bool = False,
) -> pd.DataFrame:
    """Rows of levels with normal intercepts and slopes of x1, x2, ...; the truth is in the call."""
    rng = np.random.default_rng(7)
    sizes = 1 + rng.poisson(rows - 1, n_levels) if unbalanced else np.full(n_levels, rows)
    g = np.repeat(np.arange(n_levels), sizes)
    q = len(sd)
    x = [np.ones(len(g)), np.concatenate([np.arange(k) for k in sizes]) / 2]
    X = np.stack([*x, *rng.normal(size=(3, len(g)))], axis=1)[:, :q]
    R = (1 - correlation) * np.eye(q) + correlation + 1e-12 * np.eye(q)
    u = rng.normal(size=(n_levels, q)) @ (np.diag(sd) @ np.linalg.cholesky(R)).T
    y = 2 + X[:, -1] + (X * u[g]).sum(axis=1) + sigma * rng.normal(size=len(g)) + offset
    columns = {f"x{k}": X[:, k] + offset for k in range(1, q)}
    return pd.DataFrame({**columns, "g": g, "y": y})


def formula(q: int, bar: str = "|") -> str:
    slopes = " + ".join(f"x{k}" for k in range(1, q)) or "1"
    return f"y ~ {slopes} + ({slopes} {bar} g)"


CASES = {
    **{f"{k}_levels": (grouped(k, 6, (1.0, 0.5)), formula(2)) for k in (2, 3, 5, 8)},
    "two_levels_intercept": (grouped(2, 6, (1.0,)), formula(1)),
    "no_variance": (grouped(12, 4, (0.0, 0.0)), formula(2)),
    "no_slope_variance": (grouped(40, 4, (1.0, 0.0)), formula(2)),
    "perfect_correlation": (grouped(20, 5, (1.0, 0.5), correlation=0.999999), formula(2)),
    "levels_with_one_row": (grouped(30, 2, (1.0, 0.5), unbalanced=True), formula(2)),
    "little_residual": (grouped(20, 8, (10.0, 1.0), sigma=0.1), formula(2)),
    "offset_1e9": (grouped(20, 8, (1.0, 0.5), offset=1e9), formula(2)),
    "uncorrelated": (grouped(8, 6, (1.0, 0.5)), formula(2, "||")),
    "three_terms": (grouped(6, 8, (1.0, 0.5, 0.5)), formula(3)),
    "four_terms": (grouped(5, 12, (1.0, 0.5, 0.5, 0.3)), formula(4)),
    "sixteen_dimensions": (grouped(5, 12, (1.0, 0.5, 0.5, 0.3, 0.3)), formula(5)),
    "2000_levels_no_slope": (grouped(2000, 4, (1.0, 0.0)), formula(2)),
    "10000_levels": (grouped(10_000, 4, (1.0, 0.5), unbalanced=True), formula(2)),
}


@pytest.mark.filterwarnings("ignore::hierpool.core.errors.HierpoolWarning")
@pytest.mark.parametrize("name", CASES)
def test_verdict_is_good_and_two_seeds_agree(name):
    data, text = CASES[name]
    model = hp.Model(text, data)
    one, other = (model.fit("exact", seed=seed) for seed in (1, 2))
    assert one.status.word == other.status.word == "good", (one.status, other.status)
    a, b = one.summary(), other.summary()
    error = np.sqrt(a["sd"] ** 2 / a["ess_bulk"] + b["sd"] ** 2 / b["ess_bulk"])
    assert ((a["mean"] - b["mean"]).abs() / error).max() < 4.5
    (p, dp), (q, dq) = one.log_marginal_likelihood, other.log_marginal_likelihood
    assert abs(p - q) < 4.5 * np.hypot(dp, dq)


def test_heavy_shrinkage_and_contradictory_priors_are_sampled():
    data, text = CASES["8_levels"]
    tight = {"sd_g": hp.Prior("HalfNormal", sigma=0.001), "sigma": hp.Prior("HalfNormal", sigma=1)}
    shrunk = hp.Model(text, data, priors=tight).fit("exact", seed=1)
    assert shrunk.status.word == "good"
    assert shrunk.variance_components().loc["g"]["mean"].iloc[:2].max() < 0.003
    against = {"x1": hp.Prior("Normal", mu=50, sigma=0.5)}
    pulled = hp.Model(text, data, priors=against).fit("exact", seed=1)
    assert pulled.status.word == "good"
    assert pulled.fixed_effects().loc["x1", "mean"] > 5
