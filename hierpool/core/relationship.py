"""Relationship: a known covariance between levels: of relatives, of species, of places.

Pedigrees. With the parents of i called s and d, u_i = (u_s + u_d) / 2 + m_i, and the m_i are
independent with variances D_i = 1/2 - (F_s + F_d) / 4, F the inbreeding and -1 for an unknown parent.
With P the parents (1 at each), the precision A^-1 is (I - P/2)' diag(1/D) (I - P/2): sparse.

References
----------
Henderson (1976), Biometrics 32, 69-83; Quaas (1976), Biometrics 32, 949-953.
Colleau (2002), Genet. Sel. Evol. 34, 409-421 (columns of A by two sparse solutions).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

from hierpool.core.errors import UnsupportedModelError

Kind = Literal["pedigree", "covariance", "precision"]

MOST_DENSE = 3000  # levels whose covariance is held as a dense matrix
_BLOCK_FLOATS = 4_000_000  # in one block of columns


@dataclass(frozen=True, eq=False)
class Relationship:
    """A covariance between labels, up to the variance that is estimated.

    Attributes
    ----------
    labels
        Who, or what, is related. A model may have rows of some of them only.
    kind
        Where it comes from.
    root
        Shape (N, M): the covariance is root root'. None where only the precision is known.
    precision
        Shape (N, N), sparse: the inverse of the covariance. None where only the root is known.
    scale
        What the user's covariance was divided by: the geometric mean of its diagonal; 1 for a
        pedigree.
    parents
        Shape (2, N): positions of sire and dam in a pedigree, -1 for an unknown one.
    inbreeding
        Shape (N,): of a pedigree; None otherwise.
    """

    labels: pd.Index[Any]
    kind: Kind
    root: np.ndarray | None
    precision: sparse.csc_array | None = None
    scale: float = 1.0
    parents: np.ndarray | None = None
    inbreeding: np.ndarray | None = None

    @cached_property
    def _solver(self) -> Any:
        assert self.precision is not None
        return solver(self.precision)

    def between(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Shape (some, others): covariances, by positions."""
        if self.root is not None:
            return np.asarray(self.root[some] @ self.root[others].T)
        out, N = np.empty((len(some), len(others))), len(self.labels)
        step = max(1, _BLOCK_FLOATS // N)
        for start in range(0, len(others), step):
            own = others[start : start + step]
            right = np.zeros((N, len(own)))
            right[own, np.arange(len(own))] = 1.0
            out[:, start : start + step] = self._solver.solve(right)[some]
        return out

    def draw(self, rng: np.random.Generator, m: int) -> np.ndarray:
        """Shape (N, m): normals with this covariance."""
        z = rng.standard_normal((len(self.labels), m))
        if self.root is not None:
            return np.asarray(self.root @ z[: self.root.shape[1]])
        # P M P' = L U with U = D L': L D^1/2 z has the covariance of P M P', and M^-1 takes it back
        factor = self._solver
        half = factor.L @ (np.sqrt(factor.U.diagonal())[:, None] * z)
        return np.asarray(factor.solve(half[factor.perm_r]))

    @cached_property
    def diagonal(self) -> np.ndarray:
        """Shape (N,): variances, 1 + F of a pedigree."""
        if self.inbreeding is not None:
            return np.asarray(1 + self.inbreeding)
        if self.root is not None:
            return np.square(self.root).sum(axis=1)
        return variances(self)

    @property
    def sires_and_dams(self) -> tuple[Any, ...]:
        """Animals that are a sire in some rows of a pedigree and a dam in others."""
        if self.parents is None:
            return ()
        both = np.intersect1d(*self.parents)
        return tuple(self.labels[both[both >= 0]])

    def __str__(self) -> str:
        n = f"{len(self.labels):,}"
        if self.inbreeding is not None:
            return f"pedigree of {n}, mean inbreeding {self.inbreeding.mean():.3g}"
        divided = "" if np.isclose(self.scale, 1) else f", divided by {self.scale:.4g}"
        return f"{self.kind} matrix of {n}{divided}"


def variances(own: Relationship) -> np.ndarray:
    """Shape (N,): the diagonal of the covariance, from solutions with its precision."""
    N, out = len(own.labels), np.empty(len(own.labels))
    step = max(1, _BLOCK_FLOATS // N)
    for start in range(0, N, step):
        at = np.arange(start, min(start + step, N))
        out[at] = np.diagonal(own.between(at, at))
    return out


@dataclass(frozen=True, eq=False)
class LevelRelationship:
    """The relationship between the levels of a factor.

    Attributes
    ----------
    relationship
        Of all that are related.
    places
        Shape (J,): position of each level in it.
    """

    relationship: Relationship
    places: np.ndarray

    @cached_property
    def covariance(self) -> np.ndarray:
        """Shape (J, J)."""
        return self.relationship.between(self.places, self.places)

    @cached_property
    def root(self) -> np.ndarray:
        """Shape (J, J): L with L L' the covariance, which may be singular.

        Raises
        ------
        UnsupportedModelError
            So many levels that it would be too large.
        """
        if len(self.places) > MOST_DENSE:
            raise UnsupportedModelError(
                f"the covariance of {len(self.places):,} related groups is needed as a dense matrix; "
                f"the limit is {MOST_DENSE:,}. model.reml() and engine='exact' do without it",
                "relationship-unsupported",
            )
        try:
            return np.linalg.cholesky(self.covariance)
        except np.linalg.LinAlgError:
            values, vectors = np.linalg.eigh(self.covariance)
            return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))

    def draw(self, rng: np.random.Generator, m: int) -> np.ndarray:
        """Shape (J, m): normals with the covariance between the levels."""
        if self.relationship.precision is None or len(self.places) <= MOST_DENSE:
            return np.asarray(self.root @ rng.standard_normal((len(self.places), m)))
        return self.relationship.draw(rng, m)[self.places]

    @property
    def diagonal(self) -> np.ndarray:
        """Shape (J,): variances."""
        return self.relationship.diagonal[self.places]


def solver(precision: sparse.csc_array) -> Any:
    """A factorisation of a symmetric positive definite matrix; an error where it is singular."""
    return sparse_linalg.splu(
        sparse.csc_matrix(precision),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )


def pedigree_relationship(
    labels: pd.Index[Any], sire: np.ndarray, dam: np.ndarray, depth: np.ndarray
) -> Relationship:
    """The additive relationship of a pedigree.

    Parameters
    ----------
    labels
        Of the animals.
    sire, dam
        Shape (N,): positions of the parents; -1 for unknown ones.
    depth
        Shape (N,): generations above each animal, 0 for founders: larger than those of its parents.
    """
    n = len(labels)
    order = np.argsort(depth, kind="stable")
    back = np.append(np.argsort(order), -1)  # position -1 stays an unknown parent
    old_first = np.stack([back[sire[order]], back[dam[order]]])
    own = _own_steps(old_first, n)
    inbreeding, D = _inbreeding(own, old_first, depth[order])
    back = back[:-1]
    steps = own[back][:, back]
    precision = sparse.csc_array(steps.T @ sparse.diags_array(1 / D[back]) @ steps)
    precision.sort_indices()
    parents = np.stack([sire, dam])
    return Relationship(labels, "pedigree", None, precision, 1.0, parents, inbreeding[back])


def _own_steps(parents: np.ndarray, n: int) -> sparse.csc_array:
    """Shape (n, n): I - P / 2, what is an animal's own of its value."""
    places = [(own, who[own]) for who in parents for own in [np.flatnonzero(who >= 0)]]
    rows = np.concatenate([np.arange(n), *(own for own, _ in places)])
    columns = np.concatenate([np.arange(n), *(who for _, who in places)])
    values = np.where(np.arange(len(rows)) < n, 1.0, -0.5)
    return sparse.csc_array((values, (rows, columns)), shape=(n, n))


def _inbreeding(
    own: sparse.csc_array, parents: np.ndarray, depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """F and D, shapes (n,), parents before offspring: half the relationship of the two parents."""
    n = len(depth)
    F, D = np.zeros(n + 1), np.ones(n)
    F[n] = -1.0  # an unknown parent, at position -1
    for g in range(int(depth.max(initial=0)) + 1):
        start, stop = np.searchsorted(depth, [g, g + 1])
        D[start:stop] = 0.5 - 0.25 * F[parents[:, start:stop]].sum(axis=0)
        both = start + np.flatnonzero((parents[:, start:stop] >= 0).all(axis=0))
        if not len(both):
            continue
        one, other = parents[:, both]
        if len(np.unique(other)) < len(np.unique(one)):
            one, other = other, one
        F[both] = _relationships(own[:start, :start], D[:start], one, other) / 2
    return F[:n], D


def _relationships(
    own: sparse.csc_array, D: np.ndarray, one: np.ndarray, other: np.ndarray
) -> np.ndarray:
    """Shape (m,): relationships of pairs of animals: a column of A for each of ``one``."""
    out, n = np.empty(len(one)), len(D)
    # Unit lower triangular, so that nothing fills in and nothing is divided by.
    lower = sparse_linalg.splu(
        sparse.csc_matrix(own),
        permc_spec="NATURAL",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    different, which = np.unique(one, return_inverse=True)
    step = max(1, _BLOCK_FLOATS // n)
    for start in range(0, len(different), step):
        some = different[start : start + step]
        unit = np.zeros((n, len(some)))
        unit[some, np.arange(len(some))] = 1.0
        columns = lower.solve(D[:, None] * lower.solve(unit, trans="T"))
        inside = np.flatnonzero((which >= start) & (which < start + step))
        out[inside] = columns[other[inside], which[inside] - start]
    return out
