"""Answers of maximum likelihood for a family: emmeans' numbers for cbpp, ``tests/reference/emmeans``."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from tests.answers.effects import REFERENCE

NUMBERS = json.loads((REFERENCE / "families.json").read_text(encoding="utf-8"))
P = {"prob": 0.95}
TOLERANCE = 1e-3  # glmer's optimum; standard errors by differences


@pytest.fixture(scope="module")
def herds() -> hp.LikelihoodFit:
    data = pd.read_csv(REFERENCE / "cbpp.csv")
    return hp.Model("incidence / size ~ C(period) + (1 | herd)", data, family="binomial").ml()


def agrees(table: pd.DataFrame, name: str, value: str) -> None:
    """Hold estimate, se, interval and statistic to the reference."""
    want = pd.DataFrame(NUMBERS[name])
    low, high = [c for c in table if c.endswith(("_lb", "_ub"))]
    pairs = {"estimate": value, "se": "SE", low: "asymp.LCL", high: "asymp.UCL", "t": "z.ratio"}
    for own, other in pairs.items():
        np.testing.assert_allclose(table[own], want[other], rtol=TOLERANCE, err_msg=own)


def test_probabilities_of_an_average_herd(herds):
    agrees(hp.marginal_means(herds, "period", groups="average", **P), "average", "prob")


def test_odds_ratios_adjusted_by_tukey(herds):
    agrees(hp.contrast(herds, "period", compare="odds ratio", **P), "odds", "odds.ratio")


def test_risk_differences_of_an_average_herd(herds):
    table = hp.contrast(herds, "period", method="reference", groups="average", adjust="none", **P)
    agrees(table, "differences", "estimate")


def test_probabilities_of_a_new_herd_are_integrals(herds):
    table = hp.marginal_means(herds, "period", **P)
    np.testing.assert_allclose(table["estimate"], NUMBERS["new"], rtol=TOLERANCE)
    new = herds.predict(pd.DataFrame({"period": [1, 2, 3, 4]}), groups="new")
    np.testing.assert_allclose(new["estimate"], NUMBERS["new"], rtol=TOLERANCE)


@pytest.mark.parametrize("scale", ["response", "linear"])
def test_a_table_of_one_herd_is_what_predict_gives(herds, scale):
    """Two ways to one number, standard errors and intervals too."""
    table = hp.marginal_means(herds, "period", groups={"herd": 3}, scale=scale, **P)
    rows = pd.DataFrame({"herd": 3, "period": [1, 2, 3, 4]})
    known = herds.predict(rows, scale=scale, **P)
    names = ["estimate", "se", *known.columns[2:]]
    np.testing.assert_allclose(table[names], known[names], rtol=1e-6)
    assert table.attrs["df_method"] == "normal"
