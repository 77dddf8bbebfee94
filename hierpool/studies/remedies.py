"""Findings about residuals, weighed by fitting again: causes told from consequences, remedies tried.

Outlying rows and groups are left out, and what then is found no more came of them. A curve, a slope
that varies, or a log of the response is advised only where the model with it can be typed and fits
better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from hierpool.checks.residuals import every as residuals
from hierpool.checks.residuals.null_residuals import WARN_BELOW_P
from hierpool.core.design import Design
from hierpool.core.errors import HierpoolError
from hierpool.core.findings import Finding
from hierpool.core.group_nouns import nouns
from hierpool.core.spec import Spec
from hierpool.core.text import in_backticks, short
from hierpool.fits.optimum import LikelihoodFit
from hierpool.formula.build import build_design
from hierpool.formula.neighbours import (
    square_of,
    term_of,
    with_column,
    with_response,
    with_slope,
)
from hierpool.formula.residual_terms import with_structure
from hierpool.model import best_optimum, optimum

FEW, MOST_ROWS_OUT = 3, 0.01  # rows, and part of them, that may be outliers and not heavy tails
MOST_OF_LEVELS = 0.1  # part of the rows that outlying groups may have
ROUNDS = 3  # of leaving outliers out
BETTER = 3.0  # log-likelihood by which a log of the response has to fit better
LARGEST_CORRELATION = 0.75  # of neighbours, by which a test of a curve is corrected
MOST_ROWS = 20_000  # of more a second fit takes longer than it is worth
GAIN = 2.0  # REML log-likelihood by which a residual structure has to fit better
_OF_VARIANCE = frozenset({"unequal-variance", "skewed-residuals"})
_OF_SCALE = _OF_VARIANCE | {
    "curvature",
    "heavy-tails",
    "outlying-row",
    "unequal-variance-of-levels",
    "coefficient-varies",
}
_CAUSED = frozenset({"outlying-row", "outlying-level", "influential-level"})


def weighed(blup: LikelihoodFit) -> Iterator[Finding]:
    """Findings about the residuals of a fit, those of a few outliers told apart, remedies tried."""
    found = list(residuals.judged(blup))
    if blup.design.n > MOST_ROWS:
        yield from found
        return
    found = list(_not_of_scale(blup, found))
    found = _not_of_outliers(blup, found)
    found = _not_of_neighbours(blup, found)
    for finding in found:
        yield _with_remedy(blup, finding)


def _not_of_scale(blup: LikelihoodFit, found: list[Finding]) -> Iterator[Finding]:
    """A log of the response where it fits better, and what is found on that scale too; else all."""
    gain, logged = _log(blup) if any(f.code in _OF_SCALE for f in found) else (0.0, None)
    if logged is None or gain < BETTER:
        yield from found
        return
    response = logged.design.spec.response
    yield Finding(
        "log-response",
        "warning",
        f"{blup.design.spec.response} is skewed to the right and its residuals grow with its mean. "
        f"{response} fits better: the log-likelihood is higher by {short(gain)}, both on the scale of "
        f"{blup.design.spec.response}.",
        f"On the present scale intervals are too wide for low values and too narrow for high ones. "
        f"Model {response}; effects are then ratios.",
    )
    left = {f.code for f in residuals.judged(logged)}
    yield from (f for f in found if f.code in left and f.code not in _OF_VARIANCE)


def _log(blup: LikelihoodFit) -> tuple[float, LikelihoodFit | None]:
    """What the log-likelihood gains from a log of the response, and its fit; None where it has no place.

    It has for a column of positive numbers, skewed to the right, with residuals that grow with the
    fitted values.
    """
    design, y = blup.design, blup.design.y
    is_column = design.spec.response in design.frame and design.residual.has_sigma
    if not is_column or y.min() <= 0 or stats.skew(y) <= 0 or np.any(design.offset):
        return 0.0, None
    fitted = blup.fitted().to_numpy()
    if np.ptp(fitted) == 0 or stats.spearmanr(fitted, np.abs(y - fitted)).statistic <= 0:
        return 0.0, None
    spec = with_response(design.spec, f"log({in_backticks(design.spec.response)})")
    made, logged = _refitted(spec, design.frame, "ML"), _refitted(spec, design.frame)
    if made is None:
        return 0.0, None
    # By ML: error contrasts of log(y) are no function of those of y, and REML's likelihood is of these.
    return made.loglik - np.log(y).sum() - optimum(design, "ML").loglik, logged


def _not_of_outliers(blup: LikelihoodFit, found: list[Finding]) -> list[Finding]:
    """Outliers, and what is found without them too."""
    if all(f.code in _CAUSED for f in found):
        return found
    out, at, left = np.zeros(blup.design.n, dtype=bool), blup, found
    for _ in range(ROUNDS):  # an outlier that is left out may show another
        more = _outliers(at.design, left)
        if not more.any():
            break
        out[np.flatnonzero(~out)[more]] = True
        rest = blup.design.frame[~out]
        without = None if _too_many(found, out) else _refitted(blup.design.spec, rest)
        if without is None:
            return found
        at, left = without, list(residuals.judged(without))
    codes = {f.code for f in left}
    return [f for f in found if f.code in _CAUSED or f.code in codes]


def _too_many(found: Iterable[Finding], out: np.ndarray) -> bool:
    """Whether so many rows are out that the shape of the residuals is the fault, or the groups are."""
    has_levels = any(f.code in _CAUSED - {"outlying-row"} for f in found)
    most = MOST_OF_LEVELS * len(out) if has_levels else max(FEW, MOST_ROWS_OUT * len(out))
    return bool(out.sum() > most)


def _outliers(design: Design, found: Iterable[Finding]) -> np.ndarray:
    """Shape (n,): rows that are outlying, or are of an outlying or influential group."""
    out = np.zeros(design.n, dtype=bool)
    for finding in found:
        if finding.code not in _CAUSED or finding.evidence is None:
            continue
        rare = finding.evidence[finding.evidence["p"] < 2 * WARN_BELOW_P].index
        if finding.code == "outlying-row":
            out |= np.isin(design.rows, rare)
            continue
        for factor, level in rare:
            grouping = design.groupings[factor]
            out |= grouping.levels[grouping.codes] == level
    return out


def _not_of_neighbours(blup: LikelihoodFit, found: list[Finding]) -> list[Finding]:
    """Serial correlation makes curves by chance: one is kept if it is rare for that, or explains it."""
    serial = next((f for f in found if f.code == "autocorrelation"), None)
    curve = next((f for f in found if f.code == "curvature"), None)
    if serial is None or curve is None or serial.evidence is None or curve.evidence is None:
        return found
    bent = _curved(blup.design, str(curve.evidence["p"].idxmin()))
    after = None if bent is None else best_optimum(bent)
    if after is not None and "autocorrelation" not in {f.code for f in residuals.judged(after)}:
        return found
    row = serial.evidence.iloc[0]
    rho = float(np.clip(row["correlation"] - row["expected"], 0, LARGEST_CORRELATION))
    # The variance of a smooth contrast of AR(1) errors, over that of independent ones.
    t = np.abs(curve.evidence["t"]).max() * np.sqrt((1 - rho) / (1 + rho))
    p = 2 * stats.norm.sf(t) * len(curve.evidence)
    return found if p < WARN_BELOW_P else [f for f in found if f is not curve]


def _with_remedy(blup: LikelihoodFit, finding: Finding) -> Finding:
    """A finding with what to do about it, as far as that was seen to help."""
    remedy = _REMEDIES.get(finding.code)
    advice = "" if remedy is None else remedy(blup, finding)
    return replace(finding, meaning=f"{finding.meaning} {advice}") if advice else finding


def _curve(blup: LikelihoodFit, finding: Finding) -> str:
    """The curve that fits best by AIC, typed."""
    if finding.evidence is None:
        return ""
    design, name = blup.design, str(finding.evidence["p"].idxmin())
    terms = [square_of(design, name), f"bs({in_backticks(name)}, df=4)"]
    before, tried = optimum(design, "ML").aic, {}
    for term in filter(None, terms):
        if (made := _refitted(with_column(design.spec, term), design.frame, "ML")) is not None:
            tried[term] = made.aic
    if not tried or min(tried.values()) >= before:
        return ""
    best = min(tried, key=lambda term: tried[term])
    return f"{best} as one more term fits better (AIC lower by {short(before - tried[best])})."


def _slope(blup: LikelihoodFit, finding: Finding) -> str:
    """The bar with one more varying term, typed."""
    if finding.evidence is None:
        return ""
    design = blup.design
    worst = finding.evidence.iloc[int(finding.evidence["z"].to_numpy().argmax())]
    factor, term = str(worst["factor"]), str(worst["term"])
    text = None if term == "Intercept" else term_of(design.schema, term)
    spec = with_slope(design.spec, factor, text) if text else None
    made = None if spec is None else _refitted(spec, design.frame)
    if spec is None or made is None or made.loglik <= blup.loglik:
        return ""
    bars = " + ".join(str(bar) for bar in spec.groups if bar.factor == factor)
    return f"{bars} fits better (REML log-likelihood higher by {short(made.loglik - blup.loglik)})."


def _serial(blup: LikelihoodFit, finding: Finding) -> str:
    """Residuals correlated over time within the groups, typed."""
    if finding.evidence is None or blup.design.residual_factor:
        return ""
    time, factor = (str(finding.evidence.attrs[name]) for name in ("time", "factor"))
    over = f"{in_backticks(time)} | {factor if ':' in factor else in_backticks(factor)}"
    tried = [(f"residual='{word}({over})'", f"{word}({over})", None) for word in ("ar1", "car1")]
    return _best_structure(blup, tried[:1]) or _best_structure(blup, tried[1:])


def _sds(blup: LikelihoodFit, finding: Finding) -> str:
    """Residual sds of classes, or one that changes with a number, typed."""
    if finding.evidence is None or blup.design.spec.residual.spread:
        return ""
    column = str(finding.evidence.attrs.get("column", ""))
    if column not in blup.design.frame:  # fitted values
        return ""
    name, factor = in_backticks(column), blup.design.scale_factor
    beside = f" + (1 | {factor if ':' in factor else in_backticks(factor)})" if factor else ""
    spreads = [f"~ {name}{beside}", f"~ log({name}){beside}"]
    return _best_structure(blup, [(f"sigma='{sigma}'", None, sigma) for sigma in spreads])


def _sds_of_levels(blup: LikelihoodFit, finding: Finding) -> str:
    """A residual sd of each group, typed."""
    design = blup.design
    if finding.evidence is None or design.scale_factor:
        return ""
    factor, spread = str(finding.evidence.attrs["factor"]), design.spec.residual.spread
    bar = f"(1 | {factor if ':' in factor else in_backticks(factor)})"
    sigma = f"~ {spread} + {bar}" if spread else f"~ {bar}"
    try:
        spec = with_structure(design.spec, None, sigma)
    except HierpoolError:  # another factor, or correlated residuals
        return ""
    if any(term.factor != spec.residual.scale for term in spec.groups):
        return (
            f"sigma='{sigma}' gives each of the {nouns(factor)} a residual sd of its own: fit it by "
            "model.fit(), and hp.compare says whether it predicts better."
        )
    made = _refitted(spec, design.frame)
    gain = 0.0 if made is None else made.loglik - optimum(design, "ML").loglik
    return f"sigma='{sigma}' fits better (log-likelihood higher by {short(gain)})." * (gain > GAIN)


def _best_structure(
    blup: LikelihoodFit, tried: Sequence[tuple[str, str | None, str | None]]
) -> str:
    """What fits best of residual structures, and how much better; empty where none does."""
    design, found = blup.design, {}
    for text, residual, sigma in tried:
        try:
            spec = with_structure(design.spec, residual, sigma)
        except HierpoolError:  # several factors
            continue
        made = _refitted(spec, design.frame)
        if made is not None and made.loglik - blup.loglik > GAIN:
            found[text] = made.loglik - blup.loglik
    if not found:
        return ""
    best = max(found, key=lambda text: found[text])
    return f"{best} fits better (REML log-likelihood higher by {short(found[best])})."


_REMEDIES: dict[str, Callable[[LikelihoodFit, Finding], str]] = {
    "autocorrelation": _serial,
    "unequal-variance": _sds,
    "unequal-variance-of-levels": _sds_of_levels,
    "curvature": _curve,
    "coefficient-varies": _slope,
}


def _curved(design: Design, name: str) -> Design | None:
    """The design with the square of a predictor."""
    term = square_of(design, name)
    try:
        return None if term is None else build_design(with_column(design.spec, term), design.frame)
    except HierpoolError:
        return None


def _refitted(spec: Spec, frame: pd.DataFrame, method: str = "REML") -> LikelihoodFit | None:
    """Another model of these rows, or this one of others; None where it cannot be fitted."""
    try:
        is_ml = method == "ML" or bool(spec.residual.scale)
        made = optimum(build_design(spec, frame), "ML" if is_ml else "REML")
    except HierpoolError:
        return None
    return made if made.status.is_trustworthy else None
