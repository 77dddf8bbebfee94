"""Every family and link, with parameters, predictors and responses for the tests of all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierpool.core.families.bernoulli import Bernoulli, Binomial
from hierpool.core.families.beta import Beta
from hierpool.core.families.family import Family
from hierpool.core.families.gamma import Gamma
from hierpool.core.families.hurdle import HurdleNegativeBinomial, HurdlePoisson
from hierpool.core.families.negbinomial import NegativeBinomial
from hierpool.core.families.ordinal import Ordinal
from hierpool.core.families.poisson import Poisson
from hierpool.core.families.student import Student
from hierpool.core.families.zero_inflated import ZeroInflatedNegativeBinomial, ZeroInflatedPoisson

RATINGS = (1, 2, 3, 4)
LOG_ETA = (-3.0, 0.2, 2.5)
LOGIT_ETA = (-2.5, 0.3, 1.6)


@dataclass(frozen=True)
class Case:
    """A family at one value of its parameters, and where it is looked at."""

    family: Family
    par: tuple[float, ...] = ()
    eta: tuple[float, ...] = LOGIT_ETA
    trials: int = 1

    def __str__(self) -> str:
        return f"{self.family.name}-{self.family.link}-{'-'.join(f'{p:g}' for p in self.par)}"

    @property
    def pars(self) -> np.ndarray:
        """Shape (1, P)."""
        return np.array([self.par]).reshape(1, -1)

    def support(self) -> np.ndarray:
        """All responses of a discrete family that have any mass to speak of."""
        if self.family.name in ("bernoulli", "binomial"):
            return np.arange(self.trials + 1.0)
        if self.family.name == "ordinal":
            return np.arange(len(self.par) + 1.0)
        return np.arange(4000.0)

    def bounds(self) -> tuple[float, float]:
        """Where a continuous response lies."""
        name = self.family.name
        return {"beta": (0.0, 1.0), "gamma": (0.0, np.inf)}.get(name, (-np.inf, np.inf))


CASES = [
    *(Case(Bernoulli(link)) for link in ("logit", "probit", "cloglog")),
    *(Case(Binomial(link), trials=7) for link in ("logit", "probit", "cloglog")),
    Case(Poisson(), (), LOG_ETA),
    *(Case(NegativeBinomial(), (a,), LOG_ETA) for a in (0.3, 4.0, 2e5)),
    *(Case(Student(), p, (-3.0, 0.0, 12.0)) for p in ((1.5, 4.0), (0.2, 60.0))),
    *(Case(Gamma(), (a,), LOG_ETA) for a in (0.4, 3.0, 500.0)),
    *(Case(Beta(link), (phi,)) for link in ("logit", "probit") for phi in (12.0, 60.0)),
    *(
        Case(Ordinal(link, RATINGS), c)
        for link in ("logit", "probit")
        for c in ((-1.0, 0.4, 1.5), (-0.5, -0.49, 0.8))
    ),
    Case(ZeroInflatedPoisson(), (0.3,), LOG_ETA),
    Case(ZeroInflatedNegativeBinomial(), (1.7, 0.2), LOG_ETA),
    Case(HurdlePoisson(), (0.4,), LOG_ETA),
    *(Case(HurdleNegativeBinomial(), (a, 0.35), LOG_ETA) for a in (0.5, 3.0)),
]
