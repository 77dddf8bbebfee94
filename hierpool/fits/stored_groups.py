"""Groups of draws in NetCDF: what it can store, what it cannot, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr


def attributes(node: xr.DataTree) -> dict[str, dict[str, Any]]:
    """Attributes of a group, under ``""``, and of its variables; JSON keeps what NetCDF cannot."""
    every = {"": node.attrs, **{str(k): v.attrs for k, v in node.variables.items()}}
    return {name: dict(every[name]) for name in sorted(every) if every[name]}


def writable(node: xr.DataTree) -> xr.Dataset:
    """A group's variables with text as fixed-width text and the attributes that NetCDF takes."""
    data = node.to_dataset(inherit=False).drop_encoding()
    text = {k: _plain_text(v) for k, v in data.variables.items() if v.dtype.kind in "OTU"}
    data = data.assign({k: v for k, v in text.items() if k not in data.coords})
    data = data.assign_coords({k: v for k, v in text.items() if k in data.coords})
    data.attrs = _plain(data.attrs)
    for variable in data.variables.values():
        variable.attrs = _plain(variable.attrs)
    return data


def _plain(attrs: Mapping[Any, Any]) -> dict[Any, Any]:
    return {
        k: v
        for k, v in attrs.items()
        if type(v) in (int, float) or (type(v) is str and _is_plain(v))
    }


def restored(
    tree: xr.DataTree,
    own_group: str,
    attrs: Mapping[str, Mapping[str, Any]],
    texts: Mapping[str, Mapping[str, list[str]]],
) -> xr.DataTree:
    """The groups as they were, without our own."""
    groups = {
        node.path: node.to_dataset(inherit=False).drop_encoding()
        for node in tree.subtree
        if node.path.split("/")[1] != own_group
    }
    for path, odd in texts.items():
        for name, labels in odd.items():
            old = groups[path].variables[name]
            whole = np.array(labels, dtype=object).reshape(old.shape)
            groups[path] = groups[path].assign({name: old.copy(data=whole)})
    for path, data in groups.items():
        own = attrs.get(path, {})
        data.attrs = dict(own.get("", {}))
        for key, variable in data.variables.items():
            variable.attrs = dict(own.get(str(key), {}))
    return xr.DataTree.from_dict(groups)


def _is_plain(text: str) -> bool:
    """Whether HDF5 can hold it: no null character, no half of a surrogate pair."""
    return _escaped(text) == text


def _escaped(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _plain_text(variable: xr.Variable) -> xr.Variable:
    escaped = [_escaped(str(v)) for v in variable.values.ravel()]
    return variable.copy(data=np.array(escaped, dtype=str).reshape(variable.shape))


def odd_texts(node: xr.DataTree) -> dict[str, list[str]]:
    """Labels of a group that NetCDF cannot hold, by variable; it gets them with escapes."""
    found = {}
    for name, variable in sorted(node.variables.items(), key=lambda item: str(item[0])):
        if variable.dtype.kind in "OTU":
            texts = [str(v) for v in variable.values.ravel()]
            if not all(map(_is_plain, texts)):
                found[str(name)] = texts
    return found
