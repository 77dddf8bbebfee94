"""A posterior that judgements start again from: its draws of theta, and the algebra given theta."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from hierpool.algebra.marginal_model import MarginalModel
from hierpool.core.fitted import Posterior


class Theta(Protocol):
    """K draws of the variance parameters, in the coordinates of their priors."""

    @property
    def sigma(self) -> np.ndarray:
        """Shape (K,): residual sd; 1 where those of the rows are known."""

    @property
    def sd(self) -> np.ndarray:
        """Shape (K, q): standard deviations of the terms of all factors."""

    def __len__(self) -> int:
        """K."""


class IntegratedPosterior(Posterior, Protocol):
    """A posterior with its coefficients integrated out; errors unless ``is_integrable``."""

    @property
    def integrated(self) -> MarginalModel:
        """The model with its coefficients integrated out."""

    @property
    def theta(self) -> Theta:
        """The draws of theta, chains one after the other."""

    @property
    def relative_covariance_factor(self) -> np.ndarray:
        """Shape (K, q, q): Lambda of every draw, in working coordinates."""

    @property
    def thinned_draws(self) -> np.ndarray:
        """Shape (chains, draws used): positions of the draws that later questions use."""

    def conditional_means(self) -> dict[str, np.ndarray]:
        """Means of the coefficients given theta, for each of the draws used."""
