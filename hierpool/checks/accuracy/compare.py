"""Which model predicts best: the LOO table."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import arviz_stats as azs
import numpy as np
import pandas as pd

from hierpool.checks.accuracy.loo import ScoredLOO
from hierpool.checks.accuracy.stacking import stacking
from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError, ComparisonError, HierpoolWarning, listed
from hierpool.core.fitted import Posterior


def compare(fits: Mapping[str, Posterior], by: str = "row") -> pd.DataFrame:
    """Leave-one-out comparison of several fits, best first, with the columns of ``az.compare``.

    Every coefficient is integrated out, and scores that importance sampling cannot estimate are
    computed exactly. ``table.attrs["predicts"]`` says what is predicted. ``weight`` are hierpool's
    own stacking weights: those of ``az.compare`` stay at their initial values if the density of a
    whole group is too small for a float.

    Parameters
    ----------
    fits
        Name -> ``PosteriorFit``, all of the same rows and the same response.
    by
        ``"row"``: predict new observations of known groups. ``"group"`` or a factor, of all models
        or of some: predict new groups. This is not meaningful for no pooling: a new group has
        nothing but its prior; the column ``note`` says so (also by row, for the only row of a
        group).

    Raises
    ------
    ComparisonError
        The fits have different rows or differently transformed responses, or some have densities
        and others probabilities.
    """
    check_comparable(fits)
    scores = {name: fit.loo(_left_out(by, fit, fits)) for name, fit in fits.items()}
    if len(scores) == 1:
        raise ComparisonError(
            "compare() needs at least two fits; for one, use fit.loo().", "one-fit"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of points that are scored exactly here
        # pseudo-BMA needs no optimiser; its weights are replaced
        table = pd.DataFrame(azs.compare(scores, method="pseudo-BMA", round_to="none"))
    table["weight"] = _weights(scores).reindex(table.index)
    notes = {name: _only_its_prior(fit.design, by) for name, fit in fits.items()}
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


def _only_its_prior(design: Design, by: str) -> str:
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


def check_comparable(fits: object) -> None:
    """Raise where the fits are not of the same rows and the same response."""
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
        if one.n != other.n:
            only = one.rows.symmetric_difference(other.rows)
            raise ComparisonError(
                f"model {first!r} has {one.n} rows, model {name!r} has {other.n}. Rows in only one of "
                f"them: {listed(only.tolist())}. Fit both to the same rows.",
                "different-rows",
            )
        if one.fingerprint != other.fingerprint:
            raise ComparisonError(
                f"models {first!r} and {name!r} have {one.n} rows each, but the rows, their order or the "
                f"values of {one.spec.response} differ. Fit both to the same table.",
                "different-rows",
            )
