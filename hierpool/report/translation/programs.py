"""A model in the syntax of the programs that fit it."""

from __future__ import annotations

from hierpool.core.families.family import Family
from hierpool.report.translation.brms import brms, brms_of_family
from hierpool.report.translation.glmm import glmm
from hierpool.report.translation.glmmtmb import location_scale
from hierpool.report.translation.lme4 import lme4
from hierpool.report.translation.nlme import nlme
from hierpool.report.translation.proc_glimmix import proc_glimmix
from hierpool.report.translation.proc_mixed import proc_mixed
from hierpool.report.translation.r import WITH_EXTRA_ZEROS
from hierpool.report.translation.wording import Wording, Written


def translate(wording: Wording) -> tuple[Written, ...]:
    """The model for lme4, for brms and for SAS PROC MIXED; of a family glmmTMB and PROC GLIMMIX."""
    if wording.spec.family is not None:
        return of_family(wording, wording.spec.family)
    if wording.spec.residual.scale:
        return location_scale(wording), brms(wording), proc_mixed(wording)
    if wording.spec.residual.is_structured:
        return nlme(wording), brms(wording), proc_mixed(wording)
    return lme4(wording), brms(wording), proc_mixed(wording)


def of_family(wording: Wording, family: Family) -> tuple[Written, ...]:
    """R code for lme4 or glmmTMB (ordinal: the package ordinal) and for brms, and PROC GLIMMIX."""
    found = [glmm(wording, family), brms_of_family(wording, family)]
    if not family.name.startswith(WITH_EXTRA_ZEROS):
        found.append(proc_glimmix(wording, family))
    return tuple(found)
