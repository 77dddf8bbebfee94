"""Residual: how the rows of a model vary about their means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hierpool.core.correlation import Correlation
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.spec import INDEPENDENT, ResidualTerm

_TREND = 0.7  # log sd of the last class where a search starts from sds that rise


@dataclass(frozen=True)
class RandomScale:
    """Groups that differ in their residual sd: sd_j = sigma exp(omega s_j), s_j ~ N(0, 1).

    Attributes
    ----------
    factor
        Whose levels they are.
    labels
        Of the levels, as text.
    spread_of, level_of
        Shapes (classes,): which row of the basis, and which level, each class of rows has.
    """

    factor: str
    labels: tuple[str, ...]
    spread_of: np.ndarray
    level_of: np.ndarray

    @property
    def size(self) -> int:
        """Parameters: omega, and omega s_j of each level."""
        return 1 + len(self.labels)


@dataclass(frozen=True)
class RowStructure:
    """Rows whose residuals are correlated within groups, or differ in an sd that is estimated.

    Its parameters phi are, in order, those of the correlation (of each class of ``by=`` in turn),
    the weights of the log sds, and of a random scale its sd and each level's deviation. sigma is the
    geometric mean of the sds of the classes, or the sd at the means of covariates; of the average
    group.

    Attributes
    ----------
    correlation
        Of the rows of a group; None where they are independent.
    groups, places, by
        Shapes (n,): the group, the occasion or time, and the class of ``by=`` of each row.
    by_labels, occasions
        Labels of the classes of ``by=``, and of the occasions; empty where there are none.
    classes
        Shape (n,): which row of ``basis`` each row has; of ``scale``, which class.
    basis
        Shape (classes, k): log sd of a class, less log sigma, from its weights.
    spread_sd
        Shape (k,): prior sds of the weights.
    labels
        Labels of the classes; of covariates one a weight.
    is_by_class
        Whether the sds are those of classes, and not a function of covariates.
    unit
        Sd of the covariate, over which its weight is reported.
    scale
        How the sds of groups differ at random; None where they do not.
    """

    correlation: Correlation | None
    groups: np.ndarray
    places: np.ndarray
    by: np.ndarray
    by_labels: tuple[str, ...]
    occasions: tuple[str, ...]
    classes: np.ndarray
    basis: np.ndarray
    spread_sd: np.ndarray
    labels: tuple[str, ...]
    is_by_class: bool = True
    unit: float = 1.0
    scale: RandomScale | None = None

    @cached_property
    def n_by(self) -> int:
        """Classes with a correlation of their own."""
        return max(len(self.by_labels), 1)

    @cached_property
    def n_correlations(self) -> int:
        """Parameters of the correlations."""
        return 0 if self.correlation is None else self.n_by * self.correlation.size

    @cached_property
    def n_spread(self) -> int:
        """Weights of the log sds."""
        return self.basis.shape[1]

    @property
    def size(self) -> int:
        """Number of parameters."""
        own = self.n_correlations + self.n_spread
        return own if self.scale is None else own + self.scale.size

    @property
    def n_estimated(self) -> int:
        """Parameters that are estimated: of a random scale its sd, and no level's deviation."""
        return self.n_correlations + self.n_spread + (self.scale is not None)

    @property
    def n_classes(self) -> int:
        """Classes of rows that are alike in their sd."""
        return len(self.basis) if self.scale is None else len(self.scale.level_of)

    def correlations(self, phi: np.ndarray) -> np.ndarray:
        """Shape (K, n_by, m): parameters of the correlation of each class."""
        return phi[..., : self.n_correlations].reshape(*phi.shape[:-1], self.n_by, -1)

    def log_sds(self, phi: np.ndarray) -> np.ndarray:
        """Shape (K, classes): log residual sds, in units of sigma."""
        first = self.n_correlations + self.n_spread
        fixed = np.asarray(phi[..., self.n_correlations : first] @ self.basis.T)
        if self.scale is None:
            return fixed
        deviations = phi[..., first + 1 :]
        return np.asarray(fixed[..., self.scale.spread_of] + deviations[..., self.scale.level_of])

    def to_free(self, phi: np.ndarray) -> np.ndarray:
        """Coordinates that are free on the whole line, shape (K, size)."""
        out = np.array(phi, dtype=float)
        if self.correlation is not None:
            own = self.correlation.to_free(self.correlations(phi))
            out[..., : self.n_correlations] = own.reshape(*phi.shape[:-1], -1)
        return out

    def from_free(self, x: np.ndarray) -> np.ndarray:
        """The inverse of ``to_free``."""
        out = np.array(x, dtype=float)
        if self.correlation is not None:
            own = self.correlation.from_free(self.correlations(x))
            out[..., : self.n_correlations] = own.reshape(*x.shape[:-1], -1)
        return out

    @property
    def begins(self) -> np.ndarray:
        """Shape (s, size): free coordinates from which a search for an optimum starts.

        Beside the strongest correlation also with sds that fall and that rise over the classes.
        """
        if self.correlation is None:
            return np.zeros((1, self.size))
        own = np.tile(self.correlation.begins, self.n_by)
        begins = np.hstack([own, np.zeros((len(own), self.size - self.n_correlations))])
        if self.is_by_class and len(self.basis) > 2:
            strong = begins[-1]
            sds = slice(self.n_correlations, self.n_correlations + self.n_spread)
            for step in (-_TREND, _TREND):
                begins = np.vstack([begins, strong])
                begins[-1, sds] = np.linspace(-step, step, len(self.basis)) @ self.basis
        return self.to_free(begins)

    @property
    def bounds_and_priors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lower bounds and beta shapes of the parameters of the correlations, sds of the weights."""
        own, none = self.correlation, np.zeros(0)
        lower, shapes = (none, none) if own is None else (own.lower, own.shapes)
        return np.tile(lower, self.n_by), np.tile(shapes, self.n_by), self.spread_sd

    def with_new_groups(self, phi: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Parameters (K, m) with scales of new groups, from standard normals z (K, J)."""
        if self.scale is None:
            return phi
        first = phi.shape[1] - len(self.scale.labels)
        return np.hstack([phi[:, :first], phi[:, [first - 1]] * z])

    @property
    def has_matrix(self) -> bool:
        """Whether each pair of occasions has a correlation that is reported."""
        return self.correlation is not None and self.correlation.reports_matrix

    def reported(self, phi: np.ndarray, sigma: np.ndarray) -> dict[str, np.ndarray]:
        """What is said of the structure at parameters (K, m) and sigma (K,), by name.

        ``rho``, ``ar`` and ``ma``, ``nugget``, ``corr_residual``, ``sd_residual`` of classes,
        ``log_sd_slope`` of a covariate, ``sd_log_sigma`` and ``log_sigma_deviation`` of a random scale. A
        dim of the classes of ``by=`` comes first where there are any.
        """
        out: dict[str, np.ndarray] = {}
        if self.correlation is not None:
            each = self.correlations(phi)
            for k, name in enumerate(self.correlation.names):
                if not self.has_matrix or name == "nugget":
                    out[name] = each[..., k]
            if self.has_matrix:
                every = [np.arange(float(self.correlation.n_occasions))]
                C = [self.correlation.blocks(each[:, g], every)[0] for g in range(self.n_by)]
                out["corr_residual"] = np.stack(C, axis=1)
            if not self.by_labels:
                out = {name: values[:, 0] for name, values in out.items()}
        weights, random = np.split(phi[:, self.n_correlations :], [self.n_spread], axis=1)
        if self.n_spread and self.is_by_class:
            out["sd_residual"] = sigma[:, None] * np.exp(weights @ self.basis.T)
        elif self.n_spread:
            out["log_sd_slope"] = weights[:, -1] / self.unit
        if self.scale is not None:
            out |= {"sd_log_sigma": random[:, 0], "log_sigma_deviation": random[:, 1:]}
        return out

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Dims of what is reported, by name."""
        one = {"corr_residual": ("occasion", "occasion2"), "sd_residual": ("class",)}
        if self.scale is not None:
            one["log_sigma_deviation"] = (self.scale.factor,)
        by = ("by",) if self.by_labels else ()
        zero = self.reported(np.full((1, self.size), 0.5), np.ones(1))
        apart = ("sd_residual", "log_sd_slope", "sd_log_sigma", "log_sigma_deviation")
        return {k: (() if k in apart else by) + one.get(k, ()) for k in zero}

    @property
    def coords(self) -> dict[str, tuple[str, ...]]:
        """Labels of those dims."""
        found = {
            "by": self.by_labels,
            "occasion": self.occasions,
            "occasion2": self.occasions,
            "class": self.labels if self.is_by_class else (),
        }
        if self.scale is not None:
            found[self.scale.factor] = self.scale.labels
        used = {d for dims in self.dims.values() for d in dims}
        return {k: v for k, v in found.items() if k in used}

    def lies_within(self, codes: np.ndarray) -> bool:
        """Whether rows that are correlated have one level of a factor, by its codes (n,)."""
        if self.correlation is None:
            return True
        first = np.zeros(int(self.groups.max(initial=-1)) + 1, dtype=np.intp)
        first[self.groups] = codes
        return bool((first[self.groups] == codes).all())

    def take(self, which: np.ndarray) -> RowStructure:
        """Of some of the rows; parameters and their meaning stay."""
        return replace(
            self,
            groups=self.groups[which],
            places=self.places[which],
            by=self.by[which],
            classes=self.classes[which],
        )


@dataclass(frozen=True)
class Residual:
    """Residual standard deviations of rows, up to sigma: y_i ~ N(mean_i, (sigma r_i)^2).

    Attributes
    ----------
    term
        What was asked.
    values
        Shape (n,): the user's column, weights or known residual sds; None where the rows are
        alike. Of rows that stand in for many, the weights or sds of these.
    structure
        How rows are correlated, and their sds are estimated; None for independent rows of one sd.
    summed_square
        ``mean_square`` of the rows that others stand in for; None where there are none.
    """

    term: ResidualTerm = INDEPENDENT
    values: np.ndarray | None = None
    structure: RowStructure | None = None
    summed_square: float | None = None

    @property
    def has_sigma(self) -> bool:
        """Whether there is a residual sd to estimate; not where those of the rows are known."""
        return self.term.has_sigma

    @property
    def varies(self) -> bool:
        """Whether rows differ in their residual sd."""
        return self.values is not None and self.term.structure != "family"

    @cached_property
    def relative_sd(self) -> np.ndarray | float:
        """Shape (n,): r_i, residual sd of each row in units of sigma; the number 1 for equal rows.

        1 / sqrt(weights); known sds themselves, with sigma = 1. The number 1 where the family says
        how rows vary.
        """
        self.check_independent()
        return self.known_sd

    def check_independent(self) -> None:
        """Raise where what is asked for has not learnt of structured residuals."""
        if self.term.is_structured:
            raise UnsupportedModelError(
                f"the residuals of this model have a structure ({self.term.words}), and what you "
                "ask for does not take it into account yet. Leave residual= and sigma= out of a "
                "model for it",
                "residual-structure-unsupported",
            )

    @cached_property
    def known_sd(self) -> np.ndarray | float:
        """Shape (n,): what of ``relative_sd`` is known; all of it but for structured residuals."""
        if self.values is None or self.term.structure == "family":
            return 1.0
        return 1 / np.sqrt(self.values) if self.has_sigma else self.values

    def relative_sds(self, n: int) -> np.ndarray:
        """Shape (n,): r_i of each of n rows, also where they are equal."""
        return np.broadcast_to(self.relative_sd, (n,))

    def sd(self, sigma: np.ndarray | float, rows: np.ndarray | None = None) -> np.ndarray:
        """Residual sds of rows at values of sigma: shapes (K,) to (K, n), or () to (n,).

        The last axis has length 1 where the rows are equal, unless ``rows`` chooses some.
        """
        relative = np.atleast_1d(self.relative_sd)
        if rows is not None:
            relative = relative[rows] if self.varies else np.ones(len(rows))
        return np.asarray(np.asarray(sigma)[..., None] * relative)

    def whiten(self, values: np.ndarray) -> np.ndarray:
        """Rows (n, ...) in units of sigma: each divided by its r_i."""
        self.check_independent()
        return self.over_known_sd(values)

    def over_known_sd(self, values: np.ndarray) -> np.ndarray:
        """The same by ``known_sd``."""
        if not self.varies:
            return values
        relative = np.asarray(self.known_sd)
        return np.asarray(values / relative.reshape(-1, *[1] * (values.ndim - 1)))

    @cached_property
    def mean_square(self) -> float:
        """Mean of r_i^2: the residual variance of a typical row, in units of sigma^2."""
        if self.summed_square is not None:
            return self.summed_square
        return float(np.mean(np.square(self.relative_sd)))

    def sd_of_constant(self, values: np.ndarray) -> float:
        """Sigma of a constant alone: sd of the values (n,), each row counted by its weight.

        Infinite for known sds that are negligible beside the values.
        """
        values = values - values.mean()
        weights = np.broadcast_to(self.known_sd, values.shape) ** -2.0
        weights = weights / weights.max()
        values = (values - np.average(values, weights=weights)) / self.known_sd
        with np.errstate(over="ignore"):
            return float(np.sqrt((values**2).sum() / (len(values) - 1)))
