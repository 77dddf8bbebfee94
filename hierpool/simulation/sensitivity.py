"""hp.sensitivity: how results change when a prior is weakened or strengthened."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hierpool.algebra.gaussian import LOG_2PI
from hierpool.algebra.moments import Coordinates
from hierpool.algebra.triangular import log_det
from hierpool.bayes.choose import is_trusted
from hierpool.bayes.exact.log_posterior import log_posterior
from hierpool.bayes.exact.refit_with_priors import sample_judged
from hierpool.bayes.priors import power_scaling
from hierpool.bayes.run import variance_components
from hierpool.checks import sensitivity as scaling
from hierpool.checks.sensitivity import Sensitivity
from hierpool.core.errors import ArgumentError
from hierpool.core.theta import ScaleTheta
from hierpool.draws.scalars import scalars, telling_levels
from hierpool.fits.posterior import PosteriorFit


def sensitivity(fit: PosteriorFit) -> Sensitivity:
    """Prior sensitivity: how results change when a prior is weakened or strengthened.

    The priors of beta, of the standard deviations, of the correlations and of sigma are each
    raised to a power, and so is the likelihood, p(y | beta, theta) with the random effects
    integrated out. Draws are reweighted; where that is unreliable, the model is fitted again by the
    exact engine.

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
    unpooled = fit.priors.unpooled
    is_stored = unpooled is not None and f"coef_{unpooled.factor}" in variables
    levels = telling_levels(fit.design.schema) if is_stored else None
    beta = variables.get("beta", np.zeros((*fit.n_draws, 0))).reshape(len(fit.theta), -1)
    densities = power_scaling.log_priors(
        fit.priors, fit.theta, beta, _unpooled(fit, variables, beta)
    )
    densities = {k: densities[k] for k in power_scaling.components(fit.priors) if k in densities}
    if fit.is_integrable and (is_stored or unpooled is None):
        densities[scaling.LIKELIHOOD] = _given_beta(fit, beta)

    def scaled(component: str, exponent: float) -> Mapping[str, np.ndarray] | None:
        priors = power_scaling.power_scaled(fit.priors, component, exponent)
        if priors is None or not priors.is_integrable or fit.design.samples_scales:
            return None
        rng = np.random.default_rng(int(fit.info.get("seed", 0)))
        if fit.design.family is not None:
            from hierpool.bayes.quadrature.refit import redrawn

            again = redrawn(fit.design, priors, *fit.n_draws, rng, is_trusted)
            made = scalars(fit.design.schema, again.variables, levels)
            return made if again.is_trusted else None
        target = log_posterior(fit.design, priors)
        found, trusted = sample_judged(target, *fit.n_draws, rng, is_trusted)
        if not trusted:
            return None
        theta, working = target.drawn(found.flat, rng)
        drawn = target.integrated.draw_coefficients(working, rng)
        spread = variance_components(fit.design, target.theta_map, theta)
        return scalars(fit.design.schema, {**drawn, **spread}, levels)

    chained = {k: v.reshape(fit.n_draws) for k, v in densities.items()}
    return scaling.sensitivity(
        fit.design.spec.formula, scalars(fit.design.schema, variables, levels), chained, scaled
    )


def _unpooled(
    fit: PosteriorFit, variables: Mapping[str, np.ndarray], beta: np.ndarray
) -> np.ndarray | None:
    """Coefficients (K, J, q) of no pooling as their prior sees them; None where not stored."""
    part = fit.priors.unpooled
    values = None if part is None else variables.get(f"coef_{part.factor}")
    if part is None or values is None:
        return None
    own = values.reshape(-1, *values.shape[2:])
    common = Coordinates.from_design(fit.design).x
    if common.has_constant or not beta.shape[1]:
        return own
    return np.asarray(own + (beta @ common.means)[:, None, None] * part.coding.constant)


def _given_beta(fit: PosteriorFit, beta: np.ndarray) -> np.ndarray:
    """Shape (K,): log p(y | beta, theta) of each draw, deviations of the levels integrated out.

    It is p(y | theta) p(beta | y, theta) / p(beta). For no pooling nothing is integrated out.
    """
    integrated = fit.integrated
    if fit.priors.unpooled is not None:
        tree = fit.with_log_likelihood("conditional").datatree
        return tree["log_likelihood"]["y"].sum("obs").to_numpy().reshape(-1)
    if fit.design.family is not None:
        return fit.point_log_density
    if isinstance(fit.working_theta, ScaleTheta):
        return integrated.log_density(fit.working_theta)
    marginal = integrated.marginal(fit.working_theta)
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
    # Less the log prior of beta but for its constant: only differences between draws are used.
    return np.asarray(out + posterior + 0.5 * quadratic)
