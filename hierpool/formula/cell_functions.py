"""What functions of a formula remember of a table, learned from the counts of its values."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from formulaic import Formula

from hierpool.formula.encoder import Encoding, Source


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
        state[text] = _STATES[_name(call)](values, counts, first)
    return state


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


def _scaled(values: np.ndarray, counts: np.ndarray, first: Mapping[str, Any]) -> dict[str, Any]:
    """State of center, scale and standardize."""
    out = dict(first)
    if _is_learned(first.get("center")):
        out["center"] = np.average(values, weights=counts)
    moved = values if out.get("center") is None else values - out["center"]
    if _is_learned(first.get("scale")):
        squares = (counts * moved**2).sum()
        out["scale"] = np.sqrt(squares / (counts.sum() - out.get("ddof", 1)))
    return out


def _is_learned(value: Any) -> bool:
    return value is not None


_STATES = {"center": _scaled, "scale": _scaled, "standardize": _scaled}
