"""Coding: the map between the user's columns and centred ones.

With a constant in the span of the columns (Z a = 1) every other column is centred at its mean:
Z_c = Z B, so that coefficients go back by ``user = B centred``. Default priors, NUTS and the
algebra work in the centred columns; whatever is reported is mapped back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierpool.core.summed_rows import SummedColumns

SPAN_TOLERANCE = 1e-10  # largest |Z a - 1| at which the constant counts as in the span


@dataclass(frozen=True)
class Coding:
    """Linear map of a block's k columns.

    Attributes
    ----------
    constant
        Shape (k,): a with (columns) a = 1; all zero where no constant is in the span.
    means
        Shape (k,): what is subtracted from each column; 0 for those that make the constant.
    scales
        Shape (k,): sd (n - 1) of each column after centring; 1 for those that make the constant.
    """

    constant: np.ndarray
    means: np.ndarray
    scales: np.ndarray

    @classmethod
    def from_columns(cls, columns: np.ndarray, summed: SummedColumns | None = None) -> Coding:
        """Coding that centres these columns, shape (n, k), where a constant is in their span."""
        columns = np.asfortranarray(columns)  # a column at a time: sums over rows are then fast
        constant = _constant(columns)
        is_constant = constant != 0
        average = stable_mean(columns) if summed is None else summed.means
        means = np.where(is_constant, 0.0, average)
        if not is_constant.any():
            means = np.zeros(columns.shape[1])
        if summed is not None:
            scales = summed.sds
        else:
            n = max(len(columns) - 1, 1)
            scales = np.sqrt(((columns - average) ** 2).sum(axis=0) / n)
        return cls(constant, means, np.where(is_constant | (scales == 0), 1.0, scales))

    def uncentred(self) -> Coding:
        """The same scales, nothing subtracted: for blocks with priors on the user's own scale."""
        return Coding(self.constant, np.zeros_like(self.means), self.scales)

    @property
    def has_constant(self) -> bool:
        """Whether the constant is in the span of the columns."""
        return bool(np.any(self.constant != 0))

    @property
    def is_centred(self) -> bool:
        """Whether the map differs from the identity."""
        return bool(np.any(self.means != 0))

    @property
    def to_user(self) -> np.ndarray:
        """Shape (k, k): B, with user coefficients = B centred coefficients."""
        return np.eye(len(self.means)) - np.outer(self.constant, self.means)

    @property
    def to_centred(self) -> np.ndarray:
        """Shape (k, k): inverse of ``to_user`` (exact: constant and means never overlap)."""
        return np.eye(len(self.means)) + np.outer(self.constant, self.means)

    @property
    def from_working(self) -> np.ndarray:
        """Shape (k, k): user coefficients from those of the centred and scaled columns."""
        return self.to_user / self.scales

    @property
    def to_working(self) -> np.ndarray:
        """Shape (k, k): coefficients of the centred and scaled columns from the user's."""
        return self.scales[:, None] * self.to_centred

    def work(self, columns: np.ndarray, rest: np.ndarray | None = None) -> np.ndarray:
        """The columns centred and scaled, shape (n, k)."""
        out = self.centre(columns, rest)
        out /= self.scales
        return out

    def centre(self, columns: np.ndarray, rest: np.ndarray | None = None) -> np.ndarray:
        """The columns after centring, shape (n, k).

        Every row of (columns) a is 1, so subtracting the means is the map B without its rounding.
        ``rest`` is what the floats leave out of the numbers that they stand for.
        """
        centred = np.asarray(columns - self.means)
        if rest is not None:
            centred += rest
        return centred


def weighted_mean_and_sd(
    values: np.ndarray, counts: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Means and sds (over n) of columns (n, ...), row i counted so often; None: each once."""
    mean = np.average(values, axis=0, weights=counts)
    return mean, np.sqrt(np.average((values - mean) ** 2, axis=0, weights=counts))


def stable_mean(values: np.ndarray) -> np.ndarray:
    """Means over the first axis, taken around the first entry: exact at an offset of 1e9."""
    if len(values) == 0:
        return np.zeros(values.shape[1:])
    return np.asarray(values[0] + (values - values[0]).mean(axis=0))


def _constant(columns: np.ndarray) -> np.ndarray:
    """Shape (k,): a with columns a = 1, zeros where there is none; a single column is preferred."""
    n, k = columns.shape
    found = np.zeros(k)
    if n == 0 or k == 0:
        return found
    same = (columns == columns[0]).all(axis=0) & (columns[0] != 0)
    if same.any():
        first = int(np.flatnonzero(same)[0])
        found[first] = 1 / columns[0, first]
        return found
    scale = np.abs(columns).max(axis=0)
    scale[scale == 0] = 1.0
    a = np.linalg.lstsq(columns / scale, np.ones(n))[0] / scale
    a[np.abs(a * scale) < SPAN_TOLERANCE] = 0.0
    return a if np.abs(columns @ a - 1).max() < SPAN_TOLERANCE else found
