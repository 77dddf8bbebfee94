"""Whether one model is a special case of another, and how far a likelihood ratio then falls by chance.

Every model here is y ~ N(X beta, V) with V linear in the free entries of the factors' covariances.
The smaller is a special case if its columns X are in the span of the larger's, and each of its
covariance patterns Z_f E Z_f' among those of the larger. Residual structures are compared by name.

References
----------
Self, Liang (1987), J. Am. Stat. Assoc. 82, 605-610.
Stram, Lee (1994), Biometrics 50, 1171-1177.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierpool.core.coding import Coding
from hierpool.core.design import COLLECT_ONCE, Design, GroupDesign
from hierpool.core.errors import ComparisonError, UnsupportedModelError

_SAME = 1e-6  # of columns with length 1
_INSIDE = {  # residual structures -> those that they are special cases of
    "ar1": ("ar1h", "toep", "toeph", "ad1", "ad1h", "arma11", "symm", "us"),
    "cs": ("csh", "toep", "toeph", "symm", "us"),
    "arma11": ("toep", "toeph", "symm", "us"),
    "toep": ("toeph", "symm", "us"),
    "ad1": ("ad1h", "symm", "us"),
    "symm": ("us",),
    "ar1h": ("toeph", "ad1h", "us"),
    "csh": ("toeph", "us"),
    "toeph": ("us",),
    "ad1h": ("us",),
}


@dataclass(frozen=True, slots=True)
class Step:
    """What the larger of two nested models has more.

    Attributes
    ----------
    fixed
        Fixed effects.
    parameters
        Variances and covariances.
    variances
        The variances among them.
    """

    fixed: int
    parameters: int
    variances: int

    @property
    def df(self) -> int:
        """Parameters in all."""
        return self.fixed + self.parameters

    @property
    def weights(self) -> tuple[tuple[int, float], ...] | None:
        """The null distribution as (df, weight) of chi-squareds; None where none is known.

        One variance more sits on its bound of zero: half of the time it stays there.
        """
        if self.variances == 0:
            return ((self.df, 1.0),)
        if self.variances == 1:
            return ((self.df - 1, 0.5), (self.df, 0.5))
        return None


def step(smaller: Design, larger: Design) -> Step:
    """What the larger model has more.

    Raises
    ------
    ComparisonError
        Fits of different rows, or models of which none is a special case of the other.
    UnsupportedModelError
        One of them has no pooling.
    """
    _check_rows(smaller, larger)
    for design in (smaller, larger):
        if design.spec.pooling == "none":
            raise UnsupportedModelError(
                f"{design.spec.formula} is not pooled: it is the limit of partial pooling with "
                "infinite variance, not a special case that a test could reject. Use "
                "hp.compare(fits).",
                "no-pooling-in-test",
            )
    fixed = len(larger.terms) - len(smaller.terms)
    if not _spans(larger.observations.X, smaller.observations.X):
        missing = [t for t in smaller.terms if t not in larger.terms]
        what = f"the columns of {', '.join(missing)}" if missing else "all columns"
        _refuse(smaller, larger, f"the second model does not contain {what} of the first")
    parameters, variances = _random(smaller, larger)
    of_residuals, on_bound = _structure(smaller, larger)
    found = Step(fixed, parameters + of_residuals, variances + on_bound)
    if found.df == 0:
        _refuse(smaller, larger, "both have the same number of parameters, so they are one model")
    return found


def _random(smaller: Design, larger: Design) -> tuple[int, int]:
    """Covariance parameters and variances that the larger model has more."""
    parameters = sum(_count(g) for g in larger.groups) - sum(_count(g) for g in smaller.groups)
    columns = sum(len(g.terms) for g in larger.groups) - sum(len(g.terms) for g in smaller.groups)
    for group in smaller.groups:
        if _in_residuals(group, smaller, larger):
            columns += 1
            continue
        same = next((g for g in larger.groups if _same_levels(group, g)), None)
        if same is None:
            _refuse(smaller, larger, f"the second has no random effects of {group.factor}")
        elif not _holds(same, group):
            _refuse(
                smaller,
                larger,
                f"the covariance matrix of {', '.join(group.terms)} over {group.factor} is not a "
                "special case of the second's",
            )
    return parameters, columns


def _in_residuals(group: GroupDesign, smaller: Design, larger: Design) -> bool:
    """Whether residuals of the larger model have what an intercept says: one covariance of all rows."""
    own = larger.spec.residual.correlation
    return (
        own is not None
        and own.word in ("cs", *_INSIDE["cs"])
        and not (larger.groups or smaller.spec.residual.correlation)
        and len(smaller.groups) == len(group.terms) == 1
        and bool(np.ptp(group.Z) == 0)
        and own.factor == group.factor
    )


def _structure(smaller: Design, larger: Design) -> tuple[int, int]:
    """Parameters of the residuals that the larger model has more, and how many begin at a bound.

    An autocorrelation of continuous time and the sd of a random scale are never negative, and a
    nugget is a share: they begin at the smaller model.
    """
    one, other = smaller.spec.residual, larger.spec.residual
    a, b = one.correlation, other.correlation
    if one.spread and one.spread != other.spread:
        _refuse(smaller, larger, f"the second has no residual sds by {one.spread}")
    bound = 0
    if a is not None:
        is_same = b is not None and (a.time, a.factor) == (b.time, b.factor)
        holds = b is not None and (a.word == b.word or b.word in _INSIDE.get(a.word, ()))
        by = b is not None and a.by in ("", b.by) and (b.nugget or not a.nugget)
        if not (is_same and holds and by):
            _refuse(smaller, larger, f"{a} is not a special case of {b or 'independent residuals'}")
    if b is not None:
        bound += b.nugget and not (a is not None and a.nugget)
        bound += b.word == "car1" and a is None
    if one.scale and one.scale != other.scale:
        _refuse(smaller, larger, f"the second has no residual sds that differ by {one.scale}")
    bound += bool(other.scale and not one.scale)
    sizes = [
        0 if s is None else s.n_estimated
        for s in (smaller.residual.structure, larger.residual.structure)
    ]
    return sizes[1] - sizes[0], bound


def _count(group: GroupDesign) -> int:
    """Free entries of the covariance of a factor."""
    return int(_free(group).sum() + len(group.terms)) // 2


def _free(group: GroupDesign) -> np.ndarray:
    """Shape (q, q): which entries of the covariance are free."""
    mask = np.zeros((len(group.terms),) * 2, dtype=bool)
    for block in group.blocks:
        mask[block.columns, block.columns] = sum(block.patterns, np.zeros((block.size,) * 2)) > 0
    np.fill_diagonal(mask, True)
    return mask


def _same_levels(one: GroupDesign, other: GroupDesign) -> bool:
    """Whether two factors group the rows alike."""
    pairs = np.unique(np.stack([one.grouping.codes, other.grouping.codes]), axis=1).shape[1]
    return pairs == one.grouping.n_levels == other.grouping.n_levels


def _holds(larger: GroupDesign, smaller: GroupDesign) -> bool:
    """Whether each covariance of one factor's columns is one of the other's: B E B' for Z B."""
    if not _spans(larger.Z, smaller.Z):
        return False
    norms = np.linalg.norm(larger.Z, axis=0)
    B = np.linalg.lstsq(larger.Z / norms, smaller.Z / np.linalg.norm(smaller.Z, axis=0))[0]
    fixed = ~_free(larger)
    free = _free(smaller)
    for a, b in zip(*np.nonzero(free), strict=True):
        made = np.outer(B[:, a], B[:, b])
        made = made + made.T
        if np.abs(made[fixed]).max(initial=0.0) > _SAME * max(np.abs(made).max(), 1.0):
            return False
    return True


def _spans(columns: np.ndarray, others: np.ndarray) -> bool:
    """Whether the others are combinations of the columns, judged by their spread where centred."""
    if others.shape[1] == 0:
        return True
    coding = Coding.from_columns(columns)
    shift = np.zeros(others.shape[1])
    if coding.has_constant:
        columns, shift = columns - columns.mean(axis=0), others.mean(axis=0)
    others = others - shift
    size = np.linalg.norm(others, axis=0)
    others = others / np.where(size > 0, size, 1.0)
    size = np.linalg.norm(columns, axis=0)
    columns = columns / np.where(size > 0, size, 1.0)
    left = others - columns @ np.linalg.lstsq(columns, others)[0]
    return bool(np.abs(left).max() < _SAME)


def _check_rows(smaller: Design, larger: Design) -> None:
    one, other = smaller.spec, larger.spec
    if one.response != other.response:
        raise ComparisonError(
            f"the first fit predicts {one.response} and the second {other.response}, so their "
            "likelihoods cannot be compared. Fit both to the same response.",
            "different-response",
        )
    if smaller.fingerprint != larger.fingerprint:
        if smaller.is_summed and larger.is_summed and smaller.has_rows_of(larger):
            raise ComparisonError(
                f"the sums for {one.formula} and for {other.formula} were collected apart, and whether "
                f"one model is a special case of the other cannot be seen from them. {COLLECT_ONCE}",
                "collected-apart",
            )
        raise ComparisonError(
            f"the fits use different rows ({smaller.n} and {larger.n}), another order of rows, or "
            f"other values of {one.response}. Fit both to the same table.",
            "different-rows",
        )
    if smaller.family != larger.family:
        _refuse(smaller, larger, "their families or links differ")
    if smaller.residual.has_sigma != larger.residual.has_sigma or not np.all(
        smaller.residual.known_sd == larger.residual.known_sd
    ):
        _refuse(smaller, larger, "their weights or known residual sds differ")
    if not np.allclose(smaller.offset, larger.offset, rtol=1e-12, atol=0):
        _refuse(smaller, larger, "their offsets differ")


def _refuse(smaller: Design, larger: Design, why: str) -> None:
    raise ComparisonError(
        f"{smaller.spec.formula} is not a special case of {larger.spec.formula}: {why}. A "
        "likelihood ratio test needs nested models, the smaller first; hp.compare() compares any "
        "models.",
        "not-nested",
    )
