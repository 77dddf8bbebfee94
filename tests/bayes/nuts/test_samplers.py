"""Samplers: one table, one shape of answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import nutpie
import pymc as pm
import pytest
import xarray as xr

from hierpool.bayes.nuts import pymc_model, samplers
from hierpool.bayes.nuts.samplers import SAMPLERS, Sampled, sample
from hierpool.bayes.priors.model_priors import default_priors
from hierpool.core.design import Design
from hierpool.core.errors import ArgumentError, MissingPackageError

TINY: dict[str, Any] = {"draws": 20, "tune": 20, "chains": 2, "seed": 1, "progress": False}
VOCABULARY = {
    "beta": ("term",),
    "u_boar": ("boar", "boar_term"),
    "coef_boar": ("boar", "boar_term"),
    "sd_boar": ("boar_term",),
    "corr_boar": ("boar_term", "boar_term2"),
    "sigma": (),
}


@pytest.fixture(scope="module")
def simple() -> pm.Model:
    """The cheapest model there is: samplers take longest to compile."""
    with pm.Model() as model:
        pm.Normal("a", 0.0, 1.0)
    return model


@pytest.fixture(scope="module")
def varying_slope(make_design: Callable[..., Design]) -> pm.Model:
    design = make_design(["1", "x"], [(["1", "x"], "correlated")])
    return pymc_model.build(design, default_priors(design.schema))


def conforms(found: Sampled, model: pm.Model, name: str) -> None:
    """What every sampler has to give back."""
    assert found.sampler == name
    assert found.posterior.sizes["chain"] == TINY["chains"]
    assert found.posterior.sizes["draw"] == TINY["draws"]
    assert list(found.posterior) == [v.name for v in (*model.free_RVs, *model.deterministics)]
    assert all(np.isfinite(v).all() for v in found.posterior.values())
    assert {"lp", "diverging", "energy", "tree_depth", "n_steps"} <= set(found.sample_stats)
    assert found.sample_stats["diverging"].dtype == bool
    assert all(v.dims == ("chain", "draw") for v in found.sample_stats.values())
    assert all(v.notnull().all() for v in found.sample_stats.values())
    assert found.versions.keys() == {"pymc", SAMPLERS[name].package}
    assert found.seconds > 0


def test_nutpie_gives_labelled_draws_and_the_same_for_the_same_seed(
    simple: pm.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Compiled once: that is nearly all of the time this takes.
    monkeypatch.setattr(nutpie, "compile_pymc_model", cache(nutpie.compile_pymc_model))
    one = sample(simple, **TINY, cores=1)
    two = sample(simple, **TINY, cores=2)
    conforms(one, simple, "nutpie")
    assert one.seed == 1
    np.testing.assert_array_equal(one.posterior["a"], two.posterior["a"])


def test_fresh_seeds_differ_and_are_recorded() -> None:
    seeds = {samplers._seed(None) for _ in range(4)}
    assert len(seeds) == 4
    assert samplers._seed(np.random.default_rng(3)) == samplers._seed(np.random.default_rng(3))


@pytest.mark.slow
def test_the_full_model_comes_back_in_the_vocabulary(
    varying_slope: pm.Model, make_design: Callable[..., Design]
) -> None:
    found = sample(varying_slope, **TINY)
    conforms(found, varying_slope, "nutpie")
    for name, dims in VOCABULARY.items():
        assert found.posterior[name].dims == ("chain", "draw", *dims)
    assert list(found.posterior["boar"].to_numpy()) == ["b0", "b1", "b2", "b3", "b4"]
    design = make_design(["1", "x"], [(["1", "x"], "correlated")])
    theta = pymc_model.theta_of(found.posterior, design, default_priors(design.schema))
    first_of_second_chain = found.posterior["sigma"].sel(chain=1, draw=0)
    assert theta.sigma[TINY["draws"]] == first_of_second_chain
    assert theta.values["corr_chol_boar"].shape == (40, 2, 2)


@pytest.mark.samplers
@pytest.mark.parametrize("name", ["pymc", "numpyro", "blackjax"])
def test_other_samplers_conform(varying_slope: pm.Model, name: Any) -> None:
    conforms(sample(varying_slope, **TINY, sampler=name), varying_slope, name)


@pytest.mark.samplers
@pytest.mark.parametrize("name", ["pymc", "numpyro", "blackjax"])
def test_other_samplers_repeat_themselves(simple: pm.Model, name: Any) -> None:
    one, two = (sample(simple, **TINY, cores=c, sampler=name) for c in (1, 2))
    np.testing.assert_array_equal(one.posterior["a"], two.posterior["a"])


@pytest.mark.samplers
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_takes_the_options_all_share(simple: pm.Model, name: Any) -> None:
    options = {"max_treedepth": 1}
    found = sample(simple, **TINY, sampler=name, target_accept=0.9, options=options)
    assert int(found.sample_stats["tree_depth"].max()) <= 1


@pytest.mark.slow
def test_prior_draws_have_the_vocabulary_and_the_priors_width(
    varying_slope: pm.Model,
) -> None:
    def drawn() -> tuple[xr.Dataset, xr.Dataset]:
        tree = pm.sample_prior_predictive(draws=400, model=varying_slope, random_seed=1)
        return tree["prior"].to_dataset(), tree["prior_predictive"].to_dataset()

    prior, predictive = drawn()
    assert prior["coef_boar"].dims == ("chain", "draw", "boar", "boar_term")
    assert predictive["y"].dims == ("chain", "draw", "obs")
    again, _ = drawn()
    np.testing.assert_array_equal(prior["sigma"], again["sigma"])
    partial = prior["partial_corr_boar"].to_numpy()
    assert abs(partial.mean()) < 0.1
    assert partial.std() == pytest.approx(np.sqrt(1 / 3), abs=0.06)


def test_unknown_sampler_is_answered_with_the_nearest(simple: pm.Model) -> None:
    with pytest.raises(ArgumentError, match="did you mean 'nutpie'"):
        sample(simple, sampler="nutpy")  # type: ignore[arg-type]


def test_unknown_option_lists_the_valid_ones(simple: pm.Model) -> None:
    with pytest.raises(ArgumentError, match=r"no option 'maxdeepth'.*'max_treedepth'"):
        sample(simple, options={"maxdeepth": 3})


@pytest.mark.parametrize(
    ("argument", "value"), [("draws", 0), ("tune", 0), ("chains", 1.5), ("seed", -1), ("cores", -2)]
)
def test_counts_must_be_whole_and_large_enough(simple: pm.Model, argument: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=f"{argument} must be a whole number"):
        sample(simple, **{argument: value})


def test_target_accept_must_be_a_probability(simple: pm.Model) -> None:
    with pytest.raises(ArgumentError, match="between 0 and 1"):
        sample(simple, target_accept=1.5)


def test_a_missing_package_is_named_with_what_to_type(
    simple: pm.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(samplers, "import_module", absent)
    with pytest.raises(MissingPackageError, match=r'pip install "hierpool\[samplers\]"'):
        sample(simple, sampler="numpyro")


def test_an_interrupt_passes_through(simple: pm.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(model: pm.Model, run: samplers.Run) -> None:
        raise KeyboardInterrupt

    entry = samplers.Sampler("pymc", interrupted, {})  # type: ignore[arg-type]
    monkeypatch.setitem(samplers.SAMPLERS, "pymc", entry)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        sample(simple, sampler="pymc")
