"""A posterior fit in one NetCDF file, or in one Zarr folder.

The ordinary groups stand in the file as ArviZ writes them, so ``az.from_netcdf`` reads them. A
further group, ``hierpool``, holds the rest: a document in JSON (spec, priors, notices, status) and
the user's columns, from which the design is built again on loading.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from decimal import Decimal
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hierpool import __version__
from hierpool.bayes.priors.model_priors import (
    CoefficientPriors,
    ModelPriors,
    Prior,
    VarianceComponentPriors,
)
from hierpool.core.coding import Coding
from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError, DataError, MissingPackageError, StorageError, listed
from hierpool.core.findings import Finding
from hierpool.core.results import OBS_DIM, RESPONSE, Status
from hierpool.core.spec import GroupTerm, Spec
from hierpool.core.writing import check_file, check_folder, write_file, write_folder
from hierpool.fits.posterior import PosteriorFit
from hierpool.formula.build import build_design

FORMAT = 1  # of the group ``hierpool``; goes up when an older hierpool could not read it
OWN_GROUP = "hierpool"
NETCDF, ZARR = (".nc", ".nc4"), ".zarr"
_OF_ZARR = re.compile(r"zarr\.json|\.z(group|array|attrs|metadata)|c|[0-9]+(\.[0-9]+)*|\.DS_Store")
_TAG = "@"
_NOUNS: dict[str, Any] = {
    noun.__name__: noun
    for noun in (
        Spec,
        GroupTerm,
        Finding,
        Status,
        Prior,
        Coding,
        CoefficientPriors,
        VarianceComponentPriors,
        ModelPriors,
    )
}


def save_fit(fit: PosteriorFit, path: str | PathLike[str]) -> None:
    """Write a fit, with its data, priors and status, to one file.

    A fit that is already there is replaced when the new one is complete; it stays as it was if
    the writing fails.

    Parameters
    ----------
    fit
        What to write.
    path
        Ends in ``.nc`` (NetCDF) or ``.zarr`` (a folder, which needs the package zarr). Its folder
        must exist.

    Raises
    ------
    ArgumentError
        Another suffix.
    StorageError
        The folder does not exist, something else stands in its place, or the disk is full.
    DataError
        A column holds objects that no file can.
    MissingPackageError
        The package for this kind of file is not installed.
    """
    target = Path(path)
    _check_target(target)
    tree = _as_tree(fit)
    # In memory: HDF5 itself writing to a disk that is full ends the process.
    if target.suffix == ZARR:
        write_folder(target, _zarr_files(tree))
    else:
        write_file(target, tree.to_netcdf(engine="h5netcdf"))


def _zarr_files(tree: xr.DataTree) -> dict[str, bytes]:
    """Path within the folder -> content."""
    from zarr.storage import MemoryStore

    kept: dict[str, Any] = {}
    # Consolidated metadata is not yet in the specification of Zarr 3, and zarr warns of it.
    tree.to_zarr(MemoryStore(kept), mode="w", consolidated=False)
    return {name: part.to_bytes() for name, part in kept.items()}


def load_fit(path: str | PathLike[str]) -> PosteriorFit:
    """A fit as ``save_fit`` wrote it; everything is in memory afterwards.

    Raises
    ------
    DataError
        There is no such file, it is not a fit of hierpool, or a newer hierpool wrote it.
    MissingPackageError
        The package for this kind of file is not installed.
    """
    source = Path(path)
    return _as_fit(_read_tree(source), source)


def _check_target(target: Path) -> None:
    if target.suffix not in (*NETCDF, ZARR):
        raise ArgumentError(
            f"a fit is saved to a file that ends in .nc, or a folder that ends in .zarr; this is "
            f"{target.name!r}. Write fit.save({(target.stem or 'fit') + '.nc'!r}).",
            "unknown-suffix",
        )
    _check_packages(target.suffix == ZARR)
    if target.suffix != ZARR:
        check_file(target)
    elif check_folder(target).exists():
        _check_is_store(target)


def _check_is_store(folder: Path) -> None:
    """Raise where a folder holds anything but a Zarr store: all of it would be replaced."""
    files = [p for p in folder.rglob("*") if not p.is_dir()]
    other = [p.relative_to(folder) for p in files if not _OF_ZARR.fullmatch(p.name)]
    if other or not any((folder / name).exists() for name in ("zarr.json", ".zgroup")):
        held = f"holds {str(other[0])!r}" if other else "is no Zarr folder"
        raise StorageError(
            f"{str(folder)!r} is there already and {held}, which would be lost. Take another name.",
            "in-the-way",
        )


def _check_packages(zarr: bool) -> None:
    kind, needed = ("a Zarr folder", ["zarr"]) if zarr else ("a NetCDF file", ["h5netcdf", "h5py"])
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"{kind} needs the package {' and '.join(missing)}, which is not installed. "
            f"Type: pip install {' '.join(missing)}",
            "missing-package",
        )


def _read_tree(source: Path) -> xr.DataTree:
    if not source.exists():
        raise DataError(f"there is no file {str(source)!r}.", "no-such-file")
    is_zarr = source.is_dir()
    _check_packages(is_zarr)
    options: dict[str, Any] = {"consolidated": False} if is_zarr else {}
    try:
        with xr.open_datatree(source, engine="zarr" if is_zarr else "h5netcdf", **options) as tree:
            return tree.load()
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{str(source)!r} cannot be read as {'a Zarr folder' if is_zarr else 'a NetCDF file'}: "
            "it is another kind of file, or cut short. Fits are written with fit.save(path).",
            "not-a-fit",
        ) from error


def _as_tree(fit: PosteriorFit) -> xr.DataTree:
    """Everything as one tree that NetCDF and Zarr can hold."""
    design, rows = fit.design, fit.design.rows
    columns = {name: _pack(design.frame[name], f"column {name!r}") for name in design.frame}
    labels = [_pack(pd.Series(rows.get_level_values(k)), "the index") for k in range(rows.nlevels)]
    document = {
        "spec": design.spec,
        "label": design.label,
        "notices": design.notices,
        "priors": fit.priors,
        "status": fit.status,
        "info": dict(fit.info),
        "attrs": {node.path: _attrs(node) for node in fit.datatree.subtree},
        "columns": [(name, about) for name, (about, _) in columns.items()],
        "index": (list(rows.names), [about for about, _ in labels]),
        "range": (rows.start, rows.stop, rows.step) if isinstance(rows, pd.RangeIndex) else None,
    }
    packed = {f"column_{k}": values for k, (_, values) in enumerate(columns.values())}
    packed |= {f"index_{k}": values for k, (_, values) in enumerate(labels)}
    text = json.dumps(_encode(document), ensure_ascii=False, allow_nan=False)
    groups = {node.path: _writable(node) for node in fit.datatree.subtree}
    about = {"format": FORMAT, "version": __version__}
    groups[f"/{OWN_GROUP}"] = xr.Dataset({"document": ((), text)}, attrs=about)
    groups[f"/{OWN_GROUP}/frame"] = xr.Dataset({k: ("row", v) for k, v in packed.items()})
    return xr.DataTree.from_dict(groups)


def _as_fit(tree: xr.DataTree, source: Path) -> PosteriorFit:
    """The fit that ``_as_tree`` was given."""
    own = tree.children.get(OWN_GROUP)
    if own is None or "format" not in own.attrs:
        raise DataError(
            f"{source} holds the groups {listed(tree.children)} and no fit of hierpool. "
            "Read it with az.from_netcdf(path), or write fits with fit.save(path).",
            "not-a-fit",
        )
    if int(own.attrs["format"]) > FORMAT:
        raise DataError(
            f"{source} was written by hierpool {own.attrs.get('version', 'unknown')} (format "
            f"{own.attrs['format']}); this is hierpool {__version__}, which reads formats up to "
            f"{FORMAT}. Type: pip install -U hierpool",
            "newer-format",
        )
    document = _decode(json.loads(own["document"].item()))
    design = _design(document, own["frame"].to_dataset(), source)
    datatree = _datatree(tree, document["attrs"])
    _check_design(design, datatree, source)
    return PosteriorFit(design, document["priors"], datatree, document["status"], document["info"])


def _attrs(node: xr.DataTree) -> dict[str, dict[str, Any]]:
    """Attributes of a group, under ``""``, and of its variables; JSON keeps what NetCDF cannot."""
    every = {"": node.attrs, **{str(k): v.attrs for k, v in node.variables.items()}}
    return {name: dict(attrs) for name, attrs in every.items() if attrs}


def _writable(node: xr.DataTree) -> xr.Dataset:
    """A group's variables with text as fixed-width text and the attributes that NetCDF takes."""
    data = node.to_dataset(inherit=False).drop_encoding()
    text = {k: v.astype(str) for k, v in data.variables.items() if v.dtype.kind in "OT"}
    data = data.assign({k: v for k, v in text.items() if k not in data.coords})
    data = data.assign_coords({k: v for k, v in text.items() if k in data.coords})
    data.attrs = _plain(data.attrs)
    for variable in data.variables.values():
        variable.attrs = _plain(variable.attrs)
    return data


def _plain(attrs: Mapping[Any, Any]) -> dict[Any, Any]:
    return {k: v for k, v in attrs.items() if type(v) in (str, int, float)}


def _datatree(tree: xr.DataTree, attrs: Mapping[str, Mapping[str, Any]]) -> xr.DataTree:
    """The groups as they were, without our own."""
    groups = {
        node.path: node.to_dataset(inherit=False).drop_encoding()
        for node in tree.subtree
        if node.path.split("/")[1] != OWN_GROUP
    }
    for path, own in attrs.items():
        for name, values in own.items():
            item: Any = groups[path].variables[name] if name else groups[path]
            item.attrs = dict(values)
    return xr.DataTree.from_dict(groups)


def _design(document: Mapping[str, Any], packed: xr.Dataset, source: Path) -> Design:
    """The design, built again from the stored columns."""
    names, labels = document["index"]
    levels = [
        pd.Index(_unpack(about, packed[f"index_{k}"].to_numpy())) for k, about in enumerate(labels)
    ]
    index: pd.Index[Any]
    if document["range"] is not None:
        start, stop, step = document["range"]
        index = pd.RangeIndex(start, stop, step, name=names[0])
    elif len(levels) == 1:
        index = levels[0].rename(names[0])
    else:
        index = pd.MultiIndex.from_arrays(levels, names=names)
    frame = pd.DataFrame(
        {
            name: _unpack(about, packed[f"column_{k}"].to_numpy())
            for k, (name, about) in enumerate(document["columns"])
        }
    ).set_axis(index, axis=0)
    try:
        design = build_design(document["spec"], frame)
    except (DataError, ArgumentError) as error:
        raise _changed(source, f"it says now: {error.message}") from error
    return replace(design, notices=document["notices"], label=document["label"])


def _check_design(design: Design, datatree: xr.DataTree, source: Path) -> None:
    """Raise where this hierpool makes other rows or columns of the data than the fit has."""
    posterior = datatree["posterior"]
    wanted = {"term": design.terms}
    for group in design.groups:
        wanted[f"{group.factor}_term"] = group.terms
        wanted[group.factor] = tuple(str(v) for v in group.grouping.levels)
    for dim, labels in wanted.items():
        stored = [str(v) for v in posterior[dim].to_numpy()] if dim in posterior.coords else []
        if stored != [str(v) for v in labels]:
            raise _changed(source, f"{dim!r} was {listed(stored)} and is {listed(labels)}")
    y = datatree["observed_data"][RESPONSE].to_numpy()
    if y.shape != design.y.shape or not np.allclose(y, design.y, rtol=1e-9):
        raise _changed(source, f"the response {design.spec.response} has other values ({OBS_DIM})")


def _changed(source: Path, what: str) -> DataError:
    return DataError(
        f"{source}: this hierpool, {__version__}, reads the stored data differently from the one "
        f"that made the fit; {what}. Read the draws with az.from_netcdf(path), or fit again.",
        "design-changed",
    )


def _pack(column: pd.Series[Any], what: str) -> tuple[dict[str, Any], np.ndarray]:
    """A column as numbers, and what is needed to read them: see ``_unpack``."""
    dtype = column.dtype
    about: dict[str, Any] = {"kind": "numbers", "dtype": str(dtype)}
    if isinstance(dtype, pd.CategoricalDtype):
        inner, values = _pack(pd.Series(dtype.categories), what)
        about |= {"kind": "categories", "ordered": bool(dtype.ordered)}
        about |= {"inner": inner, "values": values.tolist()}
        return about, column.cat.codes.to_numpy(dtype=np.int64)
    if isinstance(dtype, pd.PeriodDtype):
        about["kind"] = "periods"
        return about, np.asarray(pd.PeriodIndex(column).asi8)
    if dtype.kind in ("m", "M") and not isinstance(dtype, pd.ArrowDtype):
        return about, np.asarray(pd.Index(column).asi8)
    if pd.api.types.is_bool_dtype(dtype) and not column.isna().any():
        return about, column.to_numpy(dtype=np.int8)
    if pd.api.types.is_numeric_dtype(dtype):
        if isinstance(dtype, np.dtype) and dtype.itemsize > 2:
            return about, column.to_numpy()
        if not column.isna().any():
            whole = pd.api.types.is_integer_dtype(dtype)
            return about, np.asarray(column, dtype=np.int64 if whole else np.float64)
    codes, labels = pd.factorize(column.astype(object))
    about |= {"kind": "labels", "labels": [_label(v, what) for v in labels]}
    return about, codes.astype(np.int64)


def _unpack(about: Mapping[str, Any], values: np.ndarray) -> pd.Series[Any]:
    """The column that ``_pack`` packed."""
    kind, dtype = about["kind"], about["dtype"]
    if kind == "categories":
        stored = np.array(about["values"])
        categories = pd.Index(_unpack(about["inner"], stored))
        chosen = pd.Categorical.from_codes(values, categories, ordered=about["ordered"])
        return pd.Series(chosen)
    if kind == "periods":
        return pd.Series(pd.arrays.PeriodArray(values, pd.PeriodDtype(dtype)))
    if kind == "labels":
        labels = np.empty(len(about["labels"]) + 1, dtype=object)
        labels[:-1] = about["labels"]
        labels[-1] = None  # code -1
        return pd.Series(labels[values], dtype=object).astype(dtype)
    return pd.Series(values).astype(dtype)


def _label(value: Any, what: str) -> Any:
    try:
        _encode(value)
    except TypeError as error:
        raise DataError(
            f"{what} holds a {type(value).__name__}, {value!r}, which no file can keep. "
            "Make it text, .astype(str), before fitting.",
            "label-not-storable",
        ) from error
    return value


def _encode(value: Any) -> Any:
    """Plain data of JSON; tuples, nouns, arrays and dates become objects with a tag."""
    if value is None or isinstance(value, (bool, str)):
        return value if value is None or isinstance(value, bool) else str(value)
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    elif isinstance(value, np.generic):
        return _encode(value.item())
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if np.isfinite(value) else {_TAG: "float", "value": str(value)}
    if isinstance(value, list):
        return [_encode(v) for v in value]
    if isinstance(value, Mapping):
        if _TAG not in value and all(isinstance(k, str) for k in value):
            return {str(k): _encode(v) for k, v in value.items()}
        return {_TAG: "dict", "value": [[_encode(k), _encode(v)] for k, v in value.items()]}
    if is_dataclass(value) and type(value).__name__ in _NOUNS:
        inside = {f.name: _encode(getattr(value, f.name)) for f in fields(value)}
        return {_TAG: type(value).__name__, **inside}
    for name, (kind, write, _) in _OTHERS.items():
        if isinstance(value, kind):
            return {_TAG: name, "value": _encode(write(value))}
    raise TypeError(f"{type(value).__name__} {value!r} cannot be written as JSON")


def _decode(value: Any) -> Any:
    """What ``_encode`` was given."""
    if isinstance(value, list):
        return [_decode(v) for v in value]
    if not isinstance(value, dict):
        return value
    inside = {k: _decode(v) for k, v in value.items() if k != _TAG}
    if _TAG not in value:
        return inside
    name = value[_TAG]
    if name == "Prior":
        return Prior(inside["family"], of=inside.get("of", "sd"), **inside["parameters"])
    return _NOUNS[name](**inside) if name in _NOUNS else _OTHERS[name][2](inside["value"])


# Tag -> type, what of it is written, how it is read again. A Timestamp is a datetime is a date.
_OTHERS: dict[str, tuple[Any, Any, Any]] = {
    "float": (float, str, float),
    "dict": (dict, dict.items, dict),
    "tuple": (tuple, list, tuple),
    "slice": (slice, lambda s: [s.start, s.stop, s.step], lambda v: slice(*v)),
    "array": (np.ndarray, lambda a: [str(a.dtype), a.tolist()], lambda v: np.array(v[1], v[0])),
    "timestamp": (pd.Timestamp, str, pd.Timestamp),
    "datetime": (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "time": (datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
    "timedelta": (pd.Timedelta, pd.Timedelta.isoformat, pd.Timedelta),
    "duration": (
        datetime.timedelta,
        lambda d: d.total_seconds(),
        lambda s: datetime.timedelta(0, s),
    ),
    "decimal": (Decimal, str, Decimal),
    "interval": (pd.Interval, lambda i: [i.left, i.right, i.closed], lambda v: pd.Interval(*v)),
}
