"""R code for brms."""

from __future__ import annotations

from hierpool.core.errors import listed
from hierpool.core.families.family import Family
from hierpool.core.spec import GroupTerm
from hierpool.report.translation.r import in_r, r_bar, r_notes, right_of_family
from hierpool.report.translation.residuals import in_brms
from hierpool.report.translation.wording import Wording, Written, related_notes, written

_IN_BRMS = {"ordinal": "cumulative", "beta": "Beta", "gamma": "Gamma"}


def brms(wording: Wording) -> Written:
    """R code for brms."""
    spec, notes = wording.spec, [*r_notes(wording)]
    right = in_r(spec.without_bars)
    left = in_r(spec.response)
    if spec.residual.structure == "known_se":
        left += f" | se({spec.residual.column})"
    if spec.pooling == "none":
        (term, own) = next(iter(wording.bars))
        each = [term.factor if t == "1" else f"{term.factor}:{in_r(t)}" for t in own]
        common = [in_r(t) for t in wording.population if t != "1"]
        right = " + ".join(["0", *each, *common, *map(in_r, spec.offsets)])
        notes.append(
            "brms has flat priors for these coefficients by default. Use a wide normal prior, e.g. "
            "prior(normal(0, 100), class = b), in the units of your response."
        )
    bars = [_brms_bar(term) for term, _ in wording.bars if spec.pooling == "partial"]
    beside, sigma, more = in_brms(spec.residual)
    notes += more
    formula = f"{left} ~ {' + '.join([right, *bars, *beside])}"
    if spec.residual.structure == "weights":
        sigma = ["1", *sigma, f"offset(-0.5 * log({spec.residual.column}))"]
        notes.append(
            "weights() in brms multiplies the log-likelihood of a row. For residual variances of "
            "sigma^2 / weight, as here, use a formula for sigma."
        )
    if sigma:
        formula = f"bf({formula},\n       sigma ~ {' + '.join(sigma)})"
    if wording.dropped:
        notes.append(
            f"brms keeps {listed(wording.dropped)}, which cannot be estimated and which lme4 drops, as "
            "here. Their draws come from their prior alone, and the default prior is flat: give them "
            "a proper one, or make the other columns by hand."
        )
    notes += related_notes(
        spec, "A_{factor} is the relationship matrix: data2 = list(A_{factor} = ...)."
    )
    notes.append("The default priors of brms differ from those used here; set prior = to compare.")
    return written("brms", f"brm({formula}, data = data, family = gaussian())", notes)


def brms_of_family(wording: Wording, family: Family) -> Written:
    """R code for brms, of a family."""
    spec, notes = wording.spec, [*r_notes(wording)]
    said = [f"trials({in_r(spec.trials)})"] if spec.trials else []
    said += [f"weights({spec.residual.column})"] if spec.residual.column else []
    left = f"{in_r(spec.response)}{' | ' if said else ''}{' + '.join(said)}"
    name = _IN_BRMS.get(family.name, family.name)
    notes.append("The default priors of brms differ from those used here; set prior = to compare.")
    code = (
        f'brm({left} ~ {right_of_family(wording)}, data = data, family = {name}("{family.link}"))'
    )
    return written("brms", code, notes)


def _brms_bar(term: GroupTerm) -> str:
    if term.relationship is None:
        return r_bar(term)
    return f"({in_r(term.columns)} | gr({term.factor}, cov = A_{term.factor}))"
