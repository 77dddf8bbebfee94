"""R code for lme4, and for lm and lmList where nothing is pooled partially."""

from __future__ import annotations

from collections.abc import Iterator

from hierpool.report.translation.r import double_bar_notes, in_r, r_bar, r_notes
from hierpool.report.translation.wording import Wording, Written, related_notes, written


def lme4(wording: Wording) -> Written:
    """R code for lme4; for ``lm`` and ``lmList`` where there is no pooling to estimate."""
    spec, notes = wording.spec, [*r_notes(wording)]
    weights = f", weights = {spec.residual.column}" if spec.residual.structure == "weights" else ""
    right = in_r(spec.without_bars)
    if spec.residual.structure == "known_se":
        notes.append(
            "lme4 always estimates a residual standard deviation, so this code fits a different "
            "model. metafor's rma.mv takes known standard errors."
        )
    if spec.pooling == "complete":
        return written("lme4", f"lm({in_r(spec.response)} ~ {right}, data = data{weights})", notes)
    if spec.pooling == "none":
        (term,) = spec.groups
        notes += _common_notes(wording)
        text = f"lmList({in_r(spec.response)} ~ {in_r(term.columns)} | {term.factor}, data = data"
        notes.append(
            "lmList fits least squares to each group, with a common residual standard deviation "
            "(pool = TRUE, the default). It has no priors, so some coefficients may not be "
            "estimable."
        )
        return written("lme4", f"{text}{weights})", notes)
    bars = " + ".join(r_bar(term) for term, _ in wording.bars)
    notes += double_bar_notes(wording)
    notes += related_notes(
        spec,
        "lmer takes the groups of {factor} as independent; pedigreemm takes a pedigree of them.",
    )
    code = f"lmer({in_r(spec.response)} ~ {right} + {bars}, data = data{weights}, REML = TRUE)"
    return written("lme4", code, notes)


def _common_notes(wording: Wording) -> Iterator[str]:
    common = [t for t in wording.population if t != "1"]
    if common:
        yield (
            f"{', '.join(common)} does not vary within groups and has a common coefficient here; "
            "lmList drops it or fails."
        )
