"""Choice of the engine, its fall-back after a bad status, and the message about it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from hierpool.bayes.nuts.parameterization import Seen
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.bayes.run import EngineRun, JudgedRun, NoProposalError, SamplerSettings
from hierpool.core.design import Design
from hierpool.core.errors import FitError, HierpoolWarning, UnsupportedModelError
from hierpool.core.group_nouns import nouns
from hierpool.core.results import Status
from hierpool.core.text import joined
from hierpool.draws.summary import ESS_LIMIT, proposal_pareto_k, verdict

Engine = Literal["auto", "exact", "nuts"]
ENGINES: tuple[Engine, ...] = ("auto", "exact", "nuts")
PARETO_K_LIMIT = 0.7
MOST_OF_STRUCTURE = (
    21  # parameters of a residual structure and of group terms, above which weights fail
)
RETRY_PROPOSAL_SCALE = 1.5  # scale of the starting proposals of the retry


def run(
    design: Design,
    priors: ModelPriors,
    engine: Engine,
    settings: SamplerSettings,
    parameterization: Callable[[], Seen],
) -> JudgedRun:
    """Draw with the engine asked for; ``auto`` falls back to NUTS, announced and recorded.

    ``parameterization`` is called where NUTS is used.
    """
    if engine == "nuts":
        return _nuts(design, priors, settings, parameterization(), "")
    reason = not_for_exact(design, priors)
    if reason:
        if engine == "exact":
            said = (
                f"the exact engine cannot take {design.spec.formula}: {reason}. "
                "Use engine='nuts', or leave engine='auto'."
            )
            if not priors.is_integrable:
                raise UnsupportedModelError(said, "exact-needs-normal")
            raise UnsupportedModelError(said, "beyond-quadrature")
        return _fallen_back(design, priors, settings, parameterization, reason)
    reason = _too_many(priors) if engine == "auto" else ""
    if reason:
        return _fallen_back(design, priors, settings, parameterization, reason)
    try:
        fitted = _exact(design, priors, settings)
    except NoProposalError:
        reason = "the exact engine has found nowhere to propose from under these priors"
        if engine == "exact":
            raise
        return _fallen_back(design, priors, settings, parameterization, reason)
    if fitted.status.is_trustworthy or _is_short(settings):
        return fitted
    no_rows = design.is_summed and design.family is None  # which NUTS needs
    if engine == "exact" or no_rows:
        raise FitError(
            f"the exact engine's draws of {design.spec.formula} are unreliable after a retry: "
            f"{fitted.status.sentence} They are in error.fit. "
            + ("Ask for more draws." if no_rows else _OTHERWISE),
            "exact-not-trusted",
            fitted,
        )
    return _fallen_back(
        design,
        priors,
        settings,
        parameterization,
        f"the exact engine's draws were not good enough ({fitted.status.sentence.rstrip('.')})",
    )


_OTHERWISE = "Use engine='nuts', or leave engine='auto'."


def _too_many(priors: ModelPriors) -> str:
    """Why weights would fail for want of draws, so that trying takes longer than NUTS; else empty."""
    own = priors.residual_structure
    if own is None:
        return ""
    size = sum(part.size for part in priors.parts) - own.n_levels
    counted = "standard deviations and correlations"
    if own.scale is not None:  # beta is sampled too
        size += len(priors.population.terms)
        counted = "coefficients, standard deviations and correlations"
    if size <= MOST_OF_STRUCTURE:
        return ""
    return f"it has {size} {counted}, too many for the exact engine"


def not_for_exact(design: Design, priors: ModelPriors) -> str:
    """Why the exact engine cannot take a model; empty where it can."""
    if not priors.is_integrable:
        return "a coefficient has a prior that is not normal, so it cannot be integrated out"
    if design.samples_scales:
        own = design.scale_factor
        others = joined(nouns(g.factor) for g in design.groups if g.factor != own)
        return (
            f"the residual sds of {nouns(own)} stand beside random effects of {others}, so that they "
            "cannot be integrated one by one"
        )
    if design.family is None:
        return ""
    from hierpool.bayes.quadrature.limits import beyond

    return beyond(design)


def _exact(design: Design, priors: ModelPriors, settings: SamplerSettings) -> JudgedRun:
    exact = _engine(design)
    best: JudgedRun | None = None
    found: dict[str, np.ndarray] = {}
    for attempt, widen in enumerate((1.0, RETRY_PROPOSAL_SCALE, RETRY_PROPOSAL_SCALE)):
        seed = settings.seed + attempt
        run = exact.run(design, priors, replace(settings, seed=seed), widen, **found)
        best = _judged(run, {"attempts": attempt + 1})
        if best.status.is_trustworthy or _is_short(settings):
            break
        found = {} if run.found is None else {"before": run.found}
    assert best is not None
    return best


def _engine(design: Design) -> Any:
    """The module of the exact engine for the family of the response."""
    if design.family is None:
        from hierpool.bayes.exact import engine

        return engine
    from hierpool.bayes.quadrature import engine as by_quadrature

    return by_quadrature


def _is_short(settings: SamplerSettings) -> bool:
    """Whether too few draws were asked for to reach the ESS of a good verdict, whatever is tried."""
    return settings.chains * settings.draws < 2.5 * ESS_LIMIT


def _judged(run: EngineRun, more: Mapping[str, Any]) -> JudgedRun:
    info = dict(run.info)
    weights = info.pop("importance_log_weights")
    k = proposal_pareto_k(weights)
    status = verdict(run.tree, run.checked)
    off = float(info.get("discrepancy", 0.0))
    if not off < np.inf:
        said = "the polynomial approximation of the log posterior of theta was not accurate enough"
        status = Status("doubtful", f"{said}; {status.sentence}")
    elif k > PARETO_K_LIMIT:
        status = Status("doubtful", f"Pareto k of the proposal is {k:.2f}; {status.sentence}")
    for doubt in reversed(run.doubts):
        status = Status("doubtful", f"{doubt}; {status.sentence}")
    return JudgedRun(run.tree, {**info, **more, "pareto_k": k}, status, run.proposal)


def _nuts(
    design: Design,
    priors: ModelPriors,
    settings: SamplerSettings,
    parameterization: Seen,
    reason: str,
) -> JudgedRun:
    from hierpool.bayes.nuts import engine as nuts

    return _judged_by_chains(nuts.run(design, priors, settings, parameterization), reason)


def _judged_by_chains(run: EngineRun, reason: str) -> JudgedRun:
    status = verdict(run.tree, run.checked)
    if reason:
        status = Status(status.word, f"{status.sentence} NUTS was used because {reason}.")
    return JudgedRun(run.tree, {**run.info, "reason": reason}, status)


def _fallen_back(
    design: Design,
    priors: ModelPriors,
    settings: SamplerSettings,
    parameterization: Callable[[], Seen],
    reason: str,
) -> JudgedRun:
    if design.family is None:
        design.check_rows("sampling by NUTS")
    warnings.warn(
        f"{design.spec.formula} is sampled by NUTS: {reason}.", HierpoolWarning, stacklevel=4
    )
    if design.samples_scales and priors.is_integrable:
        from hierpool.bayes.nuts import engine as nuts

        run = nuts.run_collapsed(design, priors, settings)
        if run is not None:
            return _judged_by_chains(run, reason)
    return _nuts(design, priors, settings, parameterization(), reason)


def fresh_seed() -> int:
    """A seed from the system's entropy, to be recorded."""
    return int(np.random.SeedSequence().generate_state(1)[0])


def is_trusted(log_weights: np.ndarray) -> bool:
    """Whether the Pareto k of importance weights is low enough to trust draws."""
    return not proposal_pareto_k(log_weights) > PARETO_K_LIMIT
