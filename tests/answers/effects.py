"""Tables and numbers of emmeans' documented examples: ``tests/reference/emmeans``, with the script."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

import hierpool as hp

REFERENCE = Path(__file__).parents[1] / "reference" / "emmeans"
NUMBERS = json.loads((REFERENCE / "numbers.json").read_text(encoding="utf-8"))
NESTED = REFERENCE.parent / "estimable" / "rows.csv"
# Name of a fit -> table, formula; those without bars are least squares.
MODELS = {
    "pigs": ("pigs", "log(conc) ~ source + C(percent)"),
    "pigs_covariate": ("pigs", "log(conc) ~ source + percent"),
    "pigs_sqrt": ("pigs", "sqrt(conc) ~ source * C(percent)"),
    "fiber": ("fiber", "strength ~ machine + diameter"),
    "fiber_slopes": ("fiber", "strength ~ diameter * machine"),
    "warp": ("warpbreaks", "breaks ~ wool * tension"),
    "warp_unbalanced": ("warpbreaks", "breaks ~ wool * tension"),
    "oats": ("oats", "grain ~ Variety + C(nitro) + (1 | Block/Variety)"),
    "oats_sqrt": ("oats", "sqrt(grain) ~ Variety * nitro + (1 | Block/Variety)"),
    "oranges": ("oranges", "sales1 ~ price1 + price2 + C(day) + C(store)"),
    "noise": ("noise", "noise ~ size * type * side"),
    "nutrition": ("nutrition", "gain ~ (C(age) + group + race)**2"),
    "nested": ("nested", "y ~ site/plot + (1 | g)"),
    "machines": ("Machines", "score ~ Machine + (Machine | Worker)"),
}
ORDERS = {
    "pigs": {"source": ["fish", "soy", "skim"]},
    "warpbreaks": {"tension": ["L", "M", "H"]},
    "noise": {"size": ["S", "M", "L"], "type": ["Std", "Octel"]},
}
SHORTER = 7  # rows that the unbalanced example leaves out


def data(name: str) -> pd.DataFrame:
    """A table, its categories in the order that R has them."""
    if name == "Machines":
        return hp.datasets.load(name)
    path = NESTED if name == "nested" else REFERENCE / f"{name}.csv"
    table = pd.read_csv(path).rename(columns={"yield": "grain"})  # a word of Python
    return table.assign(
        **{
            column: pd.Categorical(table[column], order)
            for column, order in ORDERS.get(name, {}).items()
        }
    )


@cache
def model(name: str) -> hp.Model:
    """One of ``MODELS``."""
    table, formula = MODELS[name]
    rows = data(table).iloc[SHORTER if name == "warp_unbalanced" else 0 :]
    return hp.Model(formula, rows)


@cache
def reml(name: str) -> hp.LikelihoodFit:
    """Its REML fit, or least squares."""
    return model(name).reml()


def agrees(table: pd.DataFrame, name: str, rows: list[int] | None = None) -> None:
    """Hold a table to an example: estimate, se, df, interval, t and p, row by row."""
    want = NUMBERS[name]
    assert len(table) == len(want)
    low, high = [c for c in table if c.endswith(("_lb", "_ub"))]
    for k, (_, row) in enumerate(table.iterrows()):
        other = want[k if rows is None else rows[k]]
        value = next(v for key, v in other.items() if key in VALUES or key.endswith(".trend"))
        expected = [value, *(other[key] for key in ("SE", "df", "lower.CL", "upper.CL"))]
        expected += [other["t.ratio"]]
        found = row[["estimate", "se", "df", low, high, "t"]].to_numpy(dtype=float)
        expected = np.array([np.nan if v is None else v for v in expected], dtype=float)
        near = 1e-7 if other["SE"] is None else TOLERANCE * other["SE"]
        np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=near)
        p = other["p.value"]
        np.testing.assert_allclose(row["p"], np.nan if p is None else p, rtol=1e-3, atol=1e-9)


VALUES = {"response", "emmean", "estimate", "ratio"}
TOLERANCE = 2e-4  # df of Kenward and Roger from lme4's optimum; least squares agree to 1e-8
