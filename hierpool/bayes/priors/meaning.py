"""What a prior of a coefficient means: in units of the response, in probabilities, in rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from hierpool.bayes.priors.prior import Prior
from hierpool.core.families.family import Family
from hierpool.core.options import percent, tails


@dataclass(frozen=True)
class Meaning:
    """Words for coefficients of a link, and the scales that they are said on.

    Attributes
    ----------
    level, level_scale
        What an intercept is, with ``{response}``, and its value there.
    change, difference, change_scale
        What a slope is, and a difference between categories; with ``{response}`` and ``{term}``.
    of_sds
        What standard deviations of groups are of.
    """

    level: str = "{response}"
    level_scale: Callable[[np.ndarray], np.ndarray] | None = None
    change: str = "change of {response} per unit of {term}"
    difference: str = "difference of {response} at {term}"
    change_scale: Callable[[np.ndarray], np.ndarray] | None = None
    of_sds: str = "{response}"

    def of_level(self, response: str, prior: Prior) -> str:
        """What the prior of an intercept says."""
        said = _interval(prior, self.level_scale)
        return f"{self.level.format(response=response)}: {said}"

    def of_change(self, response: str, term: str, prior: Prior) -> str:
        """What the prior of a slope, or of a difference between categories, says."""
        words = self.difference if term.endswith("]") else self.change
        said = _interval(prior, self.change_scale)
        return f"{words.format(response=response, term=term)}: {said}"


PLAIN = Meaning()


def _ratios(what: str) -> dict[str, str]:
    of_response = what + " of {response}"
    return {"change": of_response + " per unit of {term}", "difference": of_response + " at {term}"}


_BY_LINK = {
    "logit": Meaning(
        "probability of {response}",
        special.expit,
        change_scale=np.exp,
        of_sds="the log odds of {response}",
        **_ratios("odds ratio"),
    ),
    "probit": Meaning(
        "probability of {response}",
        special.ndtr,
        "change of the probit of {response} per unit of {term}",
        "difference of the probit of {response} at {term}",
        of_sds="the probit of {response}",
    ),
    "cloglog": Meaning(
        "probability of {response}",
        lambda eta: -np.expm1(-np.exp(eta)),
        change_scale=np.exp,
        of_sds="the log hazard of {response}",
        **_ratios("hazard ratio"),
    ),
    "log": Meaning(
        "mean of {response}",
        np.exp,
        change_scale=np.exp,
        of_sds="the log mean of {response}",
        **_ratios("ratio of means"),
    ),
}
_RATINGS = {
    "logit": Meaning(
        change="odds ratio of a higher {response} per unit of {term}",
        difference="odds ratio of a higher {response} at {term}",
        change_scale=np.exp,
        of_sds="the log odds of a higher {response}",
    ),
    "probit": Meaning(
        change="change of the latent {response} per unit of {term}",
        difference="difference of the latent {response} at {term}",
        of_sds="the latent {response}",
    ),
}


def meaning_of(family: Family | None) -> Meaning:
    """The words for a family of the response; None: Gaussian."""
    if family is None or family.is_on_response_scale:
        return PLAIN
    words = (_RATINGS if family.has_thresholds else _BY_LINK)[family.link]
    return replace(words, level="mean of {response}") if family.name == "beta" else words


def _interval(prior: Prior, scale: Callable[[np.ndarray], np.ndarray] | None) -> str:
    """Where most of a prior lies, on a scale; the prior's own words where it has none."""
    if scale is None or prior.family == "Flat":
        return prior.interval_in_words()
    with np.errstate(over="ignore"):
        low, high = scale(np.asarray(prior.distribution.ppf(tails()), dtype=float))
    return f"{percent()} % in [{low:.3g}, {high:.3g}]"
