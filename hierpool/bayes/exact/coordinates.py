"""Coordinates of theta in which its prior is standard normal.

Each scalar of theta goes through its own prior's cdf: z = Phi^-1(F(scalar)). Correlations enter as
canonical partial correlations, each of which has a symmetric beta distribution under LKJ(eta). Sds
with a decov prior enter as their size in units of sigma and their shares of the variance.

References
----------
Lewandowski, Kurowicka, Joe (2009), J. Multivariate Anal. 100, 1989-2001, section 2.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from hierpool.bayes.priors.decov import Decov, HasLaw
from hierpool.bayes.priors.model_priors import HalfT, ModelPriors
from hierpool.bayes.theta import Theta

_CORRELATION_MARGIN = 1e-12  # partial correlations are kept this far from -1 and 1


@dataclass(frozen=True)
class PriorCoordinates:
    """Map between z, shape (K, d), and ``Theta``.

    Order of z: sigma unless it is known, the sds of the factors' terms, then the partial
    correlations of each correlated block, row by row below the diagonal.

    Attributes
    ----------
    priors
        Priors of sigma (unless it is known) and of the sds, in order, or of what they are made of.
    pairs
        For each partial correlation its (row, column, first column of its block) among the terms
        of all factors.
    shapes
        Shape (pairs,): a of its Beta(a, a) distribution on (-1, 1).
    first_sd
        Position in z of the first sd: 1, or 0 where sigma is known.
    relative
        Columns among the sds and decov prior of each block that has one.
    """

    priors: tuple[HasLaw, ...]
    pairs: tuple[tuple[int, int, int], ...]
    shapes: np.ndarray
    first_sd: int = 1
    relative: tuple[tuple[slice, Decov], ...] = ()

    @classmethod
    def from_priors(cls, priors: ModelPriors) -> PriorCoordinates:
        """Coordinates of a model's theta."""
        scalars: list[HasLaw] = [] if priors.sigma is None else [priors.sigma]
        relative: list[tuple[slice, Decov]] = []
        first_sd = len(scalars)
        pairs: list[tuple[int, int, int]] = []
        shapes: list[float] = []
        for block, place in zip(priors.spread, priors.places(), strict=True):
            decov = Decov.from_block(block)
            scalars += block.sd if decov is None else decov.laws
            if decov is not None:
                relative.append((place, decov))
            size, start = len(block.sd), place.start
            if block.eta is None:
                continue
            for i in range(1, size):
                for j in range(i):
                    pairs.append((start + i, start + j, start))
                    shapes.append(block.eta + (size - 2 - j) / 2)
        return cls(tuple(scalars), tuple(pairs), np.array(shapes), first_sd, tuple(relative))

    @property
    def size(self) -> int:
        """d, the number of scalars."""
        return len(self.priors) + len(self.pairs)

    @property
    def n_sds(self) -> int:
        """Q, the number of standard deviations of the factors' terms."""
        return len(self.priors) - self.first_sd

    def correlations_of(self, sd: int) -> list[int]:
        """Positions in z of the partial correlations that involve the sd number ``sd``."""
        first = len(self.priors)
        return [first + k for k, (i, j, _) in enumerate(self.pairs) if sd in (i, j)]

    def theta(self, z: np.ndarray) -> Theta:
        """Values of theta at z, shape (K, d)."""
        scalars = np.empty((len(z), len(self.priors)))
        for k, prior in enumerate(self.priors):
            scalars[:, k] = _quantile(prior, z[:, k])
        chol = np.broadcast_to(np.eye(self.n_sds), (len(z), self.n_sds, self.n_sds)).copy()
        if self.pairs:
            partial = _partial_correlations(z[:, len(self.priors) :], self.shapes)
            left = np.ones((len(z), self.n_sds))
            for k, (i, j, _) in enumerate(self.pairs):
                chol[:, i, j] = partial[:, k] * np.sqrt(left[:, i])
                left[:, i] = left[:, i] * (1 - partial[:, k] ** 2)
                chol[:, i, i] = np.sqrt(left[:, i])
        sigma = scalars[:, 0] if self.first_sd else np.ones(len(z))
        sds = scalars[:, self.first_sd :]
        for place, decov in self.relative:
            sds[:, place] = decov.sds(sds[:, place], sigma)
        return Theta(sigma, sds, chol)

    def position(self, index: int, value: float) -> float:
        """z of the scalar number ``index`` (sigma, if there is one, then the sds) at ``value``."""
        law = self.priors[index].distribution
        below = float(law.cdf(value))
        z = special.ndtri(below) if below < 0.5 else -special.ndtri(float(law.sf(value)))
        return float(np.clip(z, -8.0, 8.0))


def _quantile(prior: HasLaw, z: np.ndarray) -> np.ndarray:
    """F^-1(Phi(z)), from the nearer tail."""
    law = prior.distribution
    if isinstance(law, HalfT):
        return law.at_normal(z)
    tail = special.ndtr(-np.abs(z))
    upper = z > 0
    out = np.empty_like(z)
    out[upper] = law.isf(tail[upper])
    out[~upper] = law.ppf(tail[~upper])
    return out


def _partial_correlations(z: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Quantiles of 2 Beta(a, a) - 1 at Phi(z), shape (K, pairs)."""
    lower = special.ndtr(-np.abs(z))
    curved = shapes != 1.0
    lower[:, curved] = special.betaincinv(shapes[curved], shapes[curved], lower[:, curved])
    return np.clip(np.sign(z) * (1 - 2 * lower), -1 + _CORRELATION_MARGIN, 1 - _CORRELATION_MARGIN)
