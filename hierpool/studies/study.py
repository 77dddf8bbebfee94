"""Study: a model from complete to no pooling: the results, points to check, and tables."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd

from hierpool.checks.advice import Advice
from hierpool.core.csv_text import csv_bytes
from hierpool.core.group_nouns import counted, nouns
from hierpool.core.options import bounds_among, options
from hierpool.core.printable import one_line, printable
from hierpool.core.progress import named_steps
from hierpool.core.text import capital, joined, number
from hierpool.core.writing import make_folder, write_file, write_text
from hierpool.report.model_words import on_scale
from hierpool.studies.advise import advise
from hierpool.studies.result import StudyResult
from hierpool.studies.sentences import most_shrunk, shrunk_term
from hierpool.studies.tables import tables_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hierpool.studies.figures import StudyFigures

WIDTH = 92  # of printed sentences
NO_PROBLEMS_OF_FAMILY = "No problems found in the data, the draws or the comparison."
NO_PROBLEMS_OF_SUMS = "No problems found in the data, the draws, the REML fits or the comparison."
NO_PROBLEMS = (
    "No problems found in the data, the draws, the REML fits, the residuals or the comparison."
)
MOST_ROWS = 8  # of the printed table of the most shrunk levels
_SHRUNK = ["n", "own_estimate", "partial_pooling", "population", "pooling_factor"]


@dataclass(frozen=True, repr=False)
class Study(StudyResult):
    """A model from complete to no pooling, compared. Prints the results, points to check and tables.

    Attributes
    ----------
    formula, groups, along, label, seed
        What was fitted, the grouping factors and those whose pooling was varied, the data, and the
        seed that repeats it.
    models, fits, blups
        Name, e.g. ``"varying_slope"`` -> Model, PosteriorFit, LikelihoodFit (REML or least squares).
    comparison
        Leave-one-out comparison of all models, best first, with the columns of ``az.compare``: how
        well each predicts a new observation of a known group.
    comparison_by_group
        Factor -> the same with whole groups left out: how well each predicts a new group. Empty if
        a coefficient has a prior that is not normal and cannot be integrated out.
    largest
        Name of the partially pooled model with the most random effects, where simplifying begins.
    selected
        Name of the recommended model; the tables below are for this model.
    choice
        The recommended model, and the steps that led to it, with their evidence.
    skipped
        Formula -> why a model that would be of interest could not be fitted.
    shrinkage
        Shrinkage of each group: the table of ``hp.shrinkage``.
    compare_blups
        Posterior means and BLUPs: the table of ``hp.compare_blups``.
    findings
        Points to check, the most serious first.
    answer
        The results in plain sentences.
    structure
        The residual structure of ``hp.study(..., residual=...)``; ``residual_ladder`` is the
        comparison of several.
    arguments
        What else ``hp.study`` was given: ``engine``, ``draws``, ``chains`` and others of ``fit``.
    prob
        Probability of all its intervals: that of ``hp.options`` when the study was made, whatever
        it is when tables, figures or a report are asked for.

    Notes
    -----
    ``recommended`` is a formula and ``model``, ``fit``, ``reml`` are of it; ``decided`` is False
    where the data do not separate it from a simpler model. The random effects are simplified by
    likelihood ratio tests with leave-one-out as a veto, as in ``hp.advise``; the groups stay.
    Intervals do not count that the model was selected on the same data.

    References
    ----------
    Barr, Levy, Scheepers, Tily (2013), J. Mem. Lang. 68, 255-278 (start from the maximal model).
    Matuschek, Kliegl, Vasishth, Baayen, Bates (2017), J. Mem. Lang. 94, 305-315 (what to give up).
    Sivula, Magnusson, Matamoros, Vehtari (2020), arXiv:2008.10296 (differences in elpd).
    """

    @property
    def is_well_behaved(self) -> bool:
        """Whether nothing worse than a note was found."""
        return self.findings.worst in {None, "note"}

    @property
    def headline(self) -> str:
        """The data, the formula and the sample size."""
        of = f"{self.label}: " if self.label else ""
        groups = joined(counted(self.design.groupings[f].n_levels, f) for f in self.groups)
        return f"{of}{self.formula}, {self.design.n} observations of {groups}"

    @cached_property
    def advice(self) -> Advice:
        """Advice on the richest model, what to remove and what to add: ``hp.advise``.

        Computed on first use, in a second or two.
        """
        with options(prob=self.prob):
            return advise(self)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table at full precision, by name."""
        return {name: table.copy() for name, table in self._tables.items()}

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        with options(prob=self.prob):
            return tables_of(self)

    def figures(self) -> dict[str, Figure]:
        """Every picture, by name; calibration of predictions for at most 2,000 rows.

        ``hp.plots`` has more, of the fits in ``study.fits``.
        """
        return dict(self._figures)

    @cached_property
    def _figures(self) -> StudyFigures:
        from hierpool.studies.figures import figures_of

        with options(prob=self.prob):
            return figures_of(self)

    def save(self, folder: str | PathLike[str], *, progress: bool = True) -> Path:
        """Write ``tables/*.csv``, ``figures/*.png`` and ``summary.txt``; gives the folder back.

        The folder is made where it is missing; files of these names in it are replaced, each when
        its successor is complete. In the CSV a text that begins with ``=``, ``+``, ``-`` or ``@``
        has an apostrophe in front, so that no spreadsheet runs it; numbers are never changed.

        Parameters
        ----------
        folder
            Of the results.
        progress
            Show a progress bar on stderr if it takes over a second.

        Raises
        ------
        StorageError
            The folder or a file in it cannot be written.
        """
        root, tables, figures = (
            make_folder(Path(folder) / part) for part in ("", "tables", "figures")
        )
        with named_steps(len(self._figures) + 1, progress) as begin:
            begin("tables")
            write_text(root / "summary.txt", f"{self}\n")
            for name, table in self.tables().items():
                write_file(tables / f"{name}.csv", csv_bytes(table, index=name != "findings"))
            for name in self._figures:
                begin(f"picture: {name}")
                self._figures[name].savefig(figures / f"{name}.png", dpi=150)
        return root

    def report(
        self,
        path: str | PathLike[str],
        *,
        style: Literal["brief", "full"] = "brief",
        progress: bool = True,
    ) -> Path:
        """Write one HTML page that a colleague can read without Python; gives its path back.

        It needs no network. An existing file is replaced once the new page is complete.

        Parameters
        ----------
        path
            Of the file.
        style
            ``"brief"``: the answer, the effect in a picture, points to check, the recommended
            model, paragraphs for a paper and the code, what prints on about three pages.
            ``"full"``: also every model, every table (to sort, and to download as CSV), every
            picture and check.
        progress
            Show a progress bar on stderr if it takes over a second.

        Raises
        ------
        ArgumentError
            Another style.
        StorageError
            The file cannot be written.
        """
        from hierpool.studies.report import write_report

        with options(prob=self.prob), named_steps(3, progress) as begin:

            def advise_in_steps() -> Advice:
                begin("advice")
                advice = self.advice
                begin("report")
                return advice

            begin("report")
            return write_report(self, self._tables, self._figures, path, style, advise_in_steps)

    def __repr__(self) -> str:
        lines = [one_line(self.headline), ""]
        lines += [line for text in self.answer.splitlines() for line in textwrap.wrap(text, WIDTH)]
        lines += ["", self._titled("Points to check")]
        if self.is_well_behaved:
            lines += textwrap.wrap(
                self._no_problems, WIDTH, initial_indent="  ", subsequent_indent="  "
            )
        lines += self.findings.lines("  ", brief=True)
        for title, table in self._shown_tables().items():
            lines += ["", title, _text(table)]
        if self._by_row:
            lines += ["", *self._by_row]
        return printable("\n".join(lines))

    def _repr_html_(self) -> str:
        from html import escape

        answer = "".join(f"<p>{escape(text)}</p>" for text in self.answer.splitlines())
        points = f"<p>{self._no_problems}</p>" if self.is_well_behaved else ""
        points += self.findings._repr_html_() if self.findings else ""
        tables = "".join(
            f"<h4>{escape(title)}</h4>{table.to_html(float_format=number, na_rep='')}"
            for title, table in self._shown_tables().items()
        )
        return printable(
            f"<h3>{escape(self.headline)}</h3>{answer}"
            f"<h4>{escape(self._titled('Points to check'))}</h4>{points}{tables}"
            f"{''.join(f'<p>{escape(line)}</p>' for line in self._by_row)}"
        )

    @property
    def _no_problems(self) -> str:
        if self.design.is_summed and self.design.family is None:
            return NO_PROBLEMS_OF_SUMS
        return NO_PROBLEMS if self.design.family is None else NO_PROBLEMS_OF_FAMILY

    @property
    def _by_row(self) -> list[str]:
        """What to type for the comparison that sums do not give; empty where it is there."""
        if len(self.comparison) or not self.design.is_summed or self.design.family is not None:
            return []
        table = repr(self.label) if self.label else "table"
        return [
            "To compare the predictions of single observations (from the shell: --compare-rows):",
            f"  hp.compare(study.fits, table={table})",
        ]

    def _titled(self, text: str) -> str:
        return one_line(f"{text} — {self.label}" if self.label else text)

    def _shown_tables(self) -> dict[str, pd.DataFrame]:
        fixed, spread = self._tables["fixed_effects"], self._tables["variance_components"]
        columns = ["sd", *bounds_among(fixed.columns), "method", "estimate", "se"]
        rungs = [n for n in ("complete_pooling", self.selected) if n in fixed.index.unique("model")]
        family = self.design.family
        is_ml = family is not None or bool(self.design.scale_factor)
        by = "" if self.optimum is None else "maximum likelihood" if is_ml else "REML"
        plain = f" and {by}" if by else ""
        others = " or least squares" if family is None else ""
        by_row = "Prediction of new observations (leave-one-out; higher elpd is better)"
        if "n_checked" in self.comparison.attrs:
            by_row = f"{by_row[:-1]}; by a query and {self.comparison.attrs['n_checked']:,} rows)"
        shown = {
            **({by_row: _scores(self.comparison)} if len(self.comparison) else {}),
            **self._shown_by_group(),
            f"Fixed effects{on_scale(family)}: posterior{plain}{others}": (
                fixed[fixed.index.isin(rungs, level="model")].filter(["mean", *columns])
            ),
            f"Standard deviations and correlations of {self.selected}: posterior{plain}": (
                spread.xs(self.selected, level="model").filter(["mean", "median", *columns])
            ),
            **self._shown_structures(),
        }
        if not (self.is_well_behaved or self.shrinkage.empty):  # else the answer names the first
            term = shrunk_term(self.design.schema, self.group)
            most = most_shrunk(self.shrinkage, term, self.group).index[:MOST_ROWS]
            title = f"{capital(nouns(self.group))} with the most shrinkage ({self.selected})"
            shown[title] = self.shrinkage.loc[most][_SHRUNK]
        return {self._titled(title): pd.DataFrame(table) for title, table in shown.items()}

    def _shown_structures(self) -> dict[str, pd.DataFrame]:
        ladder = self.residual_ladder
        if ladder is None:
            return {}
        title = (
            f"Residual structures ({ladder.method}, and prediction of new {nouns(ladder.factor)})"
        )
        return {title: ladder.shown}

    def _shown_by_group(self) -> dict[str, pd.DataFrame]:
        return {
            f"Prediction of new {nouns(factor)} (leave-one-group-out)": _scores(table).assign(
                note=table["note"]
            )
            for factor, table in self.comparison_by_group.items()
        }


def _scores(comparison: pd.DataFrame) -> pd.DataFrame:
    """The comparison as text, rounded to the digits that its standard errors support."""
    digits = {"elpd": 1, "se": 1, "elpd_diff": 1, "dse": 1, "weight": 2, "p": 1}
    shown = {c: k for c, k in digits.items() if c in comparison}
    return pd.DataFrame({c: comparison[c].map(f"{{:.{k}f}}".format) for c, k in shown.items()})


def _text(table: pd.DataFrame) -> str:
    with pd.option_context("display.width", 120, "display.max_columns", 20):
        return table.to_string(float_format=number, na_rep="")
