"""From the scale of the linear predictor back to the units in which the response was measured."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError

Scale = Literal["response", "linear"]
Function = Callable[[np.ndarray], np.ndarray]
_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(60)


@dataclass(frozen=True)
class BackTransform:
    """What undoes the function on the left side of a formula.

    Attributes
    ----------
    inverse, first, second
        The function that undoes it, and its derivatives.
    logarithm
        Natural logarithm of the base where it undoes a logarithm, else 0.
    """

    inverse: Function
    first: Function
    second: Function
    logarithm: float = 0.0

    def mean(self, eta: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """Its mean where the linear predictor is normal with this mean and variance."""
        if self.logarithm:
            return np.asarray(self.inverse(eta + self.logarithm * variance / 2))
        nodes = eta[..., None] + np.sqrt(variance)[..., None] * _NODES
        return np.asarray(self.inverse(nodes) @ _NODE_WEIGHTS / _NODE_WEIGHTS.sum())

    def slope_of_mean(self, eta: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """Derivative of ``mean`` by the linear predictor."""
        if self.logarithm:
            return np.asarray(self.first(eta + self.logarithm * variance / 2))
        nodes = eta[..., None] + np.sqrt(variance)[..., None] * _NODES
        return np.asarray(self.first(nodes) @ _NODE_WEIGHTS / _NODE_WEIGHTS.sum())


def _power_of(base: float) -> BackTransform:
    k = float(np.log(base))
    return BackTransform(
        lambda v: np.exp(k * v), lambda v: k * np.exp(k * v), lambda v: k**2 * np.exp(k * v), k
    )


_KNOWN = {
    "log": _power_of(float(np.e)),
    "log2": _power_of(2.0),
    "log10": _power_of(10.0),
    "log1p": BackTransform(np.expm1, np.exp, np.exp),
    "sqrt": BackTransform(np.square, lambda v: 2 * v, lambda v: np.full_like(v, 2.0)),
}


@dataclass(frozen=True)
class ResponseScale:
    """The scale on which results are given.

    Attributes
    ----------
    response
        Left side of the formula.
    measured
        What stands inside its function; the left side itself where there is none.
    back
        What undoes the function; None where nothing is undone.
    """

    response: str
    measured: str
    back: BackTransform | None

    @classmethod
    def of(cls, design: Design, scale: Scale) -> ResponseScale:
        """The scale that the user chose."""
        if scale not in get_args(Scale):
            raise ArgumentError(
                f"scale={scale!r}: choose 'response' (in the units in which the response was "
                "measured) or 'linear' (as the left side of the formula has it)",
                "unknown-choice",
            )
        response = design.spec.response
        name, inner = outer_call(response)
        if scale == "linear" or name not in _KNOWN:
            return cls(response, response, None)
        return cls(response, inner, _KNOWN[name])

    @property
    def has_ratios(self) -> bool:
        """Whether a difference turns into a ratio."""
        return self.back is not None and self.back.logarithm > 0


def outer_call(text: str) -> tuple[str, str]:
    """Name and argument of the one call that a text is; empty and the text where it is none.

    Examples
    --------
    >>> outer_call("log(weight / n)"), outer_call("log(y) - log(x)")
    (('log', 'weight / n'), ('', 'log(y) - log(x)'))
    """
    found = re.fullmatch(r"(?:np\.)?(\w+)\((.*)\)", text, re.DOTALL)
    if found is None:
        return "", text
    depth, name, inner = 0, found[1], found[2]
    for letter in inner:
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return "", text
    return name, inner.strip()
