"""SAS code for PROC GLIMMIX."""

from __future__ import annotations

from hierpool.core.families.family import Family
from hierpool.report.translation.formula_text import factor_parts
from hierpool.report.translation.sas_sheet import SasSheet
from hierpool.report.translation.wording import Wording, Written, written

_IN_SAS = {
    "bernoulli": "binary",
    "ordinal": "multinomial",
    "negbinomial": "negbinomial",
    "student": "tcentral",
}


def proc_glimmix(wording: Wording, family: Family) -> Written:
    """SAS code: PROC GLIMMIX by quadrature, where there is one factor."""
    sheet = SasSheet(wording)
    spec = wording.spec
    response = sheet.piece(spec.response, "response")
    factors = list(dict.fromkeys(part for t in spec.groups for part in factor_parts(t.factor)))
    fixed, constant = sheet.fixed()
    random = [sheet.random(term, own) for term, own in wording.bars if spec.pooling == "partial"]
    offset = ""
    if spec.offsets:
        total = " + ".join(sheet._expression(o.removeprefix("offset(")[:-1]) for o in spec.offsets)
        sheet.made["offset_of_row"], offset = total, " offset=offset_of_row"
    method = "quad" if len(spec.groups) == 1 and random else "laplace"
    left = f"{response}/{sheet.name(spec.trials)}" if spec.trials else response
    left += "(event=last)" if family.name == "bernoulli" else ""
    dist = _IN_SAS.get(family.name, family.name)
    link = {"ordinal": f"cum{family.link}", "student": "identity"}.get(family.name, family.link)
    lines = [f"proc glimmix data={'fitted' if sheet.made else 'data'} method={method};"]
    classes = [*(sheet.name(f) for f in factors), *sheet.classes]
    if classes:
        lines.append(f"  class {' '.join(dict.fromkeys(classes))};")
    none = "" if constant or family.has_thresholds else " noint"
    effects = " ".join(fixed)
    lines.append(f"  model {left} = {effects} /{none} dist={dist} link={link}{offset} solution;")
    if spec.residual.column:
        sheet.notes.append("FREQ counts a row as often as its weight, which must be whole.")
        lines.append(f"  freq {sheet.name(spec.residual.column)};")
    lines += [*random, "run;"]
    if family.has_thresholds:
        sheet.notes.append("The signs of the effects are reversed: SAS models the lower ratings.")
    return written("SAS PROC GLIMMIX", "\n".join([*sheet.data_step(), *lines]), sheet.notes)
