"""Which groups to show where there are too many, and why each was chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

MOST_SHRUNK = "most shrunk"
FEWEST_ROWS = "fewest rows"
LOWEST, HIGHEST = "lowest", "highest"
TYPICAL = "typical"
SPREAD = "spread over the range"


def choose(pull: np.ndarray, position: np.ndarray, n_rows: np.ndarray, most: int) -> dict[int, str]:
    """Positions of the chosen levels, each with the reason why; in the order of the levels.

    A sixth each for the groups with the most shrinkage, with the fewest rows (if they differ in
    that), the lowest or highest, and typical ones; the rest is spread evenly over the range.

    Parameters
    ----------
    pull
        Shape (levels,): shrinkage of the level; NaN where it has no own estimate.
    position
        Shape (levels,): where the level lies.
    n_rows
        Shape (levels,): its rows.
    most
        How many to choose.
    """
    share = max(most // 6, 1)
    chosen: dict[int, str] = {}
    for reason, ranking, wanted in _rankings(pull, position, n_rows, share):
        fresh = [int(k) for k in ranking if int(k) not in chosen]
        for k in fresh[: min(wanted, most - len(chosen))]:
            chosen[k] = reason
    order = [int(k) for k in np.argsort(position, kind="stable") if int(k) not in chosen]
    left = min(most - len(chosen), len(order))
    for place in np.unique(np.linspace(0, len(order) - 1, left).round().astype(int)):
        chosen[order[place]] = SPREAD
    return dict(sorted(chosen.items()))


def _rankings(
    pull: np.ndarray, position: np.ndarray, n_rows: np.ndarray, share: int
) -> Iterator[tuple[str, np.ndarray, int]]:
    known = np.flatnonzero(np.isfinite(pull))
    yield MOST_SHRUNK, known[np.argsort(-pull[known], kind="stable")], share
    if n_rows.min() < n_rows.max():
        fewer = np.argsort(n_rows, kind="stable")
        yield FEWEST_ROWS, fewer[n_rows[fewer] < np.median(n_rows)], share
    upwards = np.argsort(position, kind="stable")
    yield LOWEST, upwards, (share + 1) // 2
    yield HIGHEST, upwards[::-1], share // 2
    yield TYPICAL, np.argsort(_oddity(pull) + _oddity(position), kind="stable"), share


def _oddity(values: np.ndarray) -> np.ndarray:
    """Distance from the median in units of the median distance; the middle for missing values."""
    if not np.isfinite(values).any():
        return np.zeros(len(values))
    away = np.abs(values - np.nanmedian(values))
    unit = np.nanmedian(away)
    away = away / unit if unit > 0 else away
    return np.where(np.isnan(away), np.nanmax(away), away)


def in_words(chosen: Mapping[int, str]) -> str:
    """Words for a choice: ``"4 most shrunk, 4 typical, 16 spread over the range"``."""
    counts = Counter(chosen.values())
    order = (MOST_SHRUNK, FEWEST_ROWS, LOWEST, HIGHEST, TYPICAL, SPREAD)
    return ", ".join(f"{counts[reason]} {reason}" for reason in order if counts[reason])
