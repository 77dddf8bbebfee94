"""CPU seconds of animal models: REML, breeding values and posteriors, by size of the pedigree.

    OMP_NUM_THREADS=1 python benchmarks/relationships.py [ANIMALS ...]

Made-up pedigrees: founders, then five generations of which one male in twenty is a sire; 70 % of the
animals have a record, or two beside a permanent environment. Each is timed once, after a small model
that compiles the loops.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import hierpool as hp

GENERATIONS = 5
ALONE, BESIDE = "y ~ sex + (1 | animal)", "y ~ sex + (1 | animal) + (1 | own)"


def herd(n: int, records: int, seed: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A pedigree of n animals, and records of most of them; variances 20, 5 (beside) and 40."""
    rng = np.random.default_rng(seed)
    founders = max(n // 20, 100)
    parents = np.full((n, 2), -1)
    values = rng.normal(0, np.sqrt(20), n)
    edges = np.linspace(founders, n, GENERATIONS + 1).astype(int)
    before = np.arange(founders)
    for start, stop in itertools.pairwise(edges.tolist()):
        sires = rng.choice(before, max(2, len(before) // 20), replace=False)
        dams = np.setdiff1d(before, sires)
        own = np.arange(start, stop)
        parents[own] = np.column_stack([rng.choice(sires, len(own)), rng.choice(dams, len(own))])
        values[own] = values[parents[own]].mean(axis=1) + values[own] * np.sqrt(0.5)
        before = own
    name: np.ndarray = np.array([f"a{k}" for k in range(n)], dtype=object)
    known = np.where(parents < 0, None, name[parents])
    pedigree = pd.DataFrame({"animal": name, "sire": known[:, 0], "dam": known[:, 1]})
    at = np.repeat(np.flatnonzero(rng.uniform(size=n) < 0.7), records)
    sex = rng.integers(0, 2, n)[at]
    permanent = rng.normal(0, np.sqrt(5), n) if records > 1 else np.zeros(n)
    y = 100 + 5 * sex + values[at] + permanent[at] + rng.normal(0, np.sqrt(40), len(at))
    data = pd.DataFrame({"animal": name[at], "own": name[at], "sex": sex, "y": y})
    return pedigree, data


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds, and what came back."""
    start = time.process_time()
    out = work()
    return time.process_time() - start, out


def row(n: int, formula: str) -> str:
    """A line of the table."""
    pedigree, data = herd(n, 1 if formula == ALONE else 2)
    made, model = seconds(lambda: hp.Model(formula, data, relationship={"animal": pedigree}))
    reml, optimum = seconds(model.reml)
    values, _ = seconds(lambda: hp.breeding_values(optimum))
    posterior, fit = seconds(lambda: model.fit(seed=1))
    ranks, _ = seconds(lambda: hp.breeding_values(fit))
    told = f"{hp.heritability(fit)['mean'].iloc[0]:.3f}, {fit.status.word}"
    times = " | ".join(f"{t:.2f}" for t in (made, reml, values, posterior, ranks))
    return f"| {n:,} | {len(data):,} | `{formula}` | {times} | {told} |"


def main() -> None:
    """Print the table."""
    sizes = [int(a) for a in sys.argv[1:]] or [1_000, 3_000, 10_000]
    row(1_500, BESIDE)
    print("| animals | records | model | made | REML | breeding values | posterior | ranks | h2 |")
    print("|---|---|---|---|---|---|---|---|---|")
    for n in sizes:
        for formula in (ALONE, BESIDE):
            print(row(n, formula), flush=True)


if __name__ == "__main__":
    main()
