"""What of a fit differs from a reference: all of it in one table, which is printed on failure."""

from __future__ import annotations

from typing import Any

import numpy as np


class Differences:
    """Comparisons of one fit; ``assert_none`` fails with those that differ, in a table."""

    def __init__(self) -> None:
        self.compared = 0
        self.rows: list[str] = []

    def close(
        self, what: str, found: Any, expected: Any, *, rtol: float = 0, atol: float = 0
    ) -> None:
        """Numbers that differ by no more than ``atol + rtol |expected|``, each; null is NaN."""
        self.compared += 1
        ours, theirs = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
        if ours.shape != theirs.shape:
            self.rows.append(f"{what}: shape {ours.shape} is not {theirs.shape}")
            return
        allowed = atol + rtol * np.abs(theirs)
        apart = np.where(np.isnan(ours) & np.isnan(theirs), 0, np.abs(ours - theirs))
        wrong = ~(apart <= np.nan_to_num(allowed))
        if wrong.any():
            excess = np.where(wrong, np.nan_to_num(apart / allowed, nan=np.inf), -1)
            worst = np.unravel_index(excess.argmax(), excess.shape)
            self.rows.append(
                f"{what}: {wrong.sum()} of {wrong.size} differ; at {[int(k) for k in worst]} "
                f"found {ours[worst]:.10g}, expected {theirs[worst]:.10g}, "
                f"apart {apart[worst]:.3g}, allowed {np.broadcast_to(allowed, wrong.shape)[worst]:.3g}"
            )

    def of_largest(self, what: str, found: Any, expected: Any, share: float = 1e-4) -> None:
        """Numbers that differ by no more than a share of the largest of the table."""
        theirs = np.asarray(expected, dtype=float)
        self.close(what, found, theirs, atol=share * np.abs(theirs).max())

    def same(self, what: str, found: Any, expected: Any) -> None:
        """Words and counts."""
        self.compared += 1
        if found != expected:
            self.rows.append(f"{what}: found {found!r}, expected {expected!r}")

    def assert_none(self) -> None:
        """Fail with the table, if anything differs."""
        lines = [f"  {row}" for row in self.rows]
        heading = f"{len(lines)} of {self.compared} comparisons differ:"
        assert not lines, "\n".join([heading, *lines])
