"""From the scale of the linear predictor back to the units in which the response was measured."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from hierpool.answers.mean_response import MeanResponse
from hierpool.core.arguments import check_choice
from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError, UnsupportedModelError
from hierpool.core.families.family import Family

Scale = Literal["response", "linear"]
Compare = Literal["difference", "ratio", "odds ratio"]
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
    mean
        Of a family: what is averaged on the scale of the response; None on that of the linear
        predictor, and where the two are one.
    compare
        How two means of a family are compared.
    """

    response: str
    measured: str
    back: BackTransform | None
    mean: MeanResponse | None = None
    compare: Compare = "difference"

    @classmethod
    def of(cls, design: Design, scale: Scale, compare: Compare = "difference") -> ResponseScale:
        """The scale that the user chose, and of a family how means are compared on it."""
        if scale not in get_args(Scale):
            raise ArgumentError(
                f"scale={scale!r}: choose 'response' (in the units in which the response was "
                "measured) or 'linear' (as the left side of the formula has it)",
                "unknown-choice",
            )
        response, family = design.spec.response, design.family
        check_choice("compare", compare, get_args(Compare))
        if family is not None:
            return cls._of_family(design, family, scale, compare)
        if compare != "difference":
            raise UnsupportedModelError(
                f"compare={compare!r} is for families such as family='binomial' or 'poisson'. "
                "Ratios of a Gaussian response come with its logarithm on the left side, "
                f"log({response}) ~ ...; otherwise leave compare= out",
                "no-ratios",
            )
        name, inner = outer_call(response)
        if scale == "linear" or name not in _KNOWN:
            return cls(response, response, None)
        return cls(response, inner, _KNOWN[name])

    @classmethod
    def of_effects(cls, design: Design) -> ResponseScale:
        """On which effects of terms are told: ratios of odds or of means, where the link has them."""
        family = design.family
        if family is None:
            found = cls.of(design, "response")
            return found if found.has_ratios else cls(found.response, found.response, None)
        if family.link == "logit" and family.name != "beta":
            return cls.of(design, "response", "odds ratio")
        if family.link == "log":
            words = mean_in_words(design)
            if "hurdle" in family.parameters:  # whose mean is no exponential of the predictor
                words = f"underlying {words}"
            return cls(design.spec.response, words, _KNOWN["log"], None, "ratio")
        return cls.of(design, "linear")

    @classmethod
    def _of_family(
        cls, design: Design, family: Family, scale: Scale, compare: Compare
    ) -> ResponseScale:
        response, plain = design.spec.response, mean_in_words(design)
        if compare == "odds ratio":
            if family.link != "logit" or family.name == "beta":
                other = "compare='difference'"
                if family.link != "identity":
                    other = "compare='ratio', the ratio of the expected values, or 'difference'"
                raise UnsupportedModelError(
                    f"odds ratios need probabilities with a logit link, and this is {family}. Take "
                    f"{other}",
                    "no-ratios",
                )
            return cls(response, odds_in_words(design), _KNOWN["log"], compare=compare)
        if scale == "linear":
            if compare == "ratio":
                raise UnsupportedModelError(
                    "compare='ratio' is of means on the scale of the response: leave scale= out",
                    "no-ratios",
                )
            words = {"logit": "log odds", "log": "log", "probit": "probit", "cloglog": "cloglog"}
            link = words.get(family.link, "linear predictor")
            named = f"{link} of the {plain}"
            if family.has_thresholds:
                named = f"linear predictor of {response}"
            elif family.link == "logit" and family.name != "beta":
                named = odds_in_words(design).replace("odds", "log odds", 1)
            elif family.link == "identity":
                named = response
            return cls(response, named, None, compare=compare)
        if family.link == "identity":
            if compare == "ratio":
                raise UnsupportedModelError(
                    f"compare='ratio' is of means that cannot be negative, and this is {family}. "
                    "Leave it out",
                    "no-ratios",
                )
            return cls(response, response, None)
        return cls(response, plain, None, MeanResponse(family), compare)

    @property
    def measured_thing(self) -> str:
        """``measured`` as a noun in a sentence: ``"the probability of incidence"``."""
        is_column = self.mean is None and self.back is not None and self.compare == "difference"
        return (
            self.measured if is_column or self.measured == self.response else f"the {self.measured}"
        )

    @property
    def has_ratios(self) -> bool:
        """Whether a difference turns into a ratio."""
        if self.mean is not None:
            return self.compare == "ratio"
        return self.back is not None and self.back.logarithm > 0


def mean_in_words(design: Design) -> str:
    """What the mean of a family is: ``"probability of incidence"``, ``"rate of y"``."""
    response, family = design.spec.response, design.family
    assert family is not None
    if family.name == "bernoulli":
        event = getattr(family, "event", None)
        return f"probability of {response}{'' if event is None else f' {event}'}"
    if family.name == "binomial":
        return f"probability of {response}"
    if family.has_thresholds:
        return f"mean rating of {response}"
    is_rate = family.link == "log" and family.is_discrete and bool(design.spec.offsets)
    return f"{'rate' if is_rate else 'mean'} of {response}"


def odds_in_words(design: Design) -> str:
    """``"odds of incidence"``; of ratings the odds that a rating is a higher one."""
    family = design.family
    assert family is not None
    if family.has_thresholds:
        return f"odds of a higher {design.spec.response}"
    return mean_in_words(design).replace("probability", "odds", 1)


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
