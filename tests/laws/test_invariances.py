"""What must not matter does not: order, names, units, zero points, kinds of table, threads, files.

One table of 46 rows is told in many ways. Each ``Telling`` says how the rows are written and what
that does to the scale of the answers: REML, ML, posterior (to its Monte Carlo
error), leave-one-out, shrinkage and
predictions are those of the plain table, on that scale. The numbers stand on a grid of 2^-10, so
that adding 1e9 to a column is exact, and what is tested is the algebra.
"""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import hierpool as hp

FORMULA = "y ~ x + c + (x | g)"
LABELS = {f"g{i}": label for i, label in enumerate("zyxwvutsrq")}
CLOSE = 1e-6  # of sd(y): optima, found to the tolerance of the optimiser
DRAWN_AGAIN = 0.02  # where rounding leads the adaptation another way, draws are others
EVIDENCE = 0.1  # also the prior of contrasts, which depends a little on the reference


@cache
def plain() -> pd.DataFrame:
    """Ten groups of three to seven rows, three categories, weights."""
    rng = np.random.default_rng(11)
    sizes = [4, 6, 5, 7, 3, 6, 4, 5, 3, 3]
    code = np.repeat(np.arange(10), sizes)
    n = len(code)
    x = rng.normal(3, 2, n)
    c = np.array(["a", "b", "c"])[rng.integers(0, 3, n)]
    intercepts, slopes = rng.normal(0, 3, 10), rng.normal(0, 1.5, 10)
    y = 10 + 0.7 * x + (c == "b") + intercepts[code] + slopes[code] * x + rng.normal(0, 1, n)
    return pd.DataFrame(
        {
            "y": np.round(y * 1024) / 1024,
            "x": np.round(x * 1024) / 1024,
            "c": c,
            "g": [f"g{i}" for i in code],
            "w": np.round(rng.uniform(0.5, 2, n) * 16) / 16,
        }
    )


def shuffled(table: pd.DataFrame) -> pd.DataFrame:
    return table.sample(frac=1, random_state=5)


def relabelled(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(g=table["g"].map(LABELS))


def last_first(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(c=pd.Categorical(table["c"], ["c", "b", "a"]))


def with_unused(table: pd.DataFrame) -> pd.DataFrame:
    levels = ["nobody", *sorted(set(plain()["g"])), "none"]
    return table.assign(g=pd.Categorical(table["g"], levels))


def numbered(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(g=table["g"].str[1:].astype(int) + 308)


def times(column: str, factor: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table.assign(**{column: table[column] * factor})


def plus(column: str, zero: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table.assign(**{column: table[column] + zero})


@dataclass(frozen=True)
class Telling:
    """The plain table written in another way, and what that does to the answers."""

    write: Callable[[pd.DataFrame], Any]
    scale: float = 1.0  # of the response
    zero: float = 0.0  # of the response
    unit: float = 1.0  # of x: the criterion of REML has log |X'X|
    moved: bool = False  # the zero of x, and with it what an intercept is
    labels: Mapping[str, Any] = field(default_factory=dict)

    def model(self) -> hp.Model:
        return hp.Model(FORMULA, self.write(plain()), weights="w")

    def on_plain_scale(self, values: Any) -> np.ndarray:
        return (np.asarray(values, dtype=float) - self.zero) / self.scale

    def rows(self) -> pd.Index:
        """Rows of the plain table, in the order in which they stand here."""
        return self.write(plain()).index if self.write is shuffled else plain().index


TELLINGS = {
    "rows in another order": Telling(shuffled),
    "other labels of groups": Telling(relabelled, labels=LABELS),
    "groups as numbers": Telling(numbered, labels={f"g{i}": 308 + i for i in range(10)}),
    "another reference level": Telling(last_first),
    "levels without rows": Telling(with_unused),
    "response in units of 1e-9": Telling(times("y", 1e9), scale=1e9),
    "response in units of 1e9": Telling(times("y", 1e-9), scale=1e-9),
    "response with the opposite sign": Telling(times("y", -1.0), scale=-1.0),
    "response from another zero": Telling(plus("y", 1e9), zero=1e9),
    "predictor in units of 1e-9": Telling(times("x", 1e9), unit=1e9),
    "predictor in units of 1e9": Telling(times("x", 1e-9), unit=1e-9),
    "predictor with the opposite sign": Telling(times("x", -1.0)),
    "predictor from another zero": Telling(plus("x", 1e9), moved=True),
    "weights times a thousand": Telling(times("w", 1000.0)),
    "weights in units of 1e9": Telling(times("w", 1e-9)),
    "polars": Telling(pl.from_pandas),
    "arrow": Telling(pa.Table.from_pandas),
    "a view of other columns": Telling(lambda t: t[["w", "g", "c", "x", "y"]]),
    "32-bit floats": Telling(lambda t: t.astype({"y": "float32", "x": "float32"})),
    "numbers of pandas that can be missing": Telling(
        lambda t: t.convert_dtypes(dtype_backend="numpy_nullable")
    ),
    "pandas on arrow": Telling(lambda t: t.convert_dtypes(dtype_backend="pyarrow")),
    "categories": Telling(lambda t: t.astype({"c": "category", "g": "category"})),
    "another index": Telling(lambda t: t.set_index(np.arange(len(t)) % 7)),
}
QUICK = {"rows in another order", "response from another zero", "predictor from another zero"}
WRITTEN = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in TELLINGS
]


def drawn(model: hp.Model) -> hp.PosteriorFit:
    return model.fit(engine="exact", draws=1000, seed=2, progress=False)


@cache
def reference(method: str) -> Any:
    """Fit of the plain table."""
    model = hp.Model(FORMULA, plain(), weights="w")
    return drawn(model) if method == "posterior" else getattr(model, method)()


def same_predictions(fit: Any, wanted: Any, telling: Telling, within: float) -> None:
    """Fitted values, and predictions of rows read anew with their spread."""
    close = {"rtol": 0, "atol": within * plain()["y"].std()}
    due = wanted.fitted().loc[telling.rows()]
    np.testing.assert_allclose(telling.on_plain_scale(fit.fitted()), due, **close)
    got = fit.predict(telling.write(plain()))
    due = wanted.predict(plain()).loc[telling.rows()]
    centre, spread = ("mean", "sd") if "sd" in due else ("estimate", "se")
    np.testing.assert_allclose(telling.on_plain_scale(got[centre]), due[centre], **close)
    np.testing.assert_allclose(got[spread] / abs(telling.scale), due[spread], **close)


def same_shrinkage(fit: Any, wanted: Any, telling: Telling, within: float) -> None:
    """Weight of the population in the coefficients of each group."""
    got, due = hp.shrinkage(fit)["pooling_factor"], hp.shrinkage(wanted)["pooling_factor"]
    terms = ["x"] if telling.moved else ["Intercept", "x"]
    for level in plain()["g"].unique():
        written = telling.labels.get(level, level)
        for term in terms:
            assert got["g", written, term] == pytest.approx(due["g", level, term], abs=within)


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("name", WRITTEN)
def test_an_optimum_does_not_depend_on_how_the_table_is_written(name, method):
    telling, wanted = TELLINGS[name], reference(method)
    fit = getattr(telling.model(), method)()
    assert fit.status == wanted.status
    n, p = len(plain()), 4
    rows, unit = (n, 0.0) if method == "ml" else (n - p, np.log(telling.unit))
    due = wanted.loglik - rows * np.log(abs(telling.scale)) - unit
    assert fit.loglik == pytest.approx(due, abs=1e-6)
    same_predictions(fit, wanted, telling, CLOSE)
    same_shrinkage(fit, wanted, telling, 10 * CLOSE)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_posterior_does_not_depend_on_how_the_table_is_written(name):
    telling, wanted = TELLINGS[name], reference("posterior")
    fit = drawn(telling.model())
    evidence = wanted.log_marginal_likelihood[0] - len(plain()) * np.log(abs(telling.scale))
    assert fit.log_marginal_likelihood[0] == pytest.approx(evidence, abs=EVIDENCE)
    same_predictions(fit, wanted, telling, DRAWN_AGAIN)
    same_shrinkage(fit, wanted, telling, DRAWN_AGAIN)
    score, due = fit.loo(), wanted.loo()
    rows = np.argsort(telling.rows())
    found = np.asarray(score.elpd_i)[rows] + np.log(abs(telling.scale))
    k = np.maximum(np.asarray(score.pareto_k)[rows], np.asarray(due.pareto_k))
    # The outlying row has k = .67 and a Monte Carlo error of .06 at these draws: -6.74 and -6.61 in
    # two tellings, -6.65 to -6.69 in both with twenty times the draws, -6.66 without the row.
    assert (np.abs(found - np.asarray(due.elpd_i)) < EVIDENCE * np.where(k > 0.4, 2, 1)).all()


@pytest.mark.parametrize("method", ["reml", "ml", "posterior"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda fit: pickle.loads(pickle.dumps(fit))])
def test_a_copy_of_a_fit_answers_as_the_fit(method, copied):
    fit = reference(method)
    again = copied(fit)
    assert repr(again) == repr(fit)
    pd.testing.assert_frame_equal(again.predict(plain()), fit.predict(plain()))
    pd.testing.assert_frame_equal(hp.shrinkage(again), hp.shrinkage(fit))
    assert [str(f) for f in hp.check(again)] == [str(f) for f in hp.check(fit)]


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_a_loaded_fit_answers_as_the_one_that_was_saved(tmp_path, suffix):
    fit = reference("posterior")
    fit.save(tmp_path / f"fit.{suffix}")
    again = hp.load_fit(tmp_path / f"fit.{suffix}")
    assert repr(again) == repr(fit)
    pd.testing.assert_frame_equal(again.predict(plain()), fit.predict(plain()))
    pd.testing.assert_frame_equal(again.summary(), fit.summary())
    pd.testing.assert_frame_equal(hp.shrinkage(again), hp.shrinkage(fit))
    np.testing.assert_allclose(again.loo().elpd_i, fit.loo().elpd_i, rtol=1e-12)


def test_a_model_of_a_pickled_table_and_a_pickled_model_are_one():
    model = hp.Model(FORMULA, pickle.loads(pickle.dumps(plain())), weights="w")
    again = pickle.loads(pickle.dumps(model))
    assert repr(again) == repr(model)
    assert again.reml().loglik == reference("reml").loglik


@pytest.mark.slow
def test_a_pickled_study_says_the_same():
    study = hp.study("y ~ x + c", plain(), "g", seed=1, draws=100, progress=False)
    again = pickle.loads(pickle.dumps(study))
    assert repr(again) == repr(study)
    for name, table in study.tables().items():
        pd.testing.assert_frame_equal(again.tables()[name], table)


@pytest.mark.parametrize("n", [1, 3])
def test_the_number_of_threads_changes_nothing(monkeypatch, n):
    wanted = reference("posterior")
    monkeypatch.setattr(os, "cpu_count", lambda: n)
    fit = drawn(hp.Model(FORMULA, plain(), weights="w"))
    pd.testing.assert_frame_equal(fit.summary(), wanted.summary())
    np.testing.assert_array_equal(fit.loo().elpd_i, wanted.loo().elpd_i)
