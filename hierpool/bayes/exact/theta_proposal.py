"""The proposal of theta: components that move to where its posterior is, and some that stay.

References
----------
Hesterberg (1995), Technometrics 37, 185-194 (defensive components).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import stats

from hierpool.bayes.exact.mode import LARGEST_COORDINATE, climb_all
from hierpool.bayes.exact.proposal import LEAST_SHARE, Mixture, Student, refit
from hierpool.bayes.exact.target import LogDensity

ADAPTED_NU, WIDE_NU = 6.0, 4.0
WIDE_SHARE = PRIOR_SHARE = 0.05
COLLAPSE_LEAST, COLLAPSE_MOST = 0.04, 0.10
COLLAPSE_TOGETHER = 0.60  # of all of them, however many sds there are
ZERO_SD_COORDINATE = -6.0  # z of an sd that is as good as zero
COLLAPSE_WIDENED = 3.0  # variance of that component over the prior's below the edge
ADAPTED_COMPONENTS = 4
MAX_WEIGHT_RATIO = 3.0  # weight over the mean from which the proposal counts as too thin


@dataclass(frozen=True)
class Peak:
    """A mode (d,) of a log posterior, and the inverse (d, d) of its curvature there."""

    mode: np.ndarray
    scale: np.ndarray

    @classmethod
    def near(cls, target: LogDensity, start: np.ndarray) -> Peak:
        """That which is reached from a point (d,)."""
        modes, _, scales = climb_all(target, start[None], np.ones((1, len(start)), dtype=bool))
        return cls(modes[0], scales[0])


@dataclass(frozen=True)
class ThetaProposal:
    """A mixture of which some components are refitted.

    Attributes
    ----------
    moving, fixed
        Components that are refitted, and those that stay: wide, prior, one per vanishing sd.
    collapse
        Weights of the vanishing-sd components in the proposal.
    """

    moving: Mixture
    fixed: Mixture
    collapse: np.ndarray

    @classmethod
    def around(
        cls, mode: np.ndarray, scale: np.ndarray, vanishing: Sequence[Student]
    ) -> ThetaProposal:
        """Components from the mode (d,) with scale matrix (d, d), the prior and the vanishing sds."""
        d = len(mode)
        first = Student.with_scale(mode, scale, ADAPTED_NU)
        prior = Student(np.zeros(d), np.eye(d), np.inf)
        return cls.starting(first, _wide(mode, scale), prior, vanishing)

    @classmethod
    def starting(
        cls, first: Student, wide: Student, prior: Student, vanishing: Sequence[Student]
    ) -> ThetaProposal:
        """One component that moves, and those that stay."""
        fixed = Mixture((wide, prior, *vanishing), np.ones(2 + len(vanishing)))
        collapse = _bounded(np.full(len(vanishing), COLLAPSE_LEAST))
        return cls(Mixture((first,), np.ones(1)), fixed, collapse)

    @classmethod
    def from_target(
        cls, target: LogDensity, rng: np.random.Generator, widen: float
    ) -> ThetaProposal:
        """Components from the mode of the target; ``widen`` multiplies the scales."""
        d = target.coordinates.size
        tried = rng.standard_normal((64 + 16 * d, d))
        tried[0] = 0.0
        starts = tried[np.argsort(-target(tried))[:2]]
        modes, heights, scales = climb_all(target, starts, np.ones_like(starts, dtype=bool))
        mode, scale = modes[np.argmax(heights)], scales[np.argmax(heights)] * widen**2
        return cls.around(mode, scale, _collapses(target, mode))

    @cached_property
    def whole(self) -> Mixture:
        """All components with their weights."""
        weights = np.concatenate([self.moving.weights * self._moving_share, self._fixed_shares])
        return Mixture(self.moving.components + self.fixed.components, weights / weights.sum())

    @property
    def _fixed_shares(self) -> np.ndarray:
        return np.concatenate([[WIDE_SHARE, PRIOR_SHARE], self.collapse])

    @property
    def _moving_share(self) -> float:
        return 1 - WIDE_SHARE - PRIOR_SHARE - float(self.collapse.sum())

    @property
    def centre(self) -> np.ndarray:
        """Shape (d,): the mode that it was begun at."""
        return self.fixed.components[0].location

    def carried(self, was: Peak, to: Peak) -> ThetaProposal:
        """For another posterior: moved and stretched as its peak is beside that of its own."""
        into = _symmetric_root(to.scale) @ np.linalg.inv(_symmetric_root(was.scale))
        moved = [
            Student.with_scale(
                to.mode + into @ (c.location - was.mode),
                (into @ c.factor) @ (into @ c.factor).T,
                c.nu,
            )
            for c in self.moving.components
        ]
        fixed = (_wide(to.mode, to.scale), *self.fixed.components[1:])
        moving = replace(self.moving, components=tuple(moved))
        return replace(self, moving=moving, fixed=replace(self.fixed, components=fixed))

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Points (n, d)."""
        return self.whole.draw(n, rng)

    def log_density(self, points: np.ndarray) -> np.ndarray:
        """Shape (K,), at points (K, d)."""
        return self.whole.log_density(points)

    def learnt(
        self, points: np.ndarray, weights: np.ndarray, rng: np.random.Generator
    ) -> ThetaProposal:
        """The moving components and the weights of the fixed ones refitted to weighted points."""
        moving = self.moving
        if len(moving.components) < ADAPTED_COMPONENTS:
            moving = _spread_out(moving, points, weights, rng)
        shares = self._fixed_shares
        fixed = Mixture(self.fixed.components, shares / shares.sum())
        moving, explained = refit(moving, fixed, 1 - self._moving_share, points, weights)
        # Never below the floor: a narrow ridge at zero that no point has found yet must stay within reach.
        collapse = _bounded(np.clip(explained[2:], COLLAPSE_LEAST, COLLAPSE_MOST))
        found = ThetaProposal(moving, self.fixed, collapse)
        # Beside a posterior that is all but a point the components may underflow: then nothing is learnt.
        return found if np.isfinite(found.whole.weights).all() else self

    def also_at(self, points: np.ndarray, rng: np.random.Generator) -> ThetaProposal:
        """With components that are fitted to what another attempt found, points (n, d), beside its own."""
        if not len(points):
            return self
        found = self.learnt(points, np.full(len(points), 1 / len(points)), rng).moving
        weights = np.concatenate([self.moving.weights, found.weights]) / 2
        return replace(self, moving=Mixture(self.moving.components + found.components, weights))

    def patched(self, points: np.ndarray, weights: np.ndarray) -> ThetaProposal:
        """A further component where the proposal is too thin: fitted to the excess of the weights."""
        excess = np.maximum(weights - MAX_WEIGHT_RATIO, 0.0)
        share = excess.sum() / weights.sum()
        if not share > 0.0:  # nor where no point has a density
            return self
        excess = excess / excess.sum()
        mean = excess @ points
        centred = points - mean
        spread = centred.T @ (centred * excess[:, None]) + 0.01 * np.eye(points.shape[1])
        new = Student.with_scale(mean, spread, ADAPTED_NU)
        weights = np.append(self.moving.weights * (1 - share), max(share, 2 * LEAST_SHARE))
        moving = Mixture((*self.moving.components, new), weights / weights.sum())
        return replace(self, moving=moving)


def _wide(mode: np.ndarray, scale: np.ndarray) -> Student:
    # Defensive components (Hesterberg 1995): with the prior in the mixture no weight exceeds the
    # likelihood over PRIOR_SHARE, wherever the adapted components are too thin.
    return Student.with_scale(mode, 4 * scale + 0.05 * np.eye(len(mode)), WIDE_NU)


def _symmetric_root(scale: np.ndarray) -> np.ndarray:
    """Shape (d, d): of a positive definite matrix."""
    values, vectors = np.linalg.eigh(scale)
    return np.asarray((vectors * np.sqrt(values)) @ vectors.T)


def _bounded(collapse: np.ndarray) -> np.ndarray:
    """The weights, made smaller where so many sds would leave nothing for the moving components."""
    return collapse * min(1.0, COLLAPSE_TOGETHER / max(float(collapse.sum()), COLLAPSE_LEAST))


def _spread_out(
    moving: Mixture, z: np.ndarray, weights: np.ndarray, rng: np.random.Generator
) -> Mixture:
    """Components added at weighted points, with the weighted covariance of all of them."""
    missing = ADAPTED_COMPONENTS - len(moving.components)
    mean = weights @ z
    scale = (z - mean).T @ ((z - mean) * weights[:, None])
    chosen = rng.choice(len(z), size=missing, p=weights)
    new = tuple(Student.with_scale(z[i], scale, ADAPTED_NU) for i in chosen)
    count = len(moving.components)
    shares = np.concatenate([moving.weights * count, np.ones(missing)])
    return Mixture(moving.components + new, shares / shares.sum())


def _collapses(target: LogDensity, mode: np.ndarray) -> list[Student]:
    """Components where one sd is too small to matter; its correlations are at their prior there."""
    vanishing = target.coordinates.vanishing
    Q = len(vanishing)
    if not Q:
        return []
    starts, free = np.repeat(mode[None], Q, axis=0), np.ones((Q, len(mode)), dtype=bool)
    for k, (sd, linked) in enumerate(vanishing):
        # With this sd at zero its correlations do not matter: they are held at their prior's centre.
        starts[k, sd], starts[k, list(linked)] = ZERO_SD_COORDINATE, 0.0
        free[k, [sd, *linked]] = False
    found, _, scales = climb_all(target, starts, free)
    grid = np.linspace(ZERO_SD_COORDINATE, 2.0, 25)
    lines = np.repeat(found[:, None], len(grid), axis=1)
    for k, (sd, _) in enumerate(vanishing):
        lines[k, :, sd] = grid
    likelihood = target.log_likelihood(lines.reshape(-1, len(mode))).reshape(Q, -1)
    out = []
    for k, (sd, _) in enumerate(vanishing):
        # Below the edge the likelihood is flat in this sd: the posterior is the prior, cut off there.
        matters = np.abs(likelihood[k] - likelihood[k, 0]) > 1.0
        edge = grid[np.argmax(matters)] if matters.any() else grid[-1]
        below = stats.truncnorm(-LARGEST_COORDINATE, edge)
        at, scale = found[k], scales[k]
        at[sd], scale[sd, sd] = below.mean(), COLLAPSE_WIDENED * below.var()
        out.append(Student.with_scale(at, scale, ADAPTED_NU))
    return out
