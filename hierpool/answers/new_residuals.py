"""Residuals of new rows, given those of the rows of their groups that were observed.

With R of the rows of a group, observed o and new w, and residuals e of the observed ones:

    e_w | e_o ~ N(R_wo R_oo^-1 e_o, sigma^2 (R_ww - R_wo R_oo^-1 R_ow))

so a new observation borrows from its neighbours; a group without observations has nothing to borrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hierpool.core.correlation import BY_OCCASION, structure_of
from hierpool.core.design import Design
from hierpool.core.errors import DataError, listed
from hierpool.core.residual import RowStructure
from hierpool.core.spec import CorrelationTerm

_NUMBERS = 4_000_000  # of matrices at once
_SAME = 1e-9
NONE: tuple[int, ...] = ()


class Conditional(NamedTuple):
    """New rows of one group at K values of the parameters.

    Attributes
    ----------
    observed, new
        Positions of rows of the fit (a,) and of new rows (b,).
    weights
        Shape (K, b, a): R_wo R_oo^-1.
    root
        Shape (K, b, b): Cholesky factor of what is left of R_ww, in units of sigma^2.
    """

    observed: np.ndarray
    new: np.ndarray
    weights: np.ndarray
    root: np.ndarray


@dataclass(frozen=True)
class NewResiduals:
    """Rows of a fit and new ones, with the structure that they have together.

    Attributes
    ----------
    joint
        Of the rows of the fit, then of the new ones.
    known_sd
        Shape (n + m,): what is known of their sds.
    n
        Rows of the fit.
    new_scales
        Which groups of theirs are new and have a residual sd of their own.
    """

    joint: RowStructure
    known_sd: np.ndarray
    n: int
    new_scales: tuple[int, ...] = ()

    def with_scales(self, phi: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Parameters (K, m) with the scale of an average group, and of new ones by z (K, new)."""
        own = self.joint.scale
        if own is None:
            return phi
        omega = phi[:, [self.joint.n_correlations + self.joint.n_spread]]
        return np.hstack([phi, np.zeros_like(omega), omega * z])

    def with_mean_scales(self, phi: np.ndarray) -> np.ndarray:
        """The same with new groups whose residual variance is the mean of all groups'."""
        if self.joint.scale is None:
            return phi
        omega = phi[:, [self.joint.n_correlations + self.joint.n_spread]]
        # E exp(2 omega s) = exp(2 omega^2)
        return self.with_scales(phi, np.repeat(omega, len(self.new_scales), axis=1))

    def groups(self, which: np.ndarray) -> np.ndarray:
        """Groups of some of the new rows, each once."""
        return np.unique(self.joint.groups[self.n + which])

    def conditionals(self, phi: np.ndarray, group: int) -> Iterator[tuple[slice, Conditional]]:
        """The new rows of a group given those observed, a run of the parameters (K, m) at a time."""
        s = self.joint
        rows = np.flatnonzero(s.groups == group)
        observed, new = rows[rows < self.n], rows[rows >= self.n]
        if s.correlation is None:
            observed = observed[:0]
        elif s.correlation.is_markov:
            observed = _neighbours(observed, new, s.places)
        every = np.concatenate([observed, new])
        step = max(1, _NUMBERS // max(len(every) ** 2, 1))
        for start in range(0, len(phi), step):
            run = slice(start, start + step)
            yield run, self._of(phi[run], observed, new, every)

    def _of(
        self, phi: np.ndarray, observed: np.ndarray, new: np.ndarray, every: np.ndarray
    ) -> Conditional:
        s, a = self.joint, len(observed)
        sd = np.exp(s.log_sds(phi))[:, s.classes[every]] * self.known_sd[every]
        C = np.broadcast_to(np.eye(len(every)), (len(phi), len(every), len(every)))
        if s.correlation is not None:
            own = s.correlations(phi)[:, s.by[every[0]]]
            C = s.correlation.blocks(own, [s.places[every]])[0]
        L = np.linalg.cholesky(C) * sd[:, :, None]
        weights = np.zeros((len(phi), len(new), a))
        if a:  # L_wo L_oo^-1
            transposed = np.swapaxes(L[:, :a, :a], -1, -2)
            weights = np.swapaxes(
                np.linalg.solve(transposed, np.swapaxes(L[:, a:, :a], -1, -2)), -1, -2
            )
        return Conditional(observed, new - self.n, weights, L[:, a:, a:])


def _neighbours(observed: np.ndarray, new: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The observed rows next to new ones: of a structure that is Markov the others say nothing more."""
    observed = observed[np.argsort(places[observed])]
    after = np.searchsorted(places[observed], places[new])
    at = np.unique(np.concatenate([after - 1, after]))
    return observed[at[(at >= 0) & (at < len(observed))]]


def new_residuals(
    design: Design,
    frame: pd.DataFrame,
    codes: np.ndarray,
    scales: np.ndarray,
    known_sd: np.ndarray | float,
) -> NewResiduals:
    """The structure of new rows beside those of a fit.

    Parameters
    ----------
    design
        Of the fit.
    frame
        New rows, with the columns of the structure.
    codes
        Shape (m,): group of each row; from the number of groups on those that are new.
    scales
        Shape (m,): group of each row whose residual sd it has, where groups have one; the number of
        groups is the average one, further ones are new.
    known_sd
        What is known of their sds.

    Raises
    ------
    DataError
        An occasion, or a class, that the fit has not seen where each has parameters of its own, or
        one at which the row's group has been observed.
    """
    s, term, m = design.residual.structure, design.spec.residual, len(frame)
    assert s is not None
    own, places, by = term.correlation, np.zeros(m), np.zeros(m, dtype=np.intp)
    parts: list[np.ndarray] = []
    if own is not None:
        places = _places(own, s, design, frame)
        if own.by:
            by = _labelled(frame, own.by, s.by_labels, str(own))
            parts.append(np.array(s.by_labels, dtype=object)[by])
        if own.word in BY_OCCASION:
            parts.append(np.array(s.occasions, dtype=object)[places.astype(int)])
    basis, classes = _basis(design, s, frame, parts)
    of_fit, of_new, scale, new = s.classes, len(s.basis) + classes, s.scale, NONE
    if scale is not None:
        J, first = len(scale.labels), len(scale.level_of)
        kept = scales > J
        numbers, place = np.unique(scales[kept], return_inverse=True)
        levels = scales.copy()
        levels[kept] = J + 1 + place
        new = tuple(int(k) for k in numbers)
        scale = replace(
            scale,
            spread_of=np.append(scale.spread_of, of_new),
            level_of=np.append(scale.level_of, levels),
        )
        of_new = first + np.arange(m)
    joint = replace(
        s,
        groups=np.concatenate([s.groups, codes]),
        places=np.concatenate([s.places, places]),
        by=np.concatenate([s.by, by]),
        basis=np.concatenate([s.basis, basis]),
        classes=np.concatenate([of_fit, of_new]),
        scale=scale,
    )
    if own is not None:
        _check_not_observed(own, design, frame, joint)
    sds = [np.broadcast_to(design.residual.known_sd, (design.n,)), np.broadcast_to(known_sd, (m,))]
    return NewResiduals(joint, np.concatenate(sds), design.n, new)


def _basis(
    design: Design, s: RowStructure, frame: pd.DataFrame, parts: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the basis of log sds for the new rows, and which of them each has."""
    term, m = design.spec.residual, len(frame)
    if term.spread and not s.is_by_class:
        seen = design.frame[term.spread_column].to_numpy(dtype=float)
        values = frame[term.spread_column].to_numpy(dtype=float)
        if term.is_log:
            if values.min(initial=1.0) <= 0:
                raise DataError(
                    f"sigma='~ {term.spread}': {term.spread_column!r} has values that are not "
                    "positive in the new rows, and their logarithm does not exist",
                    "sigma-log-of-zero",
                )
            seen, values = np.log(seen), np.log(values)
        scaled = (values - seen.mean()) / seen.std(ddof=1)
        return scaled[:, None], np.arange(m)
    if term.spread:
        parts = [*parts, frame[term.spread].astype(str).to_numpy(dtype=object)]
    if not parts:
        return np.zeros((1, s.n_spread)), np.zeros(m, dtype=np.intp)
    named = pd.Index([", ".join(map(str, each)) for each in zip(*parts, strict=True)])
    at = pd.Index(s.labels).get_indexer(named)
    if (at < 0).any():
        raise DataError(
            f"{term.words}: no row of the fit is of class {named[at < 0][0]!r}, so it has no residual "
            "sd. Leave the row out, or predict kind='mean'",
            "unknown-occasion",
        )
    return s.basis, at


def _labelled(frame: pd.DataFrame, column: str, labels: tuple[str, ...], where: str) -> np.ndarray:
    at = pd.Index(labels).get_indexer(pd.Index(frame[column].astype(str)))
    if (at < 0).any():
        raise DataError(
            f"{where}: {column!r} has {frame[column].astype(str)[at < 0].iloc[0]!r}, which no row of "
            f"the fit has. It has {listed(labels)}",
            "unknown-occasion",
        )
    return np.asarray(at)


def _places(
    own: CorrelationTerm, s: RowStructure, design: Design, frame: pd.DataFrame
) -> np.ndarray:
    """Positions in time of new rows, as the rows of the fit have them."""
    made, seen, column = structure_of(own.word), design.frame[own.time], frame[own.time]
    if made.takes_times:
        return column.to_numpy(dtype=float) - float(seen.min())
    is_number = pd.api.types.is_numeric_dtype(seen) and not pd.api.types.is_bool_dtype(seen)
    counts_steps = own.word in ("ar1", "ar1h", "toep", "toeph", "arma11")
    if not is_number:
        return _labelled(frame, own.time, s.occasions, str(own)).astype(float)
    different, times = np.unique(seen.to_numpy(dtype=float)), column.to_numpy(dtype=float)
    if counts_steps:
        step = float(np.diff(different).min()) if len(different) > 1 else 1.0
        places = (times - different[0]) / step
        bad = np.abs(places - np.round(places)) > 1e-6
        places = np.round(places)
        if own.word != "ar1" and own.word != "arma11":
            bad |= (places < 0) | (places >= len(s.occasions))
    else:
        places = np.searchsorted(different, times).astype(float)
        found = different[np.minimum(places.astype(int), len(different) - 1)]
        bad = np.abs(found - times) > _SAME * np.maximum(np.abs(times), 1.0)
        if own.word == "cs":  # any two occasions are alike
            places[bad] = len(different) + np.unique(times[bad], return_inverse=True)[1]
            bad[:] = False
    if bad.any():
        raise DataError(
            f"{own}: {own.time} {times[bad][0]:g} of row {frame.index[bad][0]} is no occasion of the "
            f"fit, whose correlations are those of {listed(s.occasions)}. car1 takes any times; "
            "kind='mean' needs none",
            "unknown-occasion",
        )
    return places


def _check_not_observed(
    own: CorrelationTerm, design: Design, frame: pd.DataFrame, joint: RowStructure
) -> None:
    """Raise where a group has been observed at the time of a new row, or has two new rows there."""
    keys = pd.MultiIndex.from_arrays([joint.groups, np.round(joint.places, 9)])
    again = keys.duplicated()[design.n :]
    if not again.any():
        return
    row: Any = frame.index[again][0]
    raise DataError(
        f"{own}: the group of row {row} has been observed at {own.time} "
        f"{frame[own.time].iloc[int(np.flatnonzero(again)[0])]} (or has two new rows there), and its "
        "residual at one time is one number. Leave the row out; kind='mean' gives its expected value, "
        "and predict() without data new observations of all rows",
        "observed-time",
    )
