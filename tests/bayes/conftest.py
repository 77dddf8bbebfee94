"""Small designs made by hand: the engines are tested without the way from a table to a design."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hierpool.core.coding import Coding, stable_mean
from hierpool.core.design import Design, Observations
from hierpool.core.residual import Residual
from hierpool.core.schema import Block, FactorLevels, GroupSchema, ResponseScale, Schema
from hierpool.core.spec import Covariance, GroupTerm, Spec

DesignMaker = Callable[..., Design]


@pytest.fixture(scope="session")
def make_design() -> DesignMaker:
    """Factory of designs: see ``_make``."""
    return _make


def _make(
    columns: Sequence[str] = ("1", "x"),
    varying: Sequence[tuple[Sequence[str], Covariance]] = (),
    *,
    n_levels: int = 5,
    n_rows: int = 40,
    response_shift: float = 10.0,
    predictor_shift: float = 3.0,
    levels: Sequence[Any] | None = None,
    seed: int = 7,
) -> Design:
    """Unbalanced rows of a response that depends on x and differs between levels.

    Columns are ``1``, ``x``, ``w``, ``v`` (shifted predictors), ``k`` (constant within levels),
    ``a``, ``b``, ``c`` (dummies that sum to 1). ``varying`` holds one (columns, covariance) a
    block of the factor "boar".
    """
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(n_levels), rng.integers(0, n_levels, n_rows - n_levels)])
    table = _columns(rng, codes, predictor_shift)
    slope = rng.normal(2.0, 0.5, n_levels)[codes] * (table["x"] - predictor_shift)
    y = response_shift + rng.normal(0, 2.0, n_levels)[codes] + slope + rng.normal(0, 1.0, n_rows)
    labels = pd.Index(levels or [f"b{j}" for j in range(n_levels)])
    boars = FactorLevels("boar", labels, np.bincount(codes, minlength=n_levels))
    terms, start, blocks = [], 0, []
    for names, covariance in varying:
        blocks.append(Block(start, start + len(names), covariance))
        terms, start = [*terms, *names], start + len(names)
    groups, varied = (), {}
    if blocks:
        population = np.array([list(columns).index(t) if t in columns else -1 for t in terms])
        Z = np.column_stack([table[t] for t in terms])
        varied = {"boar": Z}
        made = GroupSchema.from_columns(boars, tuple(terms), tuple(blocks), population, Z)
        groups = (made,)
    bars = tuple(GroupTerm(" + ".join(names), "boar", cov) for names, cov in varying)
    X = np.column_stack([np.zeros((n_rows, 0)), *(table[t] for t in columns)])
    schema = Schema(
        spec=Spec(f"y ~ {' + '.join(columns)}", "y", " + ".join(columns), bars),
        n=n_rows,
        terms=tuple(columns),
        groups=groups,
        groupings={"boar": boars},
        coding=Coding.from_columns(X),
        column_means=stable_mean(X),
        response_scale=ResponseScale.from_response(y, Residual()),
        predictors=tuple(t for t in columns if t != "1"),
    )
    frame = pd.DataFrame({"y": y, **table})
    return Design(schema, Observations(y, X, varied, {"boar": codes}, frame.index, frame))


def _columns(rng: np.random.Generator, codes: np.ndarray, shift: float) -> dict[str, np.ndarray]:
    n = len(codes)
    kind = np.arange(n) % 3
    return {
        "1": np.ones(n),
        "x": shift + rng.normal(0, 1.5, n),
        "w": shift + rng.normal(0, 0.2, n),
        "v": rng.normal(0, 30.0, n),
        "k": 4.0 + rng.normal(0, 1, codes.max() + 1)[codes],
        "a": (kind == 0).astype(float),
        "b": (kind == 1).astype(float),
        "c": (kind == 2).astype(float),
    }
