"""A posterior fit in one NetCDF file, or in one Zarr folder.

The ordinary groups stand in the file as ArviZ writes them, so ``az.from_netcdf`` reads them. A
further group, ``hierpool``, holds the rest: a document in JSON (spec, priors, notices, status) and
the user's columns, from which the design is built again on loading.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
import pandas as pd
import xarray as xr

from hierpool import __version__
from hierpool.core.design import Design
from hierpool.core.errors import (
    ArgumentError,
    DataError,
    HierpoolError,
    MissingPackageError,
    StorageError,
    listed,
)
from hierpool.core.results import OBS_DIM, RESPONSE
from hierpool.core.writing import check_file, check_folder, write_file, write_folder
from hierpool.fits.record import FitRecord
from hierpool.fits.stored_cells import cells_of, pack_cells, unpack_cells
from hierpool.fits.stored_checks import check_draws, check_priors
from hierpool.fits.stored_columns import pack_checked, unpack
from hierpool.fits.stored_document import check_document
from hierpool.fits.stored_files import (
    Unlike,
    check_hdf5,
    check_seal,
    check_zarr,
    read_files,
    sealed,
    sealed_zarr,
)
from hierpool.fits.stored_groups import attributes, odd_texts, restored, writable
from hierpool.fits.stored_relationships import (
    pack_relationships,
    unpack_relationships,
    with_stored,
    without_relationships,
)
from hierpool.fits.stored_values import decode, encode
from hierpool.formula.build import build_design

ZARR_FROM = (3, 1)
FORMAT = 2  # of the group ``hierpool``; goes up when what is written changes
OWN_GROUP = "hierpool"
NETCDF, ZARR = (".nc", ".nc4"), ".zarr"
_OF_ZARR = re.compile(r"zarr\.json|\.z(group|array|attrs|metadata)|c|[0-9]+(\.[0-9]+)*|\.DS_Store")


def save_record(fit: FitRecord, path: str | PathLike[str]) -> None:
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
        files = _encoded(lambda: sealed_zarr(_zarr_files(tree)))
        _check_kept(tree, lambda: _open_zarr(files), target)
        write_folder(target, files)
    else:
        content = _encoded(lambda: sealed(tree.to_netcdf(engine="h5netcdf")))
        _check_kept(tree, lambda: _open_netcdf(content), target)
        write_file(target, content)


def _encoded[T](encoding: Callable[[], T]) -> T:
    """What is made; an error of the library that makes it is one of ours."""
    try:
        return encoding()
    except (ValueError, TypeError) as error:
        raise _not_kept(_first_line(error)) from error


def _check_kept(tree: xr.DataTree, opening: Callable[[], xr.DataTree], target: Path) -> None:
    """Raise where the fit does not come back from its encoding; nothing is written yet.

    Document, columns, labels and the form of the draws are compared. The draws are not read.
    """
    try:
        with opening() as back:
            again = _as_tree(_as_record(back, target))
            changed = [node.path for node in tree.subtree if not _is_alike(node, again)]
    except Exception as error:
        raise _not_kept(
            error.message if isinstance(error, HierpoolError) else _first_line(error)
        ) from error
    if changed:
        raise _not_kept(f"{listed(changed)} would be read differently")


def _is_alike(node: xr.DataTree, others: xr.DataTree) -> bool:
    """Whether a group is the same in the other tree, but for the values of draws."""
    paths = {other.path: other for other in others.subtree}
    if node.path not in paths:
        return False
    one, other = (each.to_dataset(inherit=False) for each in (node, paths[node.path]))
    if node.path.split("/")[1] == OWN_GROUP:
        return bool(one.identical(other))
    forms = [
        {k: (v.dims, v.shape, v.dtype.kind) for k, v in d.data_vars.items()} for d in (one, other)
    ]
    return forms[0] == forms[1] and bool(
        one.coords.to_dataset().identical(other.coords.to_dataset())
    )


def _not_kept(reason: str) -> StorageError:
    return StorageError(
        f"the fit was not saved, because it would not come back unchanged: {reason}. Fit with "
        "columns of plain numbers and text.",
        "not-kept",
    )


def _zarr_files(tree: xr.DataTree) -> dict[str, bytes]:
    """Path within the folder -> content."""
    from zarr.storage import MemoryStore

    kept: dict[str, Any] = {}
    # Consolidated metadata is not yet in the specification of Zarr 3, and zarr warns of it.
    tree.to_zarr(MemoryStore(kept), mode="w", consolidated=False)
    return {name: part.to_bytes() for name, part in kept.items()}


def load_record(path: str | PathLike[str]) -> FitRecord:
    """What ``save_record`` wrote; everything is in memory afterwards.

    Raises
    ------
    StorageError
        There is no such file, it is not a fit of hierpool or a damaged one, or a newer hierpool
        wrote it.
    MissingPackageError
        The package for this kind of file is not installed.
    """
    source = Path(path)
    return _as_record(_read_tree(source), source)


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
        held = f"holds {str(other[0])!r}" if other else "is not a Zarr folder"
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
            f"Type: pip install {'"hierpool[zarr]"' if zarr else ' '.join(missing)}",
            "missing-package",
        )
    if zarr and _version_of("zarr") < ZARR_FROM:
        raise MissingPackageError(
            f"a Zarr folder needs zarr {'.'.join(map(str, ZARR_FROM))} or later, and {version('zarr')} "
            'is installed. Type: pip install -U "hierpool[zarr]"',
            "missing-package",
        )


def _version_of(package: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version(package))[:2])


def _read_tree(source: Path) -> xr.DataTree:
    """Everything in memory; whatever a library says of a file of another kind is a StorageError."""
    try:
        if not source.exists():
            raise StorageError(f"there is no file {str(source)!r}.", "no-such-file")
        is_zarr = source.is_dir()
        _check_packages(is_zarr)
        content = read_files(source) if is_zarr else source.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, StorageError):
            raise
        if isinstance(error, Unlike):
            raise _not_a_fit(source, "a Zarr folder", error) from error
        reason = (
            os.strerror(error.errno).lower()
            if isinstance(error, OSError) and error.errno
            else error
        )
        raise StorageError(
            f"{str(source)!r} cannot be read: {reason}.", "unreadable-file"
        ) from error
    try:
        with _open_netcdf(content) if isinstance(content, bytes) else _open_zarr(content) as tree:
            return tree.load()
    except Exception as error:  # of HDF5, zarr, xarray: there is no list of what they raise
        raise _not_a_fit(source, "a Zarr folder" if is_zarr else "a NetCDF file", error) from error


def _open_netcdf(content: bytes) -> xr.DataTree:
    check_seal(content)
    check_hdf5(content)
    return xr.open_datatree(BytesIO(content), engine="h5netcdf")


def _open_zarr(files: Mapping[str, bytes]) -> xr.DataTree:
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    check_zarr(files)
    buffer = default_buffer_prototype().buffer
    store: Any = MemoryStore({name: buffer.from_bytes(part) for name, part in files.items()})
    return xr.open_datatree(store, engine="zarr", consolidated=False, zarr_format=3)


def _not_a_fit(source: Path, kind: str, error: Exception) -> StorageError:
    """Told by what is unlike our files, where that was seen before reading it."""
    ours = isinstance(error, (Unlike, msgspec.ValidationError))
    why = f": {error}" if ours else ": it is another kind of file, or cut short"
    return StorageError(
        f"{str(source)!r} cannot be read as {kind} of hierpool{why}. "
        "Fits are written with fit.save(path).",
        "not-a-fit",
    )


def _as_tree(fit: FitRecord) -> xr.DataTree:
    """Everything as one tree that NetCDF and Zarr can hold."""
    design = fit.design
    cells = cells_of(design)
    frame = design.frame if cells is None else cells.keys
    said, sums = (None, None) if cells is None else pack_cells(cells)
    rows = frame.index
    columns = {name: pack_checked(frame[name], f"column {name!r}") for name in frame}
    labels = [
        pack_checked(pd.Series(rows.get_level_values(k)), "the index") for k in range(rows.nlevels)
    ]
    nodes = sorted(fit.draws.subtree, key=lambda node: node.path)
    related, arrays = pack_relationships(design.spec)
    document = {
        "spec": without_relationships(design.spec),
        "relationships": related,
        "label": design.label,
        "notices": design.notices,
        "priors": fit.priors,
        "status": fit.status,
        "info": dict(fit.info),
        "attrs": {node.path: attributes(node) for node in nodes},
        "columns": [(name, about) for name, (about, _) in columns.items()],
        "index": (list(rows.names), [about for about, _ in labels]),
        "range": (rows.start, rows.stop, rows.step) if isinstance(rows, pd.RangeIndex) else None,
        "texts": {node.path: odd_texts(node) for node in nodes},
    }
    if said is not None:
        document["cells"] = said
    packed = {f"column_{k}": values for k, (_, values) in enumerate(columns.values())}
    packed |= {f"index_{k}": values for k, (_, values) in enumerate(labels)}
    try:
        text = json.dumps(encode(document), allow_nan=False)
    except TypeError as error:
        raise _not_kept(str(error)) from error
    groups = {node.path: writable(node) for node in fit.draws.subtree}
    about = {"format": FORMAT, "version": __version__}
    groups[f"/{OWN_GROUP}"] = xr.Dataset({"document": ((), text)}, attrs=about)
    groups[f"/{OWN_GROUP}/frame"] = xr.Dataset({k: ("row", v) for k, v in packed.items()})
    groups |= {f"/{OWN_GROUP}/{name}": held for name, held in arrays.items()}
    if sums is not None:
        groups[f"/{OWN_GROUP}/cells"] = sums
    return xr.DataTree.from_dict(groups)


def _as_record(tree: xr.DataTree, source: Path) -> FitRecord:
    """The record that ``_as_tree`` was given."""
    own = tree.children.get(OWN_GROUP)
    if own is None or "format" not in own.attrs:
        raise StorageError(
            f"{source} holds the groups {listed(tree.children)} and is not a fit of hierpool. "
            "Read it with az.from_netcdf(path), or write fits with fit.save(path).",
            "not-a-fit",
        )
    try:
        _check_format(own, source)
        document = _read_document(own["document"].item())
        kept = unpack_relationships(document.get("relationships", []), own)
        document["spec"] = with_stored(document["spec"], kept)
        design = _design(document, own, source)
        datatree = restored(tree, OWN_GROUP, document["attrs"], document.get("texts", {}))
        has_levels = document["info"].get("levels") != "on request"
        _check_design(design, datatree, source, has_levels)
        check_draws(design.schema, datatree, has_levels)
        check_priors(design.schema, document["priors"])
    except (StorageError, MissingPackageError):
        raise
    except Exception as error:  # whatever is in it: nothing of a damaged file is used
        raise _damaged(source, error) from error
    return FitRecord(design, document["priors"], datatree, document["status"], document["info"])


def _check_format(own: xr.DataTree, source: Path) -> None:
    found = int(own.attrs["format"])
    by = f"{source} was written by hierpool {own.attrs.get('version', 'unknown')} (format {found})"
    if found > FORMAT:
        raise StorageError(
            f"{by}; this is hierpool {__version__}, which reads format {FORMAT}. "
            "Type: pip install -U hierpool",
            "newer-format",
        )
    if found < FORMAT:
        raise StorageError(
            f"{by}, which is too old for hierpool {__version__} (format {FORMAT}): fit the model "
            "again, and save that fit.",
            "older-format",
        )


def _read_document(text: str) -> dict[str, Any]:
    plain = json.loads(text, parse_constant=_no_constant)
    json.dumps(plain, ensure_ascii=False).encode()  # an error where a text has half a character
    check_document(plain)
    return dict(decode(plain))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"it has {name} in place of a number")


def _first_line(error: Exception) -> str:
    text = error.message if isinstance(error, HierpoolError) else str(error)
    return text.strip().partition("\n")[0][:200].rstrip(".") or type(error).__name__


def _damaged(source: Path, error: Exception) -> StorageError:
    said = _first_line(error)
    return StorageError(
        f"{str(source)!r} was changed or damaged after it was saved, and is not loaded: {said}. "
        "Use a copy of it, or fit again.",
        "damaged-fit",
    )


def _design(document: Mapping[str, Any], own: xr.DataTree, source: Path) -> Design:
    """The design, built again from the stored columns or sums."""
    packed, said = own["frame"].to_dataset(), document.get("cells")
    frame: Any = _frame(document, packed)
    if said is not None:
        frame = unpack_cells(said, frame, own["cells"].to_dataset())
    elif not len(frame.columns):
        raise ValueError("it has no columns")
    try:
        design = build_design(document["spec"], frame)
    except (DataError, ArgumentError) as error:
        raise _changed(source, f"the error is now: {error.message}") from error
    return design.with_schema(notices=document["notices"], label=document["label"])


def _frame(document: Mapping[str, Any], packed: xr.Dataset) -> pd.DataFrame:
    """The stored columns."""
    names, labels = document["index"]
    levels = [
        pd.Index(unpack(about, packed[f"index_{k}"].to_numpy())) for k, about in enumerate(labels)
    ]
    index: pd.Index[Any]
    if document["range"] is not None:
        start, stop, step = document["range"]
        index = pd.RangeIndex(start, stop, step, name=names[0])
    elif len(levels) == 1:
        index = levels[0].rename(names[0])
    else:
        index = pd.MultiIndex.from_arrays(levels, names=names)
    columns = {
        name: unpack(about, packed[f"column_{k}"].to_numpy())
        for k, (name, about) in enumerate(document["columns"])
    }
    return pd.DataFrame(columns, index=pd.RangeIndex(len(index))).set_axis(index, axis=0)


def _check_design(design: Design, datatree: xr.DataTree, source: Path, has_levels: bool) -> None:
    """Raise where this hierpool makes other rows or columns of the data than the fit has."""
    posterior = datatree["posterior"]
    wanted = {"term": design.terms}
    for group in design.groups:
        wanted[f"{group.factor}_term"] = group.terms
        if has_levels:
            wanted[group.factor] = tuple(str(v) for v in group.grouping.levels)
    for dim, labels in wanted.items():
        stored = [str(v) for v in posterior[dim].to_numpy()] if dim in posterior.coords else []
        if stored != [str(v) for v in labels]:
            raise _changed(source, f"{dim!r} was {listed(stored)} and is {listed(labels)}")
    if design.is_summed:
        return
    y = datatree["observed_data"][RESPONSE].to_numpy()
    if y.shape != design.y.shape or not np.allclose(y, design.y, rtol=1e-9):
        raise _changed(source, f"the response {design.spec.response} has other values ({OBS_DIM})")


def _changed(source: Path, what: str) -> StorageError:
    return StorageError(
        f"{source}: this hierpool, {__version__}, reads the stored data differently from the "
        f"version that made the fit; {what}. Read the draws with az.from_netcdf(path), or fit "
        "again.",
        "design-changed",
    )
