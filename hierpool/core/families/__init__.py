"""Families of responses, to say more than a name: ``hp.families.Bernoulli(event="yes")``."""

from __future__ import annotations

from hierpool.core.families.bernoulli import Bernoulli, Binomial
from hierpool.core.families.beta import Beta
from hierpool.core.families.gamma import Gamma
from hierpool.core.families.hurdle import HurdleNegativeBinomial, HurdlePoisson
from hierpool.core.families.negbinomial import NegativeBinomial
from hierpool.core.families.ordinal import Ordinal
from hierpool.core.families.poisson import Poisson
from hierpool.core.families.student import Student
from hierpool.core.families.zero_inflated import ZeroInflatedNegativeBinomial, ZeroInflatedPoisson

__all__ = [
    "Bernoulli",
    "Beta",
    "Binomial",
    "Gamma",
    "HurdleNegativeBinomial",
    "HurdlePoisson",
    "NegativeBinomial",
    "Ordinal",
    "Poisson",
    "Student",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
]
