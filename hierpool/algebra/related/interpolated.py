"""What one relative sd says, interpolated: log determinant and products of a model with one variance.

As functions of t = log lambda^2 both are analytic within pi of the real line, so that Chebyshev
polynomials on panels of t follow them to some 1e-10 of their size. A panel is made when it is asked for.

References
----------
Trefethen (2013), Approximation Theory and Approximation Practice, theorem 8.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.polynomial import chebyshev

LOWEST, HIGHEST, WIDTH = -16.0, 38.0, 6.0  # of t; below the lowest all is linear in lambda^2
NODES = 25  # of a panel


@dataclass(frozen=True, eq=False)
class Interpolated:
    """A function of the relative sd with values (m,).

    Attributes
    ----------
    exact
        The function, at one relative sd.
    panels
        Coefficients (NODES, m) of the panels that were made, by number.
    """

    exact: Callable[[float], np.ndarray]
    panels: dict[int, np.ndarray] = field(default_factory=dict)

    def __call__(self, sd: np.ndarray) -> np.ndarray:
        """Shape (K, m): at relative sds (K,), whose sign does not matter."""
        size = np.maximum(np.square(sd), 1e-300)
        t = np.clip(np.log(size), LOWEST, HIGHEST - 1e-9)
        which = np.floor((t - LOWEST) / WIDTH).astype(int)
        out: np.ndarray | None = None
        for k in np.unique(which):
            some = which == k
            x = 2 * (t[some] - LOWEST - k * WIDTH) / WIDTH - 1
            values = chebyshev.chebvander(x, NODES - 1) @ self._panel(int(k))
            if out is None:
                out = np.empty((len(sd), values.shape[1]))
            out[some] = values
        assert out is not None
        low = size < np.exp(LOWEST)
        if low.any():
            zero = self.exact(0.0)
            out[low] = zero + (out[low] - zero) * (size[low] / np.exp(LOWEST))[:, None]
        return out

    def _panel(self, k: int) -> np.ndarray:
        if k not in self.panels:
            x = chebyshev.chebpts1(NODES)
            t = LOWEST + WIDTH * (k + (x + 1) / 2)
            values = np.stack([self.exact(float(sd)) for sd in np.exp(t / 2)])
            weights = chebyshev.chebvander(x, NODES - 1) * (2 / NODES)
            weights[:, 0] /= 2
            self.panels[k] = weights.T @ values
        return self.panels[k]
