"""Standard errors of predictions by maximum likelihood, held to glmmTMB and emmeans.

References: R 4.2, glmmTMB 1.1.5 (predict with se.fit, Laplace), emmeans 1.8.4 of ordinal's clmm with
nAGQ = 25, on the table that ``simulated`` makes (tests/reml/conftest.py).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp


@pytest.mark.slow
def test_predictions_of_crossed_groups_are_those_of_glmmtmb(simulated: pd.DataFrame) -> None:
    fit = hp.Model("b ~ x + (1 | g) + (1 | h)", simulated, family="bernoulli").ml()
    g, h = ["g00", "g05", "g07"], ["h1", "h2", "h1"]
    rows = pd.DataFrame({"x": [0.0, 1.0, 0.5], "g": g, "h": h})
    known = fit.predict(rows, scale="linear")
    np.testing.assert_allclose(known["estimate"], [0.134632, -0.667911, 0.928895], atol=1e-4)
    np.testing.assert_allclose(known["se"], [0.626846, 0.723904, 0.664623], atol=1e-4)
    response = fit.predict(rows)
    np.testing.assert_allclose(response["se"], [0.156004, 0.162203, 0.134902], atol=1e-4)
    new = fit.predict(rows.head(2).assign(g="new"), scale="linear", groups="allow new")
    np.testing.assert_allclose(new["se"], [0.920692, 0.923515], atol=1e-4)
    ends = 1 / (1 + np.exp(-known[["ci95_lb", "ci95_ub"]]))
    np.testing.assert_allclose(response[["ci95_lb", "ci95_ub"]], ends, atol=1e-6)


def test_means_over_new_groups_are_the_marginal_means(simulated: pd.DataFrame) -> None:
    """Uncertainty of the variance between groups included, by either road."""
    for formula, family in (("c ~ x + (x | g)", "poisson"), ("o ~ x + (1 | g)", "ordinal")):
        fit = hp.Model(formula, simulated, family=family).ml()
        rows = pd.DataFrame({"x": [0.0, 1.0], "g": "new"})
        predicted = fit.predict(rows, groups="allow new")
        means = hp.marginal_means(fit, "x", at={"x": [0, 1]}, adjust="none")
        columns = ["estimate", "se", "ci95_lb", "ci95_ub"]
        np.testing.assert_allclose(predicted[columns], means[columns], rtol=1e-4)
        plain = hp.marginal_means(fit, "x", at={"x": [0, 1]}, groups="average")["se"]
        assert np.isfinite(plain).all()


def test_mean_ratings_of_an_average_group_are_those_of_emmeans(simulated: pd.DataFrame) -> None:
    fit = hp.Model("o ~ x + (1 | g)", simulated, family="ordinal").ml()
    found = hp.marginal_means(fit, "x", at={"x": [0, 1]}, groups="average", adjust="none")
    np.testing.assert_allclose(found["se"], [0.0660, 0.0795], atol=1e-4)
    np.testing.assert_allclose(found["ci95_lb"], [1.85, 2.08], atol=5e-3)
    known = fit.predict(simulated.head(3))
    assert (known["se"] > 0.07).all()


def test_predictions_without_pooling_have_the_errors_of_each_group(simulated: pd.DataFrame) -> None:
    fit = hp.no_pooling("c ~ x", simulated, "g", family="poisson").ml()
    found = fit.predict(pd.DataFrame({"x": [0.0], "g": ["g00"]}), scale="linear")
    own = fit.coefficients().loc[("g", "g00", "Intercept")]
    assert found["estimate"].item() == pytest.approx(own["estimate"])
    assert found["se"].item() == pytest.approx(own["se"])
