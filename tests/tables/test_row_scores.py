"""Scores of single rows of a table that is not in memory are those of its rows."""

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.bayes.exact.target import LogPosterior
from hierpool.core.errors import HierpoolError
from hierpool.core.theta import Theta
from hierpool.tables.engines import open_table
from hierpool.tables.row_scores import ScoredTable
from hierpool.tables.sigma_points import sigma_points
from tests.tables.test_collect import FORMULAS, ROWS, lazy, table

CASES = {
    "slopes": (FORMULAS[0], {}),
    "crossed": ("y ~ x * t + (1 | g) + (1 | h)", {}),
    "weights": ("y ~ x + (x || g)", {"weights": "w"}),
    "known sds": ("y ~ x + t + (1 | g)", {"known_se": "se"}),
    "powers and offset": ("y ~ center(x) + I(z ** 2) + z + offset(z) + (1 | g)", {}),
    "no groups": ("y ~ x + z", {}),
}


def fitted(formula, data, **given):
    return hp.Model(formula, data, **given).fit(seed=1, progress=False, chains=2, draws=300)


def in_engine(rows, engine):
    if engine == "polars":
        return lazy(rows)
    if engine == "duckdb":
        return pytest.importorskip("duckdb").from_df(rows)
    connection = pytest.importorskip("ibis").duckdb.connect()
    connection.con.register("t", rows)
    return connection.table("t")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("case", "engine"),
    [
        pytest.param(case, engine, marks=[pytest.mark.slow] * ((case, engine) != QUICK))
        for QUICK in [("slopes", "polars")]
        for case in CASES
        for engine in ("polars", "duckdb", "ibis")
        if engine == "polars" or case in ("slopes", "weights")
    ],
)
def test_scores_at_sigma_points_are_those_of_rows_in_memory(case, engine, monkeypatch):
    """Row by row, the cells joined in three blocks."""
    formula, given = CASES[case]
    monkeypatch.setattr("hierpool.tables.row_scores._NUMBERS", 3000)
    fit = fitted(formula, lazy(), **given)
    scored = ScoredTable.of([fit], open_table(in_engine(ROWS, engine)))
    found = pd.concat(list(scored.frames(["y"]))).sort_values("y")
    model = hp.Model(formula, ROWS, **given)
    whole = LogPosterior.from_design(model.design, model.priors).integrated
    density = whole.log_density_of_rows(scored.models[0].points)
    expected = -np.log(np.exp(-density).mean(axis=0))[np.argsort(ROWS["y"])]
    np.testing.assert_allclose(found["elpd"], expected, atol=1e-9)
    total = scored.sums(*scored.sampled(100, 1))
    np.testing.assert_allclose(total.total[0], expected.sum(), rtol=1e-12)
    np.testing.assert_allclose(total.variance[0], expected.var(ddof=1), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["slopes"])
def test_a_sample_corrects_the_sum(case, tmp_path):
    """To fit.loo() of the rows within the sampling error that is stated, and its Monte Carlo error."""
    formula, given = CASES[case]
    one, other = (
        hp.Model(formula, data, **given).fit(seed=1, progress=False) for data in (lazy(), ROWS)
    )
    path = tmp_path / "s.parquet"
    found = hp.loo_from_table(one, lazy(), path, keep=["y"], n_checked=1000, progress=False)
    expected = other.loo()
    assert abs(found.elpd - expected.elpd) < 3 * found.sampling_se + 0.03
    np.testing.assert_allclose([found.se, found.p], [expected.se, expected.p], rtol=0.02)
    assert "corrected by 1,000 of 3,000 rows" in str(found)
    each = pd.read_parquet(path).sort_values("y")["elpd"].to_numpy()
    np.testing.assert_allclose(each, expected.elpd_i.to_numpy()[np.argsort(ROWS["y"])], atol=0.02)
    every = hp.loo_from_table(one, lazy(), n_checked=10**6, progress=False)
    assert every.sampling_se == 0
    np.testing.assert_allclose(every.elpd, expected.elpd, atol=0.03)


@pytest.mark.slow
def test_an_offset_of_1e9_keeps_the_digits_of_scores():
    scores = []
    for offset in (0.0, 1e9):
        rows = table(offset)
        fit = fitted("y ~ x + (1 | g)", lazy(rows))
        scored = ScoredTable.of([fit], open_table(lazy(rows)))
        scores.append(scored.sums(*scored.sampled(20, 1)).total[0])
    np.testing.assert_allclose(*scores, rtol=1e-5)  # draws differ in what floats leave out


def test_sigma_points_have_the_means_and_covariance_of_theta():
    """Of log sigma, a sd far from zero, and a correlation."""
    rng = np.random.default_rng(0)
    logs, r = rng.multivariate_normal([0.0, 1.0], [[0.01, 0.005], [0.005, 0.02]], 4000), 0.4
    rho = np.tanh(np.arctanh(r) + 0.1 * rng.normal(size=4000))
    chol = np.zeros((4000, 2, 2))
    chol[:, 0, 0], chol[:, 1, 0], chol[:, 1, 1] = 1.0, rho, np.sqrt(1 - rho**2)
    values = {"sigma": np.exp(logs[:, 0]), "sd_g": np.exp(logs[:, 1:]), "corr_chol_g": chol}
    points = sigma_points(Theta(4000, values))
    assert len(points) == 6
    found = np.column_stack([points.values["sigma"], points.values["sd_g"][:, 0]])
    drawn = np.column_stack([values["sigma"], values["sd_g"][:, 0]])
    np.testing.assert_allclose(found.mean(axis=0), drawn.mean(axis=0), rtol=2e-3)
    np.testing.assert_allclose(np.cov(found.T, ddof=0), np.cov(drawn.T), rtol=0.05)
    np.testing.assert_allclose(points.values["corr_chol_g"][:, 1, 0].mean(), rho.mean(), rtol=5e-3)
    lengths = (points.values["corr_chol_g"] ** 2).sum(axis=2)
    np.testing.assert_allclose(lengths, 1)


BAD = {
    "other-table": lambda fit: hp.loo_from_table(fit, lazy(ROWS[:-1])),
    "unknown-column": lambda fit: hp.loo_from_table(fit, lazy(), "p.parquet", keep=["nope"]),
    "posterior-needed": lambda fit: hp.loo_from_table(
        hp.Model("y ~ x + (1 | g)", lazy()).reml(), lazy()
    ),
    "has-row-scores": lambda fit: hp.loo_from_table(fitted("y ~ x", ROWS), lazy()),
    "needs-rows": lambda fit: fit.loo(),
}


def test_bad_input_is_told():
    fit = fitted("y ~ x + (1 | g)", lazy())
    for code, ask in BAD.items():
        with pytest.raises(HierpoolError) as caught:
            ask(fit)
        assert caught.value.code == code
