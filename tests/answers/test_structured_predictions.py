"""New observations of known groups borrow from the residuals observed beside them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import DataError
from tests.laws.dense import wide
from tests.laws.test_residual_structures import correlation, table


def split() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of a fit, and the later ones of three of its groups."""
    data = table().sort_values(["pig", "time"]).reset_index(drop=True)
    later = (data["time"] >= 3) & (data["pig"] < 3)
    return data[~later], data[later]


def dense(fit, new: pd.DataFrame, whole: hp.Model) -> tuple[np.ndarray, np.ndarray]:
    """Estimates and prediction variances by one dense generalised least squares."""
    seen, design = fit.design, whole.design
    s, e = design.residual.structure, fit.estimate
    phi = e.residual_parameters
    sd = e.sigma * np.exp(s.log_sds(phi[None])[0])[s.classes] * design.residual.known_sd
    V = np.outer(sd, sd) * correlation(s, phi)
    if design.groups:
        g = design.groups[0]
        root = np.linalg.cholesky(e.factors[0].corr * np.outer(e.factors[0].sd, e.factors[0].sd))
        Z = wide(g.Z @ root, g.codes, g.grouping.n_levels)
        V = V + Z @ Z.T
    is_new = np.isin(np.arange(design.n), design.rows.get_indexer(new.index))
    o, w = np.flatnonzero(~is_new), np.flatnonzero(is_new)
    X, inverse = design.X, np.linalg.inv(V[np.ix_(o, o)])
    cov = np.linalg.inv(X[o].T @ inverse @ X[o])
    beta = cov @ X[o].T @ inverse @ seen.y
    gain = V[np.ix_(w, o)] @ inverse
    mean = X[w] @ beta + gain @ (seen.y - X[o] @ beta)
    D = X[w] - gain @ X[o]
    return mean, np.diag(V[np.ix_(w, w)] - gain @ V[np.ix_(o, w)] + D @ cov @ D.T)


@pytest.mark.parametrize(
    ("formula", "how"),
    [
        ("y ~ time + diet + (1 | pig)", {"residual": "ar1(time | pig)"}),
        pytest.param(
            *("y ~ time", {"residual": "toep(time | pig)", "weights": "w"}), marks=pytest.mark.slow
        ),
        pytest.param(
            *("y ~ time", {"residual": "csh(time | pig, by=diet)"}), marks=pytest.mark.slow
        ),
        ("y ~ time + (1 | pig)", {"sigma": "~ diet"}),
    ],
)
def test_predictions_are_those_of_the_dense_model(formula: str, how: dict) -> None:
    data, new = split()
    fit = hp.Model(formula, data, **how).reml()
    whole = hp.Model(formula, pd.concat([data, new]), **how)
    found = fit.predict(new, kind="response")
    mean, variance = dense(fit, new, whole)
    np.testing.assert_allclose(found["estimate"], mean, rtol=1e-8)
    np.testing.assert_allclose(found["se"], np.sqrt(variance), rtol=1e-8)


@pytest.mark.slow
def test_draws_of_known_groups_borrow_and_those_of_new_ones_do_not() -> None:
    data, new = split()
    model = hp.Model("y ~ time + diet + (1 | pig)", data, residual="ar1(time | pig)")
    fit, optimum = model.fit(seed=1), model.reml()
    table = fit.predict(new, kind="response")
    plain = optimum.predict(new, kind="response")
    assert (np.abs(table["mean"] - plain["estimate"]) < 0.5 * plain["se"]).all()
    assert (np.abs(table["sd"] / plain["se"] - 1) < 0.3).all()
    other = fit.predict(new.assign(pig=90 + new["pig"]), kind="response", groups="allow new")
    expected = fit.predict(new.assign(pig=90 + new["pig"]), groups="allow new")
    np.testing.assert_allclose(other["mean"], expected["mean"])
    drawn = fit.predict_draws(
        new.assign(pig=90 + new["pig"]), kind="response", groups="new"
    ).to_numpy()
    drawn = drawn.reshape(-1, len(new))[:, :2]
    assert np.corrcoef(drawn.T)[0, 1] > 0.2  # rows of one new group


def test_rows_that_have_been_observed_are_refused() -> None:
    data, new = split()
    fit = hp.Model("y ~ time", data, residual="toep(time | pig)").reml()
    with pytest.raises(DataError) as caught:
        fit.predict(data.head(3), kind="response")
    assert caught.value.code == "observed-time"
    with pytest.raises(DataError) as caught:
        fit.predict(new.assign(time=9), kind="response")
    assert caught.value.code == "unknown-occasion"
    assert np.isfinite(fit.predict(kind="response")["se"]).all()
