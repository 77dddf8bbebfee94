"""An unstructured covariance of too few groups: its likelihood grows without bound, and that is said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import linalg

import hierpool as hp
from hierpool.core.errors import DataError
from tests.laws.dense import normal_log_density, restricted_log_density
from tests.support.cases import each


def visits(n: int, T: int, missing: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    L = np.linalg.cholesky(0.5 ** np.abs(np.subtract.outer(np.arange(T), np.arange(T))))
    y = rng.standard_normal((n, T)) @ L.T + 0.5 * rng.normal(size=(n, 1))
    data = pd.DataFrame(
        {"y": y.ravel(), "visit": np.tile(np.arange(T), n), "pig": np.repeat(np.arange(n), T)}
    )
    data["day"] = "d" + data["visit"].astype(str)
    data["arm"] = np.where(data["pig"] < n // 2, "a", "b")
    return data[rng.random(len(data)) >= missing]


# fixed effects, pigs, visits, whether a combination of visits can be fitted exactly
CASES = [
    ("1", 4, 5, True),
    ("1", 5, 5, True),  # five equations for a combination, and the mean: one more than rows
    ("1", 6, 5, False),
    ("day", 5, 5, True),
    ("day", 6, 5, False),
    ("day * arm", 6, 5, True),
    ("day * arm", 7, 5, False),
    ("0 + visit", 5, 5, True),  # a multiple of one column in each combination
    ("0 + visit", 6, 5, False),
]


@each("right, n, T, is_free", CASES)
def test_what_has_no_maximum_is_refused_at_once_and_nothing_else(
    right: str, n: int, T: int, is_free: bool
) -> None:
    model = hp.Model(f"y ~ {right}", visits(n, T), residual="us(visit | pig)")
    if not is_free:
        assert model.reml().status.word == "converged"
        return
    for fit in (model.reml, model.ml):
        with pytest.raises(DataError, match=r"there are . pigs.*no maximum. Use toeph") as error:
            fit()
        assert error.value.code == "us-too-many"
    # the judge: a direction of small variance, and the density with every matrix written out
    X, Y = model.design.X, model.design.y.reshape(n, T)
    arms = (np.arange(n) >= n // 2)[:, None]
    of_groups = np.hstack([np.ones((n, 1)), *([arms] if "arm" in right else [])])
    c = linalg.null_space(np.hstack([Y, -of_groups]))[:T].sum(axis=1)
    c /= np.linalg.norm(c)
    found = []
    for v in (1e-3, 1e-5, 1e-7):
        V = np.kron(np.eye(n), np.eye(T) - (1 - v) * np.outer(c, c))
        beta = np.linalg.lstsq(
            np.linalg.cholesky(np.linalg.inv(V)).T @ X,
            np.linalg.cholesky(np.linalg.inv(V)).T @ Y.ravel(),
        )[0]
        ml = normal_log_density(Y.ravel(), X @ beta, V)
        found.append((restricted_log_density(Y.ravel(), X, V), ml))
    steps = np.diff(found, axis=0)
    assert (steps > 0.9 * np.log(100) / 2).all()  # as of one group at least


def test_classes_of_pigs_are_judged_one_by_one() -> None:
    data = visits(13, 5)
    data["arm"] = np.where(data["pig"] < 4, "few", "many")
    with pytest.raises(DataError, match="there are 4 pigs with arm few"):
        hp.Model("y ~ 1", data, residual="us(visit | pig, by=arm)").reml()


def test_a_search_that_runs_away_is_ended() -> None:
    model = hp.Model("y ~ 1", visits(8, 6, missing=0.1), residual="us(visit | pig)")
    status = model.reml().status
    assert status.word == "failed"
    assert "grows without bound as correlations of the residuals go to 1" in status.sentence
