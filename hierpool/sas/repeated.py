"""REPEATED and TYPE=: the residual structures that have an equivalent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hierpool.formula.function_calls import quote
from hierpool.formula.table_column import kind_of
from hierpool.sas.effects import Effect, read_effects
from hierpool.sas.options import Option, at_slash, read_options, sort_out
from hierpool.sas.statements import Statement
from hierpool.sas.table import SasTable

# TYPE= of SAS -> a structure here; those of INDEPENDENT ask for none.
INDEPENDENT = ("vc", "simple", "sim", "un(1)")
STRUCTURES = {
    "cs": "cs",
    "csh": "csh",
    "ar(1)": "ar1",
    "arh(1)": "ar1h",
    "arma(1,1)": "arma11",
    "toep": "toep",
    "toeph": "toeph",
    "un": "us",
    "unr": "us",
    "chol": "us",
    "ante(1)": "ad1h",
}
_BY_TIME = ("sp(pow)", "sp(exp)")  # correlations by the time between rows
_IN_ORDER = ("ar1", "ar1h", "arma11", "toep", "toeph", "ad1", "ad1h")
_USED = {
    "type": "type",
    "subject": "subject",
    "sub": "subject",
    "group": "group",
    "grp": "group",
    "local": "local",
}
_PRINTED = dict.fromkeys(
    ("r", "ri", "rc", "rci", "rcorr"), "fit.variance_components() has the parameters"
)
_REFUSED = {"localw": "write local", "nolocal": "leave it out", "ldata": ""}


@dataclass
class Repeated:
    """What a REPEATED statement asks for.

    Attributes
    ----------
    residual
        ``residual=`` of the model, or empty.
    sigma
        ``sigma=`` of the model, or empty.
    notes
        What the reader must know.
    """

    residual: str = ""
    sigma: str = ""
    notes: tuple[str, ...] = ()


def read_repeated(statement: Statement, table: SasTable, used: list[str]) -> Repeated:
    """A REPEATED statement; columns of occasions are added to the table where SAS counts rows.

    Parameters
    ----------
    statement
        The statement.
    table
        The table.
    used
        Columns of the model: rows in which one of them is missing are not counted.
    """
    before, after = at_slash(statement)
    options, notes = sort_out(read_options(statement, after), _USED, _PRINTED, _REFUSED)
    effects = read_effects(statement, before, table)
    for effect in effects:
        _check_class(statement, effect, table)
    kind = options.get("type")
    word = kind.text if kind is not None else "vc"
    group = _one_class(options.get("group"), table)
    local = options.get("local")
    if local is not None and local.value:
        return Repeated("", f"~ {_spread(local, kind, group, table)}", tuple(notes))
    if word in INDEPENDENT:
        return _independent(statement, table, effects, word, group, local, notes)
    subject = options.get("subject")
    if kind is None or subject is None:
        statement.fail(
            f"{'TYPE=' if kind is None else 'SUBJECT='} is missing",
            "sas-effect",
            hint="write repeated visit / type=un subject=patient",
        )
    factor = subject_factor(subject, table)
    structure, time, more = _structure(kind, effects, factor, table, used)
    inner = f"{quote(time)} | {factor}"
    inner += f", by={quote(group)}" if group else ""
    inner += ", nugget=True" if local is not None else ""
    return Repeated(f"{structure}({inner})", "", (*notes, *more))


def _spread(local: Option, kind: Option | None, group: str, table: SasTable) -> str:
    """The column in ``local=exp(x)``, on which the log of the variance depends."""
    names = [t for t in local.value[2:-1] if t.kind == "name"]
    if local.value[0].word != "exp" or len(local.value) != 4 or len(names) != 1:
        local.fail("LOCAL=EXP() of one column is read", "sas-option", "local=exp(x)")
    if group or (kind is not None and kind.text not in INDEPENDENT[:3]):
        local.fail(
            "LOCAL=EXP() is read without TYPE= and GROUP=",
            "sas-option",
            "leave them out, or write sigma= beside residual= in hp.Model",
        )
    column = table.find(local.statement, names[0])
    if table.is_class(column):
        local.fail(f"LOCAL=EXP() of a CLASS variable: write group={column}", "sas-option")
    return table.written(column)


def _independent(
    statement: Statement,
    table: SasTable,
    effects: list[Effect],
    word: str,
    group: str,
    local: Option | None,
    notes: list[str],
) -> Repeated:
    if local is not None:
        local.fail("LOCAL adds nothing to independent rows", "sas-option", "leave it out")
    if word == "un(1)" and group:
        statement.fail("UN(1) beside GROUP= has no equivalent here", "sas-type")
    if word == "un(1)":
        if len(effects) != 1 or len(effects[0].columns) != 1:
            statement.fail("UN(1) needs one effect, such as the visit", "sas-effect")
        group = effects[0].columns[0]
    if not group:
        return Repeated(notes=(*notes, "REPEATED: independent rows of one variance, the default"))
    if kind_of(table.frame[group]) == "number":
        group = table.add_column(
            f"{group}_class",
            table.frame[group].astype("category"),
            f"data[{group!r}].astype('category')",
        )
    return Repeated("", f"~ {quote(group)}", tuple(notes))


def subject_factor(option: Option, table: SasTable) -> str:
    """``subject=b(a)`` as a factor: ``a:b``."""
    effects = read_effects(option.statement, option.value, table, intercept=True)
    if len(effects) != 1 or effects[0].is_intercept:
        option.fail("SUBJECT= takes one effect, such as person or person(school)", "sas-effect")
    made = next((c for c in effects[0].columns if c in table.expressions), None)
    if made is not None:
        option.fail(f"{made!r} is made in the DATA step; make it with pandas", "sas-effect")
    names = list(dict.fromkeys(effects[0].columns))
    return ":".join(map(quote, names))


def _one_class(option: Option | None, table: SasTable) -> str:
    if option is None:
        return ""
    effects = read_effects(option.statement, option.value, table)
    if len(effects) != 1 or len(effects[0].columns) != 1:
        option.fail(
            "GROUP= takes one column here",
            "sas-effect",
            "combine them first: data['ab'] = data['a'] + ' ' + data['b']",
        )
    _check_class(option.statement, effects[0], table)
    return effects[0].columns[0]


def _check_class(statement: Statement, effect: Effect, table: SasTable) -> None:
    for column in effect.columns:
        if not table.is_class(column):
            statement.fail_over(
                f"{column!r} is not named in CLASS, and {statement.keyword.text.upper()} takes "
                "CLASS variables here",
                "sas-column",
                effect.tokens,
                f"add it: class {column};",
            )


def _structure(
    kind: Option, effects: list[Effect], factor: str, table: SasTable, used: list[str]
) -> tuple[str, str, list[str]]:
    """The structure's word here, its column of times, and what must be said."""
    word = kind.text
    if word.startswith(_BY_TIME):
        return "car1", _coordinate(kind, table), []
    if word not in STRUCTURES:
        kind.fail(
            f"TYPE={word.upper()} has no equivalent here",
            "sas-type",
            f"there are {', '.join(t.upper() for t in (*STRUCTURES, 'sp(pow)(time)'))}",
        )
    structure = STRUCTURES[word]
    if not effects:
        return structure, *_counted(factor, structure, table, used)
    if len(effects) > 1 or len(effects[0].columns) > 1:
        kind.statement.fail(
            "REPEATED takes one CLASS variable here",
            "sas-effect",
            hint="combine them in one column",
        )
    return structure, *_occasions(effects[0].columns[0], structure, table)


def _coordinate(kind: Option, table: SasTable) -> str:
    """The column in ``sp(pow)(time)``."""
    names = [t for t in kind.value[4:] if not t.is_sign("(", ")")]
    if len(names) != 1:
        kind.fail(
            f"TYPE={kind.text.upper()} takes one coordinate here, in a second pair of parentheses",
            "sas-type",
            "write type=sp(pow)(time)",
        )
    return table.find(kind.statement, names[0])


def _counted(
    factor: str, structure: str, table: SasTable, used: list[str]
) -> tuple[str, list[str]]:
    """Rows of a subject counted, where the statement names no effect."""
    parts = [p.strip("`") for p in factor.split(":")]
    columns = list(dict.fromkeys(c for c in used if c in table.frame.columns))
    kept = table.frame.dropna(subset=[*columns, *parts])
    values = kept.groupby(parts, observed=True).cumcount() + 1
    by = repr(parts if len(parts) > 1 else parts[0])
    code = f"data.dropna(subset={columns!r}).groupby({by}).cumcount() + 1"
    name = table.add_column("row_number", values.reindex(table.frame.index), code)
    note = (
        f"REPEATED names no effect, so rows of each {factor} are counted as they stand, as SAS does: "
        f"column {name!r}."
    )
    if structure not in ("cs",):
        note += " If a visit is missing, all later ones move up: name the visit in REPEATED"
    return name, [note]


def _occasions(column: str, structure: str, table: SasTable) -> tuple[str, list[str]]:
    """The column of occasions: SAS counts the levels of a CLASS variable, whatever lies between."""
    if structure not in _IN_ORDER:
        return column, []
    labels = table.classes[column].labels
    cells = table.frame[column]
    if kind_of(cells) == "number":
        steps = np.diff(np.sort(labels.to_numpy(dtype=float)))
        if len(steps) and np.allclose(steps, steps[0]):
            return column, []
    elif isinstance(cells.dtype, pd.CategoricalDtype) and cells.cat.ordered:
        return column, []
    order = [label.item() if isinstance(label, np.generic) else label for label in labels]
    made = pd.Series(pd.Categorical(cells, categories=order, ordered=True), index=cells.index)
    code = f"pandas.Categorical(data[{column!r}], {order!r}, ordered=True)"
    name = table.add_column(f"{column}_order", made, code)
    shown = ", ".join(map(str, order[:6])) + (", ..." if len(order) > 6 else "")
    return name, [
        f"SAS takes the levels of {column} as occasions that follow each other, {shown}: column "
        f"{name!r}. For correlations by the time between them: type=sp(pow)({column})"
    ]
