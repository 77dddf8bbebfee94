"""The user's own priors: by name, in three forms, on the user's scale, integrated exactly."""

from __future__ import annotations

import types
import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import hierpool as hp
from hierpool.bayes.exact.target import LogPosterior
from hierpool.bayes.priors.from_pymc_preliz import read
from hierpool.bayes.priors.from_user import with_user_priors
from hierpool.bayes.priors.model_priors import default_priors
from hierpool.core.coding import Coding
from hierpool.core.design import Design
from hierpool.core.errors import HierpoolWarning, PriorError, UnsupportedModelError
from hierpool.core.theta import Theta
from tests.laws.dense import Dense, normal_log_density
from tests.support.cases import each

P = hp.Prior
SLOPES = "Reaction ~ Days + (Days | Subject)"


def sleepstudy(offset: float = 0.0):
    data = hp.datasets.load("sleepstudy")
    return data.assign(Days=data["Days"] + offset)


def slopes(priors, offset: float = 0.0) -> hp.Model:
    return hp.Model(SLOPES, sleepstudy(offset), priors=priors)


USER_SCALE = {
    "Intercept": P("Normal", mu=240, sigma=30),
    "Days": P("Normal", mu=5, sigma=8),
    "sd_Subject[Intercept]": P("HalfNormal", sigma=40),
    "sd_Subject[Days]": P("Exponential", lam=0.2),
    "corr_Subject": P("LKJ", eta=2),
    "sigma": P("LogNormal", mu=3, sigma=0.5),
}
JOINT_MEAN, JOINT_COV = [240.0, 5.0], [[900.0, -60.0], [-60.0, 64.0]]


def dense_log_density(model: hp.Model, sigma, sd, corr, mean, cov) -> float:
    """log p(y | theta), every matrix in the user's own columns."""
    group = model.design.groups[0]
    judge = Dense(
        model.design.y,
        model.design.X,
        group.Z,
        group.grouping.codes,
        group.grouping.n_levels,
        sigma,
        np.diag(sd) @ corr @ np.diag(sd),
        np.asarray(mean),
        np.linalg.inv(cov),
    )
    return judge.log_density


@pytest.mark.parametrize("offset", [0.0, 100.0, -37.5])
@pytest.mark.parametrize("is_joint", [False, True])
def test_log_density_has_the_priors_on_the_users_scale(offset, is_joint):
    given = dict(USER_SCALE)
    mean, cov = [240.0, 5.0], np.diag([30.0**2, 8.0**2])
    if is_joint:
        del given["Intercept"], given["Days"]
        given["beta"] = P("MvNormal", mu=JOINT_MEAN, cov=JOINT_COV)
        mean, cov = JOINT_MEAN, JOINT_COV
    model = slopes(given, offset)
    target = LogPosterior.from_design(model.design, model.priors)
    sd, rho, sigma = np.array([25.0, 6.0]), 0.3, 26.0
    chol = np.array([[1.0, 0.0], [rho, np.sqrt(1 - rho**2)]])
    theta = Theta(
        1,
        {
            "sigma": np.array([sigma]),
            "sd_Subject": sd[None],
            "corr_chol_Subject": chol[None],
        },
    )
    got = target.integrated.log_density(target.theta_map.working(theta))[0]
    expected = dense_log_density(model, sigma, sd, chol @ chol.T, mean, cov)
    assert got == pytest.approx(expected, abs=1e-7)


def test_evidence_is_that_of_quadrature():
    data = hp.datasets.load("Dyestuff")
    given = {
        "Intercept": P("Normal", mu=1500, sigma=50),
        "sd_Batch": P("Gamma", alpha=2, beta=0.05),
        "sigma": P("InverseGamma", alpha=3, beta=100),
    }
    model = hp.varying_intercept("Yield ~ 1", data, "Batch", priors=given)
    got, error = model.fit(engine="exact", seed=1, progress=False).log_marginal_likelihood
    sigma = np.linspace(15, 250, 300)
    sd = np.linspace(0.01, 300, 300)
    codes = model.design.groups[0].grouping.codes
    same = (codes[:, None] == codes[None, :]).astype(float)
    n = len(codes)
    # The design is balanced: the covariance of y has the same eigenvectors at every theta.
    _, vectors = np.linalg.eigh(same + 0.01)
    between = np.diag(vectors.T @ same @ vectors)
    common = np.diag(vectors.T @ np.ones((n, n)) @ vectors) * 50.0**2
    squared = (vectors.T @ (model.design.y - 1500)) ** 2
    variance = sigma[:, None, None] ** 2 + sd[:, None] ** 2 * between + common
    log = -0.5 * (np.log(2 * np.pi * variance) + squared / variance).sum(axis=-1)
    V = sigma[3] ** 2 * np.eye(n) + sd[7] ** 2 * same + 50.0**2
    dense = normal_log_density(model.design.y, np.full(n, 1500.0), V)
    assert log[3, 7] == pytest.approx(dense)
    log += stats.invgamma(3, scale=100).logpdf(sigma)[:, None]
    log += stats.gamma(2, scale=20).logpdf(sd)[None, :]
    top = log.max()
    inside = np.trapezoid(np.trapezoid(np.exp(log - top), sd, axis=1), sigma)
    assert got == pytest.approx(top + np.log(inside), abs=4 * error + 0.005)


def test_a_prior_puts_its_whole_block_on_the_users_scale_and_no_other():
    default = slopes(None).priors
    one = slopes({"Days": P("Normal", mu=0, sigma=10)}).priors
    assert default.population.coding.is_centred
    assert not one.population.coding.is_centred
    assert one.group_terms[0].coding.is_centred
    assert one.population.priors[0] == default.population.priors[0]
    other = slopes({"corr_Subject": P("LKJ", eta=2)}).priors
    assert not other.group_terms[0].coding.is_centred
    assert other.population.coding.is_centred
    sigma = slopes({"sigma": P("HalfNormal", sigma=30)}).priors
    assert sigma.population.coding.is_centred
    assert sigma.group_terms[0].coding.is_centred


def test_the_table_says_where_an_intercept_stands():
    meaning = slopes({"Days": P("Normal", mu=0, sigma=10)}).priors.table()["meaning"]
    assert "where Days is 0" in meaning["beta[Intercept]"]
    assert "at the mean of the predictors" in meaning["sd_Subject[Intercept]"]


def test_the_specific_goes_before_the_general():
    wide, narrow = P("Normal", mu=0, sigma=100), P("Normal", mu=0, sigma=1)
    priors = slopes({"Days": narrow, "beta": wide}).priors.population.priors
    assert priors == (wide, narrow)
    sd = slopes({"sd_Subject": P("HalfNormal", sigma=1), "Subject": P("HalfNormal", sigma=2)})
    assert all(p == P("HalfNormal", sigma=1) for p in sd.priors.group_terms[0].sd)
    lkj = slopes({"Subject": P("LKJ", eta=3)}).priors.group_terms[0]
    assert lkj.eta == 3


def test_no_pooling_takes_priors_by_level_coefficient():
    model = hp.no_pooling(
        "Reaction ~ Days", sleepstudy(), "Subject", priors={"Days": P("Normal", mu=5, sigma=3)}
    )
    assert model.priors.unpooled.coefficients.priors[1] == P("Normal", mu=5, sigma=3)
    named = model.with_priors({"coef_Subject[Days]": P("Normal", mu=5, sigma=3)})
    assert named.priors.table().equals(model.priors.table())
    fit = model.fit(seed=1, progress=False)
    assert fit.status.is_trustworthy
    slope = fit.datatree["posterior"]["coef_Subject"].mean(("chain", "draw"))[:, 1]
    assert slope.mean() < 10.4  # pulled from the least-squares mean, 10.47, towards 5


def test_ladder_gives_each_rung_the_names_it_has():
    given = {"Days": P("Normal", mu=0, sigma=10), "sd_Subject[Days]": P("HalfNormal", sigma=5)}
    ladder = hp.pooling_ladder("Reaction ~ Days", sleepstudy(), "Subject", priors=given)
    assert ladder["complete_pooling"].priors.population.priors[1] == given["Days"]
    assert ladder["varying_slope"].priors.group_terms[0].sd[1] == given["sd_Subject[Days]"]
    assert ladder["no_pooling"].priors.unpooled.coefficients.priors[1] == given["Days"]
    with pytest.raises(PriorError, match=r"did you mean 'sd_Subject\[Days\]'"):
        hp.pooling_ladder(
            "Reaction ~ Days", sleepstudy(), "Subject", priors={"sd_Subjct[Days]": given["Days"]}
        )


BAD = {
    "misspelt": ({"sigmaa": P("HalfNormal", sigma=1)}, "did you mean 'sigma'"),
    "listed": ({"zzz": P("HalfNormal", sigma=1)}, r"'corr_Subject', 'sigma'"),
    "negative": ({"sigma": P("Normal", mu=0, sigma=1)}, "allows negative values"),
    "uniform": ({"sd_Subject": P("Uniform", lower=-1, upper=1)}, "allows negative values"),
    "improper": ({"sigma": P("Flat")}, "may be improper"),
    "lkj": ({"Days": P("LKJ", eta=1)}, "LKJ is for correlations"),
    "corr": ({"corr_Subject": P("HalfNormal", sigma=1)}, r"takes LKJ\(eta\)"),
    "number": ({"sigma": 3}, "hp.Prior"),
    "twice": (
        {"Days": P("Normal", mu=0, sigma=1), "beta[Days]": P("Normal", mu=0, sigma=1)},
        "keep one",
    ),
    "joint_and_one": (
        {"Days": P("Normal", mu=0, sigma=1), "beta": P("MvNormal", mu=[0, 0], cov=np.eye(2))},
        "keep one",
    ),
    "size": ({"beta": P("MvNormal", mu=[0], cov=[[1]])}, "beta has 2 terms"),
}


@each("case", BAD)
def test_what_cannot_be_is_an_error_that_says_what_to_write(case):
    given, message = BAD[case]
    with pytest.raises(PriorError, match=message):
        slopes(given)


@pytest.mark.parametrize(
    "parameters",
    [
        {"mu": [0, 0], "cov": [[1, 2], [2, 1]]},
        {"mu": [0, 0], "cov": [[1, 0.5], [0.2, 1]]},
        {"mu": [0, 0, 0], "cov": np.eye(2)},
        {"mu": [0, np.nan], "cov": np.eye(2)},
    ],
)
def test_a_joint_prior_needs_a_covariance(parameters):
    with pytest.raises(PriorError):
        P("MvNormal", **parameters)


def test_a_prior_that_is_not_normal_on_beta_is_for_nuts():
    model = slopes({"Days": P("StudentT", nu=3, mu=0, sigma=10)})
    with pytest.raises(UnsupportedModelError, match="not normal"):
        model.fit(engine="exact")


def test_a_default_left_far_from_the_data_is_warned_of():
    with pytest.warns(HierpoolWarning, match="where Days is 0"):
        slopes({"Days": P("Normal", mu=0, sigma=10)}, offset=2000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slopes(USER_SCALE, offset=2000)


def test_flat_is_the_limit_of_wide_normals():
    flat = slopes({"Days": P("Flat")})
    wide = slopes({"Days": P("Normal", mu=0, sigma=1e6)})
    z = np.random.default_rng(0).normal(size=(20, 4))
    a, b = (LogPosterior.from_design(m.design, m.priors).log_likelihood(z) for m in (flat, wide))
    np.testing.assert_allclose(a - b, (a - b)[0], atol=1e-5)
    fit = flat.fit(seed=1, progress=False)
    assert fit.status.is_trustworthy
    assert np.isfinite(fit.loo().elpd)
    with pytest.raises(UnsupportedModelError, match="marginal likelihood"):
        _ = fit.log_marginal_likelihood


def test_all_flat_is_reml_and_what_rows_cannot_tell_is_refused():
    flat = slopes({"beta": P("Flat")})
    target = LogPosterior.from_design(flat.design, flat.priors)
    assert target.integrated.prior.is_flat
    ones = np.ones_like(flat.design.X)
    schema = replace(flat.design.schema, coding=Coding.from_columns(ones))
    same = Design(schema, replace(flat.design.observations, X=ones))
    with pytest.raises(PriorError, match="do not identify"):
        with_user_priors(default_priors(same.schema), same, {"beta": P("Flat")})
    with pytest.raises(PriorError, match="improper posterior"):
        hp.no_pooling("Reaction ~ Days", sleepstudy(), "Subject", priors={"Days": P("Flat")})


def test_posterior_under_a_joint_prior_survives_a_file(tmp_path):
    fit = slopes({"beta": P("MvNormal", mu=JOINT_MEAN, cov=JOINT_COV)}).fit(
        seed=1, draws=200, progress=False
    )
    fit.save(tmp_path / "fit.nc")
    priors = hp.load_fit(tmp_path / "fit.nc").priors
    assert priors.population.joint == fit.priors.population.joint
    assert priors.table().equals(fit.priors.table())


def preliz_like(name: str, **parameters) -> object:
    """An object that looks as PreliZ's distributions do from outside."""
    kind = type(name, (), {"__module__": f"preliz.distributions.{name.lower()}"})
    made = kind()
    vars(made).update(parameters)
    return made


def test_preliz_distributions_are_read_by_their_attributes():
    made = preliz_like("Gamma", mu=2.0, sigma=1.0, alpha=4.0, beta=2.0)
    assert read(made, "sigma") == (P("Gamma", alpha=4, beta=2),)
    with pytest.raises(PriorError, match="has no value for 'mu', 'sigma'"):
        read(preliz_like("Normal", mu=None, sigma=None), "Days")
    with pytest.raises(PriorError, match="PreliZ's Truncated"):
        read(preliz_like("Truncated"), "Days")


def test_preliz_itself():
    pz = pytest.importorskip("preliz")
    assert read(pz.HalfStudentT(4, 10), "sigma") == (P("HalfStudentT", nu=4, sigma=10),)
    assert read(pz.InverseGamma(3, 2), "sigma") == (P("InverseGamma", alpha=3, beta=2),)
    joint = read(pz.MvNormal([0, 1], [[1, 0.5], [0.5, 2]]), "beta")
    assert joint == (P("MvNormal", mu=[0, 1], cov=[[1, 0.5], [0.5, 2]]),)


PYMC = {
    "Normal": (lambda pm: pm.Normal.dist(1, tau=4), P("Normal", mu=1, sigma=0.5)),
    "StudentT": (
        lambda pm: pm.StudentT.dist(nu=3, mu=1, sigma=2),
        P("StudentT", nu=3, mu=1, sigma=2),
    ),
    "Cauchy": (lambda pm: pm.Cauchy.dist(1, 2), P("Cauchy", alpha=1, beta=2)),
    "HalfNormal": (lambda pm: pm.HalfNormal.dist(3), P("HalfNormal", sigma=3)),
    "HalfStudentT": (
        lambda pm: pm.HalfStudentT.dist(nu=4, sigma=10),
        P("HalfStudentT", nu=4, sigma=10),
    ),
    "HalfCauchy": (lambda pm: pm.HalfCauchy.dist(2), P("HalfCauchy", beta=2)),
    "Exponential": (lambda pm: pm.Exponential.dist(4), P("Exponential", lam=4)),
    "Gamma": (lambda pm: pm.Gamma.dist(2, 4), P("Gamma", alpha=2, beta=4)),
    "InverseGamma": (lambda pm: pm.InverseGamma.dist(2, 3), P("InverseGamma", alpha=2, beta=3)),
    "LogNormal": (lambda pm: pm.LogNormal.dist(1, 2), P("LogNormal", mu=1, sigma=2)),
    "Uniform": (lambda pm: pm.Uniform.dist(1, 2), P("Uniform", lower=1, upper=2)),
    "Flat": (lambda pm: pm.Flat.dist(), P("Flat")),
    "LKJCorr": (lambda pm: pm.LKJCorr.dist(n=2, eta=2), P("LKJ", eta=2)),
    "MvNormal": (
        lambda pm: pm.MvNormal.dist([0, 0], chol=[[1, 0], [0.5, 2]]),
        P("MvNormal", mu=[0, 0], cov=[[1, 0.5], [0.5, 4.25]]),
    ),
}


@each("name", PYMC)
def test_pymc_variables_are_read_from_their_graph(name):
    pm = pytest.importorskip("pymc")
    make, expected = PYMC[name]
    assert read(make(pm), "x") == (expected,)


def test_pymc_covariance_serves_a_factor():
    pm = pytest.importorskip("pymc")
    made = pm.LKJCholeskyCov.dist(n=2, eta=2, sd_dist=pm.Exponential.dist(0.5))
    block = slopes({"Subject": made}).priors.group_terms[0]
    assert block.eta == 2
    assert block.sd == (P("Exponential", lam=0.5),) * 2
    with pytest.raises(PriorError, match="under the name of the factor"):
        slopes({"sd_Subject": made})


def test_pymc_expressions_and_random_parameters_are_refused():
    pm = pytest.importorskip("pymc")
    with pytest.raises(PriorError, match="random parameter"):
        read(pm.Normal.dist(0, pm.HalfNormal.dist(1)), "Days")
    with pytest.raises(PriorError, match="not a distribution"):
        read(2 * pm.HalfNormal.dist(1), "sigma")
    with pytest.raises(PriorError, match="PyMC's Weibull"):
        read(pm.Weibull.dist(1, 2), "sigma")


def test_other_things_are_refused_by_name():
    with pytest.raises(PriorError, match="SimpleNamespace"):
        read(types.SimpleNamespace(), "sigma")
    with pytest.raises(PriorError, match="dict by name"):
        slopes([P("HalfNormal", sigma=1)])


@each(
    "family, parameters",
    [
        ("Normal", {"mu": 1e308, "sigma": 2}),
        ("Normal", {"mu": 1e10, "sigma": 1e-100}),
        ("HalfStudentT", {"nu": 4, "sigma": 1e308}),
        ("HalfNormal", {"sigma": 1e-300}),
    ],
)
def test_a_prior_that_no_number_can_follow_is_refused(family, parameters):
    with pytest.raises(PriorError, match="beyond what can be computed"):
        P(family, **parameters)
