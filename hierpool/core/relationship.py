"""Relationship: a known covariance between levels: of relatives, of species, of places.

Pedigrees. With the parents of i called s and d, u_i = (u_s + u_d) / 2 + m_i, and the m_i are
independent with variances D_i = 1/2 - (F_s + F_d) / 4, F the inbreeding and -1 for an unknown parent.
So A = T diag(D) T', where row i of T is half the sum of its parents' rows, and 1 at i itself.

References
----------
Henderson (1976), Biometrics 32, 69-83; Quaas (1976), Biometrics 32, 949-953.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse

Kind = Literal["pedigree", "covariance", "precision"]


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
        Shape (N, M), sparse or dense: the covariance is root root'.
    scale
        What the user's matrix was divided by: the geometric mean of its diagonal; 1 for a pedigree.
    inbreeding
        Shape (N,): of a pedigree; None otherwise.
    sires_and_dams
        Animals that are a sire in some rows of a pedigree and a dam in others.
    """

    labels: pd.Index[Any]
    kind: Kind
    root: Any
    scale: float = 1.0
    inbreeding: np.ndarray | None = None
    sires_and_dams: tuple[Any, ...] = ()

    def between(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Shape (some, others): covariances, by positions."""
        found = self.root[some] @ self.root[others].T
        return np.asarray(found if isinstance(found, np.ndarray) else found.toarray())

    @cached_property
    def diagonal(self) -> np.ndarray:
        """Shape (N,): variances, 1 + F of a pedigree."""
        if self.inbreeding is not None:
            return np.asarray(1 + self.inbreeding)
        return np.square(np.asarray(self.root)).sum(axis=1)

    def __str__(self) -> str:
        n = f"{len(self.labels):,}"
        if self.inbreeding is not None:
            return f"pedigree of {n}, mean inbreeding {self.inbreeding.mean():.3g}"
        divided = "" if np.isclose(self.scale, 1) else f", divided by {self.scale:.4g}"
        return f"{self.kind} matrix of {n}{divided}"


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
        """Shape (J, J): L with L L' the covariance, which may be singular."""
        try:
            return np.linalg.cholesky(self.covariance)
        except np.linalg.LinAlgError:
            values, vectors = np.linalg.eigh(self.covariance)
            return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))

    @property
    def diagonal(self) -> np.ndarray:
        """Shape (J,): variances."""
        return self.relationship.diagonal[self.places]


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
    inbreeding, D = np.zeros(n + 1), np.ones(n)
    inbreeding[n] = -1.0  # an unknown parent, at position -1
    order = np.argsort(depth, kind="stable")
    back = np.argsort(order)
    parts: list[sparse.csr_array] = []
    T = sparse.csr_array((0, n))
    for g in range(int(depth.max(initial=0)) + 1):
        own = order[depth[order] == g]
        D[own] = 0.5 - 0.25 * (inbreeding[sire[own]] + inbreeding[dam[own]])
        half = _halves(sire[own], back, T.shape[0]) + _halves(dam[own], back, T.shape[0])
        inherited = sparse.csr_array(half @ T)
        if g:
            inbreeding[own] = inherited.power(2) @ D + D[own] - 1
        itself = sparse.csr_array(
            (np.ones(len(own)), (np.arange(len(own)), own)), shape=(len(own), n)
        )
        parts.append(sparse.csr_array(inherited + itself))
        T = sparse.csr_array(sparse.vstack([T, parts[-1]]))
    root = sparse.csr_array(T[back] @ sparse.diags_array(np.sqrt(D)))
    both = np.intersect1d(sire[sire >= 0], dam[dam >= 0])
    return Relationship(labels, "pedigree", root, 1.0, inbreeding[:n], tuple(labels[both]))


def _halves(parents: np.ndarray, back: np.ndarray, n_before: int) -> sparse.csr_array:
    """Shape (own, n_before): a half at each known parent, by the order of generations."""
    known = np.flatnonzero(parents >= 0)
    entries = (np.full(len(known), 0.5), (known, back[parents[known]]))
    return sparse.csr_array(entries, shape=(len(parents), n_before))
