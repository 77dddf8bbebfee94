"""How often the rule of recommendation picks the true model, beside the rules that it replaced.

    python benchmarks/path.py                      # every cell, an hour on two idle cores
    python benchmarks/path.py --runs 30 --out table.md          # 840 responses

Responses are simulated from known models; ``hp.advise`` starts from ``y ~ x + (x | g)``. An answer
is right where it is the generating model (with its groups, which stay, where there is nothing
between them), wrong where it is another, and undecided where the data do not decide; then the
larger model is recommended. Beside it stand backward selection by likelihood ratio tests at 0.05,
and the simplest rung of the ladder within one standard error, or within 4, of the best elpd. The
estimates of the levels' lines under each rule are compared, all of them posterior means.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import hierpool as hp

FORMULA = "y ~ x + (x | g)"
ALPHA = 0.05  # of backward selection
DRAWS = 250
SIZES: dict[str, tuple[int, ...]] = {
    "18x10": (10,) * 18,
    "30x6": (6,) * 30,
    "129x4": (4,) * 129,
    "65 unbalanced": tuple(2 + (7 * k) % 11 for k in range(65)),  # 2 to 12 rows
}
STRUCTURES = ("complete", "intercepts", "slopes", "uncorrelated", "correlated", "none")
"""Simplest first, in the order of the ladder."""


@dataclass(frozen=True, slots=True)
class Truth:
    """A generating model: sds of intercepts and slopes in residual sds, x with mean 0 and sd 1.

    ``is_large``: whether each of its effects is large; of the others nothing is asked but their
    mean squared error.
    """

    structure: str
    sd_intercept: float = 0.0
    sd_slope: float = 0.0
    corr: float = 0.0
    is_large: bool = True


TRUTHS: dict[str, Truth] = {
    "none": Truth("intercepts"),  # an sd of zero: the groups stay
    "intercept, large": Truth("intercepts", 1.0),
    "intercept, small": Truth("intercepts", 0.25, is_large=False),
    "slope, large": Truth("uncorrelated", 1.0, 1.0),
    "slope, small": Truth("uncorrelated", 1.0, 0.25, is_large=False),
    "correlation, large": Truth("correlated", 1.0, 1.0, 0.8),
    "correlation, small": Truth("correlated", 1.0, 1.0, 0.3, is_large=False),
}


BEDS: dict[str, tuple[int, int]] = {"nested": (20, 5), "crossed": (20, 12)}
"""Groups of a and of b: five of b in each of a, six rows each; or every pair of them twice."""
SLOPES = ("neither", "a", "b", "both")  # over which factor the slope of x varies, sd 1


def simulate_several(bed: str, slopes: str, seed: int) -> pd.DataFrame:
    """A table with ``a``, ``b``, ``x``, ``y``: intercepts of both vary by 1, slopes of some."""
    rng = np.random.default_rng([seed, list(BEDS).index(bed), SLOPES.index(slopes)])
    outer, inner = BEDS[bed]
    if bed == "nested":
        b = np.repeat(np.arange(outer * inner), 6)
        a = b // inner
    else:
        a, b = (np.tile(v.ravel(), 2) for v in np.mgrid[:outer, :inner])
    x = rng.standard_normal(len(a))
    y = 0.5 * x + rng.standard_normal(len(a))
    for name, codes in (("a", a), ("b", b)):
        y += rng.standard_normal(codes.max() + 1)[codes]
        if slopes in {name, "both"}:
            y += rng.standard_normal(codes.max() + 1)[codes] * x
    return pd.DataFrame({"a": a, "b": b, "x": x, "y": y})


def run_several(cell: tuple[str, str, int]) -> dict[str, Any]:
    """The slopes that are recommended for one response of several factors."""
    bed, slopes, seed = cell
    data = simulate_several(bed, slopes, seed)
    model = hp.Model("y ~ x + (x | a) + (x | b)", data)
    advice = hp.advise(model, draws=DRAWS, seed=seed)
    design = advice.models[advice.recommended].design
    kept = [f for f in ("a", "b") if len(design.group(f).terms) > 1]
    correlated = any(g.has_correlation for g in design.groups)
    answer = {(): "neither", ("a", "b"): "both"}.get(tuple(kept), "".join(kept))
    return {
        "bed": bed,
        "slopes": slopes,
        "right": answer == slopes and not correlated and advice.decided,
        "wrong": advice.decided and (answer != slopes or correlated),
        "undecided": not advice.decided,
        "right slopes": answer == slopes,
    }


def several(runs: int, workers: int, first: int = 1) -> pd.DataFrame:
    """Shares of answers on nested and crossed factors."""
    cells = list(product(BEDS, SLOPES, range(first, first + runs)))
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        found = pd.DataFrame(pool.map(run_several, cells, chunksize=4))
    grouped = found.groupby(["bed", "slopes"], sort=False)
    return grouped.mean().join(grouped.size().rename("runs"))


QUESTIONS: dict[str, tuple[str, str | list[str], dict[str, str]]] = {
    "boars": ("volume ~ time", "boar", {}),
    "sleepstudy": ("Reaction ~ Days", "Subject", {}),
    "radon": ("log_radon ~ floor", "county", {}),
    "Orthodont": ("distance ~ age * Sex", "Subject", {}),
    "Rail": ("travel ~ 1", "Rail", {}),
    "Machines": ("score ~ Machine", "Worker", {}),
    "Dyestuff": ("Yield ~ 1", "Batch", {}),
    "Dyestuff2": ("Yield ~ 1", "Batch", {}),
    "Pastes": ("strength ~ 1", ["batch", "sample"], {}),
    "Penicillin": ("diameter ~ 1", ["plate", "sample"], {}),
    "Exam": ("normexam ~ standLRT", "school", {}),
    "ChickWeight": ("weight ~ Time * Diet", "Chick", {}),
    "cake": ("angle ~ recipe + temperature", "replicate", {}),
    "eight_schools": ("effect ~ 1", "school", {"known_se": "se"}),
}
"""A natural question of each bundled table that is fitted in seconds."""


def bundled(names: Iterable[str]) -> pd.DataFrame:
    """What the rule recommends of bundled tables, beside the rules that it replaced."""
    rows = {}
    for name in names:
        formula, group, known = QUESTIONS[name]
        data = hp.datasets.load(name)
        study = hp.study(formula, data, group=group, seed=1, progress=False, **known)
        rungs = {n: m for n, m in study.models.items() if n.isidentifier() or len(study.groups) > 1}
        table = hp.compare({n: study.fits[n] for n in rungs})
        behind = table["elpd"].iloc[0] - table["elpd"]
        near = set(table.index[(behind < 4.0) | (behind < table["dse"])])
        rows[name] = {
            "recommended": study.recommended,
            "decided": "yes" if study.decided else "no",
            "tests at 0.05": backward(study.advice),
            "one standard error": rungs[next(n for n in rungs if n in near)].formula,
        }
    return pd.DataFrame(rows).T.rename_axis("table").reset_index()


@dataclass(frozen=True, slots=True)
class Outcome:
    """One simulated response: what is answered, and mean squared errors by who estimates."""

    size: str
    truth: str
    seed: int
    answer: str
    recommended: str
    candidates: tuple[str, ...]
    selected: str
    one_error: str
    advised: float
    maximal: float
    backward: float
    by_elpd: float
    maximal_blup: float
    backward_blup: float


def simulate(size: str, truth: Truth, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """A table with ``g``, ``x``, ``y``, and the true intercept and slope of each level, (J, 2)."""
    rng = np.random.default_rng([seed, list(SIZES).index(size)])
    rows = SIZES[size]
    g = np.repeat(np.arange(len(rows)), rows)
    x = np.concatenate([np.arange(n) - (n - 1) / 2 for n in rows])
    x = (x - x.mean()) / x.std()
    root = np.array(
        [
            [truth.sd_intercept, 0.0],
            [truth.sd_slope * truth.corr, truth.sd_slope * np.sqrt(1 - truth.corr**2)],
        ]
    )
    coefficients = np.array([1.0, 0.5]) + rng.standard_normal((len(rows), 2)) @ root.T
    y = coefficients[g, 0] + coefficients[g, 1] * x + rng.standard_normal(len(g))
    return pd.DataFrame({"g": g, "x": x, "y": y}), coefficients


def run(size: str, name: str, seed: int) -> Outcome:
    """Advice on one simulated response."""
    data, true = simulate(size, TRUTHS[name], seed)
    advice = hp.advise(hp.Model(FORMULA, data), draws=DRAWS, seed=seed)
    chosen = backward(advice)
    rungs = ladder(advice, data, seed)
    nearest = one_standard_error(rungs)
    squared = [
        squared_error(fit, data, true)
        for fit in (
            advice.fits[advice.recommended],
            advice.fits[advice.formula],
            advice.fits[chosen],
            rungs[nearest],
            advice.blups[advice.formula],
            advice.blups[chosen],
        )
    ]
    left = tuple(structure(advice.models[c]) for c in advice.candidates)
    answer = left[0] if advice.decided else "undecided"
    by_tests = structure(advice.models[chosen])
    return Outcome(size, name, seed, answer, left[0], left, by_tests, nearest, *squared)


def ladder(advice: Any, data: pd.DataFrame, seed: int) -> dict[str, Any]:
    """The fits of the ladder by structure; those that advice has not made are made here."""
    known = {structure(advice.models[name]): fit for name, fit in advice.fits.items()}
    models = hp.pooling_ladder("y ~ x", data, "g").values()
    missing = {structure(m): m for m in models if structure(m) not in known}
    known |= {s: m.fit(seed=seed, draws=DRAWS, progress=False) for s, m in missing.items()}
    return {s: known[s] for s in STRUCTURES}


def one_standard_error(rungs: dict[str, Any]) -> str:
    """The simplest model within one standard error, or within 4, of the best elpd."""
    table = hp.compare(rungs)
    behind = table["elpd"].iloc[0] - table["elpd"]
    near = set(table.index[(behind < 4.0) | (behind < table["dse"])])
    return next(s for s in STRUCTURES if s in near)


def backward(advice: Any) -> str:
    """Formula that likelihood ratio tests at 0.05 come down to, along the same path."""
    name = advice.formula
    for step in advice.path[1:]:
        if step.kind == "comparison" or step.evidence.p < ALPHA:
            break
        name = step.name
    return str(name)


def structure(model: hp.Model) -> str:
    """Which of the structures a model has."""
    if model.design.spec.pooling != "partial":
        return str(model.design.spec.pooling)
    (group,) = model.design.groups
    if len(group.terms) == 1:
        return "intercepts" if group.terms[0] == "Intercept" else "slopes"
    return "correlated" if group.has_correlation else "uncorrelated"


def squared_error(fit: Any, data: pd.DataFrame, true: np.ndarray) -> float:
    """Mean over the levels of the squared errors of intercept and slope, added up."""
    fitted = fit.fitted().to_numpy()
    codes, x = data["g"].to_numpy(), data["x"].to_numpy()
    n = np.bincount(codes)
    mean_x, mean_f = np.bincount(codes, x) / n, np.bincount(codes, fitted) / n
    away = x - mean_x[codes]
    slope = np.bincount(codes, away * fitted) / np.bincount(codes, away**2)
    found = np.column_stack([mean_f - slope * mean_x, slope])
    return float(np.square(found - true).sum(axis=1).mean())


def run_all(
    sizes: Iterable[str], truths: Iterable[str], runs: int, workers: int, first: int = 1
) -> pd.DataFrame:
    """Outcomes, one row a simulated response."""
    cells = list(product(sizes, truths, range(first, first + runs)))
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        found = list(pool.map(_run_cell, cells, chunksize=4))
    return pd.DataFrame(found)


def _run_cell(cell: tuple[str, str, int]) -> Outcome:
    return run(*cell)


def rates(outcomes: pd.DataFrame, by: Sequence[str] = ("truth", "size")) -> pd.DataFrame:
    """Shares of right, wrong and undecided answers, and of answers richer than the truth.

    ``recommended`` counts the larger model where it is undecided; ``tests`` and ``one error`` are
    how often the two other rules pick the true model.
    """
    rank = {name: k for k, name in enumerate(STRUCTURES)}
    true = outcomes["truth"].map(lambda name: TRUTHS[name].structure)
    decided = outcomes["answer"] != "undecided"
    told = pd.DataFrame(
        {
            "right": outcomes["answer"] == true,
            "wrong": decided & (outcomes["answer"] != true),
            "undecided": ~decided,
            "too rich": decided & (outcomes["answer"].map(rank) > true.map(rank)),
            "recommended": outcomes["recommended"] == true,
            "tests": outcomes["selected"] == true,
            "one error": outcomes["one_error"] == true,
        }
    )
    grouped = told.join(outcomes[list(by)]).groupby(list(by), sort=False)
    return grouped.mean().join(grouped.size().rename("runs"))


def ratio(outcomes: pd.DataFrame, over: str) -> tuple[float, float]:
    """Mean squared error of the advice over that of another, and its Monte Carlo standard error.

    Both are averaged over all outcomes; the error is of the paired difference (delta method).
    """
    ours, other = outcomes["advised"].to_numpy(), outcomes[over].to_numpy()
    value = ours.mean() / other.mean()
    influence = (ours - value * other) / other.mean()
    return float(value), float(influence.std(ddof=1) / np.sqrt(len(influence)))


def errors(outcomes: pd.DataFrame, by: str) -> pd.DataFrame:
    """Ratios of mean squared errors, advice over the others, by a column and over all."""
    parts = {**dict(iter(outcomes.groupby(by, sort=False))), "all": outcomes}
    rows = {}
    for name, part in parts.items():
        row = {}
        for over in ("maximal", "backward", "by_elpd", "maximal_blup", "backward_blup"):
            value, se = ratio(part, over)
            row[over] = f"{value:.3f} ({se:.3f})"
        rows[name] = row
    return pd.DataFrame(rows).T


def written(outcomes: pd.DataFrame) -> str:
    """The tables as Markdown."""
    cells = rates(outcomes).reset_index()
    shares = ["right", "wrong", "undecided", "too rich", "recommended", "tests", "one error"]
    cells[shares] = (100 * cells[shares]).round(0).astype(int)
    pieces = [_markdown(cells), _markdown(errors(outcomes, "truth").reset_index(names="truth"))]
    pieces.append(_markdown(errors(outcomes, "size").reset_index(names="size")))
    return "\n\n".join(pieces)


def _markdown(table: pd.DataFrame) -> str:
    head = f"| {' | '.join(map(str, table.columns))} |\n|{'---|' * len(table.columns)}"
    rows = [[str(cell).replace("|", "\\|") for cell in row] for row in table.to_numpy()]
    return "\n".join([head, *(f"| {' | '.join(row)} |" for row in rows)])


def main() -> None:
    """Run the cells that are asked for, and print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--truths", nargs="+", default=list(TRUTHS), choices=list(TRUTHS))
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--first", type=int, default=1, help="seed of the first run of each cell")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep", type=Path, help="CSV of every outcome")
    parser.add_argument("--several", action="store_true", help="nested and crossed factors instead")
    parser.add_argument(
        "--bundled", nargs="*", choices=list(QUESTIONS), help="bundled tables instead"
    )
    arguments = parser.parse_args()
    if arguments.bundled is not None:
        print(_markdown(bundled(arguments.bundled or QUESTIONS)))
        return
    if arguments.several:
        table = several(arguments.runs, arguments.workers, arguments.first).reset_index()
        shares = ["right", "wrong", "undecided", "right slopes"]
        table[shares] = (100 * table[shares]).round(0).astype(int)
        print(_markdown(table))
        return
    chosen = (arguments.sizes, arguments.truths, arguments.runs)
    outcomes = run_all(*chosen, arguments.workers, arguments.first)
    if arguments.keep:
        outcomes.to_csv(arguments.keep, index=False)
    text = written(outcomes)
    if arguments.out:
        arguments.out.write_text(f"{text}\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
