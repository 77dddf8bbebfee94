"""The response in the PyMC model: the distribution of each family, at its linear predictor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from hierpool.core.families.family import Family

Parameters = Mapping[str, Any]

_INVERSE: dict[str, Callable[[Any], Any]] = {
    "logit": pt.sigmoid,
    "probit": lambda eta: 0.5 * pt.erfc(-eta / np.sqrt(2)),
    "cloglog": lambda eta: -pt.expm1(-pt.exp(eta)),
}


def observed(
    family: Family,
    name: str,
    eta: Any,
    parameters: Parameters,
    trials: np.ndarray | None,
    weights: np.ndarray | None,
    y: np.ndarray,
    dims: str,
) -> Any:
    """The observed variable, and a potential where rows have weights.

    Parameters
    ----------
    family
        With its link.
    eta
        Linear predictor, shape (n,).
    parameters
        By their names in ``family.parameters``, and ``"thresholds"`` of ratings.
    trials
        Shape (n,); None where the family has none.
    weights
        Shape (n,): what the log density of each row is multiplied by. None: 1.
    y
        Shape (n,); ratings from 0.
    """
    values = y.astype(np.int64) if family.is_discrete else y
    kind, arguments = _distribution(family, eta, parameters, trials)
    found = kind(name, **arguments, observed=values, dims=dims)
    if weights is not None:
        pm.Potential(f"{name}_weights", (weights - 1) * pm.logp(found, values))
    return found


def _distribution(
    family: Family, eta: Any, par: Parameters, trials: np.ndarray | None
) -> tuple[Any, dict[str, Any]]:
    """PyMC's class, and what it is called with."""
    if family.name in ("bernoulli", "binomial"):
        p = {"logit_p": eta} if family.link == "logit" else {"p": _INVERSE[family.link](eta)}
        if family.name == "bernoulli":
            return pm.Bernoulli, p
        assert trials is not None
        return pm.Binomial, {"n": trials.astype(np.int64), **p}
    if family.name == "ordinal":
        return pm.Categorical, {"p": _probabilities(_INVERSE[family.link], eta, par["thresholds"])}
    if family.name == "student":
        return pm.StudentT, {"mu": eta, "sigma": par["sigma"], "nu": par["nu"]}
    if family.name == "beta":
        p = _INVERSE[family.link](eta)
        return pm.Beta, {
            "alpha": p * par["precision"],
            "beta": _INVERSE[family.link](-eta) * par["precision"],
        }
    return _of_mean(family.name, pt.exp(eta), par)


def _probabilities(inverse: Callable[[Any], Any], eta: Any, thresholds: Any) -> Any:
    """Shape (n, C): of each rating. PyMC's OrderedProbit has eight digits."""
    distance = thresholds - pt.as_tensor(eta)[:, None]
    below, above = inverse(distance), inverse(-distance)
    # The difference is taken in the nearer tail, where it keeps its digits.
    between = pt.switch(
        distance[:, 1:] + distance[:, :-1] < 0,
        below[:, 1:] - below[:, :-1],
        above[:, :-1] - above[:, 1:],
    )
    return pt.concatenate([below[:, :1], between, above[:, -1:]], axis=1)


def _of_mean(name: str, mean: Any, par: Parameters) -> tuple[Any, dict[str, Any]]:
    """The same of families with a log link."""
    if name == "gamma":
        return pm.Gamma, {"alpha": par["shape"], "beta": par["shape"] / mean}
    if name == "poisson":
        return pm.Poisson, {"mu": mean}
    if name == "negbinomial":
        return pm.NegativeBinomial, {"mu": mean, "alpha": par["shape"]}
    counted = 1 - par["zero_inflation" if "zero_inflated" in name else "hurdle"]
    kind: Any = {
        "zero_inflated_poisson": pm.ZeroInflatedPoisson,
        "zero_inflated_negbinomial": pm.ZeroInflatedNegativeBinomial,
        "hurdle_poisson": pm.HurdlePoisson,
        "hurdle_negbinomial": pm.HurdleNegativeBinomial,
    }[name]
    shape = {"alpha": par["shape"]} if "shape" in par else {}
    return kind, {"psi": counted, "mu": mean, **shape}
