"""The residual scale of a group integrated, given theta and the scales of all other groups.

Symbols, of the m rows J of a group, divided by their sds at the group's own scale s, in units of sigma:
C = I - H with their joint leverage H (``leave_out``), e = y - T c, C = U diag(c) U', g = U'e / sigma.
Another scale s' multiplies the variance of the rows by rho = exp(2 omega (s' - s)). With
d = 1 - c + c rho

    log p(y | s') - log p(y | s) = -1/2 sum [log d + g^2 (1 - rho) / d]
    y_i | y_-i, s' has precision sum U_i^2 c / d, and its residual times that is sum U_i g / d

in units of sigma and of the sd of the row. Nothing is divided by c, which is near zero where a row alone
determines a coefficient. The trapezoidal rule around the mode of s' is exact to the last digits, as in
``correlated.scale_kernels``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierpool.algebra.gaussian import LOG_2PI

_STEP = 0.5  # of the nodes, in sds of s' given the rows
_WIDEST = 0.3  # of the nodes, over omega
_DROP = 30.0  # of the log density from its top, where the nodes end
_MOST = 2000  # nodes on each side of the mode


@dataclass(frozen=True)
class OwnScale:
    """A group of m rows at K values of theta and of all scales.

    Attributes
    ----------
    c, vectors, g
        Shapes (K, m), (K, m, m) and (K, m), as above.
    deviation, omega, sigma
        Shapes (K,): log of the group's residual sd less that of the average group, its sd between
        groups, and sigma.
    """

    c: np.ndarray
    vectors: np.ndarray
    g: np.ndarray
    deviation: np.ndarray
    omega: np.ndarray
    sigma: np.ndarray

    @classmethod
    def from_block(
        cls,
        C: np.ndarray,
        e: np.ndarray,
        deviation: np.ndarray,
        omega: np.ndarray,
        sigma: np.ndarray,
    ) -> OwnScale:
        """From C (K, m, m) and e (K, m)."""
        values, vectors = np.linalg.eigh(C)
        g = np.einsum("kim,ki->km", vectors, e) / sigma[:, None]
        return cls(np.clip(values, 0.0, 1.0), vectors, g, deviation, omega, sigma)

    def _rho(self, s: np.ndarray) -> np.ndarray:
        """Shape (K, 1)."""
        return np.asarray(np.exp(2 * (self.omega * s - self.deviation)))[:, None]

    def log_density(self, s: np.ndarray) -> np.ndarray:
        """Shape (K,): log p(y | s) - log p(y | the scales as they are), and the log prior of s."""
        rho = self._rho(s)
        d = 1 - self.c + self.c * rho
        found = (np.log(d) + np.square(self.g) * (1 - rho) / d).sum(axis=1)
        return np.asarray(-0.5 * (found + s**2 + LOG_2PI))

    def log_density_of_rows(self, s: np.ndarray) -> np.ndarray:
        """Shape (K, m): log p(y_i | y_-i, s), each row divided by its sd at the scales as they are."""
        d = 1 - self.c + self.c * self._rho(s)
        precision = (np.square(self.vectors) @ (self.c / d)[..., None])[..., 0]
        residual = (self.vectors @ (self.g / d)[..., None])[..., 0]
        scale = LOG_2PI + 2 * np.log(self.sigma[:, None])
        return np.asarray(0.5 * (np.log(precision) - scale - residual**2 / precision))

    def _slope_and_curvature(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shapes (K,): derivative of ``log_density``, and minus the second, at least 1/2."""
        rho, c, G = self._rho(s), self.c, np.square(self.g)
        d = 1 - c + c * rho
        first = (rho * (c / d - G / d**2)).sum(axis=1)
        second = (rho**2 * (2 * c * G / d**3 - (c / d) ** 2)).sum(axis=1)
        curvature = 1 + 2 * self.omega**2 * (first + second)
        return -self.omega * first - s, np.maximum(curvature, 0.5)

    def mode(self) -> tuple[np.ndarray, np.ndarray]:
        """Mode of s given the rows, and minus the curvature there, shapes (K,)."""
        s = np.zeros(len(self.omega))
        here = self.log_density(s)
        for _ in range(60):
            slope, curvature = self._slope_and_curvature(s)
            step = np.clip(slope / curvature, -2.0, 2.0)
            for _ in range(30):
                there = self.log_density(s + step)
                worse = ~(there >= here - 1e-12)
                if not worse.any():
                    break
                step = np.where(worse, step / 2, step)
            s, here = np.where(worse, s, s + step), np.where(worse, here, there)
            if (np.abs(step) * np.sqrt(curvature) < 1e-4).all():
                break
        return s, self._slope_and_curvature(s)[1]

    def left_out(self) -> np.ndarray:
        """Shape (K,): log p(y_J | y_-J) at the scales as they are, rows divided by their sds."""
        scale = LOG_2PI + 2 * np.log(self.sigma[:, None])
        return np.asarray(0.5 * (np.log(self.c) - self.g**2 / self.c - scale).sum(axis=1))

    def integrated(self) -> np.ndarray:
        """Shape (K,): log of the integral of p(y | s) / p(y | the scales as they are) over s."""
        return self._sums(False)[0]

    def rows_left_out(self) -> np.ndarray:
        """Shape (K, m): log p(y_i | y_-i), the scale integrated in both; rows as above."""
        whole, rest = self._sums(True)
        return whole[:, None] - rest

    def _sums(self, with_rows: bool) -> tuple[np.ndarray, np.ndarray]:
        """Log integrals of p(y | s) (K,) and of p(y_-i | s) (K, m), both over p(y | scales)."""
        middle, curvature = self.mode()
        step = _STEP / np.sqrt(curvature)
        step = np.minimum(step, _WIDEST / np.maximum(self.omega, 1e-300))
        whole, rest = self._at(middle, with_rows)
        tops = whole, rest
        for side in (-1.0, 1.0):
            for k in range(1, _MOST):
                own, of_rows = self._at(middle + side * k * step, with_rows)
                whole, rest = np.logaddexp(whole, own), np.logaddexp(rest, of_rows)
                tops = np.maximum(tops[0], own), np.maximum(tops[1], of_rows)
                if (own < tops[0] - _DROP).all() and (of_rows < tops[1] - _DROP).all():
                    break
        return whole + np.log(step), rest + np.log(step)[:, None]

    def _at(self, s: np.ndarray, with_rows: bool) -> tuple[np.ndarray, np.ndarray]:
        own = self.log_density(s)
        if not with_rows:
            return own, np.zeros((len(s), 0))
        return own, own[:, None] - self.log_density_of_rows(s)
