"""Variances that rows cannot tell apart are found from the design alone, and no others."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import linalg

import hierpool as hp
from hierpool.algebra.identified import Variances, _columns, not_identified_text
from hierpool.core.design import Design
from tests.support.cases import each
from tests.support.tables import lines


def few_rows(n: int, J: int = 12, x: np.ndarray | None = None, seed: int = 1) -> pd.DataFrame:
    """J groups of n rows each with a line of its own; x is 0, 1, ... in each unless given."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(J), n)
    data = lines(rng, g, np.tile(np.arange(float(n)), J) if x is None else x)
    w, f = rng.uniform(0.5, 2, len(g)), np.tile(list("abcde")[:n], J)
    return data.assign(h=g // 2, f=f, e=f, w=w)


def dense(design: Design) -> tuple[np.ndarray, np.ndarray]:
    """Inner products of the same matrices, written out."""
    n = design.n
    sd = np.broadcast_to(design.residual.relative_sd, (n,))[:, None]
    unit = np.sqrt(np.mean(1 / sd**2))
    Q = linalg.orth(design.X / sd)
    P, every = np.eye(n) - Q @ Q.T, []
    for group in design.groups:
        same = group.grouping.codes[:, None] == group.grouping.codes
        Z = _columns(group) / sd / unit
        for block in group.blocks:
            for a in range(block.start, block.stop):
                for b in range(block.start if block.covariance.word == "correlated" else a, a + 1):
                    M = np.outer(Z[:, a], Z[:, b]) * same
                    every.append(M if a == b else M + M.T)
    every += [np.eye(n)] if design.residual.has_sigma else []
    whole = [[np.trace(A @ B) for A in every] for B in every]
    return np.array(whole), np.array([[np.trace(P @ A @ P @ B) for A in every] for B in every])


@pytest.mark.parametrize(
    ("formula", "given"),
    [
        ("y ~ x + (x | g)", {}),
        ("y ~ f + (x || g)", {"weights": "w"}),
        ("y ~ x + (x | g)", {"known_se": "w"}),
        ("y ~ x + (x | h/g)", {"weights": "w"}),
        ("y ~ x + (f | g) + (0 + x | h) + (1 | e)", {}),
    ],
)
def test_inner_products_are_those_of_the_matrices_written_out(formula, given):
    design = hp.Model(formula, few_rows(3), **given).design
    found, (whole, projected) = Variances.of(design), dense(design)
    np.testing.assert_allclose(found.whole, whole, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.projected, projected, rtol=1e-8, atol=1e-8)


UNKNOWN = {
    "lines through two rows": ("y ~ x + (x | g)", 2, "the residual and the variances of g"),
    "curves through three rows": (
        "y ~ x + (x + I(x**2) | g)",
        3,
        "the residual and the variances of g",
    ),
    "every category once": ("y ~ f + (f | g)", 3, "the residual and the variances of g"),
    "every category once, no intercept": (
        "y ~ f + (0 + f | g)",
        3,
        "the residual and the variances",
    ),
    "two ways to say one thing": (
        "y ~ f + (f | h) + (1 | h:f)",
        3,
        "the variances of h and the variance of h:f",
    ),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_cannot_be_told_apart_is_named(case):
    formula, n, what = UNKNOWN[case]
    assert not_identified_text(hp.Model(formula, few_rows(n)).design).startswith(what)


def test_a_variance_that_the_fixed_effects_take_up_is_named():
    text = not_identified_text(
        hp.Model("y ~ k + (1 | g)", few_rows(3).assign(k=lambda t: t["g"])).design
    )
    assert "nothing is left in the rows to estimate the variance of g" in text


RNG = np.random.default_rng(8)
KNOWN = {
    "intercepts of two rows": ("y ~ x + (1 | g)", few_rows(2)),
    "two groups of two rows": ("y ~ 1 + (1 | g)", few_rows(2, 2)),
    "uncorrelated lines through two rows": ("y ~ x + (x || g)", few_rows(2)),
    "lines through two rows at unequal x": ("y ~ x + (x | g)", few_rows(2, x=RNG.normal(size=24))),
    "lines through three rows": ("y ~ x + (x | g)", few_rows(3, 3)),
    "lines far from zero": ("y ~ x + (x | g)", few_rows(3).assign(x=lambda t: t["x"] + 1e8)),
    "one group with a row more": (
        "y ~ x + (x | g)",
        pd.concat([few_rows(2), pd.DataFrame({"g": ["g000"], "x": [0.5], "y": [1.0]})]),
    ),
    "nested": ("y ~ x + (1 | h/g)", few_rows(2)),
    "a factor that is nearly another": (
        "y ~ x + (1 | g) + (1 | b)",
        few_rows(3).assign(b=lambda t: t["g"].where(t.index > 0, "g001")),
    ),
}


@each("case", KNOWN)
def test_small_designs_that_are_identified_are_left_in_peace(case):
    formula, data = KNOWN[case]
    assert not_identified_text(hp.Model(formula, data).design) == ""


def test_one_row_a_level_is_identified_where_residual_sds_are_known():
    schools = hp.datasets.load("eight_schools")
    design = hp.Model("effect ~ 1 + (1 | school)", schools, known_se="se").design
    assert not_identified_text(design) == ""


def test_units_and_offsets_of_a_predictor_change_nothing():
    for data in (few_rows(2), few_rows(3)):
        texts = {
            not_identified_text(
                hp.Model("y ~ x + (x | g)", data.assign(x=a + b * data["x"])).design
            )
            for a, b in ((0, 1), (1e6, 1), (0, 1e-9), (-5, 1e9))
        }
        assert len(texts) == 1


def test_the_simpler_model_that_is_named_is_identified():
    data = few_rows(2, 40)
    unknown = hp.Model("y ~ x + (x | g)", data).reml()
    assert "With (1 | g) and no slopes the model is identified" in unknown.status.sentence
    assert hp.Model("y ~ x + (1 | g)", data).reml().status.word in {"converged", "singular"}
    data = few_rows(3)
    twice = not_identified_text(hp.Model("y ~ f + (f | h) + (1 | h:f)", data).design)
    assert "Without (1 | h:f) the model is identified" in twice
    assert not_identified_text(hp.Model("y ~ f + (f | h)", data).design) == ""
