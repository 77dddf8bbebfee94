"""Result of either engine: the DataTree, its provenance, and the quantities behind its status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from hierpool.bayes.exact.theta_proposal import ThetaProposal
from hierpool.bayes.theta import ThetaMap
from hierpool.core.design import Design
from hierpool.core.errors import FitError
from hierpool.core.results import Draws, Status, posterior_tree
from hierpool.core.theta import Theta

LARGEST_STORED = 50_000_000  # draws x deviations above which they are drawn when asked for
LARGEST_SUMS = 10_000_000  # draws x coefficients above which coef_<factor> is summed when asked for
LARGEST_DENSITIES = 10_000_000  # draws x rows above which log_likelihood is made when asked for


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """What a fit was asked for; ``sampler``, ``tune`` and ``target_accept`` concern NUTS only."""

    draws: int
    tune: int
    chains: int
    cores: int | None
    seed: int
    sampler: str
    target_accept: float | None
    progress: bool
    options: Mapping[str, Any]


class NoProposalError(FitError):
    """The exact engine has found nowhere to propose from: another engine has to draw."""

    def __init__(self) -> None:
        super().__init__(
            "the exact engine has found nowhere to propose from under these priors. Use"
            " engine='nuts', or leave engine='auto'.",
            "exact-not-trusted",
        )


@dataclass(frozen=True, slots=True)
class EngineRun:
    """Draws of one engine.

    Attributes
    ----------
    tree
        An ArviZ DataTree with a ``theta`` group beside the usual ones.
    info
        Engine, seed, versions, seconds and what else tells how it was made.
    checked
        Names of the variables whose R-hat and ESS decide on the draws.
    doubts
        What else speaks against the draws, a phrase each.
    found
        Points where the posterior is, for another attempt to propose from; None of engines whose
        attempts do not depend on each other.
    proposal
        That theta was drawn from, as adapted from this seed alone; None where something else was.
    """

    tree: xr.DataTree
    info: Mapping[str, Any]
    checked: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    found: np.ndarray | None = None
    proposal: ThetaProposal | None = None


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """Draws with the verdict on them.

    Attributes
    ----------
    tree
        As in ``EngineRun``.
    info
        The same, with what the verdict measured.
    status
        Whether to trust the draws.
    proposal
        As in ``EngineRun``.
    """

    tree: xr.DataTree
    info: Mapping[str, Any]
    status: Status
    proposal: ThetaProposal | None = None


def variance_components(design: Design, theta_map: ThetaMap, theta: Theta) -> dict[str, np.ndarray]:
    """sigma, sds and correlations of theta in the user's coding, under the names of the vocabulary."""
    out = {"sigma": theta.sigma} if design.residual.has_sigma else {}
    if design.family is not None:
        out |= {name: theta.values[name] for name in design.family.parameters}
    own, structure = theta_map.priors.residual_structure, design.residual.structure
    if own is not None and structure is not None:
        out |= structure.reported(own.phi(theta), theta.sigma)
    sd, corr = theta_map.sd_and_corr(theta)
    for group, at in zip(design.groups, design.group_columns, strict=True):
        if not group.is_pooled:
            continue
        out[f"sd_{group.factor}"] = sd[:, at]
        if group.has_correlation:
            out[f"corr_{group.factor}"] = corr[:, at, at]
    return out


def thresholds_for_user(design: Design, theta: Theta, beta: np.ndarray) -> dict[str, np.ndarray]:
    """Thresholds (K, C - 1) where all predictors are 0, for coefficients (K, p) in the user's coding.

    In theta they are where the predictors have their means.
    """
    if "thresholds" not in theta.values:
        return {}
    moved = beta @ design.schema.coding.means
    return {"thresholds": theta.values["thresholds"] + moved[:, None]}


def make_tree(
    design: Design,
    variables: Mapping[str, np.ndarray],
    theta: Theta,
    stats: Mapping[str, np.ndarray],
    chains: int,
) -> xr.DataTree:
    """DataTree from draws with all chains one after the other, shapes (K, ...)."""

    def chained(values: np.ndarray) -> np.ndarray:
        return values.reshape(chains, -1, *values.shape[1:])

    draws = Draws(
        variables={k: chained(v) for k, v in variables.items()},
        theta={k: chained(v) for k, v in theta.values.items()},
        sample_stats={k: chained(v) for k, v in stats.items()},
    )
    return posterior_tree(design, draws, {})


def log_likelihood_is(design: Design, n_draws: int) -> str:
    """Where the densities of the rows are: stored, made on request, or not to be had from sums."""
    if design.is_summed and design.family is None:
        return "needs rows"
    return "stored" if keeps_log_likelihood(design, n_draws) else "on request"


def keeps_log_likelihood(design: Design, n_draws: int) -> bool:
    """Whether the densities of all rows are few enough to keep."""
    return n_draws * design.n <= LARGEST_DENSITIES and not design.is_summed
