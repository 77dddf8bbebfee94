"""A model in mathematical notation, as marked-up text for a page and as LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from hierpool.core.families.family import Family
from hierpool.core.schema import Block, GroupSchema, Schema
from hierpool.report.model_words import family_in_words
from hierpool.report.residual_words import correlation_in_words, sds_in_words

CONSTANT = "Intercept"
_INDICES = "jklmn"
_LETTERS = "uvwabcd"
_MOST_TERMS = 6  # of a sum that is written out


@dataclass(frozen=True)
class Line:
    """One line of mathematics in both spellings.

    Attributes
    ----------
    html
        Marked up, names escaped; breaks between summands.
    latex
        Without the dollars.
    """

    html: Markup
    latex: str


def equations(schema: Schema) -> list[Line]:
    """What the rows are made of, how levels differ, and what is left."""
    writer = _Writer(schema)
    if schema.family is not None:
        return [writer.family_of_rows(schema.family), writer.rows(), *writer.levels()]
    return [writer.rows(), *writer.levels(), writer.residual()]


def symbol(letter: str, below: str = "", above: str = "") -> Line:
    """A letter with indices; a Greek one by its name: ``symbol("beta", "0")``."""
    greek = _GREEK.get(letter)
    html = Markup("<i>{}</i>").format(greek or letter)
    latex = f"\\{letter}" if greek else letter
    if below:
        html += _indices(below)
        latex += f"_{{{below}}}"
    if above:
        html += Markup("<sup>{}</sup>").format(above)
        latex += f"^{{{above}}}"
    return Line(html, latex)


_GREEK = {"beta": "β", "alpha": "α", "sigma": "σ", "tau": "τ", "rho": "ρ", "varepsilon": "ε"}
_GREEK["eta"] = "η"


def _indices(below: str) -> Markup:
    parts = (Markup("<i>{}</i>").format(c) if c.isalpha() else escape(c) for c in below)
    return Markup("<sub>{}</sub>").format(Markup("").join(parts))


def named(text: str, below: str) -> Line:
    """A column by its own name, with the indices of its rows."""
    html = Markup('<span class="name">{}</span>').format(text) + _indices(below)
    return Line(html, f"\\text{{{_for_latex(text)}}}_{{{below}}}")


def _for_latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)


def _times(coefficient: Line, column: Line | None) -> Line:
    if column is None:
        return coefficient
    html = Markup('<span class="one">{}\u2009{}</span>').format(coefficient.html, column.html)
    return Line(html, f"{coefficient.latex}\\,{column.latex}")


def _shortened(parts: Sequence[Line]) -> list[Line]:
    """The parts; dots for the middle of many."""
    if len(parts) <= _MOST_TERMS:
        return list(parts)
    return [*parts[: _MOST_TERMS - 2], Line(Markup("…"), "\\dots"), parts[-1]]


def _sum(parts: Sequence[Line]) -> Line:
    return Line(
        Markup(" + ").join(part.html for part in parts), " + ".join(part.latex for part in parts)
    )


def _equal(left: Line, sign: str, right: Line) -> Line:
    latex = {"=": "=", "~": "\\sim"}[sign]
    return Line(
        Markup("{} {} {}").format(left.html, {"=": "=", "~": "∼"}[sign], right.html),
        f"{left.latex} {latex} {right.latex}",
    )


def _normal(mean: str, spread: Line) -> Line:
    html = Markup('<span class="one">N({}, {})</span>').format(mean, spread.html)
    return Line(html, f"\\mathcal{{N}}({mean}, {spread.latex})")


@dataclass(frozen=True)
class _Writer:
    """Writes the lines of one model; rows are i, levels of its factors j, k, ..."""

    schema: Schema

    @property
    def row(self) -> str:
        count = max(len(self.schema.groupings), len(self.schema.groups))
        return f"i{_INDICES[:count]}"

    def rows(self) -> Line:
        """The response as a sum."""
        schema = self.schema
        common = [
            _times(symbol("beta", str(k)), self._column(term))
            for k, term in enumerate(schema.terms)
        ]
        sums = [_sum(_shortened(common))] if common else []
        for f, group in enumerate(schema.groups):
            own = [
                _times(self._own(group, f, k), self._column(term))
                for k, term in enumerate(group.terms)
            ]
            sums.append(_sum(_shortened(own)))
        sums += [named(text, self.row) for text in schema.spec.offsets]
        if schema.family is not None:
            if not sums:
                sums = [Line(Markup("0"), "0")]
            return _equal(symbol("eta", self.row), "=", _sum(sums))
        sums.append(symbol("varepsilon", self.row))
        return _equal(named(schema.spec.response, self.row), "=", _sum(sums))

    def family_of_rows(self, family: Family) -> Line:
        """How the response is distributed about its predictor."""
        y, eta = named(self.schema.spec.response, self.row), symbol("eta", self.row)
        given = family.parameters
        more = "".join(f", {name.replace('_', ' ')}" for name in given)
        name = family_in_words(family).split(" response")[0]
        name = name[0].upper() + name[1:]
        link = family.link
        mean_html = (
            eta.html if link == "identity" else Markup("{}<sup>−1</sup>({})").format(link, eta.html)
        )
        mean = eta.latex if link == "identity" else f"\\operatorname{{{link}}}^{{-1}}({eta.latex})"
        html = Markup('<span class="one">{}({}{})</span>').format(name, mean_html, more)
        latex = f"\\text{{{name}}}({mean}\\text{{{more}}})"
        return _equal(y, "~", Line(html, latex))

    def levels(self) -> Iterator[Line]:
        """How the coefficients of the levels are distributed."""
        for f, group in enumerate(self.schema.groups):
            if not group.is_pooled:
                own = [self._own(group, f, k) for k in range(len(group.terms))]
                yield _said(
                    _listed(_shortened(own)), "with wide normal priors, independent of each other"
                )
                continue
            for block in group.blocks:
                yield from self._block(group, f, block)

    def _block(self, group: GroupSchema, f: int, block: Block) -> Iterator[Line]:
        places = range(block.start, block.stop)
        if not block.pairs:
            for k in places:
                yield _equal(
                    self._own(group, f, k), "~", _normal("0", symbol("tau", self._sd(f, k), "2"))
                )
            return
        own = _listed([self._own(group, f, k) for k in places])
        sds = _listed([symbol("tau", self._sd(f, k)) for k in places])
        words = "correlation" if block.size == 2 else "correlations"
        rho = symbol("rho", "01" if block.size == 2 else "kl")
        html = Markup("({}) ∼ N(0, <b>Σ</b>), standard deviations {}, {} {}").format(
            own.html, sds.html, words, rho.html
        )
        latex = (
            f"({own.latex}) \\sim \\mathcal{{N}}(0, \\Sigma), "
            f"\\text{{ standard deviations }} {sds.latex}, \\text{{ {words} }} {rho.latex}"
        )
        yield Line(html, latex)

    def residual(self) -> Line:
        """What is left in a row."""
        schema = self.schema
        left = symbol("varepsilon", self.row)
        variance = symbol("sigma", "", "2")
        term = schema.spec.residual
        if term.structure == "weights":
            weight = named(term.column, self.row)
            variance = Line(
                Markup("{} / {}").format(variance.html, weight.html),
                f"{variance.latex} / {weight.latex}",
            )
        if term.structure == "known_se":
            known = named(term.column, self.row)
            variance = Line(known.html + Markup("<sup>2</sup>"), f"({known.latex})^2")
        line = _equal(left, "~", _normal("0", variance))
        sds = sds_in_words(term)
        said = [f"σ {sds}"] if sds else []
        said += [correlation_in_words(term.correlation)] if term.correlation else []
        if not said:
            return line
        html = Markup("{}, {}").format(line.html, "; ".join(said))
        text = _for_latex("; ".join(said)).replace("σ", "$\\sigma$").replace("ρ", "$\\rho$")
        return Line(html, f"{line.latex}, \\text{{{text}}}")

    def _own(self, group: GroupSchema, f: int, k: int) -> Line:
        letter = _LETTERS[f] if group.is_pooled else "alpha"
        return symbol(letter, f"{k}{_INDICES[f]}")

    def _sd(self, f: int, k: int) -> str:
        return str(k) if len(self.schema.groups) == 1 else f"{_LETTERS[f]}{k}"

    def _column(self, term: str) -> Line | None:
        return None if term == CONSTANT else named(term, self.row)


def _listed(parts: Sequence[Line]) -> Line:
    return Line(
        Markup(", ").join(part.html for part in parts), ", ".join(part.latex for part in parts)
    )


def _said(line: Line, words: str) -> Line:
    return Line(Markup("{} {}").format(line.html, words), f"{line.latex} \\text{{ {words}}}")
