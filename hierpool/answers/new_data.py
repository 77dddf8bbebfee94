"""Rows to predict, with known, new or average groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from hierpool.algebra.combinations import Combinations, LevelPart
from hierpool.core.arguments import check_choice, is_word, shown
from hierpool.core.design import Design, GroupDesign
from hierpool.core.errors import ArgumentError, DataError, UnsupportedModelError, listed, nearest
from hierpool.core.residual import Residual

Levels = Literal["known", "new", "all new", "population", "average"]
Kind = Literal["mean", "response"]
_READ: tuple[Levels, ...] = ("known", "new", "all new")  # those that need the factor's column


@dataclass(frozen=True)
class FactorRows:
    """The rows as one factor sees them.

    Attributes
    ----------
    group
        The factor.
    levels
        What the levels stand for.
    Z
        Shape (n, q).
    codes
        Shape (n,): position of the level where it is used as known, -1 elsewhere.
    labels
        Label of each row's level; None where it is not asked.
    """

    group: GroupDesign
    levels: Levels
    Z: np.ndarray
    codes: np.ndarray
    labels: pd.Index[Any] | None

    @property
    def is_known(self) -> np.ndarray:
        """Shape (n,): rows whose level has coefficients in the fit."""
        return self.codes >= 0

    @property
    def is_new(self) -> np.ndarray:
        """Shape (n,): rows whose level is drawn anew, one draw for all rows of its label."""
        return (self.codes < 0) & (self.levels in ("new", "all new"))


@dataclass(frozen=True)
class NewRows:
    """Rows in the columns of a model.

    Attributes
    ----------
    X, offset
        Shapes (n, p) and (n,).
    factors
        One entry a factor, in the order of the design's groups.
    residual
        How the rows vary about their means.
    index
        The user's index.
    """

    X: np.ndarray
    offset: np.ndarray
    factors: tuple[FactorRows, ...]
    residual: Residual
    index: pd.Index[Any]

    def __len__(self) -> int:
        return len(self.X)

    @property
    def combinations(self) -> Combinations:
        """What the fit has estimated of each row's expected value."""
        parts = []
        for f in self.factors:
            which = np.flatnonzero(f.is_known)
            parts.append(LevelPart(which, f.codes[which], f.Z[which]))
        return Combinations(self.X, tuple(parts))


def read_rows(
    design: Design, data: Any, levels: Levels | Mapping[str, Levels], kind: Kind
) -> NewRows:
    """Rows of a table, or of the fit where it is None, checked."""
    check_choice("kind", kind, get_args(Kind))
    words = _words(design, levels)
    if data is None:
        return _rows_of_fit(design, words)
    read = tuple(f for f, word in words.items() if word in _READ)
    anew = tuple(f for f, word in words.items() if word == "all new")
    found = _encoded(design, data, read, anew, kind)
    _check_estimable(design, found, words)
    factors = []
    for group in design.groups:
        name = group.factor
        codes, labels = found.codes.get(name), found.labels.get(name)
        codes = np.full(len(found.X), -1) if codes is None else codes
        factors.append(_factor_rows(group, words[name], found.Z[name], codes, labels, found.index))
    return NewRows(found.X, found.offset, tuple(factors), found.residual, found.index)


def _encoded(
    design: Design, data: Any, read: tuple[str, ...], anew: tuple[str, ...], kind: Kind
) -> Any:
    """The rows in the model's columns; of a column that is missing the error says what it is for."""
    encoder = design.encoder
    try:
        return encoder.encode(data, factors=read, residual=kind == "response", anew=anew)
    except DataError as error:
        if error.code != "unknown-column":
            raise
        uses = {
            column: f"It identifies the groups of {f!r}; levels='population' does not need it"
            for f in read
            for column in encoder.factor_columns[f]
        }
        for role, column in encoder.residual.arguments.items():
            uses[column] = f"It gives the residual sd of a new row, {role}={column!r}"
        use = next((u for c, u in uses.items() if f"column {c!r} is not" in error.message), None)
        if use is None:
            raise
        raise DataError(f"{error.message}. {use}", "unknown-column") from None


def _check_estimable(design: Design, found: Any, words: Mapping[str, Levels]) -> None:
    """Raise where rows need columns that the model had to drop."""
    labels, what = list(found.index), ("row", "rows")
    out = "Leave these rows out; error.labels lists all of them, for data.drop(error.labels)"
    own = [g.factor for g in design.groups if not g.is_pooled]
    for factor in own:  # no pooling: the columns of the population are those of the levels
        found.varying_beyond[factor].check(labels, what, out)
    found.beyond.check(labels, what, out)
    for factor, word in words.items():
        if word != "population":
            hint = f"{out}, or predict for an average group of {factor!r}, levels='population'"
            found.varying_beyond[factor].check(labels, what, hint)


def _rows_of_fit(design: Design, words: Mapping[str, Levels]) -> NewRows:
    factors = []
    for group in design.groups:
        codes, word = group.grouping.codes, words[group.factor]
        labels = group.grouping.levels[codes] if word in _READ else None
        factors.append(_factor_rows(group, word, group.Z, codes, labels, design.rows))
    offset = np.broadcast_to(design.offset, design.n)
    return NewRows(design.X, offset, tuple(factors), design.residual, design.rows)


def _factor_rows(
    group: GroupDesign,
    word: Levels,
    Z: np.ndarray,
    codes: np.ndarray,
    labels: pd.Index[Any] | None,
    index: pd.Index[Any],
) -> FactorRows:
    unseen = codes < 0
    if word == "known" and unseen.any():
        _fail_unseen(group, labels[unseen] if labels is not None else [], index[unseen])
    keeps = word in ("known", "new")
    return FactorRows(group, word, Z, codes if keeps else np.full(len(Z), -1), labels)


def _fail_unseen(group: GroupDesign, labels: Any, index: pd.Index[Any]) -> None:
    names, factor = list(dict.fromkeys(labels)), group.factor
    one = len(names) == 1
    where = f"{'row' if len(index) == 1 else 'rows'} {listed(index)}"
    said = (
        f"{'group' if one else 'groups'} {listed(names)} of {factor!r} ({where}) "
        f"{'is' if one else 'are'} not among the {group.grouping.n_levels} of the fit, so "
        f"{'it has' if one else 'they have'} no coefficients. "
    )
    advice = (
        "Write levels='new' to draw them from the distribution of the groups, or "
        "levels='population' for an average group"
        if group.is_pooled
        else "No pooling cannot predict new groups: leave these rows out, or use partial "
        "pooling, hp.varying_slope"
    )
    raise DataError(said + advice, "unseen-level")


def _words(design: Design, levels: Levels | Mapping[str, Levels]) -> dict[str, Levels]:
    """What the levels of each factor stand for."""
    names = [g.factor for g in design.groups]
    if isinstance(levels, Mapping):
        for name in levels:
            if name not in names:
                raise ArgumentError(
                    f"levels= names {name!r}, but no coefficients vary over it in "
                    f"{design.spec.formula}; {nearest(name, names)}",
                    "unknown-choice",
                )
        words = {name: levels.get(name, "known") for name in names}
    else:
        words = dict.fromkeys(names, levels)
    for word in words.values() if names or isinstance(levels, Mapping) else [levels]:
        if not (is_word(word) and word in get_args(Levels)):
            raise ArgumentError(
                f"levels={shown(word)}: choose one of {listed(get_args(Levels))}, or a dict with one "
                "of them for a factor",
                "unknown-choice",
            )
    for group in design.groups:
        if not group.is_pooled and words[group.factor] != "known":
            raise UnsupportedModelError(
                f"levels={words[group.factor]!r}: no pooling has no distribution of the groups of "
                f"{group.factor!r}, so it predicts neither new nor average groups. Keep "
                "levels='known', or use partial pooling, hp.varying_slope",
                "no-random-effects",
            )
    return words
