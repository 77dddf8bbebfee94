"""Where sampling starts: the mode of the Laplace approximation, then of the exact posterior.

The joint mode is badly off where levels have few rows (with one effect a row, by eleven posterior
sds), so that a proposal centred there finds nothing: Newton's method moves it on the exact target.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hierpool.bayes.exact.mode import LARGEST_COORDINATE, Search, climb_all
from hierpool.bayes.exact.target import log_normal
from hierpool.bayes.quadrature.laplace_map import LaplaceMap
from hierpool.bayes.quadrature.target import FamilyPosterior, JointTarget

DIFFERENCE = 0.1  # for derivatives: wide, since modes and quadrature have errors of 1e-4
ALL_PAIRS_UP_TO = 14  # dimensions up to which every pair's curvature is looked at
REBUILT_FROM = 0.5  # movement of z from which the map is made anew where the mode is
SHIFTED_FROM = 0.5  # e of the mode from which the map is centred on it
CLIMBS = 5
TRIED = 12  # theta at which the search begins: the best of them


@dataclass(frozen=True)
class Polished:
    """A mode of the exact posterior.

    Attributes
    ----------
    target
        In whose coordinates it is.
    mode, scale
        Shapes (D,), (D, D): x, and minus the inverse Hessian there.
    shift
        Largest movement of a coordinate, in posterior sds, from where Laplace had the mode.
    laplace_evidence
        Log marginal likelihood as the Laplace approximation has it, and the standard error of that.
    """

    target: JointTarget
    mode: np.ndarray
    scale: np.ndarray
    shift: float
    laplace_evidence: tuple[float, float]


def polished(posterior: FamilyPosterior, rng: np.random.Generator) -> Polished:
    """The mode of a posterior, and its curvature there."""
    mode, scale, posterior = _laplace_mode(posterior, rng)
    target = _target(posterior, mode, scale, rng)
    laplace_evidence = target.map.log_evidence
    d, centre, began = len(mode), mode, target.map.centre_and_root(mode[None])
    x = np.concatenate([mode, np.zeros(target.map.n_gamma)])
    for _ in range(CLIMBS):
        x, curvature = _climbed(target, x)
        gamma = target.gamma(x[None])
        if np.abs(x[:d] - centre).max(initial=0.0) > REBUILT_FROM:
            centre, scale_there = x[:d], curvature[:d, :d]
            start = posterior.laplace(centre[None]).start
            target = _target(posterior.started_at(start), centre, scale_there, rng)
        elif not np.abs(x[d:]).max(initial=0.0) > SHIFTED_FROM:
            break
        # Where the approximation is off it is off alike nearby: centred on what was found, the
        # coefficients need not follow theta.
        off = gamma[0] - target.map.centre_and_root(x[None, :d])[0][0]
        target = replace(target, map=target.map.shifted(off))
        x = np.concatenate([x[:d], np.zeros(len(off))])
    moved = (target.gamma(x[None])[0] - began[0][0]) @ began[1][0]
    sds = np.concatenate([_sds_moved(x[:d] - mode, scale), moved])
    shift = float(np.abs(sds).max(initial=0.0))
    return Polished(target, x, curvature, shift, laplace_evidence)


def _sds_moved(moved: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return moved / np.sqrt(np.diag(scale))


def _laplace_mode(
    posterior: FamilyPosterior, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, FamilyPosterior]:
    """Mode of theta (d,) with coefficients approximated, its scale, and the model started there."""
    d = posterior.dimension
    middle = posterior.laplace(np.zeros((1, d))).start
    if d == 0:
        return np.zeros(0), np.zeros((0, 0)), posterior.started_at(middle)

    def log_density(z: np.ndarray) -> np.ndarray:
        return posterior.laplace(z, middle).log_density + log_normal(z)

    tried = 0.8 * rng.standard_normal((TRIED, d))
    tried[0] = 0.0
    begin = tried[np.argsort(-np.nan_to_num(log_density(tried), nan=-np.inf))[:1]]
    modes, _, scales = climb_all(
        log_density, begin, np.ones((1, d), dtype=bool), Search(DIFFERENCE)
    )
    start = posterior.laplace(modes, middle).start
    return modes[0], scales[0], posterior.started_at(start)


def _target(
    posterior: FamilyPosterior, mode: np.ndarray, scale: np.ndarray, rng: np.random.Generator
) -> JointTarget:
    fitted = LaplaceMap.from_fits(posterior.laplace, posterior.coordinates, mode, scale, rng)
    return JointTarget(posterior, fitted)


def _climbed(target: JointTarget, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Local maximum of the exact target, and its scale matrix."""
    D, d = target.size, target.posterior.dimension
    if D == 0:
        return x, np.zeros((0, 0))
    # Where there are many coefficients, they are close to independent and of unit variance as it is.
    pairs = np.triu_indices(D if D <= ALL_PAIRS_UP_TO else d, 1)
    # The coefficients may be far off: theta alone is kept in range.
    largest = np.where(np.arange(D) < d, LARGEST_COORDINATE - DIFFERENCE, np.inf)
    search = Search(DIFFERENCE, (pairs[0], pairs[1]), largest)
    modes, _, scales = climb_all(target, x[None], np.ones((1, D), dtype=bool), search)
    return modes[0], scales[0]
