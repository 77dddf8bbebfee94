"""Degrees of freedom, t and F tests of the fixed effects, held to lmerTest, pbkrtest and lm."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hierpool as hp
from hierpool.core.errors import ArgumentError, UnsupportedModelError
from hierpool.formula.contrasts import type_three
from hierpool.reml import kenward_roger
from hierpool.reml.kenward_roger import KenwardRoger
from hierpool.reml.satterthwaite import Satterthwaite
from tests.laws.dense import restricted_log_density, wide
from tests.support.differences import Differences
from tests.support.references import model, names, reference

NAMES = names("lmerTest")
METHODS = {"Satterthwaite": "satterthwaite", "Kenward-Roger": "kenward-roger"}


@cache
def fitted_as(name: str) -> hp.LikelihoodFit:
    return model("lmerTest", name).reml()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_tests_of_coefficients_and_terms_are_those_of_lmertest(name, method):
    """Of coefficients, and of terms by type III."""
    ref, fit, found = reference("lmerTest", name)[method], fitted_as(name), Differences()
    theirs = np.array(ref["coef"])
    ours = fit.fixed_effects(df=METHODS[method])
    found.close("coefficients", ours[["estimate", "se", "df", "t"]], theirs[:, :4], rtol=1e-3)
    found.close("log10 of their p", np.log10(ours["p"]), np.log10(theirs[:, 4]), atol=0.02)
    ours = fit.anova(df=METHODS[method])
    found.same("terms", ours.index.tolist(), list(ref["anova"]))
    table = np.array(list(ref["anova"].values()))
    found.close("terms, df and F", ours[["num_df", "den_df", "F"]], table[:, :3], rtol=1e-3)
    found.close("log10 of their p", np.log10(ours["p"]), np.log10(table[:, 3]), atol=0.02)
    found.assert_none()


@pytest.mark.parametrize("name", NAMES)
def test_adjusted_covariance_is_that_of_pbkrtest(name):
    fit, theirs = fitted_as(name), np.array(reference("lmerTest", name)["vcov_adjusted"])
    ours = KenwardRoger.from_estimate(fit.design, fit.estimate).covariance
    assert np.abs(ours - theirs).max() < 1e-3 * np.abs(theirs).max()


SLEEP = hp.datasets.load("sleepstudy")
WEIGHTED = SLEEP.assign(w=1.0 + SLEEP.index.to_numpy() % 3, se=10.0 + SLEEP.index.to_numpy() % 4)
WEIGHTED["Reaction"] += 30 * (WEIGHTED["w"] - 2) ** 2  # so that levels of w differ
UNEVEN = WEIGHTED.drop(index=[3, 4, 5, 6, 20, 40, 41, 77, 99, 100, 101, 102, 103])
MODELS = {
    "slopes": ("Reaction ~ Days + (Days | Subject)", {}),
    "uncorrelated": ("Reaction ~ Days + (Days || Subject)", {}),
    "weights": ("Reaction ~ Days + (Days | Subject)", {"weights": "w"}),
    "known": ("Reaction ~ Days + (Days | Subject)", {"known_se": "se"}),
    "crossed": ("Reaction ~ Days + (1 | Subject) + (1 | w)", {}),
    "crossed_slopes": ("Reaction ~ Days + (Days | Subject) + (1 | w)", {}),
}


@cache
def uneven(name: str) -> hp.LikelihoodFit:
    formula, more = MODELS[name]
    return hp.Model(formula, UNEVEN, **more).reml()


def patterns(fit: hp.LikelihoodFit) -> list[np.ndarray]:
    """dV/d gamma, (n, n), of every free entry of the covariances, and of sigma^2."""
    design, out = fit.design, []
    for group in design.groups:
        Z = wide(group.Z, group.grouping.codes, group.grouping.n_levels)
        for block in group.blocks:
            for a in range(block.start, block.stop):
                low = block.start if block.covariance.word == "correlated" else a
                for b in range(low, a + 1):
                    E = np.zeros((len(group.terms),) * 2)
                    E[a, b] = E[b, a] = 1
                    out.append(Z @ np.kron(np.eye(group.grouping.n_levels), E) @ Z.T)
    residual = np.diag(np.broadcast_to(design.residual.relative_sd, (design.n,)) ** 2)
    return [*out, residual] if design.residual.has_sigma else out


def dense_covariance(fit: hp.LikelihoodFit) -> np.ndarray:
    """V, (n, n)."""
    design, e = fit.design, fit.estimate
    V = np.diag(np.broadcast_to(e.sigma * design.residual.relative_sd, (design.n,)) ** 2)
    for group in design.groups:
        own = e.of(group.factor)
        Sigma = np.nan_to_num(own.corr) * np.outer(own.sd, own.sd)
        Z = wide(group.Z, group.grouping.codes, group.grouping.n_levels)
        V = V + Z @ np.kron(np.eye(group.grouping.n_levels), Sigma) @ Z.T
    return V


@pytest.mark.parametrize("name", MODELS)
def test_kenward_roger_is_the_paper_written_out_in_full(name):
    """Every matrix rows times rows, from the equations of Kenward and Roger (1997)."""
    fit = uneven(name)
    X, W, G = fit.design.X, np.linalg.inv(dense_covariance(fit)), patterns(fit)
    Phi = np.linalg.inv(X.T @ W @ X)
    P = [-X.T @ W @ g @ W @ X for g in G]
    Q = [[X.T @ W @ g @ W @ h @ W @ X for h in G] for g in G]
    information = np.array(
        [
            [
                np.trace(W @ g @ W @ h) - 2 * np.trace(Phi @ Q[r][s])
                + np.trace(Phi @ P[r] @ Phi @ P[s])
                for s, h in enumerate(G)
            ]
            for r, g in enumerate(G)
        ]
    )  # fmt: skip
    A = 2 * np.linalg.inv(information)
    m = range(len(G))
    U = sum(A[r, s] * (Q[r][s] - P[r] @ Phi @ P[s]) for r in m for s in m)
    ours = KenwardRoger.from_estimate(fit.design, fit.estimate)
    np.testing.assert_allclose(ours.plain, Phi, rtol=1e-8)
    np.testing.assert_allclose(ours.covariance, Phi + 2 * Phi @ U @ Phi, rtol=1e-6)
    c = np.array([0.0, 1.0])
    slopes = np.array([c @ Phi @ p @ Phi @ c for p in P]) / (c @ Phi @ c)
    df = fit.fixed_effects(df="kenward-roger").loc["Days", "df"]
    assert df == pytest.approx(2 / (slopes @ A @ slopes), rel=1e-6)


def free_entries(fit: hp.LikelihoodFit) -> np.ndarray:
    """Entries of the one factor's covariance, in the order of ``patterns``."""
    own = fit.estimate.only
    return (own.corr * np.outer(own.sd, own.sd))[np.tril_indices(len(own.sd))]


@pytest.mark.parametrize("name", MODELS)
def test_satterthwaite_is_its_formula_on_the_dense_restricted_density(name):
    """In other parameters than ours, the variances: df do not depend on them at an optimum."""
    fit = uneven(name)
    design, G = fit.design, patterns(fit)
    V = dense_covariance(fit)
    basis = np.array([g.ravel() for g in G]).T
    here = np.linalg.lstsq(basis, V.ravel())[0] if design.residual.has_sigma else free_entries(fit)
    known = V - (basis @ here).reshape(V.shape)  # nothing, or the known residual variances

    def covariance(gamma: np.ndarray) -> np.ndarray:
        return known + (basis @ gamma).reshape(V.shape)

    def density(gamma: np.ndarray) -> float:
        return restricted_log_density(design.y, design.X, covariance(gamma))

    def variance(gamma: np.ndarray) -> float:
        return np.linalg.inv(design.X.T @ np.linalg.solve(covariance(gamma), design.X))[1, 1]

    h = 1e-3 * np.maximum(np.abs(here), 1e-3 * np.abs(here).max())
    E = np.diag(h)
    H = np.array(
        [
            [
                density(here + a + b) - density(here + a - b)
                - density(here - a + b) + density(here - a - b)
                for a in E
            ]
            for b in E
        ]
    ) / (4 * np.outer(h, h))  # fmt: skip
    g = np.array([variance(here + e) - variance(here - e) for e in E]) / (2 * h)
    df = 2 * variance(here) ** 2 / (g @ np.linalg.inv(-H) @ g)
    assert fit.fixed_effects("satterthwaite").loc["Days", "df"] == pytest.approx(df, rel=5e-3)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_choice_every_table_has_the_tests_of_pbkrtest(name):
    fit = fitted_as(name)
    ref, found = reference("lmerTest", name)["Kenward-Roger"], Differences()
    fixed, anova = fit.fixed_effects(), fit.anova()
    found.close("coefficients", fixed[["se", "df"]], np.array(ref["coef"])[:, 1:3], rtol=1e-3)
    found.close("terms", anova["den_df"], np.array(list(ref["anova"].values()))[:, 1], rtol=1e-3)
    named = hp.contrast(fit, {term: {term: 1.0} for term in fit.design.terms})
    found.close("contrasts", named[["se", "df"]], fixed[["se", "df"]], rtol=1e-9)
    found.assert_none()
    for table in (fixed, anova, named, hp.term_effects(fit)):
        assert table.attrs["df_method"] == "Kenward-Roger"
        assert "Kenward-Roger" in repr(table).split("\n\n")[0]


@pytest.mark.parametrize(
    ("formula", "method", "df"),
    [
        ("Reaction ~ Days + (Days | Subject)", "ml", "Satterthwaite"),
        ("Reaction ~ Days", "reml", "residual"),
        ("Reaction ~ Days + (1 | Subject)", "reml", "Kenward-Roger"),
    ],
)
def test_all_tables_of_a_fit_name_one_method(formula, method, df):
    fit = getattr(hp.Model(formula, UNEVEN), method)()
    tables = [
        fit.fixed_effects(),
        fit.anova(),
        hp.marginal_means(fit, "Days", at={"Days": 3}),
        hp.slopes(fit, "Days"),
        hp.contrast(fit, {"Days": 1.0}),
        hp.term_effects(fit),
    ]
    assert {table.attrs["df_method"] for table in tables} == {df}
    assert all(df in repr(table).split("\n\n")[0] for table in tables)
    slope = [t.loc["Days", "df"] for t in (tables[0], tables[3])]
    slope += [tables[1].loc["Days", "den_df"], *tables[4]["df"], *tables[5]["den_df"]]
    np.testing.assert_allclose(slope, slope[0], rtol=1e-9)
    assert fit.fixed_effects("normal").attrs["df_method"] == "normal"


def test_balanced_slopes_have_as_many_df_as_levels_less_one():
    fit = hp.Model("Reaction ~ Days + (Days | Subject)", SLEEP).reml()
    df = fit.fixed_effects(df="kenward-roger")["df"]
    np.testing.assert_allclose(df, 17, rtol=1e-9)


def test_variance_at_zero_drops_out():
    """Dyestuff2: what is left is one sample with its mean, and Satterthwaite's df are those."""
    fit = hp.Model("Yield ~ 1 + (1 | Batch)", hp.datasets.load("Dyestuff2")).reml()
    assert fit.status.word == "singular"
    row = fit.fixed_effects("satterthwaite").iloc[0]
    assert row["df"] == pytest.approx(29, rel=1e-6)
    assert fit.fixed_effects(df="kenward-roger")["df"].iloc[0] == pytest.approx(5, rel=1e-6)


@pytest.mark.parametrize("df", ["satterthwaite", "kenward-roger", "residual"])
def test_least_squares_has_its_residual_df(df):
    fit = hp.complete_pooling("Reaction ~ Days", SLEEP).reml()
    table = fit.fixed_effects(df=df)
    assert (table["df"] == 178).all()
    slope = table.loc["Days"]
    by_hand = stats.linregress(SLEEP["Days"], SLEEP["Reaction"])
    assert slope["t"] == pytest.approx(by_hand.slope / by_hand.stderr)
    assert slope["p"] == pytest.approx(by_hand.pvalue)
    assert fit.anova(df=df).loc["Days", "F"] == pytest.approx(slope["t"] ** 2)
    own = hp.no_pooling("Reaction ~ Days", SLEEP, "Subject").reml()
    assert own.fixed_effects(df=df).empty


def test_normal_df_give_z_and_a_chi_squared():
    fit = fitted_as("sleepstudy__rs")
    table = fit.fixed_effects(df="normal", prob=0.9)
    assert table.columns.tolist() == ["estimate", "se", "df", "z", "p", "ci90_lb", "ci90_ub"]
    assert np.isinf(table["df"]).all()
    half = (table["ci90_ub"] - table["ci90_lb"]) / 2 / table["se"]
    np.testing.assert_allclose(half, 1.6448536269514722)
    test = fit.anova(df="normal").loc["Days"]
    assert test["p"] == pytest.approx(table.loc["Days", "p"])


def test_known_residual_sds_of_one_line_leave_nothing_to_estimate():
    fit = hp.Model("Reaction ~ Days", WEIGHTED, known_se="se").reml()
    assert np.isinf(fit.fixed_effects()["df"]).all()


def test_ml_has_satterthwaite_and_no_kenward_roger():
    fit = hp.Model("Reaction ~ Days + (1 | Subject)", SLEEP).ml()
    assert np.isfinite(fit.fixed_effects()["df"]).all()
    with pytest.raises(UnsupportedModelError, match=r"kenward-roger-needs-reml"):
        fit.fixed_effects(df="kenward-roger")


def test_many_columns_of_several_factors_are_refused(monkeypatch):
    monkeypatch.setattr(kenward_roger, "LARGEST", 20)
    with pytest.raises(UnsupportedModelError, match=r"has 39 coefficients of groups.*at most 20"):
        uneven("crossed_slopes").fixed_effects(df="kenward-roger")
    assert len(uneven("slopes").fixed_effects(df="kenward-roger")) == 2


def test_type_three_does_not_depend_on_which_category_comes_first():
    data = hp.datasets.load("Machines")
    data = data.assign(day=1.0 + data.index.to_numpy() % 3, half=data.index.to_numpy() % 2)
    turned = data.assign(
        Machine=pd.Categorical(data["Machine"].astype(str), categories=["C", "A", "B"])
    )
    formula = "score ~ Machine * C(half) + day:Machine + (1 | Worker)"
    here, there = (hp.Model(formula, d).reml() for d in (data, turned))
    assert not np.allclose(here.fixed_effects()["t"], there.fixed_effects()["t"])
    one, other = here.anova(), there.anova()
    assert one.index.tolist() == ["Machine", "C(half)", "Machine:C(half)", "day:Machine"]
    np.testing.assert_allclose(one["F"], other["F"], rtol=1e-6)
    np.testing.assert_allclose(
        here.anova(df="kenward-roger"), there.anova(df="kenward-roger"), rtol=1e-5
    )


def test_type_three_of_a_category_is_at_the_mean_over_the_other():
    data = hp.datasets.load("Orthodont")
    model = hp.Model("distance ~ C(age) * Sex + (1 | Subject)", data)
    (_, sex) = dict(type_three(model.design)).popitem()[0], dict(type_three(model.design))["Sex"]
    np.testing.assert_allclose(sex, [[0, 0, 0, 0, 1, 0.25, 0.25, 0.25]], atol=1e-9)


def test_type_three_without_a_constant_keeps_the_coefficients():
    data = hp.datasets.load("Machines")
    found = dict(type_three(hp.Model("score ~ 0 + Machine + (1 | Worker)", data).design))
    np.testing.assert_allclose(found["Machine"], np.eye(3), atol=1e-9)


def test_tests_of_a_shifted_predictor_are_the_same():
    moved = SLEEP.assign(Days=SLEEP["Days"] * 24 + 1000)
    here, there = (
        hp.Model("Reaction ~ Days + (Days | Subject)", d).reml().fixed_effects()
        for d in (SLEEP, moved)
    )
    np.testing.assert_allclose(
        here.loc["Days", ["df", "t"]], there.loc["Days", ["df", "t"]], rtol=1e-5
    )


def test_fit_that_failed_has_no_df():
    fit = fitted_as("sleepstudy__ri")
    how = Satterthwaite.from_estimate(fit.design, fit.estimate)
    broken = Satterthwaite(how.covariance * np.nan, how.gradient, how.parameters)
    assert np.isnan(broken.test(np.eye(2), fit.estimate.beta).den_df)


def test_printed_fit_stays_short():
    assert "df" not in repr(fitted_as("sleepstudy__ri")).replace("edf", "")


def test_unknown_words_and_levels_are_refused():
    fit = fitted_as("sleepstudy__ri")
    with pytest.raises(ArgumentError, match="did you mean 'satterthwaite'"):
        fit.fixed_effects(df="satterthwait")
    with pytest.raises(ArgumentError, match="bad-probability"):
        fit.fixed_effects(prob=95)
    with pytest.raises(UnsupportedModelError, match="no-terms"):
        hp.no_pooling("Reaction ~ Days", SLEEP, "Subject").reml().anova()
