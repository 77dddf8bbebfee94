"""The family's parameters as a search sees them: numbers without bounds.

Shapes, precisions, sds and degrees of freedom by their logs, probabilities by their logits, thresholds
as the first and the logs of the gaps between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from hierpool.core.design import Design
from hierpool.core.families.family import Family

PROBABILITIES = ("zero_inflation", "hurdle")
_LIMITS = {  # value beyond which it is at its limit, and what the limit means
    "shape": (1e5, "the counts vary no more than Poisson counts: family={simpler!r}"),
    "nu": (1e3, "the tails are no heavier than normal ones: leave family= out"),
    "zero_inflation": (1e-5, "there are no more zeros than the counts explain: family={simpler!r}"),
    "hurdle": (1e-5, "there are no zeros, so that nothing is known of their share"),
}
_SIMPLER = {
    "negbinomial": "poisson",
    "zero_inflated_poisson": "poisson",
    "zero_inflated_negbinomial": "negbinomial",
    "hurdle_negbinomial": "hurdle_poisson",
}


@dataclass(frozen=True)
class FamilyParameters:
    """Maps between the parameters of a family (..., P) and free numbers (..., P).

    Attributes
    ----------
    family
        Whose they are.
    """

    family: Family

    @property
    def size(self) -> int:
        """P."""
        f = self.family
        return f.n_categories - 1 if f.has_thresholds else len(f.parameters)

    @property
    def names(self) -> list[str]:
        """As in the tables: ``shape``, ``thresholds[low|high]``."""
        if self.family.has_thresholds:
            return [f"thresholds[{label}]" for label in self.family.threshold_labels]
        return list(self.family.parameters)

    @property
    def _is_probability(self) -> np.ndarray:
        return np.array([name in PROBABILITIES for name in self.family.parameters], dtype=bool)

    def par(self, free: np.ndarray) -> np.ndarray:
        """Parameters of free numbers."""
        if self.family.has_thresholds:
            gaps = np.exp(np.clip(free[..., 1:], -30, 30))
            steps = np.concatenate([free[..., :1], gaps], axis=-1)
            return np.asarray(steps.cumsum(axis=-1))
        positive = np.exp(np.clip(free, -30, 25))
        return np.where(self._is_probability, special.expit(free), positive)

    def without_bounds(self, free: np.ndarray) -> np.ndarray:
        """As ``par``, of parameters that are not thresholds: infinite, 0 or 1 at infinite free numbers."""
        with np.errstate(over="ignore"):
            return np.where(self._is_probability, special.expit(free), np.exp(free))

    def free(self, par: np.ndarray) -> np.ndarray:
        """Free numbers of parameters."""
        if self.family.has_thresholds:
            return np.concatenate([par[..., :1], np.log(np.diff(par, axis=-1))], axis=-1)
        known = np.where(self._is_probability, par, 0.5)
        return np.where(self._is_probability, special.logit(known), np.log(par))

    def jacobian(self, free: np.ndarray) -> np.ndarray:
        """Shape (P, P): derivatives of the parameters by the free numbers (P,)."""
        steps = 1e-6 * np.eye(self.size)
        return (self.par(free + steps) - self.par(free - steps)).T / 2e-6

    def start(self, design: Design) -> np.ndarray:
        """Shape (P,): free numbers to begin with."""
        y = design.observations.y
        if self.family.has_thresholds:
            counts = np.bincount(y.astype(int), design.row_counts, minlength=self.size + 1)
            below = counts.cumsum()[:-1] / counts.sum()
            F = special.logit if self.family.link == "logit" else special.ndtri
            return self.free(np.asarray(F(below)))
        zeros = float(np.clip(np.average(y == 0, weights=design.row_counts), 0.02, 0.98))
        first = {
            "shape": 2.0,
            "precision": 10.0,
            "sigma": max(design.schema.response_scale.sd, 1e-300),
            "nu": 8.0,
            "zero_inflation": 0.5 * zeros,
            "hurdle": zeros,
        }
        return self.free(np.array([first[name] for name in self.family.parameters]))

    def at_limit(self, par: np.ndarray) -> list[tuple[int, str]]:
        """Parameters (P,) that ran to where the family becomes a simpler one, and which that is."""
        found: list[tuple[int, str]] = []
        if self.family.name == "gamma" or self.family.has_thresholds:
            return found
        for k, name in enumerate(self.family.parameters):
            if name not in _LIMITS:
                continue
            limit, text = _LIMITS[name]
            if par[k] < limit if name in PROBABILITIES else par[k] > limit:
                simpler = _SIMPLER.get(self.family.name, "poisson")
                if name == "shape" and simpler == "negbinomial":
                    simpler = "zero_inflated_poisson"
                found.append((k, text.format(simpler=simpler)))
        return found
