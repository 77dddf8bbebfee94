"""NUTS on the full PyMC model and the exact engine agree, for every builder."""

from __future__ import annotations

import numpy as np
import pytest

import hierpool as hp

pytestmark = pytest.mark.slow

SLEEP = ("Reaction ~ Days", "sleepstudy", "Subject")
RUNGS = (
    "complete_pooling",
    "varying_intercept",
    "varying_slope_only",
    "varying_slope_uncorrelated",
    "varying_slope",
    "no_pooling",
)


@pytest.mark.parametrize("rung", RUNGS)
def test_means_and_sds_agree_within_monte_carlo_error(rung):
    formula, data, group = SLEEP
    model = hp.pooling_ladder(formula, hp.datasets.load(data), group=group)[rung]
    nuts = model.fit("nuts", seed=1, draws=2500, target_accept=0.95, progress=False)
    exact = model.fit("exact", seed=1, draws=2500)
    tables = [
        (f.summary(), f.coefficients() if model.design.groups else None) for f in (nuts, exact)
    ]
    scores = np.concatenate([_scores(a, b) for a, b in zip(*tables, strict=True) if a is not None])
    assert np.sqrt((scores**2).mean()) < 1.7
    assert np.abs(scores).max() < 5.0


STATED = {
    "decov": {"Subject": hp.Prior("Decov", concentration=2.0)},
    "precision": {
        "Subject": hp.Prior("Gamma", alpha=2.0, beta=300.0, of="precision"),
        "sigma": hp.Prior("Gamma", alpha=1.0, beta=500.0, of="precision"),
    },
}


@pytest.mark.parametrize("name", STATED)
def test_priors_that_are_not_of_sds_themselves_agree_too(name):
    rows = hp.datasets.load("sleepstudy")
    model = hp.Model("Reaction ~ Days + (Days | Subject)", rows, STATED[name])
    nuts = model.fit("nuts", seed=1, draws=2500, target_accept=0.95, progress=False)
    exact = model.fit("exact", seed=1, draws=2500)
    scores = _scores(nuts.summary(), exact.summary())
    assert np.sqrt((scores**2).mean()) < 1.7
    assert np.abs(scores).max() < 5.0


def _scores(a, b):
    """Differences of means and of sds, in their Monte Carlo errors (that of an sd from its tails)."""
    mean = (a["mean"] - b["mean"]) / np.sqrt(
        a["sd"] ** 2 / a["ess_bulk"] + b["sd"] ** 2 / b["ess_bulk"]
    )
    width = np.sqrt(1 / a["ess_tail"] + 1 / b["ess_tail"])
    spread = (np.log(a["sd"]) - np.log(b["sd"])) / width
    return np.concatenate([mean, spread])
