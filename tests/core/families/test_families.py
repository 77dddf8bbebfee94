"""What holds for every family and link: derivatives, whole mass, cdf, moments, draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hierpool.core.families.compiled import derivatives
from hierpool.core.families.table import FAMILIES
from tests.core.families.cases import CASES, Case

each_family = pytest.mark.parametrize("case", CASES, ids=str)
FAR = (-700.0, -300.0, -40.0, -8.0, 8.0, 40.0, 300.0, 700.0)


def terms(code: int, y: float, trials: float, eta: float, par: np.ndarray) -> np.ndarray:
    """``compiled.terms``, which compiled loops alone can call."""
    out = np.empty((4, 1))
    derivatives(code, *(np.array([float(one)]) for one in (y, trials, eta)), par, out)
    return out[:, 0]


def some_responses(case: Case) -> np.ndarray:
    if case.family.is_discrete:
        return case.support()[:8]
    rng = np.random.default_rng(3)
    return case.family.draw(np.array([case.eta]), case.pars, np.ones(3), rng)[0]


def log_density(case: Case, y: np.ndarray, eta: float) -> np.ndarray:
    rows = np.full((1, len(y)), eta)
    return case.family.log_density(y, rows, case.pars, np.full(len(y), float(case.trials)))[0]


def moment(case: Case, eta: float, power: int) -> float:
    """E y^power, by the mass or density."""
    if case.family.is_discrete:
        y = case.support()
        rating = y + (case.family.name == "ordinal")
        return float(np.exp(log_density(case, y, eta)) @ rating**power)
    return over_density(case, eta, lambda y: y**power, *case.bounds())


def over_density(case: Case, eta: float, of, low: float, high: float) -> float:
    """Integral by tanh-sinh: ends where the density is infinite do no harm."""
    t = np.linspace(-6.0, 6.0, 9601)
    s, ds = np.pi / 2 * np.sinh(t), np.pi / 2 * np.cosh(t)
    if np.isfinite([low, high]).all():
        from_low = (high - low) * stats.logistic.cdf(2 * s)
        y, dy = low + from_low, 2 * (high - low) * stats.logistic.pdf(2 * s) * ds
    elif np.isfinite(low):
        scale = np.exp(eta) if case.family.name == "gamma" else 1.0
        y, dy = low + scale * np.exp(s), scale * np.exp(s) * ds
    else:  # above minus infinity, below high
        sign, edge = (-1.0, high) if np.isfinite(high) else (1.0, None)
        if edge is None:
            return sum(
                over_density(case, eta, of, *ends) for ends in ((-np.inf, eta), (eta, np.inf))
            )
        y, dy = edge + sign * np.exp(s), np.exp(s) * ds
    low, high = (0.0, 1.0) if case.family.name == "beta" else (low, high)
    inside = (y > low) & (y < high) & np.isfinite(y)
    values = of(y[inside]) * np.exp(log_density(case, y[inside], eta)) * dy[inside]
    return float(values.sum() * (t[1] - t[0]))


def test_every_family_and_link_has_a_case():
    has = {(c.family.name, c.family.link) for c in CASES}
    assert has == {(name, link) for name, family in FAMILIES.items() for link in family.links}


@each_family
def test_derivatives_are_those_of_the_value(case: Case):
    m, par, h = float(case.trials), case.pars[0], 1e-5
    for y in some_responses(case):
        for eta in (*case.eta, -7.0, -1.2, 5.0):
            low, at, high = (terms(case.family.code, y, m, eta + d, par) for d in (-h, 0, h))
            near = {"rel": 1e-5, "abs": 1e-10 * max(1.0, abs(at[0])) / h}
            assert at[1] == pytest.approx((high[0] - low[0]) / (2 * h), **near)
            assert -at[2] == pytest.approx((high[1] - low[1]) / (2 * h), **near)
            assert at[3] >= (0.0 if case.family.name == "beta" else max(at[2], 0.0))


@each_family
def test_nothing_overflows_far_out(case: Case):
    for y in some_responses(case):
        for eta in FAR:
            found = terms(case.family.code, y, float(case.trials), eta, case.pars[0])
            assert np.isfinite(found).all(), (y, eta, found)
            assert found[3] >= 0, (y, eta, found)
            whole = log_density(case, np.array([y]), eta)[0]
            assert whole <= 1e-9 or not case.family.is_discrete, (y, eta, whole)


@each_family
def test_whole_mass_is_one(case: Case):
    for eta in case.eta:
        assert moment(case, eta, 0) == pytest.approx(1, abs=1e-7)


@each_family
def test_mean_and_variance_are_those_of_the_density(case: Case):
    for eta in case.eta:
        at = np.array([[eta]])
        first, second = (moment(case, eta, k) for k in (1, 2))
        mean = case.family.mean(at, case.pars)[0, 0] * case.trials
        spread = case.family.variance(at, case.pars, np.array([float(case.trials)]))[0, 0]
        assert mean == pytest.approx(first, rel=1e-6, abs=1e-8)
        assert spread == pytest.approx(second - first**2, rel=1e-5, abs=1e-6)


@each_family
def test_cdf_adds_up_the_density(case: Case):
    family = case.family
    for eta in case.eta:
        if family.is_discrete:
            y = case.support()
            expected = np.cumsum(np.exp(log_density(case, y, eta)))
        else:
            y, low = np.sort(some_responses(case)), case.bounds()[0]
            expected = np.array([over_density(case, eta, np.ones_like, low, v) for v in y])
        rows, trials = np.full((1, len(y)), eta), np.full(len(y), float(case.trials))
        found = family.cdf(y, rows, case.pars, trials)[0]
        np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize("case", [c for c in CASES if c.family.is_discrete], ids=str)
def test_what_lies_below_is_the_cdf_less_the_mass(case: Case):
    y = np.array([0.0, 1.0])
    rows, trials = np.full((1, 2), case.eta[0]), np.full(2, float(case.trials))
    mass = np.exp(case.family.log_density(y, rows, case.pars, trials))
    below = case.family.cdf_below(y, rows, case.pars, trials)
    expected = case.family.cdf(y, rows, case.pars, trials) - mass
    np.testing.assert_allclose(below, expected, atol=1e-9)
    assert below[0, 0] == 0


@each_family
def test_draws_follow_the_cdf(case: Case):
    family, n = case.family, 20_000
    trials = np.full(n, float(case.trials))
    for k, eta in enumerate(case.eta):
        rows = np.full((1, n), eta)
        y = family.draw(rows, case.pars, trials, np.random.default_rng(k))[0]
        below = family.cdf(y, rows, case.pars, trials)[0]
        if family.is_discrete:  # a uniform number within the step of the cdf is uniform over all
            mass = np.exp(family.log_density(y, rows, case.pars, trials)[0])
            below = below - mass * np.random.default_rng(k + 9).uniform(size=n)
        assert stats.kstest(below, "uniform").pvalue > 1e-4


def of_scipy(case: Case, y: np.ndarray, eta: float) -> np.ndarray | None:
    family, par = case.family, case.par
    mu = float(family.inverse_link(np.array(eta)))
    own = {
        "bernoulli": lambda: stats.binom.logpmf(y, 1, mu),
        "binomial": lambda: stats.binom.logpmf(y, case.trials, mu),
        "poisson": lambda: stats.poisson.logpmf(y, mu),
        "negbinomial": lambda: stats.nbinom.logpmf(y, par[0], par[0] / (par[0] + mu)),
        "student": lambda: stats.t.logpdf(y, par[1], eta, par[0]),
        "gamma": lambda: stats.gamma.logpdf(y, par[0], scale=mu / par[0]),
        "beta": lambda: stats.beta.logpdf(y, mu * par[0], (1 - mu) * par[0]),
    }.get(family.name)
    return None if own is None else own()


KNOWN = [c for c in CASES if of_scipy(c, np.array([0.5]), 0.1) is not None]


@pytest.mark.parametrize("case", KNOWN, ids=str)
def test_scipy_has_the_same_density(case: Case):
    y = some_responses(case)
    # of a negative binomial of shape 2e5, scipy has eight digits
    rtol = 1e-7 if max(case.par, default=0) > 1e4 else 1e-10
    for eta in case.eta:
        np.testing.assert_allclose(log_density(case, y, eta), of_scipy(case, y, eta), rtol, 1e-9)


@pytest.mark.parametrize("y", [0.0, 1.0, 4.0])
def test_zero_inflation_of_nothing_is_the_family_itself(y: float):
    inflated, own = FAMILIES["zero_inflated_poisson"]().code, FAMILIES["poisson"]().code
    for eta in (-40.0, -2.0, 0.5, 6.0):
        found = terms(inflated, y, 1.0, eta, np.array([1e-300]))
        np.testing.assert_allclose(found, terms(own, y, 1.0, eta, np.zeros(1)), rtol=1e-12)


def test_negative_binomial_of_a_large_shape_is_poisson():
    y, eta = np.arange(30.0), np.full((1, 30), 1.7)
    many = FAMILIES["negbinomial"]().log_density(y, eta, np.array([[1e10]]), np.ones(30))
    own = FAMILIES["poisson"]().log_density(y, eta, np.zeros((1, 0)), np.ones(30))
    np.testing.assert_allclose(many, own, rtol=1e-7)


def test_probit_ratings_of_thresholds_that_nearly_meet_keep_their_digits():
    code = FAMILIES["ordinal"]("probit", (1, 2, 3)).code
    for eta in (-30.0, -2.0, 0.0, 9.0):
        for width in (1e-10, 1e-3, 0.0199 / (1 + abs(eta)), 0.0201 / (1 + abs(eta))):
            value, slope, w, _ = terms(code, 1.0, 1.0, eta, np.array([0.0, width]))
            at = width / 2 - eta  # the density times the width, to second order
            near = stats.norm.logpdf(at) + np.log(width) + (at**2 - 1) * width**2 / 24
            assert value == pytest.approx(near, abs=1e-8)
            assert slope == pytest.approx(at - at * width**2 / 12, rel=1e-6, abs=1e-9)
            assert w == pytest.approx(1, abs=1e-4)
