"""RANDOM statements as group terms of a formula."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from hierpool.formula.function_calls import quote
from hierpool.sas.effects import Effect, read_effects
from hierpool.sas.options import Option, at_slash, read_options, sort_out
from hierpool.sas.repeated import subject_factor
from hierpool.sas.statements import Statement
from hierpool.sas.table import SasTable

_DIAGONAL = ("vc", "simple", "sim")
_FULL = ("un", "unr", "chol", "fa0(1)", "fa0(2)", "fa0(3)", "fa0(4)", "fa0(5)", "fa0(6)")
_USED = {"type": "type", "subject": "subject", "sub": "subject", "group": "group", "grp": "group"}
_PRINTED = {
    "solution": "fit.random_effects()",
    "s": "fit.random_effects()",
    "cl": "fit.random_effects()",
    "alpha": "fit.random_effects() has sds of prediction",
    **dict.fromkeys(("g", "gc", "gci", "gcorr", "gi"), "fit.variance_components()"),
    **dict.fromkeys(
        ("v", "vc", "vci", "vcorr", "vi"), "fit.variance_components() has the parameters"
    ),
    "nofullz": "",
}
_REFUSED = {
    "gdata": "a known covariance between groups is relationship= of hp.Model",
    "ldata": "a known covariance between groups is relationship= of hp.Model",
    "ratios": "leave it out",
}


def read_random(statement: Statement, table: SasTable) -> tuple[list[str], list[str]]:
    """The group terms of one RANDOM statement, and what must be said.

    Raises
    ------
    FormulaError
        Effects or a structure without an equivalent; a caret shows where.
    """
    before, after = at_slash(statement)
    options, notes = sort_out(read_options(statement, after), _USED, _PRINTED, _REFUSED)
    effects = read_effects(statement, before, table, intercept=True)
    if not effects:
        statement.fail("RANDOM names no effect", "sas-syntax", hint="random intercept / subject=g;")
    kind, subject = options.get("type"), options.get("subject")
    word = kind.text if kind is not None else "vc"
    group = _group(options.get("group"), table)
    if subject is None:
        if kind is not None and word not in _DIAGONAL:
            kind.fail(f"TYPE={word.upper()} needs SUBJECT=", "sas-type", "add subject=g")
        if group:
            statement.fail("GROUP= needs SUBJECT= here", "sas-effect", hint="add subject=g")
        return _without_subject(statement, effects, table), notes
    factor = subject_factor(subject, table)
    if kind is None or word in _DIAGONAL:
        if group:
            return _by_group(statement, effects, factor, group, table), notes
        terms = _diagonal(statement, effects, factor, table)
        if kind is None and sum(not _classes(e, table) for e in effects) > 1:
            notes.append(
                "RANDOM without TYPE= is VC: no correlations, so || here. It depends on where the "
                "predictor is zero; type=un does not"
            )
        return terms, notes
    if group:
        kind.fail(
            f"GROUP= beside TYPE={word.upper()} has no equivalent here",
            "sas-type",
            "only the variances of TYPE=VC may differ between groups",
        )
    return _structured(kind, effects, factor, table), notes


def _group(option: Option | None, table: SasTable) -> str:
    if option is None:
        return ""
    effects = read_effects(option.statement, option.value, table)
    if len(effects) != 1 or len(effects[0].columns) != 1 or not _classes(effects[0], table):
        option.fail("GROUP= takes one CLASS variable here", "sas-effect")
    return effects[0].columns[0]


def _classes(effect: Effect, table: SasTable) -> list[str]:
    return [c for c in effect.columns if table.is_class(c)]


def _numbers(effect: Effect, table: SasTable) -> str:
    """The numbers of an effect, multiplied; empty for none."""
    return ":".join(table.written(c) for c in effect.columns if not table.is_class(c))


def _crossed(factor: str, columns: Sequence[str]) -> str:
    known = [p.strip("`") for p in factor.split(":")] if factor else []
    names = dict.fromkeys([*known, *columns])
    return ":".join(map(quote, names))


def _without_subject(statement: Statement, effects: Sequence[Effect], table: SasTable) -> list[str]:
    """``random block a*block;``: a factor for each effect."""
    terms = []
    for effect in effects:
        classes = _classes(effect, table)
        if not classes:
            what = "the intercept" if effect.is_intercept else f"{effect}, a number,"
            statement.fail_over(
                f"RANDOM has {what} without SUBJECT=: one coefficient, and no groups that it could "
                "vary over",
                "sas-effect",
                effect.tokens,
                "add / subject=g, or name the column in CLASS",
            )
        numbers = _numbers(effect, table)
        terms.append(f"({f'0 + {numbers}' if numbers else '1'} | {_crossed('', classes)})")
    return terms


def _diagonal(
    statement: Statement, effects: Sequence[Effect], factor: str, table: SasTable
) -> list[str]:
    """TYPE=VC: numbers in one term with ||; of CLASS variables all levels have one variance."""
    plain = [e for e in effects if not _classes(e, table)]
    terms = []
    if plain:
        bar = "||" if len(plain) > 1 else "|"
        terms.append(f"({_columns(plain, table)} {bar} {factor})")
    for effect in effects:
        classes = _classes(effect, table)
        if classes:
            numbers = _numbers(effect, table)
            left = f"0 + {numbers}" if numbers else "1"
            terms.append(f"({left} | {_crossed(factor, classes)})")
    return terms


def _columns(effects: Sequence[Effect], table: SasTable) -> str:
    """Intercept and numbers left of a bar."""
    numbers = [_numbers(e, table) for e in effects if not e.is_intercept]
    has_intercept = len(numbers) < len(effects)
    return " + ".join([*(["1"] if has_intercept else ["0"]), *numbers])


def _by_group(
    statement: Statement, effects: Sequence[Effect], factor: str, group: str, table: SasTable
) -> list[str]:
    """GROUP=: a variance for each of its levels."""
    if bad := next((e for e in effects if _classes(e, table)), None):
        statement.fail_over(
            "GROUP= is read beside the intercept and numbers only", "sas-effect", bad.tokens
        )
    coded = f"C({quote(group, in_call=True)})"
    columns = [coded if e.is_intercept else f"{coded}:{_numbers(e, table)}" for e in effects]
    return [f"(0 + {' + '.join(columns)} || {factor})"]


def _structured(kind: Option, effects: Sequence[Effect], factor: str, table: SasTable) -> list[str]:
    """TYPE=UN and its other parametrizations, UN(1), and CS of one CLASS variable."""
    word = kind.text
    by_class = [e for e in effects if _classes(e, table)]
    if word == "cs" and len(by_class) == len(effects) == 1:
        return [f"(1 | {factor})", *_diagonal(kind.statement, effects, factor, table)]
    if word not in (*_FULL, "un(1)"):
        _fail_type(kind)
    if word.startswith("fa0"):
        _check_rank(kind, effects, by_class, table)
    bar = "||" if word == "un(1)" else "|"
    if not by_class:
        return [f"({_columns(effects, table)} {bar} {factor})"]
    if len(effects) > 1 or len(_classes(by_class[0], table)) > 1:
        kind.statement.fail_over(
            f"TYPE={word.upper()} takes one CLASS variable, and nothing beside it: with more, its "
            "columns would say some things twice",
            "sas-effect",
            [t for e in effects for t in e.tokens],
            f"write random {_classes(by_class[0], table)[0]} / ... type={word}",
        )
    (column,), numbers = _classes(by_class[0], table), _numbers(by_class[0], table)
    left = f"C({quote(column, in_call=True)})" + (f":{numbers}" if numbers else "")
    return [f"(0 + {left} {bar} {factor})"]


def _check_rank(
    kind: Option, effects: Sequence[Effect], by_class: Sequence[Effect], table: SasTable
) -> None:
    """FA0(q) of q columns is UN; fewer factors are another model."""
    q = len(effects)
    if by_class:
        q = len(table.classes[_classes(by_class[0], table)[0]].labels)
    if kind.text != f"fa0({q})":
        kind.fail(
            f"TYPE={kind.text.upper()} for {q} columns is no unstructured matrix",
            "sas-type",
            f"write type=un, or fa0({q})",
        )


def _fail_type(kind: Option) -> NoReturn:
    kind.statement.fail_over(
        f"TYPE={kind.text.upper()} of RANDOM has no equivalent here",
        "sas-type",
        [kind.name, *kind.value],
        "there are VC, UN, UN(1) and, for one CLASS variable, CS; correlations of rows go into REPEATED",
    )
