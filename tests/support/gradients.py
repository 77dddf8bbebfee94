"""The gradient of a deviance against differences of its values."""

from __future__ import annotations

import numpy as np
import pytest

from hierpool.reml.criterion import Criterion


def value_with_checked_gradient(c: Criterion) -> tuple[np.ndarray, float]:
    """A random point (k,) of a residual structure's criterion, and the deviance there."""
    assert c.structure is not None
    rng = np.random.default_rng(2)
    theta = np.concatenate([rng.uniform(0.3, 1, c.n_free), rng.normal(0, 0.7, c.structure.size)])
    value, gradient = c.value_and_gradient(theta)
    steps = 1e-5 * np.eye(len(theta))
    differences = (c.deviance(theta + steps) - c.deviance(theta - steps)) / 2e-5
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-5)
    assert value == pytest.approx(c.deviance(theta[None])[0], abs=1e-8)
    return theta, value
