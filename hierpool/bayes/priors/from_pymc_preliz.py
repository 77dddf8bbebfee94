"""Priors that were made with PreliZ or PyMC, read into hierpool's own.

Neither package is imported here. A PreliZ distribution has its parameters as attributes; a PyMC
variable that belongs to no model is read from its ``owner``, the node of the graph that made it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hierpool.bayes.priors.prior import Prior
from hierpool.core.errors import PriorError, listed

_NAMES: dict[str, tuple[str, ...]] = {
    "Normal": ("mu", "sigma"),
    "StudentT": ("nu", "mu", "sigma"),
    "Cauchy": ("alpha", "beta"),
    "HalfNormal": ("sigma",),
    "HalfStudentT": ("nu", "sigma"),
    "HalfCauchy": ("beta",),
    "Exponential": ("lam",),
    "Gamma": ("alpha", "beta"),
    "InverseGamma": ("alpha", "beta"),
    "LogNormal": ("mu", "sigma"),
    "Uniform": ("lower", "upper"),
    "MvNormal": ("mu", "cov"),
}

# Name of PyMC's random variable -> ours, and how its arguments become our parameters.
_Read = Callable[..., Prior]
_PYMC: dict[str, _Read] = {
    "normal": lambda mu, sigma: Prior("Normal", mu=mu, sigma=sigma),
    "halfnormal": lambda at, sigma: _from_zero(at, Prior("HalfNormal", sigma=sigma)),
    "halfstudentt": lambda nu, sigma: Prior("HalfStudentT", nu=nu, sigma=sigma),
    "t": lambda nu, mu, sigma: Prior("StudentT", nu=nu, mu=mu, sigma=sigma),
    "cauchy": lambda alpha, beta: Prior("Cauchy", alpha=alpha, beta=beta),
    "halfcauchy": lambda beta: Prior("HalfCauchy", beta=beta),
    "exponential": lambda scale: Prior("Exponential", lam=1 / scale),
    "gamma": lambda alpha, scale: Prior("Gamma", alpha=alpha, beta=1 / scale),
    "invgamma": lambda alpha, beta: Prior("InverseGamma", alpha=alpha, beta=beta),
    "lognormal": lambda mu, sigma: Prior("LogNormal", mu=mu, sigma=sigma),
    "uniform": lambda lower, upper: Prior("Uniform", lower=lower, upper=upper),
    "flat": lambda: Prior("Flat"),
    "multivariate_normal": lambda mu, cov: Prior("MvNormal", mu=mu, cov=cov),
    "lkjcorr": lambda n, eta: Prior("LKJ", eta=eta),
}
_TAKEN = (*_NAMES, "Flat", "LKJ")


def read(value: Any, name: str) -> tuple[Prior, ...]:
    """A prior in any of the three forms as hierpool's own.

    One prior; two, of the standard deviations and the correlation, for PyMC's ``LKJCholeskyCov``.

    Parameters
    ----------
    value
        A ``Prior``, a PreliZ distribution, or a PyMC variable made with ``.dist``.
    name
        The parameter that it is for, to be named in errors.

    Raises
    ------
    PriorError
        Something else, or a distribution that hierpool has not.
    """
    if isinstance(value, Prior):
        return (value,)
    first = value[0] if isinstance(value, tuple) and value else value
    home = type(first).__module__.split(".", 1)[0]
    if home == "preliz":
        return (_from_preliz(first, name),)
    if home in {"pymc", "pytensor"}:
        return _from_pymc(first, name)
    raise PriorError(
        f"the prior of {name!r} is {value!r} ({type(value).__name__}): give a prior such as "
        "hp.Prior('HalfNormal', sigma=10), a PreliZ distribution, or pm.HalfNormal.dist(10).",
        "not-a-prior",
    )


def _from_preliz(value: Any, name: str) -> Prior:
    family = type(value).__name__
    if family not in _NAMES:
        raise _unknown(f"PreliZ's {family}", name)
    parameters: dict[str, Any] = {k: getattr(value, k, None) for k in _NAMES[family]}
    missing = [k for k, v in parameters.items() if v is None]
    if missing:
        raise PriorError(
            f"the prior of {name!r}, PreliZ's {family}, has no value for {listed(missing)} yet: "
            "give its parameters, or run pz.maxent on it first.",
            "prior-parameters",
        )
    return Prior(family, **parameters)


def _from_pymc(value: Any, name: str) -> tuple[Prior, ...]:
    covariance = _cholesky_covariance(value)
    if covariance is not None:
        _, eta, spread = covariance[-3:]
        return (*_from_pymc(spread, name), Prior("LKJ", eta=_value(eta, name)))
    node = getattr(value, "owner", None)
    if node is None or not _is_random(node):
        raise PriorError(
            f"the prior of {name!r} is a PyMC expression, not a distribution: give a distribution "
            "such as pm.HalfNormal.dist(10), outside any model.",
            "not-a-prior",
        )
    kind = str(getattr(node.op, "name", None) or type(node.op).__name__.removesuffix("RV").lower())
    if kind not in _PYMC:
        raise _unknown(f"PyMC's {_printed_name(node)}", name)
    arguments = [_value(v, name) for v in node.op.dist_params(node)]
    if kind != "multivariate_normal":
        arguments = [_same(v) for v in arguments]
    return (_PYMC[kind](*arguments),)


def _printed_name(node: Any) -> str:
    printed = getattr(node.op, "_print_name", None)
    return str(printed[0]) if printed else type(node.op).__name__.removesuffix("RV")


def _is_random(node: Any) -> bool:
    return hasattr(node.op, "dist_params")


def _cholesky_covariance(value: Any) -> tuple[Any, ...] | None:
    """Arguments (n, eta, sd_dist) of an ``LKJCholeskyCov``, also unpacked; None for others."""
    for node in _ancestors(value):
        if type(node.op).__name__.lstrip("_") == "LKJCholeskyCovRV":
            return tuple(node.op.dist_params(node))
        if _is_random(node):
            return None
    return None


def _ancestors(value: Any) -> Iterator[Any]:
    """Nodes of the graph that makes a variable, its own first, each once."""
    waiting, seen = [getattr(value, "owner", None)], set()
    while waiting:
        node = waiting.pop(0)
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        waiting += [getattr(v, "owner", None) for v in node.inputs]


def _value(value: Any, name: str) -> np.ndarray:
    """Value of a constant expression."""
    if any(_is_random(node) for node in _ancestors(value)):
        raise PriorError(
            f"the prior of {name!r} has a random parameter, and hierpool's priors have fixed "
            "ones. Write the model with model.to_pymc() and change it there.",
            "random-parameter",
        )
    return np.asarray(value.data if hasattr(value, "data") else value.eval(), dtype=float)


def _same(values: np.ndarray) -> np.ndarray:
    """The one number that all entries are, where they are."""
    return values.reshape(-1)[0] if values.size and np.ptp(values) == 0 else values


def _from_zero(at: float, prior: Prior) -> Prior:
    if at != 0:
        raise PriorError(f"PyMC's {prior.family} starts at {at:g}, not at 0", "not-a-prior")
    return prior


def _unknown(what: str, name: str) -> PriorError:
    return PriorError(
        f"the prior of {name!r} is {what}, which is not supported; choose one of "
        f"{', '.join(_TAKEN)}.",
        "unknown-prior",
    )
