"""A PROC MIXED step and a table, as the arguments of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from hierpool.core.errors import listed, nearest
from hierpool.formula import tables
from hierpool.formula.function_calls import quote
from hierpool.reml.inference import Df
from hierpool.sas.effects import Effect, read_effects
from hierpool.sas.expressions import in_formula, known_se
from hierpool.sas.options import Option, at_slash, read_options, sort_out
from hierpool.sas.random import read_random
from hierpool.sas.repeated import Repeated, read_repeated
from hierpool.sas.statements import Program, Statement, read_program
from hierpool.sas.table import SasTable
from hierpool.sas.tokens import source_of

_COMPUTING = (
    *(
        "noclprint",
        "noitprint",
        "noinfo",
        "noprofile",
        "maxiter",
        "maxfunc",
        "itdetails",
        "scoring",
    ),
    *(
        "convf",
        "convg",
        "convh",
        "absolute",
        "info",
        "mmeq",
        "mmeqsol",
        "ord",
        "sigiter",
        "namelen",
    ),
    *("plots", "plot", "lognote", "rankg"),
)
_PROCEDURE_USED = {name: name for name in ("data", "method", "order", "alpha")}
_PROCEDURE_PRINTED = {
    **dict.fromkeys(_COMPUTING, ""),
    "covtest": "hp.lrt of two fits tests a variance; the test of COVTEST is misleading at zero",
    "cl": "fit.confint() has profile intervals",
    "asycov": "fit.variance_components()",
    "asycorr": "fit.variance_components()",
    "ic": "fit.aic, fit.bic",
}
_PROCEDURE_REFUSED = {
    "empirical": "sandwich standard errors are not available",
    "nobound": "leave it out: variances are bounded at zero here. A negative covariance of rows is "
    "repeated / type=cs subject=g",
    "ratio": "leave it out",
    "dfbw": "leave it out",
}
_MODEL_USED = {name: name for name in ("noint", "ddfm", "htype", "alpha")}
_MODEL_PRINTED = {
    **dict.fromkeys(("solution", "s"), "fit.fixed_effects()"),
    **dict.fromkeys(("cl", "clm"), "fit.fixed_effects()"),
    **dict.fromkeys(("outp", "outpred"), "fit.predict()"),
    **dict.fromkeys(("outpm", "outpredm"), "fit.predict(groups='average')"),
    **dict.fromkeys(("covb", "covbi", "corrb"), "fit.covariance()"),
    "chisq": "F tests only: fit.anova()",
    "residual": "fit.residuals()",
    "influence": "hp.influence(fit)",
    "intercept": "",
    **dict.fromkeys(("e", "e1", "e2", "e3", "xpvix", "xpvixi", "notest", "zeta", "singular"), ""),
    **dict.fromkeys(("singchol", "singres", "fullx", "vciry"), ""),
}
_MODEL_REFUSED = {"ddf": "choose a method: ddfm=kr", "lcomponents": "leave it out"}
MOST_SHOWN = 6  # levels of a CLASS variable that are printed
_DF: dict[str, Df | Literal[""]] = {
    **dict.fromkeys(("satterthwaite", "satterth", "sat"), "satterthwaite"),
    **dict.fromkeys(("kenwardroger", "kenrog", "kr", "kenwardroger2", "kr2"), "kenward-roger"),
    **dict.fromkeys(("residual", "res"), "residual"),
    **dict.fromkeys(("contain", "con"), ""),
    **dict.fromkeys(("betwithin", "bw"), ""),
}


@dataclass
class Read:
    """What a step asks for.

    Attributes
    ----------
    formula, arguments
        Of ``hp.Model``.
    table
        The table, with the columns that had to be made, and its CLASS variables.
    effects, has_intercept
        Of the MODEL statement.
    method
        Which fit SAS makes.
    df
        Degrees of freedom of DDFM=, as hierpool calls them; empty for the usual ones.
    understood
        Each statement with what it comes to.
    notes
        What the reader must know.
    questions
        LSMEANS, ESTIMATE and CONTRAST statements, still to be read.
    """

    table: SasTable
    formula: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    effects: Sequence[Effect] = ()
    has_intercept: bool = True
    method: Literal["reml", "ml"] = "reml"
    df: Df | Literal[""] = ""
    understood: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    questions: list[Statement] = field(default_factory=list)


def read(text: object, data: Any) -> Read:
    """The model of a PROC MIXED step.

    Raises
    ------
    FormulaError
        What cannot be read, or has no equivalent; a caret shows where.
    """
    program = read_program(source_of(text))
    made = Read(SasTable(tables.read_frame(data)))
    order = _procedure(program, made)
    for statement in program.of("by"):
        _fail_by(statement, made.table)
    for name, (statement, tokens) in program.made.items():
        if len(tokens) == 1 and tokens[0].kind == "name":  # another role for the same numbers
            source = made.table.find(statement, tokens[0])
            made.table.copies[name] = made.table.add_column(
                name, made.table.frame[source], f"data[{source!r}]"
            )
        else:
            made.table.expressions[name] = in_formula(statement, tokens, made.table)
    for statement in program.of("class"):
        _class(statement, made, order)
    response, fixed = _model(program, made)
    bars = [bar for statement in program.of("random") for bar in _random(statement, made)]
    _weight(program, made)
    _repeated(program, made, [response])
    made.formula = " + ".join([f"{response} ~ {fixed}", *dict.fromkeys(bars)])
    made.notes += [f"not needed here: {line}" for line in program.ignored]
    made.questions = [s for s in program.statements if s.keyword.word in _QUESTIONS]
    return made


_QUESTIONS = ("lsmeans", "estimate", "contrast")


def _procedure(program: Program, made: Read) -> Literal["", "data"]:
    """Options of PROC MIXED; how levels are ordered."""
    statement = program.procedure
    options, notes = sort_out(
        read_options(statement, statement.tokens),
        _PROCEDURE_USED,
        _PROCEDURE_PRINTED,
        _PROCEDURE_REFUSED,
    )
    made.notes += notes
    if "alpha" in options:
        made.notes.append(f"alpha: hp.options.prob = {1 - options['alpha'].number():g}")
    method = options.get("method")
    if method is not None and method.text not in ("reml", "ml"):
        method.fail(f"METHOD={method.text.upper()} is not read", "sas-option", "REML or ML")
    made.method = "ml" if method is not None and method.text == "ml" else "reml"
    return _order(options.get("order"))


def _fail_by(statement: Statement, table: SasTable) -> NoReturn:
    words = ("descending", "notsorted")
    columns = [table.find(statement, t) for t in statement.tokens if t.word not in words]
    by = repr(columns[0] if len(columns) == 1 else columns)
    statement.fail(
        "BY fits a model to each part of the table, and this is one model",
        "sas-by",
        hint="leave BY out and write {label: hp.from_sas(program, rows) for label, rows in "
        f"data.groupby({by})}}",
    )


def _order(option: Option | None) -> Literal["", "data"]:
    if option is None or option.text in ("formatted", "internal"):
        return ""
    if option.text != "data":
        option.fail(f"ORDER={option.text.upper()} is not read", "sas-option", "DATA or INTERNAL")
    return "data"


def _class(statement: Statement, made: Read, order: Literal["", "data"]) -> None:
    """CLASS: its columns, each with its reference."""
    before, after = at_slash(statement)
    shared = _class_options(read_options(statement, after))
    for option in read_options(statement, before):
        column = made.table.find(statement, option.name)
        if column in made.table.expressions:
            option.fail(
                f"{column!r} is made in the DATA step; as a CLASS variable make it with pandas",
                "sas-column",
            )
        own = {**shared, **_class_options(read_options(statement, option.value))}
        chosen: Literal["", "data"] = _order(own["order"]) if own.get("order") else order
        reference = own.get("ref")
        name = None if reference is None else _unquoted(reference)
        is_reversed = "descending" in own
        if fault := made.table.add_class(column, name, chosen, is_reversed):
            option.fail(fault, "sas-option")
        levels = made.table.classes[column].labels
        ends = " to ".join(listed([level]) for level in (levels[0], levels[-1]))
        shown = listed(levels) if len(levels) <= MOST_SHOWN else ends
        text = f"{len(levels)} levels in this order: {shown}; the last one is the reference"
        made.understood.append((f"class {column}", text))


def _unquoted(option: Option) -> str:
    """A level in quotes as it is; FIRST and LAST in small letters."""
    token = option.value[0]
    return token.text if token.kind in ("string", "number") else token.word


def _class_options(options: Sequence[Option]) -> dict[str, Option]:
    used = {"ref": "ref", "order": "order", **dict.fromkeys(("descending", "desc"), "descending")}
    refused = {"missing": "rows with missing cells are left out", "truncate": "", "param": ""}
    return sort_out(options, used, {"noprint": ""}, refused)[0]


def _model(program: Program, made: Read) -> tuple[str, str]:
    """The response and the fixed effects, as text."""
    statements = program.of("model")
    if len(statements) != 1:
        where = statements[1] if statements else program.procedure
        what = "a second MODEL statement" if statements else "there is no MODEL statement"
        where.fail(what, "sas-statement", hint="write one: model y = x;")
    (statement,) = statements
    before, after = at_slash(statement)
    if len(before) < 2 or not before[1].is_sign("="):
        statement.fail("MODEL needs a response and =", "sas-syntax", hint="model y = x;")
    options, notes = sort_out(
        read_options(statement, after), _MODEL_USED, _MODEL_PRINTED, _MODEL_REFUSED
    )
    made.notes += notes
    _tests(options, made)
    made.has_intercept = "noint" not in options
    made.effects = read_effects(statement, before[2:], made.table)
    response = made.table.find(statement, before[0])
    made.table.check_number(statement, response, before[0])
    terms = [_term(statement, effect, made.table) for effect in made.effects]
    constant = [] if made.has_intercept and terms else ["1" if made.has_intercept else "0"]
    fixed = " + ".join([*constant, *terms])
    made.understood.append((statement.text, fixed))
    return made.table.written(response), fixed


def _tests(options: dict[str, Option], made: Read) -> None:
    """DDFM=, HTYPE= and ALPHA=."""
    if "alpha" in options:
        made.notes.append(f"alpha: fit.fixed_effects(prob={1 - options['alpha'].number():g})")
    htype = options.get("htype")
    if htype is not None and "3" not in (asked := htype.text.strip("()").split(",")):
        htype.fail("tests of type 3 only", "sas-option", "leave HTYPE= out")
    elif htype is not None and len(asked) > 1:
        made.notes.append(f"{htype.name.text}: tests of type 3 only, fit.anova()")
    ddfm = options.get("ddfm")
    if ddfm is None:
        return
    word = ddfm.text.split("(")[0]
    if word not in _DF:
        ddfm.fail(f"DDFM={ddfm.text.upper()}: {nearest(word, _DF)}", "sas-option")
    made.df = _DF[word]


def _term(statement: Statement, effect: Effect, table: SasTable) -> str:
    """An effect as a term of a formula."""
    parts: list[str] = []
    for column in dict.fromkeys(effect.columns):
        power = effect.columns.count(column)
        if table.is_class(column):
            parts.append(table.coded(column))
            continue
        token = next((t for t in effect.tokens if t.word == column.lower()), effect.tokens[0])
        table.check_number(statement, column, token)
        inner = quote(column, in_call=True)
        if power > 1 and column in table.expressions:
            inner = f"({table.expressions[column]})"
        parts.append(f"I({inner} ** {power})" if power > 1 else table.written(column))
    return ":".join(parts)


def _random(statement: Statement, made: Read) -> list[str]:
    bars, notes = read_random(statement, made.table)
    made.notes += notes
    made.understood.append((statement.text, " + ".join(bars)))
    return bars


def _weight(program: Program, made: Read) -> None:
    """WEIGHT; with PARMS that hold the residual variance at 1, known standard errors."""
    statements = program.of("weight")
    if len(statements) > 1:
        statements[1].fail("a second WEIGHT statement", "sas-statement")
    holds = _held(program)
    if not statements:
        if holds is not None:
            holds.fail("HOLD= is read beside weights of known variances only", "sas-option")
        return
    (statement,) = statements
    if len(statement.tokens) != 1:
        statement.fail("WEIGHT takes one column", "sas-syntax")
    name = made.table.find(statement, statement.tokens[0])
    argument = "weights" if holds is None else "known_se"
    if name in made.table.expressions:
        own, tokens = next(v for k, v in program.made.items() if k == name)
        se = known_se(tokens) if holds is not None else None
        if se is None:
            own.fail(f"weights {name!r} are made in the DATA step", "sas-column", hint="use pandas")
        name = made.table.find(own, se)
    elif holds is not None:
        made.table.check_number(statement, name, statement.tokens[0])
        code, values = f"data[{name!r}] ** -0.5", made.table.frame[name] ** -0.5
        name = made.table.add_column("standard_error", values, code)
    made.arguments[argument] = name
    made.understood.append((statement.text, f"{argument}={name!r}"))


def _held(program: Program) -> Option | None:
    """HOLD= of PARMS, where it is the residual variance at 1; other PARMS only start the search."""
    for statement in program.of("parms"):
        before, after = at_slash(statement)
        options = read_options(statement, after)
        held = next((o for o in options if o.name.word == "hold"), None)
        if held is None:
            continue
        values = [t.text for t in before if t.kind == "number"]
        if held.text != str(len(values)) or float(values[-1]) != 1:
            held.fail(
                "HOLD= is read for the last parameter, the residual variance, at 1", "sas-option"
            )
        return held
    return None


def _repeated(program: Program, made: Read, used: list[str]) -> None:
    statements = program.of("repeated")
    if len(statements) > 1:
        statements[1].fail("a second REPEATED statement", "sas-statement")
    if not statements:
        return
    columns = [*used, *(c for e in made.effects for c in e.columns)]
    found: Repeated = read_repeated(statements[0], made.table, columns)
    made.notes += found.notes
    for name in ("residual", "sigma"):
        if value := getattr(found, name):
            made.arguments[name] = value
    shown = [f"{k}={made.arguments[k]!r}" for k in ("residual", "sigma") if k in made.arguments]
    made.understood.append((statements[0].text, ", ".join(shown) or "independent rows"))
