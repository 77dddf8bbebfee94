"""Arguments that make no sense are refused with an error of hierpool's own, wherever they are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.arguments import check_choice, check_count, check_seed
from hierpool.core.errors import ArgumentError
from hierpool.core.options import probability_of

TABLE = pd.DataFrame({"a": [1, 2]})
CHECKS: dict[str, tuple[Callable[[Any], object], list[Any]]] = {
    "seed": (check_seed, [-1, 1.5, True, None, "1", TABLE, np.random.default_rng(1)]),
    "draws": (lambda v: check_count("draws", v), [0, 2.0, False, None, TABLE]),
    "prob": (probability_of, [0, 1, 95, "0.9", np.nan, TABLE]),
    "kind": (lambda v: check_choice("kind", v, ("mean", "response")), ["maen", None, 1, TABLE]),
}


@pytest.mark.parametrize("name", CHECKS)
def test_nonsense_is_refused_in_the_users_own_words(name: str) -> None:
    check, values = CHECKS[name]
    for value in values:
        with pytest.raises(ArgumentError, match=f"^{name}="):
            check(value)


def test_a_table_is_named_by_its_type() -> None:
    with pytest.raises(ArgumentError, match=r"^kind=<DataFrame>: choose one of 'mean'"):
        check_choice("kind", TABLE, ("mean", "response"))


def test_numbers_of_numpy_are_numbers() -> None:
    assert check_seed(np.int64(3)) == 3
    assert probability_of(np.float64(0.9)) == 0.9
    assert probability_of(None) == 0.95


@pytest.fixture(scope="module")
def fits() -> dict[str, Any]:
    model = hp.varying_intercept("Reaction ~ Days", hp.datasets.load("sleepstudy"), group="Subject")
    fit = model.fit(engine="exact", draws=50, chains=2, seed=1, progress=False)
    return {"model": model, "fit": fit, "reml": model.reml()}


CALLS: dict[str, Callable[[dict[str, Any]], object]] = {
    "seed of kfold": lambda f: f["fit"].kfold(2, seed=-1),
    "folds": lambda f: f["fit"].kfold(TABLE),
    "by of kfold": lambda f: f["fit"].kfold(2, by=TABLE),
    "seed of predictive_check": lambda f: f["fit"].predictive_check(seed="x"),
    "by of predictive_check": lambda f: f["fit"].predictive_check(by=TABLE),
    "seed of prior_predictive": lambda f: f["model"].prior_predictive(5, seed=-1),
    "draws of prior_predictive": lambda f: f["model"].prior_predictive(2.5),
    "seed of prior_check": lambda f: f["model"].prior_check(5, seed=1.5),
    "seed of a profile": lambda f: f["reml"].confint(method="bootstrap", seed=TABLE),
    "prob of confint": lambda f: f["reml"].confint(prob="95"),
    "prob of fixed_effects": lambda f: f["reml"].fixed_effects(prob=TABLE),
    "prob of level_coverage": lambda f: f["fit"].level_coverage(prob="half"),
    "by of loo": lambda f: f["fit"].loo(by=TABLE),
    "form of loo": lambda f: f["fit"].loo(form=TABLE),
    "factor of coefficient_moments": lambda f: f["fit"].coefficient_moments("Days"),
    "factor of an estimate's moments": lambda f: f["reml"].coefficient_moments(TABLE),
    "groups of predict": lambda f: f["fit"].predict(groups=TABLE),
    "kind of predict": lambda f: f["reml"].predict(kind=TABLE),
}


@pytest.mark.parametrize("call", CALLS)
def test_functions_refuse_nonsense(call: str, fits: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        CALLS[call](fits)
