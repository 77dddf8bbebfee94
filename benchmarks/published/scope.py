"""What hierpool does not do, number by number, and why some numbers are not met."""

from __future__ import annotations

from .numbers import Published

_BINOMIAL = "binomial response"
_WHOLE_CASES = {
    "cbpp": _BINOMIAL,
    "bugs_seeds": _BINOMIAL,
    "reedfrogs": _BINOMIAL,
    "bda_rat_tumors": f"{_BINOMIAL}, beta prior",
    "baseball_pooling": f"{_BINOMIAL}, logit link",
    "roaches": "Poisson and negative binomial responses",
    "mrode_sire_model": "relationship matrix: sires 1 and 4 are father and son",
}
_METHODS = {
    ("clark_gpa", "REML (nlme varIdent)"): "residual variance by occasion",
    ("clark_gpa", "REML (nlme corAR1)"): "autocorrelated residuals",
    ("rats_kcv", "random K=30 fold"): "random folds, which were not published",
    ("rats_kcv", "stratified K=30 fold"): "random folds, which were not published",
    ("rats_kcv", "K=10 grouped + own initial weight"): "random folds, which were not published",
}


def left_out(number: Published) -> str:
    """Why a number is out of scope; empty where it is not."""
    return _WHOLE_CASES.get(number.case) or _METHODS.get((number.case, number.method), "")


# (case, quantity) or (case, method, quantity) -> what was measured
_EXPLAINED: dict[tuple[str, ...], str] = {
    ("rats_kcv", "LOO with exact refits (k_threshold=0.7)", "elpd_loo"): (
        "Ours is the exact score: a refit without each of the 150 rows gives -524.9. The source "
        "refits where Pareto k is above 0.7, and leaves the other rows to importance sampling of "
        "every coefficient, which is too kind to them. Its recipe, on 4,000 of our draws, gives "
        "-522.0 to -523.9 in eight runs, which is within the tolerance; on 40,000 draws -524.2."
    ),
}


def explanation(number: Published) -> str:
    """Why a number is not met; empty where nobody knows."""
    by_method = _EXPLAINED.get((number.case, number.method, number.quantity))
    return by_method or _EXPLAINED.get((number.case, number.quantity), "")
