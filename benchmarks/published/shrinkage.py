"""Shrinkage before mixed models: Stein's estimator of 18 averages, and eight schools."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

import hierpool as hp

from .analyses import Analysis, bundled, outside
from .optima import beta, se

PLAYERS = {  # as the source prints them: as the bundled table does
    "Clemente": "Clemente",
    "F. Robinson": "Robinson",
    "F. Howard": "Howard",
    "Johnstone": "Johnstone",
    "Berry": "Berry",
    "Spencer": "Spencer",
    "Kessinger": "Kessinger",
    "L. Alvarado": "Alvarado",
    "Santo": "Santo",
    "Swoboda": "Swaboda",
    "Unser": "Unser",
    "Williams": "Williams",
    "Scott": "Scott",
    "Petrocelli": "Petrocelli",
    "E. Rodriguez": "Rodriguez",
    "Campaneris": "Campaneris",
    "Munson": "Munson",
    "Alvis": "Alvis",
}


@dataclass(frozen=True, slots=True)
class JamesStein:
    """Averages pulled towards their mean; ``factor`` is what is left of each difference."""

    mean: float
    factor: float
    estimates: pd.Series

    @classmethod
    def of(cls, rows: pd.DataFrame) -> JamesStein:
        """From complete pooling with the binomial standard error at the mean.

        Efron, Hastie (2016), Computer Age Statistical Inference, equations 7.21 and 7.22.
        """
        average = rows["Hits"] / rows["AB"]
        pooled = average.mean()
        se = np.sqrt(pooled * (1 - pooled) / rows["AB"])
        rows = rows.assign(average=average, se=se)
        fit = hp.complete_pooling("average ~ 1", rows, known_se="se").reml()
        residuals = fit.residuals().to_numpy()
        factor = 1 - (len(rows) - 3) / float(((residuals / se) ** 2).sum())
        names = rows["Player"].astype(str).to_numpy()
        estimates = pd.Series(fit.fitted().to_numpy() + factor * residuals, index=names)
        return cls(beta()(fit), factor, estimates)


def estimate(player: str):
    return lambda found: found.estimates[player]


def pooled_schools(rows: pd.DataFrame) -> hp.LikelihoodFit:
    return hp.complete_pooling("effect ~ 1", rows, known_se="se").reml()


def four_figures(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.rename(columns={"rubin_y": "effect", "rubin_sigma": "se"})


SCHOOLS = bundled("eight_schools")

ANALYSES = (
    Analysis(
        "efron_morris_js",
        "James-Stein toward grand mean, binomial variance",
        "closed form",
        bundled("bball1970"),
        JamesStein.of,
        {f"JS estimate {printed}": estimate(name) for printed, name in PLAYERS.items()},
        note=(
            "Complete pooling with the binomial standard error at the grand mean; c = 1 - (N "
            "- 3) / chi-squared of its residuals."
        ),
    ),
    Analysis(
        "efron_morris_js",
        "James-Stein",
        "closed form",
        bundled("bball1970"),
        JamesStein.of,
        {
            "shrinkage factor c": lambda found: found.factor,
            "grand mean": lambda found: found.mean,
        },
    ),
    Analysis(
        "eight_schools",
        "complete pooling, rounded data",
        "inverse-variance weighted mean",
        SCHOOLS,
        pooled_schools,
        {"pooled mean": beta(), "pooled variance": lambda fit: se()(fit) ** 2},
    ),
    Analysis(
        "eight_schools",
        "complete pooling, Rubin 4-figure data",
        "inverse-variance weighted mean",
        outside("bda_eight_schools", prepare=four_figures),
        pooled_schools,
        {
            "pooled mean (as printed in BDA)": beta(),
            "pooled variance (as printed in BDA)": lambda fit: se()(fit) ** 2,
        },
    ),
)
