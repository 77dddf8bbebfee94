"""Overdispersion, zeros and separation are found where they are, and the remedy is what to type."""

import numpy as np
import pandas as pd

import hierpool as hp


def counts(shape: float, zeros: float) -> pd.DataFrame:
    """Counts of 15 groups; a small shape varies more than Poisson, and some rows are zero anyway."""
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(15), 12)
    mean = np.exp(1.0 + rng.normal(0, 0.4, 15)[group])
    y = rng.poisson(mean * rng.gamma(shape, 1 / shape, len(mean)))
    return pd.DataFrame({"g": group, "y": np.where(rng.random(len(y)) < zeros, 0, y)})


def codes(data: pd.DataFrame, family: str) -> list[str]:
    fit = hp.Model("y ~ 1 + (1 | g)", data, family=family).fit(seed=1)
    return [finding.code for finding in hp.check(fit)]


def test_counts_that_vary_more_than_poisson_are_found():
    assert "overdispersion" in codes(counts(1.5, 0.0), "poisson")


def test_poisson_counts_are_not_suspected():
    found = codes(counts(1e6, 0.0), "poisson")
    assert not {"overdispersion", "zero-inflation"} & set(found)


def test_a_predictor_that_decides_alone_is_found():
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"g": np.repeat(np.arange(10), 8), "x": np.tile([0, 1], 40)})
    data["y"] = np.where(data["x"] == 1, 1, rng.integers(0, 2, 80))
    found = hp.check(hp.Model("y ~ x + (1 | g)", data, family="bernoulli"))
    assert "separation" in [finding.code for finding in found]


def test_a_gaussian_model_of_zeros_and_ones_names_the_family():
    data = pd.DataFrame({"g": np.repeat(np.arange(10), 8), "y": np.tile([0, 1, 1, 0], 20)})
    (finding,) = [
        f for f in hp.check(hp.Model("y ~ 1 + (1 | g)", data)) if f.code == "binary-response"
    ]
    assert 'family="bernoulli"' in finding.meaning
