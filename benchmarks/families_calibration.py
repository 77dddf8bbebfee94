"""Simulation-based calibration of the exact engine for every family, and of sds that are truly zero.

``python benchmarks/families_calibration.py [SIMULATIONS] [NAME ...]`` prints a line a model: how many
quantities, the smallest p value of theirs (of ranks as uneven as these, if the engine is right), how
many leave their simultaneous 99 % band, posteriors that failed their checks after every retry (a fit
would go on to NUTS; their ranks are counted), seconds. What leaves its band is printed below.

``python benchmarks/families_calibration.py zero [SETS] [NAME ...]``: responses without differences
between groups, parameters from their priors. With the evidence of the model with groups over that of
the model without as Bayes factor B, P(B > 10) <= .1 whatever the priors, if both evidences are right.
Also fits that were refused, how often 90 % intervals hold the truth, and how often the 5 % quantile of
the sd is above .3.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pandas as pd

import hierpool as hp
from hierpool.bayes.choose import _exact
from hierpool.bayes.run import SamplerSettings
from hierpool.bayes.simulate import draw_parameters, simulate

LEVELS, ROWS = 6, 5
TWO_LEVELS, TWO_ROWS = 5, 4  # of two effects
ZERO = ("bernoulli", "poisson", "negbinomial", "student")
PRIORS = {"beta": hp.Prior("Normal", mu=0, sigma=1)}  # counts stay below a few thousands
MODELS = {
    "bernoulli": ("y ~ x + (1 | g)", {"family": "bernoulli"}),
    "bernoulli, two effects": ("y ~ x + (x | g)", {"family": "bernoulli"}),
    "binomial": ("k / n ~ x + (1 | g)", {"family": "binomial"}),
    "binomial, two effects": ("k / n ~ x + (x | g)", {"family": "binomial"}),
    "probit": ("y ~ x + (1 | g)", {"family": "bernoulli", "link": "probit"}),
    "poisson": ("c ~ x + (1 | g)", {"family": "poisson"}),
    "poisson, two effects": ("c ~ x + (x | g)", {"family": "poisson"}),
    "negbinomial": ("c ~ x + (1 | g)", {"family": "negbinomial"}),
    "negbinomial, two effects": ("c ~ x + (x | g)", {"family": "negbinomial"}),
    "student": ("t ~ x + (1 | g)", {"family": "student"}),
    "student, two effects": ("t ~ x + (x | g)", {"family": "student"}),
    "ordinal": ("r ~ x + (1 | g)", {"family": "ordinal"}),
    "gamma": ("p ~ x + (1 | g)", {"family": "gamma"}),
    "beta": ("s ~ x + (1 | g)", {"family": "beta"}),
    "zero-inflated poisson": ("c ~ x + (1 | g)", {"family": "zero_inflated_poisson"}),
    "zero-inflated negbinomial": ("c ~ x + (1 | g)", {"family": "zero_inflated_negbinomial"}),
    "hurdle poisson": ("c ~ x + (1 | g)", {"family": "hurdle_poisson"}),
    "hurdle negbinomial": ("c ~ x + (1 | g)", {"family": "hurdle_negbinomial"}),
}


def table(levels: int, rows: int) -> pd.DataFrame:
    """Rows whose responses are only there to be replaced."""
    rng = np.random.default_rng(0)
    n = levels * rows
    x = rng.standard_normal(n)
    return pd.DataFrame(
        {
            "g": np.repeat([f"g{j}" for j in range(levels)], rows),
            "x": x,
            "n": 8,
            "y": rng.integers(0, 2, n),
            "k": rng.integers(0, 9, n),
            "c": rng.poisson(3.0, n),
            "t": x + rng.standard_normal(n),
            "r": 1 + np.arange(n) % 4,
            "p": rng.gamma(3.0, 1.0, n),
            "s": rng.beta(2.0, 2.0, n),
        }
    )


def model_of(name: str, formula: str = "") -> hp.Model:
    """A model of the table; another formula than the usual one may be given."""
    usual, asked = MODELS[name]
    size = (TWO_LEVELS, TWO_ROWS) if "two effects" in name else (LEVELS, ROWS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hp_warning())
        return hp.Model(formula or usual, table(*size), priors=PRIORS, **asked)


def calibration(name: str, simulations: int) -> None:
    """Print the line of a model."""
    found = hp.calibrate(model_of(name), simulations, seed=1, progress=False)
    made = found.table
    print(
        f"| {name} | {len(made)} | {made['p_value'].min():.3f} ({made['p_value'].idxmin()}) | "
        f"{int((~made['inside']).sum())} | {found.n_distrusted} of {simulations} | "
        f"{found.seconds:.0f} |",
        flush=True,
    )
    outside = made[~made["inside"]]
    if len(outside):
        print(outside.to_string(float_format=lambda v: f"{v:.4f}"), flush=True)


def zero(name: str, sets: int) -> None:
    """Print the line of a model whose groups do not differ."""
    whole = model_of(name)
    plain = model_of(name, whole.formula.replace(" + (1 | g)", ""))
    log_factors, refused, above, covered = [], 0, 0, []
    for k in range(sets):
        rng = np.random.default_rng([2, k])
        truth = draw_parameters(plain.design, plain.priors, rng)
        response = simulate(plain.design, truth, rng)
        settings = SamplerSettings(1000, 0, 4, 1, k, "nutpie", None, False, {})
        runs = [
            _exact(m.design.with_response(response), m.priors, settings) for m in (whole, plain)
        ]
        refused += not runs[0].status.is_trustworthy
        evidences = [run.info["log_marginal_likelihood"] for run in runs]
        log_factors.append(evidences[0] - evidences[1])
        posterior = runs[0].tree["posterior"]
        above += np.quantile(posterior["sd_g"], 0.05) > 0.3
        named = truth.named(plain.design)
        for key, value in named.items():
            low, high = np.quantile(posterior[key], [0.05, 0.95], axis=(0, 1))
            covered += list(np.atleast_1d((low <= value) & (value <= high)))
    factors = np.exp(log_factors)
    print(
        f"| {name} | {sets} | {refused} | {np.median(factors):.2f} | {(factors > 10).sum()} | "
        f"{100 * np.mean(covered):.0f} % of {len(covered)} | {above} |",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    arguments = sys.argv[1:]
    is_zero = arguments[:1] == ["zero"]
    arguments = arguments[is_zero:]
    n = int(arguments[0]) if arguments else (200 if is_zero else 400)
    for name in arguments[1:] or list(ZERO if is_zero else MODELS):
        (zero if is_zero else calibration)(name, n)


def hp_warning() -> type[Warning]:
    """The package's own warning."""
    from hierpool.core.errors import HierpoolWarning

    return HierpoolWarning


if __name__ == "__main__":
    main()
