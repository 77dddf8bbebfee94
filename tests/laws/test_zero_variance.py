"""Where the true variance of the levels is zero, intervals of everything else keep their coverage."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp

pytestmark = pytest.mark.calibration

DATA_SETS = 200


def test_intervals_cover_when_levels_do_not_differ():
    rng = np.random.default_rng(11)
    g, x = np.repeat(np.arange(12), 4), np.tile(np.arange(4.0), 12)
    covered = {"Intercept": 0, "x": 0, "sigma": 0}
    truth = {"Intercept": 3.0, "x": 0.5, "sigma": 2.0}
    for seed in range(DATA_SETS):
        y = truth["Intercept"] + truth["x"] * x + truth["sigma"] * rng.normal(size=48)
        data = pd.DataFrame({"g": g, "x": x, "y": y})
        fit = hp.varying_slope("y ~ x", data, group="g").fit("exact", seed=seed, draws=600)
        posterior = fit.datatree["posterior"]
        draws = {
            "Intercept": posterior["beta"].sel(term="Intercept"),
            "x": posterior["beta"].sel(term="x"),
            "sigma": posterior["sigma"],
        }
        for name, values in draws.items():
            low, high = np.quantile(values, [0.05, 0.95])
            covered[name] += low <= truth[name] <= high
    # 90 % of 200: 3.3 standard errors are 0.07; priors make intervals of beta a little wide
    for name, count in covered.items():
        assert 0.83 <= count / DATA_SETS <= 0.985, (name, count)
