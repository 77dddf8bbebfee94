"""Formulas from the grammar over the columns of a table, and mutations of their text."""

from __future__ import annotations

from hypothesis import strategies as st

from hierpool.formula.function_calls import quote

FUNCTIONS = [
    *("I({0}**2)", "I({0}^2)", "log({0})", "sqrt(abs({0}))", "exp({0})", "scale({0})"),
    *("center({0})", "poly({0}, 2)", "bs({0}, df=4)", "cr({0}, df=3)", "C({0})", "factor({0})"),
    *("I({0} > 0)", "C({0}, Sum)", "C({0}, contr.helmert)", "np.log({0})", "I({0} + {1})"),
]
FOREIGN = [  # what other programs, or somebody who means harm, would write
    *("C({0}, Treatment('b'))", "ns({0}, 3)", "s({0})", "Q('{0}')", "{0}.values", "f'{{{0}}}'"),
    *("[v for v in {0}]", "({0} := 1)", "{0}[0]", "lambda: {0}", "__import__('os')", "se({0})"),
]
JOINTS = [" + ", " + ", " + ", " * ", ":", "/", " - ", " + 0 + ", " + offset", " % "]
BARS = [
    "(1 | {g})",
    "(1 | {g})",
    "({x} | {g})",
    "({x} || {g})",
    "(0 + {x} | {g})",
    "(1 | {g}/{h})",
    "(1 | {g}:{h})",
    "(1 | {g}) + (1 | {h})",
    "({x} * {z} | {g})",
    "(poly({x}, 2) | {g})",
]
ODD = [
    *list("~|()+-*/:^`'\"\\.,= 0123xg[]{}%"),
    *("\x00", "µ", "ｘ", "\u202e", "é", "\n", "**", "||", "e9"),
]


@st.composite
def formulas(draw: st.DrawFn, names: list[str]) -> str:
    """A formula that mentions columns of the table; one in four has its text changed."""
    others = [quote(n) for n in names if n != "y"] or ["x"]
    name = st.sampled_from([*others * 4, "y"])
    response = draw(st.sampled_from([*["y"] * 12, "I(y * 2)", "log(y)", "x", "0"]))
    terms = []
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            terms.append(draw(name))
        else:
            is_foreign = draw(st.integers(0, 11)) == 0
            function = draw(st.sampled_from(FOREIGN if is_foreign else FUNCTIONS))
            terms.append(function.format(draw(name), draw(name)))
    right = terms[0] if terms else draw(st.sampled_from(["1", "0", "x", "1 + x"]))
    for term in terms[1:]:
        joint = draw(st.sampled_from(JOINTS))
        right += f"{joint}({term})" if joint.endswith("offset") else f"{joint}{term}"
    if draw(st.integers(0, 4)):
        bar = draw(st.sampled_from(BARS))
        group = draw(st.sampled_from(["g", "g", "g", "g", draw(name)]))
        right += " + " + bar.format(g=group, h=draw(name), x=draw(name), z=draw(name))
    text = f"{response} ~ {right}"
    return draw(changed(text)) if draw(st.integers(0, 3)) == 0 else text


@st.composite
def changed(draw: st.DrawFn, text: str) -> str:
    """The text with one to three characters put in, taken out, swapped or doubled."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(text) - 1, 0)))
        how = draw(st.sampled_from(["put", "take", "swap", "double"]))
        if how == "put":
            text = text[:at] + draw(st.sampled_from(ODD)) + text[at:]
        elif how == "take":
            text = text[:at] + text[at + 1 :]
        elif how == "swap":
            text = text[:at] + text[at + 1 : at + 2] + text[at : at + 1] + text[at + 2 :]
        else:
            text = text[:at] + text[at : at + 8] + text[at:]
    return text
