"""Exact draws of all coefficients at many values of theta, without a factorisation for each.

In units of sigma^2 the coefficients c = (u, beta) have the precision

    Q(theta) = T'T + blockdiag(D, sigma^2 P0)     T = [Z X]     D = (Lambda Lambda')^-1 for each level

and a draw is the solution of Q c = T'y + (0, sigma^2 P0 m0) + sigma e with e ~ N(0, Q). Values of
theta are worked in batches of neighbours. Each batch has one reference with D_0 <= D and
sigma_0 <= sigma for all of its thetas, whose factor Q_0 = F F' serves twice: as preconditioner of the
conjugate gradients (the eigenvalues of Q_0^-1 Q lie between 1 and the largest ratio of the two prior
precisions, whatever the data are), and for e = F z + (Q - Q_0)^1/2 z', so that a draw takes as many
normals as it has coefficients, twice, and not one for each row.

References
----------
Papandreou, Yuille (2010), NeurIPS 23 (draws by perturbation).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hierpool.algebra.gaussian import BetaPrior, Marginal
from hierpool.algebra.several import solve_kernels as columns
from hierpool.algebra.several.factorise import Factored, Fronts
from hierpool.core.threads import one_blas_thread

TOLERANCE = 1e-8  # largest root mean square error of a draw, in posterior sds
MOST_STEPS = 100  # of conjugate gradients; what needs more is solved with its own factorisation
_AT_ONCE = 128  # draws in a batch
_ALONE_AT_ONCE = 512  # draws with a factorisation each that have their noise made together
_FEW = 32  # draws up to which each is factored for itself
_SMALL_REST = 64  # columns of the rest up to which a factorisation is cheaper than a solve here
_SINGULAR = 1e-7  # a prior sd below this share of the largest: theta is factored for itself


def draw_many(
    fronts: Fronts,
    sigma: np.ndarray,
    Lambda: np.ndarray,
    prior: BetaPrior,
    seed: int,
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """One exact draw of beta (K, p) and of the deviations, per factor (K, J_f, q_f), for each theta.

    The draws depend on the seed and the thetas alone, not on the number of cores.
    """
    K, p, total = len(sigma), fronts.rows.p, fronts.n_coefficients
    beta, u = np.empty((K, p)), np.empty((K, total))
    alone = _singular(Lambda)
    if fronts.n_rest <= _SMALL_REST or K - alone.sum() <= _FEW:
        alone[:] = True
    batches = list(_batches(Lambda, np.flatnonzero(~alone)))

    def work(number: int) -> None:
        which = batches[number]
        rng = np.random.default_rng([seed, number])
        batch = _Batch.from_fronts(fronts, sigma[which], Lambda[which], prior)
        beta[which], u[which] = batch.draw(rng)

    with one_blas_thread():
        with ThreadPoolExecutor(min(os.cpu_count() or 1, max(1, len(batches)))) as pool:
            list(pool.map(work, range(len(batches))))
        _draw_alone(fronts, sigma, Lambda, prior, np.flatnonzero(alone), seed, beta, u)
    return beta, fronts.by_factor(u)


def _draw_alone(
    fronts: Fronts,
    sigma: np.ndarray,
    Lambda: np.ndarray,
    prior: BetaPrior,
    which: np.ndarray,
    seed: int,
    beta: np.ndarray,
    u: np.ndarray,
) -> None:
    """Draws with a factorisation for each theta, written into beta and u."""
    if not len(which):
        return
    rng = np.random.default_rng([seed, len(sigma)])
    beta[which] = fronts.marginal(sigma[which], Lambda[which], prior).draw_beta(rng)
    for start in range(0, len(which), _ALONE_AT_ONCE):
        some = which[start : start + _ALONE_AT_ONCE]
        noise = rng.standard_normal((len(some), u.shape[1])) * sigma[some, None]
        found = fronts.deviations(Lambda[some], beta[some], noise)
        u[some] = np.concatenate([part.reshape(len(some), -1) for part in found], axis=1)


def _singular(Lambda: np.ndarray) -> np.ndarray:
    """Shape (K,): whether a direction of some factor has no prior variance to speak of."""
    sizes = np.linalg.svd(Lambda, compute_uv=False)
    return ~(sizes[:, -1] > _SINGULAR * sizes[:, 0])


def _batches(Lambda: np.ndarray, which: np.ndarray) -> Iterator[np.ndarray]:
    """Positions of thetas in groups of neighbours: halves along the widest coordinate."""
    roots = np.linalg.qr(np.swapaxes(Lambda, -1, -2), mode="r")
    # Logs, since what counts is the ratio of two prior precisions: it bounds the steps that are needed.
    features = np.log(np.abs(np.diagonal(roots, axis1=-2, axis2=-1)) + 1e-300)
    waiting = [which] if len(which) else []
    while waiting:
        group = waiting.pop()
        if len(group) <= _AT_ONCE:
            yield group
            continue
        own = features[group]
        widest = int(np.argmax(np.ptp(own, axis=0)))
        n_batches = -(-len(group) // _AT_ONCE)
        cut = (n_batches // 2) * _AT_ONCE
        order = group[np.argsort(own[:, widest], kind="stable")]
        waiting += [order[cut:], order[:cut]]


@dataclass(frozen=True)
class _Reference:
    """Q at one theta, factored.

    Attributes
    ----------
    at
        M at the reference's Lambda.
    variance
        sigma^2 of the reference.
    R
        Shape (p, p): Cholesky factor of the Schur complement of beta.
    """

    at: Factored
    variance: float
    R: np.ndarray

    @classmethod
    def from_fronts(
        cls, fronts: Fronts, Lambda: np.ndarray, sigma: float, prior: BetaPrior
    ) -> _Reference:
        """Factor Q at one theta."""
        at = fronts.factored(Lambda)
        marginal = Marginal.from_sums(fronts.moments, prior, np.array([sigma]), *at.sums)
        return cls(at, sigma**2, marginal.R[0])

    @cached_property
    def _back(self) -> np.ndarray:
        """Inverse of Lambda', what a residual in u is turned back with."""
        return np.ascontiguousarray(np.linalg.inv(self.at.Lambda).T)

    @cached_property
    def _S_inverse(self) -> np.ndarray:
        p = len(self.R)
        return np.asarray(np.linalg.inv(self.R @ self.R.T)) if p else np.zeros((0, 0))

    def noise(self, z: np.ndarray) -> np.ndarray:
        """F z for z (coefficients + p, m): columns of covariance Q_0."""
        at, p = self.at, len(self.R)
        s = at.fronts.plan.structure
        total, start = at.fronts.n_coefficients, int(s.sizes[2])
        own, out = np.ascontiguousarray(z[:total]), np.zeros_like(z)
        columns.multiply_chain(s, at.values, own, out[:total])
        out[start:total] += np.triu(at.U).T @ own[start:]
        columns.scale_levels(s, self._back, out[:total])
        out[total:] = at.whitened[:, :p].T @ own + self.R @ z[total:]
        return out

    def solve(self, r: np.ndarray) -> np.ndarray:
        """Q_0^-1 r for r (coefficients + p, m)."""
        at, p = self.at, len(self.R)
        s = at.fronts.plan.structure
        total, start = at.fronts.n_coefficients, int(s.sizes[2])
        out = r.copy()
        x = out[:total]
        columns.scale_levels(s, np.ascontiguousarray(at.Lambda.T), x)
        columns.forward_chain(s, at.values, x)
        x[start:] = at.rest @ x[start:]
        columns.solve_chain(s, at.values, x)
        if p:
            E = at.solved[:, :p]
            out[total:] = self._S_inverse @ (r[total:] - self._moved.T @ r[:total])
            x -= E @ out[total:]
        columns.scale_levels(s, at.Lambda, x)
        return out

    @cached_property
    def _moved(self) -> np.ndarray:
        """Lambda M_uu^-1 Lambda'C."""
        x = np.ascontiguousarray(self.at.solved[:, : len(self.R)])
        columns.scale_levels(self.at.fronts.plan.structure, self.at.Lambda, x)
        return x


@dataclass(frozen=True)
class _Batch:
    """Values of theta that share a reference.

    Attributes
    ----------
    sigma, Lambda
        Shapes (m,) and (m, Q, Q).
    D
        Shape (m, Q, Q): precision of a level's deviations, relative to sigma^2.
    reference
        Its D_0 and sigma_0 are smaller.
    D_reference
        Shape (Q, Q).
    """

    fronts: Fronts
    sigma: np.ndarray
    D: np.ndarray
    prior: BetaPrior
    reference: _Reference
    D_reference: np.ndarray

    @classmethod
    def from_fronts(
        cls, fronts: Fronts, sigma: np.ndarray, Lambda: np.ndarray, prior: BetaPrior
    ) -> _Batch:
        """Choose and factor the reference of these thetas."""
        covariance = Lambda @ np.swapaxes(Lambda, -1, -2)
        D = np.linalg.inv(covariance)
        # Conjugate gradients and eigh want it symmetric, which an inverse is up to rounding only.
        D = (D + np.swapaxes(D, -1, -2)) / 2
        Lambda_0 = _widest(covariance, fronts.rows.q)
        reference = _Reference.from_fronts(fronts, Lambda_0, float(sigma.min()), prior)
        inverse = np.linalg.inv(Lambda_0)
        return cls(fronts, sigma, D, prior, reference, inverse.T @ inverse)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """beta (m, p) and u (m, coefficients in the user's order)."""
        f = self.fronts
        total = f.n_coefficients
        found = self._solve(self._right_hand_side(rng))
        u = np.empty((len(self.sigma), total))
        s = f.plan.structure
        for position in range(len(s.q)):
            here = slice(s.first[position], s.first[position + 1])
            place = slice(s.place[position], s.place[position] + here.stop - here.start)
            u[:, place] = found[here].T
        return found[total:].T, u

    def _right_hand_side(self, rng: np.random.Generator) -> np.ndarray:
        """T'y + (0, sigma^2 P0 m0) + sigma e, shape (coefficients + p, m)."""
        f, p, m = self.fronts, self.fronts.rows.p, len(self.sigma)
        total, s = f.n_coefficients, f.plan.structure
        e = self.reference.noise(rng.standard_normal((total + p, m)))
        extra = np.moveaxis(_root(self.D - self.D_reference), 0, -1)
        columns.add_scaled_levels(
            s, np.ascontiguousarray(extra), rng.standard_normal((total, m)), e[:total]
        )
        # The batch's smallest sigma is the reference's: no root of a negative number.
        more = np.sqrt(self.sigma**2 - self.reference.variance)
        e[total:] += more * (_root(self.prior.precision[None])[0] @ rng.standard_normal((p, m)))
        right = self.sigma * e
        right[:total] += f.response[:, None]
        right[total:] += f.moments.Xy[:, None]
        right[total:] += self.sigma**2 * self.prior.weighted_mean[:, None]
        return right

    def _solve(self, right: np.ndarray) -> np.ndarray:
        """Solutions of Q c = right by preconditioned conjugate gradients."""
        found = self.reference.solve(right)
        residual = right - self._times(found)
        step = self.reference.solve(residual)
        direction = step.copy()
        m = len(self.sigma)
        left, curvature, after = np.empty(m), np.empty(m), np.empty(m)
        columns.dots(residual, step, left)
        enough = TOLERANCE**2 * self.sigma**2 * len(right)
        for _ in range(MOST_STEPS):
            if not (left > enough).any():
                return found
            moved = self._times(direction)
            columns.dots(direction, moved, curvature)
            length = np.where(left > 0, left / np.where(curvature > 0, curvature, 1.0), 0.0)
            columns.add_columns(length, direction, found)
            columns.add_columns(-length, moved, residual)
            step = self.reference.solve(residual)
            columns.dots(residual, step, after)
            columns.turn_columns(after / np.where(left > 0, left, 1.0), step, direction)
            left, after = after, left
        return self._solve_alone(right, found, ~(left <= enough))

    def _solve_alone(self, right: np.ndarray, found: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Solve some of the columns with a factorisation of their own."""
        for k in np.flatnonzero(which):
            # From D = L L': Lambda = L'^-1 is another root than the one given, of the same covariance.
            Lambda = np.linalg.inv(np.linalg.cholesky(self.D[k])).T
            own = _Reference.from_fronts(self.fronts, Lambda, float(self.sigma[k]), self.prior)
            found[:, k] = own.solve(np.ascontiguousarray(right[:, k : k + 1]))[:, 0]
        return found

    def _times(self, c: np.ndarray) -> np.ndarray:
        """Q c, each column with its own theta."""
        f, p = self.fronts, self.fronts.rows.p
        total, s = f.n_coefficients, f.plan.structure
        out = np.empty_like(c)
        columns.times(s, f.plan.products, c[:total], out[:total])
        columns.add_scaled_levels(s, self._D_columns, c[:total], out[:total])
        out[:total] += f.population @ c[total:]
        out[total:] = f.population.T @ c[:total] + f.moments.XX @ c[total:]
        if p:
            out[total:] += self.sigma**2 * (self.prior.precision @ c[total:])
        return out

    @cached_property
    def _D_columns(self) -> np.ndarray:
        """Shape (Q, Q, m)."""
        return np.ascontiguousarray(np.moveaxis(self.D, 0, -1))


def _widest(covariance: np.ndarray, q: tuple[int, ...]) -> np.ndarray:
    """Shape (Q, Q): a Lambda_0 with Lambda_0 Lambda_0' at least each of these (m, Q, Q)."""
    out, done = np.zeros(covariance.shape[1:]), 0
    for k in q:
        own = slice(done, done + k)
        blocks = covariance[:, own, own]
        root = np.linalg.cholesky(blocks.mean(axis=0))
        back = np.linalg.inv(root)
        # The mean, blown up until no covariance exceeds it in any direction: D - D_0 needs a root.
        largest = np.linalg.eigvalsh(back @ blocks @ back.T).max()
        out[own, own] = root * np.sqrt(largest * (1 + 1e-12))
        done += k
    return out


def _root(matrices: np.ndarray) -> np.ndarray:
    """Symmetric roots of positive semidefinite matrices (m, k, k), rounding below zero cut off."""
    if not matrices.shape[-1]:
        return matrices
    values, vectors = np.linalg.eigh(matrices)
    return (vectors * np.sqrt(np.maximum(values, 0))[:, None]) @ np.swapaxes(vectors, -1, -2)
