"""The exact engine of families and of residual structures beside long NUTS runs of the PyMC model.

    python benchmarks/nuts_agreement.py                every model; an hour on two cores
    python benchmarks/nuts_agreement.py "teeth, us" batting

Rms of z over every scalar that moves: the difference of posterior means, 5 and 95 % quantiles over
its Monte Carlo error. Near 1 where the two draw from one distribution.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import arviz_stats as azs
import numpy as np
import pandas as pd
import xarray as xr
from nuts import flat, means, moving

import hierpool as hp

DRAWS = 4000


@dataclass(frozen=True)
class Case:
    """A model, and how its table is made of a bundled one."""

    formula: str
    family: str | None
    table: str
    made: Callable[[pd.DataFrame], pd.DataFrame] = lambda d: d
    residual: str | None = None
    sigma: str | None = None


def cut(values: pd.Series, k: int) -> pd.Series:
    """Ratings 1 to k, about as many rows in each."""
    return pd.qcut(values, k, labels=False) + 1


CASES = {
    "cake, high": Case(
        "high ~ temp + (1 | recipe:replicate)",
        "bernoulli",
        "cake",
        lambda d: d.assign(high=(d["angle"] > d["angle"].median()).astype(int)),
    ),
    "cake, high, probit slopes": Case(
        "high ~ t + (t | replicate)",
        "bernoulli",
        "cake",
        lambda d: d.assign(
            high=(d["angle"] > d["angle"].median()).astype(int), t=(d["temp"] - 200) / 25
        ),
    ),
    "batting": Case("Hits / AB ~ 1 + (1 | Player)", "binomial", "bball1970"),
    "cake, degrees": Case(
        "degrees ~ temp + (1 | recipe:replicate)",
        "poisson",
        "cake",
        lambda d: d.assign(degrees=d["angle"].round().astype(int)),
    ),
    "cake, degrees, slopes": Case(
        "degrees ~ t + (t | replicate)",
        "poisson",
        "cake",
        lambda d: d.assign(degrees=d["angle"].round().astype(int), t=(d["temp"] - 200) / 25),
    ),
    "chicks": Case(
        "grams ~ t + (1 | Chick)",
        "negbinomial",
        "ChickWeight",
        lambda d: d.assign(grams=d["weight"].round().astype(int), t=d["Time"] / 10),
    ),
    "sleepstudy": Case("Reaction ~ Days + (1 | Subject)", "student", "sleepstudy"),
    "sleepstudy, slopes": Case("Reaction ~ Days + (Days | Subject)", "student", "sleepstudy"),
    "sleepstudy, gamma": Case("Reaction ~ Days + (1 | Subject)", "gamma", "sleepstudy"),
    "sleepstudy, ratings": Case(
        "rating ~ Days + (1 | Subject)",
        "ordinal",
        "sleepstudy",
        lambda d: d.assign(rating=cut(d["Reaction"], 4)),
    ),
    "cake, share": Case(
        "share ~ temp + (1 | recipe:replicate)",
        "beta",
        "cake",
        lambda d: d.assign(share=d["angle"] / 100),
    ),
    "penicillin, crossed": Case(
        "large ~ 1 + (1 | plate) + (1 | sample)",
        "bernoulli",
        "Penicillin",
        lambda d: d.assign(large=(d["diameter"] > d["diameter"].median()).astype(int)),
    ),
    "teeth, us": Case("distance ~ age * Sex", None, "Orthodont", residual="us(age | Subject)"),
    "teeth, toeph": Case(
        "distance ~ age * Sex", None, "Orthodont", residual="toeph(age | Subject)"
    ),
    "teeth, ar1 by sex": Case(
        "distance ~ age * Sex", None, "Orthodont", residual="ar1(age | Subject, by=Sex)"
    ),
    "teeth, sd by sex": Case("distance ~ age + (age | Subject)", None, "Orthodont", sigma="~ Sex"),
    "sleepstudy, ar1": Case(
        "Reaction ~ Days + (1 | Subject)", None, "sleepstudy", residual="ar1(Days | Subject)"
    ),
    "sleepstudy, car1 and nugget": Case(
        "Reaction ~ Days", None, "sleepstudy", residual="car1(Days | Subject, nugget=True)"
    ),
    "sleepstudy, random scale": Case(
        "Reaction ~ Days + (1 | Subject)", None, "sleepstudy", sigma="~ Days + (1 | Subject)"
    ),
    "boars, cs and sd by time": Case(
        "volume ~ time", None, "boars", residual="cs(time | boar)", sigma="~ time"
    ),
    "penicillin, ar1 of plates beside samples": Case(
        "diameter ~ 1 + (1 | plate) + (1 | sample)",
        None,
        "Penicillin",
        lambda d: d.assign(turn=d.groupby("plate", observed=True).cumcount()),
        residual="ar1(turn | plate)",
    ),
}


def quantiles(posterior: xr.Dataset, prob: float) -> np.ndarray:
    """One number a scalar, in the order of ``means``."""
    return flat(posterior.quantile(prob, dim=("chain", "draw")).drop_vars("quantile"))


def z_scores(one: xr.Dataset, other: xr.Dataset) -> dict[str, np.ndarray]:
    """Differences over their Monte Carlo errors, by what is compared."""
    error = np.hypot(flat(azs.mcse(one)), flat(azs.mcse(other)))
    out = {"mean": (means(one) - means(other)) / error}
    for prob in (0.05, 0.95):
        errors = (flat(azs.mcse(p, method="quantile", prob=prob)) for p in (one, other))
        out[f"{prob:.0%}"] = (quantiles(one, prob) - quantiles(other, prob)) / np.hypot(*errors)
    return out


def main(names: list[str]) -> None:
    """Print a line a model."""
    warnings.simplefilter("ignore")
    print(
        "| model | family | scalars | rms z of means | of 5 % | of 95 % | largest | R-hat of NUTS |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in names or list(CASES):
        case = CASES[name]
        data = case.made(hp.datasets.load(case.table))
        given = {"family": case.family, "residual": case.residual, "sigma": case.sigma}
        model = hp.Model(case.formula, data, **{k: v for k, v in given.items() if v})
        exact = model.fit("exact", seed=2, draws=DRAWS, progress=False)
        nuts = model.fit("nuts", seed=1, draws=DRAWS, progress=False)
        both = [f.datatree["posterior"].to_dataset() for f in (nuts, exact)]
        shared = sorted(set(both[0].data_vars) & set(both[1].data_vars))
        a, b = (moving(p[shared]) for p in both)
        z = z_scores(a, b)
        rms = [f"{np.sqrt(np.mean(v**2)):.2f}" for v in z.values()]
        largest = max(float(np.abs(v).max()) for v in z.values())
        cells = [
            name,
            case.family or "gaussian",
            len(z["mean"]),
            *rms,
            f"{largest:.1f}",
            f"{flat(azs.rhat(a)).max():.3f}",
        ]
        print("|", " | ".join(map(str, cells)), "|", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
