"""Functions of a number that is summed by powers on intervals: as polynomials, what they remember."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from formulaic.transforms.cubic_spline import _get_free_cubic_spline_matrix

from hierpool.core.cells import Cells, Pieces
from hierpool.formula.cell_functions import users_text
from hierpool.formula.function_calls import Factor

_ROUNDING = 1e-8  # of the largest coefficient, below which a power is not there


def polynomials(at: Callable[[float], np.ndarray], pieces: Pieces) -> np.ndarray | None:
    """Coefficients (degree + 1, rows, k) in t of columns at(t), -1 < t < 1; None where they have more."""
    n = pieces.degree + 2
    lost = (
        np.finfo(float).eps * np.abs(pieces.edges).max() / pieces.halves.min()
    )  # of t, by an offset
    nodes = np.cos((2 * np.arange(n) + 1) * np.pi / (2 * n))
    values = np.stack([at(float(t)) for t in nodes])
    flat = np.linalg.solve(np.vander(nodes, increasing=True), values.reshape(n, -1))
    found = flat.reshape(values.shape)
    size = np.maximum(np.abs(found).max(axis=0), np.abs(values).max(axis=0))
    if (np.abs(found[-1]) > (_ROUNDING + 100 * lost) * np.maximum(size, 1e-300)).any():
        return None
    return np.asarray(found[:-1])


def of_intervals(cells: Cells, factors: Iterable[Factor]) -> dict[str, dict[str, Any]]:
    """What functions of numbers in intervals remember of the rows of a table, by their text."""
    found: dict[str, dict[str, Any]] = {}
    for column, pieces in cells.pieces.items():
        gram = _gram(cells, column, pieces)
        own = [f for f in factors if f.columns == (column,) and f.kind == "number"]
        mean = cells.ranges[column].mean
        found[f"center(`{column}`)"] = {"ddof": 1.0, "center": mean, "scale": None}
        for factor in own:
            text = users_text(factor)
            if factor.code.startswith("poly("):
                found[text] = _orthogonal(pieces, gram, factor.width, mean)
            elif cells.learned.get(text, {}).get("constraints") is not None:
                found[text] = _constrained(dict(cells.learned[text]), pieces, gram)
    return found


def _gram(cells: Cells, column: str, pieces: Pieces) -> np.ndarray:
    """Shape (intervals, degree + 1, degree + 1): cross-products of 1, t, t^2, ... of the rows of each."""
    first, d = cells.atoms.index((pieces.atoms(column)[0],)), pieces.degree
    which = [0, *range(first + 1, first + 1 + d)]
    back = np.diag(np.append(1.0, cells.scale[first : first + d]))
    back[1:, 0] = cells.shift[first : first + d]
    place = np.searchsorted(pieces.centres, cells.keys[column].to_numpy(dtype=float))
    out = np.zeros((len(pieces.centres), d + 1, d + 1))
    np.add.at(out, place, cells.S[:, which][:, :, which])
    return np.asarray(back @ out @ back.T)


def _orthogonal(pieces: Pieces, gram: np.ndarray, degree: int, mean: float) -> dict[str, Any]:
    """State of poly: the recurrence of monic orthogonal polynomials, in x less its mean."""
    centres, halves = (pieces.centres - mean)[:, None], pieces.halves[:, None]

    def inner(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.einsum("ip,ipq,iq->", one, gram, other))

    def times_x(one: np.ndarray) -> np.ndarray:
        moved = np.roll(one, 1, axis=1)
        moved[:, 0] = 0.0
        return np.asarray(centres * one + halves * moved)

    here = np.zeros((len(centres), pieces.degree + 1))
    here[:, 0] = 1.0
    before, alpha, norms = np.zeros_like(here), {}, {}
    for k in range(degree + 1):
        norms[k] = inner(here, here)
        if k == degree:
            break
        off = inner(times_x(here), here) / norms[k]
        beta = norms[k] / norms[k - 1] if k else 0.0
        before, here = here, times_x(here) - off * here - beta * before
        alpha[k] = off + mean
    return {"alpha": alpha, "norms2": norms}


def _constrained(state: dict[str, Any], pieces: Pieces, gram: np.ndarray) -> dict[str, Any]:
    """State of a spline whose columns are to have means of zero over the rows."""
    knots, cyclic = np.array(state["knots"]), bool(state.get("cyclic"))

    def at(t: float) -> np.ndarray:
        values = pieces.centres + t * pieces.halves
        return np.asarray(_get_free_cubic_spline_matrix(values, knots, cyclic=cyclic))

    found = polynomials(at, pieces)
    assert found is not None
    means = np.einsum("ip,pik->k", gram[:, 0], found) / gram[:, 0, 0].sum()
    return {**state, "constraints": means[None]}
