"""Priors raised to a power and normalised again: weaker below one, stronger above.

Every family stays in a family of ours, so that a model under power-scaled priors can be fitted
like any other. The power is that of the density as it was stated (of the standard deviation, or of
the variance or precision where the prior is one of these; of the correlation matrix), not of the
engine's coordinates.

References
----------
Kallioinen, Paananen, Buerkner, Vehtari (2024), Stat. Comput. 34, 57.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from hierpool.bayes.priors.decov import Decov
from hierpool.bayes.priors.model_priors import (
    CoefficientPriors,
    ModelPriors,
    Prior,
    VarianceComponentPriors,
)
from hierpool.bayes.theta import Theta
from hierpool.core.errors import PriorError

_SCALED: dict[str, Callable[..., Prior]] = {
    "Normal": lambda a, mu, sigma: Prior("Normal", mu=mu, sigma=sigma / np.sqrt(a)),
    "MvNormal": lambda a, mu, cov: Prior("MvNormal", mu=mu, cov=np.array(cov) / a),
    "Flat": lambda a: Prior("Flat"),
    "StudentT": lambda a, nu, mu, sigma: Prior("StudentT", mu=mu, **_t(a, nu, sigma)),
    "Cauchy": lambda a, alpha, beta: Prior("StudentT", mu=alpha, **_t(a, 1.0, beta)),
    "HalfNormal": lambda a, sigma: Prior("HalfNormal", sigma=sigma / np.sqrt(a)),
    "HalfStudentT": lambda a, nu, sigma: Prior("HalfStudentT", **_t(a, nu, sigma)),
    "HalfCauchy": lambda a, beta: Prior("HalfStudentT", **_t(a, 1.0, beta)),
    "Exponential": lambda a, lam: Prior("Exponential", lam=a * lam),
    "Gamma": lambda a, alpha, beta: Prior("Gamma", alpha=a * (alpha - 1) + 1, beta=a * beta),
    "InverseGamma": lambda a, alpha, beta: Prior(
        "InverseGamma", alpha=a * (alpha + 1) - 1, beta=a * beta
    ),
    "LogNormal": lambda a, mu, sigma: Prior(
        "LogNormal", mu=mu + (1 - a) * sigma**2 / a, sigma=sigma / np.sqrt(a)
    ),
    "Uniform": lambda a, lower, upper: Prior("Uniform", lower=lower, upper=upper),
    "LKJ": lambda a, eta: Prior("LKJ", eta=a * (eta - 1) + 1),
}


def _t(power: float, nu: float, sigma: float) -> dict[str, Any]:
    """(1 + x^2 / (nu s^2))^(-power (nu + 1) / 2) as another t."""
    new = power * (nu + 1) - 1
    return {"nu": new, "sigma": sigma * np.sqrt(nu / new) if new > 0 else np.nan}


def scaled_prior(prior: Prior, power: float) -> Prior:
    """The prior raised to a power; a PriorError where that is no longer a distribution."""
    if prior.family not in _SCALED:
        raise PriorError(
            f"a power-scaled {prior.family} prior is not supported", "prior-parameters"
        )
    scaled = _SCALED[prior.family](power, **prior.parameters)
    return Prior(scaled.family, of=prior.of, **scaled.parameters)


def components(priors: ModelPriors) -> tuple[str, ...]:
    """Names of the priors that can be scaled separately."""
    out = []
    if priors.population.terms:
        out.append("beta")
    if priors.own is not None:
        out.append(f"coef_{priors.own_factor}")
    for factor in priors.factors:
        out.append(f"sd_{factor}")
        if any(block.eta is not None for block in priors.spread_of(factor)):
            out.append(f"corr_{factor}")
    return tuple(out) if priors.sigma is None else (*out, "sigma")


def power_scaled(priors: ModelPriors, component: str, power: float) -> ModelPriors | None:
    """The priors with one component raised to a power; None where that is not a distribution."""
    try:
        return _scaled(priors, component, power)
    except PriorError:
        return None


def _scaled(priors: ModelPriors, component: str, power: float) -> ModelPriors:
    if component == "sigma" and priors.sigma is not None:
        return replace(priors, sigma=scaled_prior(priors.sigma, power))
    if component == "beta":
        return replace(priors, population=_coefficients(priors.population, power))
    kind, factor = component.split("_", 1)
    if kind == "coef" and priors.own is not None:
        return replace(priors, own=_coefficients(priors.own, power))
    blocks = []
    for block in priors.spread:
        if block.factor != factor:
            blocks.append(block)
        elif kind == "sd":
            sd = tuple(scaled_prior(p, power) for p in block.sd)
            blocks.append(replace(block, sd=sd))
        else:
            prior = None if block.eta is None else Prior("LKJ", eta=block.eta)
            eta = None if prior is None else scaled_prior(prior, power).parameters["eta"]
            blocks.append(replace(block, eta=eta))
    return replace(priors, spread=tuple(blocks))


def _coefficients(block: CoefficientPriors, power: float) -> CoefficientPriors:
    return replace(block, priors=tuple(scaled_prior(p, power) for p in block.priors))


def log_priors(
    priors: ModelPriors, theta: Theta, beta: np.ndarray, own: np.ndarray | None
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
    own
        Shape (K, J, q): own coefficients of no pooling where common columns do not move them, in
        the user's coding; None otherwise.
    """
    out: dict[str, np.ndarray] = {}
    if priors.population.terms:
        out["beta"] = _log_prior_of(priors.population, beta)
    if own is not None and priors.own is not None:
        out[f"coef_{priors.own_factor}"] = _log_prior_of(priors.own, own).sum(axis=1)
    for block, place in zip(priors.spread, priors.places(), strict=True):
        sd, corr = f"sd_{block.factor}", f"corr_{block.factor}"
        out[sd] = out.get(sd, 0.0) + _log_prior_of_sds(block, theta.sd[:, place], theta.sigma)
        if block.eta is not None:
            out[corr] = out.get(corr, 0.0) + _log_lkj(theta, place, block.eta)
    if priors.sigma is not None:
        out["sigma"] = priors.sigma.log_density_as_stated(theta.sigma)
    return out


def _log_prior_of_sds(
    block: VarianceComponentPriors, sds: np.ndarray, sigma: np.ndarray
) -> np.ndarray:
    decov = Decov.from_block(block)
    if decov is not None:
        return decov.log_density(sds, sigma)
    each = [p.log_density_as_stated(sds[:, k]) for k, p in enumerate(block.sd)]
    return np.asarray(np.sum(each, axis=0))


def _log_lkj(theta: Theta, columns: slice, eta: float) -> np.ndarray:
    diagonal = np.diagonal(theta.corr_chol[:, columns, columns], axis1=1, axis2=2)
    return 2 * (eta - 1) * np.log(diagonal).sum(axis=1)


def _log_prior_of(block: CoefficientPriors, user: np.ndarray) -> np.ndarray:
    """Shape (...,): log prior of coefficients (..., k) in the user's coding, up to a constant."""
    coded = user @ block.coding.to_centred.T
    if block.is_normal:
        return -0.5 * (((coded - block.mean) @ block.precision_root.T) ** 2).sum(axis=-1)
    each = [p.distribution.logpdf(coded[..., k]) for k, p in enumerate(block.priors)]
    return np.sum(each, axis=0)
