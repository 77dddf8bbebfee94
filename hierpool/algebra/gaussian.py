"""The algebra of the Gaussian model given theta: one factorisation, every reading.

Everything is in working coordinates (``hierpool.algebra.moments``) and takes a stack of K values of
theta at once. Given theta, (beta, u) is Gaussian with precision M / sigma^2 and mean c:

    M = [ Lambda'A Lambda + I    Lambda'C          ]     r = [ Lambda'b               ]
        [ C'Lambda               XX + sigma^2 P0   ]         [ Xy + sigma^2 P0 m0     ]

    log p(y) = -1/2 [ n log(2 pi sigma^2) + log det M - log det(sigma^2 P0)
                      + (yy + sigma^2 m0'P0 m0 - c'r) / sigma^2 ]

M is arrow-shaped: its levels' blocks are eliminated one by one, what is left is the p x p Schur
complement S. Symbols:
    sigma  (K,)          residual sd
    Lambda (K, q, q)     relative factor of the covariance of u: Sigma = sigma^2 Lambda Lambda'
    L      (K, U, q, q)  Cholesky factors of Lambda'A Lambda + I, per unique design
    G      (K, U, q, p)  L^-1 Lambda'C
    R      (K, p, p)     Cholesky factor of S
    v      (K, J, q)     u = Lambda v

References
----------
Bates, Maechler, Bolker, Walker (2015), J. Stat. Softw. 67(1), section 3.
Henderson (1975), Biometrics 31, 423-447.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hierpool.algebra.moments import Moments, Rows
from hierpool.algebra.triangular import cholesky, log_det, solve_lower, solve_lower_transposed

LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True)
class BetaPrior:
    """Normal prior of the population coefficients in working coordinates.

    ``precision`` is zero for a flat prior (REML): then its determinant is left out of densities.
    With ``n_flat`` of the coefficients flat, the determinant is that of the other directions, and
    densities of the response are known up to a constant factor only.
    """

    mean: np.ndarray
    precision: np.ndarray
    n_flat: int = 0

    @classmethod
    def flat(cls, p: int) -> BetaPrior:
        """No prior: REML."""
        return cls(np.zeros(p), np.zeros((p, p)))

    @property
    def is_flat(self) -> bool:
        """Whether the precision is zero."""
        return not self.precision.any()

    @cached_property
    def log_det_precision(self) -> float:
        """Log determinant of the precision; 0 for a flat prior or without coefficients."""
        if self.is_flat:
            return 0.0
        if self.n_flat:
            # Ascending: the flat directions are the first, zero but for rounding.
            proper = np.linalg.eigvalsh(self.precision)[self.n_flat :]
            return float(np.log(np.maximum(proper, np.finfo(float).tiny)).sum())
        return float(np.linalg.slogdet(self.precision)[1])

    @cached_property
    def weighted_mean(self) -> np.ndarray:
        """Shape (p,): precision times mean."""
        return self.precision @ self.mean


@dataclass(frozen=True)
class Marginal:
    """Schur complement of the random effects at K values of theta: the population part of M.

    Attributes
    ----------
    n
        Number of rows.
    prior
        Prior of beta.
    sigma
        Shape (K,).
    R
        Shape (K, p, p): Cholesky factors of the Schur complement S.
    s
        Shape (K, p): right-hand side, S beta = s.
    yy, g_squared
        Total sum of squares, and what the levels explain of it (K,).
    log_det_levels
        Shape (K,): log det of the levels' blocks of M.
    log_sd
        Sum of the log residual sds of the rows in units of sigma.
    """

    n: int
    prior: BetaPrior
    sigma: np.ndarray
    R: np.ndarray
    s: np.ndarray
    yy: float
    g_squared: np.ndarray
    log_det_levels: np.ndarray
    log_sd: float = 0.0

    @classmethod
    def from_sums(
        cls,
        moments: Moments,
        prior: BetaPrior,
        sigma: np.ndarray,
        log_det_levels: np.ndarray,
        GG: np.ndarray,
        Gg: np.ndarray,
        g_squared: np.ndarray,
    ) -> Marginal:
        """Put the levels' sums (K,), (K, p, p), (K, p), (K,) and the population's part together."""
        scaled = sigma[:, None, None] ** 2
        # M is in units of sigma^2, so the prior's precision is multiplied by it. GG is taken off by a
        # difference: little of XX is left of columns that hardly vary within levels of large variance.
        S = moments.XX + scaled * prior.precision - GG
        s = moments.Xy + scaled[..., 0] * prior.weighted_mean - Gg
        m, R = moments, cholesky(S)
        return cls(m.n, prior, sigma, R, s, m.yy, g_squared, log_det_levels, m.log_sd)

    def at(self, which: slice) -> Marginal:
        """That of some of the values of theta."""
        return replace(
            self,
            sigma=self.sigma[which],
            R=self.R[which],
            s=self.s[which],
            g_squared=self.g_squared[which],
            log_det_levels=self.log_det_levels[which],
        )

    @cached_property
    def half(self) -> np.ndarray:
        """Shape (K, p, 1): R^-1 s."""
        return solve_lower(self.R, self.s[..., None])

    @cached_property
    def beta(self) -> np.ndarray:
        """Shape (K, p): conditional means of the population coefficients."""
        return solve_lower_transposed(self.R, self.half)[..., 0]

    @cached_property
    def penalized_ss(self) -> np.ndarray:
        """Shape (K,): yy + sigma^2 m0'P0 m0 - c'r, the penalised residual sum of squares."""
        explained = self.g_squared + (self.half[..., 0] ** 2).sum(axis=-1)
        prior = self.sigma**2 * float(self.prior.mean @ self.prior.weighted_mean)
        # A difference as well: an almost exact fit leaves rounding, perhaps below zero (see EXACT_FIT).
        return self.yy + prior - explained

    @cached_property
    def log_det_population(self) -> np.ndarray:
        """Shape (K,): log det of the Schur complement of the population columns."""
        return log_det(self.R)

    @property
    def log_density(self) -> np.ndarray:
        """Shape (K,): log p(y | theta), coefficients integrated out.

        With a flat prior on beta this is the REML log-likelihood, (2 pi)^(p/2) included.
        """
        # sigma^(2(n - p)) whatever the prior: a flat direction of beta is integrated out and takes sigma
        # with it, a proper one brings a sigma by way of det(sigma^2 P0). Only flat ones change (2 pi)^df.
        n, p = self.n, self.R.shape[-1]
        df = n - (p if self.prior.is_flat else self.prior.n_flat)
        return -self.log_sd - 0.5 * (
            df * LOG_2PI
            + 2 * (n - p) * np.log(self.sigma)
            + self.log_det_levels
            + self.log_det_population
            - self.prior.log_det_precision
            + self.penalized_ss / self.sigma**2
        )

    def draw_beta(self, rng: np.random.Generator) -> np.ndarray:
        """One exact draw of beta for each theta, shape (K, p)."""
        # R'^-1 (R^-1 s + sigma z) has the mean S^-1 s and the covariance sigma^2 S^-1 at once.
        z = rng.standard_normal(self.s.shape) * self.sigma[:, None]
        return solve_lower_transposed(self.R, self.half + z[..., None])[..., 0]

    @cached_property
    def beta_covariance(self) -> np.ndarray:
        """Shape (K, p, p): covariance of beta given theta (and y): sigma^2 S^-1."""
        half = solve_lower(self.R, np.broadcast_to(np.eye(self.R.shape[-1]), self.R.shape))
        return self.sigma[:, None, None] ** 2 * np.swapaxes(half, -1, -2) @ half


@dataclass(frozen=True)
class Conditional:
    """Distribution of all coefficients given K values of theta, and of the response itself.

    Made by ``condition``. ``marginal`` is the population's part; other shapes as in the module's
    symbol table.
    """

    moments: Moments
    marginal: Marginal
    Lambda: np.ndarray
    L: np.ndarray
    G: np.ndarray

    @property
    def sigma(self) -> np.ndarray:
        """Shape (K,)."""
        return self.marginal.sigma

    @property
    def beta(self) -> np.ndarray:
        """Shape (K, p): conditional means of the population coefficients."""
        return self.marginal.beta

    @property
    def log_density(self) -> np.ndarray:
        """Shape (K,): log p(y | theta), coefficients integrated out."""
        return self.marginal.log_density

    def deviations(
        self, beta: np.ndarray | None = None, noise: np.ndarray | None = None
    ) -> np.ndarray:
        """Level deviations u, shape (K, J, q), given beta (default: its conditional mean).

        ``noise`` of shape (K, J, q) is added in the whitened coordinates: sigma times standard
        normals turns conditional means into draws.
        """
        m = self.moments
        beta = self.beta if beta is None else beta
        # Lambda is applied to v, and never inverted: u is exactly zero where a standard deviation is.
        lam_b = np.einsum("kab,ja->kjb", self.Lambda, m.b)
        L = self.L[:, m.design_of]
        half = solve_lower(L, lam_b[..., None])[..., 0]
        half -= np.einsum("kuqp,kp->kuq", self.G, beta)[:, m.design_of]
        if noise is not None:
            half = half + noise
        v = solve_lower_transposed(L, half[..., None])[..., 0]
        return np.einsum("kab,kjb->kja", self.Lambda, v)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One exact draw of (beta, u) for each theta, shapes (K, p) and (K, J, q)."""
        m, K = self.moments, len(self.sigma)
        beta = self.marginal.draw_beta(rng)
        noise = rng.standard_normal((K, m.n_levels, m.q)) * self.sigma[:, None, None]
        return beta, self.deviations(beta, noise)

    @cached_property
    def covariance_given_beta(self) -> np.ndarray:
        """Shape (K, U, q, q): Var(u | y, theta, beta), lme4's condVar, per unique design."""
        half = solve_lower(self.L, np.swapaxes(self.Lambda, -1, -2)[:, None])
        return self.sigma[:, None, None, None] ** 2 * np.swapaxes(half, -1, -2) @ half

    @cached_property
    def beta_sensitivity(self) -> np.ndarray:
        """Shape (K, U, q, p): W with E[u | y, theta, beta] = constant - W beta."""
        inner = solve_lower_transposed(self.L, self.G)
        return self.Lambda[:, None] @ inner

    @cached_property
    def prediction_error_variance(self) -> np.ndarray:
        """Shape (K, U, q, q): Henderson's Var(u_hat - u), beta estimated as well."""
        # Given theta; the uncertainty of theta would add to it (Kackar and Harville 1984).
        W = self.beta_sensitivity
        through_beta = W @ self.marginal.beta_covariance[:, None] @ np.swapaxes(W, -1, -2)
        return self.covariance_given_beta + through_beta

    def coefficient_covariance(self, into_population: np.ndarray) -> np.ndarray:
        """Shape (K, U, q, q): error covariance of E beta + u; ``into_population`` E is (q, p)."""
        # The minus: where beta is estimated too high, u comes out too low, and errors cancel in part.
        T = into_population - self.beta_sensitivity
        return self.covariance_given_beta + T @ self.marginal.beta_covariance[
            :, None
        ] @ np.swapaxes(T, -1, -2)

    def leave_one_out(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sd of each row given all the others and theta, shapes (K, n).

        y_i | y_-i, theta ~ N(y_i - e_i / (1 - h_i), sigma^2 / (1 - h_i)) with the leverage
        h_i = t_i'M^-1 t_i and the residual e_i = y_i - t_i'c.
        """
        leverage, residual = self.leverage(rows)
        # Near zero where this row alone determines a coefficient; not clipped, its sd is then that large.
        left = 1 - leverage
        return rows.y - residual / left, self.sigma[:, None] / np.sqrt(left)

    def leverage(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Leverages and residuals of the rows, shapes (K, n)."""
        K, n = len(self.sigma), len(rows.y)
        x = np.broadcast_to(rows.X, (K, n, self.moments.p))
        residual = rows.y - np.einsum("np,kp->kn", rows.X, self.beta)
        leverage = np.zeros((K, n))
        if self.moments.q:
            design = self.moments.design_of[rows.codes]
            lam_z = np.einsum("kab,na->knb", self.Lambda, rows.Z)
            a = solve_lower(self.L[:, design], lam_z[..., None])[..., 0]
            leverage += (a**2).sum(axis=-1)
            x = x - np.einsum("knqp,knq->knp", self.G[:, design], a)
            u = self.deviations()[:, rows.codes]
            residual = residual - np.einsum("nq,knq->kn", rows.Z, u)
        if self.moments.p:
            r = solve_lower(self.marginal.R[:, None], x[..., None])[..., 0]
            leverage += (r**2).sum(axis=-1)
        return leverage, residual


def condition(
    moments: Moments, sigma: np.ndarray, Lambda: np.ndarray, prior: BetaPrior
) -> Conditional:
    """Factorise M for K values of theta.

    Parameters
    ----------
    moments
        Cross-products in working coordinates.
    sigma
        Shape (K,): residual sds.
    Lambda
        Shape (K, q, q): relative covariance factors; any square root of Sigma / sigma^2.
    prior
        Prior of beta in working coordinates.
    """
    sigma = np.asarray(sigma, dtype=float)
    m = moments
    Lt = np.swapaxes(Lambda, -1, -2)[:, None]
    # The identity keeps it positive definite for any Lambda. Henderson's form, A + (Lambda Lambda')^-1,
    # would not exist where a variance is zero or a correlation one.
    L = cholesky(Lt @ m.A @ Lambda[:, None] + np.eye(m.q))
    G = solve_lower(L, Lt @ m.C)
    half_sum = solve_lower(L, Lt @ m.b_sum[..., None])[..., 0]
    # The root is whitened and then squared: b'b first would square its condition number.
    half_root = solve_lower(L, Lt @ m.b_root)
    weighted = G * m.counts[:, None, None]
    marginal = Marginal.from_sums(
        m,
        prior,
        sigma,
        log_det_levels=(log_det(L) * m.counts).sum(axis=-1),
        GG=np.einsum("kuqp,kuqr->kpr", weighted, G),
        Gg=np.einsum("kuqp,kuq->kp", G, half_sum),
        g_squared=np.einsum("kuqr,kuqr->k", half_root, half_root),
    )
    return Conditional(m, marginal, Lambda, L, G)
