"""Draws of a posterior as flat arrays, chains one after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import numpy as np

from hierpool.algebra.combinations import Combinations
from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.core.schema import GroupSchema

if TYPE_CHECKING:
    from hierpool.algebra.marginal_model import LevelsOnRequest


def flat(fit: IntegratedPosterior, name: str) -> np.ndarray:
    """Shape (K, ...): draws of one variable."""
    values = fit.variable(name).to_numpy()
    return values.reshape(-1, *values.shape[2:])


def beta_draws(fit: IntegratedPosterior) -> np.ndarray:
    """Shape (K, p): draws of the population coefficients."""
    return flat(fit, "beta") if fit.design.terms else np.zeros((int(np.prod(fit.n_draws)), 0))


def family_draws(fit: IntegratedPosterior) -> np.ndarray:
    """Shape (K, P): draws of the parameters of the family, thresholds of ratings in their place."""
    family = fit.design.family
    assert family is not None
    if family.has_thresholds:
        return flat(fit, "thresholds")
    K = int(np.prod(fit.n_draws))
    return np.array([flat(fit, name) for name in family.parameters]).reshape(-1, K).T


def level_draws(fit: IntegratedPosterior, group: GroupSchema, levels: np.ndarray) -> np.ndarray:
    """Shape (K, levels, q): deviations of some levels (positions), own coefficients of no pooling.

    Levels that are too many to keep are drawn when they are asked for, each the same every time.
    """
    name = group.level_variable
    stored = fit.draws["posterior"]
    if name in stored:
        values = stored[name].to_numpy()
        return values.reshape(-1, *values.shape[2:])[:, levels]
    out = np.empty((int(np.prod(fit.n_draws)), len(levels), len(group.terms)))
    for run, drawn in levels_on_request(fit, levels):
        inside = np.flatnonzero((levels >= run.start) & (levels < run.stop))
        out[:, inside] = drawn[name][:, levels[inside] - run.start]
    return out


def levels_on_request(
    fit: IntegratedPosterior, wanted: np.ndarray | None = None
) -> Iterator[tuple[slice, dict[str, np.ndarray]]]:
    """Coefficients of levels that are too many to keep, some levels at a time, (K, J, q).

    With ``wanted`` (positions) only the runs of levels in which one of them is.
    """
    if (kept := fit.dear_levels) is not None:
        yield slice(0, max(values.shape[1] for values in kept.values())), kept
        return
    # Of several factors all levels are kept; families draw the levels of one factor alike.
    algebra, theta = cast("LevelsOnRequest", fit.integrated), fit.working_theta
    beta = algebra.coordinates.beta_from_user(beta_draws(fit))
    for run in algebra.level_runs():
        if wanted is None or ((wanted >= run.start) & (wanted < run.stop)).any():
            drawn = algebra.draw_levels(theta, beta, run, fit.seed)
            yield run, {name: values for name, values in drawn.items() if name != "beta"}


def family_parameters(fit: IntegratedPosterior) -> np.ndarray:
    """Shape (K, P): draws of the family's parameters, thresholds where all predictors are 0."""
    family = fit.design.family
    K = int(np.prod(fit.n_draws))
    if family is None:
        return np.zeros((K, 0))
    if family.has_thresholds:
        return flat(fit, "thresholds")
    return np.column_stack([np.zeros((K, 0)), *(flat(fit, name) for name in family.parameters)])


def combined(fit: IntegratedPosterior, t: Combinations) -> np.ndarray:
    """Shape (K, m): draws of combinations of coefficients."""
    out = beta_draws(fit) @ t.X.T
    for group, part in zip(fit.design.groups, t.parts, strict=True):
        if not len(part.which):
            continue
        levels, place = np.unique(part.levels, return_inverse=True)
        own = level_draws(fit, group.schema, levels)
        for e, i in enumerate(part.which):
            out[:, i] += own[:, place[e]] @ part.weights[e]
    return np.asarray(out)


def means(fit: IntegratedPosterior, asked: Combinations) -> np.ndarray:
    """Shape (m,): posterior means of combinations of coefficients, as in ``fit.fitted()``."""
    of = fit.posterior_means
    out = asked.X @ of["beta"] if fit.design.terms else np.zeros(len(asked.X))
    for group, part in zip(fit.design.groups, asked.parts, strict=True):
        own = of[group.level_variable][part.levels]
        np.add.at(out, part.which, (part.weights * own).sum(axis=1))
    return np.asarray(out)


def spread_roots(fit: IntegratedPosterior, group: GroupSchema) -> np.ndarray:
    """Shape (K, q, q): roots of the covariance of a level's deviations, singular or not."""
    sd = flat(fit, f"sd_{group.factor}")
    if not group.has_correlation:
        return sd[:, :, None] * np.eye(sd.shape[1])
    values, vectors = np.linalg.eigh(flat(fit, f"corr_{group.factor}"))
    return sd[:, :, None] * vectors * np.sqrt(np.maximum(values, 0.0))[:, None]


def own_generator(seed: int, *names: object) -> np.random.Generator:
    """Random numbers that belong to a name: the same whatever else is drawn, and in what order."""
    text = "\0".join(map(str, names))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest, dtype=np.uint32).tolist()])
