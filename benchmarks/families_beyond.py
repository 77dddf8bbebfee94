"""Tables whose posteriors have more than four dimensions, and long NUTS runs to judge them by."""

from __future__ import annotations

import numpy as np
import pandas as pd
from families_dense import Right, scalars_of
from families_filled import UnsureError
from scipy import special

from hierpool.model import Model

DRAWS = 2000  # of each of four chains
MODELS = (
    ("student", "y ~ a + b + c + (1 + a | g)"),
    ("negbinomial", "y ~ a + (1 + a | g)"),
    ("bernoulli", "y ~ a + b + c + (1 + a | g)"),
    ("ordinal", "y ~ a + (1 + a | g)"),
    ("poisson", "y ~ a + b + (1 | g) + (1 | h)"),
    ("gamma", "y ~ a + b + (1 + a || g)"),
    ("beta", "y ~ a + b + (1 | g)"),
    ("binomial", "y / n ~ a + b + (1 + a | g)"),
)


def simulated_beyond(rng: np.random.Generator) -> tuple[str, str, pd.DataFrame]:
    """Family, formula and a table of 40 to 120 rows."""
    family, formula = MODELS[int(rng.integers(len(MODELS)))]
    levels, rows = int(rng.integers(8, 16)), int(rng.integers(5, 9))
    g = np.repeat(np.arange(levels), rows)
    h, X = rng.integers(0, 4, len(g)), rng.standard_normal((len(g), 3))
    X -= X.mean(axis=0)
    sd = rng.choice([0.0, 0.3, 1.0, 2.0], 3)
    u, v = sd[:2] * rng.standard_normal((levels, 2)), sd[2] * rng.standard_normal(4)
    eta = X @ [0.5, -0.3, 0.0] + u[g, 0] + u[g, 1] * X[:, 0]
    if "h" in formula:
        eta = X @ [0.5, -0.3, 0.0] + u[g, 0] + v[h]
    data = pd.DataFrame({"y": _response(rng, family, eta), "n": 8, "g": g, "h": h})
    data[["a", "b", "c"]] = X
    return (
        family,
        formula,
        data.assign(g="g" + data["g"].astype(str), h="h" + data["h"].astype(str)),
    )


def _response(rng: np.random.Generator, family: str, eta: np.ndarray) -> np.ndarray:
    p, mean = special.expit(eta), np.exp(np.clip(eta, -6, 6))
    drawn = {
        "student": lambda: eta + rng.standard_t(float(rng.choice([2.0, 4.0, 30.0])), len(eta)),
        "negbinomial": lambda: rng.poisson(mean * rng.gamma(2.0, 0.5, len(eta))),
        "bernoulli": lambda: (rng.uniform(size=len(eta)) < p).astype(int),
        "ordinal": lambda: 1 + np.searchsorted([-1.0, 0.5, 2.0], eta + rng.logistic(size=len(eta))),
        "poisson": lambda: rng.poisson(mean),
        "gamma": lambda: mean * rng.gamma(2.0, 0.5, len(eta)),
        "beta": lambda: np.clip(rng.beta(5 * p + 1e-3, 5 * (1 - p) + 1e-3), 1e-4, 1 - 1e-4),
        "binomial": lambda: rng.binomial(8, p),
    }
    return np.asarray(drawn[family]())


def by_nuts(model: Model) -> Right:
    """What 4 x 2,000 draws of NUTS say, without an evidence."""
    fit = model.fit("nuts", seed=5, draws=DRAWS, chains=4, progress=False)
    if not fit.status.is_trustworthy:
        raise UnsureError(str(fit.status))
    found = {name: _summed(values) for name, values in drawn(fit.datatree["posterior"]).items()}
    return Right(float("nan"), found, 0.0)


def drawn(posterior: object) -> dict[str, np.ndarray]:
    """Scalars of a posterior by name."""
    flat = {
        str(k): v.to_numpy().reshape(-1, *v.shape[2:])
        for k, v in posterior.data_vars.items()  # type: ignore[attr-defined]
    }
    beta = flat.pop("beta", np.zeros((1, 0)))
    theta = scalars_of({k: v for k, v in flat.items() if not k.startswith(("u_", "coef_"))})
    return {f"beta{k}": beta[:, k] for k in range(beta.shape[1])} | theta


def _summed(values: np.ndarray) -> np.ndarray:
    return np.array([values.mean(), values.std(), *np.quantile(values, [0.05, 0.95])])
