"""R code for nlme, whose residuals may have a structure."""

from __future__ import annotations

from hierpool.report.translation.r import in_r, r_notes
from hierpool.report.translation.residuals import in_nlme
from hierpool.report.translation.wording import Wording, Written, written


def nlme(wording: Wording) -> Written:
    """R code for nlme, whose residuals may have a structure: ``gls`` without groups, else ``lme``."""
    spec = wording.spec
    bars = [(term, in_r(term.columns)) for term, _ in wording.bars]
    is_class = spec.residual.spread in wording.categories
    said, notes = in_nlme(spec.residual, bars, is_class=is_class)
    function = "lme" if bars else "gls"
    left = f"{in_r(spec.response)} ~ {in_r(spec.without_bars)}"
    code = ", ".join([left, *said, "data = data", 'method = "REML"'])
    return written("nlme", f"{function}({code})", [*r_notes(wording), *notes])
