"""hp.heritability: the share of the variance that is inherited."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special

from hierpool.algebra.correlated.residuals import mean_variance
from hierpool.core.errors import ArgumentError, UnsupportedModelError
from hierpool.core.options import bound_names, probability_of, takes_prob
from hierpool.core.threads import one_blas_thread
from hierpool.fits.optimum import LikelihoodFit
from hierpool.fits.posterior import PosteriorFit
from hierpool.reml.criterion import Criterion
from hierpool.reml.estimate import hessian_at


@takes_prob
def heritability(fit: LikelihoodFit | PosteriorFit, prob: float | None = None) -> pd.DataFrame:
    """Heritability: the variance of related groups over that of all random effects and residuals.

    With one related factor, ``sd_animal^2 / (sd_animal^2 + ... + sigma^2)``. The fixed effects have no
    part in it. It refers to the base of the pedigree: founders that are neither related nor inbred.
    With slopes, ``(age | animal)``, it is that at the mean age.

    Parameters
    ----------
    fit
        Of a model with ``relationship=``.
    prob
        Probability of the interval; None: that of ``hp.options``.

    Returns
    -------
    DataFrame
        Index: the related factors. Of REML and ML ``estimate``, ``se`` and an interval, by the delta
        method, symmetric for the logit; NaN on the boundary, where ``fit.status`` says singular. Of a
        posterior ``mean``, ``median``, ``sd`` and interval.

    Raises
    ------
    UnsupportedModelError
        The model has no relationship.
    """
    if not isinstance(fit, LikelihoodFit | PosteriorFit):
        raise ArgumentError(
            f"heritability() takes a fit, model.fit() or model.reml(); given: {type(fit).__name__}.",
            "fit-needed",
        )
    probability_of(prob)
    related = [g.factor for g in fit.design.schema.groups if g.related is not None]
    if not related:
        raise UnsupportedModelError(
            "the groups of this model are independent: hp.Model(..., relationship={'animal': pedigree}) "
            "relates them. fit.icc() has shares of independent groups",
            "no-relationship",
        )
    if isinstance(fit, PosteriorFit):
        return fit.icc().loc[related]
    return _of_optimum(fit, prob).loc[related]


def _of_optimum(fit: LikelihoodFit, prob: float | None) -> pd.DataFrame:
    """Shares of all factors: each is a function of the relative sds alone."""
    estimate, factors = fit.icc()["icc"].to_numpy(), [g.factor for g in fit.design.groups]
    logit = special.logit(estimate)
    error = np.full(len(estimate), np.nan)
    if fit.status.word == "converged":
        error = _logit_errors(fit)
    low, high = bound_names("ci", prob)
    reach = special.ndtri((1 + probability_of(prob)) / 2) * error
    columns = {
        "estimate": estimate,
        "se": error * estimate * (1 - estimate),
        low: special.expit(logit - reach),
        high: special.expit(logit + reach),
    }
    return pd.DataFrame(columns, index=pd.Index(factors, name="factor"))


def _logit_errors(fit: LikelihoodFit) -> np.ndarray:
    """Standard errors of the logits of the shares, from the Hessian of the profiled deviance."""
    e = fit.estimate
    criterion = Criterion.from_design(fit.design, "ML" if e.method == "ML" else "REML")
    theta = criterion.theta_of(e.relative_covariance_factor, e.residual_parameters)
    with one_blas_thread():
        covariance = 2 * np.linalg.inv(hessian_at(criterion, theta))
    groups = zip(fit.design.groups, fit.design.group_columns, strict=True)
    means = [(at, g.schema.coding.work(g.Z).mean(axis=0)) for g, at in groups]

    def logits(values: np.ndarray) -> np.ndarray:
        Lambda = criterion.factor(values)
        own = np.array([np.square(mean @ Lambda[at, at]).sum() for at, mean in means])
        phi = criterion.phi(values[None])
        rest = own.sum() - own + mean_variance(fit.design, np.ones(1), phi)[0]
        return np.asarray(np.log(own) - np.log(rest))

    steps = 1e-5 * np.eye(len(theta))
    slopes = np.array([(logits(theta + h) - logits(theta - h)) / 2e-5 for h in steps]).T
    return np.sqrt(np.einsum("ia,ab,ib->i", slopes, covariance, slopes))
