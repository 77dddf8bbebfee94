"""Rows to predict, with known, new or average groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import pandas as pd

from hierpool.algebra.combinations import Combinations, LevelPart
from hierpool.answers.new_residuals import NewResiduals, new_residuals
from hierpool.core.arguments import check_choice, is_word
from hierpool.core.design import Design, GroupDesign
from hierpool.core.errors import ArgumentError, DataError, UnsupportedModelError, listed, nearest
from hierpool.core.label_matching import find_level
from hierpool.core.residual import Residual

Word = Literal["own", "allow new", "new", "average"]
RowGroups = Word | Mapping[str, Any]
Kind = Literal["mean", "response", "probability"]


@dataclass(frozen=True)
class FactorRows:
    """The rows as one factor sees them.

    Attributes
    ----------
    group
        The factor.
    Z
        Shape (n, q).
    codes
        Shape (n,): position of the level where its coefficients are taken, -1 elsewhere.
    is_new
        Shape (n,): rows whose level is drawn, one draw for all rows of its label.
    labels
        Label of each row's level; None where it is not asked.
    """

    group: GroupDesign
    Z: np.ndarray
    codes: np.ndarray
    is_new: np.ndarray
    labels: pd.Index[Any] | None

    @property
    def is_known(self) -> np.ndarray:
        """Shape (n,): rows whose level has coefficients in the fit."""
        return self.codes >= 0


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
    trials
        Shape (n,): number of trials of each row, for a new observation.
    structured
        Residuals with a structure, of a new observation; None where residuals are independent, and
        for new observations of the rows of the fit, which borrow from none.
    """

    X: np.ndarray
    offset: np.ndarray
    factors: tuple[FactorRows, ...]
    residual: Residual
    index: pd.Index[Any]
    trials: np.ndarray
    structured: NewResiduals | None = None

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


def read_rows(design: Design, data: Any, groups: RowGroups, kind: Kind) -> NewRows:
    """Rows of a table, or of the fit where it is None, checked."""
    check_choice("kind", kind, get_args(Kind))
    held = _held(design, groups)
    if data is None:
        return _rows_of_fit(design, held, kind)
    read = tuple(f for f, word in held.items() if word in ("own", "allow new", "new"))
    of_residuals = _residual_word(design, held, groups) if kind == "response" else ""
    if of_residuals in ("own", "allow new", "new"):
        factor = design.factor_of_residuals
        read = tuple(dict.fromkeys((*read, factor)))
        held = {**held, factor: held.get(factor, of_residuals)}
    anew = tuple(f for f in read if held[f] == "new")
    found = _encoded(design, data, read, anew, kind)
    _check_estimable(design, found, held)
    factors = []
    for group in design.groups:
        name = group.factor
        codes, labels = found.codes.get(name), found.labels.get(name)
        factors.append(_factor_rows(group, held[name], found.Z[name], codes, labels, found.index))
    trials = np.ones(len(found.X)) if found.trials is None else found.trials
    own = (found.X, found.offset, tuple(factors), found.residual, found.index, trials)
    if kind != "response" or design.residual.structure is None:
        return NewRows(*own)
    word = held.get(design.factor_of_residuals, "average")
    labels, codes = (each.get(design.factor_of_residuals) for each in (found.labels, found.codes))
    groups_of_rows = _residual_codes(design, len(found.X), word, labels, codes)
    return NewRows(
        *own, new_residuals(design, found.frame, *groups_of_rows, found.residual.known_sd)
    )


def _residual_word(
    design: Design, held: Mapping[str, Word | int], groups: RowGroups
) -> Word | Literal[""]:
    """Which groups of the residuals new observations are of; empty without a correlation."""
    factor = design.factor_of_residuals
    if not factor or isinstance(held.get(factor), int):
        return ""
    word = held.get(factor, groups if isinstance(groups, str) else "own")
    return "" if isinstance(word, int) else word


def _residual_codes(
    design: Design,
    n: int,
    word: Word | int,
    labels: pd.Index[Any] | None,
    codes: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Group of each of n new rows, twice: whose residuals it is among, and whose scale it has.

    Those that are new are counted on from those of the fit. Where the residuals of a group are
    independent each row is by itself; the first scale beyond those of the fit is the average one.
    """
    alone = np.arange(n) + design.n
    factor = design.factor_of_residuals
    if not factor:
        return alone, alone
    J, is_scale = design.groupings[factor].n_levels, not design.residual_factor
    if isinstance(word, int):
        own = np.full(n, word)
        return alone if is_scale else own, own
    if word == "average" or labels is None or codes is None:
        anew = np.arange(n) + 1 if word == "new" else np.zeros(n, dtype=np.intp)
        return (alone, J + anew) if is_scale else (J + np.arange(n), alone)
    new = pd.factorize(labels)[0]
    if word == "own" and (codes < 0).any():
        names = list(dict.fromkeys(labels[codes < 0]))
        what = "residual sd" if is_scale else "residuals to borrow from"
        raise DataError(
            f"groups {listed(names)} of {factor!r} are not in the fit, so they have no {what}. Write "
            "groups='allow new' for new groups",
            "unseen-level",
        )
    own = np.where((codes >= 0) & (word != "new"), codes, J + is_scale + new)
    return alone if is_scale else own, own


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
        own = encoder.residual.columns
        uses = dict.fromkeys(own, "It places a new observation among the residuals of the fit")
        uses |= {
            column: f"It identifies the groups of {f!r}; groups='average' does not need it"
            for f in read
            for column in encoder.factor_columns[f]
        }
        if encoder.trials:
            column = encoder.trials
            uses[column] = "It gives the number of trials of a new row; kind='mean' needs none"
        for role, column in encoder.residual.arguments.items():
            uses[column] = f"It gives the residual sd of a new row, {role}={column!r}"
        use = next((u for c, u in uses.items() if f"column {c!r} is not" in error.message), None)
        if use is None:
            raise
        raise DataError(f"{error.message}. {use}", "unknown-column") from None


def _check_estimable(design: Design, found: Any, held: Mapping[str, Word | int]) -> None:
    """Raise where rows need columns that the model had to drop."""
    labels, what = list(found.index), ("row", "rows")
    out = "Leave these rows out; error.labels lists all of them, for data.drop(error.labels)"
    own = [g.factor for g in design.groups if not g.is_pooled]
    for factor in own:  # no pooling: the columns of the population are those of the levels
        found.varying_beyond[factor].check(labels, what, out)
    found.beyond.check(labels, what, out)
    for factor, word in held.items():
        if word != "average" and factor in found.varying_beyond:  # not one of residuals alone
            hint = f"{out}, or predict for an average group of {factor!r}, groups='average'"
            found.varying_beyond[factor].check(labels, what, hint)


def _rows_of_fit(design: Design, held: Mapping[str, Word | int], kind: Kind) -> NewRows:
    factors, structured = [], None
    for group in design.groups:
        codes = group.grouping.codes
        labels = group.grouping.levels[codes]
        factors.append(_factor_rows(group, held[group.factor], group.Z, codes, labels, design.rows))
    offset = np.broadcast_to(design.offset, design.n)
    if design.scale_factor and kind == "response":
        own = design.groupings[design.scale_factor]
        word, labels = held.get(design.scale_factor, "own"), own.levels[own.codes]
        groups = _residual_codes(design, design.n, word, labels, own.codes)
        structured = new_residuals(design, design.frame, *groups, design.residual.known_sd)
    own_rows = (design.X, offset, tuple(factors), design.residual, design.rows, design.trials)
    return NewRows(*own_rows, structured)


def _factor_rows(
    group: GroupDesign,
    word: Word | int,
    Z: np.ndarray,
    codes: np.ndarray | None,
    labels: pd.Index[Any] | None,
    index: pd.Index[Any],
) -> FactorRows:
    """The rows as a factor sees them; without codes its column was not read."""
    none, all_rows = np.full(len(Z), -1), np.ones(len(Z), dtype=bool)
    if isinstance(word, int):
        return FactorRows(group, Z, np.full(len(Z), word), ~all_rows, None)
    if word == "average":
        return FactorRows(group, Z, none, ~all_rows, None)
    if word == "new":
        if labels is None:  # no column: each row has a new group of its own
            labels = pd.Index([f"row {i}" for i in range(len(Z))])
        return FactorRows(group, Z, none, all_rows, labels)
    assert codes is not None
    unseen = codes < 0
    if word == "own" and unseen.any():
        _fail_unseen(group, labels[unseen] if labels is not None else [], index[unseen])
    return FactorRows(group, Z, codes, unseen, labels)


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
        "Write groups='allow new' to draw them from the distribution of the groups, or "
        "groups='average' for an average group"
        if group.is_pooled
        else "No pooling cannot predict new groups: leave these rows out, or use partial "
        "pooling, hp.varying_slope"
    )
    related = group.schema.related
    if related is not None and related.relationship.labels.isin(names).any():
        advice = (
            "hp.breeding_values(fit) has what relatives tell of it. In predictions groups='allow new' "
            "takes it for a stranger, and groups='average' for an average one"
        )
    raise DataError(said + advice, "unseen-level")


def _held(design: Design, groups: RowGroups) -> dict[str, Word | int]:
    """For each factor the word, or the position of the group that the user named."""
    names = [g.factor for g in design.groups]
    if isinstance(groups, Mapping):
        for name in groups:
            if name not in names:
                raise ArgumentError(
                    f"groups= names {name!r}, but no coefficients vary over it in "
                    f"{design.spec.formula}; {nearest(name, names)}",
                    "unknown-choice",
                )
        held = {name: _one(design, name, groups.get(name, "own")) for name in names}
    else:
        check_choice("groups", groups, get_args(Word))
        check_has_groups(design, groups)
        held = dict.fromkeys(names, groups)
    for group in design.groups:
        word = held[group.factor]
        if not group.is_pooled and word in ("allow new", "new", "average"):
            raise UnsupportedModelError(
                f"groups={word!r}: no pooling has no distribution of the groups of "
                f"{group.factor!r}, so it predicts neither new nor average groups. Keep "
                "groups='own', or use partial pooling, hp.varying_slope",
                "no-random-effects",
            )
    return held


def _one(design: Design, factor: str, given: Any) -> Word | int:
    """A word of a dict, or the group that it names, which goes before a word."""
    grouping = design.schema.group(factor).grouping
    is_label = given in set(map(str, grouping.levels)) if is_word(given) else True
    if not is_label and given in get_args(Word):
        return cast("Word", given)
    return find_level(given, grouping)


def check_has_groups(design: Design, groups: Any) -> None:
    """Raise where new groups are asked of a model that has none."""
    if groups == "new" and not design.groups:
        raise UnsupportedModelError(
            f"groups='new': {design.spec.formula} has no groups that vary, so there is no "
            "distribution of new ones. Leave groups= out, or let groups vary, as in "
            f"{design.spec.formula} + (1 | group)",
            "no-new-groups",
        )
