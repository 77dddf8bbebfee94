"""Correlations of residuals within a group: one class a structure.

A structure says how many parameters it has, where they lie, and the correlation of rows at given
occasions. Everything takes complex parameters, so that derivatives follow without being written
down: f'(x) = Im f(x + ih) / h, exact to the last digits.

References
----------
Lewandowski, Kurowicka, Joe (2009), J. Multivariate Anal. 100, 1989-2001 (``us``).
Squire, Trapp (1998), SIAM Rev. 40, 110-112 (derivatives).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

_STEP = 1e-30  # of complex differentiation
_MOST_PLACES = 60  # of a matrix of which several sets of places are parts


@dataclass(frozen=True)
class Correlation(ABC):
    """A correlation of the rows of a group.

    Attributes
    ----------
    n_occasions
        T: occasions that there are, in the whole data.
    most
        Rows of the largest group.
    unit
        Of time: the median gap between neighbouring rows for ``car1``; 1 for occasions.
    """

    n_occasions: int
    most: int
    unit: float = 1.0

    takes_times: ClassVar[bool] = False  # any times, not occasions
    is_ordered: ClassVar[bool] = True  # occasions have an order
    is_markov: ClassVar[bool] = False  # a row depends on the earlier ones through the last alone
    shows_matrix: ClassVar[bool] = False  # correlations of occasions are reported, not parameters

    @property
    def reports_matrix(self) -> bool:
        """Whether correlations of occasions are reported in place of the parameters."""
        return self.shows_matrix

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its parameters."""
        return ("rho",)

    @cached_property
    def size(self) -> int:
        """Number of its parameters."""
        return len(self.names)

    @property
    def lower(self) -> np.ndarray:
        """Shape (size,): where the parameters begin; they end at 1."""
        return np.full(self.size, -1.0)

    @property
    def shapes(self) -> np.ndarray:
        """Shape (size,): a of the Beta(a, a) prior of each parameter between its bounds."""
        return np.ones(self.size)

    @property
    def begins(self) -> np.ndarray:
        """Shape (s, size): parameters from which a search for an optimum starts, a strong one last."""
        return self.from_free(np.repeat([[0.2], [1.6]], self.size, axis=1))

    @abstractmethod
    def blocks(self, phi: np.ndarray, places: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Correlations (K, n, n) of rows at each of several sets of places, at phi (K, size)."""

    def neighbours(self, phi: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Shape (K, c): correlations of c pairs of places, of a structure that is Markov."""
        raise NotImplementedError(f"{type(self).__name__} is not Markov")

    def neighbour_slopes(self, x: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Derivatives (size, c) of ``neighbours`` by the free coordinates x (size,)."""
        moved = x + 1j * _STEP * np.eye(self.size)
        return self.neighbours(self.from_free(moved), before, after).imag / _STEP

    def from_free(self, x: np.ndarray) -> np.ndarray:
        """Parameters from coordinates that are free on the whole line."""
        return np.asarray(self.lower + (1 - self.lower) / (1 + np.exp(-x)))

    def to_free(self, phi: np.ndarray) -> np.ndarray:
        """The inverse of ``from_free``."""
        return np.asarray(np.log(phi - self.lower) - np.log(1 - phi))

    def slopes(self, x: np.ndarray, places: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Derivatives (size, n, n) of ``blocks`` by the free coordinates x (size,)."""
        moved = x + 1j * _STEP * np.eye(self.size)
        return [made.imag / _STEP for made in self.blocks(self.from_free(moved), places)]


class OfLag(Correlation):
    """A correlation that depends on the distance of two rows in time alone."""

    @abstractmethod
    def at_lag(self, phi: np.ndarray, lag: np.ndarray) -> np.ndarray:
        """Shape (K, *lag): at distances that are not negative, 1 at 0."""

    def blocks(self, phi: np.ndarray, places: Sequence[np.ndarray]) -> list[np.ndarray]:
        """By the distances of the places; of few places in all, parts of one matrix."""
        every = np.unique(np.concatenate(places)) if len(places) > 1 else np.zeros(0)
        if not 0 < len(every) <= _MOST_PLACES:
            return [self.at_lag(phi, np.abs(at[:, None] - at) / self.unit) for at in places]
        whole = self.at_lag(phi, np.abs(every[:, None] - every) / self.unit)
        which = [np.searchsorted(every, at) for at in places]
        return [whole[:, k[:, None], k] for k in which]

    def neighbours(self, phi: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """By their distances."""
        return self.at_lag(phi, np.abs(after - before) / self.unit)


class Ar1(OfLag):
    """rho^lag: ``ar1`` of occasions, gaps allowed."""

    is_markov = True

    @property
    def begins(self) -> np.ndarray:
        """Also a negative and a very strong one: beside random effects there are several optima."""
        return np.array([[0.1], [0.66], [-0.4], [0.97]])

    def at_lag(self, phi: np.ndarray, lag: np.ndarray) -> np.ndarray:
        """Whole powers, so that a negative rho has a sign at odd lags."""
        rho = phi.reshape(-1, *[1] * lag.ndim)
        return np.asarray(rho ** np.round(lag).astype(int))


class Car1(OfLag):
    """r^(lag / median gap): ``car1``, any times."""

    is_markov, takes_times = True, True

    @property
    def begins(self) -> np.ndarray:
        """From hardly any to a very strong one."""
        return np.array([[0.1], [0.5], [0.83], [0.97]])

    @property
    def lower(self) -> np.ndarray:
        """Only positive correlations."""
        return np.zeros(1)

    def at_lag(self, phi: np.ndarray, lag: np.ndarray) -> np.ndarray:
        """Powers of any size."""
        return np.asarray(phi.reshape(-1, *[1] * lag.ndim) ** lag)


class CompoundSymmetry(OfLag):
    """One correlation of any two rows: ``cs``; negative ones as far as the largest group allows."""

    is_ordered = False

    @property
    def lower(self) -> np.ndarray:
        """-1 / (rows of the largest group - 1)."""
        return np.array([-1 / max(self.most - 1, 1)])

    def at_lag(self, phi: np.ndarray, lag: np.ndarray) -> np.ndarray:
        """The same at any lag."""
        rho = phi.reshape(-1, *[1] * lag.ndim)
        return np.where(lag == 0, 1.0 + 0 * rho, rho)


class Arma11(OfLag):
    """``arma11``: an autoregression of order one, seen with a moving average of order one."""

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the two processes."""
        return ("ar", "ma")

    @property
    def begins(self) -> np.ndarray:
        """Both signs of each: its likelihood often has several optima."""
        signs = [[0.1, 0.1], [0.66, 0.5], [0.8, -0.5], [-0.6, 0.3], [-0.9, 0.7]]
        return np.array([*signs, [0.995, -0.5], [0.97, 0.05]])

    def at_lag(self, phi: np.ndarray, lag: np.ndarray) -> np.ndarray:
        """The correlation at lag 1, then powers of the first parameter."""
        ar, ma = (phi[:, k].reshape(-1, *[1] * lag.ndim) for k in range(2))
        first = (1 + ar * ma) * (ar + ma) / (1 + 2 * ar * ma + ma**2)
        steps = np.round(lag).astype(int)
        later = first * ar ** np.maximum(steps - 1, 0)
        return np.where(steps == 0, 1.0 + 0 * later, later)


class Toeplitz(OfLag):
    """A correlation for each lag: ``toep``, by partial autocorrelations (Durbin and Levinson)."""

    shows_matrix = True

    @property
    def names(self) -> tuple[str, ...]:
        """One a lag."""
        return tuple(f"partial {k}" for k in range(1, self.n_occasions))

    def at_lag(self, phi: np.ndarray, lag: np.ndarray) -> np.ndarray:
        """Looked up by lag."""
        one = np.ones((len(phi), 1), dtype=phi.dtype)
        whole = np.concatenate([one, _autocorrelations(phi)], axis=1)
        return np.asarray(whole[:, np.round(lag).astype(int)])


class OfOccasions(Correlation):
    """A correlation of its own for each pair of occasions."""

    @abstractmethod
    def whole(self, phi: np.ndarray) -> np.ndarray:
        """Shape (K, T, T): of all occasions."""

    def blocks(self, phi: np.ndarray, places: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Parts of the whole."""
        whole = self.whole(phi)
        at = [np.round(place).astype(int) for place in places]
        return [whole[:, k[:, None], k] for k in at]

    def neighbours(self, phi: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Parts of the whole."""
        return self.whole(phi)[:, before.astype(int), after.astype(int)]


class Unstructured(OfOccasions):
    """``us`` and ``symm``: any correlation, by canonical partial correlations, under an LKJ(1) prior."""

    shows_matrix = True

    is_ordered = False

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs (i, j), j < i, of occasions."""
        return [(i, j) for i in range(1, self.n_occasions) for j in range(i)]

    @property
    def names(self) -> tuple[str, ...]:
        """One a pair."""
        return tuple(f"partial {j + 1}, {i + 1}" for i, j in self.pairs)

    @property
    def shapes(self) -> np.ndarray:
        """Those of an LKJ(1) prior."""
        return np.array([1 + (self.n_occasions - 2 - j) / 2 for _, j in self.pairs])

    def whole(self, phi: np.ndarray) -> np.ndarray:
        """From its Cholesky factor, row by row."""
        K, T = len(phi), self.n_occasions
        root = np.zeros((K, T, T), dtype=phi.dtype)
        left = np.ones((K, T), dtype=phi.dtype)
        root[:, 0, 0] = 1.0
        for k, (i, j) in enumerate(self.pairs):
            root[:, i, j] = phi[:, k] * left[:, i]
            left[:, i] = left[:, i] * np.sqrt(1 - phi[:, k] ** 2)
            root[:, i, i] = left[:, i]
        return np.asarray(root @ np.swapaxes(root, 1, 2))


class AnteDependence(OfOccasions):
    """``ad1``: a correlation for each pair of neighbouring occasions, products of them beyond."""

    shows_matrix = True

    is_markov = True

    @property
    def names(self) -> tuple[str, ...]:
        """One a pair of neighbours."""
        return tuple(f"rho {k}, {k + 1}" for k in range(1, self.n_occasions))

    def whole(self, phi: np.ndarray) -> np.ndarray:
        """Products along the occasions between."""
        K, T = len(phi), self.n_occasions
        out = np.broadcast_to(np.eye(T, dtype=phi.dtype), (K, T, T)).copy()
        for i in range(1, T):
            for j in range(i):
                out[:, i, j] = out[:, j, i] = np.prod(phi[:, j:i], axis=1)
        return out


@dataclass(frozen=True)
class WithNugget(Correlation):
    """(1 - nugget) times a correlation between rows: beside it, rows differ independently.

    Attributes
    ----------
    inner
        The correlation without it.
    """

    inner: Correlation | None = None

    @property
    def reports_matrix(self) -> bool:
        """As without it."""
        return self._inner.reports_matrix

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the correlation, and the nugget."""
        return (*self._inner.names, "nugget")

    @property
    def lower(self) -> np.ndarray:
        """A nugget is a share."""
        return np.append(self._inner.lower, 0.0)

    @property
    def begins(self) -> np.ndarray:
        """Those without it with a small nugget, and strong correlations with a large one."""
        inner = self._inner.begins
        small, large = np.full((len(inner), 1), 0.2), np.full((len(inner[1::2]), 1), 0.6)
        return np.concatenate([np.hstack([inner[1::2], large]), np.hstack([inner, small])])

    @property
    def shapes(self) -> np.ndarray:
        """Uniform for the nugget."""
        return np.append(self._inner.shapes, 1.0)

    @property
    def _inner(self) -> Correlation:
        assert self.inner is not None
        return self.inner

    def blocks(self, phi: np.ndarray, places: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Shrunk away from the diagonal."""
        nugget = phi[:, -1, None, None]
        inner = self._inner.blocks(phi[:, :-1], places)
        return [(1 - nugget) * C + nugget * np.eye(C.shape[-1]) for C in inner]


STRUCTURES: dict[str, type[Correlation]] = {
    "ar1": Ar1,
    "car1": Car1,
    "cs": CompoundSymmetry,
    "us": Unstructured,
    "symm": Unstructured,
    "toep": Toeplitz,
    "ad1": AnteDependence,
    "arma11": Arma11,
}
BY_OCCASION = {"us": "us", "ar1h": "ar1", "csh": "cs", "toeph": "toep", "ad1h": "ad1"}
"""Words with an sd for each occasion -> the structure of their correlation."""
WORDS = (*STRUCTURES, *(word for word in BY_OCCASION if word not in STRUCTURES))


def structure_of(word: str) -> type[Correlation]:
    """The structure of a word: that of ``ar1h`` is that of ``ar1``."""
    return STRUCTURES[BY_OCCASION.get(word, word)]


def _autocorrelations(partial: np.ndarray) -> np.ndarray:
    """Shape (K, m): autocorrelations from partial ones (K, m)."""
    out = np.zeros_like(partial)
    weights = np.zeros((len(partial), 0), dtype=partial.dtype)
    left = np.ones(len(partial), dtype=partial.dtype)
    for k in range(partial.shape[1]):
        out[:, k] = (weights * out[:, :k][:, ::-1]).sum(axis=1) + partial[:, k] * left
        new = partial[:, k : k + 1]
        weights = np.concatenate([weights - new * weights[:, ::-1], new], axis=1)
        left = left * (1 - partial[:, k] ** 2)
    return out
