"""Rows given all others, of models that know the precision of their rows."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from hierpool.algebra.gaussian import LOG_2PI, Marginal
from hierpool.algebra.marginal_model import MarginalModel
from hierpool.core.theta import WorkingTheta


class LeftOutRows(MarginalModel):
    """A model whose rows given all others follow from score and diagonal of their precision."""

    @abstractmethod
    def _left_out(self, theta: WorkingTheta, marginal: Marginal) -> tuple[np.ndarray, np.ndarray]:
        """y_i less its mean given y_-i, and the variance of that in units of sigma^2, (K, n) each."""

    def densities_by_row(
        self, theta: WorkingTheta, rows: np.ndarray, marginal: Marginal
    ) -> np.ndarray:
        """Shape (rows, K): log p(y_i | y_-i, theta), every coefficient integrated out."""
        off, variance = self._left_out(theta, marginal)
        scale = theta.sigma[:, None] ** 2 * variance[:, rows]
        out = -0.5 * (LOG_2PI + np.log(scale) + off[:, rows] ** 2 / scale)
        return self.scaled_rows.to_response_density(out, rows).T

    def prediction_of_rows(
        self, theta: WorkingTheta, rows: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sd of y_i given y_-i and theta, shapes (K, rows), in the user's units."""
        which = np.arange(self.design.n) if rows is None else np.asarray(rows)
        off, variance = self._left_out(theta, self.marginal(theta))
        scale = np.broadcast_to(self.scaled_rows.sd, self.scaled_rows.y.shape)[which]
        sd = theta.sigma[:, None] * np.sqrt(variance[:, which])
        return self.design.y[which] - scale * off[:, which], scale * sd
