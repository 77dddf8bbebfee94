"""A posterior that judgements start again from: its draws of theta, and the algebra given theta."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from hierpool.algebra.marginal_model import MarginalModel
from hierpool.core.fitted import Posterior
from hierpool.core.theta import Theta, WorkingTheta


class IntegratedPosterior(Posterior, Protocol):
    """A posterior with its coefficients integrated out; errors unless ``is_integrable``."""

    @property
    def integrated(self) -> MarginalModel:
        """The model with its coefficients integrated out."""

    @property
    def theta(self) -> Theta:
        """The draws of theta in the coordinates of their priors, chains one after the other."""

    @property
    def working_theta(self) -> WorkingTheta:
        """The same draws as the algebra takes them."""

    @property
    def efficiency(self) -> float:
        """Mean effective size of the draws of theta over their number."""

    @property
    def thinned_draws(self) -> np.ndarray:
        """Shape (chains, draws used): positions of the draws that later questions use."""

    @property
    def dear_levels(self) -> dict[str, np.ndarray] | None:
        """Draws of the levels' coefficients that take long to draw, kept; None for others."""

    def conditional_means(self) -> dict[str, np.ndarray]:
        """Means of the coefficients given theta, for each of the draws used."""
