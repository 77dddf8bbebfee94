"""The credible ellipsoid of several coefficients that just reaches zero.

The counterpart of an F test for draws: ellipsoids around the posterior mean, with the shape of the
posterior covariance. The one that reaches the point where all coefficients are zero holds a share
of the posterior; a share of 0.95 or more means that zero lies outside the 95 % ellipsoid.

References
----------
Box, Tiao (1973), Bayesian Inference in Statistical Analysis, section 2.8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class CredibleEllipsoid:
    """The smallest credible ellipsoid that reaches zero.

    Attributes
    ----------
    content
        Share of the draws within it.
    distance, size
        Squared Mahalanobis distance of zero from the mean, and the number of coefficients.
    """

    content: float
    distance: float
    size: int

    @classmethod
    def of(cls, draws: np.ndarray) -> CredibleEllipsoid:
        """Of draws, shape (K, r), of r coefficients none of which follows from the others."""
        mean = draws.mean(axis=0)
        root = np.linalg.cholesky(np.atleast_2d(np.cov(draws, rowvar=False)))
        away = np.square(np.linalg.solve(root, (draws - mean).T)).sum(axis=0)
        of_zero = float(np.square(np.linalg.solve(root, mean)).sum())
        return cls(float((away < of_zero).mean()), of_zero, draws.shape[1])

    @property
    def log_tail(self) -> float:
        """Log of the normal probability beyond it: orders what the draws cannot tell apart."""
        return float(stats.chi2.logsf(self.distance, self.size))
