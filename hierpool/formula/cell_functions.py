"""What functions of a formula remember of a table, learned from the counts of its values."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from formulaic import Formula
from formulaic.transforms.cubic_spline import _get_free_cubic_spline_matrix

from hierpool.formula.encoder import Encoding, Source
from hierpool.formula.function_calls import Factor

_EVEN = 27721  # values evenly spread: one more than a multiple of all numbers up to 12


def remembered(
    encoding: Encoding,
    own: pd.DataFrame,
    counts: np.ndarray,
    sources: Iterable[Source],
    known: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Text of a function as formulaic has it -> its state; empty where no function remembers.

    Parameters
    ----------
    encoding
        Learned from ``own``, each of whose rows counts once: its functions are known, their states
        are wrong.
    own
        The combinations of the keys.
    counts
        Rows of the table with each of them.
    sources
        How the columns of ``own`` are made.
    known
        States of functions of columns that are in sums only, by their text in the user's names.
    """
    columns = {s.key: s.column for s in sources}
    state: dict[str, Any] = {}
    for text in sorted(encoding.memory.transform_state, key=len):  # inner functions first
        own_name = in_users_names(text, columns)
        if own_name in known:
            state[text] = dict(known[own_name])
            continue
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        inner = f"0 + I({ast.unparse(call.args[0])})"
        matrix = Formula(inner).get_model_matrix(
            own, context=encoding.context, output="numpy", transform_state=dict(state)
        )
        values = np.asarray(matrix, dtype=float)[:, 0]
        first = encoding.memory.transform_state[text]
        arguments = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
        state[text] = _STATES[_name(call)](values, counts, first, arguments)
    return state


def users_text(factor: Factor) -> str:
    """A function of columns with the user's names in it, written in one way."""
    return in_users_names(factor.code, {f"_column_{i}_": c for i, c in enumerate(factor.columns)})


def knots_of(factor: Factor, low: float, high: float) -> tuple[dict[str, Any], dict[float, float]]:
    """State of a spline of a number between low and high, and which of its knots are quantiles.

    The knots of the state are those of evenly spread values; those that were not named, and are to be
    quantiles, have their probabilities by them. ``degree`` is beside what formulaic keeps.
    """
    own = pd.DataFrame({"x": np.linspace(low, high, _EVEN)})
    matrix = Formula("0 + " + factor.with_names(("x",))).get_model_matrix(own, output="numpy")
    ((_, known),) = matrix.model_spec.transform_state.items()
    state = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in known.items()}
    state["knots"] = [float(k) for k in known["knots"]]
    state["lower_bound"], state["upper_bound"] = map(
        float, (known["lower_bound"], known["upper_bound"])
    )
    call = ast.parse(factor.code, mode="eval").body
    assert isinstance(call, ast.Call)
    arguments = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
    state["degree"] = float(arguments.get("degree", 3))
    if arguments.get("knots") is not None or len(call.args) > 2:
        return state, {}
    width = high - low
    inner = [k for k in state["knots"] if low < k < high]
    return state, {k: float(Fraction((k - low) / width).limit_denominator(1000)) for k in inner}


def in_users_names(text: str, columns: Mapping[str, str]) -> str:
    """A call with the user's names of columns in it, written in one way."""
    tree = ast.parse(text, mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in columns:
            node.id = f"`{columns[node.id]}`"
    return ast.unparse(tree)


def _name(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)


State = Mapping[str, Any]


def _scaled(
    values: np.ndarray, counts: np.ndarray, first: State, arguments: State
) -> dict[str, Any]:
    """State of center, scale and standardize."""
    out = dict(first)
    if first.get("center") is not None:
        out["center"] = np.average(values, weights=counts)
    moved = values if out.get("center") is None else values - out["center"]
    if first.get("scale") is not None:
        squares = (counts * moved**2).sum()
        out["scale"] = np.sqrt(squares / (counts.sum() - out.get("ddof", 1)))
    return out


def _orthogonal(
    values: np.ndarray, counts: np.ndarray, first: State, arguments: State
) -> dict[str, Any]:
    """State of poly: the recurrence of monic orthogonal polynomials, rows counted."""
    degree = len(first.get("alpha", ()))
    alpha: dict[int, float] = {}
    norms: dict[int, float] = {}
    before, here = np.zeros_like(values), np.ones_like(values)
    for k in range(degree + 1):
        norms[k] = float((counts * here**2).sum())
        if k == degree:
            break
        alpha[k] = float((counts * values * here**2).sum() / norms[k])
        beta = norms[k] / norms[k - 1] if k else 0.0
        before, here = here, (values - alpha[k]) * here - beta * before
    return {"alpha": alpha, "norms2": norms} if degree else dict(first)


def _b_spline(
    values: np.ndarray, counts: np.ndarray, first: State, arguments: State
) -> dict[str, Any]:
    """State of bs: knots at quantiles of the rows."""
    degree, knots = int(arguments.get("degree", 3)), list(first["knots"])
    inner = knots[degree + 1 : len(knots) - degree - 1]
    if arguments.get("knots") is None and inner:
        low, high = first["lower_bound"], first["upper_bound"]
        inside = (values >= low) & (values <= high)
        if arguments.get("extrapolation") not in ("clip", "na", "zero"):
            inside[:] = True
        inner = _quantiles(values[inside], counts[inside], len(inner)).tolist()
        knots = [*knots[: degree + 1], *inner, *knots[len(knots) - degree - 1 :]]
    return {**first, "knots": knots}


def _quantiles(values: np.ndarray, counts: np.ndarray, m: int) -> np.ndarray:
    """Shape (m,): quantiles at equal distances of rows with these values, linear between two rows."""
    order = np.argsort(values, kind="stable")
    values, upto = values[order], np.cumsum(counts[order])
    at = np.linspace(0, 1, m + 2)[1:-1] * (upto[-1] - 1)
    below = np.floor(at)
    lower = values[np.searchsorted(upto, below, side="right")]
    upper = values[np.searchsorted(upto, np.minimum(below + 1, upto[-1] - 1), side="right")]
    return np.asarray(lower + (at - below) * (upper - lower))


def _cubic_spline(
    values: np.ndarray, counts: np.ndarray, first: State, arguments: State
) -> dict[str, Any]:
    """State of cr, cc and cs: knots are at quantiles of the different values, the mean is that of rows."""
    if first.get("constraints") is None:
        return dict(first)
    knots = np.array(first["knots"])
    free = _get_free_cubic_spline_matrix(values, knots, cyclic=bool(first.get("cyclic")))
    return {**first, "constraints": np.average(free, axis=0, weights=counts)[None]}


_STATES = {
    **dict.fromkeys(("center", "scale", "standardize"), _scaled),
    "poly": _orthogonal,
    "bs": _b_spline,
    **dict.fromkeys(("cr", "cc", "cs"), _cubic_spline),
}
