"""Posteriors of families from simulated draws, for questions whose answers can be had by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import hierpool as hp
from hierpool.core.results import Status
from hierpool.fits.posterior import PosteriorFit

CHAINS, DRAWS = 2, 300


class Simulated(PosteriorFit):
    """Draws alone: means are those of the draws."""

    @property
    def is_integrable(self) -> bool:
        """No: the draws belong to no theta."""
        return False


def table(n_groups: int = 8, n: int = 10) -> pd.DataFrame:
    """Rows of every kind of response; simulated."""
    rng = np.random.default_rng(1)
    rows = n_groups * n
    out = pd.DataFrame(
        {
            "g": np.repeat([f"g{k}" for k in range(n_groups)], n),
            "x": rng.normal(size=rows),
            "t": np.tile(["ctl", "trt"], rows // 2),
            "n": rng.integers(5, 20, rows),
        }
    )
    return out.assign(
        hits=rng.binomial(out["n"], 0.3),
        yes=rng.integers(0, 2, rows),
        count=rng.poisson(0.2 * out["n"]),
        rating=rng.permutation(np.resize([1, 2, 3, 4], rows)),
        size=rng.gamma(2.0, 1.0, rows),
    )


def drawn(
    model: hp.Model,
    beta: Sequence[float],
    sd: float = 0.7,
    par: Mapping[str, Any] | None = None,
    spread: float = 0.1,
) -> Simulated:
    """A posterior around some values."""
    rng, shape = np.random.default_rng(2), (CHAINS, DRAWS)
    dims = ("chain", "draw")
    made: dict[str, Any] = {
        "beta": ((*dims, "term"), beta + spread * rng.normal(size=(*shape, len(beta))))
    }
    for group in model.design.groups:
        q = len(group.terms)
        sds = sd * np.exp(spread * rng.normal(size=(*shape, q)))
        u = sds[:, :, None] * rng.normal(size=(*shape, group.grouping.n_levels, q))
        made[f"sd_{group.factor}"] = ((*dims, f"q_{group.factor}"), sds)
        made[f"u_{group.factor}"] = ((*dims, group.factor, f"q_{group.factor}"), u)
        if group.has_correlation:
            corr = np.broadcast_to(np.eye(q), (*shape, q, q))
            made[f"corr_{group.factor}"] = ((*dims, "q1", "q2"), corr)
    for name, value in (par or {}).items():
        own = np.broadcast_to(np.asarray(value, dtype=float), (*shape, *np.shape(value)))
        made[name] = ((*dims, *("threshold",) * np.ndim(value)), own)
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset(made)})
    status = Status("good", "made by hand")
    return Simulated(model.design, model.priors, tree, status, {"seed": 1, "engine": "none"})
