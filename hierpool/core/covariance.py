"""Covariance: how the coefficients of one group term vary together over the groups.

A structure is its word in ``GroupTerm`` and the patterns of its covariance matrix, one a free
parameter: Sigma = sum_k gamma_k E_k. Whatever has to know more (names, priors, coordinates, the
free entries of REML's root) follows from these, so a new structure is one class here and an entry
in ``COVARIANCES``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cache
from typing import ClassVar

import numpy as np

from hierpool.core.coding import Coding


class Covariance(ABC):
    """A covariance structure of q coefficients.

    Attributes
    ----------
    word
        Its name in a ``GroupTerm``.
    is_estimated
        Whether it has parameters; not where the covariance is given.
    keeps_its_form
        Whether Sigma has the same structure after any linear map of the coefficients, so that
        columns may be centred without changing the model.
    """

    word: ClassVar[str]
    is_estimated: ClassVar[bool] = True
    keeps_its_form: ClassVar[bool] = False

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    @abstractmethod
    def patterns(self, q: int) -> tuple[np.ndarray, ...]:
        """E_k of each parameter, shapes (q, q), symmetric, of zeros and ones.

        On the diagonal alone, entries tied as they may be; or one pair off it.
        """

    def coding(self, coding: Coding) -> Coding:
        """What the structure allows of centred and scaled coordinates of the q columns.

        Columns that share a standard deviation also share their scale.
        """
        if self.keeps_its_form:
            return coding
        if any(np.diag(E).sum() > 1 for E in self.patterns(len(coding.scales))):
            alike = np.exp(np.log(coding.scales).mean())
            coding = replace(coding, scales=np.full_like(coding.scales, alike))
        return coding.uncentred()

    def sd_index(self, q: int) -> np.ndarray:
        """Shape (q,): which of the standard deviations each coefficient has."""
        return _sd_index(self, q)

    def pairs(self, q: int) -> tuple[tuple[int, int], ...]:
        """Pairs (i, j), j < i, of coefficients whose correlation is estimated, row by row."""
        return _pairs(self, q)

    def free_entries(self, q: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows and columns of the free entries of a lower triangular root, and whose they are."""
        found = [np.nonzero(np.tril(E)) for E in self.patterns(q)]
        rows = [r for r, _ in found]
        columns = [c for _, c in found]
        whose = [np.full(len(r), k) for k, r in enumerate(rows)]
        none = np.zeros(0, dtype=np.intp)
        row, column, owner = (np.concatenate([none, *part]) for part in (rows, columns, whose))
        return row, column, owner


@cache
def _sd_index(covariance: Covariance, q: int) -> np.ndarray:
    diagonals = [np.diag(E) for E in covariance.patterns(q) if np.diag(E).any()]
    return np.argmax(np.array(diagonals).reshape(len(diagonals), q), axis=0)


@cache
def _pairs(covariance: Covariance, q: int) -> tuple[tuple[int, int], ...]:
    off = [E for E in covariance.patterns(q) if not np.diag(E).any()]
    found = [np.argwhere(np.tril(E)).tolist() for E in off]
    if any(len(pairs) > 1 for pairs in found):
        raise ValueError(f"{covariance.word}: a root with tied correlations is not linear in them")
    return tuple(sorted((i, j) for ((i, j),) in found))


class Unstructured(Covariance):
    """Every variance and every covariance is free: ``(x | g)``."""

    word = "correlated"
    keeps_its_form = True

    def patterns(self, q: int) -> tuple[np.ndarray, ...]:
        """One for each entry on or below the diagonal, row by row."""
        return tuple(_symmetric(q, i, j) for i in range(q) for j in range(i + 1))


class Diagonal(Covariance):
    """Free variances, no covariance: ``(x || g)``."""

    word = "uncorrelated"

    def patterns(self, q: int) -> tuple[np.ndarray, ...]:
        """One for each entry of the diagonal."""
        return tuple(_symmetric(q, i, i) for i in range(q))


class Fixed(Covariance):
    """Given, not estimated: each group has coefficients of its own, as in no pooling."""

    word = "none"
    is_estimated = False
    keeps_its_form = True

    def patterns(self, q: int) -> tuple[np.ndarray, ...]:
        """None."""
        return ()


def _symmetric(q: int, i: int, j: int) -> np.ndarray:
    E = np.zeros((q, q))
    E[i, j] = E[j, i] = 1.0
    return E


COVARIANCES: dict[str, Covariance] = {c.word: c for c in (Unstructured(), Diagonal(), Fixed())}
