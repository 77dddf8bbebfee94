"""A model in the syntax of lme4, brms and SAS PROC MIXED, and where they differ."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hierpool.core.errors import listed
from hierpool.core.families.family import Family
from hierpool.core.schema import Schema
from hierpool.core.spec import GroupTerm, Spec
from hierpool.report.residual_syntax import in_brms, in_glmmtmb, in_nlme, in_sas

_RENAMED = {"np.log": "log", "np.exp": "exp", "np.sqrt": "sqrt", "np.abs": "abs"}
_RENAMED |= {"np.log2": "log2", "np.log10": "log10", "np.log1p": "log1p", "C": "factor"}
_RENAMED |= {"bs": "splines::bs", "standardize": "scale"}
_SCALED_BY_R = {"center": "scale({}, scale = FALSE)"}
_OPERATORS_OF_R = {"**": "^", "//": "%/%", "%": "%%"}
_CONTRASTS_OF_R = {"SAS": "contr.SAS", "Sum": "contr.sum", "Helmert": "contr.helmert"}
_CONTRASTS_OF_R |= {"Poly": "contr.poly", "Diff": "MASS::contr.sdif"}
_BY_ORDER = re.compile(r"^C\(.*?, (?:SAS|Sum|Helmert|Poly|Diff)\b(?!.*levels=)")
_QUOTED = re.compile(r"`[^`]*`|'[^']*'|\"[^\"]*\"")
_NOT_IN_R = ("cr", "cc", "cs")
_SAS_FUNCTIONS = ("I", "log", "log2", "log10", "exp", "sqrt", "abs", "log1p")
_CALL = re.compile(r"(?P<function>(?:np\.)?[A-Za-z_]\w*)\(")
_SAS_NAME = re.compile(r"[A-Za-z_]\w{0,31}")


@dataclass(frozen=True)
class Written:
    """One model for one program.

    Attributes
    ----------
    program
        ``"lme4"``, ``"brms"`` or ``"SAS PROC MIXED"``.
    code
        What to type there.
    notes
        Where it is not the same model, and what else to know; empty where all is said.
    """

    program: str
    code: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wording:
    """A model with what its text alone does not say.

    Attributes
    ----------
    spec
        The model.
    population
        Its population terms, one by one, interactions multiplied out: ``("1", "Days")``.
    groups
        The terms of each bar in the same way; for no pooling those that each level has of its own.
    categories
        Names of the columns that are categories.
    dropped
        Names of columns that cannot be estimated.
    """

    spec: Spec
    population: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...] = ()
    categories: Collection[str] = ()
    dropped: Collection[str] = ()

    @property
    def bars(self) -> Iterator[tuple[GroupTerm, tuple[str, ...]]]:
        """Each group term with its terms."""
        return zip(self.spec.groups, self.groups, strict=True)


def wording_of(schema: Schema) -> Wording:
    """The model of a design, with the terms that its formula comes to."""
    encoder, spread = schema.encoder, schema.spec.residual.spread
    of_spread = [spread] if spread and "log_sd_slope" not in schema.residual_dims else []
    pieces = {factor: iter(every) for factor, every in encoder.groups.items()}
    return Wording(
        schema.spec,
        tuple(term for piece in encoder.population for term in _terms_of(piece)),
        tuple(_terms_of(next(pieces[term.factor])) for term in schema.spec.groups),
        (*(s.column for s in encoder.sources if s.categories is not None), *of_spread),
        tuple(schema.dropped),
    )


def _terms_of(piece: Any) -> tuple[str, ...]:
    """Terms that have a column among those of a piece."""
    chosen = set(piece.columns)
    return tuple(term for term, columns in piece.encoding.terms if chosen & set(columns))


def translate(wording: Wording) -> tuple[Written, ...]:
    """The model for lme4, for brms and for SAS PROC MIXED; of a family glmmTMB and PROC GLIMMIX."""
    if wording.spec.family is not None:
        return of_family(wording, wording.spec.family)
    if wording.spec.residual.scale:
        return location_scale(wording), brms(wording), proc_mixed(wording)
    if wording.spec.residual.is_structured:
        return nlme(wording), brms(wording), proc_mixed(wording)
    return lme4(wording), brms(wording), proc_mixed(wording)


def lme4(wording: Wording) -> Written:
    """R code for lme4; for ``lm`` and ``lmList`` where there is no pooling to estimate."""
    spec, notes = wording.spec, [*_r_notes(wording)]
    weights = f", weights = {spec.residual.column}" if spec.residual.structure == "weights" else ""
    right = _r(spec.without_bars)
    if spec.residual.structure == "known_se":
        notes.append(
            "lme4 always estimates a residual standard deviation, so this code fits a different "
            "model. metafor's rma.mv takes known standard errors."
        )
    if spec.pooling == "complete":
        return _written("lme4", f"lm({_r(spec.response)} ~ {right}, data = data{weights})", notes)
    if spec.pooling == "none":
        (term,) = spec.groups
        notes += _common_notes(wording)
        text = f"lmList({_r(spec.response)} ~ {_r(term.columns)} | {term.factor}, data = data"
        notes.append(
            "lmList fits least squares to each group, with a common residual standard deviation "
            "(pool = TRUE, the default). It has no priors, so some coefficients may not be "
            "estimable."
        )
        return _written("lme4", f"{text}{weights})", notes)
    bars = " + ".join(_r_bar(term) for term, _ in wording.bars)
    notes += _double_bar_notes(wording)
    notes += _related_notes(
        spec,
        "lmer takes the groups of {factor} as independent; pedigreemm takes a pedigree of them.",
    )
    code = f"lmer({_r(spec.response)} ~ {right} + {bars}, data = data{weights}, REML = TRUE)"
    return _written("lme4", code, notes)


def nlme(wording: Wording) -> Written:
    """R code for nlme, whose residuals may have a structure: ``gls`` without groups, else ``lme``."""
    spec = wording.spec
    bars = [(term, _r(term.columns)) for term, _ in wording.bars]
    is_class = spec.residual.spread in wording.categories
    said, notes = in_nlme(spec.residual, bars, is_class=is_class)
    function = "lme" if bars else "gls"
    left = f"{_r(spec.response)} ~ {_r(spec.without_bars)}"
    code = ", ".join([left, *said, "data = data", 'method = "REML"'])
    return _written("nlme", f"{function}({code})", [*_r_notes(wording), *notes])


def location_scale(wording: Wording) -> Written:
    """R code for glmmTMB, whose residual sds may differ between groups at random."""
    spec = wording.spec
    bars = [_r_bar(term) for term, _ in wording.bars]
    argument, notes = in_glmmtmb(spec.residual)
    formula = f"{_r(spec.response)} ~ {' + '.join([_r(spec.without_bars), *bars])}"
    code = f"glmmTMB({formula}, {argument}, data = data)"
    return _written("glmmTMB", code, [*_r_notes(wording), *_double_bar_notes(wording), *notes])


def brms(wording: Wording) -> Written:
    """R code for brms."""
    spec, notes = wording.spec, [*_r_notes(wording)]
    right = _r(spec.without_bars)
    left = _r(spec.response)
    if spec.residual.structure == "known_se":
        left += f" | se({spec.residual.column})"
    if spec.pooling == "none":
        (term, own) = next(iter(wording.bars))
        each = [term.factor if t == "1" else f"{term.factor}:{_r(t)}" for t in own]
        common = [_r(t) for t in wording.population if t != "1"]
        right = " + ".join(["0", *each, *common, *map(_r, spec.offsets)])
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
    notes += _related_notes(
        spec, "A_{factor} is the relationship matrix: data2 = list(A_{factor} = ...)."
    )
    notes.append("The default priors of brms differ from those used here; set prior = to compare.")
    return _written("brms", f"brm({formula}, data = data, family = gaussian())", notes)


def proc_mixed(wording: Wording) -> Written:
    """SAS code: a DATA step where columns have to be made, then PROC MIXED."""
    sheet = _SasSheet(wording)
    spec = wording.spec
    response = sheet.response()
    factors = list(dict.fromkeys(part for t in spec.groups for part in _factor_parts(t.factor)))
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
    sheet.notes += _related_notes(
        spec, "PROC MIXED takes the groups of {factor} as independent here; ASReml relates them."
    )
    lines += [*random, *repeated, *residual, "run;"]
    return _written("SAS PROC MIXED", "\n".join([*sheet.data_step(), *lines]), sheet.notes)


_IN_R = {
    "bernoulli": 'binomial("{link}")',
    "binomial": 'binomial("{link}")',
    "poisson": 'poisson("{link}")',
    "negbinomial": "nbinom2",
    "student": "t_family",
    "gamma": 'Gamma("{link}")',
    "beta": 'beta_family("{link}")',
    "zero_inflated_poisson": "poisson",
    "zero_inflated_negbinomial": "nbinom2",
    "hurdle_poisson": "truncated_poisson",
    "hurdle_negbinomial": "truncated_nbinom2",
}
_IN_BRMS = {"ordinal": "cumulative", "beta": "Beta", "gamma": "Gamma"}
_IN_SAS = {
    "bernoulli": "binary",
    "ordinal": "multinomial",
    "negbinomial": "negbinomial",
    "student": "tcentral",
}
_NOT_IN_GLIMMIX = ("zero_inflated", "hurdle")


def of_family(wording: Wording, family: Family) -> tuple[Written, ...]:
    """R code for lme4 or glmmTMB (ordinal: the package ordinal) and for brms, and PROC GLIMMIX."""
    found = [_glmm(wording, family), _brms_family(wording, family)]
    if not family.name.startswith(_NOT_IN_GLIMMIX):
        found.append(_glimmix(wording, family))
    return tuple(found)


def _bars(wording: Wording) -> list[str]:
    spec = wording.spec
    if spec.pooling != "none":
        return [_r_bar(term) for term, _ in wording.bars]
    return []


def _right(wording: Wording) -> str:
    """The right-hand side; of no pooling with the groups as fixed effects."""
    spec = wording.spec
    if spec.pooling != "none":
        return " + ".join([_r(spec.without_bars), *_bars(wording)])
    term, own = next(iter(wording.bars))
    each = [term.factor if t == "1" else f"{term.factor}:{_r(t)}" for t in own]
    common = [_r(t) for t in wording.population if t != "1"]
    return " + ".join(["0", *each, *common, *map(_r, spec.offsets)])


def _glmm(wording: Wording, family: Family) -> Written:
    spec, notes = wording.spec, [*_r_notes(wording), *_double_bar_notes(wording)]
    y, right = _r(spec.response), _right(wording)
    has_groups, w = spec.pooling == "partial", spec.residual.column
    weights = f", weights = {w}" if w else ""
    if family.has_thresholds:
        call = "clmm" if has_groups else "clm"
        text = f'{call}(factor({y}) ~ {right}, data = data, link = "{family.link}"{weights})'
        return _written("ordinal", text, notes)
    if spec.trials:
        y = f"cbind({y}, {_r(spec.trials)} - {y})"
    how = _IN_R[family.name].format(link=family.link)
    more = ", ziformula = ~ 1" if family.name.startswith(_NOT_IN_GLIMMIX) else ""
    is_glm = family.name in ("bernoulli", "binomial", "poisson")
    if is_glm:
        one = len(wording.groups) == 1 and len(wording.groups[0]) == 1 and has_groups
        if one:
            notes.append("nAGQ = 25 integrates as here; the default of glmer is Laplace's method.")
        elif has_groups:
            notes.append(
                "glmer uses Laplace's method here, which is less exact for few rows a group."
            )
        call, nodes = ("glmer", ", nAGQ = 25" if one else "") if has_groups else ("glm", "")
        text = f"{call}({y} ~ {right}, data = data, family = {how}{nodes}{weights})"
        return _written("lme4", text, notes)
    notes.append("glmmTMB uses Laplace's method, which is less exact for few rows a group.")
    return _written(
        "glmmTMB", f"glmmTMB({y} ~ {right}, data = data, family = {how}{more}{weights})", notes
    )


def _brms_family(wording: Wording, family: Family) -> Written:
    spec, notes = wording.spec, [*_r_notes(wording)]
    said = [f"trials({_r(spec.trials)})"] if spec.trials else []
    said += [f"weights({spec.residual.column})"] if spec.residual.column else []
    left = f"{_r(spec.response)}{' | ' if said else ''}{' + '.join(said)}"
    name = _IN_BRMS.get(family.name, family.name)
    notes.append("The default priors of brms differ from those used here; set prior = to compare.")
    code = f'brm({left} ~ {_right(wording)}, data = data, family = {name}("{family.link}"))'
    return _written("brms", code, notes)


def _glimmix(wording: Wording, family: Family) -> Written:
    """SAS code: PROC GLIMMIX by quadrature, where there is one factor."""
    sheet = _SasSheet(wording)
    spec = wording.spec
    response = sheet.piece(spec.response, "response")
    factors = list(dict.fromkeys(part for t in spec.groups for part in _factor_parts(t.factor)))
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
    return _written("SAS PROC GLIMMIX", "\n".join([*sheet.data_step(), *lines]), sheet.notes)


def _written(program: str, text: str, notes: Sequence[str]) -> Written:
    return Written(program, text, tuple(dict.fromkeys(notes)))


def _r(text: str) -> str:
    """Columns of a formula in R's spelling: functions, powers, the comparison signs."""
    text, names = _masked(text.removeprefix("1 + ") if text != "1" else text)
    text = re.sub(r"\*\*|//|%", lambda m: _OPERATORS_OF_R[m[0]], text)
    names = [n if n[0] == "`" else n.replace("\\", "\\\\") for n in names]
    for match in reversed(list(_CALL.finditer(text))):
        name, start, stop = match["function"], match.start(), _closing(text, match.end() - 1)
        inside = text[match.end() : stop - 1]
        if name == "C":
            text = text[:start] + _category_of_r(inside) + text[stop:]
            continue
        written = _SCALED_BY_R.get(name, f"{_RENAMED.get(name, name)}({{}})").format(inside)
        text = text[:start] + written + text[stop:]
    text = re.sub(r"=\s*(True|False)\b", lambda m: f"={m[1].upper()}", text)
    return _unmasked(text.replace("[", "c(").replace("]", ")"), names)


def _category_of_r(inside: str) -> str:
    """What stands in ``C(...)``, names and labels masked, as R codes it."""
    column, _, rest = inside.partition(", ")
    order = re.search(r"levels=\[(.*)\]$", rest)
    given = f"factor({column}, levels = c({order[1]}))" if order else f"factor({column})"
    coding = re.match(r"(Treatment|SAS|Sum|Helmert|Poly|Diff)(?:\((.*?)\))?", rest)
    if coding is None or (coding[1] == "Treatment" and not coding[2]):
        return given
    if coding[1] == "Treatment":
        reference = coding[2] if coding[2].startswith("\0") else f'"{coding[2]}"'
        return f"relevel({given}, ref = {reference})"
    scores = re.fullmatch(r"scores=\[(.*)\]", coding[2] or "")
    if scores:
        n = scores[1].count(",") + 1
        return f"C({given}, contr.poly({n}, scores = c({scores[1]})))"
    return f"C({given}, {_CONTRASTS_OF_R[coding[1]]})"


def _masked(text: str) -> tuple[str, list[str]]:
    """The text with a number for each name or label in quotes, which may hold anything; and those."""
    names = _QUOTED.findall(text)
    numbers = itertools.count()
    return _QUOTED.sub(lambda _: f"\0{next(numbers)}\0", text), names


def _unmasked(text: str, names: Sequence[str]) -> str:
    return re.sub("\0(\\d+)\0", lambda m: names[int(m[1])], text)


def _closing(text: str, start: int) -> int:
    depth = 0
    for k in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[k], 0)
        if depth == 0:
            return k + 1
    return len(text)


def _r_bar(term: GroupTerm) -> str:
    bar = "||" if term.covariance == "uncorrelated" else "|"
    return f"({_r(term.columns)} {bar} {term.factor})"


def _brms_bar(term: GroupTerm) -> str:
    if term.relationship is None:
        return _r_bar(term)
    return f"({_r(term.columns)} | gr({term.factor}, cov = A_{term.factor}))"


def _related_notes(spec: Spec, advice: str) -> Iterator[str]:
    for term in spec.groups:
        if term.relationship is not None:
            yield advice.format(factor=term.factor)


def _functions(text: str) -> list[str]:
    return [match["function"] for match in _CALL.finditer(_masked(text)[0])]


def _r_notes(wording: Wording) -> Iterator[str]:
    spec = wording.spec
    used = _functions(
        " ".join([spec.response, spec.without_bars, *(t.columns for t in spec.groups)])
    )
    if missing := [name for name in dict.fromkeys(used) if name in _NOT_IN_R]:
        yield (f"Base R has no {', '.join(missing)}(). Compute its columns first, or use mgcv.")
    terms = [*wording.population, *(t for own in wording.groups for t in own)]
    if any(_BY_ORDER.match(_masked(piece)[0]) for term in terms for piece in _pieces(term)):
        yield (
            "The coding depends on the order of the categories. If R sorts them differently, give "
            "the order: factor(x, levels = c(...))."
        )
    if "bs" in used or "poly" in used:
        yield "Splines and polynomials may be coded differently; the fit is the same."


def _common_notes(wording: Wording) -> Iterator[str]:
    common = [t for t in wording.population if t != "1"]
    if common:
        yield (
            f"{', '.join(common)} does not vary within groups and has a common coefficient here; "
            "lmList drops it or fails."
        )


def _double_bar_notes(wording: Wording) -> Iterator[str]:
    for term, own in wording.bars:
        if term.covariance == "uncorrelated" and _categories_in(own, wording.categories):
            yield (
                "lme4 1.1 keeps the columns of a category correlated with ||, which is a different "
                "model. Use diag() of lme4 2.0, or 0/1 columns made by hand."
            )


def _categories_in(terms: Sequence[str], categories: Collection[str]) -> list[str]:
    """Terms that hold a category."""
    return [t for t in terms if any(_is_category(p, categories) for p in _pieces(t))]


def _is_category(piece: str, categories: Collection[str]) -> bool:
    return piece.startswith("C(") or piece.strip("`") in categories


def _factor_parts(factor: str) -> list[str]:
    return [part.strip("`") for part in factor.split(":")]


@dataclass
class _SasSheet:
    """What a translation to SAS gathers on its way: columns to make, classes, notes."""

    wording: Wording
    made: dict[str, str] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unmade: list[str] = field(default_factory=list)

    def name(self, column: str) -> str:
        """A column's name as SAS takes it."""
        column = column.strip("`")
        if _SAS_NAME.fullmatch(column):
            return column
        quoted = column.replace("'", "''")
        self.notes.append(
            "Names in '...'n need options validvarname=any; SAS names have at most 32 characters."
        )
        return f"'{quoted}'n"

    def response(self) -> str:
        """The response, less its offsets."""
        spec = self.wording.spec
        text = self.piece(spec.response, "response")
        if not spec.offsets:
            return text
        less = " - ".join(self._expression(o.removeprefix("offset(")[:-1]) for o in spec.offsets)
        self.made["response_less_offset"] = f"{self.made.pop(text, text)} - {less}"
        self.notes.append("PROC MIXED has no offset, so it is subtracted from the response.")
        return "response_less_offset"

    def fixed(self) -> tuple[list[str], bool]:
        """Effects of the MODEL statement, and whether there is an intercept."""
        spec = self.wording.spec
        effects = [self.effect(t) for t in self.wording.population if t != "1"]
        if spec.pooling != "none":
            if self.classes:
                self.notes.append(
                    "CLASS makes the last category the reference. For the first, as here, write "
                    "class name(ref=first)."
                )
            return effects, "1" in self.wording.population
        term, own = next(iter(self.wording.bars))
        group = "*".join(self.name(p) for p in _factor_parts(term.factor))
        each = [group if t == "1" else f"{self.effect(t)}*{group}" for t in own]
        if effects:
            self.notes.append(
                "Without priors, some common coefficients and those of the groups are not "
                "estimable; PROC MIXED sets some to zero."
            )
        self.notes.append(
            "These are least-squares estimates for each group, with a common residual variance and "
            "without priors."
        )
        return [*each, *effects], False

    def random(self, term: GroupTerm, own: Sequence[str]) -> str:
        """The RANDOM statement of one bar."""
        if kind := self._type_of_category(term, own):
            (category,) = [self.effect(t) for t in own if t != "1"]
            subject = "*".join(self.name(p) for p in _factor_parts(term.factor))
            return f"  random {category} / subject={subject} type={kind} solution;"
        if _categories_in(own, self.wording.categories):
            self.notes.append(
                "In SAS, a CLASS variable among the random effects has a column for every category and "
                "a common variance. To fit the model of this report, make 0/1 columns in a DATA step "
                "and use them in RANDOM."
            )
        effects = ["intercept" if t == "1" else self.effect(t) for t in own]
        subject = "*".join(self.name(p) for p in _factor_parts(term.factor))
        is_full = term.covariance == "correlated" and len(own) > 1
        kind = "un" if is_full else "vc"
        if is_full:
            self.notes.append(
                "type=un may give a matrix that is not positive definite; type=fa0 fits the same model "
                "with a matrix that always is."
            )
        return f"  random {' '.join(effects)} / subject={subject} type={kind} solution;"

    def repeated(self) -> list[str]:
        """The REPEATED statement of a residual structure."""
        term = self.wording.spec.residual
        own, spread, occasion, subject = term.correlation, "", "", ""
        if own is not None:
            occasion = self.name(own.time)
            subject = "*".join(self.name(p) for p in _factor_parts(own.factor))
            self.classes += [self.name(p) for p in _factor_parts(own.factor)]
            self.classes += [self.name(own.by)] if own.by else []
            if own.word != "car1":
                if own.time not in self.wording.categories:
                    self.made["occasion"], occasion = occasion, "occasion"
                self.classes.append(occasion)
        is_class = term.spread in self.wording.categories
        if term.spread:
            spread = self.name(term.spread_column)
            if is_class:
                self.classes.append(spread)
            elif term.is_log:
                self.made["log_of_column"], spread = f"log({spread})", "log_of_column"
        written, notes = in_sas(term, occasion, subject, spread, is_class=is_class)
        self.notes += notes
        return [written] if written else []

    def _type_of_category(self, term: GroupTerm, own: Sequence[str]) -> str:
        """TYPE= of one category, for whose levels SAS has all columns; empty where it is not alone."""
        others = [t for t in own if t != "1"]
        if len(others) != 1 or len(_pieces(others[0])) > 1:
            return ""
        if not _is_category(others[0], self.wording.categories):
            return ""
        if term.covariance == "correlated":
            return "un"
        return "un(1)" if term.covariance == "uncorrelated" and len(own) == 1 else ""

    def residual(self) -> list[str]:
        """Statements on weights and known standard errors."""
        spec = self.wording.spec
        if spec.residual.structure == "weights":
            return [f"  weight {self.name(spec.residual.column)};"]
        if spec.residual.structure != "known_se":
            return []
        self.made["precision"] = f"1 / {self.name(spec.residual.column)}**2"
        start = [value for term, own in self.wording.bars for value in _starting(term, len(own))]
        values = " ".join(f"({v})" for v in [*start, 1])
        self.notes.append(
            "The residual variance is fixed at 1; the weights contain the known variances."
        )
        return ["  weight precision;", f"  parms {values} / hold={len(start) + 1};"]

    def effect(self, term: str) -> str:
        """A term of a formula as an effect: pieces joined by stars."""
        return "*".join(self.piece(piece) for piece in _pieces(term))

    def piece(self, text: str, made_as: str = "") -> str:
        """One column, made in the DATA step where it is a function of columns."""
        if "(" not in _masked(text)[0]:
            if _is_category(text, self.wording.categories):
                self.classes.append(self.name(text))
            return self.name(text)
        if text.startswith("C("):
            masked, names = _masked(text[2:-1])
            typed, _, coding = masked.partition(", ")
            column = self.name(_unmasked(typed, names))
            self.classes.append(column)
            if coding:
                self.notes.append(
                    f"CLASS codes {column} differently: its coefficients are not those of {text}, but "
                    "the fit is the same."
                )
            return column
        name = made_as or f"x{len(self.made) + len(self.unmade) + 1}"
        known = all(f.removeprefix("np.") in _SAS_FUNCTIONS for f in _functions(text))
        if known and not re.search("//|%", _masked(text)[0]):
            self.made[name] = self._expression(text)
        elif name not in self.unmade:
            self.unmade.append(name)
            self.notes.append(
                f"SAS has no function for {text}. Compute its columns first, here {name}."
            )
        return name

    def _expression(self, text: str) -> str:
        """Arithmetic in SAS's spelling."""
        text = re.sub(r"\blog1p\(", "log(1 + ", text.replace("np.", ""))
        text = re.sub(r"`([^`]+)`", lambda m: self.name(m[1]), text)
        return re.sub(r"\bI\(", "(", text).replace("==", "=").replace("!=", "^=")

    def data_step(self) -> list[str]:
        """The DATA step, empty where nothing has to be made."""
        if not self.made:
            return []
        lines = [f"  {name} = {expression};" for name, expression in self.made.items()]
        return ["data fitted;", "  set data;", *lines, "run;"]


def _starting(term: GroupTerm, q: int) -> Iterator[int]:
    """Starting values of one factor's covariance, row by row of its lower triangle."""
    if term.covariance == "none":
        return
    for row in range(q):
        if term.covariance == "correlated":
            yield from (0 for _ in range(row))
        yield 1


def _pieces(term: str) -> list[str]:
    """Pieces of an interaction; a colon within a call, a name or a label does not part them."""
    masked, names = _masked(term)
    out, depth = [""], 0
    for char in masked:
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == ":" and depth == 0:
            out.append("")
        else:
            out[-1] += char
    return [_unmasked(piece, names) for piece in out]
