"""A saved fit is the fit: every number, label, prior and word comes back from the file."""

from __future__ import annotations

import datetime
import json
import shutil
import warnings
from dataclasses import replace
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path

import arviz as az
import h5netcdf
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hierpool as hp
from hierpool.core.errors import (
    ArgumentError,
    DataError,
    FitError,
    MissingPackageError,
    StorageError,
)
from hierpool.core.findings import Finding
from hierpool.core.results import Draws, Status, coords, posterior_tree, variable_dims
from hierpool.fits import storage, stored_columns
from hierpool.fits.record import FitRecord
from tests.support.cases import each

QUICK = {"engine": "exact", "draws": 500, "chains": 2, "seed": 1, "progress": False}


def fitted(model: hp.Model) -> hp.PosteriorFit:
    """Few draws, whatever the engine thinks of them: they are only stored."""
    try:
        return model.fit(**QUICK)
    except FitError as error:
        return error.fit


@pytest.fixture(scope="module")
def sleep() -> hp.PosteriorFit:
    data = hp.datasets.load("sleepstudy")
    return fitted(hp.Model("Reaction ~ Days + (Days | Subject)", data))


@pytest.fixture(scope="module")
def saved(sleep, tmp_path_factory) -> Path:
    """Its file: to be read, or to be copied."""
    path = tmp_path_factory.mktemp("saved") / "fit.nc"
    sleep.save(path)
    return path


@pytest.fixture(scope="module")
def loaded(saved) -> hp.PosteriorFit:
    return hp.load_fit(saved)


def _theta(draws):
    """Theta that goes with made-up draws: their sds, no correlation."""
    out = {"sigma": draws["sigma"]}
    for name, sd in draws.items():
        if name.startswith("sd_"):
            out[name] = np.abs(sd)
            if (corr := name.replace("sd_", "corr_")) in draws:
                q = sd.shape[-1]
                out[corr.replace("corr_", "corr_chol_")] = np.zeros((*sd.shape, q)) + np.eye(q)
    return out


def made_up(model: hp.Model) -> hp.PosteriorFit:
    """A fit whose draws are random numbers: enough to store, and no engine runs."""
    rng = np.random.default_rng(3)
    labels, shape = coords(model.design.schema), (2, 5)
    draws = {
        name: rng.normal(size=(*shape, *(len(labels[d]) for d in dims)))
        for name, dims in variable_dims(model.design.schema).items()
    }
    tree = posterior_tree(model.design, Draws(draws, _theta(draws), {}), {"seed": 3})
    return hp.PosteriorFit(model.design, model.priors, tree, Status("good", "made up."))


def table_by(levels: list[object], index: object = None) -> pd.DataFrame:
    """Four rows for each of these levels."""
    n = 4 * len(levels)
    rng = np.random.default_rng(7)
    column = pd.Series([v for v in levels for _ in range(4)])
    frame = pd.DataFrame({"y": rng.normal(size=n), "x": rng.normal(size=n), "g": column})
    return frame if index is None else frame.set_axis(index, axis=0)


def round_trip(fit: hp.PosteriorFit, folder: Path, name: str = "fit.nc") -> hp.PosteriorFit:
    fit.save(folder / name)
    return hp.load_fit(folder / name)


def as_tree(fit: hp.PosteriorFit) -> xr.DataTree:
    """What a file of the fit holds."""
    whole = fit.datatree
    return storage._as_tree(FitRecord(fit.design, fit.priors, whole, fit.status, fit.info))


def as_fit(tree: xr.DataTree, source: Path) -> hp.PosteriorFit:
    """The fit that such a file is read as."""
    found = storage._as_record(tree, source)
    return hp.PosteriorFit(found.design, found.priors, found.draws, found.status, found.info)


def through_memory(fit: hp.PosteriorFit) -> hp.PosteriorFit:
    """The same without a file, which takes a second: it would hold this text and these numbers."""
    tree = as_tree(fit)
    kinds = {v.dtype.kind for node in tree.subtree for v in node.variables.values()}
    assert kinds <= set("iufbU")
    return as_fit(tree, Path("memory.nc"))


def assert_same_design(one: object, other: object) -> None:
    pd.testing.assert_frame_equal(one.frame, other.frame)
    pd.testing.assert_index_equal(one.rows, other.rows, exact=True)
    assert one.fingerprint == other.fingerprint
    assert (one.spec, one.label, one.notices) == (other.spec, other.label, other.notices)
    np.testing.assert_array_equal(one.X, other.X)
    assert one.terms == other.terms
    for mine, theirs in zip(one.groups, other.groups, strict=True):
        pd.testing.assert_index_equal(mine.grouping.levels, theirs.grouping.levels, exact=True)
        np.testing.assert_array_equal(mine.grouping.codes, theirs.grouping.codes)
        np.testing.assert_array_equal(mine.Z, theirs.Z)
        assert mine.blocks == theirs.blocks


def test_every_part_of_a_fit_comes_back(sleep, loaded):
    assert loaded.datatree.identical(sleep.datatree)
    assert_same_design(loaded.design, sleep.design)
    assert repr(loaded.priors) == repr(sleep.priors)
    assert (loaded.status, loaded.info) == (sleep.status, dict(sleep.info))


def test_priors_come_back_to_the_last_digit(sleep):
    back = through_memory(sleep)
    assert back.priors.sigma == sleep.priors.sigma
    assert back.priors.population.priors == sleep.priors.population.priors
    (mine,), (theirs,) = back.priors.group_terms, sleep.priors.group_terms
    assert (mine.sd, mine.eta, mine.columns, mine.terms) == (
        theirs.sd,
        theirs.eta,
        theirs.columns,
        theirs.terms,
    )
    np.testing.assert_array_equal(mine.coding.means, theirs.coding.means)
    np.testing.assert_array_equal(mine.coding.scales, theirs.coding.scales)


def test_priors_that_are_not_the_default_come_back(sleep):
    *others, residual = sleep.priors.parts
    own = replace(residual, prior=hp.Prior("HalfCauchy", beta=1 / 3))
    wide = replace(sleep.priors, parts=(*others, own))
    back = through_memory(replace(sleep, priors=wide))
    assert back.priors.sigma == hp.Prior("HalfCauchy", beta=1 / 3)


def test_tables_of_the_loaded_fit_are_those_of_the_fit(sleep, loaded):
    pd.testing.assert_frame_equal(loaded.random_effects(), sleep.random_effects())
    pd.testing.assert_frame_equal(loaded.variance_components(), sleep.variance_components())
    pd.testing.assert_frame_equal(hp.shrinkage(loaded), hp.shrinkage(sleep))


def test_arviz_reads_the_same_file(sleep, saved):
    with az.from_netcdf(saved) as tree:
        assert {"posterior", "sample_stats", "observed_data", "log_likelihood"} <= set(
            tree.children
        )
        with warnings.catch_warnings(action="ignore"):  # of Pareto k's: there are few draws
            assert az.loo(tree).elpd == az.loo(sleep.datatree).elpd
        theirs, ours = (az.summary(t, var_names=["beta"]) for t in (tree, sleep.datatree))
        pd.testing.assert_frame_equal(theirs, ours)


@pytest.mark.parametrize(
    "builder", [hp.complete_pooling, hp.varying_intercept, hp.no_pooling], ids=lambda b: b.__name__
)
def test_each_pooling_comes_back(builder):
    fit = made_up(builder("y ~ x", table_by(["a", "b", "c", "d", "e"]), group="g"))
    back = through_memory(fit)
    assert back.datatree.identical(fit.datatree)
    assert_same_design(back.design, fit.design)
    assert (back.priors.unpooled is None) == (fit.priors.unpooled is None)


def test_transformed_columns_and_names_with_spaces_come_back(tmp_path):
    data = table_by(["a", "b", "c", "d", "e"]).rename(columns={"g": "my group", "x": "temp °C"})
    data["y"] = np.exp(data["y"])
    fit = made_up(hp.Model("log(y) ~ center(`temp °C`) + (1 | `my group`)", data))
    back = round_trip(fit, tmp_path)
    assert back.datatree.identical(fit.datatree)
    assert_same_design(back.design, fit.design)


DAY = datetime.date(2024, 2, 29)
LEVELS = {
    "integers": [3, 1, 20, -4],
    "numbers": [0.1, 1 / 3, 2.5],
    "text": ["Zoë", "Ålesund", "漢字", "a b/c"],
    "text in an object column": pd.Series(["b", "a", "c"], dtype=object),
    "text that allows missing": pd.array(["b", "a", "c"], dtype="string"),
    "categories in their order": pd.Categorical(["low", "high", "mid"], ["low", "mid", "high"]),
    "categories with an order": pd.Categorical([2, 30, 1], [1, 30, 2], ordered=True),
    "categories with an unused one": pd.Categorical(["a", "b"], ["z", "b", "a"]),
    "binned": pd.cut([1, 12, 25], [0, 10, 20, 30]),
    "dates": [DAY, DAY + datetime.timedelta(1), DAY + datetime.timedelta(400)],
    "days": pd.to_datetime(["2024-02-29", "2023-01-01"]),
    "days with a zone": pd.to_datetime(["2024-02-29", "2023-07-01"]).tz_localize("Europe/Oslo"),
    "months": pd.period_range("2024-01", periods=3, freq="M"),
    "nullable integers": pd.array([5, 6, 7], dtype="Int64"),
    "yes or no": [True, False],
    "decimals": [Decimal("0.10"), Decimal("2.5")],
    "text that ends in a null": ["a", "a\0", "a\0\0", "\0"],
    "categories that end in a null": pd.Categorical(["a", "a\0", "\0b"]),
}
ARROW_LEVELS = {
    "decimals": ("decimal128(10, 2)", [Decimal("0.10"), Decimal("2.50")]),
    "text": ("string", ["b", "a"]),
    "whole numbers": ("int16", [3, -4]),
    "true and false": ("bool_", [True, False]),
    "dates": ("date32", [datetime.date(2024, 2, 29), datetime.date(2025, 1, 1)]),
}


@each("kind", LEVELS)
def test_levels_of_every_type_come_back(kind):
    levels = LEVELS[kind]
    n = len(levels)
    data = table_by(list(range(n)))
    data["g"] = pd.Series(levels).iloc[np.repeat(np.arange(n), 4)].reset_index(drop=True)
    fit = made_up(hp.varying_intercept("y ~ x", data, group="g"))
    back = through_memory(fit)
    assert back.datatree.identical(fit.datatree)
    assert_same_design(back.design, fit.design)


@pytest.mark.parametrize("kind", ARROW_LEVELS)
def test_levels_of_arrow_types_come_back(kind, tmp_path):
    pa = pytest.importorskip("pyarrow")
    name, levels = ARROW_LEVELS[kind]
    of_type = pa.decimal128(10, 2) if "decimal" in name else getattr(pa, name)()
    data = table_by(list(range(len(levels))))
    values = [v for v in levels for _ in range(4)]
    data["g"] = pd.Series(pd.array(values, dtype=pd.ArrowDtype(of_type)))
    fit = made_up(hp.varying_intercept("y ~ x", data, group="g"))
    back = round_trip(fit, tmp_path)
    assert back.datatree.identical(fit.datatree)
    assert_same_design(back.design, fit.design)


@pytest.mark.parametrize("ordered", [False, True])
def test_levels_of_an_arrow_dictionary_come_back(ordered, tmp_path):
    pa = pytest.importorskip("pyarrow")
    data = table_by(["a", "b", "c"])
    coded = pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string(), ordered=ordered))
    data["g"] = pd.Series(pd.array(data["g"].tolist(), dtype=coded))
    fit = made_up(hp.varying_intercept("y ~ x", data, group="g"))
    back = round_trip(fit, tmp_path)
    assert_same_design(back.design, fit.design)


@pytest.mark.parametrize("label", ["a\0", "\0"])
@pytest.mark.parametrize("name", ["fit.nc", "fit.zarr"])
def test_labels_that_no_netcdf_file_can_hold_come_back_from_one(label, name, tmp_path):
    if name.endswith("zarr"):
        pytest.importorskip("zarr")
    data = table_by([0, 1, 2])
    data["g"] = pd.Series([v for v in ("a", label, "c") for _ in range(4)], dtype=object)
    fit = made_up(hp.varying_intercept("y ~ x", data, group="g"))
    back = round_trip(fit, tmp_path, name)
    assert back.datatree.identical(fit.datatree)
    assert list(back.design.groups[0].grouping.levels) == list(fit.design.groups[0].grouping.levels)


def test_a_column_that_would_come_back_as_another_is_refused_by_name_and_the_advice_works(tmp_path):
    data = table_by(["a", "b", "c"])
    data["g"] = pd.arrays.SparseArray(np.repeat([1, 2, 3], 4))
    fit = made_up(hp.varying_intercept("y ~ x", data, group="g"))
    with pytest.raises(DataError, match="column 'g'") as caught:
        fit.save(tmp_path / "fit.nc")
    assert caught.value.code == "label-not-storable"
    assert list(tmp_path.iterdir()) == []
    data["g"] = data["g"].astype(str)
    round_trip(made_up(hp.varying_intercept("y ~ x", data, group="g")), tmp_path)


def test_a_fit_that_would_not_come_back_is_not_saved_and_the_old_file_stays(sleep, tmp_path):
    sleep.save(tmp_path / "fit.nc")
    old = (tmp_path / "fit.nc").read_bytes()
    changed = sleep.design.frame.assign(Reaction=1.5 + sleep.design.y)
    rows = replace(sleep.design.observations, frame=changed)
    other = replace(sleep.design, observations=rows)
    for bad in (replace(sleep, design=other), replace(sleep, info={"made by": object()})):
        with pytest.raises(StorageError) as caught:
            bad.save(tmp_path / "fit.nc")
        assert caught.value.code == "not-kept"
        assert (tmp_path / "fit.nc").read_bytes() == old


INDEXES = {
    "text": pd.Index([f"row {k}" for k in range(12)], name="who"),
    "dates": pd.to_datetime([f"2024-01-{d:02d}" for d in range(8, 20)]).tz_localize("Asia/Kolkata"),
    "gaps": pd.Index(range(5, 29, 2)),
    "repeated": pd.Index([1, 2, 3] * 4),
    "two levels": pd.MultiIndex.from_product([["a", "b", "c"], [1, 2, 3, 4]], names=["l", None]),
    "categories": pd.CategoricalIndex(list("abcabcabcabc"), categories=["c", "b", "a"]),
}


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES.keys())
def test_the_users_index_comes_back(index):
    fit = made_up(hp.varying_intercept("y ~ x", table_by(["a", "b", "c"], index), group="g"))
    back = through_memory(fit)
    assert_same_design(back.design, fit.design)
    pd.testing.assert_series_equal(back.residuals(), fit.residuals())


def test_rows_left_out_stay_left_out_and_are_still_told():
    data = table_by(["a", "b", "c"])
    data.loc[[2, 5], "x"] = np.nan
    data.attrs["hierpool"] = {"label": "three groups (simulated)"}
    fit = made_up(hp.varying_intercept("y ~ x", data, group="g"))
    back = through_memory(fit)
    assert back.design.n == 10
    assert [f.code for f in back.design.notices] == ["rows-dropped"]
    assert back.design.label == "three groups (simulated)"
    assert_same_design(back.design, fit.design)


def test_what_netcdf_cannot_hold_comes_back_too(sleep, tmp_path):
    tree = sleep.datatree.copy()
    tree.attrs.update({"nested": {"a": [1, None], "when": (DAY, np.inf)}, "flag": True})
    tree["posterior"]["beta"].attrs["units"] = "ms"
    fit = replace(sleep, draws=tree, info={"options": {"max_treedepth": 12}, "reason": None})
    back = round_trip(fit, tmp_path)
    assert back.datatree.attrs == tree.attrs
    assert back.datatree["posterior"]["beta"].attrs == {"units": "ms"}
    assert back.info == fit.info
    assert fit.datatree.attrs["flag"] is True  # saving changes nothing in memory


def test_status_and_findings_come_back(sleep):
    design = sleep.design.with_schema(notices=(Finding("rows-dropped", "warning", "“two” rows"),))
    fit = replace(sleep, design=design, status=Status("doubtful", "R-hat reaches 1.2."))
    back = through_memory(fit)
    assert (back.status, back.design.notices) == (fit.status, design.notices)


def test_loaded_fit_saves_again_over_its_own_file(sleep, saved, tmp_path):
    first = hp.load_fit(shutil.copy(saved, tmp_path))
    second = round_trip(first, tmp_path)
    assert second.datatree.identical(sleep.datatree)
    assert [p.name for p in tmp_path.iterdir()] == ["fit.nc"]


@pytest.mark.skipif(find_spec("zarr") is None, reason="zarr is optional")
def test_zarr_folder_holds_the_same(sleep, tmp_path):
    for _ in range(2):
        back = round_trip(sleep, tmp_path, "fit.zarr")
    assert back.datatree.identical(sleep.datatree)
    assert_same_design(back.design, sleep.design)
    assert [p.name for p in tmp_path.iterdir()] == ["fit.zarr"]


def test_missing_zarr_is_named(sleep, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install \"hierpool\[zarr\]\""):
        sleep.save(tmp_path / "fit.zarr")


@pytest.mark.parametrize("name", ["fit", "fit.csv", "fit.pkl"])
def test_another_suffix_is_refused(name, sleep, tmp_path):
    with pytest.raises(ArgumentError, match=r"\.nc.*fit\.save\('fit\.nc'\)"):
        sleep.save(tmp_path / name)


def test_folder_that_is_not_there_is_named(sleep, tmp_path):
    with pytest.raises(DataError, match=r"the folder .*runs"):
        sleep.save(tmp_path / "runs" / "fit.nc")


def test_a_folder_of_something_else_is_never_replaced(sleep, tmp_path):
    for name in ("fit.zarr", "fit.nc"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("years of work")
        with pytest.raises(StorageError) as caught:
            sleep.save(tmp_path / name)
        assert caught.value.code == "in-the-way"
        assert (tmp_path / name / "thesis.txt").exists()


@pytest.mark.skipif(find_spec("zarr") is None, reason="zarr is optional")
def test_a_zarr_folder_with_something_else_in_it_is_never_replaced(sleep, tmp_path):
    sleep.save(tmp_path / "fit.zarr")
    (tmp_path / "fit.zarr" / "posterior" / "thesis.txt").write_text("years of work")
    with pytest.raises(StorageError, match=r"thesis\.txt"):
        sleep.save(tmp_path / "fit.zarr")
    assert (tmp_path / "fit.zarr" / "posterior" / "thesis.txt").exists()


def test_no_such_file_is_said(tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*fit\.nc"):
        hp.load_fit(tmp_path / "fit.nc")


@pytest.mark.parametrize("content", [b"", b"y,x\n1,2\n", b"\x89HDF\r\n\x1a\n and then nothing"])
def test_file_of_another_kind_is_refused(content, tmp_path):
    (tmp_path / "fit.nc").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as a NetCDF file") as caught:
        hp.load_fit(tmp_path / "fit.nc")
    assert caught.value.code == "not-a-fit"


def test_netcdf_file_of_someone_else_is_refused_with_its_groups(sleep, tmp_path):
    sleep.datatree["posterior"].to_dataset().to_netcdf(
        tmp_path / "other.nc", group="posterior", engine="h5netcdf"
    )
    with pytest.raises(
        DataError, match=r"holds the groups 'posterior' and is not a fit of hierpool"
    ):
        hp.load_fit(tmp_path / "other.nc")


def test_file_of_a_newer_hierpool_is_refused_with_its_version(saved, tmp_path):
    shutil.copy(saved, tmp_path)
    with h5netcdf.File(tmp_path / "fit.nc", "a") as file:
        file["hierpool"].attrs["format"] = storage.FORMAT + 1
        file["hierpool"].attrs["version"] = "9.0"
    with pytest.raises(DataError, match=r"hierpool 9\.0 \(format 3\).*pip install -U hierpool"):
        hp.load_fit(tmp_path / "fit.nc")


def test_data_that_are_read_differently_now_are_refused(sleep, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_check_kept", lambda *args: None)
    changed = sleep.design.frame.assign(Reaction=1.5 + sleep.design.y)
    rows = replace(sleep.design.observations, frame=changed)
    other = replace(sleep.design, observations=rows)
    replace(sleep, design=other).save(tmp_path / "fit.nc")
    with pytest.raises(DataError, match=r"response Reaction has other values"):
        hp.load_fit(tmp_path / "fit.nc")


def test_document_is_json_that_anyone_can_read(saved):
    with xr.open_dataset(saved, group="hierpool", engine="h5netcdf") as own:
        document = json.loads(own["document"].item())
    assert document["spec"]["formula"] == "Reaction ~ Days + (Days | Subject)"
    assert document["label"] == "sleepstudy"


def test_label_that_no_file_can_keep_is_named(tmp_path):
    class Boar:
        def __init__(self, number):
            self.number = number

        def __repr__(self):
            return f"Boar({self.number})"

    frame = pd.DataFrame({"g": [Boar(1), Boar(2)]})
    with pytest.raises(DataError, match=r"column 'g' contains a Boar, Boar\(1\)"):
        stored_columns.pack(frame["g"], "column 'g'")
