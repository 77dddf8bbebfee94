"""Expected responses of a family, for one group or averaged over all groups that there could be.

The mean for a new group is not the inverse link at random effects of zero: it is the average of the
inverse link over them. Given the linear predictor at zero effects and the variance of z'u this is an
integral over one normal variable, whatever the number of effects. Of the log and the probit link it
is known; the logistic function is a mixture of eight normal distribution functions to 2e-9, which
turns its average into that of probits; the rest takes the trapezoid rule.

References
----------
Monahan, Stefanski (1992), in: Handbook of the Logistic Distribution, 529-540 (the mixture).
Zeger, Liang, Albert (1988), Biometrics 44, 1049-1060 (means over random effects).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from hierpool.core.families.family import Family
from hierpool.core.families.links import LINKS

_SHARES = (
    0.003246343272134,
    0.051517477033972,
    0.195077912673858,
    0.315569823632818,
    0.274149576158423,
    0.131076880695470,
    0.027912418727972,
    0.001449567805354,
)
_SCALES = (
    1.365340806296348,
    1.059523971016916,
    0.830791313765644,
    0.650732166639391,
    0.508135425366489,
    0.396313345166341,
    0.308904252267995,
    0.238212616409306,
)
_NODES = np.linspace(
    -8.4, 8.4, 113
)  # of the trapezoid rule, which takes steps of the mean in its stride
_NODE_WEIGHTS = np.exp(-np.square(_NODES) / 2)
_STEP = 1e-4  # of a derivative by central differences, on the scale of the linear predictor
_MIXTURES = {"probit": ((1.0,), (1.0,)), "logit": (_SHARES, _SCALES)}


@dataclass(frozen=True)
class MeanResponse:
    """The expected response of a family, or the probability of one rating, as a function.

    Attributes
    ----------
    family
        The family.
    rating
        Position of the rating whose probability is meant; None: the mean of the response (of a
        binomial one the probability of a success, of ratings the mean rating, the first being 1).
    """

    family: Family
    rating: int | None = None

    @property
    def link(self) -> str:
        """Name of a link whose scale has no bounds: where intervals of the mean are symmetric."""
        if self.family.has_thresholds:
            return "identity" if self.rating is None else "logit"
        return self.family.link

    def at(
        self, eta: np.ndarray, variance: np.ndarray | float, par: np.ndarray, slope: bool = False
    ) -> np.ndarray:
        """Shape (K, m): means at linear predictors (K, m), averaged over random effects.

        Parameters
        ----------
        eta
            Linear predictors at random effects of zero.
        variance
            Of z'u, the random part of the predictor, shape (K, m); the number 0 for one group.
        par
            Shape (K, P): parameters of the family, thresholds of ratings in their place.
        slope
            The derivative by ``eta`` in the place of the mean.
        """
        family = self.family
        if family.has_thresholds:
            return self._of_ratings(eta, variance, par, slope)
        if family.name.startswith("hurdle"):
            return self._by_rule(eta, variance, par, slope)
        mean = averaged(family.link, eta, variance, slope)
        if "zero_inflation" in family.parameters:
            place = family.parameters.index("zero_inflation")
            mean = mean * (1 - np.asarray(par)[:, place, None])
        return mean

    def _of_ratings(
        self, eta: np.ndarray, variance: np.ndarray | float, par: np.ndarray, slope: bool
    ) -> np.ndarray:
        """From the probabilities of a rating above each threshold."""
        thresholds = np.broadcast_to(np.atleast_2d(par), (len(eta), np.shape(par)[-1]))

        def above(k: int) -> np.ndarray:
            return averaged(self.family.link, eta - thresholds[:, k, None], variance, slope)

        last, sure = thresholds.shape[1], 0.0 if slope else 1.0
        if self.rating is None:
            return np.asarray(sure + sum(above(k) for k in range(last)))
        low = above(self.rating - 1) if self.rating > 0 else np.full(np.shape(eta), sure)
        return low - above(self.rating) if self.rating < last else low

    def _by_rule(
        self, eta: np.ndarray, variance: np.ndarray | float, par: np.ndarray, slope: bool
    ) -> np.ndarray:
        """By the trapezoid rule, a derivative by differences."""
        if slope:
            ends = [self._by_rule(eta + h, variance, par, False) for h in (_STEP, -_STEP)]
            return (ends[0] - ends[1]) / (2 * _STEP)
        return _trapezoid(lambda v: self.family.mean(v, par), eta, variance)

    def bend(self, eta: np.ndarray, variance: np.ndarray | float, par: np.ndarray) -> np.ndarray:
        """Shape (K, m): the second derivative by ``eta``."""
        ends = [self.at(eta + h, variance, par, slope=True) for h in (_STEP, -_STEP)]
        return (ends[0] - ends[1]) / (2 * _STEP)


def averaged(
    link: str, eta: np.ndarray, variance: np.ndarray | float, slope: bool = False
) -> np.ndarray:
    """The inverse link, or its derivative, averaged over a normal variable added to ``eta``."""
    which = LINKS[link].slope if slope else LINKS[link].inverse
    if link == "identity" or not np.any(variance):
        return np.asarray(which(eta))
    if link == "log":
        return np.asarray(which(eta + np.asarray(variance) / 2))
    if link not in _MIXTURES:
        return _trapezoid(which, eta, variance)
    out = np.zeros(np.broadcast_shapes(np.shape(eta), np.shape(variance)))
    for share, scale in zip(*_MIXTURES[link], strict=True):
        factor = scale / np.sqrt(1 + scale**2 * np.asarray(variance))
        if slope:
            out += share * factor * LINKS["probit"].slope(factor * eta)
        else:
            out += share * special.ndtr(factor * eta)
    return out


def _trapezoid(
    function: Callable[[np.ndarray], np.ndarray], eta: np.ndarray, variance: np.ndarray | float
) -> np.ndarray:
    """Mean of a function of ``eta`` plus a normal variable."""
    if not np.any(variance):
        return np.asarray(function(eta))
    sd, total = np.sqrt(variance), 0.0
    for node, weight in zip(_NODES, _NODE_WEIGHTS, strict=True):
        total = total + weight * function(eta + node * sd)
    return np.asarray(total / _NODE_WEIGHTS.sum())
