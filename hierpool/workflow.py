"""study(): the whole question in one call, answered first, then doubted, then shown in tables."""

from __future__ import annotations

import re
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from hierpool.checks.blups import compare_blups
from hierpool.checks.compare import compare
from hierpool.checks.diagnostics import summary
from hierpool.checks.shrinkage import shrinkage
from hierpool.core.design import Design
from hierpool.core.errors import (
    ArgumentError,
    DataError,
    FitError,
    FormulaError,
    HierpoolWarning,
    listed,
)
from hierpool.core.findings import Finding, Findings
from hierpool.data.formula import parse
from hierpool.data.frame import read_frame
from hierpool.engines import fresh_seed
from hierpool.fits import BlupFit, PosteriorFit
from hierpool.models import Model, pooling_ladder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INTERCEPT = "Intercept"
WIDTH = 92  # of printed sentences
MOST_NAMED, MOST_ROWS = 3, 8  # of the most shrunk levels, in the answer and in the printed table
SMALL_DIFFERENCE = 4.0  # of elpd, below which its standard error is no guide (Sivula et al. 2020)
TOLD_APART = 2.0  # standard errors of a difference of elpd from which models are told apart
FORGIVEN = 1.0  # standard errors that a simpler model may be behind (Breiman et al. 1984)
FEW_ROWS = 100  # below which the same holds
FEW_LEVELS = 5  # below which the prior of an sd speaks louder than the levels
_PULLED = ["n", "no_pooling", "partial_pooling", "population", "pooling_factor"]
LARGE_GAP = 0.5  # between posterior mean and BLUP, in posterior sds


@dataclass(frozen=True, repr=False)
class Study:
    """Every pooling of one question, compared. Prints the answer, its doubts and the tables.

    Attributes
    ----------
    formula, group, label, seed
        What was asked, of what, and the seed that repeats it.
    models, fits, blups
        Name of the rung of the ladder -> Model, PosteriorFit, BlupFit (REML, or least squares).
    comparison
        Leave-one-out table of all rungs, best first: the columns of ``az.compare``.
    recommended
        The simplest model within one standard error of the best one, or within 4 of elpd.
    partial
        The same among the partially pooled models; what follows is about this one.
    shrinkage
        How far each level was pulled: the table of ``hp.shrinkage``.
    compare_blups
        Posterior means beside BLUPs: the table of ``hp.compare_blups``.
    findings
        What to distrust, the worst first.
    answer
        The answer in plain sentences.

    References
    ----------
    Sivula, Magnusson, Matamoros, Vehtari (2020), arXiv:2008.10296 (when differences of elpd can
    be told apart).  Breiman, Friedman, Olshen, Stone (1984), Classification and Regression Trees,
    section 3.4.3 (the rule of one standard error).
    """

    formula: str
    group: str
    label: str
    seed: int
    models: Mapping[str, Model]
    fits: Mapping[str, PosteriorFit]
    blups: Mapping[str, BlupFit]
    comparison: pd.DataFrame
    recommended: str
    partial: str
    shrinkage: pd.DataFrame
    compare_blups: pd.DataFrame
    findings: Findings
    answer: str

    @property
    def design(self) -> Design:
        """Rows and columns of the partially pooled model."""
        return self.fits[self.partial].design

    @property
    def headline(self) -> str:
        """What was asked, of which data, and their size."""
        of = f"{self.label}: " if self.label else ""
        n_levels = self.design.groupings[self.group].n_levels
        return f"{of}{self.formula}, {self.design.n} rows, {n_levels} levels of {self.group}"

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table at full precision, by name."""
        return {name: table.copy() for name, table in self._tables.items()}

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        return {
            "comparison": self.comparison,
            "fixed_effects": _beside(self.fits, self.blups, "fixed_effects"),
            "variance_components": _beside(self.fits, self.blups, "variance_components"),
            "shrinkage": self.shrinkage,
            "compare_blups": self.compare_blups,
            "findings": self.findings.table,
        }

    def figures(self) -> dict[str, Figure]:
        """Every picture, by name."""
        from hierpool.show import plots

        posterior, blup = self.fits[self.partial], self.blups[self.partial]
        shown = ("complete_pooling", "no_pooling", self.partial)
        of: dict[str, Any] = {"response": self.design.spec.response, "label": self.label}
        return {
            "trajectories": plots.trajectories({name: self.fits[name] for name in shown}),
            "shrinkage": plots.shrinkage(self.shrinkage, **of),
            "caterpillar": plots.caterpillar(
                posterior.random_effects(diagnostics=False), blup.random_effects(), **of
            ),
            "posterior_against_blup": plots.posterior_against_blup(self.compare_blups, **of),
            "comparison": plots.comparison(self.comparison, **of),
        }

    def save(self, folder: str | PathLike[str]) -> Path:
        """Write ``tables/*.csv``, ``figures/*.png`` and ``summary.txt``; gives the folder back.

        The folder is made where it is missing; files of these names in it are replaced.
        """
        root = Path(folder)
        for part in ("tables", "figures"):
            (root / part).mkdir(parents=True, exist_ok=True)
        (root / "summary.txt").write_text(f"{self}\n", encoding="utf-8")
        for name, table in self.tables().items():
            table.to_csv(root / "tables" / f"{name}.csv", index=name != "findings")
        for name, figure in self.figures().items():
            figure.savefig(root / "figures" / f"{name}.png", dpi=150)
        return root

    def __repr__(self) -> str:
        lines = [self.headline, ""]
        lines += [line for text in self.answer.splitlines() for line in textwrap.wrap(text, WIDTH)]
        lines += ["", self._titled("What to distrust")]
        for text in self._doubts():
            lines += textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")
        for title, table in self._shown_tables().items():
            lines += ["", title, _text(table)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from html import escape

        answer = "".join(f"<p>{escape(text)}</p>" for text in self.answer.splitlines())
        doubts = "".join(f"<li>{escape(text)}</li>" for text in self._doubts())
        tables = "".join(
            f"<h4>{escape(title)}</h4>{table.to_html(float_format=_number, na_rep='')}"
            for title, table in self._shown_tables().items()
        )
        return (
            f"<h3>{escape(self.headline)}</h3>{answer}"
            f"<h4>{escape(self._titled('What to distrust'))}</h4><ul>{doubts}</ul>{tables}"
        )

    def _titled(self, text: str) -> str:
        return f"{text} — {self.label}" if self.label else text

    def _doubts(self) -> list[str]:
        if self.findings:
            return [str(finding) for finding in self.findings]
        return ["Nothing found in the data, the draws, the REML fits or the comparison."]

    def _shown_tables(self) -> dict[str, pd.DataFrame]:
        fixed, spread = self._tables["fixed_effects"], self._tables["variance_components"]
        beside = ["sd", *_bounds(fixed), "method", "estimate", "se"]
        rungs = [n for n in ("complete_pooling", self.partial) if n in fixed.index.unique("model")]
        term = _pulled_term(self.design)
        pulled = self.shrinkage.loc[_most_pulled(self.shrinkage, term).index[:MOST_ROWS]]
        shown = {
            "Predicting a left-out row (higher elpd is better)": _scores(self.comparison),
            "Fixed effects: posterior, and REML or least squares": (
                fixed[fixed.index.isin(rungs, level="model")][["mean", *beside]]
            ),
            f"Standard deviations and correlations of {self.partial}: posterior, and REML": (
                spread.xs(self.partial, level="model")[["mean", "median", *beside]]
            ),
            f"Levels pulled furthest by {self.partial}": pulled[_PULLED],
        }
        return {self._titled(title): pd.DataFrame(table) for title, table in shown.items()}


def study(
    formula: str,
    data: Any,
    group: str | None = None,
    *,
    seed: int | None = None,
    engine: Literal["auto", "exact", "nuts"] = "auto",
    draws: int = 1000,
    chains: int = 4,
    progress: bool = True,
    weights: str | None = None,
    known_se: str | None = None,
    **fit_arguments: Any,
) -> Study:
    """Fit every pooling of one question, compare them, and say what came out.

    Parameters
    ----------
    formula
        Without bars, e.g. ``"volume ~ time"``; the ladder adds them.
    data
        A DataFrame, or any table that narwhals can read.
    group
        Column that names the groups, e.g. ``"boar"``.
    seed
        The same seed gives the same study on one machine and version. None: a fresh one, kept in
        ``study.seed``.
    engine, draws, chains
        As in ``Model.fit``. A fit that ``engine="exact"`` cannot vouch for is kept and stands
        among the findings.
    progress
        Show a bar on stderr if it takes over a second.
    weights, known_se
        As in ``Model``.
    **fit_arguments
        ``tune``, ``cores``, ``sampler``, ``target_accept``, ``options``, as in ``Model.fit``.

    Raises
    ------
    ArgumentError
        No group, or an argument that ``Model.fit`` does not take.
    FormulaError
        The formula cannot be read, or it has bars.
    DataError
        The data cannot be used with this formula.

    Examples
    --------
    >>> import hierpool as hp
    >>> boars = hp.datasets.load("boars")
    >>> answer = hp.study("volume ~ time", boars, group="boar", seed=1)  # doctest: +SKIP
    """
    frame = read_frame(data)
    name = _check_question(formula, frame, group)
    seed = fresh_seed() if seed is None else seed
    arguments = {"engine": engine, "draws": draws, "chains": chains, "seed": seed, **fit_arguments}
    models = pooling_ladder(formula, frame, name, weights=weights, known_se=known_se)
    fits: dict[str, PosteriorFit] = {}
    with _bar(len(models) + 1, progress) as begin, _heard() as said:
        for rung, model in models.items():
            begin(rung)
            fits[rung] = _fitted(model, arguments)
        blups, impossible = _optima(models)
        begin("comparison")
        comparison = compare(fits)
    recommended = simplest_of_the_best(comparison, models)
    pooled = [rung for rung, model in models.items() if model.design.spec.pooling == "partial"]
    partial = recommended if recommended in pooled else simplest_of_the_best(comparison, pooled)
    pulled, beside = shrinkage(fits[partial]), compare_blups(fits[partial], blups[partial])
    sentences = [
        _says_population(fits, partial),
        _says_best(comparison, recommended),
        _says_shrinkage(pulled, fits[partial].design, partial),
    ]
    findings = [*_of_data(models), *_of_fits(fits, blups), *_of_blups(beside, partial), *impossible]
    return Study(
        formula=parse(formula).formula,
        group=name,
        label=models[partial].design.label,
        seed=seed,
        models=models,
        fits=fits,
        blups=blups,
        comparison=comparison,
        recommended=recommended,
        partial=partial,
        shrinkage=pulled,
        compare_blups=beside,
        findings=Findings([*findings, *_of_comparison(fits, said)]),
        answer="\n".join(sentences),
    )


def simplest_of_the_best(comparison: pd.DataFrame, names: Iterable[str]) -> str:
    """First of the names, simplest first, within one standard error (or 4) of the best of them.

    Two standard errors, which it takes to tell models apart, would be too lenient here: a few odd
    rows make the error of a difference large, and a slope that plainly varies would be given up
    (sleepstudy: one intercept each is 23.5 behind, with a standard error of 12.3).
    """
    among = list(names)
    table = comparison.loc[[name for name in comparison.index if name in set(among)]]
    near = _near(table, FORGIVEN)
    return next(name for name in among if name in near)


def _near(comparison: pd.DataFrame, errors: float) -> list[str]:
    """The best model and those behind it by less than so many standard errors, or less than 4.

    ``dse`` is the error of the difference to the best of all fits; it stands in for that to the
    best of a part of them.
    """
    elpd, dse = comparison["elpd"].to_numpy(), comparison["dse"].to_numpy()
    difference = elpd[0] - elpd
    apart = (difference >= SMALL_DIFFERENCE) & (difference >= errors * dse)
    return [str(name) for name in comparison.index[~apart]]


def _check_question(formula: str, frame: pd.DataFrame, group: str | None) -> str:
    spec = parse(formula)
    if spec.groups:
        plain = f"{spec.response} ~ {spec.without_bars.removeprefix('1 + ')}"
        bare = re.sub(r"`[^`]*`", lambda quoted: "_" * len(quoted[0]), formula)
        raise FormulaError(
            "study() fits a ladder of models and adds the bars itself",
            "bar-in-study",
            formula,
            bare.find("|"),
            hint=f"write study({plain!r}, data, group={spec.factors[0]!r}), or fit this one model "
            f"with hp.Model({spec.formula!r}, data).fit()",
        )
    if group is None:
        others = [c for c in frame.columns if not re.search(rf"\b{re.escape(str(c))}\b", formula)]
        columns = f" The columns left are {listed(others)}." if others else ""
        raise ArgumentError(
            "study() needs the column that names the groups. "
            f"Write study({formula!r}, data, group=...).{columns}",
            "group-missing",
        )
    return group


def _fitted(model: Model, arguments: Mapping[str, Any]) -> PosteriorFit:
    try:
        return model.fit(progress=False, **arguments)
    except FitError as error:
        if error.fit is None:
            raise
        return error.fit  # its status is among the findings


def _optima(models: Mapping[str, Model]) -> tuple[dict[str, BlupFit], list[Finding]]:
    """REML or least squares of every model, and what cannot be had: no pooling without spare rows."""
    found: dict[str, BlupFit] = {}
    missing = []
    for rung, model in models.items():
        try:
            found[rung] = model.reml()
        except DataError as error:
            if error.code != "no-residual-df":
                raise
            text = f"least squares is left out: {error.message} (in {rung})"
            missing.append(Finding("no-least-squares", "warning", text))
    return found, missing


def _beside(
    fits: Mapping[str, PosteriorFit], blups: Mapping[str, BlupFit], method: str
) -> pd.DataFrame:
    """A table of every posterior with that of its REML or least-squares fit on its right."""
    parts = {}
    for name, fit in fits.items():
        posterior = getattr(fit, method)()
        if len(posterior) and name in blups:
            plain = {"df": "normal"} if method == "fixed_effects" else {}  # no df are shown
            other = getattr(blups[name], method)(**plain).assign(method=blups[name].method)
            parts[name] = posterior.join(other[["method", "estimate", "se"]])
    return pd.concat(parts, names=["model"])


def _told(design: Design) -> str:
    """The population term that the answer is about: a slope that varies, else a slope."""
    varying = [term for group in design.groups for term in group.terms if term in design.terms]
    slopes = [term for term in (*varying, *design.terms) if term != INTERCEPT]
    return next(iter(slopes), design.terms[0])


def _pulled_term(design: Design) -> str:
    """The term of the levels that the answer is about: the same where it varies."""
    (group,) = design.groups
    return _told(design) if _told(design) in group.terms else group.terms[0]


def _most_pulled(table: pd.DataFrame, term: str) -> pd.Series[float]:
    """How far each level was moved in one term, furthest first; those that cannot tell left out."""
    moved = (table["partial_pooling"] - table["no_pooling"]).abs()
    of_term = moved[moved.index.get_level_values("term") == term]
    return of_term.dropna().sort_values(ascending=False, kind="stable")


def _says_population(fits: Mapping[str, PosteriorFit], partial: str) -> str:
    """What each pooling says of one population coefficient."""
    design, own = fits[partial].design, fits["no_pooling"]
    term, response = _told(design), design.spec.response
    lead = f"Per unit of {term}, {response} changes by"
    if term == INTERCEPT:
        lead = f"The intercept of {response} is"
    elif "[" in term:
        lead = f"For {term}, {response} changes by"
    fixed = {name: fits[name].fixed_effects() for name in ("complete_pooling", partial)}
    parts = [
        f"{_with_interval(fixed['complete_pooling'], term)} under complete pooling",
        f"{_with_interval(fixed[partial], term)} under partial pooling ({partial})",
        f"{_with_interval(own.fixed_effects(), term)} under no pooling"
        if term in own.design.terms
        else _average_line(own, term),
    ]
    percent = re.sub(r"\D", "", _bounds(fixed[partial])[0])
    return f"{lead} {', '.join(parts[:-1])}, and {parts[-1]} ({percent} % intervals in brackets)."


def _average_line(own: PosteriorFit, term: str) -> str:
    """Words for the average over levels of the own coefficients of no pooling, and their range."""
    (group,) = own.design.groups
    every: Any = own.variable(f"coef_{group.factor}")
    draws = every.sel({f"{group.factor}_term": term})
    average = summary(draws.mean(group.factor), diagnostics=False).set_axis([term])
    each = draws.mean(("chain", "draw")).to_numpy()
    return (
        f"{_with_interval(average, term)} on average under no pooling, where single levels of "
        f"{group.factor} range from {_short(each.min())} to {_short(each.max())}"
    )


def _with_interval(table: pd.DataFrame, term: str) -> str:
    mean, low, high = (_short(float(table[c][term])) for c in ("mean", *_bounds(table)))
    return f"{mean} [{low}, {high}]"


def _bounds(table: pd.DataFrame) -> list[str]:
    """Names of the columns that bound an interval, lower and upper."""
    return [str(c) for c in table.columns if str(c).endswith(("_lb", "_ub"))]


def _says_best(comparison: pd.DataFrame, recommended: str) -> str:
    """What predicts best, by how much, and what is recommended."""
    best = str(comparison.index[0])
    near = [name for name in _near(comparison, TOLD_APART) if name != best]
    worse = [str(name) for name in comparison.index if name != best and name not in near]
    said = dict(zip([*near, *worse], _how_much_lower(comparison, [*near, *worse]), strict=True))
    if near:
        text = (
            f"Left-out rows are predicted best by {best}, but {_and(said[n] for n in near)} "
            f"cannot be told apart from it. {recommended} is recommended, the simplest within one "
            f"standard error of the best, or {SMALL_DIFFERENCE:g} of elpd."
        )
    else:
        text = f"Left-out rows are predicted best by {best}, which is recommended."
    verb = "predicts" if len(worse) == 1 else "predict"
    return f"{text} {_and(said[n] for n in worse)} {verb} worse." if worse else text


def _how_much_lower(comparison: pd.DataFrame, names: Iterable[str]) -> list[str]:
    """Each name with its distance from the best; what the numbers are is said with the first."""
    rows = comparison.loc[list(names), ["elpd_diff", "dse"]].abs()
    said = [f"{name} ({d:.1f}, {se:.1f})" for name, d, se in rows.itertuples()]
    for name, d, se in list(rows.itertuples())[:1]:
        said[0] = f"{name} (elpd lower by {d:.1f}, standard error {se:.1f})"
    return said


def _and(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _says_shrinkage(table: pd.DataFrame, design: Design, partial: str) -> str:
    """Who was pulled furthest, from where to where."""
    (group,), term = design.groups, _pulled_term(design)
    pulled = _most_pulled(table, term).index
    most = table.loc[pulled[:MOST_NAMED], ["no_pooling", "partial_pooling"]]
    named = [
        f"{group.factor} {level} from {_short(own)} to {_short(moved)}"
        for level, own, moved in most.droplevel(["factor", "term"]).itertuples()
    ]
    towards = _short(table["population"].xs(term, level="term").iloc[0])
    what = "intercept" if term == INTERCEPT else f"coefficient of {term}"
    text = f"{partial} pulls each level's own {what} towards {towards}"
    if named:
        text += f", furthest {', '.join(named)}"
    if silent := group.grouping.n_levels - len(pulled):
        text += f"; {silent} of {group.grouping.n_levels} levels cannot tell theirs alone"
    return f"{text}."


def _of_data(models: Mapping[str, Model]) -> Iterator[Finding]:
    """Notices of the designs, each once, with the models that it concerns unless it is all."""
    seen: dict[Finding, list[str]] = {}
    for name, model in models.items():
        for notice in model.notices:
            seen.setdefault(notice, []).append(name)
    for notice, names in seen.items():
        others = [name for name in models if name not in names]
        where = f" (in all but {others[0]})" if len(others) == 1 else f" (in {', '.join(names)})"
        where = where if others else ""
        yield Finding(notice.code, notice.severity, f"{notice.text}{where}.")
    groupings = next(iter(models.values())).design.groupings
    for factor, grouping in groupings.items():
        if grouping.n_levels < FEW_LEVELS:
            text = (
                f"{factor} has {grouping.n_levels} levels: how much they differ rests largely on "
                "the priors of the standard deviations."
            )
            yield Finding("few-levels", "warning", text)


def _of_fits(fits: Mapping[str, PosteriorFit], blups: Mapping[str, BlupFit]) -> Iterator[Finding]:
    for name, fit in fits.items():
        if not fit.status.is_trustworthy:
            yield Finding("doubtful-draws", "problem", f"{name}: {fit.status.sentence}")
        elif reason := fit.info.get("reason"):
            yield Finding("engine-fallback", "note", f"{name} was sampled by NUTS: {reason}.")
    for name, blup in blups.items():
        said = f"{name}, {blup.method}: {blup.status.sentence}"
        if not blup.status.is_trustworthy:
            yield Finding("doubtful-blups", "warning", said)
        elif blup.status.word == "singular":
            text = f"{said} Its BLUPs take that for certain; the posterior does not."
            yield Finding("singular-reml", "warning", text)


def _of_blups(table: pd.DataFrame, partial: str) -> Iterator[Finding]:
    """The widest gap between posterior mean and BLUP, where it is wide."""
    gap = (table["difference"].abs() / table["posterior_sd"]).dropna()
    if len(gap) and gap.max() > LARGE_GAP:
        worst: Any = gap.idxmax()
        factor, level, term = worst
        text = (
            f"{partial}: posterior means and BLUPs differ by up to {gap.max():.2f} posterior sds "
            f"({term} of {factor} {level}); compare_blups says how much is due to the priors."
        )
        yield Finding("posterior-differs-from-blups", "note", text)


def _of_comparison(
    fits: Mapping[str, PosteriorFit], said: Iterable[warnings.WarningMessage]
) -> Iterator[Finding]:
    told = {str(fit.info.get("reason")) for fit in fits.values() if fit.info.get("reason")}
    for text in dict.fromkeys(str(warning.message) for warning in said):
        if not any(reason in text for reason in told):
            yield Finding("comparison", "warning", f"{text.rstrip('.')}.")
    n = next(iter(fits.values())).design.n
    if n < FEW_ROWS:
        text = f"with {n} rows the standard errors of differences in elpd are rough."
        yield Finding("few-rows", "note", text)


@contextmanager
def _heard() -> Iterator[list[warnings.WarningMessage]]:
    """Our own warnings as they come, to stand among the findings; others go where they went."""
    said: list[warnings.WarningMessage] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", HierpoolWarning)
        yield said
    for warning in caught:
        if issubclass(warning.category, HierpoolWarning):
            said.append(warning)
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


@contextmanager
def _bar(steps: int, shown: bool) -> Iterator[Callable[[str], None]]:
    """Gives what is to be called as each step begins; a bar comes up on stderr after a second."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    audience = shown and (console.is_terminal or console.is_jupyter)
    bar = Progress(console=console, transient=True, disable=not audience)
    task = bar.add_task("", total=steps)
    begun: list[str] = []

    def begin(name: str) -> None:
        bar.update(task, description=name, completed=len(begun))
        begun.append(name)

    timer = threading.Timer(1.0, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield begin
    finally:
        timer.cancel()
        timer.join()
        bar.stop()


def _scores(comparison: pd.DataFrame) -> pd.DataFrame:
    """The comparison with the digits that its standard errors leave, as text."""
    digits = {"elpd": 1, "se": 1, "elpd_diff": 1, "dse": 1, "weight": 2, "p": 1}
    return pd.DataFrame({c: comparison[c].map(f"{{:.{k}f}}".format) for c, k in digits.items()})


def _text(table: pd.DataFrame) -> str:
    with pd.option_context("display.width", 120, "display.max_columns", 20):
        return table.to_string(float_format=_number, na_rep="")


def _number(value: float) -> str:
    """Four digits that matter."""
    return _digits(value, 4)


def _short(value: float) -> str:
    """Three digits that matter, for a sentence."""
    return _digits(value, 3)


def _digits(value: float, count: int) -> str:
    """So many digits that matter; whole numbers are written out, tiny ones with an exponent."""
    if not np.isfinite(value) or value == 0:
        return f"{value:g}"
    if not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{count - 1}e}"
    return f"{value:.{max(count - 1 - int(np.floor(np.log10(abs(value)))), 0)}f}"
