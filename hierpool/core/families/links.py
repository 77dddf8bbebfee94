"""Links: from the mean of a response to the linear predictor, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special


@dataclass(frozen=True)
class Link:
    """A link, its inverse, and the derivative of the inverse; each takes and gives arrays."""

    of_mean: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]


def _cloglog_inverse(eta: np.ndarray) -> np.ndarray:
    return np.asarray(-np.expm1(-np.exp(np.minimum(eta, 700.0))))


def _logistic_slope(eta: np.ndarray) -> np.ndarray:
    return np.asarray(special.expit(eta) * special.expit(-eta))


def _normal_density(eta: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-0.5 * np.square(eta)) / np.sqrt(2 * np.pi))


def _cloglog_slope(eta: np.ndarray) -> np.ndarray:
    bounded = np.minimum(eta, 700.0)
    return np.asarray(np.exp(bounded - np.exp(bounded)))


def _exp(eta: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(np.minimum(eta, 700.0)))


LINKS = {
    "logit": Link(special.logit, special.expit, _logistic_slope),
    "probit": Link(special.ndtri, special.ndtr, _normal_density),
    "cloglog": Link(lambda p: np.log(-np.log1p(-p)), _cloglog_inverse, _cloglog_slope),
    "log": Link(np.log, _exp, _exp),
    "identity": Link(np.asarray, np.asarray, np.ones_like),
}
