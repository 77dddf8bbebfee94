"""Text to Spec: our own reading of a formula, bars included.

Every error draws a caret under the character to blame. What stands left of a bar, or outside
the bars, is only checked and written in one way here; ``hierpool.formula.encoder`` turns it into
columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hierpool.core.errors import ArgumentError, FormulaError, UnsupportedModelError
from hierpool.core.spec import GroupTerm, ResidualStructure, ResidualTerm, Spec, left_side
from hierpool.formula.function_calls import Factor, quote
from hierpool.formula.grammar import Columns, reader_of
from hierpool.formula.residual_terms import correlation_text

if TYPE_CHECKING:
    from hierpool.core.families.family import Family


def parse(text: str, data: Any = None) -> Spec:
    """What a formula in lme4's notation asks for; an error knows the columns of the data, if given.

    ``(x | g)``: constant and x vary over the levels of g, with a correlation; ``(x || g)``:
    without; ``(0 + x | g)``: x alone. ``(1 | a/b)`` is ``(1 | a) + (1 | a:b)``. ``offset(x)``: x is
    added as it is, without a coefficient.

    Examples
    --------
    >>> spec = parse("volume ~ time + (time|boar)")
    >>> spec.formula, spec.population, spec.groups[0].columns
    ('volume ~ time + (time | boar)', '1 + time', '1 + time')
    """
    try:
        return _parsed(text)
    except FormulaError as error:
        if name := _without_backticks(error, data):
            error.add(f"The data have a column {name!r}, which needs backticks: {quote(name)}")
        raise


def _without_backticks(error: FormulaError, data: Any) -> str:
    """Name of a column that stands where the formula cannot be read, and needs backticks."""
    names = data if isinstance(data, dict) else getattr(data, "columns", ())
    bare = re.sub(r"`[^`]*`", lambda quoted: "`" * len(quoted[0]), error.text)
    at = error.position
    for name in sorted((c for c in names if isinstance(c, str)), key=len, reverse=True):
        places = [match.span() for match in re.finditer(re.escape(name), bare)]
        if quote(name) != name and any(at is None or lo <= at <= hi for lo, hi in places):
            return name
    return ""


def _parsed(text: str) -> Spec:
    reader = reader_of(text)
    tildes = [i for i, t in enumerate(reader.tokens) if t.text == "~"]
    if not tildes:
        raise FormulaError(
            f"there is no ~ in the formula {reader.text!r}",
            "missing-tilde",
            reader.text,
            hint="write the response, a ~ and the predictors: y ~ x + (x | g)",
        )
    if len(tildes) > 1:
        reader.fail("a formula has one ~, and this is the second", "two-tildes", tildes[1])
    at = tildes[0]
    response, trials = reader.left(at)
    population, groups = reader.right(at)
    for i in range(at + 1, len(reader.tokens)):
        if reader.tokens[i].factor == response:
            reader.fail(
                f"the response {response.text!r} is also a predictor",
                "response-as-predictor",
                i,
                "remove it on the right of the ~",
            )
    return make_spec(response.text, population, groups, trials)


def make_spec(
    response: str, population: Columns, groups: Iterable[GroupTerm] = (), trials: str = ""
) -> Spec:
    """A Spec whose formula is written from its parts, so that equal models read the same."""
    terms, offsets = tuple(groups), tuple(f.text for f in population.offsets)
    written = [population.short, *offsets, *(group_text(t) for t in terms)]
    shown = quote(trials) if trials else ""
    formula = f"{left_side(response, shown)} ~ {' + '.join(written)}"
    return Spec(formula, response, population.text, terms, offsets=offsets, trials=trials)


def make_like(spec: Spec, population: Columns, groups: Iterable[GroupTerm] = ()) -> Spec:
    """A Spec of the same response, family and residuals with another right-hand side."""
    made = make_spec(spec.response, population, groups, spec.trials)
    own = spec.residual.correlation
    if own is not None:
        made = replace(made, formula=f"{made.formula} + {correlation_text(own)}")
    return replace(made, residual=spec.residual, family=spec.family)


def with_family(spec: Spec, family: Family | None, trials: Any) -> Spec:
    """The spec with a family of the response, and the column of its trials.

    Raises
    ------
    ArgumentError
        Trials for a family that has none, or trials given twice.
    UnsupportedModelError
        ``known_se`` beside a family.
    """
    if trials is not None and not (isinstance(trials, str) and trials.strip()):
        is_number = isinstance(trials, int | float | str)
        what = f"trials={trials!r}" if is_number else f"trials= is a {type(trials).__name__}"
        raise ArgumentError(
            f"{what}, and takes the name of the column with the number of trials of each row: "
            f"data['n'] = {trials if is_number and trials else '...'}, trials='n'",
            "not-a-column-name",
        )
    if trials is not None and spec.trials and trials != spec.trials:
        raise ArgumentError(
            f"trials={trials!r}, and the formula has {spec.left!r}: keep one of the two",
            "trials-given-twice",
        )
    named = trials or spec.trials
    if family is None or not family.takes_trials:
        _check_no_trials(spec, family, trials, named)
    elif not named:
        raise ArgumentError(
            f"a binomial response needs the number of trials of each row: write "
            f"'{spec.response} / n ~ ...', or trials='n', with your own column for n, where "
            f"{spec.response} counts the successes and is no share of them. If each row is one trial, "
            "0 or 1, use family='bernoulli'",
            "trials-missing",
        )
    if family is None:
        return spec
    residual = spec.residual
    if residual.structure == "known_se":
        raise UnsupportedModelError(
            f"known_se={residual.column!r} is for Gaussian responses, and the family is "
            f"{family.name}: leave one of the two out",
            "known-se-and-family",
        )
    if named != spec.trials:
        left, right = spec.formula.split("~", 1)
        spec = replace(spec, formula=f"{left.rstrip()} / {quote(named)} ~{right}", trials=named)
    return replace(spec, residual=ResidualTerm("family", residual.column), family=family)


def _check_no_trials(spec: Spec, family: Family | None, trials: str | None, named: str) -> None:
    if not named:
        return
    name = family.name if family else "Gaussian"
    if trials is not None:
        raise ArgumentError(
            f"trials={trials!r} is for family='binomial', and the family is {name}: write "
            "family='binomial', or leave trials= out",
            "trials-without-binomial",
        )
    raise FormulaError(
        f"{spec.left!r} on the left of the ~ is a number of successes out of so many trials, for "
        f"family='binomial'; the family is {name}",
        "trials-without-binomial",
        spec.formula,
        hint=f"add family='binomial', or write I({spec.left}) for the ratio",
    )


def with_residuals(spec: Spec, weights: str | None, known_se: str | None) -> Spec:
    """The spec with a column of weights, or one of known residual sds; None leaves what it has.

    Raises
    ------
    ArgumentError
        Both are given, or what is given is no name of a column.
    """
    both: dict[ResidualStructure, Any] = {"weights": weights, "known_se": known_se}
    given = {word: name for word, name in both.items() if name is not None}
    for word, name in given.items():
        if not (isinstance(name, str) and name.strip()):
            what = repr(name) if isinstance(name, str) else f"a {type(name).__name__}"
            raise ArgumentError(
                f"{word} must be the name of a column; this is {what}. Add the numbers to the "
                f"data: data['w'] = ..., {word}='w'",
                "not-a-column-name",
            )
    if len(given) > 1:
        raise ArgumentError(
            f"weights={weights!r} and known_se={known_se!r} exclude each other: weights scale a "
            "residual variance that is estimated, and with known_se none is estimated. Keep one "
            "of them",
            "weights-and-known-se",
        )
    terms = [ResidualTerm(word, name) for word, name in given.items()]
    return replace(spec, residual=terms[0]) if terms else spec


def group_text(term: GroupTerm) -> str:
    """One group term in lme4's notation: ``"(time | boar)"``."""
    bar = "||" if term.covariance == "uncorrelated" else "|"
    return f"({term.columns.removeprefix('1 + ')} {bar} {factor_text(term.factor)})"


def factor_text(factor: str) -> str:
    """A factor as it must be typed right of a bar."""
    return factor if ":" in factor and _is_interaction(factor) else quote(factor)


def split_factor(factor: str) -> tuple[str, ...]:
    """The columns of a factor: ``"a:b"`` has two, ``"a"`` one.

    Examples
    --------
    >>> split_factor("batch:`my cask`")
    ('batch', 'my cask')
    """
    parts = re.findall(r"`[^`]*`|[^:`]+", factor)
    return tuple(p.strip("`") for p in parts) if _is_interaction(factor) else (factor,)


def _is_interaction(factor: str) -> bool:
    parts = re.split(r":(?=(?:[^`]*`[^`]*`)*[^`]*$)", factor)
    return len(parts) > 1 and all(p.isidentifier() or re.fullmatch("`[^`]+`", p) for p in parts)


def read_columns(text: str) -> Columns:
    """The columns that ``"1 + Days"`` and the like ask for; no ~ and no bar may stand in it."""
    reader = reader_of(text)
    columns, groups = reader.side(0, len(reader.tokens))
    if groups:
        reader.fail_bar_here()
    return columns


def read_offset(text: str) -> Factor:
    """The factor that ``"offset(log(n))"`` is."""
    (offset,) = read_columns(text).offsets
    return offset


def read_response(text: str) -> Factor:
    """The factor left of the ~."""
    reader = reader_of(text)
    return reader.response(0, len(reader.tokens))
