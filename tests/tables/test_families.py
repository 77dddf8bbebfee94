"""Counts of rows that are alike give the numbers of the rows, for every family."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import hierpool as hp
from hierpool.algebra.gaussian import BetaPrior
from hierpool.algebra.moments import Coordinates
from hierpool.algebra.quadrature.model import QuadratureModel
from hierpool.core.errors import DataError
from hierpool.core.theta import FamilyTheta

N, GROUPS = 1200, 12


def table():
    rng = np.random.default_rng(1)
    g, h = rng.integers(0, GROUPS, N), rng.integers(0, 3, N)
    x, t = rng.integers(0, 5, N) / 2, np.array(["a", "b", "c"])[rng.integers(0, 3, N)]
    eta = -0.5 + 0.4 * x + 0.5 * (t == "b") + rng.normal(0, 0.7, GROUPS)[g]
    p, trials = 1 / (1 + np.exp(-eta)), rng.integers(1, 4, N)
    columns = {
        "g": g,
        "h": h,
        "x": x,
        "t": t,
        "yes": (rng.random(N) < p).astype(int),
        "count": rng.poisson(np.exp(eta / 2)),
        "hours": rng.choice([1.0, 2.0], N),
        "trials": trials,
        "wins": rng.binomial(trials, p),
        "rating": np.digitize(eta + rng.logistic(size=N), [-1, 0, 1]),
        "w": rng.choice([0.5, 1.0, 2.0], N),
    }
    frame = pd.DataFrame(columns)
    return frame.assign(label=np.where(frame["yes"] == 1, "won", "lost"), flag=frame["yes"] == 1)


ROWS = table()
MODELS = {
    "bernoulli": ("yes ~ x + t + (1 | g)", {"family": "bernoulli"}),
    "labels": ("label ~ center(x) + poly(x, 2):t + (x | g)", {"family": "bernoulli"}),
    "truth values": ("flag ~ C(x) + (1 | g)", {"family": "bernoulli", "link": "probit"}),
    "binomial": ("wins / trials ~ x + (1 | g)", {"family": "binomial"}),
    "poisson": ("count ~ x + offset(log(hours)) + (1 | g)", {"family": "poisson"}),
    "two factors": ("count ~ t + (1 | g) + (1 | h)", {"family": "poisson"}),
    "weights": ("count ~ x + (1 | g)", {"family": "negbinomial", "weights": "w"}),
    "ordinal": ("rating ~ x + (1 | g)", {"family": "ordinal"}),
}


def lazy(frame=ROWS):
    return pl.from_pandas(frame).lazy()


def densities(design):
    """At some random points, and of the levels there."""
    p, columns = design.observations.X.shape[1], sum(len(g.terms) for g in design.groups)
    model = QuadratureModel.from_design(
        design, Coordinates.from_design(design), BetaPrior.flat(p), np.zeros(columns)
    )
    rng, family = np.random.default_rng(0), design.family
    size = family.n_categories - 1 if family.has_thresholds else len(family.parameters)
    par = np.sort(rng.gamma(3.0, size=(3, size)), axis=1)
    theta = FamilyTheta(np.ones(3), 0.5 * np.tile(np.eye(columns), (3, 1, 1)), par)
    point = model.point(rng.normal(size=(3, model.n_gamma)) * 0.3, theta)
    levels = model.log_density_of_levels(point, design.groups[0].grouping)
    return np.concatenate([[model.log_density_of_points(point)], levels])


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "labels")) for n in MODELS]
)
def test_counts_give_the_densities_of_rows(name):
    formula, given = MODELS[name]
    found, expected = (hp.Model(formula, data, **given) for data in (lazy(), ROWS))
    one, other = found.design, expected.design
    assert len(one.observations.y) < one.n == other.n == N
    assert one.terms == other.terms
    assert repr(found.priors) == repr(expected.priors)
    assert list(map(str, found.notices)) == list(map(str, expected.notices))
    np.testing.assert_array_equal(one.groupings["g"].n_rows, other.groupings["g"].n_rows)
    np.testing.assert_allclose(densities(one), densities(other), rtol=1e-12, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bernoulli", "poisson", "ordinal"])
def test_likelihood_and_its_answers(name):
    formula, given = MODELS[name]
    one, other = (hp.Model(formula, data, **given).ml() for data in (lazy(), ROWS))
    np.testing.assert_allclose(one.loglik, other.loglik, rtol=1e-12)
    for ask in (
        lambda fit: fit.fixed_effects(),
        lambda fit: fit.random_effects(),
        lambda fit: fit.variance_components(),
        lambda fit: fit.r2(),
        lambda fit: hp.shrinkage(fit),
        lambda fit: hp.term_effects(fit),
        lambda fit: fit.predict(ROWS.head()),
    ):
        found, expected = (ask(fit).select_dtypes("number").to_numpy(float) for fit in (one, other))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_posterior_and_its_scores_are_those_of_rows(tmp_path):
    formula, given = MODELS["bernoulli"]
    counted = hp.collect(formula, lazy(), **given)
    counted.save(tmp_path / "m.npz")
    settings = {"seed": 1, "progress": False, "cores": 1}
    one = hp.Model(hp.load_moments(tmp_path / "m.npz")).fit(**settings)
    other = hp.Model(formula, ROWS, **given).fit(**settings)
    sd = other.draws["posterior"]["beta"].std(("chain", "draw"))
    off = (one.draws["posterior"]["beta"] - other.draws["posterior"]["beta"]) / sd
    assert float(abs(off).max()) < 1e-5
    for by in ("row", "g"):
        np.testing.assert_allclose(one.loo(by=by).elpd, other.loo(by=by).elpd, atol=1e-3)
        np.testing.assert_allclose(one.loo(by=by).se, other.loo(by=by).se, rtol=1e-5)
    simpler = hp.Model("yes ~ t + (1 | g)", counted).fit(**settings)
    assert len(hp.compare({"both": one, "one": simpler})) == 2


def test_counts_are_added_saved_and_read(tmp_path):
    family = hp.families.Bernoulli(event="lost")
    formula, half = "label ~ x + (1 | g)", N // 2
    first = hp.collect(formula, lazy(ROWS[:half]), family=family)
    both = first + hp.collect(formula, lazy(ROWS[half:]), family=family, like=first)
    assert "family  bernoulli; counts of rows that are alike" in repr(both)
    both.save(tmp_path / "m.npz")
    again = hp.load_moments(tmp_path / "m.npz")
    assert again.spec == both.spec
    designs = [hp.Model(m).design for m in (both, again)] + [
        hp.Model(formula, ROWS, family=family).design
    ]
    found = [densities(design) for design in designs]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], found[2], rtol=1e-12)


def test_rows_that_differ_are_refused_before_they_are_counted(monkeypatch):
    monkeypatch.setattr("hierpool.tables.collect.FEW_ROWS", 1000)
    monkeypatch.setattr("hierpool.tables.collect.Question.cells", None)
    rows = ROWS.assign(x=np.random.default_rng(0).normal(size=N))
    with pytest.raises(DataError, match=r"1,200 of 1,200 rows differ in 'g', 'yes', 'x'") as e:
        hp.Model("yes ~ x + (1 | g)", lazy(rows), family="bernoulli")
    assert e.value.code == "too-many-cells"
