"""Which model predicts best: the LOO table."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import arviz as az
import pandas as pd

from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError, ComparisonError, HierpoolWarning, listed


def compare(fits: Mapping[str, Any]) -> pd.DataFrame:
    """LOO table of several fits, best first: the columns of ``az.compare``, unrounded.

    Each row is left out in turn, its density given all other rows with every coefficient
    integrated out, so the table answers: which model predicts a new row of a known level best?

    Parameters
    ----------
    fits
        Name -> ``PosteriorFit``, all of the same rows and the same response.

    Raises
    ------
    ComparisonError
        Fits of different rows, or of a differently transformed response; it says which.
    """
    check_comparable({name: fit.design for name, fit in fits.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pareto k's are reported below, by model
        scores = {name: az.loo(fit.datatree, pointwise=True) for name, fit in fits.items()}
        table = az.compare(scores, round_to="none")
    bad = {name: int((s.pareto_k > s.good_k).sum()) for name, s in scores.items()}
    if any(bad.values()):
        worst = ", ".join(f"{name} ({k})" for name, k in bad.items() if k)
        warnings.warn(
            f"rows whose Pareto k is too high for importance sampling: {worst}; "
            "their scores are approximate",
            HierpoolWarning,
            stacklevel=2,
        )
    return pd.DataFrame(table)


def check_comparable(designs: Mapping[str, Design]) -> None:
    """Raise where the designs are not of the same rows and the same response."""
    if not isinstance(designs, Mapping) or not designs:
        raise ArgumentError(
            "compare() takes a dict of fits by name: hp.compare({'pooled': fit_1, 'partial': fit_2})",
            "fits-by-name",
        )
    (first, one), *others = designs.items()
    for name, other in others:
        if one.spec.response != other.spec.response:
            raise ComparisonError(
                f"model {first!r} predicts {one.spec.response}, model {name!r} predicts "
                f"{other.spec.response}: scores of different responses cannot be compared. "
                "Fit both to the same response.",
                "different-response",
            )
        if one.n != other.n:
            only = one.rows.symmetric_difference(other.rows)
            raise ComparisonError(
                f"model {first!r} has {one.n} rows, model {name!r} has {other.n}; rows in one only: "
                f"{listed(only.tolist())}. Fit both to the rows that both can use.",
                "different-rows",
            )
        if one.fingerprint != other.fingerprint:
            raise ComparisonError(
                f"models {first!r} and {name!r} have {one.n} rows each, but not the same ones, not in "
                f"the same order, or other values of {one.spec.response}. Fit both to one table.",
                "different-rows",
            )
