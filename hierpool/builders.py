"""The builders of models, from complete to no pooling; their ladder; and the model of a SAS program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hierpool.bayes.priors.from_user import check_names, dropped_names, names_of
from hierpool.core.families.family import Family
from hierpool.core.families.table import resolve
from hierpool.core.spec import Spec
from hierpool.formula import pooling
from hierpool.formula.build import CellRows, CompleteRows, encode
from hierpool.model import Model, chosen_priors
from hierpool.sas.proc_mixed import ProcMixed
from hierpool.sas.read import read
from hierpool.tables.moments import summed


def complete_pooling(
    formula: str,
    data: Any,
    group: str | None = None,
    *,
    priors: Mapping[str, Any] | None = None,
    family: str | Family | None = None,
    link: str | None = None,
    trials: str | None = None,
    weights: str | None = None,
    known_se: str | None = None,
) -> Model:
    """One line for all rows: ``y ~ x``.

    Parameters
    ----------
    formula
        Without bars, e.g. ``"volume ~ time"``.
    data
        A DataFrame.
    group
        Only names the groups, so that fits can be compared group by group.
    priors, family, link, trials, weights, known_se
        As in ``Model``.
    """
    spec = pooling.question(formula, data, weights, known_se, resolve(family, link), trials)
    return Model(pooling.complete_pooling_spec(spec, group), data, priors)


def no_pooling(
    formula: str,
    data: Any,
    group: str,
    *,
    priors: Mapping[str, Any] | None = None,
    family: str | Family | None = None,
    link: str | None = None,
    trials: str | None = None,
    weights: str | None = None,
    known_se: str | None = None,
) -> Model:
    """A separate line for each group, with one residual sd and wide independent priors.

    Predictors that are constant within groups have one common coefficient; a notice names them.
    ``priors``, ``family``, ``link``, ``trials``, ``weights`` and ``known_se`` are as in
    ``Model``.
    """
    spec = pooling.question(formula, data, weights, known_se, resolve(family, link), trials)
    return Model(pooling.no_pooling_spec(spec, group), data, priors)


def varying_intercept(
    formula: str,
    data: Any,
    group: str,
    *,
    priors: Mapping[str, Any] | None = None,
    family: str | Family | None = None,
    link: str | None = None,
    trials: str | None = None,
    weights: str | None = None,
    known_se: str | None = None,
) -> Model:
    """Groups differ in their intercept: ``y ~ x + (1 | g)``.

    ``priors``, ``family``, ``link``, ``trials``, ``weights`` and ``known_se`` are as in
    ``Model``.
    """
    spec = pooling.question(formula, data, weights, known_se, resolve(family, link), trials)
    return Model(pooling.varying_intercept_spec(spec, group), data, priors)


def varying_slope(
    formula: str,
    data: Any,
    group: str,
    slopes: str | Sequence[str] | None = None,
    *,
    correlated: bool = True,
    intercept: bool = True,
    priors: Mapping[str, Any] | None = None,
    family: str | Family | None = None,
    link: str | None = None,
    trials: str | None = None,
    weights: str | None = None,
    known_se: str | None = None,
) -> Model:
    """Groups differ in intercept and slopes: ``y ~ x + (x | g)``.

    Parameters
    ----------
    formula, data, group
        As in the other builders.
    slopes
        The terms whose coefficients vary; default: those that vary within groups.
    correlated
        False: ``(x || g)``, no correlation between intercept and slopes.
    intercept
        False: ``(0 + x | g)``, all groups have the same intercept.
    priors, family, link, trials, weights, known_se
        As in ``Model``.
    """
    spec = pooling.question(formula, data, weights, known_se, resolve(family, link), trials)
    spec, rows = _rows(spec, data, group)
    spec = pooling.varying_slope_spec(spec, rows, group, slopes, correlated, intercept)
    design = encode(spec, rows)
    return Model.from_design(design, chosen_priors(design, priors))


def pooling_ladder(
    formula: str,
    data: Any,
    group: str,
    *,
    slopes: Sequence[str] | None = None,
    priors: Mapping[str, Any] | None = None,
    family: str | Family | None = None,
    link: str | None = None,
    trials: str | None = None,
    weights: str | None = None,
    known_se: str | None = None,
) -> dict[str, Model]:
    """The models from complete to no pooling, name -> Model, in this order.

    ``complete_pooling``, ``varying_intercept``, ``varying_slope_only``,
    ``varying_slope_uncorrelated``, ``varying_slope``, ``no_pooling``. Without a predictor that
    varies within groups the three models with slopes are left out. ``slopes`` are the terms whose
    coefficients vary, by default all that vary within groups. Each model uses those of ``priors``
    whose names it has. ``family``, ``link``, ``trials``, ``weights`` and
    ``known_se`` are as in ``Model``.
    """
    spec = pooling.question(formula, data, weights, known_se, resolve(family, link), trials)
    spec, rows = _rows(spec, data, group)
    designs = pooling.ladder(spec, rows, group, slopes)
    ladder = {name: Model.from_design(design) for name, design in designs.items()}
    if priors is None:
        return ladder
    dropped = frozenset().union(*(dropped_names(m.design.schema) for m in ladder.values()))
    every = [model.priors for model in ladder.values()]
    check_names(priors, every, f"the ladder of {formula}", dropped)
    return {name: model.with_priors(_known(priors, model)) for name, model in ladder.items()}


def from_sas(
    program: str, data: Any, priors: Mapping[str, Any] | None = None, *, echo: bool = True
) -> Model:
    """The model of a PROC MIXED step of SAS.

    ``model.sas`` says how each statement was understood, and where SAS differs; it is printed.
    ``model.sas.answers(fit)`` has the tables of LSMEANS, ESTIMATE and CONTRAST. Read are CLASS, MODEL,
    RANDOM, REPEATED, LSMEANS, ESTIMATE, CONTRAST and WEIGHT, and columns that a DATA step before it
    makes; what has no equivalent is an error.

    Parameters
    ----------
    program
        Its text, from ``proc mixed`` to ``run;``.
    data
        The table; names of columns are found whatever their capitals.
    priors
        As in ``Model``, for the posterior.
    echo
        Print how it was understood.

    Raises
    ------
    FormulaError
        A statement or an option without an equivalent; a caret shows where.

    Examples
    --------
    >>> import hierpool as hp
    >>> sleep = hp.datasets.load("sleepstudy")
    >>> program = "proc mixed; class subject; model reaction = days; "
    >>> program += "random intercept days / subject=subject type=un; run;"
    >>> model = hp.from_sas(program, sleep, echo=False)
    >>> model.formula
    'Reaction ~ Days + (Days | Subject)'
    >>> round(-2 * model.reml().loglik, 1)
    1743.6
    """
    asked = read(program, data)
    arguments: dict[str, Any] = dict(asked.arguments)
    model = Model(asked.formula, asked.table.frame, priors, **arguments)
    object.__setattr__(model, "sas", ProcMixed.of(asked, model.design))
    if echo:
        print(model.sas)  # noqa: T201
    return model


def _rows(spec: Spec, data: Any, group: str) -> tuple[Spec, CellRows | CompleteRows]:
    """The rows of the models of a question: read, or stand-ins where the table is not in memory."""
    grouped, data = summed(pooling.varying_intercept_spec(spec, group), data)
    return replace(spec, residual=grouped.residual), pooling.read_rows(spec, data, group)


def _known(priors: Mapping[str, Any], model: Model) -> dict[str, Any]:
    names = names_of(model.priors)
    return {name: prior for name, prior in priors.items() if name in names}
