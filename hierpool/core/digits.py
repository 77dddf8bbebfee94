"""Numbers as text, with the digits that matter."""

from __future__ import annotations

import numpy as np


def number(value: float) -> str:
    """Four digits that matter, for a table."""
    return digits(value, 4)


def short(value: float) -> str:
    """Three digits that matter, for a sentence."""
    return digits(value, 3)


def digits(value: float, count: int) -> str:
    """So many digits that matter; whole numbers are written out, tiny ones with an exponent."""
    if not np.isfinite(value) or value == 0:
        return f"{value:g}"
    if not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{count - 1}e}"
    return f"{value:.{max(count - 1 - int(np.floor(np.log10(abs(value)))), 0)}f}"
