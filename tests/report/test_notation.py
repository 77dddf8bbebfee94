"""The equations of a model say which coefficients are common, which vary, and how."""

from __future__ import annotations

import re

import numpy as np
import pytest

import hierpool as hp
from hierpool.report.notation import equations

SLEEP = hp.datasets.load("sleepstudy").rename(
    columns={"Reaction": "y", "Days": "x", "Subject": "g"}
)


def plain(model: hp.Model) -> list[str]:
    """Equations without their markup."""
    return [re.sub(r"<[^>]+>", "", str(line.html)) for line in equations(model.design.schema)]


LADDER = {
    "complete_pooling": ["yij = β0 + β1 xij + εij", "εij ∼ N(0, σ2)"],
    "varying_intercept": ["yij = β0 + β1 xij + u0j + εij", "u0j ∼ N(0, τ02)", "εij ∼ N(0, σ2)"],
    "varying_slope_only": [
        "yij = β0 + β1 xij + u0j xij + εij",
        "u0j ∼ N(0, τ02)",
        "εij ∼ N(0, σ2)",
    ],
    "varying_slope_uncorrelated": [
        "yij = β0 + β1 xij + u0j + u1j xij + εij",
        "u0j ∼ N(0, τ02)",
        "u1j ∼ N(0, τ12)",
        "εij ∼ N(0, σ2)",
    ],
    "varying_slope": [
        "yij = β0 + β1 xij + u0j + u1j xij + εij",
        "(u0j, u1j) ∼ N(0, Σ), standard deviations τ0, τ1, correlation ρ01",
        "εij ∼ N(0, σ2)",
    ],
    "no_pooling": [
        "yij = α0j + α1j xij + εij",
        "α0j, α1j with wide normal priors, independent of each other",
        "εij ∼ N(0, σ2)",
    ],
}


@pytest.fixture(scope="module")
def ladder():
    return hp.pooling_ladder("y ~ x", SLEEP, group="g")


@pytest.mark.parametrize("rung", LADDER)
def test_equations_of_every_rung(rung, ladder):
    assert [line.replace("\u2009", " ") for line in plain(ladder[rung])] == LADDER[rung]


def test_latex_says_the_same(ladder):
    rows, levels, residual = (
        line.latex for line in equations(ladder["varying_slope"].design.schema)
    )
    assert rows == (
        r"\text{y}_{ij} = \beta_{0} + \beta_{1}\,\text{x}_{ij} + u_{0j} + u_{1j}\,\text{x}_{ij} + "
        r"\varepsilon_{ij}"
    )
    assert levels.startswith(r"(u_{0j}, u_{1j}) \sim \mathcal{N}(0, \Sigma)")
    assert residual == r"\varepsilon_{ij} \sim \mathcal{N}(0, \sigma^{2})"


def test_weights_and_known_errors_stand_in_the_residual_variance():
    data = SLEEP.assign(w=1.0 + SLEEP["x"], se=2.0)
    weighted = plain(hp.varying_intercept("y ~ x", data, "g", weights="w"))
    assert weighted[-1] == "εij ∼ N(0, σ2 / wij)"
    known = plain(hp.varying_intercept("y ~ x", data, "g", known_se="se"))
    assert known[-1] == "εij ∼ N(0, seij2)"


def test_long_sums_are_shortened_and_keep_their_ends():
    data = SLEEP.assign(**{f"v{k}": np.sin(SLEEP["x"] * k) + SLEEP.index % k for k in range(2, 10)})
    right = " + ".join(f"v{k}" for k in range(2, 10))
    first = plain(hp.varying_intercept(f"y ~ x + {right}", data, "g"))[0]
    assert "β0 + β1" in first
    assert "…" in first
    assert first.endswith("v9ij + u0j + εij")


def test_names_are_escaped_in_both_spellings():
    data = SLEEP.rename(columns={"x": "<i>a_b</i>"})
    first = equations(hp.varying_intercept("y ~ `<i>a_b</i>`", data, "g").design.schema)[0]
    assert "&lt;i&gt;a_b&lt;/i&gt;" in first.html
    assert r"a\_b" in first.latex
