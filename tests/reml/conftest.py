"""A simulated table on which maximum likelihood of families is compared with other programs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="session")
def simulated() -> pd.DataFrame:
    """Rows of 40 groups, with 0 and 1, counts and ratings."""
    rng = np.random.default_rng(3)
    J, n = 40, 8
    g, x = np.repeat(np.arange(J), n), rng.normal(size=J * n)
    u, slope = rng.normal(size=J) * 0.7, rng.normal(size=J) * 0.4
    eta = 0.3 + 0.5 * x + u[g] + slope[g] * x
    h = rng.integers(0, 6, J * n)
    table = pd.DataFrame({"g": [f"g{k:02d}" for k in g], "x": x, "h": [f"h{k}" for k in h]})
    table["b"] = rng.binomial(1, 1 / (1 + np.exp(-eta)))
    table["c"] = rng.poisson(np.exp(eta))
    table["nb"] = rng.poisson(np.exp(eta) * rng.gamma(2, 0.5, J * n))
    rng.standard_t(4, J * n), rng.gamma(3, 1 / 3, J * n)
    mu = 1 / (1 + np.exp(-eta))
    rng.beta(5 * mu, 5 * (1 - mu))
    table["o"] = 1 + (eta + rng.logistic(size=J * n) > -1) * 1 + (eta > 1)
    return table
