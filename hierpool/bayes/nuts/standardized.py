"""What samplers see of a variable: the same without units, and without what is known of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.transforms import Transform


class Standardized(Transform):
    """Samplers see (value - location) / scale, so that where they start has no units.

    They start within 1 of a typical value: far too far for a response in tonnes, far too near for
    one in grams. A lower triangular ``scale`` takes correlations out as well.
    """

    name = "standardized"

    def __init__(self, location: np.ndarray, scale: np.ndarray, ndim_supp: int = 0) -> None:
        self.location, self.scale, self.ndim_supp = location, scale, ndim_supp
        self.is_joint = bool(np.ndim(scale) == 2 and np.ndim(location) == 1)

    def forward(self, value: Any, *inputs: Any) -> Any:
        """Standardised value."""
        away = value - self.location
        return pt.dot(np.linalg.inv(self.scale), away) if self.is_joint else away / self.scale

    def backward(self, value: Any, *inputs: Any) -> Any:
        """Value on its own scale."""
        away = pt.dot(self.scale, value) if self.is_joint else self.scale * value
        return self.location + away

    def log_jac_det(self, value: Any, *inputs: Any) -> Any:
        """Log scale, summed over the last axis of a multivariate value."""
        scale = np.diag(self.scale) if self.is_joint else self.scale
        jacobian = pt.zeros_like(value) + np.log(scale)
        return jacobian.sum(axis=-1) if self.ndim_supp else jacobian


class StandardizedByInputs(Transform):
    """The same where location and scale depend on other variables: the last two inputs."""

    name = "standardized"

    def forward(self, value: Any, *inputs: Any) -> Any:
        """Standardised value."""
        return (value - inputs[-2]) / inputs[-1]

    def backward(self, value: Any, *inputs: Any) -> Any:
        """Value on its own scale."""
        return inputs[-2] + inputs[-1] * value

    def log_jac_det(self, value: Any, *inputs: Any) -> Any:
        """Log scale."""
        return pt.zeros_like(value) + pt.log(inputs[-1])
