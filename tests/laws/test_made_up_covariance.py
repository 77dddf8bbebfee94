"""A covariance structure with one parameter, made up here, works in every part of the package.

``Equal`` gives all coefficients of a group term one standard deviation, uncorrelated. It is one class
and one entry in ``COVARIANCES``; posterior, REML, priors, power scaling, PyMC and files then know it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy import optimize, stats

import hierpool as hp
from hierpool.bayes.exact.target import LogPosterior
from hierpool.bayes.nuts import pymc_model
from hierpool.core.covariance import COVARIANCES, Covariance
from hierpool.core.spec import GroupTerm
from hierpool.formula.build import build_design
from hierpool.formula.parse import make_spec, read_columns


class Equal(Covariance):
    """One variance for all."""

    word = "equal"

    def patterns(self, q: int) -> tuple[np.ndarray, ...]:
        """The identity."""
        return (np.eye(q),)


@pytest.fixture(scope="module")
def model() -> Iterator[hp.Model]:
    COVARIANCES["equal"] = Equal()
    data = hp.datasets.load("sleepstudy").assign(z=lambda d: d["Days"] / 5 - 0.9)
    spec = make_spec("Reaction", read_columns("1 + z"), (GroupTerm("1 + z", "Subject", "equal"),))
    yield hp.Model.from_design(build_design(spec, data))
    del COVARIANCES["equal"]


@pytest.fixture(scope="module")
def fit(model) -> hp.PosteriorFit:
    return model.fit(engine="exact", draws=500, seed=1, progress=False)


def covariance(model: hp.Model, sd: float, sigma: float) -> np.ndarray:
    """Of the response, given the fixed effects."""
    (group,) = model.design.groups
    hot = np.eye(group.grouping.n_levels)[group.grouping.codes]
    T = np.einsum("nj,nq->njq", hot, group.Z).reshape(model.design.n, -1)
    return sd**2 * T @ T.T + sigma**2 * np.eye(model.design.n)


def deviance(log: np.ndarray, model: hp.Model) -> float:
    """REML's, at log sd and log sigma."""
    y, X = model.design.y, model.design.X
    V = covariance(model, *np.exp(log))
    A = X.T @ np.linalg.solve(V, X)
    left = y - X @ np.linalg.solve(A, X.T @ np.linalg.solve(V, y))
    log_det = np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1]
    df = len(y) - X.shape[1]
    return float(df * np.log(2 * np.pi) + log_det + left @ np.linalg.solve(V, left))


def test_its_log_density_is_that_of_the_covariance_written_out(model):
    target = LogPosterior.from_design(model.design, model.priors)
    assert target.coordinates.size == 2
    theta = target.coordinates.theta(np.array([[0.3, -0.4], [-0.2, 0.8]]))
    found = target.integrated.log_density(target.theta_map.working(theta))
    block, X = model.priors.population, model.design.X
    B = block.coding.to_user
    prior = X @ B @ np.diag(block.sd**2) @ B.T @ X.T
    for k in range(2):
        V = covariance(model, theta.values["sd_Subject"][k, 0], theta.sigma[k])
        law = stats.multivariate_normal(X @ B @ block.mean, V + prior)
        assert found[k] == pytest.approx(law.logpdf(model.design.y), rel=1e-9)


def test_reml_finds_the_optimum_of_the_criterion_written_out(model):
    search = {"method": "Nelder-Mead", "options": {"xatol": 1e-7, "fatol": 1e-9}}
    best = optimize.minimize(deviance, [3.0, 3.3], args=(model,), **search)
    found = model.reml()
    assert found.status.word == "converged"
    assert -2 * found.loglik == pytest.approx(best.fun, abs=1e-7)
    sds = found.estimate.only.sd
    np.testing.assert_allclose([*sds, found.estimate.sigma], np.exp(best.x[[0, 0, 1]]), rtol=1e-4)
    assert found.estimate.n_parameters == 2 + 1 + 1
    assert found.blup().shape[0] == 18 * 2


def test_its_standard_error_is_that_of_the_information(model):
    found, h = model.reml(), 1e-4
    at = np.log([found.estimate.only.sd[0], found.estimate.sigma])
    steps = h * np.eye(2)
    value = [[deviance(at + a + b, model) for b in (*steps, *-steps)] for a in (*steps, *-steps)]
    v = np.array(value)
    hessian = (v[:2, :2] - v[:2, 2:] - v[2:, :2] + v[2:, 2:]) / (4 * h**2)
    se = np.sqrt(np.diag(np.linalg.inv(hessian / 2))) * np.exp(at)
    np.testing.assert_allclose(found.estimate.only.sd_se, se[[0, 0]], rtol=1e-3)


def test_its_posterior_has_one_standard_deviation_for_both_terms(fit):
    sd = fit.variable("sd_Subject").to_numpy()
    np.testing.assert_array_equal(sd[..., 0], sd[..., 1])
    assert "corr_Subject" not in fit.datatree["posterior"]
    assert fit.loo().elpd < 0
    assert list(fit.variance_components().index.get_level_values("parameter")) == ["sd", "sd", "sd"]


def test_its_prior_is_named_stated_and_scaled(model, fit):
    assert list(model.priors.table().index) == [
        "beta[Intercept]",
        "beta[z]",
        "sd_Subject[Intercept]",
        "sigma",
    ]
    own = model.with_priors({"sd_Subject": hp.Prior("HalfNormal", sigma=20)})
    (part,) = own.priors.group_terms
    assert part.sd == (hp.Prior("HalfNormal", sigma=20),)
    assert "sd_Subject" in hp.sensitivity(fit).table.index.get_level_values("prior")


def test_it_is_saved_and_loaded(fit, tmp_path):
    fit.save(tmp_path / "fit.nc")
    back = hp.load_fit(tmp_path / "fit.nc")
    assert back.design.groups[0].blocks[0].covariance == Equal()
    np.testing.assert_array_equal(back.theta.values["sd_Subject"], fit.theta.values["sd_Subject"])


def test_the_full_model_has_it(model):
    names = {variable.name for variable in pymc_model.build(model.design, model.priors).free_RVs}
    assert names == {"sigma", "beta", "sd_Subject_free_0", "z_Subject"}


class Alike(Covariance):
    """One variance and one correlation for all: not linear in REML's root."""

    word = "alike"

    def patterns(self, q: int) -> tuple[np.ndarray, ...]:
        """The identity, and all beside it."""
        return (np.eye(q), np.ones((q, q)) - np.eye(q))


def test_a_structure_that_no_linear_root_can_have_is_refused():
    assert Alike().pairs(2) == ((1, 0),)
    with pytest.raises(ValueError, match="alike: a root with tied correlations is not linear"):
        Alike().pairs(3)
