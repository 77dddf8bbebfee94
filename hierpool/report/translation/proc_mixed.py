"""SAS code for PROC MIXED."""

from __future__ import annotations

from hierpool.report.translation.formula_text import factor_parts
from hierpool.report.translation.sas_sheet import SasSheet
from hierpool.report.translation.wording import Wording, Written, related_notes, written


def proc_mixed(wording: Wording) -> Written:
    """SAS code: a DATA step where columns have to be made, then PROC MIXED."""
    sheet = SasSheet(wording)
    spec = wording.spec
    response = sheet.response()
    factors = list(dict.fromkeys(part for t in spec.groups for part in factor_parts(t.factor)))
    fixed, constant = sheet.fixed()
    classes = [*(sheet.name(f) for f in factors), *sheet.classes]
    random = [sheet.random(term, own) for term, own in wording.bars if spec.pooling == "partial"]
    repeated = sheet.repeated() if spec.residual.is_structured else []
    classes += [*sheet.classes]
    residual = sheet.residual()
    lines = [f"proc mixed data={'fitted' if sheet.made else 'data'} method=reml;"]
    if random:
        sheet.notes.append(
            "Degrees of freedom are those of containment by default; ddfm=satterthwaite or ddfm=kr in "
            "the MODEL statement gives those of the tables here."
        )
    if spec.residual.structure == "known_se":
        lines[0] = lines[0].replace("method=reml", "method=reml noprofile")
    if classes:
        lines.append(f"  class {' '.join(dict.fromkeys(classes))};")
    options = "solution" if constant else "noint solution"
    lines.append(f"  model {response} = {' '.join(fixed)} / {options};".replace("=  /", "= /"))
    sheet.notes += related_notes(
        spec, "PROC MIXED takes the groups of {factor} as independent here; ASReml relates them."
    )
    lines += [*random, *repeated, *residual, "run;"]
    return written("SAS PROC MIXED", "\n".join([*sheet.data_step(), *lines]), sheet.notes)
