"""Which model predicts best: the LOO table."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import arviz_stats as azs
import numpy as np
import pandas as pd

from hierpool.checks.accuracy.loo import ScoredLOO, has_row_scores
from hierpool.checks.accuracy.stacking import stacking
from hierpool.core.design import COLLECT_ONCE, Design
from hierpool.core.errors import ArgumentError, ComparisonError, HierpoolWarning, listed
from hierpool.core.fitted import Posterior

_WITH_TABLE = "Pass the table, whose engine scores them: hp.compare(fits, table=table)"


def compared(fits: Mapping[str, Posterior], by: str = "row") -> pd.DataFrame:
    """Leave-one-out comparison of several fits, best first, as ``hp.compare`` gives it without a table.

    Raises
    ------
    ComparisonError
        The fits have different rows or differently transformed responses, or some have densities
        and others probabilities; or there is only one.
    UnsupportedModelError
        Single rows of a fit that has only sums of them.
    """
    check_fits(fits)
    if len(fits) == 1:
        raise ComparisonError(
            "compare() needs at least two fits; for one, use fit.loo().", "one-fit"
        )
    check_responses(fits)
    if by == "row":
        for name, fit in fits.items():
            if not has_row_scores(fit.design):
                instead = (_WITH_TABLE,) if fit.design.family is None else ()
                fit.design.check_rows(f"comparing {name!r} by single rows", *instead)
    check_same_rows(fits, side_by_side=by == "row")
    scores = {name: fit.loo(_left_out(by, fit, fits)) for name, fit in fits.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of points that are scored exactly here
        # pseudo-BMA needs no optimiser; its weights are replaced
        table = pd.DataFrame(azs.compare(scores, method="pseudo-BMA", round_to="none"))
    table["weight"] = _weights(scores).reindex(table.index)
    notes = {name: only_its_prior(fit.design, by) for name, fit in fits.items()}
    if by != "row" or any(notes.values()):
        table["note"] = [notes[str(name)] for name in table.index]
    table.attrs["predicts"] = next(iter(scores.values())).predicts
    return table


def _left_out(by: str, fit: Posterior, fits: Mapping[str, Posterior]) -> Any:
    """What is left out of one fit: a factor that only other fits have is taken from them."""
    if by in fit.design.groupings:
        return by
    others = [other.design.groupings for other in fits.values()]
    return next((known[by] for known in others if by in known), by)


def _weights(scores: Mapping[str, ScoredLOO]) -> pd.Series:
    """Stacking weights by name, with a warning if they may not be optimal."""
    found = stacking(np.column_stack([np.ravel(score.elpd_i) for score in scores.values()]))
    if not found.is_best:
        bound = f"by up to {found.gap:.2g} of elpd" if np.isfinite(found.gap) else "by any amount"
        warnings.warn(
            f"the stacking weights are not optimal: others may score better {bound}. Do not use the "
            "column weight; elpd and its differences are not affected.",
            HierpoolWarning,
            stacklevel=3,
        )
    return pd.Series(found.weights, index=list(scores))


def only_its_prior(design: Design, by: str) -> str:
    """What a model without pooling predicts from its prior alone; empty for other models."""
    if design.spec.pooling != "none":
        return ""
    if by != "row":
        return "a new group has only its prior"
    single = sum(int((group.grouping.n_rows == 1).sum()) for group in design.groups)
    return f"{single} groups with one row have only their prior" if single else ""


def _has_probabilities(design: Design) -> bool:
    """Whether scores are log probabilities of single values, and not log densities."""
    return design.family is not None and design.family.is_discrete


def check_comparable(fits: object, side_by_side: bool = True) -> None:
    """Raise where the fits are not of the same rows and the same response.

    Parameters
    ----------
    fits
        Name -> posterior.
    side_by_side
        Whether their rows are taken one by one; else all together, or by group.
    """
    check_responses(check_fits(fits))
    check_same_rows(check_fits(fits), side_by_side)


def check_fits(fits: object) -> Mapping[str, Posterior]:
    """The fits, if they are posteriors by name."""
    if not isinstance(fits, Mapping) or not fits:
        raise ArgumentError(
            "compare() takes a dict of fits, e.g. hp.compare({'pooled': fit_1, 'partial': fit_2})",
            "fits-by-name",
        )
    for name, fit in fits.items():
        if not isinstance(fit, Posterior):
            raise ArgumentError(
                f"{name!r} is a {type(fit).__name__}, but compare() takes posteriors, model.fit().",
                "posterior-needed",
            )
    return fits


def check_responses(fits: Mapping[str, Posterior]) -> None:
    """Raise where the fits have different responses, or densities beside probabilities."""
    designs: dict[str, Design] = {name: fit.design for name, fit in fits.items()}
    (first, one), *others = designs.items()
    for name, other in others:
        if _has_probabilities(one) != _has_probabilities(other):
            whole, dense = (first, name) if _has_probabilities(one) else (name, first)
            raise ComparisonError(
                f"model {whole!r} gives probabilities of {one.spec.response}, model {dense!r} densities: "
                "their scores have different units and cannot be compared. Fit both with a family of "
                "the same kind, e.g. family='poisson' and family='negbinomial'.",
                "density-beside-probability",
            )
        if one.spec.response != other.spec.response:
            raise ComparisonError(
                f"model {first!r} predicts {one.spec.response}, model {name!r} predicts "
                f"{other.spec.response}. Scores of different responses cannot be compared. "
                "Fit both to the same response.",
                "different-response",
            )


def check_same_rows(fits: Mapping[str, Posterior], side_by_side: bool) -> None:
    """Raise where the fits have different rows, or rows that cannot be laid side by side."""
    designs: dict[str, Design] = {name: fit.design for name, fit in fits.items()}
    (first, one), *others = designs.items()
    for name, other in others:
        if one.n != other.n:
            both = f"model {first!r} has {one.n} rows, model {name!r} has {other.n}."
            if not (one.is_summed or other.is_summed):
                only = one.rows.symmetric_difference(other.rows)
                both += f" Rows in only one of them: {listed(only.tolist())}."
            raise ComparisonError(f"{both} Fit both to the same rows.", "different-rows")
        if one.fingerprint == other.fingerprint:
            continue
        if one.is_summed != other.is_summed:
            summed, whole = (first, name) if one.is_summed else (name, first)
            raise ComparisonError(
                f"model {summed!r} was made from sums of a table, model {whole!r} from rows in memory, "
                "and whether these are the same cannot be told. Make both from the table: "
                "hp.Model(formula, table)",
                "collected-apart",
            )
        if not one.has_rows_of(other):
            raise ComparisonError(
                f"models {first!r} and {name!r} have {one.n} rows each, but the rows, their order or the "
                f"values of {one.spec.response} differ. Fit both to the same table.",
                "different-rows",
            )
        if side_by_side and one.is_summed:
            raise ComparisonError(
                f"rows that are alike were counted for model {first!r} and for model {name!r} apart, by "
                f"other columns, so their scores cannot be laid side by side. {COLLECT_ONCE}",
                "collected-apart",
            )
