"""A prior raised to a power and normalised again: weaker below one, stronger above.

Every family stays in a supported family, so that a model under power-scaled priors can be fitted
like any other. The power is that of the density as it was stated (of the standard deviation, or of
the variance or precision where the prior is one of these; of the correlation matrix), not of the
engine's coordinates.

References
----------
Kallioinen, Paananen, Buerkner, Vehtari (2024), Stat. Comput. 34, 57.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hierpool.bayes.priors.prior import Prior
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
    "Beta": lambda a, alpha, beta: Prior(
        "Beta", alpha=a * (alpha - 1) + 1, beta=a * (beta - 1) + 1
    ),
    "Dirichlet": lambda power, a: Prior("Dirichlet", a=power * (a - 1) + 1),
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
