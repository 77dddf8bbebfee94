"""A methods paragraph for a paper, its references, and how to reproduce the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from hierpool.core.design import Design
from hierpool.core.group_nouns import counted, nouns
from hierpool.core.text import joined
from hierpool.report.model_words import family_in_words
from hierpool.report.parts import DataTable, Listing, Prose, Section
from hierpool.report.residual_words import residual_in_words

REFERENCES = {
    "gelman-hill": "Gelman A, Hill J (2007). Data Analysis Using Regression and "
    "Multilevel/Hierarchical Models. Cambridge University Press.",
    "henderson": "Henderson CR (1975). Best linear unbiased estimation and prediction under a "
    "selection model. Biometrics 31, 423-447.",
    "reml": "Patterson HD, Thompson R (1971). Recovery of inter-block information when block "
    "sizes are unequal. Biometrika 58, 545-554.",
    "lkj": "Lewandowski D, Kurowicka D, Joe H (2009). Generating random correlation matrices "
    "based on vines and extended onion method. J. Multivar. Anal. 100, 1989-2001.",
    "loo": "Vehtari A, Gelman A, Gabry J (2017). Practical Bayesian model evaluation using "
    "leave-one-out cross-validation and WAIC. Stat. Comput. 27, 1413-1432.",
    "psis": "Vehtari A, Simpson D, Gelman A, Yao Y, Gabry J (2024). Pareto smoothed importance "
    "sampling. J. Mach. Learn. Res. 25(72), 1-58.",
    "elpd": "Sivula T, Magnusson M, Matamoros AA, Vehtari A (2020). Uncertainty in Bayesian "
    "leave-one-out cross-validation based model comparison. arXiv:2008.10296.",
    "barr": "Barr DJ, Levy R, Scheepers C, Tily HJ (2013). Random effects structure for "
    "confirmatory hypothesis testing: Keep it maximal. J. Mem. Lang. 68, 255-278.",
    "matuschek": "Matuschek H, Kliegl R, Vasishth S, Baayen H, Bates D (2017). Balancing Type I "
    "error and power in linear mixed models. J. Mem. Lang. 94, 305-315.",
    "Kenward-Roger": "Kenward MG, Roger JH (1997). Small sample inference for fixed effects from "
    "restricted maximum likelihood. Biometrics 53, 983-997.",
    "Satterthwaite": "Satterthwaite FE (1946). An approximate distribution of estimates of variance "
    "components. Biometrics Bull. 2, 110-114.",
    "rhat": "Vehtari A, Gelman A, Simpson D, Carpenter B, Bürkner PC (2021). Rank-normalization, "
    "folding, and localization: an improved R-hat for assessing convergence of MCMC. Bayesian "
    "Anal. 16, 667-718.",
    "nuts": "Hoffman MD, Gelman A (2014). The No-U-Turn sampler. J. Mach. Learn. Res. 15, "
    "1593-1623.",
    "pymc": "Abril-Pla O, Andreani V, Carroll C, et al. (2023). PyMC: a modern, and comprehensive "
    "probabilistic programming framework in Python. PeerJ Comput. Sci. 9, e1516.",
}
_CITED = {
    "gelman-hill": "Gelman and Hill 2007", "henderson": "Henderson 1975",
    "reml": "Patterson and Thompson 1971", "lkj": "Lewandowski et al. 2009",
    "loo": "Vehtari et al. 2017", "psis": "Vehtari et al. 2024", "elpd": "Sivula et al. 2020",
    "barr": "Barr et al. 2013", "matuschek": "Matuschek et al. 2017",
    "Kenward-Roger": "Kenward and Roger 1997", "Satterthwaite": "Satterthwaite 1946",
    "rhat": "Vehtari et al. 2021", "nuts": "Hoffman and Gelman 2014",
    "pymc": "Abril-Pla et al. 2023",
}  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """The facts of the methods paragraph.

    Attributes
    ----------
    design
        Of the partially pooled model.
    groups
        The grouping factors.
    models
        Names of the models that were compared.
    selected
        Name of the recommended model, which the tables describe.
    why
        Why it is recommended, in sentences.
    engines
        Names of the engines that made the posteriors: ``"exact"``, ``"nuts"``.
    chains, draws
        Of each fit.
    seed
        Of all of them.
    df_method
        Of REML's F tests: ``"Kenward-Roger"`` or ``"Satterthwaite"``.
    interval
        Kind and size of the intervals, e.g. ``"95 % equal-tailed"``.
    versions
        Package -> version.
    has_tests
        Whether likelihood ratio tests were to be had.
    structures
        Residual structures that were compared, by name.
    has_row_scores
        Whether single observations were left out.
    """

    design: Design
    groups: Sequence[str]
    models: Sequence[str]
    selected: str
    why: str
    engines: Sequence[str]
    chains: int
    draws: int
    seed: int
    df_method: str
    interval: str
    versions: Mapping[str, str]
    has_tests: bool = True
    structures: Sequence[str] = ()
    has_row_scores: bool = True


def methods(facts: Facts) -> tuple[str, str]:
    """The paragraph, and its references one a line."""
    cited: list[str] = []
    paragraph = " ".join(
        [*_models(facts, cited), *_posterior(facts, cited), *_scores(facts, cited)]
    )
    references = "\n".join(REFERENCES[key] for key in sorted(cited, key=_CITED.__getitem__))
    return paragraph, references


def _cite(keys: str, cited: list[str]) -> str:
    named = keys.split()
    cited += [key for key in named if key not in cited]
    return f"({'; '.join(_CITED[key] for key in named)})"


def _models(facts: Facts, cited: list[str]) -> list[str]:
    spec, design = facts.design.spec, facts.design
    predictors = [name for name in design.predictors if name not in facts.groups]
    on = f" on {', '.join(predictors)}" if predictors else ""
    out = [
        f"We analysed {design.n} observations of {spec.response} from "
        f"{joined(counted(design.groupings[f].n_levels, f) for f in facts.groups)} with "
        f"{len(facts.models)} {_kind(design)}{on}, from complete to no pooling "
        f"{_cite('gelman-hill', cited)}.",
        f"Results are from the model {spec.shown}.",
    ]
    if spec.residual.structure == "family" and spec.residual.column:
        out.append(f"{spec.residual.column} weighted the log likelihood of the observations.")
    if spec.residual.structure == "weights":
        out.append(f"Residual variances were inversely proportional to {spec.residual.column}.")
    if spec.residual.structure == "known_se":
        out.append(f"Residual standard deviations were taken as known ({spec.residual.column}).")
    structure = residual_in_words(spec.residual)
    out += [structure] if structure else []
    if facts.structures:
        out.append(
            f"Residual structures ({'; '.join(facts.structures)}) were compared at the largest random "
            "effects, and in their place where data cannot tell the two apart, by -2 log "
            "likelihood, AIC, AICC, BIC and leave-one-out cross-validation. Of those that did not "
            f"predict left-out {nouns(facts.groups[0])} clearly worse than the best, and that no "
            "likelihood ratio test rejected (p < 0.01), the one with the fewest parameters was kept."
        )
    return out


def _kind(design: Design) -> str:
    """The regression models of this response."""
    if design.family is None:
        return "Gaussian regression models"
    return f"regression models ({family_in_words(design.family)})"


def _posterior(facts: Facts, cited: list[str]) -> list[str]:
    sds = "standard deviations had half-Student-t priors with 4 degrees of freedom"
    corr = ""
    if any(group.has_correlation for group in facts.design.groups):
        corr = f". Correlations had uniform priors {_cite('lkj', cited)}"
    family = facts.design.family
    wide, scaled = "wide", "both were scaled by the data"
    if family is not None and not family.is_on_response_scale:
        wide = "weakly informative"
        scaled = f"both were on the {family.link} scale, for predictors divided by their sd"
    out = [
        f"Unless other priors are listed, coefficients had {wide} normal priors and {sds}; "
        f"{scaled}{corr}."
    ]
    draws = f"{facts.chains} chains of {facts.draws} draws"
    if "exact" in facts.engines and facts.design.family is not None:
        out.append(
            "Variance parameters and common coefficients were drawn by adaptive importance sampling, "
            "with the effects of the groups integrated out by adaptive quadrature; these "
            f"effects were then drawn from their conditional distribution ({draws})."
        )
    elif "exact" in facts.engines:
        out.append(
            "Variance parameters were drawn from their marginal posterior, with the coefficients "
            "integrated out, by an adaptive independence sampler; coefficients were then drawn from "
            f"their conditional normal distribution ({draws})."
        )
    if "nuts" in facts.engines:
        which = "All models" if list(facts.engines) == ["nuts"] else "Other models"
        out.append(f"{which} were sampled with NUTS in PyMC {_cite('nuts pymc', cited)} ({draws}).")
    out.append(
        f"Convergence was assessed with rank-normalised R-hat and ESS {_cite('rhat', cited)}."
    )
    out.append(f"Posterior intervals are {facts.interval}.")
    if facts.df_method in REFERENCES:
        out.append(
            f"Terms were tested in the same model fitted by REML {_cite('reml', cited)}, with F tests "
            f"and degrees of freedom by the {facts.df_method} method "
            f"{_cite(facts.df_method, cited)}."
        )
    return out


def _scores(facts: Facts, cited: list[str]) -> list[str]:
    packages = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    rows = "left-out observations and of " if facts.has_row_scores else ""
    return [
        f"Models were compared by the expected log predictive density of {rows}"
        f"left-out {joined(map(nouns, facts.groups))}, with all coefficients integrated out. We used "
        f"Pareto-smoothed importance sampling {_cite('loo psis', cited)}, and exact refits where that "
        "was unreliable.",
        f"Differences below 4 or below two standard errors were considered unclear "
        f"{_cite('elpd', cited)}.",
        "The random effects were simplified one at a time from the largest model "
        f"{_cite('barr matuschek', cited)}: {_rule(facts.has_tests)} "
        "Intervals do not count this selection.",
        f"Software: {packages}.",
    ]


def _rule(has_tests: bool) -> str:
    """By what a term of the random effects stays."""
    if not has_tests:
        return (
            "a term was kept where leave-one-out cross-validation was clearly worse without it, and "
            "removed where it was better; where neither held, the larger model was kept."
        )
    return (
        "a term was removed where the likelihood ratio test had p > 0.10 and kept where p < 0.01, "
        "unless leave-one-out cross-validation clearly disagreed; where neither held, the larger model "
        "was kept."
    )


def reproduce(code: str, shell: str, facts: Facts) -> Section:
    """Code, seed and versions that reproduce the numbers."""
    versions = pd.DataFrame(
        {"version": list(facts.versions.values())},
        index=pd.Index(list(facts.versions), name="package"),
    )
    text = (
        f"The same data, seed ({facts.seed}) and versions give the same draws on the same kind of "
        "machine. To check that the data are the same, compare study.design.fingerprint with "
        f"{facts.design.fingerprint}."
    )
    listings = [Listing("Python", code)]
    if shell:
        listings.append(Listing("Command line", shell))
    return Section(
        "reproduce",
        "How to reproduce this report",
        [Prose([text]), *listings, DataTable("versions", "Versions", versions, shown=30)],
    )
