"""Prior sensitivity: how results change when a prior is weakened or strengthened by a power.

The draws are reweighted, their weights smoothed; where their Pareto k is too high the model is
fitted again under the scaled priors. Likelihood means p(y | beta, theta) with the deviations of
the levels integrated out: the densities stored for leave-one-out are never read as one.

References
----------
Kallioinen, Paananen, Buerkner, Vehtari (2024), Stat. Comput. 34, 57.
Nguyen, Vreeken (2015), ECML PKDD, 209-224 (cumulative Jensen-Shannon divergence).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from arviz_stats.base import array_stats

from hierpool.core.printable import one_line, printable

LIKELIHOOD = "likelihood"
POWERS = (0.8, 1.25)  # between which the distance is measured, per doubling of the power
HALF, TWICE = 0.5, 2.0  # powers at which the shift of the mean is reported
SENSITIVITY_LIMIT = 0.05  # distance per doubling from which a quantity counts as sensitive
_TRUSTED_K = 0.7

RowsOverSd = Callable[[str, float], Mapping[str, np.ndarray] | None]
"""Component, power -> draws of every quantity under the scaled prior; None where impossible."""


@dataclass(frozen=True, repr=False)
class Sensitivity:
    """Sensitivity of each quantity to power-scaling the priors.

    Attributes
    ----------
    formula
        The model.
    table
        Index (prior, quantity), the likelihood among the priors; columns ``sensitivity``
        (cumulative Jensen-Shannon distance per doubling of the power; above 0.05 it matters),
        ``shift_half`` and ``shift_twice`` (change of the posterior mean, in posterior sds, with the
        log prior halved and doubled), ``pareto_k`` (largest of the reweightings), ``refitted``
        (whether the model was fitted again instead). NaN if neither was possible.
    """

    formula: str
    table: pd.DataFrame

    @property
    def sentence(self) -> str:
        """Which quantities are sensitive, and whether prior and data conflict."""
        prior = self.table.drop(LIKELIHOOD, level="prior", errors="ignore")
        worst = prior["sensitivity"].groupby(level="quantity", sort=False).agg(["max", "idxmax"])
        sensitive = worst[worst["max"] > SENSITIVITY_LIMIT].sort_values("max", ascending=False)
        unknown = int(prior["sensitivity"].isna().any() and prior["sensitivity"].isna().sum())
        rest = f" {unknown} entries could not be computed (NaN)." if unknown else ""
        if sensitive.empty:
            return (
                "No quantity is sensitive to a prior: all sensitivities are below "
                f"{SENSITIVITY_LIMIT}.{rest}"
            )
        sentences = [
            self._sentence_of(str(quantity), key[0], most)
            for quantity, most, key in zip(
                sensitive.index, sensitive["max"], sensitive["idxmax"], strict=True
            )
        ]
        return f"{' '.join(sentences)}{rest}"

    def _sentence_of(self, quantity: str, component: str, most: float) -> str:
        text = f"{quantity} is sensitive to the prior of {component} ({most:.2f})"
        data = self.table["sensitivity"].get((LIKELIHOOD, quantity), np.nan)
        if np.isnan(data):
            return f"{text}."
        if data > SENSITIVITY_LIMIT:
            return f"{text} and to the likelihood: they conflict, or the prior is informative."
        return f"{text} but not to the likelihood: the data say little about it."

    def __repr__(self) -> str:
        lines = [f"Prior sensitivity of {self.formula}", self.sentence, ""]
        table = self.table.to_string(float_format=lambda v: f"{v:.3f}")
        return printable("\n".join([*map(one_line, lines), table]))

    def _repr_html_(self) -> str:
        from html import escape

        head = f"Prior sensitivity of {escape(self.formula)}<br>{escape(self.sentence)}"
        table = self.table.to_html(float_format=lambda v: f"{v:.3f}")
        return printable(f"<p>{head}</p>{table}")


def sensitivity(
    formula: str,
    draws: Mapping[str, np.ndarray],
    log_densities: Mapping[str, np.ndarray],
    scaled: RowsOverSd,
) -> Sensitivity:
    """Power-scale each prior, and the likelihood, of a posterior.

    Parameters
    ----------
    formula
        For the printed form.
    draws
        Quantity -> shape (chains, draws).
    log_densities
        Component (a prior, or ``"likelihood"``) -> its log density at each draw, the same shape.
    scaled
        A fit under a scaled prior, where reweighting will not do.
    """
    rows = []
    for component, log_density in log_densities.items():
        used = {
            power: _at(component, power, log_density, scaled) for power in (*POWERS, HALF, TWICE)
        }
        for quantity, values in draws.items():
            rows.append(
                {"prior": component, "quantity": quantity, **_moved(values, quantity, used)}
            )
    table = pd.DataFrame(rows).set_index(["prior", "quantity"])
    return Sensitivity(formula, table)


@dataclass(frozen=True)
class _Scaled:
    """A posterior with one component scaled: weights of the draws, or new draws, or neither."""

    pareto_k: float
    weights: np.ndarray | None
    draws: Mapping[str, np.ndarray] | None

    def sample(self, quantity: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Values and weights of a quantity."""
        if self.weights is not None:
            return values, self.weights
        if self.draws is None:
            return None
        new = self.draws[quantity].reshape(-1)
        return new, np.full(len(new), 1 / len(new))


def _at(component: str, power: float, log_density: np.ndarray, scaled: RowsOverSd) -> _Scaled:
    log_ratio = (power - 1) * (log_density - log_density.max()).reshape(-1)
    if np.ptp(log_ratio) < 1e-12:
        return _Scaled(-np.inf, np.full(log_ratio.size, 1 / log_ratio.size), None)
    log_weights, k = array_stats.psislw(-log_ratio)
    k = float(k)
    if not k > _TRUSTED_K:  # NaN: a tail too uniform to fit
        return _Scaled(k, np.exp(log_weights), None)
    return _Scaled(k, None, None if component == LIKELIHOOD else scaled(component, power))


def _moved(values: np.ndarray, quantity: str, used: Mapping[float, _Scaled]) -> dict[str, object]:
    flat = values.reshape(-1)
    even = np.full(len(flat), 1 / len(flat))
    distances, shifts = {}, {}
    for power, posterior in used.items():
        sample = posterior.sample(quantity, flat)
        if sample is None:
            distances[power] = shifts[power] = np.nan
            continue
        distances[power] = distance(flat, even, *sample) if power in POWERS else 0.0
        shifts[power] = (sample[1] @ sample[0] - flat.mean()) / flat.std()
    slopes = [distances[p] / abs(np.log2(p)) for p in POWERS]
    return {
        "sensitivity": float(np.mean(slopes)),
        "shift_half": float(shifts[HALF]),
        "shift_twice": float(shifts[TWICE]),
        "pareto_k": max(s.pareto_k for s in used.values()),
        "refitted": any(s.draws is not None for s in used.values()),
    }


def distance(x: np.ndarray, p: np.ndarray, z: np.ndarray, q: np.ndarray) -> float:
    """Cumulative Jensen-Shannon distance of two weighted samples, in [0, 1].

    The larger of the distances of the distribution functions and of those of the negated values.

    Parameters
    ----------
    x, p
        Values and weights (summing to one) of the first sample.
    z, q
        Those of the second.
    """
    every = np.concatenate([x, z])
    order = np.argsort(every, kind="stable")
    none_p, none_q = np.zeros(len(z)), np.zeros(len(x))
    first = np.concatenate([p, none_p])[order].cumsum()[:-1]
    second = np.concatenate([none_q, q])[order].cumsum()[:-1]
    widths = np.diff(every[order])
    return max(_distance(first, second, widths), _distance(1 - first, 1 - second, widths))


def _distance(F: np.ndarray, G: np.ndarray, widths: np.ndarray) -> float:
    F, G = np.clip(F, 0.0, 1.0), np.clip(G, 0.0, 1.0)
    middle = (F + G) / 2
    total = float(widths @ (F + G))
    if total <= 0:
        return 0.0
    parts = _x_log2(F, middle) + _x_log2(G, middle)  # the linear parts of the two cancel
    return float(np.sqrt(max(0.0, widths @ parts) / total))


def _x_log2(F: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """F log2(F / middle), 0 where F is."""
    ratio = np.divide(F, middle, out=np.ones_like(F), where=F > 0)
    return F * np.log2(ratio)
