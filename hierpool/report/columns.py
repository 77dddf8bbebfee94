"""What the columns of the tables mean, for a reader who has never seen the package."""

from __future__ import annotations

import re

GLOSSARY = {
    "model": "Which of the models the row is about.",
    "term": "Column of the model: the constant (Intercept) or a predictor.",
    "term2": "The other term of a correlation.",
    "factor": "The grouping factor; residual for what is left within levels.",
    "level": "The level of the grouping factor.",
    "parameter": "sd: a standard deviation between levels; corr: a correlation of two terms.",
    "mean": "Posterior mean.",
    "median": "Posterior median.",
    "sd": "Posterior standard deviation: the uncertainty of the row's quantity.",
    "ess_bulk": "Effective number of draws for the middle of the posterior; 400 and more is good.",
    "ess_tail": "The same for its tails.",
    "r_hat": "Agreement of the chains; 1 is perfect, above 1.01 is not trusted.",
    "method": "How the estimate beside the posterior was made.",
    "estimate": "The estimate of that method.",
    "se": "Standard error.",
    "n": "Rows.",
    "own_estimate": "What the level's own rows say alone.",
    "partial_pooling": "What the partially pooled model says of the level.",
    "population": "The average level of the partially pooled model, towards which levels are pulled.",
    "complete_pooling": "One value for all levels.",
    "pooling_factor": "Share of the way to the population that a level is pulled: 0 not at all, "
    "1 all the way.",
    "posterior_mean": "Posterior mean of the level's deviation from the population.",
    "posterior_sd": "Posterior standard deviation of that deviation.",
    "mcse": "Monte Carlo error of the posterior mean.",
    "blup": "Best linear unbiased prediction of the same deviation, at the REML estimates.",
    "blup_se": "Its standard error, taking the variances for known.",
    "difference": "Posterior mean less BLUP.",
    "due_to_coefficient_prior": "Part of the difference that the priors of the fixed effects make.",
    "due_to_variances": "Part of it that the uncertainty and the priors of the variances make.",
    "rank": "Place of the model, 0 the best.",
    "elpd": "Expected log predictive density of left-out data; higher is better.",
    "p": "Effective number of parameters.",
    "elpd_diff": "elpd less that of the best model.",
    "dse": "Standard error of that difference.",
    "p_worse": "Probability that the model predicts worse than the best one.",
    "diag_diff": "Why the difference is not to be trusted, where it is not.",
    "diag_elpd": "Why the elpd is not to be trusted, where it is not.",
    "weight": "Weight of the model in the best mixture of all of them (stacking).",
    "warning": "Whether importance sampling warned; such rows were scored exactly.",
    "note": "What to know of the row.",
    "severity": "problem: do not rely on the result before it is solved; warning: may change a "
    "conclusion; note: good to know.",
    "code": "Name of the finding; the documentation has a paragraph on each.",
    "about": "The model that the finding is about.",
    "share": "Share of rows.",
    "expected": "What is expected where the model is right.",
    "role": "What the column does in the model.",
}


def meaning(name: str) -> str:
    """What a column means; empty where its name has to do."""
    bound = re.fullmatch(r"(?:(\w+)_)?(eti|hdi|ci)([\d.]+)_(lb|ub)", name)
    if bound is None:
        return GLOSSARY.get(name, "")
    of, kind, percent, side = bound.groups()
    of_what = f" of {of}" if of else ""
    return f"{_SIDES[side]} bound of the {percent} % {_KINDS[kind]} interval{of_what}."


_SIDES = {"lb": "Lower", "ub": "Upper"}
_KINDS = {"eti": "equal-tailed", "hdi": "highest-density", "ci": "confidence"}
