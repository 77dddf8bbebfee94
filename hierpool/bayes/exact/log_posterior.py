"""The log posterior of theta of any Gaussian model."""

from __future__ import annotations

from hierpool.bayes.exact.random_scale import scale_posterior
from hierpool.bayes.exact.target import LogPosterior
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.core.design import Design


def log_posterior(design: Design, priors: ModelPriors) -> LogPosterior:
    """Target of a model whose coefficients have normal priors."""
    if design.scale_factor and not design.samples_scales:
        return scale_posterior(design, priors)
    return LogPosterior.from_design(design, priors)
