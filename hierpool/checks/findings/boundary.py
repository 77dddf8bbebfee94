"""Standard deviations and correlations on the boundary, and those that the prior determines.

The optimum and the posterior are reported together: where the REML estimate is zero, the posterior
shows how much of it lies near zero. Standard deviations are compared with the residual one in the
units of the response: that of a slope is multiplied by the spread of its column.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy import special

from hierpool.algebra.correlated.residuals import mean_variance
from hierpool.algebra.identified import not_identified_text
from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.checks.sensitivity import sensitivity
from hierpool.core.coding import Coding
from hierpool.core.design import Design
from hierpool.core.findings import Finding, Severity
from hierpool.core.fitted import Optimum, Posterior
from hierpool.core.group_nouns import nouns
from hierpool.core.results import pair_positions
from hierpool.core.text import capital, joined, short
from hierpool.core.theta import Theta

SMALL_SD_RATIO = 0.1  # residual sds below which levels are as good as alike in a term
NOT_EXCLUDED = 0.05  # posterior probability from which something is not excluded
IN_FAVOUR = (
    3.0  # odds of next to nothing, over those of the prior, from which the data speak for it
)
NEAR_ONE_CORRELATION = 0.9  # size of a correlation from which it is next to one
MORE_THAN_DATA = 0.5  # posterior variance, of the prior's, from which the prior says more
FAR_OUT = 0.01  # prior probability beyond the posterior median from which the two disagree
CONSTANT = "Intercept"
_INSIDE = 1e-12  # probabilities are kept this far from 0 and 1


class SdPrior(Protocol):
    """The prior of one standard deviation."""

    @property
    def distribution(self) -> Any:
        """As in scipy; None where the sds of a block have one prior together."""

    def log_density_as_stated(self, value: np.ndarray) -> np.ndarray:
        """Log density on the scale on which the prior was stated."""


class GroupTermPart(Protocol):
    """The part of theta of one block of terms, with its priors."""

    @property
    def factor(self) -> str:
        """Whose levels vary."""

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of its columns."""

    @property
    def columns(self) -> slice:
        """Where they stand in the factor's."""

    @property
    def coding(self) -> Coding:
        """The coordinates in which the priors are stated."""

    @property
    def sd(self) -> Sequence[SdPrior]:
        """Priors of its standard deviations."""

    @property
    def sd_index(self) -> np.ndarray:
        """Shape (q,): which of them each term has."""

    def sds(self, theta: Theta) -> np.ndarray:
        """Shape (K, q): draws of the standard deviation of each term."""


class Priors(Protocol):
    """Priors of the variance parameters."""

    @property
    def sigma(self) -> SdPrior | None:
        """Of the residual sd; None where those of the rows are known."""

    @property
    def group_terms(self) -> Sequence[GroupTermPart]:
        """Of the blocks of terms that vary."""


class WithPriors(IntegratedPosterior, Protocol):
    """A posterior beside its priors."""

    @property
    def priors(self) -> Priors:
        """What it was drawn under."""


@dataclass(frozen=True)
class Spread:
    """Draws of one standard deviation in the coordinates of its prior.

    Attributes
    ----------
    factor, term
        Whose it is.
    prior
        With ``distribution.cdf``.
    sd, relative
        Shape (K,): the draws, and what they contribute to the response in residual sds.
    """

    factor: str
    term: str
    prior: SdPrior
    sd: np.ndarray
    relative: np.ndarray

    @property
    def share_small(self) -> float:
        """Posterior probability of next to nothing."""
        return float((self.relative < SMALL_SD_RATIO).mean())

    @property
    def favours_small(self) -> bool:
        """Whether the data raise the odds of next to nothing threefold; likelier than not, under decov.

        By more than two Monte Carlo errors, so that not the seed decides.
        """
        share = self.share_small
        share -= 2 * math.sqrt(share * (1 - share) / self.relative.size)
        if self.prior.distribution is None:
            return share > 1 / 2
        limit = SMALL_SD_RATIO * float(np.median(self.sd / np.maximum(self.relative, _INSIDE)))
        before = float(self.prior.distribution.cdf(limit))
        return share * (1 - before) > IN_FAVOUR * before * (1 - share)

    @property
    def name(self) -> str:
        """Words for a sentence."""
        return f"the sd of {self.term} between {nouns(self.factor)}"


def spreads(fit: WithPriors) -> list[Spread]:
    """Every standard deviation of a posterior; none unless it pools partially."""
    found = []
    noise = np.sqrt(mean_variance(fit.design, fit.theta.sigma, fit.residual_parameters))
    for part in fit.priors.group_terms:
        Z, sds = fit.design.group(part.factor).Z[:, part.columns], part.sds(fit.theta)
        for k, (term, at) in enumerate(zip(part.terms, part.sd_index, strict=True)):
            centred = part.coding.has_constant
            square = np.average(Z[:, k] ** 2, weights=fit.design.row_counts)
            size = part.coding.scales[k] if centred else np.sqrt(square)
            sd = sds[:, k]
            found.append(Spread(part.factor, term, part.sd[at], sd, sd * size / noise))
    return found


def singular(blup: Optimum) -> Iterator[Finding]:
    """An optimum on the boundary, without a posterior."""
    if blup.status.word == "singular":
        meaning = f"{_known(blup)} Use the posterior, model.fit(), or a model without the term."
        yield Finding("singular-reml", "warning", _seen(blup), meaning)


def unidentified(blup: Optimum) -> Iterator[Finding]:
    """Variances that are not identified by the data, without a posterior."""
    if blup.status.word == "not identified":
        yield _unidentified(f"{capital(blup.status.sentence)}")


def unidentified_rows(design: Design) -> Iterator[Finding]:
    """Variances that this design cannot identify, whatever the response."""
    if text := not_identified_text(design):
        yield _unidentified(capital(text))


def unidentified_posterior(fit: WithPriors, blup: Optimum | None) -> Iterator[Finding]:
    """Variances that the data do not identify, and how much of their posterior is prior."""
    if blup is not None and blup.status.word == "not identified":
        text = blup.status.sentence
    else:
        text = not_identified_text(fit.design)
    if not text:
        return
    left = _left_of_priors(fit)
    shares = joined([f"{_percent(share)} for {name}" for name, share in left.items()])
    prior = f" The posterior keeps this share of the prior variance: {shares}." if shares else ""
    table = pd.DataFrame({"variance_left": left}).rename_axis("quantity")
    yield _unidentified(f"{capital(text)}{prior}", table)


def _unidentified(text: str, evidence: pd.DataFrame | None = None) -> Finding:
    meaning = (
        "The data do not determine how the variation is split. BLUPs, shrinkage, the ICC and "
        "predictions of known groups depend on the prior, or on where the optimizer stopped."
    )
    return Finding("not-identified", "warning", text, meaning, evidence=evidence)


def _left_of_priors(fit: WithPriors) -> dict[str, float]:
    """Variance of each sd's posterior on the scale on which its prior is standard normal."""
    draws = {s.name: (s.prior, s.sd) for s in spreads(fit)}
    if fit.priors.sigma is not None:
        draws["the residual sd"] = (fit.priors.sigma, fit.theta.sigma)
    return {
        name: float(_on_normal_scale(prior, sd).var())
        for name, (prior, sd) in draws.items()
        if prior.distribution is not None
    }


def _on_normal_scale(prior: SdPrior, sd: np.ndarray) -> np.ndarray:
    """Draws of an sd as quantiles of a standard normal that has the place of its prior."""
    below = prior.distribution.cdf(sd)
    return np.asarray(special.ndtri(np.clip(below, _INSIDE, 1 - _INSIDE)))


def boundary(fit: WithPriors, blup: Optimum | None) -> Iterator[Finding]:
    """An optimum on the boundary, or a variance that may be zero."""
    every = spreads(fit)
    small = [s for s in every if s.share_small >= NOT_EXCLUDED]
    alike = [s for s in small if s.favours_small]
    if blup is not None and blup.status.word == "singular":
        posterior = (
            f"The posterior probability of {_next_to_nothing(fit.design)} is "
            f"{joined([f'{_percent(s.share_small)} for {s.name}' for s in small])}."
            if small
            else f"In the posterior, {_next_to_nothing(fit.design)} is very unlikely."
        )
        # Where the data do not speak for zero, who uses the posterior has nothing to do.
        meaning = (
            f"{_known(blup)} Use the posterior, and compare with a model without the term."
            if alike
            else f"{_known(blup)} The posterior does not: use its numbers."
        )
        severity: Severity = "warning" if alike else "note"
        text, table = f"{_seen(blup)} {posterior}", _table(fit, every, blup)
        yield Finding("singular-reml", severity, text, meaning, evidence=table)
        return
    if alike:
        said = [f"{_percent(s.share_small)} for {s.name}" for s in alike]
        text = (
            "The data speak for little or no variation between groups: the posterior probability of "
            f"{_next_to_nothing(fit.design)} is {joined(said)}."
        )
        meaning = (
            "Do not read much into differences between groups in this term. hp.compare shows whether "
            "a model without it predicts as well."
        )
        yield Finding(
            "variance-near-zero", "note", text, meaning, evidence=_table(fit, every, blup)
        )


def _seen(blup: Optimum) -> str:
    """What is on the boundary, and not how the likelihood was computed."""
    return f"{capital(blup.status.sentence).partition('. ')[0].rstrip('.')}."


def _known(blup: Optimum) -> str:
    """What an estimate on the boundary does to what is computed from it."""
    return f"{blup.method} estimates for groups, standard errors and tests treat it as known."


def _next_to_nothing(design: Design) -> str:
    """In words, an sd that is as good as zero."""
    if design.family is None:
        return "an sd below a tenth of the residual sd"
    if design.family.is_on_response_scale:
        return "an sd below a tenth of the scale of the residuals"
    return f"an sd below {SMALL_SD_RATIO:g} on the {design.family.link} scale"


def correlations(fit: Posterior, _: object) -> Iterator[Finding]:
    """A correlation that is close to one in most of the posterior.

    That of an intercept is taken at the mean of the predictor: far from its data every intercept
    follows the slope.
    """
    for group in fit.design.schema.groups:
        if not group.has_correlation:
            continue
        draws = fit.variable(f"corr_{group.factor}").to_numpy()
        sds = fit.variable(f"sd_{group.factor}").to_numpy()
        Z = fit.design.group(group.factor).Z
        middle = np.average(Z, axis=0, weights=fit.design.row_counts)
        for i, j in pair_positions(group):
            first, second = (i, j) if group.terms[i] == CONSTANT else (j, i)
            at = middle[second] if group.terms[first] == CONSTANT else 0.0
            pair = sds[..., first], sds[..., second], draws[..., i, j]
            values = _correlation_at(at, *pair).ravel()
            if (share := float((np.abs(values) > NEAR_ONE_CORRELATION).mean())) > 0.5:
                sign = "1" if np.median(values) > 0 else "-1"
                text = (
                    f"The correlation of {group.terms[i]} and {group.terms[j]} between "
                    f"{nouns(group.factor)} is close to {sign}: its size exceeds "
                    f"{NEAR_ONE_CORRELATION:g} with probability {share:.2f}."
                )
                slope = next((t for t in (group.terms[i], group.terms[j]) if t != CONSTANT), "")
                meaning = (
                    "The two terms vary together, so the data show one difference between "
                    f"{nouns(group.factor)}, not two. Interpret predictions, not the two sds. A model "
                    f"without the varying {slope} may fit as well; check with hp.compare."
                )
                yield Finding("correlation-near-one", "warning", text, meaning)


def _correlation_at(
    x: float, intercept: np.ndarray, slope: np.ndarray, correlation: np.ndarray
) -> np.ndarray:
    """Correlation of slopes and lines at x, from the sds and the correlation at zero."""
    covariance = correlation * intercept * slope
    variance = intercept**2 + 2 * x * covariance + (x * slope) ** 2
    scale = np.sqrt(np.maximum(variance, np.finfo(float).tiny)) * slope
    return np.asarray((covariance + x * slope**2) / np.maximum(scale, np.finfo(float).tiny))


def priors(fit: WithPriors, _: object) -> Iterator[Finding]:
    """Standard deviations that the prior determines, or whose prior conflicts with the data.

    On the scale on which its prior is standard normal, the posterior of an sd has half the prior's
    variance where prior and data say equally much (Schad, Betancourt, Vasishth 2021, Psychol.
    Methods 26, 103-126: posterior contraction). A prior that gives 1 % to what lies beyond the
    posterior median disagrees with the data (Box 1980, J. R. Stat. Soc. A 143, 383-430).
    """
    for spread in spreads(fit):
        if spread.prior.distribution is None:
            continue  # decov is a prior of all sds together
        below = spread.prior.distribution.cdf(spread.sd)
        if (left := float(_on_normal_scale(spread.prior, spread.sd).var())) > MORE_THAN_DATA:
            text = (
                f"The data say little about {spread.name}: the posterior keeps {_percent(left)} of "
                f"the variance of the prior {spread.prior}."
            )
            meaning = (
                "Shrinkage and predictions of new groups depend on the prior. Report this, or choose "
                "a prior that you can justify. hp.sensitivity(fit) shows what else depends on it."
            )
            yield Finding(
                "prior-dominates", "warning", text, meaning, evidence=_scaled(fit, spread)
            )
        beyond = 1 - float(np.median(below))
        if beyond < FAR_OUT:
            text = (
                f"The prior and the data disagree about {spread.name}: the posterior median is "
                f"{short(np.median(spread.sd))}, and the prior {spread.prior} gives larger values a "
                f"probability of {beyond:.2g}."
            )
            meaning = (
                "The estimate is a compromise between the two. Check the units of the prior, or use a "
                "wider one."
            )
            yield Finding(
                "prior-against-data", "warning", text, meaning, evidence=_scaled(fit, spread)
            )


def _scaled(fit: Posterior, spread: Spread) -> pd.DataFrame:
    """What the prior's power moves: the rows of ``hp.sensitivity`` for this sd and this prior."""
    name = f"sd_{spread.factor}[{spread.term}]"
    draws = spread.sd.reshape(fit.n_draws)
    density = spread.prior.log_density_as_stated(draws)
    found = sensitivity("", {name: draws}, {f"prior of {name}": density}, lambda *_: None)
    return found.table.drop(columns="refitted")


def _table(fit: Posterior, every: list[Spread], blup: Optimum | None) -> pd.DataFrame:
    """Optimum and posterior of each sd, in the user's coding, and the probability of next to none."""
    rows = []
    for spread in every:
        group = fit.design.group(spread.factor)
        k = group.terms.index(spread.term)
        draws = fit.variable(f"sd_{spread.factor}").to_numpy()[..., k]
        rows.append(
            {
                "factor": spread.factor,
                "term": spread.term,
                "optimum": np.nan if blup is None else blup.estimate.of(spread.factor).sd[k],
                "median": np.median(draws),
                "p_small": spread.share_small,
            }
        )
    return pd.DataFrame(rows).set_index(["factor", "term"])


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
