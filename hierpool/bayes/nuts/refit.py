"""Draws of theta without some rows, by NUTS: for models whose theta the exact engine cannot draw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hierpool.algebra.marginal_model import MarginalModel
from hierpool.bayes.nuts import engine
from hierpool.bayes.nuts.parameterization import Seen
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.bayes.run import SamplerSettings
from hierpool.bayes.theta import integrate
from hierpool.core.design import Design
from hierpool.core.theta import Theta, WorkingTheta
from hierpool.draws.summary import verdict


def theta_without(
    design: Design,
    priors: ModelPriors,
    rows: np.ndarray,
    settings: SamplerSettings,
    seen: Seen,
) -> tuple[MarginalModel, WorkingTheta, bool]:
    """The model less some rows, and draws of theta from its posterior.

    Coordinates, centring and priors are those of all rows; groups without rows stay, with their
    priors.

    Returns
    -------
    tuple
        The integrated model of the other rows; the draws of theta; whether they can be trusted.
    """
    rest = _without(design, rows)
    run = engine.run_collapsed(rest, priors, settings) or engine.run(rest, priors, settings, seen)
    group = run.tree["theta"].to_dataset()
    flat = {str(k): v.to_numpy().reshape(-1, *v.shape[2:]) for k, v in group.data_vars.items()}
    theta = Theta(settings.chains * settings.draws, flat)
    model, theta_map = integrate(design, priors)
    trusted = verdict(run.tree, run.checked).is_trustworthy
    return model.without(rows), theta_map.working(theta), trusted


def _without(design: Design, rows: np.ndarray) -> Design:
    """The design less some rows (positions), its labels as they are."""
    own, kept = design.check_rows(), np.setdiff1d(np.arange(design.n), rows)
    every = {
        name: values[kept]
        for name, values in {
            "residual_values": own.residual_values,
            "trials": own.trials,
            "offset": own.offset,
        }.items()
        if isinstance(values, np.ndarray)
    }
    fewer = replace(
        own,
        y=own.y[kept],
        X=own.X[kept],
        Z={factor: Z[kept] for factor, Z in own.Z.items()},
        codes={factor: codes[kept] for factor, codes in own.codes.items()},
        index=own.index[kept],
        frame=own.frame.iloc[kept],
        structure=None if own.structure is None else own.structure.take(kept),
        **every,
    )
    return Design(replace(design.schema, n=len(kept)), fewer)
