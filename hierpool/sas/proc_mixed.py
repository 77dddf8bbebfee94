"""ProcMixed: how a PROC MIXED step was understood, and its questions put to a fit."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from html import escape
from typing import Literal

import pandas as pd

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.core.design import Design
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.fitted import Optimum
from hierpool.core.printable import printable
from hierpool.reml.inference import Df
from hierpool.reml.kenward_roger import is_linear
from hierpool.sas.questions import Questions
from hierpool.sas.read import Read
from hierpool.sas.requests import Request


@dataclass(frozen=True, repr=False)
class ProcMixed:
    """How a PROC MIXED step was understood. It prints.

    Attributes
    ----------
    formula
        The formula of the model.
    arguments
        Other arguments of ``hp.Model``: ``residual``, ``sigma``, ``weights``, ``known_se``.
    data
        The table, with the columns that had to be made.
    added
        The lines of Python that make them.
    method
        The fit that SAS makes: ``"reml"`` or ``"ml"``, a method of the model.
    df
        Degrees of freedom of DDFM=: ``"satterthwaite"``, ``"kenward-roger"`` or ``"residual"``;
        empty for those that hierpool takes by itself.
    understood
        Each statement, and what it comes to.
    requests
        LSMEANS, ESTIMATE and CONTRAST.
    notes
        Where hierpool and SAS differ.
    """

    formula: str
    arguments: dict[str, str]
    data: pd.DataFrame
    added: tuple[str, ...]
    method: str
    df: Df | Literal[""]
    understood: tuple[tuple[str, str], ...]
    requests: tuple[Request, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, read: Read, design: Design) -> ProcMixed:
        """What was read, with its questions in the terms of the model."""
        ask = Questions(read.effects, read.has_intercept, read.table, design)
        requests: list[Request] = []
        understood, notes = list(read.understood), [*read.notes, *_df_notes(read, design)]
        for statement in read.questions:
            own, more = ask.read(statement)
            requests += own
            notes += more
            understood.append((statement.text, "; ".join(r.code for r in own)))
        return cls(
            read.formula,
            dict(read.arguments),
            read.table.frame,
            tuple(read.table.added),
            read.method,
            read.df,
            tuple(understood),
            tuple(requests),
            tuple(dict.fromkeys(notes)),
        )

    def answers(self, fit: IntegratedPosterior | Optimum) -> dict[str, pd.DataFrame]:
        """A table for each LSMEANS, ESTIMATE and CONTRAST.

        Parameters
        ----------
        fit
            Of the model: ``model.reml()``, ``model.ml()`` or ``model.fit()``. A joint test needs one
            of the first two; a posterior has each of its rows alone. The first two are tested by
            DDFM= where it is available for them.
        """
        if self.df and isinstance(fit, Optimum):
            with suppress(UnsupportedModelError):
                fit = fit.with_df(self.df)
        found: dict[str, pd.DataFrame] = {}
        for request in self.requests:
            label, k = request.label, 2
            while label in found:
                label, k = f"{request.label} ({k})", k + 1
            found[label] = request.answer(fit)
        return found

    @property
    def code(self) -> str:
        """The model as one would type it."""
        more = "".join(f", {name}={value!r}" for name, value in self.arguments.items())
        lines = [*self.added, f"model = hp.Model({self.formula!r}, data{more})"]
        return "\n".join([*lines, f"fit = model.{self.method}()"])

    def __repr__(self) -> str:
        lines = ["PROC MIXED, read as", *(f"    {line}" for line in self.code.split("\n"))]
        for statement, meaning in self.understood:
            lines += [statement, f"    {meaning}"]
        if self.requests:
            lines.append("    answered by model.sas.answers(fit)")
        lines += ["", "Different from SAS, or found elsewhere"] if self.notes else []
        lines += [f"- {note}" for note in self.notes]
        return printable("\n".join(lines))

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"


def _df_notes(read: Read, design: Design) -> list[str]:
    """Where the degrees of freedom are found, or why they are others."""
    if not read.df:
        return [
            "Degrees of freedom are Kenward and Roger's or Satterthwaite's. Those of containment and "
            "between-within, SAS's defaults, are not available"
        ]
    if read.df == "kenward-roger" and (read.method == "ml" or not is_linear(design)):
        why = (
            "needs REML"
            if read.method == "ml"
            else f"does not hold for {design.residual.term.words} in this model"
        )
        return [f"ddfm: Satterthwaite's, in all tables, because Kenward and Roger's method {why}"]
    return [
        f"ddfm: fit.with_df({read.df!r}) has them in all tables, fixed_effects(), anova(), means and "
        "contrasts; model.sas.answers(fit) takes them"
    ]
