"""One probability for the intervals of the whole package."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

import hierpool as hp
from hierpool.core.errors import ArgumentError
from hierpool.core.options import DEFAULT_PROB, bound_names, bounds_among, percent, tails
from hierpool.core.threads import in_threads


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    hp.options.prob = DEFAULT_PROB


def test_an_assignment_holds_for_all_threads():
    hp.options.prob = 0.9
    seen: list[float] = []
    thread = threading.Thread(target=lambda: seen.append(hp.options.prob))
    thread.start()
    thread.join()
    assert seen == [0.9]


def test_a_context_ends_and_so_does_what_is_assigned_inside():
    with hp.options(prob=0.9):
        with hp.options(prob=0.5):
            assert percent() == "50"
        assert hp.options.prob == 0.9
        hp.options.prob = 0.8
        assert hp.options.prob == 0.8
    assert hp.options.prob == 0.95
    with pytest.raises(ZeroDivisionError), hp.options(prob=0.9):
        raise ZeroDivisionError
    assert hp.options.prob == 0.95


def test_a_context_is_of_its_own_thread_but_for_the_work_that_we_start_there():
    seen: list[float] = []
    with hp.options(prob=0.9):
        thread = threading.Thread(target=lambda: seen.append(hp.options.prob))
        thread.start()
        thread.join()
        ours = in_threads(lambda _: hp.options.prob, range(4), "looking", 2, progress=False)
    assert seen == [0.95]
    assert ours == [0.9] * 4


def test_tasks_do_not_see_the_contexts_of_others():
    async def look(prob: float) -> float:
        with hp.options(prob=prob):
            await asyncio.sleep(0.01)
            return hp.options.prob

    async def both() -> list[float]:
        return await asyncio.gather(look(0.5), look(0.8))

    assert asyncio.run(both()) == [0.5, 0.8]


@pytest.mark.parametrize("prob", [0, 1, 95, "0.9", None, True, float("nan")])
def test_what_is_no_probability_is_refused(prob):
    with pytest.raises(ArgumentError, match=r"prob=.*0\.95"):
        hp.options.prob = prob
    with pytest.raises(ArgumentError, match="bad-probability"), hp.options(prob=prob):
        pass
    assert hp.options.prob == 0.95


def test_an_unknown_option_is_refused_and_the_known_are_printed():
    with pytest.raises(ArgumentError, match="it has prob"):
        hp.options.ci_prob = 0.9
    assert repr(hp.options) == "hp.options: prob=0.95 (intervals hold 95 %)"


def test_names_of_bounds_say_the_probability():
    assert bound_names("ci", 0.999) == ("ci99.9_lb", "ci99.9_ub")
    assert bounds_among(["mean", *bound_names("eti"), "p"]) == ["eti95_lb", "eti95_ub"]
    assert tails() == pytest.approx((0.025, 0.975))


def test_tables_of_every_kind_follow(fitted):
    one = fitted["sleepstudy_slopes"]
    fit, reml = one.posterior, one.reml
    with hp.options(prob=0.9):
        tables = {
            "eti90_lb": fit.fixed_effects(),
            "ci90_lb": reml.fixed_effects(),
            "pooling_factor_eti90_lb": hp.shrinkage(fit),
            "rank_eti90_lb": hp.ranks(fit, term="Days"),
            "ci90_ub": hp.slopes(reml, "Days"),
            "eti90_ub": fit.predict(),
        }
        assert list(reml.confint("wald")) == ["estimate", "ci90_lb", "ci90_ub"]
    assert [name for name, table in tables.items() if name not in table] == []


@pytest.mark.parametrize("name", ["ci_prob", "level", "hdi_prob"])
def test_names_of_other_packages_are_answered_with_ours(fitted, name):
    one = fitted["sleepstudy_slopes"]
    calls = [
        one.reml.fixed_effects,
        one.reml.confint,
        one.posterior.predict,
        lambda **how: hp.slopes(one.posterior, "Days", **how),
        lambda **how: hp.contrast(one.reml, "Days", **how),
    ]
    for call in calls:
        with pytest.raises(ArgumentError, match=f"^{name}=0.9: the probability.* prob="):
            call(**{name: 0.9})
