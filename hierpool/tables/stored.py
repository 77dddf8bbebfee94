"""Moments in a file: arrays and a text of JSON, nothing that runs when it is read."""

from __future__ import annotations

import io
import json
import zipfile
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from hierpool.core.cells import Cells, Pieces
from hierpool.core.errors import HierpoolError, StorageError
from hierpool.core.families.bernoulli import Bernoulli
from hierpool.core.families.family import Family
from hierpool.core.families.table import resolve
from hierpool.core.labels import plain_labels
from hierpool.core.summed_rows import Range
from hierpool.core.writing import write_file
from hierpool.formula.parse import parse, with_family, with_residuals

_FORMAT = 1
_ARRAYS = ("counts", "S", "plain", "log_sd", "squared_sd", "shift", "scale")


def written(cells: Cells, path: str | PathLike[str]) -> None:
    """Write cells to a file, whole or not at all."""
    arrays = {name: getattr(cells, name) for name in _ARRAYS}
    columns = []
    for k, name in enumerate(cells.keys.columns):
        values, said = _packed(cells.keys[name], str(name))
        arrays[f"key{k}"] = values
        columns.append({"name": str(name), **said})
    about = {
        "hierpool_moments": _FORMAT,
        "formula": cells.spec.formula,
        "residual": cells.spec.residual.arguments,
        "family": _family(cells.spec.family),
        "atoms": cells.atoms,
        "learned": cells.learned,
        "numbers": cells.numbers,
        "missing": dict(cells.missing),
        "ranges": cells.ranges,
        "pieces": cells.pieces,
        "n_read": cells.n_read,
        "label": cells.label,
        "sources": cells.added,
        "keys": columns,
    }
    content = io.BytesIO()
    np.savez_compressed(content, about=np.array(json.dumps(about)), **arrays)
    write_file(path, content.getbuffer())


def read(path: str | PathLike[str]) -> Cells:
    """Cells from a file.

    Raises
    ------
    StorageError
        It cannot be read, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            if about["hierpool_moments"] != _FORMAT:
                raise StorageError(
                    f"{str(path)!r} was written by a newer hierpool. Update hierpool to read it",
                    "not-moments",
                )
            arrays = {name: file[name] for name in _ARRAYS}
            keys = {
                str(said["name"]): _unpacked(file[f"key{k}"], said)
                for k, said in enumerate(about["keys"])
            }
            spec = with_residuals(
                parse(about["formula"]),
                about["residual"].get("weights"),
                about["residual"].get("known_se"),
            )
            if about.get("family"):
                name, link, event = about["family"]
                family = resolve(name, link)
                known = family if event is None else Bernoulli(link, event=event)
                spec = with_family(spec, known, None)
            return Cells(
                spec=spec,
                keys=pd.DataFrame(keys, index=pd.RangeIndex(len(arrays["counts"]))),
                atoms=tuple(map(tuple, about["atoms"])),
                learned=about["learned"],
                numbers=tuple(about["numbers"]),
                missing=about["missing"],
                ranges={name: Range(*values) for name, values in about["ranges"].items()},
                pieces={
                    name: Pieces(degree, tuple(edges))
                    for name, (degree, edges) in about.get("pieces", {}).items()
                },
                n_read=int(about["n_read"]),
                label=str(about["label"]),
                sources=tuple(about["sources"]),
                **arrays,
            )
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        if isinstance(error, HierpoolError):
            raise
        is_missing = isinstance(error, FileNotFoundError)
        what = "does not exist" if is_missing else "is not a file of moments, or it is damaged"
        raise StorageError(
            f"{str(path)!r} {what}. Write it with moments.save(path)",
            "not-moments",
        ) from error


def _family(family: Family | None) -> list[Any] | None:
    return None if family is None else [family.name, family.link, getattr(family, "event", None)]


def _packed(column: pd.Series[Any], name: str) -> tuple[np.ndarray, dict[str, Any]]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        categories, said = _packed(pd.Series(plain_labels(column.cat.categories)), name)
        kept = {"categories": categories.tolist(), "ordered": bool(column.cat.ordered)}
        return column.cat.codes.to_numpy(dtype=np.int64), {"kind": "category", **kept, "of": said}
    labels = plain_labels(pd.Index(column))
    if isinstance(labels, pd.DatetimeIndex) and labels.tz is None:
        return labels.as_unit("us").asi8, {"kind": "time"}
    if labels.dtype.kind in "iufb":
        return labels.to_numpy(), {"kind": "number"}
    if all(isinstance(label, str) for label in labels):
        return labels.to_numpy(dtype=str), {"kind": "text"}
    raise StorageError(
        f"the values of {name!r} are of a kind that cannot be written ({labels.dtype}). Make them "
        "text or numbers in the table, and collect again",
        "cannot-store",
    )


def _unpacked(values: np.ndarray, said: dict[str, Any]) -> Any:
    kind = said["kind"]
    if kind == "category":
        labels = _unpacked(np.array(said["categories"]), said["of"])
        return pd.Categorical.from_codes(values, categories=labels, ordered=said["ordered"])
    if kind == "time":
        return pd.DatetimeIndex(values.astype("datetime64[us]"))
    return values.astype(object) if kind == "text" else values
