"""Functions of formulas, their arguments, and replacements for those of other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

ELEMENTWISE = ("I", "log", "log2", "log10", "log1p", "exp", "sqrt", "abs")
LEARNED = ("center", "scale", "standardize")  # remember means and sds for new data
BASES = ("poly", "bs", "cr", "cc", "cs")  # several columns from one
ALLOWED_FUNCTIONS = (*ELEMENTWISE, *LEARNED, *BASES, "C")
OFFSET = "offset"  # not among them: it makes no column, and a column may bear the name
NUMPY_FUNCTIONS = ("log", "log2", "log10", "log1p", "exp", "sqrt", "abs")  # as np.log(...)
SPELLINGS = {"factor": "C", "as.factor": "C"}  # R's names for what is here too

Value = Literal["count", "number", "flag", "numbers"] | tuple[str, ...]

_BOUNDS: dict[str, Value] = {"lower_bound": "number", "upper_bound": "number"}
_BEYOND: Value = ("raise", "clip", "na", "zero", "extend")
_CUBIC: dict[str, Value] = {
    "df": "count",
    "knots": "numbers",
    **_BOUNDS,
    "constraints": ("center",),
    "extrapolation": _BEYOND,
}

# What each takes after its column, in order; no other argument reaches the library.
ARGUMENTS: Mapping[str, Mapping[str, Value]] = {
    "scale": {"center": "flag", "scale": "flag", "ddof": "number"},
    "standardize": {"center": "flag", "rescale": "flag", "ddof": "number"},
    "poly": {"degree": "count", "raw": "flag"},
    "bs": {
        "df": "count",
        "knots": "numbers",
        "degree": "count",
        "include_intercept": "flag",
        **_BOUNDS,
        "extrapolation": _BEYOND,
    },
    "cr": _CUBIC,
    "cc": _CUBIC,
    "cs": _CUBIC,
}

_SPLINE = "cr({x}, df={df}, constraints='center')"
_SMOOTH = f"write {_SPLINE}, a spline with a fixed number of columns, or bs({{x}}, df={{df}})"
_PRODUCT = "cr({x}, df=3, constraints='center') * cr({z}, df=3, constraints='center')"
_RESIDUALS = (
    "residual covariance structures are not supported: residuals are independent, with one "
    "variance that weights= may scale; leave the term out"
)
_LEVELS = "write (1 | {x})"
_NUMBER = "write {x}; where it is text, data['{x}'] = pandas.to_numeric(data['{x}']) first"
_COLUMN = "make a column first: data['z'] = "
_SUCCESSES = "successes out of n trials are written 'successes / n ~ ...', with family='binomial'"
_ONE_RESPONSE = "a model has one response: write a model for each, or combine them in one column"

# Function of another program, or of Python -> what to write; {x} and {z} are its arguments.
INSTEAD: Mapping[str, str] = {
    "ns": f"write {_SPLINE}, the natural cubic spline",
    "rcs": f"write {_SPLINE}, the natural cubic spline",
    **dict.fromkeys(("s", "sm", "smooth", "lo", "loess", "gp", "pb", "ps", "pspline"), _SMOOTH),
    **dict.fromkeys(("te", "ti", "t2"), f"write {_PRODUCT}, with a fixed number of columns"),
    "pol": "write poly({x}, 2)",
    "mo": "write C({x}) for a coefficient of each category, or {x} for a straight line",
    "Q": "write `{x}`: backticks hold a name of any kind",
    "se": "pass the column as an argument: known_se='{x}'",
    "sei": "pass the column as an argument: known_se='{x}'",
    "weights": "pass the column as an argument: weights='{x}'; variances are sigma^2 / weight",
    "ordered": "write C({x}, Poly); to set the order, C({x}, Poly, levels=['low', 'high'])",
    "as.ordered": "write C({x}, Poly); to set the order, C({x}, Poly, levels=['low', 'high'])",
    "relevel": "write C({x}, Treatment('{ref}')), with the reference category in quotes",
    "as.character": "write C({x})",
    "as.logical": "write C({x})",
    **dict.fromkeys(("as.numeric", "as.integer", "as.double", "numeric", "float", "int"), _NUMBER),
    "interaction": "write {x}:{z}",
    "ln": "write log({x})",
    "identity": "write I({x})",
    **dict.fromkeys(("square", "pow", "power", "sq"), "write I({x}**2)"),
    "logit": "write log({x} / (1 - {x}))",
    "exposure": "write offset(log({x}))",
    **dict.fromkeys(("z", "zscore", "std", "standardise"), "write standardize({x})"),
    **dict.fromkeys(("centre", "demean"), "write center({x})"),
    **{
        name: f"write C({{x}}, {coding})"
        for coding in ("Treatment", "Sum", "Helmert", "Poly", "Diff", "SAS")
        for name in (coding, f"contr.{coding if coding == 'SAS' else coding.lower()}")
    },
    **dict.fromkeys(("Error", "cluster", "frailty", "random", "re", "gr"), _LEVELS),
    "lag": f"sort by time, then {_COLUMN}data.groupby('g')['{{x}}'].shift()",
    "lead": f"sort by time, then {_COLUMN}data.groupby('g')['{{x}}'].shift(-1)",
    "diff": f"sort by time, then {_COLUMN}data.groupby('g')['{{x}}'].diff()",
    "cut": f"{_COLUMN}pandas.cut(data['{{x}}'], 3).astype(str)",
    "dummy": f"{_COLUMN}(data['{{x}}'] == 'a').astype(float)",
    "ifelse": f"{_COLUMN}numpy.where(data['{{x}}'] > 0, 1.0, 0.0)",
    "mean": f"{_COLUMN}data.groupby('g')['{{x}}'].transform('mean')",
    "ave": f"{_COLUMN}data.groupby('g')['{{x}}'].transform('mean')",
    **dict.fromkeys(("cbind", "mvbind"), f"{_SUCCESSES}; otherwise {_ONE_RESPONSE}"),
    **dict.fromkeys(("ar", "ar1", "arma", "ma", "cosy", "unstr", "car", "sar", "ou"), _RESIDUALS),
    **dict.fromkeys(("corAR1", "corCAR1", "corARMA", "corCompSymm", "corSymm"), _RESIDUALS),
    **dict.fromkeys(("varIdent", "varPower", "varExp", "varFixed"), _RESIDUALS),
    "mi": "write {x}; rows with a missing value are left out, and counted",
    "me": "write {x}; measurement error in predictors is not supported",
    "mm": (
        "multiple membership is not supported: each row belongs to one group of a factor; "
        "write (1 | {x})"
    ),
    "trials": "the response must be a measurement, not a count of successes; write {x} ~ ...",
    **dict.fromkeys(
        ("cens", "trunc", "subset"), "choose the rows first: data = data[data['{x}'] > 0]"
    ),
}

# Covariance structures of glmmTMB and lme4 that are written as functions of a bar.
BARS: Mapping[str, str] = {"us": "|", "diag": "||", "homdiag": "||"}


def advice(name: str, arguments: Sequence[str], numbers: Sequence[int]) -> str:
    """What to write in place of a function that a formula does not have; empty where unknown.

    Parameters
    ----------
    name
        As it was typed, without namespace.
    arguments
        Its columns and labels, as typed without quotes.
    numbers
        The whole numbers among its arguments.

    Examples
    --------
    >>> advice("ns", ["age"], [3])
    "write cr(age, df=3, constraints='center'), the natural cubic spline"
    """
    known = INSTEAD.get(name)
    if known is None:
        return ""
    x, z = [*arguments, "x", "z"][:2] if arguments else ("x", "z")
    df = numbers[0] if numbers else 4
    if name == "rcs":  # its number is that of knots
        df = df - 1 if numbers else 4
    ref = arguments[1] if len(arguments) > 1 else "a"
    z = z if len(arguments) > 1 else "z"
    return known.format(x=x, z=z, df=max(df, 2), ref=ref)
