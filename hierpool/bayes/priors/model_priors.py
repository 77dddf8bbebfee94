"""Priors as plain data, with defaults scaled by the data. No PyMC here.

Defaults are unit-free: stated for centred and scaled columns, so that recoding a linear predictor
(time 0..3 or 100..103, ml or l) changes no prediction. A block of columns has its priors in the
coordinates of its own ``Coding``; everything reported is mapped back to the user's coding.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import special, stats

from hierpool.algebra.moments import Coordinates
from hierpool.algebra.triangular import solve_lower
from hierpool.core.coding import Coding
from hierpool.core.errors import PriorError, listed, nearest
from hierpool.core.group_nouns import nouns
from hierpool.core.printable import printable
from hierpool.core.schema import GroupSchema, ResponseScale, Schema

COEFFICIENT_SDS = 2.5  # prior sd of a coefficient, in sds of the response per sd of its column
SD_NU = 4.0  # degrees of freedom of the half-Student-t priors of standard deviations
LKJ_ETA = 1.0  # shape of the prior of correlation matrices; 1 is uniform

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
    "LKJ": (("eta",), lambda eta: None),
    "Flat": ((), lambda: None),
    "MvNormal": (("mu", "cov"), lambda mu, cov: None),
    "Decov": (("regularization", "concentration", "shape", "scale"), lambda **_: None),
}
_DEFAULTS: dict[str, dict[str, Any]] = {"Decov": dict.fromkeys(_FAMILIES["Decov"][0], 1.0)}
_JOINT = {"LKJ", "Flat", "MvNormal", "Decov"}  # without a distribution of one number
_INTEGRABLE = {"Normal", "Flat", "MvNormal"}

Scale = Literal["sd", "variance", "precision"]
_EXPONENTS: dict[Scale, float] = {"sd": 1.0, "variance": 2.0, "precision": -2.0}


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
    """Distribution of an sd whose power, the variance or the precision, has ``law``.

    The part of scipy's interface used here. ``exponent`` is 2 or -2.
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
        "Gamma", "InverseGamma", "LogNormal", "Uniform"; "LKJ" for correlations; "Flat" for
        population coefficients only; "MvNormal" for all population coefficients together; "Decov"
        for the standard deviations and correlations of a factor, as rstanarm has it.
    **parameters
        The family's parameters, e.g. ``mu=0, sigma=10``; ``mu`` (k,) and ``cov`` (k, k) for
        "MvNormal". Those of "Decov" are 1 unless given.
    of
        What has the distribution where the prior is one of a standard deviation: the "sd" itself,
        its "variance" or its "precision" (one over the variance). The sd's density is what follows
        from it.

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
        return f"{self.family}({inside})" + ("" if self.of == "sd" else f" of the {self.of}")

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
        if value <= 0 and name not in free:
            raise PriorError(
                f"{family}: {name} must be positive; it is {value:g}", "prior-parameters"
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


@dataclass(frozen=True)
class CoefficientPriors:
    """Independent priors of a block's coefficients, in the coordinates of ``coding``.

    Used for the population coefficients and for the own coefficients of no pooling.
    """

    coding: Coding
    terms: tuple[str, ...]
    priors: tuple[Prior, ...]

    @property
    def is_normal(self) -> bool:
        """Whether every prior is normal or flat, so that the coefficients can be integrated out."""
        return all(p.family in _INTEGRABLE for p in self.priors)

    @property
    def joint(self) -> Prior | None:
        """The joint normal prior of all coefficients, if there is one; it stands at each term."""
        joint = bool(self.priors) and self.priors[0].family == "MvNormal"
        return self.priors[0] if joint else None

    @property
    def n_flat(self) -> int:
        """How many coefficients have a flat prior."""
        return sum(p.family == "Flat" for p in self.priors)

    @property
    def mean(self) -> np.ndarray:
        """Shape (k,): prior means, 0 where flat (normal and flat priors only)."""
        if self.joint is not None:
            return np.array(self.joint.parameters["mu"])
        return np.array([0.0 if p.family == "Flat" else p.parameters["mu"] for p in self.priors])

    @property
    def sd(self) -> np.ndarray:
        """Shape (k,): prior sds, infinite where flat (normal and flat priors only)."""
        if self.joint is not None:
            return np.sqrt(np.diag(self.joint.parameters["cov"]))
        return np.array(
            [np.inf if p.family == "Flat" else p.parameters["sigma"] for p in self.priors]
        )

    @property
    def precision_root(self) -> np.ndarray:
        """Shape (k, k): R with R'R the prior precision, zero rows where flat."""
        if self.joint is None:
            return np.diag(1 / self.sd)
        scale = self.sd
        root = np.linalg.cholesky(np.array(self.joint.parameters["cov"]) / np.outer(scale, scale))
        return solve_lower(root, np.diag(1 / scale))

    def marginal(self, index: int) -> Prior:
        """Prior of one coefficient by itself."""
        if self.joint is None:
            return self.priors[index]
        return Prior("Normal", mu=self.mean[index], sigma=self.sd[index])


@dataclass(frozen=True)
class VarianceComponentPriors:
    """Priors of the standard deviations and the correlation of one block of a factor.

    ``columns`` are the block's among those of its factor; ``eta`` is the shape of the LKJ prior,
    None for an uncorrelated block.
    """

    factor: str
    coding: Coding
    terms: tuple[str, ...]
    columns: slice
    sd: tuple[Prior, ...]
    eta: float | None

    @property
    def decov(self) -> Prior | None:
        """The prior of all sds in units of sigma, if there is one; it stands at each term."""
        return self.sd[0] if self.sd[0].family == "Decov" else None


@dataclass(frozen=True)
class ModelPriors:
    """Every prior of a model.

    Attributes
    ----------
    response
        Name of the response, for the printed table.
    sigma
        Prior of the residual sd; None where those of the rows are known.
    population
        Priors of the population coefficients.
    spread
        Priors of sds and correlations, one entry per block, factor by factor; empty for complete
        and no pooling.
    own, own_factor
        Priors of each level's own coefficients, and the factor; None and empty unless this is no
        pooling.
    weights
        Name of the column of weights, for the printed table; empty without one.
    """

    response: str
    sigma: Prior | None
    population: CoefficientPriors
    spread: tuple[VarianceComponentPriors, ...] = ()
    own: CoefficientPriors | None = None
    own_factor: str = ""
    weights: str = ""

    @property
    def is_proper(self) -> bool:
        """Whether every prior is a distribution: none is flat."""
        return self.population.n_flat == 0

    @property
    def factors(self) -> tuple[str, ...]:
        """Factors with sds, in order."""
        return tuple(dict.fromkeys(block.factor for block in self.spread))

    def spread_of(self, factor: str) -> tuple[VarianceComponentPriors, ...]:
        """The blocks of one factor."""
        return tuple(block for block in self.spread if block.factor == factor)

    def places(self) -> list[slice]:
        """Columns of each block of ``spread`` among those of all factors side by side."""
        edges = np.cumsum([0, *(len(block.sd) for block in self.spread)]).tolist()
        return [slice(a, b) for a, b in itertools.pairwise(edges)]

    def table(self) -> pd.DataFrame:
        """One row a parameter: its prior and what it means in the response's units."""
        rows = [*_coefficient_rows(self.population, "beta", self.response)]
        if self.own is not None:
            common = self.population.terms if self.population.coding.is_centred else ()
            rows += _coefficient_rows(self.own, f"coef_{self.own_factor}", self.response, common)
        for block in self.spread:
            rows += _spread_rows(block, self.response)
        if self.sigma is not None:
            what = f"residual sd of {self.response}{f' where {self.weights} is 1' * bool(self.weights)}"
            rows.append(("sigma", str(self.sigma), f"{what}: {_range(self.sigma)}"))
        return pd.DataFrame(rows, columns=["parameter", "prior", "meaning"]).set_index("parameter")

    def __repr__(self) -> str:
        with pd.option_context("display.max_colwidth", None, "display.width", None):
            return printable(self.table().to_string())

    def _repr_html_(self) -> str:
        return printable(self.table().to_html())


def default_priors(schema: Schema) -> ModelPriors:
    """Default priors of a model, scaled by its response (less its offset) and columns.

    With weights the scale of sigma is the sd of the response with each row counted by its weight,
    so that the unit of the weights does not matter. With known residual sds there is no sigma, and
    the other priors are as ever.
    """
    coordinates, scale = Coordinates.from_schema(schema), schema.response_scale
    groups, spec = schema.groups, schema.spec
    sigma = Prior("HalfStudentT", nu=SD_NU, sigma=scale.largest_sigma)
    population = _coefficients(coordinates.x, schema.terms, scale)
    priors = ModelPriors(
        spec.response,
        sigma if schema.has_sigma else None,
        population,
        weights=spec.residual.arguments.get("weights", ""),
    )
    if groups and not groups[0].is_pooled:
        own = _coefficients(coordinates.zs[0], groups[0].terms, scale)
        return replace(priors, own=own, own_factor=groups[0].factor)
    blocks = [(group, k) for group in groups for k in range(len(group.blocks))]
    return replace(priors, spread=tuple(_spread(*one, scale.sd) for one in blocks))


def _coefficients(
    coding: Coding, terms: tuple[str, ...], scale: ResponseScale
) -> CoefficientPriors:
    sd = (
        COEFFICIENT_SDS
        * scale.sd
        * np.where(coding.constant != 0, np.abs(coding.constant), 1 / coding.scales)
    )
    priors = [
        Prior("Normal", mu=scale.mean * a, sigma=s)
        for a, s in zip(coding.constant, sd, strict=True)
    ]
    return CoefficientPriors(coding, terms, tuple(priors))


def _spread(group: GroupSchema, k: int, sd_y: float) -> VarianceComponentPriors:
    block, coding = group.blocks[k], group.block_codings[k]
    correlated = block.covariance == "correlated" and block.size > 1
    if not correlated:
        coding = coding.uncentred()
    sd = tuple(Prior("HalfStudentT", nu=SD_NU, sigma=sd_y / s) for s in coding.scales)
    terms, eta = group.terms[block.columns], LKJ_ETA if correlated else None
    return VarianceComponentPriors(group.factor, coding, terms, block.columns, sd, eta)


def _coefficient_rows(
    block: CoefficientPriors, variable: str, response: str, common: tuple[str, ...] = ()
) -> list[tuple[str, str, str]]:
    """``common``: columns outside the block that are at their means where the block's are."""
    rows = []
    for k, (term, a) in enumerate(zip(block.terms, block.coding.constant, strict=True)):
        prior = block.marginal(k)
        text = f"{prior}, jointly" if block.joint is not None else str(prior)
        where = _where(block.coding, block.terms, common)
        what = f"{response}{where}" if a else _change(response, term)
        rows.append((f"{variable}[{term}]", text, f"{what}: {_range(prior)}"))
    return rows


def _where(coding: Coding, terms: tuple[str, ...], common: tuple[str, ...] = ()) -> str:
    """Values of the predictors at which the prior of an intercept is stated."""
    if coding.is_centred:
        return " at the mean of the predictors"
    others = [t for t, a in zip(terms, coding.constant, strict=True) if not a]
    at_zero = f" where {listed(others, most=3).replace("'", '')} is 0" if others else ""
    at_mean = f" at the mean of {listed(common, most=3).replace("'", '')}" if common else ""
    return at_zero + (" and" if at_zero and at_mean else "") + at_mean


def _change(response: str, term: str) -> str:
    """What a coefficient without the constant is: a slope, or a difference between categories."""
    if term.endswith("]"):
        return f"difference of {response} at {term}"
    return f"change of {response} per unit of {term}"


def _spread_rows(block: VarianceComponentPriors, response: str) -> list[tuple[str, str, str]]:
    rows, factor = [], block.factor
    constants = block.coding.constant
    for term, prior, a in zip(block.terms, block.sd, constants, strict=True):
        where = _where(block.coding, block.terms) if a else ""
        per = "" if a else f" per unit of {term}"
        what = f"sd of {response}{per} between {nouns(factor)}{where}"
        if prior.family == "Decov":
            rows.append((f"sd_{factor}[{term}]", f"{prior}, jointly", f"{what}: in units of sigma"))
            continue
        rows.append((f"sd_{factor}[{term}]", str(prior), f"{what}: {_range(prior)}"))
    if block.eta is not None:
        where = ", in centred columns" if block.coding.is_centred else ""
        size = len(block.terms)
        half = stats.beta(block.eta + size / 2 - 1, block.eta + size / 2 - 1).ppf(0.975) * 2 - 1
        text = f"correlations between {nouns(factor)}{where}: 95 % in [{-half:.2f}, {half:.2f}]"
        rows.append((f"corr_{factor}", f"LKJ(eta={block.eta:g})", text))
    return rows


def _range(prior: Prior) -> str:
    if prior.family == "Flat":
        return "any value, flat prior"
    if prior.is_positive:
        bound = prior.distribution.ppf(0.95)
        return f"95 % below {_short(bound)}" if np.isfinite(bound) else "practically no upper bound"
    low, high = prior.distribution.ppf([0.025, 0.975])
    return f"95 % in [{_short(low)}, {_short(high)}]"


def _text(value: Any) -> str:
    """A number in few digits, or the same for nested tuples."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    return _short(value)


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.6g}"
