"""The command line: from a file to a folder, and an error in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import hierpool as hp
from hierpool import cli
from tests.support.cases import each

QUICK = ["--engine", "exact", "--draws", "100", "--chains", "2", "--seed", "1"]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in, with one table."""
    monkeypatch.chdir(tmp_path)
    hp.datasets.load("Dyestuff2").to_csv("dyes.csv", index=False)
    return tmp_path


def run(*arguments: object):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


def assert_refused(ran, *words: str) -> None:
    """One line on stderr, exit code 2, no traceback."""
    assert ran.exit_code == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith("hierpool: ")
    assert ran.stderr.count("\n") == 1
    for word in words:
        assert word in ran.stderr


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A study of a file from the command line: what it printed, and where it was run."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("studied")
        patch.chdir(folder)
        hp.datasets.load("Dyestuff2").to_csv("dyes.csv", index=False)
        return run("study", "dyes.csv", "Yield ~ 1", "--group", "Batch", *QUICK), folder


def test_study_of_a_file_prints_the_summary_and_writes_the_folder(studied):
    ran, folder = studied
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert ran.stdout.startswith("dyes.csv: Yield ~ 1, 30 observations of 6 batches\n")
    assert ran.stdout.endswith("Seed 1. Tables, figures and this summary are in dyes-hierpool\n")
    assert (folder / "dyes-hierpool" / "summary.txt").read_text() in ran.stdout + "\n"
    assert (folder / "dyes-hierpool" / "tables" / "comparison.csv").exists()
    assert (folder / "dyes-hierpool" / "figures" / "shrinkage.png").exists()


def test_quiet_study_prints_the_folder_alone(here, monkeypatch):
    monkeypatch.setattr(hp, "study", _stand_in([]))
    ran = run("study", "dyes.csv", "Yield ~ 1", "-g", "Batch", "-q", "--out", "a/b")
    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, f"{Path('a/b')}\n", "")
    assert (here / "a" / "b" / "saved").exists()


def test_options_reach_the_study(here, monkeypatch):
    calls: list[dict] = []
    monkeypatch.setattr(hp, "study", _stand_in(calls))
    run("study", "dyes.csv", "Yield ~ 1", "-g", "Batch", "--weights", "w", *QUICK)
    (call,) = calls
    assert call.pop("data").shape == (30, 2)
    assert call == {
        "family": None,
        "link": None,
        "trials": None,
        "compare_rows": False,
        "formula": "Yield ~ 1",
        "group": ["Batch"],
        "vary": None,
        "residual": None,
        "sigma": None,
        "over": None,
        "seed": 1,
        "engine": "exact",
        "draws": 100,
        "chains": 2,
        "progress": True,
        "weights": "w",
        "known_se": None,
    }


@pytest.mark.slow
def test_known_standard_errors_are_taken_from_a_column(here):
    table = pd.read_csv("dyes.csv").groupby("Batch").mean().assign(se=2.0)
    table.to_csv("means.csv")
    ran = run("study", "means.csv", "Yield ~ 1", "-g", "Batch", "--known-se", "se", *QUICK)
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert ran.stdout.startswith("means.csv: Yield ~ 1, 6 observations of 6 batches\n")
    assert "residual" not in (here / "means-hierpool/tables/variance_components.csv").read_text()


def _stand_in(calls: list[dict]):
    """In the place of hp.study: notes what it was asked, writes one empty file."""

    class Done:
        seed = 1

        def save(self, folder, *, progress):
            (folder / "saved").touch()

    def study(formula, data, **options):
        calls.append({"formula": formula, "data": data, **options})
        return Done()

    return study


def test_assumptions_are_reported_the_answer_is_that_of_the_plain_table_and_a_report_is_written(
    here, studied
):
    plain, _ = studied
    table = pd.read_csv("dyes.csv")
    table.to_csv("de.csv", index=False, sep=";", decimal=",", encoding="utf-8-sig")
    asked = ["--report", "out/dyes.html"]
    german = run("study", "de.csv", "Yield ~ 1", "-g", "Batch", *asked, *QUICK)
    page = Path("out/dyes.html")
    assert german.exit_code == 0
    told = plain.stdout.replace("dyes.csv", "de.csv").replace("dyes-h", "de-h")
    assert german.stdout == f"{told}The report is {page}: open it in a browser.\n"
    assert german.stderr.startswith("hierpool: de.csv: cells are separated by semicolons; decimal")
    assert german.stderr.count("\n") == 1
    assert "30 observations of 6 batches (de.csv)" in (here / page).read_text(encoding="utf-8")


def test_options_for_reading_reach_the_file(here, monkeypatch):
    monkeypatch.setattr(hp, "study", _stand_in(calls := []))
    Path("t.csv").write_text("y,x|g\n1,5|a\n2,5|b\n", encoding="cp850")
    asked = run("study", "t.csv", "y ~ 1", "-g", "g")
    assert_refused(asked, "--delimiter")
    how = ["--delimiter", "|", "--decimal", ",", "--encoding", "cp850"]
    assert run("study", "t.csv", "y ~ 1", "-g", "g", *how).exit_code == 0
    assert calls[0]["data"]["y,x"].tolist() == [1.5, 2.5]


def test_parquet_without_pyarrow_says_what_to_install(here, monkeypatch):
    Path("dyes.parquet").touch()
    monkeypatch.setattr("hierpool.formula.files.find_spec", lambda name: None)
    ran = run("study", "dyes.parquet", "Yield ~ 1", "-g", "Batch")
    assert_refused(ran, 'pip install "hierpool[parquet]"')


@each(
    ("arguments", "words"),
    [
        (["dye.csv", "Yield ~ 1", "-g", "Batch"], ["no file 'dye.csv'", "did you mean 'dyes.csv'"]),
        (["dyes.csv", "Yield ~ 1"], ["--group NAME", "'Batch', 'Yield'"]),
        (["dyes.csv", "Yield ~ 1", "-g", "batch"], ["did you mean 'Batch'"]),
        (["dyes.csv", "yield_ ~ 1", "-g", "Batch"], ["did you mean 'Yield'"]),
        (["dyes.csv", "Yield ~ 1", "-g", "Batch", "--engine", "fast"], ["'auto', 'exact', 'nuts'"]),
        (["dyes.csv", "Yield ~ 1", "-g", "Batch", "--draws", "0"], ["draws=0"]),
        (["dyes.csv", "Yield ~ 1", "-g", "Batch", "--draws", "x"], ["--draws", "study --help"]),
        (["dyes.csv"], ["Missing argument", "study --help"]),
        (["dyes.ods", "y ~ x", "-g", "g"], ["'dyes.ods'", ".csv", ".xlsx", ".parquet"]),
        (["dyes.csv", "y ~ x", "-g", "g", "--out", "dyes.csv"], ["'dyes.csv'", "--out"]),
    ],
)
def test_what_is_wrong_is_reported_in_one_line(arguments, words, here):
    assert_refused(run("study", *arguments), *words)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("empty.csv", b"", "is empty"),
        ("broken.csv.gz", b"no gzip", "cannot be read"),
        ("dos.csv", "größe,y\n1,2\n".encode("cp850"), "--encoding"),
        ("broken.parquet", b"PAR1", "cannot be read"),
        ("ragged.csv", b"y,g\n1,a\n2\n", "line 3"),
    ],
)
def test_file_that_is_not_what_its_name_says_is_refused(name, content, word, here):
    Path(name).write_bytes(content)
    assert_refused(run("study", name, "y ~ 1", "-g", "g"), name, word)


def test_formula_error_keeps_its_caret(here):
    ran = run("study", "dyes.csv", "Yield ~ 1 ! Batch", "-g", "Batch")
    assert (ran.exit_code, ran.stdout) == (2, "")
    first, formula, caret, *_ = ran.stderr.splitlines()
    assert first.startswith("hierpool: '!' is not allowed")
    assert formula[caret.index("^")] == "!"


def test_fault_of_ours_is_not_hidden(here, monkeypatch):
    def fail(*args, **options):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(hp, "study", fail)
    assert isinstance(
        run("study", "dyes.csv", "Yield ~ 1", "-g", "Batch").exception, ZeroDivisionError
    )


def test_tour_says_the_data_are_simulated_and_leaves_a_fit_behind(here, monkeypatch):
    monkeypatch.setattr(hp.datasets, "load", lambda name, load=hp.datasets.load: load(name)[:96])
    ran = run("tour", "--out", "walk", "--prob", "0.9")
    assert ran.exit_code == 0
    assert "90 %" in ran.stdout
    assert "hp.options.prob = 0.9" in (here / "walk" / "report.html").read_text(encoding="utf-8")
    assert "bundled, simulated data" in ran.stdout.splitlines()[0]
    assert "boars (simulated): volume ~ time, 96 observations of 24 boars" in ran.stdout
    assert "slope of time = 10" in ran.stdout
    assert f"The report is {Path('walk') / 'report.html'}" in ran.stdout
    assert (here / "walk" / "report.html").stat().st_size > 50_000
    (saved,) = (here / "walk").glob("*.nc")
    assert f"hp.load_fit({str(Path('walk') / saved.name)!r})" in ran.stdout
    assert hp.load_fit(saved).design.label == "boars (simulated)"


def test_datasets_are_listed_and_reported_about():
    listed = run("datasets")
    assert listed.exit_code == 0
    assert len(listed.stdout.splitlines()) == len(hp.datasets.names())
    assert "boars (simulated)" in listed.stdout
    page = run("datasets", "sleepstudy")
    assert page.stdout == f"{hp.datasets.about('sleepstudy')}\n"
    assert_refused(run("datasets", "boas"), "did you mean 'boars'")


def test_version_and_help_are_shown():
    assert run("--version").stdout == f"hierpool {hp.__version__}\n"
    for arguments in ([], ["--help"]):
        shown = run(*arguments)
        assert shown.exit_code == 0
        assert all(command in shown.stdout for command in ("study", "tour", "datasets"))
    assert_refused(run("studdy"), "No such command 'studdy'")


def test_program_fails_in_one_line_with_code_2(here):
    command = [sys.executable, "-m", "hierpool.cli", "study", "none.tsv", "y ~ x", "-g", "g"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path.cwd())
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "hierpool: there is no file 'none.tsv'.  [no-such-file]\n"


def test_help_waits_for_no_heavy_library():
    code = (
        "import sys\nfrom hierpool import cli\nsys.argv = ['hierpool', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'numpy', 'pandas', 'scipy', 'xarray', 'arviz', 'pymc', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_stray_cells_are_to_be_mended_in_the_file(here):
    """Nobody can type pandas in a shell."""
    lines = ["y,x,g", *(f"{k}.5,{k % 3},{'abc'[k % 3]}" for k in range(12)), "broken,1,a", "9,2,b"]
    Path("stray.csv").write_text("\n".join(lines))
    ran = run("study", "stray.csv", "y ~ x", "--group", "g")
    assert_refused(ran, "'broken' in row 12 is not", "Correct this cell in the file, or empty it")
    assert "pandas" not in ran.stderr


@each(
    ("formula", "family", "words"),
    [
        (
            "falls ~ x",
            ("--family", "poisson"),
            "-1 in row 1, counted from 0 under the header, which",
        ),
        ("y ~ log(z)", (), "(-inf) in row 0, counted from 0 under the header."),
    ],
)
def test_rows_of_a_file_come_with_how_they_are_counted(formula, family, words, here):
    lines = ["y,x,z,falls,g", "1,0,0,2,a", "2,1,1,-1,a", "3,2,2,1,b", "5,1,2,0,b"]
    Path("counted.csv").write_text("\n".join(lines))
    ran = run("study", "counted.csv", f"{formula} + (1 | g)", *family)
    assert_refused(ran, words)
