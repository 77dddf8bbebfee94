"""What a profile holds: a fixed effect, a standard deviation, a correlation, a parameter.

A standard deviation or a correlation is held by the Cholesky factor of its block in coordinates
that begin with the user's coefficients a (and b), at length 1, and go on at right angles to them:
sd_a is sigma T_11 times that length, and corr(a, b) = T_21 / sqrt(T_21^2 + T_22^2). Signs of the
other entries are free, so that zero is an inner point.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hierpool.core.design import Design
from hierpool.core.results import pair_positions, variance_component_name
from hierpool.reml.estimate import lower_root


@dataclass(frozen=True)
class Block:
    """One block of the relative factor: Lambda[:, columns] = left T, some entries of T free.

    Attributes
    ----------
    columns
        Where it stands among the columns of all factors.
    left
        Shape (Q, q).
    rows, cols
        The free entries of T.
    start
        T at the optimum, shape (q, q).
    """

    columns: slice
    left: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    start: np.ndarray


@dataclass(frozen=True)
class Held:
    """A quantity held at a value: what it does to the entries, to log sigma, to a fixed effect.

    Attributes
    ----------
    name
        As in the tables.
    estimate
        By ML.
    limits
        Smallest and largest value.
    step
        First step of a search for an end.
    blocks
        The relative factor, in the coordinates that suit this quantity.
    kind
        ``"sd"`` (T_11 of the first block), ``"corr"`` (its T_21 and T_22), ``"sigma"``, ``"beta"``;
        ``"residual"`` (a free parameter of a residual structure), ``"occasions"`` (a correlation of two
        occasions, on Fisher's scale); of a family ``"parameter"`` (a free
        number) and ``"threshold"``.
    unit
        What an sd is for T_11 = sigma = 1.
    contrast, shift
        Of a fixed effect: working coefficients (p,) that make it, and what is added. Of a residual sd:
        what its logarithm has of each parameter of the residual structure, beside log sigma.
    position
        Of a parameter of a family, or of a residual structure, among them; of those of a class of
        ``by=``, the first.
    pair
        The two occasions.
    """

    name: str
    estimate: float
    limits: tuple[float, float]
    step: float
    blocks: tuple[Block, ...]
    kind: str
    unit: float = 1.0
    contrast: np.ndarray = field(default_factory=lambda: np.zeros(0))
    shift: float = 0.0
    position: int = 0
    pair: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Root:
    """The root of the relative covariance at an optimum, and what of it can be held.

    Attributes
    ----------
    design
        The rows.
    basis
        Shape (Q, Q): Lambda = basis T.
    into_user
        Shape (Q, Q): the user's u from the coordinates of T.
    T
        Shape (Q, Q), at the optimum.
    """

    design: Design
    basis: np.ndarray
    into_user: np.ndarray
    T: np.ndarray

    def held(self, f: int, sigma: float, least_step: float) -> list[Held]:
        """Sds and correlations of one factor; ``least_step`` is the smallest first step of an sd of 1."""
        group, at = self.design.groups[f], self.design.group_columns[f]
        root = self.into_user[at] @ self.T[:, at] * sigma
        covariance = root @ root.T
        units = np.linalg.norm(self.into_user[at], axis=1)
        held = []
        for a, term in enumerate(group.terms):
            sd = float(np.sqrt(covariance[a, a]))
            name = variance_component_name(group.factor, "sd", term, "")
            unit = float(units[a])
            step = max(0.5 * sd, least_step * unit)
            held.append(Held(name, sd, (0.0, np.inf), step, self.blocks((f, (a,))), "sd", unit))
        for i, j in pair_positions(group.schema):
            scale = float(np.sqrt(covariance[i, i] * covariance[j, j]))
            corr = float(np.clip(covariance[i, j] / scale, -1, 1)) if scale > 0 else 0.0
            name = variance_component_name(group.factor, "corr", group.terms[j], group.terms[i])
            blocks = self.blocks((f, (j, i)))
            held.append(Held(name, corr, (-1.0, 1.0), 0.5, blocks, "corr"))
        return held

    def blocks(self, first: tuple[int, tuple[int, ...]] | None = None) -> tuple[Block, ...]:
        """The blocks; that of the named terms of a factor first, in coordinates that begin with them."""
        found: list[Block] = []
        parts = zip(self.design.groups, self.design.group_columns, strict=True)
        for f, (group, at) in enumerate(parts):
            for block in group.blocks:
                here = slice(at.start + block.start, at.start + block.stop)
                correlated = bool(block.pairs)
                rows, cols, _ = block.covariance.free_entries(block.size)
                named = first[1] if first is not None and first[0] == f else ()
                if not set(named) & set(range(block.start, block.stop)):
                    found.append(Block(here, self.basis[:, here], rows, cols, self.T[here, here]))
                    continue
                inside = [a - block.start for a in named]
                turn = _begun_with(self.into_user[here, here], inside, correlated)
                start = turn @ self.T[here, here]
                start = lower_root(start) if correlated else np.diag(np.abs(start).max(axis=1))
                left = self.basis[:, here] @ np.linalg.inv(turn)
                found.insert(0, Block(here, left, rows, cols, start))
        return tuple(found)


def _begun_with(into_user: np.ndarray, named: list[int], correlated: bool) -> np.ndarray:
    """Shape (q, q): coordinates that begin with the user's named ones, at length 1."""
    if not correlated:  # a diagonal map, and it must stay one
        return np.eye(len(into_user))[[*named, *np.delete(np.arange(len(into_user)), named)]]
    rows = into_user[named] / np.linalg.norm(into_user[named], axis=1)[:, None]
    square, _ = np.linalg.qr(rows.T, mode="complete")
    return np.vstack([rows, square[:, len(named) :].T])
