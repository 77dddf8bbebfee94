"""Sums of a table give the numbers that its rows give."""

import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest

import hierpool as hp
from hierpool.bayes.exact.target import LogPosterior
from hierpool.core.errors import DataError, FormulaError, HierpoolError, StorageError
from hierpool.fits.stored_cells import pack_cells, unpack_cells
from hierpool.formula.build import build_design
from hierpool.reml.criterion import Criterion

N, GROUPS = 3000, 25


def table(offset=0.0, n=N, seed=1):
    rng = np.random.default_rng(seed)
    g, h = rng.integers(0, GROUPS, n), rng.integers(0, 4, n)
    x, t = rng.normal(50, 10, n), np.array(["a", "b", "c"])[rng.integers(0, 3, n)]
    u = rng.normal(size=(GROUPS, 2)) * [1.0, 0.1]
    y = 3 + 0.2 * x + (t == "b") + u[g, 0] + u[g, 1] * (x - 50) + 0.5 * h + rng.normal(0, 2, n)
    columns = {
        "g": g,
        "h": h,
        "t": t,
        "x": x + offset,
        "y": y + offset,
        "z": rng.normal(size=n),
        "wave": rng.integers(0, 6, n),
        "flag": rng.random(n) < 0.4,
        "w": rng.gamma(2.0, size=n) + 0.1,
        "se": rng.gamma(2.0, size=n) + 0.5,
    }
    return pd.DataFrame(columns)


ROWS = table()


def lazy(frame=ROWS):
    return pl.from_pandas(frame).lazy()


def deviances(design):
    """At some random thetas, by REML and by ML."""
    found = []
    for method in ("REML", "ML"):
        criterion = Criterion.from_design(design, method)
        size = len(np.unique(criterion.free.whose))
        found.append(criterion.deviance(np.random.default_rng(0).normal(size=(3, size)) * 0.3))
    return np.concatenate(found)


FORMULAS = [
    "y ~ x + t + (x | g)",
    "y ~ x * t + (1 | g) + (1 | h)",
    "y ~ x + I(x ** 2) + log(x + 100) + wave + (x || g)",
    "log(y + 1000) ~ x:t + (0 + x | g)",
    "y ~ center(x) + scale(z) + (center(x) | g)",
    "y ~ C(t, Sum) * x + flag + (t | g)",
    "y ~ x + offset(z) + (1 | g / h)",
    "y ~ C(wave) + center(wave) + standardize(log(x + 100)) + (1 | g)",
    "y ~ 0 + t + I(x > 50) + (1 | g)",
    "y ~ bs(wave, df=5) + poly(wave, 2):t + cr(flag + wave, df=3, constraints='center') + (1 | g)",
]


@pytest.mark.parametrize(
    "formula",
    [pytest.param(f, marks=[pytest.mark.slow] * (k not in (0, 4))) for k, f in enumerate(FORMULAS)],
)
def test_sums_give_the_numbers_of_rows(formula):
    found, expected = hp.Model(formula, lazy()), hp.Model(formula, ROWS)
    one, other = found.design, expected.design
    assert one.terms == other.terms
    assert one.n == other.n == N
    assert repr(found.priors) == repr(expected.priors)
    np.testing.assert_allclose(deviances(one), deviances(other), rtol=1e-13)
    for name, grouping in other.groupings.items():
        assert list(one.groupings[name].levels) == list(grouping.levels)
        np.testing.assert_array_equal(one.groupings[name].n_rows, grouping.n_rows)
    assert list(map(str, found.notices)) == list(map(str, expected.notices))


@pytest.mark.parametrize("given", [{"weights": "w"}, {"known_se": "se"}])
def test_weights_are_summed(given):
    found, expected = (hp.Model(FORMULAS[0], data, **given).design for data in (lazy(), ROWS))
    np.testing.assert_allclose(deviances(found), deviances(expected), rtol=1e-13)
    one, other = found.schema.response_scale, expected.schema.response_scale
    np.testing.assert_allclose(
        [one.sd, one.largest_sigma], [other.sd, other.largest_sigma], rtol=1e-12
    )
    np.testing.assert_allclose(
        found.residual.mean_square, expected.residual.mean_square, rtol=1e-12
    )


def test_an_offset_of_1e9_keeps_its_digits():
    rows = table(1e9)
    found, expected = hp.Model(FORMULAS[0], lazy(rows)), hp.Model(FORMULAS[0], rows)
    np.testing.assert_allclose(deviances(found.design), deviances(expected.design), rtol=1e-12)


def test_missing_values_are_left_out_and_counted():
    rows = ROWS.astype({"t": object})
    rows.loc[:9, "x"], rows.loc[5:19, "t"] = np.nan, None
    found = hp.Model(FORMULAS[0], lazy(rows))
    assert found.design.n == N - 20
    (notice,) = (n for n in found.notices if n.code == "rows-dropped")
    assert (
        notice.text == "20 of 3,000 rows left out because of missing values: 10 in 'x', 15 in 't'"
    )
    expected = build_design(found.design.spec, rows)
    np.testing.assert_allclose(deviances(found.design), deviances(expected), rtol=1e-13)


@pytest.mark.slow
def test_tables_of_duckdb_and_files_are_summed_where_they_are(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    connection.register("t", ROWS)
    half = N // 2
    ROWS[:half].to_parquet(tmp_path / "one.parquet")
    ROWS[half:].to_parquet(tmp_path / "two.parquet")
    expected = deviances(hp.Model(FORMULAS[0], ROWS).design)
    several = [tmp_path / "one.parquet", str(tmp_path / "t*.parquet")]
    for place in (connection.table("t"), str(tmp_path), tmp_path / "*.parquet", several):
        found = hp.Model(FORMULAS[0], place).design
        np.testing.assert_allclose(deviances(found), expected, rtol=1e-13)


def test_moments_are_added_saved_and_read(tmp_path):
    formula = FORMULAS[0]
    first = hp.collect(formula, lazy(ROWS[:1000]))
    second = hp.collect(formula, lazy(ROWS[1000:]), like=first)
    both = first + second
    assert "added   from 2 tables" in repr(both)
    both.save(tmp_path / "m.npz")
    again = hp.load_moments(tmp_path / "m.npz")
    expected = deviances(hp.Model(formula, ROWS).design)
    for moments in (both, again):
        np.testing.assert_allclose(deviances(hp.Model(moments).design), expected, rtol=1e-13)
    assert hp.Model(both).design.fingerprint == hp.Model(again).design.fingerprint
    with pytest.raises(DataError, match="added-twice"):
        both + second
    with pytest.raises(DataError, match="other-shifts"):
        first + hp.collect(formula, lazy(ROWS[1000:]))
    with pytest.raises(DataError, match="small-cells"):
        both.save(tmp_path / "n.npz", least=10**6)
    assert not (tmp_path / "n.npz").exists()


SAVED = {
    "slopes": (FORMULAS[0], {}),
    "weights": ("y ~ center(x) + flag + (1 | g)", {"weights": "w"}),
    "no groups": ("y ~ x + z", {}),
    "counts": ("flag ~ wave + (1 | g)", {"family": "bernoulli"}),
}


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] * (c != "no groups")) for c in SAVED]
)
def test_a_posterior_of_sums_is_saved_with_them(case, tmp_path):
    formula, given = SAVED[case]
    model = hp.Model(formula, lazy(), **given)
    fit = model.fit(seed=1, progress=False, chains=2, draws=200)
    fit.save(tmp_path / "fit.nc")
    again = hp.load_fit(tmp_path / "fit.nc")
    assert repr(again) == repr(fit)
    assert again.design.fingerprint == fit.design.fingerprint
    again.save(tmp_path / "fit.nc")
    if "|" in formula:
        np.testing.assert_array_equal(again.loo(by="g").elpd_i, fit.loo(by="g").elpd_i)


def test_sums_in_a_saved_fit_are_checked():
    cells = hp.collect(FORMULAS[0], lazy()).cells
    said, packed = pack_cells(cells)
    again = unpack_cells(said, cells.keys, packed)
    assert again.digest == cells.digest
    for broken in (
        packed.assign(S=packed["counts"]),
        packed.assign(counts=packed["counts"] * 0),
        packed.assign(plain=packed["plain"] * np.nan),
    ):
        with pytest.raises(ValueError, match="sums"):
            unpack_cells(said, cells.keys, broken)


def test_dates_are_groups_that_can_be_saved(tmp_path):
    days = pd.to_datetime("2024-01-01") + pd.to_timedelta(ROWS["g"], unit="D")
    moments = hp.collect("y ~ x + (1 | day)", lazy(ROWS.assign(day=days)))
    moments.save(tmp_path / "m.npz")
    one, other = hp.Model(moments).design, hp.Model(hp.load_moments(tmp_path / "m.npz")).design
    assert one.fingerprint == other.fingerprint
    assert one.groupings["day"].levels.equals(other.groupings["day"].levels)


@pytest.mark.slow
def test_simpler_formulas_are_made_of_the_same_sums():
    moments = hp.collect(FORMULAS[0], lazy())
    large, small = hp.Model(moments).reml(), hp.Model("y ~ x + t + (1 | g)", moments).reml()
    expected = hp.lrt(
        hp.Model("y ~ x + t + (1 | g)", ROWS).reml(), hp.Model(FORMULAS[0], ROWS).reml()
    )
    assert repr(hp.lrt(small, large)) == repr(expected)
    with pytest.raises(HierpoolError, match="not-collected"):
        hp.Model("y ~ x * t + I(x ** 3) + (1 | g)", moments)


@pytest.fixture(scope="module")
def fits():
    return hp.Model(FORMULAS[0], lazy()), hp.Model(FORMULAS[0], ROWS)


ANSWERS = {
    "fixed effects": lambda fit: fit.fixed_effects(),
    "random effects": lambda fit: fit.random_effects(),
    "variance components": lambda fit: fit.variance_components(),
    "R2": lambda fit: fit.r2(),
    "shrinkage": lambda fit: hp.shrinkage(fit),
    "influence of groups": lambda fit: hp.influence(fit),
    "tests of terms": lambda fit: fit.anova(),
    "marginal means": lambda fit: hp.marginal_means(fit, "t"),
    "contrasts": lambda fit: hp.contrast(fit, "t"),
    "slopes": lambda fit: hp.slopes(fit, "x"),
    "effects of terms": lambda fit: hp.term_effects(fit),
    "predictions": lambda fit: fit.predict(ROWS.head()),
    "profile": lambda fit: fit.confint(),
}


QUICK = ("random effects", "shrinkage", "influence of groups", "predictions")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in ANSWERS]
)
def test_reml_answers_from_sums(fits, name):
    one, other = (ANSWERS[name](model.reml()).select_dtypes("number") for model in fits)
    scale = np.abs(other.to_numpy(float)).max(axis=0)
    np.testing.assert_allclose(
        one.to_numpy(float) / scale, other.to_numpy(float) / scale, atol=1e-6
    )


@pytest.mark.slow
def test_the_posterior_is_that_of_rows(fits):
    """Density and draws given theta; the draws of theta rest on curvatures by differences."""
    z = np.random.default_rng(0).normal(size=(20, 4))
    one, other = (LogPosterior.from_design(m.design, m.priors) for m in fits)
    np.testing.assert_allclose(one(z), other(z), rtol=1e-12)
    theta = [target.at(z).working for target in (one, other)]
    drawn = [t.integrated.draw(w, 1) for t, w in zip((one, other), theta, strict=True)]
    for name, values in drawn[1].items():
        np.testing.assert_allclose(drawn[0][name], values, rtol=1e-7, atol=1e-9)
    grouping = fits[1].design.groupings["g"]
    left_out = [
        target.integrated.log_density_of_levels(w, model.design.groupings["g"])
        for target, w, model in zip((one, other), theta, fits, strict=True)
    ]
    np.testing.assert_allclose(*left_out, rtol=1e-9)
    assert left_out[0].shape == (grouping.n_levels, 20)


@pytest.mark.slow
@pytest.mark.parametrize("formula", [FORMULAS[0], "y ~ x + (1 | g) + (1 | h)"])
def test_folds_of_groups_are_scored_as_from_rows(formula):
    """K-fold: two groups left out together, at given theta."""
    found = []
    for data in (lazy(), ROWS):
        model = hp.Model(formula, data)
        target = LogPosterior.from_design(model.design, model.priors)
        z = np.random.default_rng(0).normal(size=(4, target.coordinates.size))
        theta, sets = target.at(z).working, model.design.groupings["g"].by_level[:2]
        rest = target.integrated.without(np.concatenate(sets))
        found.append(target.integrated.density_of_sets(rest, theta, sets))
    np.testing.assert_allclose(*found, rtol=1e-10)


@pytest.mark.slow
def test_a_posterior_of_sums_is_drawn_and_scored(fits):
    fit = fits[0].fit(seed=2, progress=False, cores=1)
    assert fit.status.is_trustworthy
    assert fit.loo(by="g").n_data_points == GROUPS
    assert "observed_data" not in fit.datatree.children
    with pytest.raises(HierpoolError, match="needs-rows"):
        fit.loo()


@pytest.mark.slow
@pytest.mark.parametrize("formula", [*FORMULAS[-1:], "y ~ t * C(wave) + flag + (1 | g) + (1 | h)"])
def test_answers_of_keys_are_those_of_rows(formula):
    """Means over the rows too, where all predictors are told apart; df of several factors."""
    rows = ROWS[(ROWS["t"] != "b") | (ROWS["wave"] != 3)]
    one, other = (hp.Model(formula, data).reml() for data in (lazy(rows), rows))
    for ask in (
        lambda fit: hp.marginal_means(fit, "t", weights="observed"),
        lambda fit: hp.marginal_means(fit, "wave", at={"wave": [1, 2]}),
        lambda fit: hp.term_effects(fit),
        lambda fit: fit.anova(),
    ):
        expected = ask(other).select_dtypes("number").to_numpy(float)
        np.testing.assert_allclose(
            ask(one).select_dtypes("number").to_numpy(float), expected, rtol=1e-5, atol=1e-7
        )


NEEDS_ROWS = {
    "fitted": lambda m: m.reml().fitted(),
    "residuals": lambda m: m.reml().residuals(),
    "R2 of weighted rows": lambda m: hp.Model(FORMULAS[0], lazy(), weights="w").reml().r2(),
    "means over rows": lambda m: hp.marginal_means(m.reml(), "t", weights="observed"),
    "rows of the fit": lambda m: m.reml().predict(),
    "prior predictive": lambda m: m.prior_predictive(),
    "structured residuals": lambda m: hp.Model(FORMULAS[0], lazy(), residual="cs(1 | g)"),
}


@pytest.mark.parametrize("name", NEEDS_ROWS)
def test_what_needs_rows_says_so(fits, name):
    with pytest.raises(HierpoolError) as caught:
        NEEDS_ROWS[name](fits[0])
    assert caught.value.code == "needs-rows"


@pytest.mark.slow
def test_what_sums_tell_is_checked(fits):
    found = [hp.check(model.reml()).codes for model in fits]
    assert found[0] == [*found[1], "rows-not-checked"]
    rows = ROWS.assign(y=ROWS["y"] + 5 * ((ROWS["g"] == 3) & (ROWS["t"] == "b")))
    found = hp.check(hp.Model("y ~ x + t + (1 | g)", lazy(rows)).reml())
    assert found.codes == ["influential-level", "rows-not-checked"]


BAD = {
    "unknown-column": lambda: hp.collect("y ~ nope + (1 | g)", lazy()),
    "text-not-number": lambda: hp.collect("t ~ x + (1 | g)", lazy()),
    "infinite-values": lambda: hp.collect("y ~ log(x - 50) + (1 | g)", lazy()),
    "not-in-sql": lambda: hp.collect("y ~ bs(log(x), df=4) + (1 | g)", lazy()),
    "too-many-cells": lambda: hp.collect("y ~ x + (1 | g)", lazy(), max_cells=10),
    "not-positive": lambda: hp.collect("y ~ x + (1 | g)", lazy(), weights="z"),
    "no-such-table": lambda: hp.collect("y ~ x + (1 | g)", ["nowhere.parquet", "nor.csv"]),
    "unknown-kind-of-table": lambda: hp.collect("y ~ x + (1 | g)", "table.doc"),
    "constant-response": lambda: hp.Model("y ~ x + (1 | g)", lazy(ROWS.assign(y=1.5))),
    "one-level": lambda: hp.Model("y ~ x + (1 | g)", lazy(ROWS[ROWS["g"] == 1])),
}


@pytest.mark.parametrize("code", BAD)
def test_bad_input_is_told(code):
    with pytest.raises(HierpoolError) as caught:
        BAD[code]()
    assert caught.value.code == code


@pytest.mark.parametrize(
    "call", ["log(x - 50)", "sqrt(x - 50)", "I(1 / (wave - 2))", "log10(wave)"]
)
def test_what_has_no_value_is_counted(call):
    table = pytest.importorskip("duckdb").from_df(ROWS)
    for source in (table, lazy()):
        with pytest.raises(
            DataError, match=r"is not a finite number in [\d,]+ rows.*infinite-values"
        ):
            hp.collect(f"y ~ {call} + (1 | g)", source)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ten_million_rows_take_little_more_than_a_bare_query(tmp_path):
    """Processor time beside GROUP BY and one pass, and peak memory, in a process of its own."""
    pytest.importorskip("duckdb")
    code = f"""
import sys, time, duckdb, hierpool as hp
path = {str(tmp_path / "t.parquet")!r}
if sys.argv[1] == "make":
    made = "SELECT i % 20000 AS g, i % 3 AS t, hash(i) / 1e19 AS x, hash(i + 7) / 1e19 + i % 3 AS y"
    duckdb.sql(f"COPY ({{made}} FROM range(10000000) r(i)) TO '{{path}}' (FORMAT parquet)")
    sys.exit()
hp.collect("y ~ x + (x | g)", path.replace("t.parquet", "small.parquet"), progress=False)
began = time.process_time()
for asked in ("SELECT g, count(*), sum(y) FROM t GROUP BY g", "SELECT avg(x), avg(y), stddev(x) FROM t"):
    duckdb.sql(asked.replace("FROM t", f"FROM '{{path}}'")).fetchall()
bare = time.process_time() - began
moments = hp.collect("y ~ x + C(t) + (x | g)", path, progress=False)
ratio = (time.process_time() - began - bare) / bare
assert moments.n_rows == 10_000_000 and len(moments.cells) == 60_000
status = open("/proc/self/status").read()  # the peak of getrusage would be that of the parent
print(ratio, int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""
    ROWS.to_parquet(tmp_path / "small.parquet")
    for step in ("make", "measure"):
        words = [sys.executable, "-c", code, step]
        ran = subprocess.run(words, capture_output=True, text=True, check=True)
    ratio, peak = map(float, ran.stdout.split()[-2:])  # behind a bar of DuckDB
    assert ratio < 5  # 3.3 on two busy cores
    assert peak < 600


def test_a_table_that_changes_is_noticed():
    pytest.importorskip("duckdb")
    import duckdb

    connection = duckdb.connect()
    connection.register("t", ROWS)
    changing = connection.sql("select * from t where random() < 0.5")
    with pytest.raises(DataError, match="the table changed while it was read"):
        hp.collect(FORMULAS[0], changing)


@pytest.mark.slow
def test_a_file_cut_short_is_told(tmp_path):
    pytest.importorskip("duckdb")
    ROWS.to_parquet(tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="table-unreadable"):
        hp.collect(FORMULAS[0], tmp_path / "t.parquet")


@pytest.mark.parametrize("fails", ["the disk", "the engine"])
def test_what_fails_midway_leaves_nothing(fits, fails, tmp_path, monkeypatch):
    """No space left while predictions are written; an engine that dies while it is read."""
    import pyarrow.parquet as pq

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    table = lazy()
    if fails == "the disk":
        monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    else:
        monkeypatch.setattr("hierpool.tables.predicted.BATCH", 500)
        table = pytest.importorskip("duckdb").from_df(ROWS.assign(s="12"))
        table = table.project("* replace (CASE WHEN y > 15 THEN error('gone') ELSE x END AS x)")
    code = "cannot-write" if fails == "the disk" else "table-unreadable"
    with pytest.raises(
        HierpoolError, match="no space left" if fails == "the disk" else "gone"
    ) as e:
        hp.write_predictions(fits[0].reml(), table, tmp_path / "p.parquet")
    assert e.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_a_caret_stands_under_what_cannot_be_summed():
    with pytest.raises(FormulaError) as caught:
        hp.collect("y ~ poly(x + z, 2) + (1 | g)", lazy())
    assert "\n    y ~ poly(x + z, 2) + (1 | g)\n        ^^^^^^^^^^^^^^" in str(caught.value)


@pytest.mark.slow
def test_the_builders_take_lazy_tables():
    found = hp.pooling_ladder("y ~ x + t", lazy(), "g")
    expected = hp.pooling_ladder("y ~ x + t", ROWS, "g")
    assert list(found) == list(expected)
    for name in ("complete_pooling", "varying_slope", "no_pooling"):
        one, other = found[name].reml(), expected[name].reml()
        np.testing.assert_allclose(one.loglik, other.loglik, rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(one.estimate.beta, other.estimate.beta, rtol=1e-8)


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_predictions_are_written_in_batches(fits, engine, tmp_path, monkeypatch):
    monkeypatch.setattr("hierpool.tables.predicted.BATCH", 700)
    table = lazy()
    if engine == "duckdb":
        table = pytest.importorskip("duckdb").from_df(ROWS)
    path = tmp_path / "p.parquet"
    assert hp.write_predictions(fits[0].reml(), table, path, keep=["g", "x", "y"]) == N
    found, fit = pd.read_parquet(path), fits[1].reml()
    assert list(found.columns) == ["g", "x", "y", "predicted", "residual"]
    merged = found.sort_values("y", ignore_index=True)
    expected = ROWS.assign(f=fit.fitted(), r=fit.residuals()).sort_values("y", ignore_index=True)
    np.testing.assert_allclose(merged["predicted"], expected["f"], rtol=1e-8)
    np.testing.assert_allclose(merged["residual"], expected["r"], rtol=1e-6, atol=1e-8)


def test_a_table_is_not_replaced_by_its_predictions(fits, tmp_path):
    fit = fits[0].reml()
    folder = tmp_path / "table"
    folder.mkdir()
    ROWS.to_parquet(folder / "a.parquet")
    for table, target in (
        (folder, folder / "a.parquet"),
        (folder, folder / "new.parquet"),
        (f"{folder}/*.parquet", folder / "new.parquet"),
        ([folder / "a.parquet"], folder / "a.parquet"),
        (lazy(), folder / "a.parquet"),
        (lazy(), tmp_path / "p.csv"),
    ):
        with pytest.raises(StorageError) as caught:
            hp.write_predictions(fit, table, target)
        assert caught.value.code == "in-the-way"
    assert [p.name for p in folder.iterdir()] == ["a.parquet"]
    for _ in range(2):  # an earlier result is replaced
        assert hp.write_predictions(fit, folder, tmp_path / "p.parquet") == N


NOT_IN_THE_SUMS = {
    "asks for 'z'": ("y ~ x + z + (1 | g)", {}),
    "asks for 'h'": ("y ~ x + (1 | h)", {}),
    "groups by 'x'": ("y ~ x + (1 | x)", {}),
    "asks for family='poisson'": ("y ~ x + (1 | g)", {"family": "poisson"}),
    "with no offset": ("y ~ x + offset(x) + (1 | g)", {}),
    "with rows that count alike": ("y ~ x + (1 | g)", {"weights": "x"}),
}


@pytest.mark.parametrize("words", NOT_IN_THE_SUMS)
def test_what_was_not_collected_is_named(words):
    formula, asked = NOT_IN_THE_SUMS[words]
    moments = hp.collect("y ~ x + (1 | g)", lazy())
    with pytest.raises(HierpoolError, match=words) as caught:
        hp.Model(formula, moments, **asked)
    assert caught.value.code == "not-collected"


def test_cells_have_no_row_numbers():
    table = lazy(ROWS.assign(c=1, e=np.where(ROWS.index % 2, 0.0, 1.0)))
    with pytest.raises(HierpoolError, match=r"\(-inf\) in some rows"):
        hp.Model("c ~ offset(log(e)) + (1 | g)", table, family="poisson")


def test_predictions_of_new_groups_are_those_of_an_average_one(fits, tmp_path):
    new = ROWS.head(8).assign(g=10**6).drop(columns="y")
    new.loc[3, "x"] = np.nan
    path = tmp_path / "p.parquet"
    assert hp.write_predictions(fits[0].reml(), lazy(new), path) == 7
    expected = fits[1].reml().predict(new.drop(index=3), groups="average")
    np.testing.assert_allclose(pd.read_parquet(path)["predicted"], expected.iloc[:, 0], rtol=1e-8)
    with pytest.raises(HierpoolError, match="unknown-column"):
        hp.write_predictions(fits[0].reml(), lazy(new.drop(columns="x")), tmp_path / "q.parquet")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.parquet"]


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_categories_keep_their_order(engine):
    labels = ["c", "a", "b", "never"]
    rows = ROWS.assign(t=pd.Categorical(ROWS["t"], categories=labels))
    if engine == "duckdb":
        table = pytest.importorskip("duckdb").from_df(rows)
    else:
        table = lazy(ROWS).with_columns(pl.col("t").cast(pl.Enum(labels)))
    found, expected = hp.Model(FORMULAS[0], table), hp.Model(FORMULAS[0], rows)
    assert found.design.terms == expected.design.terms == ("Intercept", "x", "t[T.a]", "t[T.b]")
    assert list(map(str, found.notices)) == list(map(str, expected.notices))
    np.testing.assert_allclose(deviances(found.design), deviances(expected.design), rtol=1e-13)


def test_whole_numbers_are_multiplied_as_doubles():
    rows = ROWS.assign(x=(ROWS["x"] * 1e8).astype("int64"), g=ROWS["g"].astype(str))
    formula = "y ~ x + I(x ** 2) + (1 | g)"
    found, expected = hp.Model(formula, lazy(rows)).design, hp.Model(formula, rows).design
    np.testing.assert_allclose(deviances(found), deviances(expected), rtol=1e-13)
    assert list(found.groupings["g"].levels) == list(expected.groupings["g"].levels)


def test_a_pattern_that_no_file_matches_is_no_damaged_file(tmp_path):
    with pytest.raises(DataError, match=r"no file matches .*\.parquet") as caught:
        hp.collect("y ~ x + (1 | g)", str(tmp_path / "*.parquet"))
    assert caught.value.code == "no-such-table"
