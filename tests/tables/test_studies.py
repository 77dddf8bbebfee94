"""A study of a table that is not in memory: the models and answers of its rows, from one collection."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import hierpool as hp
from hierpool.bayes.quadrature.limits import beyond
from hierpool.cli import app
from hierpool.core.families.table import resolve
from hierpool.formula.build import CellRows, build_design, encode
from hierpool.formula.neighbours import centred, without_correlation
from hierpool.studies.ladder import ladder, widest
from hierpool.studies.screening import not_tried

FORMULA = "y ~ x + t"


def table():
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(12), 25)
    x, t = rng.normal(20, 4, len(g)), np.array(["a", "b"])[rng.integers(0, 2, len(g))]
    slope = 0.5 + rng.normal(0, 0.3, 12)[g]
    y = 5 + slope * (x - 20) + (t == "b") + rng.normal(0, 2, 12)[g] + rng.normal(0, 1, len(g))
    return pd.DataFrame({"y": y, "x": x, "t": t, "g": g, "yes": (y > 5).astype(int)})


ROWS = table()


def lazy():
    return pl.from_pandas(ROWS).lazy()


def test_one_collection_has_every_model_of_a_study():
    spec = widest(FORMULA, list(ROWS.columns), "g", {})
    rows = CellRows(hp.collect(spec, lazy(), progress=False).cells)
    found = ladder(FORMULA, rows, "g", None, {})
    expected = ladder(FORMULA, ROWS, "g", None, {})
    assert list(found.models) == list(expected.models)
    largest = found.models[found.largest].design
    made, moved = centred(largest, "g")
    assert moved == ("x",)
    assert centred(expected.models[found.largest].design, "g")[0] == made
    one = encode(without_correlation(made, "g"), rows)
    other = build_design(without_correlation(made, "g"), ROWS)
    assert one.terms == other.terms
    np.testing.assert_allclose(one.schema.column_means, other.schema.column_means, atol=1e-13)
    for each in (one, other):  # the same criterion: sums of squares of the centred columns
        weights = each.row_counts
        squares = np.average(each.observations.Z["g"] ** 2, axis=0, weights=weights)
        np.testing.assert_allclose(squares[1], ROWS["x"].var(ddof=0), rtol=1e-12)


@pytest.mark.slow
def test_a_study_of_sums_is_that_of_rows(tmp_path):
    question, settings = "y ~ x", {"seed": 1, "draws": 400, "progress": False}
    found = hp.study(question, lazy(), "g", **settings)
    expected = hp.study(question, ROWS, "g", **settings)
    assert found.recommended == expected.recommended
    assert list(found.models) == list(expected.models)
    for name in ("answer", "shrinkage", "variance_components", "compare_blups"):
        one, other = found.tables()[name], expected.tables()[name]
        one, other = (t.select_dtypes("number").to_numpy(float) for t in (one, other))
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6, err_msg=name)
    elpd = [s.comparison_by_group["g"]["elpd"].drop("no_pooling") for s in (found, expected)]
    np.testing.assert_allclose(*(e.sort_index() for e in elpd), atol=0.1)
    assert "rows-checked-in-sample" in found.findings.codes
    assert found.comparison.empty
    assert "comparison" not in found.tables()
    assert str(found).endswith("hp.compare(study.fits, table=table)")
    by_row = hp.study(question, lazy(), "g", **settings, compare_rows=True)
    known = expected.comparison.loc[by_row.comparison.index]
    np.testing.assert_allclose(
        by_row.comparison[["elpd_diff", "dse"]], known[["elpd_diff", "dse"]], atol=0.15
    )
    assert "by a query and 300 rows" in str(by_row)
    page = by_row.report(tmp_path / "rows.html", style="full").read_text(encoding="utf-8")
    assert "Single observations were scored by one query of their table" in page
    assert "compare_rows=True" in page
    assert "left-out observations" in page
    page = found.report(tmp_path / "r.html", style="full").read_text(encoding="utf-8")
    assert "Single observations were not predicted: the study was made from sums" in page
    assert "Residuals were checked in all 300 rows" in page
    assert "left-out observations" not in page
    assert {"effects", "comparison", "shrinkage"} <= set(found.figures())


@pytest.mark.slow
def test_a_study_of_counts_scores_rows_too():
    rows = pl.from_pandas(ROWS.assign(x=ROWS["x"].round(-1))).lazy()
    settings = {"family": "bernoulli", "seed": 1, "draws": 300, "progress": False}
    found = hp.study("yes ~ 1", rows, "g", **settings)
    assert len(found.comparison) == len(found.models)
    assert set(found.comparison_by_group) == {"g"}


@pytest.mark.slow
def test_a_pattern_of_files_is_studied_from_the_shell(tmp_path, monkeypatch, capsys):
    pytest.importorskip("duckdb")
    (tmp_path / "rows").mkdir()
    ROWS[:150].to_parquet(tmp_path / "rows" / "one.parquet")
    ROWS[150:].to_parquet(tmp_path / "rows" / "two.parquet")
    monkeypatch.chdir(tmp_path)
    asked = ["study", "rows/*.parquet", "y ~ x", "--group", "g", "--seed", "1", "--draws", "300"]
    asked.append("--compare-rows")
    app([*asked, "--report", "r.html"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "rows/*.parquet: y ~ x, 300 observations of 12 groups" in said
    assert "by a query and 300 rows" in said
    assert (tmp_path / "rows-hierpool" / "summary.txt").exists()
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "data = &#34;rows/*.parquet&#34;" in page
    assert "compare_rows=True" in page


@pytest.mark.slow
def test_a_study_of_counts_stays_with_models_of_the_exact_engine():
    """Three slopes and an intercept would go to NUTS; what is left out is named."""
    rng = np.random.default_rng(1)
    g, (a, b, c) = rng.integers(0, 15, 3000), rng.integers(0, 2, (3, 3000))
    u = rng.normal(size=(15, 4)) * [0.5, 0.4, 0.3, 0.05]
    y = rng.poisson(np.exp(0.3 + u[g, 0] + (0.2 + u[g, 1]) * a + u[g, 2] * b + u[g, 3] * c))
    table = pl.DataFrame({"y": y, "a": a, "b": b, "c": c, "g": g}).lazy()
    known = {"family": resolve("poisson", None), "trials": None, "weights": None, "known_se": None}
    spec = widest("y ~ a + b + c", table.collect_schema().names(), "g", known)
    rows = CellRows(hp.collect(spec, table, progress=False).cells)
    found = ladder("y ~ a + b + c", rows, "g", None, known)
    assert found.models[found.largest].formula == "y ~ a + b + c + (a + b | g)"
    assert not any(beyond(model.design) for model in found.models.values())
    assert "no_pooling" not in found.models
    assert len(found.skipped) == 2
    (note,) = not_tried(found.formula, found.screened, counted=True)
    assert "at most 2 slopes" in note.text
    assert "the slope of c did not enter" in note.text
