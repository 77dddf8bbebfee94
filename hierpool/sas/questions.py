"""LSMEANS, ESTIMATE and CONTRAST statements as requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hierpool.core.design import Design
from hierpool.sas.effects import Effect, read_effect, read_effects
from hierpool.sas.options import Option, at_slash, read_options, sort_out
from hierpool.sas.parameterization import SasColumns
from hierpool.sas.random_columns import group_weights
from hierpool.sas.requests import Request
from hierpool.sas.statements import Statement
from hierpool.sas.table import SasTable
from hierpool.sas.tokens import Token

_ADJUST = {"tukey": "tukey", "dunnett": "dunnett", "t": "none", "none": "none"}
_LSMEANS = {
    **dict.fromkeys(("diff", "pdiff", "diffs"), "diff"),
    "adj": "adjust",
    **{name: name for name in ("adjust", "at", "slice", "alpha")},
}
_MARGINS = "weights='observed' of hp.marginal_means averages over the rows as they are"
_LSMEANS_REFUSED = {
    "om": _MARGINS,
    "obsmargins": _MARGINS,
    "bylevel": _MARGINS,
    "df": "leave it out",
}
_ROW = {"divisor": "divisor", "alpha": "alpha"}
_ROW_REFUSED = {
    **dict.fromkeys(("lower", "upper"), "halve p where the sign is the expected one"),
    "df": "leave it out",
    "subject": "a coefficient of a group is hp.contrast(fit, {('g', 'level', 'Intercept'): 1})",
    "group": "",
}
_PRINTED = {"cl": "", "e": "", "corr": "", "cov": "fit.covariance()", "chisq": "F tests only"}
_PRINTED |= {"singular": "", "adjdfe": "", "lines": "", "plots": "hp.plots.effects(fit)"}


@dataclass(frozen=True)
class Questions:
    """What is needed to read them.

    Attributes
    ----------
    effects
        Of the MODEL statement.
    has_intercept
        Whether it has one.
    table
        The table.
    design
        Of the model.
    """

    effects: Sequence[Effect]
    has_intercept: bool
    table: SasTable
    design: Design

    def read(self, statement: Statement) -> tuple[list[Request], list[str]]:
        """The requests of one statement, and what must be said."""
        if statement.keyword.word == "lsmeans":
            return self._lsmeans(statement)
        return self._rows(statement)

    def _lsmeans(self, statement: Statement) -> tuple[list[Request], list[str]]:
        before, after = at_slash(statement)
        options, notes = sort_out(
            read_options(statement, after), _LSMEANS, _PRINTED, _LSMEANS_REFUSED
        )
        requests = []
        for effect in read_effects(statement, before, self.table):
            self._check_means(statement, effect)
            requests += self._means(effect, options, notes)
        return requests, notes

    def _check_means(self, statement: Statement, effect: Effect) -> None:
        number = next((c for c in effect.columns if not self.table.is_class(c)), None)
        if number is not None:
            statement.fail_over(
                f"LSMEANS takes CLASS variables, and {number!r} is a number",
                "sas-effect",
                effect.tokens,
                f"means at a value of it: lsmeans a / at {number}=5",
            )
        if effect.key not in {e.key for e in self.effects}:
            statement.fail_over(
                f"{effect} is no effect of the MODEL statement", "sas-effect", effect.tokens
            )

    def _means(self, effect: Effect, options: dict[str, Option], notes: list[str]) -> list[Request]:
        columns = list(effect.columns)
        shared: dict[str, Any] = {}
        if at := self._at(options.get("at"), notes):
            shared["at"] = at
        if "alpha" in options:
            shared["prob"] = 1 - options["alpha"].number()
        what = columns if len(columns) > 1 else columns[0]
        found = [Request(f"lsmeans {effect}", "marginal_means", what, shared)]
        by = options.get("slice")
        if "diff" not in options and "adjust" not in options and by is None:
            return found
        slices = self._sliced(effect, by, notes)
        for first, others in slices:
            asked = {**shared, **_comparison(options)}
            if others:
                asked = {"by": others if len(others) > 1 else others[0], **asked}
            levels = _control(options.get("diff"), self.table, first)
            if levels:
                asked = {"levels": levels, **asked}
            label = f"differences of {first}" + (f" by {', '.join(others)}" if others else "")
            found.append(Request(label, "contrast", first, asked))
        return found

    def _sliced(
        self, effect: Effect, by: Option | None, notes: list[str]
    ) -> list[tuple[str, list[str]]]:
        """What is compared, and within the levels of what."""
        columns = list(effect.columns)
        if len(columns) == 1:
            return [(columns[0], [])]
        if by is None:
            notes.append(
                f"differences of {effect}: pairs that differ in one of its factors are compared; SAS "
                "compares all pairs of cells"
            )
            return [(c, [o for o in columns if o != c]) for c in columns]
        is_list = by.value[0].is_sign("(") and by.value[-1].is_sign(")")
        tokens = by.value[1:-1] if is_list else by.value
        found: list[tuple[str, list[str]]] = []
        for held in read_effects(by.statement, tokens, self.table):
            first = [c for c in columns if c not in held.columns]
            if len(first) == len(columns) or not first:
                by.fail(f"SLICE= names no part of {effect}: {held}", "sas-effect")
            found += [(c, [o for o in columns if o != c]) for c in first]
        notes.append("SLICE= of SAS is an F test in each slice; here each pair in it is compared")
        return [part for k, part in enumerate(found) if part not in found[:k]]

    def _at(self, option: Option | None, notes: list[str]) -> dict[str, float]:
        """Values of covariates: those of AT; the mean where two values would count as categories."""
        found: dict[str, float] = {}
        numbers = {c for e in self.effects for c in e.columns if not self.table.is_class(c)}
        frame = self.design.observations.frame
        for name in sorted(numbers):
            if name in self.table.expressions:
                notes.append(
                    f"LSMEANS: {self.table.expressions[name]} is taken at the mean of its column, where "
                    f"SAS takes the mean of {name}"
                )
                continue
            cells = pd.to_numeric(frame[name]).to_numpy(dtype=float)
            if len(np.unique(cells)) == 2:
                found[name] = float(cells.mean())
        products = [e for e in self.effects if sum(c in numbers for c in e.columns) > 1]
        if products:
            notes.append(
                f"LSMEANS: {products[0]} is the product of means here; SAS takes the mean of products, "
                "except with AT"
            )
        if option is None or option.text == "means":
            return found
        names = [t for t in option.value if t.kind == "name"]
        values = [float(t.text) for t in option.value if t.kind == "number"]
        if len(names) != len(values):
            option.fail("AT needs a number for each column", "sas-syntax", "at (x z)=(1 2)")
        signs = _signs(option.value)
        for token, value, sign in zip(names, values, signs, strict=True):
            found[self.table.find(option.statement, token)] = sign * value
        return found

    def _rows(self, statement: Statement) -> tuple[list[Request], list[str]]:
        """ESTIMATE: a combination; CONTRAST: several, tested at once."""
        before, after = at_slash(statement)
        options, notes = sort_out(read_options(statement, after), _ROW, _PRINTED, _ROW_REFUSED)
        if not before or before[0].kind != "string":
            statement.fail(
                f"{statement.keyword.text.upper()} needs a label in quotes",
                "sas-syntax",
                hint=f"{statement.keyword.text.lower()} 'a1 - a2' a 1 -1;",
            )
        label = before[0].text
        columns = SasColumns.of(self.effects, self.has_intercept, self.table, self.design)
        made = [self._row(statement, part, columns) for part in _parts(before[1:])]
        if statement.keyword.word == "estimate" and len(made) > 1:
            statement.fail("ESTIMATE takes one combination", "sas-contrast", hint="use CONTRAST")
        if "divisor" in options:
            by = options["divisor"].number()
            made = [{term: weight / by for term, weight in row.items()} for row in made]
        if not all(made):
            statement.fail("all coefficients cancel", "sas-contrast")
        asked: dict[str, Any] = (
            {"prob": 1 - options["alpha"].number()} if "alpha" in options else {}
        )
        if statement.keyword.word == "estimate":
            has_groups = any(isinstance(name, tuple) for name in made[0])
            asked |= {"of": "deviations"} if has_groups else {}
            return [Request(label, "contrast", {label: made[0]}, asked)], notes
        named = {f"{label} {k + 1}" if len(made) > 1 else label: m for k, m in enumerate(made)}
        return [Request(label, "f_test", named)], notes

    def _row(
        self, statement: Statement, tokens: Sequence[Token], columns: SasColumns
    ) -> dict[Any, float]:
        """One combination of SAS's coefficients, as weights of the terms of the model."""
        bar = next((k for k, t in enumerate(tokens) if t.is_sign("|")), len(tokens))
        if bar < len(tokens) and statement.keyword.word == "contrast":
            statement.fail(
                "random effects in CONTRAST are not read",
                "sas-contrast",
                tokens[bar],
                "write an ESTIMATE statement for each row",
            )
        L, given = np.zeros(columns.X.shape[1]), []
        for effect, values, own in self._coefficients(statement, tokens[:bar]):
            place = columns.places.get(effect.key)
            if place is None:
                statement.fail_over(
                    f"{effect} is no effect of the MODEL statement", "sas-contrast", own
                )
            if len(values) > place.stop - place.start:
                labels = columns.labels[effect.key]
                statement.fail_over(
                    f"{effect} has {len(labels)} coefficients, and {len(values)} are given",
                    "sas-contrast",
                    own[len(effect.tokens) :],
                    f"in order: {', '.join(labels[:12])}{', ...' if len(labels) > 12 else ''}",
                )
            L[place.start : place.start + len(values)] += values
            given.append(effect.key)
        L = columns.with_containing(L, given)
        if not columns.is_estimable(L):
            statement.fail_over(
                "this combination is not estimable",
                "sas-contrast",
                tokens[:bar] or [statement.keyword],
                "coefficients of a contrast add up to 0 in each effect; a mean has intercept 1, and of "
                "several effects give those of the interactions too",
            )
        weights = zip(self.design.terms, columns.weights(L), strict=True)
        made: dict[Any, float] = {term: float(w) for term, w in weights if w}
        for effect, values, own in self._coefficients(statement, tokens[bar + 1 :]):
            made |= group_weights(statement, effect, values, own, self.table, self.design)
        return made

    def _coefficients(
        self, statement: Statement, tokens: Sequence[Token]
    ) -> Iterator[tuple[Effect, list[float], Sequence[Token]]]:
        """Each effect with its coefficients, and where they stand."""
        at = 0
        while at < len(tokens):
            effect, stop = read_effect(statement, tokens, at, self.table, intercept=True)
            values, end = _numbers(statement, tokens, stop)
            yield effect, values, tokens[at:end]
            at = end


def _parts(tokens: Sequence[Token]) -> list[Sequence[Token]]:
    """Parted at commas."""
    cuts = [k for k, t in enumerate(tokens) if t.is_sign(",")]
    starts, stops = [0, *(c + 1 for c in cuts)], [*cuts, len(tokens)]
    return [tokens[a:b] for a, b in zip(starts, stops, strict=True)]


def _numbers(statement: Statement, tokens: Sequence[Token], at: int) -> tuple[list[float], int]:
    """Numbers with their signs from a position; and where they end."""
    found: list[float] = []
    sign = 1.0
    while at < len(tokens) and (tokens[at].kind == "number" or tokens[at].is_sign("+", "-")):
        if tokens[at].kind == "number":
            found.append(sign * float(tokens[at].text))
            sign = 1.0
        else:
            sign = -1.0 if tokens[at].is_sign("-") else 1.0
        at += 1
    if not found:
        statement.fail("coefficients are missing after this", "sas-contrast", tokens[at - 1])
    return found, at


def _signs(tokens: Sequence[Token]) -> list[float]:
    """The sign of each number."""
    return [
        -1.0 if tokens[k - 1].is_sign("-") else 1.0
        for k, t in enumerate(tokens)
        if t.kind == "number"
    ]


def _comparison(options: dict[str, Option]) -> dict[str, Any]:
    """``method=`` and ``adjust=`` of hp.contrast."""
    diff, adjust = options.get("diff"), options.get("adjust")
    kind = diff.text if diff is not None else ""
    asked: dict[str, Any] = {}
    if kind.startswith("control"):
        asked["method"] = "reference"
    elif diff is not None and kind not in ("", "all"):
        diff.fail(f"DIFF={kind.upper()} is not read", "sas-option", "diff or diff=control('a')")
    word = adjust.text if adjust is not None else "none"
    if word not in _ADJUST and adjust is not None:
        adjust.fail(
            f"ADJUST={word.upper()} has no equivalent here",
            "sas-option",
            "there are TUKEY and DUNNETT; adjust='holm' of hp.contrast is never less powerful than BON",
        )
    return {**asked, "adjust": _ADJUST[word]}


def _control(option: Option | None, table: SasTable, column: str) -> list[Any]:
    """The levels with the control first; all in SAS's order, where that is another one than here."""
    own = table.classes[column]
    labels = [x.item() if isinstance(x, np.generic) else x for x in own.labels]
    if option is None or not option.text.startswith("control"):
        return labels if own.coding.levels else []
    given = [t.text for t in option.value if t.kind in ("string", "number")]
    if not given:
        return labels
    place = next((k for k, label in enumerate(labels) if str(label) == given[0]), None)
    if place is None:
        option.fail(f"{given[0]!r} is no level of {column}", "sas-option")
    return [labels[place], *(x for k, x in enumerate(labels) if k != place)]
