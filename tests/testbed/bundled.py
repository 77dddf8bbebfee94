"""What hp.check should say of each bundled table with its natural formula, and why.

Written before the rules were (after the sources of the tables and what is published of them); a
finding that is not on the list is a fault of the rules, and one that is missing too. Where a list was
changed afterwards, the reason says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

import hierpool as hp
from tests.testbed.situations import Stage


@dataclass(frozen=True)
class Bundled:
    """A bundled table, its natural formula, and the findings that it should have.

    Attributes
    ----------
    table, formula
        Which table, and the model.
    codes
        Of the findings, in the order in which they are printed.
    why
        What is known of the table.
    stage
        What is checked: a posterior, or REML where a posterior takes minutes.
    known_se
        Column of known standard errors.
    prepare
        What the analyst does with the table first.
    """

    table: str
    formula: str
    codes: tuple[str, ...]
    why: str
    stage: Stage = "posterior"
    known_se: str | None = None
    prepare: Callable[[pd.DataFrame], pd.DataFrame] = field(default=lambda table: table)

    def model(self) -> hp.Model:
        """The model of the table."""
        data = self.prepare(hp.datasets.load(self.table))
        return hp.Model(self.formula, data, known_se=self.known_se)

    def __str__(self) -> str:
        return self.table


def averages(table: pd.DataFrame) -> pd.DataFrame:
    """Batting averages with the binomial standard error at the common average."""
    return table.assign(average=table.Hits / table.AB, se=np.sqrt(0.265 * (1 - 0.265) / table.AB))


TABLES = (
    Bundled(
        "boars",
        "volume ~ time + (time | boar)",
        (),
        "Simulated from this very model, with no variance at zero.",
    ),
    Bundled(
        "sleepstudy",
        "Reaction ~ Days + (Days | Subject)",
        ("outlying-row", "autocorrelation"),
        "Subject 332 jumps by 150 ms on one day and subject 308 twice by 90, known from every plot of "
        "the residuals. With and without these rows, nlme's corAR1 has a likelihood ratio of 19 and a "
        "correlation near .5. Heavy tails, wide intervals and what subject 332 does to sigma come of "
        "the same three rows.",
    ),
    Bundled(
        "radon",
        "log_radon ~ floor + log_uranium + (floor | county)",
        ("outlying-row",),
        "Three houses have the activity zero, and log(0 + 0.1) is far below all others. Variances "
        "differ by less than a factor of two between floors; counties with one house are why one "
        "pools.",
    ),
    Bundled(
        "Orthodont",
        "distance ~ age * Sex + (age | Subject)",
        ("outlying-row", "variance-near-zero"),
        "M09 has two distances that no growth explains. Heavy tails, and the influence of M09 on "
        "sigma, come of these. Ages from 8 to 14 and an interaction are no faults. Changed since: "
        "nlme's test of the slopes has p = .66, so that they may be alike is said. And unequal "
        "variances are not: the residual sd of boys is nearly twice that of girls also without M09 "
        "(Pinheiro and Bates 2000, section 5.2), but by absolute residuals, which outliers do not "
        "upset, its p is .007, and three predictors were tried.",
    ),
    Bundled("Rail", "travel ~ 1 + (1 | Rail)", (), "Six rails, three times each; no fault known."),
    Bundled(
        "Machines",
        "score ~ Machine + (Machine | Worker)",
        (),
        "With the interaction, which is here, nothing is left (Pinheiro and Bates 2000, section 1.3).",
    ),
    Bundled("Dyestuff", "Yield ~ 1 + (1 | Batch)", (), "Six batches; no fault known."),
    Bundled(
        "Dyestuff2",
        "Yield ~ 1 + (1 | Batch)",
        ("singular-reml",),
        "Simulated by Box and Tiao (1973) so that the estimate of the variance between batches is zero.",
    ),
    Bundled(
        "Pastes",
        "strength ~ 1 + (1 | batch) + (1 | sample)",
        (),
        "Ten batches of three casks. The variance between batches is uncertain, which its interval "
        "says.",
    ),
    Bundled(
        "Penicillin",
        "diameter ~ 1 + (1 | plate) + (1 | sample)",
        (),
        "A balanced crossed assay; the residuals are clean.",
    ),
    Bundled(
        "Exam",
        "normexam ~ standLRT + (standLRT | school)",
        (),
        "Scores were made normal. Of 4,059 rows a skewness of -0.2 and a median one per cent off are "
        "significant, and change nothing. School 48 has two pupils, so its residual sd says nothing.",
    ),
    Bundled(
        "Chem97",
        "score ~ gcsecnt + (1 | school) + (1 | lea)",
        ("few-values",),
        "A level grades as 0, 2, ..., 10 points: an ordered category, the first example of the "
        "ordinal models in MLwiN.",
        stage="reml",
    ),
    Bundled(
        "InstEval",
        "y ~ service + (1 | s) + (1 | d)",
        ("few-values",),
        "Ratings from 1 to 5.",
        stage="model",
    ),
    Bundled(
        "ChickWeight",
        "weight ~ Time * Diet + (Time | Chick)",
        ("log-response", "curvature"),
        "Chicks grow in proportion to their weight: the curve bends, and the spread grows with the "
        "weight, so that a log of the weight fits better (the code of this was unequal-variance before it "
        "had one of its own). Serial correlation near 1, intercepts that "
        "follow the slopes, and the tails come of the missing curve.",
    ),
    Bundled(
        "cake",
        "angle ~ recipe * temperature + (1 | recipe:replicate)",
        ("log-response",),
        "The sd of the angle grows with its mean (Cochran and Cox took it as it is; a log makes it "
        "constant). The code was unequal-variance at first.",
    ),
    Bundled(
        "bball1970",
        "average ~ 1 + (1 | Player)",
        (),
        "Efron and Morris's example of shrinkage. That the players may be alike is what it asks.",
        known_se="se",
        prepare=averages,
    ),
    Bundled(
        "eight_schools",
        "effect ~ 1 + (1 | school)",
        ("prior-dominates",),
        "Eight effects with standard errors as large as they are: the sd between schools is left to "
        "its prior (Gelman 2006), of which the REML estimate of zero is the other face. Whole numbers "
        "of eight rows are no categories.",
        known_se="se",
    ),
)
