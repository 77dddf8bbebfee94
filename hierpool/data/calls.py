"""Functions inside a formula: what may be called, and with what.

The library that evaluates a formula runs any Python it finds there. So each call is read as a
syntax tree first, and only columns, numbers, arithmetic, comparisons and the functions listed
here pass.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NoReturn

from hierpool.core.errors import FormulaError

ELEMENTWISE = ("I", "log", "log2", "log10", "log1p", "exp", "sqrt", "abs")
LEARNED = ("center", "scale", "standardize")  # remember means and sds for new data
BASES = ("poly", "bs", "cr", "cc", "cs")  # several columns from one
ALLOWED_FUNCTIONS = (*ELEMENTWISE, *LEARNED, *BASES, "C")
OFFSET = "offset"  # not among them: it makes no column, and a column may bear the name
NUMPY_FUNCTIONS = ("log", "log2", "log10", "log1p", "exp", "sqrt", "abs")  # as np.log(...)

_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
_COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
_MEANS = "write columns, numbers, + - * / ** and comparisons, and the functions " + ", ".join(
    ALLOWED_FUNCTIONS
)

FactorKind = Literal["column", "number", "category", "offset"]
_KINDS: dict[str, FactorKind] = {"C": "category", OFFSET: "offset"}
Fail = Callable[..., NoReturn]


@dataclass(frozen=True, slots=True)
class Factor:
    """One piece of a formula between its operators: a column, or a function of columns.

    Attributes
    ----------
    text
        As it stands in the formula, spacing made uniform: ``"Days"``, ``"I(Days ** 2)"``.
    columns
        The user's columns it needs, in order, each once.
    kind
        ``"column"``: a column alone; ``"number"``: a function, which needs numbers;
        ``"category"``: ``C(...)``; ``"offset"``: ``offset(...)``.
    code
        The text with its i-th column written as ``_column_i_``.
    """

    text: str
    columns: tuple[str, ...]
    kind: FactorKind
    code: str = "_column_0_"

    def with_names(self, names: tuple[str, ...]) -> str:
        """The text with other names for its columns."""
        known = {f"_column_{i}_": name for i, name in enumerate(names)}
        return re.sub(r"_column_\d+_", lambda m: known.get(m[0], m[0]), self.code)


def quote(name: str, in_call: bool = False) -> str:
    """A column's name as it must be typed in a formula, in backticks where it needs them.

    Examples
    --------
    >>> quote("time"), quote("my col")
    ('time', '`my col`')
    """
    plain = name.isidentifier() and not keyword.iskeyword(name)
    if in_call:
        plain = plain and not is_reserved(name)
    return name if plain else f"`{name}`"


def is_reserved(name: str) -> bool:
    """Whether an unquoted name means something else than a column inside a call."""
    return name in ALLOWED_FUNCTIONS or name == "np" or name.startswith("_")


def column_factor(name: str) -> Factor:
    """The factor that is one column."""
    return Factor(quote(name), (name,), "column")


def closing(text: str, start: int) -> int | None:
    """Index just after the parenthesis that closes the one at ``start``; None where none does."""
    depth = 0
    for position, char in unquoted(text, start):
        depth += {"(": 1, ")": -1}.get(char, 0)
        if depth == 0:
            return position + 1
    return None


def unquoted(text: str, start: int = 0) -> Iterator[tuple[int, str]]:
    """Each character that stands outside quotes and backticks, with its position."""
    return ((p, char) for p, char, quoted_by in _quoting(text, start) if not quoted_by)


def _quoting(text: str, start: int = 0) -> Iterator[tuple[int, str, str]]:
    """Each position, its character, and the quote it belongs to (empty outside quotes)."""
    quoted_by = ""
    for position in range(start, len(text)):
        char = text[position]
        if quoted_by:
            yield position, char, quoted_by
            quoted_by = "" if char == quoted_by else quoted_by
        else:
            quoted_by = char if char in "'\"`" else ""
            yield position, char, quoted_by


def read_call(text: str, start: int, stop: int) -> Factor:
    """The function call at ``text[start:stop]``, or an error with a caret at what is not allowed.

    Nothing of it is evaluated.
    """

    def fail(message: str, code: str, at: int = 0, length: int = 1, hint: str = "") -> NoReturn:
        raise FormulaError(message, code, text, start + at, length, hint)

    call = text[start:stop]
    for position, char in unquoted(call):
        if char == "|":
            fail(
                "a bar cannot stand inside a function",
                "bar-in-call",
                position,
                hint="transform the column, then let it vary: (log(x) | g)",
            )
    backslash = call.find("\\")
    if backslash >= 0:
        fail("a backslash cannot stand inside a function", "not-allowed", backslash)
    return _CallReader(call, fail).read()


@dataclass
class _CallReader:
    """Walks the syntax tree of one call, collecting its columns."""

    call: str
    fail: Fail
    plain: str = ""
    quoted: dict[int, str] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)

    def read(self) -> Factor:
        try:
            self.plain = self._with_plain_names()
            tree = ast.parse(self.plain, mode="eval").body
            if not isinstance(tree, ast.Call):
                self.fail("only one function call can stand here", "not-allowed", 0, len(self.call))
            name = self._call(tree, is_outer=True)
            code = ast.unparse(tree)
        except FormulaError:
            raise
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            at = max((getattr(error, "offset", None) or 1) - 1, 0)
            at = min(at, len(self.call) - 1)
            self.fail("this cannot be read as a function of columns", "not-allowed", at, 1, _MEANS)
        names = tuple(quote(c, in_call=True) for c in self.columns)
        factor = Factor("", tuple(self.columns), _KINDS.get(name, "number"), code)
        return Factor(factor.with_names(names), factor.columns, factor.kind, code)

    def _with_plain_names(self) -> str:
        """The call with each backticked name replaced by an identifier of the same length."""
        plain = list(self.call)
        start = None
        for position, char, quoted_by in _quoting(self.call):
            if quoted_by != "`":
                continue
            plain[position] = "_"
            if start is None:
                start = position
            elif char == "`":
                self.quoted[start] = self.call[start + 1 : position]
                start = None
        return "".join(plain)

    def _at(self, node: ast.expr) -> int:
        """Position of a node in characters (the tree counts bytes)."""
        return len(self.plain.encode()[: node.col_offset].decode(errors="ignore"))

    def _refuse(self, node: ast.expr, message: str, hint: str = _MEANS) -> NoReturn:
        length = (node.end_col_offset or node.col_offset + 1) - node.col_offset
        self.fail(message, "not-allowed", self._at(node), length, hint)

    def _call(self, node: ast.Call, is_outer: bool = False) -> str:
        name, extras_allowed = self._function(node.func)
        if not is_outer and name == OFFSET:
            self.fail(
                "an offset cannot stand inside a function",
                "misplaced-offset",
                self._at(node),
                len(OFFSET),
                "put the function inside: offset(log(x))",
            )
        if not is_outer and name in (*BASES, "C"):
            self._refuse(node, f"{name}() makes columns of its own and stands alone in a term")
        before = len(self.columns)
        if not node.args:
            self._refuse(node, f"{name}() needs a column", f"write {name}(x)")
        if name == "C" and not isinstance(node.args[0], ast.Name):
            self._refuse(node.args[0], "C() takes one column, as it is", "write C(x)")
        self._expression(node.args[0])
        if len(self.columns) == before and not self._has_column(node.args[0]):
            self._refuse(node, f"there is no column in this {name}()")
        extras = [*node.args[1:], *(k.value for k in node.keywords)]
        if extras and not extras_allowed:
            self._refuse(extras[0], f"{name}() takes one argument")
        for word in node.keywords:
            if word.arg is None or word.arg.startswith("_"):
                self._refuse(word.value, f"{name}() cannot take this argument")
        for extra in extras:
            self._constant(extra)
        return name

    def _function(self, func: ast.expr) -> tuple[str, bool]:
        """Name of an allowed function, and whether it takes more than one argument."""
        if isinstance(func, ast.Name) and func.id in (*ALLOWED_FUNCTIONS, OFFSET):
            return func.id, func.id not in (*ELEMENTWISE, "center", OFFSET)
        if (
            isinstance(func, ast.Attribute)
            and isinstance(func.value, ast.Name)
            and func.value.id == "np"
            and func.attr in NUMPY_FUNCTIONS
        ):
            return f"np.{func.attr}", False
        written = ast.unparse(func)
        return self.fail(
            f"{written}() cannot be used in a formula",
            "function-not-allowed",
            self._at(func),
            len(written),
            f"there are {', '.join(ALLOWED_FUNCTIONS)}, offset, and np.log and its like; "
            "for anything else make a column first: data['z'] = ...",
        )

    def _expression(self, node: ast.expr) -> None:
        match node:
            case ast.Constant(value=value) if type(value) in (int, float):
                return
            case ast.Name():
                self._column(node)
            case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _ARITHMETIC):
                if isinstance(op, ast.Pow):
                    self._check_power(left, right)
                self._expression(left)
                self._expression(right)
            case ast.BinOp(op=ast.BitXor()):
                self._refuse(node, "^ is not a power inside a function", "write **: I(x**2)")
            case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=operand):
                self._expression(operand)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if isinstance(
                op, _COMPARISONS
            ):
                self._expression(left)
                self._expression(right)
            case ast.Call():
                self._call(node)
            case _:
                self._refuse(node, f"{_words(node)} cannot stand in a formula")

    def _column(self, node: ast.Name) -> None:
        name = self.quoted.get(self._at(node))
        if name is None:
            name = node.id
            if is_reserved(name):
                self._refuse(
                    node, f"{name!r} is not a column here", f"write `{name}` if it is a column"
                )
        if name not in self.columns:
            self.columns.append(name)
        node.id = f"_column_{self.columns.index(name)}_"

    def _check_power(self, base: ast.expr, exponent: ast.expr) -> None:
        """Powers of plain numbers are refused: 9**9**9 would not return in a lifetime."""
        if self._has_column(exponent) or (self._has_column(base) and _is_number(exponent)):
            return
        self._refuse(exponent, "a power of numbers cannot stand here", "write the number itself")

    @staticmethod
    def _has_column(node: ast.expr) -> bool:
        called = {id(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)}
        return any(isinstance(n, ast.Name) and id(n) not in called for n in ast.walk(node))

    def _constant(self, node: ast.expr) -> None:
        if isinstance(node, ast.List | ast.Tuple):
            for element in node.elts:
                self._constant(element)
        elif not (
            _is_number(node)
            or (isinstance(node, ast.Constant) and isinstance(node.value, str | bool | None))
        ):
            self._refuse(node, "only a constant can stand here", "write a number, as in df=4")


def _is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _words(node: ast.expr) -> str:
    known = {
        ast.Attribute: "a dot (attribute access)",
        ast.Subscript: "square brackets",
        ast.Lambda: "a lambda",
        ast.Constant: "this constant",
    }
    return known.get(type(node), "this piece of Python")
