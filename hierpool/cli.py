"""The command line: ``hierpool study``, ``hierpool tour``, ``hierpool datasets``.

A client of the door, like any user. Nothing heavy is imported before a command needs it, so that
``--help`` and an error in the arguments come at once.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from typer.core import TyperGroup

import hierpool as hp
from hierpool.core.errors import (
    ArgumentError,
    FitError,
    FormulaError,
    HierpoolError,
    StudyInterrupted,
    listed,
)
from hierpool.core.printable import one_line, printable
from hierpool.core.writing import check_file, make_folder

if TYPE_CHECKING:
    import pandas as pd

ReportStyle = Literal["brief", "full"]
Prob = Annotated[
    float | None, typer.Option(help="Probability of all intervals, e.g. 0.9.", show_default="0.95")
]
USER_ERROR, FIT_ERROR, INTERRUPTED = 2, 1, 130  # exit codes
_YOUNG_OBJECTS = (
    100_000  # made before garbage is looked for: at 2,000 it is a second of imports and pictures
)
CLOCK = 2.0  # seconds by which a file system may round the time of a file
_USAGE_ERROR: Any = typer.BadParameter.__base__  # click's, which typer may bring along


class _Commands(TyperGroup):
    """Typer's commands, with errors in the arguments reported in one line."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run; as a program unless ``standalone_mode=False`` is passed."""
        is_program = extra.pop("standalone_mode", True)
        run: Any = super().main
        if not is_program:
            return run(*args, standalone_mode=False, **extra)
        try:
            code = run(*args, standalone_mode=False, **extra)
        except _USAGE_ERROR as error:
            where = f" See {error.ctx.command_path} --help." if error.ctx else ""
            _fail(f"{error.format_message().rstrip('.')}.{where}")
        except typer.Abort:
            _fail("stopped.", INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


app = typer.Typer(
    name="hierpool",
    cls=_Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Bayesian hierarchical models of grouped data: how much to pool, and what it changes.",
)


def main() -> None:
    """Run the command line; the entry point of the package."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a name that the terminal cannot write must stop nothing
            reconfigure(errors="replace")
    gc.set_threshold(_YOUNG_OBJECTS)
    app()


def _version(asked: bool) -> None:
    if asked:
        print(f"hierpool {hp.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def hierpool(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Bayesian hierarchical models of grouped data: how much to pool, and what it changes."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def study(
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV or TSV (.gz, .bz2, .xz, .zip, .zst too), .xlsx or Parquet. A folder, or a "
            "pattern such as 'data/*.parquet', is not read into memory: its sums are taken."
        ),
    ],
    formula: Annotated[
        str,
        typer.Argument(
            help='Without random effects, e.g. "volume ~ time", or with the largest ones to '
            'consider, "score ~ x + (x | school) + (1 | pupil)".'
        ),
    ],
    group: Annotated[
        list[str] | None,
        typer.Option("--group", "-g", help="Column that names the groups; again for a second one."),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(help="Grouping column whose pooling is varied, the others held; default all."),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(
            help="bernoulli, binomial, poisson, negbinomial, ordinal, student, gamma, beta, ...",
            show_default="gaussian",
        ),
    ] = None,
    link: Annotated[
        str | None, typer.Option(help="logit, probit, ...", show_default="the family's usual one")
    ] = None,
    trials: Annotated[
        str | None, typer.Option(help="Column of the numbers of trials of a binomial response.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Column of weights: residual variance sigma^2 / weight.")
    ] = None,
    known_se: Annotated[
        str | None, typer.Option("--known-se", help="Column of known standard errors of the rows.")
    ] = None,
    residual: Annotated[
        list[str] | None,
        typer.Option(
            help="How residuals of a group are correlated, e.g. ar1(day | pig); or words to compare: "
            "cs,ar1,us. Again for another one."
        ),
    ] = None,
    sigma: Annotated[
        list[str] | None,
        typer.Option(
            help="What residual sds depend on: '~ diet', '~ log(day)', '~ day + (1 | pig)'. Again for "
            "another one to compare."
        ),
    ] = None,
    over: Annotated[
        str | None,
        typer.Option(
            help="Times and groups that words of --residual are over, e.g. 'day | pig'.",
            show_default="recognised",
        ),
    ] = None,
    compare_rows: Annotated[
        bool,
        typer.Option(
            "--compare-rows",
            help="Of a folder or pattern: compare predictions of single rows too, which reads the "
            "files twice more.",
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results.", show_default="<file>-hierpool")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Also write one HTML page for colleagues, e.g. trial.html."),
    ] = None,
    report_style: Annotated[
        ReportStyle, typer.Option(help="brief: about three pages on paper; full: everything.")
    ] = "brief",
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed, to repeat the same draws.", show_default="a fresh one"),
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, exact or nuts.")] = "auto",
    draws: Annotated[int, typer.Option(help="Draws of each chain.")] = 1000,
    chains: Annotated[int, typer.Option(help="Number of chains.")] = 4,
    delimiter: Annotated[
        str | None, typer.Option(help="Column separator.", show_default="recognised")
    ] = None,
    decimal: Annotated[
        str | None, typer.Option(help="Decimal sign, . or ,", show_default="recognised")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Text encoding, e.g. cp1250.", show_default="recognised")
    ] = None,
    sheet: Annotated[
        str | None, typer.Option(help="Sheet of a workbook.", show_default="the only one")
    ] = None,
    prob: Prob = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the folder only.")] = False,
) -> None:
    """Fit models from complete to no pooling, compare them, and write the results."""
    with _plain_errors() as folders, _intervals(prob):
        how = {"delimiter": delimiter, "decimal": decimal, "encoding": encoding, "sheet": sheet}
        groups = group or _grouping_columns(formula)
        data = str(file) if _is_several(file) else _table(file, how, labels=groups)
        if not groups:
            columns = listed(_names(data), most=12)
            raise ArgumentError(
                f"give the grouping column: --group NAME. The columns are {columns}.",
                "group-missing",
            )
        folder = _folder(out if out is not None else Path(f"{_stem(file)}-hierpool"), "--out")
        folders.append(folder)
        if report is not None:  # asked before the work
            _folder(report.parent, "--report")
            check_file(report)
        done = hp.study(
            formula,
            data,
            group=group or None,
            vary=vary or None,
            seed=seed,
            engine=engine,
            draws=draws,
            chains=chains,
            progress=not quiet,
            family=family,
            link=link,
            trials=trials,
            weights=weights,
            known_se=known_se,
            residual=_structures(residual),
            sigma=sigma[0] if sigma and len(sigma) == 1 else sigma or None,
            over=over,
            compare_rows=compare_rows,
        )
        done.save(folder, progress=not quiet)
        if report is not None:
            done.report(report, style=report_style, progress=not quiet)
    if quiet:
        print(one_line(str(folder)))
        return
    print(f"{done}\n\nSeed {done.seed}.", end=" ")
    print(one_line(f"Tables, figures and this summary are in {folder}"))
    if report is not None:
        print(one_line(f"The report is {report}: open it in a browser."))


@app.command()
def tour(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("hierpool-tour"),
    seed: Annotated[int, typer.Option(min=0, help="Repeats the same draws.")] = 1,
    prob: Prob = None,
) -> None:
    """Show a complete analysis, from table to report, of bundled simulated data."""
    with _plain_errors() as folders, _intervals(prob):
        folder = _folder(out, "--out")
        folders.append(folder)
        data, about = hp.datasets.load("boars"), hp.datasets.about("boars")
        print(_welcome(len(data), data["boar"].nunique()))
        done = hp.study("volume ~ time", data, group="boar", seed=seed)
        done.save(folder)
        saved = folder / "recommended.nc"
        done.fit.save(saved)
        page = done.report(folder / "report.html")
    truth = ", ".join(f"{name} = {value:g}" for name, value in about.truth.items())
    print(f"\n{done}\n\nThe data are simulated, with the true values {truth}.")
    print(f"The report is {page}: open it in a browser, or send it to a colleague.")
    print(f"Tables, figures and this summary are in {folder}, and a fit is in {saved}:")
    print(f"    import hierpool as hp\n    fit = hp.load_fit({str(saved)!r})")
    print('With your own table: hierpool study FILE "response ~ predictor" --group COLUMN')


@app.command()
def datasets(
    name: Annotated[str | None, typer.Argument(help="A data set, to read about it.")] = None,
) -> None:
    """List the bundled data sets, or describe one and its source."""
    with _plain_errors():
        if name is not None:
            print(hp.datasets.about(name))
            return
        pages = [hp.datasets.about(each) for each in hp.datasets.names()]
    wide = max(len(page.label) for page in pages)
    for page in pages:
        print(f"{page.label:<{wide}}  {page.rows:>6} rows  {page.title}")


def _intervals(prob: float | None) -> AbstractContextManager[object]:
    """Context in which all intervals have the probability that was asked for."""
    return nullcontext() if prob is None else hp.options(prob=prob)


def _table(file: Path, how: Mapping[str, str | None], labels: Sequence[str]) -> pd.DataFrame:
    """The table; assumptions made in reading it are printed on stderr."""
    from hierpool.core.row_labels import OF_FILE
    from hierpool.formula.files import read_table

    read = read_table(file, **how, labels=labels)
    if read.assumed:
        print(one_line(f"hierpool: {file.name}: {'; '.join(read.assumed)}."), file=sys.stderr)
    return read.frame.rename_axis(OF_FILE)


def _grouping_columns(formula: str) -> list[str]:
    """The columns of the random effects of a formula, which hold labels."""
    from hierpool.formula.parse import parse, split_factor

    return [column for factor in parse(formula).factors for column in split_factor(factor)]


def _structures(typed: Sequence[str] | None) -> str | list[str] | None:
    """Residual structures: ``cs,ar1`` are two, ``cs, sigma ~ sex`` is one."""
    found: list[str] = []
    for text in typed or ():
        words = [word.strip() for word in text.split(",")]
        found += words if all(map(str.isidentifier, words)) else [text]
    return found[0] if len(found) == 1 else found or None


def _is_several(file: Path) -> bool:
    """Whether it is a folder or a pattern, whose files are summed where they are."""
    return file.is_dir() or (not file.exists() and any(mark in str(file) for mark in "*?["))


def _names(data: pd.DataFrame | str) -> list[str]:
    from hierpool.tables.engines import columns_of, open_table

    return columns_of(open_table(data)) if isinstance(data, str) else list(data.columns)


def _stem(file: Path) -> str:
    from hierpool.formula.files import COMPRESSED

    if _is_several(file):
        parts = [p for p in file.parts if not any(mark in p for mark in "*?[/")]
        return parts[-1] if parts and parts[-1] != ".." else "study"
    return Path(file.stem).stem if file.suffix.lower() in COMPRESSED else file.stem


def _folder(folder: Path, option: str) -> Path:
    """The folder, made before the work begins."""
    return make_folder(folder, f"Give another with {option}.")


def _welcome(rows: int, levels: int) -> str:
    return (
        "A tour with bundled, simulated data.\n"
        f"How does volume change with time? The data are {rows} measurements of {levels} boars.\n"
        "Several models are fitted, from one line for all boars (complete pooling) to a separate line "
        "for each\n(no pooling), with partial pooling in between, and compared by how well they "
        "predict new data."
    )


@contextmanager
def _plain_errors() -> Iterator[list[Path]]:
    """Errors of the user are reported in one line; a formula keeps its caret.

    Gives a list for the folder of the results: an interrupt leaves in it what was done, and names
    it.
    """
    folders: list[Path] = []
    begun = time.time()
    try:
        yield folders
    except KeyboardInterrupt as error:
        _fail(_left(error, folders, begun), INTERRUPTED)
    except FormulaError as error:
        _fail(str(error))
    except HierpoolError as error:
        text = " ".join((error.in_file or str(error)).split("\n"))
        _fail(text, FIT_ERROR if isinstance(error, FitError) else USER_ERROR)


def _left(error: KeyboardInterrupt, folders: Sequence[Path], begun: float) -> str:
    """Write what an interrupted command has finished, and say so."""
    said = "interrupted"
    for folder in folders:
        if isinstance(error, StudyInterrupted):
            said = error.study.sentence
            try:
                error.study.save(folder)
            except HierpoolError as failed:
                said += f". {failed}"
        ours = (p for p in folder.rglob("*") if p.is_file() and p.stat().st_mtime >= begun - CLOCK)
        if files := sorted(str(p.relative_to(folder)) for p in ours):
            return f"{said}. Written to {folder}: {listed(files, most=20)}."
    return f"{said}. Nothing was written."


def _fail(text: str, code: int = USER_ERROR) -> NoReturn:
    print(printable(f"hierpool: {text}"), file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
