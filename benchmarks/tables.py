"""From a table to the rows and columns of a model: a million rows, ids of several kinds.

    python benchmarks/tables.py [--rows 1000000] [--runs 5]

Seconds of processor time, medians; other programs on the machine lengthen them less than the clock.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from machine import described
from posterior import PACKAGES, markdown, number

import hierpool as hp

LEVELS = (10_000, 100_000)
KINDS: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {  # codes and labels of the groups
    "whole numbers": lambda codes, _: codes,
    "text": lambda codes, labels: pd.Series(labels[codes], dtype="str"),
    "text as Python objects": lambda codes, labels: pd.Series(labels[codes], dtype=object),
    "categories": lambda codes, labels: pd.Categorical.from_codes(codes, labels),
}
FORMULAS = ("y ~ x + (x | g)", "y ~ x + arm + (x | g)")


def table(n: int, n_levels: int, kind: str) -> pd.DataFrame:
    """Rows of a made-up trial; one in a hundred has no ``x`` where ``arm`` is asked for too."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, n_levels, n)
    labels = np.array([f"id{i:06d}" for i in range(n_levels)], dtype=object)
    x = rng.normal(5, 2, n)
    y = 1 + x / 2 + rng.normal(size=n_levels)[codes] + rng.normal(size=n)
    arm = np.array(["control", "low", "high"], dtype=object)[rng.integers(0, 3, n)]
    return pd.DataFrame({"y": y, "x": x, "g": KINDS[kind](codes, labels), "arm": arm})


def seconds(formula: str, data: pd.DataFrame, runs: int) -> float:
    """Median processor time of a model made from a table."""
    found = []
    for _ in range(runs):
        start = time.process_time()
        hp.Model(formula, data)
        found.append(time.process_time() - start)
    return median(found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    print(described(PACKAGES))
    rows = []
    hp.Model(FORMULAS[0], table(1000, 10, "whole numbers"))  # imports what it needs
    for n_levels in LEVELS:
        for kind in KINDS:
            data = table(given.rows, n_levels, kind)
            gaps = data.assign(x=data["x"].where(np.arange(len(data)) % 100 > 0))
            both = zip(FORMULAS, (data, gaps), strict=True)
            times = [seconds(formula, own, given.runs) for formula, own in both]
            rows.append([f"{n_levels:,}", kind, *map(number, times)])
    shown = [formula.replace("|", "\\|") for formula in FORMULAS]
    heads = ["groups", "ids", shown[0], f"{shown[1]}, 1 % of x missing"]
    print(markdown(heads, rows))


if __name__ == "__main__":
    main()
