"""Randomised quantile residuals of responses that are not Gaussian, and the predictors behind them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special

from hierpool.checks.residuals.null_residuals import SEED
from hierpool.core.fitted import Posterior

DRAWS = 400  # of the posterior that are used


def quantile_residuals(fit: Posterior, seed: int = SEED) -> pd.Series:
    """Randomised quantile residuals: standard normal if the model holds.

    The cdf of each row, a uniform number between its values below and at the response where that
    is discrete, averaged over draws of the posterior, as a normal quantile. Groups are those of the fit.

    References
    ----------
    Dunn, Smyth (1996), J. Comput. Graph. Stat. 5, 236-244.
    """
    design, family = fit.design, fit.design.family
    assert family is not None
    eta, par = predictors(fit, DRAWS)
    at = family.cdf(design.y, eta, par, design.trials).mean(axis=0)
    below = at
    if family.is_discrete:
        below = family.cdf_below(design.y, eta, par, design.trials).mean(axis=0)
    u = below + (at - below) * np.random.default_rng(seed).random(design.n)
    values = special.ndtri(np.clip(u, 1e-12, 1 - 1e-12))
    return pd.Series(values, index=design.rows, name="quantile_residual")


def predictors(fit: Posterior, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Linear predictors (k, n) and parameters of the family (k, P) at some draws, evenly spaced."""
    design = fit.design
    total = int(np.prod(fit.n_draws))
    picks = np.unique(np.linspace(0, total - 1, min(most, total)).astype(int))

    def draws(name: str) -> np.ndarray:
        values = fit.variable(name).to_numpy()
        return np.asarray(values.reshape(total, *values.shape[2:])[picks])

    eta = np.tile(np.broadcast_to(design.offset, (design.n,)), (len(picks), 1))
    if design.terms:
        eta += draws("beta") @ design.X.T
    for group in design.groups:
        u = draws(group.level_variable)
        for k in range(len(group.terms)):
            eta += u[:, group.grouping.codes, k] * group.Z[:, k]
    return eta, fit.family_parameters[picks]
