"""Standard deviations and correlations of a covariance that is given by a root."""

from __future__ import annotations

import numpy as np


def sd_and_corr(root: np.ndarray, undefined: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations (..., q) and correlations (..., q, q) of root root'.

    Parameters
    ----------
    root
        Shape (..., q, r).
    undefined
        Correlation of a term that does not vary with another one.
    """
    sd = np.sqrt((root**2).sum(axis=-1))
    still = sd == 0
    unit = root / np.where(still, 1.0, sd)[..., None]
    # From rows of length one, so that only rounding can take a product beyond 1.
    corr = np.clip(unit @ np.swapaxes(unit, -1, -2), -1.0, 1.0)
    if still.any():
        corr[still[..., None] | still[..., None, :]] = undefined
    diagonal = np.arange(sd.shape[-1])
    corr[..., diagonal, diagonal] = 1.0
    return sd, corr
