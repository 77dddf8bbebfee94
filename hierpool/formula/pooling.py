"""Specs of the builders: complete pooling, no pooling, varying intercept, varying slope; the ladder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hierpool.core.coding import Coding
from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError, FormulaError, nearest
from hierpool.core.families.family import Family
from hierpool.core.spec import GroupTerm, Spec
from hierpool.formula.build import CellRows, CompleteRows, complete_rows, encode, model_columns
from hierpool.formula.parse import (
    factor_text,
    make_like,
    parse,
    read_columns,
    with_family,
    with_residuals,
)


def question(
    formula: str | Spec,
    data: Any = None,
    weights: str | None = None,
    known_se: str | None = None,
    family: Family | None = None,
    trials: str | None = None,
) -> Spec:
    """A formula without bars, with its family and residuals: what the builders start from."""
    spec = with_residuals(_without_bars(formula, data), weights, known_se)
    return spec if isinstance(formula, Spec) else with_family(spec, family, trials)


def read_rows(formula: str | Spec, data: Any, group: str) -> CompleteRows | CellRows:
    """The rows of all models that the builders make of one question."""
    return complete_rows(varying_intercept_spec(formula, group), data)


def ladder(
    formula: str | Spec,
    rows: CompleteRows | CellRows,
    group: str,
    slopes: Sequence[str] | None = None,
) -> dict[str, Design]:
    """The designs from one line for all to a line each, by name, in this order.

    ``slopes`` are the terms that vary; None: those that vary within levels.

    Without a predictor that varies within levels those with slopes are left out; so is that with
    slopes only, where these make a constant, as those of a category without one do.
    """
    spec = _without_bars(formula)
    specs = {
        "complete_pooling": complete_pooling_spec(spec, group),
        "varying_intercept": varying_intercept_spec(spec, group),
    }
    found = {name: encode(made, rows) for name, made in specs.items()}
    if slopes_that_vary(spec, rows, group) if slopes is None else slopes:
        slopes_only = encode(varying_slope_spec(spec, rows, group, slopes, intercept=False), rows)
        if not Coding.from_columns(slopes_only.groups[0].Z).has_constant:
            found["varying_slope_only"] = slopes_only
        uncorrelated = varying_slope_spec(spec, rows, group, slopes, correlated=False)
        found["varying_slope_uncorrelated"] = encode(uncorrelated, rows)
        found["varying_slope"] = encode(varying_slope_spec(spec, rows, group, slopes), rows)
    return {**found, "no_pooling": encode(no_pooling_spec(spec, group), rows)}


def complete_pooling_spec(formula: str | Spec, group: str | None = None) -> Spec:
    """One set of coefficients for all rows; ``group`` only names the levels."""
    spec = _without_bars(formula)
    return spec if group is None else replace(spec, grouping=_group_name(group))


def no_pooling_spec(formula: str | Spec, group: str) -> Spec:
    """Own coefficients for each level, with no distribution of levels to estimate.

    The formula is written as ``lmList`` of lme4 writes it: ``volume ~ time | boar``.
    """
    spec = _without_bars(formula)
    group = _group_name(group)
    term = GroupTerm(spec.population, group, "none")
    text = f"{spec.formula} | {factor_text(group)}"
    return replace(spec, formula=text, population="0", groups=(term,))


def varying_intercept_spec(formula: str | Spec, group: str) -> Spec:
    """``y ~ x + (1 | g)``."""
    return _with_term(_without_bars(formula), GroupTerm("1", _group_name(group)))


def varying_slope_spec(
    formula: str | Spec,
    rows: CompleteRows | CellRows,
    group: str,
    slopes: str | Sequence[str] | None = None,
    correlated: bool = True,
    intercept: bool = True,
) -> Spec:
    """``y ~ x + (x | g)``, or ``||`` without correlation, or ``0 + x`` without intercept.

    Parameters
    ----------
    formula
        Response and predictors, no bars.
    rows
        They say which terms vary within levels.
    group
        Column of the group.
    slopes
        Terms of the formula that vary, e.g. ``"Days"`` or ``["Days", "I(Days**2)"]``; by default
        those that say something new within at least one level.
    correlated, intercept
        Which of the three it is.
    """
    spec, group = _without_bars(formula), _group_name(group)
    terms, varying = _terms(spec, rows, group)
    chosen = _chosen(slopes, terms) if slopes is not None else varying
    if not chosen:
        what = f"no predictor of {spec.formula!r} varies within the groups of {group!r}"
        raise ArgumentError(
            f"{what}, so no slope can vary. Use hp.varying_intercept: "
            f"{varying_intercept_spec(formula, group).formula}",
            "no-varying-slope",
        )
    columns = read_columns(f"{int(intercept)} + {' + '.join(chosen)}").text
    return _with_term(
        spec, GroupTerm(columns, group, "correlated" if correlated else "uncorrelated")
    )


def slopes_that_vary(
    formula: str | Spec, rows: CompleteRows | CellRows, group: str
) -> tuple[str, ...]:
    """Terms of a formula that vary within at least one level, the constant left out."""
    return _terms(_without_bars(formula), rows, _group_name(group))[1]


def _without_bars(formula: str | Spec, data: Any = None) -> Spec:
    spec = formula if isinstance(formula, Spec) else parse(formula, data)
    if spec.groups:
        raise FormulaError(
            f"the formula already has a group term, and this builder adds its own: {spec.formula}",
            "bar-in-builder",
            hint="remove the group term and name the group with group=, or give the whole "
            "formula to hp.Model",
        )
    return spec


def _group_name(group: object) -> str:
    if isinstance(group, str) and group.strip():
        return group
    raise ArgumentError(
        f"group must be the name of one column; this is {group!r}. For several groups write "
        "hp.Model('y ~ x + (1 | g) + (1 | h)', data)",
        "group-not-a-name",
    )


def _with_term(spec: Spec, term: GroupTerm) -> Spec:
    return make_like(spec, read_columns(spec.without_bars), (term,))


def _terms(
    spec: Spec, rows: CompleteRows | CellRows, group: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Every term of the formula but the constant, and those that vary within levels."""
    (found,) = model_columns(no_pooling_spec(spec, group), rows).terms
    terms = [(text, columns) for text, columns in found.piece.encoding.terms if text != "1"]
    varying = tuple(text for text, columns in terms if set(columns) & set(found.piece.columns))
    return tuple(text for text, _ in terms), varying


def _chosen(slopes: str | Sequence[str], terms: Sequence[str]) -> tuple[str, ...]:
    """The terms that the user names, however they are spaced."""
    chosen: list[str] = []
    for name in [slopes] if isinstance(slopes, str) else slopes:
        chosen += _summands(name)
    unknown = [name for name in chosen if name not in terms]
    if unknown:
        raise ArgumentError(
            f"the slope {unknown[0]!r} is not a term of the formula; {nearest(unknown[0], terms)}",
            "unknown-slope",
        )
    return tuple(dict.fromkeys(chosen))


def _summands(text: str) -> list[str]:
    """``"Days + I(Days**2)"`` as two terms, spaced as terms are."""
    pieces = read_columns(text).pieces
    written = [p if isinstance(p, str) else p.text for p in pieces]
    cuts = [i for i, p in enumerate(pieces) if p == " + "]
    stops = [*cuts[1:], len(pieces)]
    return ["".join(written[i + 1 : j]) for i, j in zip(cuts, stops, strict=True)]
