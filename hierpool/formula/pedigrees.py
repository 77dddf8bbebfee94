"""A pedigree: who is whose sire and dam, from a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from hierpool.core.errors import DataError, listed
from hierpool.core.relationship import Relationship, pedigree_relationship

_ANIMAL = ("animal", "id", "ind", "individual", "offspring", "calf")
_SIRE, _DAM = ("sire", "father"), ("dam", "mother")
PEDIGREE_COLUMNS = (*_ANIMAL, *_SIRE, *_DAM)
_NOBODY = ("", "0", ".", "NA")  # unknown parents, unless an animal has that name


def looks_like_pedigree(table: pd.DataFrame, factor: str) -> bool:
    """Whether a table without the labels of a matrix has a column of a pedigree."""
    if any(_named(table, names) is not None for names in (_SIRE, _DAM)):
        return True
    is_square = len(table) == table.shape[1]
    return not is_square and _named(table, (factor.casefold(), *_ANIMAL)) is not None


def read_pedigree(table: pd.DataFrame, factor: str) -> Relationship:
    """From columns animal, sire and dam; parents without a row of their own are founders."""
    where = f"relationship of {factor!r}"
    animal = factor if factor in table.columns else _named(table, _ANIMAL)
    sire, dam = _named(table, _SIRE), _named(table, _DAM)
    if animal is None or sire is None or dam is None:
        _fail_incomplete(table, factor, {"animal": animal, "sire": sire, "dam": dam})
    own = list(table[animal])
    if table[animal].isna().any():
        raise DataError(
            f"{where}: {int(table[animal].isna().sum())} rows have no animal. Remove them: "
            f"pedigree.dropna(subset=[{animal!r}])",
            "bad-pedigree",
        )
    if twice := list(dict.fromkeys(table[animal][table[animal].duplicated()])):
        rows = table.loc[table[animal].isin(twice), [animal, sire, dam]].drop_duplicates()
        differ = list(dict.fromkeys(rows[animal][rows[animal].duplicated()]))
        advice = f"Keep one for each animal: pedigree.drop_duplicates({animal!r})"
        if differ:
            advice = f"Those of {listed(differ)} name different parents: correct them, and keep one"
        raise DataError(
            f"{where}: {listed(twice)} {'has' if len(twice) == 1 else 'have'} several rows. {advice}",
            "bad-pedigree",
        )
    known = dict(zip(own, own, strict=True))
    # "12" is 12: a column with "." for unknown parents is read as text
    known = {**{str(name).strip(): name for name in own}, **known}
    parents = [[_parent(p, known) for p in table[c]] for c in (sire, dam)]
    extra = [p for p in dict.fromkeys([*parents[0], *parents[1]]) if p is not None]
    every = [*own, *(p for p in extra if p not in known)]
    place = {name: k for k, name in enumerate(every)}
    n = len(every)
    codes = np.full((2, n), -1)
    for k, names in enumerate(parents):
        codes[k, : len(own)] = [-1 if p is None else place[p] for p in names]
    return pedigree_of(pd.Index(every, dtype=object), codes, factor)


def _fail_incomplete(table: pd.DataFrame, factor: str, found: Mapping[str, Any]) -> NoReturn:
    """Raise with the columns that a pedigree lacks, and what to type."""
    missing = [name for name, column in found.items() if column is None]
    others = [c for c in table.columns if c not in found.values()]
    advice = []
    if "animal" in missing and str(table.index.name).casefold() in (factor.casefold(), *_ANIMAL):
        advice.append("its index is one: pedigree.reset_index()")
    elif others:
        names = dict(zip(others, missing, strict=False))
        advice.append(f"where names differ, pedigree.rename(columns={names})")
    elif "animal" in missing:
        advice.append("give each animal a row")
    advice += [f"if no {n} is known, pedigree[{n!r}] = None" for n in missing if n != "animal"]
    raise DataError(
        f"relationship of {factor!r}: a pedigree has columns animal, sire and dam, and this table "
        f"({listed(table.columns)}) lacks {listed(missing)}: {'; '.join(advice)}",
        "bad-pedigree",
    )


def pedigree_of(labels: pd.Index[Any], parents: np.ndarray, factor: str) -> Relationship:
    """From positions (2, N) of sire and dam, -1 for an unknown one."""
    depth = _generations(parents, list(labels), f"relationship of {factor!r}")
    return pedigree_relationship(labels, parents[0], parents[1], depth)


def _parent(cell: Any, known: Mapping[Any, Any]) -> Any:
    """A parent's name, as its own row has it; None for an unknown one."""
    if cell is None or cell is pd.NA or (isinstance(cell, float) and np.isnan(cell)):
        return None
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        cell = int(cell)  # whole numbers become floats beside missing ones
    if cell in known:
        return known[cell]
    text = str(cell).strip()
    return None if text in _NOBODY and text not in known else known.get(text, cell)


def _generations(codes: np.ndarray, names: Sequence[Any], where: str) -> np.ndarray:
    """Shape (N,): generations above each animal; an error where one is its own ancestor."""
    depth = np.zeros(len(names), dtype=int)
    for _ in range(len(names) + 1):
        above = np.where(codes >= 0, depth[codes] + 1, 0).max(axis=0)
        if (above <= depth).all():
            return depth
        depth = np.maximum(depth, above)
        if depth.max() > len(names):
            break
    at = int(depth.argmax())
    path = [at]
    while path.count(at) < 2:  # along the deepest parents the way leads into the loop
        sire, dam = codes[:, at]
        at = int(sire if dam < 0 or (sire >= 0 and depth[sire] >= depth[dam]) else dam)
        path.append(at)
    loop = path[path.index(at) :]
    raise DataError(
        f"{where}: {names[at]!r} is its own ancestor: "
        f"{', child of '.join(str(names[k]) for k in loop)}. One of these parents is wrong",
        "pedigree-loop",
    )


def _named(table: pd.DataFrame, names: Sequence[str]) -> Any:
    """The column with one of these names, whatever its capitals."""
    return next((c for n in names for c in table.columns if str(c).casefold() == n), None)
