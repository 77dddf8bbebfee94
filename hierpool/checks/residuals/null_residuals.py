"""Statistics of residuals judged by the same statistics of simulated responses.

Residuals and BLUPs of short levels are correlated, so the textbook null distributions do not hold
for what is made of them. Here responses are simulated from the fit, with new levels, and their
residuals made by the same linear map (``residual_maker``). Standard deviations are not estimated
again. That would let a statistic vary more in the simulations than in fits, whose estimates answer
to the same data; so the part of a statistic that the score of the variances explains is taken off,
as in an efficient score. At an inner optimum the score of the observed response is zero.

References
----------
Neyman (1959), in Probability and Statistics, 213-234 (scores with the nuisance part taken off).
Westfall, Young (1993), Resampling-Based Multiple Testing (largest of several statistics).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from hierpool.algebra.residual_maker import ResidualMaker
from hierpool.core.design import Grouping

SIMULATIONS = 999
FEWEST = 399
_NUMBERS = 6_000_000  # of residuals held, where that leaves enough simulations
WARN_BELOW_P = (
    0.005  # probability below which a warning is given: a dozen checks together stay under 5 %
)
SEED = 20_110  # of all simulations: the same fit is judged the same every time
LEAST_LEFT = 1e-6  # of a row's own variance in its residual, below which it says nothing


class Judged(NamedTuple):
    """How unusual the observed statistics are.

    Attributes
    ----------
    z
        Shape (m,): each statistic less its mean, in sds of the simulated ones.
    p
        Probability that the largest of m statistics is so large, all together.
    which
        Position of the most unusual statistic.
    excess, variance
        Shapes (m,): statistic less its mean, variances taken off, and the variance of that.
    """

    z: np.ndarray
    p: float
    which: int
    excess: np.ndarray
    variance: np.ndarray


@dataclass(frozen=True)
class Replicates:
    """Residuals of the response, then those of simulated ones, each in units of its own sigma.

    Attributes
    ----------
    maker
        The fit.
    fitted
        Shape (n, 1 + B): fitted values in the response's units.
    residuals
        Shape (n, 1 + B): e = K y over sigma.
    """

    maker: ResidualMaker
    fitted: np.ndarray
    residuals: np.ndarray

    @classmethod
    def from_residual_maker(cls, maker: ResidualMaker) -> Replicates:
        """Simulate from a fit."""
        m = int(np.clip(_NUMBERS // maker.n, FEWEST, SIMULATIONS))
        made = maker.simulate(np.random.default_rng(SEED), m)
        e = np.column_stack([maker.observed, maker.residuals(made)])
        sigma = np.ones(m + 1)
        if maker.design.residual.has_sigma:
            squares = np.append(maker.squares, np.einsum("nb,nb->b", made, e[:, 1:]))
            sigma = np.sqrt(squares / maker.df)
        observed = maker.design.y - maker.rows.sd * maker.observed
        levels = maker.rows.y - maker.observed - maker.population
        base = observed - maker.rows.sd * levels
        scale = np.broadcast_to(maker.rows.sd, (maker.n,))[:, None] * maker.sigma
        fitted = np.column_stack([observed, base[:, None] + scale * (made - e[:, 1:])])
        return cls(maker, fitted, e / sigma)

    @cached_property
    def kept(self) -> np.ndarray:
        """Positions of the rows that have a residual."""
        return np.flatnonzero(self.maker.diagonal > LEAST_LEFT)

    @cached_property
    def standardised(self) -> np.ndarray:
        """Shape (rows kept, 1 + B): residuals of equal variance."""
        root = np.sqrt(self.maker.diagonal[self.kept])
        return self.residuals[self.kept] / root[:, None]

    @cached_property
    def left_out(self) -> np.ndarray:
        """Shape (rows kept, 1 + B): fitted values of rows by all others, in the response's units."""
        maker = self.maker
        scale = np.broadcast_to(maker.rows.sd, (maker.n,))[self.kept, None] * maker.sigma
        more = 1 / maker.diagonal[self.kept, None] - 1
        return np.asarray(self.fitted[self.kept] - scale * self.residuals[self.kept] * more)

    @cached_property
    def scores(self) -> np.ndarray:
        """Shape (1 + B, k): scores of the variances that are estimated, but for a constant.

        With S = sum of (Z_j'e_j)(Z_j'e_j)' in the user's coding and F a root of the covariance:
        entries of S F for correlated terms, of its diagonal for uncorrelated ones.
        """
        maker, made = self.maker, []
        parts = zip(maker.design.groups, maker.coordinates.zs, maker.blocks, strict=True)
        for f, (group, z, block) in enumerate(parts):
            w = np.einsum("ab,jam->jbm", z.to_working, maker.level_sums(f, self.residuals))
            root = z.from_working @ block
            for part in group.blocks:
                own, at = w[:, part.columns], part.columns
                if part.covariance.keeps_its_form:
                    S = np.einsum("jab,jcb->bac", own, own)
                    made.append((S @ root[at, at]).reshape(len(S), -1))
                else:
                    made.append(np.square(own).sum(axis=0).T * np.abs(root[at]).max(axis=1))
        return np.hstack(made) if made else np.zeros((self.residuals.shape[1], 0))

    def judge(self, statistics: np.ndarray, one_sided: bool = False) -> Judged:
        """How unusual statistics (1 + B, m) are, the observed ones in the first row."""
        simulated = statistics[1:]
        centred = statistics - simulated.mean(axis=0)
        scores = self.scores - self.scores[1:].mean(axis=0)
        size = scores[1:].std(axis=0)
        scores = scores[:, size > 0] / size[size > 0]
        # From the simulations alone, then taken off the observed statistic too; scaled, as scores of sds
        # and of correlations differ by powers of ten.
        slopes = np.linalg.lstsq(scores[1:], centred[1:], rcond=1e-8)[0]
        left = centred - scores @ slopes
        sd = left[1:].std(axis=0)
        z = np.divide(left, sd, out=np.zeros_like(left), where=sd > 0)
        largest = (z if one_sided else np.abs(z)).max(axis=1)
        # The observed response counts as one of them, so p is never zero.
        p = (1 + (largest[1:] >= largest[0]).sum()) / len(largest)
        which = int((z if one_sided else np.abs(z))[0].argmax())
        return Judged(z[0], float(p), which, left[0], sd**2)


def by_level_sums(Z: np.ndarray, values: np.ndarray, grouping: Grouping) -> np.ndarray:
    """Shape (J, q, m): Z_j' times the rows of each level in values (n, m)."""
    order = np.argsort(grouping.codes, kind="stable")
    edges = np.concatenate([[0], np.cumsum(grouping.n_rows)[:-1]])
    sums = [np.add.reduceat(Z[order, k, None] * values[order], edges) for k in range(Z.shape[1])]
    return np.stack(sums, axis=1)
