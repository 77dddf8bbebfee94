"""Categories of a predictor: their order, and the contrasts that code them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from formulaic.transforms.contrasts import (
    Contrasts,
    DiffContrasts,
    HelmertContrasts,
    PolyContrasts,
    SASContrasts,
    SumContrasts,
    TreatmentContrasts,
)

from hierpool.core.errors import DataError, listed
from hierpool.core.findings import Finding
from hierpool.formula import tables
from hierpool.formula.category_coding import CategoryCoding, Label, typed
from hierpool.formula.function_calls import Factor, quote
from hierpool.formula.table_column import TableColumn

MOST_CATEGORIES = 1000  # of one predictor; each is a dense column
MOST_POLYNOMIALS = 20  # categories that are coded by polynomials: of more, digits are lost


def categories_of(column: TableColumn) -> pd.Index[Any]:
    """The categories of a predictor in their order; an error where they are one or far too many."""
    name = column.name
    if column.kind == "time":
        tables.to_numbers(column.cells, name, "a predictor")
    levels, _ = column.levels
    if len(levels) < 2:
        raise DataError(
            f"column {name!r} is {listed(levels)} in every row that is used, so its coefficient "
            "cannot be estimated. Leave it out of the formula",
            "constant-predictor",
        )
    if len(levels) > MOST_CATEGORIES:
        raise DataError(
            f"column {name!r} has {len(levels)} categories, each with a coefficient of its own; "
            f"the limit is {MOST_CATEGORIES}. Use a random effect instead: (1 | {quote(name)})",
            "too-many-categories",
        )
    return levels


def in_order(categories: pd.Index[Any], coding: CategoryCoding, name: str) -> pd.Index[Any]:
    """The categories as ``levels=`` orders them, checked against all that the coding says."""
    if coding.levels:
        places = [_place(categories, label, name, "levels=") for label in coding.levels]
        left_out = [c for k, c in enumerate(categories) if k not in places]
        if left_out:
            raise DataError(
                f"levels= of C({quote(name, in_call=True)}) omits {listed(left_out)}, which the "
                "data contain. Name every category, or omit levels=",
                "unseen-category",
            )
        categories = categories[places]
    if coding.reference is not None:
        _place(categories, coding.reference, name, "Treatment")
    n = len(categories)
    if coding.scores and (len(coding.scores) != n or len(set(coding.scores)) != n):
        raise DataError(
            f"Poly has {len(coding.scores)} scores, but column {name!r} has {n} categories: "
            f"{listed(categories)}. Give each category a score, or omit the scores",
            "wrong-scores",
        )
    if coding.contrast == "Poly" and n > MOST_POLYNOMIALS:
        raise DataError(
            f"column {name!r} has {n} categories; polynomial contrasts of more than "
            f"{MOST_POLYNOMIALS} are numerically inaccurate. Use a polynomial of low degree of "
            f"the number, such as poly({quote(name, in_call=True)}, 3)",
            "too-many-categories",
        )
    return categories


def _place(categories: pd.Index[Any], label: Label, name: str, where: str) -> int:
    """Position of a label that was typed; an error where no row has it."""
    for k, category in enumerate(categories):
        if category == label and isinstance(category, bool | np.bool_) == isinstance(label, bool):
            return k
    alike = [c for c in categories if str(c) == str(label)]
    advice = f"there are {listed(categories)}"
    if alike and isinstance(alike[0], str | int | float | bool | np.generic):
        plain = alike[0].item() if isinstance(alike[0], np.generic) else alike[0]
        advice = f"write {typed(plain)}"
    raise DataError(
        f"{where} names {label!r}, which does not occur in column {name!r} in the rows that are "
        f"used; {advice}",
        "unknown-category",
    )


def made_contrasts(coding: CategoryCoding, labels: Iterable[Any]) -> Contrasts:
    """The contrasts of formulaic's that a coding names."""
    if coding.contrast == "Treatment" and coding.reference is not None:
        return TreatmentContrasts(base=next(c for c in labels if c == coding.reference))
    if coding.contrast == "Poly":
        return PolyContrasts(scores=list(coding.scores) or None)
    return {
        "": TreatmentContrasts,
        "Treatment": TreatmentContrasts,
        "SAS": SASContrasts,
        "Sum": SumContrasts,
        "Helmert": HelmertContrasts,
        "Diff": DiffContrasts,
    }[coding.contrast]()


def ordered_notices(factors: Iterable[Factor], frame: pd.DataFrame) -> tuple[Finding, ...]:
    """A note for each ordered category that is coded by default: R would use polynomials."""
    found = []
    for factor in dict.fromkeys(factors):
        name = factor.columns[0]
        dtype = frame[name].dtype
        is_plain = factor.kind == "column" or (
            factor.kind == "category" and not factor.coding.contrast
        )
        if is_plain and isinstance(dtype, pd.CategoricalDtype) and dtype.ordered:
            column = quote(name, in_call=True)
            text = (
                f"{name!r} is an ordered category: each coefficient compares a category with the "
                f"first, {listed(frame[name].cat.categories[:1])}. R would use polynomial "
                f"contrasts; for those write C({column}, Poly)"
            )
            found.append(Finding("ordered-categories", "note", text))
    return tuple(found)
