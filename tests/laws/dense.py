"""The judge: normal densities and conditionals with every matrix written out in full.

Nothing here is clever. Covariances are n x n, the mixed model equations (p + Jq) square, and
nothing of hierpool is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg


def wide(Z: np.ndarray, codes: np.ndarray, n_levels: int) -> np.ndarray:
    """Shape (n, J q): the columns of each level in a place of their own."""
    n, q = Z.shape
    out = np.zeros((n, n_levels, q))
    out[np.arange(n), codes] = Z
    return out.reshape(n, -1)


def normal_log_density(y: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
    """Log density of a multivariate normal; also for one value."""
    factor = np.linalg.cholesky(covariance)
    white = linalg.solve_triangular(factor, y - mean, lower=True)
    n = len(y)
    return float(-0.5 * (n * np.log(2 * np.pi) + white @ white) - np.log(np.diag(factor)).sum())


def restricted_log_density(y: np.ndarray, X: np.ndarray, V: np.ndarray) -> float:
    """REML log-likelihood: the density with flat-prior coefficients integrated out."""
    n, p = X.shape
    solved = np.linalg.solve(V, np.column_stack([X, y]))
    information, score = X.T @ solved[:, :p], X.T @ solved[:, p]
    quadratic = y @ solved[:, p] - score @ np.linalg.solve(information, score)
    log_dets = np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1]
    return float(-0.5 * ((n - p) * np.log(2 * np.pi) + log_dets + quadratic))


@dataclass(frozen=True)
class Dense:
    """A Gaussian model at one theta: y = X beta + Z u + e.

    Attributes
    ----------
    y, X, Z, codes
        The rows; Z is (n, q), ``codes`` the level of each row.
    n_levels
        J.
    sigma
        Residual sd.
    Sigma
        Shape (q, q): covariance of a level's u.
    mean, precision
        Normal prior of beta; a zero precision is a flat one.
    sd
        Shape (n,): residual sds in units of sigma; or one number for all.
    """

    y: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    codes: np.ndarray
    n_levels: int
    sigma: float
    Sigma: np.ndarray
    mean: np.ndarray
    precision: np.ndarray
    sd: np.ndarray | float = 1.0

    @property
    def ZZ(self) -> np.ndarray:
        """Shape (n, J q)."""
        return wide(self.Z, self.codes, self.n_levels)

    @property
    def V(self) -> np.ndarray:
        """Covariance of the response given beta."""
        Z = self.ZZ
        levels = linalg.block_diag(*[self.Sigma] * self.n_levels)
        return Z @ levels @ Z.T + np.diag(self.residual_variances)

    @property
    def residual_variances(self) -> np.ndarray:
        """Shape (n,)."""
        return np.broadcast_to((self.sigma * self.sd) ** 2, self.y.shape)

    @property
    def is_flat(self) -> bool:
        """Whether beta has no prior."""
        return not self.precision.any()

    @property
    def log_density(self) -> float:
        """log p(y), every coefficient integrated out."""
        if self.is_flat:
            return restricted_log_density(self.y, self.X, self.V)
        return normal_log_density(self.y, *self.response)

    @property
    def response(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of the response; a proper prior on beta only."""
        prior = np.linalg.inv(self.precision) if len(self.mean) else np.zeros((0, 0))
        return self.X @ self.mean, self.V + self.X @ prior @ self.X.T

    def leave_out(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of some rows given all the others."""
        mean, cov = self.response
        rest = np.setdiff1d(np.arange(len(self.y)), rows)
        across = np.linalg.solve(cov[np.ix_(rest, rest)], cov[np.ix_(rest, rows)]).T
        left = cov[np.ix_(rows, rows)] - across @ cov[np.ix_(rest, rows)]
        return mean[rows] + across @ (self.y - mean)[rest], left

    @property
    def coefficients(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of (beta, u) given y; the inverse of Henderson's equations.

        For a singular Sigma the inverse does not exist: u = root v with a standard normal v.
        """
        values, vectors = np.linalg.eigh(self.Sigma)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        p, q, J = self.X.shape[1], self.Z.shape[1], self.n_levels
        T = np.hstack([self.X, wide(self.Z @ root, self.codes, J)])
        weighted = T / self.residual_variances[:, None]
        precision = weighted.T @ T
        precision[:p, :p] += self.precision
        precision[p:, p:] += np.eye(J * q)
        right = weighted.T @ self.y
        right[:p] += self.precision @ self.mean
        back = linalg.block_diag(np.eye(p), *[root] * J)
        return back @ np.linalg.solve(precision, right), back @ np.linalg.inv(precision) @ back.T
