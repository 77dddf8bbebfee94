"""R code for glmmTMB, of Gaussian responses whose residual sd differs between groups."""

from __future__ import annotations

from hierpool.report.translation.r import (
    double_bar_notes,
    in_r,
    r_bar,
    r_notes,
)
from hierpool.report.translation.residuals import in_glmmtmb
from hierpool.report.translation.wording import Wording, Written, written


def location_scale(wording: Wording) -> Written:
    """R code for glmmTMB, whose residual sds may differ between groups at random."""
    spec = wording.spec
    bars = [r_bar(term) for term, _ in wording.bars]
    argument, notes = in_glmmtmb(spec.residual)
    formula = f"{in_r(spec.response)} ~ {' + '.join([in_r(spec.without_bars), *bars])}"
    code = f"glmmTMB({formula}, {argument}, data = data)"
    return written("glmmTMB", code, [*r_notes(wording), *double_bar_notes(wording), *notes])
