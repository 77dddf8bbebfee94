"""``relationship=``: a pedigree, or a matrix with labels, for a factor of a formula."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd
from scipy import sparse

from hierpool.algebra.related.sparse_factor import SparsePattern
from hierpool.core.design import GroupDesign
from hierpool.core.errors import (
    ArgumentError,
    DataError,
    UnsupportedModelError,
    listed,
    nearest,
)
from hierpool.core.findings import Finding
from hierpool.core.group_nouns import counted
from hierpool.core.relationship import (
    MOST_DENSE,
    Kind,
    LevelRelationship,
    Relationship,
)
from hierpool.core.spec import GroupTerm, Spec
from hierpool.formula.pedigrees import PEDIGREE_COLUMNS, looks_like_pedigree, read_pedigree
from hierpool.formula.tables import read_frame

MOST_INVERTED = 500  # labels of a dense matrix whose inverse is made too
_ASYMMETRY = 1e-8
_SINGULAR = 1e-13  # smallest pivot of a sparse precision, relative to the largest
_NEGATIVE = 1e-8  # smallest eigenvalue of a matrix, relative to the largest, that is rounding


def with_relationships(spec: Spec, given: Mapping[str, Any] | None) -> Spec:
    """The spec with relationships between the levels of its factors.

    Raises
    ------
    ArgumentError
        It is no dict, or names no factor of the formula.
    DataError
        A pedigree or a matrix that cannot be one.
    UnsupportedModelError
        A model in which levels cannot be related yet.
    """
    if given is None:
        return spec
    if not isinstance(given, Mapping):
        raise ArgumentError(
            "relationship= takes a dict, factor -> pedigree or matrix: relationship={'animal': "
            f"pedigree}}; this is a {type(given).__name__}",
            "bad-relationship",
        )
    factors = [t.factor for t in spec.groups]
    for name in given:
        if name not in factors:
            hint = nearest(name, factors)
            raise ArgumentError(
                f"relationship= names {name!r}, which is no grouping factor of {spec.formula}: "
                f"{hint}{' Or' if hint.endswith('?') else '. Or'} write (1 | {name}) in the formula",
                "bad-relationship",
            )
    _check_supported(spec, given)
    read = {str(name): read_relationship(value, str(name)) for name, value in given.items()}
    for term in spec.groups:
        own = read.get(term.factor)
        if own is not None and own.precision is None and term.columns != "1":
            raise UnsupportedModelError(
                f"{term}: slopes of related groups need a pedigree, or a matrix with an inverse of at "
                f"most {MOST_INVERTED} labels. Write (1 | {term.factor}), or add 0.01 to the diagonal "
                "of a singular matrix",
                "relationship-unsupported",
            )
    groups = tuple(replace(t, relationship=read.get(t.factor)) for t in spec.groups)
    return replace(spec, groups=groups)


def _check_supported(spec: Spec, given: Mapping[str, Any]) -> None:
    scale = spec.residual.scale
    if scale or spec.pooling == "none":
        what, instead = "no pooling", "Leave relationship= out"
        if scale:
            what = f"sigma='~ (1 | {scale})'"
            instead = (
                "Residual sds by a column, sigma='~ column', are. Leave sigma= out, or relationship= for "
                "independent groups"
            )
        raise UnsupportedModelError(
            f"relationship= beside {what} is not supported yet. {instead}",
            "relationship-unsupported",
        )


def read_relationship(given: Any, factor: str) -> Relationship:
    """A pedigree, a labelled covariance matrix, or a dict with ``precision`` or ``covariance``.

    ``{"precision": matrix}`` with a DataFrame, or ``{"precision": matrix, "labels": names}`` with a
    sparse matrix of scipy.
    """
    if isinstance(given, Relationship):
        return given
    if isinstance(given, Mapping) and len(set(given) & set(_KINDS)) == 1:
        kind = next(name for name in _KINDS if name in given)
        labels = given.get("labels")
        if set(given) <= {kind, "labels"}:
            return _of_matrix(_labelled(given[kind], labels, factor), factor, kind)
    table = _read_table(given, factor)
    if looks_like_pedigree(table, factor):
        return read_pedigree(table, factor)
    return _of_matrix(_labelled(table, None, factor), factor, "covariance")


_KINDS = ("covariance", "precision")


def _read_table(given: Any, factor: str) -> pd.DataFrame:
    """A table; an error at a bare array, a dict of other names, and what is no table at all."""
    where = f"relationship of {factor!r}"
    if isinstance(given, np.ndarray) or sparse.issparse(given):
        _fail_unlabelled(where)
    wrong = [str(key) for key in given] if isinstance(given, Mapping) else []
    if wrong and not {k.casefold() for k in wrong} & {factor.casefold(), *PEDIGREE_COLUMNS}:
        other = [k for k in wrong if k not in (*_KINDS, "labels")]
        advice = nearest(other[0], _KINDS) if other else "give one of them"
        raise DataError(
            f"{where}: a dict has 'precision' or 'covariance', and 'labels' of a sparse matrix; this "
            f"one has {listed(wrong)}: {advice}",
            "bad-relationship",
        )
    try:
        return read_frame(given)
    except DataError as error:
        if error.code != "not-a-table" or isinstance(given, Mapping):
            raise
        what = repr(given) if given is None or isinstance(given, str) else type(given).__name__
        raise DataError(
            f"{where}: this is {what}, and a pedigree is a DataFrame with columns animal, sire and "
            "dam, a matrix a DataFrame with the same labels on both axes",
            "bad-relationship",
        ) from error


def _fail_unlabelled(where: str) -> NoReturn:
    raise DataError(
        f"{where}: a matrix must be a pandas DataFrame with labels on both axes, "
        "pandas.DataFrame(A, index=names, columns=names), or a sparse matrix of scipy with its "
        "labels, {'precision': Q, 'labels': names}",
        "bad-relationship",
    )


class _Labelled(NamedTuple):
    """A square matrix, dense or sparse, and the labels of both its axes."""

    values: np.ndarray | sparse.csc_array
    labels: pd.Index[Any]


def _labelled(matrix: Any, labels: Any, factor: str) -> _Labelled:
    where = f"relationship of {factor!r}"
    if sparse.issparse(matrix) and labels is not None:
        own: Any = matrix
        matrix = sparse.csc_array(own).astype(float)
        names = pd.Index(list(labels))
        if matrix.shape != (len(names), len(names)) or names.has_duplicates:
            raise DataError(
                f"{where}: the sparse matrix is {matrix.shape[0]:,} by {matrix.shape[1]:,}, and has "
                f"{len(names):,} labels ({listed(names, 3)}). Give each row its label, each once",
                "bad-relationship",
            )
        return _Labelled(matrix, names)
    if not isinstance(matrix, pd.DataFrame) or labels is not None:
        _fail_unlabelled(where)
    if matrix.index.has_duplicates or set(matrix.index) != set(matrix.columns):
        raise DataError(
            f"{where}: its rows ({listed(matrix.index, 3)}) and columns ({listed(matrix.columns, 3)}) "
            "must have the same labels, each once. A pedigree has columns animal, sire, dam",
            "bad-relationship",
        )
    try:
        values = matrix[list(matrix.index)].to_numpy(dtype=float)
    except (TypeError, ValueError):
        values = np.full((1, 1), np.nan)
    return _Labelled(values, pd.Index(matrix.index))


def _of_matrix(given: _Labelled, factor: str, kind: str) -> Relationship:
    """From a square matrix with the same labels on both axes."""
    where, (values, labels) = f"relationship of {factor!r}", given
    _check_symmetric(given, where)
    if sparse.issparse(values):
        if kind == "precision":
            return sparse_precision_of(sparse.csc_array(values), labels, where)
        values = values.toarray()
    assert isinstance(values, np.ndarray)
    size = float(np.abs(values).max(initial=0.0))
    eigenvalues, vectors = np.linalg.eigh(values)
    if eigenvalues.min(initial=np.inf) < -_NEGATIVE * size or not size:
        raise DataError(
            f"{where}: the matrix is not positive semidefinite; its smallest eigenvalue is "
            f"{eigenvalues.min(initial=0.0):.3g}. A table of distances is no covariance: "
            "numpy.exp(-distance / range) is one",
            "relationship-not-positive",
        )
    if kind == "covariance" and len(labels) > 1 and np.ptp(values) <= _ASYMMETRY * size:
        raise DataError(
            f"{where}: all cells are equal, so all groups would have the same effect, which is part of "
            "the intercept. Leave relationship= out for independent groups",
            "bad-relationship",
        )
    kept = eigenvalues > _NEGATIVE * size
    if kind == "precision":  # of a singular one the pseudo-inverse: ICAR, centred
        eigenvalues = np.where(kept, 1 / np.where(kept, eigenvalues, 1.0), 0.0)
    root = vectors * np.sqrt(np.where(kept, eigenvalues, 0.0))
    variances = np.square(root).sum(axis=1)
    if (variances <= 0).any():
        who = labels[int((variances <= 0).argmax())]
        raise DataError(f"{where}: the variance of {who!r} is zero", "relationship-not-positive")
    scale = float(np.exp(np.log(variances).mean()))
    name: Kind = "precision" if kind == "precision" else "covariance"
    return dense_of(labels, name, root / np.sqrt(scale), scale)


def dense_of(labels: pd.Index[Any], kind: Kind, root: np.ndarray, scale: float) -> Relationship:
    """From a root (N, N) with orthogonal columns; a small matrix gets its inverse too."""
    size, precision = np.square(root).sum(axis=0), None
    if len(labels) <= MOST_INVERTED and root.shape == (len(labels),) * 2 and size.min() > 0:
        precision = sparse.csc_array((root / size**2) @ root.T)
    return Relationship(labels, kind, root, precision, scale)


def _check_symmetric(given: _Labelled, where: str) -> None:
    """Raise where cells are missing, or differ from those across the diagonal."""
    values, labels = given
    cells = values.data if sparse.issparse(values) else values
    if not np.isfinite(cells).all():
        raise DataError(
            f"{where}: the matrix has missing or infinite cells, or cells that are no numbers. Fill "
            "them, or leave their labels out of both axes",
            "bad-relationship",
        )
    off = sparse.coo_array(values - values.T)
    size = float(np.abs(cells).max(initial=0.0))
    if np.abs(off.data).max(initial=0.0) > _ASYMMETRY * size:
        at = int(np.abs(off.data).argmax())
        i, j = int(off.row[at]), int(off.col[at])
        raise DataError(
            f"{where}: the matrix is not symmetric: {values[i, j]:g} at ({labels[i]}, {labels[j]}) "
            f"and {values[j, i]:g} at ({labels[j]}, {labels[i]})",
            "bad-relationship",
        )


def sparse_precision_of(
    values: sparse.csc_array, labels: pd.Index[Any], where: str
) -> Relationship:
    """From a sparse matrix, scaled; an error where it has no inverse."""
    upper = sparse.csc_array(sparse.triu(values + 0 * sparse.eye_array(len(labels)), format="csc"))
    upper.sort_indices()
    try:
        factor = SparsePattern(upper).factor(upper.data)
        smallest = float(factor.D.min() / factor.D.max())
    except (ValueError, RuntimeError):  # a pivot of exactly zero
        smallest = 0.0
    if smallest <= _SINGULAR:
        raise DataError(
            f"{where}: the sparse precision matrix is singular or not positive definite. Add a small "
            "number to its diagonal, or give a matrix of up to 3,000 labels as a DataFrame, which may "
            "be singular",
            "relationship-not-positive",
        )
    scale = float(np.exp(np.log(factor.inverse_diagonal).mean()))
    values = sparse.csc_array((values + values.T) * (scale / 2))
    values.sort_indices()
    return Relationship(labels, "precision", None, values, scale)


def related_levels(term: GroupTerm, levels: pd.Index[Any]) -> LevelRelationship | None:
    """The relationship between the levels of a term's factor.

    Raises
    ------
    DataError
        A level that it does not have, or too many levels.
    """
    own = term.relationship
    if own is None:
        return None
    places = own.labels.get_indexer(levels)
    if (places < 0).any():  # a number here, its plain decimal spelling there
        as_text = pd.Index([str(label) for label in own.labels])
        text = pd.Index([str(label) for label in levels])
        if not as_text.has_duplicates:
            places = np.where(places < 0, as_text.get_indexer(text), places)
    missing = levels[places < 0]
    if len(missing):
        raise DataError(
            f"the relationship of {term.factor!r} does not have {listed(missing)}, which the data have. "
            "Add them to it (with unknown parents, in a pedigree), or leave their rows out",
            "not-in-relationship",
        )
    if len(levels) > MOST_DENSE and own.precision is None:
        raise UnsupportedModelError(
            f"{term.factor!r} has {len(levels):,} related groups with rows; the limit of a covariance "
            f"matrix is {MOST_DENSE:,}. A pedigree, or a sparse precision matrix, {{'precision': Q, "
            "'labels': names}, has none",
            "relationship-unsupported",
        )
    return LevelRelationship(own, places)


def check_related_size(spec: Spec, factor: str, n_levels: int) -> None:
    """Raise where so many levels have rows that their covariance would be too large a matrix."""
    if n_levels <= MOST_DENSE or not (spec.family or spec.residual.is_structured):
        return
    beside = f"family={spec.family.name!r}" if spec.family else spec.residual.words
    instead = (
        "leave relationship= out for independent groups"
        if spec.family
        else "leave residual= and sigma= out: beside independent residuals a pedigree has no limit"
    )
    raise UnsupportedModelError(
        f"{beside} beside a relationship takes {MOST_DENSE:,} related groups with rows; {factor!r} has "
        f"{n_levels:,}. Keep the rows of fewer, or {instead}",
        "relationship-unsupported",
    )


def related_notices(spec: Spec, group: GroupDesign, groups: Sequence[GroupDesign]) -> list[Finding]:
    """What there is to say of a pedigree, and of several rows of a related group."""
    assert group.schema.related is not None
    own, factor, found = group.schema.related.relationship, group.factor, []
    if own.sires_and_dams:
        one = len(own.sires_and_dams) == 1
        text = (
            f"pedigree of {factor!r}: {listed(own.sires_and_dams)} {'is' if one else 'are'} a sire in "
            "some rows and a dam in others. That is right for plants; in animals one of the two is a "
            "mistake"
        )
        found.append(Finding("sire-and-dam", "warning", text))
    n_rows = group.grouping.n_rows
    has_own = any(_divides_alike(group, g) for g in groups if g.schema.related is None)
    has_own = has_own or spec.residual.correlation is not None  # which is not inherited either
    if n_rows.max() > 1 and not has_own:
        text = (
            f"{int((n_rows > 1).sum())} of {counted(len(n_rows), factor)} have several rows, up to "
            f"{n_rows.max()}, which also share what relatives do not: add (1 | own_{factor}), with "
            f"data['own_{factor}'] = data[{factor!r}]"
        )
        found.append(Finding("repeated-related", "note", text))
    return found


def _divides_alike(one: GroupDesign, other: GroupDesign) -> bool:
    """Whether two factors put the rows into the same groups."""
    J = one.grouping.n_levels
    pairs = np.unique(one.codes * other.grouping.n_levels + other.codes)
    return other.grouping.n_levels == J == len(pairs)
