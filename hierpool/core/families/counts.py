"""What families of counts share: the check of the response, and where it lies."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from scipy import special

from hierpool.core.errors import DataError, ResponseError
from hierpool.core.families.codes import LARGEST_SHAPE
from hierpool.core.families.family import Family

LARGEST_COUNT = 2.0**53


class CountFamily(Family):
    """A family of counts, 0, 1, 2, ..., by their rate."""

    links: ClassVar[tuple[str, ...]] = ("log",)

    def checked(self, y: np.ndarray, name: str, trials: np.ndarray | None) -> Self:
        """The same; an error unless the response is counts."""
        check_counts(y, name, self.name)
        return self

    def centre(
        self,
        y: np.ndarray,
        trials: np.ndarray | None,
        offset: np.ndarray | float,
        counts: np.ndarray | None = None,
    ) -> float:
        """Log of all counts over all exposure."""
        return log_rate(y, offset, counts)


def check_counts(y: np.ndarray, name: str, family: str) -> None:
    """Raise unless these are counts, and not all of them zero."""
    wrong = (y < 0) | (y != np.floor(y)) | (y > LARGEST_COUNT)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        what = "negative" if y[row] < 0 else "not a whole number"
        if y[row] > LARGEST_COUNT:
            what = f"beyond {LARGEST_COUNT:.2g}, the largest count"
        raise ResponseError(
            f"the response {name!r} is {y[row]:g}",
            "not-counts",
            after=(
                f", which is {what}; family={family!r} takes counts, 0, 1, 2, ... For a rate write the "
                "count on the left and offset(log(exposure)) on the right; for other positive numbers "
                "family='gamma'"
            ),
            place=row,
        )
    if not (y > 0).any():
        raise DataError(
            f"the response {name!r} is 0 in every row, so there is nothing to explain. Check the "
            "column and the rows with missing values",
            "constant-response",
        )


def log_rate(y: np.ndarray, offset: np.ndarray | float, counts: np.ndarray | None = None) -> float:
    """Log of all counts over all exposure; half a count where there is none."""
    exposure = np.broadcast_to(np.exp(offset), y.shape)
    times = np.ones(len(y)) if counts is None else counts
    return float(np.log(max(times @ y, 0.5)) - np.log(times @ exposure))


def negbinomial_constant(y: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """log Gamma(y + a) / (Gamma(a) a^y y!), shape (K, n) for shapes (K, 1), to full precision."""
    a = np.minimum(shape, LARGEST_SHAPE)
    with np.errstate(all="ignore"):
        by_gamma = special.gammaln(y + a) - special.gammaln(a) - y * np.log(a)
        # Stirling's series of both, subtracted term by term: their difference keeps its digits.
        above = y + a
        by_series = (above - 0.5) * np.log1p(y / a) - y + (1 / above - 1 / a) / 12
        by_series -= (above**-3.0 - a**-3.0) / 360
    return np.asarray(np.where(a > 1e3, by_series, by_gamma) - special.gammaln(y + 1))
