"""What a translation to SAS gathers on its way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hierpool.core.spec import GroupTerm
from hierpool.report.translation.formula_text import (
    factor_parts,
    functions,
    masked,
    pieces,
    unmasked,
)
from hierpool.report.translation.residuals import in_sas
from hierpool.report.translation.wording import Wording, categories_in, is_category

_SAS_FUNCTIONS = ("I", "log", "log2", "log10", "exp", "sqrt", "abs", "log1p")

_SAS_NAME = re.compile(r"[A-Za-z_]\w{0,31}")


@dataclass
class SasSheet:
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
        group = "*".join(self.name(p) for p in factor_parts(term.factor))
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
            subject = "*".join(self.name(p) for p in factor_parts(term.factor))
            return f"  random {category} / subject={subject} type={kind} solution;"
        if categories_in(own, self.wording.categories):
            self.notes.append(
                "In SAS, a CLASS variable among the random effects has a column for every category and "
                "a common variance. To fit the model of this report, make 0/1 columns in a DATA step "
                "and use them in RANDOM."
            )
        effects = ["intercept" if t == "1" else self.effect(t) for t in own]
        subject = "*".join(self.name(p) for p in factor_parts(term.factor))
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
            subject = "*".join(self.name(p) for p in factor_parts(own.factor))
            self.classes += [self.name(p) for p in factor_parts(own.factor)]
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
        if len(others) != 1 or len(pieces(others[0])) > 1:
            return ""
        if not is_category(others[0], self.wording.categories):
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
        return "*".join(self.piece(piece) for piece in pieces(term))

    def piece(self, text: str, made_as: str = "") -> str:
        """One column, made in the DATA step where it is a function of columns."""
        if "(" not in masked(text)[0]:
            if is_category(text, self.wording.categories):
                self.classes.append(self.name(text))
            return self.name(text)
        if text.startswith("C("):
            inside, names = masked(text[2:-1])
            typed, _, coding = inside.partition(", ")
            column = self.name(unmasked(typed, names))
            self.classes.append(column)
            if coding:
                self.notes.append(
                    f"CLASS codes {column} differently: its coefficients are not those of {text}, but "
                    "the fit is the same."
                )
            return column
        name = made_as or f"x{len(self.made) + len(self.unmade) + 1}"
        known = all(f.removeprefix("np.") in _SAS_FUNCTIONS for f in functions(text))
        if known and not re.search("//|%", masked(text)[0]):
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
