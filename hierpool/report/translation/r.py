"""Formulas in R's spelling, and what R does otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hierpool.core.spec import GroupTerm
from hierpool.report.translation.formula_text import (
    CALL,
    closing,
    functions,
    masked,
    pieces,
    unmasked,
)
from hierpool.report.translation.wording import Wording, categories_in

_RENAMED = {"np.log": "log", "np.exp": "exp", "np.sqrt": "sqrt", "np.abs": "abs"}
_RENAMED |= {"np.log2": "log2", "np.log10": "log10", "np.log1p": "log1p", "C": "factor"}
_RENAMED |= {"bs": "splines::bs", "standardize": "scale"}

_SCALED_BY_R = {"center": "scale({}, scale = FALSE)"}

_OPERATORS_OF_R = {"**": "^", "//": "%/%", "%": "%%"}

_CONTRASTS_OF_R = {"SAS": "contr.SAS", "Sum": "contr.sum", "Helmert": "contr.helmert"}
_CONTRASTS_OF_R |= {"Poly": "contr.poly", "Diff": "MASS::contr.sdif"}

_BY_ORDER = re.compile(r"^C\(.*?, (?:SAS|Sum|Helmert|Poly|Diff)\b(?!.*levels=)")

_NOT_IN_R = ("cr", "cc", "cs")


def in_r(text: str) -> str:
    """Columns of a formula in R's spelling: functions, powers, the comparison signs."""
    text, names = masked(text.removeprefix("1 + ") if text != "1" else text)
    text = re.sub(r"\*\*|//|%", lambda m: _OPERATORS_OF_R[m[0]], text)
    names = [n if n[0] == "`" else n.replace("\\", "\\\\") for n in names]
    for match in reversed(list(CALL.finditer(text))):
        name, start, stop = match["function"], match.start(), closing(text, match.end() - 1)
        inside = text[match.end() : stop - 1]
        if name == "C":
            text = text[:start] + _category_of_r(inside) + text[stop:]
            continue
        written = _SCALED_BY_R.get(name, f"{_RENAMED.get(name, name)}({{}})").format(inside)
        text = text[:start] + written + text[stop:]
    text = re.sub(r"=\s*(True|False)\b", lambda m: f"={m[1].upper()}", text)
    return unmasked(text.replace("[", "c(").replace("]", ")"), names)


def _category_of_r(inside: str) -> str:
    """What stands in ``C(...)``, names and labels masked, as R codes it."""
    column, _, rest = inside.partition(", ")
    order = re.search(r"levels=\[(.*)\]$", rest)
    given = f"factor({column}, levels = c({order[1]}))" if order else f"factor({column})"
    coding = re.match(r"(Treatment|SAS|Sum|Helmert|Poly|Diff)(?:\((.*?)\))?", rest)
    if coding is None or (coding[1] == "Treatment" and not coding[2]):
        return given
    if coding[1] == "Treatment":
        reference = coding[2] if coding[2].startswith("\0") else f'"{coding[2]}"'
        return f"relevel({given}, ref = {reference})"
    scores = re.fullmatch(r"scores=\[(.*)\]", coding[2] or "")
    if scores:
        n = scores[1].count(",") + 1
        return f"C({given}, contr.poly({n}, scores = c({scores[1]})))"
    return f"C({given}, {_CONTRASTS_OF_R[coding[1]]})"


def r_bar(term: GroupTerm) -> str:
    """A group term as lme4 writes it."""
    bar = "||" if term.covariance == "uncorrelated" else "|"
    return f"({in_r(term.columns)} {bar} {term.factor})"


def r_notes(wording: Wording) -> Iterator[str]:
    """Where functions and codings of R are not those of here."""
    spec = wording.spec
    used = functions(
        " ".join([spec.response, spec.without_bars, *(t.columns for t in spec.groups)])
    )
    if missing := [name for name in dict.fromkeys(used) if name in _NOT_IN_R]:
        yield (f"Base R has no {', '.join(missing)}(). Compute its columns first, or use mgcv.")
    terms = [*wording.population, *(t for own in wording.groups for t in own)]
    if any(_BY_ORDER.match(masked(piece)[0]) for term in terms for piece in pieces(term)):
        yield (
            "The coding depends on the order of the categories. If R sorts them differently, give "
            "the order: factor(x, levels = c(...))."
        )
    if "bs" in used or "poly" in used:
        yield "Splines and polynomials may be coded differently; the fit is the same."


def double_bar_notes(wording: Wording) -> Iterator[str]:
    """What R makes of a category beside a double bar."""
    for term, own in wording.bars:
        if term.covariance == "uncorrelated" and categories_in(own, wording.categories):
            yield (
                "lme4 1.1 keeps the columns of a category correlated with ||, which is a different "
                "model. Use diag() of lme4 2.0, or 0/1 columns made by hand."
            )


WITH_EXTRA_ZEROS = ("zero_inflated", "hurdle")


def right_of_family(wording: Wording) -> str:
    """The right-hand side; of no pooling with the groups as fixed effects."""
    spec = wording.spec
    if spec.pooling != "none":
        return " + ".join([in_r(spec.without_bars), *_bars(wording)])
    term, own = next(iter(wording.bars))
    each = [term.factor if t == "1" else f"{term.factor}:{in_r(t)}" for t in own]
    common = [in_r(t) for t in wording.population if t != "1"]
    return " + ".join(["0", *each, *common, *map(in_r, spec.offsets)])


def _bars(wording: Wording) -> list[str]:
    spec = wording.spec
    if spec.pooling != "none":
        return [r_bar(term) for term, _ in wording.bars]
    return []
