"""The door to what simulates and fits again: calibrate, recovery, sensitivity, lrt.

The checks themselves import no engine; here they are given one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np

from hierpool import engines
from hierpool.bayes import power, prior_draws
from hierpool.bayes.priors import ModelPriors, default_priors
from hierpool.bayes.refits import sample_judged
from hierpool.bayes.runs import (
    Settings,
    is_integrable,
    spread_names,
)
from hierpool.bayes.target import Target
from hierpool.bayes.theta import Theta
from hierpool.checks import calibration as sbc
from hierpool.checks import recovery as recovering
from hierpool.checks import sensitivity as scaling
from hierpool.checks.calibration import Calibration, Redrawn, Simulated
from hierpool.checks.diagnostics import proposal_pareto_k
from hierpool.checks.quantities import scalars, telling_levels
from hierpool.checks.recovery import Estimated, Recovery
from hierpool.checks.sensitivity import Sensitivity
from hierpool.checks.threads import in_threads
from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError, UnsupportedModelError
from hierpool.core.gaussian import LOG_2PI
from hierpool.core.moments import Coordinates, single_group
from hierpool.core.spec import Spec
from hierpool.core.triangular import log_det
from hierpool.data.frame import build_design
from hierpool.data.pooling import complete_pooling_spec, no_pooling_spec, question
from hierpool.fits import BlupFit, PosteriorFit
from hierpool.models import Model
from hierpool.reml import estimate, ratio

CHAINS, DRAWS = 4, 100  # of each simulated fit; four times as many for recovery
_MORE = 4  # times as many draws where too few of them are independent
LOG_LIKELIHOOD = "log_likelihood"  # quantity: log p(y | theta), coefficients integrated out


def calibrate(
    model: Model,
    simulations: int = 200,
    *,
    seed: int | None = None,
    engine: Literal["exact", "nuts"] = "exact",
    progress: bool = True,
) -> Calibration:
    """Simulation-based calibration: whether a model's posteriors are what they say they are.

    Parameters are drawn from the model's priors, as printed; responses simulated from them are
    fitted under the same priors. The ranks of sigma, the standard deviations, the correlations,
    beta, the coefficients of three levels (fewest, median and most rows) and the log-likelihood
    among 99 posterior draws are uniform if all is right.

    Parameters
    ----------
    model
        Any model with proper priors.
    simulations
        How many simulated responses.
    seed
        One seed, one answer; None: a fresh one, recorded.
    engine
        ``"exact"``, or ``"nuts"``: minutes, not seconds.
    progress
        Show a bar on anything over a second.

    Returns
    -------
    Calibration
        Prints a verdict; ``ranks``, ``table``; ``hp.plots.calibration`` draws it.
    """
    _check_model(model, "calibrate")
    design, priors = model.design, model.priors
    if engine not in ("exact", "nuts"):
        raise ArgumentError(f"engine={engine!r}: choose 'exact' or 'nuts'", "unknown-choice")
    if engine == "exact" and not is_integrable(priors):
        raise UnsupportedModelError(
            f"the exact engine cannot take {model.formula}: a coefficient has a prior that is not "
            "normal. Use engine='nuts'.",
            "exact-needs-normal",
        )
    levels = telling_levels(design)
    redraw = _redraw_exact if engine == "exact" else _redraw_nuts

    def simulate(rng: np.random.Generator) -> Simulated:
        drawn = prior_draws.draw_parameters(design, priors, rng)
        response = replace(design, y=prior_draws.simulate(design, drawn, rng))
        truth = scalars(design, drawn.named(design), levels)
        if engine == "exact" and drawn.theta is not None:
            truth[LOG_LIKELIHOOD] = _log_likelihood(Target.of(response, priors), drawn.theta)[0]
        return Simulated({k: float(v) for k, v in truth.items()}, response)

    def refit(response: Design, rng: np.random.Generator) -> Redrawn:
        return redraw(response, priors, levels, rng)

    return sbc.calibrate(
        simulate,
        refit,
        formula=model.formula,
        engine=engine,
        simulations=simulations,
        seed=engines.fresh_seed() if seed is None else seed,
        progress=progress,
    )


def _check_model(model: object, function: str) -> None:
    if not isinstance(model, Model):
        raise ArgumentError(
            f"{function}() simulates from a model and fits each data set anew; given: "
            f"{type(model).__name__}. Write hp.{function}(model) with the model itself, e.g. "
            "model = hp.Model('y ~ x + (x | g)', data).",
            "model-needed",
        )


def _log_likelihood(target: Target, theta: Theta) -> np.ndarray:
    factor = target.theta_map.relative_factor(theta)
    return target.integrated.log_density(theta.sigma, factor)


def _is_good(log_weights: np.ndarray) -> bool:
    return not proposal_pareto_k(log_weights) > engines.PARETO_K_LIMIT


def _redraw_exact(
    design: Design, priors: ModelPriors, levels: np.ndarray, rng: np.random.Generator
) -> Redrawn:
    target = Target.of(design, priors)
    trusted, kept = False, np.zeros(0, dtype=np.intp)
    for draws in (DRAWS, _MORE * DRAWS):
        found, trusted = sample_judged(target, CHAINS, draws, rng, _is_good)
        enough, kept = sbc.independent(found.log_posterior, *np.moveaxis(found.z, -1, 0)[:1])
        if enough:
            break
    theta = target.coordinates.theta(found.flat[kept])
    factor = target.theta_map.relative_factor(theta)
    variables = target.integrated.draw_coefficients(theta.sigma, factor, rng)
    variables |= spread_names(design, target.theta_map, theta)
    drawn = scalars(design, variables, levels)
    drawn[LOG_LIKELIHOOD] = target.integrated.log_density(theta.sigma, factor)
    return Redrawn(drawn, trusted and enough)


def _redraw_nuts(
    design: Design, priors: ModelPriors, levels: np.ndarray, rng: np.random.Generator
) -> Redrawn:
    seed = int(rng.integers(2**31))
    settings = Settings(_MORE * DRAWS, 1000, CHAINS, None, seed, "nutpie", None, False, {})
    fit = engines.fit(design, priors, "nuts", settings)
    posterior = fit.draws["posterior"].to_dataset()
    variables = {str(k): v.to_numpy() for k, v in posterior.data_vars.items()}
    chained = scalars(design, variables, levels)
    enough, kept = sbc.independent(*chained.values())
    return Redrawn({k: v.reshape(-1)[kept] for k, v in chained.items()}, enough)


def recovery(
    model: Model,
    simulations: int = 100,
    *,
    at: Literal["reml", "prior"] | PosteriorFit | BlupFit = "reml",
    seed: int | None = None,
    progress: bool = True,
) -> Recovery:
    """How well no, complete and partial pooling and BLUPs recover the levels' coefficients.

    Responses are simulated from the model with its levels drawn anew each time; the four are
    fitted to each, and their estimates of every level's coefficients set against the truth.

    Parameters
    ----------
    model
        A partially pooled model.
    simulations
        How many simulated responses.
    at
        Parameters of the simulation: ``"reml"``, the REML optimum of the model's own data; a fit,
        its estimates (posterior means); ``"prior"``, drawn from the priors anew each time.
    seed
        One seed, one answer; None: a fresh one, recorded.
    progress
        Show a bar on anything over a second.

    Returns
    -------
    Recovery
        Bias, rmse and coverage by estimator and term; intervals have the probability of ArviZ's
        rcParams, those of BLUPs are normal.
    """
    _check_model(model, "recovery")
    design, priors = model.design, model.priors
    group = single_group(design)
    if group is None or not group.is_pooled:
        raise UnsupportedModelError(
            f"{model.formula} does not pool partially: recovery compares the poolings on data from "
            "a model with a distribution of levels. Use varying_intercept(...) or "
            "varying_slope(...).",
            "no-random-effects",
        )
    if not is_integrable(priors):
        raise UnsupportedModelError(
            f"recovery of {model.formula} needs normal priors on its coefficients.",
            "exact-needs-normal",
        )
    given, truth = _parameters_at(model, at)

    def simulate(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if given is None:
            drawn = prior_draws.draw_parameters(design, priors, rng)
        else:
            drawn = prior_draws.at_parameters(design, given, rng)
        return drawn.named(design)[f"coef_{group.factor}"], prior_draws.simulate(design, drawn, rng)

    return recovering.recovery(
        simulate,
        _estimators(model),
        group.terms,
        formula=model.formula,
        truth=truth,
        simulations=simulations,
        seed=engines.fresh_seed() if seed is None else seed,
        progress=progress,
    )


def _parameters_at(model: Model, at: Any) -> tuple[prior_draws.Parameters | None, str]:
    """Parameters to simulate at, None for those of the priors, and words for them."""
    if isinstance(at, str) and at == "prior":
        return None, "parameters drawn from the priors"
    if isinstance(at, str) and at == "reml":
        at = model.reml()
    if not isinstance(at, (BlupFit, PosteriorFit)):
        raise ArgumentError(f"at={at!r}: choose 'reml', 'prior' or a fit", "unknown-choice")
    if at.design.spec != model.design.spec:
        raise ArgumentError(
            f"at= is a fit of {at.design.spec.formula}, the model is {model.formula}",
            "unknown-choice",
        )
    if isinstance(at, BlupFit):
        e = at.estimate
        roots = tuple(
            prior_draws.spread_root(f.sd, np.where(np.isnan(f.corr), 0.0, f.corr))
            for f in e.factors
        )
        return prior_draws.Parameters(e.beta, e.sigma, roots), f"its {e.method} optimum"
    posterior = at.draws["posterior"].mean(("chain", "draw"))
    found = []
    for group in model.design.groups:
        sd, corr = posterior[f"sd_{group.factor}"].to_numpy(), np.eye(len(group.terms))
        if group.has_correlation:
            corr = posterior[f"corr_{group.factor}"].to_numpy()
        found.append(prior_draws.spread_root(sd, corr))
    beta = posterior["beta"].to_numpy() if "beta" in posterior else np.zeros(0)
    sigma = float(posterior["sigma"]) if model.design.has_sigma else 1.0
    return prior_draws.Parameters(beta, sigma, tuple(found)), "its posterior means"


def _estimators(model: Model) -> dict[str, recovering.Estimator]:
    """No, complete and partial pooling, and BLUPs, of the levels' coefficients of a model."""
    design = model.design
    group = design.groups[0]
    spec = design.spec
    columns = question(f"{spec.response} ~ {spec.without_bars}", spec.weights, spec.known_se)
    complete = _sibling(design, complete_pooling_spec(columns, group.factor))
    own = _sibling(design, no_pooling_spec(columns, group.factor))
    common = ModelPriors(model.priors.response, model.priors.sigma, model.priors.population)
    return {
        "no_pooling": lambda y, seed: _drawn(own, default_priors(own), y, seed, group.terms),
        "complete_pooling": lambda y, seed: _drawn(complete, common, y, seed, group.terms),
        "partial_pooling": lambda y, seed: _drawn(design, model.priors, y, seed, group.terms),
        "blup": lambda y, seed: _blup(replace(design, y=y)),
    }


def _sibling(design: Design, spec: Spec) -> Design:
    return build_design(spec, design.frame)


def _drawn(
    design: Design, priors: ModelPriors, y: np.ndarray, seed: int, terms: tuple[str, ...]
) -> Estimated:
    """Posterior means and intervals of the levels' coefficients on these terms."""
    target = Target.of(replace(design, y=y), priors)
    rng = np.random.default_rng(seed)
    found, _ = sample_judged(target, CHAINS, _MORE * DRAWS, rng, _is_good)
    theta = target.coordinates.theta(found.flat)
    factor = target.theta_map.relative_factor(theta)
    drawn = target.integrated.draw_coefficients(theta.sigma, factor, rng)
    n_levels = next(iter(design.groupings.values())).n_levels
    K = len(theta)
    values = np.zeros((K, n_levels, len(terms)))
    group = single_group(design)
    for k, term in enumerate(terms):
        if group is not None and term in group.terms:
            values[..., k] = drawn[f"coef_{group.factor}"][..., group.terms.index(term)]
        elif term in design.terms:
            values[..., k] = drawn["beta"][:, [design.terms.index(term)]]
    return Estimated.of_draws(values)


def _blup(design: Design) -> Estimated:
    e = estimate.estimate(design, "REML")
    variance = np.diagonal(e.only.coef_covariance, axis1=-2, axis2=-1)
    return Estimated.normal(e.only.coef, np.sqrt(variance))


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
    levels = telling_levels(fit.design) if has_own else None
    beta = variables.get("beta", np.zeros((*fit.n_draws, 0))).reshape(len(fit.theta), -1)
    densities = power.log_priors(fit.priors, fit.theta, beta, _own(fit, variables, beta))
    densities = {k: densities[k] for k in power.components(fit.priors) if k in densities}
    if fit.is_integrable and (has_own or fit.priors.own is None):
        densities[scaling.LIKELIHOOD] = _given_beta(fit, beta)

    def scaled(component: str, exponent: float) -> Mapping[str, np.ndarray] | None:
        priors = power.power_scaled(fit.priors, component, exponent)
        if priors is None or not is_integrable(priors):
            return None
        rng = np.random.default_rng(int(fit.info.get("seed", 0)))
        target = Target.of(fit.design, priors)
        found, trusted = sample_judged(target, *fit.n_draws, rng, _is_good)
        if not trusted:
            return None
        theta = target.coordinates.theta(found.flat)
        factor = target.theta_map.relative_factor(theta)
        drawn = target.integrated.draw_coefficients(theta.sigma, factor, rng)
        spread = spread_names(fit.design, target.theta_map, theta)
        return scalars(fit.design, {**drawn, **spread}, levels)

    chained = {k: v.reshape(fit.n_draws) for k, v in densities.items()}
    return scaling.sensitivity(
        fit.design.spec.formula, scalars(fit.design, variables, levels), chained, scaled
    )


def _own(
    fit: PosteriorFit, variables: Mapping[str, np.ndarray], beta: np.ndarray
) -> np.ndarray | None:
    """Own coefficients (K, J, q) of no pooling as their prior sees them; None where not stored."""
    values = variables.get(f"coef_{fit.priors.own_factor}")
    if fit.priors.own is None or values is None:
        return None
    own = values.reshape(-1, *values.shape[2:])
    common = Coordinates.of(fit.design).x
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
    marginal = integrated.marginal(fit.theta.sigma, fit.relative_factor)
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


def lrt(
    smaller: BlupFit,
    larger: BlupFit,
    *,
    null: ratio.Null = "auto",
    simulations: int = 500,
    seed: int | None = None,
    cores: int | None = None,
    progress: bool = True,
) -> ratio.LikelihoodRatio:
    """Likelihood ratio test of two nested REML, ML or least-squares fits of the same rows.

    Models that differ in their fixed effects are compared by ML, and refitted for it if need be;
    with equal fixed effects REML fits are compared by REML. A variance that the smaller model sets
    to zero is on its bound, and a plain chi-squared would be too strict: with one variance more
    the null distribution is a 50:50 mixture (of chi-squareds with 0 and 1 df for one variance
    alone, with q and q + 1 where it comes with q covariances). The mixture is for many levels; with
    few it is cautious. With more variances at once it is simulated.

    Parameters
    ----------
    smaller, larger
        ``model.reml()`` or ``model.ml()``; the second model holds the first as a special case.
    null
        ``"auto"``: as above. ``"simulated"``: responses from the smaller fit, both models fitted
        to each; right with few levels too.
    simulations, seed, cores, progress
        Of a simulated null.

    Raises
    ------
    ComparisonError
        Other rows, another response, or models that are not nested.
    UnsupportedModelError
        One of them has no pooling.

    References
    ----------
    Self, Liang (1987), J. Am. Stat. Assoc. 82, 605-610.
    Stram, Lee (1994), Biometrics 50, 1171-1177.

    Examples
    --------
    >>> import hierpool as hp
    >>> dyes = hp.datasets.load("Dyestuff")
    >>> one = hp.Model("Yield ~ 1", dyes).reml()
    >>> hp.lrt(one, hp.Model("Yield ~ 1 + (1 | Batch)", dyes).reml())
    Likelihood ratio test by REML
      Yield ~ 1                 restricted log-likelihood -163.0116
      Yield ~ 1 + (1 | Batch)   restricted log-likelihood -159.8271
    statistic 6.369, 1 more parameter, p = 0.00581
    null: 50:50 mixture of chi-squareds with 0 and 1 df (Self and Liang 1987)
    """
    for fit in (smaller, larger):
        if not isinstance(fit, BlupFit):
            raise ArgumentError(
                f"lrt() takes model.reml() or model.ml(); given: {type(fit).__name__}. Posteriors "
                "are compared by hp.compare().",
                "fit-needed",
            )
    each = partial(in_threads, what="null distribution", cores=cores, progress=progress)
    how = ratio.Simulating(null, simulations, seed, each)
    one, other = ((fit.design, fit.estimate) for fit in (smaller, larger))
    return ratio.likelihood_ratio(one, other, how)
