"""Effects of left-out groups, integrated: the algebra of a set, and scores against exact refits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.algebra.quadrature.left_out_effects import _of_set, _own_effects
from hierpool.bayes.quadrature import leave_out
from hierpool.checks.accuracy.loo import relative_efficiency
from hierpool.draws import psis


@pytest.mark.parametrize("m", [1, 2])
def test_a_normal_likelihood_is_integrated_whatever_the_draw(m: int) -> None:
    """Log likelihood plus the ratio is then the same for every u: the log of the integral."""
    rng, K = np.random.default_rng(1), 4000
    columns = np.column_stack([np.ones(K), rng.normal(size=(K, 2))])
    centre = np.einsum("kc,cm->km", columns, rng.normal(size=(3, m)))
    root = rng.normal(size=(K, m, m)) + 1.5 * np.eye(m)
    prior = root @ np.swapaxes(root, 1, 2)
    precision = 2.0 * np.eye(m) + 0.5
    whole = precision + np.linalg.inv(prior)
    mean = np.linalg.solve(whole, (centre @ precision)[..., None])[..., 0]
    noise = np.linalg.solve(
        np.swapaxes(np.linalg.cholesky(whole), 1, 2), rng.normal(size=(K, m, 1))
    )
    u = mean + noise[..., 0]
    away = u - centre
    loglik = -0.5 * np.einsum("ka,ab,kb->k", away, precision, away)
    found = loglik + _of_set(u, prior, precision, columns)
    total = prior + np.linalg.inv(precision)
    quadratic = np.einsum("ka,kab,kb->k", centre, np.linalg.inv(total), centre)
    exact = -0.5 * quadratic - 0.5 * np.linalg.slogdet(np.eye(m) + precision @ prior)[1]
    assert np.abs(found - exact).max() < 0.4  # h is as good as a regression on the draws is
    assert np.median(np.abs(found - exact)) < 0.05
    assert (np.var(found - exact) < 0.02 * np.var(loglik)).all()


def crossed() -> hp.Model:
    rng, J, n = np.random.default_rng(5), 30, 8
    a, b = np.repeat(np.arange(J), n), rng.integers(0, 10, J * n)
    t = pd.DataFrame({"a": a, "b": b, "x": rng.normal(size=J * n)})
    eta = 1 + 0.3 * t["x"] + 0.5 * rng.normal(size=J)[a] + 0.6 * rng.normal(size=10)[b]
    t["y"] = rng.poisson(np.exp(eta))
    return hp.Model("y ~ x + (1 | a) + (1 | b)", t, family="poisson")


def nested() -> hp.Model:
    rng, B, J = np.random.default_rng(5), 12, 5
    b, a = np.repeat(np.arange(B), J * 4), np.repeat(np.arange(B * J), 4)
    eta = 0.5 + 0.7 * rng.normal(size=B)[b] + 0.5 * rng.normal(size=B * J)[a]
    table = pd.DataFrame({"b": b, "a": a, "y": rng.poisson(np.exp(eta))})
    return hp.Model("y ~ 1 + (1 | b) + (1 | b:a)", table, family="poisson")


def test_a_level_has_its_own_effect_and_those_of_levels_inside_it() -> None:
    t = pd.DataFrame({"b": np.repeat(list("pqr"), 8), "a": np.repeat(list("abcdef"), 4)})
    t["y"], t["c"] = np.arange(24) % 5, np.arange(24) % 8
    model = hp.Model("y ~ 1 + (1 | b) + (1 | a) + (1 | c)", t, family="poisson")
    from hierpool.bayes.theta import integrate_family

    algebra = integrate_family(model.design, model.priors)[0]
    codes = model.design.groupings["b"].codes
    own = {level: list(found) for level, found in _own_effects(algebra, codes, 3).items()}
    assert own == {0: [0, 3, 4], 1: [1, 5, 6], 2: [2, 7, 8]}
    of_c = model.design.groupings["c"]
    assert _own_effects(algebra, of_c.codes, of_c.n_levels) == {}


@pytest.mark.slow
@pytest.mark.parametrize("build", [crossed, nested])
def test_groups_of_smaller_factors_are_scored_as_by_exact_refits(build) -> None:
    """The highest k among them: importance sampling alone is off by up to 0.2 there."""
    fit = build().fit(seed=1, progress=False)
    grouping = fit.design.groupings["b"]
    density = fit.integrated.log_density_of_levels(fit.working_theta, grouping)
    _, k, _ = psis.leave_one_out(density, relative_efficiency(fit))
    assert (k > 0.7).sum() <= 1  # with the effects as drawn nine or ten of them are
    scores = fit.loo(by="b").elpd_i.to_numpy()
    design, priors, codes = fit.design, fit.priors, grouping.codes
    whole = leave_out.log_evidence(design, priors, 1)
    for level in np.argsort(-k)[[0, 1, 2, 5]]:
        rows = np.flatnonzero(codes == level)
        exact = leave_out.joint_log_density(design, priors, rows, 2, whole)
        assert exact.error < 0.03
        assert float(scores[level]) == pytest.approx(exact.log_density, abs=0.05)
