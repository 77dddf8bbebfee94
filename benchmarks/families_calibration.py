"""Simulation-based calibration of the exact engine for every family, and of sds that are truly zero.

``python benchmarks/families_calibration.py [SIMULATIONS] [NAME ...]`` prints a line a model: the
smallest p value of its quantities (of ranks as uneven as these, if the engine is right), how many
quantities leave their simultaneous 99 % band, posteriors that failed their checks, seconds.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pandas as pd

import hierpool as hp

LEVELS, ROWS = 10, 6
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
    "zero-inflated": ("c ~ x + (1 | g)", {"family": "zero_inflated_poisson"}),
    "hurdle": ("c ~ x + (1 | g)", {"family": "hurdle_negbinomial"}),
}


def table() -> pd.DataFrame:
    """Rows whose responses are only there to be replaced."""
    rng = np.random.default_rng(0)
    n = LEVELS * ROWS
    x = rng.standard_normal(n)
    return pd.DataFrame(
        {
            "g": np.repeat([f"g{j}" for j in range(LEVELS)], ROWS),
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


def main() -> None:
    """Print the table."""
    arguments = sys.argv[1:]
    simulations = int(arguments[0]) if arguments else 400
    chosen = arguments[1:] or list(MODELS)
    priors = {"beta": hp.Prior("Normal", mu=0, sigma=1)}  # counts stay below a few thousands
    for name in chosen:
        formula, asked = MODELS[name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", hp_warning())
            model = hp.Model(formula, table(), priors=priors, **asked)
        found = hp.calibrate(model, simulations, seed=1, progress=False)
        made = found.table
        print(
            f"| {name} | {len(made)} | {made['p_value'].min():.3f} ({made['p_value'].idxmin()}) | "
            f"{int((~made['inside']).sum())} | {found.n_distrusted} of {simulations} | "
            f"{found.seconds:.0f} |",
            flush=True,
        )


def hp_warning() -> type[Warning]:
    """The package's own warning."""
    from hierpool.core.errors import HierpoolWarning

    return HierpoolWarning


if __name__ == "__main__":
    main()
