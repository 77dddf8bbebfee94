"""Sums of a table in a saved fit, where the model was made of these: what is said of them, and arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hierpool.core.cells import Cells, Pieces
from hierpool.core.design import Design
from hierpool.core.summed_rows import Range
from hierpool.formula.build import CellRows, rows_of

_DIMS: Mapping[str, tuple[str, ...]] = {
    "counts": ("cell",),
    "S": ("cell", "sum", "other"),
    "plain": ("cell", "power", "number"),
    "log_sd": ("cell",),
    "squared_sd": ("cell",),
    "shift": ("number",),
    "scale": ("number",),
}


def cells_of(design: Design) -> Cells | None:
    """What a design was made of where there are only sums; None where it has rows."""
    if not design.is_summed:
        return None
    rows = rows_of(design)
    assert isinstance(rows, CellRows)
    return rows.cells


def pack_cells(cells: Cells) -> tuple[dict[str, Any], xr.Dataset]:
    """What the document says of cells beside their keys, and their arrays."""
    said = {
        "spec": cells.spec,
        "atoms": [list(atom) for atom in cells.atoms],
        "learned": {name: dict(state) for name, state in cells.learned.items()},
        "numbers": list(cells.numbers),
        "missing": dict(cells.missing),
        "n_read": cells.n_read,
        "label": cells.label,
        "ranges": {name: list(known) for name, known in cells.ranges.items()},
        "sources": list(cells.added),
        "pieces": {name: [own.degree, *own.edges] for name, own in cells.pieces.items()},
    }
    return said, xr.Dataset({name: (dims, getattr(cells, name)) for name, dims in _DIMS.items()})


def unpack_cells(said: Mapping[str, Any], keys: pd.DataFrame, packed: xr.Dataset) -> Cells:
    """What ``pack_cells`` packed, with its keys; an error where it cannot be one."""
    arrays = {name: packed[name].to_numpy() for name in _DIMS}
    _check(arrays, len(keys) if len(keys.columns) else 1, len(said["atoms"]))
    return Cells(
        spec=said["spec"],
        keys=keys.set_axis(pd.RangeIndex(len(arrays["counts"])), axis=0),
        atoms=tuple(map(tuple, said["atoms"])),
        learned=said["learned"],
        numbers=tuple(said["numbers"]),
        missing=said["missing"],
        n_read=said["n_read"],
        label=said["label"],
        ranges={name: Range(*values) for name, values in said["ranges"].items()},
        sources=tuple(said["sources"]),
        pieces={name: Pieces(int(v[0]), tuple(v[1:])) for name, v in said["pieces"].items()},
        **arrays,
    )


def _check(arrays: Mapping[str, np.ndarray], n_cells: int, n_atoms: int) -> None:
    m = n_atoms + 1
    sizes = {"cell": n_cells, "sum": m + 1, "other": m + 1, "power": 2, "number": m}
    for name, dims in _DIMS.items():
        found = arrays[name]
        if found.shape != tuple(sizes[d] for d in dims):
            raise ValueError(f"sums of shape {found.shape} in {name!r}")
        if found.dtype.kind not in "if" or not np.isfinite(found).all():
            raise ValueError(f"sums that are no numbers in {name!r}")
    if (arrays["counts"] < 1).any() or (arrays["scale"] <= 0).any():
        raise ValueError("sums of no rows")
