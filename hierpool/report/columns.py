"""Descriptions of the columns, for a reader who does not know the package."""

from __future__ import annotations

import re

GLOSSARY = {
    "model": "Name of the model.",
    "term": "Term of the model: the intercept or a predictor.",
    "term2": "The other term of a correlation.",
    "factor": "The grouping factor; residual for the variation within groups.",
    "level": "The group.",
    "parameter": "sd: standard deviation between groups; corr: correlation of two terms.",
    "mean": "Posterior mean.",
    "median": "Posterior median.",
    "sd": "Posterior standard deviation.",
    "ess_bulk": "Effective sample size for the bulk of the posterior; 400 or more is good.",
    "ess_tail": "The same for the tails.",
    "r_hat": "Convergence of the chains; should be below 1.01.",
    "method": "Method of the estimate: REML, maximum likelihood (ML) or least squares.",
    "estimate": "The estimate by that method.",
    "se": "Standard error.",
    "n": "Number of observations.",
    "own_estimate": "Estimate from the group's own data.",
    "partial_pooling": "Estimate for the group in the partially pooled model.",
    "population": "The fixed effect that the groups are shrunk towards.",
    "complete_pooling": "Estimate with complete pooling.",
    "pooling_factor": "Amount of shrinkage towards the population, from 0 (none) to 1 (complete).",
    "posterior_mean": "Posterior mean of the random effect.",
    "posterior_sd": "Posterior standard deviation of the random effect.",
    "mcse": "Monte Carlo error of the posterior mean.",
    "blup": "Best linear unbiased prediction of the random effect, at the REML estimates; of other "
    "responses than Gaussian its conditional mode, at the ML estimates.",
    "blup_se": "Standard error of blup, with the variances taken as known.",
    "difference": "Posterior mean minus blup.",
    "due_to_coefficient_prior": "Part of the difference due to the priors of the fixed effects.",
    "due_to_variances": "Part due to the priors and the uncertainty of the variances.",
    "rank": "Rank of the model; 0 is best.",
    "elpd": "Expected log predictive density of new data; higher is better.",
    "p": "Effective number of parameters.",
    "elpd_diff": "Difference in elpd from the best model.",
    "dse": "Standard error of that difference.",
    "subsampling_dse": "Its standard error by the sample of rows that corrects it.",
    "subsampling_se": "Standard error of elpd by the sample of rows that corrects it.",
    "p_worse": "Probability that the model predicts worse than the best one.",
    "diag_diff": "Why the difference is unreliable, if it is.",
    "diag_elpd": "Why the elpd is unreliable, if it is.",
    "weight": "Stacking weight.",
    "warning": "Whether a Pareto k was too high.",
    "note": "Remark on the model.",
    "severity": "problem: do not use the result until it is solved; warning: may change a "
    "conclusion; note: for information.",
    "code": "Code of the finding, explained in the documentation.",
    "about": "The model concerned.",
    "share": "Share of observations.",
    "expected": "Expected value if the model holds.",
    "role": "Role of the column in the model.",
}


_BOUND = re.compile(r"(?:(\w+)_)?(eti|hdi|ci)([\d.]+)_(lb|ub)")


def interval_of(name: str) -> tuple[str, str]:
    """Percent and kind of an interval by the name of one of its bounds.

    Examples
    --------
    >>> interval_of("eti95_lb")
    ('95', 'equal-tailed')
    """
    bound = _BOUND.fullmatch(name)
    assert bound is not None, name
    return bound[3], _KINDS[bound[2]]


def meaning(name: str) -> str:
    """Description of a column, or an empty text."""
    bound = _BOUND.fullmatch(name)
    if bound is None:
        return GLOSSARY.get(name, "")
    of, kind, percent, side = bound.groups()
    of_what = f" of {of}" if of else ""
    return f"{_SIDES[side]} bound of the {percent} % {_KINDS[kind]} interval{of_what}."


_SIDES = {"lb": "Lower", "ub": "Upper"}
_KINDS = {"eti": "equal-tailed", "hdi": "highest-density", "ci": "confidence"}
