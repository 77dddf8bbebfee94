"""Residual sds of groups beside several factors: rows and groups left out, against dense normals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import hierpool as hp
from hierpool.algebra.several.random_scale import SampledScales
from hierpool.bayes.exact.target import LogPosterior
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.theta import ResidualTheta
from tests.algebra.several.test_by_class import covariance

CASES = [
    ("y ~ x + (1 | pig) + (1 | pen) + (1 | day)", "~ x + (1 | pig)"),
    ("y ~ x + (x | pig) + (1 | day)", "~ (1 | pig)"),
    ("y ~ x + (1 | pen)", "~ k + (1 | pig)"),
    ("y ~ 1 + (1 | pig) + (1 | pen)", "~ (1 | day)"),
]
GRID = np.linspace(-9, 9, 241)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [(f"p{j}", f"n{j // 3}", f"d{t}") for j in range(7) for t in range(4) if j + t != 9]
    made = pd.DataFrame([*rows, ("p7", "n2", "d1")], columns=["pig", "pen", "day"])
    n = len(made)
    made["x"], made["k"] = rng.normal(size=n), rng.choice(["u", "v"], n)
    sd = np.where(made.pig == "p1", 3.0, 0.6)
    return made.assign(y=2 + made.x + rng.normal(size=n) * sd, w=rng.uniform(0.5, 2, n))


@pytest.fixture(scope="module", params=CASES, ids=lambda c: f"{c[0]}, {c[1]}")
def model(request: Any, table: pd.DataFrame) -> hp.Model:
    return hp.Model(request.param[0], table, sigma=request.param[1])


def at(model: hp.Model) -> tuple[SampledScales, ResidualTheta]:
    target = LogPosterior.from_design(model.design, model.priors)
    z = 0.7 * np.random.default_rng(2).normal(size=(2, target.coordinates.size))
    theta = target.at(z).working
    assert isinstance(theta, ResidualTheta)
    algebra = target.integrated
    assert isinstance(algebra, SampledScales)
    return algebra, theta


def log_p(model: hp.Model, algebra: Any, theta: ResidualTheta, j: int, s: Any) -> Any:
    """Log density of kept rows, dense, with the scale of group j at each s: a function of the rows."""
    own, rows = algebra.structure, algebra.rows
    first = own.n_correlations + own.n_spread
    V = []
    for value in s:
        phi = theta.phi[0].copy()
        phi[first + 1 + j] = phi[first] * value
        V.append(theta.sigma[0] ** 2 * covariance(model, algebra, theta.Lambda[0], phi))
    dense = np.stack(V) + rows.X @ np.linalg.solve(algebra.prior.precision, rows.X.T)
    e = rows.y - rows.X @ algebra.prior.mean

    def of_rows(kept: np.ndarray) -> np.ndarray:
        L = np.linalg.cholesky(dense[:, kept][:, :, kept])
        white = np.linalg.solve(L, np.broadcast_to(e[kept, None], (len(L), len(kept), 1)))
        density = stats.norm.logpdf(white).sum(axis=(1, 2))
        return density - np.log(np.diagonal(L, axis1=1, axis2=2)).sum(axis=1)

    return of_rows


def test_rows_and_groups_left_out_are_dense_integrals(model: hp.Model) -> None:
    algebra, every = at(model)
    n, grouping = model.design.n, model.design.groupings[model.design.scale_factor]
    rows = algebra.densities_by_row(every, np.arange(n), algebra.marginal(every))
    levels = algebra.log_density_of_levels(every, grouping)
    prior = stats.norm.logpdf(GRID) + np.log(GRID[1] - GRID[0])
    for k, j in [(0, 1), (1, 0), (1, grouping.n_levels - 1)]:
        density = log_p(model, algebra, every[k : k + 1], j, GRID)
        all_rows, own = np.arange(n), grouping.by_level[j]
        whole = special.logsumexp(density(all_rows) + prior)
        assert levels[j, k] == pytest.approx(
            whole - density(np.setdiff1d(all_rows, own))[0], abs=1e-8
        )
        for i in own[:3]:
            rest = special.logsumexp(density(np.delete(all_rows, i)) + prior)
            assert rows[i, k] == pytest.approx(whole - rest, abs=1e-8)


def test_crossed_levels_are_left_out_given_all_scales(table: pd.DataFrame) -> None:
    model = hp.Model(CASES[0][0], table, sigma=CASES[0][1])
    algebra, theta = at(model)
    days = model.design.groupings["day"]
    found = algebra.log_density_of_levels(theta, days)
    whole = algebra.log_density(theta)
    rest = [algebra.without(np.flatnonzero(days.codes == d)).log_density(theta) for d in range(4)]
    inside = np.array([False, True, False, False])  # the only row of p7 is of d1
    assert found[~inside] == pytest.approx((whole - np.stack(rest))[~inside], abs=1e-8)
    assert np.abs(found - (whole - np.stack(rest)))[1].min() > 1e-6
    sets = [
        np.flatnonzero(days.codes == 2),
        np.flatnonzero(model.design.groupings["pig"].codes == 1),
    ]
    without = algebra.without(np.unique(np.concatenate(sets)))
    pig = algebra.density_of_sets(without, theta, sets)[1]
    kept = np.setdiff1d(sets[0], sets[1])
    alone = algebra.without(kept)
    pigs = model.design.groupings["pig"]
    pigs = replace(pigs, codes=np.delete(pigs.codes, kept))
    assert pig == pytest.approx(alone.log_density_of_levels(theta, pigs)[1], abs=1e-8)
    with pytest.raises(UnsupportedModelError, match=r"several pigs, each .* fit\.loo\(by='pig'\)"):
        algebra.log_density_of_levels(theta, model.design.groupings["pen"])


def test_weights_and_no_differences_between_groups(table: pd.DataFrame) -> None:
    """With an sd of zero between groups the scores are those of one residual sd."""
    formula = CASES[0][0]
    even, plain = hp.Model(formula, table, sigma="~ (1 | pig)"), hp.Model(formula, table)
    algebra, theta = at(even)
    theta = ResidualTheta(theta.sigma, theta.Lambda, 0 * theta.phi)
    other = LogPosterior.from_design(plain.design, plain.priors).integrated
    pigs, rows = even.design.groupings["pig"], np.arange(even.design.n)
    for found in (algebra, other):
        assert found.log_density(theta) == pytest.approx(other.log_density(theta), abs=1e-8)
    marginals = algebra.marginal(theta), other.marginal(theta)
    found, expected = (
        m.densities_by_row(theta, rows, own)
        for m, own in zip((algebra, other), marginals, strict=True)
    )
    assert found == pytest.approx(expected, abs=1e-8)
    levels = algebra.log_density_of_levels(theta, pigs)
    assert levels == pytest.approx(other.log_density_of_levels(theta, pigs), abs=1e-8)


def test_what_uses_the_groups_alone_agrees_with_what_any_levels_take(table: pd.DataFrame) -> None:
    """Known weights included."""
    model = hp.Model(CASES[1][0], table, sigma=CASES[1][1], weights="w")
    algebra, theta = at(model)
    pigs = model.design.groupings["pig"]
    found = algebra.log_density_of_levels(theta, pigs)
    other = replace(pigs, known=replace(pigs.known, factor="another"))
    assert found == pytest.approx(algebra.log_density_of_levels(theta, other), abs=1e-8)
