"""The nineteen kinds of table of the golden reports: bundled, published, or simulated here.

What is simulated is rounded, so that it is the same on every machine. The truth of a simulation
stands in its docstring.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import hierpool as hp

SEED = 1  # of every study
PUBLISHED = Path(__file__).parents[2] / "reference" / "emmeans"


@dataclass(frozen=True)
class Golden:
    """A kind of table, and what is asked of it.

    Attributes
    ----------
    kind
        Name of its files.
    formula, group
        What is asked.
    table
        Makes the table.
    options
        What else the study is given.
    """

    kind: str
    formula: str
    group: str | list[str] | None
    table: Callable[[], pd.DataFrame]
    options: Mapping[str, Any] = field(default_factory=dict)

    def study(self) -> hp.Study:
        """The study of the table."""
        given = {"seed": SEED, "progress": False, **self.options}
        return hp.study(self.formula, self.table(), self.group, **given)

    def __str__(self) -> str:
        return self.kind


def bundled(name: str) -> Callable[[], pd.DataFrame]:
    return lambda: hp.datasets.load(name)


def oats() -> pd.DataFrame:
    """Yates (1935): nitrogen on the subplots of varieties in six blocks, nine plots left out."""
    return pd.read_csv(PUBLISHED / "oats.csv")


def averages() -> pd.DataFrame:
    """Batting averages with the binomial standard error at the common average."""
    table = hp.datasets.load("bball1970")
    average = (table.Hits / table.AB).round(4)
    return table.assign(average=average, se=np.sqrt(0.265 * 0.735 / table.AB).round(4))


def fields() -> pd.DataFrame:
    """A randomised block: four fertilisers on each of eight fields, one plot each (simulated).

    Tonnes a hectare: 5 without fertiliser, 0.3 more with lime, 1.0 with compost, 1.6 with mineral
    fertiliser; sd 0.8 between fields, 0.5 within.
    """
    rng = np.random.default_rng(101)
    kinds = ["none", "lime", "compost", "mineral"]
    means = 5 + np.array([0, 0.3, 1.0, 1.6])
    harvest = means + rng.normal(0, 0.8, (8, 1)) + rng.normal(0, 0.5, (8, 4))
    return pd.DataFrame(
        {
            "field": np.repeat([f"F{k}" for k in range(1, 9)], 4),
            "fertiliser": pd.Categorical(kinds * 8, categories=kinds),
            "harvest": harvest.ravel().round(2),
        }
    )


def shops() -> pd.DataFrame:
    """Many groups: 600 shops in four quarters (simulated).

    Sales in thousands: 80 at the price 5, 6 fewer for each euro more; sd between shops 15, of the
    effect of price 2, residual 8.
    """
    rng = np.random.default_rng(102)
    shop = np.repeat(np.arange(600), 4)
    price = rng.uniform(3, 7, len(shop)).round(2)
    u = rng.normal(size=(600, 2)) * [15, 2]
    sales = 80 + u[shop, 0] + (u[shop, 1] - 6) * (price - 5) + rng.normal(0, 8, len(shop))
    return pd.DataFrame({"shop": shop + 1, "price": price, "sales": sales.round(1)})


def farms() -> pd.DataFrame:
    """Few groups: 14 cows on each of three farms, half of them with a new feed (simulated).

    Litres of milk a day: 25, 2 more with the new feed; sd between farms 2, residual 2.5.
    """
    rng = np.random.default_rng(103)
    farm, feed = np.repeat([0, 1, 2], 14), np.tile([0, 1], 21)
    milk = 25 + 2 * feed + rng.normal(0, 2, 3)[farm] + rng.normal(0, 2.5, 42)
    names = np.array(["Hill", "Lake", "Moor"])[farm]
    feeds = pd.Categorical(np.array(["old", "new"])[feed], categories=["old", "new"])
    return pd.DataFrame({"farm": names, "feed": feeds, "milk": milk.round(1)})


def falls() -> pd.DataFrame:
    """Counts: falls of patients on 20 wards in 12 months (simulated).

    Poisson, 3 falls a month at the average staffing, a fifth fewer for each nurse more; wards
    differ by a factor with sd 0.4 of its log.
    """
    rng = np.random.default_rng(104)
    ward = np.repeat(np.arange(20), 12)
    nurses = rng.integers(4, 9, len(ward))
    log_mean = np.log(3) - 0.22 * (nurses - 6) + rng.normal(0, 0.4, 20)[ward]
    names = [f"W{k + 1:02d}" for k in ward]
    return pd.DataFrame({"ward": names, "nurses": nurses, "falls": rng.poisson(np.exp(log_mean))})


def passes() -> pd.DataFrame:
    """0 and 1: whether 16 pupils of each of 25 schools passed (simulated).

    Logistic, 60 % at 10 hours of study, log odds 0.15 more for each hour; sd between schools 0.7.
    """
    rng = np.random.default_rng(105)
    school = np.repeat(np.arange(25), 16)
    hours = rng.integers(2, 19, len(school))
    log_odds = 0.4 + 0.15 * (hours - 10) + rng.normal(0, 0.7, 25)[school]
    passed = (rng.random(len(school)) < 1 / (1 + np.exp(-log_odds))).astype(int)
    return pd.DataFrame({"school": school + 1, "hours": hours, "passed": passed})


def dropouts() -> pd.DataFrame:
    """Missing values: pain of 40 patients in five weeks, some of whom stay away (simulated).

    Pain from 0 to 100: 60 at first, 3 less each week with a placebo and 6 less with the drug; sd
    10 between patients at first, 2 of the weekly change, residual 5. From the second week on a
    patient drops out with probability 0.1; one patient's arm was not written down.
    """
    rng = np.random.default_rng(106)
    patient, week = np.repeat(np.arange(40), 5), np.tile(np.arange(5), 40)
    arm = patient % 2
    u = rng.normal(size=(40, 2)) * [10, 2]
    slope = -3 - 3 * arm + u[patient, 1]
    pain = (60 + u[patient, 0] + slope * week + rng.normal(0, 5, 200)).round(0)
    is_away = (rng.random((40, 5)) < 0.1) & (np.arange(5) > 0)
    pain[np.cumsum(is_away, axis=1).ravel() > 0] = np.nan
    arms = np.array(["placebo", "drug"], dtype=object)[arm]
    arms[patient == 16] = None
    arms = pd.Categorical(arms, categories=["placebo", "drug"])
    return pd.DataFrame({"patient": patient + 1, "week": week, "arm": arms, "pain": pain})


def lakes() -> pd.DataFrame:
    """Weights: rows are means of so many samples, of 15 lakes at six depths (simulated).

    Oxygen in mg/l: 9 at the surface, 0.35 less for each metre; sd between lakes 0.8, of the effect
    of depth 0.1, of one sample 0.9.
    """
    rng = np.random.default_rng(107)
    lake, depth = np.repeat(np.arange(15), 6), np.tile([0, 2, 4, 6, 8, 10], 15)
    samples = rng.integers(1, 13, 90)
    u = rng.normal(size=(15, 2)) * [0.8, 0.1]
    e = rng.normal(0, 0.9, 90) / np.sqrt(samples)
    oxygen = 9 + u[lake, 0] + (u[lake, 1] - 0.35) * depth + e
    names = [f"L{k + 1:02d}" for k in lake]
    table = {"lake": names, "depth": depth, "samples": samples, "oxygen": oxygen.round(2)}
    return pd.DataFrame(table)


def deliveries() -> pd.DataFrame:
    """Huge: 20,000 deliveries from 100 depots (simulated).

    Minutes: 25 at a distance of 10 km, 2.2 more for each km; sd between depots 4, of the effect of
    distance 0.3, residual 6.
    """
    rng = np.random.default_rng(108)
    depot = rng.integers(0, 100, 20_000)
    distance = rng.uniform(1, 20, len(depot)).round(1)
    u = rng.normal(size=(100, 2)) * [4, 0.3]
    slope = 2.2 + u[depot, 1]
    minutes = 25 + u[depot, 0] + slope * (distance - 10) + rng.normal(0, 6, len(depot))
    return pd.DataFrame({"depot": depot + 1, "distance": distance, "minutes": minutes.round(1)})


def admitted() -> pd.DataFrame:
    """0 and 1: whether 10 applicants of each of 12 departments were admitted (simulated).

    Logistic, 50 % with an average mark, log odds 0.9 more for each sd of the mark; sd between
    departments 1.
    """
    rng = np.random.default_rng(110)
    department = np.repeat(np.arange(12), 10)
    mark = rng.normal(size=120).round(1)
    log_odds = 0.9 * mark + rng.normal(0, 1, 12)[department]
    names = [f"D{k + 1:02d}" for k in department]
    is_in = (rng.random(120) < 1 / (1 + np.exp(-log_odds))).astype(int)
    return pd.DataFrame({"department": names, "mark": mark, "admitted": is_in})


def seizures() -> pd.DataFrame:
    """Counts that vary more than Poisson: 4 visits of each of 20 patients (simulated).

    Negative binomial with shape 3, 5 seizures with a placebo, 40 % fewer with the drug; patients
    differ by a factor with sd 0.5 of its log.
    """
    rng = np.random.default_rng(111)
    patient = np.repeat(np.arange(20), 4)
    is_drug = patient % 2
    mean = 5 * np.exp(np.log(0.6) * is_drug + rng.normal(0, 0.5, 20)[patient])
    arms = pd.Categorical(np.array(["placebo", "drug"])[is_drug], ["placebo", "drug"])
    counts = rng.poisson(mean * rng.gamma(3, 1 / 3, 80))
    return pd.DataFrame({"patient": patient + 1, "arm": arms, "seizures": counts})


def tastings() -> pd.DataFrame:
    """Ratings from 1 to 3 of two temperatures by 10 judges, twice each (simulated).

    Cumulative logistic, log odds of a higher rating 1.2 more when warm; sd between judges 1.2.
    """
    rng = np.random.default_rng(112)
    judge, warm = np.repeat(np.arange(10), 4), np.tile([0, 0, 1, 1], 10)
    latent = 1.2 * warm + rng.normal(0, 1.2, 10)[judge] + rng.logistic(size=40)
    served = pd.Categorical(np.array(["cold", "warm"])[warm], ["cold", "warm"])
    rating = 1 + np.searchsorted([-0.5, 1.5], latent)
    return pd.DataFrame({"judge": judge + 1, "served": served, "bitterness": rating})


def reactions() -> pd.DataFrame:
    """Heavy tails: reaction times of 16 people, eight each, some of them lapses (simulated).

    Student's t with 2.5 degrees of freedom and scale 15 ms, 320 ms when rested, 30 ms more when
    tired; sd between people 25.
    """
    rng = np.random.default_rng(113)
    person, tired = np.repeat(np.arange(16), 8), np.tile([0, 0, 0, 0, 1, 1, 1, 1], 16)
    time = 320 + 30 * tired + rng.normal(0, 25, 16)[person] + 15 * rng.standard_t(2.5, 128)
    slept = pd.Categorical(np.array(["rested", "tired"])[tired], categories=["rested", "tired"])
    return pd.DataFrame({"person": person + 1, "sleep": slept, "time": time.round(0)})


FAMILIES = (
    Golden("family_binary", "admitted ~ mark", "department", admitted, {"family": "bernoulli"}),
    Golden("family_counts", "seizures ~ arm", "patient", seizures, {"family": "negbinomial"}),
    Golden("family_ratings", "bitterness ~ served", "judge", tastings, {"family": "ordinal"}),
    Golden("family_heavy_tails", "time ~ sleep", "person", reactions, {"family": "student"}),
)
"""Responses that are not Gaussian; what R says of their models is under test elsewhere."""

KINDS = (
    Golden("repeated_measures", "Reaction ~ Days", "Subject", bundled("sleepstudy")),
    Golden("treatment_by_time", "weight ~ Time * Diet", "Chick", bundled("ChickWeight")),
    Golden("block", "harvest ~ fertiliser", "field", fields),
    Golden(
        "split_plot",
        "`yield` ~ Variety * nitro + (1 | Block) + (1 | Block:Variety)",
        None,
        oats,
    ),
    Golden("nested", "strength ~ 1", ["batch", "sample"], bundled("Pastes")),
    Golden("crossed", "diameter ~ 1", ["plate", "sample"], bundled("Penicillin")),
    Golden("many_groups", "sales ~ price", "shop", shops),
    Golden("few_groups", "milk ~ feed", "farm", farms),
    Golden("counts", "falls ~ nurses", "ward", falls),
    Golden("binary", "passed ~ hours", "school", passes),
    Golden("missing_values", "pain ~ week * arm", "patient", dropouts),
    Golden("weights", "oxygen ~ depth", "lake", lakes, {"weights": "samples"}),
    Golden("meta_analysis", "effect ~ 1", "school", bundled("eight_schools"), {"known_se": "se"}),
    Golden("one_row_a_group", "average ~ 1", "Player", averages, {"known_se": "se"}),
    Golden("huge", "minutes ~ distance", "depot", deliveries, {"draws": 250}),
)
