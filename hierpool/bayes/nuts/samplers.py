"""Samplers: an ordinary ``pymc.Model`` in, labelled draws out.

One table holds every sampler: the package it needs, the options it takes and the function that
calls it. Whatever the sampler, what comes back has the same variables, dims, coordinates and
ArviZ's names for the sampler's statistics.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import pymc as pm
import xarray as xr

from hierpool.core.errors import ArgumentError, MissingPackageError, listed, nearest

SamplerName = Literal["nutpie", "pymc", "numpyro", "blackjax"]

# ArviZ's names of a sampler's statistics, and what samplers call them otherwise.
_STATS = {
    "lp": "logp",
    "acceptance_rate": "mean_tree_accept",
    "step_size": "step_size",
    "tree_depth": "depth",
    "n_steps": "n_steps",
    "energy": "energy",
    "energy_error": "energy_error",
    "diverging": "diverging",
    "reached_max_treedepth": "maxdepth_reached",
}


@dataclass(frozen=True)
class Sampled:
    """Draws of a full model, and how they were made.

    Attributes
    ----------
    posterior
        Every variable of the model; dims (chain, draw, ...).
    sample_stats
        The sampler's statistics under ArviZ's names: ``diverging``, ``energy``, ``tree_depth``
        and those of ``lp``, ``acceptance_rate``, ``step_size``, ``n_steps``, ``energy_error``,
        ``reached_max_treedepth`` that the sampler tells.
    sampler
        Its name.
    seed
        What to pass for the same draws again.
    versions
        Of PyMC and the sampler's package.
    seconds
        Wall time, compilation included.
    """

    posterior: xr.Dataset
    sample_stats: xr.Dataset
    sampler: str
    seed: int
    versions: Mapping[str, str]
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """What every sampler is asked for."""

    draws: int
    tune: int
    chains: int
    cores: int
    seed: int
    progress: bool
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sampler:
    """One row of the table.

    Attributes
    ----------
    package
        What must be installed.
    call
        Function of a model and a ``Run``.
    options
        Name of each option -> the name that the package knows it by.
    """

    package: str
    call: Callable[[pm.Model, Run], xr.DataTree]
    options: Mapping[str, str]


def sample(
    model: pm.Model,
    *,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    cores: int | None = None,
    seed: int | np.random.Generator | None = None,
    sampler: SamplerName = "nutpie",
    target_accept: float | None = None,
    progress: bool = True,
    options: Mapping[str, Any] | None = None,
) -> Sampled:
    """Draw from the posterior of any continuous PyMC model.

    Parameters
    ----------
    model
        From ``hierpool.bayes.nuts.pymc_model.build``, or any other.
    draws, tune, chains
        Draws kept and tuning steps of each chain; number of chains.
    cores
        Chains at a time; None takes as many as there are, up to ``chains``.
    seed
        The same seed gives the same draws, whatever ``cores``. None draws a fresh one, which is
        recorded.
    sampler
        ``"nutpie"``, ``"pymc"``, ``"numpyro"`` or ``"blackjax"``.
    target_accept
        Between 0 and 1; higher takes smaller steps. None is the sampler's own default.
    progress
        Whether to show a progress bar, where there is a terminal or a notebook to show it in.
    options
        More for this sampler, e.g. ``{"max_treedepth": 12}``.

    Raises
    ------
    ArgumentError
        An unknown sampler or option, or counts that are too small.
    MissingPackageError
        The sampler is not installed.
    """
    entry = _entry(sampler)
    run = Run(
        draws=_count("draws", draws, 1),
        tune=_count("tune", tune, 1),
        chains=_count("chains", chains, 1),
        cores=_count("cores", cores or min(chains, os.cpu_count() or 1), 1),
        seed=_seed(seed),
        progress=progress and _has_audience(),
        options=_options(sampler, entry, target_accept, options or {}),
    )
    start = time.perf_counter()
    with _quiet():
        tree = entry.call(model, run)
    seconds = time.perf_counter() - start
    posterior = _posterior(tree, model)
    if posterior.sizes["draw"] < draws or posterior.sizes["chain"] < chains:
        raise KeyboardInterrupt  # PyMC keeps the partial draws and says nothing
    versions = {name: version(name) for name in dict.fromkeys(["pymc", entry.package])}
    return Sampled(posterior, _stats(tree), sampler, run.seed, versions, seconds)


def _nutpie(model: pm.Model, run: Run) -> xr.DataTree:
    import nutpie

    compiled = nutpie.compile_pymc_model(model, backend="numba")
    # Not blocking: nutpie's own wait would turn an interrupt into a shorter posterior.
    background = nutpie.sample(
        compiled,
        draws=run.draws,
        tune=run.tune,
        chains=run.chains,
        cores=run.cores,
        seed=run.seed,
        save_warmup=False,
        progress_bar=run.progress,
        blocking=False,
        **run.options,
    )
    try:
        return background.wait()
    except BaseException:
        background.cancel()
        raise


def _pymc(model: pm.Model, run: Run) -> xr.DataTree:
    # PyMC forks for each chain, which the threads of JAX do not survive.
    cores = 1 if "jax" in sys.modules else run.cores
    return _through_pymc("pymc", model, run, cores=cores)


def _numpyro(model: pm.Model, run: Run) -> xr.DataTree:
    return _through_pymc("numpyro", model, run)


def _blackjax(model: pm.Model, run: Run) -> xr.DataTree:
    return _through_pymc("blackjax", model, run)


def _through_pymc(name: str, model: pm.Model, run: Run, **more: Any) -> xr.DataTree:
    nuts = dict(run.options)
    if name != "pymc":
        # One device runs all chains at once; "parallel" would want one device a chain.
        nuts.setdefault("chain_method", "vectorized")
    return pm.sample(
        draws=run.draws,
        tune=run.tune,
        chains=run.chains,
        random_seed=run.seed,
        model=model,
        nuts_sampler=name,
        nuts=nuts,
        progressbar=run.progress,
        quiet=not run.progress,
        compute_convergence_checks=False,
        **more,
    )


def _same(*names: str, **renamed: str) -> dict[str, str]:
    return {name: name for name in ("target_accept", *names)} | renamed


SAMPLERS: Mapping[str, Sampler] = {
    "nutpie": Sampler(
        "nutpie",
        _nutpie,
        _same(
            "adaptation",
            "init_mean",
            "mass_matrix_eigval_cutoff",
            "mass_matrix_gamma",
            "max_energy_error",
            max_treedepth="maxdepth",
        ),
    ),
    "pymc": Sampler(
        "pymc",
        _pymc,
        _same("max_treedepth", "early_max_treedepth", "step_scale", "Emax", "gamma", "k", "t0"),
    ),
    "numpyro": Sampler(
        "numpyro",
        _numpyro,
        _same(
            "chain_method",
            "dense_mass",
            "find_heuristic_step_size",
            "regularize_mass_matrix",
            max_treedepth="max_tree_depth",
        ),
    ),
    "blackjax": Sampler(
        "blackjax",
        _blackjax,
        _same(
            "chain_method",
            "initial_step_size",
            "is_mass_matrix_diagonal",
            max_treedepth="max_num_doublings",
        ),
    ),
}


def _entry(name: str) -> Sampler:
    """Row of the table; an error where the sampler is unknown or not installed."""
    if name not in SAMPLERS:
        raise ArgumentError(f"no sampler {name!r}: {nearest(name, SAMPLERS)}", "unknown-sampler")
    entry = SAMPLERS[name]
    try:
        import_module(entry.package)
    except ImportError as error:
        raise MissingPackageError(
            f"sampler {name!r} needs the package {entry.package}, which is not installed. "
            'Type: pip install "hierpool[samplers]"',
            "sampler-not-installed",
        ) from error
    return entry


def _options(
    name: str, entry: Sampler, target_accept: float | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Options under the package's own names."""
    unknown = [key for key in options if key not in entry.options]
    if unknown:
        raise ArgumentError(
            f"sampler {name!r} has no option {listed(unknown)}; it takes "
            f"{listed(entry.options, most=len(entry.options))}",
            "unknown-sampler-option",
        )
    if target_accept is not None:
        if not 0 < target_accept < 1:
            raise ArgumentError(
                f"target_accept must lie between 0 and 1; it is {target_accept:g}",
                "sampler-argument",
            )
        options = {"target_accept": target_accept, **options}
    return {entry.options[key]: value for key, value in options.items()}


def _count(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ArgumentError(
            f"{name} must be a whole number of at least {least}; it is {value!r}",
            "sampler-argument",
        )
    return int(value)


def _seed(seed: int | np.random.Generator | None) -> int:
    """A seed that can be recorded: the user's, or a fresh one."""
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(2**32))
    return _count("seed", seed, 0)


def _has_audience() -> bool:
    """Whether there is a terminal or a notebook to show a progress bar in."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No chatter of the libraries: their log below errors, and warnings meant for their callers."""
    loggers = [logging.getLogger(name) for name in ("pymc", "pytensor", "jax", "numpyro")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning, UserWarning):
            warnings.simplefilter("ignore", category)
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _posterior(tree: xr.DataTree, model: pm.Model) -> xr.Dataset:
    """The model's variables in its own order, with nothing that changes from run to run."""
    found = tree["posterior"].to_dataset()
    names = [v.name for v in (*model.free_RVs, *model.deterministics) if v.name in found]
    posterior = found[names]
    posterior.attrs = {}
    return posterior


def _stats(tree: xr.DataTree) -> xr.Dataset:
    """The sampler's statistics under ArviZ's names."""
    found = tree["sample_stats"].to_dataset()
    stats = {}
    for name, other in _STATS.items():
        source = name if name in found else other
        if source in found and found[source].dims == ("chain", "draw"):
            stats[name] = found[source]
    return xr.Dataset(stats)
