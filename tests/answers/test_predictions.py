"""Predictions: known levels, the population, new levels, the average; posterior and REML."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import ArgumentError, DataError, HierpoolError, UnsupportedModelError
from tests.answers.equations import CROSSED, dense, new_columns
from tests.support.cases import each

SLOPES = "Reaction ~ Days + (Days | Subject)"
EVERY = ["sleepstudy_complete", "sleepstudy_intercepts", "sleepstudy_slopes"]
EVERY += ["sleepstudy_uncorrelated", "sleepstudy_no_pooling", "dyestuff2", "radon_no_pooling"]


@pytest.fixture(scope="module")
def crossed() -> hp.Model:
    return hp.Model(CROSSED, hp.datasets.load("Penicillin"))


@pytest.fixture(scope="module")
def crossed_fit(crossed: hp.Model) -> hp.PosteriorFit:
    return crossed.fit("exact", seed=1, draws=500, progress=False)


@pytest.fixture(scope="module")
def nights() -> pd.DataFrame:
    """Two known people, and two that nobody knows, in no order."""
    return pd.DataFrame(
        {
            "note": list("abcdef"),
            "Subject": ["999", "308", "999", "777", "309", "308"],
            "Days": [0, 3, 4, 0, 12, 0],
        },
        index=[9, 9, 4, 1, 0, 7],
    )


# --- agreement -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_rows_of_the_fit_are_predicted_as_fitted(fitted, name):
    reml, fit = fitted[name].reml, fitted[name].posterior
    np.testing.assert_allclose(reml.predict()["estimate"], reml.fitted(), rtol=1e-9)
    table = fit.predict()
    assert list(table.index) == list(fit.design.rows)
    np.testing.assert_allclose(table["mean"], fit.fitted(), rtol=1e-12)
    draws = fit.predict_draws()
    assert draws.dims == ("chain", "draw", "obs")
    error = (draws.mean(("chain", "draw")).to_numpy() - table["mean"]) / table["sd"]
    assert np.abs(error).max() < 6 / np.sqrt(4000)


def test_means_are_nearer_to_a_long_run_than_those_of_the_draws():
    model = hp.Model("Reaction ~ Days + (Days | Subject)", hp.datasets.load("sleepstudy"))
    long = model.fit(draws=10_000, seed=99, progress=False).fitted()
    few = model.fit(draws=250, seed=1, progress=False)
    drawn = few.predict_draws().mean(("chain", "draw")).to_numpy()
    ours, others = (np.sqrt(np.mean((m - long) ** 2)) for m in (few.predict()["mean"], drawn))
    assert ours < 0.6 * others


def test_means_of_new_levels_are_those_of_the_population(fitted):
    fit = fitted["sleepstudy_slopes"].posterior
    new = {"Days": [0, 4], "Subject": ["new", "new"]}
    expected = fit.predict(new, groups="average")["mean"]
    beta = fit.fixed_effects()["mean"]
    np.testing.assert_allclose(expected, beta["Intercept"] + np.array([0, 4]) * beta["Days"])
    for kind in ("mean", "response"):
        for groups in ("new", "allow new"):
            np.testing.assert_allclose(
                fit.predict(new, groups=groups, kind=kind)["mean"], expected, rtol=1e-12
            )


def test_means_of_one_thing_are_one_number(fitted):
    fit = fitted["sleepstudy_slopes"].posterior
    beta, u = fit.fixed_effects()["mean"], fit.random_effects(False)["mean"]
    coef = fit.coefficients(False)["mean"]
    for term in ("Intercept", "Days"):
        own = coef.xs(term, level="term")
        np.testing.assert_allclose(own, beta[term] + u.xs(term, level="term"), rtol=1e-12)
    pair = hp.contrast(fit, "Subject", ["308", "309"], term="Days")["mean"].iloc[0]
    a, b = (coef["Subject", level, "Days"] for level in ("308", "309"))
    assert pair == pytest.approx(a - b, rel=1e-12)
    np.testing.assert_allclose(hp.shrinkage(fit)["partial_pooling"], coef, rtol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_data_of_the_fit_are_predicted_as_its_rows(fitted, name):
    data = hp.datasets.load(fitted[name].dataset)
    for fit in (fitted[name].reml, fitted[name].posterior):
        pd.testing.assert_frame_equal(fit.predict(data), fit.predict(), rtol=1e-8)


def test_known_levels_are_the_draws_of_their_coefficients(fitted, nights):
    fit = fitted["sleepstudy_slopes"].posterior
    rows = nights.iloc[[1, 4]]
    coef = fit.variable("coef_Subject").sel(Subject=["308", "309"]).to_numpy()
    expected = coef[..., 0] + coef[..., 1] * [3, 12]
    found = fit.predict_draws(rows)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert list(found.obs) == [9, 0]


def test_mean_of_an_average_group_is_x_beta(fitted, nights):
    columns = nights[["Days"]]
    fit, reml = fitted["sleepstudy_slopes"].posterior, fitted["sleepstudy_slopes"].reml
    beta = fit.variable("beta").to_numpy()
    found = fit.predict_draws(columns.reset_index(drop=True), groups="average")
    np.testing.assert_allclose(found, beta @ [[1] * 6, columns["Days"]], rtol=1e-12)
    table, e = reml.predict(columns, groups="average"), reml.estimate
    X = np.column_stack([np.ones(6), columns["Days"]])
    np.testing.assert_allclose(table["estimate"], X @ e.beta)
    np.testing.assert_allclose(
        table["se"], np.sqrt(np.einsum("np,pq,nq->n", X, e.beta_covariance, X)), rtol=1e-8
    )


@pytest.mark.parametrize("name", ["sleepstudy_slopes", "sleepstudy_uncorrelated", "dyestuff2"])
def test_standard_errors_of_one_factor_are_those_of_dense_algebra(fitted, name):
    reml = fitted[name].reml
    group, e = reml.design.groups[0], reml.estimate
    inverse, roots = dense(reml)
    rng = np.random.default_rng(1)
    which = rng.integers(0, reml.design.n, 20)
    codes = rng.integers(-1, group.grouping.n_levels, 20)
    X, Z = reml.design.X[which], group.Z[which]
    T = new_columns(reml, roots, X, [Z], [codes])
    labels = np.where(codes < 0, "new one", group.grouping.levels[codes].astype(str))
    rows = reml.design.frame.iloc[which].assign(**{group.factor: labels})
    table = reml.predict(rows, groups="allow new")
    variance = np.einsum("ni,ij,nj->n", T, inverse, T)
    variance += np.where(codes < 0, np.square(Z @ roots[0]).sum(axis=1), 0.0)
    np.testing.assert_allclose(table["se"], np.sqrt(variance), rtol=1e-6)
    wide_table = reml.predict(rows, groups="allow new", kind="response")
    np.testing.assert_allclose(wide_table["se"], np.sqrt(variance + e.sigma**2), rtol=1e-6)
    np.testing.assert_array_equal(wide_table["estimate"], table["estimate"])


@pytest.mark.parametrize(
    ("dataset", "formula"),
    [
        ("Penicillin", CROSSED),
        ("Penicillin", "diameter ~ 1 + (1 | sample) + (1 | plate)"),
        ("Machines", "score ~ Machine + (1 | Worker) + (1 | Worker:Machine)"),
        ("sleepstudy", "Reaction ~ Days + (Days | Subject) + (1 | week) + (Days | half)"),
    ],
)
def test_standard_errors_of_several_factors_are_those_of_dense_algebra(dataset, formula):
    data = hp.datasets.load(dataset)
    rng = np.random.default_rng(2)
    week, half = rng.integers(0, 5, len(data)), rng.integers(0, 3, len(data))
    reml = hp.Model(formula, data.assign(week=week, half=half)).reml()
    d, n = reml.design, 25
    inverse, roots = dense(reml)
    which = rng.integers(0, d.n, n)
    codes = [rng.integers(0, g.grouping.n_levels, n) for g in d.groups]
    if ":" in formula:  # a level of a:b follows from those of a and b
        codes = [g.grouping.codes[which] for g in d.groups]
    rows = d.frame.iloc[which].copy()
    for g, code in zip(d.groups, codes, strict=True):
        if ":" not in g.factor:
            rows[g.factor] = g.grouping.levels[code].to_numpy()
    codes[0] = np.where(np.arange(n) < 5, -1, codes[0])
    known = rows.iloc[5:]
    T = new_columns(reml, roots, d.X[which], [g.Z[which] for g in d.groups], codes)
    variance = np.einsum("ni,ij,nj->n", T, inverse, T)
    np.testing.assert_allclose(reml.predict(known)["se"] ** 2, variance[5:], rtol=1e-6)
    new = {d.groups[0].factor: "new"}
    between = np.square(d.groups[0].Z[which] @ roots[0]).sum(axis=1)
    found = reml.predict(rows.iloc[:5], groups=new)
    np.testing.assert_allclose(found["se"] ** 2, (variance + between)[:5], rtol=1e-6)
    wide_ones = reml.predict(rows.iloc[:5], groups=new, kind="response")
    total = (variance + between)[:5] + reml.estimate.sigma**2
    np.testing.assert_allclose(wide_ones["se"] ** 2, total, rtol=1e-6)
    np.testing.assert_allclose(wide_ones["estimate"], found["estimate"])


def test_least_squares_has_its_textbook_standard_errors(fitted):
    reml = fitted["sleepstudy_complete"].reml
    X, sigma = reml.design.X, reml.estimate.sigma
    inverse = np.linalg.inv(X.T @ X)
    rows = pd.DataFrame({"Days": [0.0, 4.5, 20]})
    new = np.column_stack([np.ones(3), rows["Days"]])
    expected = sigma * np.sqrt(1 + np.einsum("np,pq,nq->n", new, inverse, new))
    np.testing.assert_allclose(reml.predict(rows, kind="response")["se"], expected)


def test_no_pooling_is_least_squares_of_each_level(fitted, nights):
    reml = fitted["sleepstudy_no_pooling"].reml
    table = reml.predict(nights.iloc[[1, 4, 5]])
    data = hp.datasets.load("sleepstudy")
    for at, person, day in ((0, "308", 3), (1, "309", 12), (2, "308", 0)):
        own = data[data["Subject"] == person]
        X = np.column_stack([np.ones(len(own)), own["Days"]])
        x = np.array([1, day])
        value = x @ np.linalg.lstsq(X, own["Reaction"])[0]
        se = reml.estimate.sigma * np.sqrt(x @ np.linalg.inv(X.T @ X) @ x)
        assert table["estimate"].iloc[at] == pytest.approx(value)
        assert table["se"].iloc[at] == pytest.approx(se)


def test_no_pooling_says_nothing_of_what_the_rows_of_a_level_cannot_tell():
    data = hp.datasets.load("sleepstudy")
    alone = (data["Subject"] == "308") & (data["Days"] != 2)
    reml = hp.no_pooling("Reaction ~ Days", data[~alone], "Subject").reml()
    rows = pd.DataFrame({"Subject": ["308", "308", "309"], "Days": [2, 3, 3]})
    table = reml.predict(rows)
    assert table["estimate"].isna().tolist() == [False, True, False]
    assert table["se"].isna().tolist() == [False, True, False]
    assert table["estimate"].iloc[0] == pytest.approx(
        data.loc[(data["Subject"] == "308") & (data["Days"] == 2), "Reaction"].iloc[0]
    )


def test_aliased_column_of_no_pooling_can_be_told_where_it_was_seen_only():
    data = hp.datasets.load("sleepstudy")
    data["age"] = 30.0 + data["Subject"].astype(int) % 7
    reml = hp.no_pooling("Reaction ~ Days + age", data, "Subject").reml()
    np.testing.assert_allclose(reml.predict()["estimate"], reml.fitted())
    assert reml.predict(data.assign(age=20.0))["estimate"].isna().all()


# --- new levels ----------------------------------------------------------------------------------


def test_new_levels_spread_as_the_factor_does(fitted):
    fit = fitted["sleepstudy_slopes"].posterior
    rows = pd.DataFrame({"Subject": "new", "Days": [0, 1]})
    u = fit.predict_draws(rows, groups="allow new") - fit.predict_draws(rows, groups="average")
    sd = fit.variable("sd_Subject").to_numpy().reshape(-1, 2)
    corr = fit.variable("corr_Subject").to_numpy().reshape(-1, 2, 2)[:, 0, 1]
    values = u.to_numpy().reshape(-1, 2)
    intercept, slope = values[:, 0], values[:, 1] - values[:, 0]
    assert intercept.std() == pytest.approx(np.sqrt((sd[:, 0] ** 2).mean()), rel=0.05)
    assert slope.std() == pytest.approx(np.sqrt((sd[:, 1] ** 2).mean()), rel=0.05)
    expected = (corr * sd[:, 0] * sd[:, 1]).mean()
    assert (intercept * slope).mean() == pytest.approx(expected, abs=0.05 * 29 * 6)


def test_new_level_is_one_level_in_all_its_rows_and_no_other(fitted, nights):
    fit = fitted["sleepstudy_slopes"].posterior
    u = fit.predict_draws(nights, groups="allow new") - fit.predict_draws(nights, groups="average")
    draws = u.to_numpy().reshape(-1, 6)
    same, other = draws[:, 0], draws[:, 3]  # 999 and 777 on day 0
    assert abs(np.corrcoef(same, other)[0, 1]) < 0.05
    twice = nights.iloc[[0, 0]]
    first, second = fit.predict_draws(twice, groups="allow new").transpose("obs", ...)
    np.testing.assert_array_equal(first, second)


def test_seed_and_row_order(fitted, nights):
    fit = fitted["sleepstudy_slopes"].posterior

    def means(rows: pd.DataFrame, seed: int | None = None) -> pd.DataFrame:
        return fit.predict(rows, groups="allow new", seed=seed)

    pd.testing.assert_frame_equal(means(nights), means(nights))
    pd.testing.assert_frame_equal(means(nights.iloc[::-1]), means(nights).iloc[::-1])
    pd.testing.assert_frame_equal(means(nights.iloc[[2]]), means(nights).iloc[[2]])
    assert means(nights, 5)["sd"].iloc[0] != means(nights, 6)["sd"].iloc[0]
    one = fit.predict(nights, groups="allow new", kind="response", seed=3)
    pd.testing.assert_frame_equal(
        one, fit.predict(nights, groups="allow new", kind="response", seed=3)
    )


def test_all_new_draws_a_known_level_anew(fitted, nights):
    fit, reml = fitted["sleepstudy_slopes"].posterior, fitted["sleepstudy_slopes"].reml
    for one in (fit, reml):
        spread = "sd" if one is fit else "se"
        known = one.predict(nights, groups="allow new")[spread].to_numpy()
        every = one.predict(nights, groups={"Subject": "new"})[spread].to_numpy()
        is_known = nights["Subject"].isin(["308", "309"]).to_numpy()
        assert (every[is_known] > known[is_known]).all()
        np.testing.assert_array_equal(every[~is_known], known[~is_known])


def test_new_groups_need_no_column_and_are_one_a_row_without_it(fitted):
    fit, reml = fitted["sleepstudy_slopes"].posterior, fitted["sleepstudy_slopes"].reml
    rows = pd.DataFrame({"Subject": "new", "Days": [0, 9]})
    own = fit.predict_draws(rows[["Days"]], groups="new").to_numpy().reshape(-1, 2)
    one_group = fit.predict_draws(rows, groups="new").to_numpy().reshape(-1, 2)
    assert np.corrcoef(one_group.T)[0, 1] > np.corrcoef(own.T)[0, 1] + 0.1
    for one in (fit, reml):
        average = one.predict(rows[["Days"]], groups="new", kind="response")
        new = one.predict(rows, groups="allow new", kind="response")
        np.testing.assert_allclose(average.iloc[:, -2:], new.iloc[:, -2:], rtol=0.08)
        population = one.predict(rows, groups="average", kind="response")
        assert (population.iloc[:, -1] < average.iloc[:, -1]).all()


def test_factors_are_treated_one_by_one(crossed_fit):
    rows = pd.DataFrame({"plate": ["a", "zz"], "sample": ["A", "A"]})
    fit = crossed_fit
    found = fit.predict_draws(rows, groups="allow new")
    beta = fit.variable("beta").to_numpy()[..., 0]
    u = {f: fit.variable(f"u_{f}").to_numpy()[..., 0, 0] for f in ("plate", "sample")}
    np.testing.assert_allclose(found[..., 0], beta + u["plate"] + u["sample"])
    left = (found[..., 1] - beta - u["sample"]).to_numpy()
    sd = fit.variable("sd_plate").to_numpy()[..., 0]
    assert (left / sd).std() == pytest.approx(1, rel=0.06)
    without = fit.predict_draws(rows[["sample"]], groups={"plate": "average"})
    np.testing.assert_allclose(without, beta[..., None] + u["sample"][..., None] * [1, 1])
    with pytest.raises(DataError, match=r"group 'zz' of 'plate' \(row 1\) is not among the 24"):
        fit.predict(rows, groups={"sample": "allow new"})


# --- responses -----------------------------------------------------------------------------------


def test_response_adds_the_residual(fitted, nights):
    fit, reml = fitted["sleepstudy_slopes"].posterior, fitted["sleepstudy_slopes"].reml
    rows = nights.iloc[[1, 5]]
    left = fit.predict_draws(rows, kind="response") - fit.predict_draws(rows)
    scaled = left / fit.variable("sigma")
    assert float(scaled.std()) == pytest.approx(1, rel=0.03)
    mean, response = reml.predict(rows)["se"], reml.predict(rows, kind="response")["se"]
    np.testing.assert_allclose(response**2 - mean**2, reml.estimate.sigma**2)


def test_weights_known_sds_and_offsets_of_new_rows_are_used():
    data = hp.datasets.load("sleepstudy")
    data = data.assign(w=data["Days"] + 1.0, o=10.0 * data["Days"], se=20.0)
    new = pd.DataFrame({"Subject": "308", "Days": [1, 1], "w": [1.0, 4.0], "o": [0.0, 100.0]})
    formula = "Reaction ~ Days + offset(o)"
    model = hp.varying_slope(formula, data, "Subject", weights="w")
    reml, fit = model.reml(), model.fit(seed=1, draws=200, progress=False)
    assert np.ptp(reml.predict(new)["se"]) == pytest.approx(0, abs=1e-9)
    assert reml.predict(new)["estimate"].diff().iloc[1] == pytest.approx(100)
    assert fit.predict(new)["mean"].diff().iloc[1] == pytest.approx(100)
    residual = reml.predict(new, kind="response")["se"] ** 2 - reml.predict(new)["se"] ** 2
    np.testing.assert_allclose(residual, reml.estimate.sigma**2 / new["w"])
    left = fit.predict_draws(new, kind="response") - fit.predict_draws(new)
    ratio = left.std(("chain", "draw")) / np.sqrt((fit.variable("sigma") ** 2).mean())
    np.testing.assert_allclose(ratio, [1, 0.5], rtol=0.1)
    known = hp.varying_slope(formula, data, "Subject", known_se="se").reml()
    new = new.assign(se=[5.0, 50.0])
    residual = known.predict(new, kind="response")["se"] ** 2 - known.predict(new)["se"] ** 2
    np.testing.assert_allclose(residual, [25, 2500])
    with pytest.raises(DataError, match=r"'w' is not in the data.*weights='w'"):
        reml.predict(new.drop(columns="w"), kind="response")
    with pytest.raises(DataError, match="as weights it must be positive"):
        reml.predict(new.assign(w=0.0), kind="response")


def covers(model: Callable[[pd.DataFrame], hp.LikelihoodFit], seed: int) -> np.ndarray:
    """Whether 80 % intervals of means and responses of known and new levels hold the truth."""
    rng = np.random.default_rng(seed)
    J, n = 50, 6
    u = rng.normal(0, 1.0, J + 1)
    g = np.repeat(np.arange(J + 1), n)
    x = rng.uniform(-1, 1, len(g))
    mean = 3 + x + u[g]
    data = pd.DataFrame({"y": mean + rng.normal(0, 1, len(g)), "x": x, "g": g})
    seen = data[data["g"] < J]
    new = pd.DataFrame({"x": 0.5, "g": np.arange(J + 1)})
    truth = 3 + 0.5 + u
    fit = model(seen)
    out = []
    for kind, value in (("mean", truth), ("response", truth + rng.normal(0, 1, J + 1))):
        table = fit.predict(new, groups="allow new", kind=kind, prob=0.8)
        out.append((table["ci80_lb"] < value) & (value < table["ci80_ub"]))
    return np.array(out)


@pytest.mark.slow
def test_intervals_cover_as_often_as_they_say():
    def model(data: pd.DataFrame) -> hp.LikelihoodFit:
        return hp.Model("y ~ x + (1 | g)", data).reml()

    found = np.array([covers(model, seed) for seed in range(40)])
    known, new = found[:, :, :-1].mean(axis=(0, 2)), found[:, :, -1].mean(axis=0)
    assert np.abs(known - 0.8).max() < 0.03
    assert np.abs(new - 0.8).max() < 0.2


# --- tables and bad input ------------------------------------------------------------------------


def test_index_is_kept_and_other_columns_do_not_matter(fitted, nights):
    for fit in (fitted["sleepstudy_slopes"].posterior, fitted["sleepstudy_slopes"].reml):
        table = fit.predict(nights, groups="allow new")
        assert list(table.index) == list(nights.index)
        pd.testing.assert_frame_equal(
            fit.predict(nights[["Days", "Subject"]], groups="allow new"), table
        )
        assert list(nights.assign(**table).columns[:3]) == ["note", "Subject", "Days"]


def test_columns_and_probability_of_the_interval(fitted, nights):
    fit, reml = fitted["sleepstudy_slopes"].posterior, fitted["sleepstudy_slopes"].reml
    rows = nights.iloc[[1]]
    assert list(fit.predict(rows)) == ["mean", "median", "sd", "eti95_lb", "eti95_ub"]
    assert list(reml.predict(rows)) == ["estimate", "se", "ci95_lb", "ci95_ub"]
    assert list(fit.predict(rows, prob=0.5)) == ["mean", "median", "sd", "eti50_lb", "eti50_ub"]
    table = reml.predict(rows, prob=0.95)
    width = (table["ci95_ub"] - table["ci95_lb"]) / table["se"]
    np.testing.assert_allclose(width, 2 * 1.959964, rtol=1e-6)


def test_long_tables_are_made_in_blocks(fitted, monkeypatch):
    fit = fitted["sleepstudy_slopes"].posterior
    whole = fit.predict(kind="response", seed=1)
    monkeypatch.setattr("hierpool.answers.predictions._BLOCK_NUMBERS", 4000 * 7)
    pd.testing.assert_frame_equal(fit.predict(kind="response", seed=1), whole)


def test_levels_that_are_not_stored_are_drawn_when_asked_for(fitted, monkeypatch):
    stored = fitted["radon_intercepts"].posterior
    monkeypatch.setattr("hierpool.bayes.exact.engine.LARGEST_STORED", 1)
    monkeypatch.setattr("hierpool.algebra.one_factor.LEVELS_PER_PASS", 64)
    fit = fitted["radon_intercepts"].model.fit("exact", seed=1, progress=False)
    assert fit.info["levels"] == "on request"
    found, expected = fit.predict_draws(), stored.predict_draws()
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@each(
    ("columns", "arguments", "code", "words"),
    [
        ({}, {}, "unseen-level", r"groups '999', '777' of 'Subject' \(rows 9, 4, 1\).*'allow new'"),
        ({"Days": np.nan}, {"groups": "allow new"}, "missing-values", "'Days' has missing values"),
        ({"Subject": 5}, {"groups": "allow new"}, None, ""),
        ({"Subject": 308}, {"groups": "allow new"}, None, ""),
        (
            {"Subject": True},
            {"groups": "allow new"},
            "level-type",
            "'Subject' holds True or False here",
        ),
        ({"Days": "x"}, {"groups": "allow new"}, "text-not-number", "'Days' is text"),
        ({}, {"groups": "avrage"}, "unknown-choice", "did you mean 'average'"),
        ({}, {"groups": {"Subjct": "new"}}, "unknown-choice", "did you mean 'Subject'"),
        ({}, {"groups": {"Subject": 3}}, "unknown-choice", "3"),
        ({}, {"levels": "population"}, "bad-groups", "groups='average'"),
        ({}, {"levels": {"Subject": "new"}}, "bad-groups", "groups='new'"),
        ({}, {"groups": "new", "scale": "log"}, "unknown-choice", "scale='log'"),
        ({}, {"groups": "allow new", "kind": "mode"}, "unknown-choice", "kind='mode'"),
        ({}, {"groups": "allow new", "prob": 95}, "bad-probability", "prob=95"),
    ],
)
def test_bad_questions_are_refused(fitted, nights, columns, arguments, code, words):
    for fit in (fitted["sleepstudy_slopes"].posterior, fitted["sleepstudy_slopes"].reml):
        rows = nights.assign(**columns)
        if code is None:
            fit.predict(rows, **arguments)
            continue
        with pytest.raises((ArgumentError, DataError), match=words) as caught:
            fit.predict(rows, **arguments)
        assert caught.value.code == code


def test_columns_that_are_missing_are_named(fitted, nights):
    fit = fitted["sleepstudy_slopes"].reml
    with pytest.raises(DataError, match="'Days' is not in the data"):
        fit.predict(nights[["Subject"]])
    with pytest.raises(DataError, match=r"'Subject' is not in the data.*groups='average'"):
        fit.predict(nights[["Days"]])
    with pytest.raises(ArgumentError, match="seed=-1"):
        fitted["sleepstudy_slopes"].posterior.predict(seed=-1)


@pytest.mark.parametrize("groups", ["allow new", "new", "average", {"Subject": "new"}])
def test_no_pooling_knows_its_own_levels_only(fitted, nights, groups):
    for fit in (fitted["sleepstudy_no_pooling"].posterior, fitted["sleepstudy_no_pooling"].reml):
        with pytest.raises(UnsupportedModelError, match="no distribution of the groups"):
            fit.predict(nights, groups=groups)
        with pytest.raises(DataError, match="leave these rows out"):
            fit.predict(nights)


def test_one_line_for_all_needs_no_groups(fitted):
    for fit in (fitted["sleepstudy_complete"].posterior, fitted["sleepstudy_complete"].reml):
        for groups in ("own", "allow new", "average"):
            assert len(fit.predict({"Days": [1, 2]}, groups=groups)) == 2
        with pytest.raises(UnsupportedModelError, match=r"no groups that vary.*no-new-groups"):
            fit.predict(groups="new")
        with pytest.raises(UnsupportedModelError, match=r"no groups that vary.*no-new-groups"):
            hp.slopes(fit, "Days", groups="new")


def test_a_group_that_is_named_stands_in_all_rows(fitted, nights):
    for fit in (fitted["sleepstudy_slopes"].posterior, fitted["sleepstudy_slopes"].reml):
        named = fit.predict(nights[["Days"]], groups={"Subject": "309"})
        pd.testing.assert_frame_equal(named, fit.predict(nights.assign(Subject="309")))
        with pytest.raises(HierpoolError, match="999"):
            fit.predict(nights, groups={"Subject": "999"})


def test_a_group_that_is_called_new_goes_before_the_word():
    data = hp.datasets.load("sleepstudy").astype({"Subject": str})
    data = data.replace({"Subject": {"308": "new"}})
    reml = hp.Model(SLOPES, data).reml()
    named = reml.predict({"Days": [3]}, groups={"Subject": "new"})
    pd.testing.assert_frame_equal(named, reml.predict({"Days": [3], "Subject": ["new"]}))


@pytest.mark.parametrize(
    ("left", "move"), [("log(Reaction)", np.exp), ("sqrt(Reaction)", np.square)]
)
def test_predictions_are_back_transformed_unless_the_linear_scale_is_asked(left, move):
    model = hp.Model(f"{left} ~ Days + (1 | Subject)", hp.datasets.load("sleepstudy"))
    reml, fit = model.reml(), model.fit(draws=250, seed=1, progress=False)
    rows = pd.DataFrame({"Subject": ["308", "new"], "Days": [3, 4]})
    for kind in ("mean", "response"):
        how = {"groups": "allow new", "kind": kind}
        linear, back = reml.predict(rows, scale="linear", **how), reml.predict(rows, **how)
        columns = ["estimate", "ci95_lb", "ci95_ub"]
        np.testing.assert_allclose(back[columns], move(linear[columns]))
        step = 1e-5  # the delta method
        slope = (move(linear["estimate"] + step) - move(linear["estimate"] - step)) / (2 * step)
        np.testing.assert_allclose(back["se"], slope * linear["se"], rtol=1e-6)
        draws = fit.predict_draws(rows, scale="linear", **how)
        np.testing.assert_allclose(fit.predict_draws(rows, **how), move(draws))
        found = fit.predict(rows, **how)
        np.testing.assert_allclose(found["mean"], move(draws).mean(("chain", "draw")))
    average = reml.predict({"Days": [3.0]}, groups="average")["estimate"].item()
    means = hp.marginal_means(reml, "Days", at={"Days": 3.0})["estimate"].item()
    assert average == pytest.approx(means)


def test_far_from_zero_nothing_is_lost(fitted):
    """Years for days: the same predictions with the same errors."""
    data = hp.datasets.load("sleepstudy")
    far = hp.Model(SLOPES, data.assign(Days=data["Days"] + 1e6)).reml()
    near = fitted["sleepstudy_slopes"].reml
    rows = pd.DataFrame({"Subject": ["308", "x"], "Days": [3.0, 5]})
    found = far.predict(rows.assign(Days=rows["Days"] + 1e6), groups="allow new")
    np.testing.assert_allclose(found, near.predict(rows, groups="allow new"), rtol=1e-4)
