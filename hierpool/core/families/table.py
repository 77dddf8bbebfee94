"""The families by name."""

from __future__ import annotations

from typing import Any

from hierpool.core.arguments import shown
from hierpool.core.errors import ArgumentError, nearest
from hierpool.core.families.bernoulli import Bernoulli, Binomial
from hierpool.core.families.beta import Beta
from hierpool.core.families.family import Family
from hierpool.core.families.gamma import Gamma
from hierpool.core.families.hurdle import HurdleNegativeBinomial, HurdlePoisson
from hierpool.core.families.links import LINKS
from hierpool.core.families.negbinomial import NegativeBinomial
from hierpool.core.families.ordinal import Ordinal
from hierpool.core.families.poisson import Poisson
from hierpool.core.families.student import Student
from hierpool.core.families.zero_inflated import ZeroInflatedNegativeBinomial, ZeroInflatedPoisson

FAMILIES: dict[str, type[Family]] = {
    family.name: family
    for family in (
        Bernoulli,
        Binomial,
        Poisson,
        NegativeBinomial,
        Student,
        Gamma,
        Beta,
        Ordinal,
        ZeroInflatedPoisson,
        ZeroInflatedNegativeBinomial,
        HurdlePoisson,
        HurdleNegativeBinomial,
    )
}
GAUSSIAN = "gaussian"
_ELSEWHERE = {  # as other programs call them
    "normal": GAUSSIAN,
    "nbinom2": "negbinomial",
    "negative_binomial": "negbinomial",
    "negativebinomial": "negbinomial",
    "negative.binomial": "negbinomial",
    "neg_binomial_2": "negbinomial",
    "t": "student",
    "t_family": "student",
    "studentt": "student",
    "cumulative": "ordinal",
    "beta_family": "beta",
    "zip": "zero_inflated_poisson",
    "zinb": "zero_inflated_negbinomial",
    "zero_inflated_negative_binomial": "zero_inflated_negbinomial",
    "hurdle_negative_binomial": "hurdle_negbinomial",
    "logistic": "bernoulli",
}
_NOT_HERE = {
    "categorical",
    "multinomial",
    "lognormal",
    "weibull",
    "exponential",
    "inverse_gaussian",
}


def resolve(family: Any, link: str | None) -> Family | None:
    """The family that is asked for, by name or as one of ``hp.families``; None: Gaussian.

    Raises
    ------
    ArgumentError
        No such family, or no such link of it.
    """
    if isinstance(family, type) and issubclass(family, Family):
        family = family()
    if isinstance(family, Family):
        if link is not None and link != family.link:
            raise ArgumentError(
                f"link={shown(link)}, and the family given has the link {family.link!r}: keep one of "
                f"the two, e.g. family={family.name!r}, link={shown(link)}",
                "unknown-link",
            )
        return family
    if family is None:
        family = GAUSSIAN
    if not isinstance(family, str):
        raise ArgumentError(
            f"family={shown(family)}: a name such as 'bernoulli' or 'poisson', or one of hp.families",
            "unknown-family",
        )
    name = family.lower().replace(" ", "_").replace("-", "_")
    name = _ELSEWHERE.get(name, name)
    if name == GAUSSIAN:
        if link not in (None, "identity"):
            raise ArgumentError(
                f"link={shown(link)} belongs to a family: write family='bernoulli' or 'poisson' "
                "beside it; a Gaussian response has the identity",
                "unknown-link",
            )
        return None
    if name in FAMILIES:
        return FAMILIES[name]("" if link is None else link)
    if name in LINKS:
        usual = "poisson" if name == "log" else "bernoulli"
        raise ArgumentError(
            f"{family!r} is a link: write family={usual!r}, link={name!r}", "unknown-family"
        )
    if name in _NOT_HERE:
        raise ArgumentError(
            f"family={family!r} is not among the families here: {', '.join([GAUSSIAN, *FAMILIES])}. "
            "Positive numbers: 'gamma', or log(y) on the left; use brms or bambi for others",
            "unknown-family",
        )
    raise ArgumentError(
        f"unknown family {family!r}: {nearest(name, [GAUSSIAN, *FAMILIES])}", "unknown-family"
    )
