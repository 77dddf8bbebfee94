"""What samplers see of a variable that has units: the same without them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.transforms import Transform


class Standardized(Transform):
    """Samplers see (value - location) / scale, so that where they start has no units.

    They start within 1 of a typical value: far too far for a response in tonnes, far too near for
    one in grams.
    """

    name = "standardized"

    def __init__(self, location: np.ndarray, scale: np.ndarray, ndim_supp: int = 0) -> None:
        self.location, self.scale, self.ndim_supp = location, scale, ndim_supp

    def forward(self, value: Any, *inputs: Any) -> Any:
        """Standardised value."""
        return (value - self.location) / self.scale

    def backward(self, value: Any, *inputs: Any) -> Any:
        """Value on its own scale."""
        return self.location + self.scale * value

    def log_jac_det(self, value: Any, *inputs: Any) -> Any:
        """Log scale, summed over the last axis of a multivariate value."""
        jacobian = pt.zeros_like(value) + np.log(self.scale)
        return jacobian.sum(axis=-1) if self.ndim_supp else jacobian
