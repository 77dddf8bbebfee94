"""Designs made by hand, without the way from a table: rows in working coordinates, whole designs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hierpool.algebra.gaussian import BetaPrior
from hierpool.algebra.moments import Rows
from hierpool.core.coding import Coding, stable_mean
from hierpool.core.covariance import COVARIANCES
from hierpool.core.design import Design, Observations
from hierpool.core.residual import Residual
from hierpool.core.schema import Block, FactorLevels, GroupSchema, ResponseScale, Schema
from hierpool.core.spec import GroupTerm, Spec
from tests.laws.dense import Dense


def _rows(seed: int, sizes: list[int], p: int, q: int, *, grid: bool = False) -> Rows:
    """Rows with a constant in X and Z where they have columns, other columns random or on a grid."""
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    within = np.concatenate([np.arange(k) for k in sizes])
    x = within - 1.5 if grid else rng.normal(size=n)
    columns = np.column_stack([np.ones(n), x, x**2, rng.normal(size=n)])
    y = 3 + 2 * x + rng.normal(size=len(sizes))[codes] + rng.normal(size=n)
    order = rng.permutation(n)  # rows of a level need not stand together
    X = columns[order, :p]
    return Rows(y[order], X, columns[order, :q], codes[order] if q else np.zeros(n, np.intp))


def _own_with_common_columns() -> Rows:
    rows = _rows(7, [5, 4, 6, 5], 4, 2)
    return Rows(rows.y, rows.X[:, 2:], rows.Z, rows.codes)


DESIGNS: dict[str, Rows] = {
    "balanced_intercepts": _rows(1, [4] * 6, 2, 1, grid=True),
    "balanced_slopes": _rows(2, [4] * 6, 2, 2, grid=True),
    "unbalanced_slopes": _rows(3, [1, 7, 2, 5, 3], 2, 2),
    "some_designs_shared": _rows(4, [4, 3, 4, 3, 4, 2], 3, 2, grid=True),
    "fewer_rows_than_columns": _rows(5, [1, 2, 2, 1, 3, 2, 1], 2, 3),
    "population_richer_than_levels": _rows(6, [3, 4, 5, 3], 4, 1),
    "own_with_common_columns": _own_with_common_columns(),
    "own_alone": _rows(8, [4, 5, 3], 0, 2),
    "no_levels": _rows(9, [12], 3, 0),
    "two_levels": _rows(10, [5, 6], 2, 2),
}


def thetas(q: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """sigma (5,) and Lambda (5, q, q): full, diagonal, of rank one, zero, and large."""
    rng = np.random.default_rng([seed, q])
    full = np.tril(rng.normal(size=(q, q)))
    rank_one = np.outer(rng.normal(size=q), np.eye(q)[0]) if q else full
    diagonal = np.diag(rng.uniform(0.2, 2, q))
    Lambda = np.stack([full, diagonal, rank_one, np.zeros((q, q)), 1e3 * full + np.eye(q)])
    return np.array([0.7, 1.3, 1.0, 0.4, 2.0]), Lambda


def prior(p: int, kind: str) -> BetaPrior:
    """A flat prior of beta, or a proper one with correlated coefficients."""
    if kind == "flat":
        return BetaPrior.flat(p)
    rng = np.random.default_rng(p)
    root = rng.normal(size=(p, p)) + 2 * np.eye(p)
    return BetaPrior(rng.normal(size=p), root @ root.T)


def dense(rows: Rows, sigma: float, Lambda: np.ndarray, beta: BetaPrior) -> Dense:
    """The judge of one design at one theta."""
    n_levels = int(rows.codes.max()) + 1
    Sigma = sigma**2 * Lambda @ Lambda.T
    return Dense(
        rows.y, rows.X, rows.Z, rows.codes, n_levels, sigma, Sigma, beta.mean, beta.precision
    )


def make_design(
    columns: Sequence[str] = ("1", "x"),
    varying: Sequence[tuple[Sequence[str], str]] = (),
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
        blocks.append(Block(start, start + len(names), COVARIANCES[covariance]))
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
