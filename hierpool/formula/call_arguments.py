"""Arguments after the column in a function call: constants of the types that each function takes."""

from __future__ import annotations

import ast
from typing import NoReturn

from hierpool.formula.call_source import MEANS, CallSource
from hierpool.formula.category_coding import CONTRASTS, CategoryCoding, Label
from hierpool.formula.functions import ARGUMENTS, BASES, Value

MOST_COLUMNS = 1000  # of a spline or a polynomial

_UNREADABLE = 10**12
_OF_R = {"TRUE": True, "FALSE": False, "NULL": None}
_MOST_KNOTS_BESIDE = 5  # columns that a spline makes beyond its knots, at most
_CODINGS = "write C(x, Treatment('b')), C(x, Sum), C(x, Helmert), C(x, Poly) or C(x, Diff)"


def read_arguments(typed: CallSource, node: ast.Call, name: str) -> int:
    """Check all after the column, write it into the tree as Python, and count the columns made."""
    known = ARGUMENTS.get(name, {})
    words, extras = list(known), node.args[1:]
    if extras and not known:
        logarithm = "write log10(x) or log2(x), or I(log(x) / 1.5)"
        hint = logarithm if name.endswith("log") else MEANS
        typed.refuse(extras[0], f"{name}() takes one argument", hint)
    if len(extras) > len(known):
        typed.refuse(extras[len(known)], f"{name}() takes fewer arguments", "")
    given: list[ast.keyword] = []
    for i, value in enumerate(extras):
        node.args[i + 1] = _value(typed, value, known[words[i]], f"{words[i]} of {name}()")
        given.append(ast.keyword(words[i], node.args[i + 1]))
    for word in node.keywords:
        if word.arg is None or word.arg not in known:
            hint = f"it takes {', '.join(words)}" if known else MEANS
            typed.refuse(word.value, f"{name}() cannot take this argument", hint)
        word.value = _value(typed, word.value, known[word.arg], f"{word.arg} of {name}()")
        given.append(word)
    if name not in BASES:
        return 1
    sizes = {word.arg: _size(word.value) for word in given}
    return _columns_made(typed, node, name, sizes)


def _columns_made(
    typed: CallSource, node: ast.Call, name: str, sizes: dict[str | None, int]
) -> int:
    """Columns of a spline or a polynomial, at most; an error where they are far too many."""
    df, degree, knots = (sizes.get(word, 0) for word in ("df", "degree", "knots"))
    made = max(degree, 1) if name == "poly" else max(df, knots + degree + _MOST_KNOTS_BESIDE)
    if made > MOST_COLUMNS:
        many = f"{made:,}" if made < _UNREADABLE else f"more than {_UNREADABLE:,}"
        typed.blame(
            node,
            f"{name}() makes {many} columns here; the limit is {MOST_COLUMNS:,}",
            "too-many-columns",
            "a few columns are enough: bs(x, df=4) or poly(x, 3)",
        )
    return made


def _value(typed: CallSource, node: ast.expr, kind: Value, place: str) -> ast.expr:
    """A constant of one kind, in Python's spelling; R's TRUE, FALSE and NULL are read."""
    held = typed.held(node) if isinstance(node, ast.Name) else None
    if isinstance(kind, tuple):
        if held is not None and held.mark != "`" and held.inside in kind:
            return ast.Constant(held.inside)
        _fail(typed, node, place, " or ".join(repr(word) for word in kind))
    if isinstance(node, ast.Name) and held is None and node.id in _OF_R:
        node = ast.copy_location(ast.Constant(_OF_R[node.id]), node)
    if isinstance(node, ast.Constant) and node.value is None:
        return node
    if kind == "flag":
        if not (isinstance(node, ast.Constant) and isinstance(node.value, bool)):
            _fail(typed, node, place, "True or False")
    elif kind == "numbers":
        if not (isinstance(node, ast.List | ast.Tuple) and all(map(is_number, node.elts))):
            _fail(typed, node, place, "a list of numbers in square brackets: [1, 2]")
    elif kind == "count" and not _is_count(node):
        _fail(typed, node, place, "a whole number")
    elif not is_number(node):
        _fail(typed, node, place, "a number")
    return node


def _fail(typed: CallSource, node: ast.expr, place: str, what: str) -> NoReturn:
    typed.refuse(node, "only a constant is allowed here", f"{place} is {what}")


def read_coding(typed: CallSource, node: ast.Call) -> CategoryCoding:
    """What stands after the column of C()."""
    coding = CategoryCoding()
    words = {k.arg: k.value for k in node.keywords}
    contrast = node.args[1:] + [words.pop(w) for w in ("contrasts", "contr") if w in words]
    levels = words.pop("levels", None)
    for value in words.values():
        typed.refuse(value, "C() cannot take this argument", _CODINGS)
    if len(contrast) > 1:
        typed.refuse(contrast[1], "C() takes one coding", _CODINGS)
    if contrast:
        coding = _contrast(typed, contrast[0])
    if levels is not None:
        order = _labels(typed, levels)
        coding = CategoryCoding(coding.contrast, coding.reference, coding.scores, order)
    return coding


def _contrast(typed: CallSource, node: ast.expr) -> CategoryCoding:
    func = node.func if isinstance(node, ast.Call) else node
    held = typed.held(func) if isinstance(func, ast.Name) else None
    written = held.inside if held and held.mark != "`" else typed.source(func)
    contrast = CONTRASTS.get(written.removeprefix("contr.").lower())
    if contrast is None:
        typed.refuse(node, f"{written} is not a coding of categories", _CODINGS)
    if not isinstance(node, ast.Call) or not (node.args or node.keywords):
        return CategoryCoding(contrast)
    given = [*node.args, *(k.value for k in node.keywords)]
    names = {k.arg for k in node.keywords}
    if contrast == "Poly" and len(given) == 1 and names <= {"scores"}:
        scores = _value(typed, given[0], "numbers", "scores of Poly()")
        return CategoryCoding(contrast, scores=tuple(ast.literal_eval(scores) or ()))
    if contrast == "Treatment" and len(given) == 1 and names <= {"reference", "ref", "base"}:
        if written.startswith("contr.") and is_number(given[0]):
            typed.refuse(
                given[0],
                "R's contr.treatment() takes a position; a formula here takes the name of the "
                "category",
                "write C(x, Treatment('b')), or Treatment(3) for a category called 3",
            )
        return CategoryCoding(contrast, reference=_label(typed, given[0]))
    return typed.refuse(given[-1], f"{contrast} does not take this argument", _CODINGS)


def _labels(typed: CallSource, node: ast.expr) -> tuple[Label, ...]:
    if not isinstance(node, ast.List | ast.Tuple) or not node.elts:
        typed.refuse(node, "levels is a list of labels", "write levels=['b', 'a']")
    labels = tuple(_label(typed, element) for element in node.elts)
    twice = [i for i, label in enumerate(labels) if label in labels[:i]]
    if twice:
        typed.refuse(node.elts[twice[0]], "this label occurs twice in levels", "write it once")
    return labels


def _label(typed: CallSource, node: ast.expr) -> Label:
    """A label of a category: a text in quotes, a number, True or False."""
    held = typed.held(node) if isinstance(node, ast.Name) else None
    if held is not None and held.mark != "`":
        return held.inside
    if is_number(node) or (isinstance(node, ast.Constant) and isinstance(node.value, bool)):
        label: Label = ast.literal_eval(node)
        return label
    return typed.refuse(node, "only a label is allowed here", "write it in quotes: 'b'")


def _size(node: ast.expr) -> int:
    """How many columns a df, a degree or a list of knots comes to."""
    if isinstance(node, ast.List | ast.Tuple):
        return len(node.elts)
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else 0


def _is_count(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value >= 0


def is_number(node: ast.expr) -> bool:
    """Whether a node is a number, with or without a minus."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)
