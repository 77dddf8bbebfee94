"""Which model predicts best: fits compared by leave-one-out, of rows in memory or in a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from hierpool.answers.effects_table import EffectsTable
from hierpool.checks.accuracy.comparison import (
    check_fits,
    check_responses,
    check_same_rows,
    compared,
    only_its_prior,
)
from hierpool.checks.accuracy.loo import good_k, has_row_scores
from hierpool.checks.findings.comparisons import FEW_ROWS
from hierpool.core.arguments import check_count, check_seed
from hierpool.core.errors import ArgumentError, ComparisonError
from hierpool.core.fitted import Posterior
from hierpool.core.progress import named_steps
from hierpool.tables.engines import open_table
from hierpool.tables.row_scores import PREDICTS, ScoredTable, Scores

_CLEAR = 4  # elpd by which models have to differ, as ArviZ has it


class ScoresTable(EffectsTable):
    """A comparison of models that says above its rows how it was made."""

    @staticmethod
    def _number(value: float) -> str:
        """A score or its error: two decimals, or two digits of what is smaller than that."""
        return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"

    @property
    def _width(self) -> int:
        return 130

    def __repr__(self) -> str:
        silent = [c for c in ("diag_diff", "diag_elpd") if c in self and (self[c] == "").all()]
        return EffectsTable.__repr__(self.drop(columns=silent))


def compare(
    fits: Mapping[str, Posterior],
    by: str = "row",
    *,
    table: Any = None,
    n_checked: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Leave-one-out comparison of several fits, best first, with the columns of ``az.compare``.

    Every coefficient is integrated out, and scores that importance sampling cannot estimate are
    computed exactly. ``result.attrs["predicts"]`` says what is predicted. ``weight`` are hierpool's
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
    table
        For Gaussian fits that were made from sums of a table: the table, whose single rows are to be
        predicted. Its engine works out the scores of all rows by all models in one query; a random
        sample of rows, scored with all draws, corrects the sums and their differences. The models
        may have been collected apart. None: the fits have their rows, or ``by`` is a group.
    n_checked
        Rows of that sample; the more, the smaller the sampling errors.
    seed
        Of that sample.
    progress
        Of a table: show a bar on anything over a second.

    Returns
    -------
    DataFrame
        One row a model, best first. ``elpd`` is the sum of the log scores and ``se`` its standard
        error, ``elpd_diff`` the difference from the best and ``dse`` the standard error of this
        difference. With ``table``: no ``weight``, and ``subsampling_se`` and ``subsampling_dse`` are
        the standard errors of ``elpd`` and ``elpd_diff`` because the correction rests on a sample.
        The printed table says how it was made, ``attrs["n_checked"]`` of how many rows.

    Raises
    ------
    ComparisonError
        The fits have different rows or differently transformed responses, or some have densities
        and others probabilities.
    DataError
        The table has other rows than a model was made of, or cannot be read.
    UnsupportedModelError
        Single rows of a fit that was made from sums, without ``table``.
    ArgumentError
        ``table`` where it is not needed.

    References
    ----------
    Magnusson, Andersen, Jonasson, Vehtari (2020), AISTATS, PMLR 108, 341-351: differences from a
    sample of rows.
    """
    if table is None:
        return compared(fits, by)
    check_fits(fits)
    if len(fits) == 1:
        raise ComparisonError(
            "compare() needs at least two fits; for one, use hp.loo_from_table(fit, table).",
            "one-fit",
        )
    check_responses(fits)
    _check_needs(fits, by)
    check_count("n_checked", n_checked, 2)
    scored = ScoredTable.of(list(fits.values()), open_table(table))  # type: ignore[arg-type]
    with named_steps(3, progress) as begin:
        begin("which rows the table has")
        _ = scored.n
        begin("a sample of rows, by all draws")
        sample = scored.sampled(n_checked, check_seed(seed))
        begin("scores of all rows")
        return _told(fits, scored.sums(*sample), seed)


def _check_needs(fits: Mapping[str, Posterior], by: str) -> None:
    """Raise where the table is not needed, or helps for some of the fits only."""
    if by != "row":
        raise ArgumentError(
            f"table= is for the scores of single rows, and new groups are predicted from the sums. "
            f"Leave it out: hp.compare(fits, by={by!r})",
            "table-not-needed",
        )
    known = {
        name: has_row_scores(fit.design) or fit.design.family is not None
        for name, fit in fits.items()
    }
    if all(known.values()):
        check_same_rows(fits, side_by_side=True)
        raise ArgumentError(
            "table= is for Gaussian fits that were made from sums of a table. These have their rows, or "
            "counts of rows that are alike. Leave it out: hp.compare(fits)",
            "table-not-needed",
        )
    if any(known.values()):
        whole = next(name for name in known if known[name])
        summed = next(name for name in known if not known[name])
        raise ComparisonError(
            f"model {whole!r} has its rows in memory, model {summed!r} sums of a table. Make both from "
            "the table: hp.Model(formula, table)",
            "collected-apart",
        )


def _told(fits: Mapping[str, Posterior], scores: Scores, seed: int) -> ScoresTable:
    """The table, with what it says of itself."""
    order = np.argsort(-scores.elpd, kind="stable")
    best = int(order[0])
    diff = scores.elpd - scores.elpd[best]
    dse, sampling_dse = scores.dse(best), scores.sampling_dse(best)
    limits = [good_k(int(np.prod(fit.n_draws))) for fit in fits.values()]
    n_bad = [
        int((k > limit).sum()) for k, limit in zip(scores.sampled[:, :, 1], limits, strict=True)
    ]
    few = scores.n < FEW_ROWS
    unclear = "N < 100" if few else f"|elpd_diff| < {_CLEAR}"
    columns: dict[str, Any] = {
        "elpd": scores.elpd,
        "se": scores.se,
        "elpd_diff": diff,
        "dse": dse,
        "subsampling_dse": sampling_dse,
        "p_worse": stats.norm.cdf(-diff, 0, np.hypot(dse, sampling_dse) + 1e-12),
        "p": scores.p,
        "subsampling_se": scores.sampling_se,
        "diag_diff": [unclear if few or abs(d) < _CLEAR else "" for d in diff],
        "diag_elpd": [
            f"{n} k̂ > {limit:.2f}" if n else "" for n, limit in zip(n_bad, limits, strict=True)
        ],
    }
    notes = [only_its_prior(fit.design, "row") for fit in fits.values()]
    if any(notes):
        columns["note"] = notes
    found = pd.DataFrame(columns, index=list(fits)).iloc[order]
    found.insert(0, "rank", np.arange(len(found)))
    found.loc[found["rank"] == 0, ["p_worse", "diag_diff"]] = np.nan, ""
    m = scores.sampled.shape[1]
    made = {"predicts": PREDICTS, "n_checked": m, "seed": seed}
    return ScoresTable.of(found, _head(scores, m, seed, sum(n_bad)), (), **made)


def _head(scores: Scores, m: int, seed: int, n_bad: int) -> list[str]:
    """The lines above the printed table."""
    if m == scores.n:
        how = f"all of its {m:,} rows, scored with all draws"
    else:
        how = f"{m:,} of its {scores.n:,} rows, drawn at random and scored with all draws (seed {seed})"
    lines = [
        f"Leave-one-out: {PREDICTS}",
        f"From one query of the table, corrected by {how}",
    ]
    if m < scores.n:
        lines.append(
            "subsampling_dse: standard error of elpd_diff by this sample; n_checked= takes more rows"
        )
    if n_bad:
        lines.append(
            "Some Pareto k of these rows are too high, so their scores are uncertain (diag_elpd)"
        )
    return lines
