"""Relationships between groups in a saved fit: labels, and the arrays they are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse

from hierpool.core.relationship import Relationship
from hierpool.core.spec import Spec
from hierpool.fits.stored_columns import pack_checked, unpack
from hierpool.formula.pedigrees import pedigree_of
from hierpool.formula.relationships import dense_of, sparse_precision_of


def without_relationships(spec: Spec) -> Spec:
    """The spec as the document keeps it."""
    return replace(spec, groups=tuple(replace(t, relationship=None) for t in spec.groups))


def with_stored(spec: Spec, kept: Mapping[str, Relationship]) -> Spec:
    """The spec with the relationships of its factors."""
    own = (replace(t, relationship=kept.get(t.factor)) for t in spec.groups)
    return replace(spec, groups=tuple(own))


def pack_relationships(spec: Spec) -> tuple[list[dict[str, Any]], dict[str, xr.Dataset]]:
    """What the document says of each relationship, and its arrays under the name of a group."""
    said, arrays = [], {}
    every = {t.factor: t.relationship for t in spec.groups if t.relationship is not None}
    for k, (factor, own) in enumerate(every.items()):
        about, labels = pack_checked(pd.Series(own.labels), f"the relationship of {factor!r}")
        said.append({"factor": factor, "kind": own.kind, "scale": own.scale, "labels": about})
        held: dict[str, Any] = {"labels": ("label", labels)}
        if own.parents is not None:
            held["parents"] = (("parent", "label"), own.parents)
        elif own.root is not None:
            held["root"] = (("label", "direction"), own.root)
        else:
            assert own.precision is not None
            entries = sparse.coo_array(own.precision)
            held["row"], held["column"] = ("entry", entries.row), ("entry", entries.col)
            held["value"] = ("entry", entries.data)
        arrays[f"relationship_{k}"] = xr.Dataset(held)
    return said, arrays


def unpack_relationships(
    said: Sequence[Mapping[str, Any]], own: xr.DataTree
) -> dict[str, Relationship]:
    """What ``pack_relationships`` packed, by factor; an error where it cannot be one."""
    found = {}
    for k, about in enumerate(said):
        arrays = {str(n): v.to_numpy() for n, v in own[f"relationship_{k}"].data_vars.items()}
        labels = pd.Index(unpack(about["labels"], arrays["labels"]))
        if labels.has_duplicates:
            raise ValueError("a relationship has a label twice")
        found[about["factor"]] = _unpacked(about, arrays, labels)
    return found


def _unpacked(
    about: Mapping[str, Any], arrays: Mapping[str, np.ndarray], labels: pd.Index[Any]
) -> Relationship:
    n, kind, scale = len(labels), about["kind"], float(about["scale"])
    if kind == "pedigree":
        parents = arrays["parents"]
        if parents.shape != (2, n) or parents.min(initial=-1) < -1 or parents.max(initial=-1) >= n:
            raise ValueError("the parents of a pedigree are not among its animals")
        return pedigree_of(labels, parents.astype(np.intp), about["factor"])
    if "root" in arrays:
        root = arrays["root"]
        if root.ndim != 2 or len(root) != n or not np.isfinite(root).all():
            raise ValueError("a relationship matrix has another shape than its labels")
        return dense_of(labels, kind, root, scale)
    row, column, value = (arrays[name] for name in ("row", "column", "value"))
    Q = sparse.csc_array((value, (row, column)), shape=(n, n))
    made = sparse_precision_of(Q, labels, f"relationship of {about['factor']!r}")
    return replace(made, precision=Q, scale=scale)
