"""Residuals with a structure in PyMC: the covariance of each group, written out.

Symbols of a group: e its residuals over their sds, C their correlation, L its Cholesky factor.
The log density is that of L^-1 e, independent standard normals, less log det L and the logs of the
sds. Where the row before is enough, e_t - r_t e_(t-1) over sqrt(1 - r_t^2) are those normals, with no
matrix and no scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.distributions.transforms import Interval

from hierpool.algebra.correlated.whitening import Whitening, order_of
from hierpool.bayes.parts.residual_structure import (
    CORRELATION,
    DEVIATION,
    SCALE,
    SPREAD,
    ResidualStructurePart,
)
from hierpool.bayes.priors.prior import Prior
from hierpool.core.correlation import (
    AnteDependence,
    Ar1,
    Arma11,
    Car1,
    CompoundSymmetry,
    Correlation,
    Toeplitz,
    Unstructured,
    WithNugget,
)
from hierpool.core.design import Design
from hierpool.core.residual import RowStructure
from hierpool.core.results import OBS_DIM, RESPONSE

LOG_2PI = np.log(2 * np.pi)


OnePrior = Callable[[str, Prior], Any]
"""A free variable of this name under this prior."""


def observed(
    design: Design, part: ResidualStructurePart, mu: Any, sigma: Any, one_prior: OnePrior
) -> None:
    """The response, with free variables of its structure and what is reported of it."""
    structure = design.residual.structure
    assert structure is not None
    phi, log_sds = free_variables(structure, part, sigma, one_prior)
    sd = sigma * pt.exp(log_sds[structure.classes]) * design.residual.known_sd
    if structure.correlation is None:
        pm.Normal(RESPONSE, mu=mu, sigma=sd, observed=design.y, dims=OBS_DIM)
        return
    rows = _Rows(structure)
    pm.CustomDist(
        RESPONSE,
        mu,
        sd,
        phi,
        logp=rows.log_density,
        random=rows.draw,
        signature="(n),(n),(m)->(n)",
        observed=design.y,
        dims=OBS_DIM,
    )


def free_variables(
    structure: RowStructure, part: ResidualStructurePart, sigma: Any, one_prior: OnePrior
) -> tuple[Any, Any]:
    """Parameters of a structure (m,), and the log sds of its classes of rows in units of sigma.

    ``residual_correlation`` are the parameters of the correlations, as ``RowStructure`` orders
    them, ``residual_spread`` the weights of the log sds, ``sd_log_sigma`` omega and
    ``residual_deviation`` the standard normal s of each group.
    """
    free = []
    if len(part.lower):
        own = structure.correlation
        assert own is not None
        by = [f"{label}: " for label in structure.by_labels] or [""]
        pm.modelcontext(None).add_coord(
            "residual_parameter", [f"{label}{name}" for label in by for name in own.names]
        )
        free.append(_correlation_parameters(part))
    if len(part.spread_sd):
        pm.modelcontext(None).add_coord("residual_weight", np.arange(len(part.spread_sd)) + 1)
        free.append(pm.Normal(SPREAD, 0.0, part.spread_sd, dims="residual_weight"))
    if part.scale is not None:
        assert structure.scale is not None
        omega = one_prior(SCALE, part.scale)
        s = pm.Normal(DEVIATION, 0.0, 1.0, dims=structure.scale.factor)
        free += [omega[None], omega * s]
    phi = pt.concatenate(free)
    _report(structure, phi, sigma)
    return phi, _log_sds(structure, phi)


def _correlation_parameters(part: ResidualStructurePart) -> Any:
    lower = part.lower

    def stretched(shapes: Any, size: Any) -> Any:
        return lower + (1 - lower) * pm.Beta.dist(shapes, shapes, size=size)

    return pm.CustomDist(
        CORRELATION,
        part.shapes_of_beta,
        dist=stretched,
        class_name="StretchedBeta",
        dims="residual_parameter",
        transform=Interval(bounds_fn=lambda *_: (pt.constant(lower), pt.ones(len(lower)))),
    )


def _report(structure: RowStructure, phi: Any, sigma: Any) -> None:
    """The names of ``RowStructure.reported``."""
    own, dims, found = structure.correlation, structure.dims, {}
    if own is not None:
        each = _each(structure, phi)
        places = np.arange(float(own.n_occasions))
        for k, name in enumerate(own.names):
            if name in dims:
                found[name] = pt.stack([one[k] for one in each])
        if "corr_residual" in dims:
            found["corr_residual"] = pt.stack([_block(own, one, places) for one in each])
        if not structure.by_labels:
            found = {name: values[0] for name, values in found.items()}
    first = structure.n_correlations
    weights = phi[first : first + structure.n_spread]
    if "sd_residual" in dims:
        found["sd_residual"] = sigma * pt.exp(pt.dot(structure.basis, weights))
    if "log_sd_slope" in dims:
        found["log_sd_slope"] = weights[-1] / structure.unit
    if "log_sigma_deviation" in dims:
        found["log_sigma_deviation"] = phi[first + structure.n_spread + 1 :]
    for name, values in found.items():
        pm.Deterministic(name, values, dims=dims[name] or None)


def _log_sds(structure: RowStructure, phi: Any) -> Any:
    """Log sds of the classes of rows, in units of sigma."""
    first = structure.n_correlations
    last = first + structure.n_spread
    fixed = pt.dot(structure.basis, phi[first:last])
    if structure.scale is None:
        return fixed
    return fixed[structure.scale.spread_of] + phi[last + 1 :][structure.scale.level_of]


def _each(structure: RowStructure, phi: Any) -> list[Any]:
    """Parameters of the correlation of each class of ``by=``."""
    assert structure.correlation is not None
    m = structure.correlation.size
    return [phi[g * m : (g + 1) * m] for g in range(structure.n_by)]


class _Rows:
    """The log density of all rows, and draws of them.

    Attributes
    ----------
    order
        Shape (n,): the rows by group and occasion.
    whitening
        Of the rows in this order.
    """

    def __init__(self, structure: RowStructure) -> None:
        self.order = order_of(structure)
        self.whitening = Whitening.from_structure(structure.take(self.order))

    def log_density(self, value: Any, mu: Any, sd: Any, phi: Any) -> Any:
        """Of all rows together."""
        sd = sd[self.order]
        e = (value - mu)[self.order] / sd
        way = self.whitening
        of_rows = self._markov(e, phi) if way.is_markov else self._by_pattern(e, phi)
        return of_rows - pt.log(sd).sum() - 0.5 * len(self.order) * LOG_2PI

    def _markov(self, e: Any, phi: Any) -> Any:
        way = self.whitening
        s = way.structure
        assert s.correlation is not None
        if not len(way.steps):
            return -0.5 * (e**2).sum()
        each = _each(s, phi)
        r = [_neighbours(s.correlation, each[int(g)], a, b) for g, a, b in way.steps]
        r = pt.stack([pt.zeros(()), *r])[way.step]
        before = pt.concatenate([pt.zeros(1), e[:-1]])
        left = 1 - r**2
        return -0.5 * ((e - r * before) ** 2 / left + pt.log(left)).sum()

    def _by_pattern(self, e: Any, phi: Any) -> Any:
        way = self.whitening
        assert way.structure.correlation is not None
        each, total = _each(way.structure, phi), 0.0
        for k, (by, places) in enumerate(way.patterns):
            rows = way.starts[:-1][way.pattern == k][:, None] + np.arange(len(places))
            L = _cholesky(way.structure.correlation, each[by], places)
            white = pt.linalg.solve_triangular(L, e[rows].T, lower=True)
            total = total - 0.5 * (white**2).sum() - len(rows) * pt.log(pt.diag(L)).sum()
        return total

    def draw(self, mu: Any, sd: Any, phi: Any, rng: Any = None, size: Any = None) -> Any:
        """One draw of all rows, for PyMC's predictive functions."""
        shape = (*(size or ()), len(self.order))
        z = rng.standard_normal(shape).reshape(-1, len(self.order))
        many = np.broadcast_to(
            np.asarray(phi).reshape(-1, np.shape(phi)[-1]), (len(z), np.shape(phi)[-1])
        )
        noise = np.empty_like(z)
        noise[:, self.order] = self.whitening.correlated(many, z)
        return np.asarray(mu) + np.asarray(sd) * noise.reshape(shape)


def _neighbours(kind: Correlation, phi: Any, a: float, b: float) -> Any:
    """Correlation of a row with the one before, of a structure that is Markov."""
    if isinstance(kind, AnteDependence):
        return pt.prod(phi[int(a) : int(b)])
    lag = abs(b - a) / kind.unit
    if isinstance(kind, Car1):
        return phi[0] ** lag
    return _whole_power(phi[0], round(lag))


def _whole_power(base: Any, power: int) -> Any:
    """With its sign, also at odd powers of a negative base."""
    even = (base * base) ** (power // 2)
    return base * even if power % 2 else even


def _cholesky(kind: Correlation, phi: Any, places: np.ndarray) -> Any:
    is_leading = np.array_equal(places, np.arange(len(places)))
    if isinstance(kind, Unstructured) and is_leading:  # drop-out: the factor's leading part
        return _vine(kind, phi)[: len(places), : len(places)]
    return pt.linalg.cholesky(_block(kind, phi, places))


def _block(kind: Correlation, phi: Any, places: np.ndarray) -> Any:
    """Shape (m, m): correlation of rows at these places."""
    m = len(places)
    if isinstance(kind, WithNugget):
        assert kind.inner is not None
        return (1 - phi[-1]) * _block(kind.inner, phi[:-1], places) + phi[-1] * np.eye(m)
    for made in _ENTRIES:
        if isinstance(kind, made):
            return _ENTRIES[made](kind, phi, places)
    raise NotImplementedError(type(kind).__name__)


def _vine(kind: Unstructured, phi: Any) -> Any:
    """Cholesky factor of all occasions, from canonical partial correlations."""
    rows: list[list[Any]] = [[0.0] * kind.n_occasions for _ in range(kind.n_occasions)]
    left: list[Any] = [1.0] * kind.n_occasions
    for k, (i, j) in enumerate(kind.pairs):
        rows[i][j] = phi[k] * left[i]
        left[i] = left[i] * pt.sqrt((1 - phi[k]) * (1 + phi[k]))
    for i, length in enumerate(left):
        rows[i][i] = length
    return pt.stack([pt.stack([pt.as_tensor(x, dtype="float64") for x in row]) for row in rows])


def _unstructured(kind: Any, phi: Any, places: np.ndarray) -> Any:
    at, L = np.round(places).astype(int), _vine(kind, phi)
    return pt.dot(L, L.T)[at[:, None], at]


def _ante(kind: Any, phi: Any, places: np.ndarray) -> Any:
    at = np.round(places).astype(int)
    one = pt.ones(())
    entries = [
        [one if a == b else pt.prod(phi[min(a, b) : max(a, b)]) for a in at.tolist()]
        for b in at.tolist()
    ]
    return pt.stack([pt.stack(row) for row in entries])


def _by_lag(of_lags: Callable[[Any, Any, list[float]], list[Any]]) -> Callable[..., Any]:
    """A correlation that depends on the distance alone: each different one once."""

    def made(kind: Any, phi: Any, places: np.ndarray) -> Any:
        lags = np.round(np.abs(places[:, None] - places) / kind.unit, 9)
        different, index = np.unique(lags, return_inverse=True)
        found = of_lags(kind, phi, [float(lag) for lag in different[1:]])
        return pt.stack([pt.ones(()), *found])[index.reshape(lags.shape)]

    return made


def _arma(kind: Any, phi: Any, lags: Sequence[float]) -> list[Any]:
    ar, ma = phi[0], phi[1]
    first = (1 + ar * ma) * (ar + ma) / (1 + 2 * ar * ma + ma**2)
    return [first if lag == 1 else first * _whole_power(ar, round(lag) - 1) for lag in lags]


def _toeplitz(kind: Any, phi: Any, lags: Sequence[float]) -> list[Any]:
    """Durbin and Levinson."""
    rho: list[Any] = []
    weights: list[Any] = []
    left: Any = 1.0
    for k in range(kind.n_occasions - 1):
        rho.append(sum(w * r for w, r in zip(weights, rho[::-1], strict=True)) + phi[k] * left)
        weights = [a - phi[k] * b for a, b in zip(weights, weights[::-1], strict=True)] + [phi[k]]
        left = left * (1 - phi[k] ** 2)
    return [rho[round(lag) - 1] for lag in lags]


_ENTRIES: dict[type[Correlation], Callable[..., Any]] = {
    Ar1: _by_lag(lambda kind, phi, lags: [_whole_power(phi[0], round(lag)) for lag in lags]),
    Car1: _by_lag(lambda kind, phi, lags: [phi[0] ** lag for lag in lags]),
    CompoundSymmetry: _by_lag(lambda kind, phi, lags: [phi[0] for _ in lags]),
    Arma11: _by_lag(_arma),
    Toeplitz: _by_lag(_toeplitz),
    Unstructured: _unstructured,
    AnteDependence: _ante,
}
