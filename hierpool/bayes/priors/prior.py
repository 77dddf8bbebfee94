"""Prior: a distribution by its name and parameters. No PyMC here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import special, stats

from hierpool.core.errors import PriorError, nearest
from hierpool.core.options import options, percent, tails

_FAMILIES: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {
    "Normal": (("mu", "sigma"), lambda mu, sigma: stats.norm(mu, sigma)),
    "StudentT": (("nu", "mu", "sigma"), lambda nu, mu, sigma: stats.t(nu, mu, sigma)),
    "Cauchy": (("alpha", "beta"), lambda alpha, beta: stats.cauchy(alpha, beta)),
    "HalfNormal": (("sigma",), lambda sigma: stats.halfnorm(0, sigma)),
    "HalfStudentT": (("nu", "sigma"), lambda nu, sigma: HalfT(nu, sigma)),
    "HalfCauchy": (("beta",), lambda beta: stats.halfcauchy(0, beta)),
    "Exponential": (("lam",), lambda lam: stats.expon(0, 1 / lam)),
    "Gamma": (("alpha", "beta"), lambda alpha, beta: stats.gamma(alpha, 0, 1 / beta)),
    "InverseGamma": (("alpha", "beta"), lambda alpha, beta: stats.invgamma(alpha, 0, beta)),
    "LogNormal": (("mu", "sigma"), lambda mu, sigma: stats.lognorm(sigma, 0, np.exp(mu))),
    "Uniform": (("lower", "upper"), lambda lower, upper: stats.uniform(lower, upper - lower)),
    "Beta": (("alpha", "beta"), lambda alpha, beta: stats.beta(alpha, beta)),
    "LKJ": (("eta",), lambda eta: None),
    "Dirichlet": (("a",), lambda a: None),
    "Flat": ((), lambda: None),
    "MvNormal": (("mu", "cov"), lambda mu, cov: None),
    "Decov": (("regularization", "concentration", "shape", "scale"), lambda **_: None),
}
_DEFAULTS: dict[str, dict[str, Any]] = {"Decov": dict.fromkeys(_FAMILIES["Decov"][0], 1.0)}
_JOINT = {"LKJ", "Flat", "MvNormal", "Decov", "Dirichlet"}  # without a distribution of one number

Scale = Literal["sd", "variance", "precision", "1/sqrt"]
_EXPONENTS: dict[Scale, float] = {"sd": 1.0, "variance": 2.0, "precision": -2.0, "1/sqrt": -0.5}


LARGEST = 1e120  # parameter of a prior; data are between 1e-50 and 1e50, and so are their sds
FARTHEST = 1e100  # mu of a normal prior, in its sds: its square, times a variance, stays a number


class PriorRow(NamedTuple):
    """A row of the printed table of priors."""

    parameter: str
    prior: str
    meaning: str


@dataclass(frozen=True, slots=True)
class HalfT:
    """Absolute value of a Student t with location 0; the part of scipy's interface used here."""

    nu: float
    sigma: float

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """Log density at x >= 0, minus infinity below."""
        nu = self.nu
        constant = (
            special.gammaln((nu + 1) / 2) - special.gammaln(nu / 2) - 0.5 * np.log(nu * np.pi)
        )
        scaled = np.asarray(x) / self.sigma
        inside = np.log(2 / self.sigma) + constant - 0.5 * (nu + 1) * np.log1p(scaled**2 / nu)
        return np.where(scaled < 0, -np.inf, inside)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Probability below x, exact near zero."""
        squared = (np.maximum(x, 0) / self.sigma) ** 2
        return np.asarray(special.betainc(0.5, self.nu / 2, squared / (squared + self.nu)))

    def sf(self, x: np.ndarray) -> np.ndarray:
        """Probability above x, exact in the far tail."""
        return np.asarray(2 * special.stdtr(self.nu, -np.maximum(x, 0) / self.sigma))

    def ppf(self, probability: np.ndarray) -> np.ndarray:
        """Quantile, exact near zero."""
        ratio = special.betaincinv(0.5, self.nu / 2, probability)
        return np.asarray(self.sigma * np.sqrt(self.nu * ratio / (1 - ratio)))

    def isf(self, probability: np.ndarray) -> np.ndarray:
        """Upper quantile, exact in the far tail."""
        return np.asarray(-self.sigma * special.stdtrit(self.nu, np.asarray(probability) / 2))

    def at_normal(self, z: np.ndarray) -> np.ndarray:
        """Quantiles at Phi(z), exact in both tails.

        With 4 degrees of freedom by the closed form of Shaw (2006), J. Comput. Finance 9(4), 37-73.
        """
        below, above = special.ndtr(z), special.ndtr(-z)
        if self.nu != 4.0:
            return np.where(z > 0, self.isf(above), self.ppf(below))
        cosine = np.sqrt(above * (1 + below))
        third = np.arctan2(below, cosine) / 3
        with np.errstate(divide="ignore"):  # infinite where the upper tail has no number left
            scaled = np.sqrt(8 / cosine * np.sin(2 * third)) * np.sqrt(np.sin(third))
        return np.asarray(self.sigma * scaled)


@dataclass(frozen=True, slots=True)
class OfPower:
    """Distribution of a positive number whose power, such as a variance, has ``law``.

    The part of scipy's interface used here. ``exponent`` is 2, -2 or -1/2.
    """

    law: Any
    exponent: float

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """Log density of the sd at x > 0: that of x^exponent, times |exponent| x^(exponent - 1)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            log_x = np.log(x)
            inside = self.law.logpdf(np.exp(self.exponent * log_x))
        return np.asarray(inside + np.log(abs(self.exponent)) + (self.exponent - 1) * log_x)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Probability below x."""
        return np.asarray((self.law.cdf if self.exponent > 0 else self.law.sf)(self._power(x)))

    def sf(self, x: np.ndarray) -> np.ndarray:
        """Probability above x."""
        return np.asarray((self.law.sf if self.exponent > 0 else self.law.cdf)(self._power(x)))

    def ppf(self, probability: np.ndarray) -> np.ndarray:
        """Quantile."""
        law = self.law
        return self._root((law.ppf if self.exponent > 0 else law.isf)(probability))

    def isf(self, probability: np.ndarray) -> np.ndarray:
        """Upper quantile."""
        law = self.law
        return self._root((law.isf if self.exponent > 0 else law.ppf)(probability))

    def _power(self, x: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.asarray(np.asarray(x, dtype=float) ** self.exponent)

    def _root(self, value: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.asarray(np.asarray(value, dtype=float) ** (1 / self.exponent))


@dataclass(frozen=True)
class Prior:
    """A distribution by its name and parameters, named as PyMC names them.

    Parameters
    ----------
    family
        "Normal", "StudentT", "Cauchy", "HalfNormal", "HalfStudentT", "HalfCauchy", "Exponential",
        "Gamma", "InverseGamma", "LogNormal", "Uniform", "Beta"; "LKJ" for correlations; "Flat" for
        population coefficients only; "MvNormal" for all population coefficients together; "Decov"
        for the standard deviations and correlations of a factor, as rstanarm has it; "Dirichlet"
        for the probabilities of ratings.
    **parameters
        The family's parameters, e.g. ``mu=0, sigma=10``; ``mu`` (k,) and ``cov`` (k, k) for
        "MvNormal". Those of "Decov" are 1 unless given.
    of
        What has the distribution where the prior is one of a standard deviation: the "sd" itself,
        its "variance" or its "precision" (one over the variance). The sd's density is what follows
        from it. "1/sqrt": one over the square root of the parameter, for shapes, which is a
        coefficient of variation.

    Raises
    ------
    PriorError
        An unknown family, or parameters that are missing, unknown or out of range.

    Examples
    --------
    >>> Prior("HalfNormal", sigma=30)
    HalfNormal(sigma=30)
    >>> Prior("Gamma", alpha=2, beta=50, of="precision")
    Gamma(alpha=2, beta=50) of the precision
    """

    family: str
    parameters: Mapping[str, Any]
    of: Scale

    def __init__(self, family: str, *, of: Scale = "sd", **parameters: Any) -> None:
        if family not in _FAMILIES:
            raise PriorError(
                f"unknown prior family {family!r}: {nearest(family, _FAMILIES)}", "unknown-prior"
            )
        names = _FAMILIES[family][0]
        parameters = {**_DEFAULTS.get(family, {}), **parameters}
        if set(parameters) != set(names):
            raise PriorError(
                f"{family} takes {', '.join(names) or 'no parameters'}; "
                f"given: {', '.join(parameters) or 'nothing'}",
                "prior-parameters",
            )
        if of not in _EXPONENTS:
            raise PriorError(f"of={of!r}: {nearest(str(of), _EXPONENTS)}", "prior-parameters")
        if of != "sd" and family in _JOINT:
            raise PriorError(
                f"{family} cannot be a prior of one {of}: leave out of={of!r}.", "prior-parameters"
            )
        values = _joint(**parameters) if family == "MvNormal" else _scalars(family, parameters)
        object.__setattr__(self, "family", family)
        object.__setattr__(self, "parameters", values)
        object.__setattr__(self, "of", of)

    def __hash__(self) -> int:
        return hash((self.family, tuple(self.parameters.items()), self.of))

    def __repr__(self) -> str:
        inside = ", ".join(f"{k}={_text(v)}" for k, v in self.parameters.items())
        of = {"sd": "", "1/sqrt": " of 1/sqrt"}.get(self.of, f" of the {self.of}")
        return f"{self.family}({inside}){of}"

    @cached_property
    def distribution(self) -> Any:
        """Frozen distribution with scipy's ``logpdf``, ``cdf``, ``sf``, ``ppf``, ``isf``.

        That of the parameter itself, of the sd where the prior is stated ``of`` its power.
        """
        law = _FAMILIES[self.family][1](**self.parameters)
        return law if self.of == "sd" else OfPower(law, _EXPONENTS[self.of])

    def log_density_as_stated(self, value: np.ndarray) -> np.ndarray:
        """Log density of what the prior is ``of``, where the parameter itself has this value."""
        if self.of == "sd":
            return np.asarray(self.distribution.logpdf(value))
        return np.asarray(self.distribution.law.logpdf(value ** _EXPONENTS[self.of]))

    @property
    def is_positive(self) -> bool:
        """Whether it gives no weight to negative values, as the prior of an sd must."""
        if self.family == "Uniform":
            return self.parameters["lower"] >= 0
        return self.family not in {"Normal", "StudentT", "Cauchy", *_JOINT}

    def interval_in_words(self) -> str:
        """Where most of it lies: ``"95 % below 12.3"``, ``"95 % in [-1.96, 1.96]"``."""
        if self.family == "Flat":
            return "any value, flat prior"
        if self.is_positive and self.of != "1/sqrt" and self.family != "Beta":
            bound = self.distribution.ppf(options.prob)
            return (
                f"{percent()} % below {_short(bound)}"
                if np.isfinite(bound)
                else "practically no upper bound"
            )
        low, high = self.distribution.ppf(tails())
        return f"{percent()} % in [{_short(low)}, {_short(high)}]"


def _scalars(family: str, given: Mapping[str, Any]) -> dict[str, float]:
    """Parameters of a univariate family, checked."""
    try:
        values = {name: float(given[name]) for name in _FAMILIES[family][0]}
    except (TypeError, ValueError) as error:
        raise PriorError(
            f"{family}: each parameter must be one number; given {dict(given)}. "
            "Give each term a prior of its own, by its name.",
            "prior-parameters",
        ) from error
    free = {"mu", "lower", "upper"} | ({"alpha"} if family == "Cauchy" else set())
    for name, value in values.items():
        if not np.isfinite(value):
            raise PriorError(
                f"{family}: {name} must be finite; it is {value:g}", "prior-parameters"
            )
        size = abs(value)
        if size > LARGEST or (0 < size < 1 / LARGEST and name not in free):
            raise PriorError(
                f"{family}: {name} is {value:g}, beyond what can be computed ({1 / LARGEST:g} to "
                f"{LARGEST:g}). Check its unit.",
                "prior-parameters",
            )
        if value <= 0 and name not in free:
            raise PriorError(
                f"{family}: {name} must be positive; it is {value:g}", "prior-parameters"
            )
    if family == "Normal" and abs(values["mu"]) > FARTHEST * values["sigma"]:
        raise PriorError(
            f"Normal: mu={values['mu']:g} is more than {FARTHEST:g} times sigma={values['sigma']:g}, "
            "beyond what can be computed. Check both values.",
            "prior-parameters",
        )
    if family == "Uniform" and values["lower"] >= values["upper"]:
        raise PriorError("Uniform: lower must be below upper", "prior-parameters")
    return values


def _joint(mu: Any, cov: Any) -> dict[str, tuple[Any, ...]]:
    """Mean and covariance of a joint normal prior as nested tuples, checked."""
    mean, covariance = np.asarray(mu, dtype=float), np.asarray(cov, dtype=float)
    size = mean.size
    if mean.ndim != 1 or covariance.shape != (size, size):
        raise PriorError(
            f"MvNormal: mu of shape {mean.shape} needs a cov of shape {(size, size)}; "
            f"it has shape {covariance.shape}",
            "prior-parameters",
        )
    finite = np.isfinite(mean).all() and np.isfinite(covariance).all()
    if not finite or not np.allclose(covariance, covariance.T, rtol=1e-10, atol=0.0):
        raise PriorError("MvNormal: mu and cov must be finite, cov symmetric", "prior-parameters")
    scale = np.sqrt(np.abs(np.diag(covariance)))
    scaled = covariance / np.outer(scale, scale) if (scale > 0).all() else -np.eye(size)
    if np.linalg.eigvalsh(scaled).min(initial=1.0) < 1e-12:
        raise PriorError("MvNormal: cov must be positive definite", "prior-parameters")
    return {"mu": tuple(mean.tolist()), "cov": tuple(map(tuple, covariance.tolist()))}


def _text(value: Any) -> str:
    """A number in few digits, or the same for nested tuples."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    return _short(value)


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.6g}"
