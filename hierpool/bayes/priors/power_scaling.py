"""Power-scaled priors of a model, and the densities that depend on the power.

References
----------
Kallioinen, Paananen, Buerkner, Vehtari (2024), Stat. Comput. 34, 57.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hierpool.bayes.priors.coefficients import CoefficientPriors
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.core.errors import PriorError
from hierpool.core.theta import Theta


def components(priors: ModelPriors) -> tuple[str, ...]:
    """Names of the priors that can be scaled separately."""
    named = ["beta"] if priors.population.terms else []
    named += [component for part in priors.parts for component in part.components]
    return tuple(dict.fromkeys(named))


def power_scaled(priors: ModelPriors, component: str, power: float) -> ModelPriors | None:
    """The priors with one component raised to a power; None where that is not a distribution."""
    try:
        if component == "beta":
            return replace(priors, population=priors.population.power_scaled(power))
        parts = tuple(part.power_scaled(component, power) for part in priors.parts)
        return replace(priors, parts=parts)
    except PriorError:
        return None


def log_priors(
    priors: ModelPriors, theta: Theta, beta: np.ndarray, unpooled: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Component -> log prior density of each draw, shape (K,), up to a constant.

    Parameters
    ----------
    priors
        The priors.
    theta
        Draws in the coordinates of the priors.
    beta
        Shape (K, p): population coefficients in the user's coding.
    unpooled
        Shape (K, J, q): coefficients of no pooling where common columns do not move them, in the
        user's coding; None otherwise.
    """
    out: dict[str, np.ndarray] = {}
    if priors.population.terms:
        out["beta"] = _of_coefficients(priors.population, beta)
    if unpooled is not None and priors.unpooled is not None:
        each = _of_coefficients(priors.unpooled.coefficients, unpooled)
        out[f"coef_{priors.unpooled.factor}"] = each.sum(axis=1)
    for part in priors.parts:
        for component, density in part.log_priors(theta).items():
            out[component] = out.get(component, 0.0) + density
    return out


def _of_coefficients(block: CoefficientPriors, user: np.ndarray) -> np.ndarray:
    """Shape (...,): log prior of coefficients (..., k) in the user's coding, up to a constant."""
    coded = user @ block.coding.to_centred.T
    if block.is_normal:
        return -0.5 * (((coded - block.mean) @ block.precision_root.T) ** 2).sum(axis=-1)
    each = [p.distribution.logpdf(coded[..., k]) for k, p in enumerate(block.priors)]
    return np.sum(each, axis=0)
