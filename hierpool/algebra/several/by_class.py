"""Several factors and residual sds of classes of rows: cross-products of each class, weighted.

With D the squared sds of the rows, Z_f'D^-1 Z_g = sum over classes of exp(-2 l_c) Z_f' I_c Z_g, and
which levels share rows does not depend on D: the plan of elimination is made once, and a theta has
products of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from scipy import sparse

from hierpool.algebra.gaussian import BetaPrior, Marginal
from hierpool.algebra.marginal_model import LevelSums, MarginalModel
from hierpool.algebra.moments import Coordinates, Moments
from hierpool.algebra.several import leave_out
from hierpool.algebra.several.factorisation import SeveralFactorsFactorisation
from hierpool.algebra.several.factorise import Fronts
from hierpool.algebra.several.model import SeveralFactors
from hierpool.algebra.several.plan import ManyRows, Plan, Products
from hierpool.core.design import Design, Grouping
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.residual import RowStructure
from hierpool.core.theta import ResidualTheta, WorkingTheta

MOST_NUMBERS = 50_000_000  # products of all classes together, less those that are zero
_NO_INFORMATION = 1e150  # of a root beside which what the population adds to a leverage vanishes


@dataclass(frozen=True)
class ByClass:
    """Cross-products of each class of rows, C of them.

    Attributes
    ----------
    plan
        Of all rows.
    products
        Shape (C, numbers): those of the plan, one field after the other; a class of few rows has few.
    XX, Xy, yy
        Shapes (C, p, p), (C, p) and (C,): totals.
    """

    plan: Plan
    products: sparse.csr_array
    XX: np.ndarray
    Xy: np.ndarray
    yy: np.ndarray

    @classmethod
    def from_rows(cls, rows: ManyRows, structure: RowStructure) -> ByClass:
        """Of rows that are divided by what is known of their sds."""
        plan, found, XX, Xy, yy = Plan.from_rows(rows), [], [], [], []
        size = 0
        for c in range(structure.n_classes):
            alone = _times(rows, (structure.classes == c).astype(float))
            flat = np.concatenate([values.ravel() for values in Plan.from_rows(alone).products])
            found.append(sparse.csr_array(flat[None]))
            size += found[-1].nnz
            if size > MOST_NUMBERS:
                raise _too_many_classes(structure)
            XX.append(alone.X.T @ alone.X)
            Xy.append(alone.X.T @ alone.y)
            yy.append(alone.y @ alone.y)
        products = sparse.csr_array(sparse.vstack(found, format="csr"))
        return cls(plan, products, np.stack(XX), np.stack(Xy), np.array(yy))

    def at(self, weights: np.ndarray) -> Plan:
        """The plan with each class's products times a weight (C,)."""
        flat, own = weights @ self.products, self.plan.products
        parts = np.split(flat, np.cumsum([values.size for values in own])[:-1])
        made = (part.reshape(values.shape) for part, values in zip(parts, own, strict=True))
        return replace(self.plan, products=Products(*made))


def _too_many_classes(structure: RowStructure) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{structure.n_classes} different residual sds beside several factors are too many for "
        "these rows: make classes of the column first, e.g. "
        "data['part'] = pandas.cut(data[column], 5).astype(str), and write sigma='~ part'",
        "residual-several-factors",
    )


def _times(rows: ManyRows, factor: np.ndarray) -> ManyRows:
    """The rows, each times a number (n,)."""
    many = factor[:, None]
    return replace(rows, y=rows.y * factor, X=rows.X * many, Z=tuple(z * many for z in rows.Z))


@dataclass(frozen=True)
class ScaledFactorisation(SeveralFactorsFactorisation):
    """Several factors at one Lambda and one set of residual sds.

    Attributes
    ----------
    structure
        Of the rows.
    phi
        Shape (m,): its parameters.
    """

    structure: RowStructure
    phi: np.ndarray

    @cached_property
    def marginal(self) -> Marginal:
        """The population's part, with log det R beside that of the levels."""
        found = super().marginal
        log_sds = self.structure.log_sds(self.phi[None])[0][self.structure.classes]
        return replace(found, log_det_levels=found.log_det_levels + 2 * log_sds.sum())

    def residual_gradient(self, is_reml: bool, beta: np.ndarray | None = None) -> np.ndarray:
        """Derivatives by phi of the log determinants and of the penalised sum of squares, (2, m).

        The sum of squares is that at ``beta`` (p,); None: at the conditional mean.
        """
        s, marginal = self.structure, self.marginal
        if not is_reml:
            marginal = replace(marginal, R=marginal.R * _NO_INFORMATION)
        leverage, _ = leave_out.leverages(self.fronts, self.Lambda[None], marginal)
        rows, at = self.fronts.rows, self.marginal.beta[0] if beta is None else beta
        u = self.fronts.deviations(self.Lambda[None], at[None])
        left = rows.residuals(at, [own[0] for own in u]) / rows.sd

        def by_class(values: np.ndarray) -> np.ndarray:
            return np.asarray(s.basis.T @ np.bincount(s.classes, values, s.n_classes))

        return np.stack([by_class(2 * (1 - leverage[0])), by_class(-2 * np.square(left))])


@dataclass(frozen=True)
class SeveralFactorsByClass(MarginalModel):
    """Several factors, and residual sds that depend on the class of a row.

    Attributes
    ----------
    design, coordinates, prior
        As in ``MarginalModel``.
    rows
        In working coordinates, divided by what is known of their sds.
    structure
        Which sds they have beside that.
    """

    design: Design
    coordinates: Coordinates
    prior: BetaPrior
    rows: ManyRows
    structure: RowStructure

    @classmethod
    def from_design(
        cls, design: Design, coordinates: Coordinates, prior: BetaPrior
    ) -> SeveralFactorsByClass:
        """Integrate the coefficients of a design out under this prior of beta."""
        structure = design.residual.structure
        assert structure is not None
        return cls(design, coordinates, prior, ManyRows.from_design(design, coordinates), structure)

    @cached_property
    def by_class(self) -> ByClass:
        """Cross-products."""
        return ByClass.from_rows(self.rows, self.structure)

    @property
    def scaled_rows(self) -> ManyRows:
        """The rows, divided by what is known of their sds."""
        return self.rows

    @cached_property
    def totals(self) -> Moments:
        """Zero: the sums of each theta have them."""
        return self.rows.counts_alone

    @property
    def flops_per_theta(self) -> int:
        """Rough number of operations of one evaluation."""
        plan = self.by_class.plan
        combined = self.by_class.products.nnz
        N = int(plan.structure.sizes[3])
        return int(plan.structure.offset[-1]) + N**3 // 8 + combined

    def _weights(self, phi: np.ndarray) -> np.ndarray:
        """Shape (K, C): precisions of the classes."""
        return np.exp(-2 * self.structure.log_sds(phi))

    def level_sums(self, theta: WorkingTheta) -> LevelSums:
        """What rows and levels contribute at K values of theta, as ``CorrelatedResiduals`` has it."""
        assert isinstance(theta, ResidualTheta)
        K, p, own = len(theta), self.rows.p, self.by_class
        counts = np.bincount(self.structure.classes, minlength=self.structure.n_classes)
        log_det_R = 2 * self.structure.log_sds(theta.phi) @ counts
        every = self._weights(theta.phi)
        XX, Xy, yy = np.einsum("kc,cab->abk", every, own.XX), own.Xy.T @ every.T, every @ own.yy
        out = LevelSums(np.empty(K), np.empty((p, p, K)), np.empty((p, K)), np.empty(K))
        for k, weights in enumerate(every):
            found = Fronts(self.rows, own.at(weights)).sums(theta.Lambda[k : k + 1])
            out.log_det[k] = found[0][0] + log_det_R[k]
            out.GG[..., k] = found[1][0] - XX[..., k]
            out.Gg[:, k] = found[2][0] - Xy[:, k]
            out.squared[k] = found[3][0] - yy[k]
        return out

    def _fronts(self, phi: np.ndarray) -> Fronts:
        """The rows at one set of sds, each divided by its own."""
        log_sd = self.structure.log_sds(phi[None])[0][self.structure.classes]
        scaled = replace(_times(self.rows, np.exp(-log_sd)), sd=self.rows.sd * np.exp(log_sd))
        return Fronts(scaled, self.by_class.at(self._weights(phi[None])[0]))

    def _each(self, theta: WorkingTheta) -> Iterator[tuple[SeveralFactors, WorkingTheta]]:
        """The model at each theta, as one with known relative sds, and that theta."""
        assert isinstance(theta, ResidualTheta)
        for k, phi in enumerate(theta.phi):
            one = WorkingTheta(theta.sigma[k : k + 1], theta.Lambda[k : k + 1])
            fronts = self._fronts(phi)
            yield SeveralFactors(self.design, self.coordinates, self.prior, fronts), one

    def at(self, Lambda: np.ndarray, phi: np.ndarray | None = None) -> ScaledFactorisation:
        """The model at one relative factor and one set of parameters of the residuals (m,)."""
        assert phi is not None
        fronts = self._fronts(phi)
        return ScaledFactorisation(fronts, Lambda, fronts.factored(Lambda), self.structure, phi)

    def population_at(self, Lambda: np.ndarray, phi: np.ndarray | None = None) -> Marginal:
        """The population's part at K relative factors and parameters of the residuals."""
        assert phi is not None
        flat = replace(self, prior=BetaPrior.flat(self.rows.p))
        flat.__dict__["by_class"] = self.by_class
        return flat.marginal(ResidualTheta(np.ones(len(Lambda)), Lambda, phi))

    def draw(
        self,
        theta: WorkingTheta,
        seed: int,
        sums: LevelSums | None = None,
        with_sums: bool = True,
    ) -> dict[str, np.ndarray]:
        """One exact draw of all coefficients for each of K values of theta, in the user's coding."""
        seeds = np.random.SeedSequence(seed).generate_state(len(theta), np.uint64)
        each = zip(self._each(theta), seeds.tolist(), strict=True)
        return _joined(m.draw(one, own, None, with_sums) for (m, one), own in each)

    def mean_coefficients(self, theta: WorkingTheta) -> dict[str, np.ndarray]:
        """Conditional means of all coefficients at K values of theta; keys as for the draws."""
        return _joined(m.mean_coefficients(one) for m, one in self._each(theta))

    def conditional_variances(
        self, theta: WorkingTheta
    ) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Var(u | y, beta, theta) of the levels, in the user's coding; a factorisation a theta."""
        found = [m.conditional_variances(one) for m, one in self._each(theta)]
        return tuple(
            (np.concatenate([values for values, _ in parts]), parts[0][1])
            for parts in zip(*found, strict=True)
        )

    def densities_by_row(
        self, theta: WorkingTheta, rows: np.ndarray, marginal: Marginal
    ) -> np.ndarray:
        """Shape (rows, K): log p(y_i | y_-i, theta), every coefficient integrated out."""
        each = (m.densities_by_row(one, rows, m.marginal(one)) for m, one in self._each(theta))
        return np.concatenate(list(each), axis=1)

    def log_density_of_levels(self, theta: WorkingTheta, grouping: Grouping) -> np.ndarray:
        """Shape (J, K): log p(rows of a level, jointly, given all other rows and theta)."""
        each = (m.log_density_of_levels(one, grouping) for m, one in self._each(theta))
        return np.concatenate(list(each), axis=1)

    def prediction_of_rows(
        self, theta: WorkingTheta, rows: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sd of y_i given y_-i and theta, shapes (K, rows), in the user's units."""
        found = [m.prediction_of_rows(one, rows) for m, one in self._each(theta)]
        return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])

    def without(self, left_out: np.ndarray) -> Self:
        """The same model less some rows (positions), with coordinates and priors as they are."""
        kept = np.setdiff1d(np.arange(self.rows.n), left_out)
        return replace(self, rows=self.rows.take(kept), structure=self.structure.take(kept))


def _joined(each: Iterator[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays of each theta, one after the other."""
    found = list(each)
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}
