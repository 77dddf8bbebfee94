"""Known residual sds: eight schools against quadrature, and what is left where sigma is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hierpool as hp
from hierpool.core.errors import HierpoolError
from tests.laws.dense import normal_log_density, restricted_log_density

Y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SE = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def schools(y: np.ndarray = Y) -> pd.DataFrame:
    return pd.DataFrame({"school": list("ABCDEFGH"), "y": y, "se": SE})


@pytest.fixture(scope="module")
def model() -> hp.Model:
    return hp.varying_intercept("y ~ 1", schools(), group="school", known_se="se")


@pytest.fixture(scope="module")
def fit(model: hp.Model) -> hp.PosteriorFit:
    return model.fit("exact", seed=1, draws=4000, progress=False)


@pytest.fixture(scope="module")
def ladder() -> dict[str, hp.Model]:
    return hp.pooling_ladder("y ~ 1", schools(), group="school", known_se="se")


@pytest.fixture(scope="module")
def fits(ladder: dict[str, hp.Model]) -> dict[str, hp.PosteriorFit]:
    return {name: m.fit("exact", seed=1, progress=False) for name, m in ladder.items()}


class Quadrature:
    """The posterior of eight schools on a grid of tau, mu integrated out; the default priors."""

    def __init__(self) -> None:
        sd = Y.std(ddof=1)
        self.tau = (np.arange(6000) + 0.5) / 6000 * 60 * sd / 10
        prior = stats.t(4).logpdf(self.tau / sd) - np.log(sd) + np.log(2)
        self.precision = 1 / (SE**2 + self.tau[:, None] ** 2)
        m0, v0 = Y.mean(), (2.5 * sd) ** 2
        self.v = 1 / (self.precision.sum(axis=1) + 1 / v0)
        self.m = self.v * (self.precision @ Y + m0 / v0)
        log_density = np.array(
            [
                normal_log_density(Y, np.full(8, m0), np.diag(1 / p) + v0)
                for p in self.precision[::1]
            ]
        )
        log_joint = log_density + prior
        top = log_joint.max()
        weight = np.exp(log_joint - top)
        step = self.tau[1] - self.tau[0]
        self.log_evidence = float(top + np.log(weight.sum() * step))
        self.weight = weight / weight.sum()

    def mean_sd(self, mean: np.ndarray, variance: np.ndarray | float = 0.0) -> tuple[float, float]:
        m = float(self.weight @ mean)
        return m, float(np.sqrt(self.weight @ ((mean - m) ** 2 + variance)))

    @property
    def effects(self) -> list[tuple[float, float]]:
        """Mean and sd of each school's own effect."""
        out = []
        for y, se in zip(Y, SE, strict=True):
            own = self.tau**2 / (self.tau**2 + se**2)
            inner = own * se**2 + (1 - own) ** 2 * self.v
            out.append(self.mean_sd(own * y + (1 - own) * self.m, inner))
        return out


@pytest.fixture(scope="module")
def truth() -> Quadrature:
    return Quadrature()


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_the_schools_do_not_differ_by_reml_or_ml(model, method):
    best = getattr(model, method)()
    assert best.status.word == "singular"
    assert best.estimate.only.sd[0] == 0.0
    pooled = np.average(Y, weights=SE**-2)
    assert best.estimate.beta[0] == pytest.approx(pooled)  # 7.69, with a standard error of 4.07
    plain = best.fixed_effects("satterthwaite")["se"].iloc[0]
    assert plain == pytest.approx((SE**-2).sum() ** -0.5)
    X, V = np.ones((8, 1)), np.diag(SE**2)
    expected = (
        restricted_log_density(Y, X, V)
        if method == "reml"
        else normal_log_density(Y, np.full(8, pooled), V)
    )
    assert best.loglik == pytest.approx(expected)
    assert best.estimate.n_parameters == 2
    assert "residual" not in best.variance_components().index.get_level_values("factor")


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_optimum_inside_the_boundary_is_that_of_the_dense_density(method, unit):
    data = schools(3 * Y).assign(y=3 * Y * unit, se=SE * unit)
    best = getattr(hp.varying_intercept("y ~ 1", data, "school", known_se="se"), method)()

    def log_density(sd: float) -> float:
        V = np.diag((SE * unit) ** 2 + sd**2)
        if method == "reml":
            return restricted_log_density(3 * Y * unit, np.ones((8, 1)), V)
        mu = np.average(3 * Y * unit, weights=1 / np.diag(V))
        return normal_log_density(3 * Y * unit, np.full(8, mu), V)

    sd = best.estimate.only.sd[0]
    assert best.status.word == "converged"
    assert best.loglik == pytest.approx(log_density(sd))
    h = 1e-3 * sd
    up, down = log_density(sd + h), log_density(sd - h)
    assert abs(up - down) < 1e-6
    curvature = -(up - 2 * best.loglik + down) / h**2
    assert best.estimate.only.sd_se[0] == pytest.approx(curvature**-0.5, rel=1e-3)
    shrunk = sd**2 / (sd**2 + (SE * unit) ** 2) * (3 * Y * unit - best.estimate.beta)
    np.testing.assert_allclose(best.estimate.only.u[:, 0], shrunk, rtol=1e-7)


def test_posterior_is_that_of_the_grid(fit, truth):
    tau = fit.variance_components().loc[("school", "sd", "Intercept", "")]
    mu = fit.fixed_effects().iloc[0]
    for found, (mean, sd) in (
        (tau, truth.mean_sd(truth.tau)),
        (mu, truth.mean_sd(truth.m, truth.v)),
    ):
        assert found["mean"] == pytest.approx(mean, abs=5 * sd / np.sqrt(found["ess_bulk"]))
        assert found["sd"] == pytest.approx(sd, rel=0.05)
    evidence, error = fit.log_marginal_likelihood
    assert evidence == pytest.approx(truth.log_evidence, abs=5 * error + 1e-3)


def test_effects_of_the_schools_are_those_of_the_grid(fit, truth):
    found = fit.coefficients()
    means = fit.conditional_means()[f"coef_{fit.design.groups[0].factor}"].mean(axis=0)[:, 0]
    for (mean, sd), conditional, drawn in zip(truth.effects, means, found["sd"], strict=True):
        assert conditional == pytest.approx(mean, abs=0.05 * sd)
        assert drawn == pytest.approx(sd, rel=0.04)


def test_there_is_no_sigma_anywhere(model, fit):
    assert model.priors.sigma is None
    assert "sigma" not in model.priors.table().index
    assert "sigma" not in fit.datatree["posterior"]
    assert "sigma" not in fit.datatree["theta"]
    assert "sigma" not in fit.summary().index
    assert "8 rows, 8 schools, known_se se" in repr(fit)
    assert "residual" not in fit.variance_components().index.get_level_values("factor")
    assert "sigma" not in hp.sensitivity(fit).table.index.get_level_values("quantity")
    assert "sigma" not in model.prior_predictive(20, seed=1)["prior"]
    with pytest.raises(HierpoolError, match="unknown-parameter"):
        model.with_priors({"sigma": hp.Prior("HalfNormal", sigma=1)})


def test_left_out_schools_are_scored_as_by_the_grid(fit, truth):
    for i, elpd in enumerate(fit.loo().elpd_i.to_numpy()):
        rest = np.arange(8) != i
        m0, v0 = Y.mean(), (2.5 * Y.std(ddof=1)) ** 2
        less = truth.precision[:, rest]
        v = 1 / (less.sum(axis=1) + 1 / v0)
        m = v * (less @ Y[rest] + m0 / v0)
        given = stats.norm(m, np.sqrt(v + SE[i] ** 2 + truth.tau**2)).pdf(Y[i])
        without = truth.weight / given
        assert elpd == pytest.approx(np.log(without @ given / without.sum()), abs=0.01)


def test_one_school_is_one_row(fit):
    assert fit.loo(by="group").elpd == pytest.approx(fit.loo().elpd, abs=1e-6)
    assert fit.kfold(8, seed=1, progress=False).elpd == pytest.approx(fit.loo().elpd, abs=0.1)


@pytest.mark.parametrize("rung", ["complete_pooling", "no_pooling"])
def test_posterior_without_theta_is_exact(ladder, fits, rung):
    fit, sd = fits[rung], Y.std(ddof=1)
    assert fit.status.word == "good"
    assert not fit.datatree["theta"].to_dataset().data_vars
    prior = 1 / (2.5 * sd) ** 2
    if rung == "complete_pooling":
        v = 1 / ((SE**-2).sum() + prior)
        mean, table = v * (Y @ SE**-2 + prior * Y.mean()), fit.fixed_effects()
        V = np.diag(SE**2) + 1 / prior
    else:
        v = 1 / (SE**-2 + prior)
        mean, table = v * (Y / SE**2 + prior * Y.mean()), fit.coefficients()
        V = np.diag(SE**2 + 1 / prior)
    assert np.abs((table["mean"] - mean) / np.sqrt(v)).max() < 5 / np.sqrt(3500)
    np.testing.assert_allclose(table["sd"], np.sqrt(v), rtol=0.06)
    expected = normal_log_density(Y, np.full(8, Y.mean()), V)
    assert fit.log_marginal_likelihood == pytest.approx((expected, 0.0))
    inverse = np.linalg.inv(V)
    left = 1 / np.diag(inverse)
    given = stats.norm(Y - left * (inverse @ (Y - Y.mean())), np.sqrt(left))
    np.testing.assert_allclose(fit.loo().elpd_i, given.logpdf(Y), rtol=1e-9)
    np.testing.assert_allclose(fit.loo_pit(), given.cdf(Y), rtol=1e-9)
    assert fit._score_exactly(np.array([2])) == pytest.approx(given.logpdf(Y)[2])


def test_least_squares_take_the_known_sds(ladder):
    one, own = (ladder[name].reml() for name in ("complete_pooling", "no_pooling"))
    pooled = np.average(Y, weights=SE**-2)
    assert one.estimate.beta[0] == pytest.approx(pooled)
    assert one.fixed_effects()["se"].iloc[0] == pytest.approx((SE**-2).sum() ** -0.5)
    assert one.loglik == pytest.approx(stats.norm(pooled, SE).logpdf(Y).sum())
    np.testing.assert_allclose(own.coefficients()["estimate"], Y)
    np.testing.assert_allclose(own.coefficients()["se"], SE)
    assert own.loglik == pytest.approx(stats.norm(Y, SE).logpdf(Y).sum())
    assert len(one.variance_components()) == len(own.variance_components()) == 0
    assert "Standard deviations" not in repr(one)


def test_poolings_are_compared_by_row_and_by_group(fits):
    table = hp.compare(fits)
    assert table.index[0] == "complete_pooling"
    assert set(hp.compare(fits, by="group").index) == set(fits)


@pytest.mark.slow
def test_study_is_made_of_schools(tmp_path):
    done = hp.study("y ~ 1", schools(), group="school", known_se="se", seed=1, progress=False)
    assert done.recommended == "y ~ 1 + (1 | school)"
    assert done.comparison.index[0] == "complete_pooling"
    done.save(tmp_path)
    assert (tmp_path / "figures" / "shrinkage.png").exists()


def test_files_hold_fits_without_sigma(fits, tmp_path):
    for name, fit in fits.items():
        fit.save(tmp_path / f"{name}.nc")
        again = hp.load_fit(tmp_path / f"{name}.nc")
        np.testing.assert_array_equal(again.design.residual.values, SE)
        assert again.priors.sigma is None
        assert again.loo().elpd == fit.loo().elpd
        assert repr(again) == repr(fit)


def test_replicated_effects_have_the_known_sds(fits):
    fit = fits["complete_pooling"]
    drawn = fit.posterior_predictive(seed=1).datatree["posterior_predictive"]["y"].to_numpy()
    sd = np.hypot(SE, fit.fixed_effects()["sd"].iloc[0])
    np.testing.assert_allclose(drawn.reshape(-1, 8).std(axis=0), sd, rtol=0.05)


@pytest.mark.parametrize("rung", ["complete_pooling", "varying_intercept", "no_pooling"])
def test_models_without_sigma_are_calibrated(ladder, rung):
    assert hp.calibrate(ladder[rung], 60, seed=2, progress=False).is_calibrated


def test_recovery_simulates_with_the_known_sds(model):
    table = hp.recovery(model, 10, at="prior", seed=1, progress=False).table
    assert table.loc[("no_pooling", "Intercept"), "coverage"] == pytest.approx(0.95, abs=0.12)


def test_correlated_slopes_with_known_sds_are_those_of_the_dense_density():
    sleep = hp.datasets.load("sleepstudy").assign(se=25.6)
    known = hp.varying_slope("Reaction ~ Days", sleep, "Subject", known_se="se")
    estimated = hp.varying_slope("Reaction ~ Days", sleep, "Subject").reml()
    at_estimate = hp.varying_slope(
        "Reaction ~ Days", sleep.assign(se=estimated.estimate.sigma), "Subject", known_se="se"
    ).reml()
    np.testing.assert_allclose(at_estimate.estimate.only.sd, estimated.estimate.only.sd, rtol=1e-5)
    np.testing.assert_allclose(
        at_estimate.estimate.only.corr, estimated.estimate.only.corr, atol=1e-5
    )
    assert at_estimate.loglik == pytest.approx(estimated.loglik)
    assert known.reml().loglik < estimated.loglik
    fit = known.fit("exact", seed=1, progress=False)
    assert fit.status.word == "good"
    assert len(fit.variance_components()) == 3


def test_standard_errors_may_differ_by_many_powers_of_ten():
    rng = np.random.default_rng(6)
    se = np.concatenate([[1e-3], np.linspace(2.0, 2.0001, 11)])
    y = rng.normal(0, np.hypot(se, 2.0))
    data = pd.DataFrame({"g": list("abcdefghijkl"), "y": y, "se": se})
    best = hp.varying_intercept("y ~ 1", data, "g", known_se="se").reml()
    tau, beta = best.estimate.only.sd[0], best.estimate.beta[0]
    expected = restricted_log_density(y, np.ones((12, 1)), np.diag(se**2 + tau**2))
    assert best.loglik == pytest.approx(expected, rel=1e-10)
    own = tau**2 / (tau**2 + se**2)
    np.testing.assert_allclose(best.estimate.only.u[:, 0], own * (y - beta), rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("rung", ["complete_pooling", "varying_intercept", "no_pooling"])
def test_nuts_agrees(ladder, fits, rung):
    model = ladder[rung]
    nuts = model.fit("nuts", seed=1, target_accept=0.99, progress=False)
    exact = fits[rung]
    pairs = [(nuts.summary(), exact.summary())]
    if model.design.groups:
        pairs.append((nuts.coefficients(), exact.coefficients()))
    for a, b in pairs:
        if not len(a):
            continue
        error = np.sqrt(a["sd"] ** 2 / a["ess_bulk"] + b["sd"] ** 2 / b["ess_bulk"])
        assert ((a["mean"] - b["mean"]) / error).abs().max() < 5


def wide() -> pd.DataFrame:
    """Six rows and eight predictors."""
    rng = np.random.default_rng(4)
    columns = {f"x{k}": rng.normal(size=6) for k in range(8)}
    return pd.DataFrame({"y": rng.normal(size=6), "se": np.linspace(0.3, 0.8, 6), **columns})


WIDE = "y ~ " + " + ".join(f"x{k}" for k in range(8))


def test_more_coefficients_than_rows_have_the_posterior_of_the_dense_formula():
    data, sd = wide(), 1.5
    names = ["Intercept", *(f"x{k}" for k in range(8))]
    priors = {name: hp.Prior("Normal", mu=0.2, sigma=sd) for name in names}
    model = hp.Model(WIDE, data, priors, known_se="se")
    assert model.design.terms == tuple(names)
    fit = model.fit("exact", seed=1, draws=4000, progress=False)
    X = np.column_stack([np.ones(6), data[[*names[1:]]]])
    precision = X.T @ (X / data["se"].to_numpy()[:, None] ** 2) + np.eye(9) / sd**2
    covariance = np.linalg.inv(precision)
    mean = covariance @ (X.T @ (data["y"] / data["se"] ** 2).to_numpy() + 0.2 / sd**2)
    table = fit.fixed_effects()
    np.testing.assert_allclose(table["mean"], mean, rtol=1e-8)
    np.testing.assert_allclose(table["sd"], np.sqrt(np.diag(covariance)), rtol=0.04)
    evidence = normal_log_density(
        data["y"].to_numpy(), X @ np.full(9, 0.2), np.diag(data["se"] ** 2) + sd**2 * X @ X.T
    )
    assert fit.log_marginal_likelihood[0] == pytest.approx(evidence, abs=1e-8)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_more_coefficients_than_rows_are_refused_where_something_is_maximised(method):
    with pytest.raises(HierpoolError, match="9 coefficients for 6 rows") as caught:
        getattr(hp.Model(WIDE, wide(), known_se="se"), method)()
    assert caught.value.code == "no-residual-df"
