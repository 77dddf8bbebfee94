"""Rows, levels, variances and the mean, judged by the residuals of a fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hierpool as hp
from hierpool.algebra.residual_maker import ResidualMaker
from hierpool.checks.residuals import autocorrelation, mean_structure, outliers
from hierpool.checks.residuals import every as residuals
from hierpool.checks.residuals.null_residuals import Replicates
from tests.support.tables import over_time

CHECKED = ["sleepstudy_slopes", "radon_uranium", "machines_slopes"]


def dense(maker):
    """K (n, n), rows divided by their sds."""
    return maker.residuals(np.eye(maker.n))


def found(data, formula="y ~ time + (time | g)"):
    """Codes of warnings."""
    fit = hp.Model(formula, data).reml()
    return {f.code for f in residuals.judged(fit) if f.severity == "warning"}


@pytest.mark.parametrize("name", CHECKED)
def test_a_row_is_held_against_what_a_fit_without_it_predicts(fitted, name):
    fit = fitted[name].reml
    maker, table = ResidualMaker.from_fit(fit), outliers.rows(ResidualMaker.from_fit(fit))
    V = np.linalg.inv(maker.whiten(np.eye(maker.n)))
    X, y, n = maker.basis, maker.rows.y, maker.n
    for i in (0, 17, n - 1):
        kept = np.arange(n) != i
        inverse = np.linalg.inv(V[np.ix_(kept, kept)])
        S = X[kept].T @ inverse @ X[kept]
        beta = np.linalg.solve(S, X[kept].T @ inverse @ y[kept])
        left = y[kept] - X[kept] @ beta
        sigma2 = left @ inverse @ left / (n - 1 - X.shape[1])
        weights = V[i, kept] @ inverse
        new = X[i] - weights @ X[kept]
        mean = X[i] @ beta + weights @ left
        variance = V[i, i] - weights @ V[kept, i] + new @ np.linalg.solve(S, new)
        row = table.iloc[i]
        assert row["observed"] - row["predicted"] == pytest.approx(y[i] - mean, rel=1e-5, abs=1e-7)
        assert row["sd"] == pytest.approx(np.sqrt(sigma2 * variance), rel=1e-5)
        assert row["t"] == pytest.approx((y[i] - mean) / np.sqrt(sigma2 * variance), rel=1e-4)


def sum_of_squares(maker, columns):
    """Penalised sum of squares once these columns have fixed effects of their own."""
    K, y = dense(maker), maker.rows.y
    r = columns.T @ K @ y
    return y @ K @ y - r @ np.linalg.lstsq(columns.T @ K @ columns, r, rcond=1e-9)[0]


@pytest.mark.parametrize("name", ["sleepstudy_slopes", "radon_slopes"])
def test_a_level_is_held_against_a_fit_that_gives_it_coefficients_of_its_own(fitted, name):
    fit = fitted[name].reml
    maker, table = ResidualMaker.from_fit(fit), outliers.levels(ResidualMaker.from_fit(fit))
    for j in (0, 9):
        own = maker.rows.Z[0] * (maker.rows.codes[0] == j)[:, None]
        left, df = sum_of_squares(maker, own), table["df"].iloc[j]
        F = (maker.squares - left) / df / (left / (maker.df - df))
        assert table["F"].iloc[j] == pytest.approx(F, rel=1e-5)


def test_a_score_of_a_column_is_its_coefficient_in_the_model_that_has_it(fitted):
    fit = fitted["sleepstudy_slopes"].reml
    maker, days = ResidualMaker.from_fit(fit), fit.design.frame["Days"].to_numpy(float)
    (scored,) = mean_structure.scored(maker, [("square", days**2)], rare=1.1)
    V = np.linalg.inv(maker.whiten(np.eye(maker.n)))
    X = np.column_stack([maker.basis, days**2])
    S = X.T @ np.linalg.solve(V, X)
    beta = np.linalg.solve(S, X.T @ np.linalg.solve(V, maker.rows.y))
    left = maker.rows.y - X @ beta
    sigma2 = left @ np.linalg.solve(V, left) / (maker.n - X.shape[1])
    assert scored.coefficient == pytest.approx(beta[-1], rel=1e-6)
    assert scored.t == pytest.approx(
        beta[-1] / np.sqrt(sigma2 * np.linalg.inv(S)[-1, -1]), rel=1e-6
    )


@pytest.mark.parametrize("name", CHECKED)
def test_simulated_residuals_have_the_covariance_of_residuals(fitted, name):
    maker = ResidualMaker.from_fit(fitted[name].reml)
    e = maker.residuals(maker.simulate(np.random.default_rng(2), 4000))
    K = dense(maker)
    assert (e**2).mean(axis=1) == pytest.approx(np.diag(K), rel=0.15)
    off = np.abs(e @ e.T / 4000 - K)
    assert off.max() < 6.5 / np.sqrt(4000)


def test_scores_of_the_variances_are_zero_at_an_inner_optimum(fitted):
    for name in ("sleepstudy_slopes", "sleepstudy_uncorrelated", "radon_intercepts"):
        r = Replicates.from_residual_maker(ResidualMaker.from_fit(fitted[name].reml))
        sd, mean = r.scores[1:].std(axis=0), r.scores[1:].mean(axis=0)
        error = np.abs(r.scores[0] - mean) / np.maximum(sd / np.sqrt(len(r.scores) - 1), 1e-9)
        assert error.max() < 4  # what is left is the Monte Carlo error of the mean


def test_fitted_values_of_the_observed_response_are_those_of_the_fit(fitted):
    fit = fitted["orthodont_sex"].reml
    r = Replicates.from_residual_maker(ResidualMaker.from_fit(fit))
    assert r.fitted[:, 0] == pytest.approx(fit.fitted().to_numpy(), abs=1e-6)
    assert r.fitted[:, 1:].mean() == pytest.approx(fit.fitted().mean(), rel=0.01)


@pytest.mark.slow
def test_p_values_are_uniform_when_the_model_holds():
    p = []
    for seed in range(40):
        data = over_time(np.random.default_rng([3, seed]), levels=15, rows=5)
        r = Replicates.from_residual_maker(
            ResidualMaker.from_fit(hp.Model("y ~ time + (time | g)", data).reml())
        )
        first, second = autocorrelation.neighbours(
            r.maker.design, r.maker.design.groupings["g"], "time"
        )
        products = r.residuals[first] * r.residuals[second]
        p.append(r.judge(products.sum(axis=0)[:, None]).p)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert stats.kstest(np.array(p) ** 2, "uniform").pvalue < 0.01  # this test can fail


def with_ar(rho):
    def noise(rng, level, time):
        e = rng.normal(size=len(level))
        for i in np.flatnonzero(np.diff(level, prepend=-1) == 0):
            e[i] = rho * e[i - 1] + np.sqrt(1 - rho**2) * e[i]
        return e

    return noise


PLANTED = {
    "autocorrelation": lambda rng: over_time(rng, 30, 10, noise=with_ar(0.6)),
    "curvature": lambda rng: over_time(rng).assign(y=lambda d: d.y - 3 * (d.time / 3.5 - 1) ** 2),
    "unequal-variance": lambda rng: over_time(
        rng, 30, noise=lambda r, level, time: r.normal(size=len(level)) * np.exp(time / 5)
    ),
    "unequal-variance-of-levels": lambda rng: over_time(
        rng, 40, noise=lambda r, level, time: r.normal(size=len(level)) * (1 + 2 * (level % 2))
    ),
    "heavy-tails": lambda rng: over_time(
        rng, 50, noise=lambda r, level, time: r.standard_t(3, size=len(level))
    ),
    "skewed-residuals": lambda rng: over_time(
        rng, 50, noise=lambda r, level, time: r.exponential(size=len(level)) - 1
    ),
    "outlying-row": lambda rng: over_time(rng).assign(y=lambda d: d.y + 20 * (d.index == 37)),
    "outlying-level": lambda rng: over_time(rng, 40).assign(y=lambda d: d.y + 40 * (d.g == "g004")),
}


@pytest.mark.parametrize("code", PLANTED)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_planted_fault_is_found(code, seed):
    assert code in found(PLANTED[code](np.random.default_rng(seed)))


def test_a_level_among_few_does_not_hide_behind_the_spread_that_it_makes():
    data = over_time(np.random.default_rng(1), 10, 6, sd=(3.0, 0.0))
    assert "outlying-level" not in found(data, "y ~ time + (1 | g)")
    data["y"] += 45 * (data.g == "g004")
    fit = hp.Model("y ~ time + (1 | g)", data).reml()
    maker = ResidualMaker.from_fit(fit)
    assert outliers.levels(maker)["p"].min() > 0.005  # its own spread held against it
    (finding,) = outliers.outlying_levels(maker)
    assert "g g004 is an outlier" in finding.text
    others = hp.Model("y ~ time + (1 | g)", data[data.g != "g004"]).reml()
    sd = outliers._factor_without(maker, 4)[0, 0] * fit.estimate.sigma
    assert sd == pytest.approx(others.estimate.only.sd[0], rel=0.2)  # a grid, and another sigma


def test_a_slope_that_varies_is_missed_by_intercepts_alone():
    data = over_time(np.random.default_rng(4))
    assert "coefficient-varies" in found(data, "y ~ time + (1 | g)")
    assert "coefficient-varies" not in found(data)


def test_skewed_residuals_without_unusual_tails_are_not_called_heavy():
    rng = np.random.default_rng(17)
    level = np.repeat(np.arange(40), 8)
    noise = (rng.gamma(6.0, size=320) - 6) / np.sqrt(6)
    data = pd.DataFrame({"y": rng.normal(size=40)[level] + noise, "g": level})
    codes = found(data, "y ~ 1 + (1 | g)")
    assert "skewed-residuals" in codes
    assert "heavy-tails" not in codes


def test_levels_that_differ_are_found_where_each_has_a_weight_of_its_own():
    rng = np.random.default_rng(1)
    level = np.repeat(np.arange(30), 5)
    weight = np.exp(rng.normal(size=30))[level]
    noise = rng.normal(size=150) / np.sqrt(weight)
    data = pd.DataFrame({"x": rng.normal(size=150), "w": weight, "g": level})
    data["y"] = 1 + data["x"] + 1.5 * rng.normal(size=30)[level] + noise
    fit = hp.complete_pooling("y ~ x", data, group="g", weights="w").reml()
    (finding,) = [f for f in residuals.judged(fit) if f.code == "coefficient-varies"]
    assert "The coefficient of Intercept" in finding.text
    sd = finding.evidence.set_index("term").loc["Intercept", "sd_about"]
    assert sd == pytest.approx(1.5, rel=0.5)  # one step of a score, from a variance of zero


def test_a_slope_between_levels_that_differs_from_that_within_is_found():
    rng = np.random.default_rng(1)
    level, middle = np.repeat(np.arange(50), 6), rng.normal(size=50)
    x = middle[level] + rng.normal(size=300)
    y = x + 2 * middle[level] + rng.normal(size=50)[level] + 2 * rng.normal(size=300)
    data = pd.DataFrame({"y": y, "x": x, "g": level})
    assert found(data, "y ~ x + (1 | g)") == {"contextual-effect"}
    data["x_mean"] = data.groupby("g").x.transform("mean")
    assert found(data, "y ~ x + x_mean + (1 | g)") == set()


@pytest.mark.parametrize(
    ("name", "is_time"),
    [("Days", True), ("visit_age", True), ("AGE", True), ("wage", False), ("dosage", False)],
)
def test_a_time_is_told_by_its_name_where_levels_share_no_values(name, is_time):
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"y": rng.normal(size=40), name: rng.normal(size=40)})
    data["g"] = np.repeat(np.arange(8), 5)
    design = hp.Model(f"y ~ {name} + (1 | g)", data).design
    found = autocorrelation.time_of(design, design.groupings["g"])
    assert found == (name if is_time else None)


@pytest.mark.parametrize("name", ["boars_slopes", "boars_intercepts", "dyestuff2", "dyestuff"])
def test_nothing_is_found_where_nothing_is_wrong(fitted, name):
    assert list(residuals.judged(fitted[name].reml)) == []


def test_sleepstudy_has_outlying_rows_and_serial_correlation(fitted):
    found = {f.code: f for f in residuals.judged(fitted["sleepstudy_slopes"].reml)}
    assert {"outlying-row", "autocorrelation", "heavy-tails"} == set(found)
    assert "subject 332" in found["outlying-row"].text
    assert found["outlying-row"].evidence["p"].iloc[0] < 1e-4


def test_no_pooling_is_not_judged(fitted):
    assert list(residuals.judged(fitted["sleepstudy_no_pooling"].reml)) == []


def test_rows_that_say_nothing_are_left_out():
    """A level with one row and a slope of its own, known residual sds, and one row a level."""
    data = hp.datasets.load("eight_schools")
    formula = f"{data.columns[1]} ~ 1 + (1 | {data.columns[0]})"
    fit = hp.Model(formula, data, known_se=data.columns[2]).reml()
    assert list(residuals.judged(fit)) == []


@pytest.mark.calibration
@pytest.mark.parametrize(("levels", "rows"), [(8, 10), (20, 5), (129, 4)])
def test_warnings_on_clean_data_are_rare(levels, rows):
    codes = [found(over_time(np.random.default_rng([9, s]), levels, rows)) for s in range(200)]
    every = pd.Series([c for one in codes for c in one]).value_counts()
    assert every.max() <= 0.05 * 200
    assert np.mean([bool(c) for c in codes]) <= 0.1


@pytest.mark.calibration
@pytest.mark.parametrize("code", PLANTED)
def test_a_planted_fault_is_found_nine_times_in_ten(code):
    hits = [code in found(PLANTED[code](np.random.default_rng([8, s]))) for s in range(50)]
    assert np.mean(hits) >= 0.9


def test_the_curve_that_is_advised_can_be_typed_for_a_name_with_a_blank():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"g": np.repeat(np.arange(20), 10), "my x": rng.normal(size=200)})
    levels, noise = rng.normal(size=20)[table.g], rng.normal(size=200)
    table["y"] = table["my x"] + 0.5 * table["my x"] ** 2 + levels + noise
    (found,) = hp.check(hp.Model("y ~ `my x` + (1 | g)", table).reml()).of("curvature")
    assert "I(`my x`**2)" in found.meaning
    square = hp.Model("y ~ `my x` + I(`my x`**2) + (1 | g)", table)
    assert not hp.check(square.reml()).of("curvature")
