"""Leave-one-out scores of families, by row and by group, are those of fits without the rows.

An exact score is the ratio of two marginal likelihoods, each by proposals of its own, here with
another seed than any that the score may have used.
"""

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.bayes.quadrature.leave_out import joint_log_density, log_evidence

CLOSE = 0.05  # of a log density
SEED = 77


def grouped() -> tuple[np.random.Generator, np.ndarray, np.ndarray, np.ndarray]:
    """Random numbers, 10 groups of 5 rows, a predictor, and a linear predictor."""
    rng = np.random.default_rng(21)
    g, x = np.repeat(np.arange(10), 5), rng.normal(size=50)
    return rng, g, x, 0.5 * x + rng.normal(0, 0.7, 10)[g]


def outlying_count() -> np.ndarray:
    """Counts of about three, and one of 60, whose log probability is far below -20."""
    rng, _, _, eta = grouped()
    y = rng.poisson(np.exp(1 + eta)).astype(float)
    y[7] = 60
    return y


def responses() -> dict[str, np.ndarray]:
    """A response of each family, by its name."""
    rng, _, _, eta = grouped()
    mean = np.exp(1 + eta)
    t = eta + 0.5 * rng.standard_t(2, 50)
    cut = np.searchsorted([-1.0, 0.5, 2.0], eta + rng.logistic(size=50))
    return {
        "bernoulli": (rng.random(50) < 1 / (1 + np.exp(-2 * eta))).astype(float),
        "poisson": outlying_count(),
        "negbinomial": rng.poisson(mean * rng.gamma(1, 1, 50)).astype(float),
        "student": t.round(2),
        "gamma": np.maximum(mean * rng.gamma(2, 0.5, 50), 0.01).round(2),
        "ordinal": cut.astype(float),
        "zero_inflated_poisson": np.where(rng.random(50) < 0.3, 0.0, rng.poisson(mean)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("family", list(responses()))
def test_scores_are_those_of_fits_without_the_rows(family):
    _, g, x, _ = grouped()
    data = pd.DataFrame({"g": g, "x": x, "y": responses()[family]})
    model = hp.Model("y ~ x + (1 | g)", data, family=family)
    fit = model.fit(seed=1)
    whole = log_evidence(fit.design, fit.priors, SEED)
    rows, groups = fit.loo(), fit.loo(by="g")
    own = rows.elpd_i.to_numpy()
    k = np.nan_to_num(rows.pareto_k.to_numpy(), nan=-1)
    worst = {int(own.argmin()), int(k.argmax()), int(np.argsort(k)[-2])}
    codes = fit.design.groupings["g"].codes
    of_groups = groups.elpd_i.to_numpy()
    sets = [(np.array([i]), own[i]) for i in sorted(worst)]
    sets += [
        (np.flatnonzero(codes == j), of_groups[j])
        for j in {int(of_groups.argmin()), int(np.nanargmax(groups.pareto_k.to_numpy()))}
    ]
    for positions, score in sets:
        exact = joint_log_density(fit.design, fit.priors, positions, SEED, whole)
        assert abs(score - exact.log_density) < CLOSE + 2 * exact.error, (positions, exact, score)
