"""Models of a table that is not in memory are compared by single rows, as those of its rows are."""

from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest

import hierpool as hp
from hierpool.core.errors import HierpoolError
from hierpool.tables.engines import open_table
from hierpool.tables.row_scores import ScoredTable
from tests.tables.test_collect import ROWS, lazy
from tests.tables.test_row_scores import fitted, in_engine

MODELS = {
    "slopes": ("y ~ x + t + (x | g)", {}),
    "nested": ("y ~ x + t + (1 | g)", {}),
    "other keys": ("y ~ x * t + (1 | g) + (1 | h)", {}),
    "keys only": ("y ~ t * wave + (1 | g)", {}),
    "another number": ("y ~ x + z + (1 | g)", {}),
    "weights": ("y ~ x + (1 | g)", {"weights": "w"}),
    "no groups": ("y ~ x", {}),
}
NUMBERS = ["elpd_diff", "dse", "elpd", "se", "p"]
SOME = {"progress": False, "chains": 2, "draws": 300}


def by_name(names, data):
    return {name: fitted(MODELS[name][0], data, **MODELS[name][1]) for name in names}


def sampled(scores, m, seed):
    """The same with a sample of the rows, all of which were scored."""
    own = np.random.default_rng(seed).choice(scores.n, m, replace=False)
    return replace(scores, sampled=scores.sampled[:, own], approximate=scores.approximate[:, own])


@pytest.fixture(scope="module")
def two():
    return by_name(["slopes", "another number"], lazy())


def test_two_models_are_compared_as_rows_in_memory_are(two, monkeypatch):
    """Other keys and numbers, in blocks of cells of each: with all rows checked the numbers are equal."""
    monkeypatch.setattr("hierpool.tables.row_scores._NUMBERS", 2000)
    expected = hp.compare(by_name(two, ROWS))
    found = hp.compare(two, table=lazy(), n_checked=len(ROWS), progress=False)
    assert list(found.index) == list(expected.index)
    np.testing.assert_allclose(found[NUMBERS], expected[NUMBERS], rtol=1e-5, atol=1e-4)
    assert (found[["subsampling_se", "subsampling_dse"]] == 0).all(axis=None)
    assert found.attrs["predicts"] == expected.attrs["predicts"]
    some = hp.compare(two, table=lazy(), n_checked=300, progress=False)
    assert "corrected by 300 of its 3,000 rows, drawn at random" in str(some)
    apart = abs(some["elpd_diff"] - expected["elpd_diff"]).iloc[1]
    assert 0 < apart < 4 * some["subsampling_dse"].iloc[1] < 1
    np.testing.assert_allclose(some["dse"], expected["dse"], rtol=1e-3)
    by_group = hp.compare(two, by="g")
    np.testing.assert_allclose(
        by_group["elpd"], hp.compare(by_name(two, ROWS), by="g")["elpd"], atol=0.05
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("engine", ["polars", "duckdb", "ibis"])
def test_many_models_are_compared_as_rows_in_memory_are(engine):
    """Nested, with other keys and atoms, other weights, without groups: differences and their errors."""
    table = in_engine(ROWS, engine)
    fits = by_name(MODELS, table)
    expected = hp.compare(by_name(MODELS, ROWS))
    found = hp.compare(fits, table=table, progress=False)
    assert list(found.index) == list(expected.index)
    for name, error in {"elpd_diff": "subsampling_dse", "elpd": "subsampling_se"}.items():
        assert (abs(found[name] - expected[name]) <= 4 * found[error] + 0.002).all()
    np.testing.assert_allclose(found["dse"], expected["dse"], rtol=1e-3)
    np.testing.assert_allclose(found["p_worse"].iloc[1:], expected["p_worse"].iloc[1:], atol=1e-3)
    assert hp.plots.comparison(found) is not None


@pytest.mark.slow
def test_the_sampling_error_of_a_difference_is_honest():
    """Two of its standard errors hold the truth as often as they say, and dse hardly moves."""
    fits = by_name(["slopes", "nested", "other keys"], lazy())
    scored = ScoredTable.of(list(fits.values()), open_table(lazy()))
    every = scored.sums(*scored.sampled(len(ROWS), 0))
    away = []
    for seed in range(500):
        some = sampled(every, 100, seed)
        off = (some.elpd - some.elpd[0]) - (every.elpd - every.elpd[0])
        away.append(off[1:] / some.sampling_dse(0)[1:])
        np.testing.assert_allclose(some.dse(0), every.dse(0), rtol=5e-3)
    held = (np.abs(away) < 2).mean(axis=0)
    assert (held > 0.90).all()
    assert (held < 0.99).all()


@pytest.mark.slow
def test_a_close_pair_keeps_the_digits_of_its_difference():
    """The standard error of a difference of a hundredth, of a response at 1e9."""
    rows = ROWS.assign(y=ROWS["y"] + 1e9)
    formulas = {"one": "y ~ x + t + (x | g)", "other": "y ~ x + t + z + (x | g)"}
    fits = {
        name: {k: hp.Model(f, data).fit(seed=1, **SOME) for k, f in formulas.items()}
        for name, data in {"sums": pl.from_pandas(rows).lazy(), "rows": ROWS}.items()
    }
    found = hp.compare(fits["sums"], table=pl.from_pandas(rows).lazy(), progress=False)
    expected = hp.compare(fits["rows"]).loc[found.index]
    np.testing.assert_allclose(found["dse"], expected["dse"], rtol=0.02)
    np.testing.assert_allclose(found["elpd_diff"], expected["elpd_diff"], atol=0.05)


def test_moments_of_days_and_saved_fits_are_compared(two, tmp_path):
    """Sums of two halves added up, and fits that were saved and read, of one table."""
    formula = MODELS["slopes"][0]
    first = hp.collect(formula, lazy(ROWS[:1500]), progress=False)
    second = hp.collect(formula, lazy(ROWS[1500:]), like=first, progress=False)
    two["another number"].save(tmp_path / "a.nc")
    fits = {
        "slopes": hp.Model(first + second).fit(seed=1, **SOME),
        "another number": hp.load_fit(tmp_path / "a.nc"),
    }
    found = hp.compare(fits, table=lazy(), n_checked=50, progress=False)
    expected = hp.compare(two, table=lazy(), n_checked=50, progress=False)
    np.testing.assert_allclose(found["elpd_diff"], expected["elpd_diff"], rtol=1e-3)
    assert hp.compare(fits, by="g")["elpd_diff"].iloc[1] < 0


def test_what_cannot_be_compared_is_told(two):
    """And what the messages say to type works."""
    holes = ROWS.astype({"wave": float})
    holes.loc[[3, 5], "z"], holes.loc[[7, 9], "wave"] = np.nan, np.nan
    apart = {k: fitted(f"y ~ {k} + (1 | g)", lazy(holes)) for k in ("z", "wave")}
    (name, one), *_ = two.items()
    bad = {
        "needs-rows": lambda: hp.compare(two),
        "table-not-needed": lambda: hp.compare(two, by="g", table=lazy()),
        "one-fit": lambda: hp.compare({name: one}, table=lazy()),
        "collected-apart": lambda: hp.compare(
            {name: one, "b": fitted("y ~ x", ROWS)}, table=lazy()
        ),
        "different-response": lambda: hp.compare(
            {name: one, "log": fitted("log(y + 100) ~ x", lazy())}, table=lazy()
        ),
        "other-table": lambda: hp.compare(two, table=lazy(ROWS[:-1])),
        "different-rows": lambda: hp.compare(apart, table=lazy(holes)),
    }
    said = {}
    for code, ask in bad.items():
        with pytest.raises(HierpoolError) as caught:
            ask()
        assert caught.value.code == code
        said[code] = str(caught.value)
    assert "2,996 are complete for all, as values are missing in z, wave" in said["different-rows"]
    assert "hp.compare(fits, table=table)" in said["needs-rows"]
    with pytest.raises(HierpoolError, match="different-rows"):
        hp.compare(apart, by="g")
    whole = lazy(holes.dropna())
    fits = {k: fitted(f"y ~ {k} + (1 | g)", whole) for k in apart}
    assert len(hp.compare(fits, table=whole, n_checked=50, progress=False)) == 2
    with pytest.raises(HierpoolError, match=r"moments = hp\.collect.*collected-apart"):
        hp.lrt(*(hp.Model(MODELS[k][0], lazy()).ml() for k in ("no groups", "slopes")))
    changed = lazy(ROWS.assign(y=ROWS["y"].where(ROWS.index > 0, 99.0)))
    for ask in (
        lambda: hp.compare(two, table=changed, progress=False),
        lambda: hp.loo_from_table(one, changed, progress=False),
    ):
        with pytest.raises(HierpoolError, match=r"y has other values in the table .*in 1 of 75"):
            ask()


@pytest.mark.slow
def test_what_was_collected_apart_is_told():
    """Tests, and single rows of counts, need one collection; new groups do not."""
    rows = lazy(ROWS.assign(yes=ROWS["y"] > 12))
    formulas = {"t": "yes ~ t + (1 | g)", "wave": "yes ~ wave + (1 | g)"}
    given = {"family": "bernoulli"}
    fits = {k: fitted(f, rows, **given) for k, f in formulas.items()}
    for ask in (
        lambda: hp.compare(fits),
        lambda: hp.compare(fits, table=rows),
        lambda: hp.scores(fits),
    ):
        with pytest.raises(HierpoolError, match=r"moments = hp\.collect.*collected-apart"):
            ask()
    assert "not-comparable" not in hp.check(fits).codes
    moments = hp.collect("yes ~ t + wave + (1 | g)", rows, progress=False, **given)
    once = {k: fitted(f, moments) for k, f in formulas.items()}
    found, by_group = hp.compare(once), hp.compare(fits, by="g")
    memory = {
        k: fitted(f, pd.DataFrame(rows.collect().to_pandas()), **given) for k, f in formulas.items()
    }
    expected = hp.compare(memory)
    np.testing.assert_allclose(found[["elpd", "dse"]], expected[["elpd", "dse"]], rtol=0.01)
    assert list(by_group.index) == list(hp.compare(memory, by="g").index)
