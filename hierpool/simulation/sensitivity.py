"""hp.sensitivity: what moves when a prior is made weaker or stronger."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hierpool.algebra.gaussian import LOG_2PI
from hierpool.algebra.moments import Coordinates
from hierpool.algebra.triangular import log_det
from hierpool.bayes.choose import is_trusted
from hierpool.bayes.exact.refit_with_priors import sample_judged
from hierpool.bayes.exact.target import LogPosterior
from hierpool.bayes.priors import power_scaling
from hierpool.bayes.run import is_integrable, variance_component_names
from hierpool.checks import sensitivity as scaling
from hierpool.checks.sensitivity import Sensitivity
from hierpool.core.errors import ArgumentError
from hierpool.draws.scalars import scalars, telling_levels
from hierpool.fits.posterior import PosteriorFit


def sensitivity(fit: PosteriorFit) -> Sensitivity:
    """What moves when a prior is made weaker or stronger: a table and a sentence.

    The priors of beta, of the standard deviations, of the correlations and of sigma are each
    raised to a power, and so is the likelihood, p(y | beta, theta) with the levels' deviations
    integrated out. Draws are reweighted; where that cannot be trusted, the model is fitted again
    by the exact engine.

    Parameters
    ----------
    fit
        A posterior of either engine.

    Returns
    -------
    Sensitivity
        ``table`` and ``sentence``; it prints both.
    """
    if not isinstance(fit, PosteriorFit):
        raise ArgumentError(
            f"sensitivity() takes a posterior, model.fit(); given: {type(fit).__name__}.",
            "posterior-needed",
        )
    posterior = fit.draws["posterior"].to_dataset()
    variables = {str(k): v.to_numpy() for k, v in posterior.data_vars.items()}
    has_own = f"coef_{fit.priors.own_factor}" in variables and fit.priors.own is not None
    levels = telling_levels(fit.design.schema) if has_own else None
    beta = variables.get("beta", np.zeros((*fit.n_draws, 0))).reshape(len(fit.theta), -1)
    densities = power_scaling.log_priors(fit.priors, fit.theta, beta, _own(fit, variables, beta))
    densities = {k: densities[k] for k in power_scaling.components(fit.priors) if k in densities}
    if fit.is_integrable and (has_own or fit.priors.own is None):
        densities[scaling.LIKELIHOOD] = _given_beta(fit, beta)

    def scaled(component: str, exponent: float) -> Mapping[str, np.ndarray] | None:
        priors = power_scaling.power_scaled(fit.priors, component, exponent)
        if priors is None or not is_integrable(priors):
            return None
        rng = np.random.default_rng(int(fit.info.get("seed", 0)))
        target = LogPosterior.from_design(fit.design, priors)
        found, trusted = sample_judged(target, *fit.n_draws, rng, is_trusted)
        if not trusted:
            return None
        theta = target.coordinates.theta(found.flat)
        factor = target.theta_map.relative_covariance_factor(theta)
        drawn = target.integrated.draw_coefficients(theta.sigma, factor, rng)
        spread = variance_component_names(fit.design, target.theta_map, theta)
        return scalars(fit.design.schema, {**drawn, **spread}, levels)

    chained = {k: v.reshape(fit.n_draws) for k, v in densities.items()}
    return scaling.sensitivity(
        fit.design.spec.formula, scalars(fit.design.schema, variables, levels), chained, scaled
    )


def _own(
    fit: PosteriorFit, variables: Mapping[str, np.ndarray], beta: np.ndarray
) -> np.ndarray | None:
    """Own coefficients (K, J, q) of no pooling as their prior sees them; None where not stored."""
    values = variables.get(f"coef_{fit.priors.own_factor}")
    if fit.priors.own is None or values is None:
        return None
    own = values.reshape(-1, *values.shape[2:])
    common = Coordinates.from_design(fit.design).x
    if common.has_constant or not beta.shape[1]:
        return own
    return np.asarray(own + (beta @ common.means)[:, None, None] * fit.priors.own.coding.constant)


def _given_beta(fit: PosteriorFit, beta: np.ndarray) -> np.ndarray:
    """Shape (K,): log p(y | beta, theta) of each draw, deviations of the levels integrated out.

    It is p(y | theta) p(beta | y, theta) / p(beta). For no pooling nothing is integrated out.
    """
    integrated = fit.integrated
    if fit.priors.own is not None:
        tree = fit.with_log_likelihood("conditional").datatree
        return tree["log_likelihood"]["y"].sum("obs").to_numpy().reshape(-1)
    marginal = integrated.marginal(fit.theta.sigma, fit.relative_covariance_factor)
    out = marginal.log_density
    p = beta.shape[1]
    if not p:
        return out
    working = integrated.coordinates.beta_from_user(beta)
    away = np.einsum("kqp,kq->kp", marginal.R, working - marginal.beta)
    scaled = (away**2).sum(axis=1) / fit.theta.sigma**2
    posterior = -0.5 * (p * (LOG_2PI + 2 * np.log(fit.theta.sigma)) - log_det(marginal.R) + scaled)
    prior = integrated.prior
    centred = working - prior.mean
    quadratic = np.einsum("kp,pq,kq->k", centred, prior.precision, centred)
    return np.asarray(out + posterior + 0.5 * quadratic)
