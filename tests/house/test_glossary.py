"""docs/glossary.md explains every column that a table has, and every variable of a posterior."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import hierpool as hp

PAGE = Path(__file__).parents[2] / "docs" / "glossary.md"


@pytest.fixture(scope="module")
def words() -> set[str]:
    text = PAGE.read_text(encoding="utf-8").replace("\\|", "|")
    return set(re.findall(r"`([^`]+)`", text))


def tables(fitted) -> Iterator[pd.DataFrame]:
    of = fitted["sleepstudy_slopes"]
    fit, reml, smaller = of.posterior, of.reml, fitted["sleepstudy_intercepts"]
    yield from (fit.fixed_effects(), fit.random_effects(), fit.variance_components())
    yield from (fit.icc(), fit.r2(), fit.variance_partition(), fit.summary(), fit.predict())
    yield from (reml.fixed_effects(), reml.fixed_effects(df="normal"), reml.anova())
    yield from (reml.confint("wald"), reml.blup(), reml.icc(), reml.variance_partition())
    yield from (reml.predict(), of.model.priors.table(), hp.compare_blups(fit, reml))
    fits = {"slopes": fit, "intercepts": smaller.posterior}
    alone = fitted["sleepstudy_no_pooling"].posterior
    yield from (hp.compare(fits), hp.compare(fits | {"alone": alone}, by="group"))
    yield from (hp.shrinkage(fit), hp.contrast(fit, "Subject", ["308", "309"]))
    yield from (hp.contrast(reml, {"Days": 1}), hp.slopes(reml, "Days"), hp.slopes(fit, "Days"))
    yield from (hp.ranks(fit, "Subject", term="Days", top=3), hp.check(fit).table)
    components = reml.principal_components()
    yield components.drop(columns=list(of.model.design.groups[0].terms))
    yield from (hp.influence(reml), hp.sensitivity(fit).table)
    yield from (hp.influence(fit), fit.predictive_check(), fit.predictive_check(by="level"))
    yield from (fit.level_coverage(), of.model.prior_check())


def test_every_column_of_a_table_is_explained(fitted, words):
    missing = {
        str(name)
        for table in tables(fitted)
        for name in [*table.columns, *(n for n in table.index.names if n)]
        if re.sub(r"\[.*\]", "[<term>]", str(name)) not in words
    }
    assert missing == set()


def test_every_variable_of_a_posterior_is_explained(fitted, words):
    posterior = fitted["sleepstudy_slopes"].posterior.datatree["posterior"]
    known = {word.replace("<factor>", "Subject") for word in words}
    assert {*posterior.data_vars, *posterior.dims} - known == {"chain", "draw"}
